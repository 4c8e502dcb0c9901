"""What follows from the kind of a failure: behaviours 27 and 28."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CallContext,
    CircuitState,
    FailureKind,
    Member,
    MemberCrashedError,
    PoolError,
    Request,
    RequestCancelledError,
    StrategyError,
    UnsuccessfulResultError,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import (
    AttemptFailed,
    AttemptStarted,
    BreakerOpened,
    DeadLetter,
    RequestCompleted,
    RequestExhausted,
    RetryScheduled,
)
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    ScriptedHTTPError,
    http_error,
)


class TestHttpKinds:
    @pytest.mark.parametrize("status", [400, 405, 422])
    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b27_400_is_the_callers_own_fault(self, kind: type[ScriptedAgent], status: int) -> None:
        """400: one call, no failover, breaker untouched; the agent's own error is raised."""
        mine = http_error(status)
        first, second = kind([mine]), kind(["never"])
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(a=first, b=second), clock=FakeClock(), circuit_failure_threshold=1
            ) as pool,
        ):
            with pytest.raises(ScriptedHTTPError) as caught:
                pool.ask(Request("x"))
            assert caught.value is mine
            stats = pool.stats()
            assert (stats.failed, stats["a"].failures) == (1, 0)
            assert stats["a"].circuit is CircuitState.CLOSED
            assert log.named(RequestExhausted) == []
            assert "HTTP" in log.named(RequestCompleted)[0].outcome
        assert (len(first.calls), len(second.calls)) == (1, 0)

    def test_b27_400_told_is_one_dead_letter(self) -> None:
        """With nobody to raise it to, the caller's error is a dead letter."""
        with EventRecorder() as log, pool_of(*ranked(a=ScriptedAgent([http_error(400)]))) as pool:
            pool.tell(Request("x"))
            log.wait_for(DeadLetter)
            assert pool.stats().failed == 1
            assert ["400" in letter.reason for letter in log.named(DeadLetter)] == [True]

    def test_b27_413_may_fit_another_member(self) -> None:
        """413: failover, uncounted."""
        with pool_of(
            *ranked(small=ScriptedAgent([http_error(413)]), big=ScriptedAgent(["fits"])),
            clock=FakeClock(),
            circuit_failure_threshold=1,
        ) as pool:
            for _ in range(3):
                reply = pool.ask(Request("x"))
                assert (reply.member, reply.attempts) == ("big", 2)
                assert reply.errors[0].kind is FailureKind.TOO_LARGE
            stats = pool.stats()["small"]
            assert (stats.circuit, stats.failures) == (CircuitState.CLOSED, 0)

    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b27_404_is_another_members_turn(self, kind: type[ScriptedAgent]) -> None:
        """404: a retired model is not the user's error while a healthy member stands by."""
        with pool_of(
            *ranked(retired=kind([http_error(404)]), b=kind(["good"])),
            clock=FakeClock(),
            circuit_failure_threshold=1,
        ) as pool:
            reply = pool.ask(Request("x"))
            assert (reply.member, reply.errors[0].kind) == ("b", FailureKind.NOT_FOUND)
            assert pool.stats()["retired"].circuit is CircuitState.CLOSED

    def test_b27_413_everywhere_is_not_tried_again(self) -> None:
        """What fits nobody now will not fit later: each is tried once, without a wait."""
        agents = {name: ScriptedAgent([http_error(413)]) for name in "ab"}
        with EventRecorder() as log, pool_of(*ranked(**agents), clock=FakeClock()) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="too_large does not pass"):
                pool.ask(Request("x"))
            assert log.named(RetryScheduled) == []
        assert [len(agent.calls) for agent in agents.values()] == [1, 1]

    @pytest.mark.parametrize("status", [401, 402])
    def test_b27_401_opens_at_once(self, status: int) -> None:
        """401: opens at once, another member answers."""
        locked = ScriptedAgent([http_error(status)])
        with (
            EventRecorder() as log,
            pool_of(*ranked(locked=locked, b=ScriptedAgent(["good"])), clock=FakeClock()) as pool,
        ):
            assert [pool.ask(Request(n)).member for n in range(5)] == ["b"] * 5
            log.wait_for(BreakerOpened)
            (opened,) = log.named(BreakerOpened)
            assert opened.member == "locked"
            assert pool.stats()["locked"].circuit is CircuitState.OPEN
        assert len(locked.calls) == 1

    def test_403_opens_by_five_requests_in_a_row(self) -> None:
        """It may be the request's fault: as many requests as for any other kind."""
        locked = ScriptedAgent([http_error(403)])
        with (
            EventRecorder() as log,
            pool_of(*ranked(locked=locked, b=ScriptedAgent(["good"])), clock=FakeClock()) as pool,
        ):
            assert [pool.ask(Request(n)).member for n in range(9)] == ["b"] * 9
            log.wait_for(BreakerOpened)
            (opened,) = log.named(BreakerOpened)
            assert (opened.member, opened.reason[:17]) == ("locked", "5 failures in a r")
        assert len(locked.calls) == 5

    def test_b27_429_cools_its_member_down(self) -> None:
        """A rate-limited member is left alone for its Retry-After, its breaker stays closed."""
        clock = FakeClock()
        limited = ScriptedAgent([http_error(429, retry_after_s=7), "again"])
        with pool_of(*ranked(limited=limited, b=ScriptedAgent(["b"])), clock=clock) as pool:
            assert [pool.execute(n) for n in range(3)] == ["b"] * 3
            stats = pool.stats()
            assert stats["limited"].circuit is CircuitState.CLOSED
            assert stats["limited"].reopens_in_s == pytest.approx(7.0)
            assert stats.available == ("b",)
            clock.advance(6.9)
            pool.stats()
            assert pool.execute("x") == "b"
            clock.advance(0.1)
            pool.stats()
            assert pool.execute("x") == "again"
        assert len(limited.calls) == 2


