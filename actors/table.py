"""The router's routing table: its view of every member, and the choice among them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

from greenroom.actors.eventbus import complain
from greenroom.actors.load import LoadEstimate
from greenroom.actors.strategies import PickContext, RoutingStrategy
from greenroom.actors.strategies.base import BuiltIn
from greenroom.messages.errors import StrategyError, summary
from greenroom.messages.status import CircuitState, SkipReason
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot


class Slot:
    """A member as the router sees it: its route, its load, what of it is in use. A `Candidate`."""

    __slots__ = (
        "failures_seen",
        "failures_sent",
        "in_flight",
        "index",
        "load",
        "max_concurrency",
        "name",
        "priority",
        "route",
        "trials_started",
        "weight",
    )

    def __init__(self, route: MemberRoute) -> None:
        self.name = route.name
        self.index = route.index
        self.load = LoadEstimate()
        self.in_flight = 0
        self.trials_started = 0
        self.failures_sent = 0
        self.failures_seen = 0
        self.route = route
        self.update(route)

    def update(self, route: MemberRoute) -> None:
        """Take over what the supervisor says; permits are counted anew in every breaker epoch."""
        if route.epoch != self.route.epoch:
            self.trials_started = 0
        if route.incarnation != self.route.incarnation:
            self.in_flight = self.failures_sent = self.failures_seen = 0
        self.route = route
        self.weight = route.weight
        self.priority = route.priority
        self.max_concurrency = route.max_concurrency

    def latency_s(self, now: float) -> float | None:
        return self.load.latency_s(now, self.in_flight)

    def error_rate(self, now: float) -> float:
        return self.load.error_rate(now)

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


class NoPick(Enum):
    """Why there is nobody to send a request to."""

    BUSY = "somebody could take it once a slot is free, or a restart is over"
    UNROUTABLE = "nobody could take it"


class RoutingTable:
    """All slots in the configured order, and the strategy that chooses among them."""

    def __init__(self, strategy: RoutingStrategy, rng: random.Random) -> None:
        self.strategy = strategy
        self.treats_alike = isinstance(strategy, BuiltIn)
        """Whether no request finds nobody where another would find somebody."""
        self.epoch = 0
        self.draining = False
        self._rng = rng
        self._slots: dict[str, Slot] = {}
        self._order: list[Slot] = []
        self._record: Any = getattr(strategy, "record", None)
        self.learns = self._record is not None
        """Whether the strategy wants to know how attempts end."""
        self._members_changed: Any = getattr(strategy, "members_changed", None)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, name: str) -> Slot | None:
        """The slot of that name."""
        return self._slots.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in the configured order."""
        return tuple(slot.name for slot in self._order)

    def apply(self, snapshot: RoutingSnapshot) -> bool:
        """Take a snapshot over if it is newer than the last one; whether it was."""
        if snapshot.epoch <= self.epoch:
            return False
        self.epoch = snapshot.epoch
        before = self.names
        slots = {}
        for route in snapshot.members:
            slot = self._slots.get(route.name)
            if slot is None or slot.index != route.index:
                slot = Slot(route)
            else:
                slot.update(route)
            slots[route.name] = slot
        self._slots = slots
        self._order = sorted(slots.values(), key=lambda each: each.index)
        self.draining = any(s.route.blocked is SkipReason.DRAINING for s in self._order)
        if before != self.names and self._members_changed is not None:
            self._guarded("members_changed", self._members_changed, self.names)
        return True

    def pick(
        self, tried: Collection[str], context: PickContext, exhaustive: bool = False
    ) -> Slot | NoPick:
        """The strategy's choice: among the untried, and among the tried when no untried may come.

        Raises:
            StrategyError: the strategy raised, or chose what was not a candidate.
        """
        free = [slot for slot in self._order if slot.skip_reason() is None]
        if exhaustive:
            return self._pick_next(free, tried, context)
        if not tried:
            return self._choose(free, context) or self._nobody(())
        untried = [slot for slot in free if slot.name not in tried]
        chosen = self._choose(untried, context)
        if chosen is not None:
            return chosen
        if self._nobody(tried) is NoPick.BUSY:
            return NoPick.BUSY
        again = [slot for slot in free if slot.name in tried]
        return self._choose(again, context) or self._nobody(())

    def pick_second(self, taken: Collection[str], context: PickContext) -> Slot | None:
        """The strategy's choice among the free members beside those taken. Trials are for requests
        that have nobody else.

        Raises:
            StrategyError: the strategy raised, or chose what was not a candidate.
        """
        free = (slot for slot in self._order if slot.skip_reason() is None and not slot.is_trial)
        return self._choose([slot for slot in free if slot.name not in taken], context)

    def _pick_next(
        self, free: list[Slot], tried: Collection[str], context: PickContext
    ) -> Slot | NoPick:
        """For strategies that try every member once, in an order of their own; no tried one."""
        busy = [
            slot.name
            for slot in self._order
            if slot.name not in tried and slot.skip_reason() is SkipReason.SATURATED
        ]
        untried = [slot for slot in free if slot.name not in tried]
        chosen = self._choose(untried, replace(context, busy=busy))
        return chosen or self._nobody(tried)

    def could_take(self, tried: Collection[str]) -> bool:
        """Whether an untried member is free, or will be before long."""
        return any(
            slot.name not in tried and (slot.skip_reason() is None or slot.is_awaited())
            for slot in self._order
        )

    def has_room(self) -> bool:
        """Whether any member could take a request right now."""
        return any(slot.skip_reason() is None for slot in self._order)

    def room_to_come(self) -> int:
        """How many requests wait for nothing but the supervisor's word, which is on its way."""
        return sum(slot.room_to_come() for slot in self._order)

    def record(self, name: str, succeeded: bool) -> None:
        """Let a strategy that learns know how an attempt ended."""
        if self._record is not None:
            self._guarded("record", self._record, name, succeeded)

    def earliest_reopening(self, besides: Collection[str] = ()) -> float | None:
        """When the first blocked member may be back, on the pool's clock; None if nobody says.

        Args:
            besides: names of members that are of no interest.
        """
        known = (s.route.reopens_at for s in self._order if s.name not in besides)
        return min((at for at in known if at is not None), default=None)

    def trial_running(self, besides: Collection[str] = ()) -> bool:
        """Whether a half-open member is being tried: the answer may bring it back any moment."""
        return any(
            slot.route.circuit is CircuitState.HALF_OPEN
            or slot.route.blocked is SkipReason.STARTING
            for slot in self._order
            if slot.name not in besides
        )

    def _nobody(self, tried: Collection[str]) -> NoPick:
        busy = any(slot.is_awaited() for slot in self._order if slot.name not in tried)
        return NoPick.BUSY if busy else NoPick.UNROUTABLE

    def _choose(self, candidates: list[Slot], context: PickContext) -> Slot | None:
        if not candidates:
            return None
        try:
            chosen = self.strategy.pick(candidates, context, self._rng)
            if chosen is None:
                return None
            if not any(chosen is candidate for candidate in candidates):
                raise StrategyError(
                    f"{self.strategy!r}.pick must return one of its candidates or None, "
                    f"got {chosen!r}"
                )
        except StrategyError:
            raise
        except BaseException as error:  # a user's strategy; the router must live
            name = type(self.strategy).__name__
            raise StrategyError(f"{name}.pick raised {summary(error)}") from error
        return chosen  # type: ignore[return-value]

    def _guarded(self, what: str, hook: Any, *arguments: Any) -> None:
        """The hooks only inform a strategy: what they raise is logged, and costs no request."""
        try:
            hook(*arguments)
        except BaseException as error:
            complain(f"{type(self.strategy).__name__}.{what} raised", error)
