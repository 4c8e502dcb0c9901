"""Code of the app's in a thread of a pool's own: it may ask, and is told where it would wait for
the very thread that it runs in. Whatever would wait for ever here ends by a limit of the test's.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pykka
import pytest
from helpers_actors import greenroom_threads, member_ref, no_thread_left
from helpers_pools import WAIT_S, echo, echo_async, pool_of
from loguru import logger

from greenroom import (
    AgentPool,
    FallbackChain,
    GetStats,
    Member,
    PoolRef,
    PoolStoppedError,
    ReentrantAskError,
    Request,
)
from greenroom.actors.runtime.mailbox import Mailbox
from greenroom.testing import AsyncScriptedAgent, ScriptedAgent

Act = Callable[[PoolRef], Any]


class There:
    """Does something once, in whatever thread it is called, and keeps what came of it."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.pool: PoolRef | None = None
        self.armed = True
        self.outcome: Any = None
        self.thread = ""
        self._done = threading.Event()

    def __call__(self, *_: Any) -> None:
        if not self.armed or self.pool is None:
            return
        self.armed = False
        self.thread = threading.current_thread().name
        try:
            self.outcome = self.act(self.pool)
        except BaseException as error:
            self.outcome = error
        self._done.set()

    def wait(self) -> Any:
        assert self._done.wait(WAIT_S), "it waits for itself"
        return self.outcome


# -- the threads


@contextmanager
def in_router(there: There) -> Iterator[PoolRef]:
    """A done callback of a request that was cancelled."""

    async def agent(payload: Any) -> Any:
        if payload == "hang":
            await asyncio.get_running_loop().create_future()
        return payload

    with pool_of(Member("a", agent)) as pool:
        there.pool = pool
        future = pool.ask(Request("hang"), block=False)
        future.add_done_callback(there)
        future.cancel()
        yield pool


class Asking:
    """A strategy that takes the first, and does something on its way."""

    name = "asking"

    def __init__(self, there: There) -> None:
        self.there = there

    def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
        self.there()
        return candidates[0] if candidates else None


@contextmanager
def in_strategy(there: There) -> Iterator[PoolRef]:
    """A strategy's choice."""
    with pool_of(Member("a", echo), strategy=Asking(there)) as pool:
        there.pool = pool
        pool.tell(Request("x"))
        yield pool


@contextmanager
def in_lent_turn(there: There) -> Iterator[PoolRef]:
    """A done callback of a request that failed: its worker does the router's work."""

    def fail(payload: Any) -> Any:
        if payload == "fail":
            gate(payload)
            raise RuntimeError("no")
        return payload

    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", fail), max_retries=0) as pool:
        there.pool = pool
        future = pool.ask(Request("fail"), block=False)
        gate.wait_for_calls()
        future.add_done_callback(there)
        pool.stats()  # the router has nothing else to do
        gate.release()
        yield pool


@contextmanager
def in_supervisor(there: There) -> Iterator[PoolRef]:
    """A sink of the log that is told of a breaker."""

    def sink(message: Any) -> None:
        event = message.record["extra"].get("event")
        if event == "breaker.opened":
            there()

    handler = logger.add(sink, level="ERROR")
    logger.enable("greenroom")
    try:
        with pool_of(Member("a", echo), Member("b", echo)) as pool:
            there.pool = pool
            pool.force_open("b")
            yield pool
    finally:
        logger.disable("greenroom")
        logger.remove(handler)


@contextmanager
def in_events(there: There) -> Iterator[PoolRef]:
    """A subscriber."""
    with pool_of(Member("a", echo)) as pool:
        there.pool = pool
        pool.on_event(there)
        pool.tell(Request("x"))
        yield pool


@contextmanager
def in_loop(there: There) -> Iterator[PoolRef]:
    """A done callback of a request that an async agent has answered."""
    with pool_of(Member("a", echo_async)) as pool:
        there.pool = pool
        there.armed = False
        pool.execute("x", timeout=WAIT_S)
        gate = ScriptedAgent.hanging(echo)

        async def answer(payload: Any) -> Any:
            await asyncio.get_running_loop().run_in_executor(None, gate, payload)
            return payload

        pool.add_member(Member("slow", answer, priority=-1))
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        there.armed = True
        future.add_done_callback(there)
        gate.release()
        yield pool


