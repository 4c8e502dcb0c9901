"""LiteLLM's Router over three deployments that answer with a `mock_response`.

Fair to it: the price list is the one in the package (no network), telemetry, debug output and its
loggers are off, nothing is retried, nothing cools down. What it does for every call all the same
(choosing, its own success callbacks, which the latency-based strategy needs, building a response
with token counts and a price) is what a user of it pays for, too, and what greenroom does not do:
the Router speaks to providers, greenroom to any callable. The model is one whose price it knows:
for others a call takes it longer. Its callbacks that lag behind a call are run by its loop during
the next ones. Failover: the first model group fails with a 500, the fallback is the second.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.peers.base import LimitedCall, Peer, Providers, Stream

litellm: Any = import_module("litellm")
litellm.telemetry = False
litellm.suppress_debug_info = True
litellm.set_verbose = False
for _name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
    logging.getLogger(_name).disabled = True

RETRIES, COOLDOWN_S = 10, 1.0
MODEL = "openai/gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "hello"}]


class Router(Peer):
    """Its `completion` and `acompletion`."""

    slow = True
    strategy: str

    def router(self, *, failing: bool = False, members: int = 3) -> Any:
        """A router whose deployments answer so."""
        groups = [("first", "litellm.InternalServerError")] if failing else []
        groups += [("agents", "hello")] * (members - len(groups))
        return litellm.Router(
            model_list=[self._deployment(*group) for group in groups],
            fallbacks=[{"first": ["agents"]}] if failing else [],
            routing_strategy=self.strategy,
            num_retries=0,
            disable_cooldowns=True,
        )

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        router, group = self.router(failing=failing, members=members), _group(failing)

        def ask(_: int) -> int:
            router.completion(group, MESSAGES)
            return 1 + failing

        yield ask

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        router, group = self.router(failing=failing, members=members), _group(failing)

        async def ask(_: int) -> int:
            await router.acompletion(group, MESSAGES)
            return 1 + failing

        yield ask

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        router = self.router()

        async def chunks(count: int) -> AsyncIterator[Any]:
            # Its mock cuts a text into threes; it breaks off where a chunk repeats itself.
            text = "".join(f"{i % 1_000:03d}" for i in range(count))
            stream = await router.acompletion("agents", MESSAGES, stream=True, mock_response=text)
            async for chunk in stream:
                yield chunk

        yield chunks

    def pick(self, strategy: str, members: int) -> Callable[[], Any]:
        """The choice of a deployment, as its `completion` makes it."""
        router = self.router(members=members)
        return lambda: router.get_available_deployment("agents", MESSAGES)

    @contextmanager
    def idle(self, members: int) -> Iterator[Any]:
        yield self.router(members=members)

    @asynccontextmanager
    async def limited(self, providers: Providers) -> AsyncIterator[LimitedCall]:
        if providers.fair:
            self._has_no_fairness()
        router = litellm.Router(
            model_list=[_provider(providers, name) for name in providers.names],
            routing_strategy=self.strategy,
            enable_pre_call_checks=True,
            num_retries=RETRIES,
            retry_after=0,
            cooldown_time=COOLDOWN_S * providers.pace,
            timeout=providers.deadline_s,
        )

        async def call(_: str) -> Any:
            return await router.acompletion("agents", MESSAGES)

        yield call

    def _deployment(self, group: str, answer: str) -> dict[str, Any]:
        settings = {"model": MODEL, "api_key": "none", "mock_response": answer}
        return {"model_name": group, "litellm_params": settings}


class SimpleShuffle(Router):
    """Its default: at random."""

    strategy = "simple-shuffle"


class UsageBased(Router):
    """By what has been used of `rpm` in this minute: the one that counts calls against a limit."""

    strategy = "usage-based-routing-v2"


def _provider(providers: Providers, name: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model": MODEL,
        "api_base": providers.base_url,
        "api_key": providers.key(name),
    }
    if providers.told is not None:
        settings["rpm"] = round(60 * providers.told)
    return {"model_name": "agents", "litellm_params": settings}


class LatencyBased(Router):
    """By recent latency, the nearest it has to greenroom's default."""

    strategy = "latency-based-routing"


def _group(failing: bool) -> str:
    return "first" if failing else "agents"