class TestCustomRules:
    def test_b27_classify_decides_first(self) -> None:
        """A classifier of the app's own makes any error the caller's fault, or not."""

        class Mine(Exception):
            pass

        def classify(error: BaseException) -> FailureKind | None:
            return FailureKind.CALLER if isinstance(error, Mine) else None

        with pool_of(
            *ranked(a=ScriptedAgent([Mine("no"), http_error(400)]), b=ScriptedAgent(["good"])),
            classify=classify,
        ) as pool:
            with pytest.raises(Mine, match="no"):
                pool.ask(Request("x"))
            with pytest.raises(ScriptedHTTPError, match="400"):  # None: the built-in rules
                pool.ask(Request("x"))

    @pytest.mark.parametrize(
        "classify",
        [
            lambda error: 1 / 0,
            lambda error: "nonsense",
            lambda error: 42,
            lambda: None,
            lambda error: (_ for _ in ()).throw(SystemExit(1)),
        ],
    )
    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b27_a_broken_classifier_changes_nothing(
        self, kind: type[ScriptedAgent], classify: Any
    ) -> None:
        """One that raises or answers nonsense leaves the built-in rules in charge."""
        with pool_of(
            *ranked(a=kind([http_error(503)]), b=kind(["good"])),
            clock=FakeClock(),
            classify=classify,
        ) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.errors[0].kind) == ("b", FailureKind.UNAVAILABLE)

    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b27_a_value_that_is_a_failure(self, kind: type[ScriptedAgent]) -> None:
        """`is_failure` makes a returned value a failure: another member is tried, it is counted."""
        with pool_of(
            *ranked(a=kind([""]), b=kind(["text"])), is_failure=lambda value: not value
        ) as pool:
            reply = pool.ask(Request("x"))
            assert (reply.value, reply.member) == ("text", "b")
            assert isinstance(reply.errors[0].error, UnsuccessfulResultError)
            assert pool.stats()["a"].failures == 1

    def test_b27_every_value_is_a_failure(self) -> None:
        """The error names the type of what was refused, never the value."""
        with pool_of(
            *ranked(a=ScriptedAgent(["secret"])), is_failure=lambda _: True, max_retries=0
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="a returned a str") as caught:
                pool.ask(Request("x"))
            assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("raised", [KeyError, SystemExit])
    def test_b27_is_failure_that_raises(self, raised: type[BaseException]) -> None:
        """Then it is its own error that the attempt failed with."""

        def is_failure(value: Any) -> bool:
            if value == "bad":
                raise raised("no such field")
            return False

        with pool_of(
            *ranked(a=ScriptedAgent(["bad"]), b=AsyncScriptedAgent(["good"])), is_failure=is_failure
        ) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert reply.member == "b"
            assert isinstance(reply.errors[0].error, raised)

    def test_b27_a_strategy_that_raises(self) -> None:
        """A broken strategy fails the request, says so, and leaves the pool alive."""

        class Broken:
            broken = True

            def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
                if self.broken:
                    raise ZeroDivisionError("oops")
                return candidates[0]

        strategy = Broken()
        with pool_of(*ranked(a=ScriptedAgent(["good"])), strategy=strategy) as pool:
            with pytest.raises(StrategyError, match="ZeroDivisionError: oops"):
                pool.ask(Request("x"), timeout=WAIT_S)
            strategy.broken = False
            assert pool.execute("x") == "good"

    @pytest.mark.parametrize("hook", ["record", "members_changed"])
    def test_b27_a_strategy_whose_hook_raises(self, hook: str) -> None:
        """What only informs a strategy costs no request."""

        class Touchy:
            def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
                return candidates[0]

        def explode(*_: Any) -> None:
            raise ZeroDivisionError("oops")

        strategy = Touchy()
        setattr(strategy, hook, explode)
        with pool_of(
            *ranked(a=ScriptedAgent([ValueError("a")]), b=ScriptedAgent(["good"])),
            strategy=strategy,
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"

    @pytest.mark.parametrize(
        ("raised", "judged"),
        [
            (SystemExit, FailureKind.CRASHED),
            (KeyboardInterrupt, FailureKind.CRASHED),
            (GeneratorExit, FailureKind.CRASHED),
            # Nobody has cancelled the call: the client was closed under it.
            (asyncio.CancelledError, FailureKind.UNAVAILABLE),
        ],
    )
    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b27_what_ends_threads_elsewhere_is_a_crash_of_the_call(
        self, kind: type[ScriptedAgent], raised: type[BaseException], judged: FailureKind
    ) -> None:
        """It fails over like any failure, and is never raised at the asker as it is."""
        with pool_of(*ranked(a=kind([raised()]), b=kind(["good"])), clock=FakeClock()) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.errors[0].kind) == ("b", judged)
            pool.stats()  # until it is judged, the member is not preferred
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x", max_retries=0), timeout=WAIT_S)
            assert isinstance(caught.value.errors[0].error, raised)

    def test_b27_a_base_exception_called_the_callers_fault(self) -> None:
        """Not even a classifier that says so has a SystemExit thrown at the asker."""
        with pool_of(
            *ranked(a=ScriptedAgent([SystemExit(2)])), classify=lambda _: FailureKind.CALLER
        ) as pool:
            with pytest.raises(PoolError, match="SystemExit") as caught:
                pool.ask(Request("x"), timeout=WAIT_S)
            assert isinstance(caught.value.__cause__, SystemExit)


