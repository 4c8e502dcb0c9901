"""The built-in strategies, for settings of their own: `strategy=Failover(return_after_s=300.0)`.

A name, as in `strategy="failover"`, is the same with the defaults. An object belongs to one pool.
"""

import typing

from greenroom.actors.strategies import Adaptive as Adaptive
from greenroom.actors.strategies import Candidate as Candidate
from greenroom.actors.strategies import Cheapest as Cheapest
from greenroom.actors.strategies import ConsistentHash as ConsistentHash
from greenroom.actors.strategies import Failover as Failover
from greenroom.actors.strategies import LeastErrors as LeastErrors
from greenroom.actors.strategies import LeastLatency as LeastLatency
from greenroom.actors.strategies import LeastOutstanding as LeastOutstanding
from greenroom.actors.strategies import PickContext as PickContext
from greenroom.actors.strategies import PowerOfTwo as PowerOfTwo
from greenroom.actors.strategies import Priority as Priority
from greenroom.actors.strategies import RoundRobin as RoundRobin
from greenroom.actors.strategies import RoutingStrategy as RoutingStrategy
from greenroom.actors.strategies import UniformRandom as UniformRandom
from greenroom.actors.strategies import Weighted as Weighted

if not typing.TYPE_CHECKING:  # type checkers go by the names above, and would take no other list
    __all__ = sorted(name for name in globals() if name[0].isupper())
