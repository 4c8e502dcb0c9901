"""Routing strategies. They pick one of the candidates and know nothing else. Pure."""

from __future__ import annotations

from greenroom.actors.strategies.balance import Cheapest as Cheapest
from greenroom.actors.strategies.balance import LeastErrors as LeastErrors
from greenroom.actors.strategies.balance import LeastOutstanding as LeastOutstanding
from greenroom.actors.strategies.balance import Priority as Priority
from greenroom.actors.strategies.chance import PowerOfTwo as PowerOfTwo
from greenroom.actors.strategies.chance import UniformRandom as UniformRandom
from greenroom.actors.strategies.failover import Failover as Failover
from greenroom.actors.strategies.free_members import FreeMembers as FreeMembers
from greenroom.actors.strategies.hashing import ConsistentHash as ConsistentHash
from greenroom.actors.strategies.protocol import Candidate as Candidate
from greenroom.actors.strategies.protocol import PickContext as PickContext
from greenroom.actors.strategies.protocol import RoutingStrategy as RoutingStrategy
from greenroom.actors.strategies.speed import Adaptive as Adaptive
from greenroom.actors.strategies.speed import LeastLatency as LeastLatency
from greenroom.actors.strategies.turns import RoundRobin as RoundRobin
from greenroom.actors.strategies.turns import Weighted as Weighted
from greenroom.messages import _validate as check
from greenroom.messages.status import LoadBalanceStrategy

_BUILT_IN: dict[LoadBalanceStrategy, type[RoutingStrategy]] = {
    LoadBalanceStrategy(each.name): each
    for each in (
        RoundRobin,
        UniformRandom,
        Weighted,
        Priority,
        LeastLatency,
        LeastErrors,
        LeastOutstanding,
        Adaptive,
        PowerOfTwo,
        ConsistentHash,
        Failover,
        Cheapest,
    )
}


def strategy_for(spec: LoadBalanceStrategy | str | RoutingStrategy) -> RoutingStrategy:
    """A new strategy of that name, or the given object as it is.

    Raises:
        ValueError: no strategy has that name.
        TypeError: not a name, and not an object with a `pick` method.
    """
    if isinstance(spec, str):
        try:
            built_in = _BUILT_IN[LoadBalanceStrategy(spec)]
        except ValueError:
            names = ", ".join(repr(each.value) for each in LoadBalanceStrategy)
            raise ValueError(f"strategy must be one of {names}, got {spec!r}") from None
        return built_in()
    if isinstance(spec, type):
        raise TypeError(
            f"strategy must be an instance, got the class {spec.__name__}: "
            f"write strategy={spec.__name__}(...)"
        )
    if not callable(getattr(spec, "pick", None)):
        rule = "strategy must be a name or an object with a method pick(candidates, context, rng)"
        raise check.misfit(rule, spec)
    return spec


def is_built_in(strategy: RoutingStrategy) -> bool:
    """Whether it is one of this package as it is: a subclass may do as it likes."""
    return type(strategy) in _BUILT_IN.values()


def strategy_name(strategy: RoutingStrategy) -> str:
    """What to call it in statistics and logs: its `name`, else the name of its class."""
    name = getattr(strategy, "name", None)
    return name if isinstance(name, str) and name else type(strategy).__name__
