"""A pool is an agent of another pool: behaviour 53."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from helpers_actors import no_thread_left, stop_member
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    Drain,
    FailureKind,
    Member,
    PoolRef,
    PoolSaturatedError,
    PoolStoppedError,
    Request,
    RequestCancelledError,
)
from greenroom.messages import (
    AttemptFailed,
    AttemptStarted,
    BreakerClosed,
    BreakerOpened,
    MemberRestarted,
    PoolStarted,
    PoolStopped,
    RequestCompleted,
    RequestExhausted,
)
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    ScriptedHTTPError,
    http_error,
)

DOWN = ConnectionError("down")


def active() -> int:
    """How many threads run, but for the one that looks at the clock for all pools."""
    return sum(thread.name != "greenroom-clock" for thread in threading.enumerate())


@contextlib.contextmanager
def nest(
    *, clock: FakeClock | None = None, outer: dict[str, Any] | None = None, **inner: Any
) -> Iterator[tuple[PoolRef, ...]]:
    """An outer pool, then the inner ones it prefers in this order, each with its agent or members.

    All are on one clock; each tries twice, without a pause.
    """
    settings: dict[str, Any] = {"clock": clock, "max_retries": 1, "retry_delay_s": 0.0}
    with contextlib.ExitStack() as stack:
        pools = {}
        for name, agents in inner.items():
            members = (
                ranked(**agents) if isinstance(agents, dict) else ranked(**{f"{name}1": agents})
            )
            pools[name] = stack.enter_context(pool_of(*members, name=name, **settings))
        config = settings | {"name": "outer"} | (outer or {})
        yield stack.enter_context(pool_of(*ranked(**pools), **config)), *pools.values()


def seen(context: CallContext) -> tuple[Any, ...]:
    return (
        context.key,
        context.priority,
        context.idempotent,
        dict(context.metadata),
        context.remaining_s,
    )


class TestFailover:
    def test_b53_a_pool_of_pools_fails_over_between_providers(self) -> None:
        """The first provider's pool is down, the second one's answers; the reply tells of both."""
        down = AsyncScriptedAgent([DOWN])
        with nest(a={"a1": down, "a2": down}, b=AsyncScriptedAgent(["from b"])) as (pool, *_):
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.member, reply.attempts) == ("from b", "b", 2)
            [failed] = reply.errors
            assert (failed.member, failed.kind) == ("a", FailureKind.UNAVAILABLE)
            assert [each.member for each in failed.errors] == ["a1", "a2"]
            assert len(down.calls) == 2

    def test_b53_sync_and_async_agents_inside(self) -> None:
        """It is all one to the outer pool what the inner one's agents are."""
        for agent in (ScriptedAgent(["good"]), AsyncScriptedAgent(["good"])):
            with nest(a=agent) as (pool, *_):
                assert pool.execute("x", timeout=WAIT_S) == "good"

    def test_b53_a_pool_counts_as_an_async_agent(self) -> None:
        """100 at a time by default, also when a factory made it; none of them holds a thread."""
        agent = AsyncHeld()
        with (
            pool_of(Member("a1", agent, max_concurrency=50), name="a") as inner,
            pool_of(Member("a", inner), Member("b", inner, max_concurrency=7)) as pool,
        ):
            assert [each.max_concurrency for each in pool.stats().members] == [100, 7]
            threads = active()
            futures = [pool.ask(Request(n), block=False) for n in range(50)]
            agent.wait_entered(50)
            assert active() <= threads + 2  # the two pools' loops
            agent.let_go()
            assert {each.get(timeout=WAIT_S).value for each in futures} == {"held"}

    def test_b53_three_levels(self) -> None:
        """A pool of pools of pools answers, and fails, as one of two levels does."""
        leaf_agent = AsyncScriptedAgent(["deep", DOWN])
        with (
            pool_of(Member("x", leaf_agent), name="leaf") as leaf,
            pool_of(Member("leaf", leaf), name="mid", max_retries=0) as mid,
            pool_of(Member("mid", mid), name="top", max_retries=0) as top,
        ):
            assert top.execute("x", timeout=WAIT_S) == "deep"
            for each in (leaf, mid, top):
                each.stats()
            with pytest.raises(AllPoolMembersFailedError) as caught:
                top.execute("x", timeout=WAIT_S, max_retries=0)
            [in_top] = caught.value.errors
            [in_mid] = in_top.errors
            [in_leaf] = in_mid.errors
            assert (in_top.member, in_mid.member, in_leaf.member) == ("mid", "leaf", "x")
            assert in_leaf.error is DOWN
            assert in_leaf.errors == ()

    def test_b53_200_at_once_through_two_levels(self) -> None:
        """Every one of them is answered, half of them after a failover; nothing stays behind."""
        actors = len(pykka.ActorRegistry.get_all())

        async def flaky(payload: int) -> int:
            if payload % 2:
                raise DOWN
            return payload

        async def sound(payload: int) -> int:
            await asyncio.sleep(0)
            return payload

        breakers_off: dict[str, Any] = {
            "circuit_failure_threshold": 10_000,
            "circuit_failure_rate": 1.0,
        }

        async def ask_all(pool: PoolRef) -> list[Any]:
            futures = [pool.ask(Request(n), block=False) for n in range(200)]
            return [(await future).value for future in futures]

        with no_thread_left():
            with (
                pool_of(Member("a1", flaky), name="a", max_retries=0, **breakers_off) as a,
                pool_of(Member("b1", sound), name="b") as b,
                pool_of(*ranked(a=a, b=b), retry_budget_floor=1000.0, **breakers_off) as pool,
            ):
                assert asyncio.run(ask_all(pool)) == list(range(200))
                for each in (pool, a, b):
                    stats = each.stats()
                    assert (stats.pending, stats.in_flight) == (0, 0)
                assert pool.stats().completed == 200
            assert len(pykka.ActorRegistry.get_all()) == actors


