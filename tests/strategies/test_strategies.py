"""The routing strategies, with made-up members and times."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import strategies
from greenroom.actors.routing.load_estimate import LoadEstimate
from greenroom.actors.strategies import (
    Adaptive,
    Candidate,
    Cheapest,
    ConsistentHash,
    Failover,
    LeastErrors,
    LeastLatency,
    LeastOutstanding,
    PickContext,
    PowerOfTwo,
    Priority,
    RoundRobin,
    RoutingStrategy,
    UniformRandom,
    Weighted,
    is_built_in,
    strategy_for,
    strategy_name,
)
from greenroom.messages import LoadBalanceStrategy

ALL = list(LoadBalanceStrategy)


@dataclass
class FakeMember:
    """A candidate with a real load estimate, and for the simulation a service time."""

    name: str
    index: int = 0
    weight: float = 1.0
    priority: int = 0
    cost: float = 0.0
    in_flight: int = 0
    max_concurrency: int = 100
    service_s: float = 0.05
    jitter: float = 0.0
    fails: bool = False
    estimate: LoadEstimate = field(default_factory=LoadEstimate)

    def latency_s(self, now: float) -> float | None:
        return self.estimate.latency_s(now, self.in_flight)

    def error_rate(self, now: float) -> float:
        return self.estimate.error_rate(now)

    def duration(self, rng: random.Random) -> float:
        return self.service_s * (1.0 + rng.uniform(-self.jitter, self.jitter))

    def finish(self, elapsed_s: float, now: float) -> None:
        self.in_flight -= 1
        (self.estimate.failed if self.fails else self.estimate.succeeded)(elapsed_s, now)


class Simulation:
    """Callers in a closed loop: each sends its next request when the one before has ended."""

    def __init__(self, spec: str, members: Sequence[FakeMember], seed: int = 0) -> None:
        self.strategy = strategy_for(spec)
        self.members = members
        self.rng = random.Random(seed)
        self.now = 1000.0

    def run(self, *, callers: int, requests: int) -> Counter[str]:
        """How many requests each member was given."""
        picks: Counter[str] = Counter()
        running: list[tuple[float, int, float, FakeMember]] = []
        waiting = callers
        while requests or running:
            while waiting and requests and (member := self._start()):
                duration = member.duration(self.rng)
                heapq.heappush(running, (self.now + duration, requests, duration, member))
                picks[member.name] += 1
                waiting, requests = waiting - 1, requests - 1
            if running:
                self.now, _, duration, member = heapq.heappop(running)
                member.finish(duration, self.now)
                waiting += 1
        return picks

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def _start(self) -> FakeMember | None:
        free = [each for each in self.members if each.in_flight < each.max_concurrency]
        if not free:
            return None
        picked = self.strategy.pick(free, PickContext(now=self.now), self.rng)
        assert isinstance(picked, FakeMember)
        picked.in_flight += 1
        return picked


def members(names: str, **options: Any) -> list[FakeMember]:
    return [FakeMember(name, index, **options) for index, name in enumerate(names)]


def picks(
    strategy: RoutingStrategy,
    candidates: Sequence[Candidate],
    times: int,
    *,
    key: str | None = None,
    seed: int = 0,
) -> str:
    """The names picked one after the other, with nothing ever in flight; '-' for none of these."""
    rng = random.Random(seed)
    chosen = (strategy.pick(candidates, PickContext(now=0.0, key=key), rng) for _ in range(times))
    return "".join(each.name if each else "-" for each in chosen)


def owner(strategy: RoutingStrategy, candidates: Sequence[Candidate], key: str) -> str:
    return picks(strategy, candidates, 1, key=key)


def longest_run(names: str) -> int:
    longest = run = 1
    for before, after in pairwise(names):
        run = run + 1 if before == after else 1
        longest = max(longest, run)
    return longest


def load(
    member: FakeMember, *, succeeded: int = 0, failed: int = 0, now: float = 0.0
) -> FakeMember:
    for _ in range(succeeded):
        member.estimate.succeeded(0.05, now)
    for _ in range(failed):
        member.estimate.failed(0.001, now)
    return member


class TestRoundRobin:
    def test_b13_round_robin_gives_exact_turns(self) -> None:
        """n members, k x n requests, exactly k each, in the configured order."""
        assert picks(RoundRobin(), members("ABCD"), 12) == "ABCD" * 3

    def test_b13_after_a_member_left_the_next_one_is_next(self) -> None:
        """A, B, then B is removed: next is C."""
        strategy, (a, b, c) = RoundRobin(), members("ABC")
        assert picks(strategy, [a, b, c], 2) == "AB"
        assert picks(strategy, [a, c], 3) == "CAC"

    @pytest.mark.parametrize("turns", range(4))
    def test_b13_a_member_that_joins_is_not_skipped(self, turns: int) -> None:
        """Whenever it joins, it has its turn in the round, and nobody gets two in a row for it."""
        strategy, (a, b, c, d) = RoundRobin(), members("ABCD")
        before = picks(strategy, [a, b, c], turns)
        after = picks(strategy, [a, b, c, d], 8)
        assert "D" in after[:4]
        assert Counter(after) == dict.fromkeys("ABCD", 2)
        assert longest_run(before + after) == 1

    def test_a_busy_member_is_passed_over_and_comes_back(self) -> None:
        """A round without a member goes on in order."""
        strategy, (a, b, c) = RoundRobin(), members("ABC")
        assert picks(strategy, [a, b, c], 1) == "A"
        assert picks(strategy, [a, c], 1) == "C"
        assert picks(strategy, [a, b, c], 3) == "ABC"


class TestWeighted:
    def test_b14_weights_are_met_exactly_and_interleaved(self) -> None:
        """Weights 3:1:0 over 4000 requests: exactly 3000, 1000, 0, never more than 3 in a row."""
        a, b, c = members("ABC")
        a.weight, b.weight, c.weight = 3.0, 1.0, 0.0
        names = picks(Weighted(), [a, b, c], 4000)
        assert Counter(names) == {"A": 3000, "B": 1000}
        assert longest_run(names) <= 3

    def test_a_weight_of_zero_gets_nothing(self) -> None:
        """Not even when nobody else is there."""
        assert picks(Weighted(), members("AB", weight=0.0), 2) == "--"

    def test_five_one_one_is_as_smooth_as_in_nginx(self) -> None:
        """The example of nginx's own commit message."""
        a, b, c = members("ABC")
        a.weight = 5.0
        assert picks(Weighted(), [a, b, c], 7) == "AABACAA"

    def test_who_left_is_forgotten(self) -> None:
        """A member that comes back under the same name starts without debts."""
        strategy, (a, b) = Weighted(), members("AB")
        assert picks(strategy, [a, b], 1) == "A"
        strategy.members_changed(["B"])
        strategy.members_changed(["B", "A"])
        assert picks(strategy, [a, b], 2) == "BA"


