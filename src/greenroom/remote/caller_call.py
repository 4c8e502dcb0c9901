"""The caller's end of one call: what each frame means. Pure.

Whoever carries it out (`remote_agent.py`) brings what has come, and does what it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.messages.errors import RemoteError
from greenroom.messages.status import FailureKind
from greenroom.remote.frames import (
    Ack,
    Busy,
    Chunk,
    End,
    Error,
    MayStart,
    Noted,
    Started,
    ToCaller,
    Value,
)
from greenroom.remote.links import EngineAway, WorkerGone

WINDOW = 200
"""Chunks that a worker may be ahead of whoever reads them; half of them are given back at a time.
With the buffers of both pools (16 and, by default, 64) an agent is never 300 ahead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer: the end."""

    value: Any


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk of it."""

    chunk: Any


@dataclass(frozen=True, slots=True)
class Over:
    """The stream has come to its end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """It has failed: the end."""

    error: RemoteError


@dataclass(frozen=True, slots=True)
class AskWhether:
    """The worker asks whether it still counts: if so, `Go`.

    Attributes:
        effects: what it asks for must not be repeated: the pool is to hear so first.
    """

    effects: bool


@dataclass(frozen=True, slots=True)
class HasStarted:
    """It must not be repeated from here on."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is for the `CallContext`."""

    noted: Noted


Step = Answer | Part | Over | Failure | AskWhether | HasStarted | Note | None


class CallerCall:
    """One call.

    Args:
        where: the worker's address, for errors.
        idempotent: whether the agent begins without having asked.
    """

    __slots__ = ("_begun", "_chunks", "_taken", "_wants_stream", "_where", "ended")

    def __init__(self, where: str, *, wants_stream: bool = False, idempotent: bool = True) -> None:
        self._where = where
        self._wants_stream = wants_stream
        self._begun = idempotent
        self._chunks = 0
        self._taken = 0
        self.ended = False

    @property
    def may_have_begun(self) -> bool:
        """Whether the agent may have begun, if the call has come to the worker."""
        return self._begun

    def hear(self, frame: ToCaller) -> Step:
        """What the worker says; what is to be done."""
        if type(frame) is Value:
            self.ended = True
            return Answer(frame.value)
        if type(frame) is Chunk:
            return self._chunk(frame)
        match frame:
            case Ack():
                return None
            case MayStart():
                effects, self._begun = self._begun, True
                return AskWhether(effects)
            case Started():
                self._begun = True
                return HasStarted()
            case Noted():
                return Note(frame)
            case End():
                if not self._wants_stream or frame.chunks != self._chunks:
                    return self._broken(f"ended after {frame.chunks} chunks of {self._chunks}")
                self.ended = True
                return Over()
            case Error():
                self.ended = True
                return Failure(error_of(frame))
            case Busy():
                self.ended = True
                return Failure(busy(frame, self._where))
            case _:
                return self._broken(f"said {type(frame).__name__.lower()} of a call")

    def continues(self, frame: Chunk) -> bool:
        """Whether the chunk is the next one, which is counted then; else `hear` says what it is."""
        if not self._wants_stream or frame.number != self._chunks:
            return False
        self._chunks += 1
        return True

    def _chunk(self, frame: Chunk) -> Step:
        if not self.continues(frame):
            return self._broken(f"sent chunk {frame.number} in the place of {self._chunks}")
        return Part(frame.value)

    def _broken(self, how: str) -> Failure:
        """Something is missing, or is none of it: what comes now is no answer."""
        text = f"{self._where}: the worker {how}"
        return Failure(RemoteError(text, kind=FailureKind.UNAVAILABLE, started=True))

    def taken(self) -> int:
        """A chunk has been taken; how many more the worker may send for that: 0 in most cases."""
        self._taken += 1
        if self._taken < WINDOW // 2:
            return 0
        more, self._taken = self._taken, 0
        return more


def error_of(frame: Error) -> RemoteError:
    """What the worker says of the agent's failure, as the pool is to see it."""
    try:
        kind = FailureKind(frame.kind)
    except ValueError:  # of a later version, or of somebody else's worker
        kind = FailureKind.UNKNOWN
    if kind is FailureKind.CANCELLED:  # nobody here has: it is the worker's own doing
        kind = FailureKind.INTERRUPTED
    return RemoteError(
        frame.text,
        kind=kind,
        started=frame.started,
        type=frame.type,
        retry_after_s=frame.retry_after_s,
        opens_at_once=frame.opens_at_once,
    )


def busy(frame: Busy, where: str) -> RemoteError:
    """It has no room: a reason to leave it alone for a while, not ill health."""
    why = "is draining" if frame.draining else "is busy"
    return RemoteError(
        f"{where}: the worker {why}",
        kind=FailureKind.RATE_LIMITED,
        started=False,
        retry_after_s=frame.retry_after_s,
    )


def loss(gone: WorkerGone | EngineAway, may_have_begun: bool) -> RemoteError:
    """Nobody is there: the worker, which is its own fault, or what carries the calls, which is
    nobody's.

    Args:
        may_have_begun: False where the worker would have had to ask first.
    """
    away = isinstance(gone, EngineAway)
    kind = FailureKind.INTERRUPTED if away else FailureKind.UNAVAILABLE
    return RemoteError(str(gone), kind=kind, started=gone.reached and may_have_begun)
