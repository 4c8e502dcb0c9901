"""Behaviour 50 in corners: side effects, the same instant, streams, `failover`, and events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import AsyncHeld, Held
from helpers_hedging import (
    AFTER_S,
    Finishes,
    HoldingStrategy,
    answer,
    assert_at_rest,
    hedged,
    outcomes,
    race,
)
from helpers_pools import WAIT_S, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CallContext,
    DeadlineExceededError,
    Member,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import (
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    DeadLetter,
    Event,
    Failover,
    HedgeStarted,
)
from greenroom.supervisors.roster import Roster
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error


class Effects:
    """An agent that says it starts side effects when told to, then waits."""

    def __init__(self, value: Any = "done") -> None:
        self.value = value
        self.said = threading.Semaphore(0)
        self.refused: list[BaseException] = []
        self._entered = threading.Semaphore(0)
        self._start = threading.Semaphore(0)
        self._end = threading.Semaphore(0)

    def __call__(self, payload: Any, context: CallContext) -> Any:
        self._entered.release()
        assert self._start.acquire(timeout=6 * WAIT_S)
        try:
            context.started_side_effects()
        except RequestCancelledError as error:
            self.refused.append(error)
            raise
        finally:
            self.said.release()
        assert self._end.acquire(timeout=6 * WAIT_S)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S)

    def start(self) -> None:
        self._start.release()
        assert self.said.acquire(timeout=WAIT_S)

    def end(self) -> None:
        self._end.release()


class TestSideEffects:
    def test_b50_no_hedge_once_side_effects_have_started(self, clock: FakeClock) -> None:
        """What must not be repeated is not done twice at a time either."""
        agent, other = Effects(), ScriptedAgent(["never"])
        with hedged(*ranked(a=agent, b=other), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            agent.start()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            agent.end()
            assert answer(future).value == "done"
            assert len(other.calls) == 0

    @pytest.mark.parametrize("starts", ["a", "b"])
    def test_b50_who_starts_them_has_won(
        self, clock: FakeClock, starts: str, finishes: Finishes
    ) -> None:
        """The other one is cancelled at once, before there is an answer, and may not start any."""
        agents = {"a": Effects("from a"), "b": Effects("from b")}
        loses = "b" if starts == "a" else "a"
        with hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            agents[starts].start()
            agents[loses].start()
            assert len(agents[loses].refused) == 1
            finishes.wait_for(1)
            agents[starts].end()
            assert answer(future).value == f"from {starts}"
            finishes.wait_for(1)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {starts: (1, 0), loses: (0, 0)}

    def test_b50_who_fails_after_that_is_not_replaced(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The other one, cancelled, does not take over: nothing is retried after side effects."""
        first, second = AsyncHeld("never"), Effects(http_error(503))
        with hedged(*ranked(a=first, b=second, c=ScriptedAgent(["never"])), clock=clock) as pool:
            future = race(pool, clock, first, second)
            second.start()
            first.wait_cancelled()
            second.end()
            with pytest.raises(AllPoolMembersFailedError, match="side effects"):
                answer(future)
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 1), "c": (0, 0)}


