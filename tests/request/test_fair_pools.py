"""Pools that are shared out among those who ask: what they are told, and who is served when."""

from __future__ import annotations

import asyncio
import enum
import random
import threading
from collections import Counter
from typing import Any

import pytest
from helpers_load import settled
from helpers_pools import WAIT_S, ask, echo, pool_of

from greenroom import Member, PoolConfig, PoolSaturatedError, Request
from greenroom.simulate.tally import jains_index, quantile, shares
from greenroom.testing import AsyncScriptedAgent, FakeClock


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fair_by": "user"}, "fair_by must be 'key', a function or None, got 'user'"),
        ({"fair_by": 3}, "fair_by must be callable, got 3"),
        ({"fair_weights": {"a": 1.0}}, "fair_weights must be given together with fair_by"),
        ({"max_pending_per_key": 1}, "max_pending_per_key must be given together with fair_by"),
        ({"fair_by": "key", "max_pending_per_key": -1}, "max_pending_per_key must be at least 0"),
        (
            {"fair_by": "key", "fair_weights": {"a": 0}},
            "fair_weights: each weight must be at least",
        ),
        ({"fair_by": "key", "fair_weights": [1]}, "fair_weights must be a mapping of weights"),
        ({"fair_by": "key", "fair_weights": {1.5: 1}}, "fair_weights: a key must give a text"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    """With the field, the value and the rule."""
    with pytest.raises((TypeError, ValueError), match=words):
        PoolConfig(**settings)


async def coroutine(request: Any) -> str:
    return "a"


def test_a_coroutine_function_is_no_fair_by() -> None:
    """Nobody would await it."""
    with pytest.raises(TypeError, match="fair_by must be a plain function"):
        PoolConfig(fair_by=coroutine)


class Held:
    """An agent that works on one request at a time, each let go by the test."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self._gate = threading.Semaphore(0)
        self._begun = threading.Semaphore(0)

    def __call__(self, payload: Any) -> Any:
        self.started.append(payload)
        self._begun.release()
        assert self._gate.acquire(timeout=WAIT_S)
        return payload

    def wait_for(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._begun.acquire(timeout=WAIT_S)

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._gate.release()


def test_keys_take_turns_in_every_form_of_a_request() -> None:
    """Asks, tells, streams, and those of a function are of one key; each waits for its turn."""
    held = Held()
    with pool_of(Member("a", held), fair_by="key") as pool:
        futures = [ask(pool, "first", key="ann")]
        held.wait_for()
        futures += [ask(pool, f"ann {n}", key="ann") for n in range(4)]
        futures += [ask(pool, "bob", key="bob")]
        pool.tell(Request("cid", key="cid"))
        stream = pool.stream(Request("dan", key="dan"))
        pool.stats()  # the router has read all that was sent before
        held.let_go(20)
        for each in futures:
            each.get(timeout=WAIT_S)
        assert stream.collect() == ["dan"]
        assert held.started[:6] == ["first", "ann 0", "bob", "cid", "dan", "ann 1"]


def test_b277_turns_are_by_what_requests_cost() -> None:
    """By the estimate that the rate limits of members go by: three of bob's for one of ann's."""
    held = Held()
    with pool_of(Member("a", held), fair_by="key", cost=lambda text: {"tokens": len(text)}) as pool:
        futures = [ask(pool, "-", key="cid")]
        held.wait_for()
        for _ in range(3):
            futures += [ask(pool, "aaa", key="ann")]
        for _ in range(9):
            futures += [ask(pool, "b", key="bob")]
        pool.stats()  # the router has read all that was sent before
        held.let_go(20)
        for each in futures:
            each.get(timeout=WAIT_S)
        assert "".join(held.started).count("aaa") == 3
        order = "".join("a" if each == "aaa" else each for each in held.started[1:])
        # Whenever both have something waiting, what they had differs by a turn and one of ann's.
        for at in range(len(order)):
            had = order[:at]
            assert abs(3 * had.count("a") - had.count("b")) <= 4


def test_a_function_says_whose_a_request_is() -> None:
    """In the caller's thread, once a request; plain data is a key, whatever type it is of."""

    class Tier(enum.StrEnum):
        GOLD = "gold"

    threads: set[str] = set()

    def tenant(request: Any) -> Any:
        threads.add(threading.current_thread().name)
        return request.metadata.get("tenant")

    keys = ["a", 1, b"x", None, ("a", (1, None)), Tier.GOLD, True]
    with pool_of(Member("a", echo), clock=FakeClock(), fair_by=tenant) as pool:
        for key in keys:
            assert pool.execute("x", metadata={"tenant": key}) == "x"
        assert pool.apply(lambda agent: agent("x"), metadata={"tenant": "a"}) == "x"
        with pool.acquire(metadata={"tenant": "a"}) as agent:
            assert agent("x") == "x"
        for key in (1.5, ["a"], object(), ("a", {})):
            with pytest.raises(TypeError, match="fair_by must give a text, a whole number, bytes"):
                pool.execute("x", metadata={"tenant": key})
        assert pool.stats().accepted == len(keys) + 2
    assert threads == {threading.current_thread().name}


def test_what_the_function_raises_is_raised_to_whoever_asks() -> None:
    """In every form; the pool goes on with the others."""

    def tenant(request: Any) -> Any:
        if request.key is None:
            raise LookupError("who are you?")
        return request.key

    async def main() -> None:
        await pool.aexecute("x")

    with pool_of(Member("a", echo), clock=FakeClock(), fair_by=tenant) as pool:
        for form in (
            lambda: pool.execute("x"),
            lambda: ask(pool),
            lambda: pool.tell(Request("x")),
            lambda: pool.stream(Request("x")),
            lambda: list(pool.map(["x"])),
            lambda: asyncio.run(main()),
        ):
            with pytest.raises(LookupError, match="who are you"):
                form()
        assert pool.execute("x", key="ann") == "x"
        assert pool.stats().accepted == 1


@pytest.mark.parametrize("weight", [0, -1.0, "much", float("nan"), True])
def test_a_weight_that_is_none_is_refused_where_it_is_given(weight: Any) -> None:
    """Named by its place in the metadata."""
    with (
        pool_of(Member("a", echo), clock=FakeClock(), fair_by="key") as pool,
        pytest.raises((TypeError, ValueError), match=r"metadata\['fair_weight'\] must be"),
    ):
        pool.execute("x", metadata={"fair_weight": weight})


def test_weights_are_those_of_the_table_or_else_of_the_request() -> None:
    """The table goes first, and can be another one while the pool runs."""
    held = Held()
    config: dict[str, Any] = {"fair_by": "key", "fair_weights": {"ann": 2.0}}
    with pool_of(Member("a", held), **config) as pool:
        futures = [ask(pool, "first")]
        held.wait_for()
        for n in range(4):
            futures.append(ask(pool, f"ann {n}", key="ann", metadata={"fair_weight": 9.0}))
            futures.append(ask(pool, f"bob {n}", key="bob", metadata={"fair_weight": 1.0}))
        pool.stats()  # the router has read all that was sent before
        held.let_go(9)
        for each in futures:
            each.get(timeout=WAIT_S)
        assert held.started[1:7] == ["ann 0", "ann 1", "bob 0", "ann 2", "ann 3", "bob 1"]
        held.wait_for(8)
        pool.configure(fair_weights={"bob": 3.0})
        futures = [ask(pool, "first")]
        held.wait_for()
        futures += [ask(pool, f"{key} {n}", key=key) for key in ("ann", "bob") for n in range(3)]
        pool.stats()  # the router has read all that was sent before
        held.let_go(7)
        for each in futures:
            each.get(timeout=WAIT_S)
        assert held.started[10:14] == ["ann 0", "bob 0", "bob 1", "bob 2"]


def test_a_key_that_has_too_many_waiting_is_told_so() -> None:
    """At once, by the reason; no key is told, and others are taken in still."""
    held = Held()
    with pool_of(Member("a", held), fair_by="key", max_pending_per_key=1) as pool:
        futures = [ask(pool, "first", key="secret")]
        held.wait_for()
        futures += [ask(pool, "second", key="secret"), ask(pool, "other", key="b")]
        with pytest.raises(PoolSaturatedError) as info:
            pool.execute("third", key="secret", timeout=WAIT_S)
        assert info.value.reason == "max_pending_per_key"
        assert "secret" not in str(info.value)
        pool.configure(max_pending_per_key=2)
        futures.append(ask(pool, "third", key="secret"))
        pool.stats()  # the router has read all that was sent before
        held.let_go(9)
        assert [each.get(timeout=WAIT_S).value for each in futures] == [
            "first", "second", "other", "third",
        ]  # fmt: skip


# -- one at a hundred times the load, on a real pool

STEP_S = 0.1


def played(tenants: dict[str, float], seed: int, seconds: float, **config: Any) -> Any:
    """How many requests of each tenant have come in that time, at random, so many a second, and how
    long those took that were answered by then: on ten members of a second a call, two at a time,
    with a clock that the test moves.
    """
    rng, clock = random.Random(seed), FakeClock()
    agents = [AsyncScriptedAgent.slow(clock, 1.0) for _ in range(10)]
    members = [Member(f"m{i}", agent, max_concurrency=2) for i, agent in enumerate(agents)]
    times: dict[str, list[float]] = {name: [] for name in tenants}
    came: Counter[str] = Counter()
    with pool_of(*members, clock=clock, strategy="round_robin", **config) as pool:
        under_way: list[Any] = []
        for _ in range(int(seconds / STEP_S)):
            for name, rate in tenants.items():
                count = sum(rng.random() < rate * STEP_S / 20 for _ in range(20))
                for _ in range(count):
                    came[name] += 1
                    under_way.append((name, clock.now(), ask(pool, key=name)))
            clock.advance(STEP_S)
            settled(pool, clock)
            for each in [each for each in under_way if each[2].done()]:
                under_way.remove(each)
                each[2].get(timeout=WAIT_S)
                times[each[0]].append(clock.now() - each[1])
    return came, times


def test_nine_tenants_hardly_notice_one_at_a_hundred_times_their_load() -> None:
    """Their p99, the fairness of all, and the answers altogether, by the agents of a real pool."""
    nine = {f"t{n}": 0.25 for n in range(9)}
    _, alone = played(nine, 3, 30.0)
    came, fair = played({**nine, "busy": 25.0}, 3, 30.0, fair_by="key")
    _, unfair = played({**nine, "busy": 25.0}, 3, 30.0)

    def p99(times: dict[str, list[float]]) -> float:
        found = quantile(sorted(each for name in nine for each in times[name]), 0.99)
        assert found is not None
        return found

    def index(times: dict[str, list[float]]) -> float:
        had = {name: len(times[name]) for name in came}
        due = shares(sum(had.values()), came, dict.fromkeys(came, 1.0))
        found = jains_index([had[name] / due[name] for name in came])
        assert found is not None
        return found

    assert p99(fair) <= 1.5 * p99(alone)
    assert index(fair) >= 0.95
    assert sum(map(len, fair.values())) >= 0.98 * sum(map(len, unfair.values()))
    assert p99(unfair) > 3 * p99(alone)


def test_b340_it_is_told_how_many_keys_wait_and_how_much_of_the_largest() -> None:
    """Of all priorities together, and not whose they are; without `fair_by` nothing."""
    for fair_by, told in (("key", (2, 3)), (None, (0, 0))):
        agent = AsyncScriptedAgent.hanging()
        config: dict[str, Any] = {"fair_by": fair_by}
        with pool_of(Member("a", agent, max_concurrency=1), **config) as pool:
            pool.ask(Request("first", key="x"), block=False)
            agent.wait_for_calls()
            for key, priority in (("x", 0), ("y", 0), ("y", 5), ("y", 0)):
                pool.ask(Request("next", key=key, priority=priority), block=False)
            stats = pool.stats()
            assert (stats.waiting_keys, stats.waiting_most) == told
            agent.release()
