"""Sync calls that never end: their threads are given up, counted, and limited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers_pools import WAIT_S

from greenroom import AgentPool, AttemptTimeoutError, Member, PoolConfig, PoolRef, Request
from greenroom.actors.member.executions import ABANDONED_LIMIT
from greenroom.messages import (
    AllPoolMembersFailedError,
    CircuitState,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
)
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

TIMEOUT_S = 1.0


@pytest.fixture
def agent() -> Iterator[ScriptedAgent]:
    """An agent that hangs until the test is over."""
    hanging = ScriptedAgent.hanging()
    yield hanging
    hanging.release()


def hang_once(pool: PoolRef, agent: ScriptedAgent, clock: FakeClock, times: int) -> None:
    """One request that times out."""
    future = pool.ask(Request("x", max_retries=0), block=False)
    agent.wait_for_calls(times)
    clock.advance(TIMEOUT_S)
    with pytest.raises(AllPoolMembersFailedError) as failed:
        future.get(timeout=WAIT_S)
    assert isinstance(failed.value.errors[0].error, AttemptTimeoutError)


def test_a_member_with_too_many_abandoned_calls_is_replaced(
    agent: ScriptedAgent, greenroom_events: EventRecorder
) -> None:
    """Threads cannot be killed: the supervisor replaces the member, and in the end gives it up."""
    clock = FakeClock()
    config = PoolConfig(
        request_timeout_s=TIMEOUT_S,
        circuit_failure_threshold=1000,
        circuit_min_calls=1000,
        circuit_window=1000,
        restart_intensity=1,
        restart_period_s=1000.0,
    )
    with AgentPool.start([Member("a", agent)], config=config, clock=clock) as pool:
        for times in range(1, ABANDONED_LIMIT):
            hang_once(pool, agent, clock, times)
        assert pool.stats()["a"].abandoned == ABANDONED_LIMIT - 1
        assert pool.stats()["a"].incarnation == 1
        hang_once(pool, agent, clock, ABANDONED_LIMIT)
        ended = greenroom_events.wait_for(MemberFailed, member="a")
        assert ended.error == f"{ABANDONED_LIMIT} calls were given up on and have not ended"
        clock.advance(1.0)
        greenroom_events.wait_for("member.restarted", member="a")
        stats = pool.stats()["a"]
        assert (stats.incarnation, stats.abandoned, stats.in_flight) == (2, 0, 0)
        for times in range(ABANDONED_LIMIT + 1, 2 * ABANDONED_LIMIT + 1):
            hang_once(pool, agent, clock, times)
        greenroom_events.wait_for("member.gave_up", member="a")
        assert pool.stats()["a"].circuit is CircuitState.CLOSED
        with pytest.raises(AllPoolMembersFailedError, match="gave_up"):
            pool.execute("x", timeout=WAIT_S)


def test_the_pool_goes_on_while_a_member_is_replaced(
    agent: ScriptedAgent, greenroom_events: EventRecorder
) -> None:
    """Its neighbour answers all the time and keeps its incarnation; each event names the member and
    says why, and the replacement serves the next request.
    """
    clock = FakeClock()
    config = PoolConfig(
        request_timeout_s=TIMEOUT_S,
        circuit_failure_threshold=1000,
        circuit_min_calls=1000,
        circuit_window=1000,
        restart_backoff_s=5.0,
    )
    members = [Member("a", agent), Member("b", lambda payload: "b", priority=1)]
    with AgentPool.start(members, strategy="priority", config=config, clock=clock) as pool:
        for times in range(1, ABANDONED_LIMIT + 1):
            hang_once(pool, agent, clock, times)
            pool.stats()  # until a failure has been judged, its member is passed over
        why = f"{ABANDONED_LIMIT} calls were given up on and have not ended"
        ended = greenroom_events.wait_for(MemberFailed)
        assert (ended.member, ended.error, ended.restart_in_s) == ("a", why, 5.0)
        assert f"member terminated: {why}" in ended.describe()
        assert pool.execute("x", timeout=WAIT_S) == "b"
        assert pool.stats().available == ("b",)
        clock.advance(5.0)
        assert greenroom_events.wait_for(MemberRestarted).member == "a"
        assert [each.incarnation for each in pool.stats().members] == [2, 1]
        agent.release()
        assert pool.execute("x", timeout=WAIT_S) == "value"
        assert not greenroom_events.named(MemberGaveUp)
