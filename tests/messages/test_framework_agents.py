"""Agents of frameworks that a pool cannot ask as they are: the line to write instead.

The stand-ins have the modules, the names and the run methods of the real classes. The lines
themselves are run against the real packages by `tests/real_clients/framework_lines.py`. Behaviours
241 and 242.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers_messages import refused
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AgentTypeError,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    Request,
)

FOR_APPLY = "; or method=False, if apply and attempts alone are to use it"
MIXES = "keeps its conversation, so that callers would be told of each other's"


def kind(name: str, *bases: type, **members: Any) -> type:
    """A class as a package has it: `package.module.Name`."""
    module, _, own = name.rpartition(".")
    return type(own, bases, {"__module__": module, **members})


async def by_name(self: Any, *, task: Any = None, cancellation_token: Any = None) -> str:
    return f"answer to {task}"


async def by_position(self: Any, payload: Any = None, **options: Any) -> str:
    return f"answer to {payload}"


def begun(self: Any, *messages: Any, stream: Any = None) -> object:
    return object()


async def listed(self: Any, messages: Any = None, *, thread: Any = None) -> AsyncIterator[str]:
    yield f"answer to {messages}"


def on_a_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
    return asyncio.ensure_future(by_position(self, **kwargs))


def workflow_run(self: Any, ctx: Any = None, start_event: Any = None, **kwargs: Any) -> Any:
    raise AssertionError


async def node_run(self: Any, *, ctx: Any, node_input: Any) -> AsyncIterator[Any]:
    yield node_input


async def run_async(self: Any, parent_context: Any) -> AsyncIterator[Any]:
    yield parent_context.session


def names_alone(self: Any, **kwargs: Any) -> Any:
    raise AssertionError


def called(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.forward(*args, **kwargs)


RUNNER = kind("autogen_agentchat.base._task.TaskRunner")
BASE_NODE = kind("google.adk.workflow._base_node.BaseNode", run=node_run)
BASE_AGENT = kind("google.adk.agents.base_agent.BaseAgent", BASE_NODE, run_async=run_async)
AGENT_BASE = kind("agents.agent.AgentBase")
WORKFLOW = kind("workflows.workflow.Workflow", run=workflow_run)
MODULE = kind("dspy.primitives.module.Module", __call__=called)

AGENTS: dict[str, tuple[type, str]] = {
    "autogen-agentchat 0.7.5": (
        kind("autogen_agentchat.agents._assistant_agent.AssistantAgent", RUNNER, run=by_name),
        (
            f"AssistantAgent (autogen_agentchat) takes its task by name, and {MIXES}. Write `async "
            "def ask(task): return await make().run(task=task)`, where make() returns a new one"
            f"{FOR_APPLY}"
        ),
    ),
    "an own one of autogen's": (
        kind(
            "app.Reviewer",
            kind("autogen_agentchat.agents._base_chat_agent.BaseChatAgent", RUNNER, run=by_name),
        ),
        (
            f"Reviewer (autogen_agentchat) takes its task by name, and {MIXES}. Write `async "
            "def ask(task): return await make().run(task=task)`, where make() returns a new one"
            f"{FOR_APPLY}"
        ),
    ),
    "strands-agents 1.62.0": (
        kind("strands.agent.agent.Agent", __call__=by_position, invoke_async=by_position),
        (
            f"Agent (strands) {MIXES}. Write `async def ask(prompt): return await "
            "make().invoke_async(prompt)`, where make() returns a new one; or "
            "method='invoke_async', if all of the requests are one conversation"
        ),
    ),
    "google-adk 2.13.0": (
        kind("google.adk.agents.llm_agent.LlmAgent", BASE_AGENT),
        (
            "LlmAgent (google.adk) is run by a Runner, in a session. Write "
            f"greenroom.adk.AdkAgent(agent){FOR_APPLY}"
        ),
    ),
    "a runner of google-adk's": (
        kind(
            "google.adk.runners.InMemoryRunner",
            kind("google.adk.runners.Runner", run=by_name),
        ),
        (
            "InMemoryRunner (google.adk) wants a session and a Content. Write "
            f"greenroom.adk.AdkAgent(runner.agent){FOR_APPLY}"
        ),
    ),
    "openai-agents 0.24.0": (
        kind("agents.agent.Agent", AGENT_BASE),
        (
            "Agent (agents) is run by a Runner. Write `async def ask(text): return (await "
            f"Runner.run(agent, text)).final_output`{FOR_APPLY}"
        ),
    ),
    "ag2 1.2.1": (
        kind("ag2.agent.Agent", run=begun, ask=by_position),
        f"Agent (ag2) has a run that has not begun when it returns. Write method='ask'{FOR_APPLY}",
    ),
    "semantic-kernel 1.45.0": (
        kind(
            "semantic_kernel.agents.chat_completion.chat_completion_agent.ChatCompletionAgent",
            kind("semantic_kernel.agents.agent.Agent", invoke=listed, get_response=by_position),
        ),
        (
            "ChatCompletionAgent (semantic_kernel.agents) has an invoke that gives a list of "
            f"answers. Write method='get_response'{FOR_APPLY}"
        ),
    ),
    "a kernel of semantic-kernel's": (
        kind("semantic_kernel.kernel.Kernel", invoke=by_position, invoke_prompt=by_position),
        (
            "Kernel (semantic_kernel) has an invoke for functions of its own. Write "
            f"method='invoke_prompt'{FOR_APPLY}"
        ),
    ),
    "llama-index-core 0.14.25": (
        kind(
            "llama_index.core.agent.workflow.function_agent.FunctionAgent",
            kind(
                "llama_index.core.agent.workflow.base_agent.BaseWorkflowAgent",
                WORKFLOW,
                run=on_a_loop,
            ),
        ),
        (
            "FunctionAgent (llama_index.core.agent) has a run that must be called on an event "
            f"loop. Write `async def ask(text): return await agent.run(user_msg=text)`{FOR_APPLY}"
        ),
    ),
    "a workflow of llama-index's": (
        kind("app.Steps", WORKFLOW),
        (
            "Steps (workflows) has a run that takes its start event by name. Write `async def "
            "ask(topic): return await workflow.run(topic=topic)`, as its event has it"
            f"{FOR_APPLY}"
        ),
    ),
    "a query engine of llama-index's": (
        kind(
            "llama_index.core.query_engine.retriever_query_engine.RetrieverQueryEngine",
            kind("llama_index.core.base.base_query_engine.BaseQueryEngine", aquery=by_position),
        ),
        f"RetrieverQueryEngine (llama_index.core) has no run. Write method='aquery'{FOR_APPLY}",
    ),
    "a chat engine of llama-index's": (
        kind(
            "llama_index.core.chat_engine.simple.SimpleChatEngine",
            kind("llama_index.core.chat_engine.types.BaseChatEngine", achat=by_position),
        ),
        (
            f"SimpleChatEngine (llama_index.core) has no run, and {MIXES}. Write `async def "
            "ask(text): return await make().achat(text)`, where make() returns a new one; or "
            "method='achat', if all of the requests are one conversation"
        ),
    ),
    "a model of llama-index's": (
        kind(
            "llama_index.llms.openai_like.base.OpenAILike",
            kind("llama_index.core.base.llms.base.BaseLLM", acomplete=by_position, stream=listed),
        ),
        (
            "OpenAILike (llama_index.core) has a stream that wants a template of a prompt. Write "
            f"method='acomplete'{FOR_APPLY}"
        ),
    ),
    "crewai 1.15.30: a crew": (
        kind("crewai.crew.Crew", kickoff=by_position),
        (
            "Crew (crewai) takes its inputs by a dict, and cannot be asked twice at once. Write "
            "`def ask(topic): return make().kickoff({'topic': topic})`, as its tasks have it, "
            "where make() returns a new one; or method='kickoff', if each payload is such a dict, "
            "and max_concurrency is 1"
        ),
    ),
    "a flow of crewai's": (
        kind("app.Steps", kind("crewai.flow.flow.Flow", kickoff=by_position)),
        (
            "Steps (crewai) takes its inputs by a dict, and keeps its state, so that callers would "
            "be told of each other's. Write `def ask(topic): return make().kickoff({'topic': "
            "topic})`, as its state has it, where make() returns a new one; or method='kickoff', "
            "if each payload is such a dict, and all of them are one conversation"
        ),
    ),
    "dspy 3.4.1": (
        kind("dspy.predict.predict.Predict", MODULE, forward=names_alone, acall=names_alone),
        (
            "Predict (dspy) takes what it is asked by name. Write `async def ask(question): return "
            f"await program.acall(question=question)`{FOR_APPLY}"
        ),
    ),
}


@pytest.mark.parametrize(("agent", "words"), AGENTS.values(), ids=AGENTS)
def test_an_agent_that_a_pool_cannot_ask_is_refused_with_the_line(agent: type, words: str) -> None:
    """Of the member, by its class, and also where it inherits from that."""
    error = refused(lambda: Member("a", agent()))
    assert error == f"AgentTypeError: agent of member 'a' cannot be asked as it is: {words}"


def test_one_that_a_factory_makes_is_refused_when_it_is_made() -> None:
    """It would be one for all requests as well; another member answers."""
    made, words = AGENTS["strands-agents 1.62.0"]
    with pool_of(Member("a", factory=made), Member("b", str.upper, priority=1)) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
    assert (reply.value, reply.errors[0].kind) == ("X", FailureKind.CREATE_FAILED)
    assert f"the factory of member 'a' makes cannot be asked as it is: {words}" in str(
        reply.errors[0].error
    )


def test_agno_is_refused_with_its_history_alone() -> None:
    """agno 3.1.10: its runs share a session, whose history is shown only where that is set."""
    made = kind("agno.agent.agent.Agent", arun=by_position)
    agent: Any = made()
    agent.add_history_to_context = False
    with pool_of(Member("a", agent)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "answer to x"
    agent.add_history_to_context = True
    error = refused(lambda: Member("a", agent))
    assert f"Agent (agno) {MIXES}. Write `async def ask(text, call: CallContext)" in error
    assert Member("a", agent, method="arun").agent is agent


@pytest.mark.parametrize("name", AGENTS)
def test_whoever_says_that_no_method_is_called_may_give_it(name: str) -> None:
    """It is for `apply`, which calls what it likes; a request says why it cannot be answered."""
    agent = AGENTS[name][0]()
    with pool_of(Member("a", agent, method=False)) as pool:
        assert pool.apply(lambda each: each is agent, timeout=WAIT_S)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
    (error,) = caught.value.errors
    assert isinstance(error.error, AgentTypeError)
    assert (error.kind, error.attempts) == (FailureKind.TOO_LARGE, 1)
    assert "with method=False (pool.apply can use it all the same)" in str(error.error)


NAMED: dict[str, str] = {
    "strands-agents 1.62.0": "invoke_async",
    "ag2 1.2.1": "ask",
    "semantic-kernel 1.45.0": "get_response",
    "a kernel of semantic-kernel's": "invoke_prompt",
    "a query engine of llama-index's": "aquery",
    "a chat engine of llama-index's": "achat",
    "a model of llama-index's": "acomplete",
    "crewai 1.15.30: a crew": "kickoff",
    "a flow of crewai's": "kickoff",
}


@pytest.mark.parametrize(("name", "method"), NAMED.items(), ids=NAMED)
def test_the_method_that_is_named_is_called(name: str, method: str) -> None:
    """Whoever names it has looked."""
    with pool_of(Member("a", AGENTS[name][0](), method=method)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "answer to x"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("google-adk 2.13.0", "run_async"),
        ("autogen-agentchat 0.7.5", "run"),
        ("dspy 3.4.1", "acall"),
    ],
)
def test_to_name_a_method_is_no_help_where_none_of_them_would_do(name: str, method: str) -> None:
    """ADK's `run_async` takes one argument, which is no payload."""
    agent, words = AGENTS[name]
    assert words in refused(lambda: Member("a", agent(), method=method))


