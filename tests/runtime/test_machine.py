"""The machine has no thread or no descriptor left: every ask is answered, every slot comes back, no
breaker is blamed, and the pool serves again as soon as there is one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest
from helpers_actors import member_ref
from helpers_machine import REFUSED, Machine, tree_of
from helpers_pools import WAIT_S, async_chunks, chunks, echo, echo_async, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    CallContext,
    CircuitState,
    FailureKind,
    Member,
    PoolConfig,
    PoolRef,
    Request,
    ResourceError,
    StreamInterruptedError,
)
from greenroom.actors.executors.call import PlainCall
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.messages import MemberCreateFailed, PoolStarted, PoolStopped, ProbeFailed
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

QUIET: dict[str, Any] = {"retry_delay_s": 0.0, "request_timeout_s": None}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def lazily(payload: Any) -> Any:
    """A sync function that answers with a coroutine."""
    return echo_async(payload)


def at_rest(pool: PoolRef, *names: str) -> None:
    """Every slot is back, and no breaker has counted anything."""
    stats = pool.stats()
    assert (stats.in_flight, stats.pending) == (0, 0)
    for name in names or [each.name for each in stats.members]:
        member = stats[name]
        assert (member.in_flight, member.failures) == (0, 0), name
        assert member.health.circuit is CircuitState.CLOSED
        assert member.available


def refused(error: AllPoolMembersFailedError, member: str, kind: FailureKind) -> ResourceError:
    """What became of that member: it has not begun for want of something."""
    attempt = next(each for each in error.errors if each.member == member)
    assert (attempt.kind, attempt.started) == (kind, False)
    assert isinstance(attempt.error, ResourceError)
    assert not attempt.error.started
    return attempt.error


AGENTS = pytest.mark.parametrize("agent", [echo, echo_async])
WANTING = pytest.mark.parametrize(
    ("agent", "lacks"),
    [
        (echo, {"threads": True}),
        (echo_async, {"threads": True}),
        (echo_async, {"descriptors": True}),
    ],
)


@WANTING
def test_an_ask_that_cannot_begin_is_answered_and_the_next_one_works(
    agent: Callable[..., Any], lacks: dict[str, bool], machine: Machine
) -> None:
    """It fails with what the system said, unavailable and not started; nothing needs a reset."""
    with pool_of(Member("a", agent, max_concurrency=2), **QUIET) as pool:
        with machine.without(**lacks):
            for _ in range(20):
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    pool.execute("x", timeout=WAIT_S, max_retries=0)
                assert not caught.value.started
                error = refused(caught.value, "a", FailureKind.UNAVAILABLE)
                assert isinstance(error.__cause__, RuntimeError | OSError)
            at_rest(pool)
        assert [pool.execute(i, timeout=WAIT_S) for i in range(5)] == list(range(5))
        at_rest(pool)


@WANTING
def test_a_healthy_second_member_is_tried(
    agent: Callable[..., Any], lacks: dict[str, bool], machine: Machine
) -> None:
    """Whoever has what it needs answers in place of the one that has not."""
    members = [Member("a", agent, max_concurrency=4), Member("b", echo, priority=1)]
    with pool_of(*members, **QUIET) as pool:
        pool.force_open("a")
        assert pool.execute("warm", timeout=WAIT_S) == "warm"  # b has its thread
        pool.reset_member("a")
        with machine.without(**lacks):
            for i in range(20):
                reply = pool.ask(Request(i, idempotent=False), timeout=WAIT_S)
                assert (reply.value, reply.member, reply.attempts) == (i, "b", 2)
        at_rest(pool)
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "a"


@pytest.mark.parametrize("agent", [chunks, async_chunks, echo, echo_async])
def test_a_stream_that_cannot_begin_says_so(agent: Callable[..., Any], machine: Machine) -> None:
    """The same for an answer in chunks, by `for` and by `async for`."""

    async def read(pool: PoolRef) -> list[Any]:
        return [chunk async for chunk in pool.stream(Request("x"), timeout=WAIT_S)]

    with pool_of(Member("a", agent), max_retries=0, **QUIET) as pool:
        with machine.without(threads=True):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                list(pool.stream(Request("x"), timeout=WAIT_S))
            refused(caught.value, "a", FailureKind.UNAVAILABLE)
            with pytest.raises(AllPoolMembersFailedError):
                asyncio.run(read(pool))
            at_rest(pool)
        assert list(pool.stream(Request("x"), timeout=WAIT_S)) == ["x"]
        assert asyncio.run(read(pool)) == ["x"]
        at_rest(pool)


@AGENTS
def test_tell_and_apply_and_awaits_come_through(
    agent: Callable[..., Any], machine: Machine, greenroom_events: EventRecorder
) -> None:
    """However it is asked: a tell becomes a dead letter, an apply and an await are answered."""

    async def wait(pool: PoolRef) -> Any:
        return await pool.ask(Request("x"), block=False, timeout=WAIT_S)

    with pool_of(Member("a", agent), max_retries=0, **QUIET) as pool:
        with machine.without(threads=True):
            pool.tell(Request("x"))
            with pytest.raises(AllPoolMembersFailedError):
                pool.apply(lambda it: it("x"), timeout=WAIT_S)
            with pytest.raises(AllPoolMembersFailedError):
                pool.apply(echo_async, timeout=WAIT_S)
            with pytest.raises(AllPoolMembersFailedError):
                asyncio.run(wait(pool))
        at_rest(pool)
        assert asyncio.run(wait(pool)).value == "x"


def test_a_request_waits_for_a_thread_as_for_any_retry(machine: Machine) -> None:
    """Its retries go on with backoff: the machine may have a thread by then."""
    clock = FakeClock()
    with pool_of(Member("a", echo), clock=clock, retry_delay_s=1.0) as pool:
        with machine.without(threads=True):
            future = pool.ask(Request("x"), block=False)
            pool.stats()
            assert machine.refused == 1
        for _ in range(40):
            clock.advance(0.25)
            pool.stats()
        reply = future.get(timeout=WAIT_S)
        assert (reply.value, reply.attempts) == ("x", 2)
        at_rest(pool)


def test_refused_worker_threads_cost_no_concurrency(machine: Machine) -> None:
    """After any number of refusals, beside calls that run and without any, four run at a time."""
    gate = ScriptedAgent.hanging(echo)
    agent = Member("a", lambda payload: gate(payload), max_concurrency=4)
    with pool_of(agent, max_retries=0, **QUIET) as pool:
        with machine.without(threads=True, left=1):
            first = pool.ask(Request("first"), block=False)
            gate.wait_for_calls()
            for _ in range(7):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.execute("x", timeout=WAIT_S)
            assert pool.stats()["a"].in_flight == 1
        gate.release()
        assert first.get(timeout=WAIT_S).value == "first"
        for _ in range(3):  # the threads that are there are found idle, none too few, none too many
            gate = ScriptedAgent.hanging(echo)
            futures = [pool.ask(Request(i), block=False) for i in range(4)]
            gate.wait_for_calls(4)
            gate.release()
            assert [each.get(timeout=WAIT_S).value for each in futures] == [0, 1, 2, 3]
        at_rest(pool)


def test_a_refused_thread_leaves_nothing_in_the_place(machine: Machine) -> None:
    """The call has ended, with its payload; no thread that comes later finds it."""
    place = ThreadExecutor("greenroom-test", SYSTEM_CLOCK)
    ended: list[Any] = []
    done = threading.Event()

    def finish(call: Any, value: Any, error: BaseException | None) -> None:
        ended.append(error if error is not None else value)
        if value == "done":
            done.set()

    with machine.without(threads=True):
        for _ in range(3):
            PlainCall("call", place, lambda _: "late", finish).launch()
    assert [type(each) for each in ended] == [ResourceError] * 3
    assert REFUSED in str(ended[0])
    PlainCall("call", place, lambda _: "done", finish).launch()
    assert done.wait(WAIT_S)
    assert ended[3:] == ["done"]
    place.close()
    place.join(WAIT_S)


def test_a_sync_agent_that_answers_with_a_coroutine_has_no_loop(machine: Machine) -> None:
    """It has begun, so nothing says that it has not; its breaker is not blamed all the same."""
    with pool_of(Member("a", lazily), max_retries=0, **QUIET) as pool:
        with machine.without(descriptors=True):
            for _ in range(10):
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    pool.execute("x", timeout=WAIT_S)
                [attempt] = caught.value.errors
                assert (attempt.kind, attempt.started) == (FailureKind.INTERRUPTED, True)
                assert isinstance(attempt.error, ResourceError)
        stats = pool.stats()["a"]
        assert (stats.in_flight, stats.health.circuit) == (0, CircuitState.CLOSED)
        assert pool.execute("x", timeout=WAIT_S) == "x"


@AGENTS
def test_a_factory_that_was_not_even_asked_is_no_failed_creation(
    agent: Callable[..., Any], machine: Machine, greenroom_events: EventRecorder
) -> None:
    """The waiting requests are refused, unavailable; the factory is asked again by the next one."""
    made = []

    def factory() -> Any:
        made.append(1)
        return agent

    async def afactory() -> Any:
        return factory()

    for each in (factory, afactory):
        made.clear()
        with pool_of(Member("a", factory=each), max_retries=0, **QUIET) as pool:
            with machine.without(threads=True):
                for _ in range(3):
                    with pytest.raises(AllPoolMembersFailedError) as caught:
                        pool.execute("x", timeout=WAIT_S)
                    refused(caught.value, "a", FailureKind.UNAVAILABLE)
                at_rest(pool)
            assert made == []
            assert pool.execute("x", timeout=WAIT_S) == "x"
            assert made == [1]
    assert greenroom_events.named(MemberCreateFailed) == []


def test_a_probe_without_a_thread_says_nothing(
    machine: Machine, greenroom_events: EventRecorder
) -> None:
    """It is skipped: neither the health nor the breaker of its member hears of it."""
    clock = FakeClock()
    asked = threading.Semaphore(0)
    member = Member("a", echo, probe=lambda _: asked.release())
    with pool_of(member, clock=clock, health_check_interval_s=1.0) as pool:
        with machine.without(threads=True):
            for _ in range(20):
                clock.advance(1.0)
                pool.stats()
            assert machine.refused > 5
        at_rest(pool)
        while not asked.acquire(blocking=False):
            clock.advance(1.0)
            pool.stats()
    assert greenroom_events.named(ProbeFailed) == []


def test_a_pool_in_a_pool_passes_it_on(machine: Machine) -> None:
    """The outer breaker is not blamed either; the request may go to another pool."""
    with (
        pool_of(Member("in", echo_async), name="inner", max_retries=0, **QUIET) as inner,
        pool_of(Member("spare", echo_async), name="spare", **QUIET) as spare,
        pool_of(
            Member("a", inner, max_concurrency=9), Member("b", spare, priority=1), **QUIET
        ) as outer,
    ):
        spare.execute("warm", timeout=WAIT_S)
        outer.force_open("a")
        assert outer.execute("warm", timeout=WAIT_S) == "warm"
        outer.reset_member("a")
        with machine.without(threads=True):
            for i in range(10):
                reply = outer.ask(Request(i, idempotent=False), timeout=WAIT_S)
                assert (reply.value, reply.member) == (i, "b")
                [attempt] = reply.errors
                assert attempt.error is not None
                assert isinstance(tree_of(attempt.error)[-1], ResourceError)
        at_rest(inner)
        assert outer.stats()["a"].health.circuit is CircuitState.CLOSED
        assert outer.ask(Request("x"), timeout=WAIT_S).member == "a"


def test_a_trial_that_cannot_begin_gives_its_permit_back(machine: Machine) -> None:
    """A half-open breaker stays half-open, and the next request is its trial."""
    clock = FakeClock()
    fails = [True]

    async def agent(payload: Any) -> Any:
        if fails[0]:
            raise ConnectionError
        return payload

    config: dict[str, Any] = {
        "circuit_failure_threshold": 1,
        "circuit_success_threshold": 1,
        "max_retries": 0,
        "loop_check_interval_s": 1e6,
    }
    isolated = Member("a", agent, isolated=True)
    with pool_of(isolated, clock=clock, **config) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x", timeout=WAIT_S)
        fails[0] = False
        _break_loop(pool, "a")
        clock.advance(100.0)
        with machine.without(descriptors=True):
            for _ in range(3):
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    pool.execute("x", timeout=WAIT_S)
                refused(caught.value, "a", FailureKind.UNAVAILABLE)
        assert pool.stats()["a"].health.circuit is CircuitState.HALF_OPEN
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stats()["a"].health.circuit is CircuitState.CLOSED


def _break_loop(pool: PoolRef, name: str) -> None:
    """Have the member begin on a loop that has not been started yet."""
    actor = member_ref(pool, name)._actor
    thread = actor.host._loop_thread
    fresh = LoopThread(thread.name, new_loop=asyncio.new_event_loop)
    thread.close()
    actor.host.move_to(fresh)


# -- start and stop


@pytest.mark.parametrize("left", [0, 1])
def test_a_start_that_fails_half_way_leaves_nothing(
    left: int, machine: Machine, greenroom_events: EventRecorder
) -> None:
    """No thread, no registered actor; the agents are the caller's still, and may be used again."""
    before = set(threading.enumerate()), set(pykka.ActorRegistry.get_all())
    closed: list[Any] = []
    members = [
        Member("a", echo, close=lambda _: closed.append("a")),
        Member("b", echo_async),
        Member("c", factory=lambda: echo),
    ]
    with machine.without(threads=True, left=left), pytest.raises(ResourceError) as caught:
        AgentPool.start(members, name="half")
    assert REFUSED in str(caught.value)
    assert "half" in str(caught.value)
    for thread in set(threading.enumerate()) - before[0]:
        thread.join(WAIT_S)
    # Those of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= before[0]
    assert set(pykka.ActorRegistry.get_all()) <= before[1]
    assert closed == []
    assert len(greenroom_events.named(PoolStarted)) == len(greenroom_events.named(PoolStopped)) == 1
    with AgentPool.start(members, name="half") as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert closed == ["a"]


