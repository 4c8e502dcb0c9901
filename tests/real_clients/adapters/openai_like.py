"""openai, and the clients generated in the same way: groq, together."""

from __future__ import annotations

from typing import Any

import groq
import openai
import together

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read

_MESSAGES: Any = [{"role": "user", "content": PROMPT}]


def _settings(case: Case) -> dict[str, Any]:
    return {"api_key": KEY, "base_url": case.url + "/v1"} | case.settings(
        timeout=case.timeout_s, max_retries=0
    )


def _chat(client: Any, case: Case) -> object:
    got = client.chat.completions.create(model="none", messages=_MESSAGES, stream=case.stream)
    return read(got) if case.stream else got


async def _achat(client: Any, case: Case) -> object:
    got = await client.chat.completions.create(model="none", messages=_MESSAGES, stream=case.stream)
    return await aread(got) if case.stream else got


def _openai(case: Case) -> object:
    with openai.OpenAI(**_settings(case)) as client:
        return _chat(client, case)


async def _aopenai(case: Case) -> object:
    async with openai.AsyncOpenAI(**_settings(case)) as client:
        return await _achat(client, case)


def _responses(case: Case) -> object:
    with openai.OpenAI(**_settings(case)) as client:
        got: Any = client.responses.create(model="none", input=PROMPT, stream=case.stream)
        return read(got) if case.stream else got


async def _aresponses(case: Case) -> object:
    async with openai.AsyncOpenAI(**_settings(case)) as client:
        got: Any = await client.responses.create(model="none", input=PROMPT, stream=case.stream)
        return await aread(got) if case.stream else got


def _groq(case: Case) -> object:
    with groq.Groq(**_settings(case)) as client:
        return _chat(client, case)


async def _agroq(case: Case) -> object:
    async with groq.AsyncGroq(**_settings(case)) as client:
        return await _achat(client, case)


def _together(case: Case) -> object:
    with together.Together(**_settings(case)) as client:
        return _chat(client, case)


async def _atogether(case: Case) -> object:
    async with together.AsyncTogether(**_settings(case)) as client:
        return await _achat(client, case)


ADAPTERS = [
    Adapter("openai", "openai", "openai", _openai, _aopenai),
    Adapter("openai_responses", "openai", "openai", _responses, _aresponses),
    Adapter("openai_vllm", "openai", "vllm", _openai, _aopenai),
    Adapter("openai_llamacpp", "openai", "llamacpp", _openai, _aopenai),
    Adapter("openai_openrouter", "openai", "openrouter", _openai, _aopenai),
    Adapter("groq", "groq", "groq", _groq, _agroq),
    Adapter("together", "together", "together", _together, _atogether),
]
