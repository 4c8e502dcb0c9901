"""Routing through a whole pool: turns, weights, speed, keys, and members that come and go."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from helpers_pools import WAIT_S, ask, echo, echo_async
from helpers_routing import Agent, Failing, members_of, start

from greenroom import (
    AllPoolMembersFailedError,
    LoadBalanceStrategy,
    Member,
    PoolFuture,
    Reply,
    Request,
    SkipReason,
)
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.messages.events import MemberStopped
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

# -- round robin


def test_b13_turns_are_exact() -> None:
    """n members, k * n requests one after the other: k each, in the configured order."""
    with start([Member(name, echo) for name in "abcd"]) as pool:
        assert members_of(pool, 40) == list("abcd") * 10


def test_b13_turns_are_exact_for_concurrent_callers() -> None:
    """Whoever asks, and from however many threads."""
    with (
        start([Member(name, echo_async) for name in "abcd"]) as pool,
        ThreadPoolExecutor(8) as callers,
    ):
        chunks = callers.map(lambda _: members_of(pool, 50), range(8))
        counts = Counter(member for chunk in chunks for member in chunk)
    assert counts == dict.fromkeys("abcd", 100)


def test_b13_after_a_member_left_the_next_one_is_next() -> None:
    """A, B, then B is removed: C."""
    with start([Member(name, echo) for name in "abc"]) as pool:
        assert members_of(pool, 2) == ["a", "b"]
        pool.remove_member("b")
        assert members_of(pool, 3) == ["c", "a", "c"]


@pytest.mark.parametrize("turns", range(1, 7))
def test_b13_a_member_added_at_run_time_is_not_skipped(turns: int) -> None:
    """Wherever the turn stands, nobody has two turns in a row because of it."""
    with start([Member(name, echo) for name in "abc"]) as pool:
        before = members_of(pool, turns)
        pool.add_member(Member("d", echo))
        after = members_of(pool, 12)
    assert Counter(after) == dict.fromkeys("abcd", 3)
    sequence = [*before, *after]
    assert all(first != second for first, second in pairwise(sequence))


def test_b13_a_member_that_is_out_misses_its_turns_and_comes_back() -> None:
    """The others go on in turn."""
    with start([Member(name, echo) for name in "abc"]) as pool:
        pool.force_open("b")
        assert members_of(pool, 4) == ["a", "c", "a", "c"]
        pool.reset_member("b")
        assert members_of(pool, 6) == list("abcabc")


# -- weights


def test_b14_weights_are_met_exactly_and_interleaved() -> None:
    """3:1:0 over 400 requests: 300, 100, none; never more than three in a row."""
    weights = {"a": 3.0, "b": 1.0, "zero": 0.0}
    members = [Member(name, echo, weight=weight) for name, weight in weights.items()]
    with start(members, "weighted") as pool:
        sequence = members_of(pool, 400)
    assert Counter(sequence) == {"a": 300, "b": 100}
    quarters = [Counter(sequence[i : i + 4]) for i in range(0, 400, 4)]
    assert all(quarter == {"a": 3, "b": 1} for quarter in quarters)


def test_b14_a_member_added_at_run_time_has_its_weight_at_once() -> None:
    """2:1 becomes 2:1:3."""
    with start([Member("a", echo, weight=2), Member("b", echo, weight=1)], "weighted") as pool:
        assert Counter(members_of(pool, 30)) == {"a": 20, "b": 10}
        pool.add_member(Member("c", echo, weight=3))
        assert Counter(members_of(pool, 60)) == {"a": 20, "b": 10, "c": 30}


@pytest.mark.parametrize("strategy", ["weighted", "consistent_hash"])
def test_b14_a_weight_of_zero_gets_nothing_even_when_nobody_else_can(strategy: str) -> None:
    """The error says that it was left out, not that it was broken."""
    with start([Member("a", echo), Member("zero", echo, weight=0)], strategy) as pool:
        pool.force_open("a")
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("x", key="k"), timeout=WAIT_S)
        assert [(e.member, e.kind) for e in caught.value.errors] == [
            ("a", SkipReason.CIRCUIT_OPEN),
            ("zero", SkipReason.EXCLUDED),
        ]
        pool.reset_member("a")
        assert members_of(pool, 5, key="k") == ["a"] * 5


# -- one that fails at once


@pytest.mark.parametrize("strategy", ["least_outstanding", "adaptive", "least_latency"])
def test_b15_failing_fast_is_no_black_hole(strategy: str) -> None:
    """One of four fails at once, its breaker disabled: it gets no more than its share."""
    bad = Failing()
    clock = FakeClock()
    members = [Member("bad", bad), *(Member(name, echo) for name in "bcd")]
    with start(members, strategy, clock=clock) as pool:
        pool.disable_breaker("bad")
        for number in range(400):
            pool.ask(Request(number), timeout=WAIT_S)
            clock.advance(0.01)
    assert 1 <= bad.calls <= 100


# -- one that is slow


class Simulation:
    """Callers who ask again as soon as they are answered, agents that take as long as told.

    Only the fake clock moves: whoever is due at a moment has been answered, and has asked again,
    before it moves on.
    """

    def __init__(self, strategy: str, latencies: dict[str, float]) -> None:
        self.clock = FakeClock()
        self.latencies = latencies
        self.due: dict[int, float] = {}
        self.served: Counter[str] = Counter()
        self.waiting: dict[int, PoolFuture[Reply[Any]]] = {}
        self.numbers = iter(range(1_000_000))
        self.pool = start(
            [Member(name, self._agent(name)) for name in latencies], strategy, clock=self.clock
        )

    def _agent(self, name: str) -> Agent:
        async def answer(number: int) -> str:
            self.served[name] += 1
            latency = self.latencies[name]
            self.due[number] = self.clock.now() + latency
            await self.clock.sleep(latency)
            return name

        return answer

    def run(self, requests: int, callers: int) -> Counter[str]:
        """Have so many requests answered; how many each member was given."""
        self.served.clear()
        left = requests
        while left or self.waiting:
            while left and len(self.waiting) < callers:
                number = next(self.numbers)
                self.waiting[number] = ask(self.pool, number)
                left -= 1
            self.clock.wait_until_sleeping(len(self.waiting), timeout=WAIT_S)
            self.clock.advance(min(self.due.values()) - self.clock.now())
            for number in [n for n, at in self.due.items() if at <= self.clock.now()]:
                self.waiting.pop(number).get(timeout=WAIT_S)
                del self.due[number]
            self.pool.stats()  # the router has noted all of it at this time, not at a later one
        return Counter(self.served)


@pytest.mark.parametrize("strategy", ["least_latency", "adaptive"])
def test_b16_a_slow_member_gets_little_and_is_sampled_again(strategy: str) -> None:
    """500 ms against 50 ms: at most 15 of 300; its share is back some time after it recovers."""
    simulation = Simulation(strategy, {"slow": 0.5, "fast": 0.05, "quick": 0.05})
    with simulation.pool:
        counts = simulation.run(requests=300, callers=20)
        assert counts["slow"] <= 15
        assert 0.4 <= counts["fast"] / (counts["fast"] + counts["quick"]) <= 0.6
        simulation.latencies["slow"] = 0.05
        simulation.clock.advance(120.0)
        again = simulation.run(requests=300, callers=3)
        assert again["slow"] >= 60


# -- keys


def test_b17_removing_a_member_moves_only_its_keys() -> None:
    """One of ten leaves: the keys of the nine others stay where they are."""
    names = [f"m{number}" for number in range(10)]
    keys = [f"key-{number}" for number in range(200)]
    with start([Member(name, echo_async) for name in names], "consistent_hash") as pool:
        before = {key: members_of(pool, 1, key=key)[0] for key in keys}
        assert len(set(before.values())) == 10
        pool.remove_member("m3")
        after = {key: members_of(pool, 1, key=key)[0] for key in keys}
        moved = {key for key in keys if before[key] != after[key]}
        assert moved == {key for key in keys if before[key] == "m3"}
        pool.add_member(Member("m3", echo_async))
        assert {key: members_of(pool, 1, key=key)[0] for key in keys} == before


def test_b17_a_full_member_spills_to_the_next_and_only_then() -> None:
    """While it is busy its key goes to one other member, afterwards it is back."""
    agents = {name: ScriptedAgent.hanging(echo) for name in "abc"}
    with start([Member(name, agent) for name, agent in agents.items()], "consistent_hash") as pool:
        futures = [ask(pool, number, key="k") for number in range(4)]
        assert (pool.stats().in_flight, pool.stats().pending) == (3, 1)
        for agent in agents.values():
            agent.release()
        owner, *others = (future.get(timeout=WAIT_S).member for future in futures[:3])
        assert sorted([owner, *others]) == ["a", "b", "c"]
        futures[3].get(timeout=WAIT_S)
        assert members_of(pool, 3, key="k") == [owner] * 3
        pool.force_open(owner)
        assert members_of(pool, 3, key="k") == [others[0]] * 3


# -- failover


def test_b18_a_queue_is_not_walked_for_room_that_its_first_cannot_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy current member is waited for while another is free: two picks a freed slot, however
    many wait.
    """
    picked = Counter[str]()
    original = RoutingTable.pick

    def counting(self: RoutingTable, *arguments: Any) -> Any:
        picked["picks"] += 1
        return original(self, *arguments)

    agent = ScriptedAgent.hanging(echo)
    with start([Member("busy", agent), Member("free", echo)], "failover") as pool:
        futures = [ask(pool, number) for number in range(200)]
        assert (pool.stats().in_flight, pool.stats().pending) == (1, 199)
        monkeypatch.setattr(RoutingTable, "pick", counting)
        agent.release()
        assert {future.get(timeout=WAIT_S).member for future in futures} == {"busy"}
    assert picked["picks"] <= 2 * 200


