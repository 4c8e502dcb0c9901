"""Routing through a whole pool: turns, weights, speed, keys, failover, retries, own strategies."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

import pytest

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Candidate,
    CircuitState,
    FailureKind,
    LoadBalanceStrategy,
    Member,
    PickContext,
    PoolConfig,
    PoolError,
    PoolFuture,
    PoolRef,
    RemoveMember,
    Reply,
    Request,
    SkipReason,
    StrategyError,
)
from greenroom.actors.desk import Desk
from greenroom.actors.eventbus import EventBus
from greenroom.actors.table import RoutingTable
from greenroom.messages.events import (
    AttemptFailed,
    AttemptSucceeded,
    BreakerClosed,
    MemberStopped,
    RetryScheduled,
)
from greenroom.messages.supervision import (
    AttemptOutcome,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
    TrialStarted,
)
from greenroom.supervisors.supervisor import PoolSupervisor
from greenroom.testing import EventRecorder, FakeClock

WAIT_S = 20.0
STEADY = PoolConfig(
    circuit_failure_threshold=10_000, circuit_min_calls=20, circuit_failure_rate=1.0
)
"""Breakers that stay closed."""

Agent = Callable[[Any], Any]


def echo(payload: Any) -> Any:
    return payload


async def aecho(payload: Any) -> Any:
    return payload


class Failing:
    """A sync agent whose runs fail while `broken`."""

    def __init__(self, broken: bool = True) -> None:
        self.broken = broken
        self.calls = 0

    def __call__(self, payload: Any) -> Any:
        self.calls += 1
        if self.broken:
            raise ConnectionError("down")
        return payload


class Held:
    """A sync agent whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._begun = threading.Condition()
        self._go = threading.Event()

    def __call__(self, payload: Any) -> Any:
        with self._begun:
            self.calls.append(payload)
            self._begun.notify_all()
        assert self._go.wait(WAIT_S)
        return payload

    def wait_for(self, calls: int) -> None:
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.calls) >= calls, WAIT_S)

    def let_go(self) -> None:
        self._go.set()


def start(
    members: Iterable[Member],
    strategy: Any = "round_robin",
    config: PoolConfig | None = None,
    clock: FakeClock | None = None,
    seed: int = 7,
) -> PoolRef:
    return AgentPool.start(
        members,
        strategy=strategy,
        config=config or STEADY,
        clock=clock or FakeClock(),
        rng=random.Random(seed),
    )


def members_of(pool: PoolRef, requests: int, **options: Any) -> list[str]:
    """Who answers that many requests, one after the other."""
    asked = (pool.ask(Request(n, **options), timeout=WAIT_S) for n in range(requests))
    return [reply.member for reply in asked]


def ask(pool: PoolRef, payload: Any = None, **options: Any) -> PoolFuture[Reply[Any]]:
    request: Request[Any] = Request(payload, **options)
    future: PoolFuture[Reply[Any]] = pool.ask(request, block=False)
    return future


# -- round robin


def test_b13_turns_are_exact() -> None:
    """n members, k * n requests one after the other: k each, in the configured order."""
    with start([Member(name, echo) for name in "abcd"]) as pool:
        assert members_of(pool, 40) == list("abcd") * 10


