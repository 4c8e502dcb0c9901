"""The clock: the one place where a pool reads the time, so that a fake one can drive everything.

It is also the one place that knows of pauses: a pool's time is that in which the process could run.
So every limit, delay and window is put off at once, whoever reads the time first after a pause, and
in whatever order the messages are read that have come meanwhile.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.pauses import LOOK_S, Looked, look

TOLD_S = 1.0
"""Of shorter pauses, which a busy machine has many of, nobody is told."""

LINGER_S = 2.0
"""How much longer than anything is timed the watch goes on: it need not start anew each time."""


@runtime_checkable
class Clock(Protocol):
    """What a pool needs of a clock. Times are seconds."""

    def now(self) -> float:
        """Monotonic time."""

    def wall(self) -> float:
        """Time since the epoch, for what people read."""

    def wait_s(self, when: float) -> float | None:
        """How long to really wait until `when`; None: until the clock calls the registered wake."""

    def register(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever time has been moved by hand."""

    def unregister(self, wake: Callable[[], None]) -> None:
        """End what `register` began."""


class KnowsPauses(Protocol):
    """What a clock has beyond that which leaves the pauses of the process out of `now`.

    Attributes:
        paused_at: when the last one ended; before any, infinitely long ago.
    """

    @property
    def paused_at(self) -> float: ...

    def tell_pauses(self, told: Callable[[float], object]) -> None:
        """Have `told` called with the length of each pause from now on, soon after it."""

    def tell_no_more(self, told: Callable[[float], object]) -> None:
        """End what `tell_pauses` began."""


