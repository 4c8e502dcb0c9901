"""The place of sync agents: a bounded set of daemon worker threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from greenroom.actors.calls import Call
from greenroom.actors.clock import Clock
from greenroom.messages.status import CancelReason


class ThreadPlace:
    """Worker threads, started when no idle one is left and kept for the next call.

    The member actor admits at most `max_concurrency` calls (a probe may come on top), which bounds
    the threads. A call that outlives its timeout cannot be stopped: its thread is abandoned, and
    ends by itself if the call ever does.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._workers = 0
        self._started = 0
        self._closed = False

    def run(self, call: Call) -> None:
        with self._lock:
            spawn = self._idle == 0
            if spawn:
                self._workers += 1
                self._started += 1
            else:
                self._idle -= 1
        self._calls.put(call)
        if spawn:
            self._spawn(call)

    def cancel(self, call: Call, reason: CancelReason) -> None:
        call.cancelled = reason
        if call.drop():
            call.finish(call, None, None)
        elif reason is CancelReason.ATTEMPT_TIMEOUT and call.abandon():
            with self._lock:
                self._workers -= 1
            call.finish(call, None, None)

    def ping(self, answer: Callable[[], None]) -> None:
        """Threads do not share anything that one call could block: they are always alive."""
        answer()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle = self._workers
        for _ in range(idle):
            self._calls.put(None)

    def _spawn(self, call: Call) -> None:
        thread = threading.Thread(
            target=self._work, name=f"{self._name}-{self._started}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            with self._lock:
                self._workers -= 1
            if call.drop():
                call.finish(call, None, error)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.begin(self._clock.now()):
                self._rest()
                continue
            value, error = self._call(call)
            if not call.end():
                if call.late is not None:
                    call.late(call)
                return
            self._rest()
            call.finish(call, value, error)
            del call, value, error  # an idle thread keeps nothing of its last call alive

    def _rest(self) -> None:
        with self._lock:
            self._idle += 1

    @staticmethod
    def _call(call: Call) -> tuple[Any, BaseException | None]:
        try:
            return call.work(call), None
        except BaseException as error:  # SystemExit and its like end the call, not the thread
            return None, error
