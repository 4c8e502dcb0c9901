"""`PoolAgent` where ADK runs agents: its session, its tools, its trees of agents, its loops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.adk.agents import BaseAgent, LlmAgent, LoopAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.run_config import RunConfig
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.workflow import Workflow
from google.genai import types
from helpers_adk import (
    APP,
    Chat,
    Lab,
    ModelLab,
    Scripted,
    ScriptedModel,
    call_of,
    content,
    failed,
    noted,
    pool_agent,
    raising,
    said,
    texts,
)
from helpers_attempts import run
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from greenroom import AgentRequest, AllPoolMembersFailedError, StreamInterruptedError


def test_b228_a_member_reads_back_what_each_of_its_events_has_committed() -> None:
    """It goes on only when its consumer has: in one task, in step, however slow that is."""
    seen = list[int]()
    tasks = set[asyncio.Task[Any] | None]()

    async def stepping(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        for step in range(5):
            tasks.add(asyncio.current_task())
            yield noted(ctx, step=step)
            seen.append(ctx.session.state["step"])
        yield said(ctx, "done")

    async def main() -> None:
        async with pool_agent(Lab(a=stepping)) as agent:
            heard = 0
            async for _ in Chat(agent).run():
                assert seen == list(range(heard))
                heard += 1
                for _ in range(20):
                    await asyncio.sleep(0)
            assert seen == list(range(5))
            assert tasks == {asyncio.current_task()}

    run(main)


def test_b228_the_tools_answer_is_in_the_second_call_of_the_model() -> None:
    """The event of the first one has been committed by then."""
    model = ScriptedModel(answers=[call_of("weather", city="Rome"), "it is sunny"])

    def weather(city: str) -> str:
        return f"{city}: sunny"

    async def main() -> None:
        async with pool_agent(ModelLab({"a": model}, weather), "a") as agent:
            assert texts(await Chat(agent).say("how is Rome?")) == ["it is sunny"]

    run(main)
    parts = [part for turn in model.seen[1].contents for part in turn.parts or []]
    assert parts[0].text == "how is Rome?"
    assert parts[1].function_call is not None
    assert parts[2].function_response is not None
    assert parts[2].function_response.response == {"result": "Rome: sunny"}


def test_b228_after_a_failover_the_next_one_has_the_conversation_for_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the other has said is the model's; ADK knows whose events these are."""
    models = {
        "a": ScriptedModel(answers=["I am a", ConnectionError("down")]),
        "b": ScriptedModel(answers=["I am b"]),
    }

    async def main() -> None:
        async with pool_agent(ModelLab(models)) as agent:
            chat = Chat(agent)
            assert texts(await chat.say("who are you?")) == ["I am a"]
            assert texts(await chat.say("and now?")) == ["I am b"]
            assert texts(await chat.say("still?")) == ["I am b"]
            assert {event.author for event in await chat.told()} == {"user", "writers"}

    with caplog.at_level(logging.WARNING, "google_adk"):
        run(main)
    assert models["b"].turns(0) == [
        ("user", "who are you?"),
        ("model", "I am a"),
        ("user", "and now?"),
    ]
    assert "unknown agent" not in caplog.text


class StreamingModel(ScriptedModel):
    """One that sends its words one by one, and breaks off where an answer is an error."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        assert stream
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield LlmResponse(content=content(answer), partial=True)
        yield LlmResponse(content=content(" ".join(self.answers)))


def test_b228_the_first_word_of_a_stream_is_content() -> None:
    """A member whose model breaks off before it is replaced, one that does so after it is not."""
    down = ConnectionError("down")
    models: dict[str, ScriptedModel] = {
        "a": StreamingModel(answers=[down]),
        "b": StreamingModel(answers=["one", "two"]),
        "c": StreamingModel(answers=["one", down]),
    }
    run_config = RunConfig.model_validate({"streaming_mode": "sse"})

    async def main() -> None:
        async with pool_agent(ModelLab(models)) as agent:
            events = [event async for event in Chat(agent).run(run_config=run_config)]
            assert texts(events) == ["one", "two", "one two"]
        async with pool_agent(ModelLab(models), "c", "b") as agent:
            heard = list[Event]()
            with pytest.raises(StreamInterruptedError):
                async for event in Chat(agent).run(run_config=run_config):
                    heard.append(event)
            assert texts(heard) == ["one"]

    run(main)


def test_b228_an_agent_of_another_name_is_copied_under_the_pools() -> None:
    """With what is below it; the original is left as it is."""
    below = LlmAgent(name="below", model=ScriptedModel(answers=["x"]))
    original = LlmAgent(name="gpt", model=ScriptedModel(answers=["hi"]), sub_agents=[below])

    async def main() -> None:
        async with pool_agent(lambda name, request: original, "a") as agent:
            (event,) = await Chat(agent).say()
            assert event.author == "writers"

    run(main)
    assert original.name == "gpt"
    assert below.parent_agent is original


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What ADK traces."""
    from google.adk.telemetry import tracing

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("tests"))
    return exporter


