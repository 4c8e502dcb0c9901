"""tokentaxi's LLMRouter over two functions of ours, registered as its page has it.

Its limits are calls a minute (`rpm`); a window of its own for all providers (`window_seconds`) is
left at the 60 s that the name means. Limits that nobody is told are given as many as never matter.
Its breaker opens for a second, the least it can, instead of thirty. It asks each provider once, in
the order of its scores, and never waits. Not fetched: its price list
(from openrouter.ai, before the first request); tiktoken's word list is that of LiteLLM's wheel.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.peers import calls
from benchmarks.peers.base import LimitedCall, Peer, Providers

tokentaxi: Any = import_module("tokentaxi")

MANY = 1_000_000
MESSAGES = [{"role": "user", "content": "hello"}]


class TokenTaxi(Peer):
    """`LLMRouter.chat`."""

    def __init__(self) -> None:
        found = find_spec("litellm")
        if found is not None and found.origin is not None:
            words = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
            os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(words))

    @asynccontextmanager
    async def limited(self, providers: Providers) -> AsyncIterator[LimitedCall]:
        if providers.fair:
            self._has_no_fairness()
        router = tokentaxi.LLMRouter.from_dict(
            {"providers": [], "circuit_breaker": {"cooldown_seconds": math.ceil(providers.pace)}}
        )
        router.pricing.fetch_pricing = _nothing
        rpm = MANY if providers.told is None else round(60 * providers.told)
        for name in providers.names:
            client = _client(providers, name)
            router.register(name, client=client, model="gpt-4o-mini", rpm=rpm, tpm=1_000 * MANY)

        async def call(_: str) -> Any:
            return await router.chat(tokentaxi.RouterRequest(messages=MESSAGES))

        yield call


def _client(providers: Providers, name: str) -> Any:
    async def answer(**_: Any) -> tuple[str, int, int]:
        return await calls.call(providers, name), 8, 1

    return answer


async def _nothing() -> None:
    pass
