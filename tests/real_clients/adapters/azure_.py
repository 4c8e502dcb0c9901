"""azure-ai-inference, on azure-core."""

from __future__ import annotations

from typing import Any

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.core.credentials import AzureKeyCredential

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read

_MESSAGES: Any = [{"role": "user", "content": PROMPT}]


def _settings(case: Case) -> dict[str, Any]:
    return {"endpoint": case.url, "credential": AzureKeyCredential(KEY)} | case.settings(
        retry_total=0, connection_timeout=case.timeout_s, read_timeout=case.timeout_s
    )


def _call(case: Case) -> object:
    with ChatCompletionsClient(**_settings(case)) as client:
        got: Any = client.complete(messages=_MESSAGES, model="none", stream=case.stream)
        return read(got) if case.stream else got


async def _acall(case: Case) -> object:
    async with AsyncChatCompletionsClient(**_settings(case)) as client:
        got: Any = await client.complete(messages=_MESSAGES, model="none", stream=case.stream)
        return await aread(got) if case.stream else got


ADAPTERS = [Adapter("azure_inference", "azure-ai-inference", "openai", _call, _acall)]