def test_b13_turns_are_exact_for_concurrent_callers() -> None:
    """Whoever asks, and from however many threads."""
    with (
        start([Member(name, aecho) for name in "abcd"]) as pool,
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
    with start([Member(name, aecho) for name in names], "consistent_hash") as pool:
        before = {key: members_of(pool, 1, key=key)[0] for key in keys}
        assert len(set(before.values())) == 10
        pool.remove_member("m3")
        after = {key: members_of(pool, 1, key=key)[0] for key in keys}
        moved = {key for key in keys if before[key] != after[key]}
        assert moved == {key for key in keys if before[key] == "m3"}
        pool.add_member(Member("m3", aecho))
        assert {key: members_of(pool, 1, key=key)[0] for key in keys} == before


def test_b17_a_full_member_spills_to_the_next_and_only_then() -> None:
    """While it is busy its key goes to one other member, afterwards it is back."""
    agents = {name: Held() for name in "abc"}
    with start([Member(name, agent) for name, agent in agents.items()], "consistent_hash") as pool:
        futures = [ask(pool, number, key="k") for number in range(4)]
        assert (pool.stats().in_flight, pool.stats().pending) == (3, 1)
        for agent in agents.values():
            agent.let_go()
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

    agent = Held()
    with start([Member("busy", agent), Member("free", echo)], "failover") as pool:
        futures = [ask(pool, number) for number in range(200)]
        assert (pool.stats().in_flight, pool.stats().pending) == (1, 199)
        monkeypatch.setattr(RoutingTable, "pick", counting)
        agent.let_go()
        assert {future.get(timeout=WAIT_S).member for future in futures} == {"busy"}
    assert picked["picks"] <= 2 * 200


class Factory:
    """Counts what it makes."""

    def __init__(self, agent: Agent | None) -> None:
        self.agent = agent
        self.made = 0

    def __call__(self) -> Any:
        self.made += 1
        if self.agent is None:
            raise OSError("cannot be made")
        return self.agent


def lazy(**agents: Agent | None) -> tuple[dict[str, Factory], list[Member]]:
    factories = {name: Factory(agent) for name, agent in agents.items()}
    return factories, [Member(name, factory=each) for name, each in factories.items()]


def made(factories: dict[str, Factory]) -> dict[str, int]:
    return {name: factory.made for name, factory in factories.items()}


def test_b18_sticks_to_the_first_that_works_and_makes_nothing_else() -> None:
    """Members are made lazily, in order; a failed run moves on, and the next one is kept."""
    first, second = Failing(broken=False), Failing(broken=False)
    factories, members = lazy(a=first, b=second, c=echo)
    with start(members, "failover") as pool:
        assert made(factories) == {"a": 0, "b": 0, "c": 0}
        assert members_of(pool, 5) == ["a"] * 5
        assert made(factories) == {"a": 1, "b": 0, "c": 0}
        first.broken = True
        assert members_of(pool, 1) == ["b"]
        first.broken = False
        assert members_of(pool, 5) == ["b"] * 5
        assert made(factories) == {"a": 1, "b": 1, "c": 0}
        second.broken = True
        assert members_of(pool, 2) == ["c", "c"]
        assert made(factories) == {"a": 1, "b": 1, "c": 1}


def test_b18_a_member_that_cannot_be_made_is_passed_over() -> None:
    """The request goes to the next one, where later ones stay."""
    factories, members = lazy(a=None, b=echo, c=echo)
    with start(members, "failover") as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert (reply.member, [(e.member, e.kind) for e in reply.errors]) == (
            "b",
            [("a", FailureKind.CREATE_FAILED)],
        )
        assert members_of(pool, 3) == ["b"] * 3
        assert made(factories) == {"a": 1, "b": 1, "c": 0}


@pytest.mark.parametrize("max_retries", [0, 5])
def test_b18_when_all_fail_each_was_tried_once(max_retries: int) -> None:
    """An error and no loop, whatever `max_retries` says, and the next run starts with the next."""
    agents = {name: Failing() for name in "abc"}
    members = [Member(name, agent) for name, agent in agents.items()]
    with start(members, "failover") as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("x", max_retries=max_retries), timeout=WAIT_S)
        assert [error.member for error in caught.value.errors] == ["a", "b", "c"]
        assert [agent.calls for agent in agents.values()] == [1, 1, 1]
        agents["b"].broken = False
        assert members_of(pool, 2) == ["b", "b"]


def test_b18_a_busy_member_is_waited_for() -> None:
    """It has not failed, so nobody else is made."""
    held = Held()
    factories, members = lazy(a=held, b=echo)
    with start(members, "failover") as pool:
        first, second = ask(pool, 1), ask(pool, 2)
        held.wait_for(1)
        assert pool.stats().pending == 1
        held.let_go()
        assert [future.get(timeout=WAIT_S).member for future in (first, second)] == ["a", "a"]
        assert made(factories) == {"a": 1, "b": 0}


def test_b18_the_current_member_may_leave() -> None:
    """The next one that is there takes over."""
    with start([Member(name, echo) for name in "abc"], "failover") as pool:
        assert members_of(pool, 1) == ["a"]
        pool.remove_member("a")
        assert members_of(pool, 2) == ["b", "b"]
        pool.add_member(Member("a", echo))
        assert members_of(pool, 2) == ["b", "b"]


