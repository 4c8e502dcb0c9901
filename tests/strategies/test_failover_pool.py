"""Failover and retries through a whole pool: nobody twice, nobody made in vain. 18, 19, 3."""

from __future__ import annotations

import random
import threading
from typing import Any, cast

import pytest
from helpers_pools import WAIT_S, ask, echo, echo_async
from helpers_routing import STEADY, Agent, Failing, members_of, start

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    LoadBalanceStrategy,
    Member,
    PoolError,
    RemoveMember,
    Request,
    SkipReason,
)
from greenroom.actors.claims.claims import Claims
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.messages.events import AttemptFailed, AttemptSucceeded, BreakerClosed, RetryScheduled
from greenroom.messages.supervision import (
    AttemptOutcome,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
    TrialStarted,
)
from greenroom.supervisors.pool_supervisor import PoolSupervisor
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent


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
    held = ScriptedAgent.hanging(echo)
    factories, members = lazy(a=held, b=echo)
    with start(members, "failover") as pool:
        first, second = ask(pool, 1), ask(pool, 2)
        held.wait_for_calls(1)
        assert pool.stats().pending == 1
        held.release()
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
    bad, held = Failing(), ScriptedAgent.hanging(echo)
    with start([Member("bad", bad), Member("held", held)], strategy) as pool:
        pool.force_open("bad")
        blocker = ask(pool, "blocker", key="k")
        held.wait_for_calls(1)
        pool.reset_member("bad")
        future = ask(pool, "x", key="k")
        greenroom_events.wait_for(AttemptFailed, member="bad")
        assert pool.stats().pending == 1
        assert (bad.calls, held.calls) == (1, ["blocker"])
        held.release()
        reply = future.get(timeout=WAIT_S)
        assert (reply.member, reply.attempts, bad.calls) == ("held", 2, 1)
        assert blocker.get(timeout=WAIT_S).member == "held"


def test_b19_an_untried_member_that_leaves_is_not_waited_for(
    greenroom_events: EventRecorder,
) -> None:
    """The retry then goes to whoever is left."""
    bad, held = Failing(), ScriptedAgent.hanging(echo)
    clock = FakeClock()
    with start([Member("held", held), Member("bad", bad)], "round_robin", clock=clock) as pool:
        blocker = ask(pool, "blocker")
        held.wait_for_calls(1)
        future = ask(pool, "x")
        greenroom_events.wait_for(AttemptFailed, member="bad")
        assert pool.stats().pending == 1
        bad.broken = False
        removal = pool.ask(RemoveMember("held"), block=False)
        assert future.get(timeout=WAIT_S).member == "bad"
        held.release()
        assert blocker.get(timeout=WAIT_S).member == "held"
        removal.get(timeout=WAIT_S)


# -- half open


def test_b3_a_half_open_member_takes_exactly_one_of_many(greenroom_events: EventRecorder) -> None:
    """One permit: of 20 concurrent requests one is the trial; all of them go elsewhere."""
    config = STEADY.replace(circuit_failure_threshold=1, circuit_reset_timeout_s=5.0)
    clock = FakeClock()
    first, held = Failing(), ScriptedAgent.hanging(echo)

    def agent(payload: Any) -> Any:
        return first(payload) if first.broken else held(payload)

    members = [
        Member("a", agent, priority=0, max_concurrency=50),
        Member("b", echo_async, priority=1),
    ]
    with start(members, "priority", config, clock) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        assert first.calls == 1
        first.broken = False
        clock.advance(5.0)
        assert pool.stats()["a"].circuit is CircuitState.HALF_OPEN
        futures = [ask(pool, number) for number in range(20)]
        held.wait_for_calls(1)
        assert pool.stats()["a"].in_flight == 1
        answered = [future.get(timeout=WAIT_S).member for future in futures]
        assert answered == ["b"] * 20
        assert held.calls == [0]
        held.release()
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
    held, broken = ScriptedAgent.hanging(echo), Failing()

    def agent(payload: Any) -> Any:
        return broken(payload) if broken.broken else held(payload)

    with start([Member("a", agent, max_concurrency=50)], "adaptive", config, clock) as pool:
        with pytest.raises(PoolError):
            pool.ask(Request("x"), timeout=WAIT_S)
        broken.broken = False
        clock.advance(config.circuit_reset_timeout_s)
        futures = [ask(pool, number) for number in range(10)]
        held.wait_for_calls(permits)
        for future in futures[permits:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [error.kind for error in caught.value.errors] == [SkipReason.TRIAL_RUNNING]
        assert sorted(held.calls) == list(range(permits))  # each in a thread of its own
        held.release()
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
        claims=Claims(),
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
