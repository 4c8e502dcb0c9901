"""Where events go: to the log once, to every subscriber, and to whoever observes all pools."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pykka
from loguru import logger

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.thread_duties import HERE, Duty, ThreadRole
from greenroom.messages.errors import summary
from greenroom.messages.events import Event
from greenroom.messages.pickling import masked

_NUMBERS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
CLOSE_TIMEOUT_S = 2.0
BACKLOG = 10_000
"""Events that may wait for a slow subscriber; what comes on top is dropped, and that is logged."""

# Replaced as a whole, under the lock; so whoever emits reads it without one.
_observers: tuple[Callable[[Event], Any], ...] = ()
_observers_lock = threading.Lock()


def observe(observer: Callable[[Event], Any]) -> Callable[[], None]:
    """Have the events of every pool of the process; returns what ends it. For tests and tools."""
    global _observers
    with _observers_lock:
        _observers = (*_observers, observer)

    def end() -> None:
        global _observers
        with _observers_lock:
            _observers = tuple(each for each in _observers if each is not observer)

    return end


def _renew_lock() -> None:
    global _observers_lock
    _observers_lock = threading.Lock()


forks.in_child(_renew_lock)


def _bind_event(record: Any) -> None:
    event = record["extra"].get("event")
    if isinstance(event, Event):
        record["extra"].update(event.as_dict(), described=event.describe())


_log = logger.patch(_bind_event)


def complain(what: str, error: BaseException) -> None:
    """Log a fault of code that the pool was given, or of the pool itself.

    loguru is not given the error itself: by default its sinks show the values of the variables in
    the traceback, payloads among them.
    """
    with contextlib.suppress(Exception):  # as in `emit`
        _log.opt(lazy=True).error(
            "{}: {error}",
            lambda: what,
            error=lambda: summary(error),
            traceback=lambda: traced(error),
        )


def traced(error: BaseException) -> str:
    """Its traceback, without the values of any variables, and without secrets."""
    try:
        return masked("".join(traceback.format_exception(error)).rstrip())
    except BaseException:  # a user's error may raise anything when it is looked at
        return summary(error)


def _least_level_read() -> float:
    """The least level of which a message of this module would reach a sink; infinite if none.

    loguru has no public way to ask, and asking by logging costs more than the rest of a request;
    where its internals look different, the answer is 0. It replaces both of what is looked at
    whenever it changes, so the answer holds for as long as they are the same objects.
    """
    global _last_answer
    try:
        core: Any = logger._core  # type: ignore[attr-defined]
        handlers, switches = core.handlers, core.activation_list
        known_handlers, known_switches, answer = _last_answer
        if handlers is not known_handlers or switches is not known_switches:
            levels = map(_level_of, handlers.values()) if _is_on(switches) else ()
            answer = min(levels, default=math.inf)
            _last_answer = (handlers, switches, answer)
        return answer
    except AttributeError:
        return 0


# One tuple, replaced as a whole: any thread may ask, and must not mix the answers of two.
_last_answer: tuple[Any, Any, float] = (None, None, 0)


def _is_on(switches: list[tuple[str, bool]]) -> bool:
    """Whether loguru lets this module through: the first switch that fits, as loguru has it."""
    return next((on for name, on in switches if f"{__name__}.".startswith(name)), True)


def _level_of(handler: Any) -> float:
    """The least level that a handler shows of greenroom. The filter that `greenroom.log` gives to
    loguru's own handler says by an attribute that it shows nothing.
    """
    hides = getattr(handler._filter, "hides_greenroom", False)
    return math.inf if hides else float(handler.levelno)


@dataclass(slots=True, eq=False, repr=False)
class _Subscription:
    """One call of `subscribe`: the same subscriber may be there more than once, and each time has
    an end of its own.
    """

    tell: Callable[[Event], Any]


Backlog = queue.SimpleQueue[Event | _Subscription | None]
"""Events; a subscription, where it ends; None at the end of all."""

_PUTS_ONLY: set[Any] = {pykka.ActorRef.tell}
"""The `tell` of refs that are known not to wait: Pykka's own, and what `puts_only` has added."""