class TestBlackHole:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("spec", ["least_outstanding", "adaptive"])
    def test_b15_failing_fast_is_no_black_hole(self, spec: str, seed: int) -> None:
        """One of four fails in 1 ms, the others take 100 ms: it gets well under its fair share."""
        pool = members("ABCD", service_s=0.1)
        pool[2].service_s, pool[2].fails = 0.001, True
        counts = Simulation(spec, pool, seed).run(callers=20, requests=4000)
        assert counts["C"] < 4000 / 4 / 5

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("spec", ["least_latency", "power_of_two", "least_errors", "priority"])
    def test_b15_nor_under_the_others_that_look_at_load(self, spec: str, seed: int) -> None:
        """The same holds wherever load or latency decides."""
        pool = members("ABCD", service_s=0.1)
        pool[2].service_s, pool[2].fails = 0.001, True
        counts = Simulation(spec, pool, seed).run(callers=20, requests=4000)
        assert counts["C"] < 4000 / 4 / 5

    @pytest.mark.parametrize("service_s", [0.01, 2.0, 20.0])
    @pytest.mark.parametrize("spec", ["least_outstanding", "adaptive"])
    def test_b15_whatever_the_others_take(self, spec: str, service_s: float) -> None:
        """Nor with fast or very slow neighbours, and not from the first second on."""
        pool = members("ABCD", service_s=service_s)
        pool[2].service_s, pool[2].fails = 0.001, True
        counts = Simulation(spec, pool).run(callers=20, requests=400)
        assert counts["C"] < 400 / 4 / 2

    @pytest.mark.parametrize("callers", [1, 20])
    @pytest.mark.parametrize("spec", ["least_outstanding", "adaptive"])
    def test_b15_it_has_its_share_again_after_it_recovers(self, spec: str, callers: int) -> None:
        """It is not starved for ever: within two minutes of working again it shares the traffic."""
        pool = members("ABCD", service_s=0.1)
        pool[2].service_s, pool[2].fails = 0.001, True
        simulation = Simulation(spec, pool)
        simulation.run(callers=callers, requests=1000)
        pool[2].service_s, pool[2].fails = 0.1, False
        simulation.run(callers=callers, requests=1200 * callers)
        assert simulation.run(callers=callers, requests=400)["C"] > 60