class TestErrors:
    def test_b53_the_error_keeps_the_tree_and_prints_it(self) -> None:
        """Each level stands below the one it explains, further in."""
        agents = {
            "a1": AsyncScriptedAgent([DOWN]),
            "a2": AsyncScriptedAgent([ValueError("odd\nvery odd")]),
        }
        with nest(clock=FakeClock(), a=agents, b=AsyncScriptedAgent([http_error(503)])) as (
            pool,
            *_,
        ):
            pool.add_member(Member("c", AsyncScriptedAgent(["never"]), priority=9))
            pool.force_open("c")
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.execute("x", timeout=WAIT_S)
        assert str(caught.value) == (
            "pool 'outer': no member could answer (max_retries=1 reached); "
            "it failed in the same way everywhere\n"
            "  a: unavailable after 0.000 s: "
            "AllPoolMembersFailedError: pool 'a': no member could answer (max_retries=1 reached)\n"
            "    a1: unavailable after 0.000 s: ConnectionError: down\n"
            "    a2: unknown after 0.000 s: ValueError: odd\n"
            "  b: unavailable after 0.000 s: "
            "AllPoolMembersFailedError: pool 'b': no member could answer (max_retries=1 reached)\n"
            "    b1: unavailable after 0.000 s, 2 attempts: "
            "ScriptedHTTPError: 503 Service Unavailable\n"
            "  c: skipped, circuit_open"
        )

    def test_b53_the_first_cause_is_at_the_end_of_the_chain(self) -> None:
        """A traceback leads from the outer error over the inner one to what the agent raised."""
        with (
            nest(outer={"max_retries": 0}, a=AsyncScriptedAgent([DOWN])) as (pool, *_),
            pytest.raises(AllPoolMembersFailedError) as caught,
        ):
            pool.execute("x", timeout=WAIT_S)
        inner = caught.value.__cause__
        assert isinstance(inner, AllPoolMembersFailedError)
        assert (inner.pool_name, inner.__cause__) == ("a", DOWN)

    def test_b53_in_the_log_it_is_one_line(self) -> None:
        """Events say what an inner pool answered without its tree."""
        with (
            EventRecorder() as log,
            nest(a=AsyncScriptedAgent([DOWN]), b=AsyncScriptedAgent(["b"])) as (pool, *_),
        ):
            pool.execute("x", timeout=WAIT_S)
            [failed] = [each for each in log.named(AttemptFailed) if each.pool == "outer"]
            assert failed.error.startswith("AllPoolMembersFailedError: pool 'a': no member")
            assert "\n" not in failed.error

    def test_b53_an_inner_deadline_keeps_its_tree_too(self) -> None:
        """An inner pool's own `deadline_s` is a timeout, and what it had tried is told."""
        clock, agent = FakeClock(), AsyncHeld()
        with (
            pool_of(Member("a1", agent), name="a", clock=clock, deadline_s=2.0) as inner,
            pool_of(*ranked(a=inner, b=AsyncScriptedAgent(["b"])), clock=clock) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            clock.advance(2.0)
            [failed] = future.get(timeout=WAIT_S).errors
            assert (failed.kind, failed.elapsed_s) == (FailureKind.TIMEOUT, 2.0)
            assert isinstance(failed.error, DeadlineExceededError)
            assert [each.member for each in failed.errors] == ["a1"]

    def test_b53_a_stopped_inner_pool_says_so(self) -> None:
        """It is unavailable, and the error names it."""
        with nest(a=AsyncScriptedAgent(["a"]), outer={"max_retries": 0}) as (pool, inner):
            inner.stop()
            with pytest.raises(AllPoolMembersFailedError, match="pool 'a' has stopped") as caught:
                pool.execute("x", timeout=WAIT_S)
            [failed] = caught.value.errors
            assert (failed.kind, failed.started) == (FailureKind.UNAVAILABLE, False)


class TestPassedThrough:
    def test_b53_key_deadline_priority_and_metadata(self) -> None:
        """What a request says reaches the innermost agent, over three levels."""

        async def agent(payload: Any, context: CallContext) -> tuple[Any, ...]:
            return payload, *seen(context)

        clock = FakeClock()
        with (
            pool_of(Member("x", agent), clock=clock, name="leaf") as leaf,
            pool_of(Member("leaf", leaf), clock=clock, name="mid") as mid,
            pool_of(Member("mid", mid), clock=clock, name="top") as top,
        ):
            value = top.execute(
                "hi", key="k", timeout_s=5.0, priority=3, idempotent=False, metadata={"t": 1}
            )
            assert value == ("hi", "k", 3, False, {"t": 1}, pytest.approx(5.0))
            assert top.execute("hi") == ("hi", None, 0, True, {}, pytest.approx(30.0))

    def test_b53_without_any_limit_there_is_none(self) -> None:
        """No deadline outside means no deadline inside."""

        async def agent(payload: Any, context: CallContext) -> float | None:
            return context.remaining_s

        with (
            pool_of(Member("x", agent), request_timeout_s=None) as inner,
            pool_of(Member("inner", inner), request_timeout_s=None) as pool,
        ):
            assert pool.execute("x") is None

    def test_b53_an_inner_request_is_named_after_the_outer_one(self) -> None:
        """Its id begins with the outer id and attempt: one search finds the lines of both."""
        agent = AsyncScriptedAgent([DOWN, "good"])
        with (
            EventRecorder() as log,
            nest(a={"x": agent}, outer={"retry_delay_s": 0.0}) as (pool, _),
        ):
            assert pool.ask(Request("p", request_id="r-7", max_retries=1)).attempts == 1
            ids = [(each.pool, each.request_id) for each in log.named(AttemptStarted)]
            assert ids == [("outer", "r-7"), ("a", "r-7#1/a-1"), ("a", "r-7#1/a-1")]

    def test_b53_every_attempt_is_a_request_of_its_own(self) -> None:
        """A retry on the same inner pool has another id, with the attempt's number."""
        agent = AsyncScriptedAgent([DOWN, "good"])
        with (
            EventRecorder() as log,
            pool_of(Member("x", agent), name="a", max_retries=0) as inner,
            pool_of(Member("a", inner), name="outer", retry_delay_s=0.0) as pool,
        ):
            assert pool.ask(Request("p", request_id="r"), timeout=WAIT_S).attempts == 2
            inside = [each.request_id for each in log.named(AttemptStarted) if each.pool == "a"]
            assert inside == ["r#1/a-1", "r#2/a-2"]

    def test_b53_two_outer_pools_may_use_the_same_ids(self) -> None:
        """Ids that are unique in each outer pool do not meet in the inner one that they share."""
        agent = AsyncHeld()
        with (
            pool_of(Member("x", agent)) as inner,
            pool_of(Member("a", inner)) as one,
            pool_of(Member("a", inner)) as other,
        ):
            futures = [each.ask(Request("p", request_id="r"), block=False) for each in (one, other)]
            agent.wait_entered(2)
            agent.let_go()
            assert [each.get(timeout=WAIT_S).request_id for each in futures] == ["r", "r"]

    def test_b53_apply_is_given_the_inner_pool(self) -> None:
        """The function may ask it, blocking, without holding up the loop that others are on."""
        agent = AsyncHeld()
        with nest(a=agent) as (pool, inner):
            result: list[Any] = []
            blocking = threading.Thread(
                target=lambda: result.append(pool.apply(lambda each: (each, each.execute("x"))))
            )
            blocking.start()
            agent.wait_entered()
            future = pool.ask(Request("meanwhile"), block=False)
            agent.wait_entered()
            agent.let_go()
            blocking.join(WAIT_S)
            assert result == [(inner, "held")]
            assert future.get(timeout=WAIT_S).value == "held"

            async def ask(each: PoolRef) -> Any:
                return (await each.ask(Request("y"), block=False)).member

            waiter = threading.Thread(target=lambda: result.append(pool.apply(ask)))
            waiter.start()
            agent.wait_entered()
            agent.let_go()
            waiter.join(WAIT_S)
            assert result[1:] == ["a1"]


class TestCutShort:
    def test_b53_cancelling_reaches_the_innermost_agent(self) -> None:
        """The caller gives up: the async agent two pools further in is cancelled; nobody counts."""
        agent = AsyncHeld()
        with (
            pool_of(Member("x", agent), name="leaf") as leaf,
            pool_of(Member("leaf", leaf), name="mid") as mid,
            EventRecorder() as log,
            pool_of(Member("mid", mid), name="top") as top,
        ):
            future = top.ask(Request("x"), block=False)
            agent.wait_entered()
            assert future.cancel()
            agent.wait_cancelled()
            with pytest.raises(RequestCancelledError):
                future.get(timeout=WAIT_S)
            log.wait_for(RequestCompleted, count=3)
            ended = log.named(RequestCompleted)
            assert {(each.pool, each.outcome) for each in ended} == {
                (name, "cancelled") for name in ("top", "mid", "leaf")
            }
            for each in (top, mid, leaf):
                assert each.stats().members[0].failures == 0

    def test_b53_an_attempt_that_times_out_is_cancelled_inside(self) -> None:
        """The outer pool's `request_timeout_s` ends the inner request, and another answers."""
        clock, agent = FakeClock(), AsyncHeld()
        outer = {"request_timeout_s": 1.0, "max_retries": 1}
        with nest(clock=clock, outer=outer, a=agent, b=AsyncScriptedAgent(["b"])) as (pool, *_):
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            clock.advance(1.0)
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.errors[0].kind) == ("b", FailureKind.TIMEOUT)
            agent.wait_cancelled()
            assert pool.stats()["a"].failures == 1

    def test_b53_a_callers_deadline_counts_for_no_breaker(self) -> None:
        """Even when the inner pool is the first to notice: a caller in a hurry is not its fault."""
        clock, inner_clock, agent = FakeClock(), FakeClock(), AsyncHeld()
        with (
            EventRecorder() as log,
            pool_of(Member("x", agent), name="a", clock=inner_clock) as inner,
            pool_of(
                *ranked(a=inner, b=AsyncScriptedAgent(["b"])), name="outer", clock=clock
            ) as pool,
        ):
            usual = pool.ask(Request("usual"), block=False)
            agent.wait_entered()
            clock.advance(2.0)
            agent.let_go()
            assert usual.get(timeout=WAIT_S).elapsed_s == 2.0
            future = pool.ask(Request("hurry", timeout_s=2.0), block=False)
            agent.wait_entered()
            inner_clock.advance(2.0)
            log.wait_for(RequestExhausted)
            inner.stats()  # the inner pool has answered,

            async def nothing(_: Any) -> None:
                await asyncio.sleep(0)

            for _ in range(2):  # and the outer one's loop has heard it
                pool.apply(nothing)
            assert not future.done()
            clock.advance(2.0)
            with pytest.raises(DeadlineExceededError) as caught:
                future.get(timeout=WAIT_S)
            assert caught.value.errors[0].kind is FailureKind.TIMEOUT
            assert pool.stats()["a"].failures == 0
            assert not [each for each in log.named(AttemptFailed) if each.pool == "outer"]

    def test_b53_an_inner_request_that_somebody_else_cancels(self) -> None:
        """Whoever asked the outer pool has given nothing up: another member answers."""
        agent = AsyncHeld()
        with (
            EventRecorder() as log,
            nest(a=agent, b=AsyncScriptedAgent(["b"])) as (pool, inner, _),
        ):
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            [started] = [each for each in log.named(AttemptStarted) if each.pool == "a"]
            assert inner.cancel(started.request_id or "")
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.errors[0].kind) == ("b", FailureKind.UNKNOWN)


