"""mistralai."""

from __future__ import annotations

from typing import Any

from mistralai.client import Mistral

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read

_ASK: dict[str, Any] = {"model": "none", "messages": [{"role": "user", "content": PROMPT}]}


def _client(case: Case) -> Any:
    settings = case.settings(timeout_ms=int(case.timeout_s * 1000), retry_config=None)
    return Mistral(api_key=KEY, server_url=case.url, **settings)


def _call(case: Case) -> object:
    with _client(case) as client:
        return read(client.chat.stream(**_ASK)) if case.stream else client.chat.complete(**_ASK)


async def _acall(case: Case) -> object:
    async with _client(case) as client:
        if case.stream:
            return await aread(await client.chat.stream_async(**_ASK))
        return await client.chat.complete_async(**_ASK)


ADAPTERS = [Adapter("mistral", "mistralai", "mistral", _call, _acall)]
