"""Crashes, restarts, factories and probes on real pools: behaviours 34, 35, 36 and 38."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers_supervision import (
    KILLS,
    WAIT_S,
    Gate,
    Neighbour,
    crash,
    greenroom_threads,
    join_all,
    member_ref,
    pool_of,
    router_ref,
    stop,
    supervisor_ref,
)
from loguru import logger

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    CircuitState,
    Drain,
    FailureKind,
    Member,
    MemberCrashedError,
    PoolError,
    PoolStoppedError,
    RemoveMember,
    Request,
    SkipReason,
    StrategyError,
)
from greenroom.actors.eventbus import observe
from greenroom.messages import (
    AttemptSucceeded,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    DeadLetter,
    Event,
    MemberCreateFailed,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    ProbeFailed,
    ProbeSucceeded,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


class OwnBaseError(BaseException):
    """What an agent may have made up itself."""


DEADLY: list[type[BaseException]] = [
    asyncio.CancelledError,
    SystemExit,
    GeneratorExit,
    KeyboardInterrupt,
    OwnBaseError,
]
deadly = pytest.mark.parametrize("error", DEADLY, ids=[each.__name__ for each in DEADLY])


def raising(error: Any) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def raising_async(error: Any) -> Callable[..., Any]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.fixture
def neighbours() -> Iterator[None]:
    """An actor of the app's own and another pool, both alive before and after."""
    own = Neighbour.start()
    other = AgentPool.start([Member("other", lambda payload: payload)], name="other")
    try:
        yield
        assert own.ask("still here", timeout=WAIT_S) == "still here"
        assert other.execute("still here", timeout=WAIT_S) == "still here"
    finally:
        own.stop(timeout=WAIT_S)
        other.stop(timeout=WAIT_S)


# -- 34: what an agent raises ends its call, and nothing else


@deadly
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b34_an_agent_that_raises_a_base_exception_fails_only_its_call(
    error: type[BaseException], kind: str, neighbours: None
) -> None:
    """A member's agent raises CancelledError, SystemExit, GeneratorExit, KeyboardInterrupt: only
    that call fails; every other actor in the process, the app's own included, lives.
    """
    script = [error, "fine"]
    bad = ScriptedAgent(script) if kind == "sync" else AsyncScriptedAgent(script)
    members = [Member("bad", bad), Member("good", lambda payload: payload, priority=1)]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("hello"), timeout=WAIT_S)
        assert (reply.value, reply.member) == ("hello", "good")
        (failed,) = reply.errors
        assert failed.member == "bad"
        # A cancellation that nobody asked for is that of a client that was closed under the call.
        closed = error is asyncio.CancelledError
        assert failed.kind is (FailureKind.UNAVAILABLE if closed else FailureKind.CRASHED)
        assert isinstance(failed.error, error)
        pool.stats()  # the supervisor has judged the failure: the member is eligible again
        assert pool.execute("again", timeout=WAIT_S) == "fine"
        assert [each.incarnation for each in pool.stats().members] == [1, 1]


@deadly
@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_the_asker_gets_an_ordinary_exception(
    error: type[BaseException], make: Callable[[Any], Any], neighbours: None
) -> None:
    with pool_of(Member("only", make(error)), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("hello"), timeout=WAIT_S)
        assert isinstance(caught.value.__cause__, error)


@deadly
def test_b34_even_when_it_is_passed_on_as_the_callers_fault(
    error: type[BaseException], neighbours: None
) -> None:
    """An agent's SystemExit is not thrown at the caller, whatever `classify` makes of it."""
    with (
        pool_of(Member("only", raising(error)), classify=lambda _: FailureKind.CALLER) as pool,
        pytest.raises(PoolError) as caught,
    ):
        pool.ask(Request("hello"), timeout=WAIT_S)
    assert isinstance(caught.value.__cause__, error)


@deadly
@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_a_function_applied_to_an_agent(
    error: type[BaseException], make: Callable[[Any], Any], neighbours: None
) -> None:
    with pool_of(Member("only", object()), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.apply(make(error), timeout=WAIT_S)
        assert pool.apply(lambda agent: type(agent).__name__, timeout=WAIT_S) == "object"


@deadly
@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_a_factory(
    error: type[BaseException], make: Callable[[Any], Any], neighbours: None
) -> None:
    members = [
        Member("bad", factory=make(error)),
        Member("good", lambda payload: payload, priority=1),
    ]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("hello"), timeout=WAIT_S)
        assert reply.member == "good"
        assert reply.errors[0].kind is FailureKind.CREATE_FAILED
        assert isinstance(reply.errors[0].error, error)


@deadly
@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_a_probe(
    error: type[BaseException],
    make: Callable[[Any], Any],
    neighbours: None,
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    with pool_of(Member("a", lambda payload: payload, probe=make(error)), clock=clock) as pool:
        pool.stats()
        clock.advance(30)
        failed = greenroom_events.wait_for(ProbeFailed)
        assert error.__name__ in failed.error
        assert pool.execute("hello", timeout=WAIT_S) == "hello"


@deadly
@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_a_close_hook(
    error: type[BaseException], make: Callable[[Any], Any], neighbours: None
) -> None:
    closed: list[Any] = []
    members = [
        Member("bad", lambda payload: payload, close=make(error)),
        Member("good", lambda payload: payload, close=closed.append),
    ]
    with pool_of(*members) as pool:
        pool.remove_member("bad", timeout=WAIT_S)
        pool.add_member(members[0], timeout=WAIT_S)
    assert len(closed) == 1


@deadly
def test_b34_classify(error: type[BaseException], neighbours: None) -> None:
    with pool_of(
        Member("bad", raising(ValueError)),
        Member("good", lambda payload: payload, priority=1),
        classify=raising(error),
    ) as pool:
        assert pool.ask(Request("hello"), timeout=WAIT_S).member == "good"


@deadly
def test_b34_is_failure(error: type[BaseException], neighbours: None) -> None:
    with pool_of(
        Member("a", lambda payload: payload), is_failure=raising(error), max_retries=0
    ) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("hello"), timeout=WAIT_S)
        assert isinstance(caught.value.__cause__, error)
        assert pool.stats().in_flight == 0


