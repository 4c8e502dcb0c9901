"""The requests of a recording, as they are asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.messages.config import PoolConfig
from greenroom.messages.requests import Request
from greenroom.messages.screening import Heard
from greenroom.simulate.recorded_flight import Arrival, RecordedFlight
from greenroom.simulate.standin_keys import StandInKeys

KEYED = "consistent_hash"


class ReplayedRequests:
    """Makes requests that ask for what the recorded ones did, and each kind of them once."""

    def __init__(self, flight: RecordedFlight, config: PoolConfig, strategy: str) -> None:
        self._plain: Request[Any] = Request(None)
        self._made: dict[tuple[Any, ...], tuple[Request[Any], Heard | None]] = {}
        self._default_s = flight.config.deadline_s
        self._fair = config.fair_by is not None or "fair_by" in flight.header.left_out
        self._keys: StandInKeys | None = None
        # Of another strategy the picks say nothing of the keys.
        if strategy == flight.header.strategy == KEYED:
            self._keys = StandInKeys(flight.members, flight.arrivals)

    def request(self, arrival: Arrival) -> tuple[Request[Any], Heard | None]:
        facts = arrival.facts
        if facts is None:
            return self._plain, None
        said = tuple((name, _plain(value)) for name, value in facts.items() if name != "deadline")
        timeout = facts.get("deadline")
        if timeout is not None:
            timeout = max(1e-9, timeout - arrival.at)
            if self._default_s is not None and abs(timeout - self._default_s) < 1e-6:
                timeout = None
        known = self._made.get((timeout, *said))
        if known is None:
            known = self._new(facts, timeout)
            if len(self._made) < 100_000:
                self._made[(timeout, *said)] = known
        return known

    def _new(
        self, facts: Mapping[str, Any], timeout: float | None
    ) -> tuple[Request[Any], Heard | None]:
        key = facts.get("key")
        if key is not None and self._keys is not None:
            key = self._keys.of(key)
        request: Request[Any] = Request(
            None,
            key=key,
            timeout=timeout,
            priority=facts.get("priority", 0),
            idempotent=not facts.get("once", False),
            max_retries=facts.get("max_retries"),
            only=facts.get("only"),
            exclude=facts.get("exclude"),
            prefer=facts.get("prefer"),
            cost=facts.get("cost"),
        )
        fair = facts.get("fair")
        heard = None if fair is None else Heard(fair_key=fair, weight=facts.get("weight", 1.0))
        return request, heard


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
