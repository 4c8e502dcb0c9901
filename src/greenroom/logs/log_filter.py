"""Which lines of a JSON log somebody wants to see. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from greenroom.messages.events import CATALOGUE

Line = Mapping[str, Any]
"""A line of `greenroom.log(format="json")`."""

LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "TRACE": 5,
        "DEBUG": 10,
        "INFO": 20,
        "SUCCESS": 25,
        "WARNING": 30,
        "ERROR": 40,
        "CRITICAL": 50,
    }
)
"""loguru's own; a level of an app's own has none, and is always shown."""

NAMES = (*sorted(event.name for event in CATALOGUE), "log")
"""What the `event` of a line may be; `log` is a fault that is no event."""

_UNITS = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86400})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parsed(text: str) -> dict[str, Any] | None:
    """A line of the log; None for what is none of its lines."""
    # A cheap look first: other programs' lines may stand between, and be long.
    if not text.lstrip().startswith("{"):
        return None
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(line, dict) and {"ts", "level", "event"} <= line.keys():
        return line if time_of(line) is not None else None
    return None


def time_of(line: Line) -> datetime | None:
    """When it was written; None if that is no time."""
    try:
        at = datetime.fromisoformat(line["ts"])
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def moment(text: str, now: datetime) -> datetime:
    """The moment that `--since` and `--until` name: so long ago (`90s`, `10m`, `2h`, `1d`), or a
    time of ISO 8601, local where it does not say otherwise.

    Raises:
        ValueError: it is neither.
    """
    ago = _DURATION.fullmatch(text.strip())
    try:
        if ago is not None:
            return now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
        return datetime.fromisoformat(text.strip()).astimezone()
    except (OverflowError, ValueError):
        raise ValueError(
            "must be so long ago, as 90s, 10m, 2h or 1d, or a time as 2026-01-31T12:00, "
            f"got {text!r}"
        ) from None


def event_pattern(text: str) -> str:
    """A pattern that some event's name fits.

    Raises:
        ValueError: none does.
    """
    if not any(fnmatchcase(name, text) for name in NAMES):
        raise ValueError(f"no event is named so: {text!r}; there are {', '.join(NAMES)}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What a line has to be. Within one field any of the values will do; none is no condition.

    Args:
        pools, members, requests: names and ids, or patterns of them as of the names of files.
        events: patterns of events' names: `breaker.*`.
        level: the least level.
        since, until: no line from before the one, nor from after the other.
    """

    pools: Sequence[str] = ()
    members: Sequence[str] = ()
    requests: Sequence[str] = ()
    events: Sequence[str] = ()
    level: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def wants(self, line: Line) -> bool:
        """Whether it is one of those."""
        fields = (
            ("pool", self.pools),
            ("member", self.members),
            ("request_id", self.requests),
            ("event", self.events),
        )
        if not all(_fits(line, field, patterns) for field, patterns in fields if patterns):
            return False
        level = LEVELS.get(str(line["level"]))
        if self.level is not None and level is not None and level < LEVELS[self.level]:
            return False
        return self._in_time(line)

    def _in_time(self, line: Line) -> bool:
        if self.since is None and self.until is None:
            return True
        at = time_of(line)
        if at is None:
            return False
        if self.since is not None and at < self.since:
            return False
        return self.until is None or at <= self.until


# A line is about these members too: whom a failover goes to, and beside whom a hedge is.
_BESIDE: Mapping[str, Sequence[str]] = MappingProxyType({"member": ("to", "beside")})


def _fits(line: Line, field: str, patterns: Sequence[str]) -> bool:
    values = [line.get(name) for name in (field, *_BESIDE.get(field, ()))]
    return any(
        isinstance(value, str) and (value == pattern or fnmatchcase(value, pattern))
        for value in values
        for pattern in patterns
    )


class Tally:
    """Counts what was read, so that a file of something else can be told from a quiet one.

    Attributes:
        lines: of the log.
        foreign: others, but for empty ones.
    """

    def __init__(self, show: Callable[[Line, str], object], wanted: LogFilter) -> None:
        self._show = show
        self._wanted = wanted
        self.lines = 0
        self.foreign = 0

    def take(self, text: str) -> None:
        """One line of the file."""
        line = parsed(text)
        if line is None:
            self.foreign += bool(text.strip())
            return
        self.lines += 1
        if self._wanted.wants(line):
            self._show(line, text)