# -- retries


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_b19_no_member_is_tried_twice_while_another_is_untried(
    strategy: str, greenroom_events: EventRecorder
) -> None:
    """Under every strategy, whatever it would prefer."""
    order: list[str] = []

    def failing(name: str) -> Agent:
        def fail(_: Any) -> Any:
            order.append(name)
            raise ConnectionError(name)

        return fail

    clock = FakeClock()
    members = [Member(name, failing(name)) for name in "abcd"]
    with start(members, strategy, clock=clock) as pool:
        for number in range(1, 6):
            order.clear()
            future = ask(pool, key="k", max_retries=4)
            if strategy != "failover":
                clock.advance(greenroom_events.wait_for(RetryScheduled, count=number).delay_s)
            with pytest.raises(AllPoolMembersFailedError):
                future.get(timeout=WAIT_S)
            assert sorted(order[:4]) == ["a", "b", "c", "d"]
            assert len(order) == (4 if strategy == "failover" else 5)


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_b19_a_retry_waits_for_an_untried_member_that_is_busy(
    strategy: str, greenroom_events: EventRecorder
) -> None:
    """Rather than going back to the free one that has just failed it."""
    bad, held = Failing(), Held()
    with start([Member("bad", bad), Member("held", held)], strategy) as pool:
        pool.force_open("bad")
        blocker = ask(pool, "blocker", key="k")
        held.wait_for(1)
        pool.reset_member("bad")
        future = ask(pool, "x", key="k")
        greenroom_events.wait_for(AttemptFailed, member="bad")
        assert pool.stats().pending == 1
        assert (bad.calls, held.calls) == (1, ["blocker"])
        held.let_go()
        reply = future.get(timeout=WAIT_S)
        assert (reply.member, reply.attempts, bad.calls) == ("held", 2, 1)
        assert blocker.get(timeout=WAIT_S).member == "held"


def test_b19_an_untried_member_that_leaves_is_not_waited_for(
    greenroom_events: EventRecorder,
) -> None:
    """The retry then goes to whoever is left."""
    bad, held = Failing(), Held()
    clock = FakeClock()
    with start([Member("held", held), Member("bad", bad)], "round_robin", clock=clock) as pool:
        blocker = ask(pool, "blocker")
        held.wait_for(1)
        future = ask(pool, "x")
        greenroom_events.wait_for(AttemptFailed, member="bad")
        assert pool.stats().pending == 1
        bad.broken = False
        removal = pool.ask(RemoveMember("held"), block=False)
        assert future.get(timeout=WAIT_S).member == "bad"
        held.let_go()
        assert blocker.get(timeout=WAIT_S).member == "held"
        removal.get(timeout=WAIT_S)


# -- half open


def test_b3_a_half_open_member_takes_exactly_one_of_many(greenroom_events: EventRecorder) -> None:
    """One permit: of 20 concurrent requests one is the trial; all of them go elsewhere."""
    config = STEADY.replace(circuit_failure_threshold=1, circuit_reset_timeout_s=5.0)
    clock = FakeClock()
    first, held = Failing(), Held()

    def agent(payload: Any) -> Any:
        return first(payload) if first.broken else held(payload)

    members = [
        Member("a", agent, priority=0, max_concurrency=50),
        Member("b", aecho, priority=1),
    ]
    with start(members, "priority", config, clock) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        assert first.calls == 1
        first.broken = False
        clock.advance(5.0)
        assert pool.stats()["a"].circuit is CircuitState.HALF_OPEN
        futures = [ask(pool, number) for number in range(20)]
        held.wait_for(1)
        assert pool.stats()["a"].in_flight == 1
        answered = [future.get(timeout=WAIT_S).member for future in futures]
        assert answered == ["b"] * 20
        assert held.calls == [0]
        held.let_go()
        greenroom_events.wait_for(AttemptSucceeded, member="a")
        pool.stats()  # by then the supervisor has judged the trial
        members_of(pool, 1)
        greenroom_events.wait_for(BreakerClosed, member="a")
        assert members_of(pool, 3) == ["a"] * 3


