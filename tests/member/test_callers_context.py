"""The context variables of whoever asks reach the agent; what the agent sets, nobody else sees."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar, Token, copy_context
from typing import Any

import pytest
from helpers_pools import WAIT_S, ask, echo, echo_async, pool_of, ranked

from greenroom import (
    AgentPool,
    Apply,
    FailureKind,
    FallbackChain,
    Member,
    MemberConfig,
    PoolConfig,
    PoolExecutor,
    PoolFuture,
    PoolRef,
    PoolStoppedError,
    Request,
    RequestCancelledError,
)
from greenroom.messages import BreakerClosed
from greenroom.messages.execution import Execute
from greenroom.testing import EventRecorder, FakeClock, http_error

USER: ContextVar[Any] = ContextVar("user", default=None)


class As:
    """A block in which the caller has set the variable."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        self._tokens.append(USER.set(self._value))

    def __exit__(self, *_: object) -> None:
        USER.reset(self._tokens.pop())


def look_and_set(payload: Any) -> Any:
    before = USER.get()
    USER.set(payload)
    return before, USER.get()


async def alook_and_set(payload: Any) -> Any:
    before = USER.get()
    USER.set(payload)
    await asyncio.sleep(0)
    return before, USER.get()


def returned(payload: Any) -> Any:
    """A sync callable that sets, and returns what is to be awaited and looks."""
    before = USER.get()
    USER.set(payload)

    async def look() -> Any:
        return before, USER.get()

    return look()


def steps(payload: Any) -> Iterator[Any]:
    before = USER.get()
    USER.set(payload)
    yield before
    yield USER.get()


async def asteps(payload: Any) -> AsyncIterator[Any]:
    before = USER.get()
    USER.set(payload)
    yield before
    await asyncio.sleep(0)
    yield USER.get()


def returned_steps(payload: Any) -> Any:
    """A sync callable that sets, and returns what is to be iterated on a loop."""
    return asteps(payload)


AGENTS = pytest.mark.parametrize("agent", [look_and_set, alook_and_set, returned])
STREAMS = pytest.mark.parametrize("agent", [steps, asteps, returned_steps])
ALL = pytest.mark.parametrize(
    "agent", [look_and_set, alook_and_set, returned, steps, asteps, returned_steps]
)


@AGENTS
def test_b129_an_agent_sees_what_its_caller_has_set(agent: Any) -> None:
    """By whatever form it is asked: blocking, a future, a short form, an await."""

    async def awaited(pool: PoolRef) -> Any:
        return (await pool.ask(Request(1), block=False)).value

    with pool_of(Member("m", agent)) as pool, As("ann"):
        assert pool.ask(Request(1)).value == ("ann", 1)
        assert pool.execute(1) == ("ann", 1)
        assert pool.apply(lambda agent: agent(1)) == ("ann", 1)
        assert pool.ask(Request(1), block=False).get(timeout=WAIT_S).value == ("ann", 1)
        assert asyncio.run(awaited(pool)) == ("ann", 1)


def test_b129_it_is_what_was_set_when_it_was_asked() -> None:
    """What the caller sets later, while the request waits or runs, does not reach it."""
    inside, let_on = threading.Event(), threading.Event()

    def agent(payload: Any) -> Any:
        inside.set()
        assert let_on.wait(WAIT_S)
        return USER.get()

    with pool_of(Member("m", agent)) as pool:
        with As("ann"):
            futures = [pool.ask(Request(n), block=False) for n in range(2)]
        with As("bob"):
            futures.append(pool.ask(Request(2), block=False))
            assert inside.wait(WAIT_S)
            let_on.set()
        assert [each.get(timeout=WAIT_S).value for each in futures] == ["ann", "ann", "bob"]


def test_b129_a_tell_carries_it_as_well() -> None:
    """Nobody waits for it, and yet the agent runs in its caller's context; with an id or none."""
    seen, done = list[Any](), threading.Semaphore(0)

    def agent(payload: Any) -> None:
        seen.append(USER.get())
        done.release()

    with pool_of(Member("m", agent)) as pool:
        with As("ann"):
            pool.tell(Request(1))
            pool.tell(Apply(lambda agent: agent(1), request_id="mine"))
        assert all(done.acquire(timeout=WAIT_S) for _ in range(2))
    assert seen == ["ann", "ann"]


@ALL
def test_b129_a_call_sees_nothing_that_another_has_set(agent: Any) -> None:
    """Nor does its asker: each call has a context of its own, though threads are used again."""
    with pool_of(Member("m", agent)) as pool:
        for number in range(3):
            with As(f"user {number}"):
                assert tuple(pool.execute(number)) == (f"user {number}", number)
                assert USER.get() == f"user {number}"
        assert tuple(pool.execute(9)) == (None, 9)