class Conversation:
    """Keeps what it was told, as strands and autogen do."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def invoke_async(self, prompt: str) -> list[str]:
        self.told.append(prompt)
        return list(self.told)

    async def run(self, *, task: str) -> list[str]:
        return await self.invoke_async(task)

    __call__ = achat = invoke_async


@pytest.mark.parametrize(
    "name",
    ["strands-agents 1.62.0", "autogen-agentchat 0.7.5", "a chat engine of llama-index's"],
)
def test_the_line_gives_each_request_a_conversation_of_its_own(name: str) -> None:
    """It is written as the error has it."""
    line = re.search("`(.*)`", AGENTS[name][1])
    assert line is not None
    names: dict[str, Any] = {"make": Conversation}
    exec(line[1], names)
    with pool_of(Member("a", names["ask"])) as pool:
        assert pool.execute("mine", timeout=WAIT_S) == ["mine"]
        assert pool.execute("yours", timeout=WAIT_S) == ["yours"]


OWN: dict[str, Callable[[], Any]] = {
    "an app's agents": kind("agents.agent.Agent", kind("agents.agent.AgentBase"), run=by_position),
    "an app's workflows": kind("workflows.workflow.Workflow", run=by_position),
    "an app's strands": kind("app.strands.Agent", run=by_position),
    "a program that takes its question": kind(
        "app.Program", MODULE, forward=lambda self, question: f"answer to {question}"
    ),
    "an agent of crewai's": kind("crewai.agent.core.Agent", kickoff=by_position),
    "a kernel of strands": kind("strands_tools.Agent", run=by_position),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_what_only_has_such_a_name_is_asked(make: Callable[[], Any]) -> None:
    """An app has modules of these names, too."""
    with pool_of(Member("a", make())) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "answer to x"


class Hostile(type):
    @property
    def __mro__(cls) -> Any:
        raise LookupError("no bases")


class Guarded(metaclass=Hostile):
    def run(self, payload: Any) -> Any:
        return payload


def test_a_class_that_cannot_be_looked_at_is_no_trap() -> None:
    """Nobody can tell, so it is taken as it is."""
    assert isinstance(Member("a", Guarded()), Member)
