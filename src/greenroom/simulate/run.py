"""A run: one scenario, one strategy, one seed. Equal ones give equal results."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from greenroom.flight.draws import RecordedDraws
from greenroom.flight.flight_lines import Header, Line
from greenroom.flight.flight_observer import FlightObserver
from greenroom.flight.line_text import written, written_request
from greenroom.flight.raw_requests import Brief, Raw
from greenroom.flight.settings_said import settings_of
from greenroom.messages.requests import Request
from greenroom.messages.screening import Heard
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.simulated_pool import SimPool
from greenroom.simulate.tally import Result, Tally


def simulate(
    scenario: Scenario,
    strategy: str,
    seed: int | None = None,
    record: Callable[[str], object] | None = None,
) -> Result:
    """Let the scenario happen to a pool with that strategy.

    Every source of chance has a generator of its own, made of the seed: the same requests arrive
    whatever the strategy is.

    Args:
        seed: instead of the scenario's.
        record: is given each line of a recording of it, as `AgentPool.start(record=)`.

    Raises:
        ValueError: no strategy has that name.
    """
    chosen = scenario.seed if seed is None else seed
    recorder = None if record is None else _Recorder(scenario, strategy, chosen, record)
    run = _Run(scenario, strategy, chosen, recorder)
    result = run.result()
    if recorder is not None:
        recorder.observer.give_up(scenario.duration_s)
    return result


class _Recorder:
    """Notes what a pool of a recording would have noted; it begins at 0 s, in 1970."""

    def __init__(
        self, scenario: Scenario, strategy: str, seed: int, record: Callable[[str], object]
    ) -> None:
        self._record = record
        settings, left_out = settings_of(scenario.config)
        supervision = f"{seed}: supervision"
        header = Header(
            pool=scenario.name,
            at=0.0,
            wall=0.0,
            strategy=strategy,
            settings=settings,
            left_out=left_out,
            supervision=supervision,
        )
        self.draws = RecordedDraws(random.Random(f"{seed}: routing"))
        self.observer = FlightObserver(
            strategy, b"simulated", self.draws, self._put, self._put, kept=1
        )
        record(written(header))

    def _put(self, line: Raw | Brief | Line) -> None:
        self._record(written_request(line) if isinstance(line, list | tuple) else written(line))


Arrival = tuple[Request[Any], Heard | None]
"""A request, and whose it is."""


class _Run:
    def __init__(
        self, scenario: Scenario, strategy: str, seed: int, recorder: _Recorder | None = None
    ) -> None:
        self._scenario = scenario
        self._strategy = strategy
        self._seed = seed
        self._agenda = Agenda()
        over = self._pause if scenario.load.callers is not None else lambda: None
        self._tally = Tally(scenario, self._agenda, over)
        self._recorder = recorder
        observer = None if recorder is None else recorder.observer
        self._pool = SimPool(
            scenario, strategy, self._agenda, self._chance, self._tally, observer=observer
        )
        if observer is not None:
            observer.watches(self._pool.table)
        self._new_request = self._requests()
        self._tenant = self._tenants()
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
        if what == "routing" and self._recorder is not None:
            return self._recorder.draws
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
        tenant = self._tenant()
        request, heard = self._new_request[tenant]()
        self._tally.arrived(tenant)
        self._pool.take(request, heard)

    def _tenants(self) -> Callable[[], str | None]:
        """Whose the next request is, by the shares."""
        tenants, rng = self._scenario.tenants, self._chance("tenants")
        if not tenants:
            return lambda: None
        names = [each.name for each in tenants]
        ends = list(itertools.accumulate(each.share for each in tenants))
        return lambda: rng.choices(names, cum_weights=ends)[0]

    def _requests(self) -> Mapping[str | None, Callable[[], Arrival]]:
        """What makes the requests of each tenant; of None, where there is none."""
        load = self._scenario.load
        alike: Request[Any] = Request(
            None, only=load.only, exclude=load.exclude, prefer=load.prefer
        )
        if not self._scenario.tenants:
            return {None: self._made(alike, None)}
        makers: dict[str | None, Callable[[], Arrival]] = {}
        for each in self._scenario.tenants:
            request: Request[Any] = Request(
                None,
                priority=each.priority,
                only=each.only or load.only,
                exclude=each.exclude or load.exclude,
                prefer=each.prefer or load.prefer,
            )
            heard = Heard(fair_key=each.name, weight=each.weight)
            makers[each.name] = self._made(request, heard)
        return makers

    def _made(self, alike: Request[Any], heard: Heard | None) -> Callable[[], Arrival]:
        """A key for every request, where the strategy reads one, or the pool is shared out by it,
        and a cost, where they have any; else they are all alike.
        """
        by_key = heard is None and self._scenario.config.fair_by is not None
        if self._scenario.load.cost is not None:
            return self._costly(alike, heard, self._scenario.load.cost, by_key)
        if self._strategy != "consistent_hash" and not by_key:
            # One object for all of them: a run makes millions.
            arrival = alike, heard
            return lambda: arrival
        rng, keys = self._chance("keys"), self._scenario.load.keys

        def make() -> Arrival:
            key = f"{rng.getrandbits(64):x}" if keys is None else str(rng.randrange(keys))
            return replace(alike, key=key), Heard(fair_key=key) if by_key else heard

        return make

    def _costly(
        self,
        alike: Request[Any],
        heard: Heard | None,
        costs: Mapping[str, tuple[int, int]],
        by_key: bool,
    ) -> Callable[[], Arrival]:
        rng, keys, keyed = self._chance("costs"), self._chance("keys"), self._scenario.load.keys

        def make() -> Arrival:
            cost = {name: rng.randint(*between) for name, between in costs.items()}
            number = keys.getrandbits(64) if keyed is None else keys.randrange(keyed)
            key = f"{number:x}"
            return replace(alike, key=key, cost=cost), Heard(fair_key=key) if by_key else heard

        return make
