"""Errors and values that raise when looked at: every ask is answered, every slot is back."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PoolConfig,
    PoolRef,
    RemoteCause,
    Request,
    StreamInterruptedError,
)
from greenroom.messages.errors import summary
from greenroom.messages.pickling import fit_to_look_at

ARMED: list[bool] = []
"""Not empty while a pool works: a test runner looks at classes, too."""

QUIET: dict[str, Any] = {"retry_delay_s": 0.0, "request_timeout_s": None, "max_retries": 0}


class Nameless(type):
    """A metaclass that raises when its class is asked for its name, or for anything like it."""

    def __getattribute__(cls, name: str) -> Any:
        if ARMED and name in ("__name__", "__qualname__", "__module__", "__mro__", "__dict__"):
            raise SystemExit(name)
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=Nameless):
    """Its class cannot be looked at."""


class UntouchableError(Exception):
    """Nothing of it can be looked at, not even its class."""

    def __getattribute__(self, name: str) -> Any:
        if ARMED:
            raise KeyboardInterrupt(name)
        return super().__getattribute__(name)


class UntouchableExit(SystemExit, metaclass=Nameless):
    """The same of what is no Exception."""

    def __getattribute__(self, name: str) -> Any:
        if ARMED:
            raise ValueError(name)
        return super().__getattribute__(name)


class Nameless_(metaclass=Nameless):
    """A value whose class cannot be looked at."""


class Untouchable:
    """A value of which nothing can be looked at."""

    def __getattribute__(self, name: str) -> Any:
        if ARMED:
            raise SystemExit(name)
        return super().__getattribute__(name)


class Opaque(type):
    """A metaclass that raises whatever its class is asked for."""

    def __getattribute__(cls, name: str) -> Any:
        if ARMED:
            raise RuntimeError(name)
        return super().__getattribute__(name)


class Opaque_(metaclass=Opaque):
    """A value whose class tells nothing, not even what it can do."""


class Unhashable(type):
    """A metaclass whose classes cannot be looked up anywhere."""

    __hash__ = None  # type: ignore[assignment]


class UnhashableError(Exception, metaclass=Unhashable):
    """Its class cannot be hashed."""


ERRORS = pytest.mark.parametrize(
    "make", [NamelessError, UntouchableError, UntouchableExit, UnhashableError]
)
VALUES = pytest.mark.parametrize("make", [Nameless_, Untouchable, Opaque_])


@pytest.fixture(autouse=True)
def armed() -> Iterator[None]:
    yield
    ARMED.clear()


def agents(act: Callable[[], Any]) -> list[Callable[..., Any]]:
    """Agents of every form that do it: sync and async, answers and streams."""

    def answer(_: Any) -> Any:
        return act()

    async def aanswer(_: Any) -> Any:
        return act()

    def lazily(_: Any) -> Any:
        return aanswer(_)

    def chunks(_: Any) -> Iterator[Any]:
        yield act()

    async def achunks(_: Any) -> AsyncIterator[Any]:
        yield act()

    return [answer, aanswer, lazily, chunks, achunks]


def at_rest(pool: PoolRef) -> None:
    stats = pool.stats()
    assert (stats.in_flight, stats.pending, stats["a"].in_flight) == (0, 0, 0)


@ERRORS
def test_an_error_that_cannot_be_looked_at_is_an_unknown_failure(make: type[BaseException]) -> None:
    """Ask, tell, stream and apply: answered with what may be told of it, the slot is back."""

    def act() -> Any:
        raise error

    error = make("x")
    for agent in agents(act):
        with pool_of(Member("a", agent, max_concurrency=1), **QUIET) as pool:
            pool.disable_breaker("a")
            ARMED.append(True)
            for _ in range(3):
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    pool.execute("x", timeout=WAIT_S)
                [attempt] = caught.value.errors
                assert attempt.kind in (FailureKind.UNKNOWN, FailureKind.CRASHED)
                assert str(caught.value)
                pickle.dumps(caught.value)
                with pytest.raises(AllPoolMembersFailedError):
                    list(pool.stream(Request("x"), timeout=WAIT_S))
                with pytest.raises(AllPoolMembersFailedError):
                    pool.apply(agent, timeout=WAIT_S)
                pool.tell(Request("x"))
                at_rest_soon(pool)
            ARMED.clear()


def at_rest_soon(pool: PoolRef) -> None:
    """Once a request that came last is over, those before it on a member of one slot are, too."""
    with pytest.raises(AllPoolMembersFailedError):
        pool.execute("last", timeout=WAIT_S)
    at_rest(pool)


@ERRORS
def test_a_stream_that_breaks_off_by_one_says_so(make: type[BaseException]) -> None:
    """After its first chunk; and the next request is served."""
    error = make("x")

    def chunks(_: Any) -> Iterator[Any]:
        yield "first"
        raise error

    async def achunks(_: Any) -> AsyncIterator[Any]:
        yield "first"
        raise error

    for agent in (chunks, achunks):
        with pool_of(Member("a", agent), **QUIET) as pool:
            pool.disable_breaker("a")
            ARMED.append(True)
            for _ in range(3):
                with pytest.raises(StreamInterruptedError) as caught:
                    list(pool.stream(Request("x"), timeout=WAIT_S))
                assert caught.value.received == ("first",)
                assert str(caught.value)
            at_rest(pool)
            ARMED.clear()


@ERRORS
def test_another_member_answers_after_one(make: type[BaseException]) -> None:
    """It is a failure like any other: logged, counted, and somebody else has the request."""
    error = make("x")

    def act() -> Any:
        raise error

    for agent in agents(act):
        members = [Member("a", agent), Member("b", lambda _: "b", priority=1)]
        with pool_of(*members, retry_delay_s=0.0) as pool:
            pool.on_event(str)
            ARMED.append(True)
            for _ in range(8):
                assert pool.execute("x", timeout=WAIT_S) == "b"
            assert pool.stats()["a"].failures > 0
            at_rest(pool)
            ARMED.clear()


@VALUES
def test_a_value_that_cannot_be_looked_at_is_an_answer(make: Callable[[], Any]) -> None:
    """It is passed on as it is, as an answer and as a chunk."""
    value = make()

    def is_it(answer: Any) -> bool:
        return answer is value or (type(answer) is list and answer[0] is value)

    async def read(pool: PoolRef) -> bool:
        return is_it((await pool.ask(Request("x"), block=False, timeout=WAIT_S)).value)

    for agent in agents(lambda: value):
        with pool_of(Member("a", agent), **QUIET) as pool:
            ARMED.append(True)
            for _ in range(3):
                assert is_it(pool.execute("x", timeout=WAIT_S))
                [chunk] = list(pool.stream(Request("x"), timeout=WAIT_S))
                assert chunk is value
                assert asyncio.run(read(pool))
            at_rest(pool)
            ARMED.clear()


@VALUES
def test_a_factory_may_make_one(make: Callable[[], Any]) -> None:
    """Who asks hears that it cannot be used; nobody waits, no slot is lost."""
    with pool_of(Member("a", factory=make), **QUIET, restart_backoff_s=0.0) as pool:
        ARMED.append(True)
        for _ in range(2):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
            at_rest(pool)
        ARMED.clear()


@ERRORS
def test_a_factory_may_raise_one(make: type[BaseException]) -> None:
    """The requests that wait for the agent are refused; the next one has it asked again."""
    error, fails = make("x"), [True]

    def factory() -> Any:
        if fails[0]:
            raise error
        return lambda payload: payload

    with pool_of(Member("a", factory=factory), **QUIET, restart_backoff_s=0.0) as pool:
        ARMED.append(True)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert caught.value.errors[0].kind is FailureKind.CREATE_FAILED
        ARMED.clear()
        fails[0] = False
        assert pool.execute("x", timeout=WAIT_S) == "x"
        at_rest(pool)


@ERRORS
def test_what_may_be_told_of_one_is_its_name(make: type[BaseException]) -> None:
    """A stand-in with the real name; an error that can be looked at stays what it is."""
    error, name = make("x"), make.__name__
    plain = ValueError("x")
    assert fit_to_look_at(plain) is plain
    ARMED.append(True)
    try:
        fit, said = fit_to_look_at(error), summary(error)
    finally:
        ARMED.clear()
    assert isinstance(fit, RemoteCause)
    assert fit.type_name == name
    assert said.startswith(name)


@ERRORS
def test_an_error_that_cannot_be_looked_at_does_not_end_the_apps_loop(
    make: type[BaseException],
) -> None:
    """A Ctrl-C in an agent there is the app's; what raises one when it is looked at is not."""
    error = make("x")

    async def agent(payload: Any) -> Any:
        if payload == "raise":
            ARMED.append(True)
            raise error
        return payload

    async def app() -> Any:
        async with AgentPool.start([Member("a", agent)], config=PoolConfig(**QUIET)) as pool:
            pool.disable_breaker("a")
            with pytest.raises(AllPoolMembersFailedError):
                await pool.ask(Request("raise"), block=False, timeout=WAIT_S)
            ARMED.clear()
            return (await pool.ask(Request("x"), block=False, timeout=WAIT_S)).value

    assert asyncio.run(app()) == "x"


@ERRORS
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_leaving_may_raise_what_cannot_be_looked_at(kind: str, make: type[BaseException]) -> None:
    """What was entered has ended all the same, and so does the pool."""
    error = make("x")

    @contextlib.contextmanager
    def factory() -> Iterator[Any]:
        yield lambda payload: payload
        ARMED.append(True)
        raise error

    @contextlib.asynccontextmanager
    async def async_factory() -> AsyncIterator[Any]:
        yield lambda payload: payload
        ARMED.append(True)
        raise error

    member = Member("a", factory=factory if kind == "sync" else async_factory)
    with pool_of(member, **QUIET) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