@pytest.mark.parametrize("permits", [1, 2, 5])
def test_b3_as_many_as_there_are_permits(permits: int) -> None:
    """With nobody else to go to, the others fail at once and say why."""
    config = STEADY.replace(circuit_failure_threshold=1, half_open_permits=permits, max_retries=0)
    clock = FakeClock()
    held, broken = Held(), Failing()

    def agent(payload: Any) -> Any:
        return broken(payload) if broken.broken else held(payload)

    with start([Member("a", agent, max_concurrency=50)], "adaptive", config, clock) as pool:
        with pytest.raises(PoolError):
            pool.ask(Request("x"), timeout=WAIT_S)
        broken.broken = False
        clock.advance(config.circuit_reset_timeout_s)
        futures = [ask(pool, number) for number in range(10)]
        held.wait_for(permits)
        for future in futures[permits:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [error.kind for error in caught.value.errors] == [SkipReason.TRIAL_RUNNING]
        assert sorted(held.calls) == list(range(permits))  # each in a thread of its own
        held.let_go()
        for future in futures[:permits]:
            assert future.get(timeout=WAIT_S).member == "a"


def test_b3_a_trial_given_to_a_member_that_died_meanwhile_returns_its_permit() -> None:
    """The router's word of it arrives when a new incarnation stands there, in the same epoch."""
    routes: list[MemberRoute] = []

    class Router:
        actor_urn = "urn"

        def __init__(self) -> None:
            self.actor_stopped = threading.Event()
            self.actor_inbox = self

        def put(self, letter: Any) -> None:
            if isinstance(letter.message, RoutingSnapshot):
                routes.append(letter.message.members[0])

    def outcome(kind: FailureKind, epoch: int) -> Outcomes:
        attempt = AttemptOutcome(
            member="a",
            incarnation=1,
            epoch=epoch,
            request_id="r",
            attempt=1,
            at=clock.now(),
            elapsed_s=0.0,
            kind=kind,
        )
        return Outcomes((attempt,))

    clock = FakeClock()
    config = STEADY.replace(circuit_failure_threshold=1, restart_backoff_s=0.0)
    supervisor = PoolSupervisor.start(
        pool="p",
        router=cast(Any, Router()),
        desk=Desk(),
        config=config,
        clock=clock,
        rng=random.Random(7),
        bus=EventBus("p"),
        members=[Member("a", echo)],
    )
    try:
        supervisor.tell(outcome(FailureKind.UNKNOWN, epoch=1))
        _pass_through(supervisor)
        clock.advance(config.circuit_reset_timeout_s)
        _pass_through(supervisor)
        epoch = routes[-1].epoch
        assert (routes[-1].trial_permits, routes[-1].incarnation) == (1, 1)
        cast(Any, routes[-1].ref).stop()
        _pass_through(supervisor)
        assert routes[-1].incarnation == 2
        supervisor.tell(TrialStarted(member="a", incarnation=1, epoch=epoch, at=clock.now()))
        supervisor.tell(outcome(FailureKind.CANCELLED, epoch))
        _pass_through(supervisor)
        assert (routes[-1].trial_permits, routes[-1].epoch) == (2, epoch)
    finally:
        supervisor.stop()


def _pass_through(actor: Any) -> None:
    """Wait until it has handled all that it was told before."""
    with pytest.raises(TypeError):
        actor.ask("no message of any actor")


# -- a user's own strategy


class Own:
    """A strategy that does what the test says."""

    def __init__(self, pick: Callable[[Sequence[Candidate], PickContext], Any]) -> None:
        self._pick = pick

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Any:
        return self._pick(candidates, context)


def test_an_own_strategy_picks_by_what_it_sees_of_a_candidate() -> None:
    """Any object with a `pick` is one; its class names it."""

    def last(candidates: Sequence[Candidate], context: PickContext) -> Candidate:
        assert [each.name for each in candidates] == ["a", "b"]
        assert [each.index for each in candidates] == [0, 1]
        assert all(each.in_flight < each.max_concurrency for each in candidates)
        assert context.now == 1000.0
        assert context.request_id
        return candidates[-1] if context.key is None else candidates[0]

    with start([Member("a", echo), Member("b", echo)], Own(last)) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        assert members_of(pool, 2, key="k") == ["a"] * 2
        assert pool.stats().strategy == "Own"


@pytest.mark.parametrize(
    "answer",
    [ZeroDivisionError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), "a", 7, object()],
)
def test_an_own_strategy_that_goes_wrong_fails_the_request_and_nothing_else(answer: Any) -> None:
    """Raising or naming a stranger: the asker hears of it at once, the pool goes on."""
    wrong = [True]

    def pick(candidates: Sequence[Candidate], context: PickContext) -> Any:
        if not wrong[0]:
            return candidates[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with start([Member("a", echo)], Own(pick)) as pool:
        with pytest.raises(StrategyError):
            pool.ask(Request("x"), timeout=WAIT_S)
        wrong[0] = False
        assert members_of(pool, 2) == ["a", "a"]
        stats = pool.stats()
        assert (stats.accepted, stats.completed, stats.failed, stats.in_flight) == (3, 2, 1, 0)


def test_an_own_strategy_that_cannot_even_be_printed() -> None:
    """Its name in errors is that of its class."""

    class Unprintable(Own):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with start([Member("a", echo)], Unprintable(lambda *_: "stranger")) as pool:
        with pytest.raises(StrategyError):
            pool.ask(Request("x"), timeout=WAIT_S)
        assert pool.stats().failed == 1


def test_an_own_strategy_may_want_nobody() -> None:
    """None: the request fails and says that the member was left out."""
    with start([Member("a", echo)], Own(lambda *_: None)) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("x"), timeout=WAIT_S)
        assert [error.kind for error in caught.value.errors] == [SkipReason.EXCLUDED]


