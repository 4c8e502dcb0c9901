"""A fallback chain: agents in order, each tried once at most, until one succeeds."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CircuitState,
    DeadlineExceededError,
    EmptyChainError,
    FailureKind,
    FallbackChain,
    FallbackResult,
    MemberExistsError,
    PoolConfig,
    PoolError,
    PoolStoppedError,
    SkipReason,
    UnsuccessfulResultError,
)
from greenroom.actors.classify import Verdict, classify
from greenroom.actors.eventbus import observe
from greenroom.fallback import _classifier
from greenroom.messages.events import Event, PoolStarted

PATIENCE_S = 10.0
"""No test waits this long unless something is broken."""


class Script:
    """A function of an agent that fails for some of them, and writes down whom it was given."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.calls: list[str] = []

    def __call__(self, agent: str) -> str:
        self.calls.append(agent)
        if agent in self.errors:
            raise self.errors[agent]
        return f"{agent} answers"


def chain_of(*names: str, **settings: Any) -> FallbackChain[str]:
    """A chain whose agents are strings, each its own name."""
    chain: FallbackChain[str] = FallbackChain(**settings)
    for name in names:
        chain.add(name, name)
    return chain


@pytest.fixture
def chain() -> Iterator[FallbackChain[str]]:
    with chain_of("a", "b", "c") as chain:
        yield chain


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
            assert opened.wait(PATIENCE_S)
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
            assert await asyncio.to_thread(cancelled.wait, PATIENCE_S)

    asyncio.run(main())
    assert calls == ["a"]


# -- the chain changes


def test_add_insert_and_remove_before_the_first_use() -> None:
    """The seed's own uses: they return the chain, or whether there was one."""
    chain: FallbackChain[str] = FallbackChain()
    assert chain.is_empty
    assert chain.add("b", "b") is chain
    assert chain.insert(0, "a", "a") is chain
    chain.add("c", "c").insert(-1, "x", "x")
    assert chain.names == ("a", "b", "x", "c")
    assert (chain.size, chain.is_empty) == (4, False)
    assert chain.remove("x") is True
    assert chain.remove("x") is False
    assert repr(chain) == "<FallbackChain fallback: a -> b -> c>"
    chain.close()


def test_changes_after_the_start_hold_for_the_next_execution(chain: FallbackChain[str]) -> None:
    """An insert at the front is tried first, at its place; what was removed is not tried."""
    script = Script(a=OSError("a"), new=OSError("new"), b=OSError("b"), c=OSError("c"))
    with pytest.raises(AllPoolMembersFailedError):
        chain.execute(script)
    chain.insert(0, "new", "new")
    chain.remove("b")
    with pytest.raises(AllPoolMembersFailedError) as caught:
        chain.execute(script)
    assert script.calls[3:] == ["new", "a", "c"]
    assert caught.value.member_names == ("new", "a", "c")
    assert [(each.member, each.index) for each in caught.value.errors] == [
        ("new", 0),
        ("a", 1),
        ("c", 2),
    ]
    assert str(caught.value.__cause__) == "new"


def test_an_execution_under_way_counts_a_new_agent_in(chain: FallbackChain[str]) -> None:
    """What comes behind the agent at work is tried; what comes before it as well, in its order."""
    calls: list[str] = []

    def grow(agent: str) -> str:
        calls.append(agent)
        if agent == "b":
            chain.add("last", "last")
            chain.insert(0, "first", "first")
        if agent != "last":
            raise OSError(agent)
        return agent

    assert chain.execute(grow) == "last"
    assert calls == ["a", "b", "first", "c", "last"]


def test_a_removed_agent_finishes_what_it_has() -> None:
    """Removing does not wait for it; adding the same name again does."""
    begun, opened = threading.Event(), threading.Event()

    def work(agent: str) -> str:
        begun.set()
        assert opened.wait(PATIENCE_S)
        return agent

    answers: list[str] = []
    with chain_of("a", "b") as chain:
        caller = threading.Thread(target=lambda: answers.append(chain.execute(work)))
        caller.start()
        assert begun.wait(PATIENCE_S)
        assert chain.remove("a")
        assert chain.execute(Script()) == "b answers"
        adder = threading.Thread(target=lambda: chain.insert(0, "a", "another a"))
        adder.start()
        opened.set()
        caller.join(PATIENCE_S)
        adder.join(PATIENCE_S)
        assert answers == ["a"]
        assert chain.names == ("a", "b")
        assert chain.execute(Script()) == "another a answers"


def test_a_chain_that_has_become_empty_says_so(chain: FallbackChain[str]) -> None:
    """The pool runs, but there is nobody in it."""
    chain.execute(Script())
    for name in chain.names:
        chain.remove(name)
    with pytest.raises(EmptyChainError):
        chain.execute(Script())


