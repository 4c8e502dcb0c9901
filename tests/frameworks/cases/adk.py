"""Google's ADK: a `Runner` runs an agent in a session; `greenroom.adk.AdkAgent` makes both."""

from __future__ import annotations

# recipe
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.integrations.openai import OpenAILlm
from openai import AsyncOpenAI

from greenroom import Member
from greenroom.adk import AdkAgent


def agent(url: str, *tools: Any) -> LlmAgent:
    client = AsyncOpenAI(base_url=url, api_key="...", max_retries=0)  # the switch
    return LlmAgent(name="writer", model=OpenAILlm(model="gpt-5", client=client), tools=list(tools))


def member(name: str, url: str, *tools: Any) -> Member:
    return Member(name, factory=lambda: AdkAgent(agent(url, *tools)))  # its answer is a text


# end of recipe
from frameworks import case  # noqa: E402


def unswitched_agent(url: str) -> LlmAgent:
    client = AsyncOpenAI(base_url=url, api_key=case.KEY)
    return LlmAgent(name="writer", model=OpenAILlm(model="gpt-5", client=client))


def plain(name: str, url: str) -> Member:
    return Member(name, unswitched_agent(url))


def unswitched(name: str, url: str) -> Member:
    return Member(name, AdkAgent(unswitched_agent(url)))


CASE = case.Case(
    package="google-adk",
    member=member,
    plain=plain,
    unswitched=unswitched,
    why="it is a `Runner` that runs it, in a session",
    said=str,
    streaming=member,
    tooled=member,
)
