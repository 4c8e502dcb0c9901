"""The metrics of `/metrics`: their names, labels and meanings. Pure.

Named by Prometheus's rules: base units, `_total` for what only grows, `_seconds` for times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as queries have it; what is added to it are `_bucket`, `_sum`, `_count` of histograms.
        labels: beside `pool`, which each has.
        help: what it says, in a sentence.
    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str


_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_M = ("member",)

UP = Metric("greenroom_up", _G, (), "Whether the pool has answered in time; 0: it is stuck.")
READY = Metric("greenroom_ready", _G, (), "Whether a member could take a request.")
REQUESTS = Metric(
    "greenroom_requests_total",
    _C,
    ("outcome",),
    "Requests by outcome: answered, failed, cancelled, rejected (no room), turned_away (draining).",
)
REQUEST_S = Metric(
    "greenroom_request_duration_seconds",
    _H,
    ("outcome",),
    "From the arrival of a request to its end, retries and waiting included.",
)
QUEUE_S = Metric(
    "greenroom_queue_wait_seconds", _H, (), "From the arrival of a request to its first attempt."
)
ATTEMPTS = Metric(
    "greenroom_attempts_total",
    _C,
    ("member", "outcome", "kind"),
    "Attempts by outcome (succeeded, failed, refused, left), and by kind of failure.",
)
ATTEMPT_S = Metric(
    "greenroom_attempt_duration_seconds", _H, ("member", "outcome"), "What an attempt took."
)
FIRST_CHUNK_S = Metric(
    "greenroom_first_chunk_seconds", _H, _M, "From the begin of an attempt to its first chunk."
)
QUEUE = Metric("greenroom_queue_depth", _G, (), "Requests that wait for a member.")
RETRIES = Metric("greenroom_retries_total", _C, (), "Attempts after one that had failed.")
HEDGES = Metric("greenroom_hedges_total", _C, (), "Attempts beside one that was slow.")
IN_FLIGHT = Metric("greenroom_in_flight", _G, _M, "Attempts that hold a slot of the member.")
AVAILABLE = Metric("greenroom_member_available", _G, _M, "Whether it could be asked right now.")
BREAKER = Metric(
    "greenroom_breaker_state", _G, ("member", "state"), "1 for the state that its breaker is in."
)
TRANSITIONS = Metric(
    "greenroom_breaker_transitions_total",
    _C,
    ("member", "state"),
    "How often its breaker has come to a state.",
)
ERROR_RATIO = Metric(
    "greenroom_member_error_ratio", _G, _M, "Share of failures among its recent outcomes."
)
RESTARTS = Metric("greenroom_restarts_total", _C, _M, "How often its actor was restarted.")
AGENTS_LOST = Metric(
    "greenroom_agents_lost_total", _C, _M, "Agents of it that were gone for good, since a reset."
)
ABANDONED = Metric(
    "greenroom_abandoned_threads", _G, _M, "Threads given up on that have not ended yet."
)
CONCURRENCY = Metric(
    "greenroom_concurrency_limit", _G, _M, "Attempts that it takes at a time: said, or learned."
)
LEARNED = Metric("greenroom_concurrency_learned", _G, _M, "Whether that limit was learned.")
HEADROOM = Metric(
    "greenroom_rate_limit_headroom",
    _G,
    ("member", "cost", "window"),
    "How much of a rate limit may still begin now.",
)

METRICS: tuple[Metric, ...] = (
    UP,
    READY,
    REQUESTS,
    REQUEST_S,
    QUEUE_S,
    ATTEMPTS,
    ATTEMPT_S,
    FIRST_CHUNK_S,
    QUEUE,
    RETRIES,
    HEDGES,
    IN_FLIGHT,
    AVAILABLE,
    BREAKER,
    TRANSITIONS,
    ERROR_RATIO,
    RESTARTS,
    AGENTS_LOST,
    ABANDONED,
    CONCURRENCY,
    LEARNED,
    HEADROOM,
)
"""All of them."""
