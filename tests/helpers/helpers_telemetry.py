"""Providers of OpenTelemetry that keep what they are told, and pools that tell them."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from helpers_pools import WAIT_S
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from greenroom import AgentPool, Member, PoolConfig, PoolRef, Telemetry
from greenroom.otel import conventions as names
from greenroom.testing import FakeClock


class Balance(SpanProcessor):
    """Counts the beginnings and the ends of each span.

    Attributes:
        begun: how many spans have begun.
    """

    def __init__(self) -> None:
        self.begun = 0
        self._ends: Counter[tuple[int, int]] = Counter()
        self._begins: Counter[tuple[int, int]] = Counter()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1
        self._begins[_id_of(span)] += 1

    def on_end(self, span: ReadableSpan) -> None:
        self._ends[_id_of(span)] += 1

    @property
    def is_even(self) -> bool:
        """Whether each has been ended exactly once."""
        return self._ends == self._begins and set(self._ends.values()) <= {1}

    @property
    def open(self) -> int:
        """How many have no end yet."""
        return self._begins.total() - self._ends.total()


class Telling:
    """Two providers, what they have been told, and the setting by which a pool tells them."""

    def __init__(self, attributes: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.balance = Balance()
        self.traces = TracerProvider(shutdown_on_exit=False)
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces.add_span_processor(self.balance)
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.setting = Telemetry(
            attributes=attributes, tracer_provider=self.traces, meter_provider=self.meters
        )
        self.tracer = self.traces.get_tracer("the app")

    @contextlib.contextmanager
    def pool(
        self,
        *members: Member,
        name: str = "pool",
        clock: FakeClock | None = None,
        strategy: Any = "priority",
        **config: Any,
    ) -> Iterator[PoolRef]:
        pool = AgentPool.start(
            members,
            strategy=strategy,
            config=PoolConfig(**config),
            name=name,
            clock=clock,
            rng=random.Random(1),
            telemetry=self.setting,
        )
        try:
            yield pool
        finally:
            pool.stop(timeout=2 * WAIT_S)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended by now."""
        assert self.setting.flush(WAIT_S)
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.spans if each.name == name]

    def tree(self) -> list[str]:
        """Their names and what is special about each, a child behind its parent, in order."""
        spans = sorted(self.spans, key=lambda each: (each.start_time or 0, _number_of(each)))
        numbers = {_id_of(each): _number_of(each) for each in spans}
        lines: list[str] = []

        def add(parent: int | None, depth: int) -> None:
            for each in spans:
                if (None if each.parent is None else each.parent.span_id) == parent:
                    lines.append("  " * depth + _line_of(each, numbers))
                    add(_id_of(each)[1], depth + 1)

        add(None, 0)
        return lines

    def metrics(self) -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
        """By name and attributes (without `greenroom.` and the pool) what has been measured: of a
        histogram how often.
        """
        assert self.setting.flush(WAIT_S)
        data: Any = self.reader.get_metrics_data()
        found: dict[str, dict[tuple[tuple[str, Any], ...], Any]] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            found[metric.name] = {
                tuple(sorted(_short(point.attributes).items())): getattr(
                    point, "value", getattr(point, "count", None)
                )
                for point in metric.data.data_points
            }
        return found


def _short(attributes: Any) -> dict[str, Any]:
    return {
        key.removeprefix("greenroom."): value
        for key, value in dict(attributes).items()
        if key not in (names.POOL, names.GEN_AI_AGENT_NAME)
    }


def _id_of(span: Any) -> tuple[int, int]:
    context = span.get_span_context()
    return context.trace_id, context.span_id


def _number_of(span: ReadableSpan) -> int:
    number: Any = (span.attributes or {}).get(names.ATTEMPT_NUMBER, 0)
    return int(number)


def _line_of(span: ReadableSpan, numbers: dict[tuple[int, int], int]) -> str:
    about: dict[str, Any] = dict(span.attributes or {})
    if names.POOL not in about:
        return span.name
    words = [span.name]
    if names.ATTEMPT_NUMBER in about:
        words.append(f"#{about[names.ATTEMPT_NUMBER]}")
        words += ["hedge"] if about[names.ATTEMPT_HEDGE] else []
        words += ["trial"] if about[names.ATTEMPT_TRIAL] else []
    outcome = about.get(names.REQUEST_OUTCOME) or about.get(names.ATTEMPT_OUTCOME)
    words += [f"-> {outcome}"] if outcome else []
    error = about.get(names.ERROR_TYPE)
    assert bool(error) is (span.status.status_code is trace.StatusCode.ERROR), span.to_json()
    words += [str(error).removeprefix("greenroom.")] if error else []
    words += [f"({each.name.removeprefix('greenroom.')})" for each in span.events]
    for link in span.links:
        relation = dict(link.attributes or {})[names.LINK_RELATION]
        other = numbers[link.context.trace_id, link.context.span_id]
        words.append(f"({relation} #{other})")
    return " ".join(words)