# -- members come and go


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_a_pool_that_starts_empty_serves_with_its_first_member(strategy: str) -> None:
    """And fails again when the last one has left."""
    with start([], strategy) as pool:
        for _ in range(2):
            with pytest.raises(AllPoolMembersFailedError, match="no members"):
                pool.ask(Request("x"), timeout=WAIT_S)
            pool.add_member(Member("a", echo))
            assert members_of(pool, 2, key="k") == ["a", "a"]
            pool.remove_member("a")


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_every_request_is_answered_while_members_come_and_go(
    strategy: str, greenroom_events: EventRecorder
) -> None:
    """A removal drains: no request is lost to it, none fails."""
    with (
        start([Member("always", echo_async)], strategy, clock=None) as pool,
        ThreadPoolExecutor(4) as callers,
    ):
        runs = [callers.submit(members_of, pool, 100, key=str(n)) for n in range(4)]
        for number in range(20):
            pool.add_member(Member(f"m{number}", echo_async))
            if number >= 2:
                pool.remove_member(f"m{number - 2}")
        answers = [member for run in runs for member in run.result(WAIT_S)]
        assert len(answers) == 400
        assert len(greenroom_events.named(MemberStopped)) == 18
        stats = pool.stats()
        assert (stats.completed, stats.failed, stats.in_flight) == (400, 0, 0)
