"""When a request has its member again: a hiccup, a preferred member that rests, a silent one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import AllPoolMembersFailedError, Apply, CircuitState, Member, PoolRef, Request
from greenroom.messages import AttemptFailed, BreakerOpened, RetryScheduled
from greenroom.messages import Failover as FailoverEvent
from greenroom.strategies import Failover
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    http_error,
)

AGENTS = pytest.mark.parametrize("agent", [ScriptedAgent, AsyncScriptedAgent])


def reset_error() -> Exception:
    return ConnectionResetError("connection reset by peer")


class TestOnceMore:
    """`same_member_retries`."""

    @AGENTS
    @pytest.mark.parametrize("error", [reset_error(), *map(http_error, (500, 502, 503))], ids=str)
    def test_a_hiccup_is_tried_again_on_the_same_member(
        self, agent: Callable[..., Any], error: Exception, clock: FakeClock, log: EventRecorder
    ) -> None:
        """At once, before anybody else; it is a retry, and no failover."""
        flaky, other = agent([error, "fine"]), agent(["other"])
        with pool_of(*ranked(a=flaky, b=other), clock=clock, same_member_retries=1) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.attempts) == ("a", 2)
            assert [each.member for each in reply.errors] == ["a"]
            assert (pool.stats().retries, len(other.calls)) == (1, 0)
            assert log.named(FailoverEvent) == [] == log.named(RetryScheduled)

    def test_after_that_the_next_member_has_it(self, clock: FakeClock) -> None:
        """Each member has as many chances."""
        first, second = ScriptedAgent([http_error(503)]), ScriptedAgent([http_error(503), "fine"])
        with pool_of(*ranked(a=first, b=second), clock=clock, same_member_retries=1) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.attempts) == ("b", 4)
            assert (len(first.calls), len(second.calls)) == (2, 2)

    def test_by_default_another_member_has_it(self, clock: FakeClock) -> None:
        """In a pool of more than one."""
        flaky, other = ScriptedAgent([http_error(503), "fine"]), ScriptedAgent(["other"])
        with pool_of(*ranked(a=flaky, b=other), clock=clock) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"

    @AGENTS
    def test_a_pool_of_one_does_not_wait(
        self, agent: Callable[..., Any], clock: FakeClock, log: EventRecorder
    ) -> None:
        """Its member is asked again at once, without any time passing; only then there is a
        backoff.
        """
        flaky = agent([reset_error(), "fine", reset_error(), reset_error(), "late"])
        with pool_of(Member("a", flaky), clock=clock) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).value == "fine"
            future = pool.ask(Request("y"), block=False)
            log.wait_for(RetryScheduled)
            assert (len(flaky.calls), pool.stats().pending) == (4, 1)
            clock.advance(30.0)
            assert future.get(timeout=WAIT_S).value == "late"

    def test_a_tell_and_an_apply_are_tried_again_as_well(self, clock: FakeClock) -> None:
        """They are requests like any other."""
        flaky, other = (
            ScriptedAgent([reset_error(), "fine", reset_error(), "fine"]),
            ScriptedAgent(["other"]),
        )
        with pool_of(*ranked(a=flaky, b=other), clock=clock, same_member_retries=1) as pool:
            assert pool.ask(Apply(lambda agent: agent("x")), timeout=WAIT_S).member == "a"
            pool.tell(Request("x"))
            pool.drain(timeout=WAIT_S)
            assert (len(flaky.calls), len(other.calls)) == (4, 0)

    def test_a_stream_that_has_not_begun_is_tried_again(self, clock: FakeClock) -> None:
        """Before its first chunk; nothing of it has been seen."""
        flaky, other = ScriptedAgent([reset_error(), "fine"]), ScriptedAgent(["other"])
        with pool_of(*ranked(a=flaky, b=other), clock=clock, same_member_retries=1) as pool:
            assert pool.stream(Request("x"), timeout=WAIT_S).collect() == ["fine"]
            assert len(other.calls) == 0

    @pytest.mark.parametrize(
        "error",
        [
            TimeoutError("slow"),
            http_error(429),
            http_error(503, retry_after_s=1.0),
            http_error(401),
            ValueError("odd"),
        ],
        ids=str,
    )
    def test_what_is_no_hiccup_goes_to_another(self, error: Exception, clock: FakeClock) -> None:
        """A timeout, whoever asks to be left alone, and what would only be repeated."""
        flaky, other = ScriptedAgent([error, "fine"]), ScriptedAgent(["other"])
        with pool_of(*ranked(a=flaky, b=other), clock=clock, same_member_retries=1) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
            assert len(flaky.calls) == 1

    def test_what_is_not_idempotent_is_not_tried_again(self, clock: FakeClock) -> None:
        """It has started."""
        flaky = ScriptedAgent([reset_error(), "fine"])
        with pool_of(Member("a", flaky), clock=clock) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent"):
                pool.ask(Request("x", idempotent=False), timeout=WAIT_S)
            assert len(flaky.calls) == 1

    def test_not_when_the_breaker_has_opened_by_it(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """Then the next one has it, though the setting says otherwise."""
        flaky, other = ScriptedAgent([reset_error(), "fine"]), ScriptedAgent(["other"])
        with pool_of(
            *ranked(a=flaky, b=other),
            clock=clock,
            same_member_retries=1,
            circuit_failure_threshold=1,
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
            assert len(flaky.calls) == 1
            log.wait_for(BreakerOpened)

    def test_not_on_a_trial(self, clock: FakeClock) -> None:
        """One that fails has failed."""
        flaky = ScriptedAgent([http_error(401), reset_error(), "fine"])
        with pool_of(
            Member("a", flaky), clock=clock, circuit_reset_timeout_s=30.0, retry_delay_s=0.0
        ) as pool:
            for calls in (1, 2):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("x"), timeout=WAIT_S)
                assert len(flaky.calls) == calls
                assert pool.stats()["a"].circuit is CircuitState.OPEN
                clock.advance(30.0)
                pool.stats()

    def test_a_failover_pool_may_do_it_too(self, clock: FakeClock) -> None:
        """Though it tries each member once whatever `max_retries` says: the second time counts."""
        first, second = ScriptedAgent([reset_error()]), ScriptedAgent(["second"])
        with pool_of(
            *ranked(a=first, b=second),
            clock=clock,
            strategy="failover",
            same_member_retries=1,
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
            assert len(first.calls) == 2
            assert pool.ask(Request("x", max_retries=0), timeout=WAIT_S).member == "b"


STAY_S = 5.0


def throttled(seconds: float, status: int = 429) -> Exception:
    return http_error(status, retry_after_s=seconds)


def waits(pool: PoolRef, log: EventRecorder, retries: int = 1) -> None:
    """Until the request that was throttled waits for its member."""
    log.wait_for(RetryScheduled, count=retries)
    assert pool.stats().pending >= 1


class TestStay:
    """`stay_for_retry_after_s`."""

    @pytest.mark.parametrize("strategy", ["priority", "failover", "consistent_hash"])
    @pytest.mark.parametrize("status", [429, 503])
    def test_a_preferred_member_is_waited_for(
        self, strategy: str, status: int, clock: FakeClock, log: EventRecorder
    ) -> None:
        """As long as it asks for, by other requests that prefer it, too: nobody goes elsewhere."""
        errors = iter([throttled(2.0, status)])

        def answer(payload: Any) -> Any:
            if payload == "x":
                for error in errors:
                    raise error
            return payload

        agents = {name: AsyncScriptedAgent([answer]) for name in "abc"}
        with pool_of(
            *ranked(**agents), clock=clock, strategy=strategy, stay_for_retry_after_s=STAY_S
        ) as pool:
            home = pool.ask(Request("warm", key="k"), timeout=WAIT_S).member
            first = pool.ask(Request("x", key="k"), block=False)
            waits(pool, log)
            second = pool.ask(Request("y", key="k"), block=False)
            clock.advance(1.999)
            assert pool.stats().pending == 2
            clock.advance(0.001)
            assert first.get(timeout=WAIT_S).member == home
            assert second.get(timeout=WAIT_S).member == home
            assert sum(len(agent.calls) for agent in agents.values()) == 4
            assert log.named(FailoverEvent) == []

    def test_a_stream_waits_as_well(self, clock: FakeClock, log: EventRecorder) -> None:
        """Before its first chunk."""
        first, other = ScriptedAgent([throttled(2.0), "a"]), ScriptedAgent(["b"])
        with pool_of(*ranked(a=first, b=other), clock=clock, stay_for_retry_after_s=STAY_S) as pool:
            stream = pool.stream(Request("x"), timeout=WAIT_S)
            waits(pool, log)
            clock.advance(2.0)
            assert stream.collect() == ["a"]

    def test_a_longer_rest_is_not_waited_for(self, clock: FakeClock) -> None:
        """Nor is one that comes to more than that by a second refusal."""
        first, other = ScriptedAgent([throttled(5.1), "a"]), ScriptedAgent(["b"])
        with pool_of(*ranked(a=first, b=other), clock=clock, stay_for_retry_after_s=STAY_S) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
            assert pool.ask(Request("y"), timeout=WAIT_S).member == "b"
            clock.advance(0.2)  # now it is back within the limit, and those to come wait
            future = pool.ask(Request("z"), block=False)
            assert pool.stats().pending == 1
            clock.advance(5.0)
            assert future.get(timeout=WAIT_S).member == "a"

    def test_by_default_nobody_waits(self, clock: FakeClock) -> None:
        """The next member has it."""
        first, other = ScriptedAgent([throttled(0.1), "a"]), ScriptedAgent(["b"])
        with pool_of(*ranked(a=first, b=other), clock=clock) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"

    def test_strategies_that_stick_to_nobody_do_not_wait(self, clock: FakeClock) -> None:
        """They have no preferred member: the setting does nothing with them."""
        agents = [
            ScriptedAgent([throttled(1.0)]),
            ScriptedAgent([throttled(1.0)]),
            ScriptedAgent(["fine"]),
        ]
        members = [Member(name, agent) for name, agent in zip("abc", agents, strict=True)]
        with pool_of(
            *members, clock=clock, strategy="round_robin", stay_for_retry_after_s=STAY_S
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "c"

    def test_an_equal_of_the_same_priority_is_as_good(self, clock: FakeClock) -> None:
        """It is not waited for one member where the group of its number has another."""
        a, b = ScriptedAgent.rate_limited(), ScriptedAgent.rate_limited()
        standby = ScriptedAgent(["standby"])
        members = [Member("a", a), Member("b", b), Member("standby", standby, priority=1)]
        with pool_of(*members, clock=clock, stay_for_retry_after_s=STAY_S) as pool:
            future = pool.ask(Request("x"), block=False)
            while len(a.calls) + len(b.calls) < 2:
                pool.stats()
            assert pool.stats().pending == 1
            clock.advance(1.0)
            assert future.get(timeout=WAIT_S).value == "value"
            assert len(standby.calls) == 0

    def test_who_cannot_wait_goes_elsewhere(self, clock: FakeClock, log: EventRecorder) -> None:
        """A deadline before the end of the rest."""
        first, other = AsyncScriptedAgent([throttled(2.0), "a"]), ScriptedAgent(["b"])
        with pool_of(*ranked(a=first, b=other), clock=clock, stay_for_retry_after_s=STAY_S) as pool:
            patient = pool.ask(Request("x"), block=False)
            waits(pool, log)
            assert pool.ask(Request("y", timeout_s=2.0), timeout=WAIT_S).member == "b"
            late = pool.ask(Request("z", timeout_s=2.1), block=False)
            clock.advance(2.0)
            assert patient.get(timeout=WAIT_S).member == "a"
            late.get(timeout=WAIT_S)  # by whoever has room: the first comes back at a pace

    def test_a_full_queue_sends_them_elsewhere(self, clock: FakeClock, log: EventRecorder) -> None:
        """Nobody is refused for the sake of a cache."""
        first, other = ScriptedAgent([throttled(2.0), "a"]), ScriptedAgent(["b"])
        with pool_of(
            *ranked(a=first, b=other), clock=clock, stay_for_retry_after_s=STAY_S, max_pending=1
        ) as pool:
            patient = pool.ask(Request("x"), block=False)
            waits(pool, log)
            pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 2
            assert pool.ask(Request("z"), timeout=WAIT_S).member == "b"
            clock.advance(2.0)
            assert patient.get(timeout=WAIT_S).member == "a"

    def test_max_retries_ends_it(self, clock: FakeClock, log: EventRecorder) -> None:
        """A member that asks for one second again and again is left; failover moves on then."""
        first, other = ScriptedAgent([throttled(1.0)]), ScriptedAgent(["b"])
        with pool_of(
            *ranked(a=first, b=other),
            clock=clock,
            strategy="failover",
            stay_for_retry_after_s=STAY_S,
            max_retries=2,
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            for stay in (1, 2):
                waits(pool, log, stay)
                clock.advance(1.0)
            assert future.get(timeout=WAIT_S).member == "b"
            assert len(first.calls) == 3
            assert pool.ask(Request("y"), timeout=WAIT_S).member == "b"
            assert len(log.named(AttemptFailed)) == 3

    def test_a_member_that_is_gone_is_not_waited_for(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """It has been forced open meanwhile: anybody will do."""
        first, other = ScriptedAgent([throttled(2.0)]), ScriptedAgent(["b"])
        with pool_of(*ranked(a=first, b=other), clock=clock, stay_for_retry_after_s=STAY_S) as pool:
            future = pool.ask(Request("x"), block=False)
            waits(pool, log)
            queued = pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 2
            pool.force_open("a")
            assert queued.get(timeout=WAIT_S).member == "b"
            clock.advance(2.0)
            assert future.get(timeout=WAIT_S).member == "b"


class TestSilent:
    """A member that has let a request wait in vain."""

    def test_a_silent_member_is_not_asked_again_while_another_is_there(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """One that has failed with a word is: also where the silent one has the better number."""
        silent, loud = AsyncHeld(), AsyncScriptedAgent([http_error(503), http_error(503), "fine"])
        members = ranked(silent=silent, loud=loud)
        with pool_of(*members, clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x"), block=False)
            silent.wait_entered()
            clock.advance(2.0)
            for retries in (1, 2):
                clock.advance(log.wait_for(RetryScheduled, count=retries).delay_s)
            reply = future.get(timeout=WAIT_S)
            assert (reply.member, reply.attempts) == ("loud", 4)
            assert silent.calls == 1

    def test_it_waits_for_another_that_is_busy(self, clock: FakeClock, log: EventRecorder) -> None:
        """One that takes a request before long is there, too."""
        silent, loud = AsyncHeld(), AsyncHeld(http_error(503))
        with pool_of(
            Member("silent", silent, priority=0, max_concurrency=1),
            Member("loud", loud, priority=1, max_concurrency=1),
            clock=clock,
            request_timeout_s=4.0,
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            silent.wait_entered()
            clock.advance(4.0)
            loud.wait_entered()
            silent.wait_cancelled()
            loud.let_go()
            delay_s = log.wait_for(RetryScheduled).delay_s
            loud.value = "fine"
            others = []
            for agent in (silent, loud):
                others.append(pool.ask(Request("y"), block=False))
                agent.wait_entered()
            clock.advance(delay_s)
            assert pool.stats().pending == 1
            silent.let_go()
            assert others[0].get(timeout=WAIT_S).member == "silent"
            assert pool.stats().pending == 1
            loud.let_go()
            assert others[1].get(timeout=WAIT_S).member == "loud"
            loud.wait_entered()
            loud.let_go()
            assert future.get(timeout=WAIT_S).member == "loud"
            assert silent.calls == 2

    def test_where_nobody_else_is_left_it_has_another_chance(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """As in a pool of one."""
        silent = AsyncHeld("fine")
        with pool_of(Member("silent", silent), clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x"), block=False)
            silent.wait_entered()
            clock.advance(2.0)
            silent.wait_cancelled()
            clock.advance(log.wait_for(RetryScheduled).delay_s)
            silent.wait_entered()
            silent.let_go()
            assert future.get(timeout=WAIT_S).attempts == 2


class TestReturn:
    """`failover` goes back to its first member."""

    def test_it_returns_after_a_minute_by_default(self, clock: FakeClock) -> None:
        """What was out of order for a moment is in use again."""
        first, second = ScriptedAgent([http_error(503), "first"]), ScriptedAgent(["second"])
        with pool_of(*ranked(a=first, b=second), clock=clock, strategy="failover") as pool:
            assert pool.execute("x", timeout=WAIT_S) == "second"
            assert pool.execute("x", timeout=WAIT_S) == "second"
            clock.advance(60.0)
            assert [pool.execute("x", timeout=WAIT_S) for _ in range(2)] == ["first", "first"]

    def test_a_vain_return_costs_its_request_nothing(self, clock: FakeClock) -> None:
        """It goes on with the one in charge, which stays so; then it takes twice as long."""
        first, second, third = (
            ScriptedAgent([http_error(503)]),
            ScriptedAgent(["second"]),
            ScriptedAgent(["third"]),
        )
        members = ranked(a=first, b=second, c=third)
        with pool_of(*members, clock=clock, strategy=Failover(return_after_s=10.0)) as pool:
            for pause in (0.0, 10.0, 19.0, 1.0):
                clock.advance(pause)
                assert pool.execute("x", timeout=WAIT_S) == "second"
            assert len(first.calls) == 3
            assert len(third.calls) == 0
            assert pool.stats().strategy == "failover"

    def test_a_return_to_a_half_open_member_costs_no_wait(self, clock: FakeClock) -> None:
        """Its trial runs beside; with its second success the breaker is closed."""
        first, second = AsyncHeld(http_error(401)), AsyncScriptedAgent(["second"])
        with pool_of(
            *ranked(a=first, b=second),
            clock=clock,
            strategy=Failover(return_after_s=40.0),
            circuit_reset_timeout_s=30.0,
        ) as pool:
            opening = pool.ask(Request("x"), block=False)
            first.wait_entered()
            first.let_go()
            assert opening.get(timeout=WAIT_S).member == "b"
            first.value = "first"
            pool.execute("x", timeout=WAIT_S)
            clock.advance(40.0)
            pool.stats()
            assert pool.execute("x", timeout=WAIT_S) == "second"
            first.wait_entered()
            first.let_go()
            while pool.stats()["a"].successes < 1:
                pass
            assert pool.execute("x", timeout=WAIT_S) == "second"
            first.wait_entered()
            first.let_go()
            while pool.stats()["a"].circuit is not CircuitState.CLOSED:
                pass
            future = pool.ask(Request("x"), block=False)
            first.wait_entered()
            first.let_go()
            assert future.get(timeout=WAIT_S).member == "a"
