"""Google's Agent Development Kit (extra `adk`)."""

from greenroom.adk.pool_model import PoolModel

__all__ = ["PoolModel"]