class TestOnce:
    def test_b53_what_is_not_idempotent_runs_once(self) -> None:
        """Neither level repeats it once an agent has started."""
        first, second, other = (AsyncScriptedAgent([DOWN]) for _ in range(3))
        with nest(a={"a1": first, "a2": second}, b=other) as (pool, *_):
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
                pool.execute("x", idempotent=False)
            assert (len(first.calls), len(second.calls), len(other.calls)) == (1, 0, 0)
            assert caught.value.started
            assert [each.started for each in caught.value.errors] == [True, False]

    @pytest.mark.parametrize("state", ["open", "saturated", "draining", "stopped", "no members"])
    def test_b53_what_has_provably_not_started_goes_elsewhere(self, state: str) -> None:
        """An inner pool that has called no agent leaves even this to another."""
        agent, other = Held(), ScriptedAgent(["b"])
        outer = pool_of(name="outer")
        with pool_of(Member("a1", agent), name="a", max_pending=0) as inner, outer as pool:
            pool.add_member(Member("a", inner))
            pool.add_member(Member("b", other, priority=1))
            before = None
            if state == "open":
                inner.force_open("a1")
            elif state == "saturated":
                before = inner.ask(Request("first"), block=False)
                agent.wait_entered()
            elif state == "draining":
                before = inner.ask(Request("first"), block=False)
                agent.wait_entered()
                inner.ask(Drain(), block=False)
            elif state == "stopped":
                inner.stop()
            else:
                inner.remove_member("a1")
            reply = pool.ask(Request("x", idempotent=False), timeout=WAIT_S)
            assert (reply.value, reply.attempts) == ("b", 2)
            assert not reply.errors[0].started
            if before is not None:
                agent.let_go()
                assert before.get(timeout=WAIT_S).value == "held"

    def test_b53_a_refusal_three_levels_down_goes_elsewhere_too(self) -> None:
        """That nothing has started is passed on from level to level."""
        with (
            pool_of(Member("x", ScriptedAgent(["never"])), name="leaf") as leaf,
            pool_of(Member("leaf", leaf), name="mid", max_retries=0) as mid,
            pool_of(*ranked(mid=mid, b=ScriptedAgent(["b"]))) as pool,
        ):
            leaf.force_open("x")
            reply = pool.ask(Request("x", idempotent=False), timeout=WAIT_S)
            assert (reply.value, reply.errors[0].started) == ("b", False)

    def test_b53_side_effects_inside_forbid_a_retry_outside(self) -> None:
        """What the innermost agent says of its effects is heard by every pool above it."""
        other = AsyncScriptedAgent(["never"])

        async def agent(payload: Any, context: CallContext) -> Any:
            context.started_side_effects()
            raise DOWN

        with (
            pool_of(Member("x", agent), name="leaf") as leaf,
            pool_of(*ranked(leaf=leaf, m=other), name="mid") as mid,
            pool_of(*ranked(mid=mid, b=other), name="top") as top,
        ):
            with pytest.raises(AllPoolMembersFailedError, match="side effects") as caught:
                top.execute("x", timeout=WAIT_S)
            assert "side effects" in str(caught.value.errors[0].error)
            assert len(other.calls) == 0

    def test_b53_side_effects_inside_and_a_timeout_outside(self) -> None:
        """The outer pool knows of them while the inner request still runs."""
        clock, other, held = FakeClock(), AsyncScriptedAgent(["never"]), AsyncHeld()

        async def agent(payload: Any, context: CallContext) -> Any:
            context.started_side_effects()
            return await held(payload)

        with nest(clock=clock, outer={"request_timeout_s": 1.0}, a=agent, b=other) as (pool, *_):
            future = pool.ask(Request("x"), block=False)
            held.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AllPoolMembersFailedError, match="side effects"):
                future.get(timeout=WAIT_S)
            assert len(other.calls) == 0

    def test_b53_no_side_effects_for_an_outer_pool_that_has_given_up(self) -> None:
        """It refuses them even if the inner pool has not heard of it yet."""

        def gone() -> None:
            raise RequestCancelledError("given up outside")

        def agent(payload: Any, context: CallContext) -> Any:
            with pytest.raises(RequestCancelledError, match="given up outside"):
                context.started_side_effects()
            return "nothing done"

        context = CallContext(request_id="r", member="a", now=lambda: 0.0, on_side_effects=gone)
        with pool_of(Member("x", agent)) as pool:
            assert pool.forward("p", context).get(timeout=WAIT_S).value == "nothing done"