class TestSlowMember:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("jitter", [0.0, 0.1])
    @pytest.mark.parametrize("max_concurrency", [20, 100])
    @pytest.mark.parametrize("spec", ["least_latency", "adaptive"])
    def test_b16_a_slow_member_gets_little(
        self, spec: str, max_concurrency: int, jitter: float, seed: int
    ) -> None:
        """500 ms against 50 ms twice, 20 callers, 300 requests: at most 15; the others 60/40."""
        pool = members("SAB", jitter=jitter, max_concurrency=max_concurrency)
        pool[0].service_s = 0.5
        counts = Simulation(spec, pool, seed).run(callers=20, requests=300)
        assert counts["S"] <= 15
        assert 2 / 3 <= counts["A"] / counts["B"] <= 3 / 2

    @pytest.mark.parametrize("callers", [1, 20])
    @pytest.mark.parametrize("spec", ["least_latency", "adaptive"])
    def test_b16_it_is_sampled_again_after_it_recovers(self, spec: str, callers: int) -> None:
        """Time alone brings it back, and then it has its share."""
        pool = members("SAB", jitter=0.1)
        pool[0].service_s = 0.5
        simulation = Simulation(spec, pool)
        simulation.run(callers=callers, requests=300)
        pool[0].service_s = 0.05
        simulation.run(callers=callers, requests=1200 * callers)
        assert simulation.run(callers=callers, requests=300)["S"] > 60

    @pytest.mark.parametrize("spec", ["least_latency", "adaptive"])
    def test_b16_sampling_a_slow_member_again_costs_no_herd(self, spec: str) -> None:
        """A member that stays slow is tried by one request at a time, not by a wave of them."""
        pool = members("SAB", jitter=0.1)
        pool[0].service_s = 2.0
        simulation = Simulation(spec, pool)
        simulation.run(callers=20, requests=300)
        counts = simulation.run(callers=20, requests=24_000)
        assert counts["S"] < 24_000 * 0.005

    @pytest.mark.parametrize("spec", ["least_latency", "adaptive", "least_outstanding"])
    def test_a_member_that_hangs_does_not_swallow_everything(self, spec: str) -> None:
        """Its estimate stands while calls are in flight, so it holds its share and no more."""
        pool = members("ABC")
        simulation = Simulation(spec, pool)
        simulation.run(callers=12, requests=300)
        pool[0].service_s = 1e6
        hung: Counter[str] = Counter()
        for _ in range(600):
            simulation.advance(0.1)
            member = simulation._start()
            assert member is not None
            hung[member.name] += 1
            if member is not pool[0]:
                member.finish(0.05, simulation.now)
        assert hung["A"] <= 4


