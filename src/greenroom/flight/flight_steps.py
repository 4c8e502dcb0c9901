"""The steps of a request in a recording. Pure. `docs/flight-recorder.md`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GIVEN, QUEUED, FIRST_CHUNK, SUCCEEDED = "g", "q", "c", "s"

FAILED, LEFT, RELEASED, RESUMES = "f", "l", "x", "w"

ROLES = ("main", "hedge", "beside")

STARTED, MAY_MEND, OPENS_AT_ONCE, RUNS, DISCONNECTED = 1, 2, 4, 8, 16
"""What is true of a failure, as bits."""

UNJUDGED = "unjudged"
"""Why a member was out that has room, and waits for the supervisor's word on a failure."""

Out = tuple[int, str, float | None, int]
"""Who was not free: its index, a `SkipReason` or `UNJUDGED`, when it may be back, how many calls it
takes now.
"""


@dataclass(frozen=True, slots=True)
class Given:
    """A member is given the request. What was seen of the others is of that moment.

    Attributes:
        number: of the attempt.
        member: its index.
        role: one of `ROLES`.
        trial: whether it is the trial of a half-open breaker.
        loads: calls in flight on each member in the order of their indices, this one included; none
            where there are too many of them to be noted.
        out: who was not free, but for the one that was chosen.
        latencies: the seconds that each was expected to take, None of one that nobody has measured;
            none where the strategy does not look at them.
        error_rates: the recent ones, from 0 to 1; none where nobody has failed of late.
        barred: who must not have it, or has no headroom for it: index, why, and in words.
        draws: what chance has said on the way here, in order.
    """

    number: int
    member: int
    at: float
    role: str = "main"
    trial: bool = False
    loads: Sequence[int] = ()
    out: Sequence[Out] = ()
    latencies: Sequence[float | None] = ()
    error_rates: Sequence[float] = ()
    barred: Sequence[tuple[int, str, str]] = ()
    draws: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits for a member; `out` as of `Given`, of everybody."""

    at: float
    out: Sequence[Out] = ()
    barred: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True, slots=True)
class FirstChunk:
    """The first chunk of a stream came after so many seconds."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt has answered after so many seconds; its report was read `late_s` later, behind
    others that came meanwhile.
    """

    number: int
    seconds: float
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt has failed.

    Attributes:
        kind: a `FailureKind`.
        error: the name of the error's class: what it says is not recorded.
        flags: `STARTED` and the others, added up.
    """

    number: int
    at: float
    kind: str
    seconds: float
    error: str = ""
    retry_after_s: float | None = None
    flags: int = STARTED


@dataclass(frozen=True, slots=True)
class Left:
    """The request goes on without an attempt; `reason` is a `CancelReason`."""

    number: int
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """The slot of an attempt is free, later than the attempt had its end."""

    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Resumes:
    """After a failure of that member (its index) there is a pause until `until`."""

    member: int
    at: float
    until: float
    draws: Sequence[float] = ()


Step = Given | Queued | FirstChunk | Succeeded | Failed | Left | Released | Resumes