def test_b228_one_trace_has_the_pools_agent_and_its_members(spans: InMemorySpanExporter) -> None:
    """A member's span is below that of the pool's agent."""

    async def main() -> None:
        async with pool_agent(Lab(a=raising(ConnectionError("down")))) as agent:
            assert texts(await Chat(agent).say()) == ["b"]

    run(main)
    found = [each for each in spans.get_finished_spans() if each.name == "invoke_agent writers"]
    assert len({each.context.trace_id for each in found if each.context}) == 1
    outer = found[-1]
    assert outer.context is not None
    assert [each.parent and each.parent.span_id for each in found[:-1]] == [
        outer.context.span_id
    ] * 2


def test_b229_below_a_coordinator_that_transfers() -> None:
    """The pool's agent is one of those that a model may hand over to; it fails over there, too."""
    model = ScriptedModel(answers=[call_of("transfer_to_agent", agent_name="writers")])
    lab = Lab(a=raising(ConnectionError("down")))

    async def main() -> None:
        async with pool_agent(lab, description="writes") as agent:
            root = LlmAgent(name="root", model=model, sub_agents=[agent])
            chat = Chat(root)
            for _ in range(2):
                events = await chat.say("write!")
                assert texts(events) == ["b"]
                assert events[-1].author == "writers"
            assert lab.made == ["a", "b"]

    run(main)


@pytest.mark.filterwarnings("ignore:The `plugins` argument:DeprecationWarning")
def test_b229_as_a_tool() -> None:
    """Its text is the tool's answer; its agents outlive the call."""
    model = ScriptedModel(answers=[call_of("writers", request="write!"), "thanks"])
    lab = Lab(a=raising(ConnectionError("down")))

    async def main() -> None:
        async with pool_agent(lab) as agent:
            chat = Chat(LlmAgent(name="root", model=model, tools=[AgentTool(agent)]))
            assert texts(await chat.say()) == ["thanks"]
            answers = [event.get_function_responses() for event in await chat.told()]
            assert [each.response for some in answers for each in some] == [{"result": "b"}]
            await chat.say()
            assert lab.made == ["a", "b"]

    run(main)


@pytest.mark.filterwarnings("ignore:LoopAgent is deprecated:DeprecationWarning")
def test_b229_in_a_loop_of_agents() -> None:
    """What a member says of the control of flow goes on to who is above."""

    async def once(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, "once")
        yield Event(author="writers", actions=EventActions(escalate=True))

    async def main() -> None:
        async with pool_agent(Lab(a=once)) as agent:
            loop = LoopAgent(name="root", sub_agents=[agent], max_iterations=5)
            assert texts(await Chat(loop).say()) == ["once"]

    run(main)


def test_b229_in_a_workflow() -> None:
    """As a node, one after the other."""
    lab = Lab(a=raising(ConnectionError("down")))

    async def main() -> None:
        async with pool_agent(lab) as agent, pool_agent(Lab(), "c", name="readers") as other:
            graph = Workflow(name="root", edges=[("START", agent, other)])
            assert texts(await Chat(graph).say()) == ["b", "c"]

    run(main)


class LoopBoundModel(ScriptedModel):
    """One whose client works on the loop alone on which it was first used."""

    loop: Any = None

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("bound to a different event loop")
        await asyncio.sleep(0)
        yield LlmResponse(content=content("bound"))


