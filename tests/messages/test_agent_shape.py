"""What can be seen of an agent where it is given: what is refused, and what must not be."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Optional
from unittest import mock

import httpx
import pytest
from helpers_messages import refused
from helpers_pools import WAIT_S, echo, pool_of, ranked

from greenroom import (
    AgentPool,
    AgentTypeError,
    AllPoolMembersFailedError,
    CallContext,
    CircuitBreaker,
    FailureKind,
    Member,
    PoolError,
    PoolRef,
    Request,
)
from greenroom.testing import EventRecorder, ScriptedAgent

AGENT = "AgentTypeError: agent of member 'a'"
FACTORY = "AgentTypeError: factory of member 'a'"
FOR_APPLY = "or method=False, if apply and attempts alone are to use it"
MUST = f"{AGENT} must take one argument, the payload, got"
WANTS_TENANT = "which wants tenant as well: give it a default, or bind it by functools.partial"


async def coroutine(payload: Any) -> Any:
    return payload


async def async_generator(payload: Any) -> AsyncIterator[Any]:
    yield payload


def generator(payload: Any) -> Iterator[Any]:
    yield payload


def unannotated(payload, call):  # type: ignore[no-untyped-def]
    return payload, call


def annotated(payload: Any, call: CallContext) -> Any:
    return payload, call.member


def of_two(payload: Any, tenant: str) -> Any:
    return payload, tenant


def of_none() -> Any:
    return None


def by_name(*, payload: Any) -> Any:
    return payload


def with_a_secret(payload: Any, tenant: str, key: str = "sk-secret") -> Any:
    return payload, tenant, key


@contextlib.contextmanager
def session() -> Iterator[Any]:
    yield echo


@contextlib.asynccontextmanager
async def async_session() -> AsyncIterator[Any]:
    yield echo


class Runs:
    def run(self, payload: Any) -> Any:
        return payload


class Called:
    def __call__(self, payload: Any) -> Any:
        return payload


class Thing:
    """For `apply` alone."""

    flavour = "plain"

    def of_two(self, payload: Any, tenant: str) -> Any:
        return payload, tenant

    def of_none(self) -> Any:
        return None

    def one(self, payload: Any) -> Any:
        return payload


class RunsUnannotated:
    def run(self, payload, context):  # type: ignore[no-untyped-def]
        return payload, context


class TaskByName:
    """As autogen has it: a `run` that takes what it takes by name alone."""

    def run(self, *, task: Any = None) -> Any:
        return task


class RunByNames:
    """As ADK's runners have it."""

    async def run(self, *, user: str, session: str, message: Any, depth: int = 1) -> Any:
        return user, session, message


class RunsWithSession:
    def run(self, payload: Any, session: str) -> Any:
        return payload, session


class RunsOfNone:
    def invoke(self) -> Any:
        return None


class CalledWithTwo:
    def __call__(self, payload: Any, tenant: str) -> Any:
        return payload, tenant


