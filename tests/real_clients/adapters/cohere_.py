"""cohere."""

from __future__ import annotations

from typing import Any

import cohere

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read


def _settings(case: Case) -> dict[str, Any]:
    return {"api_key": KEY, "base_url": case.url} | case.settings(timeout=case.timeout_s)


def _ask(case: Case) -> dict[str, Any]:
    ask: dict[str, Any] = {"model": "none", "messages": [{"role": "user", "content": PROMPT}]}
    return ask | ({} if case.defaults else {"request_options": {"max_retries": 0}})


def _call(case: Case) -> object:
    client = cohere.ClientV2(**_settings(case))
    return read(client.chat_stream(**_ask(case))) if case.stream else client.chat(**_ask(case))


async def _acall(case: Case) -> object:
    client = cohere.AsyncClientV2(**_settings(case))
    if case.stream:
        return await aread(client.chat_stream(**_ask(case)))
    return await client.chat(**_ask(case))


ADAPTERS = [Adapter("cohere", "cohere", "cohere", _call, _acall)]
