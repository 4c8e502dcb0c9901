"""Settings and members that change while their pool is at work."""

from __future__ import annotations

import asyncio
from collections import Counter
from queue import SimpleQueue
from typing import Any

import pytest
from helpers_actors import crash, member_ref
from helpers_log import logged
from helpers_pools import WAIT_S, ask, chunks, echo, echo_async, pool_of

from greenroom import (
    AgentHealth,
    AllPoolMembersFailedError,
    CircuitState,
    Configure,
    Member,
    MemberExistsError,
    PoolRef,
    RemoveMember,
    Request,
    SkipReason,
    UnknownMemberError,
)
from greenroom.events import (
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    MemberStarted,
    MemberStopped,
    PoolConfigured,
)
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent


def configure(pool: PoolRef, **what: Any) -> Any:
    """Send one that may do all that it can."""
    return pool.ask(Configure(**what), timeout=WAIT_S)


# What waits, and what runs


def test_more_calls_at_a_time_let_those_that_wait_in_at_once() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        futures = [ask(pool, number) for number in range(4)]
        gate.wait_for_calls()
        said = pool.configure(members={"a": {"max_concurrency": 3}})
        assert said == ("a: max_concurrency None -> 3",)
        gate.wait_for_calls(3)
        assert (pool.stats()["a"].in_flight, pool.stats().pending) == (3, 1)
        gate.release()
        assert [future.get(timeout=WAIT_S).value for future in futures] == [0, 1, 2, 3]


def test_fewer_calls_at_a_time_let_nobody_in_until_there_are_so_few() -> None:
    """What runs goes on."""
    gates = [ScriptedAgent.hanging(echo) for _ in range(5)]

    def agent(payload: int) -> Any:
        return gates[payload](payload)

    with pool_of(Member("a", agent, max_concurrency=3)) as pool:
        futures = [ask(pool, number) for number in range(5)]
        for number in range(3):
            gates[number].wait_for_calls()
        pool.configure(members={"a": {"max_concurrency": 1}})
        gates[0].release()
        gates[1].release()
        assert [future.get(timeout=WAIT_S).value for future in futures[:2]] == [0, 1]
        stats = pool.stats()
        assert (stats["a"].in_flight, stats["a"].max_concurrency, stats.pending) == (1, 1, 2)
        for number in (2, 3, 4):
            assert sum(len(gate.calls) for gate in gates) == number + 1
            gates[number].release()
            assert futures[number].get(timeout=WAIT_S).value == number
            if number < 4:
                gates[number + 1].wait_for_calls()


@pytest.mark.parametrize(("agent", "default"), [(echo, 1), (echo_async, 100)])
def test_none_is_again_what_the_agent_has_by_itself(agent: Any, default: int) -> None:
    """Be it an agent that its factory has made already."""

    async def make() -> Any:
        return agent

    members = [Member("ready", agent, max_concurrency=7), Member("lazy", factory=make)]
    with pool_of(*members) as pool:
        pool.force_open("ready")
        pool.execute("x", timeout=WAIT_S)
        pool.configure(members={"lazy": {"max_concurrency": 7}})
        assert pool.stats()["lazy"].max_concurrency == 7
        pool.configure(
            members={"lazy": {"max_concurrency": None}, "ready": {"max_concurrency": None}}
        )
        stats = pool.stats()
        assert (stats["ready"].max_concurrency, stats["lazy"].max_concurrency) == (default, default)


def test_a_member_that_is_restarted_is_what_it_was_configured_to_be(log: EventRecorder) -> None:
    clock = FakeClock()
    with pool_of(Member("a", echo), clock=clock) as pool:
        pool.configure(members={"a": {"max_concurrency": 4}}, restart_backoff_s=0.5)
        crash(member_ref(pool, "a"))
        assert log.wait_for(MemberFailed).restart_in_s == 0.5
        clock.advance(0.5)
        log.wait_for(MemberRestarted)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        stats = pool.stats()["a"]
        assert (stats.incarnation, stats.max_concurrency) == (2, 4)


def test_another_time_limit_holds_for_attempts_that_begin_from_then_on() -> None:
    clock, gate = FakeClock(), ScriptedAgent.hanging(echo)
    member = Member("a", gate, max_concurrency=2)
    with pool_of(member, clock=clock, request_timeout_s=10.0, max_retries=0) as pool:
        before = ask(pool, "before")
        gate.wait_for_calls()
        assert pool.configure(request_timeout_s=2.0) == ("request_timeout_s 10.0 -> 2.0",)
        after = ask(pool, "after")
        gate.wait_for_calls(2)
        clock.advance(2.0)
        with pytest.raises(AllPoolMembersFailedError, match="request_timeout_s=2"):
            after.get(timeout=WAIT_S)
        assert not before.done()
        gate.release()
        assert before.get(timeout=WAIT_S).value == "before"


