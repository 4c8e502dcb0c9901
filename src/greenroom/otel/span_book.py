"""Which spans are open: one for each request, one for each attempt, each ended exactly once.

It is driven by the steps of a `RequestFlow`; how a span is begun and told is the affair of a
`Spans`. A request's span covers its life in the pool; an attempt's the time from when it was given
to a member until the pool knew how it ended: its answer, its failure, or that the request went on
without it. A call that then goes on all the same (a thread cannot be stopped) has no open span,
though spans of its agent's may still come.
"""

from __future__ import annotations

from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from greenroom.actors.request.flow_observer import Ended
from greenroom.actors.request.job import Attempt, AttemptRole, Failure, Job
from greenroom.messages.config import PoolConfig
from greenroom.messages.requests import Acquire
from greenroom.messages.status import CancelReason, FailureKind
from greenroom.messages.supervision import RoutingSnapshot

RequestOutcome = Ended
"""How a request's span ends."""

AttemptOutcome = Literal[
    "answered",
    "failed",
    "lost_race",
    "caller",
    "deadline",
    "stopping",
    "attempt_timeout",
    "loop_lost",
    "loop_ended",
    "unknown",
]
"""How an attempt's span ends; but for the first two and the last a `CancelReason`. `unknown`: all
that is known is that its slot is free.
"""


@dataclass(slots=True, eq=False, repr=False)
class RequestSpan:
    """A request, as far as its span and its metrics tell of it. Times are of the pool's clock.

    Attributes:
        about: the app's own `metadata` of the request: for the app's hook alone.
        handle: what a `Spans` keeps of it.
        waited_s: how long it has waited for members, altogether.
        steps: when it began to wait or to pause, and of a pause how long that was meant to take.
        ended_at: None as long as it goes on.
        ended_ns: the same in nanoseconds since the epoch, if a `Spans` has said so.
        member: whose answer it has.
    """

    request_id: str
    streams: bool
    about: Any
    began_at: float
    handle: Any = None
    queued_at: float | None = None
    waited_s: float = 0.0
    steps: list[tuple[float, float | None]] = field(default_factory=list)
    attempts: int = 0
    ended_at: float | None = None
    ended_ns: int | None = None
    outcome: RequestOutcome = "failed"
    error: BaseException | None = None
    member: str | None = None


@dataclass(slots=True, eq=False, repr=False)
class AttemptSpan:
    """The same of an attempt.

    Attributes:
        beside: the open attempts that it joins; of a first one none.
        is_retry: whether the request has had another attempt before, which failed.
        waited_s: how long its request has waited for it.
        first_chunk: when its first chunk came, and how long that took.
        kind: of its failure; None where it has not failed.
        started: whether its agent may have begun.
    """

    request: RequestSpan
    member: str
    number: int
    role: AttemptRole
    trial: bool
    is_retry: bool
    began_at: float
    waited_s: float
    beside: tuple[AttemptSpan, ...] = ()
    handle: Any = None
    first_chunk: tuple[float, float] | None = None
    ended_at: float | None = None
    ended_ns: int | None = None
    outcome: AttemptOutcome = "unknown"
    kind: FailureKind | None = None
    error: BaseException | None = None
    started: bool = True


class Spans(Protocol):
    """Where spans are begun and ended, and measured: in the router's turn, so nothing waits."""

    def begin_request(self, request: RequestSpan, context: Context | None) -> None:
        """One begins; `context` is that of whoever asked, None where that is not carried."""

    def begin_attempt(self, attempt: AttemptSpan, context: Context | None) -> Context | None:
        """One begins; returns the context that its agent is to begin in a copy of, None for that of
        whoever asked.
        """

    def end(self, span: RequestSpan | AttemptSpan) -> None:
        """One has ended: nothing of it changes any more."""

    def turned_away(self, error: BaseException) -> None:
        """A request was not taken in: it has no span."""


