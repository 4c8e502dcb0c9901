"""ollama."""

from __future__ import annotations

from typing import Any

import ollama

from real_clients.case import PROMPT, Adapter, Case, aread, read

_ASK: dict[str, Any] = {"model": "none", "messages": [{"role": "user", "content": PROMPT}]}


def _call(case: Case) -> object:
    client = ollama.Client(host=case.url, **case.settings(timeout=case.timeout_s))
    got: Any = client.chat(**_ASK, stream=case.stream)
    return read(got) if case.stream else got


async def _acall(case: Case) -> object:
    client = ollama.AsyncClient(host=case.url, **case.settings(timeout=case.timeout_s))
    got: Any = await client.chat(**_ASK, stream=case.stream)
    return await aread(got) if case.stream else got


ADAPTERS = [Adapter("ollama", "ollama", "ollama", _call, _acall)]