class SlowSupervisor:
    """Hears that an actor has ended, and says nothing of it until it may go on."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.may_go_on = threading.Event()


@pytest.fixture
def slow_supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowSupervisor]:
    slow = SlowSupervisor()
    actor_ended = Roster.actor_ended

    def held(self: Roster, message: Any) -> None:
        slow.heard.set()
        assert slow.may_go_on.wait(WAIT_S)
        actor_ended(self, message)

    monkeypatch.setattr(Roster, "actor_ended", held)
    yield slow
    slow.may_go_on.set()


class TestAtTheSameInstant:
    """What a member's thread does while the router is at something else, or about to."""

    @pytest.mark.parametrize("limit", ["request_timeout_s", "timeout_s"])
    @pytest.mark.parametrize("other_ends", [True, False])
    def test_b50_side_effects_and_the_end_of_its_time(
        self, clock: FakeClock, finishes: Finishes, limit: str, other_ends: bool
    ) -> None:
        """The first has won by its side effects, and its time is over before the router hears of
        it: the second one, which has lost, cannot answer any more, so nobody waits for it.
        """
        first, second, strategy = Effects(), Held("late"), HoldingStrategy()
        members = ranked(a=first, b=second, last=ScriptedAgent(["held"]))
        config = {"request_timeout_s": 2.0} if limit == "request_timeout_s" else {}
        with (
            EventRecorder() as log,
            hedged(*members, clock=clock, strategy=strategy, **config) as pool,
        ):
            timeout_s = 2.0 if limit == "timeout_s" else None
            future = race(pool, clock, first, second, Request("x", timeout_s=timeout_s))
            with strategy.held(pool):
                first.start()
                if other_ends:
                    second.let_go()
                    finishes.wait_for(1)
                clock.advance(1.5)
            kind = DeadlineExceededError if timeout_s else AllPoolMembersFailedError
            with pytest.raises(kind):
                answer(future)
            first.end()
            second.let_go()
            finishes.wait_for(2 if other_ends else 3)
            assert_at_rest(pool, completed=1, failed=1, hedges=1)
            assert outcomes(pool)["b"] == (0, 0)
            expected = ["a", "b"] if timeout_s else ["a"]
            log.wait_for(DeadLetter, count=len(expected))
            late = [event.member for event in log.named(DeadLetter)]
            assert sorted(map(str, late)) == expected

    def test_b50_a_hedge_that_finds_its_member_dead(
        self, clock: FakeClock, log: EventRecorder, slow_supervisor: SlowSupervisor
    ) -> None:
        """The supervisor has not said so yet: the first one goes on, and its answer counts."""
        slow = AsyncHeld("slow")
        with hedged(*ranked(a=slow, b=ScriptedAgent(["b"])), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            stop_member(pool, "b")
            assert slow_supervisor.heard.wait(WAIT_S)
            clock.advance(AFTER_S)
            log.wait_for(HedgeStarted)
            slow.let_go()
            assert answer(future).member == "a"
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=1, hedges=1)

    def test_b50_an_answer_that_the_router_passes_on(
        self, clock: FakeClock, finishes: Finishes, slow_supervisor: SlowSupervisor
    ) -> None:
        """The first one's actor has ended, so the router answers with what its thread still brings,
        while the second one answers by itself: it has lost by then.
        """
        first, second = Held("first"), Held("second")

        def on_event(event: Event) -> None:
            if isinstance(event, AttemptSucceeded):  # the router waits in here
                second.let_go()
                finishes.wait_for(2)

        with EventRecorder() as log, hedged(*ranked(a=first, b=second), clock=clock) as pool:
            end = observe(on_event)
            future = race(pool, clock, first, second)
            stop_member(pool, "a")
            assert slow_supervisor.heard.wait(WAIT_S)
            first.let_go()
            assert answer(future).value == "first"
            end()
            log.wait_for(AttemptLost)
            assert [event.member for event in log.named(AttemptLost)] == ["b"]
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=1, hedges=1)
            assert log.named(DeadLetter) == []

    def test_b50_an_answer_that_the_router_need_not_pass_on(
        self, clock: FakeClock, finishes: Finishes, slow_supervisor: SlowSupervisor
    ) -> None:
        """The same, but the second one has answered before the router hears of the first one."""
        first, second, strategy = Held("first"), Held("second"), HoldingStrategy()
        members = ranked(a=first, b=second, last=ScriptedAgent(["held"]))
        with EventRecorder() as log, hedged(*members, clock=clock, strategy=strategy) as pool:
            future = race(pool, clock, first, second)
            with strategy.held(pool):
                stop_member(pool, "a")
                assert slow_supervisor.heard.wait(WAIT_S)
                first.let_go()
                finishes.wait_for(1)
                second.let_go()
                assert answer(future).value == "second"
                finishes.wait_for(1)
            finishes.wait_for(1)
            log.wait_for(AttemptLost)
            assert [event.member for event in log.named(AttemptLost)] == ["a"]
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=2, hedges=1)
            assert log.named(DeadLetter) == []

    def test_b50_a_stream_that_begins_while_the_other_one_fails(self, clock: FakeClock) -> None:
        """The failure of one, which the router deals with, does not end the other's stream."""
        bad, good = Held(http_error(503)), Streaming("b", 3)
        begun = threading.Event()

        def on_event(event: Event) -> None:
            if isinstance(event, AttemptFailed):  # the router waits in here
                good.go_on(1)
                good.wait_taken(1)
                begun.set()

        with hedged(*ranked(a=bad, b=good), clock=clock) as pool:
            end = observe(on_event)
            stream = pool.stream(Request("x"))
            bad.wait_entered()
            clock.advance(AFTER_S)
            good.wait_entered()
            bad.let_go()
            assert begun.wait(WAIT_S)
            good.go_on(2)
            assert stream.collect() == ["b1", "b2", "b3"]
            end()
            assert pool.stats().completed == 1


