"""A courier by a text, as files have it: `nats://localhost`, `redis://localhost`."""

from __future__ import annotations

from typing import Any

from greenroom.courier.courier_store import Courier
from greenroom.courier.jetstream import JetStream
from greenroom.courier.redis_streams import RedisStreams
from greenroom.messages import _validate as check

_FORMS = "'nats://...' or 'redis://...'"


def courier(field: str, value: Any) -> Courier:
    """What is given as a courier, or meant by a text.

    Raises:
        TypeError, ValueError: it is neither, or means nothing; named with the field.
        ModuleNotFoundError: its extra is not installed.
    """
    if isinstance(value, str):
        scheme, _, rest = value.partition(":")
        if scheme in ("nats", "tls", "ws", "wss") and rest.startswith("//"):
            return JetStream(value)
        if scheme in ("redis", "rediss", "unix") and rest.startswith("//"):
            return RedisStreams(value)
        # What stands behind the scheme may hold a password.
        raise ValueError(f"{field} must be {_FORMS}, got {scheme!r}:...")
    if isinstance(value, type) or not isinstance(value, Courier):
        raise check.misfit(f"{field} must be a JetStream, a RedisStreams, or {_FORMS}", value)
    return value
