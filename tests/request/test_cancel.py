"""Giving a request up, wherever it is on its way: behaviour 26."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from helpers_actors import stop_member
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    Cancel,
    CircuitState,
    Member,
    PoolRef,
    PoolStats,
    PoolStoppedError,
    Request,
    RequestCancelledError,
)
from greenroom.messages import (
    AttemptStarted,
    DeadLetter,
    RequestCompleted,
    RequestExhausted,
    RetryScheduled,
)
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

pytestmark = pytest.mark.usefixtures("agents_loop")


def rested(pool: PoolRef) -> PoolStats:
    """The pool once its members have reported: an agent that ends is a moment ahead of that."""
    give_up_at = time.monotonic() + WAIT_S
    while (stats := pool.stats()).in_flight and time.monotonic() < give_up_at:
        pass
    return stats


def assert_untouched(pool: PoolRef, cancelled: int = 1) -> None:
    """No slot is held, nothing was counted against anybody."""
    stats = rested(pool)
    assert (stats.cancelled, stats.failed, stats.retries) == (cancelled, 0, 0)
    assert (stats.pending, stats.in_flight) == (0, 0)
    for member in stats.members:
        assert (member.in_flight, member.failures) == (0, 0)
        assert member.circuit is CircuitState.CLOSED


class TestCancelling:
    def test_b26_while_it_is_queued(self) -> None:
        """Cancelling while queued: no attempt at all, the breaker uncounted, no slot taken."""
        agent = Held()
        with EventRecorder() as log, pool_of(*ranked(a=agent)) as pool:
            first = pool.ask(Request("first"), block=False)
            agent.wait_entered()
            queued = pool.ask(Request("queued"), block=False)
            last = pool.ask(Request("last"), block=False)
            assert pool.stats().pending == 2
            assert queued.cancel()
            with pytest.raises(RequestCancelledError, match="cancelled by its caller"):
                queued.get(timeout=WAIT_S)
            agent.let_go(2)
            assert [f.get(timeout=WAIT_S).value for f in (first, last)] == ["held"] * 2
            assert agent.payloads == ["first", "last"]
            assert_untouched(pool)
            assert log.named(RequestExhausted) == []
            assert "cancelled" in [event.outcome for event in log.named(RequestCompleted)]

    def test_b26_while_an_async_call_runs(self) -> None:
        """Cancelling while running: no further attempt, the breaker uncounted, the slot free, the
        async call cancelled.
        """
        agent, other = AsyncHeld(), ScriptedAgent(["never"])
        with EventRecorder() as log, pool_of(*ranked(a=agent, b=other)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            assert future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            agent.wait_cancelled()
            again = pool.ask(Request("y"), block=False)
            agent.wait_entered()
            agent.let_go()
            assert again.get(timeout=WAIT_S).value == "held"
            assert len(other.calls) == 0
            assert len(log.named(AttemptStarted)) == 2
            assert log.named(DeadLetter) == []
            assert_untouched(pool)

    def test_b26_while_a_sync_call_runs(self) -> None:
        """A thread cannot be cancelled: the asker is free at once, the slot when the call ends."""
        agent = Held("late")
        with EventRecorder() as log, pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x", request_id="gone"), block=False)
            agent.wait_entered()
            assert future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            assert pool.stats().in_flight == 1
            agent.let_go()
            log.wait_for(DeadLetter)
            (letter,) = log.named(DeadLetter)
            assert (letter.request_id, letter.member) == ("gone", "a")
            assert_untouched(pool)

    def test_b26_a_stubborn_coroutine(self) -> None:
        """One that answers in spite of its cancellation: a dead letter, and the slot is free."""
        agent = AsyncHeld("all the same", stubborn=True)
        with EventRecorder() as log, pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            log.wait_for(DeadLetter)
            assert_untouched(pool)

    def test_b26_a_coroutine_that_fails_while_it_cleans_up(self) -> None:
        """An error raised in the wake of a cancellation counts for nothing."""

        class Clumsy(AsyncHeld):
            async def __call__(self, payload: object) -> object:
                try:
                    return await super().__call__(payload)
                except asyncio.CancelledError:
                    raise ValueError("clumsy") from None

        agent = Clumsy()
        with pool_of(Member("a", agent, max_concurrency=1), circuit_failure_threshold=1) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            again = pool.ask(Request("y"), block=False)  # its only slot must come back
            agent.wait_entered()
            agent.let_go()
            assert again.get(timeout=WAIT_S).value == "held"
            assert_untouched(pool)

    def test_b26_while_it_backs_off(self) -> None:
        """No attempt follows, however far the clock moves; only the failure it had is counted."""
        clock = FakeClock()
        agent = ScriptedAgent([http_error(503)])
        with (
            EventRecorder() as log,
            pool_of(*ranked(a=agent), clock=clock, same_member_retries=0) as pool,
        ):
            future = pool.ask(Request("x", request_id="r"), block=False)
            log.wait_for(RetryScheduled)
            assert pool.cancel("r")
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            clock.advance(100.0)
            stats = pool.stats()
            assert (len(agent.calls), stats["a"].failures) == (1, 1)
            assert (stats.pending, stats.in_flight, stats.cancelled) == (0, 0, 1)

    def test_b26_while_it_waits_for_a_reopening(self) -> None:
        """A request that waits for a breaker can be given up, too."""
        clock = FakeClock()
        agent = ScriptedAgent([http_error(401), "back"])
        with pool_of(*ranked(a=agent), clock=clock, when_unavailable="wait") as pool:
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("x"))
            future = pool.ask(Request("y"), block=False)
            assert future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            clock.advance(100.0)
            assert pool.execute("z") == "back"
            assert agent.calls == ["x", "z"]

    def test_b26_while_its_agent_is_being_made(self) -> None:
        """Nothing has run: the slot is free, and the next request finds the agent made."""
        let_on, entered = threading.Event(), threading.Event()
        agent = ScriptedAgent(["made"])

        def factory() -> ScriptedAgent:
            entered.set()
            assert let_on.wait(WAIT_S)
            return agent

        with pool_of(Member("a", factory=factory)) as pool:
            future = pool.ask(Request("x"), block=False)
            assert entered.wait(WAIT_S)
            future.cancel()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            again = pool.ask(Request("y"), block=False)
            let_on.set()
            assert again.get(timeout=WAIT_S).value == "made"
            assert agent.calls == ["y"]
            assert_untouched(pool)

    def test_b26_after_it_was_answered(self) -> None:
        """There is nothing left to cancel: False, and the answer stays."""
        with pool_of(*ranked(a=ScriptedAgent(["value"]))) as pool:
            future = pool.ask(Request("x", request_id="done"), block=False)
            assert future.get(timeout=WAIT_S).value == "value"
            assert not future.cancel()
            assert not pool.cancel("done")
            assert not pool.cancel("never seen")
            assert future.get(timeout=WAIT_S).value == "value"
            assert pool.stats().cancelled == 0

    def test_b26_twice(self) -> None:
        """The second time there is nothing left to cancel."""
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x", request_id="r"), block=False)
            agent.wait_entered()
            assert pool.ask(Cancel("r")) is True
            assert pool.ask(Cancel("r")) is False
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            assert not future.cancel()
            agent.wait_cancelled()
            assert_untouched(pool)

    def test_b26_a_tell_by_its_id(self) -> None:
        """A request without an asker can be cancelled too; that leaves one dead letter."""
        agent = AsyncHeld()
        with EventRecorder() as log, pool_of(*ranked(a=agent)) as pool:
            pool.tell(Request("x", request_id="told"))
            agent.wait_entered()
            assert pool.cancel("told")
            agent.wait_cancelled()
            assert [letter.request_id for letter in log.named(DeadLetter)] == ["told"]
            assert_untouched(pool)

    def test_b26_after_the_pool_has_stopped(self) -> None:
        """What was unanswered has its error; a late cancel changes nothing and does not raise."""
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            pool.stop()
            with pytest.raises(PoolStoppedError):
                future.get(timeout=WAIT_S)
            assert not future.cancel()

    def test_b26_by_cancelling_the_task_that_awaits_it(self) -> None:
        """A cancelled await cancels the request, and with it the agent's call."""
        agent = AsyncHeld()

        async def main(pool: PoolRef) -> None:
            task = asyncio.ensure_future(await_it(pool))
            await asyncio.to_thread(agent.wait_entered)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def await_it(pool: PoolRef) -> object:
            return await pool.ask(Request("x"), block=False)

        with pool_of(*ranked(a=agent)) as pool:
            asyncio.run(main(pool))
            agent.wait_cancelled()
            assert_untouched(pool)

    def test_b26_by_a_timeout_around_the_await(self) -> None:
        """`asyncio.timeout` and `wait_for` give the request up as well."""
        agent = AsyncHeld()

        async def main(pool: PoolRef) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.ask(Request("x"), block=False), 0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pool.ask(Request("y"), block=False)

        with pool_of(*ranked(a=agent)) as pool:
            asyncio.run(main(pool))
            agent.wait_cancelled(2)
            assert agent.cancelled == ["x", "y"]
            assert_untouched(pool, cancelled=2)

    def test_b26_many_at_once_leak_nothing(self) -> None:
        """A hundred running, a hundred queued, all given up in the middle of it: all slots free."""
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent)) as pool:
            futures = [pool.ask(Request(n), block=False) for n in range(200)]
            agent.wait_entered(100)
            for future in reversed(futures):  # the queued ones first: none of them ever runs
                future.cancel()
            for future in futures:
                with pytest.raises(RequestCancelledError):
                    future.get(timeout=WAIT_S)
            agent.wait_cancelled(100)
            agent.value = "fresh"
            again = pool.ask(Request("fresh"), block=False)
            agent.wait_entered()
            agent.let_go()
            assert again.get(timeout=WAIT_S).value == "fresh"
            assert agent.calls == 101
            assert_untouched(pool, cancelled=200)

    def test_b26_a_trial_given_up_returns_its_permit(self) -> None:
        """A cancelled trial of a half-open breaker counts for nothing: the next one is let in."""
        clock = FakeClock()
        agent = AsyncHeld(http_error(401))
        with pool_of(
            *ranked(a=agent), clock=clock, circuit_reset_timeout_s=30.0, max_retries=0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            agent.let_go()
            with pytest.raises(AllPoolMembersFailedError):
                future.get(timeout=WAIT_S)
            agent.value = "back"
            pool.stats()
            clock.advance(30.0)
            trial = pool.ask(Request("trial"), block=False)
            agent.wait_entered()
            with pytest.raises(AllPoolMembersFailedError, match="trial_running"):
                pool.ask(Request("too many"))
            trial.cancel()
            agent.wait_cancelled()
            assert pool.stats()["a"].circuit is CircuitState.HALF_OPEN
            for _ in range(2):
                future = pool.ask(Request("next"), block=False)
                agent.wait_entered()
                agent.let_go()
                assert future.get(timeout=WAIT_S).value == "back"
            assert pool.stats()["a"].circuit is CircuitState.CLOSED


class TestRequestIds:
    def test_an_id_in_flight_is_refused(self) -> None:
        """Two requests of one id cannot be told apart: the second is refused, the first lives."""
        agent = AsyncHeld()
        with EventRecorder() as log, pool_of(*ranked(a=agent)) as pool:
            first = pool.ask(Request("x", request_id="same"), block=False)
            agent.wait_entered()
            with pytest.raises(ValueError, match=r"request_id must be unique.*'same'"):
                pool.ask(Request("y", request_id="same"))
            pool.tell(Request("z", request_id="same"))
            assert pool.stats().accepted == 1
            assert len(log.named(DeadLetter)) == 1
            agent.let_go()
            assert first.get(timeout=WAIT_S).value == "held"
            assert agent.payloads == ["x"]

    @pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
    def test_an_id_can_be_used_again_once_it_is_answered(self, order: tuple[str, str]) -> None:
        """Not even while a call of its first use still runs: each report finds its own request."""
        gates = {"old": threading.Event(), "new": threading.Event()}
        entered = {"old": threading.Event(), "new": threading.Event()}

        def agent(payload: str) -> str:
            entered[payload].set()
            assert gates[payload].wait(WAIT_S)
            return payload

        with EventRecorder() as log, pool_of(Member("a", agent, max_concurrency=2)) as pool:
            first = pool.ask(Request("old", request_id="same"), block=False)
            assert entered["old"].wait(WAIT_S)
            first.cancel()
            with pytest.raises(RequestCancelledError):
                first.get(timeout=WAIT_S)
            second = pool.ask(Request("new", request_id="same"), block=False)
            assert entered["new"].wait(WAIT_S)
            for payload in order:
                gates[payload].set()
                if payload == "old":
                    log.wait_for(DeadLetter)
                else:
                    assert second.get(timeout=WAIT_S).value == "new"
            assert second.get(timeout=WAIT_S).attempts == 1
            stats = pool.stats()
            assert (stats.in_flight, stats["a"].in_flight) == (0, 0)

    def test_an_id_can_be_used_again_after_its_member_crashed(self) -> None:
        """What the dead member's call returns in the end is no answer to the second request."""
        old, new = Held("old"), Held("new")
        others = set(threading.enumerate())  # an earlier test may have left one of that name
        with pool_of(*ranked(a=old, b=new)) as pool:
            first = pool.ask(Request("x", request_id="same", idempotent=False), block=False)
            old.wait_entered()
            stop_member(pool, "a")
            with pytest.raises(AllPoolMembersFailedError):
                first.get(timeout=WAIT_S)
            pool.force_open("a")
            second = pool.ask(Request("y", request_id="same"), block=False)
            new.wait_entered()
            old.let_go()
            started = set(threading.enumerate()) - others
            thread = next(t for t in started if t.name.startswith("greenroom-pool-a-"))
            thread.join(WAIT_S)
            assert not second.done()
            new.let_go()
            assert second.get(timeout=WAIT_S).value == "new"

    def test_giving_up_a_refused_duplicate_spares_the_first(self) -> None:
        """A future cancels its own request, not another one of the same id."""
        agent = AsyncHeld()
        hold = threading.Event()
        with pool_of(*ranked(a=agent)) as pool:
            first = pool.ask(Request("x", request_id="same"), block=False)
            agent.wait_entered()
            # A callable subscriber is called elsewhere; a done callback runs in the router, where
            # it holds up the refusal until the cancellation has been sent.
            blocker = pool.ask(Cancel("nothing"), block=False)
            blocker.add_done_callback(lambda _: hold.wait(WAIT_S))
            second = pool.ask(Request("y", request_id="same"), block=False)
            second.cancel()
            hold.set()
            with pytest.raises((ValueError, RequestCancelledError)):
                second.get(timeout=WAIT_S)
            pool.stats()
            assert agent.cancelled == []
            agent.let_go()
            assert first.get(timeout=WAIT_S).value == "held"
