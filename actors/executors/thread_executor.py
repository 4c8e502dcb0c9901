"""The executor of sync agents: a bounded set of daemon worker threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from greenroom.actors.executors.call import Call, CallPhase
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.thread_duties import HERE, Duty, ThreadRole
from greenroom.messages.status import CancelReason


class ThreadExecutor:
    """Worker threads, started when no idle one is left and kept for the next call.

    The member actor admits at most `max_concurrency` calls (a probe may come on top), which bounds
    the threads. A call that outlives its timeout cannot be stopped: its thread is abandoned, and
    ends by itself if the call ever does.

    A new thread is given its first call, which lies in no queue until then: if the system refuses
    the thread, nothing is left behind, and the count of idle ones holds.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.guard = threading.Lock()
        self._name = name
        self._now = clock.now
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        # Guards what is below, but for a thread that takes itself out of `_resting`.
        self._lock = threading.Lock()
        # How many idle threads no call has been promised to: fewer than there are in `_resting`
        # while a call is on its way to one of these.
        self._idle = 0
        self._resting: set[threading.Thread] = set()
        self._started = 0
        self._closed = False
        self._resident: Resident | None = None

    def run(self, call: Call) -> None:
        resident = self._resident
        if resident is not None and resident.takes(call):
            return
        with self._lock:
            # The thread is taken here, not where it takes the call: two calls that come at once
            # must not both count on the one that is idle.
            # After `close` there is one for each call: those that rest have been sent away.
            spawn = self._idle == 0 or self._closed
            if spawn:
                self._started += 1
            else:
                # In here, before what sends the idle ones away: whom a call was promised takes it.
                self._idle -= 1
                self._calls.put(call)
        if spawn:
            self._spawn(call)

    def cancel(self, call: Call, reason: CancelReason) -> None:
        # First the word, then the look at the canceller; `run_on` sets the canceller first, and
        # looks for the word then. One sees the other.
        again, call.cancelled = call.cancelled is not None, reason
        canceller = call.canceller  # its thread takes it away when there is nothing left to cancel
        cleans_up = canceller is not None and not again and canceller()
        # Only one that has had its own time is abandoned, and its slot given to the next. For any
        # other reason it keeps the slot until it ends: there would be a thread more for each.
        over = reason is CancelReason.ATTEMPT_TIMEOUT and not cleans_up
        if call.drop() or (over and call.abandon()):
            call.finish(None, None)

    def ping(self, answer: Callable[[], object]) -> bool:
        """Threads do not share anything that one call could block: they are always alive."""
        answer()
        return True

    def close(self) -> None:
        with self._lock:
            # With the count: who rests before this is in it, and nobody does after it.
            self._closed = True
            idle = len(self._resting)
        for _ in range(idle):
            self._calls.put(None)

    def join(self, timeout_s: float) -> None:
        """After `close`: wait for the idle threads; a busy one ends when its call does."""
        # A copy: each takes itself out, without the lock, when it has taken its None.
        for thread in list(self._resting):
            if thread is not threading.current_thread():
                thread.join(timeout_s)

    def _spawn(self, call: Call) -> None:
        # Both are made here, where what raises is the call's end. The list is emptied there: a
        # thread keeps its arguments for as long as it lives.
        first, duty = [call], Duty("", ThreadRole.WORKER, self._step_out)
        worker = self._begin_work(first, duty)
        next(worker)
        name = f"{self._name}-{self._started}"
        thread = threading.Thread(target=worker.__next__, name=name, daemon=True)
        # It outlives the call that it is begun for, whose context it would inherit where Python is
        # told that threads do.
        Context().run(thread.start)

    def _begin_work(self, first: list[Call], duty: Duty) -> Generator[None, None, None]:
        """What a thread does. It is resumed there, inside of its `try`, as a turn of a loop is (see
        `waker`): a function may be hit at its entry, and then nobody would end the call.
        """
        try:
            yield
            self._work(first, duty)
        except GeneratorExit:  # there is no thread for it: whoever wanted one is told
            raise
        except BaseException as error:
            if first:
                first.pop().broke(error)
        yield

    def _work(self, first: list[Call], duty: Duty) -> None:
        me, HERE.duty = threading.current_thread(), duty
        call: Call | None = first.pop()
        while call is not None:
            stays = context = None
            try:
                if call.begin(self._now()):
                    # Its own alone: what it sets, neither its asker sees nor another call.
                    context = Context() if call.context is None else call.context.copy()
                    call.context = None
                    value, error = context.run(self._call, call)
                    # It was abandoned: its slot has been given away, and whoever has it has a
                    # thread of its own. One more would rest here than there are slots.
                    if not call.end():
                        call.late()
                        return
                    # Before the end is told: what follows from that may be the next call, handed
                    # over in this very thread, and it would start a thread though this one is about
                    # to be idle.
                    stays = self._rest(me)
                    context.run(call.finish, value, error)
                    del value, error
            except BaseException as raised:  # not the agent: its errors are values here
                call.broke(raised)
                if call.phase is CallPhase.ABANDONED:
                    return
            if stays is None:
                stays = self._rest(me)
            elif stays and me not in self._resting:  # see `_step_out`
                stays = self._rest(me, unless_idle=True)
            del call, context  # an idle thread keeps nothing of its last call alive
            if not stays:
                return
            call = self._calls.get()
            # A `close` just before has counted it in: one None more than threads does no harm.
            self._resting.discard(me)

    def _rest(self, me: threading.Thread, unless_idle: bool = False) -> bool:
        """Be ready for the next call, unless the executor has been closed meanwhile.

        Args:
            unless_idle: nor if another thread is.
        """
        with self._lock:
            if self._closed or (unless_idle and self._idle):
                return False
            self._idle += 1
            self._resting.add(me)
            return True

    def _step_out(self) -> None:
        """Called in a thread, before it waits for something. If its own call has ended, it counts
        as idle: what waits there is somebody's done callback. A call that was meant for it must not
        wait as well, maybe for one another: it has a new thread. Whichever is idle first is kept.
        """
        me = threading.current_thread()
        # No lock for the look: a thread puts in and takes out nobody but itself.
        if me not in self._resting:
            return
        with self._lock:
            self._resting.discard(me)
            if self._idle:
                self._idle -= 1
                return
            self._started += 1
        call = self._calls.get()  # as many are on their way as idle threads have been promised
        if call is not None:
            try:
                self._spawn(call)
            except BaseException as error:
                call.broke(error)

    @staticmethod
    def _call(call: Call) -> tuple[Any, BaseException | None]:
        try:
            return call.work(call), None
        except BaseException as error:  # SystemExit and its like end the call, not the thread
            return None, error


