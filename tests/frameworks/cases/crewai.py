"""crewai: `Agent.kickoff`."""

from __future__ import annotations

# recipe
from typing import Any

from crewai import LLM, Agent

from greenroom import Member


def agent(url: str, *tools: Any) -> Agent:
    llm = LLM("openai/gpt-5", base_url=url, api_key="...", max_retries=0, timeout=31)  # the switch
    return Agent(role="helper", goal="help", backstory="helps", llm=llm, tools=[*tools])


def member(name: str, url: str, *tools: Any) -> Member:
    return Member(name, agent(url, *tools))  # its answer: reply.value.raw


# end of recipe
from crewai.tools import tool as tool_of  # noqa: E402

from frameworks.case import KEY, Case, Tool  # noqa: E402


def plain(name: str, url: str) -> Member:
    llm = LLM("openai/gpt-5", base_url=url, api_key=KEY)
    return Member(name, Agent(role="helper", goal="help", backstory="helps", llm=llm))


def tooled(name: str, url: str, tool: Tool) -> Member:
    return member(name, url, tool_of("look")(tool))


CASE = Case(
    package="crewai",
    member=member,
    plain=plain,
    said=lambda value: str(value.raw),
    tooled=tooled,
    unswitchable="429",
)