class NeedsTwo:
    def __init__(self, model: str, key: str) -> None:
        self.model = model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "object()": (
        object,
        (f"{AGENT} must be a callable, or an object with a method to call, got an object()"),
    ),
    "a coroutine": (
        lambda: coroutine("x"),
        (
            f"{AGENT} must be what is called for each request, got a coroutine: leave the "
            "call out, and write coroutine"
        ),
    ),
    "a generator": (
        lambda: generator("x"),
        (
            f"{AGENT} must be what is called for each request, got a generator: leave the "
            "call out, and write generator"
        ),
    ),
    "an async generator": (
        lambda: async_generator("x"),
        (
            f"{AGENT} must be what is called for each request, got an async generator: "
            "leave the call out, and write async_generator"
        ),
    ),
    "a context manager": (
        session,
        (
            f"{AGENT} must be ready to be called, got a context manager: have the pool "
            "enter it, by factory=session"
        ),
    ),
    "an async context manager": (
        async_session,
        (
            f"{AGENT} must be ready to be called, got a context manager: have the pool "
            "enter it, by factory=async_session"
        ),
    ),
    "a class with a run method": (
        lambda: Runs,
        (
            f"{AGENT} must be an instance, got the class Runs: write Runs(...), or "
            "factory=Runs to have the pool make it"
        ),
    ),
    "a class with __call__": (
        lambda: Called,
        (
            f"{AGENT} must be an instance, got the class Called: write Called(...), or "
            "factory=Called to have the pool make it"
        ),
    ),
    "a class that takes nothing": (
        lambda: Thing,
        (
            f"{AGENT} must be an instance, got the class Thing: write Thing(...), or "
            "factory=Thing to have the pool make it"
        ),
    ),
    "a class that wants more": (
        lambda: NeedsTwo,
        (
            f"{AGENT} must be an instance, got the class NeedsTwo: write NeedsTwo(...), or "
            "factory=NeedsTwo to have the pool make it"
        ),
    ),
    "no parameters": (lambda: of_none, f"{MUST} of_none(), which takes none"),
    "a lambda without": (lambda: lambda: 1, f"{MUST} <lambda>(), which takes none"),
    "keywords alone": (
        lambda: by_name,
        (
            f"{MUST} by_name(payload), which takes none by position: write lambda payload: "
            "by_name(payload=payload)"
        ),
    ),
    "one too many": (
        lambda: of_two,
        (f"{MUST} of_two(payload, tenant), {WANTS_TENANT}"),
    ),
    "an unannotated second": (
        lambda: unannotated,
        (
            f"{MUST} unannotated(payload, call), which wants call as well: annotate it if "
            "it is to be told of the call, call: CallContext; else give it a default"
        ),
    ),
    "a partial of too few": (
        lambda: functools.partial(of_two, "x", tenant="eu"),
        f"{MUST} of_two(tenant), which takes none by position",
    ),
    "a bound method": (
        lambda: Thing().of_two,
        (f"{MUST} Thing.of_two(payload, tenant), {WANTS_TENANT}"),
    ),
    "an object that is called": (
        CalledWithTwo,
        (f"{MUST} CalledWithTwo(payload, tenant), {WANTS_TENANT}"),
    ),
    "a run method, unannotated": (
        RunsUnannotated,
        (
            f"{MUST} RunsUnannotated.run(payload, context), which wants context as well: "
            "annotate it if it is to be told of the call, context: CallContext; else give "
            "it a default"
        ),
    ),
    "a run method of names": (
        TaskByName,
        (
            f"{MUST} TaskByName.run(task), which takes none by position: write lambda payload: "
            f"agent.run(task=payload); {FOR_APPLY}"
        ),
    ),
    "a run method of several names": (
        RunByNames,
        (
            f"{MUST} RunByNames.run(user, session, message, depth), which takes none by position: "
            f"write lambda payload: agent.run(user=..., session=..., message=...); {FOR_APPLY}"
        ),
    ),
    "a run method of two": (
        RunsWithSession,
        (
            f"{MUST} RunsWithSession.run(payload, session), which wants session as well: give it a "
            f"default, or bind it by functools.partial; {FOR_APPLY}"
        ),
    ),
    "a run method of none": (
        RunsOfNone,
        f"{MUST} RunsOfNone.invoke(), which takes none; {FOR_APPLY}",
    ),
    "a default that may be secret": (
        lambda: with_a_secret,
        (f"{MUST} with_a_secret(payload, tenant, key), {WANTS_TENANT}"),
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_be_seen_to_be_no_agent_is_refused_where_it_is_given(
    make: Callable[[], Any], message: str
) -> None:
    """Member, what is wrong with it, and what to write; and no coroutine is left unawaited."""
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        assert refused(lambda: Member("a", make())) == message
    assert complaints == []


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("on", "method must name a method of the agent of member 'a', got 'on' (Thing has none)"),
        (
            "flavour",
            "method must name a method of the agent of member 'a', got 'flavour' (Thing has none)",
        ),
        (
            "of_none",
            (
                "agent of member 'a' must take one argument, the payload, got Thing.of_none(), "
                "which takes none"
            ),
        ),
        (
            "of_two",
            (
                "agent of member 'a' must take one argument, the payload, got "
                f"Thing.of_two(payload, tenant), {WANTS_TENANT}"
            ),
        ),
    ],
)
def test_a_method_that_cannot_be_called_is_refused(method: str, message: str) -> None:
    """What is named is what is called for each request."""
    assert refused(lambda: Member("a", Thing(), method=method)) == f"AgentTypeError: {message}"
    assert Member("a", Thing(), method="one").method == "one"


