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
            yield from sorted(Course(outage, self._events).moments(), key=lambda each: each.at)


class Course:
    """How one outage went, from what happened to its member since it began."""

    def __init__(self, outage: Outage, events: list[tuple[float, Event]]) -> None:
        self._outage = outage
        self._since = [
            (at, event)
            for at, event in events
            if event.member == outage.member and at >= outage.began_at
        ]
        self._back_at = self._recovered_at()

    def moments(self) -> Iterator[Moment]:
        """Its part of the timeline; what never came to pass is said, too."""
        outage = self._outage
        yield self._moment(outage.began_at, outage.what)
        yield from self._detection()
        yield from self._opening()
        yield from self._trials()
        if outage.ended_at is not None:
            yield self._moment(outage.ended_at, "works again")
            yield from self._recovery(outage.ended_at)

    def _recovered_at(self) -> float | None:
        ended_at = self._outage.ended_at
        closings = (at for at, event in self._since if isinstance(event, BreakerClosed))
        return next((at for at in closings if ended_at is not None and at >= ended_at), None)

    def _moment(self, at: float, what: str) -> Moment:
        return Moment(at, self._outage.member, what)

    def _detection(self) -> Iterator[Moment]:
        for at, event in self._since:
            if isinstance(event, AttemptFailed | ProbeFailed):
                after = at - self._outage.began_at
                found = event.kind if isinstance(event, AttemptFailed) else "probe"
                yield self._moment(at, f"detected {after:.2f} s in ({found}): {event.error}")
                return

    def _opening(self) -> Iterator[Moment]:
        failed = 0
        for at, event in self._since:
            failed += isinstance(event, AttemptFailed | ProbeFailed)
            if isinstance(event, BreakerOpened):
                after = at - self._outage.began_at
                yield self._moment(at, f"breaker opened {after:.2f} s in, after {failed} failures")
                return
        yield self._moment(self._outage.began_at, "its breaker did not open")

    def _trials(self) -> Iterator[Moment]:
        openings = [at for at, event in self._since if isinstance(event, BreakerOpened)]
        for at in openings[1:]:
            yield self._moment(at, "trial failed, breaker opened again")

    def _recovery(self, ended_at: float) -> Iterator[Moment]:
        if self._back_at is None:
            yield self._moment(ended_at, "not back before the drill was over")
            return
        halves = [e for e in self._since if isinstance(e[1], BreakerHalfOpened)]
        for at, event in [each for each in halves if each[0] <= self._back_at][-1:]:
            assert isinstance(event, BreakerHalfOpened)
            yield self._moment(at, f"breaker half open: tried with {event.trial}")
        back_at = self._back_at
        moved = sum(isinstance(event, Failover) and at <= back_at for at, event in self._since)
        after = self._back_at - ended_at
        what = f"breaker closed: recovered {after:.2f} s later (failovers: {moved})"
        yield self._moment(self._back_at, what)
