"""OpenTelemetry: what a pool does as spans and metrics. `greenroom.Telemetry` is the way in.

The rooms below know nothing of it: `SpanBook` is one of the observers of a `RequestFlow`.
"""
