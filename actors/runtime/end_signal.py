"""The end of something: threads wait for it, and coroutines are told of it, without a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from greenroom.actors.runtime.deferral import undisturbed

Wake = Callable[[], object]


class EndSignal:
    """An end that comes once. Whoever wants to hear of it waits in a thread, or leaves a wake."""

    def __init__(self) -> None:
        self._come = threading.Event()
        self._lock = threading.Lock()
        self._wakes: list[Wake] = []

    def is_set(self) -> bool:
        """Whether it has come."""
        return self._come.is_set()

    def set(self) -> None:
        """It has come: tell everybody. A wake must be quick and must not raise."""
        with self._lock:
            # Under the lock, with the wakes: who watches either finds it set, or is in that list.
            self._come.set()
            wakes, self._wakes = self._wakes, []
        # Outside of the lock: a wake may tell a loop, and whoever goes on by it may ask here again.
        for wake in wakes:
            wake()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for it in this thread; whether it has come."""
        return self._come.wait(timeout_s)

    def watch(self, wake: Wake) -> None:
        """Have `wake` called, from any thread, once it has come."""
        undisturbed(self._watch, wake)

    def _watch(self, wake: Wake) -> bool:
        with self._lock:
            if not self._come.is_set():
                self._wakes.append(wake)
                return True
        wake()
        return True

    def unwatch(self, wake: Wake) -> None:
        """Take back what `watch` has been given: who gives up must not leave a trail."""
        undisturbed(self._unwatch, wake)

    def _unwatch(self, wake: Wake) -> bool:
        with self._lock:
            if wake in self._wakes:
                self._wakes.remove(wake)
        return True
