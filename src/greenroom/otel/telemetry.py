"""`greenroom.Telemetry`: how a pool tells OpenTelemetry of itself, and what an app may add."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check

AttributeValue = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int]
"""What an attribute of OpenTelemetry may be."""

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySpan:
    """What a span is about, for the hook that adds attributes to it. It has ended.

    Attributes:
        kind: whether it is that of a request, or of one attempt at it.
        pool: the pool's name.
        request_id: the request's id.
        outcome: how it ended, as its attribute says: see `docs/telemetry.md`.
        duration_s: how long it took, in seconds.
        member: who was given the attempt, or has answered the request; None where nobody has.
        attempt: the number of the attempt, the first one being 1; None of a request.
        failure: the kind of failure of an attempt; None where it has not failed.
        metadata: the request's own `metadata`, as the app has given it. The payload and the key
            are not to be had.
    """

    kind: Literal["request", "attempt"]
    pool: str
    request_id: str
    outcome: str
    duration_s: float
    member: str | None = None
    attempt: int | None = None
    failure: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


AttributesHook = Callable[[TelemetrySpan], Attributes | None]


class Flushed(Protocol):
    """What keeps the spans of one pool until they have been told."""

    def flushing(self) -> Callable[[float], bool]:
        """Have them told, without waiting; what is returned waits for so many seconds, and says
        whether they are.
        """


def flush_each(pools: Iterable[Flushed], timeout_s: float) -> bool:
    """Whether all of them have told what had ended, within that time: a pool that is stuck takes
    nothing of it from the others.
    """
    until = time.monotonic() + timeout_s
    asked = [pool.flushing() for pool in pools]
    told = [is_told(max(0.0, until - time.monotonic())) for is_told in asked]
    return all(told)


class Telemetry:
    """How a pool tells OpenTelemetry of itself: `AgentPool.start(..., telemetry=Telemetry())`.

    It can be given to any number of pools. Without a provider the global one is used, be it set
    before the pool starts or after.

    Args:
        attributes: called with a `TelemetrySpan` when a span has ended, in a thread of the pool's
            own; returns attributes to add to it. What it raises is logged once, and adds nothing.
        tracer_provider: of `opentelemetry.trace`; None: the global one.
        meter_provider: of `opentelemetry.metrics`; None: the global one.

    Raises:
        TypeError: a value of the wrong type, named with its field.
    """

    def __init__(
        self,
        *,
        attributes: AttributesHook | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        check.function("attributes", attributes, optional=True)
        if not _gives(tracer_provider, "get_tracer"):
            raise check.misfit("tracer_provider must be a TracerProvider or None", tracer_provider)
        if not _gives(meter_provider, "get_meter"):
            raise check.misfit("meter_provider must be a MeterProvider or None", meter_provider)
        self.attributes = attributes
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self._pools: weakref.WeakSet[Flushed] = weakref.WeakSet()
        self.renew_locks()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run at first, and in a child of a fork."""
        self._lock = threading.Lock()

    def used_by(self, pool: Flushed) -> None:
        """It has been given to a pool."""
        with self._lock:
            self._pools.add(pool)

    def flush(self, timeout: float = 5.0) -> bool:
        """Have all that has ended by now told to the providers, which may keep it for a while
        themselves: their own `force_flush` comes after this. The end of a pool does so by itself.

        Args:
            timeout: seconds to wait for that.

        Returns:
            Whether it was done in time.
        """
        check.number("timeout", timeout)
        with self._lock:
            pools = list(self._pools)
        return flush_each(pools, timeout)

    def __repr__(self) -> str:
        given = ("attributes", "tracer_provider", "meter_provider")
        shown = [name for name in given if getattr(self, name) is not None]
        return f"<Telemetry with {', '.join(shown) or 'the global providers'}>"


def _gives(provider: Any, method: str) -> bool:
    if isinstance(provider, type):  # a class has the method, and cannot be asked
        return False
    return provider is None or callable(getattr(provider, method, None))
