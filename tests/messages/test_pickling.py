"""What leaves the process: errors as plain text, without payload and keys; pools not at all."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_pools import WAIT_S, echo, pool_of

import greenroom
from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    AskTimeoutError,
    AttemptError,
    CallContext,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    Event,
    FailureKind,
    FallbackChain,
    ForkedPoolError,
    Member,
    MemberConfig,
    PoolError,
    PoolExecutor,
    PoolSaturatedError,
    PoolStoppedError,
    RemoteCause,
    RemoteError,
    Reply,
    Request,
    SkipReason,
    StreamInterruptedError,
    TellNotStoredError,
)
from greenroom.actors.runtime.future import DeadPoolError
from greenroom.events import CATALOGUE
from greenroom.messages.errors import summary

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
KEY, PROMPT = "sk-secret-0123456789", "the prompt of a user"


class ClientError(Exception):
    """As a client's library has them: it needs arguments, holds the request, has a lock."""

    def __init__(self, message: str, *, request: Any, code: int) -> None:
        super().__init__(message)
        self.request = request
        self.code = code
        self.lock = threading.Lock()
        self.callback = lambda: request


def client_error() -> ClientError:
    """One that holds what must not leave: in attributes, lines, notes, context and frames."""
    request = SimpleNamespace(headers={"Authorization": f"Bearer {KEY}"}, content=PROMPT)
    try:
        raise ClientError(f"refused: api_key={KEY}\nbody: {PROMPT}", request=request, code=503)
    except ClientError as error:
        error.__context__ = KeyError(PROMPT)
        error.add_note(f"{KEY} {PROMPT}")
        return error


def attempt() -> AttemptError:
    return AttemptError("a", 0, FailureKind.CALLER, client_error(), 1.5, 2, retry_after_s=3.0)


def nested() -> AllPoolMembersFailedError:
    inner = AllPoolMembersFailedError("inner", ["a"], [attempt()], "why", 4.0)
    outer = [AttemptError("in", 0, FailureKind.UNAVAILABLE, inner), attempt()]
    return AllPoolMembersFailedError("outer", ["in", "a"], outer, retry_after_s=4.0)


MAKERS: dict[type[PoolError], Callable[[], PoolError]] = {
    AttemptError: attempt,
    AllPoolMembersFailedError: nested,
    PoolSaturatedError: lambda: PoolSaturatedError("writers", 9, 2.5),
    DeadlineExceededError: lambda: DeadlineExceededError("writers", 3.0, [attempt()]),
    AskTimeoutError: lambda: AskTimeoutError("writers", 3.0, [attempt()]),
    StreamInterruptedError: lambda: StreamInterruptedError(
        "writers", "a", [attempt()], [PROMPT, "more"], 2
    ),
    PoolStoppedError: lambda: PoolStoppedError("stopped", refused=True),
    DeadPoolError: lambda: DeadPoolError("stopped", refused=True),
    ForkedPoolError: lambda: ForkedPoolError("writers", 7, 8),
    CircuitOpenError: lambda: CircuitOpenError(2.0),
    TellNotStoredError: lambda: TellNotStoredError(
        "writers", "away", summary(client_error()), maybe=True
    ),
    RemoteError: lambda: RemoteError("text", kind=FailureKind.AUTH, started=True, type="T"),
}
"""The others take one text."""


def kinds_of(kind: type[PoolError]) -> Iterator[type[PoolError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__.startswith("greenroom"):
            yield from kinds_of(each)


def every_kind() -> list[type[PoolError]]:
    """Every error of the package, wherever it is defined."""
    for each in pkgutil.walk_packages(greenroom.__path__, "greenroom."):
        if "__main__" not in each.name and "pytest_plugin" not in each.name:
            importlib.import_module(each.name)
    return sorted(set(kinds_of(PoolError)), key=lambda kind: kind.__name__)


def hostile(kind: type[PoolError]) -> PoolError:
    """An error of that kind, as it is raised: with a cause, a context, notes and a traceback."""
    made = MAKERS.get(kind, lambda: kind("what it says"))()
    try:
        try:
            raise KeyError(PROMPT)
        except KeyError:
            raise made from client_error()
    except PoolError as error:
        error.add_note(PROMPT)
        return error


def same(one: Any, other: Any) -> None:
    """Compare errors as a reader would, all the way down."""
    assert type(one) is type(other)
    assert str(one) == str(other)
    plain = ("kind", "retry_after_s", "started", "pool_name", "member", "received_count")
    for name in (*plain, "reason", "detail", "maybe"):
        assert getattr(one, name, None) == getattr(other, name, None), name
    for left, right in zip(getattr(one, "errors", ()), getattr(other, "errors", ()), strict=True):
        same(left, right)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_without_its_secrets(kind: type[PoolError], protocol: int) -> None:
    """It comes out as it was to a reader; the key, the prompt and the chunks are not in it."""
    error = hostile(kind)
    words = pickle.dumps(error, protocol)
    assert KEY.encode() not in words
    assert b"sk-secret" not in words
    assert PROMPT.encode() not in words
    twin = pickle.loads(words)
    same(twin, error)
    assert isinstance(twin.__cause__, RemoteCause)
    assert str(twin.__cause__) == "ClientError: refused: api_key=***"
    assert twin.__context__ is None
    assert twin.__traceback__ is None
    assert not hasattr(twin, "__notes__")
    same(pickle.loads(pickle.dumps(twin, protocol)), error)


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_copies_of_errors(kind: type[PoolError]) -> None:
    """A shallow copy has the very causes, a deep one what a pickle has."""
    error = hostile(kind)
    shallow = copy.copy(error)
    same(shallow, error)
    assert shallow.__cause__ is error.__cause__
    deep = copy.deepcopy(error)
    same(deep, error)
    assert isinstance(deep.__cause__, RemoteCause)


def test_chunks_stay_where_they_came() -> None:
    """How many they were comes along."""
    error = StreamInterruptedError("writers", "a", [], [PROMPT], 1)
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.received, twin.received_count) == ((), 1)
    assert error.received == (PROMPT,)


def test_new_attributes_and_errors_of_others_come_along() -> None:
    """What is plain data does; what is anything else is named by its type only."""
    error = hostile(AllPoolMembersFailedError)
    vars(error).update(same_everywhere=True, table={"a": [1, ("b", None)]}, client=threading.Lock())
    twin: Any = pickle.loads(pickle.dumps(error))
    assert twin.same_everywhere is True
    assert twin.table == {"a": [1, ("b", None)]}
    assert twin.client == "<lock>"


def test_an_error_of_a_class_of_the_apps_own() -> None:
    """With a constructor of its own, and a circle of causes."""
    error, other = OwnError(5, text="x"), PoolError("other")
    error.__cause__, other.__cause__ = other, error
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), twin.number, str(twin)) == (OwnError, 5, "5: x")
    assert twin.__cause__.__cause__ is twin


