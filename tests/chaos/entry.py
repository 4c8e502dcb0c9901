"""A request as it was planned, and everything that was seen of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chaos.moves import Move
from chaos.steps import Send, Way
from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    DeadlineExceededError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.testing import ScriptedHTTPError

TURNS = itertools.count(1)
"""The order in which things are seen to happen, in whatever threads."""


class End(StrEnum):
    """How a request was answered."""

    VALUE = "value"
    CALLER = "the agent's 400, as it is"
    FAILED = "no member could answer"
    CANCELLED = "cancelled"
    DEADLINE = "deadline exceeded"
    SATURATED = "saturated"
    STOPPED = "pool stopped"
    INTERRUPTED = "stream interrupted"
    LEFT = "left by its consumer"
    OWN = "its block's own error, as it is"
    OVERDUE = "its block went on for too long"
    OTHER = "another error"


_ENDS: dict[type[BaseException], End] = {
    AllPoolMembersFailedError: End.FAILED,
    RequestCancelledError: End.CANCELLED,
    DeadlineExceededError: End.DEADLINE,
    PoolSaturatedError: End.SATURATED,
    PoolStoppedError: End.STOPPED,
    StreamInterruptedError: End.INTERRUPTED,
    AttemptTimeoutError: End.OVERDUE,
}


def end_of(error: BaseException | None) -> End:
    """How a request ended that was answered with this error, or with a value."""
    if error is None:
        return End.VALUE
    if isinstance(error, ScriptedHTTPError) and error.status_code == 400:
        return End.CALLER
    return next((end for kind, end in _ENDS.items() if isinstance(error, kind)), End.OTHER)


class CallEnd(StrEnum):
    """How a call of an agent ended, as the agent saw it."""

    RUNNING = "is running"
    VALUE = "returned"
    RAISED = "raised"
    CUT = "was cut off"


@dataclass(slots=True, eq=False)
class Call:
    """One call of an agent.

    Attributes:
        result: the very object that was returned or raised.
        side_effects: when the pool had taken note that it must not be repeated; 0 if it has not.
        permitted: when the pool let it begin, or just before.
        chunks: those it gave, in order; an answer that does not stream is one.
        wait_s: how long its member wants to be left alone.
        began, over: when.

    All of these times are turns.
    """

    member: str
    move: Move
    end: CallEnd = CallEnd.RUNNING
    result: Any = None
    side_effects: int = 0
    permitted: int = 0
    chunks: list[Any] = field(default_factory=list)
    began: int = 0
    over: int = 0
    wait_s: float = 0.0

    def ended(self, end: CallEnd, result: Any = None) -> Any:
        self.end, self.result = end, result
        return result


@dataclass(slots=True, eq=False)
class Entry:
    """One request: what was planned, and what was seen of it. The agents get it as their payload.

    Attributes:
        answers: how often somebody has tried to answer it; once is right.
        heard: what the asker was told, in its own way of asking.
        unanswered: requests, this one included, that had no answer when this one got its own.
        ends: how often an event has said that it is over; None when nobody looked.
        trials: of half-open members that ran beside it, on nobody's account.
        permitted: the turn at which each member was last let begin with it.
        kills: members killed before it was sent, and before it was answered.
        hold: the asker's future or task, by which it can give the request up.
        chunks: those that the consumer of a stream has taken since the last mark, in order.
        marks: how often it was told that the stream has started over.
        member: whose stream it is said to be.
        again: what its consumer heard who went on asking after its end.
        pause: what makes the gate at which a slow consumer waits.
        stage: where the code of a block performs.
        odd: what was seen in a block that must not be.
        trail: time and word of what has happened to it, for a report.
    """

    id: str
    send: Send
    sent_at: float = 0.0
    answered_at: float = 0.0
    answers: int = 0
    end: End | None = None
    value: Any = None
    error: BaseException | None = None
    heard: list[End] = field(default_factory=list)
    unanswered: int = 0
    ends: int | None = None
    trials: int = 0
    permitted: dict[str, int] = field(default_factory=dict)
    kills: tuple[int, int] = (0, 0)
    cancel_asked: bool = False
    cancel_said: bool | None = None
    hold: Any = None
    calls: list[Call] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)
    marks: int = 0
    member: str | None = None
    again: End | None = None
    pause: Callable[[], Any] | None = None
    stage: Any = None
    odd: list[str] = field(default_factory=list)
    trail: list[tuple[float, str, object]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Entry {self.id}>"

    @property
    def is_tell(self) -> bool:
        return self.send.way is Way.TELL

    @property
    def elapsed_s(self) -> float:
        """On the pool's clock, from being sent to being answered."""
        return self.answered_at - self.sent_at

    def next_move(self) -> Move:
        """What its next call is to do."""
        return self.send.moves[min(len(self.calls), len(self.send.moves) - 1)]

    def note(self, at: float, what: str, about: object = "") -> None:
        """Put something into the trail."""
        self.trail.append((at, what, about))

    def story(self) -> list[str]:
        """The trail, in words."""
        return [f"{at:12.3f}  {what} {_plain(about)}".rstrip() for at, what, about in self.trail]


def _plain(about: object) -> str:
    try:
        return str(about)[:100]
    except BaseException:  # an agent's hostile exception
        return f"<{type(about).__name__}>"