class SpanBook:
    """An observer of a pool's requests that has each step told as a part of a span.

    Attributes:
        open_requests: how many requests have no end yet. Any thread may look.
    """

    in_time = False

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._requests: dict[Job, RequestSpan] = {}
        self._attempts: dict[Attempt, AttemptSpan] = {}
        self._closed = False

    @property
    def open_requests(self) -> int:
        return len(self._requests)

    @property
    def open_spans(self) -> int:
        """How many spans there are that have no end yet."""
        return len(self._requests) + len(self._attempts)

    # -- requests

    def accepted(self, job: Job, now: float) -> None:
        if self._closed:
            return
        work = job.work
        streams = work.stream if isinstance(work, Acquire) else job.channel is not None
        request = RequestSpan(job.id, streams, work.metadata, now)
        self._requests[job] = request  # first: whatever raises below, it has its end
        self._spans.begin_request(request, job.context)

    def turned_away(self, request_id: str, error: BaseException, now: float) -> None:
        self._spans.turned_away(error)

    def queued(self, job: Job, now: float) -> None:
        request = self._requests.get(job)
        if request is not None and request.queued_at is None:
            request.queued_at = now
            request.steps.append((now, None))

    def resumes(self, job: Job, member: str, at: float, now: float) -> None:
        request = self._requests.get(job)
        if request is not None:
            request.steps.append((now, max(0.0, at - now)))

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        request = self._requests.pop(job, None)
        if request is None:
            return
        _waited(request, now)
        # A trial that was counted and has not begun is none.
        request.attempts = job.attempts - job.promised
        request.outcome, request.error, request.member = how, error, member
        request.ended_at = max(now, request.began_at)
        self._spans.end(request)

    # -- attempts

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        request = self._requests.get(job)
        if request is None:
            return None
        first = role is AttemptRole.MAIN
        waited_s = 0.0 if role is AttemptRole.BESIDE else _waited(request, now)
        beside = () if first else tuple(self._open_of(job, attempt))
        span = self._attempts[attempt] = AttemptSpan(
            request,
            attempt.member,
            attempt.number,
            role,
            attempt.trial,
            first and job.attempts - job.extra > 1,
            attempt.started_at,
            waited_s,
            beside,
        )
        context = self._spans.begin_attempt(span, job.context)
        span.beside = ()  # they may be over long before it
        return context

    def first_chunk(self, attempt: Attempt, first_chunk_s: float, now: float) -> None:
        span = self._attempts.get(attempt)
        if span is not None and span.first_chunk is None:
            span.first_chunk = (now, first_chunk_s)

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        self._end(attempt, "answered", now)

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        span = self._attempts.get(attempt)
        if span is not None:
            span.kind, span.error, span.started = failure.kind, failure.error, failure.started
            self._end(attempt, "failed", now)

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        self._end(attempt, reason.value, now)

    def released(self, attempt: Attempt, now: float) -> None:
        self._end(attempt, "unknown", now)

    def _end(self, attempt: Attempt, outcome: AttemptOutcome, now: float) -> None:
        """The first word on how it ended; all others come to nothing."""
        span = self._attempts.pop(attempt, None)
        if span is not None:
            span.outcome, span.ended_at = outcome, max(now, span.began_at)
            self._spans.end(span)

    def _open_of(self, job: Job, but: Attempt) -> list[AttemptSpan]:
        running = (self._attempts.get(each) for each in job.running() if each is not but)
        return [each for each in running if each is not None]

    # -- the rest has no span

    def rests(self, member: str, kind: FailureKind, until: float, now: float) -> None:
        """Its attempts tell of the failures."""

    def table(self, snapshot: RoutingSnapshot, now: float) -> None:
        """Breakers are told by events, and by what can be looked at."""

    def configured(self, config: PoolConfig, now: float) -> None:
        """No span has any settings."""

    def close(self, now: float) -> None:
        """The pool has ended: what is still open has its end now. Nothing is begun any more.

        What has no answer was failed before this: of a request that is still here one has been
        given, and the report of it lies aside, where nobody reads it any more.
        """
        self._closed = True
        for attempt, span in list(self._attempts.items()):
            answered = attempt.job is not None and attempt.job in self._requests
            self._end(attempt, "answered" if answered else "stopping", now)
            if answered:
                span.request.member = span.member
        for job, request in list(self._requests.items()):
            self.ended(job, "answered", None, request.member, now)


def _waited(request: RequestSpan, now: float) -> float:
    """It waits no longer in the queue; how long it has, this time."""
    if request.queued_at is None:
        return 0.0
    waited_s = max(0.0, now - request.queued_at)
    request.waited_s += waited_s
    request.queued_at = None
    return waited_s
