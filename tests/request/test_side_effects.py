"""Side effects of one of several attempts: another one that has not begun by then never does.

An attempt is on its way between its dispatch and the begin of its agent: in the queue of a loop, in
a thread that has just been started. These tests stop it there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_hedging import AFTER_S, Finishes, answer, hedged
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import AllPoolMembersFailedError, CallContext, CircuitState, PoolRef, Request
from greenroom.actors.claims.claims import Claims
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.messages.execution import Ticket
from greenroom.testing import AsyncScriptedAgent, FakeClock, ScriptedAgent, http_error

RESET_S = 30.0
SCRIPTED = pytest.mark.parametrize("scripted", [ScriptedAgent, AsyncScriptedAgent])


class OnTheWay:
    """Stops the attempts of one member where their agent is about to begin."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.member: str | None = None
        self._arrived = threading.Semaphore(0)
        self._go_on = threading.Semaphore(0)
        original = AttemptCall.begin

        def begin(call: AttemptCall, now: float) -> bool:
            if call._owner.member_name == self.member:
                self._arrived.release()
                assert self._go_on.acquire(timeout=6 * WAIT_S)
            return original(call, now)

        patch.setattr(AttemptCall, "begin", begin)

    def wait(self) -> None:
        assert self._arrived.acquire(timeout=WAIT_S), "no attempt was about to begin"

    def let_go(self) -> None:
        self.member = None
        self._go_on.release()


