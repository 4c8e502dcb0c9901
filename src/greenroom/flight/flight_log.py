"""A recording as it is asked: who was in the pool, in what state, and what became of a request.
Pure.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from greenroom.flight.flight_lines import (
    EndLine,
    FlightError,
    Header,
    Line,
    LostLine,
    MemberFacts,
    MembersLine,
    RefusedLine,
    RequestLine,
    RestLine,
    SettingsLine,
    StateLine,
)
from greenroom.flight.flight_steps import Given, Queued


@dataclass(slots=True, eq=False)
class FlightLog:
    """What one pool has recorded, from one beginning to the next.

    Attributes:
        requests: by id, in the order of their lines; of two with one id the later one.
        keyed: requests by the hash of their key, in the order of their arrival.
        lost: how many lines are missing.
        last_at: the latest moment that is known, on the pool's clock.
    """

    header: Header
    requests: dict[str, RequestLine] = field(default_factory=dict)
    keyed: dict[str, list[RequestLine]] = field(default_factory=dict)
    refused: dict[str, RefusedLine] = field(default_factory=dict)
    lost: int = 0
    last_at: float = 0.0
    _members: dict[int, MembersLine] = field(default_factory=dict)
    _states: dict[int, list[StateLine]] = field(default_factory=dict)
    _rests: dict[int, list[RestLine]] = field(default_factory=dict)
    _settings: list[SettingsLine] = field(default_factory=list)
    _dry: dict[int, float] = field(default_factory=dict)
    _dry_at: float = -math.inf

    def __post_init__(self) -> None:
        self.last_at = self.header.at

    @classmethod
    def of(cls, header: Header, lines: Iterable[Line]) -> FlightLog:
        """Of all that one pool has said."""
        log = cls(header)
        for line in lines:
            log.add(line)
        return log

    def add(self, line: Line) -> None:
        """Take in one more line; not a header."""
        match line:
            case RequestLine():
                self.requests[line.id] = line
                key = line.facts.get("key")
                if key is not None:
                    bisect.insort(self.keyed.setdefault(key, []), line, key=_number)
                self._is_known_at(line.at if line.end is None else line.end.at)
                self.look_at(line)
            case MembersLine():
                self._members[line.number] = line
                self._is_known_at(line.at)
            case StateLine():
                self._states.setdefault(line.member, []).append(line)
                self._is_known_at(line.at)
            case RestLine():
                self._rests.setdefault(line.member, []).append(line)
                self._is_known_at(line.at)
            case SettingsLine():
                self._settings.append(line)
            case RefusedLine():
                self.refused[line.id] = line
            case LostLine():
                self.lost += line.count
            case EndLine():
                self._is_known_at(line.at)
            case Header():
                raise FlightError("a second header: it begins another recording")

    def look_at(self, line: RequestLine) -> None:
        """Take in who lacked headroom when that request was given to somebody last, or waited."""
        seen = [each for each in line.steps if isinstance(each, Given | Queued)]
        if seen and seen[-1].at >= self._dry_at:
            out = [each for each in seen[-1].out if each[1] == "headroom" and each[2] is not None]
            self.is_dry({each[0]: each[2] for each in out if each[2] is not None}, seen[-1].at)

    def is_dry(self, until: Mapping[int, float], at: float) -> None:
        """These members lacked headroom at that time, and until when; no others did."""
        self._dry, self._dry_at = dict(until), at

    def _is_known_at(self, at: float) -> None:
        self.last_at = max(self.last_at, at)

    # -- what is asked

    def members(self, number: int | None = None) -> tuple[MemberFacts, ...]:
        """Who was in the pool, by index; None: at last."""
        if number is None:
            number = max(self._members, default=0)
        line = self._members.get(number)
        return () if line is None else tuple(line.members)

    def name(self, index: int | None) -> str:
        """What a member was called; one of which nothing is known by its number."""
        for line in reversed(self._members.values()):
            for each in line.members:
                if each.index == index:
                    return each.name
        return f"member {index}"

    def state(self, index: int, at: float) -> StateLine | None:
        """The last one that was told by then."""
        lines = self._states.get(index, [])
        found = bisect.bisect_right(lines, at, key=_at)
        return lines[found - 1] if found else None

    def states(self, index: int) -> Sequence[StateLine]:
        """All that was told of a member."""
        return self._states.get(index, ())

    def rest(self, index: int, at: float) -> RestLine | None:
        """The rest that a member had at that time."""
        told = [each for each in self._rests.get(index, ()) if each.at <= at]
        return told[-1] if told and at < told[-1].until else None

    def dry(self, index: int, at: float) -> float | None:
        """Until when a member lacks headroom that does so at that time, as far as is known: the
        last request that was given to somebody has seen it.
        """
        until = self._dry.get(index)
        return until if until is not None and self._dry_at <= at < until else None

    def settings(self, at: float) -> Mapping[str, Any]:
        """Those that held at that time."""
        held = self.header.settings
        for line in self._settings:
            if line.at <= at:
                held = line.settings
        return held

    def clock(self, at: float) -> str:
        """That moment by the clock on the wall (UTC)."""
        moment = datetime.fromtimestamp(self.header.wall + at - self.header.at, UTC)
        return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

    def before(self, line: RequestLine) -> RequestLine | None:
        """The last request of the same key before that one which a member has been given."""
        key = line.facts.get("key")
        earlier = [
            each
            for each in self.keyed.get(key or "", ())
            if each.number < line.number and any(isinstance(s, Given) for s in each.steps)
        ]
        return earlier[-1] if earlier else None


def _number(line: RequestLine) -> int:
    return line.number


def _at(line: StateLine) -> float:
    return line.at