class Untouchable:
    """An agent that raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


def test_a_start_that_an_agent_makes_fail_leaves_nothing() -> None:
    """The same where it is the look at a member that raises."""
    before = set(threading.enumerate()), set(pykka.ActorRegistry.get_all())
    members = [Member("a", echo), Member("b", echo)]
    odd = Member("c", echo)
    object.__setattr__(odd, "agent", Untouchable())
    with pytest.raises(BaseException):  # noqa: B017 - whatever the agent raises
        AgentPool.start([*members, odd])
    for thread in set(threading.enumerate()) - before[0]:
        thread.join(WAIT_S)
    # Those of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= before[0]
    assert set(pykka.ActorRegistry.get_all()) <= before[1]


@AGENTS
def test_a_pool_stops_without_a_thread_to_be_had(
    agent: Callable[..., Any], machine: Machine
) -> None:
    """A stop needs none: neither for clean-up, nor for a loop that was never started."""
    gate = ScriptedAgent.hanging(echo)
    members = [Member("a", agent), Member("b", gate, priority=1), Member("c", agent, isolated=True)]
    pool = AgentPool.start(members, config=PoolConfig(max_retries=0))
    pool.force_open("a")
    pool.force_open("c")
    running = pool.ask(Request("x"), block=False)
    gate.wait_for_calls()
    with machine.without(threads=True, descriptors=True):
        assert pool.stop(timeout=WAIT_S)
        assert machine.refused <= 1  # the one that would have waited for the call in a thread
    gate.release()
    with pytest.raises(Exception, match="stopped"):
        running.get(timeout=WAIT_S)


def test_who_subscribes_without_a_thread_is_told(machine: Machine) -> None:
    """The next try works."""
    seen = threading.Event()
    with pool_of(Member("a", echo)) as pool:
        with machine.without(threads=True), pytest.raises(RuntimeError, match=REFUSED):
            pool.on_event(print)
        pool.on_event(lambda _: seen.set())
        pool.force_open("a")
        assert seen.wait(WAIT_S)


# -- what raises on the way


def test_what_raises_on_the_way_to_the_report_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a step between the agent's end and the asker raises: it fails, the slot is back."""
    from greenroom.actors.member import executions

    def broken(*_: Any) -> Any:
        raise KeyError("a fault of greenroom's own")

    class Odd:
        """Not surely good: it is looked at."""

    for agent in (echo, echo_async):
        with pool_of(Member("a", agent, max_concurrency=2), max_retries=0, **QUIET) as pool:
            with monkeypatch.context() as patch:
                patch.setattr(executions, "outcome_of", broken)
                for _ in range(4):
                    with pytest.raises(StreamInterruptedError, match="KeyError"):
                        list(pool.stream(Request("x"), timeout=WAIT_S))
                pool.reset_all()
                for _ in range(4):
                    with pytest.raises(AllPoolMembersFailedError, match="KeyError"):
                        pool.ask(Request(Odd(), request_id="r"), timeout=WAIT_S)
                    assert pool.stats().in_flight == 0
                    pool.reset_all()
            assert pool.execute("x", timeout=WAIT_S) == "x"