def test_a_stream_goes_on_as_it_began() -> None:
    with pool_of(Member("a", chunks)) as pool, pool.stream(Request("x")) as stream:
        pool.configure(chunk_timeout_s=1.0, first_chunk_timeout_s=1.0)
        assert stream.collect() == ["x"]


# Whom the strategy picks


def test_other_weights_and_priorities_reach_the_strategy() -> None:
    members = [Member("a", lambda _: "a"), Member("b", lambda _: "b", priority=1)]
    with pool_of(*members) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "a"
        pool.configure(members={"b": {"priority": -1}})
        assert pool.execute("x", timeout=WAIT_S) == "b"
        assert pool.stats()["b"].priority == -1
    with pool_of(*members, strategy="weighted") as pool:
        pool.configure(members={"b": {"weight": 3.0}})
        taken = Counter(pool.execute("x", timeout=WAIT_S) for _ in range(40))
        assert taken == {"a": 10, "b": 30}


# Breakers, health and probes


def test_another_threshold_holds_for_the_next_outcome() -> None:
    with pool_of(Member("a", ScriptedAgent.failing(99)), max_retries=0) as pool:
        for _ in range(2):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
        pool.configure(circuit_failure_threshold=3)
        assert pool.stats()["a"].circuit is CircuitState.CLOSED
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x", timeout=WAIT_S)
        assert pool.stats()["a"].circuit is CircuitState.OPEN


