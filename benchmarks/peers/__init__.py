"""Who is measured. A peer's file is imported in that peer's processes only."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from benchmarks.model import NotMeasured

PEERS = {
    "greenroom": ("benchmarks.peers.greenroom_pool", "Greenroom"),
    "greenroom-own": ("benchmarks.peers.greenroom_pool", "GreenroomOwn"),
    "greenroom-auto": ("benchmarks.peers.greenroom_pool", "GreenroomAuto"),
    "greenroom-uvloop": ("benchmarks.peers.greenroom_pool", "GreenroomUvloop"),
    "pykka": ("benchmarks.peers.pykka_actor", "PykkaActor"),
    "threads": ("benchmarks.peers.thread_pool", "ThreadPool"),
    "bare": ("benchmarks.peers.bare_router", "BareRouter"),
    "bare-uvloop": ("benchmarks.peers.bare_router", "BareRouterUvloop"),
    "aiohttp": ("benchmarks.peers.bare_aiohttp", "BareAiohttp"),
    "nats": ("benchmarks.peers.bare_nats", "BareNats"),
    "asyncio": ("benchmarks.peers.bare_asyncio", "BareAsyncio"),
    "litellm": ("benchmarks.peers.litellm_router", "SimpleShuffle"),
    "litellm-latency": ("benchmarks.peers.litellm_router", "LatencyBased"),
    "litellm-usage": ("benchmarks.peers.litellm_router", "UsageBased"),
    "nopanic": ("benchmarks.peers.nopanic_policies", "Nopanic"),
    "tokentaxi": ("benchmarks.peers.tokentaxi_router", "TokenTaxi"),
    "loop": ("benchmarks.peers.plain_loop", "PlainLoop"),
    "loop-waiting": ("benchmarks.peers.plain_loop", "WaitingLoop"),
    "pydantic-ai": ("benchmarks.peers.pydantic_ai_fallback", "PydanticAiFallback"),
    "langchain": ("benchmarks.peers.langchain_fallbacks", "LangChainFallbacks"),
    "ray": ("benchmarks.peers.ray_actor", "RayActor"),
    "thespian": ("benchmarks.peers.thespian_actor", "ThespianActor"),
}


QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "CRITICAL",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""No network, no telemetry, no warnings: read by the peers when they are imported."""


def load(name: str) -> Any:
    """The peer of that name.

    Raises:
        NotMeasured: it is not installed, or cannot be imported; the text says which.
    """
    os.environ.update(QUIET)
    module, kind = PEERS[name]
    try:
        return getattr(import_module(module), kind)()
    except ModuleNotFoundError as error:
        raise NotMeasured(f"{error.name} is not installed") from error
    except ImportError as error:
        raise NotMeasured(f"it cannot be imported: {error}") from error