class TestSpeed:
    @pytest.mark.parametrize("strategy", [LeastLatency(), Adaptive()])
    def test_the_unmeasured_come_first_one_request_each(self, strategy: RoutingStrategy) -> None:
        """A newcomer is measured by one request; until it answers the known ones do the work."""
        known, new = members("AB")
        load(known, succeeded=1)
        assert picks(strategy, [known, new], 1) == "B"
        new.in_flight = 1
        assert picks(strategy, [known, new], 5) == "AAAAA"

    @pytest.mark.parametrize("strategy", [LeastLatency(), Adaptive()])
    def test_all_unmeasured_are_tried_before_any_twice(self, strategy: RoutingStrategy) -> None:
        """The first burst spreads evenly."""
        pool, rng = members("ABCD"), random.Random(0)
        for _ in range(12):
            picked = strategy.pick(pool, PickContext(now=0.0), rng)
            assert isinstance(picked, FakeMember)
            picked.in_flight += 1
        assert {each.in_flight for each in pool} == {3}

    def test_the_fastest_takes_what_it_can_hold_under_adaptive(self) -> None:
        """One call at a time each: the fast one is preferred, the slow one helps out."""
        pool = members("AB", max_concurrency=1)
        pool[1].service_s = 0.5
        counts = Simulation("adaptive", pool).run(callers=2, requests=220)
        assert counts["A"] > 180
        assert counts["B"] > 15


