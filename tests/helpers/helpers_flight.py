"""Flights as they are recorded: a world without actors, and what is noted of it."""

from __future__ import annotations

from typing import Any

from helpers_flow import World

from greenroom.flight.explanation import explain, who_is_out
from greenroom.flight.flight_lines import Header, RequestLine
from greenroom.flight.flight_log import FlightLog
from greenroom.flight.flight_observer import FlightObserver
from greenroom.flight.line_text import read, written
from greenroom.flight.raw_requests import request_of, whole
from greenroom.flight.settings_said import settings_of
from greenroom.messages.config import PoolConfig


class FlightWorld(World):
    """A world that is recorded, and can be asked. Its clock on the wall begins in 1970, at 100 s.

    Attributes:
        flight: what notes each step.
    """

    def __init__(
        self, *members: str, strategy: str = "priority", salt: bytes = b"salt", **config: Any
    ) -> None:
        self.put: list[Any] = []
        self.flight = FlightObserver(
            strategy, salt, None, self.put.append, self.put.append, kept=100
        )
        self.header = Header(
            pool="pool",
            at=100.0,
            wall=100.0,
            strategy=strategy,
            settings=settings_of(PoolConfig(**config))[0],
        )
        self._watched = False
        super().__init__(*members, strategy=strategy, observer=self.flight, **config)

    def snapshot(self) -> None:
        if not self._watched:
            self.flight.watches(self.flow.table)
            self._watched = True
        super().snapshot()

    def request(self, request_id: str) -> RequestLine:
        """What is kept of a request."""
        (raw,) = [each for each in self.flight.requests() if each[0] == request_id]
        return request_of(raw)

    def log(self) -> FlightLog:
        """All that is kept in memory."""
        kept = [request_of(each) for each in self.flight.requests()]
        log = FlightLog.of(self.header, [*self.flight.lines(), *kept])
        log.last_at = self.now
        return log

    def recorded(self) -> FlightLog:
        """All that was handed on, by way of the lines of a file."""
        texts = [
            written(request_of(whole(e)) if isinstance(e, list | tuple) else e) for e in self.put
        ]
        lines = [line for line in map(read, texts) if line is not None]
        return FlightLog.of(self.header, lines)

    def explained(self, request_id: str) -> str:
        """Both say the same."""
        return str(explain(self.log(), request_id))

    def out(self) -> str:
        return str(who_is_out(self.log()))
