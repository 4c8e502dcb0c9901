"""What the refusal of a framework's agent says to write, written and run with the real package.

    python tests/real_clients/framework_lines.py strands

It needs no network: each model is a scripted one, which notes the texts that it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import greenroom
from greenroom import AgentPool, AgentTypeError, Member, PoolConfig, PoolError, Request

WAIT_S = 30.0


@dataclass
class Case:
    """One kind of agent.

    Args:
        agent: what is given to a member.
        names: what its line may name, beside `agent`.
        text: the text in one of its answers.
        seen: all that its model has been shown, a text a call.
    """

    agent: Any
    names: dict[str, Any] = field(default_factory=dict)
    text: Callable[[Any], str] = str
    seen: list[str] = field(default_factory=list)


def autogen_agent() -> Case:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.replay import ReplayChatCompletionClient

    seen: list[str] = []

    class Client(ReplayChatCompletionClient):
        async def create(self, messages: Any, **options: Any) -> Any:
            seen.append(" ".join(str(each.content) for each in messages))
            return await super().create(messages, **options)

    def make() -> Any:
        return AssistantAgent("assistant", Client(["fine"] * 9))

    return Case(make(), {"make": make}, lambda result: result.messages[-1].content, seen)


def autogen_team() -> Case:
    from autogen_agentchat.conditions import MaxMessageTermination
    from autogen_agentchat.teams import RoundRobinGroupChat

    one = autogen_agent()

    def make() -> Any:
        return RoundRobinGroupChat(
            [one.names["make"]()], termination_condition=MaxMessageTermination(2)
        )

    return Case(make(), {"make": make}, one.text, one.seen)


def strands_agent() -> Case:
    from strands import Agent
    from strands.models import Model

    seen: list[str] = []

    class Scripted(Model):
        def update_config(self, **_: Any) -> None: ...

        def get_config(self) -> Any:
            return {}

        async def structured_output(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            yield {}

        async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
            seen.append(str(messages))
            yield {"messageStart": {"role": "assistant"}}
            yield {"contentBlockDelta": {"delta": {"text": "fine"}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}

    def make() -> Any:
        return Agent(model=Scripted(), callback_handler=None)

    return Case(make(), {"make": make}, lambda result: str(result).strip(), seen)


def adk_agent() -> Case:
    from google.adk.agents import LlmAgent
    from google.adk.models.base_llm import BaseLlm
    from google.adk.models.llm_response import LlmResponse
    from google.genai import types

    seen: list[str] = []

    class Scripted(BaseLlm):
        async def generate_content_async(self, request: Any, stream: bool = False) -> Any:
            seen.append(str(request.contents))
            said = types.Content(role="model", parts=[types.Part(text="fine")])
            yield LlmResponse(content=said)

    agent = LlmAgent(name="assistant", model=Scripted(model="m"))
    return Case(agent, {"greenroom": greenroom}, str, seen)


def adk_runner() -> Case:
    from google.adk.runners import InMemoryRunner

    one = adk_agent()
    runner = InMemoryRunner(one.agent, app_name="app")
    return Case(runner, {"greenroom": greenroom, "runner": runner}, str, one.seen)


def openai_agent() -> Case:
    import agents
    from agents.items import ModelResponse
    from agents.models.interface import Model
    from agents.usage import Usage
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText

    agents.set_tracing_disabled(True)
    seen: list[str] = []

    class Scripted(Model):
        async def get_response(self, *_: Any, **given: Any) -> Any:
            seen.append(str(given or _))
            part = ResponseOutputText(annotations=[], text="fine", type="output_text")
            message = ResponseOutputMessage(
                id="m", content=[part], role="assistant", status="completed", type="message"
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    agent = agents.Agent(name="assistant", model=Scripted())
    return Case(agent, {"Runner": agents.Runner}, str, seen)


def ag2_agent() -> Case:
    from ag2 import Agent
    from ag2.testing import TestConfig

    agent = Agent("assistant", config=TestConfig(*["fine"] * 9))
    return Case(agent, {}, lambda reply: reply.body)


def semantic_kernel_service(seen: list[str]) -> Any:
    from semantic_kernel.connectors.ai.chat_completion_client_base import (
        ChatCompletionClientBase,
    )
    from semantic_kernel.connectors.ai.prompt_execution_settings import PromptExecutionSettings
    from semantic_kernel.contents import AuthorRole, ChatMessageContent

    class Scripted(ChatCompletionClientBase):
        def get_prompt_execution_settings_class(self) -> Any:
            return PromptExecutionSettings

        async def _inner_get_chat_message_contents(self, history: Any, _: Any) -> Any:
            seen.append(" ".join(each.content for each in history.messages))
            return [ChatMessageContent(role=AuthorRole.ASSISTANT, content="fine")]

    return Scripted(ai_model_id="m")


def semantic_kernel_agent() -> Case:
    from semantic_kernel.agents import ChatCompletionAgent

    seen: list[str] = []
    agent = ChatCompletionAgent(service=semantic_kernel_service(seen), name="assistant")
    return Case(agent, {}, lambda item: str(item.message), seen)


def semantic_kernel_kernel() -> Case:
    from semantic_kernel import Kernel

    seen: list[str] = []
    kernel = Kernel()
    kernel.add_service(semantic_kernel_service(seen))
    return Case(kernel, {}, str, seen)


def llama_index_model(seen: list[str]) -> Any:
    from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata

    answer = "Thought: I can answer without using any more tools.\nAnswer: fine"

    class Scripted(CustomLLM):
        @property
        def metadata(self) -> Any:
            return LLMMetadata()

        def complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
            seen.append(prompt)
            return CompletionResponse(text=answer)

        def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
            seen.append(prompt)
            yield CompletionResponse(text=answer, delta=answer)

    return Scripted()


def llama_index_agent() -> Case:
    from llama_index.core.agent.workflow import ReActAgent

    seen: list[str] = []
    agent = ReActAgent(tools=[], llm=llama_index_model(seen))
    return Case(agent, {}, lambda output: str(output), seen)


def llama_index_workflow() -> Case:
    from workflows import Workflow, step
    from workflows.events import StartEvent, StopEvent

    class Fine(Workflow):
        @step  # type: ignore[untyped-decorator]
        async def answer(self, event: StartEvent) -> StopEvent:
            return StopEvent(result=f"fine: {event.topic}")

    workflow = Fine()
    return Case(workflow, {"workflow": workflow}, lambda text: text.partition(":")[0])


def llama_index_query_engine() -> Case:
    from llama_index.core import Document, Settings, SummaryIndex

    seen: list[str] = []
    Settings.llm = llama_index_model(seen)
    engine = SummaryIndex.from_documents([Document(text="a page")]).as_query_engine()
    return Case(engine, {}, lambda response: str(response).rpartition(" ")[2], seen)


def llama_index_chat_engine() -> Case:
    from llama_index.core.chat_engine import SimpleChatEngine

    seen: list[str] = []
    model = llama_index_model(seen)

    def make() -> Any:
        return SimpleChatEngine.from_defaults(llm=model)

    return Case(make(), {"make": make}, lambda said: str(said).rpartition(" ")[2], seen)


def dspy_program() -> Case:
    import dspy
    from dspy.utils import DummyLM

    dspy.configure(lm=DummyLM([{"answer": "fine"}] * 9))
    program = dspy.Predict("question -> answer")
    return Case(program, {"program": program}, lambda prediction: prediction.answer)


def agno_agent() -> Case:
    from dataclasses import dataclass as dataclass_

    from agno.agent import Agent
    from agno.db.in_memory import InMemoryDb
    from agno.models.base import Model
    from agno.models.response import ModelResponse

    seen: list[str] = []

    @dataclass_
    class Scripted(Model):
        def invoke(self, *_: Any, messages: Any = (), **__: Any) -> Any:
            seen.append(" ".join(str(each.content) for each in messages))
            return ModelResponse(role="assistant", content="fine")

        async def ainvoke(self, *_: Any, **given: Any) -> Any:
            return self.invoke(**given)

        def invoke_stream(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        ainvoke_stream = invoke_stream

        def _parse_provider_response(self, response: Any, **_: Any) -> Any:
            return response

        _parse_provider_response_delta = _parse_provider_response

    agent = Agent(
        model=Scripted(id="m"), db=InMemoryDb(), add_history_to_context=True, telemetry=False
    )
    names = {"CallContext": greenroom.CallContext}
    return Case(agent, names, lambda output: output.content, seen)


def llama_index_llm() -> Case:
    from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata

    seen: list[str] = []

    class Scripted(CustomLLM):
        @property
        def metadata(self) -> Any:
            return LLMMetadata()

        def complete(self, prompt: str, formatted: bool = False, **options: Any) -> Any:
            seen.append(prompt)
            return CompletionResponse(text="fine")

        def stream_complete(self, prompt: str, formatted: bool = False, **options: Any) -> Any:
            raise NotImplementedError

    return Case(Scripted(), seen=seen)


def crewai_agent(seen: list[str]) -> Any:
    from crewai import Agent, BaseLLM

    class Scripted(BaseLLM):
        def call(self, messages: Any, *args: Any, **options: Any) -> str:
            seen.append(str(messages))
            return "Thought: I now can give a great answer\nFinal Answer: fine"

    return Agent(role="helper", goal="help", backstory="helps", llm=Scripted(model="m"))


def crewai_crew() -> Case:
    from crewai import Crew, Task

    seen: list[str] = []

    def make() -> Any:
        helper = crewai_agent(seen)
        task = Task(description="say {topic}", expected_output="a word", agent=helper)
        return Crew(agents=[helper], tasks=[task])

    return Case(make(), {"make": make}, lambda output: output.raw, seen)


def crewai_flow() -> Case:
    from crewai.flow.flow import Flow, start

    seen: list[str] = []

    class Steps(Flow):  # type: ignore[misc, unused-ignore]
        @start()  # type: ignore[untyped-decorator, unused-ignore]
        def first(self) -> str:
            seen.append(str(self.state))
            return "fine"

    return Case(Steps(), {"make": lambda: Steps(suppress_flow_events=True)}, seen=seen)


CASES: dict[str, tuple[str, Callable[[], Case]]] = {
    "autogen": ("autogen_agentchat", autogen_agent),
    "autogen-team": ("autogen_agentchat", autogen_team),
    "strands": ("strands", strands_agent),
    "adk": ("google.adk", adk_agent),
    "adk-runner": ("google.adk", adk_runner),
    "openai-agents": ("agents", openai_agent),
    "ag2": ("ag2", ag2_agent),
    "semantic-kernel": ("semantic_kernel", semantic_kernel_agent),
    "semantic-kernel-kernel": ("semantic_kernel", semantic_kernel_kernel),
    "llama-index": ("llama_index.core", llama_index_agent),
    "llama-index-workflow": ("workflows", llama_index_workflow),
    "llama-index-query": ("llama_index.core", llama_index_query_engine),
    "llama-index-chat": ("llama_index.core", llama_index_chat_engine),
    "llama-index-model": ("llama_index.core", llama_index_llm),
    "crewai-crew": ("crewai", crewai_crew),
    "crewai-flow": ("crewai", crewai_flow),
    "dspy": ("dspy", dspy_program),
    "agno": ("agno", agno_agent),
}
"""By name: the package that it needs, and what makes it."""


def refusal_of(agent: Any) -> str:
    """What it says at start."""
    try:
        Member("x", agent)
    except AgentTypeError as error:
        return str(error)
    raise AssertionError(f"a {type(agent).__name__} was not refused")


def written(case: Case, refusal: str) -> Member:
    """The member that the refusal says to write."""
    line = re.search(r"Write `(.+?)`|Write (method='\w+')|Write (greenroom\.[\w.()]+)", refusal)
    assert line is not None, refusal
    function, method, expression = line.groups()
    names = {"agent": case.agent, **case.names}
    if function is not None:
        exec(function, names)
        return Member("x", names["ask"])
    if method is not None:
        return Member("x", case.agent, method=method.split("'")[1])
    importlib.import_module("greenroom.adk")
    return Member("x", eval(expression, names))


def shared(case: Case, refusal: str) -> Member:
    """The same agent for all requests, as one must not have it."""
    method = re.search(r"or method='(\w+)'", refusal)
    if method is not None:
        return Member("x", case.agent, method=method[1])
    return written(replace(case, names={"make": lambda: case.agent}), refusal)


WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")
"""What is asked, a word each: a model that is shown two of them has been told of another caller."""


async def answers_of(case: Case, member: Member) -> list[str]:
    """Of two callers one after the other, then of two at once, then of one that streams."""
    config = PoolConfig(max_retries=0)
    async with AgentPool.start([member], config=config) as pool:
        values = [(await pool.aask(Request(each), timeout=WAIT_S)).value for each in WORDS[:2]]
        both = [pool.aask(Request(each), timeout=WAIT_S) for each in WORDS[2:4]]
        values += [reply.value for reply in await asyncio.gather(*both)]
        assert [each async for each in pool.stream(Request(WORDS[4]), timeout=WAIT_S)]
    return [case.text(each) for each in values]


def mixed(case: Case) -> bool:
    """Whether one caller's words were shown to a model beside another's."""
    return any(sum(word in text for word in WORDS) > 1 for text in case.seen)


async def asked(case: Case) -> None:
    refusal = refusal_of(case.agent)
    print(refusal)
    texts = await answers_of(case, written(case, refusal))
    assert texts == ["fine"] * 4, texts
    assert not mixed(case), case.seen
    if "keeps its conversation" in refusal:  # else this would be seen by nobody
        with contextlib.suppress(PoolError):  # some refuse to be asked twice at once
            await answers_of(case, shared(case, refusal))
        assert mixed(case), case.seen


def is_installed(name: str) -> bool:
    """Whether the package of that case is here."""
    try:
        return importlib.util.find_spec(CASES[name][0]) is not None
    except ModuleNotFoundError:
        return False


def main(name: str) -> None:
    warnings.simplefilter("ignore")
    asyncio.run(asked(CASES[name][1]()))


if __name__ == "__main__":
    main(sys.argv[1])
