"""The pool router, the member actors, the routing strategies."""

from greenroom.actors.clock import Clock, SystemClock
from greenroom.actors.future import AskTimeoutError, DeadPoolError, PoolFuture
from greenroom.actors.load import LoadEstimate
from greenroom.actors.member import AgentActor
from greenroom.actors.ref import PoolRef
from greenroom.actors.router import PoolRouter
from greenroom.actors.strategies import Candidate, PickContext, RoutingStrategy, strategy_for

__all__ = [
    "AgentActor",
    "AskTimeoutError",
    "Candidate",
    "Clock",
    "DeadPoolError",
    "LoadEstimate",
    "PickContext",
    "PoolFuture",
    "PoolRef",
    "PoolRouter",
    "RoutingStrategy",
    "SystemClock",
    "strategy_for",
]