@deadly
def test_b34_a_subscriber(error: type[BaseException], neighbours: None) -> None:
    got: list[Event] = []
    end = observe(raising(error))
    try:
        with pool_of(Member("a", lambda payload: payload)) as pool:
            pool.on_event(raising(error))
            pool.on_event(got.append)
            assert pool.execute("hello", timeout=WAIT_S) == "hello"
    finally:
        end()
    assert "request.completed" in {event.name for event in got}


def test_b34_a_subscribed_actor_that_dies(neighbours: None) -> None:
    """A dead subscriber is forgotten, one whose `tell` raises is only complained of."""

    class Raising:
        def tell(self, message: Any) -> None:
            raise SystemExit

    dead = Neighbour.start()
    with pool_of(Member("a", lambda payload: payload)) as pool:
        pool.on_event(dead)
        dead.stop(timeout=WAIT_S)
        raising_subscriber: Any = Raising()
        pool.on_event(raising_subscriber)
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        assert pool.stats().completed == 1


@deadly
def test_b34_a_done_callback(error: type[BaseException], neighbours: None) -> None:
    """It runs in a thread of the pool, which must not die of it."""
    gate = Gate()
    with pool_of(Member("a", gate)) as pool:
        answer = pool.ask(Request("hello"), block=False)
        gate.wait_for()
        answer.add_done_callback(raising(error))
        gate.open()
        assert answer.get(timeout=WAIT_S).value == "hello"
        assert pool.execute("again", timeout=WAIT_S) == "again"
        assert pool.stats().completed == 2


class Mischief:
    """A strategy of a user's own whose hooks raise."""

    def __init__(self, hook: str, error: type[BaseException]) -> None:
        self.hook = hook
        self.error = error

    def _maybe(self, hook: str) -> None:
        if hook == self.hook:
            raise self.error

    def pick(self, candidates: Any, context: Any, rng: random.Random) -> Any:
        self._maybe("pick")
        return candidates[0]

    def record(self, name: str, succeeded: bool) -> None:
        self._maybe("record")

    def members_changed(self, names: Any) -> None:
        self._maybe("members_changed")


@deadly
def test_b34_a_strategy_that_raises_while_it_picks(
    error: type[BaseException], neighbours: None
) -> None:
    strategy = Mischief("pick", error)
    with pool_of(Member("a", lambda payload: payload), strategy=strategy) as pool:
        with pytest.raises(StrategyError) as caught:
            pool.execute("hello", timeout=WAIT_S)
        assert isinstance(caught.value.__cause__, error)
        strategy.hook = "none"
        assert pool.execute("hello", timeout=WAIT_S) == "hello"


@deadly
@pytest.mark.parametrize("hook", ["record", "members_changed"])
def test_b34_a_strategy_whose_hooks_raise(
    error: type[BaseException], hook: str, neighbours: None
) -> None:
    """What it raises while it is only told something costs no request its answer."""
    members = [Member("bad", raising(ValueError)), Member("good", lambda payload: payload)]
    with pool_of(*members, strategy=Mischief(hook, error)) as pool:
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        pool.add_member(Member("new", lambda payload: payload), timeout=WAIT_S)
        pool.remove_member("bad", timeout=WAIT_S)
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        stats = pool.stats()
        assert (stats.completed, stats.in_flight, stats.pending) == (2, 0, 0)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("awaited", [True, False])
def test_b34_a_subtask_that_exits_leaves_the_loop_to_the_others(
    error: type[BaseException], awaited: bool, neighbours: None
) -> None:
    """A subtask's SystemExit leaves `run_forever`: the loop thread goes on all the same."""
    neighbour = AsyncScriptedAgent.hanging("unharmed")
    raised = threading.Event()

    async def parent(payload: Any) -> Any:
        async def child() -> None:
            raised.set()
            raise error

        task = asyncio.create_task(child())
        if awaited:
            await task
        else:
            await asyncio.wait([task])
            assert type(task.exception()) is error
        return payload

    members = [Member("parent", parent), Member("neighbour", neighbour, priority=1)]
    with pool_of(*members, max_retries=0) as pool:
        pool.force_open("parent")
        running = pool.ask(Request("x"), block=False)
        neighbour.wait_for_calls()
        pool.reset_member("parent")
        if awaited:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.execute("hello", timeout=WAIT_S)
            assert isinstance(caught.value.__cause__, error)
        else:
            assert pool.execute("hello", timeout=WAIT_S) == "hello"
        assert raised.is_set()
        neighbour.release()
        assert running.get(timeout=WAIT_S).value == "unharmed"
    gc.collect()


def test_b34_an_agent_that_stops_its_loop_stops_nobody_else(neighbours: None) -> None:
    async def vandal(payload: Any) -> Any:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return payload

    with pool_of(Member("vandal", vandal)) as pool:
        assert pool.execute("one", timeout=WAIT_S) == "one"
        assert pool.execute("two", timeout=WAIT_S) == "two"


