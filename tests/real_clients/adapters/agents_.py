"""What agents are built with: pydantic-ai, langchain-openai, openai-agents."""

from __future__ import annotations

import os
from typing import Any

import agents
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read

os.environ["LANGCHAIN_TRACING_V2"] = "false"
agents.set_tracing_disabled(True)


def _once(case: Case) -> dict[str, Any]:
    return case.settings(timeout=case.timeout_s, max_retries=0)


async def _run(model: Any, case: Case) -> object:
    agent: Any = Agent(model)
    if not case.stream:
        return (await agent.run(PROMPT)).output
    async with agent.run_stream(PROMPT) as result:
        return await aread(result.stream_text(delta=True))


async def _pydantic_openai(case: Case) -> object:
    client = AsyncOpenAI(api_key=KEY, base_url=case.url + "/v1", **_once(case))
    return await _run(OpenAIChatModel("none", provider=OpenAIProvider(openai_client=client)), case)


async def _pydantic_anthropic(case: Case) -> object:
    client = AsyncAnthropic(api_key=KEY, base_url=case.url, **_once(case))
    provider = AnthropicProvider(anthropic_client=client)
    return await _run(AnthropicModel("none", provider=provider), case)


async def _pydantic_google(case: Case) -> object:
    settings = case.settings(
        timeout=int(case.timeout_s * 1000), retry_options=types.HttpRetryOptions(attempts=1)
    )
    options = types.HttpOptions(base_url=case.url, **settings)
    client = genai.Client(api_key=KEY, http_options=options)
    return await _run(GoogleModel("none", provider=GoogleProvider(client=client)), case)


def _langchain(case: Case) -> Any:
    settings: dict[str, Any] = {"api_key": KEY, "base_url": case.url + "/v1", "model": "none"}
    return ChatOpenAI(**settings, **_once(case))


def _langchain_call(case: Case) -> object:
    chat = _langchain(case)
    return read(chat.stream(PROMPT)) if case.stream else chat.invoke(PROMPT)


async def _langchain_acall(case: Case) -> object:
    chat = _langchain(case)
    return await aread(chat.astream(PROMPT)) if case.stream else await chat.ainvoke(PROMPT)


async def _openai_agents(case: Case) -> object:
    client = AsyncOpenAI(api_key=KEY, base_url=case.url + "/v1", **_once(case))
    model = OpenAIChatCompletionsModel("none", client)
    agent: Any = agents.Agent(name="nobody", model=model)
    if not case.stream:
        return (await agents.Runner.run(agent, PROMPT)).final_output
    result = agents.Runner.run_streamed(agent, PROMPT)
    return await aread(result.stream_events())


ADAPTERS = [
    Adapter("pydantic_ai_openai", "pydantic-ai-slim", "openai", None, _pydantic_openai),
    Adapter("pydantic_ai_anthropic", "pydantic-ai-slim", "anthropic", None, _pydantic_anthropic),
    Adapter("pydantic_ai_google", "pydantic-ai-slim", "gemini", None, _pydantic_google),
    Adapter("langchain_openai", "langchain-openai", "openai", _langchain_call, _langchain_acall),
    Adapter("openai_agents", "openai-agents", "openai", None, _openai_agents),
]
