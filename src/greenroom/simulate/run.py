"""A run: one scenario, one strategy, one seed. Equal ones give equal results."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from greenroom.messages.requests import Request
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.simulated_pool import SimPool
from greenroom.simulate.tally import Result, Tally


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
        over = self._pause if scenario.load.callers is not None else lambda: None
        self._tally = Tally(scenario, self._agenda, over)
        self._pool = SimPool(scenario, strategy, self._agenda, self._chance, self._tally)
        self._new_request = self._requests()
        self._uniform = self._chance("arrivals").random
        self._mean_s = 1.0 / scenario.rate_per_s

    def result(self) -> Result:
        load = self._scenario.load
        for _ in range(load.backlog):
            # By the agenda, since the members' first table is still on its way there.
            self._agenda.at(0.0, self._arrive)
        if load.callers is None:
            self._plan_next()
        else:  # they begin one after the other, within the first pause
            for _ in range(load.callers):
                self._agenda.at(self._uniform() * load.think_s, self._caller_asks)
        self._agenda.run()
        return self._tally.result(self._strategy, self._scenario.within_s)

    def _chance(self, what: str) -> random.Random:
        # A generator for each purpose: what one of them draws does not shift what another one gets.
        return random.Random(f"{self._seed}: {what}")

    def _plan_next(self) -> None:
        """With a constant rate, each at its own moment: a Poisson process."""
        when = self._agenda.now - math.log(1.0 - self._uniform()) * self._mean_s
        if when < self._scenario.duration_s:
            self._agenda.at(when, self._arrive_at_random)

    def _arrive_at_random(self, _: None) -> None:
        self._plan_next()
        self._arrive(None)

    def _caller_asks(self, _: None) -> None:
        if self._agenda.now < self._scenario.duration_s:
            self._arrive(None)

    def _pause(self) -> None:
        """Whoever has asked thinks for a while, and asks again."""
        self._agenda.at(self._agenda.now + self._scenario.load.think_s, self._caller_asks)

    def _arrive(self, _: None) -> None:
        self._tally.arrived()
        self._pool.take(self._new_request())

    def _requests(self) -> Callable[[], Request[Any]]:
        """A key for every request, where the strategy reads one, and a cost, where they have any;
        else they are all alike.
        """
        if self._scenario.load.cost is not None:
            return self._costly(self._scenario.load.cost)
        if self._strategy != "consistent_hash":
            # One object for all of them: a run makes millions.
            alike = Request(None)
            return lambda: alike
        rng, keys = self._chance("keys"), self._scenario.load.keys
        if keys is None:
            return lambda: Request(None, key=f"{rng.getrandbits(64):x}")
        return lambda: Request(None, key=str(rng.randrange(keys)))

    def _costly(self, costs: Mapping[str, tuple[int, int]]) -> Callable[[], Request[Any]]:
        rng, keys, keyed = self._chance("costs"), self._chance("keys"), self._scenario.load.keys

        def request() -> Request[Any]:
            cost = {name: rng.randint(*between) for name, between in costs.items()}
            number = keys.getrandbits(64) if keyed is None else keys.randrange(keyed)
            return Request(None, key=f"{number:x}", cost=cost)

        return request
