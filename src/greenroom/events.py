"""The events of a pool by name: `from greenroom.events import BreakerOpened`."""

import typing

from greenroom.messages.events import CATALOGUE as CATALOGUE
from greenroom.messages.events import AttemptFailed as AttemptFailed
from greenroom.messages.events import AttemptLost as AttemptLost
from greenroom.messages.events import AttemptStarted as AttemptStarted
from greenroom.messages.events import AttemptSucceeded as AttemptSucceeded
from greenroom.messages.events import BreakerClosed as BreakerClosed
from greenroom.messages.events import BreakerHalfOpened as BreakerHalfOpened
from greenroom.messages.events import BreakerKept as BreakerKept
from greenroom.messages.events import BreakerOpened as BreakerOpened
from greenroom.messages.events import BreakerSpared as BreakerSpared
from greenroom.messages.events import CourierAway as CourierAway
from greenroom.messages.events import CourierBack as CourierBack
from greenroom.messages.events import DeadLetter as DeadLetter
from greenroom.messages.events import Event as Event
from greenroom.messages.events import Failover as Failover
from greenroom.messages.events import HealthChanged as HealthChanged
from greenroom.messages.events import HedgeStarted as HedgeStarted
from greenroom.messages.events import LoopEnded as LoopEnded
from greenroom.messages.events import LoopRecovered as LoopRecovered
from greenroom.messages.events import LoopReplaced as LoopReplaced
from greenroom.messages.events import LoopStalled as LoopStalled
from greenroom.messages.events import MemberAgentLost as MemberAgentLost
from greenroom.messages.events import MemberAgentRemade as MemberAgentRemade
from greenroom.messages.events import MemberCreateFailed as MemberCreateFailed
from greenroom.messages.events import MemberDraining as MemberDraining
from greenroom.messages.events import MemberFailed as MemberFailed
from greenroom.messages.events import MemberGaveUp as MemberGaveUp
from greenroom.messages.events import MemberHeard as MemberHeard
from greenroom.messages.events import MemberQueueing as MemberQueueing
from greenroom.messages.events import MemberReachable as MemberReachable
from greenroom.messages.events import MemberRestarted as MemberRestarted
from greenroom.messages.events import MemberRested as MemberRested
from greenroom.messages.events import MemberResting as MemberResting
from greenroom.messages.events import MemberStarted as MemberStarted
from greenroom.messages.events import MemberStopped as MemberStopped
from greenroom.messages.events import MemberUnreachable as MemberUnreachable
from greenroom.messages.events import PoolConfigured as PoolConfigured
from greenroom.messages.events import PoolDrained as PoolDrained
from greenroom.messages.events import PoolDraining as PoolDraining
from greenroom.messages.events import PoolDrainTimedOut as PoolDrainTimedOut
from greenroom.messages.events import PoolPaused as PoolPaused
from greenroom.messages.events import PoolStarted as PoolStarted
from greenroom.messages.events import PoolStopped as PoolStopped
from greenroom.messages.events import ProbeFailed as ProbeFailed
from greenroom.messages.events import ProbeSucceeded as ProbeSucceeded
from greenroom.messages.events import RequestCompleted as RequestCompleted
from greenroom.messages.events import RequestExhausted as RequestExhausted
from greenroom.messages.events import RequestRejected as RequestRejected
from greenroom.messages.events import RetryScheduled as RetryScheduled
from greenroom.messages.events import SharedStateAway as SharedStateAway
from greenroom.messages.events import SharedStateBack as SharedStateBack
from greenroom.messages.events import TellDead as TellDead
from greenroom.messages.events import TellFailed as TellFailed

if not typing.TYPE_CHECKING:  # type checkers go by the names above, and would take no other list
    __all__ = sorted(name for name in globals() if name[0].isupper())
