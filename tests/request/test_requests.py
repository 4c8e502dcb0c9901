"""What becomes of a request that cannot be answered at once: behaviours 20 to 25."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    Member,
    Request,
    SkipReason,
)
from greenroom.messages import BreakerOpened, DeadLetter, Failover, RequestExhausted, RetryScheduled
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    http_error,
)


class TestNobodyToRouteTo:
    def test_b20_an_ask_fails_at_once_and_says_why(self) -> None:
        """No routable member: ask fails at once."""
        agent = ScriptedAgent(["never"])
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
        assert len(agent.calls) == 0

    def test_b20_a_tell_leaves_exactly_one_dead_letter(self) -> None:
        """No routable member: tell leaves exactly one dead letter."""
        with EventRecorder() as log, pool_of(*ranked(a=ScriptedAgent(["never"]))) as pool:
            pool.force_open("a")
            pool.tell(Request("x", request_id="lost"))
            assert pool.stats().failed == 1
            letters = log.named(DeadLetter)
            assert [letter.request_id for letter in letters] == ["lost"]
            assert "AllPoolMembersFailedError" in letters[0].reason
            assert [each.request_id for each in log.named(RequestExhausted)] == ["lost"]

    def test_b20_it_says_when_the_first_member_may_be_back(self) -> None:
        """The error knows the earliest reopening among the open members."""
        clock = FakeClock()
        with pool_of(
            *ranked(
                a=ScriptedAgent([http_error(401)]),
                b=ScriptedAgent([http_error(503, retry_after_s=7)]),
            ),
            clock=clock,
            max_retries=0,
            circuit_failure_threshold=1,
            circuit_reset_timeout_s=30.0,
            circuit_max_open_share=1.0,  # else the second one is tried as soon as it may be
            strategy="round_robin",
        ) as pool:
            for _ in range(2):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("x"))
            # The supervisor hears of a failure after its caller: by its clock before it moves.
            assert all(pool.stats()[name].circuit is CircuitState.OPEN for name in "ab")
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
            pool.add_member(Member("late", ScriptedAgent(["hello"])))
            assert pool.execute("x") == "hello"
            pool.remove_member("late")
            with pytest.raises(AllPoolMembersFailedError, match="the pool has no members"):
                pool.ask(Request("x"), timeout=WAIT_S)

    def test_b20_waiting_for_the_reopening_when_asked_to(self) -> None:
        """No routable member, `when_unavailable="wait"`: ask waits for the earliest reopening."""
        clock = FakeClock()
        agent = ScriptedAgent([http_error(401), "back"])
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
        assert agent.calls == ["x", 0, 1, 2]

    def test_b20_waiting_is_refused_when_no_reopening_falls_within_the_deadline(self) -> None:
        """52, in part: it fails at once, with both times, when none falls within the deadline."""
        clock = FakeClock()
        with pool_of(
            *ranked(a=ScriptedAgent([http_error(401)])),
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
        with pool_of(*ranked(a=ScriptedAgent(["x"])), when_unavailable="wait") as pool:
            pool.force_open("a")
            with pytest.raises(AllPoolMembersFailedError, match="none says when"):
                pool.ask(Request("x"), timeout=WAIT_S)

    def test_b20_a_waiting_request_fails_when_its_hope_is_gone(self) -> None:
        """One that waits for a reopening is failed once the member is held open, or removed."""
        clock = FakeClock()
        for end in ("force_open", "remove_member"):
            with pool_of(
                *ranked(a=ScriptedAgent([http_error(401)])), clock=clock, when_unavailable="wait"
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
            *ranked(a=ScriptedAgent([http_error(401)])), clock=FakeClock(), when_unavailable="wait"
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("x"))
            future = pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 1
            pool.add_member(Member("new", ScriptedAgent(["hello"])))
            assert future.get(timeout=WAIT_S).member == "new"

    def test_b20_a_member_without_weight_is_nobody(self) -> None:
        """Only members with weight 0 left: refused, not waited for, and the pool goes on."""
        members = [Member("a", ScriptedAgent(["a"])), Member("b", ScriptedAgent(["b"]), weight=0.0)]
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
            *ranked(
                a=ScriptedAgent([late]), b=ScriptedAgent(["open"]), c=slow, d=ScriptedAgent([odd])
            ),
            clock=clock,
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
        for part in ("TimeoutError: late", "b: skipped, circuit_open", "0.250 s", "503 Service"):
            assert part in str(error)

    def test_b21_evaluation_order_is_that_of_the_tries(self) -> None:
        """The tried ones stand in the order of their first try, not in that of the pool."""
        agents = {name: ScriptedAgent([ValueError(name)]) for name in "abc"}
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
        with (
            EventRecorder() as log,
            pool_of(*ranked(a=ScriptedAgent([first, last])), clock=clock) as pool,
        ):
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
        agents = {name: ScriptedAgent([ValueError(name)]) for name in "abc"}
        with pool_of(*ranked(**agents), clock=FakeClock(), max_retries=0) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=0") as caught:
                pool.ask(Request("x"))
            assert pool.stats().retries == 0
        assert [len(agent.calls) for agent in agents.values()] == [1, 0, 0]
        assert [e.kind for e in caught.value.errors] == [
            FailureKind.UNKNOWN,
            SkipReason.EXCLUDED,
            SkipReason.EXCLUDED,
        ]

    def test_b21_an_answer_tells_of_those_that_failed_before(self) -> None:
        """A reply lists the failures that it took, and how many attempts."""
        odd = ValueError("odd")
        with pool_of(*ranked(a=ScriptedAgent([odd]), b=AsyncScriptedAgent(["good"]))) as pool:
            reply = pool.ask(Request("x", request_id="r-1"))
        assert (reply.value, reply.member, reply.attempts) == ("good", "b", 2)
        assert reply.request_id == "r-1"
        assert [(e.member, e.error) for e in reply.errors] == [("a", odd)]

    def test_b21_the_retry_budget_is_named(self) -> None:
        """Without a budget nothing is retried, and the error says that it was the budget."""
        agents = {name: ScriptedAgent([ValueError(name)]) for name in "ab"}
        budget: dict[str, Any] = {"retry_budget_ratio": 0.0, "retry_budget_floor": 0.0}
        with (
            pool_of(*ranked(**agents), clock=FakeClock(), **budget) as pool,
            pytest.raises(AllPoolMembersFailedError, match="retry budget exhausted"),
        ):
            pool.ask(Request("x"))
        assert agents["b"].calls == []

    def test_b21_failovers_are_told_from_whom_to_whom(self) -> None:
        """A failover names the member that failed last, also when it had been tried before."""
        clock = FakeClock()
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(a=ScriptedAgent([ValueError("a")]), b=ScriptedAgent([ValueError("b")])),
                clock=clock,
                strategy="round_robin",
                max_retries=3,
                circuit_failure_threshold=50,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            for waits in (1, 2):
                log.wait_for(RetryScheduled, count=waits)
                clock.advance(1)
            with pytest.raises(AllPoolMembersFailedError):
                future.get(timeout=WAIT_S)
            assert [(e.member, e.to) for e in log.named(Failover)] == [
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
            pool_of(
                *ranked(a=ScriptedAgent([Hostile()]), b=AsyncScriptedAgent([Hostile()]))
            ) as pool,
            pytest.raises(AllPoolMembersFailedError) as caught,
        ):
            pool.ask(Request("x", max_retries=1), timeout=WAIT_S)
        assert "a: unknown" in str(caught.value)
        assert "Hostile" in str(caught.value)


class TestOneBadMember:
    @pytest.mark.parametrize("strategy", ["adaptive", "round_robin", "power_of_two", "failover"])
    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b22_costs_no_user_an_error(self, strategy: str, kind: type[ScriptedAgent]) -> None:
        """A member always raises ValueError, threshold 3, three members, 200 calls: no user error;
        the bad one is called at most 3 times plus its trials; one breaker.opened event.
        """
        bad, good, fine = kind([ValueError("always")]), kind(["good"]), kind(["fine"])
        members = [Member("bad", bad), Member("good", good), Member("fine", fine)]
        with (
            EventRecorder() as log,
            pool_of(
                *members, clock=FakeClock(), strategy=strategy, circuit_failure_threshold=3
            ) as pool,
        ):
            answers = [pool.execute(n) for n in range(200)]
            stats = pool.stats()
            opened = log.named(BreakerOpened)
        assert set(answers) <= {"good", "fine"}
        assert len(bad.calls) <= 3
        assert len(opened) <= 1
        assert (stats.completed, stats.failed, stats.in_flight) == (200, 0, 0)
        if strategy == "round_robin":  # it comes back to the bad one as long as it may
            assert (len(bad.calls), [event.member for event in opened]) == (3, ["bad"])
            assert stats["bad"].circuit is CircuitState.OPEN

    def test_b22_with_its_trials(self) -> None:
        """Each reset timeout costs one trial, and no user an error."""
        clock = FakeClock()
        bad, good = ScriptedAgent([ValueError("always")]), ScriptedAgent(["good"])
        with (
            EventRecorder() as log,
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
                # Nobody has waited for the trial, which runs beside.
                log.wait_for(BreakerOpened, count=1 + trial)
                pool.stats()
                assert len(bad.calls) == 3 + trial
                assert len(log.named(BreakerOpened)) == 1 + trial

    def test_b22_many_callers_at_once(self) -> None:
        """The same with twenty threads: no user error, and the breaker opens once."""
        bad, good, fine = (
            ScriptedAgent([ValueError("always")]),
            ScriptedAgent(["good"]),
            ScriptedAgent(["fine"]),
        )
        errors: list[BaseException] = []
        start = threading.Barrier(20)
        with (
            EventRecorder() as log,
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
            opened = log.named(BreakerOpened)
            assert pool.stats().completed == 200
        assert errors == []
        assert len(bad.calls) == 3  # one at a time, so the breaker sees each before the next
        assert len(opened) == 1
