"""A client of a Redis that neither waits nor tries for longer than it is told to."""

from __future__ import annotations

import importlib
from typing import Any


def check_redis_url(url: str, *, what: str) -> None:
    """See that it is one, and that redis-py is here.

    Args:
        what: that needs it.

    Raises:
        ModuleNotFoundError: it is not.
        ValueError: it is none; the text shows nothing of what may be a secret.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("url must begin with redis://, rediss:// or unix://")
    try:
        connection = importlib.import_module("redis.connection")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs redis: pip install 'greenroom[redis]'", name=error.name
        ) from error
    try:
        connection.parse_url(url)
    except Exception as error:  # which may show a part of the password
        said = type(error).__name__
        raise ValueError(f"url must be one that redis-py understands: {said}") from None


def redis_client(url: str, timeout_s: float, **options: Any) -> Any:
    """A client of the Redis at a URL that was checked.

    Args:
        timeout_s: how long a connection, and each answer, may take.
        options: further arguments of `redis.Redis`.
    """
    redis = importlib.import_module("redis")
    retry, backoff = (importlib.import_module(f"redis.{each}") for each in ("retry", "backoff"))
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # Without this it tries ten times, for seconds, before it says that nobody is there.
        retry=retry.Retry(backoff.NoBackoff(), 0),
        **options,
    )