@pytest.mark.parametrize("make", [TaskByName, RunByNames, RunsWithSession, RunsOfNone, Thing])
def test_an_agent_without_a_method_to_call_is_for_apply_alone(make: Callable[[], Any]) -> None:
    """It need not be able to take a payload, whether it was given or made."""
    for member in (Member("a", make(), method=False), Member("a", factory=make, method=False)):
        with pool_of(member) as pool:
            assert pool.apply(lambda agent: type(agent), timeout=WAIT_S) is make
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.execute("x", timeout=WAIT_S)
        (error,) = caught.value.errors
        assert isinstance(error.error, AgentTypeError)
        assert f"got a {make.__name__} with method=False" in str(error.error)


def test_without_a_method_it_is_async_if_it_is_made_for_coroutines() -> None:
    """As a client is that has no run at all, though this one has."""

    class Client:
        async def __aenter__(self) -> Any:
            return self

        def run(self, *, task: Any) -> Any:
            return task

    with pool_of(Member("a", Client(), method=False)) as pool:
        assert pool.stats()["a"].max_concurrency == 100


@pytest.mark.parametrize("method", [True, 0, 1, b"run"])
def test_a_method_is_a_name_or_false(method: Any) -> None:
    """Nothing else is taken for it."""
    assert refused(lambda: Member("a", Thing(), method=method)).startswith("TypeError: method ")


def test_a_method_of_a_class_is_that_of_an_instance() -> None:
    """Unless it is one of the class itself."""

    class Namespace:
        @classmethod
        def ask(cls, payload: Any) -> Any:
            return payload

        @classmethod
        def ask_two(cls, payload: Any, tenant: str) -> Any:
            return payload, tenant

    words = f"{AGENT} must be an instance, got the class Thing: write Thing(...), or factory=Thing"
    assert refused(lambda: Member("a", Thing, method="one")).startswith(words)
    assert Member("a", Namespace, method="ask").method == "ask"
    assert refused(lambda: Member("a", Namespace, method="ask_two")).startswith(MUST)


FACTORIES: dict[str, tuple[Callable[[], Any], str]] = {
    "a coroutine": (
        lambda: coroutine("x"),
        (
            f"{FACTORY} must be what is called for each agent, got a coroutine: leave the "
            "call out, and write coroutine"
        ),
    ),
    "a context manager": (
        async_session,
        (
            f"{FACTORY} must be what is called for each agent, got a context manager: leave "
            "the call out, and write async_session"
        ),
    ),
    "a generator function": (
        lambda: generator,
        (
            f"{FACTORY} must return an agent, got the generator function generator: "
            "decorate it with @contextlib.contextmanager"
        ),
    ),
    "an async generator function": (
        lambda: async_generator,
        (
            f"{FACTORY} must return an agent, got the generator function async_generator: "
            "decorate it with @contextlib.asynccontextmanager"
        ),
    ),
    "a function of one": (
        lambda: echo,
        (
            f"{FACTORY} must be called with nothing, got echo(payload), which wants "
            "payload: write factory=functools.partial(echo, ...)"
        ),
    ),
    "a class that wants two": (
        lambda: NeedsTwo,
        (
            f"{FACTORY} must be called with nothing, got NeedsTwo(model, key), which wants "
            "model, key: write factory=functools.partial(NeedsTwo, ...)"
        ),
    ),
    "a list": (list, "TypeError: factory must be callable, got a list"),
}


