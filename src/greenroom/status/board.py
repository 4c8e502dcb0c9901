"""The pools of one status endpoint, asked all at once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pykka

from greenroom.messages.errors import PoolStoppedError
from greenroom.messages.replies import PoolStats
from greenroom.status.event_buffer import EventBuffer
from greenroom.status.plain_status import Plain, plain_event, plain_pool, silent_pool
from greenroom.status.watched_pool import KEPT, WatchedPool

ANSWER_S = 1.0
"""How long all pools together have to answer; one that does not is shown as such."""
READERS = 8
"""Who may read `/events` at a time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A pool, and what it has answered; None: nothing in time."""

    pool: WatchedPool
    stats: PoolStats | None


class Board:
    """Pools come and go while it is read.

    Args:
        answer_s: seconds that pools have to answer.
    """

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._lock = threading.Lock()
        # Both replaced as a whole, under the lock.
        self._pools: tuple[WatchedPool, ...] = ()
        self._readers: tuple[EventBuffer, ...] = ()
        self._closed = False

    def add(self, pool: WatchedPool) -> None:
        """One more pool; whoever reads events has its, too."""
        with self._lock:
            self._pools = (*self._pools, pool)
            readers = self._readers
        for reader in readers:
            pool.add_reader(reader)
        with self._lock:
            gone = [each for each in readers if each not in self._readers]
        for reader in gone:  # it came to its end meanwhile, and did not find this pool
            pool.remove_reader(reader)

    def remove(self, pool: WatchedPool) -> None:
        """It has ended."""
        with self._lock:
            self._pools = tuple(each for each in self._pools if each is not pool)
        pool.leave()

    def look(self, name: str | None = None) -> list[Seen]:
        """Ask each pool, or the one of that name; no longer than `answer_s` in all."""
        pools = [each for each in self._pools if name in (None, each.name)]
        asked = [(each, each.ask()) for each in pools]
        until = time.monotonic() + self._answer_s
        seen: list[Seen] = []
        for pool, future in asked:
            if future is None:
                continue
            try:
                left = max(0.0, until - time.monotonic())
                seen.append(Seen(pool, future.get(timeout=left)))
            except pykka.Timeout:
                seen.append(Seen(pool, None))
            except (PoolStoppedError, pykka.ActorDeadError):
                continue  # it has ended meanwhile
            except Exception:  # a fault of its own, which its log tells of; the others are shown
                seen.append(Seen(pool, None))
        return seen

    def plain(self, last_events: int) -> Plain:
        """All that is known, for JSON.

        Args:
            last_events: so many of the events of all pools, the newest last.
        """
        now = time.time()
        return {
            "at": round(now, 3),
            "pid": os.getpid(),
            "pools": [self._plain_pool(each) for each in self.look()],
            "events": self._last(min(last_events, KEPT)),
        }

    def _plain_pool(self, seen: Seen) -> Plain:
        if seen.stats is None:
            return silent_pool(seen.pool.name, self._answer_s)
        tally = seen.pool.tally
        attempts = [
            {"member": member, "outcome": outcome, "kind": kind, "count": count}
            for (member, outcome, kind), count in sorted(tally.attempts.items())
        ]
        return plain_pool(seen.stats) | {"requests": dict(tally.requests), "attempts": attempts}

    def _last(self, count: int) -> list[dict[str, Any]]:
        if not count:
            return []
        kept = [each for pool in self._pools for each in pool.kept()]
        kept.sort(key=lambda each: each[0])
        return [plain_event(event, at) for at, event in kept[-count:]]

    @contextlib.contextmanager
    def reading(self, everything: bool) -> Iterator[EventBuffer | None]:
        """Within it a reader has the events of all pools; None: too many read already.

        Args:
            everything: those of requests, too.
        """
        reader = EventBuffer(everything)
        with self._lock:
            if self._closed or len(self._readers) >= READERS:
                admitted = False
            else:
                admitted = True
                self._readers = (*self._readers, reader)
            pools = self._pools
        if not admitted:
            yield None
            return
        try:
            for pool in pools:
                pool.add_reader(reader)
            yield reader
        finally:
            with self._lock:
                self._readers = tuple(each for each in self._readers if each is not reader)
                pools = self._pools
            for pool in pools:
                pool.remove_reader(reader)

    def close(self) -> None:
        """The last pool has ended: who reads events comes to their end."""
        with self._lock:
            self._closed = True
            readers = self._readers
        for reader in readers:
            reader.close()
