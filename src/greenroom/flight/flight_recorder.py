"""The recorder of one pool: what it keeps in memory, what it writes, what it can be asked."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from greenroom.actors.runtime.clock import Clock
from greenroom.flight.draws import RecordedDraws
from greenroom.flight.explanation import explain, who_is_out
from greenroom.flight.flight_lines import FlightError, Header
from greenroom.flight.flight_log import FlightLog
from greenroom.flight.flight_observer import FlightObserver
from greenroom.flight.flight_target import target_of
from greenroom.flight.flight_writer import FlightWriter
from greenroom.flight.raw_requests import request_of
from greenroom.flight.settings_said import settings_of
from greenroom.messages.config import PoolConfig

Record = bool | str | os.PathLike[str] | Callable[[str], object]
"""Where a pool's flight goes: a path, a function that gets each line, True for memory alone."""

_SALT_BYTES = 16


class FlightRecorder:
    """Made by `AgentPool.start`, before its actors.

    Args:
        record: where to, see `Record`; not False.
        rng: the pool's chance, which is not drawn from here.
        supervision: what the supervisor's chance is seeded with.

    Attributes:
        observer: what the router tells each step to.
        rng: what the pool is to draw from in place of the other.

    Raises:
        TypeError: `record` is nothing of that.
        OSError: the file cannot be opened.
        ModuleNotFoundError: a `.zst` without the extra `record`.
        ValueError: another pool of this process writes to that file.
    """

    def __init__(
        self,
        record: Record,
        *,
        pool: str,
        strategy: str,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        supervision: int | None = None,
    ) -> None:
        settings, left_out = settings_of(config)
        self._clock = clock
        self._header = Header(
            pool=pool,
            at=clock.now(),
            wall=clock.wall(),
            strategy=strategy,
            settings=settings,
            left_out=left_out,
            supervision=supervision,
            greenroom=_version(),
        )
        self.rng = rng
        self._writer: FlightWriter | None = None
        draws = put = None
        if record is not True:
            self._writer = FlightWriter(target_of(record, pool), self._header)
            put = self._writer.put
            self.rng = draws = RecordedDraws(rng)
        self.observer = FlightObserver(strategy, secrets.token_bytes(_SALT_BYTES), draws, put, put)

    def explain(self, request_id: str | None = None) -> str:
        """What `PoolRef.explain` says. Any thread may ask.

        Raises:
            LookupError: nothing is known of such a request, or not any more.
        """
        log = FlightLog(self._header)
        for line in self.observer.lines():
            log.add(line)
        for raw in self.observer.about(request_id) if request_id is not None else ():
            log.add(request_of(raw[:]))
        log.last_at = now = max(log.last_at, self._clock.now())
        log.is_dry(self.observer.dry(), now)
        if request_id is None:
            return str(who_is_out(log))
        try:
            return str(explain(log, request_id))
        except FlightError as error:
            raise LookupError(f"{error}: the last requests are kept, not all") from None

    def close(self) -> None:
        """The pool has ended: what is still under way is written as it is."""
        self.observer.give_up(self._clock.now())
        if self._writer is not None:
            self._writer.close()


def check_record(record: Any) -> None:
    """Refuse what is no place for a recording.

    Raises:
        TypeError: it is none.
    """
    if record is None or isinstance(record, bool | str | os.PathLike) or callable(record):
        return
    raise TypeError(
        "record must be a path, a function that takes a line, True for memory alone, False or "
        f"None, got {record!r} ({type(record).__name__})"
    )


def _version() -> str:
    try:
        return version("greenroom")
    except PackageNotFoundError:  # a tree that is not installed
        return ""