class TestConsistentHash:
    KEYS = tuple(f"user-{number}" for number in range(2000))

    def owners(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        strategy = ConsistentHash()
        return {key: owner(strategy, candidates, key) for key in self.KEYS}

    def test_b17_removing_a_member_moves_only_its_keys(self) -> None:
        """One of ten leaves: the keys of the other nine stay where they are."""
        pool = members("ABCDEFGHIJ")
        before, after = self.owners(pool), self.owners(pool[:4] + pool[5:])
        moved = {key for key in self.KEYS if before[key] != after[key]}
        assert moved == {key for key in self.KEYS if before[key] == "E"}
        assert 120 <= len(moved) <= 280

    def test_b17_a_full_member_spills_to_the_next(self) -> None:
        """Its keys spread over the others, always the same one for a key, and come back after."""
        pool = members("ABCDEFGHIJ")
        strategy = ConsistentHash()
        spilled = [key for key in self.KEYS if owner(strategy, pool, key) == "E"]
        free = [each for each in pool if each.name != "E"]
        second = {key: owner(strategy, free, key) for key in spilled}
        assert set(second.values()) == set("ABCDFGHIJ")
        assert second == {key: owner(strategy, free, key) for key in spilled}
        assert all(owner(strategy, pool, key) == "E" for key in spilled)

    def test_shares_follow_the_weights(self) -> None:
        """3:1:0 gives three quarters, a quarter, nothing."""
        a, b, c = members("ABC")
        a.weight, c.weight = 3.0, 0.0
        counts = Counter(self.owners([a, b, c]).values())
        assert counts["A"] == pytest.approx(1500, abs=80)
        assert counts["C"] == 0

    def test_is_the_same_in_every_process(self) -> None:
        """The hash does not depend on PYTHONHASHSEED, on order or on the random generator."""
        pool = members("ABCDE")
        names = "".join(owner(ConsistentHash(), pool, key) for key in self.KEYS[:8])
        assert names == "".join(owner(ConsistentHash(), pool[::-1], key) for key in self.KEYS[:8])
        assert names == "BEAEBBEC"

    def test_without_a_key_it_shares_by_load(self) -> None:
        """Power of two choices, weight 0 left out."""
        a, b, c = members("ABC")
        a.in_flight, c.weight = 5, 0.0
        assert picks(ConsistentHash(), [a, b, c], 5) == "BBBBB"
        assert picks(ConsistentHash(), [c], 2) == "--"
        assert picks(ConsistentHash(), [c], 2, key="k") == "--"


def picked_at(strategy: RoutingStrategy, free: Sequence[FakeMember], *times: float) -> str:
    """Who is picked at each of these times."""
    rng = random.Random(1)
    chosen = (strategy.pick(free, PickContext(now), rng) for now in times)
    return "".join(each.name if each is not None else "-" for each in chosen)


class TestFailover:
    def failover(self, names: str = "ABC") -> Failover:
        strategy = Failover()
        strategy.members_changed(list(names))
        return strategy

    def test_b18_sticks_to_the_first_that_works(self) -> None:
        """Everything goes to the first, in the configured order."""
        strategy = self.failover()
        assert picks(strategy, members("ABC"), 5) == "AAAAA"
        strategy.record("A", True)
        assert picks(strategy, members("ABC"), 5) == "AAAAA"

    def test_b18_after_a_failed_run_it_moves_on_and_sticks_there(self) -> None:
        """A fails: B, and B again for the requests after; the ring goes round."""
        strategy = self.failover()
        for expected in "ABCAB":
            assert picks(strategy, members("ABC"), 3) == expected * 3
            strategy.record(expected, False)

    def test_b18_failures_of_others_do_not_move_it(self) -> None:
        """Two requests fail on A at once: one step, not two."""
        strategy = self.failover()
        strategy.record("A", False)
        strategy.record("A", False)
        assert strategy.current == "B"
        strategy.record("C", False)
        assert strategy.current == "B"

    def test_b18_a_busy_member_is_waited_for(self) -> None:
        """Nothing is created just because the current member is full for a moment."""
        strategy, (_, b, c) = self.failover(), members("ABC")
        rng = random.Random(1)
        assert strategy.pick([b, c], PickContext(0.0, busy=["A"]), rng) is None
        assert strategy.pick([b, c], PickContext(0.0), rng) is b

    def test_b18_a_member_passed_over_stays_the_current_one(self) -> None:
        """One that a request has tried, or that is blocked, is passed over in ring order."""
        strategy, (a, b, c) = self.failover(), members("ABC")
        strategy.record("A", False)
        assert picks(strategy, [a, c], 1) == "C"
        strategy.record("C", True)
        assert picks(strategy, [a], 1) == "A"
        assert picks(strategy, [a, b, c], 2) == "BB"

    def test_the_current_member_stays_when_others_come_and_go(self) -> None:
        """A change of members moves it only if it left itself: on to the next that is there."""
        strategy = self.failover("ABCD")
        strategy.record("A", False)
        seen = []
        for names in ("BCDE", "DE", "", "F"):
            strategy.members_changed(list(names))
            seen.append(strategy.current)
        assert seen == ["B", "D", None, "F"]

    def test_learns_its_ring_where_nobody_told_it(self) -> None:
        """Without members_changed the candidates are the ring."""
        strategy = Failover()
        assert picks(strategy, members("ABC"), 1) == "A"
        strategy.record("A", False)
        assert picks(strategy, members("ABC"), 2) == "BB"
        strategy.record("unknown", False)
        assert repr(strategy) == "<strategy failover: B>"

    def test_it_returns_to_the_first_member_after_a_while(self) -> None:
        """One request tries it again, and if that goes well it stays there."""
        strategy, free = Failover(return_after_s=60.0), members("ABC")
        strategy.members_changed(list("ABC"))
        strategy.record("A", False)
        assert picked_at(strategy, free, 0.0, 59.9, 60.0, 60.0) == "BBAB"
        strategy.record("B", True)
        assert strategy.current == "B"
        strategy.record("A", True)
        assert picked_at(strategy, free, 61.0, 1000.0) == "AA"

    def test_a_vain_return_doubles_the_time_until_the_next(self) -> None:
        """The other one stays in charge; up to sixteen times as long, until one goes well."""
        strategy, free = Failover(return_after_s=10.0), members("ABC")
        strategy.members_changed(list("ABC"))
        strategy.record("A", False)
        now, pauses = 0.0, []
        for _ in range(7):
            assert picked_at(strategy, free, now) == "B"
            began = now
            while picked_at(strategy, free, now) == "B":
                now += 1.0
            pauses.append(now - began)
            strategy.record("A", False)
            assert strategy.current == "B"
        assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 160.0, 160.0]
        assert picked_at(strategy, free, now, now + 160.0) == "BA"
        strategy.record("A", True)
        strategy.record("A", False)
        assert picked_at(strategy, free, 1000.0, 1009.0, 1010.0) == "BBA"

    def test_it_does_not_wait_for_the_first_member(self) -> None:
        """One that is busy or out when its time comes is tried by the next request after that."""
        strategy, (a, b, c) = Failover(return_after_s=10.0), members("ABC")
        strategy.members_changed(list("ABC"))
        strategy.record("A", False)
        rng = random.Random(1)
        assert strategy.pick([a, b, c], PickContext(0.0), rng) is b
        assert strategy.pick([b, c], PickContext(10.0, busy=["A"]), rng) is b
        assert strategy.pick([b, c], PickContext(11.0), rng) is b
        assert strategy.pick([a, b, c], PickContext(12.0), rng) is a

    def test_a_return_that_says_nothing_is_made_again(self) -> None:
        """It was cancelled, say: the next one is due when that much time has passed again."""
        strategy, free = self.failover("AB"), members("AB")
        strategy.record("A", False)
        assert picked_at(strategy, free, 0.0, 60.0, 119.0, 120.0) == "BABA"

    def test_a_late_success_of_the_first_is_no_return(self) -> None:
        """What was sent there before it was left says nothing of now."""
        strategy = self.failover()
        strategy.record("A", False)
        strategy.record("A", True)
        assert strategy.current == "B"

    def test_there_may_be_no_way_back(self) -> None:
        """With None it sticks to whoever works, for sessions and caches."""
        strategy = Failover(return_after_s=None)
        strategy.members_changed(list("AB"))
        strategy.record("A", False)
        assert picked_at(strategy, members("AB"), 0.0, 1e9) == "BB"

    def test_the_way_back_leads_to_whoever_is_first_by_then(self) -> None:
        """The first member has left: the one in charge is the first, or has another before it."""
        strategy = self.failover("ABC")
        strategy.record("A", False)
        strategy.record("B", False)
        free = members("ABC")
        strategy.members_changed(list("BC"))
        assert picked_at(strategy, free[1:], 0.0, 60.0) == "CB"
        strategy.members_changed(["C"])
        assert picked_at(strategy, free[2:], 70.0, 1000.0) == "CC"

    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "60", True])
    def test_bad_times_are_refused(self, value: Any) -> None:
        """With the name of the field and the value."""
        with pytest.raises((TypeError, ValueError), match=r"return_after_s must be .*, got"):
            Failover(return_after_s=value)

    def test_it_is_public(self) -> None:
        """With a setting of its own it is built in all the same."""
        assert strategies.Failover is Failover
        assert is_built_in(strategies.Failover(return_after_s=5.0))
        named = strategy_for("failover")
        assert isinstance(named, Failover)
        assert named.return_after_s == 60.0

    def test_tries_every_member(self) -> None:
        """It is the one strategy that goes round whatever max_retries says."""
        assert [each for each in ALL if getattr(strategy_for(each), "exhaustive", None)] == [
            LoadBalanceStrategy.FAILOVER
        ]


