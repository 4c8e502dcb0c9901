"""`PoolAgent`: whom of its members a run goes to, and what of their events is passed on."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.live_request_queue import LiveRequestQueue
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types
from helpers_adk import (
    Chat,
    Lab,
    Script,
    Scripted,
    answering,
    content,
    failed,
    noted,
    pool_agent,
    raising,
    said,
    texts,
)
from helpers_attempts import run

from greenroom import (
    AgentPool,
    AgentRequest,
    AllPoolMembersFailedError,
    FailureKind,
    MemberConfig,
    PoolStats,
    StreamInterruptedError,
)
from greenroom.adk import PoolAgent, new_pool_agent
from greenroom.testing import FakeClock, http_error


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> FakeClock:
    """The time of every pool that starts."""
    monkeypatch.setattr(AgentPool, "start", functools.partial(AgentPool.start, clock=clock))
    return clock


def counted(stats: PoolStats) -> dict[str, tuple[int, int]]:
    """The successes and the failures of each member."""
    return {each.name: (each.successes, each.failures) for each in stats.members}


def test_b220_members_are_made_on_demand_and_the_first_stays_in_charge() -> None:
    """As of a `PoolExecutor`: nobody is made who is not needed, and an agent is used again."""
    lab = Lab()

    async def main() -> None:
        async with pool_agent(lab) as agent:
            chat = Chat(agent)
            assert texts(await chat.say()) == ["a"]
            assert texts(await chat.say()) == ["a"]
            assert lab.made == ["a"]
            assert counted(await agent.pool.astats()) == {"a": (2, 0), "b": (0, 0)}

    run(main)


def test_b220_who_has_failed_is_replaced_for_good_and_made_anew() -> None:
    """The next member answers the same run, and stays; behind the last one comes the first."""
    lab = Lab(a=raising(ConnectionError("down")))

    async def main() -> None:
        async with pool_agent(lab) as agent:
            chat = Chat(agent)
            assert texts(await chat.say()) == ["b"]
            lab.scripts["a"] = answering("a again")
            assert texts(await chat.say()) == ["b"]
            assert lab.made == ["a", "b"]

    run(main)


def test_b220_an_agent_whose_run_has_failed_is_closed_and_made_anew() -> None:
    """Once nobody uses it any more: a run beside it goes on to its end."""
    closed = list[str]()
    entered, over = asyncio.Event(), asyncio.Event()

    class Closing(Scripted):
        async def aclose(self) -> None:
            closed.append(self.description)

    async def by_turns(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield noted(ctx, begun=True)
        if not entered.is_set():
            entered.set()
            await over.wait()
            yield said(ctx, "to its end")
        raise ConnectionError("down")

    def create(name: str, request: AgentRequest) -> BaseAgent:
        made.append(name)
        script = by_turns if name == "a" else raising(ConnectionError("down"))
        description = f"{name}{made.count(name)}"
        return Closing(name=request.name, description=description, script=script)

    made = list[str]()

    async def main() -> None:
        async with pool_agent(create) as agent:
            beside = asyncio.create_task(Chat(agent).say())
            await entered.wait()
            for _ in range(2):
                with pytest.raises(AllPoolMembersFailedError):
                    await Chat(agent).say()
            assert made == ["a", "b", "a", "b"]
            assert "a1" not in closed
            over.set()
            with pytest.raises(StreamInterruptedError):
                await beside
        assert sorted(closed) == ["a1", "a2", "b1", "b2"]

    run(main)


def test_b220_a_creator_that_raises_is_passed_over() -> None:
    """The pool stays with who could be made; no breaker opens by it."""
    lab = Lab()
    lab.failing["a"] = ConnectionError("no backend")

    async def main() -> None:
        async with pool_agent(lab, config={"circuit_failure_threshold": 1}) as agent:
            chat = Chat(agent)
            assert texts(await chat.say() + await chat.say()) == ["b", "b"]
            assert len(lab.requests) == 2
            assert (await agent.pool.astats()).available == ("a", "b")

    run(main)


def test_b220_creators_are_those_of_an_executor() -> None:
    """Sync or async, a function or an object; with the member's configuration where they want it.
    The request has the agent's name and description.
    """
    given: list[tuple[str, AgentRequest, Any]] = []

    async def create(name: str, request: AgentRequest, cfg: Any) -> BaseAgent:
        given.append((name, request, cfg))
        return Scripted(name=request.name, script=answering(cfg))

    async def main() -> None:
        request = AgentRequest(description="writes", system_instructions="be brief")
        agent = new_pool_agent("writers", [MemberConfig("a", "large")], request, create)
        async with agent:
            assert texts(await Chat(agent).say()) == ["large"]
        assert (agent.name, agent.description) == ("writers", "writes")

    run(main)
    ((name, request, cfg),) = given
    assert (name, cfg) == ("a", "large")
    assert request == AgentRequest("writers", "writes", system_instructions="be brief")


def test_b221_a_state_change_alone_does_not_commit_the_run() -> None:
    """It is passed on, since its agent may read it back, and another member may still take over."""

    async def noting(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield noted(ctx, begun=True)
        assert ctx.session.state["begun"]
        raise ConnectionError("down")

    lab = Lab(a=noting)

    async def main() -> None:
        async with pool_agent(lab) as agent:
            chat = Chat(agent)
            events = await chat.say()
            assert [event.actions.state_delta for event in events] == [{"begun": True}, {}]
            assert texts(events) == ["b"]
            assert counted(await agent.pool.astats()) == {"a": (0, 1), "b": (1, 0)}

    run(main)


def test_b221_a_run_of_state_changes_alone_is_a_success() -> None:
    """Some agents say nothing; whoever brings no event at all has failed."""

    async def noting(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield noted(ctx, done=True)

    async def silent(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        for event in list[Event]():
            yield event

    async def main() -> None:
        async with pool_agent(Lab(a=silent, b=noting)) as agent:
            (event,) = await Chat(agent).say()
            assert event.actions.state_delta == {"done": True}
            assert counted(await agent.pool.astats()) == {"a": (0, 1), "b": (1, 0)}

    run(main)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("429", FailureKind.RATE_LIMITED),
        ("RESOURCE_EXHAUSTED", FailureKind.RATE_LIMITED),
        ("503", FailureKind.UNAVAILABLE),
        ("529", FailureKind.UNAVAILABLE),
        ("UNAUTHENTICATED", FailureKind.AUTH),
        ("insufficient_quota", FailureKind.QUOTA),
        ("TimeoutError", FailureKind.TIMEOUT),
        ("APIConnectionError", FailureKind.UNAVAILABLE),
        ("MAX_TOKENS", FailureKind.TOO_LARGE),
        ("UNKNOWN_ERROR", FailureKind.UNKNOWN),
    ],
)
def test_b222_an_error_event_is_a_failure_of_its_codes_kind(code: str, kind: FailureKind) -> None:
    """Nothing of it is passed on: another member answers."""

    async def failing(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield failed(ctx, code, "no luck")

    async def main() -> None:
        async with pool_agent(Lab(a=failing)) as agent:
            chat = Chat(agent)
            assert texts(await chat.say()) == ["b"]
            assert not [event for event in await chat.told() if event.error_code]
        lonely = pool_agent(Lab(a=failing), "a")
        async with lonely:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await Chat(lonely).say()
            (attempt,) = raised.value.errors
            assert attempt.kind is kind
            assert f"{code}: no luck" in str(attempt.error)

    run(main)


def test_b222_an_error_event_before_an_exception_is_judged_by_that() -> None:
    """As ADK fails by itself: it yields the one and raises the other, which says more."""

    async def failing(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield failed(ctx, "UNKNOWN_ERROR")
        raise http_error(429)

    async def main() -> None:
        async with pool_agent(Lab(a=failing), "a") as agent:
            chat = Chat(agent)
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await chat.say()
            assert raised.value.errors[0].kind is FailureKind.RATE_LIMITED
            assert [event.author for event in await chat.told()] == ["user"]

    run(main)


def test_b222_a_run_that_goes_on_after_an_error_event_has_not_failed() -> None:
    """The event comes where it stood: before the answer."""

    async def recovering(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield failed(ctx, "503")
        yield said(ctx, "all the same")

    async def main() -> None:
        async with pool_agent(Lab(a=recovering)) as agent:
            events = await Chat(agent).say()
            assert [event.error_code for event in events] == ["503", None]
            assert counted(await agent.pool.astats())["a"] == (1, 0)

    run(main)


@pytest.mark.parametrize("code", ["SAFETY", "PROHIBITED_CONTENT", "400"])
def test_b222_an_error_event_that_is_the_callers_own_is_the_answer(code: str) -> None:
    """Nobody could do better, so nobody else is asked; and nothing is raised, as ADK does not."""

    async def filtering(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield failed(ctx, code)

    lab = Lab(a=filtering)

    async def main() -> None:
        async with pool_agent(lab) as agent:
            (event,) = await Chat(agent).say()
            assert event.error_code == code
            assert lab.made == ["a"]
            assert counted(await agent.pool.astats())["a"] == (0, 0)

    run(main)


def test_b222_an_answer_that_has_an_error_code_is_an_answer() -> None:
    """One that was cut off at its length has both. A thought, or a blank, is none."""
    thought = types.Content(role="model", parts=[types.Part(text="hm", thought=True)])

    def coded(code: str, said: types.Content) -> Script:
        async def script(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
            yield Event(author="writers", content=said, error_code=code)

        return script

    async def main() -> None:
        lab = Lab(
            a=coded("NO_CONTENT", thought),
            b=coded("NO_CONTENT", content("\n ")),
            c=coded("MAX_TOKENS", content("once upon")),
        )
        async with pool_agent(lab, "a", "b", "c") as agent:
            assert texts(await Chat(agent).say()) == ["once upon"]

    run(main)


def test_b223_a_failure_after_the_first_content_is_raised() -> None:
    """No other member could take over what has been said."""

    async def breaking(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, "once")
        raise ConnectionError("down")

    lab = Lab(a=breaking)

    async def main() -> None:
        async with pool_agent(lab) as agent:
            chat = Chat(agent)
            with pytest.raises(StreamInterruptedError) as raised:
                await chat.say()
            assert isinstance(raised.value.__cause__, ConnectionError)
            assert texts(await chat.told()) == ["hello", "once"]
            assert lab.made == ["a"]
            assert texts(await chat.say()) == ["b"]

    run(main)


def test_b223_an_error_event_after_the_first_content_is_passed_on_and_counted() -> None:
    """Nothing is raised, as ADK does not; the next run goes to another member."""

    async def breaking(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, "once")
        yield failed(ctx, "503")

    async def main() -> None:
        async with pool_agent(Lab(a=breaking)) as agent:
            chat = Chat(agent)
            events = await chat.say()
            assert [event.error_code for event in events] == [None, "503"]
            assert counted(await agent.pool.astats()) == {"a": (0, 1), "b": (0, 0)}
            assert texts(await chat.say()) == ["b"]

    run(main)


def test_b223_an_exception_after_a_passed_on_error_event_is_raised() -> None:
    """It is what ADK would raise, under the pool's name for it."""

    async def breaking(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, "once")
        yield failed(ctx, "503")
        raise ConnectionError("down")

    async def main() -> None:
        async with pool_agent(Lab(a=breaking)) as agent:
            chat = Chat(agent)
            with pytest.raises(StreamInterruptedError):
                await chat.say()
            assert [event.error_code for event in await chat.told()] == [None, None, "503"]

    run(main)


