"""The built-in strategies, for settings of their own: `strategy=Failover(return_after_s=300.0)`.

A name, as in `strategy="failover"`, is the same with the defaults. An object belongs to one pool.
"""

from __future__ import annotations

from greenroom.actors.strategies import (
    Adaptive,
    Candidate,
    ConsistentHash,
    Failover,
    LeastErrors,
    LeastLatency,
    LeastOutstanding,
    PickContext,
    PowerOfTwo,
    Priority,
    RoundRobin,
    RoutingStrategy,
    UniformRandom,
    Weighted,
)

__all__ = [
    "Adaptive",
    "Candidate",
    "ConsistentHash",
    "Failover",
    "LeastErrors",
    "LeastLatency",
    "LeastOutstanding",
    "PickContext",
    "PowerOfTwo",
    "Priority",
    "RoundRobin",
    "RoutingStrategy",
    "UniformRandom",
    "Weighted",
]