class TestPreferred:
    """Whom a strategy would give a request to if everybody could take it."""

    def order(self, strategy: Any, key: str | None = None) -> list[str]:
        free = members("ABC")
        free[0].priority = 1
        groups = strategy.preferred(tuple(free), PickContext(0.0, key))
        return ["".join(each.name for each in group) for group in groups]

    def test_priority_prefers_the_lowest_number(self) -> None:
        """Equals stand together."""
        assert self.order(Priority()) == ["BC", "A"]

    def test_failover_prefers_the_current_member(self) -> None:
        """Then the others of the ring."""
        strategy = Failover()
        strategy.members_changed(list("ABC"))
        strategy.record("A", False)
        assert self.order(strategy) == ["B", "C", "A"]

    def test_consistent_hash_prefers_the_owner_of_the_key(self) -> None:
        """In the order in which the key would go on; without a key it prefers nobody."""
        strategy = ConsistentHash()
        order = self.order(strategy, "k")
        free = members("ABC")
        for place in range(3):
            left = [each for each in free if each.name in order[place:]]
            assert picks(strategy, left, 1, key="k") == order[place]
        assert self.order(strategy) == []

    def test_the_others_stick_to_nobody(self) -> None:
        """`stay_for_retry_after_s` does nothing with them."""
        sticky = [each for each in ALL if hasattr(strategy_for(each), "preferred")]
        assert [each.value for each in sticky] == ["priority", "consistent_hash", "failover"]


