"""What router and supervisor said to each other, at the times at which it was heard."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator
from typing import Any

from greenroom.messages.supervision import (
    AttemptOutcome,
    FailuresSeen,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
)
from greenroom.simulate.agenda import Action, Agenda
from greenroom.simulate.recorded_flight import RecordedFlight

_State = tuple[str, str | None, int | None]
"""Of a member: its circuit, what keeps it out, its permits."""

_ABOUT_S = 1e-6
_LATEST_S = 0.25
"""What was heard later than that after it was said is another message."""


class RecordedPost:
    """Each of the two is a thread of its own in a pool, and hears what it is told some milliseconds
    later, as the machine lets it: as late as in the recording, as far as that tells it, and in the
    order in which it was said.
    """

    def __init__(self, flight: RecordedFlight, agenda: Agenda) -> None:
        self._agenda = agenda
        self._judged = flight.judged
        self._heard: dict[str, deque[tuple[float, _State]]] = {}
        for each in flight.states:
            state = each.circuit, each.blocked, each.permits
            self._heard.setdefault(flight.name(each.member), deque()).append((each.at, state))
        self._states: dict[str, _State] = {}
        self._last_at = flight.last_at
        self._rung = sorted(_rung(flight))
        self._router_until = self._supervisor_until = agenda.now

    def to_router(self, action: Action, message: Any) -> None:
        """A table when its changes were heard."""
        at = self._agenda.now
        if isinstance(message, RoutingSnapshot):
            at = max([at, *map(self._heard_at, message.members)])
        elif isinstance(message, FailuresSeen):
            at = self._when_judged(message.member, message.incarnation, message.count, at)
        self._router_until = self._put(action, message, max(at, self._router_until))

    def to_supervisor(self, action: Action, message: Any) -> None:
        """Failures when they were judged."""
        at = self._agenda.now
        if isinstance(message, Outcomes):
            for each in message.batch:
                if isinstance(each, AttemptOutcome) and each.number:
                    at = max(at, self._when_taken_in(each))
        self._supervisor_until = self._put(action, message, max(at, self._supervisor_until))

    def rings_at(self, when: float) -> float:
        """When it did that was set for then."""
        found = bisect.bisect_left(self._rung, (when - _ABOUT_S, 0.0))
        if found < len(self._rung):
            due, at = self._rung[found]
            if due <= when + _ABOUT_S and when <= at <= when + _LATEST_S:
                return at
        return when

    def _put(self, action: Action, message: Any, at: float) -> float:
        if at <= self._agenda.now:
            self._agenda.soon(action, message)
        else:
            self._agenda.at(at, action, message)
        return at

    def _when_taken_in(self, outcome: AttemptOutcome) -> float:
        """When a failure was, at the latest: what came of it was heard then."""
        now, name = self._agenda.now, outcome.member
        judged = self._when_judged(name, outcome.incarnation, outcome.number, now)
        left = self._heard.get(name)
        return min(judged, max(now, left[0][0])) if left else judged

    def _when_judged(self, member: str, incarnation: int, count: int, now: float) -> float:
        at = self._judged.get((member, incarnation, count), now)
        return at if now <= at <= now + _LATEST_S else now

    def _heard_at(self, route: MemberRoute) -> float:
        now = self._agenda.now
        blocked = None if route.blocked is None else str(route.blocked)
        state = str(route.circuit), blocked, route.trial_permits
        if self._states.get(route.name) == state:
            return now
        self._states[route.name] = state
        left = self._heard.get(route.name)
        # What was not heard by now is not to come any more.
        while left and left[0][0] < now - _LATEST_S:
            left.popleft()
        if left and left[0][1] == state and left[0][0] <= now + _LATEST_S:
            return max(now, left.popleft()[0])
        # It was on its way when the recording ended.
        return self._last_at + _LATEST_S if now > self._last_at - _LATEST_S else now


def _rung(flight: RecordedFlight) -> Iterator[tuple[float, float]]:
    """When timers were due of which it is known when they went off; and that."""
    limit_s = flight.config.request_timeout_s
    for arrival in flight.arrivals:
        yield from arrival.resumed
        for call in arrival.calls:
            if limit_s is not None and call.end is not None and call.end.cut_s:
                yield call.at + limit_s, call.at + call.end.cut_s
