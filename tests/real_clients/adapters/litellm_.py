"""litellm, in front of four providers."""

from __future__ import annotations

from typing import Any

import litellm

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read

litellm.suppress_debug_info = True
litellm.telemetry = False
_MODELS = {
    "openai": ("openai/none", "/v1"),
    "anthropic": ("anthropic/none", ""),
    "gemini": ("gemini/none", ""),
    "ollama": ("ollama_chat/none", ""),
}


def _ask(case: Case) -> dict[str, Any]:
    provider = case.url.rpartition("~")[2]
    model, path = _MODELS[provider]
    return {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "api_key": KEY,
        "api_base": case.url + path,
        "stream": case.stream,
    } | case.settings(timeout=case.timeout_s, num_retries=0, max_retries=0)


def _call(case: Case) -> object:
    got: Any = litellm.completion(**_ask(case))
    return read(got) if case.stream else got


async def _acall(case: Case) -> object:
    got: Any = await litellm.acompletion(**_ask(case))
    return await aread(got) if case.stream else got


ADAPTERS = [
    Adapter(f"litellm_{provider}", "litellm", provider, _call, _acall) for provider in _MODELS
]