class TestByLoad:
    def test_least_outstanding_is_relative_to_concurrency(self) -> None:
        """Five of a hundred is less than one of two."""
        a, b = members("AB")
        a.in_flight, b.in_flight, b.max_concurrency = 5, 1, 2
        assert picks(LeastOutstanding(), [a, b], 3) == "AAA"

    @pytest.mark.parametrize(
        "spec", ["least_outstanding", "power_of_two", "priority", "least_errors", "adaptive"]
    )
    def test_sequential_traffic_spreads(self, spec: str) -> None:
        """With nothing in flight ties go by chance, not always to the first."""
        counts = Simulation(spec, members("ABC", jitter=0.1)).run(callers=1, requests=300)
        assert min(counts.values()) >= 70

    def test_priority_takes_the_lowest_number_that_has_a_candidate(self) -> None:
        """Equals share by load; the next number serves only when there is no other."""
        a, b, c = members("ABC")
        a.priority, b.in_flight = 1, 3
        assert picks(Priority(), [a, b, c], 4) == "CCCC"
        assert picks(Priority(), [a, b], 2) == "BB"
        assert picks(Priority(), [a], 1) == "A"

    def test_least_errors_takes_the_lowest_recent_rate(self) -> None:
        """Rates within a hundredth are equal, and load decides."""
        a, b, c = members("ABC")
        load(a, succeeded=10, failed=1)
        load(b, succeeded=10)
        load(c, succeeded=10)
        b.in_flight = 9
        assert picks(LeastErrors(), [a, b, c], 3) == "CCC"
        assert picks(LeastErrors(), [a, b], 3) == "BBB"

    def test_power_of_two_avoids_the_most_loaded(self) -> None:
        """The worst of all loses to whatever it is drawn with."""
        pool = members("ABCDE")
        pool[3].in_flight = 50
        names = picks(PowerOfTwo(), pool, 500)
        assert set(names) == set("ABCE")

    def test_random_is_uniform(self) -> None:
        """Each has about a quarter of 4000."""
        counts = Counter(picks(UniformRandom(), members("ABCD"), 4000))
        assert all(900 <= count <= 1100 for count in counts.values())


def _estimate(outcomes: Iterable[tuple[bool, float]]) -> LoadEstimate:
    estimate = LoadEstimate()
    for succeeded, elapsed_s in outcomes:
        (estimate.succeeded if succeeded else estimate.failed)(elapsed_s, 0.0)
    return estimate


candidates = st.lists(
    st.builds(
        FakeMember,
        name=st.text(min_size=1, max_size=5),
        index=st.integers(0, 1000),
        weight=st.sampled_from([0.0, 0.5, 1.0, 7.0]),
        priority=st.integers(-2, 2),
        in_flight=st.integers(0, 9),
        max_concurrency=st.integers(10, 100),
        estimate=st.builds(
            _estimate,
            st.lists(st.tuples(st.booleans(), st.floats(0.0, 60.0)), max_size=5),
        ),
    ),
    min_size=1,
    max_size=6,
    unique_by=(lambda each: each.name, lambda each: each.index),
).map(lambda each: sorted(each, key=lambda member: member.index))

contexts = st.builds(
    PickContext, now=st.floats(0.0, 1e6), key=st.none() | st.text(max_size=5), request_id=st.text()
)


