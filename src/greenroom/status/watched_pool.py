"""One pool, as the status endpoint sees it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import pykka

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages import events
from greenroom.messages.errors import PoolStoppedError
from greenroom.messages.events import Event
from greenroom.messages.replies import PoolStats
from greenroom.messages.requests import GetStats, Subscribe
from greenroom.status.event_buffer import EventBuffer
from greenroom.status.request_tally import RequestTally

KEPT = 200
"""Events of each pool that are kept for the page."""

OF_MEMBERS: tuple[type[Event], ...] = (
    events.PoolStopped,
    events.PoolConfigured,
    events.PoolPaused,
    events.MemberStarted,
    events.MemberStopped,
    events.MemberCreateFailed,
    events.MemberAgentLost,
    events.MemberAgentRemade,
    events.MemberFailed,
    events.MemberRestarted,
    events.MemberGaveUp,
    events.BreakerOpened,
    events.BreakerHalfOpened,
    events.BreakerKept,
    events.BreakerClosed,
    events.MemberResting,
    events.MemberRested,
    events.MemberQueueing,
    events.ProbeFailed,
    events.HealthChanged,
    events.LoopStalled,
    events.LoopRecovered,
    events.LoopReplaced,
    events.LoopEnded,
)
"""What tells of pools and members: seldom, and whether somebody reads it or not. All others tell of
requests, and who reads those has a price: `EventBus.unread`."""

_STATES: dict[type[Event], str] = {
    events.BreakerOpened: "open",
    events.BreakerHalfOpened: "half_open",
    events.BreakerClosed: "closed",
}


class WatchedPool:
    """Asks a pool as any caller does, and hears of its members.

    Args:
        tally: what the router tells of its requests.

    Attributes:
        transitions: of breakers, by member and the state that they have come to.
    """

    def __init__(self, ref: PoolRef, bus: EventBus, tally: RequestTally) -> None:
        self.name = ref.name
        self.tally = tally
        self.transitions: Counter[tuple[str, str]] = Counter()
        self._ref = ref
        self._kept: deque[tuple[float, Event]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        # Replaced as a whole, under the lock: who emits goes through them without one.
        self._readers: tuple[EventBuffer, ...] = ()
        self._asked: PoolFuture[PoolStats] | None = None
        self._all: PoolFuture[Callable[[], None]] | None = None
        self._end = bus.subscribe_to(OF_MEMBERS, self._hear)

    def ask(self) -> PoolFuture[PoolStats] | None:
        """The answer to come, for any number of those who ask: to a pool that is stuck no more than
        one question is sent. None: it has ended.
        """
        with self._lock:
            if self._asked is None or self._asked.done():
                try:
                    self._asked = self._ref.ask(GetStats(), block=False)
                except (PoolStoppedError, pykka.ActorDeadError):
                    return None
            return self._asked

    def kept(self) -> list[tuple[float, Event]]:
        """The last events, each with its time in seconds since the epoch."""
        return list(self._kept)

    def add_reader(self, reader: EventBuffer) -> None:
        """Tell one more of what happens from now on."""
        with self._lock:
            self._readers = (*self._readers, reader)
            if reader.everything and self._all is None:
                # Not waited for: the pool may be stuck, and be read all the same once it goes on.
                with contextlib.suppress(PoolStoppedError, pykka.ActorDeadError):
                    self._all = self._ref.ask(Subscribe(self._hear_all), block=False)

    def remove_reader(self, reader: EventBuffer) -> None:
        """Tell it no more; after the last one who wants everything, requests make no events."""
        with self._lock:
            self._readers = tuple(each for each in self._readers if each is not reader)
            if self._all is None or any(each.everything for each in self._readers):
                return
            subscribed, self._all = self._all, None
        subscribed.add_done_callback(_end_of)

    def leave(self) -> None:
        """Hear nothing more."""
        self._end()

    def _hear(self, event: Event) -> None:
        """In the thread that emits: quick, and without waiting."""
        at = time.time()
        self._kept.append((at, event))
        state = _STATES.get(type(event))
        if state is not None and event.member is not None and not getattr(event, "observed", False):
            self.transitions[event.member, state] += 1
        for reader in self._readers:
            if not reader.everything:
                reader.put(at, event)

    def _hear_all(self, event: Event) -> None:
        at = time.time()
        for reader in self._readers:
            if reader.everything:
                reader.put(at, event)


def _end_of(subscribed: PoolFuture[Callable[[], None]]) -> None:
    with contextlib.suppress(PoolStoppedError, pykka.ActorDeadError):  # with the pool all has ended
        subscribed.get()()
