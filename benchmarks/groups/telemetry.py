"""What OpenTelemetry costs: where no provider is set, and with the SDK's own batches of spans."""

from __future__ import annotations

from typing import Any

from benchmarks.groups.shared import one_awaiting_caller, one_caller
from benchmarks.model import Case, Comparison, Group, versus
from greenroom import Telemetry

GREENROOM = ("greenroom",)


def _sdk() -> Telemetry:
    """Spans in batches, to an exporter that drops them, and metrics that nobody collects."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Drops(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(Drops()))
    meters = MeterProvider([InMemoryMetricReader()])
    return Telemetry(tracer_provider=traces, meter_provider=meters)


CASES = (
    Case(
        "telemetry.sync.off",
        "ask, sync agents, telemetry=False",
        "us",
        GREENROOM,
        one_caller(lambda peer: peer.call_told(False)),
    ),
    Case(
        "telemetry.sync.auto",
        "ask, sync agents, no provider is set",
        "us",
        GREENROOM,
        one_caller(lambda peer: peer.call_told("auto")),
    ),
    Case(
        "telemetry.sync.on",
        "ask, sync agents, spans and metrics",
        "us",
        GREENROOM,
        one_caller(lambda peer: peer.call_told(_sdk())),
    ),
    Case(
        "telemetry.async.off",
        "await, async agents, telemetry=False",
        "us",
        GREENROOM,
        one_awaiting_caller(lambda peer: peer.async_call_told(False)),
    ),
    Case(
        "telemetry.async.auto",
        "await, async agents, no provider is set",
        "us",
        GREENROOM,
        one_awaiting_caller(lambda peer: peer.async_call_told("auto")),
    ),
    Case(
        "telemetry.async.on",
        "await, async agents, spans and metrics",
        "us",
        GREENROOM,
        one_awaiting_caller(lambda peer: peer.async_call_told(_sdk())),
    ),
)
COMPARISONS: tuple[Comparison, ...] = tuple(
    line
    for way in ("telemetry.sync", "telemetry.async")
    for line in (
        *versus(f"{way}.auto", GREENROOM, other=f"{way}.off", at_most=1.01),
        *versus(f"{way}.on", GREENROOM, other=f"{way}.off"),
    )
)
GROUP = Group("telemetry", "OpenTelemetry", CASES, COMPARISONS)
