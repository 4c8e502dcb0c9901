"""A fallback chain: agents in order, each tried once at most, until one succeeds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_fallback import Script, chain_of
from helpers_pools import WAIT_S

from greenroom import (
    AllPoolMembersFailedError,
    EmptyChainError,
    FailureKind,
    FallbackChain,
    FallbackResult,
    MemberExistsError,
    PoolConfig,
    PoolError,
)
from greenroom.actors.reading.classify import Verdict, classify
from greenroom.fallback.chain import _classifier

# -- who answers


def test_the_first_agent_that_succeeds_answers(chain: FallbackChain[str]) -> None:
    """The first one is enough when it works: nobody else is called."""
    script = Script()
    assert chain.execute(script) == "a answers"
    assert script.calls == ["a"]


def test_each_failure_moves_on_to_the_next_in_order(chain: FallbackChain[str]) -> None:
    """Two failures, two steps."""
    script = Script(a=KeyError("a"), b=OSError("b"))
    assert chain.execute(script) == "c answers"
    assert script.calls == ["a", "b", "c"]


def test_every_execution_starts_from_the_first_agent(chain: FallbackChain[str]) -> None:
    """Ordered, not sticky: not even the failure of a moment ago has the first one passed over."""
    script = Script(a=ValueError())
    for _ in range(200):
        assert chain.execute(script) == "b answers"
    assert script.calls == ["a", "b"] * 200


def test_every_agent_is_tried_whatever_max_retries_and_the_budget_say() -> None:
    """Ten agents, no retries allowed, no budget: the tenth is reached all the same."""
    config = PoolConfig(max_retries=0, retry_budget_ratio=0.0, retry_budget_floor=0.0)
    names = [f"agent{n}" for n in range(10)]
    failing: dict[str, BaseException] = {name: RuntimeError(name) for name in names[:-1]}
    with chain_of(*names, config=config) as chain:
        script = Script(**failing)
        assert chain.execute(script) == "agent9 answers"
        assert script.calls == names


@pytest.mark.parametrize("agent", ["text", None, 0, [], object(), lambda: "x", {"a": 1}, int])
def test_an_agent_is_any_object(agent: Any) -> None:
    """It is handed to the function as it is, whatever it is."""
    with FallbackChain[Any]().add("one", agent) as chain:
        assert chain.execute(lambda given: given is agent) is True


def test_greenroom_does_not_close_an_agent_that_it_was_given() -> None:
    """What the user made is the user's to close."""

    class Client:
        closed = False

        def close(self) -> None:
            self.closed = True

    client = Client()
    with FallbackChain[Client]().add("one", client) as chain:
        chain.execute(lambda each: each.closed)
        chain.remove("one")
    assert not client.closed


# -- when all fail


def test_when_all_fail_the_error_lists_each_in_order(chain: FallbackChain[str]) -> None:
    """One entry an agent: name, place, kind and error; the first cause is chained."""
    errors = {"a": TimeoutError("slow"), "b": ConnectionError("down"), "c": KeyError("odd")}
    with pytest.raises(AllPoolMembersFailedError) as caught:
        chain.execute(Script(**errors))
    error = caught.value
    assert error.pool_name == "fallback"
    assert error.member_names == ("a", "b", "c")
    assert [(each.member, each.index, each.error) for each in error.errors] == [
        ("a", 0, errors["a"]),
        ("b", 1, errors["b"]),
        ("c", 2, errors["c"]),
    ]
    kinds = [each.kind for each in error.errors]
    assert kinds == [FailureKind.TIMEOUT, FailureKind.UNAVAILABLE, FailureKind.UNKNOWN]
    assert error.__cause__ is errors["a"]
    for text in ("slow", "down", "odd"):
        assert text in str(error)