class LoopBoundLab(Lab):
    """Makes agents that are bound to a loop, and told of their end."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def create_agent(self, name: str, request: AgentRequest) -> BaseAgent:
        self.made.append(name)
        return LlmAgent(name=request.name, model=LoopBoundModel(), tools=[Toolset(self)])


class Toolset(BaseToolset):
    """No tools, but an end that is counted; where it is made is where it is closed."""

    def __init__(self, lab: LoopBoundLab) -> None:
        super().__init__()
        self._lab = lab
        self._loop = asyncio.get_running_loop()

    async def get_tools(self, readonly_context: Any = None) -> list[BaseTool]:
        return []

    async def close(self) -> None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self._loop
        self._lab.closed += 1


def test_b229_each_loop_has_agents_of_its_own() -> None:
    """Made there, used by all runs of that loop, and closed with their toolsets when it ends."""
    lab = LoopBoundLab()
    agent = pool_agent(lab)

    async def main() -> None:
        chats = [Chat(agent).say() for _ in range(3)]
        assert [texts(each) for each in await asyncio.gather(*chats)] == [["bound"]] * 3

    with agent:
        run(main)
        assert (lab.made, lab.closed) == (["a"], 1)
        run(main)
        assert (lab.made, lab.closed) == (["a", "a"], 2)


def test_b229_the_pools_end_closes_the_toolsets() -> None:
    """On their loop, while that runs on; those below an agent, and each of them once."""
    lab = LoopBoundLab()

    async def main() -> None:
        async with pool_agent(lab) as agent:
            await Chat(agent).say()
            assert lab.closed == 0
        assert lab.closed == 1

    run(main)


def test_b229_a_toolset_that_cannot_be_closed_is_told_and_holds_nothing_up(log: Any) -> None:
    """The others are closed all the same."""

    class Broken(Toolset):
        async def close(self) -> None:
            raise OSError("no end")

    lab = LoopBoundLab()

    def create(name: str, request: AgentRequest) -> BaseAgent:
        below = LlmAgent(name="below", model=LoopBoundModel(), tools=[Toolset(lab)])
        return LlmAgent(
            name=request.name, model=LoopBoundModel(), tools=[Broken(lab)], sub_agents=[below]
        )

    async def main() -> None:
        async with pool_agent(create) as agent:
            await Chat(agent).say()

    run(main)
    assert lab.closed == 1


def test_b229_run_without_a_loop_of_ones_own() -> None:
    """`Runner.run` has a loop for each turn, in a thread; the pool is the same."""
    lab = LoopBoundLab()
    with pool_agent(lab) as agent:
        chat = Chat(agent)
        session_id = asyncio.run(chat.session_id())
        for _ in range(2):
            turn = chat.runner.run(
                user_id="u", session_id=session_id, new_message=content("hello", "user")
            )
            assert texts(list(turn)) == ["bound"]
        assert lab.made == ["a", "a"]
        assert agent.pool.stats().completed == 2


def test_b229_what_all_have_failed_by_reaches_whoever_runs() -> None:
    """Also in `Runner.run`; below a coordinator ADK writes it down as an error event as well."""
    down = raising(ConnectionError("down"))

    with pool_agent(Lab(a=down, b=down)) as agent:
        chat = Chat(agent)
        session_id = asyncio.run(chat.session_id())
        with pytest.raises(AllPoolMembersFailedError):
            list(
                chat.runner.run(
                    user_id="u", session_id=session_id, new_message=content("hello", "user")
                )
            )

    async def main() -> None:
        async with pool_agent(Lab(a=down, b=down)) as agent:
            model = ScriptedModel(answers=[call_of("transfer_to_agent", agent_name="writers")])
            chat = Chat(LlmAgent(name="root", model=model, sub_agents=[agent]))
            with pytest.raises(AllPoolMembersFailedError):
                await chat.say()
            assert (await chat.told())[-1].error_code == "AllPoolMembersFailedError"

    run(main)


def test_b229_callbacks_of_the_pools_agent_run_around_all_attempts() -> None:
    """Once a run, however many members are tried."""
    calls = list[str]()

    def before(callback_context: Any) -> types.Content | None:
        calls.append("before")
        return None

    def after(callback_context: Any) -> types.Content | None:
        calls.append("after")
        return None

    async def failing(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        calls.append("a")
        yield failed(ctx, "503")

    async def main() -> None:
        agent = pool_agent(Lab(a=failing), before_agent_callback=before, after_agent_callback=after)
        async with agent:
            assert texts(await Chat(agent).say()) == ["b"]

    run(main)
    assert calls == ["before", "a", "after"]


def test_b229_a_script_is_an_agent_of_the_app() -> None:
    """The tests' own scripted agent is run by ADK as any other."""
    agent = Scripted(name="plain", script=raising(OSError("boom")))
    with pytest.raises(OSError, match="boom"):
        run(Chat(agent).say)
    assert APP == "tests"
