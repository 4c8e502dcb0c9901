"""What the tests of load share: agents on the pool's clock, and time that passes in small steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from greenroom import PoolFuture, PoolRef, PoolStats, Request
from greenroom.testing import FakeClock, http_error


class FixedWindow:
    """A provider that takes `limit` calls in every window of `width_s`, and says exactly when the
    next one begins.
    """

    def __init__(self, clock: Any, limit: int, width_s: float = 1.0) -> None:
        self._clock, self._limit, self._width_s = clock, limit, width_s
        self._start = clock.now()
        self._window, self._used = 0, 0
        self.calls = self.taken = 0

    def set(self, limit: int) -> None:
        """Take so many from now on."""
        self._limit = limit

    async def __call__(self, payload: Any) -> Any:
        self.calls += 1
        now = self._clock.now() - self._start
        window = math.floor(now / self._width_s + 1e-9)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self._limit:
            raise http_error(429, retry_after_s=(window + 1) * self._width_s - now)
        self._used += 1
        self.taken += 1
        return payload


class TokenBucket:
    """A provider that takes `per_s` calls a second, bursts of `burst`, and says exactly when there
    is a token again.
    """

    def __init__(self, clock: Any, per_s: float, burst: int | None = None) -> None:
        self._clock, self._per_s = clock, per_s
        self._burst = self._tokens = float(per_s if burst is None else burst)
        self._at = clock.now()
        self.calls = self.taken = 0

    def set(self, per_s: float) -> None:
        """Take so many from now on, and as many at once."""
        self._per_s = self._burst = float(per_s)

    async def __call__(self, payload: Any) -> Any:
        self.calls += 1
        now = self._clock.now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1.0 - 1e-9:
            raise http_error(429, retry_after_s=(1.0 - self._tokens) / self._per_s)
        self._tokens -= 1.0
        self.taken += 1
        return payload


def settled(pool: PoolRef, clock: FakeClock) -> PoolStats:
    """Once every attempt has been reported that does not wait for the clock, and judged: what was
    on its way while the first look was taken is there at the second one.
    """
    quiet = 0
    while quiet < 2:
        stats = pool.stats()
        quiet = quiet + 1 if stats.in_flight <= clock.waiting else 0
    return stats


def pass_time(pool: PoolRef, clock: FakeClock, seconds: float, step_s: float = 0.05) -> None:
    """Move the clock, and have the pool follow at every step."""
    until = clock.now() + seconds
    while clock.now() < until - 1e-9:
        clock.advance(min(step_s, until - clock.now()))
        settled(pool, clock)


def ask_at(
    pool: PoolRef,
    clock: FakeClock,
    times: Iterable[float],
    payload: Callable[[int], Any] = lambda i: i,
    step_s: float = 0.02,
) -> list[PoolFuture[Any]]:
    """Ask at those seconds from now, in order."""
    start = clock.now()
    futures = []
    for i, at in enumerate(times):
        pass_time(pool, clock, max(0.0, start + at - clock.now()), step_s)
        futures.append(pool.ask(Request(payload(i), key=str(i)), block=False))
        settled(pool, clock)
    return futures


def error_of(future: PoolFuture[Any], timeout_s: float = 0.0) -> BaseException | None:
    """What a request that has ended failed with; None for an answer."""
    try:
        future.get(timeout=timeout_s)
    except Exception as error:
        return error
    return None
