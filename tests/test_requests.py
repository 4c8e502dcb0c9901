"""What becomes of a request that cannot be answered at once: behaviours 20 to 25."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest
from helpers_requests import (
    WAIT_S,
    AsyncHeld,
    AsyncScripted,
    Held,
    Scripted,
    http_error,
    pool_of,
    ranked,
    recorded,
)

from greenroom import (
    AllPoolMembersFailedError,
    AskTimeoutError,
    AttemptTimeoutError,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolError,
    Request,
    SkipReason,
)
from greenroom.actors.eventbus import observe
from greenroom.messages import (
    BreakerOpened,
    DeadLetter,
    Failover,
    RequestCompleted,
    RequestExhausted,
    RetryScheduled,
)
from greenroom.testing import FakeClock


class TestNobodyToRouteTo:
    def test_b20_an_ask_fails_at_once_and_says_why(self) -> None:
        """No routable member: ask fails at once."""
        agent = Scripted("never")
        with pool_of(*ranked(a=agent, b=agent), clock=FakeClock()) as pool:
            pool.force_open("a")
            pool.force_open("b")
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x"), timeout=WAIT_S)
        assert [(e.member, e.kind, e.skipped) for e in caught.value.errors] == [
            ("a", SkipReason.CIRCUIT_OPEN, True),
            ("b", SkipReason.CIRCUIT_OPEN, True),
        ]
        assert "no member is available" in str(caught.value)
        assert caught.value.retry_after_s is None
        assert caught.value.__cause__ is None
        assert agent.calls == 0

    def test_b20_a_tell_leaves_exactly_one_dead_letter(self) -> None:
        """No routable member: tell leaves exactly one dead letter."""
        with recorded() as log, pool_of(*ranked(a=Scripted("never"))) as pool:
            pool.force_open("a")
            pool.tell(Request("x", request_id="lost"))
            assert pool.stats().failed == 1
            letters = log.of(DeadLetter)
            assert [letter.request_id for letter in letters] == ["lost"]
            assert "AllPoolMembersFailedError" in letters[0].reason
            assert [each.request_id for each in log.of(RequestExhausted)] == ["lost"]

    def test_b20_it_says_when_the_first_member_may_be_back(self) -> None:
        """The error knows the earliest reopening among the open members."""
        clock = FakeClock()
        with pool_of(
            *ranked(a=Scripted(http_error(401)), b=Scripted(http_error(503, retry_after=7))),
            clock=clock,
            max_retries=0,
            circuit_failure_threshold=1,
            circuit_reset_timeout_s=30.0,
            strategy="round_robin",
        ) as pool:
            for _ in range(2):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("x"))
            clock.advance(10)
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x"))
        assert caught.value.retry_after_s == pytest.approx(20.0)
        assert all("back in 20.0 s" in str(error) for error in caught.value.errors)

    def test_b20_a_pool_without_members(self) -> None:
        """An empty pool refuses at once, and takes requests once it has a member."""
        with pool_of() as pool:
            with pytest.raises(AllPoolMembersFailedError, match="the pool has no members"):
                pool.ask(Request("x"), timeout=WAIT_S)
            pool.add_member(Member("late", Scripted("hello")))
            assert pool.execute("x") == "hello"
            pool.remove_member("late")
            with pytest.raises(AllPoolMembersFailedError, match="the pool has no members"):
                pool.ask(Request("x"), timeout=WAIT_S)

    def test_b20_waiting_for_the_reopening_when_asked_to(self) -> None:
        """No routable member, `when_unavailable="wait"`: ask waits for the earliest reopening."""
        clock = FakeClock()
        agent = Scripted(http_error(401), "back")
        with pool_of(
            *ranked(a=agent),
            clock=clock,
            when_unavailable="wait",
            circuit_reset_timeout_s=30.0,
            max_retries=0,
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=0"):
                pool.ask(Request("x"))
            futures = [pool.ask(Request(n), block=False) for n in range(3)]
            clock.advance(29.9)
            assert pool.stats().pending == 3
            clock.advance(0.1)
            assert [future.get(timeout=WAIT_S).value for future in futures] == ["back"] * 3
        assert agent.payloads == ["x", 0, 1, 2]

    def test_b20_waiting_is_refused_when_no_reopening_falls_within_the_deadline(self) -> None:
        """52, in part: it fails at once, with both times, when none falls within the deadline."""
        clock = FakeClock()
        with pool_of(
            *ranked(a=Scripted(http_error(401))),
            clock=clock,
            when_unavailable="wait",
            circuit_reset_timeout_s=30.0,
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("x"))
            with pytest.raises(AllPoolMembersFailedError, match=r"the first in 30\.0 s, 5\.0 s"):
                pool.ask(Request("y", timeout_s=5.0))

    def test_b20_waiting_for_nothing_is_refused(self) -> None:
        """Held open by hand, nobody says when it will be back: even a patient request fails."""
        with pool_of(*ranked(a=Scripted("x")), when_unavailable="wait") as pool:
            pool.force_open("a")
            with pytest.raises(AllPoolMembersFailedError, match="none says when"):
                pool.ask(Request("x"), timeout=WAIT_S)

    def test_b20_a_waiting_request_fails_when_its_hope_is_gone(self) -> None:
        """One that waits for a reopening is failed once the member is held open, or removed."""
        clock = FakeClock()
        for end in ("force_open", "remove_member"):
            with pool_of(
                *ranked(a=Scripted(http_error(401))), clock=clock, when_unavailable="wait"
            ) as pool:
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("x"))
                future = pool.ask(Request("y"), block=False)
                assert pool.stats().pending == 1
                getattr(pool, end)("a")
                with pytest.raises(AllPoolMembersFailedError):
                    future.get(timeout=WAIT_S)

    def test_b20_a_member_taken_in_serves_who_waits(self) -> None:
        """A request that waits for a reopening is answered by a new member."""
        with pool_of(
            *ranked(a=Scripted(http_error(401))), clock=FakeClock(), when_unavailable="wait"
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("x"))
            future = pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 1
            pool.add_member(Member("new", Scripted("hello")))
            assert future.get(timeout=WAIT_S).member == "new"

    def test_b20_a_member_without_weight_is_nobody(self) -> None:
        """Only members with weight 0 left: refused, not waited for, and the pool goes on."""
        members = [Member("a", Scripted("a")), Member("b", Scripted("b"), weight=0.0)]
        with pool_of(*members, strategy="weighted") as pool:
            pool.force_open("a")
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x"), timeout=WAIT_S)
            assert [e.kind for e in caught.value.errors] == [
                SkipReason.CIRCUIT_OPEN,
                SkipReason.EXCLUDED,
            ]
            pool.reset_member("a")
            assert pool.execute("x") == "a"


class TestAllFail:
    def test_b21_every_member_is_listed_in_order(self) -> None:
        """All fail, each differently, one already open: AllPoolMembersFailedError lists every
        member in order, with kind, error and time, the skipped one with its reason.
        """
        clock = FakeClock()
        late, down, odd = TimeoutError("late"), http_error(503), ValueError("odd")

        def slow(_: Any) -> Any:
            clock.advance(0.25)
            raise down

        with pool_of(
            *ranked(a=Scripted(late), b=Scripted("open"), c=slow, d=Scripted(odd)), clock=clock
        ) as pool:
            pool.force_open("b")
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x", max_retries=2))
        error = caught.value
        assert error.pool_name == "pool"
        assert error.member_names == ("a", "b", "c", "d")
        assert [(e.member, e.index, e.kind, e.error, e.attempts) for e in error.errors] == [
            ("a", 0, FailureKind.TIMEOUT, late, 1),
            ("b", 1, SkipReason.CIRCUIT_OPEN, None, 0),
            ("c", 2, FailureKind.UNAVAILABLE, down, 1),
            ("d", 3, FailureKind.UNKNOWN, odd, 1),
        ]
        assert [e.elapsed_s for e in error.errors] == pytest.approx([0.0, 0.0, 0.25, 0.0])
        assert error.__cause__ is late
        assert error.reason == "max_retries=2 reached"
        for part in ("TimeoutError: late", "b: skipped, circuit_open", "0.250 s", "HTTP 503"):
            assert part in str(error)

    def test_b21_evaluation_order_is_that_of_the_tries(self) -> None:
        """The tried ones stand in the order of their first try, not in that of the pool."""
        agents = {name: Scripted(ValueError(name)) for name in "abc"}
        members = [
            Member(name, agent, priority=-i) for i, (name, agent) in enumerate(agents.items())
        ]
        with (
            pool_of(*members, clock=FakeClock(), max_retries=1) as pool,
            pytest.raises(AllPoolMembersFailedError) as caught,
        ):
            pool.ask(Request("x"))
        assert [e.member for e in caught.value.errors] == ["a", "c", "b"]
        assert caught.value.errors[0].kind is SkipReason.EXCLUDED
        assert [str(e.error) for e in caught.value.errors[1:]] == ["c", "b"]

    def test_b21_a_member_tried_twice_is_one_entry(self) -> None:
        """Its last failure, and how often it was tried."""
        clock = FakeClock()
        first, last = ValueError("first"), ValueError("last")
        with recorded() as log, pool_of(*ranked(a=Scripted(first, last)), clock=clock) as pool:
            future = pool.ask(Request("x", max_retries=1), block=False)
            log.wait_for(RetryScheduled)
            clock.advance(1)
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
        (entry,) = caught.value.errors
        assert (entry.error, entry.attempts) == (last, 2)
        assert "2 attempts" in str(caught.value)

    def test_b21_max_retries_zero_is_one_attempt(self) -> None:
        """With no retries the first failure is the end, and the others are listed as untried."""
        agents = {name: Scripted(ValueError(name)) for name in "abc"}
        with pool_of(*ranked(**agents), clock=FakeClock(), max_retries=0) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=0") as caught:
                pool.ask(Request("x"))
            assert pool.stats().retries == 0
        assert [agent.calls for agent in agents.values()] == [1, 0, 0]
        assert [e.kind for e in caught.value.errors] == [
            FailureKind.UNKNOWN,
            SkipReason.EXCLUDED,
            SkipReason.EXCLUDED,
        ]

    def test_b21_an_answer_tells_of_those_that_failed_before(self) -> None:
        """A reply lists the failures that it took, and how many attempts."""
        odd = ValueError("odd")
        with pool_of(*ranked(a=Scripted(odd), b=AsyncScripted("good"))) as pool:
            reply = pool.ask(Request("x", request_id="r-1"))
        assert (reply.value, reply.member, reply.attempts) == ("good", "b", 2)
        assert reply.request_id == "r-1"
        assert [(e.member, e.error) for e in reply.errors] == [("a", odd)]

    def test_b21_the_retry_budget_is_named(self) -> None:
        """Without a budget nothing is retried, and the error says that it was the budget."""
        agents = {name: Scripted(ValueError(name)) for name in "ab"}
        budget: dict[str, Any] = {"retry_budget_ratio": 0.0, "retry_budget_floor": 0.0}
        with (
            pool_of(*ranked(**agents), clock=FakeClock(), **budget) as pool,
            pytest.raises(AllPoolMembersFailedError, match="retry budget exhausted"),
        ):
            pool.ask(Request("x"))
        assert agents["b"].calls == 0

    def test_b21_failovers_are_told_from_whom_to_whom(self) -> None:
        """A failover names the member that failed last, also when it had been tried before."""
        clock = FakeClock()
        with (
            recorded() as log,
            pool_of(
                *ranked(a=Scripted(ValueError("a")), b=Scripted(ValueError("b"))),
                clock=clock,
                strategy="round_robin",
                max_retries=3,
                circuit_failure_threshold=50,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            for waits in (1, 2):
                log.wait_for(RetryScheduled, waits)
                clock.advance(1)
            with pytest.raises(AllPoolMembersFailedError):
                future.get(timeout=WAIT_S)
            assert [(e.member, e.to) for e in log.of(Failover)] == [
                ("a", "b"),
                ("b", "a"),
                ("a", "b"),
            ]

    def test_b21_an_error_that_cannot_even_be_printed(self) -> None:
        """Whatever an agent raises, the asker gets an answer that can be read."""

        class Hostile(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

            __repr__ = __str__

        with (
            pool_of(*ranked(a=Scripted(Hostile()), b=AsyncScripted(Hostile()))) as pool,
            pytest.raises(AllPoolMembersFailedError) as caught,
        ):
            pool.ask(Request("x", max_retries=1), timeout=WAIT_S)
        assert "a: unknown" in str(caught.value)
        assert "Hostile" in str(caught.value)


class TestOneBadMember:
    @pytest.mark.parametrize("strategy", ["adaptive", "round_robin", "power_of_two", "failover"])
    @pytest.mark.parametrize("kind", [Scripted, AsyncScripted])
    def test_b22_costs_no_user_an_error(self, strategy: str, kind: type[Scripted]) -> None:
        """A member always raises ValueError, threshold 3, three members, 200 calls: no user error;
        the bad one is called at most 3 times plus its trials; one breaker.opened event.
        """
        bad, good, fine = kind(ValueError("always")), kind("good"), kind("fine")
        members = [Member("bad", bad), Member("good", good), Member("fine", fine)]
        with (
            recorded() as log,
            pool_of(
                *members, clock=FakeClock(), strategy=strategy, circuit_failure_threshold=3
            ) as pool,
        ):
            answers = [pool.execute(n) for n in range(200)]
            stats = pool.stats()
            opened = log.of(BreakerOpened)
        assert set(answers) <= {"good", "fine"}
        assert bad.calls <= 3
        assert len(opened) <= 1
        assert (stats.completed, stats.failed, stats.in_flight) == (200, 0, 0)
        if strategy == "round_robin":  # it comes back to the bad one as long as it may
            assert (bad.calls, [event.member for event in opened]) == (3, ["bad"])
            assert stats["bad"].circuit is CircuitState.OPEN

    def test_b22_with_its_trials(self) -> None:
        """Each reset timeout costs one trial, and no user an error."""
        clock = FakeClock()
        bad, good = Scripted(ValueError("always")), Scripted("good")
        with (
            recorded() as log,
            pool_of(
                Member("bad", bad),
                Member("good", good),
                clock=clock,
                strategy="round_robin",
                circuit_failure_threshold=3,
                circuit_reset_timeout_s=30.0,
                circuit_reset_max_s=60.0,
            ) as pool,
        ):
            for _ in range(20):
                assert pool.execute("x") == "good"
            for trial in range(1, 4):
                clock.advance(60.0)
                pool.stats()
                for _ in range(20):
                    assert pool.execute("x") == "good"
                pool.stats()
                assert bad.calls == 3 + trial
                assert len(log.of(BreakerOpened)) == 1 + trial

    def test_b22_many_callers_at_once(self) -> None:
        """The same with twenty threads: no user error, and the breaker opens once."""
        bad, good, fine = Scripted(ValueError("always")), Scripted("good"), Scripted("fine")
        errors: list[BaseException] = []
        start = threading.Barrier(20)
        with (
            recorded() as log,
            pool_of(
                Member("bad", bad),
                Member("good", good, max_concurrency=10),
                Member("fine", fine, max_concurrency=10),
                strategy="round_robin",
                circuit_failure_threshold=3,
                circuit_reset_timeout_s=300.0,
            ) as pool,
        ):

            def call() -> None:
                start.wait(WAIT_S)
                for n in range(10):
                    try:
                        pool.execute(n, timeout=WAIT_S)
                    except BaseException as error:
                        errors.append(error)

            threads = [threading.Thread(target=call) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(3 * WAIT_S)
            opened = log.of(BreakerOpened)
            assert pool.stats().completed == 200
        assert errors == []
        assert bad.calls == 3  # one at a time, so the breaker sees each before the next
        assert len(opened) == 1


class TestHangingMembers:
    @pytest.mark.parametrize("hanging", ["async", "sync"])
    def test_b23_the_good_one_answers_after_one_attempt_timeout(self, hanging: str) -> None:
        """A hanging async and a hanging sync member, attempt timeout 1 s, deadline 3 s, one good
        member: the good answer within 1.2 s, the async call cancelled, the stuck thread replaced,
        no slot leaked.
        """
        clock = FakeClock()
        stuck: Any = AsyncHeld() if hanging == "async" else Held()
        with (
            recorded() as log,
            pool_of(
                *ranked(stuck=stuck, good=Scripted("good")),
                clock=clock,
                request_timeout_s=1.0,
            ) as pool,
        ):
            future = pool.ask(Request("x", timeout_s=3.0), block=False)
            stuck.wait_entered()
            clock.advance(0.99)
            assert (pool.stats().in_flight, future.done()) == (1, False)
            clock.advance(0.01)
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.member) == ("good", "good")
            assert reply.elapsed_s == pytest.approx(1.0)
            assert reply.errors[0].kind is FailureKind.TIMEOUT
            assert isinstance(reply.errors[0].error, AttemptTimeoutError)
            if hanging == "async":
                stuck.wait_cancelled()
            pool.stats()  # the failure has been judged
            # The slot is free again, and on a fresh thread: the next call gets in.
            again = pool.ask(Request("y"), block=False)
            stuck.wait_entered()
            stats = pool.stats()
            assert stats["stuck"].in_flight == 1
            assert stats["stuck"].abandoned == (1 if hanging == "sync" else 0)
            if hanging == "sync":
                stuck.let_go(2)
                assert again.get(timeout=WAIT_S).value == "held"
                (letter,) = log.wait_for(DeadLetter)
                assert letter.member == "stuck"
                stats = pool.stats()
                assert stats["stuck"].abandoned == 0
            else:
                stuck.let_go()
                assert again.get(timeout=WAIT_S).value == "held"
                stats = pool.stats()
            assert (stats.in_flight, stats["stuck"].in_flight) == (0, 0)

    def test_b23_both_hang_before_the_good_one(self) -> None:
        """Two attempt timeouts in a row fit into the deadline; the third member answers."""
        clock = FakeClock()
        sync, coroutine = Held(), AsyncHeld()
        with (
            recorded() as log,
            pool_of(
                *ranked(sync=sync, coroutine=coroutine, good=Scripted("good")),
                clock=clock,
                request_timeout_s=1.0,
                deadline_s=3.0,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            sync.wait_entered()
            clock.advance(1.0)
            coroutine.wait_entered()
            clock.advance(1.0)
            reply = future.get(timeout=WAIT_S)
            assert reply.member == "good"
            assert reply.elapsed_s == pytest.approx(2.0)
            assert [e.member for e in reply.errors] == ["sync", "coroutine"]
            sync.let_go()
            log.wait_for(DeadLetter)
            coroutine.wait_cancelled()
            future = pool.ask(Request("y"), block=False)
            sync.wait_entered()
            sync.let_go()
            assert future.get(timeout=WAIT_S).member == "sync"
            assert pool.stats().in_flight == 0

    def test_b23_real_time(self) -> None:
        """The same on the machine's clock, where the timeout is short: nobody advances anything."""
        coroutine, sync = AsyncHeld(), Held()
        with pool_of(
            *ranked(coroutine=coroutine, sync=sync, good=Scripted("good")), request_timeout_s=0.05
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            coroutine.wait_cancelled()
            sync.let_go()

    def test_b23_a_stubborn_coroutine_keeps_its_slot_for_a_moment_only(self) -> None:
        """One that swallows its cancellation has answered too late: a dead letter."""
        clock = FakeClock()
        stubborn = AsyncHeld("late", stubborn=True)
        with (
            recorded() as log,
            pool_of(
                *ranked(stubborn=stubborn, good=Scripted("good")),
                clock=clock,
                request_timeout_s=1.0,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            stubborn.wait_entered()
            clock.advance(1.0)
            assert future.get(timeout=WAIT_S).member == "good"
            (letter,) = log.wait_for(DeadLetter)
            assert (letter.member, letter.reason) == ("stubborn", "a late result")
            assert pool.stats().in_flight == 0

    def test_b23_a_hang_counts_for_the_breaker(self) -> None:
        """An attempt that had all its time and did not answer is a failure of its member."""
        clock = FakeClock()
        stuck = AsyncHeld()
        with pool_of(
            *ranked(stuck=stuck, good=Scripted("good")),
            clock=clock,
            request_timeout_s=1.0,
            circuit_failure_threshold=2,
        ) as pool:
            for _ in range(2):
                future = pool.ask(Request("x"), block=False)
                stuck.wait_entered()
                clock.advance(1.0)
                assert future.get(timeout=WAIT_S).member == "good"
                stats = pool.stats()["stuck"]  # the failure has been judged
            assert (stats.circuit, stats.failures) == (CircuitState.OPEN, 2)

    def test_b23_everyone_hangs_until_the_deadline(self) -> None:
        """The asker has its error at the deadline, with what was tried until then."""
        clock = FakeClock()
        one, two = AsyncHeld(), Held()
        with pool_of(*ranked(one=one, two=two), clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x", timeout_s=3.0), block=False)
            one.wait_entered()
            clock.advance(2.0)
            two.wait_entered()
            clock.advance(0.99)
            assert not future.done()
            clock.advance(0.01)
            with pytest.raises(DeadlineExceededError) as caught:
                future.get(timeout=WAIT_S)
            assert not isinstance(caught.value, pykka.Timeout)
            assert isinstance(caught.value, TimeoutError)
            assert [(e.member, e.kind) for e in caught.value.errors] == [
                ("one", FailureKind.TIMEOUT),
                ("two", FailureKind.TIMEOUT),
            ]
            assert [e.elapsed_s for e in caught.value.errors] == pytest.approx([2.0, 1.0])
            one.wait_cancelled()
            two.let_go()


class TestDeadlines:
    def test_b24_no_pointless_wait(self) -> None:
        """Deadline shorter than the backoff: no pointless wait, the error comes at once and says
        so.
        """
        clock = FakeClock()
        agent = Scripted(http_error(503, retry_after=20))
        with recorded() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x", timeout_s=5.0))  # nobody moves the clock: it came at once
            assert caught.value.reason == (
                "the next retry in 20.0 s would come after the deadline, 5.0 s left"
            )
            assert log.of(RetryScheduled) == []
        assert agent.calls == 1

    def test_b24_a_backoff_that_fits_is_waited_for(self) -> None:
        """With room for it the same request waits, and is answered."""
        clock = FakeClock()
        agent = Scripted(http_error(503, retry_after=20), "good")
        with recorded() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x", timeout_s=21.0), block=False)
            (scheduled,) = log.wait_for(RetryScheduled)
            assert scheduled.delay_s == pytest.approx(20.0)
            clock.advance(20.0)
            assert future.get(timeout=WAIT_S).value == "good"

    def test_b24_a_retry_after_longer_than_any_backoff_is_not_waited_for(self) -> None:
        """Past retry_max_delay_s the asker hears at once, deadline or not."""
        agent = Scripted(http_error(503, retry_after=60))
        with (
            pool_of(*ranked(a=agent), clock=FakeClock(), retry_max_delay_s=30.0) as pool,
            pytest.raises(AllPoolMembersFailedError, match=r"60\.0 s.*retry_max_delay_s=30"),
        ):
            pool.ask(Request("x"))

    @pytest.mark.parametrize("status", [429, 503])
    def test_b24_a_retry_after_is_waited_for_and_then_served(self, status: int) -> None:
        """The retry comes when the Retry-After is over, and does find its member back."""
        for _ in range(20):  # router and supervisor are woken at the same moment, in either order
            clock = FakeClock()
            agent = Scripted(http_error(status, retry_after=2), "good")
            with recorded() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
                future = pool.ask(Request("x"), block=False)
                log.wait_for(RetryScheduled)
                clock.advance(1.99)
                pool.stats()
                assert agent.calls == 1
                clock.advance(0.01)
                assert future.get(timeout=WAIT_S).value == "good"

    def test_b24_a_retry_after_waited_for_in_real_time(self) -> None:
        """The same on the machine's clock."""
        agent = Scripted(http_error(429, retry_after=0.02), "good")
        with pool_of(*ranked(a=agent)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).value == "good"

    def test_b24_an_untried_member_needs_no_wait(self) -> None:
        """Another member is tried at once, whatever the first one asked for."""
        agents = ranked(a=Scripted(http_error(429, retry_after=60)), b=Scripted("good"))
        with recorded() as log, pool_of(*agents, clock=FakeClock()) as pool:
            assert pool.ask(Request("x", timeout_s=5.0)).member == "b"
            assert log.of(RetryScheduled) == []
            assert pool.stats()["a"].reopens_in_s == pytest.approx(60.0)

    def test_b24_the_deadline_ends_a_backoff(self) -> None:
        """A request that backs off when its time is over fails then, without another attempt."""
        clock = FakeClock()
        agent = Scripted(http_error(503, retry_after=4))
        with recorded() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x", timeout_s=5.0), block=False)
            log.wait_for(RetryScheduled)
            clock.advance(10.0)  # both are over: the deadline comes first or the retry is not tried
            with pytest.raises((DeadlineExceededError, AllPoolMembersFailedError)):
                future.get(timeout=WAIT_S)
            assert pool.stats().pending == 0

    @pytest.mark.parametrize("kind", [Scripted, AsyncScripted])
    def test_b24_a_deadline_in_the_past_runs_nothing(self, kind: type[Scripted]) -> None:
        """A request whose time was over when it arrived fails without a call."""
        agent = kind("never")
        with pool_of(*ranked(a=agent), clock=FakeClock()) as pool:
            with pytest.raises(AskTimeoutError):
                pool.ask(Request("x"), timeout=0)
            with pytest.raises(DeadlineExceededError):
                pool.ask(Request("x"), block=False, timeout=0).get(timeout=WAIT_S)
            stats = pool.stats()
        assert agent.calls == 0
        assert (stats.accepted, stats.failed, stats.pending, stats.in_flight) == (2, 2, 0, 0)

    def test_b24_a_deadline_that_passed_in_the_mailbox(self) -> None:
        """A request that lay in the router's mailbox past its deadline is not run."""
        clock = FakeClock()
        busy, let_on = threading.Event(), threading.Event()
        agent = Scripted("first", "second")

        def hold_the_router(event: Any) -> None:
            if isinstance(event, RequestCompleted) and event.request_id == "hold":
                busy.set()
                assert let_on.wait(WAIT_S)

        end = observe(hold_the_router)
        try:
            with pool_of(*ranked(a=agent), clock=clock) as pool:
                pool.tell(Request("x", request_id="hold"))
                assert busy.wait(WAIT_S)
                late = pool.ask(Request("y"), block=False, timeout=1.0)
                fresh = pool.ask(Request("z"), block=False, timeout=9.0)
                clock.advance(5.0)
                let_on.set()
                with pytest.raises(AskTimeoutError):
                    late.get(timeout=WAIT_S)
                assert fresh.get(timeout=WAIT_S).value == "second"
        finally:
            let_on.set()
            end()
        assert agent.payloads == ["x", "z"]

    def test_b24_the_earliest_limit_holds(self) -> None:
        """Of the pool's deadline, the request's and the asker's, the earliest one counts."""
        clock = FakeClock()
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent), clock=clock, deadline_s=4.0) as pool:
            futures = [
                pool.ask(Request("asker", timeout_s=3.0), block=False, timeout=2.0),
                pool.ask(Request("request", timeout_s=3.0), block=False, timeout=9.0),
                pool.ask(Request("pool", timeout_s=9.0), block=False, timeout=9.0),
            ]
            agent.wait_entered(3)
            for future, asker in zip(futures, (True, False, False), strict=True):
                assert not future.done()
                clock.advance(2.0 if asker else 1.0)
                with pytest.raises(DeadlineExceededError) as caught:
                    future.get(timeout=WAIT_S)
                assert isinstance(caught.value, pykka.Timeout) is asker

    def test_b24_a_caller_in_a_hurry_does_not_open_a_breaker(self) -> None:
        """Calls cut short by their callers' deadlines say nothing of a member that is measured."""
        clock = FakeClock()

        async def agent(payload: Any) -> Any:
            await clock.sleep(float(payload))
            return payload

        with pool_of(*ranked(a=agent), clock=clock, circuit_failure_threshold=2) as pool:
            measured = pool.ask(Request(5), block=False)
            for _ in range(200):
                if measured.done():
                    break
                clock.advance(0.1)
                pool.stats()
            assert measured.get(timeout=WAIT_S).value == 5
            for _ in range(5):
                future = pool.ask(Request(5, timeout_s=1.0), block=False)
                pool.stats()
                clock.advance(1.0)
                with pytest.raises(DeadlineExceededError):
                    future.get(timeout=WAIT_S)
            assert pool.stats()["a"].circuit is CircuitState.CLOSED
            assert pool.stats()["a"].failures == 0


@contextlib.contextmanager
def time_passes_for(agent: Held | AsyncHeld, clock: FakeClock) -> Iterator[None]:
    """As soon as the agent has begun, the time of a blocking ask of `WAIT_S` is over."""

    def pass_time() -> None:
        agent.wait_entered()
        clock.advance(WAIT_S)

    thread = threading.Thread(target=pass_time)
    thread.start()
    yield
    thread.join()


class TestBlockingAskTimeouts:
    def test_b25_an_async_call_is_cancelled(self) -> None:
        """A blocking ask with a timeout on a longer call: Pykka's Timeout at the timeout; an async
        call is cancelled, its slot free; the member lives.
        """
        agent, clock = AsyncHeld(), FakeClock()
        member = Member("a", agent, max_concurrency=1)
        with recorded() as log, pool_of(member, clock=clock) as pool:
            with time_passes_for(agent, clock), pytest.raises(pykka.Timeout) as caught:
                pool.ask(Request("x"), timeout=WAIT_S)
            assert isinstance(caught.value, (AskTimeoutError, TimeoutError))
            assert isinstance(caught.value, PoolError)
            agent.wait_cancelled()
            future = pool.ask(Request("y"), block=False)
            agent.wait_entered()
            agent.let_go()
            assert future.get(timeout=WAIT_S).value == "held"
            assert pool.stats()["a"].incarnation == 1
            assert pool.stats().in_flight == 0
            assert log.of(DeadLetter) == []

    def test_b25_a_sync_one_ends_as_a_dead_letter(self) -> None:
        """A sync call's late result is a dead letter, its slot free when it really ends; the member
        lives.
        """
        agent, clock = Held("late"), FakeClock()
        with recorded() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            with time_passes_for(agent, clock), pytest.raises(pykka.Timeout):
                pool.ask(Request("x", request_id="slow"), timeout=WAIT_S)
            waiting = pool.ask(Request("y"), block=False)
            stats = pool.stats()
            assert (stats.in_flight, stats.pending) == (1, 1)  # the slot is not free yet
            agent.let_go()
            (letter,) = log.wait_for(DeadLetter)
            assert (letter.request_id, letter.member) == ("slow", "a")
            agent.wait_entered()
            agent.let_go()
            assert waiting.get(timeout=WAIT_S).value == "late"
            assert pool.stats()["a"].incarnation == 1
            assert pool.stats().in_flight == 0
            assert len(log.of(DeadLetter)) == 1

    def test_b25_a_late_error_of_a_sync_call_is_no_failure(self) -> None:
        """What a call raises after its asker has left counts for nothing; the slot is free."""
        clock = FakeClock()
        agent = Held(ValueError("late"))
        with recorded(), pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False, timeout=1.0)
            agent.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AskTimeoutError):
                future.get(timeout=WAIT_S)
            before = pool.stats()["a"].failures
            agent.let_go()
            agent.value = "fine"
            agent.let_go()
            assert pool.ask(Request("y")).value == "fine"
            assert pool.stats()["a"].failures == before

    def test_b25_a_sync_call_left_behind_is_replaced_at_the_attempt_timeout(self) -> None:
        """The asker left earlier, but a call that never ends does not keep its slot for ever."""
        clock = FakeClock()
        agent = Held()
        with (
            recorded() as log,
            pool_of(*ranked(a=agent), clock=clock, request_timeout_s=5.0) as pool,
        ):
            future = pool.ask(Request("x"), block=False, timeout=1.0)
            agent.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AskTimeoutError):
                future.get(timeout=WAIT_S)
            waiting = pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 1
            clock.advance(4.0)
            agent.wait_entered()  # on a fresh thread
            assert pool.stats()["a"].abandoned == 1
            agent.let_go(2)
            assert waiting.get(timeout=WAIT_S).value == "held"
            log.wait_for(DeadLetter)

    def test_b25_a_future_read_too_early_is_left_alone(self) -> None:
        """`get(timeout=)` on a future gives up reading, not the request: Pykka's meaning."""
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            with pytest.raises(pykka.Timeout):
                future.get(timeout=0.01)
            agent.let_go()
            assert future.get(timeout=WAIT_S).value == "held"
            assert agent.cancelled == []

    def test_b25_the_agent_knows_how_long_it_has(self) -> None:
        """The asker's timeout is the deadline that the agent's context tells."""
        clock = FakeClock()

        def agent(_: Any, context: CallContext) -> float | None:
            return context.remaining_s

        with pool_of(*ranked(a=agent), clock=clock, request_timeout_s=None) as pool:
            assert pool.ask(Request("x"), timeout=2.5).value == pytest.approx(2.5)
            assert pool.ask(Request("x")).value is None
            assert pool.ask(Request("x", timeout_s=1.5), timeout=2.5).value == pytest.approx(1.5)

    def test_b25_an_awaited_ask_times_out_without_blocking_the_loop(self) -> None:
        """The same awaited: the loop stays free, the error is a TimeoutError."""
        agent, clock = AsyncHeld(), FakeClock()

        async def main() -> None:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    if agent.calls and ticks > 1:  # the agent is at it, and this loop goes on
                        clock.advance(0.1)
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            with pytest.raises(TimeoutError):
                await pool.ask(Request("x"), block=False, timeout=0.05)
            ticking.cancel()
            assert ticks > 1

        with pool_of(*ranked(a=agent), clock=clock) as pool:
            asyncio.run(main())
            agent.wait_cancelled()
