"""`/metrics`: what is known of the pools, for Prometheus. It needs `prometheus-client`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.status import CircuitState
from greenroom.status import metric_names as names
from greenroom.status.board import Seen
from greenroom.status.metric_names import METRICS, Metric, MetricKind
from greenroom.status.request_tally import BOUNDS_S, Histogram, Histograms, RequestTally
from greenroom.status.watched_pool import WatchedPool


def exposition(seen: Iterable[Seen], accept: str) -> tuple[bytes, str]:
    """The text, and its content type.

    Args:
        accept: what the client takes: OpenMetrics where it says so.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Collected(_families(seen))), content_type


class _Collected:
    """What the encoders of `prometheus-client` ask of a registry."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


_FAMILIES: dict[MetricKind, Any] = {
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}


def _families(seen: Iterable[Seen]) -> list[Family]:
    families: dict[Metric, Any] = {
        each: _FAMILIES[each.kind](each.name, each.help, labels=("pool", *each.labels))
        for each in METRICS
    }
    for each in seen:
        pool = each.pool.name
        for metric, labels, value in _values(each):
            said = [pool, *labels]
            if isinstance(value, Histogram):
                families[metric].add_metric(said, *_buckets(value))
            else:
                families[metric].add_metric(said, float(value))
    return list(families.values())


_Value = tuple[Metric, tuple[str, ...], float | Histogram]


def _values(seen: Seen) -> Iterator[_Value]:
    stats = seen.stats
    yield names.UP, (), stats is not None
    yield names.READY, (), stats is not None and stats.can_serve
    yield from _of_requests(seen.pool.tally)
    if stats is None:
        return
    yield names.QUEUE, (), stats.pending
    yield names.RETRIES, (), stats.retries
    yield names.HEDGES, (), stats.hedges
    for member in stats.members:
        yield from _of_member(member)
    yield from _of_attempts(seen.pool, stats)


_OUTCOMES = ("answered", "failed", "cancelled", "rejected", "turned_away")


def _of_requests(tally: RequestTally) -> Iterator[_Value]:
    # Each from the start: a rate of what appears with its first failure would miss that one.
    requests = tally.requests
    for outcome in _OUTCOMES:
        yield names.REQUESTS, (outcome,), requests[outcome]
    yield from _histograms(names.REQUEST_S, tally.request_s)
    yield from _histograms(names.QUEUE_S, tally.queue_s)


def _of_attempts(pool: WatchedPool, stats: PoolStats) -> Iterator[_Value]:
    """Of the members that there are: series of those that have left come to their end."""
    there = {each.name for each in stats.members}
    tally = pool.tally
    for labels, count in tally.attempts.items():
        if labels[0] in there:
            yield names.ATTEMPTS, labels, count
    for name in sorted(there):
        for state in ("open", "half_open", "closed"):
            yield names.TRANSITIONS, (name, state), pool.transitions[name, state]
    for metric, histograms in (
        (names.ATTEMPT_S, tally.attempt_s),
        (names.FIRST_CHUNK_S, tally.first_chunk_s),
    ):
        yield from (each for each in _histograms(metric, histograms) if each[1][0] in there)


def _of_member(member: MemberStats) -> Iterator[_Value]:
    me = (member.name,)
    yield names.IN_FLIGHT, me, member.in_flight
    yield names.AVAILABLE, me, member.available
    for state in CircuitState:
        yield names.BREAKER, (*me, state.value), member.circuit is state
    yield names.ERROR_RATIO, me, member.error_rate
    yield names.RESTARTS, me, max(0, member.incarnation - 1)
    yield names.AGENTS_LOST, me, member.agents_lost
    yield names.ABANDONED, me, member.abandoned
    yield names.CONCURRENCY, me, member.max_concurrency
    yield names.LEARNED, me, member.concurrency_learned
    left: dict[tuple[str, str], int] = {}
    for limit in member.limits:
        said = (limit.cost, "" if limit.per_s is None else f"{limit.per_s:g}s")
        # Two of one kind would be one series twice, which no scrape takes: the tighter one counts.
        left[said] = min(limit.headroom, left.get(said, limit.headroom))
    for said, headroom in left.items():
        yield names.HEADROOM, (*me, *said), headroom


def _histograms(metric: Metric, histograms: Histograms) -> Iterator[_Value]:
    for labels, histogram in histograms.items():
        yield metric, labels, histogram


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    sums = map(float, histogram.cumulative())
    return list(zip(bounds, sums, strict=True)), histogram.total_s