def test_b34_an_agent_that_cancels_every_task_of_its_loop(neighbours: None) -> None:
    """Its neighbours' calls fail like any other, and are tried elsewhere."""
    victim = AsyncScriptedAgent.hanging()

    async def vandal(payload: Any) -> Any:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return payload

    members = [
        Member("victim", victim),
        Member("vandal", vandal, priority=1),
        Member("backup", lambda payload: "backup", priority=2),
    ]
    with pool_of(*members) as pool:
        running = pool.ask(Request("x"), block=False)
        victim.wait_for_calls()
        pool.force_open("victim")
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        reply = running.get(timeout=WAIT_S)
        assert reply.errors[0].kind is FailureKind.UNAVAILABLE


class Prickly(Exception):
    """Raises whenever somebody looks at it."""

    def __str__(self) -> str:
        raise OwnBaseError

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise OwnBaseError


@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_an_error_that_raises_when_it_is_looked_at(
    make: Callable[[Any], Any], neighbours: None
) -> None:
    members = [
        Member("bad", make(Prickly())),
        Member("good", lambda payload: payload, priority=1),
    ]
    with pool_of(*members) as pool:
        pool.on_event(raising(Prickly()))
        assert pool.ask(Request("hello"), timeout=WAIT_S).member == "good"
        assert pool.stats().completed == 1


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The log switched on, as an app does it; what it shows, line by line."""
    lines: list[str] = []
    logger.enable("greenroom")
    sink = logger.add(lambda message: lines.append(str(message)), level="DEBUG")
    try:
        yield lines
    finally:
        logger.remove(sink)
        logger.disable("greenroom")


@pytest.mark.parametrize("make", [raising, raising_async])
def test_b34_an_error_that_raises_when_it_is_logged(
    make: Callable[[Any], Any], neighbours: None, logged: list[str]
) -> None:
    """With the log switched on it is looked at even more closely."""
    members = [
        Member("bad", make(Prickly()), close=raising(Prickly()), probe=raising(Prickly())),
        Member("good", lambda payload: payload, priority=1),
    ]
    with pool_of(*members, strategy=Mischief("record", Prickly)) as pool:
        pool.on_event(raising(Prickly()))
        future = pool.ask(Request("hello"), block=False)
        future.add_done_callback(raising(Prickly()))
        assert future.get(timeout=WAIT_S).member == "good"
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        assert pool.stats().completed == 2
    assert any("Prickly" in line for line in logged)


def test_b34_a_log_sink_that_raises(neighbours: None, logged: list[str]) -> None:
    """Even one whose errors loguru was told not to catch costs no request its answer."""
    gate = Gate()
    with pool_of(Member("bad", raising(ValueError)), Member("good", gate, priority=1)) as pool:
        future = pool.ask(Request("hello"), block=False)
        gate.wait_for()
        sink = logger.add(raising(OSError("disk full")), level="DEBUG", catch=False)
        try:
            gate.open()
            assert future.get(timeout=WAIT_S).value == "hello"
            assert pool.execute("again", timeout=WAIT_S) == "again"
            assert pool.stats().completed == 2
        finally:
            logger.remove(sink)


class Booby:
    """An agent that raises when it is looked at more closely."""

    def __call__(self, payload: Any) -> Any:
        return payload

    @property
    def arun(self) -> Any:
        raise SystemExit

    @property
    def aclose(self) -> Any:
        raise RuntimeError("no such client")


@pytest.mark.parametrize("how", ["agent", "factory"])
def test_b34_an_agent_whose_attributes_raise(how: str, neighbours: None) -> None:
    booby = Member("booby", Booby()) if how == "agent" else Member("booby", factory=Booby)
    with pool_of(booby, Member("good", lambda payload: payload, priority=1)) as pool:
        assert pool.execute("hello", timeout=WAIT_S) == "hello"
        assert pool.stats().completed == 1


# -- 35: member actors die and come back


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b35_a_dead_member_restarts_and_its_running_request_goes_elsewhere(
    kill: Callable[[Any], None], kind: str, greenroom_events: EventRecorder
) -> None:
    """A member actor that dies restarts with a new incarnation; the one that ran is retried
    elsewhere.
    """
    clock = FakeClock()
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging("late")
    members = [Member("a", agent), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        kill(member_ref(pool, "a"))
        reply = future.get(timeout=WAIT_S)
        assert reply.member == "b"
        (failed,) = reply.errors
        assert failed.kind is FailureKind.CRASHED
        assert isinstance(failed.error, MemberCrashedError)
        assert greenroom_events.wait_for(MemberFailed, "a").restart_in_s == pytest.approx(0.1)
        assert "a" not in pool.stats().available

        clock.advance(0.1)
        assert greenroom_events.wait_for(MemberRestarted, "a").incarnation == 2
        agent.release()
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "a"
        stats = pool.stats()
        assert [each.incarnation for each in stats.members] == [2, 1]
        assert (stats.completed, stats.in_flight, stats.pending) == (2, 0, 0)


def test_b35_a_sync_call_that_outlives_its_member_ends_as_a_dead_letter(
    greenroom_events: EventRecorder,
) -> None:
    agent = ScriptedAgent.hanging("late")
    members = [Member("a", agent), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=FakeClock()) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        crash(member_ref(pool, "a"))
        assert future.get(timeout=WAIT_S).member == "b"
        agent.release()
        assert greenroom_events.wait_for(DeadLetter).member == "a"
        stats = pool.stats()
        assert (stats.completed, stats.in_flight) == (1, 0)


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_a_request_that_is_not_idempotent_fails_with_its_member(
    kill: Callable[[Any], None],
) -> None:
    agent, backup = ScriptedAgent.hanging(), ScriptedAgent(["never"])
    members = [Member("a", agent), Member("b", backup, priority=1)]
    with pool_of(*members, clock=FakeClock()) as pool:
        future = pool.ask(Request("x", idempotent=False), block=False)
        agent.wait_for_calls()
        kill(member_ref(pool, "a"))
        with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
            future.get(timeout=WAIT_S)
        assert isinstance(caught.value.__cause__, MemberCrashedError)
        assert backup.calls == []
        agent.release()


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b35_requests_that_wait_for_the_only_member_survive_its_crash(
    kill: Callable[[Any], None], kind: str, greenroom_events: EventRecorder
) -> None:
    """Requests waiting for it survive."""
    clock = FakeClock()
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging("answer")
    with pool_of(Member("a", agent, max_concurrency=1), clock=clock) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(6)]
        agent.wait_for_calls()
        assert pool.stats().pending == 5
        kill(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        assert pool.stats().pending == 6
        agent.release()
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(0.1)  # the one that ran is tried again after its backoff
        assert [future.get(timeout=WAIT_S).value for future in futures] == ["answer"] * 6


def test_b35_requests_that_come_while_the_only_member_restarts_wait_for_it(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    with pool_of(Member("a", lambda payload: payload), clock=clock) as pool:
        pool.execute("warm", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        future = pool.ask(Request("hello"), block=False)
        assert pool.stats().pending == 1
        clock.advance(0.1)
        assert future.get(timeout=WAIT_S).value == "hello"


def test_b35_who_waits_for_a_restart_keeps_its_deadline(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    with pool_of(Member("a", lambda payload: payload), clock=clock, restart_backoff_s=20.0) as pool:
        pool.execute("warm", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        future = pool.ask(Request("hello", timeout_s=5), block=False)
        pool.stats()
        clock.advance(5)
        with pytest.raises(TimeoutError):
            future.get(timeout=WAIT_S)


def test_b35_who_waits_for_a_member_that_is_given_up_is_told_so(
    greenroom_events: EventRecorder,
) -> None:
    agent = ScriptedAgent.hanging()
    with pool_of(Member("a", agent), clock=FakeClock(), restart_intensity=0) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(3)]
        agent.wait_for_calls()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberGaveUp)
        for future in futures[1:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [each.kind for each in caught.value.errors] == [SkipReason.GAVE_UP]
        agent.release()


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_siblings_keep_their_state_and_their_running_work(
    kill: Callable[[Any], None], greenroom_events: EventRecorder
) -> None:
    """Siblings keep state and running work."""
    clock = FakeClock()
    counter = itertools.count(1)
    made: list[str] = []
    in_thread, on_loop = ScriptedAgent.hanging("thread"), AsyncScriptedAgent.hanging("loop")

    def factory() -> Any:
        made.append("stateful")
        return lambda payload: next(counter)

    members = [
        Member("victim", lambda payload: "victim"),
        Member("thread", in_thread),
        Member("loop", on_loop, max_concurrency=1),
        Member("stateful", factory=factory),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(4)]
        in_thread.wait_for_calls()
        on_loop.wait_for_calls()
        assert futures[3].get(timeout=WAIT_S).value == 1
        kill(member_ref(pool, "victim"))
        greenroom_events.wait_for(MemberFailed)
        assert pool.execute("x", timeout=WAIT_S) == 2
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        stats = pool.stats()
        assert [each.incarnation for each in stats.members] == [2, 1, 1, 1]
        assert stats.in_flight == 2
        in_thread.release()
        on_loop.release()
        assert futures[1].get(timeout=WAIT_S).value == "thread"
        assert futures[2].get(timeout=WAIT_S).value == "loop"
        assert made == ["stateful"]


def test_b35_the_second_crash_within_the_period_gives_the_member_up(
    greenroom_events: EventRecorder,
) -> None:
    """intensity=1, period=5 s: the second crash within 5 s gives up."""
    clock = FakeClock()
    members = [Member("a", lambda payload: "a"), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=clock, restart_intensity=1, restart_period_s=5.0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "a"
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(4.8)
        crash(member_ref(pool, "a"))
        gave_up = greenroom_events.wait_for(MemberGaveUp)
        assert gave_up.severity() == "CRITICAL"
        assert (gave_up.member, gave_up.restarts, gave_up.period_s) == ("a", 1, 5.0)
        assert greenroom_events.named(MemberFailed)[-1].restart_in_s is None
        clock.advance(1000)
        pool.stats()
        assert len(greenroom_events.named(MemberRestarted)) == 1
        assert pool.execute("x", timeout=WAIT_S) == "b"
        assert pool.stats().available == ("b",)

        pool.reset_member("a")
        assert pool.execute("x", timeout=WAIT_S) == "a"
        assert pool.stats()["a"].incarnation == 3
        crash(member_ref(pool, "a"))  # the reset has cleared the window too
        greenroom_events.wait_for(MemberFailed, count=3)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted, count=3)


def test_b35_slower_crashes_go_on(greenroom_events: EventRecorder) -> None:
    """intensity=1, period=5 s: slower ones go on."""
    clock = FakeClock()
    with pool_of(
        Member("a", lambda payload: payload),
        clock=clock,
        restart_intensity=1,
        restart_period_s=5.0,
    ) as pool:
        for round_ in range(1, 6):
            assert pool.execute(round_, timeout=WAIT_S) == round_
            crash(member_ref(pool, "a"))
            assert greenroom_events.wait_for(MemberFailed, count=round_).restart_in_s is not None
            clock.advance(6.0)
            greenroom_events.wait_for(MemberRestarted, count=round_)
        assert not greenroom_events.named(MemberGaveUp)
        assert pool.stats()["a"].incarnation == 6


def test_b35_the_wait_before_a_restart_doubles_until_the_member_works(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    delays: list[float | None] = []
    with pool_of(Member("a", lambda payload: payload), clock=clock, restart_intensity=9) as pool:
        pool.stats()
        for round_ in range(1, 5):
            if round_ == 4:
                pool.execute("works", timeout=WAIT_S)
                pool.stats()
            crash(member_ref(pool, "a"))
            delay_s = greenroom_events.wait_for(MemberFailed, count=round_).restart_in_s
            delays.append(delay_s)
            assert delay_s is not None
            clock.advance(delay_s)
            greenroom_events.wait_for(MemberRestarted, count=round_)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.1])


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_a_member_that_dies_while_it_is_removed_is_gone(
    kill: Callable[[Any], None],
) -> None:
    agent = ScriptedAgent.hanging()
    with pool_of(
        Member("a", agent), Member("b", lambda payload: "b", priority=1), clock=FakeClock()
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        removed = pool.ask(RemoveMember("a"), block=False)
        pool.stats()
        kill(member_ref(pool, "a"))
        removed.get(timeout=WAIT_S)
        assert future.get(timeout=WAIT_S).member == "b"
        assert [each.name for each in pool.stats().members] == ["b"]
        agent.release()


def test_b35_a_member_that_dies_while_its_agent_is_made_leaves_no_agent_behind(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    gate = Gate()
    closed = Gate()
    closed.open()
    members = [
        Member("lazy", factory=lambda: gate(lambda payload: "lazy"), close=closed),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for()
        crash(member_ref(pool, "lazy"))
        assert future.get(timeout=WAIT_S).member == "b"
        gate.open()
        closed.wait_for()
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "lazy"


def test_b35_a_member_that_dies_during_its_probe_is_probed_again(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    gate = Gate()
    with pool_of(Member("a", lambda payload: payload, probe=gate), clock=clock) as pool:
        pool.stats()
        clock.advance(30)
        gate.wait_for()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        gate.open()
        pool.stats()
        clock.advance(33)
        gate.wait_for()
        greenroom_events.wait_for(ProbeSucceeded)


@pytest.mark.parametrize("victim", ["supervisor", "router"])
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_nobody_hangs_when_the_supervisor_or_the_router_dies(
    victim: str, kill: Callable[[Any], None]
) -> None:
    """Pending asks get a PoolStoppedError, and every thread ends."""
    before = greenroom_threads()
    hang, hang_async = ScriptedAgent.hanging(), AsyncScriptedAgent.hanging()
    closed = threading.Event()
    members = [
        Member("sync", hang, close=lambda _: closed.set()),
        Member("async", hang_async, max_concurrency=1),
        Member("isolated", AsyncScriptedAgent.hanging(), isolated=True, max_concurrency=1),
    ]
    with pool_of(*members, strategy="round_robin") as pool:
        pool.on_event(lambda event: None)
        futures = [pool.ask(Request(i), block=False) for i in range(9)]
        hang.wait_for_calls()
        hang_async.wait_for_calls()
        drained = pool.ask(Drain(), block=False)
        threads = greenroom_threads() - before
        kill(supervisor_ref(pool) if victim == "supervisor" else router_ref(pool))
        for future in futures:
            with pytest.raises(PoolStoppedError):
                future.get(timeout=WAIT_S)
        assert drained.get(timeout=WAIT_S) is False
        pool.stop(timeout=WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.stats()
        assert closed.wait(WAIT_S)
        hang.release()
        hang_async.wait_for_cancelled()
        join_all(threads)


def test_b35_requests_after_the_supervisors_death_are_refused() -> None:
    with pool_of(Member("a", lambda payload: payload)) as pool:
        pool.execute("x", timeout=WAIT_S)
        stop(supervisor_ref(pool))
        pool.join(WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.execute("x", timeout=WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.tell(Request("x"))
        with pytest.raises(PoolStoppedError):
            pool.add_member(Member("b", lambda payload: payload))


# -- 36: factories


def test_b36_a_factory_that_fails_is_retried_with_backoff(greenroom_events: EventRecorder) -> None:
    """A factory that fails is retried with backoff; the pool works meanwhile on the others."""
    clock = FakeClock()
    tries = itertools.count(1)

    def factory() -> Any:
        if next(tries) <= 2:
            raise ConnectionError("not yet")
        return lambda payload: "lazy"

    members = [
        Member("lazy", factory=factory),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members, clock=clock, restart_backoff_s=0.5) as pool:
        for attempt, delay_s in enumerate([0.5, 1.0], start=1):
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert reply.member == "ready"
            assert reply.errors[0].kind is FailureKind.CREATE_FAILED
            failed = greenroom_events.wait_for(MemberCreateFailed, count=attempt)
            assert failed.retry_in_s == delay_s
            assert "not yet" in failed.error
            pool.stats()
            clock.advance(delay_s / 2)
            for _ in range(3):  # left alone meanwhile
                assert pool.ask(Request("x"), timeout=WAIT_S).errors == ()
            clock.advance(delay_s / 2)
            pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        stats = pool.stats()["lazy"]
        assert (stats.circuit, stats.failures, stats.incarnation) == (CircuitState.CLOSED, 0, 1)
        assert len(greenroom_events.named(MemberCreateFailed)) == 2


def test_b36_requests_to_a_pool_of_one_are_told_when_to_come_back(
    greenroom_events: EventRecorder,
) -> None:
    """While the factory is left alone, a request fails at once and says so."""
    clock = FakeClock()
    with pool_of(
        Member("lazy", factory=raising(ConnectionError)),
        clock=clock,
        restart_backoff_s=8.0,
        max_retries=0,
    ) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [FailureKind.CREATE_FAILED]
        greenroom_events.wait_for(MemberCreateFailed)
        pool.stats()
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [SkipReason.STARTING]
        assert caught.value.retry_after_s == 8.0


def test_b36_a_request_may_wait_for_the_factorys_next_try(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    agent = ScriptedAgent(["made"])
    factory = ScriptedAgent([ConnectionError, lambda _: agent])
    with pool_of(
        Member("lazy", factory=lambda: factory("create")),
        clock=clock,
        restart_backoff_s=8.0,
        when_unavailable="wait",
        retry_delay_s=0.0,
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        greenroom_events.wait_for(MemberCreateFailed)
        pool.stats()
        clock.advance(8)
        assert future.get(timeout=WAIT_S).value == "made"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b36_a_factory_that_hangs_costs_a_request_its_attempt_timeout(kind: str) -> None:
    """What it makes after all, when nobody waits for it any more, is closed."""
    clock = FakeClock()
    factory: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging(
        then=lambda _: lambda payload: "lazy"
    )
    closed = Gate()
    closed.open()

    def make() -> Any:
        return factory("create")

    async def make_async() -> Any:
        return await factory("create")

    members = [
        Member("lazy", factory=make if kind == "sync" else make_async, close=closed),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members, clock=clock, request_timeout_s=1.0) as pool:
        future = pool.ask(Request("x"), block=False)
        factory.wait_for_calls()
        clock.advance(1)
        reply = future.get(timeout=WAIT_S)
        assert reply.member == "ready"
        assert reply.errors[0].kind is FailureKind.TIMEOUT
        factory.release()
        closed.wait_for()
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"  # made anew


def test_b36_callers_in_a_hurry_share_the_agent_that_is_being_made() -> None:
    """A request that leaves early takes no agent with it: the next one finds it made."""
    clock = FakeClock()
    factory = ScriptedAgent.hanging(then=lambda _: lambda payload: "lazy")
    with pool_of(Member("lazy", factory=lambda: factory("create")), clock=clock) as pool:
        for _ in range(5):
            future = pool.ask(Request("x"), block=False)
            factory.wait_for_calls()
            future.cancel()
            pool.stats()
        factory.release()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        assert len(factory.calls) == 1


@pytest.mark.parametrize("nothing", [lambda: None, raising_async(None)], ids=["None", "raise None"])
def test_b36_a_factory_that_returns_nothing_has_failed(nothing: Any) -> None:
    members = [
        Member("lazy", factory=nothing),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert reply.errors[0].kind is FailureKind.CREATE_FAILED
        assert isinstance(reply.errors[0].error, TypeError)


def test_b36_a_factory_that_makes_what_cannot_run_fails_its_calls() -> None:
    members = [
        Member("lazy", factory=object),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert reply.member == "ready"
        assert "arun" in str(reply.errors[0].error)


class Client:
    """An agent that notes who closed it, and where it was made, called and closed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def arun(self, payload: Any) -> Any:
        return payload


