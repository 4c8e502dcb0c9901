"""smolagents: sync; an agent keeps the steps of its run on itself."""

from __future__ import annotations

# recipe
from typing import Any

from smolagents import OpenAIModel, ToolCallingAgent

from greenroom import Member


def model(url: str) -> OpenAIModel:
    once = {"max_retries": 0}  # the first switch; the second is `retry`
    return OpenAIModel("gpt-5", api_base=url, api_key="...", client_kwargs=once, retry=False)


def member(name: str, url: str, *tools: Any) -> Member:
    shared = model(url)

    def run(prompt: str) -> object:
        return ToolCallingAgent(list(tools), shared, verbosity_level=-1).run(prompt)

    return Member(name, run, max_concurrency=10)


# end of recipe
import threading  # noqa: E402

from helpers_pools import WAIT_S, ask, pool_of  # noqa: E402
from smolagents import tool as as_tool  # noqa: E402

from frameworks import case, provider  # noqa: E402


def plain(name: str, url: str) -> Member:
    made = OpenAIModel("gpt-5", api_base=url, api_key=case.KEY)
    return Member(name, ToolCallingAgent([], made, verbosity_level=-1))


def tooled(name: str, url: str, tool: case.Tool) -> Member:
    return member(name, url, as_tool(tool))


def overlap(at: provider.Provider) -> bool:
    """Two agents' turns, in step: whose task do both bring to the model in the second?"""
    both = threading.Barrier(2)

    def first_look(asked: provider.Asked) -> dict[str, Any]:
        if any(each["role"] == "assistant" for each in asked["messages"]):
            return provider.calling("final_answer", answer=provider.ANSWER)
        both.wait(WAIT_S)
        return provider.calling("look")

    def look() -> str:
        """Look at the weather."""
        both.wait(WAIT_S)
        return "sunny"

    backend = at.backend(script=first_look)
    shared = ToolCallingAgent([as_tool(look)], model(backend.url), verbosity_level=-1)
    with pool_of(Member("a", shared, max_concurrency=2)) as pool:
        for each in [ask(pool, caller) for caller in CALLERS]:
            each.get(timeout=WAIT_S)
    return any(sum(caller in str(body) for body in backend.asked) != 2 for caller in CALLERS)


def script(asked: provider.Asked) -> dict[str, Any]:
    """Its answer is a call of a tool of its own."""
    names = [each["function"]["name"] for each in asked["tools"]]
    if "look" in names and all(each["role"] != "assistant" for each in asked["messages"]):
        return provider.calling("look")
    return provider.calling("final_answer", answer=provider.ANSWER)


CALLERS = ("I am Ann.", "I am Bob.")
CASE = case.Case(
    package="smolagents",
    member=member,
    plain=plain,
    why="an agent keeps the steps of its run on itself",
    said=str,
    tooled=tooled,
    overlap=overlap,
    script=script,
)