def test_health_is_called_by_the_new_rates_at_once() -> None:
    agent = ScriptedAgent([ConnectionError("no"), "x", "x", "x", "x"])
    with pool_of(Member("a", agent), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x", timeout=WAIT_S)
        for _ in range(4):
            pool.execute("x", timeout=WAIT_S)
        assert pool.stats()["a"].status == "healthy"
        pool.configure(degraded_error_rate_threshold=0.2)
        health: AgentHealth = pool.stats()["a"].health
        assert (health.status, health.error_rate) == ("degraded", 0.2)


def test_probes_come_by_a_shorter_interval_at_once() -> None:
    clock, probe = FakeClock(), ScriptedAgent([True])
    member = Member("a", echo, probe=lambda agent: probe("probe"))
    with pool_of(member, clock=clock, health_check_interval_s=10_000.0) as pool:
        pool.configure(health_check_interval_s=1.0)
        clock.advance(1.1)
        probe.wait_for_calls()


# Members that come, go, and are replaced


def test_a_member_that_is_replaced_finishes_what_it_has_and_who_waits_gets_the_next_one() -> None:
    """Nobody waits in vain, though there is nobody else; the place in the order is the same."""
    gate, closed = ScriptedAgent.hanging(echo), list[Any]()
    members = [Member("a", gate, close=closed.append), Member("b", echo, priority=1)]
    with pool_of(*members) as pool:
        pool.force_open("b")
        futures = [ask(pool, number) for number in range(3)]
        gate.wait_for_calls()
        said = configure(pool, replace=[Member("a", lambda payload: ("new", payload))])
        assert said == ("a replaced",)
        late = ask(pool, "late")
        assert (pool.stats().pending, closed) == (3, [])
        gate.release()
        assert [future.get(timeout=WAIT_S).value for future in futures] == [
            0,
            ("new", 1),
            ("new", 2),
        ]
        assert late.get(timeout=WAIT_S).value == ("new", "late")
        assert closed == [gate]
        stats = pool.stats()
        assert [each.name for each in stats.members] == ["a", "b"]
        assert stats["a"].incarnation == 2
        assert len(gate.calls) == 1


def test_what_the_old_one_has_done_does_not_count_for_the_new_one() -> None:
    agent = ScriptedAgent(["well", ConnectionError("no")])
    with pool_of(Member("a", agent), max_retries=0) as pool:
        pool.execute("x", timeout=WAIT_S)
        for _ in range(5):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
        assert pool.stats()["a"].circuit is CircuitState.OPEN
        configure(pool, replace=[Member("a", echo)])
        assert pool.execute("x", timeout=WAIT_S) == "x"
        stats = pool.stats()["a"]
        assert (stats.circuit, stats.failures, stats.successes) == (CircuitState.CLOSED, 0, 1)


def test_a_member_that_is_to_be_replaced_may_be_another_one_still_or_leave_for_good(
    log: EventRecorder,
) -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), Member("b", echo, priority=1)) as pool:
        running = ask(pool)
        gate.wait_for_calls()
        configure(pool, replace=[Member("a", lambda _: "second")])
        configure(pool, replace=[Member("a", lambda _: "third")])
        pool.configure(members={"a": {"weight": 5.0}})
        with pytest.raises(MemberExistsError):
            pool.add_member(Member("a", echo))
        gate.release()
        assert running.get(timeout=WAIT_S).value == "x"
        log.wait_for(MemberStarted, "a", count=2)
        assert pool.execute("x", timeout=WAIT_S) == "third"
        assert pool.stats()["a"].weight == 5.0
        gate = ScriptedAgent.hanging(echo)
        configure(pool, replace=[Member("a", gate)])
        log.wait_for(MemberStarted, "a", count=3)
        running = ask(pool)
        gate.wait_for_calls()
        configure(pool, replace=[Member("a", lambda _: "fifth")])
        removed = pool.ask(RemoveMember("a"), block=False)
        pool.stats()
        gate.release()
        removed.get(timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["b"]


@pytest.mark.parametrize("how", ["replaced again", "removed", "stopped"])
def test_a_successor_that_never_gets_in_is_closed(how: str, log: EventRecorder) -> None:
    """Once, and nobody else is; what its actor says is not taken for another one's."""
    closed: SimpleQueue[str] = SimpleQueue()
    gate = ScriptedAgent.hanging(echo)

    def member(tag: str, agent: Any) -> Member:
        return Member("a", agent, close=lambda _: closed.put(tag))

    shared = ScriptedAgent(["x"])
    with pool_of(member("first", gate), Member("b", echo, priority=1)) as pool:
        running = ask(pool)
        gate.wait_for_calls()
        configure(pool, replace=[member("not closed", shared)])
        configure(pool, replace=[member("second", shared)])
        if how == "replaced again":
            configure(pool, replace=[member("third", echo)])
        elif how == "removed":
            configure(pool, remove=["a"])
        if how != "stopped":
            assert closed.get(timeout=WAIT_S) == "second"
            gate.release()
            assert running.get(timeout=WAIT_S).value == "x"
            assert closed.get(timeout=WAIT_S) == "first"
            log.wait_for(MemberStopped, "a")
    gate.release()
    left = [closed.get() for _ in range(closed.qsize())]
    ends = {"replaced again": ["third"], "removed": [], "stopped": ["first", "second"]}
    assert sorted(left) == ends[how]
    assert not log.named(MemberFailed)


def test_all_members_can_be_others_at_once_and_nothing_is_lost() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), Member("b", gate)) as pool:
        futures = [ask(pool, number) for number in range(8)]
        gate.wait_for_calls(2)
        said = configure(pool, add=[Member("c", echo), Member("d", echo)], remove=["a", "b"])
        assert said == ("c added", "d added", "a removed", "b removed")
        assert [future.get(timeout=WAIT_S).value for future in futures[2:]] == list(range(2, 8))
        gate.release()
        assert [future.get(timeout=WAIT_S).value for future in futures[:2]] == [0, 1]


def test_a_member_that_is_given_up_is_replaced_at_once(log: EventRecorder) -> None:
    with pool_of(Member("a", echo), restart_intensity=0) as pool:
        crash(member_ref(pool, "a"))
        log.wait_for(MemberGaveUp)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert caught.value.errors[0].kind is SkipReason.GAVE_UP
        configure(pool, replace=[Member("a", lambda _: "new")])
        assert pool.execute("x", timeout=WAIT_S) == "new"


def test_members_that_are_left_alone_keep_all_they_have() -> None:
    with pool_of(Member("a", echo), Member("b", echo)) as pool:
        pool.execute("x", timeout=WAIT_S)
        pool.force_open("a")
        before = [member_ref(pool, name).actor_urn for name in ("a", "b")]
        configure(pool, settings={"max_retries": 0}, add=[Member("c", echo)])
        stats = pool.stats()
        assert (stats["a"].circuit, stats["a"].successes) == (CircuitState.FORCED_OPEN, 1)
        assert [member_ref(pool, name).actor_urn for name in ("a", "b")] == before


