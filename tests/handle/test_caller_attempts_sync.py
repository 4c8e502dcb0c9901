"""Attempts in the caller's own thread: plain `for` and `with`."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_agents import Held
from helpers_attempts import Agent, counts
from helpers_pools import WAIT_S, ask, pool_of, ranked
from helpers_streams import Doing

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolRef,
    PoolStoppedError,
    ReentrantAskError,
    StreamInterruptedError,
)
from greenroom.testing import FakeClock, http_error

GONE = ConnectionError("gone")


def answer(pool: PoolRef, **options: Any) -> str:
    for attempt in pool.attempts(**options):
        with attempt as agent:
            result: str = agent.call()
    return result


def test_a_block_that_raises_has_the_next_member_tried() -> None:
    """As in a coroutine."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:
        assert answer(pool) == "b"
        found = pool.stats()
        assert counts(found["a"]) == (0, 1, 0)
        assert counts(found["b"]) == (1, 0, 0)


def test_the_last_error_is_that_of_an_ask() -> None:
    """All members, or the agent's own where the request is at fault."""
    error = http_error(400)
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b", http_error(503), error))) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            answer(pool, max_retries=1)
        assert [each.member for each in caught.value.errors] == ["a", "b"]
        pool.stats()
        pool.force_open("a")
        with pytest.raises(type(error)) as own:
            answer(pool)
        assert own.value is error


def test_acquire_in_a_thread() -> None:
    """One attempt, with the block's own error."""
    with pool_of(Member("a", Agent("a", GONE))) as pool:
        with pytest.raises(ConnectionError) as caught, pool.acquire() as agent:
            agent.call()
        assert caught.value is GONE
        pool.stats()
        with pool.acquire() as agent:
            assert agent.call() == "a"
        assert counts(pool.stats()["a"]) == (1, 1, 0)


def test_threads_wait_for_slots_and_take_turns() -> None:
    """As many blocks at a time as the member has room for."""
    with pool_of(Member("a", Agent("a"), max_concurrency=2)) as pool:
        running = most = 0
        lock = threading.Lock()

        def block() -> str:
            nonlocal running, most
            with pool.acquire() as agent:
                with lock:
                    running += 1
                    most = max(most, running)
                result: str = agent.call()
                with lock:
                    running -= 1
            return result

        threads = [Doing(block) for _ in range(20)]
        assert [each.result() for each in threads] == ["a"] * 20
        assert most <= 2
        assert counts(pool.stats()["a"]) == (20, 0, 0)


def test_a_block_in_a_thread_is_abandoned_at_its_limit_and_ends_in_the_error(
    clock: FakeClock,
) -> None:
    """It cannot be cut short: its slot is given to others, no other member is asked meanwhile, and
    the caller is told when it is back."""
    b = Agent("b")
    members = [Member("a", Agent("a"), priority=0), Member("b", b, priority=1)]
    with pool_of(*members, clock=clock, request_timeout_s=30.0) as pool:
        with pytest.raises(AllPoolMembersFailedError, match="could not be cut short") as caught:
            for attempt in pool.attempts():
                with attempt:
                    clock.advance(31)
                    found = pool.stats()
                    assert counts(found["a"]) == (0, 1, 0)
                    assert found["a"].abandoned == 1
        assert caught.value.errors[0].kind is FailureKind.TIMEOUT
        found = pool.stats()
        assert found["a"].abandoned == 0
        assert counts(found["b"]) == (0, 0, 0)


def test_a_block_in_a_thread_that_outlives_the_deadline_keeps_its_slot(clock: FakeClock) -> None:
    """As a thread of the pool's own would: until it is back."""
    with pool_of(Member("a", Agent("a")), clock=clock) as pool:
        with pytest.raises(DeadlineExceededError):
            for attempt in pool.attempts(timeout_s=5):
                with attempt:
                    clock.advance(6)
                    assert pool.stats()["a"].in_flight == 1
        assert pool.stats()["a"].in_flight == 0


def test_the_pools_end_does_not_wait_for_a_block_in_a_thread() -> None:
    """It is told when it is back."""
    with pool_of(Member("a", Agent("a"))) as pool:
        with pytest.raises(PoolStoppedError):
            for attempt in pool.attempts():
                with attempt:
                    pool.stop(timeout=WAIT_S)
        with pytest.raises(PoolStoppedError), pool.acquire():
            pass  # pragma: no cover


def test_a_generator_that_is_let_go_of_gives_its_slot_back() -> None:
    """It is closed where it stands; nothing is counted."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        def events() -> Iterator[str]:
            for attempt in pool.attempts(stream=True):
                with attempt as agent:
                    attempt.first()
                    with attempt.paused():
                        yield agent.call()

        stream = events()
        assert next(stream) == "a"
        del stream
        gc.collect()
        with pool.acquire():
            pass
        found = pool.stats()
        assert counts(found["a"]) == (1, 0, 0)
        assert found.cancelled == 1


def test_ctrl_c_in_a_block_goes_through() -> None:
    """It is the caller's end, not the agent's."""
    with pool_of(Member("a", Agent("a"))) as pool:
        with pytest.raises(KeyboardInterrupt):
            for attempt in pool.attempts():
                with attempt:
                    raise KeyboardInterrupt
        found = pool.stats()
        assert counts(found["a"]) == (0, 0, 0)
        assert found.cancelled == 1


def test_a_loop_that_is_left_between_two_attempts_gives_the_next_one_back() -> None:
    """The grant that nobody has entered comes back when the loop is left."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:
        for tries, attempt in enumerate(pool.attempts()):
            if tries == 1:
                break
            with attempt as agent:
                agent.call()
        assert pool.stats().in_flight == 0
        assert pool.stats().cancelled == 1


