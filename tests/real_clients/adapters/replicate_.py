"""replicate."""

from __future__ import annotations

from typing import Any

import httpx
import replicate

from real_clients.case import KEY, PROMPT, Adapter, Case


def _client(case: Case) -> Any:
    settings = case.settings(timeout=httpx.Timeout(case.timeout_s))
    return replicate.Client(api_token=KEY, base_url=case.url, **settings)


def _call(case: Case) -> object:
    return _client(case).run("nobody/none", input={"prompt": PROMPT}, use_file_output=False)


async def _acall(case: Case) -> object:
    return await _client(case).async_run(
        "nobody/none", input={"prompt": PROMPT}, use_file_output=False
    )


ADAPTERS = [Adapter("replicate", "replicate", "replicate", _call, _acall, streams=False)]
