"""A status as rows of text, for a terminal or for a file. Pure.

It takes what `/status.json` says, be it from another version or from something that only looks like
it: what is missing is a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

HEADS = ("member", "status", "breaker", "in flight", "ok", "failed", "errors", "p50", "p95", "left")
NUMBERS = frozenset({"ok", "failed", "errors", "p50", "p95"})
UNKNOWN = "-"

Said = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PoolFrame:
    """One pool.

    Attributes:
        title: its name and state.
        is_well: whether it could serve a request.
        figures: what has become of its requests.
        rows: one a member, under `HEADS`.
        errors: the last error of each member that has one.
    """

    title: str
    is_well: bool
    figures: str
    rows: tuple[tuple[str, ...], ...]
    errors: tuple[tuple[str, str], ...]


def frames_of(status: Said, before: Said | None = None) -> list[PoolFrame]:
    """The pools of a status.

    Args:
        before: an older one, by which rates are told.
    """
    older = {str(each.get("name")): each for each in _dicts((before or {}).get("pools"))}
    passed_s = _number(status.get("at")) - _number((before or {}).get("at"))
    return [
        _frame(each, older.get(str(each.get("name"))), passed_s)
        for each in _dicts(status.get("pools"))
    ]


def _frame(pool: Said, before: Said | None, passed_s: float) -> PoolFrame:
    name = str(pool.get("name"))
    if not pool.get("answers"):
        waited_s = _number(pool.get("waited_s"))
        return PoolFrame(f"{name}: does not answer (within {waited_s:g} s)", False, "", (), ())
    is_well = bool(pool.get("can_serve"))
    if pool.get("stopped"):
        state = "stopped"
    elif pool.get("draining"):
        state = "draining"
    else:
        state = "ready" if is_well else "nobody is available"
    strategy = pool.get("strategy")
    members = list(_dicts(pool.get("members")))
    return PoolFrame(
        title=f"{name}: {state}" + (f" ({strategy})" if strategy else ""),
        is_well=is_well,
        figures=", ".join(_figures(pool, before, passed_s)),
        rows=tuple(map(_row, members)),
        errors=tuple((str(m.get("name")), str(e)) for m in members if (e := m.get("last_error"))),
    )


def _figures(pool: Said, before: Said | None, passed_s: float) -> Iterator[str]:
    if before is not None and passed_s > 0:
        answered = _number(pool.get("completed")) - _number(before.get("completed"))
        yield f"{max(0.0, answered) / passed_s:.1f} answered/s"
    for field, word in (
        ("pending", "waiting"),
        ("in_flight", "in flight"),
        ("completed", "answered"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("retries", "retries"),
        ("hedges", "hedges"),
    ):
        value = pool.get(field)
        if value is not None:
            yield f"{_count(value)} {word}"


def _row(member: Said) -> tuple[str, ...]:
    return (
        str(member.get("name")),
        _or_dash(member.get("status")),
        _breaker(member),
        _load(member),
        _count(member.get("successes")),
        _count(member.get("failures")),
        f"{_number(member.get('error_rate')):.0%}",
        _seconds(member.get("latency_p50_s")),
        _seconds(member.get("latency_p95_s")),
        ", ".join(map(_limit, _dicts(member.get("limits")))) or UNKNOWN,
    )


def _breaker(member: Said) -> str:
    circuit = _or_dash(member.get("circuit"))
    back_s = member.get("reopens_in_s")
    if not isinstance(back_s, int | float):
        return circuit
    what = "trial in" if circuit == "open" else "rests"
    return f"{circuit}, {what} {back_s:.0f} s"


def _load(member: Said) -> str:
    if member.get("in_flight") is None:
        return UNKNOWN
    learned = " learned" if member.get("concurrency_learned") else ""
    return f"{_count(member.get('in_flight'))}/{_count(member.get('max_concurrency'))}{learned}"


def _limit(limit: Said) -> str:
    most = limit.get("limit")
    of = "" if most is None else f"/{_count(most)}"
    return f"{_count(limit.get('headroom'))}{of} {limit.get('cost')}"


def event_row(event: Said) -> tuple[str, ...]:
    """An event: its time of day here, whose it is, its name, and what it says."""
    try:
        at = datetime.fromisoformat(str(event.get("ts"))).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        at = UNKNOWN
    whose = "/".join(str(each) for each in (event.get("pool"), event.get("member")) if each)
    return (at, whose or UNKNOWN, str(event.get("event")), str(event.get("message", "")))


def text_of(status: Said, source: str) -> Iterator[str]:
    """A whole status as lines of text."""
    yield source
    for frame in frames_of(status):
        yield ""
        yield frame.title
        if frame.figures:
            yield f"  {frame.figures}"
        if frame.rows:
            yield from (f"  {line}" for line in aligned((HEADS, *frame.rows)))
        yield from (f"  last error of {name}: {error}" for name, error in frame.errors)
    events = list(map(event_row, _dicts(status.get("events"))))
    if events:
        yield ""
        yield from aligned(events)


def aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Rows whose columns stand below one another."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _dicts(value: Any) -> Iterator[Said]:
    return (
        (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _seconds(value: Any) -> str:
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _or_dash(value: Any) -> str:
    return UNKNOWN if value is None else str(value)