def test_what_raises_in_the_router_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the handling of a report or of a request: its asker is told, the slot is back."""
    from greenroom.actors.request.attempt_events import AttemptEvents
    from greenroom.actors.request.outcome_reporter import OutcomeReporter

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("a fault of greenroom's own")

    def fail(payload: Any) -> Any:
        raise ConnectionError(payload)

    def call(context: CallContext, payload: Any) -> Any:
        context.started_side_effects()
        return fail(payload)

    for target, name in (
        (AttemptEvents, "failed"),
        (OutcomeReporter, "failed"),
        (AttemptEvents, "started"),
    ):
        for agent in (fail, call):
            with pool_of(Member("a", agent, max_concurrency=2), max_retries=1, **QUIET) as pool:
                pool.on_event(lambda _: None)  # somebody listens: nothing of it is left out
                with monkeypatch.context() as patch:
                    patch.setattr(target, name, broken)
                    for _ in range(5):
                        with pytest.raises(Exception, match=r"KeyError|greenroom's own"):
                            pool.execute("x", timeout=WAIT_S)
                        with pytest.raises(Exception, match=r"KeyError|greenroom's own"):
                            list(pool.stream(Request("x"), timeout=WAIT_S))
                        stats = pool.stats()
                        assert (stats.in_flight, stats.pending) == (0, 0)
                pool.reset_all()
                with pytest.raises(AllPoolMembersFailedError, match="ConnectionError"):
                    pool.execute("x", timeout=WAIT_S)
