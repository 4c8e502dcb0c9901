"""Where events go: to the log once, to every subscriber, and to whoever observes all pools."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pykka
from loguru import logger

from greenroom.messages.events import Event

DEBUG_NO = 10
CLOSE_TIMEOUT_S = 2.0

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


def _bind_event(record: Any) -> None:
    event = record["extra"].get("event")
    if isinstance(event, Event):
        record["extra"].update(event.as_dict())


_log = logger.patch(_bind_event)


def complain(what: str, error: BaseException) -> None:
    """Log a fault of code that the pool was given, or of the pool itself."""
    _log.opt(exception=error).error("{}: {!r}", what, error)


def _debug_is_read() -> bool:
    """Whether a DEBUG message of this module would reach a sink.

    loguru has no public way to ask, and asking by logging costs more than the rest of a request;
    where its internals look different, the answer is yes.
    """
    try:
        core: Any = logger._core  # type: ignore[attr-defined]
        return bool(core.min_level <= DEBUG_NO and core.enabled.get(__name__) is not False)
    except AttributeError:
        return True


class EventBus:
    """One pool's events. Any thread may emit; nothing here waits for a subscriber."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self._lock = threading.Lock()
        self._refs: tuple[Any, ...] = ()
        self._callables: tuple[Callable[[Event], Any], ...] = ()
        self._letters: queue.SimpleQueue[Event | None] | None = None
        self._thread: threading.Thread | None = None

    def listening(self) -> bool:
        """Whether somebody reads what is logged at DEBUG: else nobody need make such events."""
        return bool(self._refs or self._callables or _observers) or _debug_is_read()

    def emit(self, event: Event) -> None:
        """Log the event and hand it to every subscriber."""
        _log.log(event.severity(), "{described}", described=event.describe(), event=event)
        for ref in self._refs:
            self._tell(ref, event)
        if self._letters is not None:
            self._letters.put(event)
        for observer in _observers:
            _deliver(observer, event)

    def complain_of(self, what: str, error: BaseException) -> None:
        """Log a fault of the user's code, with its traceback and the pool's name."""
        complain(f"pool {self.pool!r}: {what}", error)

    def subscribe(self, subscriber: Any) -> Callable[[], None]:
        """Take a subscriber in: a ref is told, a callable is called on a thread kept for that."""
        with self._lock:
            if isinstance(subscriber, pykka.ActorRef):
                self._refs = (*self._refs, subscriber)
            else:
                self._callables = (*self._callables, subscriber)
                self._start()
        return lambda: self._unsubscribe(subscriber)

    def close(self) -> None:
        """Deliver what has been emitted and end the thread; a stuck subscriber is left behind."""
        with self._lock:
            letters, self._letters = self._letters, None
            thread, self._thread = self._thread, None
            self._refs = ()
        if letters is not None and thread is not None:
            letters.put(None)
            if thread is not threading.current_thread():
                thread.join(CLOSE_TIMEOUT_S)

    def _unsubscribe(self, subscriber: Any) -> None:
        with self._lock:
            self._refs = tuple(each for each in self._refs if each is not subscriber)
            self._callables = tuple(each for each in self._callables if each is not subscriber)

    def _tell(self, ref: Any, event: Event) -> None:
        try:
            ref.tell(event)
        except pykka.ActorDeadError:
            self._unsubscribe(ref)

    def _start(self) -> None:
        if self._thread is None:
            self._letters = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._deliver_all,
                args=(self._letters,),
                name=f"greenroom-events-{self.pool}",
                daemon=True,
            )
            self._thread.start()

    def _deliver_all(self, letters: queue.SimpleQueue[Event | None]) -> None:
        while (event := letters.get()) is not None:
            for subscriber in self._callables:
                _deliver(subscriber, event)


def _deliver(subscriber: Callable[[Event], Any], event: Event) -> None:
    try:
        subscriber(event)
    except BaseException as error:  # whatever a subscriber does, the pool goes on
        complain(f"a subscriber raised on {event.name}", error)