# -- callers at the same time


def test_callers_do_not_wait_for_each_other(chain: FallbackChain[str]) -> None:
    """Twenty calls meet inside one agent: none of them could go on alone."""
    meeting = threading.Barrier(20)
    answers: list[str] = []

    def meet(agent: str) -> str:
        meeting.wait(PATIENCE_S)
        return agent

    callers = [
        threading.Thread(target=lambda: answers.append(chain.execute(meet))) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert answers == ["a"] * 20


def test_a_full_agent_is_waited_for() -> None:
    """A caller too many waits for the first agent: it does not get the second one's answer."""
    begun, opened = threading.Event(), threading.Event()

    def work(agent: str) -> str:
        begun.set()
        assert opened.wait(PATIENCE_S)
        return agent

    with chain_of("a", "b", max_concurrency=1) as chain:
        answers: list[str] = []
        callers = [
            threading.Thread(target=lambda: answers.append(chain.execute(work))) for _ in range(5)
        ]
        for caller in callers:
            caller.start()
        assert begun.wait(PATIENCE_S)
        while chain.pool.stats().pending < 4:
            assert all(caller.is_alive() for caller in callers)
        assert chain.pool.stats()["b"].in_flight == 0
        opened.set()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert answers == ["a"] * 5


def test_many_callers_with_failures_each_go_through_the_whole_order() -> None:
    """Whoever else fails at the same time: every execution sees a, b, c."""
    results: list[FallbackResult[str]] = []
    chain = chain_of("a", "b", "c")

    def call() -> None:
        for _ in range(50):
            results.append(chain.execute_detailed(Script(a=OSError(), b=OSError())))

    with chain:
        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE_S)
        stats = chain.pool.stats()
    assert len(results) == 400
    assert {result.agent_name for result in results} == {"c"}
    assert all([name for name, _ in result.attempts] == ["a", "b"] for result in results)
    assert (stats.in_flight, stats.pending) == (0, 0)


# -- with a configuration


def test_with_a_config_the_breakers_are_on() -> None:
    """An agent whose breaker is open is passed over, and the error says so."""
    config = PoolConfig(circuit_failure_threshold=2, circuit_reset_timeout_s=300.0)
    script = Script(a=OSError())
    with chain_of("a", "b", config=config) as chain:
        for _ in range(5):
            assert chain.execute(script) == "b answers"
        assert script.calls.count("a") == 2
        script.errors["b"] = KeyError("now b as well")
        result = chain.execute_detailed(script)
        assert [name for name, _ in result.attempts] == ["b"]
        with pytest.raises(AllPoolMembersFailedError) as caught:
            chain.execute(script)
        skipped = caught.value.errors[0]
        assert (skipped.member, skipped.kind) == ("a", SkipReason.CIRCUIT_OPEN)


def test_when_every_breaker_is_open_the_result_holds_the_error_that_says_so() -> None:
    """Nobody was tried, so there is no last error of an agent."""
    with chain_of("a", config=PoolConfig(circuit_failure_threshold=1)) as chain:
        assert chain.execute_detailed(Script(a=OSError())).attempts != []
        result = chain.execute_detailed(Script())
        assert result.attempts == []
        assert isinstance(result.error, AllPoolMembersFailedError)


def test_without_a_config_no_breaker_ever_opens(chain: FallbackChain[str]) -> None:
    """Disabled, for those too that come later; statistics are kept all the same."""

    class Forbidden(Exception):
        status_code = 403

    chain.execute(Script(a=Forbidden()))
    chain.insert(0, "new", "new")
    for _ in range(20):
        chain.execute(Script(new=Forbidden(), a=Forbidden()))
    stats = chain.pool.stats()
    assert {each.circuit for each in stats.members} == {CircuitState.DISABLED}
    assert stats["a"].failures == 21
    assert stats.available == ("a", "b", "c", "new")


def test_an_attempt_that_takes_too_long_moves_on() -> None:
    """Whatever handled_exceptions say; on_fallback hears of it also before an unhandled error."""
    released = threading.Event()
    told: list[tuple[str, BaseException]] = []

    def note(name: str, error: BaseException) -> None:
        told.append((name, error))

    def work(agent: str) -> str:
        if agent == "a":
            released.wait(PATIENCE_S)
        if agent == "b":
            raise KeyError
        return agent

    config = PoolConfig(request_timeout_s=0.3)
    try:
        with chain_of("a", "c", config=config, handled_exceptions=OSError) as chain:
            assert chain.execute(work, on_fallback=note) == "c"
            chain.insert(1, "b", "b")
            with pytest.raises(KeyError):
                chain.execute(work, on_fallback=note)
    finally:
        released.set()
    assert [name for name, _ in told] == ["a", "a"]
    assert all(isinstance(error, AttemptTimeoutError) for _, error in told)


