"""A simulated member: it takes calls, lets them wait, and ends them when their time has come."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Effect, Ending
from greenroom.simulate.scenario import MemberSpec
from greenroom.simulate.work import Call


class SimMember:
    """What stands behind a member's name: its latency, its faults, its own queue."""

    def __init__(
        self,
        spec: MemberSpec,
        agenda: Agenda,
        rng: random.Random,
        report: Callable[[Call], None],
    ) -> None:
        self._agenda = agenda
        self._report = report
        self._draw = spec.latency.drawn_with(rng)
        self._speed = spec.speed
        self._idle = spec.at_work
        self._waiting: deque[Call] = deque()
        self._spells = [_Spell(f.from_s, f.until_s, f.trouble.effect(rng)) for f in spec.faults]

    def take(self, call: Call) -> None:
        """Work on a call, at once or when its turn has come."""
        if self._idle:
            self._serve(call)
        else:
            self._waiting.append(call)

    def cancel(self, call: Call) -> None:
        """Let go of a call that nobody waits for; it is not reported."""
        call.ended = True
        if call.served:
            self._next()

    def _serve(self, call: Call) -> None:
        self._idle -= 1
        call.served = True
        now = self._agenda.now
        seconds = self._draw() / self._speed
        if self._spells:
            seconds, call.kind, call.retry_after_s = self._befallen(Ending(seconds), now)
        if seconds != float("inf"):
            self._agenda.at(now + seconds, self._end, call)

    def _befallen(self, ending: Ending, now: float) -> Ending:
        """What the faults that last make of an ending, one after the other."""
        for spell in self._spells:
            if spell.from_s <= now < spell.until_s:
                ending = spell.effect(ending, now)
        return ending

    def _end(self, call: Call) -> None:
        if call.ended:
            return
        call.ended = True
        self._next()
        self._report(call)

    def _next(self) -> None:
        """A server has become idle: it turns to who has waited longest."""
        self._idle += 1
        while self._waiting:
            call = self._waiting.popleft()
            if not call.ended:
                self._serve(call)
                return


class _Spell(NamedTuple):
    """A fault in this run."""

    from_s: float
    until_s: float
    effect: Effect