@STREAMS
def test_b129_each_step_of_a_stream_is_in_the_context_of_its_call(agent: Any) -> None:
    """A generator finds what its caller had set, then what it has set itself."""
    with pool_of(Member("m", agent)) as pool:
        for number in range(3):
            with As(f"user {number}"):
                stream = pool.stream(Request(number))
            assert list(stream) == [f"user {number}", number]


@pytest.mark.parametrize("form", ["sync", "async", "late"])
def test_b129_a_stream_is_closed_in_the_context_of_its_call(form: str) -> None:
    """With the very tokens that it has: a variable is reset where it was set."""
    seen, closed = list[Any](), threading.Event()

    def sync(payload: Any) -> Iterator[Any]:
        token = USER.set("inner")
        try:
            while True:
                yield USER.get()
        finally:
            seen.append(USER.get())
            USER.reset(token)  # raises in any other context than that of the `set`
            seen.append(USER.get())
            closed.set()

    async def asynchronous(payload: Any) -> AsyncIterator[Any]:
        token = USER.set("inner")
        try:
            while True:
                yield USER.get()
        finally:
            seen.append(USER.get())
            USER.reset(token)
            seen.append(USER.get())
            closed.set()

    agents = {"sync": sync, "async": asynchronous, "late": lambda payload: asynchronous(payload)}
    with pool_of(Member("m", agents[form])) as pool:
        with As("ann"):
            stream = pool.stream(Request("x"))
        assert next(stream) == "inner"
        stream.close()
        assert closed.wait(WAIT_S)
    assert seen == ["inner", "ann"]


def test_b129_what_comes_back_from_the_loop_goes_on_in_the_thread() -> None:
    """A sync callable that returns an awaitable whose answer is a generator: one context for all
    three, in a thread, on the loop, in the thread again.
    """

    def agent(payload: Any) -> Any:
        USER.set((USER.get(), "called"))

        async def later() -> Any:
            USER.set((*USER.get(), "awaited"))
            return chunks()

        def chunks() -> Iterator[Any]:
            USER.set((*USER.get(), "stepped"))
            yield USER.get()

        return later()

    with pool_of(Member("m", agent)) as pool, As("ann"):
        wanted = ("ann", "called", "awaited", "stepped")
        assert pool.execute(1) == [wanted]
        assert list(pool.stream(Request(1))) == [wanted]
        assert USER.get() == "ann"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_b129_a_retry_begins_as_the_first_attempt_did(asynchronous: bool) -> None:
    """What a failed attempt has set, the next one does not see: on another member, or the same."""
    seen = list[Any]()

    def failing(payload: Any) -> Any:
        seen.append(USER.get())
        USER.set("left behind")
        if len(seen) < 3:
            raise http_error(503)

    async def afailing(payload: Any) -> Any:
        failing(payload)

    agent = afailing if asynchronous else failing
    with pool_of(Member("m", agent), same_member_retries=3) as pool, As("ann"):
        pool.execute(1)
    assert seen == ["ann", "ann", "ann"]
    seen.clear()
    with pool_of(*ranked(a=agent, b=agent, c=agent)) as pool, As("ann"):
        pool.execute(1)
    assert seen == ["ann", "ann", "ann"]


def test_b129_a_hedge_has_a_copy_of_its_own() -> None:
    """Two attempts of one request run at once, and neither sees what the other sets."""
    clock, seen = FakeClock(), dict[str, Any]()
    begun, let_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(payload: Any) -> Any:
        USER.set("the slow one's")
        begun.set()
        assert let_on.wait(WAIT_S)
        seen["slow"] = USER.get()
        ended.set()

    def quick(payload: Any) -> Any:
        seen["quick"] = USER.get()
        USER.set("the quick one's")
        return "good"

    with pool_of(*ranked(a=slow, b=quick), clock=clock, hedge_after_s=1.0) as pool:
        with As("ann"):
            future = pool.ask(Request("x"), block=False)
        assert begun.wait(WAIT_S)
        clock.advance(1.5)
        assert future.get(timeout=WAIT_S).member == "b"
        let_on.set()
        assert ended.wait(WAIT_S)  # nobody else waits for who has lost
    assert seen == {"quick": "ann", "slow": "the slow one's"}