def test_a_value_that_is_failure_refuses_moves_on() -> None:
    """Whatever handled_exceptions say."""
    config = PoolConfig(is_failure=lambda value: value == "a answers")
    with chain_of("a", "b", config=config, handled_exceptions=KeyError) as chain:
        assert chain.execute(Script()) == "b answers"


def test_what_is_plainly_a_failure_moves_on() -> None:
    """Also a content filter's word, since another agent of the chain may have none."""
    failures = [
        {"error": {"message": "m", "type": "server_error"}},
        {"object": "chat.completion.chunk", "choices": [{"finish_reason": "content_filter"}]},
    ]
    for failure in failures:
        with chain_of("a", "b") as chain:
            results = {"a": failure, "b": "b answers"}
            assert chain.execute(results.get) == "b answers"


def test_on_fallback_hears_of_a_refused_value_before_an_unhandled_error() -> None:
    """It is told that the value was refused, not that the agent was too slow."""
    told: list[tuple[str, BaseException]] = []

    def note(name: str, error: BaseException) -> None:
        told.append((name, error))

    config = PoolConfig(is_failure=lambda value: value == "a answers")
    with (
        chain_of("a", "b", config=config, handled_exceptions=OSError) as chain,
        pytest.raises(KeyError),
    ):
        chain.execute(Script(b=KeyError()), on_fallback=note)
    assert [(name, type(error)) for name, error in told] == [("a", UnsuccessfulResultError)]


def test_the_timeout_of_a_call_is_for_the_whole_of_it() -> None:
    """It ends in a TimeoutError that lists what was tried."""
    released = threading.Event()
    told: list[str] = []

    def work(agent: str) -> None:
        if agent == "a":
            raise OSError
        released.wait(PATIENCE_S)

    try:
        with chain_of("a", "b") as chain:
            with pytest.raises(DeadlineExceededError) as caught:
                chain.execute(work, on_fallback=lambda name, _: told.append(name), timeout=0.3)
            assert isinstance(caught.value, TimeoutError)
            assert [each.member for each in caught.value.errors] == ["a", "b"]
            assert told == ["a", "b"]
    finally:
        released.set()


# -- its life


def test_the_pool_starts_with_the_first_execution() -> None:
    """Making a chain and changing it starts nothing."""
    started: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, PoolStarted):
            started.append(event.pool)

    end = observe(note)
    try:
        with chain_of("a", name="late") as chain:
            chain.add("b", "b").remove("b")
            assert "late" not in started
            chain.execute(Script())
            assert started.count("late") == 1
    finally:
        end()


def test_close_stops_the_pool_and_may_be_repeated() -> None:
    """After it nothing is taken in any more, whether the chain was ever used or not."""
    used, unused = chain_of("a"), chain_of("a")
    used.execute(Script())
    pool = used.pool
    for chain in (used, unused):
        chain.close()
        chain.close()
        with pytest.raises(PoolStoppedError):
            chain.execute(Script())
        with pytest.raises(PoolStoppedError):
            chain.add("b", "b")
    assert not pool.is_alive()
    with pytest.raises(PoolStoppedError):
        _ = unused.pool


def test_close_answers_who_still_waits() -> None:
    """Somebody in the middle of a call gets a PoolStoppedError."""
    begun, released = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    chain = chain_of("a", "b")

    def work(agent: str) -> None:
        begun.set()
        released.wait(PATIENCE_S)

    def call() -> None:
        try:
            chain.execute(work)
        except PoolStoppedError as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(PATIENCE_S)
    chain.close()
    caller.join(PATIENCE_S)
    released.set()
    assert len(errors) == 1


def test_a_chain_that_is_dropped_lets_its_pool_stop() -> None:
    """Users of the seed never closed a chain: no pool is left behind for that."""
    chain = chain_of("a")
    chain.execute(Script())
    pool, gone = chain.pool, weakref.ref(chain)
    del chain
    gc.collect()
    assert gone() is None
    pool.join(PATIENCE_S)
    assert not pool.is_alive()


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
    reset = Verdict(FailureKind.UNAVAILABLE, same_member_may_mend=True)
    assert classify(ConnectionResetError(), kind_of) == reset
    assert classify(BadRequest(), kind_of) == Verdict(FailureKind.UNKNOWN)
    certain = _classifier((Exception,), lambda error: FailureKind.AUTH)
    assert classify(Refused(), certain) == Verdict(FailureKind.AUTH, opens_at_once=True)
    assert classify(KeyError(), _classifier((OSError,), None)).kind is FailureKind.CALLER