@pytest.mark.parametrize(("make", "message"), FACTORIES.values(), ids=FACTORIES)
def test_what_can_be_seen_to_make_no_agent_is_refused(
    make: Callable[[], Any], message: str
) -> None:
    """A factory is called with nothing, and returns an agent."""
    assert refused(lambda: Member("a", factory=make())) == message


# -- what nobody can tell


def injected(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that hands on more than it is given."""

    @functools.wraps(function)
    def wrapper(payload: Any) -> Any:
        return function(payload, "eu")

    return wrapper


def injected_nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that hands on what it is given."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def with_signature(function: Any, signature: inspect.Signature) -> Any:
    function.__signature__ = signature
    return function


class HidesWhatItTakes:
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0]


class ClientWithStream:
    """As httpx has it: a `stream` that wants more than a payload, for `apply`."""

    def stream(self, method: str, url: str) -> Any:
        return method, url


class ClientToBeEntered:
    """As httpx has it, in truth: what gives the answer is to be entered."""

    @contextlib.contextmanager
    def stream(self, method: str, url: str) -> Iterator[Any]:
        yield method, url


class AsyncClientToBeEntered:
    @contextlib.asynccontextmanager
    async def stream(self, method: str, url: str) -> AsyncIterator[Any]:
        yield method, url

    async def get(self, url: str) -> Any:
        return url


class RunsToBeEntered:
    @injected_nothing
    @contextlib.contextmanager
    def run(self, task: Any) -> Iterator[Any]:
        yield task


class Completes:
    """As MCP's client has it: what completes a reference is no run."""

    async def complete(self, ref: Any, argument: dict[str, str]) -> Any:
        return ref, argument

    async def call_tool(self, name: str) -> str:
        return f"{name}: done"


class Proxy:
    """What passes for a function, and takes what it likes."""

    __class__ = property(lambda self: type(of_two))
    __code__ = of_two.__code__
    __defaults__ = None
    __kwdefaults__ = None
    __name__ = "proxy"

    def __call__(self, payload: Any) -> Any:
        return payload


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args


class MadeByMeta(metaclass=Meta):
    def __init__(self) -> None:
        """It is not asked."""


FREE: dict[str, Any] = {
    "a builtin": len,
    "a builtin of two": divmod,
    "a type of C": int,
    "a bound builtin": [].append,
    "a decorated one": injected(of_two),
    "an odd signature": with_signature(lambda payload: payload, inspect.signature(of_two)),
    "a signature that lies": with_signature(lambda *args: args, inspect.signature(of_none)),
    "a mock": mock.Mock(),
    "a magic mock": mock.MagicMock(),
    "an async mock": mock.AsyncMock(),
    "a mock of two": mock.create_autospec(of_two),
    "an object of stars": HidesWhatItTakes(),
    "a cached one": functools.lru_cache(of_two),
    "a single dispatch": functools.singledispatch(of_two),
    "a partial": functools.partial(of_two, tenant="eu"),
    "a partial of a builtin": functools.partial(pow, 2),
    "a partial of a method": functools.partial(Thing().of_two, tenant="eu"),
    "a bound method": Thing().one,
    "an unbound one, bound": functools.partial(Thing.one, Thing()),
    "stars": lambda *args: args,
    "a default": lambda payload, call=None: (payload, call),
    "a client": ClientWithStream(),
    "a client that completes": Completes(),
    "for apply alone": Thing(),
    "a proxy": Proxy(),
    "a class that is called": MadeByMeta,
    "an exception": ValueError,
    "a module": asyncio,
}


@pytest.mark.parametrize("agent", FREE.values(), ids=FREE)
def test_what_may_work_is_not_refused(agent: Any) -> None:
    """Nobody can tell what it takes, or `apply` can use it."""
    assert Member("a", agent).agent is agent


class Broken:
    """What passes for a function, and has nothing of one."""

    __class__ = property(lambda self: type(of_two))

    @property
    def __code__(self) -> Any:
        raise LookupError("no code")

    def __init__(self, return_value: Any = None) -> None:
        self.return_value = return_value

    def __call__(self, *_: Any) -> Any:
        return self.return_value


PASS_FOR_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "a mock": lambda answer: mock.Mock(spec=echo, return_value=answer),
    "a magic mock": lambda answer: mock.MagicMock(spec=echo, return_value=answer),
    "a mock of a generator": lambda answer: mock.Mock(spec=generator, return_value=answer),
    "a magic mock of a generator": lambda answer: mock.MagicMock(
        spec=generator, return_value=answer
    ),
    "a spec of a function": lambda answer: mock.create_autospec(echo, return_value=answer),
    "a broken one": Broken,
}