@contextmanager
def in_worker(there: There) -> Iterator[PoolRef]:
    """A done callback of a request that a sync agent has answered: the only one, with one slot."""
    gate = ScriptedAgent.hanging(echo)

    def answer(payload: Any) -> Any:
        return gate(payload) if payload == "slow" else payload

    with pool_of(Member("a", answer)) as pool:
        there.pool = pool
        future = pool.ask(Request("slow"), block=False)
        gate.wait_for_calls()
        future.add_done_callback(there)
        gate.release()
        yield pool


@contextmanager
def in_members_turn(there: There) -> Iterator[PoolRef]:
    """An agent that does something when it is looked at, by its member's actor."""

    class Agent:
        def __getattribute__(self, name: str) -> Any:
            if name == "method":
                there()
            return object.__getattribute__(self, name)

        def method(self, payload: Any) -> Any:
            return payload

    def make() -> Agent:
        assert there.pool is not None
        there.pool.stats()  # the router is not at the member any more
        return Agent()

    with pool_of(Member("a", factory=make, method="method")) as pool:
        there.pool = pool
        pool.tell(Request("x"))
        yield pool


THREADS = {
    "router": in_router,
    "strategy": in_strategy,
    "lent turn": in_lent_turn,
    "supervisor": in_supervisor,
    "events": in_events,
    "loop": in_loop,
    "worker": in_worker,
    "member's turn": in_members_turn,
}

# -- what can be waited for


def gathered(pool: PoolRef) -> Any:
    async def main() -> Any:
        return (await pool.ask(Request("in"), block=False)).value

    return asyncio.run(main())


def first_of(stream: Any) -> str:
    assert stream.first().get() is not None
    return "in"


def added(pool: PoolRef) -> None:
    pool.add_member(Member("new", echo, priority=1))


WORK: dict[str, Act] = {
    "ask": lambda pool: pool.ask(Request("in")).value,
    "ask for a time": lambda pool: pool.ask(Request("in"), timeout=3.0).value,
    "execute": lambda pool: pool.execute("in"),
    "apply": lambda pool: pool.apply(lambda agent: "in"),
    "get": lambda pool: pool.ask(Request("in"), block=False).get().value,
    "get for a time": lambda pool: pool.ask(Request("in"), block=False).get(timeout=3.0).value,
    "map": lambda pool: pool.ask(Request("in"), block=False).map(lambda reply: reply.value).get(),
    "join": lambda pool: next(iter(pool.ask(Request("in"), block=False).join().get())).value,
    "iterate": lambda pool: next(iter(pool.stream(Request("in")))),
    "collect": lambda pool: pool.stream(Request("in")).collect()[0],
    "first": lambda pool: first_of(pool.stream(Request("in"))),
}
COMMANDS: dict[str, Act] = {
    "stats": PoolRef.stats,
    "ask stats": lambda pool: pool.ask(GetStats(), block=False).get(timeout=3.0),
    "can_serve": PoolRef.can_serve,
    "add_member": added,
    "reset_all": PoolRef.reset_all,
    "on_event": lambda pool: pool.on_event(echo),
    "cancel": lambda pool: pool.cancel("no such"),
}
ENDS: dict[str, Act] = {
    "stop": lambda pool: pool.stop(),
    "stop for a time": lambda pool: pool.stop(timeout=3.0),
    "close": lambda pool: pool.close(),
    "block": lambda pool: pool.__exit__(None, None, None),
}

REFUSED = {
    **dict.fromkeys(("router", "strategy", "supervisor"), (WORK, COMMANDS, ENDS)),
    "lent turn": (WORK, COMMANDS, ENDS),
    "loop": (WORK, ENDS),
    "member's turn": (WORK, ENDS),
    "events": (ENDS,),
    "worker": (),
}
FINE = {
    "loop": (COMMANDS,),
    "member's turn": (COMMANDS,),
    "events": (WORK, COMMANDS),
    "worker": (WORK, COMMANDS),
}


def cases(table: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(thread, act, id=f"{thread}-{way}")
        for thread, tables in table.items()
        for each in tables
        for way, act in each.items()
    ]


@pytest.mark.parametrize(("thread", "act"), cases(REFUSED))
def test_who_would_wait_for_its_own_thread_is_told_at_once(thread: str, act: Act) -> None:
    """The error says in which thread, and what to do instead; the pool goes on as if nothing had
    been asked.
    """
    there = There(act)
    with no_thread_left(), THREADS[thread](there) as pool:
        error = there.wait()
        assert isinstance(error, ReentrantAskError), (error, there.thread)
        assert str(error).startswith("pool 'pool' ")
        assert "block=False" in str(error)
        assert not error.started
        assert pool.is_alive()
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"


