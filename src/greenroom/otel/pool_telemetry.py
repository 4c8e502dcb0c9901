"""The telemetry of one pool: what watches its requests, its events and its state, until it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.trace import Tracer, TracerProvider, get_tracer_provider

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.errors import ResourceError
from greenroom.messages.events import Event, PoolStopped
from greenroom.messages.replies import PoolStats
from greenroom.messages.requests import Cancel, GetStats
from greenroom.otel import conventions as names
from greenroom.otel.backlog import Backlog, tell_at_exit, told_all
from greenroom.otel.instruments import TOLD, Instruments, ObservedPool, instruments_of
from greenroom.otel.span_book import AttemptSpan, RequestSpan, SpanBook
from greenroom.otel.telemetry import Telemetry
from greenroom.otel.tracing import Tracing

_NOBODY = "greenroom: nobody has this id"


@dataclass(frozen=True, slots=True)
class Told:
    """Where what is told of a pool goes.

    Attributes:
        tracer, instruments: None where there are to be no spans, or no metrics.
    """

    telemetry: Telemetry
    tracer: Tracer | None
    instruments: Instruments | None

    def of_pool(self, bus: EventBus, clock: Clock) -> PoolTelemetry:
        """The telemetry of a pool that is about to start."""
        return PoolTelemetry(self, bus, clock)


def told_to(telemetry: Telemetry, *, traces: bool = True, metrics: bool = True) -> Told:
    """What the providers of a setting give.

    Raises:
        Exception: what one of them raises.
    """
    version, tracer, instruments = _version(), None, None
    if traces:
        provider: TracerProvider = telemetry.tracer_provider or get_tracer_provider()
        tracer = provider.get_tracer(names.SCOPE, version)
    if metrics:
        instruments = instruments_of(telemetry.meter_provider, version)
    return Told(telemetry, tracer, instruments)


class PoolTelemetry:
    """Made before the pool's actors, of which it must miss nothing; `begin` when there are any.

    Attributes:
        book: the observer of the pool's requests.
    """

    def __init__(self, told: Told, bus: EventBus, clock: Clock) -> None:
        self._pool = bus.pool
        self._bus = bus
        self._clock = clock
        self._blamed: set[str] = set()
        self._router: PoolRef | None = None
        self._watched: ObservedPool | None = None
        self._instruments = told.instruments
        self._tracing: Tracing | None = None
        if told.tracer is not None:
            hook = told.telemetry.attributes
            self._tracing = Tracing(told.tracer, self._pool, clock, hook, self._complain_once)
        self.book = SpanBook(self)
        self._backlog = Backlog(
            self._pool, self._tell, lambda: self.book.open_requests > 0, self._look
        )
        self._ends: list[Callable[[], None]] = [
            bus.subscribe_to((PoolStopped,), self._on_stopped),
        ]
        if self._instruments is not None:
            self._ends.append(bus.subscribe_to(TOLD, self._backlog.put))
        told.telemetry.used_by(self)

    def begin(self, router: PoolRef) -> None:
        """The pool's router runs.

        Raises:
            ResourceError: the machine has no thread for what is to be told.
        """
        self._router = router
        try:
            self._backlog.start(router.actor_urn)
        except RuntimeError as error:
            raise ResourceError(f"no thread for its telemetry: {error}") from error
        tell_at_exit(self)
        if self._instruments is not None:
            self._watched = ObservedPool(self._pool, self._ask)
            self._instruments.watch(self._watched)

    # -- in the router's turn: see `Spans`

    def begin_request(self, request: RequestSpan, context: Context | None) -> None:
        if self._tracing is not None:
            self._tracing.begin_request(request, context)

    def begin_attempt(self, attempt: AttemptSpan, context: Context | None) -> Context | None:
        return None if self._tracing is None else self._tracing.begin_attempt(attempt, context)

    def end(self, span: RequestSpan | AttemptSpan) -> None:
        if self._tracing is not None:
            self._tracing.mark_end(span)
        self._backlog.put(span)

    def turned_away(self, error: BaseException) -> None:
        if self._instruments is not None:
            self._backlog.put(error)

    def _on_stopped(self, _: Event) -> None:
        for end in self._ends:
            end()
        self.book.close(self._clock.now())
        if self._instruments is not None and self._watched is not None:
            self._instruments.forget(self._watched)
        told_all(self)
        self._backlog.close()
        self._router = None

    # -- in the thread of its own

    def _tell(self, told: RequestSpan | AttemptSpan | Event | BaseException) -> None:
        instruments = self._instruments
        if isinstance(told, RequestSpan | AttemptSpan):
            if instruments is not None:
                context = None if self._tracing is None else self._tracing.context_of(told)
                try:
                    instruments.count(self._pool, told, context)
                except BaseException as error:  # its span has its end all the same
                    self._complain_once("its metrics could not be told (said once)", error)
            if self._tracing is not None:
                self._tracing.tell(told)
        elif instruments is not None and isinstance(told, Event):
            instruments.count_event(told)
        elif instruments is not None and isinstance(told, BaseException):
            instruments.count_turned_away(self._pool, told)

    def _look(self) -> None:
        """The report of an answer may lie aside for as long as nothing else happens in the pool."""
        router = self._router
        if router is not None:
            router.actor_inbox.wake()

    def _complain_once(self, what: str, error: BaseException) -> None:
        if what not in self._blamed:
            self._blamed.add(what)
            self._bus.complain_of(what, error)

    # -- in any thread

    def flushing(self) -> Callable[[float], bool]:
        """Have all that has ended by now told, without waiting; what is returned waits for that, so
        many seconds, and says whether it is done.
        """
        if self._backlog.is_here():  # the app's hook: it is in the midst of it
            return lambda timeout_s: False
        router, told = self._router, threading.Event()
        try:
            if router is None:
                self._backlog.mark(told)
            else:
                # Its answer comes behind what lies aside, and behind all that was sent before.
                read = router.ask(Cancel(_NOBODY), block=False)
                read.add_done_callback(lambda _: self._backlog.mark(told))
        except Exception:  # it ends at this moment
            self._backlog.mark(told)
        return told.wait

    def _ask(self) -> PoolFuture[PoolStats] | None:
        router = self._router
        if router is None:
            return None
        try:
            return router.ask(GetStats(), block=False)
        except Exception:  # it ends: there is nothing to be had
            return None


def _version() -> str:
    try:
        return version("greenroom")
    except PackageNotFoundError:
        return "0+unknown"