class TestKinds:
    def test_b53_what_is_the_callers_fault_inside_is_so_outside(self) -> None:
        """The agent's own error reaches the caller as it is; nobody else is called."""
        error, other = http_error(400), AsyncScriptedAgent(["never"])
        with nest(a=AsyncScriptedAgent([error]), b=other) as (pool, *_):
            with pytest.raises(ScriptedHTTPError) as caught:
                pool.execute("x", timeout=WAIT_S)
            assert caught.value is error
            assert len(other.calls) == 0
            assert pool.stats()["a"].failures == 0

    def test_b53_an_inner_pool_judges_by_its_own_rules(self) -> None:
        """What its `classify` calls the caller's fault is that for the outer pool, unless the outer
        pool's own `classify` knows better.
        """
        error = ValueError("no such voice")

        def strict(raised: BaseException) -> FailureKind | None:
            return FailureKind.CALLER if isinstance(raised, ValueError) else None

        def lenient(raised: BaseException) -> FailureKind | None:
            return FailureKind.UNAVAILABLE if isinstance(raised, ValueError) else None

        with pool_of(Member("x", AsyncScriptedAgent([error])), classify=strict) as inner:
            members = ranked(a=inner, b=AsyncScriptedAgent(["b"]))
            with pool_of(*members) as pool, pytest.raises(ValueError, match="no such voice"):
                pool.execute("x", timeout=WAIT_S)
            with pool_of(*members, classify=lenient) as pool:
                assert pool.execute("x", timeout=WAIT_S) == "b"

    def test_b53_a_saturated_inner_pool_cools_down(self) -> None:
        """It says when to come back, is left alone until then, and its breaker stays closed."""
        clock, agent = FakeClock(), Held()
        with (
            pool_of(Member("x", agent), name="a", clock=clock, max_pending=0) as inner,
            pool_of(
                *ranked(a=inner, b=ScriptedAgent(["b"])), clock=clock, circuit_failure_threshold=1
            ) as pool,
        ):
            first = pool.ask(Request("first"), block=False)
            agent.wait_entered()
            reply = pool.ask(Request("second"), timeout=WAIT_S)
            assert reply.value == "b"
            [failed] = reply.errors
            assert isinstance(failed.error, PoolSaturatedError)
            assert failed.kind is FailureKind.RATE_LIMITED
            assert failed.retry_after_s == failed.error.retry_after_s
            stats = pool.stats()["a"]
            assert (stats.circuit, stats.available) == (CircuitState.CLOSED, False)
            assert stats.reopens_in_s == pytest.approx(failed.retry_after_s)
            assert pool.ask(Request("third"), timeout=WAIT_S).attempts == 1
            agent.let_go()
            assert first.get(timeout=WAIT_S).value == "held"
            clock.advance(failed.retry_after_s or 0.0)
            assert pool.stats()["a"].available

    def test_b53_a_rate_limit_of_all_inside_is_one_outside(self) -> None:
        """The inner pool is left alone until the first of its members may be called again."""
        agents = {
            "a1": AsyncScriptedAgent([http_error(429, retry_after_s=60)]),
            "a2": AsyncScriptedAgent([http_error(429, retry_after_s=20)]),
        }
        with nest(clock=FakeClock(), a=agents, b=AsyncScriptedAgent(["b"])) as (pool, *_):
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.errors[0].kind) == ("b", FailureKind.RATE_LIMITED)
            assert pool.stats()["a"].reopens_in_s == pytest.approx(20.0)

    @pytest.mark.parametrize(
        ("status", "circuit", "failures"),
        [(401, "open", 1), (402, "open", 1), (413, "closed", 0), (503, "closed", 1)],
    )
    def test_b53_what_all_fail_by_inside_is_the_kind_outside(
        self, status: int, circuit: str, failures: int
    ) -> None:
        """A revoked key opens the outer breaker at once, a prompt too long counts for nothing."""
        down = AsyncScriptedAgent([http_error(status)])
        with nest(a={"a1": down, "a2": down}, b=AsyncScriptedAgent(["b"])) as (pool, *_):
            assert pool.execute("x", timeout=WAIT_S) == "b"
            stats = pool.stats()["a"]
            assert (stats.circuit, stats.failures) == (circuit, failures)


