"""A member as the router sees it, and who of all of them has room."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from greenroom.actors.policy.concurrency_limit import ConcurrencyLimit
from greenroom.actors.routing.headroom import Bucket
from greenroom.actors.routing.load_estimate import LoadEstimate
from greenroom.actors.routing.recent_times import RecentTimes
from greenroom.actors.routing.rest_period import RestPeriod
from greenroom.actors.strategies import FreeMembers
from greenroom.messages.status import CircuitState, FailureKind, SkipReason
from greenroom.messages.supervision import MemberRoute

_TOO_MUCH = (FailureKind.RATE_LIMITED, FailureKind.TIMEOUT)
"""Failures that say of a member that it has more calls at a time than it bears."""


@dataclass(slots=True, eq=False, repr=False)
class FreeSlots:
    """Who can take a request now, and who as soon as the supervisor has judged its failures.

    The slots keep it up to date, so that nobody has to ask each of them.
    """

    free: FreeMembers[Slot] = field(default_factory=lambda: FreeMembers((), ()))
    unjudged: set[Slot] = field(default_factory=set)
    resting: set[Slot] = field(default_factory=set)


@dataclass(slots=True, eq=False, repr=False)
class Slot:
    """A member as the router sees it: its route, its load, what of it is in use. A `Candidate`.

    After a rest, and when its breaker has closed by what was tried, it is not taken by storm ("slow
    start", as in TCP): it has room for one call more than run on it, and for another one with every
    success, up to its `max_concurrency`. So of those that wait for it twice as many get through
    with every round of calls.

    Of a member that `learns`, `max_concurrency` is what has been learned by now.

    Read its attributes, and change them by its methods: `free_slots` has to hear of it.
    """

    route: MemberRoute
    _free_slots: FreeSlots = field(default_factory=FreeSlots)
    name: str = field(init=False)
    index: int = field(init=False)
    weight: float = field(init=False)
    priority: int = field(init=False)
    cost: float = field(init=False)
    known_as: frozenset[str] = field(init=False)
    """Its name and its tags."""
    max_concurrency: int = field(init=False)
    limit: int = field(init=False)
    learned: ConcurrencyLimit | None = field(init=False, default=None)
    load: LoadEstimate = field(init=False, default_factory=LoadEstimate)
    times: RecentTimes = field(init=False, default_factory=RecentTimes)
    error_rate: Callable[[float], float] = field(init=False)
    in_flight: int = field(init=False, default=0)
    trials_started: int = field(init=False, default=0)
    failures_sent: int = field(init=False, default=0)
    failures_seen: int = field(init=False, default=0)
    is_free: bool = field(init=False, default=False)
    rest: RestPeriod = field(init=False, default_factory=RestPeriod)
    # Whether successes are of interest, see `answered`: always those of a member that learns.
    recovers: bool = field(init=False, default=False)
    _eases: bool = field(init=False, default=False)
    # Its rate limits, of which `Headroom` keeps the books; and when one of which nothing is left
    # has something again, 0.0 while all have.
    buckets: tuple[Bucket, ...] = field(init=False, default=())
    refills_at: float = field(init=False, default=0.0)
    # The most that ran at a time and were fine since its last refusal, and what may become that.
    _most: int = field(init=False, default=0)
    _seen: int = field(init=False, default=0)
    _seen_at: float = field(init=False, default=-math.inf)
    _refused_at: float = field(init=False, default=-math.inf)
    _too_many: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        route = self.route
        self.name, self.index = route.name, route.index
        self.error_rate = self.load.error_rate  # bound once: every pick asks every candidate
        self.limit = self.max_concurrency = route.max_concurrency
        self.update(route)

    # -- what changes

    def update(self, route: MemberRoute) -> None:
        """Take over what the supervisor says; permits are counted anew in every breaker epoch."""
        if route.epoch != self.route.epoch:
            self.trials_started = 0
        # What the last actor had in flight has ended with it; its
        # late reports are ignored by incarnation.
        if route.incarnation != self.route.incarnation:
            self.in_flight = self.failures_sent = self.failures_seen = 0
            self._free_slots.unjudged.discard(self)
        if route.circuit is not self.route.circuit:
            self._circuit_changed(route.circuit, route.eased_in)
        if route.priority != self.route.priority:  # it is in another group from now on
            self._free_slots.free.priorities_changed()
        self.route = route
        self.weight = route.weight
        self.priority = route.priority
        self.cost = route.cost
        self.known_as = frozenset((route.name, *route.tags))
        self._widen_to(self._width(route))
        self._review()

    def _width(self, route: MemberRoute) -> int:
        """How many calls at a time it is given, by what is said of it or by what was learned."""
        if not route.learns:
            self.learned = None
            return route.max_concurrency
        if self.learned is None:
            self.learned, self.recovers = ConcurrencyLimit(route.max_concurrency), True
        elif self.learned.ceiling != route.max_concurrency:
            self.learned.configure(route.max_concurrency)
        return self.learned.limit

    def _widen_to(self, width: int) -> None:
        # A member on its slow start keeps its limit; one that is not
        # follows its new max_concurrency.
        # (One of 1 may be on it, too.)
        whole = self.limit >= self.max_concurrency and not self._eases
        self.max_concurrency = width
        self.limit = width if whole else min(self.limit, width)

    def _circuit_changed(self, circuit: CircuitState, eased_in: bool) -> None:
        """What it did before an opening says nothing of what it does after it: so it is measured
        anew, as if it had just come, and its trial is not put off until the estimate has faded.
        """
        if circuit is CircuitState.HALF_OPEN:
            self.load.forget()
            self.times.forget()
        elif circuit is CircuitState.DISABLED:  # lets everything through
            self.forget_rest()
        # All that wait for it would else be on it at once, and what has just come back be down.
        elif circuit is CircuitState.CLOSED and eased_in:
            self._ease_in()

    def take(self) -> None:
        """A call begins."""
        self.in_flight += 1
        if self.in_flight >= self.limit and self.is_free:
            self.is_free = False
            self._free_slots.free.drop(self)

    def give_back(self) -> None:
        """A call has ended."""
        if self.in_flight > 0:
            self.in_flight -= 1
        # Not by `_review`: every request comes this way, and most of them find it free already.
        if not self.is_free and self.skip_reason() is None:
            self.is_free = True
            self._free_slots.free.add(self)

    def reviewed(self) -> bool:
        """Whether it is free, found out anew; its room has to be told."""
        self.is_free = self.skip_reason() is None
        return self.is_free

    def rest_for(
        self,
        kind: FailureKind,
        now: float,
        began: float,
        retry_after_s: float | None,
        rng: Random,
        too_many: bool = True,
    ) -> bool:
        """A call that began at `began` has failed at `now`; whether it makes a rest, or a longer
        one. Whoever is told so has `rested` called once it is over.

        Args:
            too_many: whether it may be how many ran at a time.
        """
        if self.learned is not None and kind in _TOO_MUCH and too_many:
            self.learned.refused(began, now)
            self._widen_to(self.learned.limit)
            self._review()
        # Whoever has switched the breaker off wants every request to go there, throttled or not.
        if self.route.circuit is CircuitState.DISABLED:
            return False
        if not self.rest.begin(kind, now, began, retry_after_s, rng):
            return False
        self._free_slots.resting.add(self)
        self._review()
        return True

    def rest_as_told(self, kind: FailureKind, now: float, for_s: float, rng: Random) -> bool:
        """Somebody outside says that it is to be left alone for that time. No call of this pool's
        was refused, so how many it bears at a time is what it was.
        """
        return self.rest_for(kind, now, now, for_s, rng, too_many=False)

    def rested(self, now: float) -> bool:
        """Whether the rest is over by now; then it takes calls again, few at first."""
        if now < self.rest.until:
            return False
        self.rest.end()
        self._free_slots.resting.discard(self)
        # What still runs has been let in before the rest; one more is
        # the trial of whether it is over. Where its pace is known, that lets them in.
        if not self.is_paced(now):
            self._ease_in()
        self.recovers = True  # by a success its next pause is a first one again
        self._review()
        return True

    def _ease_in(self) -> None:
        self.limit = min(self.max_concurrency, self.in_flight + 1)
        self.recovers = self._eases = True

    def answered(self, began: float, elapsed_s: float) -> None:
        """A call that began then, and took so long, has succeeded; to be told while it `recovers`.
        It has given back what it held.
        """
        if self.learned is not None:
            self._note_fine(began, began + elapsed_s)
            self.learned.answered(elapsed_s, self.in_flight + 1)
            self._widen_to(self.learned.limit)
        self.rest.answered(began)
        if self.rest.until:
            return
        self.limit = min(self.max_concurrency, self.limit + 1)
        self._eases = self.limit < self.max_concurrency
        self.recovers = (
            self.limit < self.max_concurrency or self.rest.pauses > 0 or self.learned is not None
        )
        self._review()

    def forget_rest(self) -> None:
        """Be as if it had never rested: somebody has reset it by hand."""
        self.rest.forget()
        self._free_slots.resting.discard(self)
        self.recovers, self._eases = self.learned is not None, False
        self.limit = self.max_concurrency
        self._review()

    def let_in(self, now: float) -> list[float]:
        """When its last calls began that were not refused, as far as is known; all that run."""
        return [*self.times.began(now), *[now] * self.in_flight]

    def is_paced(self, now: float) -> bool:
        """Whether its refusals have taught how many calls a second it bears, and that holds yet."""
        paces = (each.pace for each in self.buckets)
        return any(pace is not None and not pace.is_forgotten(now) for pace in paces)

    def rests_for_its_pace(self, now: float) -> bool:
        """Whether it only rests after a refusal, and it is known what it bears then."""
        if not self.rest.until or self.rest.kind is not FailureKind.RATE_LIMITED:
            return False
        return self.is_paced(now) and self.skip_reason() is SkipReason.COOLING_DOWN

    def is_too_many(self, began: float, now: float) -> bool:
        """Whether a call that began then, and was refused now, was refused for how many ran at a
        time, as far as that is found out: not if as many were fine before.
        """
        if self.learned is None:
            return False
        if began > self._refused_at:  # else it is of the same burst
            fine, self._most, self._refused_at = self._most, 0, now
            if fine:
                self._too_many = self.in_flight + 1 > fine
            elif self.is_paced(now):
                self._too_many = False
            # Else nothing has ended well since the last one: it is of the same kind.
            self._seen, self._seen_at = 0, now
        return self._too_many

    def _note_fine(self, began: float, now: float) -> None:
        """A call was answered. As many as ran when one ended before it began, were fine: by now it
        would be known if one of them had been refused.
        """
        if began >= self._seen_at:
            self._most = max(self._most, self._seen)
            self._seen, self._seen_at = self.in_flight + 1, now

    def refilled(self) -> None:
        """What is left of its rate limits has changed."""
        self.refills_at = max([bucket.refills_at for bucket in self.buckets], default=0.0)
        self._review()

    def member_gone(self) -> None:
        """Its actor has ended, and the supervisor has not said so yet."""
        self.update(replace(self.route, ref=None, blocked=SkipReason.STARTING))

    def trial_started(self) -> None:
        """The call that has begun spends a permit."""
        self.trials_started += 1
        self._review()

    def failure_sent(self) -> int:
        """A failure is on its way to the supervisor: how many have been."""
        self.failures_sent += 1
        self._free_slots.unjudged.add(self)
        self._review()
        return self.failures_sent

    def failures_judged(self, count: int) -> None:
        """The supervisor has judged the first `count` failures."""
        self.failures_seen = max(self.failures_seen, count)
        if self.failures_seen >= self.failures_sent:
            self._free_slots.unjudged.discard(self)
        self._review()

    def leave(self) -> None:
        """It is a member no more; what is still running on it may go on."""
        # What still runs on it gives its slots back to nobody: it
        # must not be offered again by that.
        free_slots, self._free_slots = self._free_slots, FreeSlots()
        if self.is_free:
            free_slots.free.drop(self)
        free_slots.unjudged.discard(self)
        free_slots.resting.discard(self)

    def _review(self) -> None:
        free = self.skip_reason() is None
        if free is not self.is_free:
            self.is_free = free
            (self._free_slots.free.add if free else self._free_slots.free.drop)(self)

    # -- what is asked

    def latency_s(self, now: float) -> float | None:
        """What is known of it; 0 while it is half-open: then its permits see to it that there is no
        rush, and a trial that hangs must not be what keeps the next one from being made.
        """
        if self.route.trial_permits is not None:
            return 0.0
        return self.load.latency_s(now, self.in_flight)

    @property
    def in_service(self) -> bool:
        """Whether nothing keeps it out, and it does not rest; it may be full."""
        return self.route.blocked is None and not self.rest.until

    @property
    def is_trial(self) -> bool:
        """Whether what is sent to it now spends a permit of a half-open breaker."""
        return self.route.trial_permits is not None

    def skip_reason(self) -> SkipReason | None:
        """Why nothing can be sent to it now, or None."""
        route = self.route
        if route.blocked is not None:
            return route.blocked
        if route.ref is None:
            return SkipReason.STARTING
        if self.rest.until:
            return SkipReason.COOLING_DOWN
        if self.refills_at:
            return SkipReason.HEADROOM
        if route.trial_permits is not None and self.trials_started >= route.trial_permits:
            return SkipReason.TRIAL_RUNNING
        # Unjudged failures count as full: the next request must not go where the supervisor may
        # just be opening the breaker.
        if self.in_flight >= self.limit or self.failures_sent > self.failures_seen:
            return SkipReason.SATURATED
        return None

    def back_at(self) -> float | None:
        """When it may take requests again that is kept out, rests or lacks headroom; None if nobody
        says, or if there is nothing to wait for.
        """
        reopens_at, until = self.route.reopens_at, max(self.rest.until, self.refills_at)
        if self.route.blocked is None:
            return until or None
        # It may be let in by its breaker, and still rest.
        return None if reopens_at is None else max(reopens_at, until)

    def is_too_slow(self, left_s: float, now: float) -> bool:
        """Whether one call in ten takes as long as that. Of a half-open one nothing is known."""
        p90_s = self.times.p90_s(now)
        return p90_s is not None and p90_s >= left_s

    def is_back_by(self, until: float) -> bool:
        """Whether it takes requests before that time, as far as is known."""
        if self.is_free or self.is_awaited():
            return True
        back_at = self.back_at()
        return back_at is not None and back_at < until

    def usual_s(self, now: float) -> float | None:
        """What three of four of its calls do not exceed, in seconds; None: too little is known."""
        return self.times.usual_s(now)

    def is_awaited(self) -> bool:
        """Whether it can take a request before long: when a call ends, or its actor is back, its
        event loop answers or is replaced, or the supervisor has judged a trial that is over, or
        somebody has taken its place.
        """
        reason = self.skip_reason()
        if reason is SkipReason.DRAINING:
            return self.route.replaced  # the next of its name can
        if reason is SkipReason.TRIAL_RUNNING:
            return self.route.blocked is None and self.in_flight == 0
        restarts = reason is SkipReason.STARTING and self.route.ref is None
        return restarts or reason in (SkipReason.SATURATED, SkipReason.STALLED)

    def is_unjudged(self) -> bool:
        """Whether it has room, and waits for nothing but the supervisor's word on a failure."""
        unjudged = self.failures_sent > self.failures_seen and self.route.blocked is None
        return unjudged and not self.rest.until and self.in_flight < self.limit

    def rests(self, until: float, deadline: float | None) -> bool:
        """Whether it only rests, and is back by that time and before the deadline."""
        over_at = self.rest.until
        if not over_at or self.skip_reason() is not SkipReason.COOLING_DOWN:
            return False
        return over_at <= until and (deadline is None or over_at < deadline)

    def room_to_come(self) -> int:
        """How much more it takes as soon as the supervisor has judged its last failures."""
        if self.failures_sent <= self.failures_seen:
            return 0
        free = self.limit - self.in_flight
        return max(0, free) if self.skip_reason() is SkipReason.SATURATED else 0

    def __repr__(self) -> str:
        return (
            f"<Slot {self.name} {self.in_flight}/{self.max_concurrency} "
            f"{self.skip_reason() or 'free'}>"
        )