@pytest.mark.parametrize(("thread", "act"), cases(FINE))
def test_who_waits_for_other_threads_is_served(thread: str, act: Act) -> None:
    """Nothing of what it waits for needs the thread that it runs in."""
    there = There(act)
    with no_thread_left(), THREADS[thread](there) as pool:
        outcome = there.wait()
        assert not isinstance(outcome, BaseException), outcome
        assert outcome == "in" or act not in WORK.values()
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"


@pytest.mark.parametrize("thread", THREADS)
def test_what_does_not_wait_is_allowed_everywhere(thread: str) -> None:
    """A tell, a request that is not waited for, a look at it, its cancellation, a stream left."""
    handed_out: list[Any] = []

    def act(pool: PoolRef) -> str:
        pool.tell(Request("told"))
        handed_out.append(pool.ask(Request("in"), block=False))
        handed_out.append(pool.ask(GetStats(), block=False))
        given_up = pool.ask(Request("given up"), block=False)
        with pytest.raises(pykka.Timeout):
            given_up.get(timeout=0)
        given_up.cancel()
        pool.stream(Request("left")).close()
        return "done"

    there = There(act)
    with no_thread_left(), THREADS[thread](there):
        assert there.wait() == "done"
        assert handed_out[0].get(timeout=WAIT_S).value == "in"
        assert handed_out[1].get(timeout=WAIT_S).name == "pool"


@pytest.mark.parametrize("thread", THREADS)
def test_a_stop_that_is_not_waited_for_is_allowed_everywhere(thread: str) -> None:
    """And so it is said in the error of one that is."""
    there = There(lambda pool: pool.stop(block=False))
    with no_thread_left(), THREADS[thread](there):
        assert there.wait().get(timeout=WAIT_S) is True


def test_a_finalizer_at_any_step_of_a_lent_turn_is_told_that_it_would_wait_for_itself() -> None:
    """The garbage collector may run one between any two: from the first step that takes the turn to
    the last one that gives it back.
    """
    told: list[Any] = []

    def asks_at(place: int) -> None:
        left = place

        def step(frame: FrameType, event: str, _: Any) -> None:
            nonlocal left
            if frame.f_code is not Mailbox._handled.__code__ or not event.startswith("c_"):
                return
            if frame.f_locals["self"] is not pool.actor_inbox:
                return
            left -= 1
            if left == 0:
                with pytest.raises(ReentrantAskError) as error:
                    pool.ask(Request("in"), timeout=WAIT_S)
                told.append(error.value)

        sys.setprofile(step)
        try:
            future = pool.ask(Request("x"), block=False)
        finally:
            sys.setprofile(None)
        assert future.get(timeout=WAIT_S).value == "x"
        pool.stats()  # the router has nothing left to do

    with no_thread_left(), pool_of(Member("a", echo)) as pool, ThreadPoolExecutor(1) as caller:
        for place in range(1, 9):
            caller.submit(asks_at, place).result()
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"
    assert len(told) >= 4  # the turn is taken, something is handled, the turn is given back


@pytest.mark.parametrize("thread", ["router", "strategy", "lent turn", "supervisor"])
def test_a_loop_of_ones_own_in_such_a_thread_waits_no_less(thread: str) -> None:
    """`asyncio.run` in a callback: to await is to wait for itself, too."""
    there = There(gathered)
    with no_thread_left(), THREADS[thread](there) as pool:
        assert isinstance(there.wait(), ReentrantAskError)
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"


def test_a_future_of_a_stop_is_no_detour() -> None:
    """To wait for it is the same wait."""
    there = There(lambda pool: pool.stop(block=False).get(timeout=3.0))
    with no_thread_left(), in_router(there):
        assert isinstance(there.wait(), ReentrantAskError)


@pytest.mark.parametrize("thread", ["router", "lent turn", "supervisor", "loop", "worker"])
def test_another_pool_may_be_waited_for_everywhere(thread: str) -> None:
    """It needs nothing of the thread."""
    with no_thread_left(), pool_of(Member("b", echo), name="other") as other:
        there = There(lambda _: (other.execute("in"), other.stats().name))
        with THREADS[thread](there):
            assert there.wait() == ("in", "other")


