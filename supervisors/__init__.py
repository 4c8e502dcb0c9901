"""The supervisor, the circuit breakers, the probes, the restarts."""

from greenroom.supervisors.circuit_breaker import CircuitBreaker, CircuitOpenError
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Permit, Transition
from greenroom.supervisors.pool_supervisor import PoolSupervisor

__all__ = [
    "Breaker",
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitOpenError",
    "Permit",
    "PoolSupervisor",
    "Transition",
]