class TestNotIdempotent:
    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b28_is_not_retried_once_it_has_started(self, kind: type[ScriptedAgent]) -> None:
        """idempotent=False: not retried once started."""
        error = http_error(503)
        first, second = kind([error]), kind(["never"])
        with pool_of(*ranked(a=first, b=second), clock=FakeClock()) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
                pool.ask(Request("x", idempotent=False))
            assert caught.value.__cause__ is error
        assert (len(first.calls), len(second.calls)) == (1, 0)

    def test_b28_a_timeout_is_a_start(self) -> None:
        """What has timed out may have done its work: it is not repeated."""
        clock = FakeClock()
        first, second = AsyncHeld(), ScriptedAgent(["never"])
        with pool_of(*ranked(a=first, b=second), clock=clock, request_timeout_s=1.0) as pool:
            future = pool.ask(Request("x", idempotent=False), block=False)
            first.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent"):
                future.get(timeout=WAIT_S)
            first.wait_cancelled()
        assert len(second.calls) == 0

    def test_b28_is_retried_when_it_provably_never_started(self) -> None:
        """A member whose agent cannot be made has not begun: the next one may have the request."""

        def factory() -> Any:
            raise OSError("no such model")

        second = ScriptedAgent(["good"])
        members = [Member("a", factory=factory), Member("b", second, priority=1)]
        with pool_of(*members, clock=FakeClock()) as pool:
            reply = pool.ask(Request("x", idempotent=False))
            assert (reply.value, reply.member) == ("good", "b")
            assert reply.errors[0].kind is FailureKind.CREATE_FAILED
            assert isinstance(reply.errors[0].error, OSError)
            stats = pool.stats()["a"]
            assert (stats.circuit, stats.failures) == (CircuitState.CLOSED, 0)

    def test_b28_is_retried_when_its_member_ended_before_the_start(self) -> None:
        """It waited for its agent to be made when its member's actor was stopped."""
        entered, let_on = threading.Event(), threading.Event()

        def factory() -> Any:
            entered.set()
            assert let_on.wait(WAIT_S)
            return ScriptedAgent(["late"])

        members = [Member("a", factory=factory), Member("b", ScriptedAgent(["good"]), priority=1)]
        with pool_of(*members) as pool:
            future = pool.ask(Request("x", idempotent=False), block=False)
            assert entered.wait(WAIT_S)
            stop_member(pool, "a")
            reply = future.get(timeout=WAIT_S)
            let_on.set()
            assert (reply.value, reply.member) == ("good", "b")

    def test_b28_is_not_retried_when_its_member_crashed_under_it(self) -> None:
        """It was running when its member's actor was stopped."""
        agent, other = Held(), ScriptedAgent(["never"])
        with pool_of(*ranked(a=agent, b=other)) as pool:
            future = pool.ask(Request("x", idempotent=False), block=False)
            agent.wait_entered()
            stop_member(pool, "a")
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
                future.get(timeout=WAIT_S)
            assert isinstance(caught.value.__cause__, MemberCrashedError)
            agent.let_go()
        assert len(other.calls) == 0

    def test_b28_waiting_in_the_queue_is_no_start(self) -> None:
        """Not idempotent, it may still wait for a slot as long as it likes."""
        agent = Held()
        with pool_of(*ranked(a=agent)) as pool:
            futures = [pool.ask(Request(n, idempotent=False), block=False) for n in range(3)]
            agent.let_go(3)
            assert [f.get(timeout=WAIT_S).value for f in futures] == ["held"] * 3


