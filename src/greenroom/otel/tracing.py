"""Spans of OpenTelemetry: begun in the router's turn, told and ended in a thread of their own.

What begins a span runs samplers and the `on_start` of span processors, which must not wait. What
ends one may export it on the spot (a `SimpleSpanProcessor` does), and the app's hook may take its
time: neither is done in the router's turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from greenroom.actors.request.job import AttemptRole
from greenroom.actors.runtime.clock import Clock
from greenroom.messages.errors import summary
from greenroom.otel import conventions as names
from greenroom.otel.backlog import be_first_at_exit
from greenroom.otel.span_book import AttemptSpan, RequestSpan
from greenroom.otel.telemetry import AttributesHook, TelemetrySpan

_CLOCKS_MAY_DIFFER_S = 0.001
"""By how much the machine's two clocks may have moved apart before spans follow: one was set anew,
or the process stood still, which the pool's time leaves out.
"""

_NOWHERE = otel_context.Context()


@dataclass(slots=True, eq=False, repr=False)
class _Begun:
    """A span, and the context of OpenTelemetry in which it is the current one."""

    span: Span
    inside: otel_context.Context
    at_ns: int


class Tracing:
    """The spans of one pool.

    Args:
        hook: what the app adds to them.
        complain_once: says that the hook has raised.
    """

    def __init__(
        self,
        tracer: Tracer,
        pool: str,
        clock: Clock,
        hook: AttributesHook | None,
        complain_once: Callable[[str, BaseException], object],
    ) -> None:
        self._tracer = tracer
        self._pool = pool
        self._clock = clock
        self._hook = hook
        self._complain_once = complain_once
        self._request_name = f"{names.GEN_AI_INVOKE_AGENT} {pool}"
        self._ahead_s = clock.wall() - clock.now()
        self._is_recorded = False

    # -- in the router's turn

    def begin_request(self, request: RequestSpan, context: Context | None) -> None:
        # Never the context of the thread at hand: whoever has the turn need not be who asked.
        around = _NOWHERE if context is None else context.copy().run(otel_context.get_current)
        at_ns = self._wall_ns(request.began_at)
        span = self._tracer.start_span(
            self._request_name,
            around,
            SpanKind.INTERNAL,
            {
                names.GEN_AI_OPERATION_NAME: names.GEN_AI_INVOKE_AGENT,
                names.GEN_AI_AGENT_NAME: self._pool,
                names.POOL: self._pool,
                names.REQUEST_ID: request.request_id,
                names.REQUEST_STREAM: request.streams,
            },
            start_time=at_ns,
        )
        request.handle = _Begun(span, set_span_in_context(span, around), at_ns)
        if not self._is_recorded and span.is_recording():
            # The provider may have been set long after the pool's start.
            self._is_recorded = True
            be_first_at_exit()

    def begin_attempt(self, attempt: AttemptSpan, context: Context | None) -> Context | None:
        request: _Begun | None = attempt.request.handle
        if request is None:
            return None
        at_ns = max(self._wall_ns(attempt.began_at), request.at_ns)
        span = self._tracer.start_span(
            f"{names.ATTEMPT_SPAN} {attempt.member}",
            request.inside,
            SpanKind.INTERNAL,
            {
                names.POOL: self._pool,
                names.REQUEST_ID: attempt.request.request_id,
                names.MEMBER: attempt.member,
                names.ATTEMPT_NUMBER: attempt.number,
                names.ATTEMPT_ROLE: attempt.role.name.lower(),
                names.ATTEMPT_HEDGE: attempt.role is AttemptRole.HEDGE,
                names.ATTEMPT_TRIAL: attempt.trial,
                names.ATTEMPT_QUEUE_TIME: attempt.waited_s,
            },
            [_link(attempt, each) for each in attempt.beside if each.handle is not None],
            at_ns,
        )
        begun = attempt.handle = _Begun(span, set_span_in_context(span, request.inside), at_ns)
        inside = Context() if context is None else context.copy()
        inside.run(otel_context.attach, begun.inside)
        return inside

    def _wall_ns(self, at: float) -> int:
        """A moment of the pool's clock, in nanoseconds since the epoch."""
        ahead_s = self._clock.wall() - self._clock.now()
        if abs(ahead_s - self._ahead_s) > _CLOCKS_MAY_DIFFER_S:
            self._ahead_s = ahead_s
        return round((at + self._ahead_s) * 1e9)

    def mark_end(self, span: RequestSpan | AttemptSpan) -> None:
        """Note when it has ended, by the clocks as they are now."""
        begun: _Begun | None = span.handle
        if begun is not None and span.ended_at is not None:
            span.ended_ns = max(self._wall_ns(span.ended_at), begun.at_ns)

    # -- in the thread of its own

    def tell(self, ended: RequestSpan | AttemptSpan) -> None:
        """Say all that is known of a span, and end it."""
        begun: _Begun | None = ended.handle
        if begun is None:
            return
        span = begun.span
        try:
            if span.is_recording():
                span.set_attributes({**self._added(ended), **_said_of(ended)})
                for name, said, at in _events_of(ended):
                    span.add_event(name, said, self._wall_ns(at))
                if (status := _status_of(ended)) is not None:
                    span.set_status(status)
        finally:
            span.end(ended.ended_ns)

    def context_of(self, ended: RequestSpan | AttemptSpan) -> otel_context.Context | None:
        """Where the span is the current one, for the exemplars of metrics."""
        begun: _Begun | None = ended.handle
        return None if begun is None else begun.inside

    def _added(self, ended: RequestSpan | AttemptSpan) -> dict[str, Any]:
        """What the app adds."""
        if self._hook is None:
            return {}
        try:
            added: object = self._hook(_seen(self._pool, ended))
            if added is None:
                return {}
            if not isinstance(added, Mapping):
                kind = type(added).__name__
                raise TypeError(f"attributes must return a mapping or None, got a {kind}")
            return {
                key: value for key, value in added.items() if not key.startswith(names.RESERVED)
            }
        except BaseException as error:
            self._complain_once("the hook `attributes` of its telemetry raised (said once)", error)
            return {}


