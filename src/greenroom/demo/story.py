"""What happened in a demo: each outage's course, read off the pool's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from greenroom.messages import (
    AttemptFailed,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    Failover,
    ProbeFailed,
)

_KEPT = (AttemptFailed, ProbeFailed, Failover, BreakerOpened, BreakerHalfOpened, BreakerClosed)


@dataclass(slots=True)
class Outage:
    """One member's bad time, in seconds since the demo began; `ended_at` is None until it ends."""

    member: str
    what: str
    began_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the timeline."""

    at: float
    member: str
    what: str


class Story:
    """Subscribe it to a pool. It stamps what matters with the time since it was made.

    Attributes:
        circuits: the members' breakers by name, as far as one has ever changed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._events: list[tuple[float, Event]] = []
        self.outages: list[Outage] = []
        self.circuits: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, _KEPT):
            self._events.append((self.now(), event))
        if event.member is not None and event.name.startswith("breaker."):
            self.circuits[event.member] = event.name.removeprefix("breaker.")

    def now(self) -> float:
        """Seconds since the demo began."""
        return self._clock() - self._start

    def begin(self, member: str, what: str) -> Outage:
        """An outage begins."""
        outage = Outage(member, what, self.now())
        self.outages.append(outage)
        return outage

    def moments(self) -> Iterator[Moment]:
        """The timeline, outage by outage."""
        for outage in self.outages:
            course = sorted(_course(outage, self._events), key=lambda each: each[0])
            yield from (Moment(at, outage.member, what) for at, what in course)


def _course(outage: Outage, events: list[tuple[float, Event]]) -> Iterator[tuple[float, str]]:
    """How an outage went, from what happened to its member since it began: what was when. What
    never came to pass is said, too.
    """
    began, ended = outage.began_at, outage.ended_at
    since = [(at, event) for at, event in events if event.member == outage.member and at >= began]
    yield began, outage.what
    failed, openings = 0, 0
    for at, event in since:
        if isinstance(event, AttemptFailed | ProbeFailed):
            failed += 1
            if failed == 1:
                found = event.kind if isinstance(event, AttemptFailed) else "probe"
                yield at, f"detected {at - began:.2f} s in ({found}): {event.error}"
        elif isinstance(event, BreakerOpened):
            openings += 1
            if openings == 1:
                yield at, f"breaker opened {at - began:.2f} s in, after {failed} failures"
            else:
                yield at, "trial failed, breaker opened again"
    if not openings:
        yield began, "its breaker did not open"
    if ended is not None:
        yield ended, "works again"
        yield from _recovery(ended, since)


def _recovery(ended: float, since: list[tuple[float, Event]]) -> Iterator[tuple[float, str]]:
    closings = (at for at, event in since if isinstance(event, BreakerClosed) and at >= ended)
    back_at = next(closings, None)
    if back_at is None:
        yield ended, "not back before the drill was over"
        return
    before = [(at, event) for at, event in since if at <= back_at]
    trials = [(at, event.trial) for at, event in before if isinstance(event, BreakerHalfOpened)]
    for at, trial in trials[-1:]:
        yield at, f"breaker half open: tried with {trial}"
    moved = sum(isinstance(event, Failover) for _, event in before)
    yield back_at, f"breaker closed: recovered {back_at - ended:.2f} s later (failovers: {moved})"