@pytest.mark.parametrize("make", PASS_FOR_FUNCTIONS.values(), ids=PASS_FOR_FUNCTIONS)
def test_what_only_passes_for_a_function_is_called_like_any_other(
    make: Callable[[Any], Any],
) -> None:
    """A mock's code is a mock, too: nobody can tell by it what it gives, and no flag is set."""
    runs = Thing()
    runs.run = make("answer")  # type: ignore[attr-defined]
    for agent in (make("answer"), functools.partial(make("answer")), runs):
        with pool_of(Member("a", agent)) as pool:
            assert pool.execute("x", timeout=WAIT_S) == "answer"
            assert pool.apply(make("applied"), timeout=WAIT_S) == "applied"
    assert CircuitBreaker().call(make("called"), "x") == "called"


@pytest.mark.parametrize("kind", [mock.Mock, mock.MagicMock])
@pytest.mark.parametrize("spec", [lambda: echo, len, session])
def test_what_only_passes_for_a_function_is_a_factory_like_any_other(
    kind: Callable[..., Any], spec: Any
) -> None:
    """It is no generator function, whatever its code seems to say."""
    with pool_of(Member("a", factory=kind(spec=spec, return_value=echo))) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"


def first_of_two(call: CallContext, payload: Any) -> Any:
    return payload, call.member


def optional(payload: Any, call: Optional[CallContext] = None) -> Any:  # noqa: UP045 - as it is written
    return payload, call and call.member


def by_keyword(payload: Any, *, call: CallContext) -> Any:
    return payload, call.member


def by_position(payload: Any, call: CallContext, /) -> Any:
    return payload, call.member


@pytest.mark.parametrize(
    "agent", [annotated, first_of_two, optional, by_keyword, by_position, injected(of_two)]
)
def test_an_agent_that_is_told_of_the_call_is_called_as_it_wants(agent: Any) -> None:
    """However it takes its `CallContext`; and whatever a decorator hands on."""
    with pool_of(Member("a", agent)) as pool:
        expected = "eu" if agent.__name__ == "of_two" else "a"
        assert pool.execute("x", timeout=WAIT_S) == ("x", expected)


def test_a_decorator_that_does_not_pass_the_call_on_is_seen() -> None:
    """What is called is the wrapper, whatever the function that it wraps would take."""

    @functools.wraps(annotated)
    def wrapper(payload: Any) -> Any:
        return payload

    assert refused(lambda: Member("a", wrapper)) == (
        f"{MUST} annotated(payload), which does not take the call that it is annotated with"
    )


# -- in a pool


def test_the_refusal_is_a_pool_error_and_a_type_error() -> None:
    """Caught as any wrong type, or with all that a pool raises; nothing has begun."""
    with pytest.raises(AgentTypeError) as caught:
        Member("a", object())
    assert isinstance(caught.value, PoolError)
    assert isinstance(caught.value, TypeError)
    assert not caught.value.started


def test_a_wrong_agent_is_not_added_either() -> None:
    """It is refused where it is given; the pool goes on as it was."""
    with pool_of(Member("a", echo)) as pool:
        with pytest.raises(AgentTypeError, match="agent of member 'b' must"):
            pool.add_member(Member("b", of_none), timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert [each.name for each in pool.stats().members] == ["a"]


MADE: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "object()": (object, {}, "must be a callable, or an object with a method to call"),
    "a class": (lambda: Runs, {}, "must be an instance, got the class Runs"),
    "two": (lambda: of_two, {}, "must take one argument, the payload, got of_two"),
    "a method": (Thing, {"method": "on"}, "method must name a method of the agent that"),
}