@pytest.mark.parametrize("thread", ["router", "lent turn", "supervisor", "loop"])
@pytest.mark.parametrize("kind", ["sync", "async", "stats", "member"])
def test_a_pool_in_between_is_seen_through(thread: str, kind: str) -> None:
    """The other pool's agent asks the one whose thread waits for it: it is told, and so is who
    waits, with the same error.
    """

    def ask(payload: Any) -> Any:
        return there.pool.execute(payload)  # type: ignore[union-attr]

    def ask_stats(payload: Any) -> Any:
        return there.pool.stats().name  # type: ignore[union-attr]

    async def ask_async(payload: Any) -> Any:
        assert there.pool is not None
        return (await there.pool.ask(Request(payload), block=False)).value

    def other_asks(inner: PoolRef) -> Any:
        if kind == "member":
            other.add_member(Member("b", inner))
        return other.execute("in", timeout=WAIT_S)

    agent = {"sync": ask, "stats": ask_stats, "async": ask_async}.get(kind)
    members = () if agent is None else [Member("b", agent)]
    there = There(other_asks)
    with (
        no_thread_left(),
        pool_of(*members, name="other") as other,
        THREADS[thread](there) as pool,
    ):
        outcome = there.wait()
        if (thread, kind) == ("loop", "stats"):
            assert outcome == "pool"
        else:
            assert isinstance(outcome, ReentrantAskError), outcome
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"
        assert other.stats().in_flight == 0


def test_a_wait_that_is_over_holds_up_nobody() -> None:
    """What the other pool still does for it may ask again."""
    answers: list[Any] = []
    gate, done = ScriptedAgent.hanging(echo), threading.Event()

    def ask(payload: Any) -> Any:
        gate(payload)
        answers.append(there.pool.execute(payload, timeout=WAIT_S))  # type: ignore[union-attr]
        done.set()
        return payload

    there = There(lambda _: other.execute("in", timeout=0.01))
    with no_thread_left(), pool_of(Member("b", ask), name="other") as other, in_router(there):
        assert isinstance(there.wait(), pykka.Timeout)
        gate.release()
        assert done.wait(WAIT_S)
    assert answers == ["in"]


def test_two_done_callbacks_of_one_thread_each_wait_for_the_pool() -> None:
    """The only slot serves both, one after the other, though its thread is held by them."""
    answers: list[Any] = []
    gate, answered = ScriptedAgent.hanging(echo), threading.Semaphore(0)

    def answer(payload: Any) -> Any:
        return gate(payload) if payload == "slow" else payload

    def again(_: Any) -> None:
        answers.append(pool.execute("in", timeout=WAIT_S))
        answered.release()

    with no_thread_left(), pool_of(Member("a", answer)) as pool:
        future = pool.ask(Request("slow"), block=False)
        gate.wait_for_calls()
        future.add_done_callback(again)
        future.add_done_callback(again)
        gate.release()
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert answered.acquire(timeout=WAIT_S)
        assert answered.acquire(timeout=WAIT_S)
    assert answers == ["in", "in"]


def test_a_call_that_was_meant_for_a_thread_that_waits_has_another_one() -> None:
    """It lies in the queue already when the callback begins to wait for it."""
    gate, asked, done = ScriptedAgent.hanging(echo), threading.Event(), threading.Event()
    answers: list[Any] = []

    def answer(payload: Any) -> Any:
        return gate(payload) if payload == "slow" else payload

    def again(_: Any) -> None:
        inner = pool.ask(Request("in"), block=False)
        pool.ask(GetStats(), block=False).add_done_callback(lambda _: asked.set())
        asked.wait(WAIT_S)  # the router has given it to the member, whose thread is this one
        answers.append(inner.get(timeout=WAIT_S).value)
        done.set()

    with no_thread_left(), pool_of(Member("a", answer)) as pool:
        future = pool.ask(Request("slow"), block=False)
        gate.wait_for_calls()
        future.add_done_callback(again)
        gate.release()
        assert future.get(timeout=WAIT_S).value == "slow"
        assert done.wait(WAIT_S)
    assert answers == ["in"]


def test_a_worker_that_has_waited_is_used_again() -> None:
    """It is no thread more than before."""
    there = There(lambda pool: pool.execute("in", timeout=WAIT_S))
    before = greenroom_threads()
    with no_thread_left(), in_worker(there) as pool:
        assert there.wait() == "in"
        for _ in range(20):
            pool.execute("x", timeout=WAIT_S)
        names = [thread.name for thread in greenroom_threads() - before]
        assert len([name for name in names if name.startswith("greenroom-pool-a-")]) <= 2