class TestEveryStrategy:
    @pytest.mark.parametrize("spec", ALL)
    @settings(max_examples=40, deadline=None)
    @given(candidates, st.lists(contexts, min_size=1, max_size=5))
    def test_picks_one_of_its_candidates(
        self, spec: LoadBalanceStrategy, pool: list[FakeMember], asked: list[PickContext]
    ) -> None:
        """Or none of them, where only those of weight 0 are left."""
        strategy, rng = strategy_for(spec), random.Random(0)
        weighs = spec in (LoadBalanceStrategy.WEIGHTED, LoadBalanceStrategy.CONSISTENT_HASH)
        for context in asked:
            picked = strategy.pick(pool, context, rng)
            if picked is None:
                assert weighs
                assert not any(each.weight for each in pool)
            else:
                assert any(picked is each for each in pool)
                assert picked.weight > 0 or not weighs

    @pytest.mark.parametrize("spec", ALL)
    @settings(max_examples=40, deadline=None)
    @given(candidates, st.lists(contexts, min_size=1, max_size=5), st.integers())
    def test_equal_seeds_give_equal_picks(
        self,
        spec: LoadBalanceStrategy,
        pool: list[FakeMember],
        asked: list[PickContext],
        seed: int,
    ) -> None:
        """The generator that is handed over is the only source of chance."""

        def once() -> list[str | None]:
            strategy, rng = strategy_for(spec), random.Random(seed)
            picked = [strategy.pick(pool, context, rng) for context in asked]
            return [each.name if each else None for each in picked]

        assert once() == once()

    @pytest.mark.parametrize("spec", ALL)
    def test_is_found_by_its_name(self, spec: LoadBalanceStrategy) -> None:
        """By the enum, by its value; a new object each time, since it holds state."""
        strategy = strategy_for(spec.value)
        assert strategy_name(strategy) == spec.value
        assert type(strategy_for(spec)) is type(strategy)
        assert strategy_for(spec) is not strategy
        assert repr(strategy).startswith(f"<strategy {spec.value}")
        assert isinstance(strategy, RoutingStrategy)


class TestCheapest:
    def test_takes_the_lowest_cost_that_has_room(self) -> None:
        """Equals share by load, the dearer ones get what these cannot take."""
        a, b, c = (
            FakeMember("A", 0, cost=2.5),
            FakeMember("B", 1, cost=1),
            FakeMember("C", 2, cost=1),
        )
        assert set(picks(Cheapest(), [a, b, c], 40)) == {"B", "C"}
        b.in_flight = 10
        assert set(picks(Cheapest(), [a, b, c], 40)) == {"C"}
        assert set(picks(Cheapest(), [a], 4)) == {"A"}

    def test_one_that_costs_nothing_is_not_starved_by_many_that_do(self) -> None:
        """With more than a sample looks at, the lowest cost is the lowest of all."""
        many = [FakeMember(f"m{i}", i, cost=1.0 + i) for i in range(200)]
        many[150].cost = 0.5
        assert picks(Cheapest(), many, 1) == "m150"


class Last:
    """The least a user has to write."""

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        return candidates[-1]


class TestStrategyFor:
    def test_takes_a_strategy_of_ones_own(self) -> None:
        """Any object with a pick, as it is; it is named after its class."""
        own: RoutingStrategy = Last()
        assert strategy_for(own) is own
        assert strategy_name(own) == "Last"
        assert picks(own, members("ABC"), 2) == "CC"

    def test_an_unknown_name_is_refused_with_the_known_ones(self) -> None:
        """The message names the field, the value and every valid name."""
        with pytest.raises(
            ValueError, match=r"^strategy must be one of .*, got 'fastest'$"
        ) as info:
            strategy_for("fastest")
        assert all(repr(each.value) in str(info.value) for each in ALL)

    def test_a_class_is_refused(self) -> None:
        """The likely slip: the parentheses are missing."""
        make: Callable[..., Any] = strategy_for
        with pytest.raises(TypeError, match=r"instance, got the class Last: write strategy=Last\("):
            make(Last)

    @pytest.mark.parametrize("spec", [None, 3, object(), ["adaptive"]])
    def test_anything_else_is_refused(self, spec: Any) -> None:
        """No name and no pick method."""
        with pytest.raises(TypeError, match=r"^strategy must be a name or an object with a method"):
            strategy_for(spec)