class Resident(ThreadExecutor):
    """A worker of another executor's that stays inside of a call of its own, and takes others there
    meanwhile, as long as it is free: an agent may be bound to the thread in which it was entered.

    Args:
        workers: the executor that it is a worker of.
    """

    def __init__(self, workers: ThreadExecutor, name: str, clock: Clock) -> None:
        super().__init__(name, clock)
        self._workers = workers
        self._before = HERE.duty

    def begin(self) -> None:
        """Run in its thread: calls that come from here on wait for it, if there is no other one."""
        HERE.duty = Duty("", ThreadRole.WORKER, self._step_out)
        self._rest(threading.current_thread())
        if self._workers._resident is None:
            self._workers._resident = self

    def stay(self) -> None:
        """Run in its thread: do what there is to do, until it is closed."""
        me, duty = threading.current_thread(), HERE.duty
        assert duty is not None
        while me in self._resting or self._rest(me):
            call = self._calls.get()
            self._resting.discard(me)
            if call is None:
                break
            # It returns when it is closed, or when a call has ended long after its time was over.
            self._work([call], duty)
        HERE.duty = self._before

    def takes(self, call: Call) -> bool:
        """Whether it is free, and runs the call."""
        with self._lock:
            free = self._idle > 0 and not self._closed
            if free:
                self._idle -= 1
                self._calls.put(call)
        return free

    def step_back(self) -> None:
        """Have it run nothing more than it has, but what is given to it itself."""
        if self._workers._resident is self:
            self._workers._resident = None

    def close(self) -> None:
        """Have it leave, once the call has ended that it may have."""
        self.step_back()
        super().close()

    def _spawn(self, call: Call) -> None:
        self._workers.run(call)
