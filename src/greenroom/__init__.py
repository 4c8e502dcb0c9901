"""greenroom: a supervised pool of agents."""

from loguru import logger as _logger

from greenroom import answers
from greenroom.actors.clock import Clock, SystemClock
from greenroom.actors.future import AskTimeoutError, ForkedPoolError, PoolFuture
from greenroom.actors.ref import PoolRef
from greenroom.actors.strategies import Candidate, PickContext, RoutingStrategy
from greenroom.actors.stream import PoolStream
from greenroom.agentspec import AgentCreator, AgentRequest, MemberConfig
from greenroom.executor import PoolExecutor
from greenroom.fallback import FallbackChain
from greenroom.fallback_run import EmptyChainError, FallbackResult
from greenroom.logs import log
from greenroom.messages import (
    AddMember,
    AgentHealth,
    AgentStatus,
    AllPoolMembersFailedError,
    Apply,
    AttemptError,
    AttemptTimeoutError,
    CallContext,
    Cancel,
    CircuitState,
    DeadlineExceededError,
    DisableBreaker,
    Drain,
    Event,
    FailureKind,
    ForceOpen,
    GetStats,
    LoadBalanceStrategy,
    Member,
    MemberCrashedError,
    MemberExistsError,
    MemberStats,
    PoolConfig,
    PoolError,
    PoolSaturatedError,
    PoolStats,
    PoolStoppedError,
    RemoveMember,
    Reply,
    Request,
    RequestCancelledError,
    ResetAll,
    ResetMember,
    Restarted,
    SkipReason,
    StrategyError,
    StreamInterruptedError,
    Subscribe,
    UnknownMemberError,
    UnsuccessfulResultError,
)
from greenroom.messages.pickling import RemoteCause
from greenroom.pool import AgentPool
from greenroom.supervisors.circuit_breaker import CircuitBreaker, CircuitOpenError

_logger.disable("greenroom")

__all__ = [
    "AddMember",
    "AgentCreator",
    "AgentHealth",
    "AgentPool",
    "AgentRequest",
    "AgentStatus",
    "AllPoolMembersFailedError",
    "Apply",
    "AskTimeoutError",
    "AttemptError",
    "AttemptTimeoutError",
    "CallContext",
    "Cancel",
    "Candidate",
    "CircuitBreaker",
    "CircuitOpenError",
    "CircuitState",
    "Clock",
    "DeadlineExceededError",
    "DisableBreaker",
    "Drain",
    "EmptyChainError",
    "Event",
    "FailureKind",
    "FallbackChain",
    "FallbackResult",
    "ForceOpen",
    "ForkedPoolError",
    "GetStats",
    "LoadBalanceStrategy",
    "Member",
    "MemberConfig",
    "MemberCrashedError",
    "MemberExistsError",
    "MemberStats",
    "PickContext",
    "PoolConfig",
    "PoolError",
    "PoolExecutor",
    "PoolFuture",
    "PoolRef",
    "PoolSaturatedError",
    "PoolStats",
    "PoolStoppedError",
    "PoolStream",
    "RemoteCause",
    "RemoveMember",
    "Reply",
    "Request",
    "RequestCancelledError",
    "ResetAll",
    "ResetMember",
    "Restarted",
    "RoutingStrategy",
    "SkipReason",
    "StrategyError",
    "StreamInterruptedError",
    "Subscribe",
    "SystemClock",
    "UnknownMemberError",
    "UnsuccessfulResultError",
    "answers",
    "log",
]
