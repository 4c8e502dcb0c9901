"""What a client is told when there is no answer: statuses, and bodies in OpenAI's form. Pure.

A client is told what became of its request and of whom it was given to, never what the members'
servers have said of themselves: that may hold their keys. What they say of the request goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from greenroom.actors.reading.error_access import look
from greenroom.actors.reading.error_status import refined
from greenroom.actors.runtime.future import ForkedPoolError
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    PayloadError,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    ResourceError,
    StreamInterruptedError,
    TellNotStoredError,
    UnsuccessfulResultError,
    summary,
)
from greenroom.messages.status import FailureKind, SkipReason

LEAST_WAIT_S = 1.0
"""`Retry-After` where the pool does not know better."""
MOST_SHOWN = 20
"""Members that a message names."""
LONGEST_WORD = 1_000
"""Characters of what a server says of a request."""

_INVALID, _SERVER = "invalid_request_error", "server_error"
_FILTERED = 451
"""What `refined` makes of a refusal by moderation."""


class Row(Enum):
    """The table: the status, the type and the code of each kind of problem, and whether the client
    is told when to come back.
    """

    INVALID = (400, _INVALID, None)
    FILTERED = (400, _INVALID, "content_filter")
    TOO_LONG = (400, _INVALID, "context_length_exceeded")
    BAD_KEY = (401, _INVALID, "invalid_api_key")
    WRONG_HOST = (403, _INVALID, "wrong_host")
    NO_SUCH_PAGE = (404, _INVALID, "not_found")
    UNKNOWN_MODEL = (404, _INVALID, "model_not_found")
    METHOD = (405, _INVALID, "method_not_allowed")
    TOO_LARGE = (413, _INVALID, "request_too_large")
    NO_JSON = (415, _INVALID, "unsupported_media_type")
    RATE_LIMITED = (429, "rate_limit_error", "rate_limit_exceeded", True)
    INTERNAL = (500, _SERVER, "internal_error")
    SET_UP = (502, _SERVER, "members_set_up_wrong")
    NO_TEXT = (502, _SERVER, "answer_not_text")
    BROKE_OFF = (502, _SERVER, "stream_interrupted")
    SATURATED = (503, _SERVER, "pool_saturated", True)
    UNAVAILABLE = (503, _SERVER, "no_member_available", True)
    CANCELLED = (503, _SERVER, "request_cancelled", True)
    ENDING = (503, _SERVER, "shutting_down", True)
    TIMEOUT = (504, "timeout_error", "timeout")

    def __init__(self, status: int, type: str, code: str | None, waits: bool = False) -> None:
        self.status = status
        self.type = type
        self.code = code
        self.waits = waits


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer.

    Attributes:
        param: which field of the request it is about.
        retry_after_s: when to come back; None: that is not said.
    """

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(
        cls,
        row: Row,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> Problem:
        """One of a row of the table, with a more telling code if there is one."""
        wait = max(LEAST_WAIT_S, retry_after_s or 0.0) if row.waits else None
        return cls(row.status, row.type, code or row.code, message, param, wait)

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's servers write it."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """What goes beside it."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(math.ceil(self.retry_after_s))}


class ProblemError(Exception):
    """Raised with what the client is to be told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: BaseException) -> Problem:
    """What to tell of an error that came in the place of an answer. Never raises."""
    if isinstance(error, ProblemError):
        return error.problem
    if not isinstance(error, PoolError):
        return _of_other(error)
    if isinstance(error, AllPoolMembersFailedError):
        return _of_all(error)
    if isinstance(error, StreamInterruptedError):
        return _of_stream(error)
    if isinstance(error, UnsuccessfulResultError):  # raised as it is: the request is at fault
        return Problem.of(Row.FILTERED, _first_line(error))
    if isinstance(error, PayloadError):
        return Problem.of(Row.INVALID, _first_line(error))
    if isinstance(error, PoolSaturatedError):
        return Problem.of(Row.SATURATED, str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, DeadlineExceededError):
        message = f"pool {error.pool_name!r}: deadline exceeded{_became(error.errors)}"
        return Problem.of(Row.TIMEOUT, message)
    # A pool from before a fork has stopped for this process, but nobody need come back to it.
    if isinstance(error, PoolStoppedError) and not isinstance(error, ForkedPoolError):
        return Problem.of(Row.ENDING, "the server is shutting down")
    if isinstance(error, RequestCancelledError):
        return Problem.of(Row.CANCELLED, "the request was cancelled by the server")
    if isinstance(error, ResourceError):
        return Problem.of(Row.UNAVAILABLE, "the server has no resources left")
    if isinstance(error, TellNotStoredError):
        return Problem.of(Row.UNAVAILABLE, "the request could not be stored")
    return Problem.of(Row.INTERNAL, f"the pool could not take the request: {type(error).__name__}")


def _of_all(error: AllPoolMembersFailedError) -> Problem:
    reason = f" ({error.reason})" if error.reason else ""
    message = f"pool {error.pool_name!r}: no member could answer{reason}{_became(error.errors)}"
    row = _row_of(list(_leaves(error.errors)))
    return Problem.of(row, message, retry_after_s=error.retry_after_s)


def _row_of(errors: list[AttemptError]) -> Row:
    """By the kinds of all members, those that were passed over included: one of these might have
    answered. Who was merely not asked says nothing.
    """
    kinds = {each.kind for each in errors} - {SkipReason.EXCLUDED, SkipReason.GAVE_UP}
    for row, those in _BY_KINDS.items():
        if kinds and kinds <= those:
            return row
    return Row.UNAVAILABLE


_BY_KINDS: Mapping[Row, frozenset[FailureKind | SkipReason]] = {
    Row.TOO_LONG: frozenset({FailureKind.TOO_LARGE}),
    Row.RATE_LIMITED: frozenset(
        {FailureKind.RATE_LIMITED, SkipReason.COOLING_DOWN, SkipReason.HEADROOM}
    ),
    Row.TIMEOUT: frozenset({FailureKind.TIMEOUT}),
    Row.SET_UP: frozenset({FailureKind.AUTH, FailureKind.QUOTA, FailureKind.NOT_FOUND}),
}


def _leaves(errors: tuple[AttemptError, ...]) -> Iterator[AttemptError]:
    """Those of the members of members, in their place."""
    for each in errors:
        if each.errors:
            yield from _leaves(each.errors)
        else:
            yield each


def _became(errors: tuple[AttemptError, ...]) -> str:
    """What became of each member, in a word; what it has said is not repeated."""
    if not errors:
        return ""
    words = [f"{each.member}: {_word(each)}" for each in errors[:MOST_SHOWN]]
    if len(errors) > MOST_SHOWN:
        words.append(f"and {len(errors) - MOST_SHOWN} more")
    return f"; {', '.join(words)}"


def _word(error: AttemptError) -> str:
    if not error.skipped:
        return str(error.kind)
    return f"skipped, {error.kind}" + (f" ({error.detail})" if error.detail else "")


def _of_stream(error: StreamInterruptedError) -> Problem:
    """By what broke it off, where that says more."""
    cause = error.__cause__
    head = f"pool {error.pool_name!r}: the stream of {error.member!r} broke off"
    if isinstance(cause, UnsuccessfulResultError) and cause.kind is FailureKind.CALLER:
        return replace(problem_of(cause), message=f"{head}: {_first_line(cause)}")
    if isinstance(cause, PoolStoppedError):
        return Problem.of(Row.ENDING, f"{head}: the server is shutting down")
    if isinstance(cause, TimeoutError):
        return Problem.of(Row.TIMEOUT, f"{head}: it took too long")
    kind = next((each.kind for each in reversed(error.errors)), None)
    return Problem.of(Row.BROKE_OFF, head if kind is None else f"{head}: {kind}")


def _of_other(error: BaseException) -> Problem:
    """A limit of the caller's own around the `await`; else an agent's own error, raised as it is:
    the request is at fault, and it says why.
    """
    if isinstance(error, TimeoutError):
        return Problem.of(Row.TIMEOUT, "the request took too long")
    body = look(error, "body")
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    said: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    message = said.get("message")
    if not isinstance(message, str) or not message:
        message = summary(error)
    row = Row.FILTERED if _was_filtered(error) else Row.INVALID
    code = None if row is Row.FILTERED else _text(said.get("code"))
    return Problem.of(row, message[:LONGEST_WORD], param=_text(said.get("param")), code=code)


def _was_filtered(error: BaseException) -> bool:
    try:
        return refined(400, error) == _FILTERED
    except Exception:  # one that cannot be looked at
        return False


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:LONGEST_WORD]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
