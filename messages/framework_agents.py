"""Agents of frameworks that a pool cannot ask as they are, or had better not: what to write
in their place. Pure.

They are told by the names of their classes: nothing is imported, and nothing of them is run. Each
line has been run against the version that stands beside it; nothing is said of what works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class Trap(NamedTuple):
    """A kind of agent, and what to do about it.

    Attributes:
        package: the package, or a part of it, that has the classes.
        names: those of the classes from which it inherits.
        why: what is wrong with giving it to a member.
        write: what to write instead.
        unless: what to write if that is not what was meant.
        even_named: whether it is no better to name one of its methods.
        only: of which of the kind it holds.
    """

    package: str
    names: tuple[str, ...]
    why: str
    write: str
    unless: str = "method=False, if apply and attempts alone are to use it"
    even_named: bool = False
    only: Callable[[Any], bool] = lambda _: True


_MIXES = "keeps its conversation, so that callers would be told of each other's"
_IS_ONE_CONVERSATION = "if all of the requests are one conversation"


def _takes_names_alone(program: Any) -> bool:
    """Whether a program of dspy's takes what it is asked by name: that of an app may not."""
    forward = inspect.signature(type(program).forward, follow_wrapped=False)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return all(each.kind in by_name for each in list(forward.parameters.values())[1:])


def _shares_its_session(agent: Any) -> bool:
    return vars(agent).get("add_history_to_context") is True


def _has_no_run(agent: Any) -> bool:
    """An app's own module may be called `agents`, too."""
    bases = {base.__name__ for base in type(agent).__mro__}
    return "AgentBase" in bases and not hasattr(agent, "run") and not callable(agent)


def _begins_by_event(workflow: Any) -> bool:
    """An app's own module may be called `workflows`, too."""
    base = next(base for base in type(workflow).__mro__ if base.__name__ == "Workflow")
    return {"ctx", "start_event"} <= set(inspect.signature(vars(base)["run"]).parameters)


TRAPS = (
    Trap(  # autogen-agentchat 0.7.5, agents and teams
        "autogen_agentchat",
        ("TaskRunner",),
        f"takes its task by name, and {_MIXES}",
        "`async def ask(task): return await make().run(task=task)`, where make() returns a new one",
        even_named=True,
    ),
    Trap(  # strands-agents 1.62.0
        "strands",
        ("Agent",),
        _MIXES,
        "`async def ask(prompt): return await make().invoke_async(prompt)`, where make() returns a "
        "new one",
        f"method='invoke_async', {_IS_ONE_CONVERSATION}",
    ),
    Trap(  # google-adk 2.13.0
        "google.adk",
        ("BaseAgent",),
        "is run by a Runner, in a session",
        "greenroom.adk.AdkAgent(agent)",
        even_named=True,
    ),
    Trap(
        "google.adk",
        ("Runner",),
        "wants a session and a Content",
        "greenroom.adk.AdkAgent(runner.agent)",
    ),
    Trap(  # openai-agents 0.24.0
        "agents",
        ("Agent",),
        "is run by a Runner",
        "`async def ask(text): return (await Runner.run(agent, text)).final_output`",
        only=_has_no_run,
    ),
    Trap(  # ag2 1.2.1
        "ag2",
        ("Agent",),
        "has a run that has not begun when it returns",
        "method='ask'",
    ),
    Trap(  # semantic-kernel 1.45.0
        "semantic_kernel",
        ("Kernel",),
        "has an invoke for functions of its own",
        "method='invoke_prompt'",
    ),
    Trap(
        "semantic_kernel.agents",
        ("Agent",),
        "has an invoke that gives a list of answers",
        "method='get_response'",
    ),
    Trap(  # llama-index-core 0.14.25
        "llama_index.core.agent",
        ("BaseWorkflowAgent", "AgentWorkflow"),
        "has a run that must be called on an event loop",
        "`async def ask(text): return await agent.run(user_msg=text)`",
        even_named=True,
    ),
    Trap(
        "workflows",
        ("Workflow",),
        "has a run that takes its start event by name",
        "`async def ask(topic): return await workflow.run(topic=topic)`, as its event has it",
        even_named=True,
        only=_begins_by_event,
    ),
    Trap(
        "llama_index.core",
        ("BaseQueryEngine",),
        "has no run",
        "method='aquery'",
    ),
    Trap(
        "llama_index.core",
        ("BaseChatEngine",),
        f"has no run, and {_MIXES}",
        "`async def ask(text): return await make().achat(text)`, where make() returns a new one",
        f"method='achat', {_IS_ONE_CONVERSATION}",
    ),
    Trap(
        "llama_index.core",
        ("BaseLLM",),
        "has a stream that wants a template of a prompt",
        "method='acomplete'",
    ),
    Trap(  # crewai 1.15.30
        "crewai",
        ("Crew",),
        "takes its inputs by a dict, and cannot be asked twice at once",
        "`def ask(topic): return make().kickoff({'topic': topic})`, as its tasks have it, where "
        "make() returns a new one",
        "method='kickoff', if each payload is such a dict, and max_concurrency is 1",
    ),
    Trap(
        "crewai",
        ("Flow",),
        "takes its inputs by a dict, and keeps its state, so that callers would be told of each "
        "other's",
        "`def ask(topic): return make().kickoff({'topic': topic})`, as its state has it, where "
        "make() returns a new one",
        "method='kickoff', if each payload is such a dict, and all of them are one conversation",
    ),
    Trap(  # dspy 3.4.1
        "dspy",
        ("Module",),
        "takes what it is asked by name",
        "`async def ask(question): return await program.acall(question=question)`",
        even_named=True,
        only=_takes_names_alone,
    ),
    Trap(  # agno 3.1.10, with its history switched on
        "agno",
        ("Agent",),
        _MIXES,
        "`async def ask(text, call: CallContext): return await agent.arun(text, "
        "session_id=call.key or call.request_id)`",
        f"method='arun', {_IS_ONE_CONVERSATION}",
        only=_shares_its_session,
    ),
)


def trap_of(agent: Any) -> Trap | None:
    """The first trap that the agent is of the kind of."""
    kind = type(agent)
    try:
        bases = [(f"{base.__module__}.", base.__name__) for base in kind.__mro__[:-1]]
        return next((each for each in TRAPS if _is_one(bases, each) and each.only(agent)), None)
    except Exception:  # a metaclass of somebody's
        return None


def _is_one(bases: list[tuple[str, str]], trap: Trap) -> bool:
    package = f"{trap.package}."
    return any(name in trap.names and module.startswith(package) for module, name in bases)
