"""The catalogue of what is logged and what subscribers are told. No event carries a payload."""

from __future__ import annotations

from greenroom.messages.breaker_events import BreakerClosed as BreakerClosed
from greenroom.messages.breaker_events import BreakerHalfOpened as BreakerHalfOpened
from greenroom.messages.breaker_events import BreakerKept as BreakerKept
from greenroom.messages.breaker_events import BreakerOpened as BreakerOpened
from greenroom.messages.breaker_events import BreakerSpared as BreakerSpared
from greenroom.messages.event_base import Event as Event
from greenroom.messages.loop_events import LoopEnded as LoopEnded
from greenroom.messages.loop_events import LoopRecovered as LoopRecovered
from greenroom.messages.loop_events import LoopReplaced as LoopReplaced
from greenroom.messages.loop_events import LoopStalled as LoopStalled
from greenroom.messages.member_events import HealthChanged as HealthChanged
from greenroom.messages.member_events import MemberAgentLost as MemberAgentLost
from greenroom.messages.member_events import MemberAgentRemade as MemberAgentRemade
from greenroom.messages.member_events import MemberCreateFailed as MemberCreateFailed
from greenroom.messages.member_events import MemberDraining as MemberDraining
from greenroom.messages.member_events import MemberFailed as MemberFailed
from greenroom.messages.member_events import MemberGaveUp as MemberGaveUp
from greenroom.messages.member_events import MemberHeard as MemberHeard
from greenroom.messages.member_events import MemberQueueing as MemberQueueing
from greenroom.messages.member_events import MemberReachable as MemberReachable
from greenroom.messages.member_events import MemberRestarted as MemberRestarted
from greenroom.messages.member_events import MemberRested as MemberRested
from greenroom.messages.member_events import MemberResting as MemberResting
from greenroom.messages.member_events import MemberStarted as MemberStarted
from greenroom.messages.member_events import MemberStopped as MemberStopped
from greenroom.messages.member_events import MemberUnreachable as MemberUnreachable
from greenroom.messages.member_events import ProbeFailed as ProbeFailed
from greenroom.messages.member_events import ProbeSucceeded as ProbeSucceeded
from greenroom.messages.pool_events import PoolConfigured as PoolConfigured
from greenroom.messages.pool_events import PoolDrained as PoolDrained
from greenroom.messages.pool_events import PoolDraining as PoolDraining
from greenroom.messages.pool_events import PoolDrainTimedOut as PoolDrainTimedOut
from greenroom.messages.pool_events import PoolPaused as PoolPaused
from greenroom.messages.pool_events import PoolStarted as PoolStarted
from greenroom.messages.pool_events import PoolStopped as PoolStopped
from greenroom.messages.pool_events import SharedStateAway as SharedStateAway
from greenroom.messages.pool_events import SharedStateBack as SharedStateBack
from greenroom.messages.request_events import AttemptFailed as AttemptFailed
from greenroom.messages.request_events import AttemptLost as AttemptLost
from greenroom.messages.request_events import AttemptStarted as AttemptStarted
from greenroom.messages.request_events import AttemptSucceeded as AttemptSucceeded
from greenroom.messages.request_events import DeadLetter as DeadLetter
from greenroom.messages.request_events import Failover as Failover
from greenroom.messages.request_events import HedgeStarted as HedgeStarted
from greenroom.messages.request_events import RequestCompleted as RequestCompleted
from greenroom.messages.request_events import RequestExhausted as RequestExhausted
from greenroom.messages.request_events import RequestRejected as RequestRejected
from greenroom.messages.request_events import RetryScheduled as RetryScheduled
from greenroom.messages.tell_events import CourierAway as CourierAway
from greenroom.messages.tell_events import CourierBack as CourierBack
from greenroom.messages.tell_events import TellDead as TellDead
from greenroom.messages.tell_events import TellFailed as TellFailed

CATALOGUE: tuple[type[Event], ...] = (
    PoolStarted,
    PoolStopped,
    PoolDraining,
    PoolDrained,
    PoolDrainTimedOut,
    PoolConfigured,
    PoolPaused,
    MemberStarted,
    MemberDraining,
    MemberStopped,
    MemberCreateFailed,
    MemberAgentLost,
    MemberAgentRemade,
    MemberFailed,
    MemberRestarted,
    MemberGaveUp,
    MemberUnreachable,
    MemberReachable,
    MemberHeard,
    SharedStateAway,
    SharedStateBack,
    CourierAway,
    CourierBack,
    TellFailed,
    TellDead,
    AttemptStarted,
    AttemptSucceeded,
    AttemptFailed,
    AttemptLost,
    HedgeStarted,
    RetryScheduled,
    Failover,
    BreakerOpened,
    BreakerHalfOpened,
    BreakerKept,
    BreakerSpared,
    BreakerClosed,
    MemberResting,
    MemberRested,
    MemberQueueing,
    RequestRejected,
    ProbeSucceeded,
    ProbeFailed,
    HealthChanged,
    LoopStalled,
    LoopRecovered,
    LoopReplaced,
    LoopEnded,
    RequestCompleted,
    RequestExhausted,
    DeadLetter,
)
"""Every event there is, in the order of the page."""