def _link(attempt: AttemptSpan, other: AttemptSpan) -> Link:
    hedges = attempt.role is AttemptRole.HEDGE and other.role is not AttemptRole.BESIDE
    relation = names.HEDGES if hedges else names.BESIDE
    return Link(other.handle.span.get_span_context(), {names.LINK_RELATION: relation})


def _said_of(ended: RequestSpan | AttemptSpan) -> dict[str, Any]:
    said: dict[str, Any]
    if isinstance(ended, RequestSpan):
        said = {
            names.REQUEST_OUTCOME: ended.outcome,
            names.REQUEST_ATTEMPTS: ended.attempts,
            names.REQUEST_QUEUE_TIME: ended.waited_s,
        }
        if ended.member is not None:
            said[names.MEMBER] = ended.member
    else:
        said = {names.ATTEMPT_OUTCOME: ended.outcome}
        if ended.kind is not None:
            said[names.FAILURE_KIND] = ended.kind.value
        if not ended.started:
            said[names.ATTEMPT_STARTED] = False
    error_type = error_type_of(ended)
    if error_type is not None:
        said[names.ERROR_TYPE] = error_type
    return said


def _events_of(ended: RequestSpan | AttemptSpan) -> list[tuple[str, dict[str, Any], float]]:
    if isinstance(ended, AttemptSpan):
        if ended.first_chunk is None:
            return []
        at, took_s = ended.first_chunk
        return [(names.FIRST_CHUNK, {names.GEN_AI_TIME_TO_FIRST_CHUNK: took_s}, at)]
    return [
        (names.QUEUED, {}, at) if pause_s is None else (names.PAUSED, {names.PAUSE: pause_s}, at)
        for at, pause_s in ended.steps
    ]


def _status_of(ended: RequestSpan | AttemptSpan) -> Status | None:
    """That of an error; what went well, or nobody wanted any more, has none."""
    if error_type_of(ended) is None:
        return None
    return Status(StatusCode.ERROR, summary(ended.error) or ended.outcome)


def error_type_of(ended: RequestSpan | AttemptSpan) -> str | None:
    """What `error.type` says: of an attempt its kind of failure, of a request the class of its
    error; None where there is no error to speak of.
    """
    if isinstance(ended, AttemptSpan):
        if ended.kind is not None:
            return ended.kind.value
        return ended.outcome if ended.outcome in _LATE else None
    if ended.outcome in ("answered", "cancelled") or ended.error is None:
        return None
    kind = type(ended.error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    module = "greenroom" if kind.__module__.startswith("greenroom.") else kind.__module__
    return f"{module}.{kind.__qualname__}"


_LATE = ("deadline", "attempt_timeout")


def _seen(pool: str, ended: RequestSpan | AttemptSpan) -> TelemetrySpan:
    assert ended.ended_at is not None
    request = ended if isinstance(ended, RequestSpan) else ended.request
    attempt = None if isinstance(ended, RequestSpan) else ended
    return TelemetrySpan(
        kind="request" if attempt is None else "attempt",
        pool=pool,
        request_id=request.request_id,
        outcome=ended.outcome,
        duration_s=ended.ended_at - ended.began_at,
        member=ended.member,
        attempt=None if attempt is None else attempt.number,
        failure=None if attempt is None or attempt.kind is None else attempt.kind.value,
        metadata=request.about,
    )
