"""Keys in place of those that a recording has as hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from greenroom.actors.strategies.ranking import digest, score, to_bytes
from greenroom.flight.flight_lines import MemberFacts
from greenroom.simulate.recorded_flight import Arrival

_MOST_TRIES = 2_000


class StandInKeys:
    """Finds keys that rank the members as those did that are recorded: who had most of a key's
    requests first, who had the next most behind that one, as long as one of that kind is found.

    Args:
        members: those that weigh something count.
    """

    def __init__(self, members: Sequence[MemberFacts], arrivals: Iterable[Arrival]) -> None:
        self._members = [each for each in members if each.weight > 0]
        self._had: dict[str, Counter[int]] = {}
        for arrival in arrivals:
            key = (arrival.facts or {}).get("key")
            if key is not None:
                had = self._had.setdefault(key, Counter())
                had.update(call.member for call in arrival.calls if call.role == 0)
        self._found: dict[str, str] = {}

    def of(self, key: str) -> str:
        """The key that stands for a recorded one."""
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look_for(key)
        return found

    def _look_for(self, key: str) -> str:
        wanted = [member for member, _ in self._had.get(key, Counter()).most_common(2)]
        first = None
        for number in range(_MOST_TRIES if wanted else 0):
            candidate = f"{key}-{number}"
            ranked = self._ranked(candidate)
            if ranked[: len(wanted)] == wanted:
                return candidate
            if first is None and ranked[:1] == wanted[:1]:
                first = candidate
        return first or key

    def _ranked(self, key: str) -> list[int]:
        """The indices of those that score highest, as `ConsistentHash` has them."""
        hashed = digest(to_bytes(key))
        scored = [
            (-score(digest(hashed + to_bytes(each.name)), each.weight), each.index)
            for each in self._members
        ]
        return [index for _, index in sorted(scored)]