class TestOwnership:
    @staticmethod
    def made(agent: Any = None) -> Callable[[], PoolRef]:
        def make() -> PoolRef:
            return AgentPool.start(
                [Member("x", agent or AsyncScriptedAgent(["made"]))], name="made"
            )

        return make

    def test_b53_stopping_the_outer_stops_the_inner_it_owns(self) -> None:
        """What a factory has made is stopped with its members, three levels down; then nothing is
        left of any of them.
        """
        actors = len(pykka.ActorRegistry.get_all())
        closed = threading.Event()

        async def agent(payload: Any) -> str:
            return "made"

        def leaf() -> PoolRef:
            member = Member("x", factory=lambda: agent, close=lambda _: closed.set())
            return AgentPool.start([member], name="leaf")

        async def mid() -> PoolRef:
            return AgentPool.start([Member("leaf", factory=leaf)], name="mid")

        with no_thread_left(), EventRecorder() as log:
            pool = AgentPool.start([Member("mid", factory=mid)], name="top")
            assert pool.execute("x", timeout=WAIT_S) == "made"
            assert pool.stats()["mid"].max_concurrency == 100
            assert pool.stop(timeout=3 * WAIT_S)
            assert [each.pool for each in log.named(PoolStopped)] == ["leaf", "mid", "top"]
            assert closed.is_set()
            assert not pool.stop()
        assert len(pykka.ActorRegistry.get_all()) == actors

    def test_b53_stopping_with_requests_under_way(self) -> None:
        """They fail, the innermost agent is cancelled, and everything ends all the same."""
        agent = AsyncHeld()
        with no_thread_left(), EventRecorder() as log:
            pool = AgentPool.start([Member("a", factory=self.made(agent))], name="top")
            futures = [pool.ask(Request(n), block=False) for n in range(20)]
            agent.wait_entered(20)
            pool.stop(timeout=3 * WAIT_S)
            agent.wait_cancelled(20)
            for future in futures:
                with pytest.raises(PoolStoppedError):
                    future.get(timeout=WAIT_S)
            assert [each.pool for each in log.named(PoolStopped)] == ["made", "top"]

    def test_b53_removing_the_member_stops_the_inner_it_owns(self) -> None:
        """After its last request, while the outer pool goes on."""
        with (
            EventRecorder() as log,
            pool_of(Member("b", AsyncScriptedAgent(["b"]), priority=1)) as pool,
        ):
            pool.add_member(Member("a", factory=self.made()))
            assert pool.execute("x", timeout=WAIT_S) == "made"
            pool.remove_member("a", timeout=WAIT_S)
            assert [each.pool for each in log.named(PoolStopped)] == ["made"]
            assert pool.execute("x", timeout=WAIT_S) == "b"

    def test_b53_a_replaced_member_stops_the_inner_it_owned(self) -> None:
        """A member that is restarted makes a new inner pool; the old one does not stay behind."""
        clock = FakeClock()
        with EventRecorder() as log, pool_of(Member("a", factory=self.made()), clock=clock) as pool:
            assert pool.execute("x", timeout=WAIT_S) == "made"
            stop_member(pool, "a")
            log.wait_for(PoolStopped)
            pool.stats()
            clock.advance(1.0)
            log.wait_for(MemberRestarted)
            assert pool.execute("x", timeout=WAIT_S) == "made"
            assert len([each for each in log.named(PoolStarted) if each.pool == "made"]) == 2

    def test_b53_what_was_handed_over_ready_is_not_touched(self) -> None:
        """It may serve others; only a `close` of the member's own gives it away."""
        with nest(a=AsyncScriptedAgent(["a"])) as (pool, inner):
            assert pool.execute("x", timeout=WAIT_S) == "a"
            pool.remove_member("a", timeout=WAIT_S)
            pool.add_member(Member("a", inner))
            pool.stop()
            assert inner.execute("x", timeout=WAIT_S) == "a"
            AgentPool.start([Member("a", inner, close=PoolRef.close)]).stop()
            assert not inner.is_alive()

    def test_b53_closing_is_stopping(self) -> None:
        """So that `contextlib.closing` takes a pool; doing it twice does no harm."""
        with contextlib.closing(AgentPool.start([Member("x", AsyncScriptedAgent(["x"]))])) as pool:
            assert pool.execute("x", timeout=WAIT_S) == "x"
        assert not pool.is_alive()
        pool.close()