class Unheard:
    """Holds whoever starts side effects between their note and the word to the router."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._noted = threading.Semaphore(0)
        self._go_on = threading.Semaphore(0)
        original = Claims.start_side_effects

        def start(claims: Claims, ticket: Ticket) -> bool:
            started = original(claims, ticket)
            self._noted.release()
            assert self._go_on.acquire(timeout=6 * WAIT_S)
            return started

        patch.setattr(Claims, "start_side_effects", start)

    def wait(self) -> None:
        assert self._noted.acquire(timeout=WAIT_S), "nobody has started side effects"

    def let_go(self) -> None:
        self._go_on.release()


class Starter:
    """Starts side effects when it may go on, and answers. It may fail at its first call."""

    def __init__(self, fails_first: bool = False) -> None:
        self.calls = 0
        self._fails_first = fails_first
        self._entered = threading.Semaphore(0)
        self._go_on = threading.Semaphore(0)

    def __call__(self, payload: Any, context: CallContext) -> Any:
        self.calls += 1
        if self._fails_first and self.calls == 1:
            raise http_error(401)
        self._entered.release()
        assert self._go_on.acquire(timeout=6 * WAIT_S)
        context.started_side_effects()
        return "done"

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S), "no call began"

    def go_on(self) -> None:
        self._go_on.release()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def on_the_way(monkeypatch: pytest.MonkeyPatch) -> OnTheWay:
    return OnTheWay(monkeypatch)


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Unheard:
    return Unheard(monkeypatch)


@pytest.fixture
def finishes(monkeypatch: pytest.MonkeyPatch) -> Finishes:
    return Finishes(monkeypatch)


def half_open(pool: PoolRef, clock: FakeClock) -> None:
    """The first member, which fails at its first call, may be tried again."""
    with contextlib.suppress(AllPoolMembersFailedError):
        pool.ask(Request("open it"), timeout=WAIT_S)
    pool.stats()
    clock.advance(RESET_S)
    assert pool.stats().members[0].circuit is CircuitState.HALF_OPEN


def assert_idle(pool: PoolRef) -> None:
    """No slot is held."""
    stats = pool.stats()
    assert (stats.pending, stats.in_flight) == (0, 0), stats
    assert [member.in_flight for member in stats.members] == [0] * len(stats.members)


@SCRIPTED
def test_a_retry_that_is_on_its_way_when_a_trial_starts_them(
    scripted: Callable[..., Any],
    clock: FakeClock,
    on_the_way: OnTheWay,
    unheard: Unheard,
    finishes: Finishes,
) -> None:
    """It never begins, though the router has not heard of them; the trial is the answer."""
    trial, fails, last = (
        Starter(True),
        ScriptedAgent(["opened", http_error(503)]),
        scripted(["never"]),
    )
    members = ranked(trial=trial, fails=fails, last=last)
    with pool_of(*members, clock=clock, circuit_reset_timeout_s=RESET_S) as pool:
        half_open(pool, clock)
        finishes.wait_for(2)
        on_the_way.member = "last"
        future = pool.ask(Request("x"), block=False)
        trial.wait_entered()
        on_the_way.wait()
        trial.go_on()
        unheard.wait()
        on_the_way.let_go()
        finishes.wait_for(2)
        unheard.let_go()
        assert answer(future).value == "done"
        assert last.calls == []
        assert_idle(pool)
        assert (pool.stats()["last"].successes, pool.stats()["last"].failures) == (0, 0)


@SCRIPTED
def test_a_first_attempt_that_is_on_its_way_when_its_hedge_starts_them(
    scripted: Callable[..., Any],
    clock: FakeClock,
    on_the_way: OnTheWay,
    unheard: Unheard,
    finishes: Finishes,
) -> None:
    """The first one was given away first, and begins last: it does not."""
    first, second = scripted(["never"]), Starter()
    on_the_way.member = "first"
    with hedged(*ranked(first=first, second=second), clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        on_the_way.wait()
        clock.advance(AFTER_S)
        second.wait_entered()
        second.go_on()
        unheard.wait()
        on_the_way.let_go()
        finishes.wait_for(1)
        unheard.let_go()
        assert answer(future).value == "done"
        assert first.calls == []
        assert_idle(pool)


def test_a_trial_that_is_on_its_way_when_the_other_attempt_starts_them(
    clock: FakeClock, on_the_way: OnTheWay, unheard: Unheard, finishes: Finishes
) -> None:
    """It never begins, which says nothing of its member: the next request is the trial."""
    trial, other = ScriptedAgent([http_error(401), "back"]), Starter()
    with pool_of(
        *ranked(trial=trial, other=other),
        clock=clock,
        circuit_reset_timeout_s=RESET_S,
        max_retries=0,
    ) as pool:
        half_open(pool, clock)
        finishes.wait_for(1)
        on_the_way.member = "trial"
        future = pool.ask(Request("x"), block=False)
        other.wait_entered()
        on_the_way.wait()
        other.go_on()
        unheard.wait()
        on_the_way.let_go()
        finishes.wait_for(1)
        unheard.let_go()
        assert answer(future).value == "done"
        assert len(trial.calls) == 1
        assert_idle(pool)
        assert pool.stats()["trial"].circuit is CircuitState.HALF_OPEN
        unneeded = pool.ask(Request("y"), block=False)
        finishes.wait_for(2)
        assert answer(unneeded).value == "back"
        assert len(trial.calls) == 2
        unheard.let_go()
        other.go_on()


def test_a_trial_that_is_on_its_way_when_the_other_attempt_answers(
    clock: FakeClock, on_the_way: OnTheWay, finishes: Finishes
) -> None:
    """An answer is no side effect: the trial runs all the same, for its breaker."""
    trial, other = ScriptedAgent([http_error(401), "back"]), ScriptedAgent(["opened", "other"])
    with pool_of(
        *ranked(trial=trial, other=other),
        clock=clock,
        circuit_reset_timeout_s=RESET_S,
        circuit_success_threshold=1,
    ) as pool:
        half_open(pool, clock)
        finishes.wait_for(2)
        on_the_way.member = "trial"
        future = pool.ask(Request("x"), block=False)
        on_the_way.wait()
        assert answer(future).value == "other"
        finishes.wait_for(1)
        on_the_way.let_go()
        finishes.wait_for(1)
        assert pool.stats()["trial"].circuit is CircuitState.CLOSED
        assert len(trial.calls) == 2


def test_a_call_that_is_cancelled_on_its_way_does_not_begin(
    clock: FakeClock, on_the_way: OnTheWay, finishes: Finishes
) -> None:
    """Though its loop has still to hear of that."""
    agent = AsyncScriptedAgent(["never"])
    on_the_way.member = "a"
    with pool_of(*ranked(a=agent), clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        on_the_way.wait()
        future.cancel()
        pool.stats()
        on_the_way.let_go()
        finishes.wait_for(1)
        assert agent.calls == []
        assert_idle(pool)