def test_after_all_have_failed_the_next_execution_tries_them_again(
    chain: FallbackChain[str],
) -> None:
    """A plain chain has no breaker: fifty failures later everyone still has a turn."""
    script = Script(a=OSError(), b=OSError(), c=OSError())
    for _ in range(50):
        with pytest.raises(AllPoolMembersFailedError):
            chain.execute(script)
    assert script.calls == ["a", "b", "c"] * 50


def test_an_empty_chain_says_so() -> None:
    """A `PoolError` that is a `RuntimeError`, or a result that holds it; no pool is started."""
    with FallbackChain[str](name="empty") as chain:
        with pytest.raises(EmptyChainError, match="'empty' has no agents") as caught:
            chain.execute(str)
        assert isinstance(caught.value, PoolError)
        assert isinstance(caught.value, RuntimeError)
        result = chain.execute_detailed(str)
        assert not result.success
        assert isinstance(result.error, EmptyChainError)
        assert result.attempts == []


# -- which errors move on


@pytest.mark.parametrize(
    "error",
    [Exception(), KeyError(), ArithmeticError(), StopIteration(), AssertionError(), EOFError()],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_moves_on_by_default(error: Exception) -> None:
    """Not only five types."""
    with chain_of("a", "b") as chain:
        assert chain.execute(Script(a=error)) == "b answers"


def test_a_bad_request_moves_on_too() -> None:
    """handled_exceptions alone decide, not the status of the error."""

    class BadRequest(Exception):
        status_code = 400

    with chain_of("a", "b") as chain:
        assert chain.execute(Script(a=BadRequest())) == "b answers"


def test_an_error_that_is_not_handled_is_raised_as_it_is(chain: FallbackChain[str]) -> None:
    """At once, the very same object, and nobody further is tried."""
    chain = chain_of("a", "b", "c", handled_exceptions=(OSError, ValueError))
    with chain:
        error = KeyError("mine")
        script = Script(a=OSError(), b=error)
        with pytest.raises(KeyError) as caught:
            chain.execute(script)
        assert caught.value is error
        assert script.calls == ["a", "b"]
        with pytest.raises(KeyError):
            chain.execute_detailed(script)


def test_one_type_may_stand_for_itself() -> None:
    """As in an except clause."""
    with chain_of("a", "b", handled_exceptions=OSError) as chain:
        assert chain.handled_exceptions == (OSError,)
        assert chain.execute(Script(a=ConnectionError())) == "b answers"


def test_what_is_no_exception_does_not_escape_as_it_is() -> None:
    """A SystemExit of an agent does not end the caller."""
    error = SystemExit(3)
    with chain_of("a", "b") as chain:
        script = Script(a=error)
        with pytest.raises(PoolError) as caught:
            chain.execute(script)
        assert caught.value.__cause__ is error
        assert script.calls == ["a"]


def test_the_errors_of_an_inner_pool_are_not_taken_for_the_chains_own() -> None:
    """Not handled, so raised as it is; handled, so one agent's failure."""
    inner = AllPoolMembersFailedError("fallback", ("x",), ())
    with chain_of("a", "b", handled_exceptions=KeyError) as chain:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            chain.execute(Script(a=inner))
        assert caught.value is inner
        with pytest.raises(AllPoolMembersFailedError) as caught:
            chain.execute_detailed(Script(a=inner))
        assert caught.value is inner
    with chain_of("a", "b") as chain:
        assert chain.execute(Script(a=inner)) == "b answers"


# -- the detailed result


def test_a_detailed_success_names_the_agent_and_who_failed_before(
    chain: FallbackChain[str],
) -> None:
    """Every field of a success."""
    error = ValueError("no")
    result = chain.execute_detailed(Script(a=error))
    assert result == FallbackResult(
        success=True, agent_name="b", result="b answers", error=None, attempts=[("a", error)]
    )


def test_a_detailed_failure_holds_the_last_error(chain: FallbackChain[str]) -> None:
    """Every field of a failure."""
    errors = {"a": ValueError(1), "b": ValueError(2), "c": ValueError(3)}
    result = chain.execute_detailed(Script(**errors))
    assert not result.success
    assert (result.agent_name, result.result) == (None, None)
    assert result.error is errors["c"]
    assert result.attempts == list(errors.items())


# -- on_fallback


def test_on_fallback_is_told_of_each_failure_in_order_in_the_callers_thread(
    chain: FallbackChain[str],
) -> None:
    """The chain's own, or the one of the call in its place."""
    told: list[tuple[str, BaseException, threading.Thread]] = []

    def note(name: str, error: Exception) -> None:
        told.append((name, error, threading.current_thread()))

    errors = {"a": ValueError(), "b": OSError()}
    assert chain.execute(Script(**errors), on_fallback=note) == "c answers"
    here = threading.current_thread()
    assert told == [("a", errors["a"], here), ("b", errors["b"], here)]


def test_the_on_fallback_of_a_call_comes_in_place_of_the_chains() -> None:
    """One of them is called, not both."""
    own: list[str] = []
    other: list[str] = []
    with chain_of("a", "b", on_fallback=lambda name, _: own.append(name)) as chain:
        chain.execute(Script(a=OSError()))
        chain.execute(Script(a=OSError()), on_fallback=lambda name, _: other.append(name))
        chain.execute(Script())
    assert (own, other) == (["a"], ["a"])


def test_on_fallback_hears_of_the_last_one_too_when_all_fail(chain: FallbackChain[str]) -> None:
    """Each agent that failed, before the error is raised."""
    told: list[str] = []
    script = Script(a=OSError(), b=OSError(), c=OSError())
    with pytest.raises(AllPoolMembersFailedError):
        chain.execute(script, on_fallback=lambda name, _: told.append(name))
    assert told == ["a", "b", "c"]


def test_on_fallback_hears_of_those_before_an_error_that_is_not_handled() -> None:
    """They failed; the one whose error is raised has its own say."""
    told: list[tuple[str, BaseException]] = []
    first = OSError("first")

    def note(name: str, error: BaseException) -> None:
        told.append((name, error))

    with chain_of("a", "b", "c", handled_exceptions=OSError) as chain, pytest.raises(KeyError):
        chain.execute(
            Script(a=first, b=KeyError()),
            on_fallback=lambda name, error: told.append((name, error)),
        )
    assert told == [("a", first)]


def test_what_on_fallback_raises_is_raised(chain: FallbackChain[str]) -> None:
    """It runs in the caller's thread and is the caller's business."""

    def refuse(name: str, error: Exception) -> None:
        raise LookupError(name)

    with pytest.raises(LookupError, match="a"):
        chain.execute(Script(a=OSError()), on_fallback=refuse)


# -- async


def test_an_async_function_is_awaited(chain: FallbackChain[str]) -> None:
    """A coroutine function, or a plain one that returns a coroutine; its errors move on too."""

    async def ask(agent: str) -> str:
        await asyncio.sleep(0)
        return Script(a=OSError())(agent)

    def return_coroutine(agent: str) -> Any:
        return ask(agent)

    assert chain.execute(ask) == "b answers"
    assert chain.execute(return_coroutine) == "b answers"


def test_an_unhandled_error_of_an_async_function_is_raised_as_it_is() -> None:
    """The same rule, from whichever kind of function it comes."""
    error = AllPoolMembersFailedError("fallback", (), ())

    async def ask(agent: str) -> str:
        await asyncio.sleep(0)
        raise error

    functions: list[Callable[[str], Any]] = [ask, lambda agent: ask(agent)]
    with chain_of("a", "b", handled_exceptions=KeyError) as chain:
        for function in functions:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                chain.execute_detailed(function)
            assert caught.value is error


def test_awaiting_leaves_the_callers_loop_free() -> None:
    """An agent's thread waits for what only the caller's loop can do."""

    async def main() -> tuple[str, FallbackResult[str], list[str]]:
        told: list[str] = []
        opened = threading.Event()

        def wait(agent: str) -> str:
            assert opened.wait(WAIT_S)
            return Script(a=OSError())(agent)

        async with chain_of("a", "b") as chain:
            asyncio.get_running_loop().call_soon(opened.set)
            text = await chain.aexecute(wait, on_fallback=lambda name, _: told.append(name))
            return text, await chain.aexecute_detailed(Script()), told

    text, result, told = asyncio.run(main())
    assert text == "b answers"
    assert result.agent_name == "a"
    assert told == ["a"]


def test_a_cancelled_await_cancels_the_call() -> None:
    """The coroutine on the chain's loop gets its CancelledError, and nobody further is tried."""
    cancelled = threading.Event()
    calls: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def hang(agent: str) -> None:
            calls.append(agent)
            loop.call_soon_threadsafe(begun.set)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with chain_of("a", "b") as chain:
            task = asyncio.create_task(chain.aexecute(hang))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, WAIT_S)

    asyncio.run(main())
    assert calls == ["a"]


