"""What a worker says of a call that its pool could not answer. Pure."""

from __future__ import annotations

from greenroom.actors.reading.classify import classify
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    PayloadError,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    RemoteError,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.messages.pickling import RemoteCause
from greenroom.messages.status import FailureKind, SkipReason
from greenroom.remote.frames import Busy, Error

_NO_ROOM = (
    SkipReason.COOLING_DOWN,
    SkipReason.HEADROOM,
    SkipReason.SATURATED,
    SkipReason.STARTING,
    SkipReason.STALLED,
)
"""Why a member was not tried, of what passes by itself and is not ill health."""


def said_of(id: str, error: BaseException) -> Error | Busy:
    """The end of a call that has failed: what its agent has raised, without the pool around it."""
    if isinstance(error, PoolSaturatedError):
        return Busy(id, retry_after_s=error.retry_after_s)
    if isinstance(error, PoolStoppedError):
        if error.refused:
            return Busy(id, draining=True)
        return _error(id, error, FailureKind.INTERRUPTED, error.started)
    if isinstance(error, RequestCancelledError):
        return _error(id, error, FailureKind.INTERRUPTED, started=True)
    if isinstance(error, AllPoolMembersFailedError | StreamInterruptedError):
        return _of_attempts(id, error)
    if isinstance(error, DeadlineExceededError):
        return _error(id, error, FailureKind.TIMEOUT, error.started)
    if isinstance(error, RemoteError):  # a worker whose member is one of another worker
        return _error(id, error, error.kind, error.started, error.retry_after_s)
    started = error.started if isinstance(error, PoolError) else True
    if isinstance(error, PoolError) and not isinstance(error, PayloadError):
        return _error(id, error, classify(error).kind, started)
    # What a pool passes on as it is, it has judged to be the fault of whoever asks.
    return _error(id, error, FailureKind.CALLER, started)


def _of_attempts(
    id: str, error: AllPoolMembersFailedError | StreamInterruptedError
) -> Error | Busy:
    last: AttemptError | None = error.errors[-1] if error.errors else None
    if last is None:
        cause = error.__cause__ or error
        return _error(id, cause, classify(cause).kind, started=True)
    if isinstance(last.kind, SkipReason):
        if last.kind in _NO_ROOM:
            retry_after_s = getattr(error, "retry_after_s", None)
            return Busy(id, retry_after_s=retry_after_s)
        text = f"skipped, {last.kind}" + (f" ({last.detail})" if last.detail else "")
        return Error(id, FailureKind.UNAVAILABLE.value, False, "", text)
    cause = last.error or error
    return _error(id, cause, last.kind, last.started, last.retry_after_s)


def _error(
    id: str,
    error: BaseException,
    kind: FailureKind,
    started: bool,
    retry_after_s: float | None = None,
) -> Error:
    if isinstance(error, RemoteError):
        name, text, certain = error.type, error.text, error.opens_at_once
    else:
        told = RemoteCause.of(error)
        name, text = told.type_name, told.text
        certain = kind.opens_at_once and classify(error, known=None).opens_at_once
    return Error(id, kind.value, started, name, text, retry_after_s, certain)


def not_carried(id: str, error: PayloadError) -> Error:
    """The agent has answered, and the format cannot carry that: its own fault."""
    text = str(error)[:200]
    return Error(id, FailureKind.UNKNOWN.value, True, "TypeError", f"the answer: {text}")