class SyncClose(Client):
    def close(self) -> None:
        self.log.append("close")


class AsyncClose(Client):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.log.append("aclose")


class BothCloses(SyncClose, AsyncClose):
    pass


CLOSES: dict[str, tuple[Callable[[list[str]], dict[str, Any]], list[str]]] = {
    "close of what a factory made": (lambda log: {"factory": lambda: SyncClose(log)}, ["close"]),
    "its aclose": (lambda log: {"factory": lambda: AsyncClose(log)}, ["aclose"]),
    "aclose rather than close": (lambda log: {"factory": lambda: BothCloses(log)}, ["aclose"]),
    "of an async factory": (lambda log: {"factory": _async_factory(log)}, ["aclose"]),
    "the hook rather than either": (
        lambda log: {"factory": lambda: BothCloses(log), "close": lambda _: log.append("hook")},
        ["hook"],
    ),
    "the hook of a ready agent": (
        lambda log: {"agent": BothCloses(log), "close": lambda _: log.append("hook")},
        ["hook"],
    ),
    "nothing of a ready agent": (lambda log: {"agent": BothCloses(log)}, []),
    "nothing where there is none": (lambda log: {"factory": lambda: Client(log)}, []),
}


def _async_factory(log: list[str]) -> Any:
    async def factory() -> AsyncClose:
        return AsyncClose(log)

    return factory