# -- what it refuses


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must not be empty, got ''"),
        ({"name": 3}, TypeError, "name must be a string, got 3"),
        ({"handled_exceptions": (int,)}, TypeError, "handled_exceptions must hold types"),
        ({"handled_exceptions": 3}, TypeError, "handled_exceptions must hold types"),
        ({"handled_exceptions": (OSError(),)}, TypeError, "handled_exceptions must hold types"),
        ({"on_fallback": 3}, TypeError, "on_fallback must be callable, got 3"),
        ({"on_fallback": asyncio.sleep}, TypeError, "on_fallback must be a plain function"),
        ({"config": {}}, TypeError, "config must be a PoolConfig, got {}"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_refused(
    wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    """With its name, its value and the rule."""
    with pytest.raises(error) as caught:
        FallbackChain[str](**wrong)
    assert message in str(caught.value)


def test_names_are_unique_and_not_empty(chain: FallbackChain[str]) -> None:
    """Before the start and after it."""
    for _ in range(2):
        with pytest.raises(MemberExistsError, match="name must be unique in chain 'fallback'"):
            chain.add("a", "another")
        with pytest.raises(ValueError, match="name must not be empty"):
            chain.insert(0, " ", "x")
        with pytest.raises(ValueError, match="name must not contain line breaks"):
            chain.add("two\nlines", "x")
        with pytest.raises(TypeError, match="index must be a whole number"):
            chain.insert("0", "x", "x")  # type: ignore[arg-type]
        assert chain.names == ("a", "b", "c")
        chain.execute(Script())


def test_a_wrong_call_is_refused(chain: FallbackChain[str]) -> None:
    """Before anything runs."""
    with pytest.raises(TypeError, match="func must be callable, got 'hello'"):
        chain.execute("hello")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="on_fallback must be callable"):
        chain.execute(Script(), on_fallback=3)  # type: ignore[call-overload]


def test_a_chain_keeps_what_the_rules_know_of_an_error() -> None:
    """Whether it is certain, and who may mend it: only what an app says is taken for certain."""

    class Refused(Exception):
        status_code = 403

    class BadRequest(Exception):
        status_code = 400

    kind_of = _classifier((Exception,), None)
    assert classify(Refused(), kind_of) == Verdict(FailureKind.AUTH)
    reset = Verdict(FailureKind.UNAVAILABLE, same_member_may_mend=True, disconnected=True)
    assert classify(ConnectionResetError(), kind_of) == reset
    assert classify(BadRequest(), kind_of) == Verdict(FailureKind.UNKNOWN)
    certain = _classifier((Exception,), lambda error: FailureKind.AUTH)
    assert classify(Refused(), certain) == Verdict(FailureKind.AUTH, opens_at_once=True)
    assert classify(KeyError(), _classifier((OSError,), None)).kind is FailureKind.CALLER
