"""Statistics and events as plain data, for JSON. Pure. No payload, and nothing that an app keeps
beside its members (`Member.metadata`), gets in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from greenroom.messages.events import Event
from greenroom.messages.replies import MemberStats, PoolStats

Plain = dict[str, Any]

_OF_POOL = (
    "strategy",
    "can_serve",
    "draining",
    "pending",
    "in_flight",
    "accepted",
    "completed",
    "failed",
    "cancelled",
    "retries",
    "hedges",
)
_OF_MEMBER = (
    "name",
    "status",
    "circuit",
    "available",
    "in_flight",
    "max_concurrency",
    "concurrency_learned",
    "successes",
    "failures",
    "error_rate",
    "consecutive_failures",
    "latency_p50_s",
    "latency_p90_s",
    "latency_p95_s",
    "last_error",
    "last_success_at",
    "last_failure_at",
    "reopens_in_s",
    "incarnation",
    "abandoned",
    "agents_lost",
    "weight",
    "priority",
    "group",
    "cost",
)


def plain_pool(stats: PoolStats) -> Plain:
    """A pool that has answered."""
    pool: Plain = {"name": stats.name, "answers": True}
    pool |= {field: _plain(getattr(stats, field)) for field in _OF_POOL}
    pool["available"] = list(stats.available)
    pool["members"] = [plain_member(each) for each in stats.members]
    return pool


def silent_pool(name: str, waited_s: float) -> Plain:
    """A pool that has not answered in time: nothing more is known of it."""
    return {"name": name, "answers": False, "waited_s": waited_s, "can_serve": False, "members": []}


def plain_member(stats: MemberStats) -> Plain:
    """A member."""
    member: Plain = {field: _plain(getattr(stats, field)) for field in _OF_MEMBER}
    member["tags"] = list(stats.tags)
    member["limits"] = [
        {name: _plain(value) for name, value in asdict(each).items()} for each in stats.limits
    ]
    return member


def plain_event(event: Event, at: float) -> Plain:
    """An event as `greenroom.log(format="json")` writes it.

    Args:
        at: when it was, in seconds since the epoch.
    """
    line: Plain = {"ts": moment(at), "level": event.severity()}
    said: Mapping[str, Any] = event.as_dict()
    line |= {key: said[key] for key in ("event", "pool", "member", "request_id")}
    line["message"] = event.describe()
    for key, value in said.items():
        line.setdefault(key, value)
    return {key: _plain(value) for key, value in line.items() if value is not None}


def moment(at: float) -> str:
    """Seconds since the epoch, as lines of the log have them."""
    # Without `+00:00`, six characters.
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)  # an enum becomes its value
    if isinstance(value, float):
        # NaN and Infinity are no JSON.
        return round(value, 6) if math.isfinite(value) else None
    return value if value is None or isinstance(value, int) else str(value)