class SystemClock:
    """The machine's monotonic clock, without the pauses of the process; see `pauses`.

    While anybody waits for a moment of this clock, a thread looks at it. Any thread may use it.

    No lock is taken to read the time: who held it could be kept from going on, by a thousand
    threads that want to, and nobody else would get the time meanwhile.

    Args:
        read: the machine's clock.
    """

    wall = staticmethod(time.time)

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._looked = Looked()
        self._order = itertools.count()
        self.renew_locks()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run at first, and in a child of a fork: nothing of its parent's waits here."""
        self._lock = threading.RLock()  # of the watch; a signal handler may want one inside of it
        self._waiting: set[Callable[[], None]] = set()
        self._told: dict[Callable[[float], object], None] = {}
        # Pushed by any thread and popped by one, in single calls that run no code of ours.
        self._timers: list[tuple[float, int, Timer]] = []
        self._until = -math.inf
        self._watch: _Watch | None = None
        self._looked = Looked(math.inf, self._looked.lost_s, self._looked.paused_at)

    def now(self) -> float:
        """Seconds; while the process stands still they do not pass."""
        # All three of its fields at once: it is replaced as a whole, never changed.
        looked = self._looked
        now = self._read()
        # Should another thread have found a pause between the two reads, its length is in `now` but
        # not in that `lost_s`: the time would run ahead by it, and limits be over that are not.
        if now > looked.due or looked is not self._looked:
            return self.look()
        return now - looked.lost_s

    @property
    def lost_s(self) -> float:
        """How long all pauses together have taken."""
        return self._looked.lost_s

    @property
    def paused_at(self) -> float:
        """When the last pause ended; before any, infinitely long ago."""
        return self._looked.paused_at

    def wait_s(self, when: float) -> float | None:
        if when > self._until:
            self.watch(when)
        return when - self.now()

    def register(self, wake: Callable[[], None]) -> None:
        """Nobody moves this clock by hand: but `wake` is of somebody who may wait by it, and as
        long as there is anybody there may be somebody to look.
        """
        with self._lock:
            self._waiting.add(wake)

    def unregister(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.discard(wake)
            watch = None if self._waiting else self._watch
        if watch is not None:
            # Outside of the lock: the thread that is waited for here takes it before it ends.
            watch.end()

    def tell_pauses(self, told: Callable[[float], object]) -> None:
        """Have `told` called with the length of each pause of a second or more, by the thread that
        looks: so never inside of something that reads the time.
        """
        with self._lock:
            self._told[told] = None

    def tell_no_more(self, told: Callable[[float], object]) -> None:
        with self._lock:
            self._told.pop(told, None)

    def look(self) -> float:
        """`now`, after a look whether there has been a pause."""
        while True:
            before = self._looked
            now = self._read()
            after = look(before, now, self._watch is not None)
            # Else two threads would count the same pause, one on top of the other.
            if self._looked is before:  # no thread gets between this and the next line
                self._looked = after
                return now - after.lost_s

    def watch(self, until: float) -> None:
        """Have somebody look until then: something is to happen or to have happened by that time.

        Where the system gives no thread for it, nobody looks, and no pause is noticed.
        """
        self._until = max(self._until, until + LINGER_S)
        if self._watch is None:
            try:
                watch = self._new_watch(until)
                if watch is not None:
                    Context().run(watch.start)  # nobody's: see `ThreadExecutor._spawn`
            except BaseException as error:  # the next one who times what lasts longer tries again
                self._let_unstarted_go()
                if not isinstance(error, Exception):  # a signal handler's, in a thread of the app
                    raise

    def _new_watch(self, until: float) -> _Watch | None:
        with self._lock:
            if not self._waiting:
                self._until = -math.inf
                return None
            self._until = max(self._until, until + LINGER_S)  # a watch that ended has reset it
            if self._watch is not None:  # somebody was quicker
                return None
            watch = self._watch = _Watch(self)
            self.look()
            return watch

    def at(self, when: float, action: Callable[[], object]) -> Timer:
        """Have the thread that looks call `action` once it is `when`. It must not wait.

        For what many pools do every second, each at a time of its own: a thousand threads that wake
        up for it keep each other from getting on.
        """
        timer = Timer(action)
        # First put it there, then look how long the thread sleeps; it says how long it sleeps
        # first, and looks for timers then. One sees the other.
        heapq.heappush(self._timers, (when, next(self._order), timer))
        self.watch(when)
        watch = self._watch
        if watch is not None and when < watch.sleeps_until:
            watch.wake()
        return timer

    def _run_due(self) -> float:
        """Run what is due; when the next one will be, a look at the latest."""
        timers, now = self._timers, self.now()
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            # Taken out before it is called: `cancel` comes from any thread, and may come right now.
            action, timer.action = timer.action, None
            if action is not None:
                try:
                    action()
                except BaseException as error:  # the others are somebody else's
                    complain("what a clock was asked to do raised", error)
        return self._next_at()

    def _next_at(self) -> float:
        look_at = self._looked.due - self._looked.lost_s
        return min(look_at, self._timers[0][0]) if self._timers else look_at

    def _let_go(self, watch: _Watch) -> None:
        with self._lock:
            if self._watch is watch:
                self._watch = None
                self.look()

    def _let_unstarted_go(self) -> None:
        """Should its thread run after all, it finds that it is not the watch any more, and ends."""
        watch = self._watch
        if watch is not None and not watch.runs:
            self._let_go(watch)

    def _is_over(self, watch: _Watch) -> bool:
        """Look, for the watch; whether it may end."""
        with self._lock:
            # Let go of before it had begun (`_let_unstarted_go`): another one may look by now.
            if self._watch is not watch:
                return True
            if self.look() <= self._until and self._waiting:
                return False
            self._until = -math.inf
            self._let_go(watch)
            if not self._waiting:  # whose were they?
                self._timers.clear()
            return True


@dataclass(slots=True, eq=False, repr=False)
class Timer:
    """What a clock has been asked to do; `cancel` before its time, and it is forgotten."""

    action: Callable[[], object] | None

    def cancel(self) -> None:
        """Nothing it refers to is kept alive."""
        self.action = None


class _Watch(threading.Thread):
    """The thread that looks at a clock as long as anything is timed by it.

    Attributes:
        sleeps_until: who has something to be done before that must wake it.
        runs: whether its thread has begun.
    """

    def __init__(self, clock: SystemClock) -> None:
        super().__init__(name="greenroom-clock", daemon=True)
        self._clock = clock
        self._lost_s = clock.lost_s
        self.runs = False
        self.sleeps_until = -math.inf
        # Released by who has something to be done, taken by the thread that looks: however often it
        # is rung meanwhile, there is one look more.
        self._bell = threading.Lock()
        self._bell.acquire()

    def wake(self) -> None:
        """There is something to be done sooner than it knows, or nothing any more."""
        with contextlib.suppress(RuntimeError):  # it has been woken before
            self._bell.release()

    def end(self) -> None:
        """Nobody times anything any more."""
        self.wake()
        if self.runs and self is not threading.current_thread():
            self.join(LOOK_S)

    def run(self) -> None:
        self.runs = True
        while True:
            try:
                if self._clock._is_over(self):
                    return
                self._see_to_it()
            except BaseException as error:  # every pool of the process has its time from here
                complain("the clock's thread goes on", error)
                self._bell.acquire(timeout=LOOK_S)

    def _see_to_it(self) -> None:
        clock = self._clock
        lasted_s, self._lost_s = clock.lost_s - self._lost_s, clock.lost_s
        if lasted_s >= TOLD_S:
            # A copy: who is told may end that, and others do so from their own threads.
            for told in list(clock._told):
                told(lasted_s)
        self.sleeps_until = clock._run_due()
        # What has come until now is seen here; who comes from now on rings the bell.
        self._bell.acquire(timeout=max(0.0, clock._next_at() - clock.now()))
        self.sleeps_until = -math.inf


SYSTEM_CLOCK = SystemClock()


def paused_at(clock: Clock) -> float:
    """When the last pause ended that a clock knows of; before any, infinitely long ago."""
    at: float = getattr(clock, "paused_at", -math.inf)
    return at


def pauses_of(clock: Clock) -> KnowsPauses | None:
    """The clock, if it knows of pauses."""
    return cast(KnowsPauses, clock) if hasattr(clock, "tell_pauses") else None
