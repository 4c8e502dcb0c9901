"""Whatever code of the app's raises, only the call that it was for fails: behaviour 34."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers_actors import Neighbour
from helpers_agents import raising, raising_async
from helpers_pools import WAIT_S, echo, pool_of
from loguru import logger

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PoolError,
    Request,
    StrategyError,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import Event, ProbeFailed
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


class OwnBaseError(BaseException):
    """What an agent may have made up itself."""


class Thing:
    """An agent for `apply` alone."""


DEADLY: list[type[BaseException]] = [
    asyncio.CancelledError,
    SystemExit,
    GeneratorExit,
    KeyboardInterrupt,
    OwnBaseError,
]
deadly = pytest.mark.parametrize("error", DEADLY, ids=[each.__name__ for each in DEADLY])


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
    with pool_of(Member("only", Thing()), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.apply(make(error), timeout=WAIT_S)
        assert pool.apply(lambda agent: type(agent).__name__, timeout=WAIT_S) == "Thing"


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
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        answer = pool.ask(Request("hello"), block=False)
        gate.wait_for_calls()
        answer.add_done_callback(raising(error))
        gate.release()
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
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("bad", raising(ValueError)), Member("good", gate, priority=1)) as pool:
        future = pool.ask(Request("hello"), block=False)
        gate.wait_for_calls()
        sink = logger.add(raising(OSError("disk full")), level="DEBUG", catch=False)
        try:
            gate.release()
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