class TestHealth:
    def test_b53_a_probe_asks_the_inner_pool(self) -> None:
        """It notices an inner pool that is out before a request does, and when that is back."""
        for probe in (PoolRef.can_serve, lambda pool: bool(pool.stats().available)):
            clock = FakeClock()
            with (
                EventRecorder() as log,
                pool_of(Member("x", AsyncScriptedAgent(["good"])), name="a", clock=clock) as inner,
                pool_of(
                    Member("a", inner, probe=probe),
                    name="outer",
                    clock=clock,
                    health_check_interval_s=1.0,
                    circuit_failure_threshold=1,
                    circuit_success_threshold=1,
                    circuit_reset_timeout_s=1.0,
                ) as pool,
            ):
                assert pool.execute("x", timeout=WAIT_S) == "good"
                inner.force_open("x")
                clock.advance(1.1)
                log.wait_for(BreakerOpened, count=2)
                _, opened = log.named(BreakerOpened)  # the first is the inner member's
                assert (opened.pool, opened.member) == ("outer", "a")
                inner.reset_member("x")
                clock.advance(opened.reopens_in_s or 0.0)
                log.wait_for(BreakerClosed, count=2)
                assert pool.execute("x", timeout=WAIT_S) == "good"

    def test_b53_a_busy_pool_can_serve(self) -> None:
        """Where `stats().available` is empty as all are at work, `can_serve` still says yes."""
        agent = Held()
        with pool_of(*ranked(x=agent)) as pool:
            assert pool.can_serve()
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            assert pool.stats().available == ()
            assert pool.can_serve()
            pool.force_open("x")
            assert not pool.can_serve()
            agent.let_go()
            future.get(timeout=WAIT_S)
            pool.reset_member("x")
            assert pool.can_serve()
            assert pool.drain(timeout=WAIT_S)
            assert not pool.can_serve()
        with pytest.raises(PoolStoppedError):
            pool.can_serve()
        with pool_of() as empty:
            assert not empty.can_serve()


