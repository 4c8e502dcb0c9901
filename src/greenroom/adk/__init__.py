"""Google's Agent Development Kit (extra `adk`)."""

from greenroom.adk.adk_agent import AdkAgent
from greenroom.adk.pool_model import PoolModel

__all__ = ["AdkAgent", "PoolModel"]