@pytest.mark.parametrize("end", ["stop", "remove"])
@pytest.mark.parametrize(("declared", "expected"), CLOSES.values(), ids=CLOSES)
def test_b36_an_agent_is_closed_exactly_once(
    declared: Callable[[list[str]], dict[str, Any]], expected: list[str], end: str
) -> None:
    log: list[str] = []
    with pool_of(Member("a", **declared(log)), Member("b", lambda payload: payload)) as pool:
        pool.force_open("b")
        pool.execute("x", timeout=WAIT_S)
        if end == "remove":
            pool.remove_member("a", timeout=WAIT_S)
            assert log == expected
    assert log == expected


def test_b36_what_was_never_made_is_never_closed() -> None:
    made: list[str] = []
    log: list[str] = []
    with pool_of(Member("lazy", factory=lambda: made.append("made"), close=log.append)) as pool:
        pool.stats()
    assert (made, log) == ([], [])


def test_b36_async_agents_are_made_called_and_closed_on_their_own_loop() -> None:
    """A client that is bound to a loop sees one loop only; an isolated one sees another."""
    seen: dict[str, set[int]] = {"shared": set(), "also": set(), "isolated": set()}

    def declared(name: str) -> dict[str, Any]:
        def note() -> None:
            seen[name].add(id(asyncio.get_running_loop()))

        class Bound:
            async def arun(self, payload: Any) -> Any:
                note()
                return payload

            async def aclose(self) -> None:
                note()

        async def factory() -> Bound:
            note()
            return Bound()

        async def probe(agent: Any) -> None:
            note()

        return {"factory": factory, "probe": probe}

    clock = FakeClock()
    members = [
        Member("shared", **declared("shared")),
        Member("also", **declared("also")),
        Member("isolated", **declared("isolated"), isolated=True),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool, EventRecorder() as events:
        for i in range(3):
            pool.execute(i, timeout=WAIT_S)
        clock.advance(33)
        events.wait_for(ProbeSucceeded, count=3)
    assert [len(loops) for loops in seen.values()] == [1, 1, 1]
    assert seen["shared"] == seen["also"] != seen["isolated"]


def test_b36_a_close_hook_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` and `remove_member` wait for it a bounded time only."""
    monkeypatch.setattr("greenroom.supervisors.supervisor.MEMBER_STOP_TIMEOUT_S", 0.05)
    gate = Gate()
    with pool_of(Member("a", lambda payload: payload, close=gate)) as pool:
        pool.execute("x", timeout=WAIT_S)
    gate.wait_for()
    gate.open()


def test_b36_a_removal_does_not_wait_for_a_close_hook_that_hangs() -> None:
    clock = FakeClock()
    gate = Gate()
    members = [
        Member("a", lambda payload: payload, close=gate),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        removed = pool.ask(RemoveMember("a"), block=False)
        gate.wait_for()
        assert [each.name for each in pool.stats().members] == ["a", "b"]
        clock.advance(5)
        removed.get(timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["b"]
        gate.open()


# -- 38: probes


def sync_probe(result: Callable[[], Any]) -> Any:
    return lambda agent: result()


def sync_probe_without_argument(result: Callable[[], Any]) -> Any:
    return lambda: result()


def async_probe(result: Callable[[], Any]) -> Any:
    async def probe(agent: Any) -> Any:
        return result()

    return probe


def async_probe_without_argument(result: Callable[[], Any]) -> Any:
    async def probe() -> Any:
        return result()

    return probe


def probe_that_returns_a_coroutine(result: Callable[[], Any]) -> Any:
    async def probe() -> Any:
        return result()

    return lambda agent: probe()


PROBES = [
    sync_probe,
    sync_probe_without_argument,
    async_probe,
    async_probe_without_argument,
    probe_that_returns_a_coroutine,
]


def refuse() -> Any:
    raise ConnectionError("no answer")


@pytest.mark.parametrize("make", PROBES)
@pytest.mark.parametrize("refusal", [refuse, lambda: False], ids=["raises", "returns False"])
def test_b38_a_probe_opens_and_closes_its_members_breaker(
    make: Callable[[Any], Any], refusal: Callable[[], Any], greenroom_events: EventRecorder
) -> None:
    """Probe opens and closes: an open member comes back through its probe with no user request
    lost to it.
    """
    clock = FakeClock()
    result = refusal
    agent = ScriptedAgent(["probed"])
    members = [
        Member("probed", agent, probe=make(lambda: result())),
        Member("other", lambda payload: "other", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        pool.stats()
        for count in range(1, 6):
            clock.advance(33)  # an interval and its jitter
            greenroom_events.wait_for(ProbeFailed, count=count)
            pool.stats()
        opened = greenroom_events.wait_for(BreakerOpened)
        assert "probe" in opened.reason
        assert pool.execute("x", timeout=WAIT_S) == "other"

        assert opened.reopens_in_s is not None
        clock.advance(opened.reopens_in_s)  # the trial is a probe, and it fails
        greenroom_events.wait_for(ProbeFailed, count=6)
        reopened = greenroom_events.wait_for(BreakerOpened, count=2)
        pool.stats()

        result = lambda: "fine"  # noqa: E731
        assert reopened.reopens_in_s is not None
        clock.advance(reopened.reopens_in_s)
        greenroom_events.wait_for(BreakerHalfOpened, count=2)
        greenroom_events.wait_for(BreakerClosed)
        assert len(greenroom_events.named(ProbeSucceeded)) == 2
        pool.stats()
        assert agent.calls == []
        assert pool.execute("x", timeout=WAIT_S) == "probed"


def test_b38_users_never_are_the_trial_of_a_member_with_a_probe(
    greenroom_events: EventRecorder,
) -> None:
    """Failures of users open it, its probe alone closes it: not one request is lost meanwhile."""
    clock = FakeClock()
    probe = ScriptedAgent.hanging("fine")
    agent = ScriptedAgent.failing(5, then="back")
    members = [
        Member("a", agent, probe=probe),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock, health_check_interval_s=1000.0) as pool:
        for _ in range(5):
            assert pool.execute("x", timeout=WAIT_S) == "b"
            pool.stats()
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(30)
        probe.wait_for_calls()
        replies = [pool.ask(Request(i), timeout=WAIT_S) for i in range(20)]
        assert {reply.member for reply in replies} == {"b"}
        assert not any(reply.errors for reply in replies)
        assert len(agent.calls) == 5
        probe.release()
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "back"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b38_a_probe_that_hangs_times_out(kind: str, greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    probe: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging()
    with pool_of(
        Member("a", lambda payload: payload, probe=probe),
        clock=clock,
        health_check_timeout_s=4.0,
        circuit_failure_threshold=1,
    ) as pool:
        pool.stats()
        clock.advance(30)
        probe.wait_for_calls()
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "x"  # it does not take a call's place
        clock.advance(4)
        failed = greenroom_events.wait_for(ProbeFailed)
        assert "health_check_timeout_s=4" in failed.error
        assert failed.elapsed_s == 4.0
        greenroom_events.wait_for(BreakerOpened)
        if kind == "async":
            probe.wait_for_cancelled()
        probe.release()
        clock.advance(30)
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stats()["a"].incarnation == 1


def test_b38_probes_that_hang_do_not_pile_up(greenroom_events: EventRecorder) -> None:
    """One at a time, whatever the interval: the next one waits until this one has had its time."""
    clock = FakeClock()
    gate = Gate()
    with pool_of(
        Member("a", lambda payload: payload, probe=gate),
        clock=clock,
        health_check_interval_s=1.0,
        health_check_timeout_s=50.0,
    ) as pool:
        pool.stats()
        clock.advance(1.5)
        gate.wait_for()
        for _ in range(20):
            clock.advance(2)
            pool.stats()
        assert not greenroom_events.named(ProbeFailed)
        gate.open()
        greenroom_events.wait_for(ProbeSucceeded)


def test_b38_a_lazy_member_is_not_made_for_a_probe_but_for_its_trial(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    made: list[str] = []
    probed: list[Any] = []

    class Lazy:
        def run(self, payload: Any) -> str:
            return "lazy"

    def factory() -> Any:
        made.append("made")
        return Lazy()

    members = [
        Member("lazy", factory=factory, probe=probed.append),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        for _ in range(4):
            clock.advance(33)
            pool.stats()
        assert (made, probed) == ([], [])
        assert not greenroom_events.named(ProbeFailed)

        pool.force_open("lazy")
        pool.reset_member("lazy")
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        clock.advance(33)
        greenroom_events.wait_for(ProbeSucceeded)
        assert [type(agent) for agent in probed] == [Lazy]
        assert made == ["made"]


def test_b38_an_open_lazy_member_is_made_by_its_trial(greenroom_events: EventRecorder) -> None:
    """After a crash there is no agent: the trial makes one, and no user waits for that."""
    clock = FakeClock()
    first = ScriptedAgent.hanging()
    agents = iter([first, ScriptedAgent(["second"])])
    probed = Gate()
    probed.open()
    members = [
        Member("lazy", factory=lambda: next(agents), probe=probed),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock, circuit_failure_threshold=1) as pool:
        future = pool.ask(Request("x"), block=False)
        first.wait_for_calls()
        crash(member_ref(pool, "lazy"))
        assert future.get(timeout=WAIT_S).member == "b"
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(30)
        probed.wait_for()
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "second"
        first.release()


def test_b38_force_open_holds_its_probe_back(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    probe = ScriptedAgent(["fine"])
    with pool_of(Member("a", lambda payload: payload, probe=probe), clock=clock) as pool:
        pool.force_open("a")
        for _ in range(10):
            clock.advance(100)
            pool.stats()
        assert probe.calls == []
        assert pool.stats()["a"].circuit is CircuitState.FORCED_OPEN
        pool.reset_member("a")
        clock.advance(33)
        greenroom_events.wait_for(ProbeSucceeded)


def test_b38_a_member_that_crashes_while_half_open_still_comes_back(
    greenroom_events: EventRecorder,
) -> None:
    """Its breaker, its restart and its probe: whatever the order, there is a way back."""
    clock = FakeClock()
    gate = Gate()
    agent = ScriptedAgent.failing(1, then="back")
    members = [
        Member("a", agent, probe=gate),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(
        *members, clock=clock, circuit_failure_threshold=1, health_check_interval_s=1000.0
    ) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "b"
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(30)
        gate.wait_for()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        gate.open()
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(1100)
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "back"


def test_b38_without_a_probe_a_request_is_the_trial(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    agent = ScriptedAgent.failing(5, then="back")
    with pool_of(
        Member("a", agent), Member("b", lambda payload: "b", priority=1), clock=clock
    ) as pool:
        for _ in range(5):
            assert pool.execute("x", timeout=WAIT_S) == "b"
            pool.stats()
        greenroom_events.wait_for(BreakerOpened)
        assert pool.execute("x", timeout=WAIT_S) == "b"
        clock.advance(30)
        greenroom_events.wait_for(BreakerHalfOpened)
        pool.stats()
        for trials in (1, 2):
            assert pool.execute("x", timeout=WAIT_S) in ("b", "back")  # who is the first to answer
            greenroom_events.wait_for(AttemptSucceeded, member="a", count=trials)
            pool.stats()
        greenroom_events.wait_for(BreakerClosed)
