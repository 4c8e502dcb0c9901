"""What a log in JSON says of its pools, as `/status.json` has it: a fold over the events. Pure.

A log knows less than a pool does: what runs and what waits is in no event, and what goes well is in
lines of DEBUG alone. What cannot be known is None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from greenroom.messages.status import AgentStatus, CircuitState
from greenroom.status.plain_status import Plain

LAST_EVENTS = 20
LATENCIES = 100
"""Successes of a member that its latencies are taken of, as in the statistics of a pool."""
_LONGEST_S = 1e9
MOST_SCHEDULED = 10_000
"""Retries that are remembered until they begin."""

Line = Mapping[str, Any]


@dataclass(slots=True)
class _Member:
    """What lines have said of a member."""

    name: str
    status: str = AgentStatus.HEALTHY.value
    circuit: str = CircuitState.CLOSED.value
    back_at: float | None = None
    successes: int = 0
    failures: int = 0
    outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=20))
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    last_error: str | None = None
    incarnation: int = 1
    gone: bool = False

    def plain(self, at: float) -> Plain:
        failed = sum(not each for each in self.outcomes)
        left_s = None if self.back_at is None else max(0.0, self.back_at - at)
        return {
            "name": self.name,
            "status": self.status,
            "circuit": self.circuit,
            "in_flight": None,
            "max_concurrency": None,
            "concurrency_learned": False,
            "successes": self.successes,
            "failures": self.failures,
            "error_rate": failed / len(self.outcomes) if self.outcomes else 0.0,
            "latency_p50_s": _quantile(self.times_s, 0.5),
            "latency_p95_s": _quantile(self.times_s, 0.95),
            "last_error": self.last_error,
            "reopens_in_s": left_s or None,
            "incarnation": self.incarnation,
            "limits": [],
        }


@dataclass(slots=True)
class _Pool:
    """What lines have said of a pool."""

    name: str
    strategy: str | None = None
    stopped: bool = False
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    hedges: int = 0
    members: dict[str, _Member] = field(default_factory=dict)
    scheduled: set[tuple[Any, Any]] = field(default_factory=set)

    def member(self, name: str) -> _Member:
        return self.members.setdefault(name, _Member(name))

    def plain(self, at: float) -> Plain:
        members = [each for each in self.members.values() if not each.gone]
        out = (CircuitState.OPEN, CircuitState.FORCED_OPEN)
        return {
            "name": self.name,
            "answers": True,
            "strategy": self.strategy,
            "stopped": self.stopped,
            "draining": False,
            "can_serve": not self.stopped and any(each.circuit not in out for each in members),
            "pending": None,
            "in_flight": None,
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "retries": self.retries,
            "hedges": self.hedges,
            "members": [each.plain(at) for each in members],
        }


class LogFold:
    """Takes the lines of a log one by one, and says at any time how things stand.

    Attributes:
        lines: how many it has taken.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._at = 0.0
        self._pid: int | None = None
        self._pools: dict[str, _Pool] = {}
        self._last: deque[Line] = deque(maxlen=LAST_EVENTS)

    def take(self, line: Line) -> None:
        """One line, as `greenroom.log(format="json")` has written it."""
        self.lines += 1
        self._at = max(self._at, _seconds(line.get("ts")))
        pid = line.get("pid")
        self._pid = pid if isinstance(pid, int) else self._pid
        if line.get("level") != "DEBUG":  # of each attempt and request: they would fill it
            self._last.append(line)
        name, event = line.get("pool"), str(line.get("event"))
        apply = _FOLDS.get(event)
        if isinstance(name, str) and event == "pool.started":
            # The same name again is another pool: nothing of the old one holds.
            self._pools[name] = _pool_started(name, line)
        if not isinstance(name, str) or apply is None:
            return
        pool = self._pools.setdefault(name, _Pool(name))
        said = line.get("member")
        apply(pool, pool.member(said) if isinstance(said, str) else None, line)

    def plain(self, now: float | None = None) -> Plain:
        """How things stand, as `/status.json` has it.

        Args:
            now: seconds since the epoch; None: when the last line was written, as of a log that
                nobody writes any more.
        """
        at = self._at if now is None else now
        return {
            "at": at,
            "pid": self._pid,
            "pools": [each.plain(at) for each in self._pools.values()],
            "events": list(self._last),
        }


_Fold = Callable[[_Pool, _Member | None, Line], object]


