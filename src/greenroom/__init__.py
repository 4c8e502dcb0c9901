"""greenroom: a supervised pool of agents."""

import typing as _typing

from loguru import logger as _logger

from greenroom import answers
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.handle.pool_stream import PoolStream
from greenroom.actors.runtime.clock import Clock, SystemClock
from greenroom.actors.runtime.future import AskTimeoutError, ForkedPoolError, PoolFuture
from greenroom.actors.strategies import Candidate, PickContext, RoutingStrategy
from greenroom.courier import JetStream, RedisStreams
from greenroom.fallback.agent_spec import AgentCreator, AgentRequest, MemberConfig
from greenroom.fallback.chain import FallbackChain
from greenroom.fallback.chain_run import EmptyChainError, FallbackResult
from greenroom.fallback.pool_executor import PoolExecutor
from greenroom.logs.log import log
from greenroom.messages import (
    AddMember,
    AgentHealth,
    AgentLostError,
    AgentStatus,
    AgentTypeError,
    AllPoolMembersFailedError,
    Apply,
    AttemptError,
    AttemptTimeoutError,
    CallContext,
    Cancel,
    CircuitState,
    Configure,
    DeadlineExceededError,
    DisableBreaker,
    Drain,
    Event,
    FailureKind,
    ForceOpen,
    GetStats,
    Limit,
    LimitStats,
    LoadBalanceStrategy,
    MapResult,
    Member,
    MemberCrashedError,
    MemberExistsError,
    MemberStats,
    PayloadError,
    PoolConfig,
    PoolError,
    PoolSaturatedError,
    PoolStats,
    PoolStoppedError,
    ReentrantAskError,
    RemoteError,
    RemoveMember,
    Reply,
    ReportedState,
    ReportMember,
    Request,
    RequestCancelledError,
    ResetAll,
    ResetMember,
    ResourceError,
    Restarted,
    SkipReason,
    StrategyError,
    StreamInterruptedError,
    Subscribe,
    TellNotStoredError,
    UnknownMemberError,
    UnsuccessfulResultError,
)
from greenroom.messages.pickling import RemoteCause
from greenroom.otel.telemetry import Telemetry, TelemetrySpan
from greenroom.pool.agent_pool import AgentPool
from greenroom.pool.per_process import PoolPerProcess
from greenroom.supervisors.circuit_breaker import CircuitBreaker, CircuitOpenError

_logger.disable("greenroom")

__version__: str
"""That of the installed package; without one (the code was copied into an app) `0+unknown`."""

if _typing.TYPE_CHECKING:
    from greenroom.remote.remote_agent import RemoteAgent as RemoteAgent
    from greenroom.shared import NatsState as NatsState
    from greenroom.shared import PostgresState as PostgresState
    from greenroom.shared import RedisState as RedisState
    from greenroom.shared import SqliteState as SqliteState
else:  # a type checker would take any name for one of greenroom's
    _LATER = {
        "NatsState": "greenroom.shared",
        "PostgresState": "greenroom.shared",
        "RedisState": "greenroom.shared",
        "RemoteAgent": "greenroom.remote",
        "SqliteState": "greenroom.shared",
    }

    def __getattr__(name: str) -> object:
        # Read when it is asked for: that takes longer than all the rest of some imports.
        if name in _LATER:
            from importlib import import_module

            return getattr(import_module(_LATER[name]), name)
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("greenroom")
        except PackageNotFoundError:
            return "0+unknown"


__all__ = [
    "AddMember",
    "AgentCreator",
    "AgentHealth",
    "AgentLostError",
    "AgentPool",
    "AgentRequest",
    "AgentStatus",
    "AgentTypeError",
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
    "Configure",
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
    "JetStream",
    "Limit",
    "LimitStats",
    "LoadBalanceStrategy",
    "MapResult",
    "Member",
    "MemberConfig",
    "MemberCrashedError",
    "MemberExistsError",
    "MemberStats",
    "NatsState",
    "PayloadError",
    "PickContext",
    "PoolConfig",
    "PoolError",
    "PoolExecutor",
    "PoolFuture",
    "PoolPerProcess",
    "PoolRef",
    "PoolSaturatedError",
    "PoolStats",
    "PoolStoppedError",
    "PoolStream",
    "PostgresState",
    "RedisState",
    "RedisStreams",
    "ReentrantAskError",
    "RemoteAgent",
    "RemoteCause",
    "RemoteError",
    "RemoveMember",
    "Reply",
    "ReportMember",
    "ReportedState",
    "Request",
    "RequestCancelledError",
    "ResetAll",
    "ResetMember",
    "ResourceError",
    "Restarted",
    "RoutingStrategy",
    "SkipReason",
    "SqliteState",
    "StrategyError",
    "StreamInterruptedError",
    "Subscribe",
    "SystemClock",
    "Telemetry",
    "TelemetrySpan",
    "TellNotStoredError",
    "UnknownMemberError",
    "UnsuccessfulResultError",
    "answers",
    "log",
]
