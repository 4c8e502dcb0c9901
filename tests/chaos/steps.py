"""What a plan is made of: requests, and things done to the pool. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chaos.moves import STREAM_MOVES, Move
from chaos.weather import Fault


class Way(StrEnum):
    """How a request is sent."""

    FUTURE = "future"
    BLOCKING = "blocking ask"
    AWAITED = "async ask"
    TELL = "tell"
    STREAM = "stream"
    ASYNC_STREAM = "async stream"
    ATTEMPTS = "attempts in a thread"
    ASYNC_ATTEMPTS = "attempts in a task"
    ACQUIRE = "one attempt in a thread"
    ASYNC_ACQUIRE = "one attempt in a task"


STREAMS = frozenset({Way.STREAM, Way.ASYNC_STREAM})
ONCE = frozenset({Way.ACQUIRE, Way.ASYNC_ACQUIRE})
BLOCKS = frozenset({Way.ATTEMPTS, Way.ASYNC_ATTEMPTS}) | ONCE
"""The ways in which the caller's own code does what else an agent does."""
ON_LOOPS = frozenset({Way.AWAITED, Way.ASYNC_STREAM, Way.ASYNC_ATTEMPTS, Way.ASYNC_ACQUIRE})
"""The ways that end with the loop of their caller."""
BUSY = frozenset({Way.TELL, Way.BLOCKING, Way.ATTEMPTS, Way.ACQUIRE})
"""The ways in which nobody has a hand free to give the request up by."""


class Reading(StrEnum):
    """What the consumer of a stream does."""

    ALL = "to its end"
    SLOW = "slowly"
    LEAVE = "left early"
    DROP = "never looked at"


class Manner(StrEnum):
    """What the code in a block does besides what its agent is told to do."""

    PLAIN = "raises, or returns"
    TELLS = "tells of failures"
    MARKS = "marks its chunks"
    PAUSES = "pauses"
    DROPPED = "let go of while it is open"
    LEFT = "left after a first failure"


@dataclass(frozen=True, slots=True)
class Send:
    """One request.

    Attributes:
        way: how it is sent.
        moves: what the agents do with it, call after call; the last one over and over.
        applied: it is an `Apply`, not a `Request`.
        delay_s: how long a slow call takes.
        timeout_s: the deadline of the request; None without one.
        cancel_after: after how many further steps it is given up; None: never.
        cancel_by_id: by `Cancel`, not by its future or task.
        shouts: its done callback raises.
        reading: what the consumer of a stream does.
        take: how many chunks it takes before it leaves, or pauses.
        before: how many chunks that count an agent sends before it does what its move says.
        manner: what the code of a block does.
    """

    way: Way
    moves: tuple[Move, ...] = (Move.OK,)
    applied: bool = False
    delay_s: float = 0.1
    timeout_s: float | None = None
    idempotent: bool = True
    max_retries: int | None = None
    key: str | None = None
    cancel_after: int | None = None
    cancel_by_id: bool = False
    shouts: bool = False
    reading: Reading = Reading.ALL
    take: int = 1
    before: int = 1
    manner: Manner = Manner.PLAIN

    @property
    def is_stream(self) -> bool:
        return self.way in STREAMS

    @property
    def is_block(self) -> bool:
        return self.way in BLOCKS

    @property
    def has_chunks(self) -> bool:
        """Whether the limits of chunks hold for it."""
        return self.is_stream or (self.is_block and self.manner is Manner.MARKS)


MADE_ON_LOOPS = frozenset({"lazy", "guest-b"})
"""The members whose agents are made anew for each loop on which blocks run: that may fail there."""


@dataclass(frozen=True, slots=True)
class Do:
    """One thing that is done to the pool: a fault, a command, or the passing of time."""

    fault: Fault
    target: int = 0
    amount: float = 0.0


Step = Send | Do


def names_of(step: Step) -> list[str]:
    """What a step is counted as."""
    if isinstance(step, Do):
        return [f"fault: {step.fault}"]
    names = [sent_as(step)]
    names += [move_of(step, move) for move in step.moves]
    if step.cancel_after is not None:
        names.append(cancel_of(step))
    if step.shouts and step.way is Way.FUTURE:
        names.append("fault: done callback that raises")
    if step.is_stream:
        names.append(reading_of(step))
    if step.is_block:
        names.append(manner_of(step))
    return names


def sent_as(send: Send) -> str:
    """What sending it is counted as."""
    return f"sent: {send.way}{' of a function' if send.applied else ''}"


def move_of(send: Send, move: Move) -> str:
    """What a call that does so is counted as."""
    if not send.is_stream:
        return f"move: {move}"
    when = "after" if send.before else "before"
    return f"stream: {move}" + ("" if move in STREAM_MOVES else f", {when} its first chunk")


def reading_of(send: Send) -> str:
    """What consuming a stream is counted as."""
    return f"stream read: {send.reading}"


def manner_of(send: Send) -> str:
    """What the code of a block is counted as."""
    return f"block: {send.manner}"


def cancel_of(send: Send) -> str:
    """What giving it up is counted as: a tell has no holder, a blocking ask's is busy."""
    by_id = send.cancel_by_id or send.way in BUSY
    return f"cancel: by {'its id' if by_id else 'its holder'}"
