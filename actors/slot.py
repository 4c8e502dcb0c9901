"""A member as the router sees it, and who of all of them has room."""

from __future__ import annotations

from greenroom.actors.load import LoadEstimate
from greenroom.actors.strategies import FreeMembers
from greenroom.messages.status import SkipReason
from greenroom.messages.supervision import MemberRoute


class Room:
    """Who can take a request now, and who as soon as the supervisor has judged its failures.

    The slots keep it up to date, so that nobody has to ask each of them.
    """

    def __init__(self) -> None:
        self.free: FreeMembers[Slot] = FreeMembers((), ())
        self.unjudged: set[Slot] = set()


class Slot:
    """A member as the router sees it: its route, its load, what of it is in use. A `Candidate`.

    Read its attributes, and change them by its methods: `room` has to hear of it.
    """

    __slots__ = (
        "_room",
        "error_rate",
        "failures_seen",
        "failures_sent",
        "in_flight",
        "index",
        "is_free",
        "load",
        "max_concurrency",
        "name",
        "priority",
        "route",
        "trials_started",
        "weight",
    )

    def __init__(self, route: MemberRoute, room: Room | None = None) -> None:
        self.name = route.name
        self.index = route.index
        self.load = LoadEstimate()
        self.error_rate = self.load.error_rate  # bound once: every pick asks every candidate
        self.in_flight = 0
        self.trials_started = 0
        self.failures_sent = 0
        self.failures_seen = 0
        self.is_free = False
        self._room = Room() if room is None else room
        self.route = route
        self.update(route)

    # -- what changes

    def update(self, route: MemberRoute) -> None:
        """Take over what the supervisor says; permits are counted anew in every breaker epoch."""
        if route.epoch != self.route.epoch:
            self.trials_started = 0
        if route.incarnation != self.route.incarnation:
            self.in_flight = self.failures_sent = self.failures_seen = 0
            self._room.unjudged.discard(self)
        self.route = route
        self.weight = route.weight
        self.priority = route.priority
        self.max_concurrency = route.max_concurrency
        self._review()

    def take(self) -> None:
        """A call begins."""
        self.in_flight += 1
        if self.in_flight >= self.max_concurrency and self.is_free:
            self.is_free = False
            self._room.free.drop(self)

    def give_back(self) -> None:
        """A call has ended."""
        if self.in_flight > 0:
            self.in_flight -= 1
        if not self.is_free and self.skip_reason() is None:
            self.is_free = True
            self._room.free.add(self)

    def trial_started(self) -> None:
        """The call that has begun spends a permit."""
        self.trials_started += 1
        self._review()

    def failure_sent(self) -> int:
        """A failure is on its way to the supervisor: how many have been."""
        self.failures_sent += 1
        self._room.unjudged.add(self)
        self._review()
        return self.failures_sent

    def failures_judged(self, count: int) -> None:
        """The supervisor has judged the first `count` failures."""
        self.failures_seen = max(self.failures_seen, count)
        if self.failures_seen >= self.failures_sent:
            self._room.unjudged.discard(self)
        self._review()

    def leave(self) -> None:
        """It is a member no more; what is still running on it may go on."""
        room, self._room = self._room, Room()
        if self.is_free:
            room.free.drop(self)
        room.unjudged.discard(self)

    def _review(self) -> None:
        free = self.skip_reason() is None
        if free is not self.is_free:
            self.is_free = free
            (self._room.free.add if free else self._room.free.drop)(self)

    # -- what is asked

    def latency_s(self, now: float) -> float | None:
        return self.load.latency_s(now, self.in_flight)

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
        if route.trial_permits is not None and self.trials_started >= route.trial_permits:
            return SkipReason.TRIAL_RUNNING
        if self.in_flight >= self.max_concurrency or self.failures_sent > self.failures_seen:
            return SkipReason.SATURATED
        return None

    def is_awaited(self) -> bool:
        """Whether it can take a request before long: when a call ends, or its actor is back, its
        event loop answers or is replaced, or the supervisor has judged a trial that is over.
        """
        reason = self.skip_reason()
        if reason is SkipReason.TRIAL_RUNNING:
            return self.route.blocked is None and self.in_flight == 0
        restarts = reason is SkipReason.STARTING and self.route.ref is None
        return restarts or reason in (SkipReason.SATURATED, SkipReason.STALLED)

    def is_unjudged(self) -> bool:
        """Whether it has room, and waits for nothing but the supervisor's word on a failure."""
        unjudged = self.failures_sent > self.failures_seen and self.route.blocked is None
        return unjudged and self.in_flight < self.max_concurrency

    def rests(self, until: float, deadline: float | None) -> bool:
        """Whether it only rests, and is back by that time and before the deadline."""
        route = self.route
        if route.blocked is not SkipReason.COOLING_DOWN or route.reopens_at is None:
            return False
        return route.reopens_at <= until and (deadline is None or route.reopens_at < deadline)

    def room_to_come(self) -> int:
        """How much more it takes as soon as the supervisor has judged its last failures."""
        if self.failures_sent <= self.failures_seen:
            return 0
        free = self.max_concurrency - self.in_flight
        return max(0, free) if self.skip_reason() is SkipReason.SATURATED else 0

    def __repr__(self) -> str:
        return (
            f"<Slot {self.name} {self.in_flight}/{self.max_concurrency} "
            f"{self.skip_reason() or 'free'}>"
        )