def test_b129_a_trial_beside_a_request_has_one_too() -> None:
    """The trial of a half-open member is an attempt of its request's, in its caller's context."""
    clock, seen = FakeClock(), list[tuple[str, Any]]()

    def ill(payload: Any) -> Any:
        seen.append(("a", USER.get()))
        if payload == "break":
            raise http_error(503)
        return "a"

    def well(payload: Any) -> Any:
        seen.append(("b", USER.get()))
        return "b"

    config: dict[str, Any] = {"circuit_failure_threshold": 1, "circuit_success_threshold": 1}
    with EventRecorder() as log, pool_of(*ranked(a=ill, b=well), clock=clock, **config) as pool:
        pool.execute("break")
        pool.stats()
        clock.advance(10.0)
        pool.stats()
        with As("ann"):
            pool.execute("x")
        log.wait_for(BreakerClosed)
    assert ("a", "ann") in seen
    assert {who for _, who in seen[2:]} == {"ann"}


@AGENTS
def test_b130_without_propagation_each_call_has_an_empty_context(agent: Any) -> None:
    """`propagate_context=False`: nothing of its caller's, nor of the pool's start."""
    with As("ann"), pool_of(Member("m", agent), propagate_context=False) as pool:
        for number in range(2):
            assert pool.execute(number) == (None, number)
        assert pool.ask(Request(3), block=False).get(timeout=WAIT_S).value == (None, 3)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("propagates", [True, False])
def test_b131_factories_probes_and_close_hooks_have_that_of_the_pools_start(
    asynchronous: bool, propagates: bool
) -> None:
    """A copy each: what a factory sets, no call, probe or close hook sees; nor what a caller has
    set whose request it is made for.
    """
    seen = dict[str, Any]()

    def factory() -> Any:
        seen["factory"] = USER.get()
        USER.set("the factory's")
        return alook_and_set if asynchronous else look_and_set

    def probe(_: Any) -> None:
        seen["probe"] = USER.get()
        USER.set("the probe's")

    def close(_: Any) -> None:
        seen["close"] = USER.get()

    async def afactory() -> Any:
        return factory()

    async def aprobe(_: Any) -> None:
        probe(_)

    async def aclose(_: Any) -> None:
        close(_)

    hooks: dict[str, Any] = {"factory": factory, "probe": probe, "close": close}
    if asynchronous:
        hooks = {"factory": afactory, "probe": aprobe, "close": aclose}
    clock = FakeClock()
    config: dict[str, Any] = {"health_check_interval_s": 1.0, "propagate_context": propagates}
    with As("the app's"):
        pool = AgentPool.start([Member("m", **hooks)], clock=clock, config=PoolConfig(**config))
    with pool, As("ann"):
        assert pool.execute(1) == ("ann" if propagates else None, 1)
        clock.advance(5.0)
        pool.stats()
        pool.drain()
    start = "the app's" if propagates else None
    assert seen.pop("probe", start) == start
    assert seen == {"factory": start, "close": start}


def test_b131_a_member_that_comes_later_is_made_in_that_context_too() -> None:
    """Whoever adds it: an agent outlives whatever its adder was about."""
    seen = list[Any]()

    def factory() -> Any:
        seen.append(USER.get())
        return look_and_set

    with As("the app's"):
        pool = AgentPool.start()
    with pool, As("ann"):
        pool.add_member(Member("m", factory=factory))
        assert pool.execute(1) == ("ann", 1)
    assert seen == ["the app's"]


@pytest.mark.parametrize("agent", [look_and_set, alook_and_set])
def test_b132_what_judges_an_answer_runs_in_the_context_of_its_attempt(agent: Any) -> None:
    """`classify` and `is_failure` see what the caller, then the agent has set, wherever it ran."""
    seen = list[Any]()

    def is_failure(value: Any) -> bool:
        seen.append(("is_failure", USER.get()))
        return bool(value[1] == "bad")

    def classify(error: BaseException) -> FailureKind | None:
        seen.append(("classify", USER.get()))
        return None

    def is_async() -> Any:
        async def failing(payload: Any) -> Any:
            USER.set("the failing one's")
            raise http_error(503)

        return failing

    def failing(payload: Any) -> Any:
        USER.set("the failing one's")
        raise http_error(503)

    first = failing if agent is look_and_set else is_async()
    members = ranked(a=first, b=agent)
    with pool_of(*members, is_failure=is_failure, classify=classify) as pool, As("ann"):
        assert pool.execute("good") == ("ann", "good")
    assert seen == [("classify", "the failing one's"), ("is_failure", "good")]