class TestSideEffects:
    def test_b28_after_they_started_nothing_is_retried(self) -> None:
        """An agent that says so before it fails is the last one to be tried."""
        other = ScriptedAgent(["never"])

        def agent(payload: Any, context: CallContext) -> None:
            context.started_side_effects()
            raise http_error(503)

        async def coroutine(payload: Any, context: CallContext) -> None:
            agent(payload, context)

        each: Callable[..., Any]
        for each in (agent, coroutine):
            with pool_of(*ranked(a=each, b=other), clock=FakeClock()) as pool:
                with pytest.raises(AllPoolMembersFailedError, match="side effects") as caught:
                    pool.ask(Request("x"))
                assert caught.value.errors[0].kind is FailureKind.UNAVAILABLE
        assert len(other.calls) == 0

    def test_b28_before_they_started_it_is_retried(self) -> None:
        """One that fails before it says so is retried like any other."""

        def agent(payload: Any, context: CallContext) -> None:
            raise http_error(503)

        with pool_of(*ranked(a=agent, b=ScriptedAgent(["good"]))) as pool:
            assert pool.ask(Request("x")).member == "b"

    def test_b28_after_they_started_a_timeout_is_the_end(self) -> None:
        """An attempt that timed out after it had started its effects is not repeated."""
        clock = FakeClock()
        entered, let_on = threading.Event(), threading.Event()
        other = ScriptedAgent(["never"])

        def agent(payload: Any, context: CallContext) -> None:
            context.started_side_effects()
            entered.set()
            assert let_on.wait(WAIT_S)

        with pool_of(*ranked(a=agent, b=other), clock=clock, request_timeout_s=1.0) as pool:
            future = pool.ask(Request("x"), block=False)
            assert entered.wait(WAIT_S)
            pool.stats()
            clock.advance(1.0)
            with pytest.raises(AllPoolMembersFailedError, match="side effects"):
                future.get(timeout=WAIT_S)
            let_on.set()
        assert len(other.calls) == 0

    def test_b28_effects_that_started_just_before_the_timeout(self) -> None:
        """Nor when the router hears of both at the same moment: the effects came first."""
        clock = FakeClock()
        going, entered, let_on = (threading.Event() for _ in range(3))
        busy, resume = threading.Event(), threading.Event()
        other = ScriptedAgent(["never"])

        def agent(payload: Any, context: CallContext) -> None:
            going.set()
            assert busy.wait(WAIT_S)
            context.started_side_effects()
            entered.set()
            assert let_on.wait(WAIT_S)

        def hold_the_router(event: Any) -> None:
            if isinstance(event, RequestCompleted) and event.request_id == "hold":
                busy.set()
                assert resume.wait(WAIT_S)

        end = observe(hold_the_router)
        try:
            with pool_of(
                *ranked(a=agent, b=other, c=ScriptedAgent(["free"])),
                clock=clock,
                request_timeout_s=1.0,
            ) as pool:
                pool.force_open("b")
                future = pool.ask(Request("x"), block=False)
                assert going.wait(WAIT_S)
                pool.ask(Request("y", request_id="hold"), block=False)
                assert entered.wait(WAIT_S)
                clock.advance(1.0)
                resume.set()
                with pytest.raises(AllPoolMembersFailedError, match="side effects"):
                    future.get(timeout=WAIT_S)
                let_on.set()
        finally:
            resume.set()
            let_on.set()
            end()

    @pytest.mark.parametrize("give_up", ["cancel", "timeout"])
    def test_b28_given_up_before_they_start_they_must_not(self, give_up: str) -> None:
        """A call that has been given up is refused its effects: `started_side_effects` raises."""
        clock = FakeClock()
        entered, let_on = threading.Event(), threading.Event()
        outcome: list[str] = []

        def agent(payload: Any, context: CallContext) -> None:
            entered.set()
            assert let_on.wait(WAIT_S)
            try:
                context.started_side_effects()
                outcome.append("started")
            except RequestCancelledError:
                outcome.append("refused")
                raise

        with pool_of(
            *ranked(a=agent, b=ScriptedAgent(["good"])), clock=clock, request_timeout_s=1.0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            assert entered.wait(WAIT_S)
            if give_up == "cancel":
                future.cancel()
                with pytest.raises(RequestCancelledError):
                    future.get(timeout=WAIT_S)
            else:
                clock.advance(1.0)
                assert future.get(timeout=WAIT_S).member == "b"
            pool.stats()
            let_on.set()
            for _ in range(1000):
                if outcome:
                    break
                pool.stats()
            assert outcome == ["refused"]

    def test_b28_they_may_start_more_than_once(self) -> None:
        """Saying it again is no error, and neither is success afterwards."""

        def agent(payload: Any, context: CallContext) -> str:
            context.started_side_effects()
            context.started_side_effects()
            return "done"

        with pool_of(*ranked(a=agent)) as pool:
            assert pool.execute("x") == "done"


class TestEvents:
    def test_each_attempt_is_told_of_once(self) -> None:
        """One attempt.started and one attempt.failed for every failed try, in order."""
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(a=ScriptedAgent([http_error(503)]), b=ScriptedAgent([ValueError("odd")])),
                clock=FakeClock(),
            ) as pool,
        ):
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("x", max_retries=1))
            assert [(e.member, e.attempt) for e in log.named(AttemptStarted)] == [
                ("a", 1),
                ("b", 2),
            ]
            assert [(e.member, e.attempt, e.kind) for e in log.named(AttemptFailed)] == [
                ("a", 1, FailureKind.UNAVAILABLE),
                ("b", 2, FailureKind.UNKNOWN),
            ]