class OwnError(PoolError):
    def __init__(self, number: int, *, text: str) -> None:
        super().__init__(f"{number}: {text}")
        self.number = number


def test_what_a_cause_says_in_another_process() -> None:
    """Its class, where that is defined, and one line of at most 200 characters."""
    cause = pickle.loads(
        pickle.dumps(AttemptError("a", 0, FailureKind.TIMEOUT, client_error()))
    ).error
    assert isinstance(cause, RemoteCause)
    assert (cause.type_name, cause.module) == ("ClientError", __name__)
    assert cause.text == "refused: api_key=***"
    long = RemoteCause.of(ValueError("x" * 500))
    assert (long.text, str(RemoteCause.of(ValueError()))) == ("x" * 200, "ValueError")
    assert RemoteCause.of(long) is long


def fail(payload: Any) -> Any:
    raise client_error()


def ask_in_a_worker(payload: str) -> Any:
    """Start a pool where the work is done, and let its error travel."""
    with AgentPool.start([Member("a", fail), Member("b", fail)]) as pool:
        return pool.execute(payload, timeout=WAIT_S)


def test_errors_come_back_from_a_process_pool() -> None:
    """The executor is not broken by a cause that cannot be pickled; it takes the next task."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers:
        for _ in range(2):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                workers.submit(ask_in_a_worker, PROMPT).result(60)
            assert {each.member for each in caught.value.errors} == {"a", "b"}
            assert "ClientError: refused: api_key=***" in str(caught.value)
            assert KEY not in str(caught.value)


# -- what is not pickled


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_a_pool_and_what_belongs_to_it_names_the_reason(send: Callable[[Any], Any]) -> None:
    """It lives in its process; the error says so, and what to do."""
    with pool_of(Member("a", echo), name="web") as pool:
        future = pool.ask(Request(1), block=False)
        stream = pool.stream(Request(1))
        chain, breaker = FallbackChain[int](name="chain"), CircuitBreaker()
        executor = PoolExecutor("writers", [MemberConfig("a")], lambda name, request: echo)
        for thing, words in (
            (pool, r"pool 'web' can be neither pickled nor copied: it lives in the process that"),
            (future, "a future of a pool can be neither .*: its answer comes to the process that"),
            (stream, "a stream of a pool can be neither .*: its chunks come to the process that"),
            (iter(stream), "a stream of a pool can be neither"),
            (aiter(stream), "a stream of a pool can be neither"),
            (chain, "FallbackChain 'chain' can be neither .* make one in each process"),
            (executor, "PoolExecutor 'writers' can be neither"),
            (breaker, "a circuit breaker can be neither"),
            (context(), "a CallContext can be neither .*: it belongs to one call"),
        ):
            with pytest.raises(TypeError, match=words):
                send(thing)
        future.get(timeout=WAIT_S)


def context() -> CallContext:
    return CallContext(request_id="1", member="a", now=lambda: 0.0, on_side_effects=lambda: None)


def test_a_member_that_is_a_pool_names_the_reason_too() -> None:
    """A member is pickled if its agent is."""
    assert pickle.loads(pickle.dumps(Member("a", echo, weight=2))) == Member("a", echo, weight=2)
    with pool_of(Member("a", echo), name="web") as pool:
        member = Member("inner", pool)
        with pytest.raises(TypeError, match="pool 'web' can be neither"):
            pickle.dumps(member)


def test_replies_and_requests_are_pickled_as_they_are() -> None:
    """The app's own data is the app's own: values and payloads are there, causes are not."""
    reply = Reply("value", member="b", errors=(attempt(),))
    twin = pickle.loads(pickle.dumps(reply))
    assert (twin.value, twin.member) == ("value", "b")
    same(twin.errors[0], reply.errors[0])
    request = Request("payload", key="k", metadata={"a": 1})
    assert pickle.loads(pickle.dumps(request)) == request


VALUES: dict[str, Any] = {"str": "x", "int": 1, "float": 1.5, "bool": True}


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.name)
def test_events_are_pickled(kind: type[Event]) -> None:
    """They are plain data."""
    event = kind.__new__(kind)
    for each in fields(kind):
        name = str(each.type).partition(" ")[0]
        object.__setattr__(event, each.name, VALUES.get(name))
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event


def test_a_skip_has_no_cause() -> None:
    """None stays None."""
    skipped = AttemptError("a", 0, SkipReason.CIRCUIT_OPEN, attempts=0, detail="reopens in 1.0 s")
    twin = pickle.loads(pickle.dumps(skipped))
    assert (twin.error, twin.__cause__, twin.skipped) == (None, None, True)
    same(twin, skipped)