def test_many_callbacks_that_wait_at_a_time_leave_no_threads_over() -> None:
    """Each has its thread as long as it waits; then only those are kept that calls need."""
    answered = threading.Semaphore(0)
    answers: list[Any] = []

    def again(_: Any) -> None:
        answers.append(pool.execute("in", timeout=WAIT_S))
        answered.release()

    before = greenroom_threads()
    members = [Member(name, echo, max_concurrency=2) for name in "ab"]
    with no_thread_left(), pool_of(*members, strategy="round_robin") as pool:
        for _ in range(100):
            pool.ask(Request("x"), block=False).add_done_callback(again)
        for _ in range(100):
            assert answered.acquire(timeout=WAIT_S)
        assert pool.drain(timeout=WAIT_S)
        places = [member_ref(pool, name)._actor.host.threads for name in "ab"]
        workers = [each for each in greenroom_threads() - before if "-pool-" in each.name]
        for _ in range(1000):
            resting = {thread for place in places for thread in place._resting}
            busy = [each for each in workers if each.is_alive() and each not in resting]
            if not busy:
                break
            busy[0].join(0.01)
        assert not busy
        assert len(resting) <= 6
    assert answers == ["in"] * 100


def test_a_done_callback_in_a_worker_may_stop_the_pool() -> None:
    """Nothing of its end waits for that thread any more."""
    there = There(lambda pool: pool.stop(timeout=WAIT_S))
    with no_thread_left(), in_worker(there) as pool:
        assert there.wait() is True
        with pytest.raises(PoolStoppedError):
            pool.execute("x", timeout=WAIT_S)


def test_a_close_hook_that_waits_for_the_end_is_told() -> None:
    """The pool's end waits for it."""
    there = There(lambda pool: pool.stop(timeout=WAIT_S))
    with no_thread_left():
        with pool_of(Member("a", echo, close=there)) as pool:
            there.pool = pool
        error = there.wait()
    assert isinstance(error, ReentrantAskError)
    assert "a close hook" in str(error)


def test_a_chain_that_cannot_be_closed_here_goes_on() -> None:
    """A refused close has closed nothing."""
    chain = FallbackChain[Any]().add("a", 1)
    there = There(lambda _: chain.close())
    there.pool = chain.pool
    with no_thread_left():
        future = chain.pool.ask(Request("no such agent"), block=False)
        chain.pool.tell(GetStats())
        gate = ScriptedAgent.hanging(echo)
        slow = chain.pool.ask(apply_of(gate), block=False)
        gate.wait_for_calls()
        slow.add_done_callback(there)
        slow.cancel()
        assert isinstance(there.wait(), ReentrantAskError)
        gate.release()
        assert chain.execute(lambda agent: agent) == 1
        chain.close()
        del future


def apply_of(gate: ScriptedAgent) -> Any:
    from greenroom import Apply

    return Apply(gate)


def test_a_refused_callback_is_complained_about_and_others_are_told() -> None:
    """As of any callback that raises."""
    lines: list[str] = []
    handler = logger.add(lines.append, level="ERROR", format="{message}")
    logger.enable("greenroom")
    told = threading.Event()
    try:
        with pool_of(Member("a", AsyncScriptedAgent.hanging())) as pool:
            future = pool.ask(Request("x"), block=False)
            future.add_done_callback(lambda _: pool.stats())
            future.add_done_callback(lambda _: told.set())
            future.cancel()
            assert told.wait(WAIT_S)
    finally:
        logger.disable("greenroom")
        logger.remove(handler)
    (line,) = [each for each in lines if "done callback" in each]
    assert "would wait for itself" in line


def test_a_stopped_pool_says_so_in_its_own_thread_as_well() -> None:
    """There is nothing to wait for."""
    there = There(lambda pool: pool.execute("x", timeout=WAIT_S))
    with no_thread_left():
        pool = AgentPool.start([Member("a", AsyncScriptedAgent.hanging())])
        there.pool = pool
        future = pool.ask(Request("x"), block=False)
        future.add_done_callback(there)
        pool.stop(timeout=WAIT_S)
    assert isinstance(there.wait(), PoolStoppedError)
