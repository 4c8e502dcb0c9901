"""Shared state by a text, as files have it: `sqlite:state.db`, `redis://localhost`, and so on."""

from __future__ import annotations

from typing import Any

from greenroom.messages import _validate as check
from greenroom.shared.nats_state import NatsState
from greenroom.shared.postgres_state import PostgresState
from greenroom.shared.redis_state import RedisState
from greenroom.shared.sqlite_state import SqliteState
from greenroom.shared.state_store import SharedState

_FORMS = "'sqlite:PATH', 'redis://...', 'postgresql://...' or 'nats://...'"


def shared_state(field: str, value: Any) -> SharedState:
    """What is given as shared state, or meant by a text.

    Raises:
        TypeError, ValueError: it is neither, or means nothing; named with the field.
    """
    if isinstance(value, str):
        scheme, colon, rest = value.partition(":")
        if scheme == "sqlite" and colon and rest.strip():
            return SqliteState(rest)
        if scheme in ("redis", "rediss", "unix") and rest.startswith("//"):
            return RedisState(value)
        if scheme in ("nats", "tls") and rest.startswith("//"):
            return NatsState(value)
        if scheme in ("postgres", "postgresql") and rest.startswith("//"):
            return PostgresState(value)
        # What stands behind the scheme may hold a password.
        raise ValueError(f"{field} must be {_FORMS}, got {scheme!r}:...")
    if isinstance(value, type) or not isinstance(value, SharedState):
        kinds = "a SqliteState, a RedisState, a PostgresState, a NatsState"
        raise check.misfit(f"{field} must be {kinds}, or {_FORMS}", value)
    return value
