"""What reaches an agent, and how agents are called: behaviour 33."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any, Optional

import pytest
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    Apply,
    CallContext,
    FailureKind,
    Member,
    PoolRef,
    Request,
)
from greenroom.messages import RetryScheduled
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, ScriptedHTTPError, http_error

Seen = tuple[Any, ...]


def seen(context: CallContext) -> Seen:
    return (
        context.request_id,
        context.member,
        context.attempt,
        context.key,
        context.priority,
        dict(context.metadata),
        context.remaining_s,
    )


class TestContext:
    def test_b33_everything_reaches_the_agent_that_asks(self) -> None:
        """Per-request key, deadline, priority and metadata reach the agent that asks for them (a
        context argument).
        """

        def plain(payload: Any, context: CallContext) -> Seen:
            return payload, *seen(context)

        async def coroutine(payload: Any, context: CallContext) -> Seen:
            return payload, *seen(context)

        request = Request(
            "hello",
            key="user-7",
            timeout_s=5.0,
            priority=3,
            metadata={"tenant": "t-1"},
            request_id="r-9",
        )
        agent: Callable[..., Any]
        for agent in (plain, coroutine):
            with pool_of(Member("a", agent), clock=FakeClock()) as pool:
                value = pool.ask(request).value
                assert value[:-1] == ("hello", "r-9", "a", 1, "user-7", 3, {"tenant": "t-1"})
                assert value[-1] == pytest.approx(5.0)

    def test_b33_the_defaults(self) -> None:
        """Without options there is an id all the same, no key, and the attempt's own limit."""

        def agent(payload: Any, context: CallContext) -> Seen:
            return seen(context)

        with pool_of(Member("a", agent), clock=FakeClock(), request_timeout_s=30.0) as pool:
            request_id, *rest, remaining_s = pool.execute("x")
            assert request_id
            assert rest == ["a", 1, None, 0, {}]
            assert remaining_s == pytest.approx(30.0)

    def test_b33_one_id_over_all_attempts(self) -> None:
        """A retry has the request's id and the next attempt's number; its time goes on running."""
        clock = FakeClock()
        calls: list[Seen] = []

        def agent(payload: Any, context: CallContext) -> str:
            calls.append((context.request_id, context.attempt, context.remaining_s))
            if context.attempt < 3:
                raise http_error(503, retry_after_s=2)
            return "good"

        with EventRecorder() as log, pool_of(Member("a", agent), clock=clock) as pool:
            future = pool.ask(Request("x", timeout_s=10.0, request_id="r"), block=False)
            for waits in (1, 2):
                log.wait_for(RetryScheduled, count=waits)
                clock.advance(2.0)
            assert future.get(timeout=WAIT_S).attempts == 3
        assert calls == [("r", 1, 10.0), ("r", 2, 8.0), ("r", 3, 6.0)]

    def test_b33_the_remaining_time_is_that_of_the_attempt(self) -> None:
        """The attempt's timeout when that is shorter, and never below 0."""
        clock = FakeClock()
        inside, let_on = threading.Event(), threading.Event()

        def agent(payload: Any, context: CallContext) -> tuple[float | None, float | None]:
            before = context.remaining_s
            inside.set()
            assert let_on.wait(WAIT_S)
            return before, context.remaining_s

        with pool_of(Member("a", agent), clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x", timeout_s=9.0), block=False)
            assert inside.wait(WAIT_S)
            clock.advance(1.5)
            let_on.set()
            before, after = future.get(timeout=WAIT_S).value
            assert (before, after) == (pytest.approx(2.0), pytest.approx(0.5))

    def test_b33_wherever_the_parameter_stands(self) -> None:
        """First, last, keyword-only, optional, of a method, of a callable object, of a partial."""

        def first(context: CallContext, payload: Any) -> Seen:
            return payload, context.key

        def positional(payload: Any, context: CallContext, /) -> Seen:
            return payload, context.key

        def keyword(payload: Any, *, context: CallContext) -> Seen:
            return payload, context.key

        def optional(payload: Any, context: CallContext | None = None) -> Seen:
            return payload, context and context.key

        def old_style(payload: Any, context: Optional[CallContext] = None) -> Seen:  # noqa: UP045
            return payload, context and context.key

        def bound(extra: str, payload: Any, context: CallContext) -> Seen:
            return payload, context.key

        @functools.wraps(keyword)
        def wrapped(*args: Any, **kwargs: Any) -> Seen:
            return keyword(*args, **kwargs)

        class Callable_:
            async def __call__(self, payload: Any, context: CallContext) -> Seen:
                return payload, context.key

        class Runner:
            def run(self, payload: Any, context: CallContext) -> Seen:
                return payload, context.key

        agents: list[Any]
        agents = [first, keyword, optional, old_style, functools.partial(bound, "extra"), wrapped]
        agents += [Callable_(), Runner(), Runner().run]
        for agent in agents:
            with pool_of(Member("a", agent)) as pool:
                assert pool.execute("hello", key="k") == ("hello", "k"), agent
        with pool_of(Member("a", positional)) as pool:
            assert pool.execute("hello", key="k") == ("hello", "k")

    def test_b33_an_annotation_that_is_no_string(self) -> None:
        """Evaluated annotations, optional ones too, mean the same as postponed ones."""

        def plain(payload, context):  # type: ignore[no-untyped-def]
            return payload, context and context.key

        for annotation in (
            CallContext,
            CallContext | None,
            None | CallContext,
            Optional[CallContext],  # noqa: UP045
        ):
            plain.__annotations__ = {"context": annotation}
            with pool_of(Member("a", plain)) as pool:
                assert pool.execute("hello", key="k") == ("hello", "k"), annotation

    def test_b33_an_agent_that_does_not_ask_gets_the_payload_alone(self) -> None:
        """A second parameter that is annotated otherwise, or not at all, is left alone."""

        def agent(payload: Any, context: str = "default", *rest: Any, **options: Any) -> Seen:
            return payload, context, rest, options

        with pool_of(Member("a", agent)) as pool:
            assert pool.execute("hello", key="k") == ("hello", "default", (), {})

    def test_b33_a_payload_may_be_anything(self) -> None:
        """None, an exception, a tuple, a coroutine function: it arrives as the same object."""
        for payload in (None, ValueError("mine"), (1, 2), asyncio.sleep, object(), Request("x")):
            with pool_of(Member("a", lambda given: [given])) as pool:
                (given,) = pool.execute(payload)
                assert given is payload

    def test_b33_an_exception_returned_is_a_value(self) -> None:
        """Only what is raised is an error; None is an answer."""
        returned = ValueError("returned")
        with pool_of(Member("a", lambda _: returned)) as pool:
            assert pool.execute("x") is returned
        with pool_of(Member("a", lambda _: None)) as pool:
            assert pool.execute("x") is None


class TestAgentShapes:
    @pytest.mark.parametrize(
        "name", ["arun", "ainvoke", "run", "invoke", "kickoff", "execute", "complete", "__call__"]
    )
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_objects_with_each_run_method(self, name: str, asynchronous: bool) -> None:
        """An object is called by its run method, sync or async."""

        def run(self: Any, payload: Any) -> Any:
            return f"{name} {payload}"

        async def arun(self: Any, payload: Any) -> Any:
            return f"{name} {payload}"

        agent = type("Agent", (), {name: arun if asynchronous else run})()
        with pool_of(Member("a", agent)) as pool:
            assert pool.execute("x") == f"{name} x"
            assert pool.stats()["a"].max_concurrency == (100 if asynchronous else 1)

    def test_the_async_method_is_preferred(self) -> None:
        """`arun` before `run`, and either before `__call__`."""

        class Agent:
            async def arun(self, payload: Any) -> str:
                return "arun"

            def run(self, payload: Any) -> str:
                return "run"

            def __call__(self, payload: Any) -> str:
                return "call"

        with pool_of(Member("a", Agent())) as pool:
            assert pool.execute("x") == "arun"
        with pool_of(Member("a", Agent(), method="run")) as pool:
            assert pool.execute("x") == "run"

    def test_a_method_of_any_name(self) -> None:
        """`method=` names it, on a ready agent and on one that a factory makes."""

        class Agent:
            def answer_politely(self, payload: Any) -> str:
                return f"dear {payload}"

        for member in (
            Member("a", Agent(), method="answer_politely"),
            Member("a", factory=Agent, method="answer_politely"),
        ):
            with pool_of(member) as pool:
                assert pool.execute("x") == "dear x"

    def test_an_agent_without_a_run_method(self) -> None:
        """It fails with an error that names what is missing; `apply` can use it all the same."""

        class Bare:
            value = 7

        for member in (Member("a", Bare()), Member("a", factory=Bare)):
            with pool_of(member, max_retries=0) as pool:
                with pytest.raises(AllPoolMembersFailedError, match=r"arun.*got a Bare"):
                    pool.execute("x")
                pool.stats()
                assert pool.apply(lambda agent: agent.value) == 7

    def test_a_sync_callable_that_returns_a_coroutine(self) -> None:
        """It is awaited on the pool's loop: a lambda around a coroutine function will do."""

        async def answer(payload: Any) -> str:
            await asyncio.sleep(0)
            return f"awaited {payload}"

        async def refuse(payload: Any) -> str:
            raise http_error(503)

        with pool_of(*ranked(a=lambda p: refuse(p), b=lambda p: answer(p))) as pool:
            reply = pool.ask(Request("x"))
            assert (reply.value, reply.member) == ("awaited x", "b")
            assert reply.errors[0].kind is FailureKind.UNAVAILABLE

    def test_async_agents_share_one_loop(self) -> None:
        """So that a client shared by several members works; an isolated member has its own."""

        async def agent(payload: Any) -> int:
            return id(asyncio.get_running_loop())

        members = [Member("a", agent), Member("b", agent), Member("c", agent, isolated=True)]
        with pool_of(*members, strategy="round_robin") as pool:
            a, b, c = (pool.execute("x") for _ in range(3))
            assert a == b != c

    def test_a_hostile_attribute_is_no_method(self) -> None:
        """An agent whose attributes raise when looked at is still called by what it has."""

        class Lazy:
            @property
            def arun(self) -> Any:
                raise RuntimeError("not connected")

            def run(self, payload: Any) -> str:
                return "ran"

        with pool_of(Member("a", Lazy())) as pool:
            assert pool.execute("x", timeout=WAIT_S) == "ran"

    def test_a_class_is_called(self) -> None:
        """A class is a callable: its instance is the answer."""
        with pool_of(Member("a", dict)) as pool:
            assert pool.execute([("key", 1)]) == {"key": 1}

    def test_the_wrong_number_of_arguments_is_the_agents_error(self) -> None:
        """An agent that takes no payload, and hides it, fails like any other that raises."""

        def hides(*payloads: Any) -> Any:
            return (lambda: "none")(*payloads)

        with pool_of(*ranked(a=hides, b=ScriptedAgent(["good"]))) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert reply.member == "b"
            assert isinstance(reply.errors[0].error, TypeError)


class TestApply:
    def test_a_sync_function_of_any_agent(self) -> None:
        """Of an object, a function, a made one; what it returns is the answer."""
        with pool_of(Member("a", [].append)) as pool:
            assert pool.apply(lambda agent: agent.__name__) == "append"
        with pool_of(Member("a", factory=lambda: {"key": 1})) as pool:
            assert pool.apply(lambda agent: agent["key"]) == 1

    def test_an_async_function(self) -> None:
        """It runs on the pool's loop, also for a sync agent, and is awaited."""

        class Client:
            async def fetch(self) -> str:
                await asyncio.sleep(0)
                return threading.current_thread().name

            def run(self, payload: Any) -> str:
                return "sync"

        async def fetch(agent: Client) -> str:
            return await agent.fetch()

        with pool_of(Member("a", Client()), name="applied") as pool:
            for function in (fetch, lambda agent: agent.fetch()):
                assert pool.apply(function) == "greenroom-applied-loop"
            assert pool.ask(Apply(fetch)).member == "a"

    def test_a_failure_fails_over(self) -> None:
        """What the function raises is judged like what an agent raises."""

        def use(agent: ScriptedAgent) -> Any:
            return agent("payload")

        with pool_of(
            *ranked(a=ScriptedAgent([http_error(503)]), b=ScriptedAgent(["good"]))
        ) as pool:
            reply = pool.ask(Apply(use))
            assert (reply.value, reply.member) == ("good", "b")
            with pytest.raises(ScriptedHTTPError, match="400"):
                pool.apply(lambda _: ScriptedAgent([http_error(400)])("x"))

    def test_options(self) -> None:
        """The options of a request are those of an application, too."""
        with pool_of(*ranked(a=ScriptedAgent(["a"]), b=ScriptedAgent(["b"]))) as pool:
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=0"):
                pool.apply(lambda _: 1 / 0, max_retries=0, key="k", request_id="r-1")
            with pytest.raises(TypeError, match="function must be callable"):
                pool.apply("no function")  # type: ignore[call-overload]

    def test_awaited(self) -> None:
        """From an event loop, many at once."""

        async def double(agent: Callable[[int], int]) -> int:
            return agent(21)

        async def main(pool: PoolRef) -> list[int]:
            replies = await asyncio.gather(
                *(pool.ask(Apply(double), block=False) for _ in range(50))
            )
            return [reply.value for reply in replies]

        with pool_of(Member("a", lambda n: 2 * n, max_concurrency=8)) as pool:
            assert asyncio.run(main(pool)) == [42] * 50