def _pool_started(name: str, line: Line) -> _Pool:
    pool = _Pool(name, strategy=_text(line.get("strategy")))
    for member in filter(None, str(line.get("members") or "").split(", ")):
        pool.member(member)
    return pool


def _pool_stopped(pool: _Pool, _: _Member | None, line: Line) -> None:
    pool.stopped = True


def _request_completed(pool: _Pool, _: _Member | None, line: Line) -> None:
    outcome = line.get("outcome")
    pool.completed += outcome == "answered"
    pool.cancelled += outcome == "cancelled"
    pool.failed += outcome not in ("answered", "cancelled")


def _request_failed(pool: _Pool, _: _Member | None, line: Line) -> None:
    pool.failed += 1


def _scheduled(pool: _Pool, _: _Member | None, line: Line) -> None:
    pool.retries += 1
    if len(pool.scheduled) >= MOST_SCHEDULED:
        pool.scheduled.clear()
    pool.scheduled.add((line.get("request_id"), line.get("attempt")))


def _failed_over(pool: _Pool, _: _Member | None, line: Line) -> None:
    # After a pause the same attempt may begin elsewhere: it is one retry.
    key = (line.get("request_id"), line.get("attempt"))
    pool.retries += key not in pool.scheduled
    pool.scheduled.discard(key)


def _hedged(pool: _Pool, _: _Member | None, line: Line) -> None:
    pool.hedges += 1


def _of_member(fold: Callable[[_Member, Line], object]) -> _Fold:
    """What needs a member, where a line has one."""
    return lambda _, member, line: None if member is None else fold(member, line)


def _started(member: _Member, line: Line) -> None:
    member.gone = False
    incarnation = line.get("incarnation")
    member.incarnation = incarnation if isinstance(incarnation, int) else member.incarnation


def _stopped(member: _Member, line: Line) -> None:
    member.gone = True


def _succeeded(member: _Member, line: Line) -> None:
    member.successes += 1
    member.outcomes.append(True)
    elapsed_s = _number(line.get("elapsed_s"))
    if elapsed_s is not None:
        member.times_s.append(elapsed_s)


def _failed(member: _Member, line: Line) -> None:
    member.failures += 1
    member.outcomes.append(False)
    member.last_error = _text(line.get("error")) or _text(line.get("kind"))


def _opened(member: _Member, line: Line) -> None:
    if line.get("observed"):
        return
    member.circuit = CircuitState.OPEN.value
    member.status = AgentStatus.CIRCUIT_OPEN.value
    member.back_at = _later(line, "reopens_in_s")


def _half_opened(member: _Member, line: Line) -> None:
    if not line.get("observed"):
        member.circuit, member.back_at = CircuitState.HALF_OPEN.value, None


def _closed(member: _Member, line: Line) -> None:
    if not line.get("observed"):
        member.circuit, member.back_at = CircuitState.CLOSED.value, None


def _health(member: _Member, line: Line) -> None:
    member.status = _text(line.get("after")) or member.status


def _resting(member: _Member, line: Line) -> None:
    member.back_at = _later(line, "rests_s")


def _rested(member: _Member, line: Line) -> None:
    member.back_at = None


_FOLDS: Mapping[str, _Fold] = MappingProxyType(
    {
        "pool.stopped": _pool_stopped,
        "request.completed": _request_completed,
        "request.exhausted": _request_failed,
        "request.rejected": _request_failed,
        "failover": _failed_over,
        "retry.scheduled": _scheduled,
        "hedge.started": _hedged,
        "member.started": _of_member(_started),
        "member.restarted": _of_member(_started),
        "member.stopped": _of_member(_stopped),
        "attempt.succeeded": _of_member(_succeeded),
        "attempt.failed": _of_member(_failed),
        "breaker.opened": _of_member(_opened),
        "breaker.half_open": _of_member(_half_opened),
        "breaker.closed": _of_member(_closed),
        "health.changed": _of_member(_health),
        "member.resting": _of_member(_resting),
        "member.rested": _of_member(_rested),
    }
)


def _later(line: Line, name: str) -> float | None:
    seconds = _number(line.get(name))
    return None if seconds is None else _seconds(line.get("ts")) + seconds


def _number(value: Any) -> float | None:
    """None of what is none, or larger than any that a log of greenroom's has: a file may hold
    numbers of any length, infinite ones as well.
    """
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_one and 0 <= value <= _LONGEST_S else None


def _seconds(ts: Any) -> float:
    try:
        return datetime.fromisoformat(ts).timestamp()
    except (TypeError, ValueError):
        return 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _quantile(values: deque[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
