"""What the two ends of a call say to each other. Pure.

A call is begun by `Call` and ends with `Value`, `End`, `Error` or `Busy`, which are said once. All
that lies between may be lost or come late: each end goes by the time it has itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 1
"""Said with each `Call` and `Pong`; what speaks another one is refused."""


# -- from the caller to the worker


@dataclass(frozen=True, slots=True)
class Call:
    """Begin.

    Attributes:
        id: of this call: one attempt of one request.
        payload: what the agent is called with: whatever the format can carry.
        wants_stream: whether the caller reads chunks.
        left_s: seconds until the caller gives it up; None if it does not.
        idempotent: if not, the worker asks (`MayStart`) before the agent begins.
        credit: how many chunks may be sent before more credit comes.
        request_id, attempt, key, priority: as in `CallContext`.
        metadata: the request's, as far as the format can carry it.
        carrier: what tracing has to carry along (`traceparent`).
    """

    id: str
    payload: Any
    wants_stream: bool = False
    left_s: float | None = None
    idempotent: bool = True
    credit: int = 0
    request_id: str = ""
    attempt: int = 1
    key: str | None = None
    priority: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    carrier: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Go:
    """It may start: the caller is still there for it, and gives it to nobody else."""

    id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody wants it any more."""

    id: str


@dataclass(frozen=True, slots=True)
class Credit:
    """So many chunks more may be sent."""

    id: str
    chunks: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? These calls of mine are.

    Attributes:
        caller: who asks; calls of a caller that has not asked for long are cancelled.
        ids: all of them, or all whose ids come behind `after` and not behind `upto`, in the order
            of text.
        after, upto: where these begin and end, of a caller that has more than one ping holds; empty
            where nothing is before or behind.
    """

    caller: str
    ids: tuple[str, ...] = ()
    after: str = ""
    upto: str = ""

    def covers(self, id: str) -> bool:
        """Whether a call of that id would be listed, if it was wanted."""
        return self.after < id and (not self.upto or id <= self.upto)


# -- from the worker to the caller


@dataclass(frozen=True, slots=True)
class Ack:
    """It has come, and waits for its turn or runs. A front may say so; the desk says none."""

    id: str


@dataclass(frozen=True, slots=True)
class MayStart:
    """The agent is about to begin, or what it does about to have effects: does it still count?"""

    id: str


@dataclass(frozen=True, slots=True)
class Started:
    """From here on it must not be repeated (`CallContext.started_side_effects`)."""

    id: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What the agent has said by its `CallContext`.

    Attributes:
        alive: that it is at work.
        described, spent: see `CallContext.describe`, `.spent`.
        limits: arguments of `CallContext.limits`.
    """

    id: str
    alive: bool = False
    described: Mapping[str, Any] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """The answer; the end of the call."""

    id: str
    value: Any


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a stream.

    Attributes:
        number: from 0 on, without a gap: what is missing is a cut.
    """

    id: str
    number: int
    value: Any


@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream, and of the call.

    Attributes:
        chunks: how many there have been.
    """

    id: str
    chunks: int


@dataclass(frozen=True, slots=True)
class Error:
    """It has failed; the end of the call.

    Attributes:
        kind: the `FailureKind`, as it is written.
        started: whether the agent had begun.
        type: the name of the error's class.
        text: what it says, shortened as in the worker's own log.
        retry_after_s: when it is worth while again, if that is known.
        opens_at_once: whether it is certain to be the member's, whatever the request.
    """

    id: str
    kind: str
    started: bool
    type: str
    text: str
    retry_after_s: float | None = None
    opens_at_once: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """No room, or it is draining: the agent has not begun; the end of the call.

    Attributes:
        retry_after_s: when there may be room.
        draining: whether there will be none any more.
    """

    id: str
    retry_after_s: float | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Pong:
    """I am here.

    Attributes:
        member: the name of the member that is served.
        capacity: how many calls it takes at a time.
        running: how many there are.
        draining: whether it takes no more.
        unknown: those of `Ping.ids` that are not here (any more).
    """

    member: str
    capacity: int
    running: int
    draining: bool = False
    unknown: tuple[str, ...] = ()
    protocol: int = PROTOCOL


ToWorker = Call | Go | Cancel | Credit | Ping
ToCaller = Ack | MayStart | Started | Noted | Value | Chunk | End | Error | Busy | Pong
Frame = ToWorker | ToCaller
MOST_IDS = 10_000
"""Calls that one ping asks about."""


def pings(caller: str, ids: Sequence[str], most: int = MOST_IDS) -> Iterator[Ping]:
    """What asks about all of these: one ping, or one after another."""
    if len(ids) <= most:
        yield Ping(caller, tuple(ids))
        return
    ids, after = sorted(ids), ""
    for begin in range(0, len(ids), most):
        part = tuple(ids[begin : begin + most])
        upto = part[-1] if begin + most < len(ids) else ""
        yield Ping(caller, part, after, upto)
        after = upto


ENDS = (Value, End, Error, Busy)
"""One of these is the last that is said of a call."""

BEAT_S = 0.5
"""Seconds after which each end of a call says something, if it has nothing to say."""
MISSED_BEATS = 4
"""So many of them in a row that are not heard are the end of a call."""
