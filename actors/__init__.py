"""The pool router, the member actors, the routing strategies."""

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.actors.router.pool_router import PoolRouter
from greenroom.actors.routing.load_estimate import LoadEstimate
from greenroom.actors.runtime.clock import Clock, SystemClock
from greenroom.actors.runtime.future import AskTimeoutError, DeadPoolError, PoolFuture
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
