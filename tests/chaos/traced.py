"""`make chaos ARGS=--traced`: the pools of a run tell OpenTelemetry; each span has one end."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import greenroom.otel.pool_telemetry  # noqa: F401 - its exit handler is there before the run

Id = tuple[int, int]


class SpanEnds(SpanProcessor):
    """Keeps the spans that are open, and nothing of the others.

    Attributes:
        begun: how many have begun.
        twice: the names of those that ended without being open.
        backwards: the names of those that ended before they began.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.twice: list[str] = []
        self.backwards: list[str] = []
        self._open: dict[Id, str] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1
        self._open[_id_of(span)] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        if self._open.pop(_id_of(span), None) is None:
            self.twice.append(span.name)
        if (span.end_time or 0) < (span.start_time or 0):
            self.backwards.append(span.name)

    @property
    def left(self) -> list[str]:
        """The names of those that have no end."""
        return sorted(self._open.values())

    @property
    def is_even(self) -> bool:
        """Whether each has ended once."""
        return not (self.left or self.twice or self.backwards)

    def report(self) -> str:
        """What has become of them."""
        return (
            f"spans: {self.begun} begun, {len(self.left)} without an end {self.left[:5]}, "
            f"{len(self.twice)} ended twice {self.twice[:5]}, "
            f"{len(self.backwards)} before they began\n"
        )


def watch_spans() -> SpanEnds:
    """Have every pool of the process tell its spans from now on."""
    ends, provider = SpanEnds(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ends)
    trace.set_tracer_provider(provider)
    return ends


def _id_of(span: Any) -> Id:
    context = span.get_span_context()
    return context.trace_id, context.span_id