class Streaming:
    """A generator of so many chunks, each made when it is told to go on."""

    def __init__(self, name: str, chunks: int = 1, error: BaseException | None = None) -> None:
        self.name = name
        self.chunks = chunks
        self.error = error
        self.closed = threading.Event()
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self._taken = threading.Semaphore(0)

    def __call__(self, payload: Any) -> Iterator[str]:
        self._entered.release()
        try:
            for number in range(1, self.chunks + 1):
                assert self._gate.acquire(timeout=6 * WAIT_S)
                yield f"{self.name}{number}"
                self._taken.release()
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S)

    def wait_taken(self, chunks: int) -> None:
        """Until the pool has come back for more after that many chunks."""
        for _ in range(chunks):
            assert self._taken.acquire(timeout=WAIT_S)

    def go_on(self, chunks: int = 1) -> None:
        self._gate.release(chunks)


class TestStreams:
    @pytest.mark.parametrize("wins", ["a", "b"])
    def test_b50_the_first_chunk_wins(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes, wins: str
    ) -> None:
        """All chunks are the winner's; the loser's generator is closed, and nothing counted."""
        agents = {"a": Streaming("a", 3), "b": Streaming("b", 3)}
        loses = "b" if wins == "a" else "a"
        with hedged(*ranked(**agents), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            agents["a"].wait_entered()
            clock.advance(AFTER_S)
            agents["b"].wait_entered()
            agents[wins].go_on(1)
            assert next(stream) == f"{wins}1"
            agents[loses].go_on(3)
            assert agents[loses].closed.wait(WAIT_S)
            agents[wins].go_on(2)
            assert stream.collect() == [f"{wins}2", f"{wins}3"]
            assert (stream.member, stream.attempts) == (wins, 2)
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {wins: (1, 0), loses: (0, 0)}
            assert log.named(DeadLetter) == []

    def test_b50_an_async_loser_is_closed_at_once(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Its generator is cancelled where it waits."""
        entered, closed = threading.Event(), threading.Event()

        async def slow(payload: Any) -> AsyncIterator[str]:
            entered.set()
            try:
                await asyncio.Event().wait()
                yield "never"
            finally:
                closed.set()

        with hedged(*ranked(a=slow, b=ScriptedAgent(["fast"])), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            assert entered.wait(WAIT_S)
            clock.advance(AFTER_S)
            assert stream.collect() == ["fast"]
            assert closed.wait(WAIT_S)
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)

    def test_b50_no_hedge_after_the_first_chunk(self, clock: FakeClock) -> None:
        """A stream that has begun is its member's."""
        agent, other = Streaming("a", 2), ScriptedAgent(["never"])
        with hedged(*ranked(a=agent, b=other), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            agent.wait_entered()
            agent.go_on(1)
            assert next(stream) == "a1"
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            agent.go_on(1)
            assert stream.collect() == ["a2"]
            assert len(other.calls) == 0

    def test_b50_a_winner_that_breaks_off_is_not_replaced(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The other one has been cancelled: what was received is what there is."""
        first, second = AsyncHeld(), Streaming("b", 1, http_error(503))
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            second.go_on(1)
            with pytest.raises(StreamInterruptedError) as caught:
                stream.collect()
            assert caught.value.received == ("b1",)
            first.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 1)}

    def test_b50_a_winner_whose_time_ends_with_its_first_chunk(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The deadline is over before the router hears of the chunk: both are ended."""
        first, second, strategy = AsyncHeld(), Streaming("b", 2), HoldingStrategy()
        members = ranked(a=first, b=second, last=ScriptedAgent(["held"]))
        with hedged(*members, clock=clock, strategy=strategy) as pool:
            stream = pool.stream(Request("x"), timeout=2.0)
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            with strategy.held(pool):
                second.go_on(1)
                assert next(stream) == "b1"
                clock.advance(1.5)
            with pytest.raises(StreamInterruptedError):
                next(stream)
            first.wait_cancelled()
            second.go_on(1)
            assert second.closed.wait(WAIT_S)
            finishes.wait_for(3)
            assert_at_rest(pool, completed=1, failed=1, hedges=1)

    def test_b50_a_consumer_that_leaves_ends_both(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Before the first chunk: both are cancelled, nothing is counted."""
        first, second = AsyncHeld(), AsyncHeld()
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            assert stream.cancel()
            first.wait_cancelled()
            second.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, cancelled=1, hedges=1)


class TestFailoverStrategy:
    def test_b50_it_hedges_whatever_max_retries_says(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Every member may be tried once; the one that is stuck to is still the first."""
        slow, second = AsyncHeld(), ScriptedAgent(["second"])
        with hedged(
            Member("a", slow), Member("b", second), clock=clock, strategy="failover", max_retries=0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            again = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            slow.let_go()
            assert answer(again).member == "a"

    def test_b50_it_goes_on_in_its_order(self, clock: FakeClock) -> None:
        """Both have failed: the next one that is untried."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(
            Member("a", first),
            Member("b", second),
            Member("c", ScriptedAgent(["third"])),
            clock=clock,
            strategy="failover",
            max_retries=0,
        ) as pool:
            future = race(pool, clock, first, second)
            second.let_go()
            first.let_go()
            assert answer(future).member == "c"


class TestEvents:
    def test_b50_the_log_says_why_and_who_won(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Beside whom the second one was asked, after how long, and which of them lost."""
        bad, slow, fast = ScriptedAgent([http_error(503)]), AsyncHeld(), ScriptedAgent(["fast"])
        with hedged(*ranked(a=bad, b=slow, c=fast), clock=clock, name="writers") as pool:
            future = pool.ask(Request("x", request_id="r"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            answer(future)
            finishes.wait_for(3)
            pool.stats()
        (started,) = log.named(HedgeStarted)
        assert (started.member, started.request_id, started.level) == ("c", "r", "INFO")
        assert str(started) == ("hedge.started writers/c: b has not answered in 0.500 s: attempt 3")
        (lost,) = log.named(AttemptLost)
        assert (lost.member, lost.request_id, lost.level) == ("b", "r", "INFO")
        assert str(lost) == (
            "attempt.lost writers/b: attempt 2 lost to a faster one; it counts for nothing"
        )
        assert [(event.member, event.to) for event in log.named(Failover)] == [("a", "b")]

    def test_b50_one_loser_is_told_of_once(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Also if both have answered before the router hears of either."""
        first, second, strategy = Held("first"), Held("second"), HoldingStrategy()
        members = ranked(a=first, b=second, last=ScriptedAgent(["held"]))
        with hedged(*members, clock=clock, strategy=strategy) as pool:
            future = race(pool, clock, first, second)
            with strategy.held(pool):
                second.let_go()
                assert answer(future).member == "b"
                first.let_go()
                finishes.wait_for(2)
            finishes.wait_for(1)
            assert_at_rest(pool, completed=2, hedges=1)
            assert [event.member for event in log.named(AttemptLost)] == ["a"]
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0), "last": (1, 0)}
