"""A run: one scenario, one strategy, one seed. Equal ones give equal results."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from greenroom.actors.request.job import Job
from greenroom.messages.execution import Execute
from greenroom.messages.requests import Request
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.simulated_pool import SimPool
from greenroom.simulate.tally import ANSWERED, Result, Tally, fate_of


def simulate(scenario: Scenario, strategy: str, seed: int | None = None) -> Result:
    """Let the scenario happen to a pool with that strategy.

    Every source of chance has a generator of its own, made of the seed: the same requests arrive
    whatever the strategy is.

    Args:
        seed: instead of the scenario's.

    Raises:
        ValueError: no strategy has that name.
    """
    return _Run(scenario, strategy, scenario.seed if seed is None else seed).result()


class _Run:
    def __init__(self, scenario: Scenario, strategy: str, seed: int) -> None:
        self._scenario = scenario
        self._strategy = strategy
        self._seed = seed
        self._agenda = Agenda()
        self._tally = Tally([each.name for each in scenario.members], scenario.warmup_s)
        self._pool = SimPool(scenario, strategy, self._agenda, self._chance, self)
        self._new_request = self._requests()
        self._callers = scenario.load.callers is not None

    def result(self) -> Result:
        for _ in range(self._scenario.load.backlog):
            # By the agenda, since the members' first table is still on its way there.
            self._agenda.at(0.0, self._arrive)
        if self._scenario.load.callers is None:
            self._arrive_at_random()
        else:
            self._arrive_from_callers(self._scenario.load.callers)
        self._agenda.run()
        return self._tally.result(self._strategy, self._scenario.within_s)

    def _chance(self, what: str) -> random.Random:
        # A generator for each purpose: what one of them draws does not shift what another one gets.
        return random.Random(f"{self._seed}: {what}")

    # -- requests arrive

    def _arrive_at_random(self) -> None:
        """With a constant rate, each at its own moment: a Poisson process."""
        uniform, agenda = self._chance("arrivals").random, self._agenda
        mean_s = 1.0 / self._scenario.rate_per_s
        until = self._scenario.duration_s

        def plan_next() -> None:
            when = agenda.now - math.log(1.0 - uniform()) * mean_s
            if when < until:
                agenda.at(when, arrive)

        def arrive(_: None) -> None:
            plan_next()
            self._arrive(None)

        plan_next()

    def _arrive_from_callers(self, callers: int) -> None:
        """The callers begin one after the other, within the first pause."""
        uniform, think_s = self._chance("arrivals").random, self._scenario.load.think_s
        for _ in range(callers):
            self._agenda.at(uniform() * think_s, self._caller_asks)

    def _caller_asks(self, _: None) -> None:
        if self._agenda.now < self._scenario.duration_s:
            self._arrive(None)

    def _arrive(self, _: None) -> None:
        self._tally.arrived(self._agenda.now)
        self._pool.take(self._new_request())

    def _requests(self) -> Callable[[], Request[Any]]:
        """A key for every request, where the strategy reads one; else they are all alike."""
        if self._strategy != "consistent_hash":
            # One object for all of them: a run makes millions.
            alike = Request(None)
            return lambda: alike
        rng, keys = self._chance("keys"), self._scenario.load.keys
        if keys is None:
            return lambda: Request(None, key=f"{rng.getrandbits(64):x}")
        return lambda: Request(None, key=str(rng.randrange(keys)))

    # -- what becomes of them

    def called(self, job: Job, message: Execute, member: str) -> None:
        """An attempt begins."""
        self._tally.called(job.accepted_at, member)

    def answered(self, job: Job, member: str) -> None:
        """A member has answered a request."""
        self._tally.ended(job.accepted_at, ANSWERED, self._agenda.now)
        if self._callers:
            self._pause()

    def failed(self, job: Job, error: BaseException) -> None:
        """A request has ended otherwise."""
        self._tally.ended(job.accepted_at, fate_of(job, error), self._agenda.now)
        if self._callers:
            self._pause()

    def _pause(self) -> None:
        """Whoever has asked thinks for a while, and asks again."""
        self._agenda.at(self._agenda.now + self._scenario.load.think_s, self._caller_asks)
