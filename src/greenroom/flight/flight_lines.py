"""The lines of a recording: what each says. Pure. `docs/flight-recorder.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from greenroom.flight.flight_steps import Step

VERSION = 1
"""Of the format; what is read must be of this one."""


class FlightError(ValueError):
    """A recording that cannot be read, or does not hold what is asked for."""


NOT_OF_A_RECORDING = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What is raised where a value is of another type, or no time: lines are not looked through before
they are used, since a recording may have a million of them.
"""


class BrokenLineError(FlightError):
    """A line is not whole, as where a process was killed while it wrote. No reader stops there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a recording, and of each that was added to the same file.

    Attributes:
        at: the pool's clock when it began, in seconds; all other times are of this clock.
        wall: the same moment in seconds since 1970.
        settings: what can be written down of the `PoolConfig`; `left_out` names the others.
        supervision: what the supervisor's chance was seeded with; None: not known.
    """

    KEY: ClassVar[str] = "flight"
    pool: str
    at: float
    wall: float
    strategy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    supervision: int | str | None = None
    greenroom: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What is said of a member, as of a `MemberRoute`."""

    index: int
    name: str
    weight: float = 1.0
    priority: int = 0
    cost: float = 0.0
    max_concurrency: int = 1
    learns: bool = False
    group: str | None = None
    tags: Sequence[str] = ()
    limits: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersLine:
    """Who is in the pool from then on, by index; `number` is what requests name it by."""

    KEY: ClassVar[str] = "members"
    number: int
    at: float
    members: Sequence[MemberFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLine:
    """A member's breaker, or what else keeps it out, has changed.

    Attributes:
        circuit: a `CircuitState`.
        blocked: a `SkipReason`, or None.
        until: when that may end; None: nobody says.
        here: whether an actor stands behind the name.
    """

    KEY: ClassVar[str] = "state"
    member: int
    at: float
    circuit: str
    blocked: str | None = None
    until: float | None = None
    permits: int | None = None
    epoch: int = 1
    incarnation: int = 0
    here: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLine:
    """A member rests, since it is throttled."""

    KEY: ClassVar[str] = "rest"
    member: int
    at: float
    until: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLine:
    """The supervisor has judged the first `count` failures of an incarnation of that member."""

    KEY: ClassVar[str] = "judged"
    member: int
    at: float
    incarnation: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLine:
    """The settings from then on, as of the header."""

    KEY: ClassVar[str] = "settings"
    at: float
    settings: Mapping[str, Any]
    left_out: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A request was not taken in at all; `error` is the name of what its asker got."""

    KEY: ClassVar[str] = "refused"
    id: str
    at: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLine:
    """So many lines are missing here: whoever writes was too slow."""

    KEY: ClassVar[str] = "lost"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLine:
    """The pool has ended."""

    KEY: ClassVar[str] = "ended"
    at: float


@dataclass(frozen=True, slots=True)
class End:
    """How a request has ended.

    Attributes:
        how: "answered", "failed", "cancelled", or "rejected".
        member: the index of who answered; None of nobody.
        error: the name of the class of what its asker got; "" of an answer.
        reason: why the pool gave up, in the pool's own words.
        skipped: of an error that lists the members those that were not asked: name, why, in words.
    """

    at: float
    how: str
    member: int | None = None
    error: str = ""
    reason: str = ""
    skipped: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request, from its arrival to its end.

    Attributes:
        id: of the request.
        number: counts the requests of a recording in the order of their arrival.
        at: when it was taken in.
        members: the `MembersLine` by which its indices are to be read.
        end: None of one that is still under way.
        steps: in their order.
        facts: what it asked for, as far as it asked: "key" and "fair" (salted hashes), "weight",
            "deadline", "priority", "once" (not idempotent), "max_retries", "only", "exclude",
            "prefer", "cost", "stream", "lease".
    """

    id: str
    number: int
    at: float
    members: int
    end: End | None
    steps: Sequence[Step]
    facts: Mapping[str, Any] = field(default_factory=dict)


Line = (
    Header
    | MembersLine
    | StateLine
    | RestLine
    | JudgedLine
    | SettingsLine
    | RefusedLine
    | LostLine
    | EndLine
    | RequestLine
)
