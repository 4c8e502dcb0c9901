"""anthropic."""

from __future__ import annotations

from typing import Any

import anthropic

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read


def _settings(case: Case) -> dict[str, Any]:
    return {"api_key": KEY, "base_url": case.url} | case.settings(
        timeout=case.timeout_s, max_retries=0
    )


def _ask(case: Case) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": "none", "max_tokens": 50, "messages": messages, "stream": case.stream}


def _call(case: Case) -> object:
    with anthropic.Anthropic(**_settings(case)) as client:
        got = client.messages.create(**_ask(case))
        return read(got) if case.stream else got


async def _acall(case: Case) -> object:
    async with anthropic.AsyncAnthropic(**_settings(case)) as client:
        got = await client.messages.create(**_ask(case))
        return await aread(got) if case.stream else got


ADAPTERS = [Adapter("anthropic", "anthropic", "anthropic", _call, _acall)]