def puts_only(tell: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Mark the `tell` of a class of refs as one that puts into a queue, and does nothing else."""
    _PUTS_ONLY.add(tell)
    return tell


class EventBus:
    """One pool's events. Any thread may emit; nothing here waits for a subscriber.

    Attributes:
        pool_urn: that of the pool's router, which sets it.
    """

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.pool_urn = ""
        self._lock = threading.Lock()
        # Both are replaced as a whole, under the lock: who emits goes through them without one.
        self._refs: tuple[_Subscription, ...] = ()
        self._others: tuple[_Subscription, ...] = ()
        self._by_kind: dict[type[Event], tuple[Callable[[Event], object], ...]] = {}
        self._backlog: Backlog | None = None
        self._behind = False
        self._thread: threading.Thread | None = None
        self._born = forks.generation

    def listening(self, level: str = "DEBUG") -> bool:
        """Whether somebody reads what is logged at that level: else nobody need make such events.

        Args:
            level: the level of an event of the catalogue.
        """
        if self._refs or self._others or _observers:
            return True
        # `_least_level_read`, without the call as long as nothing has changed: asked three times
        # for every request.
        handlers, switches, least = _last_answer
        core: Any = getattr(logger, "_core", None)
        if core is None or core.handlers is not handlers or core.activation_list is not switches:
            least = _least_level_read()
        return _NUMBERS[level] >= least

    def unread(self) -> bool:
        """Whether nobody reads any event, however bad it is."""
        if self._refs or self._others or _observers:
            return False
        # As `listening`, without the call: whoever brings a request asks first.
        handlers, switches, least = _last_answer
        core: Any = getattr(logger, "_core", None)
        if core is None or core.handlers is not handlers or core.activation_list is not switches:
            least = _least_level_read()
        return least > _NUMBERS["CRITICAL"]

    def emit(self, event: Event) -> None:
        """Log the event and hand it to every subscriber."""
        level = event.severity()
        if _NUMBERS[level] >= _least_level_read():
            with contextlib.suppress(Exception):  # a sink with catch=False: no request pays for it
                _log.log(level, "{event}", event=event)
        for tell in self._by_kind.get(type(event), ()):
            _deliver(tell, event)
        for subscription in self._refs:
            self._tell(subscription, event)
        backlog = self._backlog  # `close` may take it away meanwhile
        if backlog is not None:
            self._post(backlog, event)
        for observer in _observers:
            _deliver(observer, event)

    def complain_of(self, what: str, error: BaseException) -> None:
        """Log a fault of the user's code, with its traceback and the pool's name."""
        complain(f"pool {self.pool!r}: {what}", error)

    def hint(self, what: str) -> None:
        """Log advice for whoever runs the pool; for what is said once, not for each request."""
        with contextlib.suppress(Exception):  # as in `emit`
            _log.opt(lazy=True).warning("{}", lambda: what)

    def subscribe(self, subscriber: Any) -> Callable[[], None]:
        """Take a subscriber in: an actor's ref is told at once, which only puts something into a
        queue. Whatever else it is, a callable or an object with a `tell` of its own, may take its
        time: it has its events on a thread kept for that.
        """
        is_ref = isinstance(subscriber, pykka.ActorRef)
        by_tell = is_ref or not callable(subscriber)
        subscription = _Subscription(subscriber.tell if by_tell else subscriber)
        with self._lock:
            if is_ref and type(subscriber).tell in _PUTS_ONLY:
                self._refs = (*self._refs, subscription)
            else:
                self._start()
                # After the start: where there is no thread for it, nobody is subscribed.
                self._others = (*self._others, subscription)
        return lambda: self._end_subscription(subscription)

    def subscribe_to(
        self, kinds: Iterable[type[Event]], tell: Callable[[Event], object]
    ) -> Callable[[], None]:
        """Have events of these kinds, as far as they are made: what is only made while somebody
        reads it (of each attempt, say) is not made for this. `tell` is called in the thread that
        emits, so it must be quick; it has no thread of its own, and keeps nobody from doing the
        router's part. Returns what ends it.
        """
        chosen = tuple(kinds)
        with self._lock:  # replaced as a whole, as the others are
            had = self._by_kind
            self._by_kind = {**had, **{kind: (*had.get(kind, ()), tell) for kind in chosen}}

        def end() -> None:
            with self._lock:
                left = dict(self._by_kind)
                for kind in chosen:
                    left[kind] = tuple(each for each in left.get(kind, ()) if each is not tell)
                self._by_kind = left

        return end

    def close(self) -> None:
        """Deliver what has been emitted and end the thread; a stuck subscriber is left behind."""
        with self._lock:
            # First out of sight, then the mark of the end: whoever posts behind that has looked
            # before this, and its event is lost.
            backlog, self._backlog = self._backlog, None
            thread, self._thread = self._thread, None
            self._refs = ()
            self._by_kind = {}
        if backlog is not None and thread is not None:
            backlog.put(None)
            if thread is not threading.current_thread():
                thread.join(CLOSE_TIMEOUT_S)

    def _post(self, backlog: Backlog, event: Event) -> None:
        """Hand an event to the callables' thread, unless a subscriber is hopelessly behind."""
        # Neither exact nor locked: several threads may post at once, a few events more do no harm.
        if backlog.qsize() < BACKLOG:
            self._behind = False
            backlog.put(event)
        elif not self._behind:
            self._behind = True
            behind = RuntimeError(f"{BACKLOG} events wait for a subscriber that does not return")
            self.complain_of("events are being dropped", behind)

    def _end_subscription(self, subscription: _Subscription) -> None:
        """What was emitted before is still delivered."""
        if self._born != forks.generation:
            return
        backlog = self._backlog
        if backlog is not None and subscription in self._others:
            # Not taken out here, but where this lies among the events: what lies before it has
            # been emitted for this subscriber, too.
            backlog.put(subscription)
        else:
            self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: _Subscription) -> None:
        with self._lock:
            self._refs = tuple(each for each in self._refs if each is not subscription)
            self._others = tuple(each for each in self._others if each is not subscription)

    def _tell(self, subscription: _Subscription, event: Event) -> None:
        try:
            subscription.tell(event)
        except pykka.ActorDeadError:
            self._unsubscribe(subscription)
        except BaseException as error:  # whatever a subscriber does, the pool goes on
            complain(f"a subscriber raised on {event.name}", error)

    def _start(self) -> None:
        if self._thread is None:
            backlog: Backlog = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._deliver_all,
                args=(backlog,),
                name=f"greenroom-events-{self.pool}",
                daemon=True,
            )
            thread.start()  # may be refused: then there is none, and whoever subscribes is told
            self._backlog, self._thread = backlog, thread

    def _deliver_all(self, backlog: Backlog) -> None:
        HERE.duty = Duty(self.pool_urn, ThreadRole.EVENTS)
        while (event := backlog.get()) is not None:
            try:
                if isinstance(event, _Subscription):
                    self._unsubscribe(event)
                    continue
                for subscription in self._others:
                    self._tell(subscription, event)
            except BaseException as error:  # the next ones are delivered all the same
                complain("an event could not be delivered", error)


def _deliver(subscriber: Callable[[Event], Any], event: Event) -> None:
    try:
        subscriber(event)
    except BaseException as error:  # whatever a subscriber does, the pool goes on
        complain(f"a subscriber raised on {event.name}", error)