def test_an_agent_that_waits_for_its_own_pool_is_told_where_only_its_successor_could_answer() -> (
    None
):
    pools: list[PoolRef] = []

    def agent(payload: Any) -> Any:
        configure(pools[0], replace=[Member("a", echo)])
        try:
            return pools[0].execute("inner", timeout=WAIT_S)
        except Exception as error:
            return type(error).__name__

    with pool_of(Member("a", agent, max_concurrency=5)) as pool:
        pools.append(pool)
        assert pool.execute("outer", timeout=WAIT_S) == "ReentrantAskError"
        assert pool.execute("outer", timeout=WAIT_S) == "outer"


# What is refused changes nothing


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ({"members": {"x": {"weight": 2}}}, UnknownMemberError, "'x'"),
        ({"remove": ["x"]}, UnknownMemberError, "'x'"),
        ({"replace": [Member("x", echo)]}, UnknownMemberError, "'x'"),
        ({"add": [Member("a", echo)]}, MemberExistsError, "'a'"),
        ({"members": {"a": {"weight": 0}, "b": {"weight": 0}}}, ValueError, "0 for all"),
        ({"remove": ["b"], "members": {"a": {"weight": 0}}}, ValueError, "0 for all"),
        ({"settings": {"circuit_slow_rate": 0.5}}, ValueError, "must be given together"),
        ({"settings": {"retry_delay_s": 31.0}}, ValueError, "retry_max_delay_s must be at least"),
    ],
    ids=str,
)
def test_what_is_refused_changes_nothing_at_all(
    what: dict[str, Any], kind: type[Exception], said: str
) -> None:
    changes = {"settings": {"max_retries": 0}, "members": {}, **what}
    changes["settings"] = {"max_retries": 0, **changes["settings"]}
    if "a" not in changes["members"] and not what.get("add"):
        changes["members"] = {"a": {"priority": 9}, **changes["members"]}
    with pool_of(Member("a", echo), Member("b", echo), max_retries=2) as pool:
        before = repr(pool.stats())
        with pytest.raises(kind, match=said):
            configure(pool, **changes)
        assert repr(pool.stats()) == before
        assert pool.configure(max_retries=1) == ("max_retries 2 -> 1",)


def test_a_pool_cannot_become_its_own_member_by_a_configure() -> None:
    with (
        pool_of(Member("a", echo)) as pool,
        pytest.raises(ValueError, match="agent must not be the pool itself"),
    ):
        configure(pool, replace=[Member("a", pool)])


# What is told of it


def test_it_is_one_line_in_the_log_without_what_may_be_secret() -> None:
    secret = {"key": "sk-secret"}
    with logged() as lines, pool_of(Member("a", echo), Member("b", echo)) as pool:
        configure(
            pool,
            settings={"hedge_after_s": "p95"},
            members={"a": {"weight": 2.0, "metadata": secret}},
            add=[Member("c", echo)],
            remove=["b"],
        )
        assert pool.stats()["a"].metadata == secret
    (line,) = [each for each in lines() if "pool.configured" in each]
    assert line.endswith(
        "hedge_after_s None -> 'p95'; a: weight 1.0 -> 2.0; a: metadata; c added; b removed"
    )
    assert "INFO" in line
    assert "secret" not in "".join(lines())


def test_what_is_so_already_is_no_change(log: EventRecorder) -> None:
    with pool_of(Member("a", echo)) as pool:
        assert pool.configure(max_retries=3, members={"a": {"weight": 1.0}}) == ()
    (event,) = log.named(PoolConfigured)
    assert event.describe() == "pool configured: everything was so already"


def test_it_can_be_told_and_awaited(log: EventRecorder) -> None:
    async def main(pool: PoolRef) -> tuple[str, ...]:
        return await pool.aconfigure(max_retries=0, members={"a": {"weight": 2.0}})

    with pool_of(Member("a", echo), event_loop="own") as pool:
        assert asyncio.run(main(pool)) == ("max_retries 3 -> 0", "a: weight 1.0 -> 2.0")
        pool.tell(Configure(settings={"request_timeout_s": 1.0}))
        log.wait_for(PoolConfigured, count=2)
        assert pool.configure(request_timeout_s=1.0) == ()


def test_who_is_replaced_is_told_of_as_any_member(log: EventRecorder) -> None:
    with pool_of(Member("a", echo)) as pool:
        log.clear()
        configure(pool, replace=[Member("a", echo)])
        log.wait_for(MemberStopped)
        pool.stats()
        names = ["member.draining", "pool.configured", "member.stopped", "member.started"]
        assert log.names()[:4] == names