@pytest.mark.parametrize(
    "fields",
    [
        {"actions": EventActions(escalate=True)},
        {"actions": EventActions(transfer_to_agent="other")},
        {"output": {"words": 3}},
    ],
    ids=["escalates", "transfers", "output"],
)
def test_b223_what_takes_effect_at_once_commits_as_content_does(fields: dict[str, Any]) -> None:
    """It cannot be taken back either. An empty text commits nothing."""

    async def acting(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield Event(author="writers", **fields)
        raise ConnectionError("down")

    async def empty(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, "")
        raise ConnectionError("down")

    async def main() -> None:
        async with pool_agent(Lab(a=acting)) as agent:
            with pytest.raises(StreamInterruptedError):
                await Chat(agent).say()
        async with pool_agent(Lab(a=empty)) as agent:
            assert texts(await Chat(agent).say()) == ["b"]

    run(main)


def test_b224_what_all_members_have_failed_by_is_raised() -> None:
    """With each of them, in order, under the pool's name."""
    lab = Lab(a=raising(ConnectionError("down")), b=raising(http_error(401)))
    lab.failing["c"] = OSError("no backend")

    async def main() -> None:
        async with pool_agent(lab, "a", "b", "c") as agent:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await Chat(agent).say()
            assert raised.value.pool_name == "writers"
            assert [(each.member, each.kind) for each in raised.value.errors] == [
                ("a", FailureKind.UNAVAILABLE),
                ("b", FailureKind.AUTH),
                ("c", FailureKind.CREATE_FAILED),
            ]

    run(main)


def test_b224_a_request_that_is_at_fault_is_raised_as_it_is() -> None:
    """No other member is asked, and the agent is kept."""
    error = http_error(400)
    lab = Lab(a=raising(error))

    async def main() -> None:
        async with pool_agent(lab) as agent:
            for _ in range(2):
                with pytest.raises(type(error)) as raised:
                    await Chat(agent).say()
                assert raised.value is error
        assert lab.made == ["a"]

    run(main)


def test_b225_a_hang_before_the_first_event_ends_at_the_limit(fake_time: FakeClock) -> None:
    """Its generator is closed, and another member answers."""
    closed = list[bool]()

    async def hanging(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        try:
            fake_time.advance(30.0)
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        yield said(ctx, "too late")

    async def once(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        if len(answered) > 0:
            raise ConnectionError("down")
        answered.append("b")
        yield said(ctx, "b")

    answered = list[str]()
    lab = Lab(a=hanging, b=once)

    async def main() -> None:
        async with pool_agent(lab, config={"request_timeout_s": 30.0}) as agent:
            assert texts(await Chat(agent).say()) == ["b"]
            assert closed == [True]
            assert counted(await agent.pool.astats()) == {"a": (0, 1), "b": (1, 0)}
            lab.scripts["a"] = answering("a")
            assert texts(await Chat(agent).say()) == ["a"]
        assert lab.made == ["a", "b", "a"]  # who has hung is made anew

    run(main)


def test_b225_a_creator_that_hangs_is_given_up_and_asked_again(fake_time: FakeClock) -> None:
    """Its time is that of the attempt."""
    cancelled = list[str]()

    async def create(name: str, request: AgentRequest) -> BaseAgent:
        if name == "a" and not cancelled:
            try:
                fake_time.advance(30.0)
                await asyncio.Event().wait()
            finally:
                cancelled.append(name)
        script = answering(name) if name == "a" else once()
        return Scripted(name=request.name, script=script)

    def once() -> Script:
        answers = [answering("b"), raising(ConnectionError("down"))]
        return lambda ctx: answers.pop(0)(ctx)

    async def main() -> None:
        async with pool_agent(create, config={"request_timeout_s": 30.0}) as agent:
            assert texts(await Chat(agent).say()) == ["b"]
            assert cancelled == ["a"]
            assert texts(await Chat(agent).say()) == ["a"]

    run(main)


def test_b225_a_slow_consumer_is_not_the_members_time(fake_time: FakeClock) -> None:
    """No limit runs between an event and the next one that is asked for."""

    async def noting(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield noted(ctx, begun=True)
        yield said(ctx, "one")
        yield said(ctx, "two")

    async def main() -> None:
        config = {"request_timeout_s": 30.0, "chunk_timeout_s": 5.0}
        async with pool_agent(Lab(a=noting), config=config) as agent:
            heard = []
            async for event in Chat(agent).run():
                fake_time.advance(60.0)
                await asyncio.sleep(0)
                heard.append(event)
            assert texts(heard) == ["one", "two"]

    run(main)


def test_b226_an_abort_ends_a_member_that_hangs() -> None:
    """ADK itself looks between two events only. Nobody else is asked, and nothing is counted."""
    begun, closed = asyncio.Event(), list[bool]()

    async def hanging(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        yield said(ctx, "too late")

    lab = Lab(a=hanging)

    async def main() -> None:
        async with pool_agent(lab) as agent:
            signal = asyncio.Event()

            async def abort() -> None:
                await begun.wait()
                signal.set()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(abort())
                events = [event async for event in Chat(agent).run(abort_signal=signal)]
            assert texts(events) == []
            assert closed == [True]
            assert lab.made == ["a"]
            assert counted(await agent.pool.astats()) == {"a": (0, 0), "b": (0, 0)}
            current = asyncio.current_task()
            assert current is not None
            assert not current.cancelling()

    run(main)


def test_b226_an_abort_between_two_events_ends_the_run() -> None:
    """Below an agent that does not look at it, too."""
    closed = list[bool]()

    async def talking(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        try:
            yield said(ctx, "one")
            yield said(ctx, "two")
        finally:
            closed.append(True)

    async def main() -> None:
        async with pool_agent(Lab(a=talking)) as agent:

            async def passing_on(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
                async with aclosing(agent.run_async(ctx)) as events:
                    async for event in events:
                        ctx.abort()
                        yield event
                assert closed == [True]

            outer = Scripted(name="outer", script=passing_on)
            assert texts(await Chat(outer).say()) == ["one"]
            assert counted(await agent.pool.astats())["a"] == (0, 0)

    run(main)


def test_b226_to_be_cancelled_goes_through() -> None:
    """It is no abort, and no failure of the member."""
    begun = asyncio.Event()

    async def hanging(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        begun.set()
        await asyncio.Event().wait()
        yield said(ctx, "too late")

    lab = Lab(a=hanging)

    async def main() -> None:
        async with pool_agent(lab) as agent:
            turn = asyncio.create_task(Chat(agent).say())
            await begun.wait()
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn
            lab.scripts["a"] = answering("b is not asked")
            assert lab.made == ["a"]
            assert counted(await agent.pool.astats())["a"] == (0, 0)

    run(main)


def test_b226_to_leave_a_run_early_closes_the_members_generator() -> None:
    """At once, and its slot is free again."""
    closed = list[bool]()

    async def talking(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        try:
            for word in ("one", "two", "three"):
                yield said(ctx, word)
        finally:
            closed.append(True)

    async def main() -> None:
        async with pool_agent(Lab(a=talking), max_concurrency=1) as agent:
            async with aclosing(Chat(agent).run()) as events:
                assert texts([await anext(events)]) == ["one"]
            assert closed == [True]
            assert len(await Chat(agent).say()) == 3

    run(main)


def test_b227_live_mode_is_refused_in_words() -> None:
    """A connection that is live cannot be handed to another member."""

    async def main() -> None:
        async with pool_agent(Lab()) as agent:
            chat = Chat(agent)
            session = await chat.runner.session_service.create_session(
                app_name="tests", user_id="u"
            )
            live = chat.runner.run_live(
                user_id="u", session_id=session.id, live_request_queue=LiveRequestQueue()
            )
            with pytest.raises(NotImplementedError, match="'writers' does not run live"):
                await anext(live)

    run(main)


def test_b227_an_agent_that_is_none_is_told() -> None:
    """As a creation that has failed, with what was made."""

    async def main() -> None:
        agent = PoolAgent(
            name="writers", members=[MemberConfig("a")], agent_creator=lambda name, request: name
        )
        async with agent:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await Chat(agent).say()
        told = str(raised.value.errors[0].error)
        assert told == (
            "agent_creator must return an agent of ADK's (a BaseAgent) for 'a', got a str"
        )

    run(main)