def test_an_own_strategy_that_keeps_one_request_waiting_holds_back_no_other() -> None:
    """What it wants to wait for a busy member does not stand in the way of what it can place."""
    agents = {name: Held() for name in "ab"}

    def by_key(candidates: Sequence[Candidate], context: PickContext) -> Candidate | None:
        return next((each for each in candidates if each.name == context.key), None)

    members = [Member(name, agent) for name, agent in agents.items()]
    with start(members, Own(by_key)) as pool:
        running = [ask(pool, name, key=name) for name in "ab"]
        for agent in agents.values():
            agent.wait_for(1)
        waits_for_a, waits_for_b = ask(pool, 1, key="a"), ask(pool, 2, key="b")
        assert pool.stats().pending == 2
        agents["b"].let_go()
        assert waits_for_b.get(timeout=WAIT_S).member == "b"
        assert not waits_for_a.done()
        agents["a"].let_go()
        assert waits_for_a.get(timeout=WAIT_S).member == "a"
        assert [each.get(timeout=WAIT_S).member for each in running] == ["a", "b"]


def test_a_strategy_learns_how_attempts_ended_and_who_is_there() -> None:
    """`record` after every attempt, `members_changed` whenever somebody comes or goes."""

    class Learning(Own):
        def __init__(self) -> None:
            super().__init__(lambda candidates, _: candidates[0])
            self.seen: list[Any] = []

        def record(self, name: str, succeeded: bool) -> None:
            self.seen.append((name, succeeded))

        def members_changed(self, names: Sequence[str]) -> None:
            self.seen.append(tuple(names))

    strategy = Learning()
    with start([Member("a", Failing()), Member("b", echo)], strategy) as pool:
        assert members_of(pool, 1) == ["b"]
        pool.add_member(Member("c", echo))
        pool.remove_member("a")
        assert members_of(pool, 1) == ["b"]
    assert strategy.seen == [
        ("a", "b"),
        ("a", False),
        ("b", True),
        ("a", "b", "c"),
        ("b", "c"),
        ("b", True),
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SystemExit(1)])
def test_hooks_that_raise_cost_no_request(error: BaseException) -> None:
    """Not the answer, not the retry, not the wait for a member that comes."""

    class Broken(Own):
        def __init__(self) -> None:
            super().__init__(lambda candidates, _: candidates[0])

        def record(self, name: str, succeeded: bool) -> None:
            raise error

        def members_changed(self, names: Sequence[str]) -> None:
            raise error

    with start([Member("a", Failing()), Member("b", echo)], Broken()) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        pool.add_member(Member("c", echo))
        pool.remove_member("b")
        assert members_of(pool, 2) == ["c"] * 2


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
        start([Member("always", aecho)], strategy, clock=None) as pool,
        ThreadPoolExecutor(4) as callers,
    ):
        runs = [callers.submit(members_of, pool, 100, key=str(n)) for n in range(4)]
        for number in range(20):
            pool.add_member(Member(f"m{number}", aecho))
            if number >= 2:
                pool.remove_member(f"m{number - 2}")
        answers = [member for run in runs for member in run.result(WAIT_S)]
        assert len(answers) == 400
        assert len(greenroom_events.named(MemberStopped)) == 18
        stats = pool.stats()
        assert (stats.completed, stats.failed, stats.in_flight) == (400, 0, 0)