def test_a_failure_in_band_and_the_first_chunk() -> None:
    """`fail` and `first` are the same in a thread."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:
        names = []
        with pytest.raises(StreamInterruptedError, match="'b' broke off after 1 chunk"):
            for attempt in pool.attempts(stream=True):
                with attempt as agent:
                    names.append(agent.name)
                    if agent.name == "a":
                        attempt.fail(kind=FailureKind.UNAVAILABLE)
                    else:
                        attempt.first()
                        attempt.fail("an error event")
        assert names == ["a", "b"]


# -- trials


def opened(pool: PoolRef, clock: FakeClock) -> None:
    """`a` has failed for good, and its time is over: it is half-open."""
    assert answer(pool) == "b"
    assert pool.stats()["a"].circuit is CircuitState.OPEN
    clock.advance(30.0)
    assert pool.stats()["a"].circuit in (CircuitState.OPEN, CircuitState.HALF_OPEN)


def test_a_block_is_the_trial_of_a_half_open_member(clock: FakeClock) -> None:
    """An attempt like any other: granted, judged, and the breaker closes by it."""
    a = Agent("a", http_error(401))
    config: Any = {"circuit_reset_timeout_s": 30.0, "circuit_success_threshold": 1}
    with pool_of(*ranked(a=a, b=Agent("b")), clock=clock, **config) as pool:
        opened(pool, clock)
        assert answer(pool) == "a"
        assert pool.stats()["a"].circuit is CircuitState.CLOSED


def test_a_trial_that_fails_goes_on_with_another_member(clock: FakeClock) -> None:
    """The breaker opens again; the caller has its answer."""
    a = Agent("a", http_error(401), GONE)
    config: Any = {"circuit_reset_timeout_s": 30.0}
    with pool_of(*ranked(a=a, b=Agent("b")), clock=clock, **config) as pool:
        opened(pool, clock)
        assert answer(pool) == "b"
        assert a.calls == 2
        assert pool.stats()["a"].circuit is CircuitState.OPEN


def test_a_trial_that_is_left_gives_its_permit_back(clock: FakeClock) -> None:
    """Neither a success nor a failure: the next block is the trial."""
    config: Any = {"circuit_reset_timeout_s": 30.0, "circuit_success_threshold": 1}
    members = ranked(a=Agent("a", http_error(401)), b=Agent("b"))
    with pool_of(*members, clock=clock, **config) as pool:
        opened(pool, clock)
        with pytest.raises(KeyboardInterrupt):
            for attempt in pool.attempts():
                with attempt as agent:
                    assert agent.name == "a"
                    raise KeyboardInterrupt
        pool.stats()
        assert answer(pool) == "a"
        assert pool.stats()["a"].circuit is CircuitState.CLOSED


def test_one_attempt_alone_is_no_trial_while_somebody_else_is_there(clock: FakeClock) -> None:
    """As what is not idempotent: it could not be tried again."""
    config: Any = {"circuit_reset_timeout_s": 30.0}
    members = ranked(a=Agent("a", http_error(401)), b=Agent("b"))
    with pool_of(*members, clock=clock, **config) as pool:
        opened(pool, clock)
        with pool.acquire() as agent:
            assert agent.name == "b"


# -- threads of the pool's own, other processes


def test_a_block_in_an_agent_of_the_same_pool_has_another_slot_or_is_told() -> None:
    """Who would wait for its own slot is told at once."""
    pools: list[PoolRef] = []

    def agent(payload: Any) -> Any:
        with pools[0].acquire() as other:
            return other is agent

    with pool_of(Member("a", agent, max_concurrency=1)) as pool:
        pools.append(pool)
        with pytest.raises(ReentrantAskError):
            ask(pool).get(timeout=WAIT_S)
    pools.clear()
    with pool_of(Member("a", agent, max_concurrency=2)) as pool:
        pools.append(pool)
        assert ask(pool).get(timeout=WAIT_S).value is True


def test_a_callback_in_the_routers_thread_is_refused(clock: FakeClock) -> None:
    """It would wait for itself."""
    told: list[BaseException] = []
    held = Held()
    with pool_of(Member("a", held), clock=clock) as pool:
        done = threading.Event()

        def callback(_: Any) -> None:
            try:
                with pool.acquire():
                    pass  # pragma: no cover
            except BaseException as error:
                told.append(error)
            done.set()

        ask(pool, timeout_s=5).add_done_callback(callback)
        held.wait_entered()
        clock.advance(5)
        assert done.wait(WAIT_S)
        held.let_go()
    assert [type(each) for each in told] == [ReentrantAskError]


def test_attempts_stay_in_their_process() -> None:
    """They are not pickled: the reason is named."""
    with pool_of(Member("a", Agent("a"))) as pool, pytest.raises(TypeError, match="attempt"):
        pickle.dumps(pool.acquire())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout_s": -1}, ValueError),
        ({"key": 3}, TypeError),
        ({"stream": "yes"}, TypeError),
        ({"payload": "x"}, TypeError),
    ],
)
def test_options_are_checked_where_they_are_given(options: Any, error: type[Exception]) -> None:
    """Not where the loop begins."""
    with pool_of(Member("a", Agent("a"))) as pool:
        for make in (pool.attempts, pool.acquire):
            with pytest.raises(error):
                make(**options)
