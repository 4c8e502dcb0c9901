"""dashscope: it raises nothing for an HTTP failure, and returns an object with its status."""

from __future__ import annotations

from typing import Any

import dashscope
from dashscope.aigc.generation import AioGeneration

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read


def _ask(case: Case) -> dict[str, Any]:
    return {
        "model": "none",
        "messages": [{"role": "user", "content": PROMPT}],
        "api_key": KEY,
        "base_address": case.url,
        "result_format": "message",
        "stream": case.stream,
    } | case.settings(request_timeout=case.timeout_s)


def _call(case: Case) -> object:
    got: Any = dashscope.Generation.call(**_ask(case))
    return read(got) if case.stream else got


async def _acall(case: Case) -> object:
    got: Any = await AioGeneration.call(**_ask(case))
    return await aread(got) if case.stream else got


ADAPTERS = [Adapter("dashscope", "dashscope", "dashscope", _call, _acall)]
