"""A fallback chain that changes, has many callers, takes too long, and ends."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref

import pytest
from helpers_fallback import Script, chain_of
from helpers_pools import WAIT_S

from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CircuitState,
    DeadlineExceededError,
    EmptyChainError,
    FallbackChain,
    FallbackResult,
    PoolConfig,
    PoolStoppedError,
    SkipReason,
    UnsuccessfulResultError,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.fallback.chain_run import InOrder, Link, Run
from greenroom.messages.events import Event, PoolStarted

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
        assert opened.wait(WAIT_S)
        return agent

    answers: list[str] = []
    with chain_of("a", "b") as chain:
        caller = threading.Thread(target=lambda: answers.append(chain.execute(work)))
        caller.start()
        assert begun.wait(WAIT_S)
        assert chain.remove("a")
        assert chain.execute(Script()) == "b answers"
        adder = threading.Thread(target=lambda: chain.insert(0, "a", "another a"))
        adder.start()
        opened.set()
        caller.join(WAIT_S)
        adder.join(WAIT_S)
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
        meeting.wait(WAIT_S)
        return agent

    callers = [
        threading.Thread(target=lambda: answers.append(chain.execute(meet))) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT_S)
    assert answers == ["a"] * 20


def test_a_full_agent_is_waited_for() -> None:
    """A caller too many waits for the first agent: it does not get the second one's answer."""
    begun, opened = threading.Event(), threading.Event()

    def work(agent: str) -> str:
        begun.set()
        assert opened.wait(WAIT_S)
        return agent

    with chain_of("a", "b", max_concurrency=1) as chain:
        answers: list[str] = []
        callers = [
            threading.Thread(target=lambda: answers.append(chain.execute(work))) for _ in range(5)
        ]
        for caller in callers:
            caller.start()
        assert begun.wait(WAIT_S)
        while chain.pool.stats().pending < 4:
            assert all(caller.is_alive() for caller in callers)
        assert chain.pool.stats()["b"].in_flight == 0
        opened.set()
        for caller in callers:
            caller.join(WAIT_S)
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
            caller.join(WAIT_S)
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
            released.wait(WAIT_S)
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
        released.wait(WAIT_S)

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
        released.wait(WAIT_S)

    def call() -> None:
        try:
            chain.execute(work)
        except PoolStoppedError as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(WAIT_S)
    chain.close()
    caller.join(WAIT_S)
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
    pool.join(WAIT_S)
    assert not pool.is_alive()


def test_a_coroutine_that_is_cancelled_before_it_begins_is_not_complained_of() -> None:
    """A plain function has returned it, and the call is given up before the loop has a turn."""

    async def agent() -> None:
        raise AssertionError

    run = Run(InOrder(), lambda made: made(), None)
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        run.message.function(Link("a", agent))
        gc.collect()
    assert not complaints
