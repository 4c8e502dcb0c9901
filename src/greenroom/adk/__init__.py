"""Google's Agent Development Kit: pools as ADK's agents and models, ADK's agents as members.

It needs `pip install 'greenroom[adk]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenroom.adk.adk_agent import AdkAgent
    from greenroom.adk.pool_agent import PoolAgent, new_pool_agent
    from greenroom.adk.pool_model import PoolModel

__all__ = ["AdkAgent", "PoolAgent", "PoolModel", "new_pool_agent"]

_HOMES = {
    "AdkAgent": "greenroom.adk.adk_agent",
    "PoolAgent": "greenroom.adk.pool_agent",
    "PoolModel": "greenroom.adk.pool_model",
    "new_pool_agent": "greenroom.adk.pool_agent",
}


def __getattr__(name: str) -> object:
    """Each where it is first wanted: ADK takes seconds to import."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value: object = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[:2]
        if missing not in (["google"], ["google", "adk"], ["google", "genai"]):
            raise
        raise ModuleNotFoundError(
            "greenroom.adk needs google-adk: pip install 'greenroom[adk]'", name="google.adk"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
