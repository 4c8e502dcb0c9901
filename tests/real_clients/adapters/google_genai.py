"""google-genai."""

from __future__ import annotations

from typing import Any

from google import genai
from google.genai import types

from real_clients.case import KEY, PROMPT, Adapter, Case, aread, read


def _client(case: Case) -> Any:
    retries = types.HttpRetryOptions(attempts=1)
    settings = case.settings(timeout=int(case.timeout_s * 1000), retry_options=retries)
    return genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=case.url, **settings))


def _call(case: Case) -> object:
    client = _client(case)  # held: what is collected closes its connections under a call
    models = client.models
    if case.stream:
        return read(models.generate_content_stream(model="none", contents=PROMPT))
    return models.generate_content(model="none", contents=PROMPT)


async def _acall(case: Case) -> object:
    client = _client(case)
    models = client.aio.models
    if case.stream:
        return await aread(await models.generate_content_stream(model="none", contents=PROMPT))
    return await models.generate_content(model="none", contents=PROMPT)


ADAPTERS = [Adapter("google_genai", "google-genai", "gemini", _call, _acall)]