@STREAMS
def test_b132_what_judges_chunks_runs_in_the_context_of_its_attempt(agent: Any) -> None:
    """`is_empty` and `stream_complete`, of a stream and of one that is collected."""
    seen = list[Any]()

    def is_empty(chunk: Any) -> bool:
        seen.append(USER.get())
        return False

    with pool_of(Member("m", agent), is_empty=is_empty, first_chunk_timeout_s=9.0) as pool:
        with As("ann"):
            stream = pool.stream(Request("x"))
        assert list(stream) == ["ann", "x"]
        assert set(seen) == {"x"}
        seen.clear()
        with As("ann"):
            assert pool.execute("x") == ["ann", "x"]
        assert set(seen) == {"x"}


@pytest.mark.parametrize("agent", [look_and_set, alook_and_set])
def test_b132_a_done_callback_runs_in_the_context_of_whoever_adds_it(agent: Any) -> None:
    """As asyncio's do: it sees nothing that an agent has set, and may set what it likes."""
    seen, told = list[Any](), threading.Event()

    def callback(_: Any) -> None:
        seen.append(USER.get())
        USER.set("the callback's")
        told.set()

    with pool_of(Member("m", agent)) as pool:
        with As("ann"):
            future = pool.ask(Request("x"), block=False)
        with As("bob"):
            future.add_done_callback(callback)
            assert told.wait(WAIT_S)
            future.add_done_callback(callback)  # at once, here
            assert USER.get() == "bob"
    assert seen == ["bob", "bob"]


@AGENTS
def test_b133_a_pool_as_a_member_passes_it_on(agent: Any) -> None:
    """Through two pools, to the agent and to its stream."""
    with pool_of(Member("m", agent)) as inner, pool_of(Member("pool", inner)) as outer, As("ann"):
        assert outer.execute(1) == ("ann", 1)
        assert outer.apply(lambda pool: pool.execute(1)) == ("ann", 1)
        assert list(outer.stream(Request(1))) == [("ann", 1)]


@AGENTS
def test_b133_an_agent_that_asks_is_a_caller(agent: Any) -> None:
    """What it has set, whom it asks sees."""

    def asks(payload: Any) -> Any:
        USER.set((USER.get(), "who asks"))
        return inner.execute(payload)

    with pool_of(Member("m", agent)) as inner, pool_of(Member("asks", asks)) as outer, As("ann"):
        assert outer.execute(1) == (("ann", "who asks"), 1)


@pytest.mark.parametrize("agent", [look_and_set, alook_and_set])
def test_b133_chains_and_executors_carry_it(agent: Any) -> None:
    """A `FallbackChain` and a `PoolExecutor` as well; the executor's creator has the context in
    which the executor was made.
    """
    seen = list[Any]()

    def create(name: str, _: Any) -> Any:
        seen.append(USER.get())
        USER.set("the creator's")
        return agent

    with FallbackChain[Callable[[Any], Any]]().add("m", agent) as chain, As("ann"):
        assert chain.execute(lambda agent: agent(1)) == ("ann", 1)
        assert asyncio.run(chain.aexecute(lambda agent: agent(1))) == ("ann", 1)
    with As("the app's"):
        executor = PoolExecutor("p", [MemberConfig("m")], create)
    with executor:
        for user in ("ann", "bob"):
            with As(user):
                assert executor.execute(1) == (user, 1)
    assert seen == ["the app's"]


# -- no context outlives its request, nor leaves its process


class Secret:
    """What only the caller's context holds."""


