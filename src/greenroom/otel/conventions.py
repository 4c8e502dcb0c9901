"""The names of all that OpenTelemetry is told, in one place: conventions move.

Their sources:

- `GEN_AI_*`: the semantic conventions for generative AI, release 0.1.0, status "development":
  https://github.com/open-telemetry/semantic-conventions-genai/tree/v0.1.0. A request is an
  `invoke_agent` within the process (`gen_ai.invoke_agent.internal` in `model/gen-ai/spans.yaml`):
  its span covers the logical operation with all its retries, is of the kind INTERNAL, and is named
  `invoke_agent {gen_ai.agent.name}`. The metric and its buckets: `model/gen-ai/metrics.yaml` and
  `docs/gen-ai/gen-ai-metrics.md`.
- `ERROR_TYPE`: the core conventions, stable:
  https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/. What it may be is listed
  in `docs/telemetry.md`, as "Recording errors" of the core conventions asks for.
- all others begin with `greenroom.`: they are greenroom's own. Names, units and instruments of
  metrics follow https://opentelemetry.io/docs/specs/semconv/general/metrics/.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "greenroom"
"""The name of the tracer and of the meter (the instrumentation scope)."""

# -- the conventions for generative AI

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_INVOKE_AGENT: Final = "invoke_agent"
"""The value of `gen_ai.operation.name`, and the first word of the name of a request's span."""
GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds, on the event of a first chunk."""
GEN_AI_INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
"""A histogram in seconds: the same as the duration of a request's span."""
GEN_AI_INVOKE_AGENT_BUCKETS: Final = (
    *(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8),
    *(25.6, 51.2, 102.4, 204.8, 409.6),
)

# -- the core conventions

ERROR_TYPE: Final = "error.type"

# -- greenroom's own: spans

ATTEMPT_SPAN: Final = "attempt"
"""The first word of the name of an attempt's span; the second is its member."""

POOL: Final = "greenroom.pool"
MEMBER: Final = "greenroom.member"
REQUEST_ID: Final = "greenroom.request.id"
REQUEST_OUTCOME: Final = "greenroom.request.outcome"
REQUEST_ATTEMPTS: Final = "greenroom.request.attempts"
REQUEST_QUEUE_TIME: Final = "greenroom.request.queue_time"
"""Seconds that it has waited for members, altogether."""
REQUEST_STREAM: Final = "greenroom.request.stream"
ATTEMPT_NUMBER: Final = "greenroom.attempt.number"
ATTEMPT_ROLE: Final = "greenroom.attempt.role"
ATTEMPT_HEDGE: Final = "greenroom.attempt.hedge"
ATTEMPT_TRIAL: Final = "greenroom.attempt.trial"
ATTEMPT_QUEUE_TIME: Final = "greenroom.attempt.queue_time"
"""Seconds that the request has waited for this attempt."""
ATTEMPT_OUTCOME: Final = "greenroom.attempt.outcome"
ATTEMPT_STARTED: Final = "greenroom.attempt.started"
"""False where its agent has provably not begun."""
FAILURE_KIND: Final = "greenroom.failure.kind"

QUEUED: Final = "greenroom.queued"
"""An event of a request: from here on it waits for a member."""
PAUSED: Final = "greenroom.paused"
"""An event of a request: it waits for the time of its next attempt."""
PAUSE: Final = "greenroom.pause"
"""Seconds, on that event."""
FIRST_CHUNK: Final = "greenroom.first_chunk"
"""An event of an attempt."""
LINK_RELATION: Final = "greenroom.link.relation"
"""Of the link from one attempt to another: `HEDGES` or `BESIDE`."""
HEDGES: Final = "hedges"
BESIDE: Final = "beside"

RESERVED: Final = "greenroom."
"""Attributes that an app adds must not begin with it."""

# -- greenroom's own: metrics

REQUESTS: Final = "greenroom.requests"
ATTEMPTS: Final = "greenroom.attempts"
RETRIES: Final = "greenroom.retries"
HEDGED: Final = "greenroom.hedges"
TRANSITIONS: Final = "greenroom.breaker.transitions"
RESTARTS: Final = "greenroom.member.restarts"
ATTEMPT_DURATION: Final = "greenroom.attempt.duration"
QUEUE_DURATION: Final = "greenroom.queue.duration"
FIRST_CHUNK_DURATION: Final = "greenroom.first_chunk.duration"

QUEUE_DEPTH: Final = "greenroom.queue.depth"
ACTIVE_REQUESTS: Final = "greenroom.active_requests"
ACTIVE_ATTEMPTS: Final = "greenroom.active_attempts"
AVAILABLE: Final = "greenroom.member.available"
BREAKER_STATE: Final = "greenroom.breaker.state"
ABANDONED_THREADS: Final = "greenroom.member.abandoned_threads"
HEADROOM: Final = "greenroom.limit.headroom"

CIRCUIT: Final = "greenroom.breaker.circuit"
"""The state of a breaker: `closed`, `open`, `half_open`."""
OBSERVED: Final = "greenroom.breaker.observed"
"""Whether it would be in that state: a breaker that is only observed holds nothing back."""
COST: Final = "greenroom.limit.cost"
"""What a rate limit counts: `requests`, `tokens`."""
LIMIT_PERIOD: Final = "greenroom.limit.period"
"""Seconds of its window; not there where that is unknown."""

SHORT_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
"""Of the histograms of attempts, of waiting, and of first chunks."""
