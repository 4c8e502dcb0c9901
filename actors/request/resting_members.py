"""The rests of members: when they begin, and the alarm at which they are over."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.runtime.alarms import AGAIN_S
from greenroom.messages.status import CircuitState, FailureKind


@dataclass(slots=True, eq=False, repr=False)
class RestingMembers:
    """Has members left alone for a while, and lets them in again. How long is their slots' affair.

    Args:
        over: called when a member has rested, and may take what waits.
    """

    _ports: FlowPorts
    _table: RoutingTable
    _attempt_events: AttemptEvents
    _rng: random.Random
    _over: Callable[[], None]

    def begin(
        self, slot: Slot, kind: FailureKind, began: float, retry_after_s: float | None, now: float
    ) -> bool:
        """Leave a member alone for a while, if its failure asks for it; whether that is new.

        Args:
            began: when the call began that has failed.
            retry_after_s: what the member has asked for, in seconds.
        """
        rests = bool(slot.rest.until)
        too_many = True
        if kind is FailureKind.RATE_LIMITED:
            too_many = slot.is_too_many(began, now)
            # Whoever has switched the breaker off wants every request to go there.
            off = slot.route.circuit is CircuitState.DISABLED
            if not off and (slot.is_paced(now) or not too_many):
                self._table.read_times()
                self._table.headroom.refused(slot, began, now, retry_after_s)
        if not slot.rest_for(kind, now, began, retry_after_s, self._rng, too_many):
            return False
        self._begun(slot, kind, rests, now)
        return not rests

    def begin_as_told(self, slot: Slot, kind: FailureKind, for_s: float, now: float) -> bool:
        """Leave a member alone for that time, as somebody outside says; whether that is new."""
        rests = bool(slot.rest.until)
        if not slot.rest_as_told(kind, now, for_s, self._rng):
            return False
        self._begun(slot, kind, rests, now, heard=True)
        return not rests

    def _begun(
        self, slot: Slot, kind: FailureKind, rests: bool, now: float, heard: bool = False
    ) -> None:
        until = slot.rest.until
        # One alarm a rest: where it is prolonged, the alarm finds that out and is set anew. Before
        # anybody is told: a subscriber that raises must not make the rest one for good.
        if not rests:
            self._ports.at(until, lambda: self._wake_up(slot))
        if slot.rest.is_news():
            wall = self._ports.wall() + until - now
            self._attempt_events.resting(slot.name, kind, until - now, wall, heard)
        if (observer := self._ports.observer) is not None:
            observer.rests(slot.name, kind, until, now)

    def forget(self, name: str | None) -> None:
        """A member that is reset by hand takes requests as before; None means all of them."""
        for slot in self._table:
            if name is None or slot.name == name:
                if slot.rest.announced:
                    self._attempt_events.rested(slot.name)
                kind, rests = slot.rest.kind, bool(slot.rest.until)
                slot.forget_rest()
                observer = self._ports.observer
                if rests and observer is not None:
                    now = self._ports.now()
                    observer.rests(slot.name, kind, now, now)

    def _wake_up(self, slot: Slot) -> None:
        """The time has come at which a rest was to be over; if seeing to that raises, it comes
        again: nobody else would end it.
        """
        try:
            self._due(slot)
        except BaseException:
            self._ports.at(self._ports.now() + AGAIN_S, lambda: self._wake_up(slot))
            raise

    def _due(self, slot: Slot) -> None:
        if self._table.get(slot.name) is not slot or not slot.rest.until:
            return  # it has left, or was reset by hand
        announced = slot.rest.announced
        if not slot.rested(self._ports.now()):  # it has been prolonged meanwhile
            self._ports.at(slot.rest.until, lambda: self._wake_up(slot))
            return
        if announced and slot.route.blocked is None:  # else it is its breaker that tells
            self._attempt_events.rested(slot.name)
        self._over()