class TestCycles:
    def test_b53_a_pool_cannot_be_its_own_member(self) -> None:
        """It is refused where it is tried."""
        with pool_of(Member("x", AsyncScriptedAgent(["x"]))) as pool:
            with pytest.raises(ValueError, match="agent must not be the pool itself, got <PoolRef"):
                pool.add_member(Member("me", pool))
            assert [each.name for each in pool.stats().members] == ["x"]

    def test_b53_a_longer_circle_ends_with_the_deadline(self) -> None:
        """It is not looked for: the request goes round until no slot is left, and then its time is
        over; every slot comes free again.
        """
        clock = FakeClock()
        with (
            EventRecorder() as log,
            pool_of(name="one", clock=clock) as one,
            pool_of(Member("one", one, max_concurrency=3), name="two", clock=clock) as two,
        ):
            one.add_member(Member("two", two, max_concurrency=3))
            future = one.ask(Request("x", timeout_s=5.0), block=False)
            log.wait_for(AttemptStarted, count=6)
            clock.advance(5.0)
            with pytest.raises(DeadlineExceededError):
                future.get(timeout=WAIT_S)
            one.remove_member("two", timeout=WAIT_S)  # which waits for its slots
            two.remove_member("one", timeout=WAIT_S)


def test_the_ids_of_pools_in_pools_stay_within_the_limit() -> None:
    """An id of the greatest length passes through a pool in a pool in a pool."""
    seen: list[str] = []

    def agent(payload: str, call: CallContext) -> str:
        seen.append(call.request_id)
        return payload

    with contextlib.ExitStack() as stack:
        inner = stack.enter_context(AgentPool.start([Member("a", agent)], name="n" * 200))
        middle = stack.enter_context(AgentPool.start([Member("in", inner)], name="m" * 200))
        outer = stack.enter_context(AgentPool.start([Member("mid", middle)], name="o" * 200))
        reply = outer.ask(Request("x", request_id="r" * 1000), timeout=WAIT_S)
    assert reply.value == "x"
    assert len(seen[0]) <= 1000