@pytest.mark.parametrize(("factory", "options", "message"), MADE.values(), ids=MADE)
def test_what_a_factory_makes_is_checked_when_it_is_made(
    factory: Callable[[], Any],
    options: dict[str, Any],
    message: str,
    greenroom_events: EventRecorder,
) -> None:
    """It is a factory that has failed: the request goes elsewhere, and the log says why."""
    lazy = Member("a", factory=factory, **options)
    with pool_of(lazy, Member("b", echo, priority=1)) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
    assert reply.member == "b"
    assert [each.kind for each in reply.errors] == [FailureKind.CREATE_FAILED]
    assert message in str(reply.errors[0].error)
    assert "the factory of member 'a' makes" in str(reply.errors[0].error)
    assert len(greenroom_events.named("member.create_failed")) == 1


def test_what_is_refused_of_a_factory_is_closed() -> None:
    """The pool has had it made: nobody else would close it."""
    closed: list[Any] = []
    lazy = Member("a", factory=Thing, method="on", close=closed.append)
    with pool_of(lazy, Member("b", echo, priority=1)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert [type(each) for each in closed] == [Thing]


def test_what_an_async_factory_makes_for_a_block_is_checked_too() -> None:
    """On the loop of whoever asks."""

    async def factory() -> Any:
        return object()

    async def main(pool: PoolRef) -> None:
        async with pool.acquire():
            raise AssertionError("an object() was handed out")

    config: dict[str, Any] = {"event_loop": "own", "max_retries": 0}
    with (
        pool_of(Member("a", factory=factory), **config) as pool,
        pytest.raises(AllPoolMembersFailedError, match="got an object"),
    ):
        asyncio.run(main(pool))


@pytest.mark.parametrize(
    "agent",
    [
        ClientWithStream(),
        ClientToBeEntered(),
        AsyncClientToBeEntered(),
        RunsToBeEntered(),
        httpx.Client(),
        httpx.AsyncClient(),
        Completes(),
        Thing(),
    ],
)
def test_what_apply_alone_can_use_fails_a_request_once(agent: Any) -> None:
    """Its run method cannot take a payload, or there is none: no second attempt would help, and
    its breaker hears nothing of it.
    """
    with pool_of(Member("a", agent), circuit_failure_threshold=1) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        (error,) = caught.value.errors
        assert isinstance(error.error, AgentTypeError)
        assert "pool.apply can use it all the same" in str(error.error)
        assert (error.attempts, error.kind) == (1, FailureKind.TOO_LARGE)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.stream(Request("x"), timeout=WAIT_S).collect()
        assert [each.attempts for each in caught.value.errors] == [1]
        assert pool.apply(lambda agent: type(agent).__name__) == type(agent).__name__


class StreamsDecorated:
    @injected_nothing
    def stream(self, payload: Any) -> Iterator[Any]:
        yield payload


class StreamsDecoratedAsync:
    @injected_nothing
    async def astream(self, payload: Any) -> AsyncIterator[Any]:
        yield payload


class WrapsItself:
    """A method without an end to what it wraps."""

    def __init__(self) -> None:
        self.run = lambda payload: [payload]
        self.run.__wrapped__ = self.run  # type: ignore[attr-defined]


@pytest.mark.parametrize("agent", [StreamsDecorated(), StreamsDecoratedAsync(), WrapsItself()])
def test_a_decorated_generator_is_no_context_manager(agent: Any) -> None:
    """It wraps a generator function, and still gives chunks."""
    with pool_of(Member("a", agent)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == ["x"]


def test_another_member_answers_for_one_that_cannot() -> None:
    """As for a request that is too large for one of them."""
    with pool_of(*ranked(a=Completes(), b=ScriptedAgent(["good"]))) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert (reply.member, reply.errors[0].attempts) == ("b", 1)


def test_a_pool_is_an_agent() -> None:
    """It is asked in a way of its own."""
    with AgentPool.start([Member("a", echo)], name="inner") as inner:
        assert Member("b", inner).agent is inner