@pytest.mark.parametrize("send", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_b129_a_message_to_a_member_leaves_its_context_behind(send: Callable[[Any], Any]) -> None:
    """A pickle or a copy has all but that, and the agent there begins in an empty context."""
    message = Execute("r", 1, 2, Request("x"), 9.0, True, (("urn", ("o", 1)),), copy_context())
    assert "ontext" not in repr(message)
    there = send(message)
    assert there == message
    assert there.context is None


def ask_as(secret: Secret, pool: PoolRef, payload: Any) -> PoolFuture[Any]:
    with As(secret):
        return ask(pool, payload)


def gone(secrets: list[weakref.ref[Secret]]) -> bool:
    gc.collect()
    return [each() for each in secrets if each() is not None] == []


def a_secret(secrets: list[weakref.ref[Secret]]) -> Secret:
    made = Secret()
    secrets.append(weakref.ref(made))
    return made


def test_b129_a_context_is_let_go_with_its_request() -> None:
    """However that ends, though the app keeps the future, the pool its threads, and the loop timers
    that were called off: an answer, a failure, a hedge, a cancellation, a timeout, a refusal.
    """
    secrets, kept = list[weakref.ref[Secret]](), list[Any]()
    clock, hanging, later = FakeClock(), asyncio.Event(), threading.Event()

    async def agent(payload: Any) -> Any:
        assert type(USER.get()) is Secret
        if payload == "hang":
            later.set()
            await hanging.wait()
        return payload

    def failing(payload: Any) -> Any:
        raise http_error(503)

    async def afailing(payload: Any) -> Any:
        raise http_error(503)

    members = ranked(
        a=failing, b=afailing, c=lambda x: afailing(x), later=lambda x: agent(x), agent=agent
    )
    members.append(Member("sync", echo, priority=9, max_concurrency=2))
    with pool_of(*members, clock=clock, cancel_grace_s=999.0, hedge_after_s=5.0) as pool:
        for payload in range(12):
            kept.append(ask_as(a_secret(secrets), pool, payload))
            kept[-1].get(timeout=WAIT_S)
            with As(a_secret(secrets)):
                pool.tell(Request(payload))
                kept.append(pool.stream(Request(payload)))
            assert list(kept[-1])
        for name in ("a", "b", "c", "later"):
            pool.force_open(name)
        cancelled = ask_as(a_secret(secrets), pool, "hang")
        assert later.wait(WAIT_S)
        cancelled.cancel()
        with pytest.raises(RequestCancelledError):
            cancelled.get(timeout=WAIT_S)
        later.clear()
        slow = ask_as(a_secret(secrets), pool, "hang")
        assert later.wait(WAIT_S)
        clock.advance(6.0)  # a hedge answers, and the first one is cancelled
        assert slow.get(timeout=WAIT_S).member == "sync"
        later.clear()
        with As(a_secret(secrets)):
            left = pool.stream(Request("hang"))
        assert later.wait(WAIT_S)
        left.close()
        kept += [cancelled, slow, left]
        pool.drain()
        refused = ask_as(a_secret(secrets), pool, "late")
        with pytest.raises(PoolStoppedError):
            refused.get(timeout=WAIT_S)
        kept.append(refused)
        pool.stats()
        for _ in range(100):  # the loop has its last turn of what was cancelled there
            if gone(secrets):
                break
            pool.stats()
        assert gone(secrets)
    stopped = ask_as(a_secret(secrets), pool, "x")
    with pytest.raises(PoolStoppedError):
        stopped.get(timeout=WAIT_S)
    assert gone(secrets)
    assert len(secrets) == 29
    assert kept


@pytest.mark.parametrize("agent", [echo, echo_async])
def test_b129_a_thread_that_is_kept_inherits_no_context(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python is told that threads do: those that a request has started, the clock's too."""
    begun, start = list[Any](), threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        begun.append((thread.name, USER.get()))
        start(thread)

    with pool_of(Member("m", agent)) as pool, As("ann"):
        monkeypatch.setattr(threading.Thread, "start", starting)
        pool.execute(1)
        monkeypatch.undo()
    assert begun
    assert [user for _, user in begun if user is not None] == []


def test_b129_a_loop_that_has_stopped_keeps_no_context() -> None:
    """It is told of the answer while it stands still, by a thread that runs in the agent's."""
    secrets, let_on, loop = list[weakref.ref[Secret]](), threading.Event(), asyncio.new_event_loop()

    async def agent(payload: Any) -> Any:
        await asyncio.to_thread(let_on.wait, WAIT_S)
        return payload

    async def begin(pool: PoolRef) -> asyncio.Task[Any]:
        with As(a_secret(secrets)):
            future = ask(pool, 1)

        async def wait() -> Any:
            return (await future).value

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)  # it waits from here on
        return task

    with pool_of(Member("m", agent)) as pool:
        task = loop.run_until_complete(begin(pool))
        let_on.set()
        pool.drain()
        assert gone(secrets)
        assert loop.run_until_complete(task) == 1
    loop.close()


def test_b131_an_executors_agent_keeps_no_request_alive() -> None:
    """The first request has it made, and would be kept by whatever the agent starts for itself."""
    secrets, tasks = list[weakref.ref[Secret]](), list[asyncio.Task[Any]]()

    def failing(payload: Any) -> Any:
        raise http_error(503)

    async def create(name: str, _: Any) -> Any:
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        return failing if name == "failing" else echo

    members = [MemberConfig("failing"), MemberConfig("m")]
    with PoolExecutor("p", members, create) as executor:
        with As(a_secret(secrets)):
            kept = executor.pool.ask(Request(1))
        assert kept.member == "m"
        executor.pool.stats()
        assert gone(secrets)
    assert len(tasks) == 2
