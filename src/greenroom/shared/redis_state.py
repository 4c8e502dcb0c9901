"""Word for other processes, on whatever hosts, in a Redis; with the extra `redis`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenroom.brokers.redis_client import check_redis_url, redis_client
from greenroom.messages import _validate as check
from greenroom.shared.state_store import Held, Lying

# The time is the server's: no clock of a process is compared with another one's.
_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
_PUT = (
    _NOW + "redis.call('HSET', KEYS[1], ARGV[1], (now + ARGV[3]) .. ' ' .. ARGV[2]) "
    "local left = redis.call('PTTL', KEYS[1]) "
    "if left < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end "
    "redis.call('PUBLISH', KEYS[1], ARGV[1])"
)
_MICROS = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2] "
_READ = _MICROS + "return {now, redis.call('HMGET', KEYS[1], 'text', 'revision')}"
_REPLACE = (
    "if (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then return 0 end "
    "redis.call('HSET', KEYS[1], 'text', ARGV[2]) "
    "redis.call('HSET', KEYS[1], 'revision', ARGV[3]) "
    "redis.call('PEXPIRE', KEYS[1], ARGV[4]) return 1"
)
_GET = _NOW + "return {now, redis.call('HGETALL', KEYS[1])}"


@dataclass(frozen=True, slots=True)
class RedisState:
    """A Redis, from 5.0 on, in which processes of one host or of several leave word for each other.

    It holds the names of pools and members, what is said of them and by which process, for as long
    as that holds, in one hash a pool, and in one hash a rate limit who holds how much of it; no
    payload, no key. What it loses is said again or forgotten, so it needs no persistence.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with the password in it if it needs one.
        prefix: of the names in it.
        timeout_s: after which it counts as away.

    Raises:
        ModuleNotFoundError: the extra `redis` is not installed.
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    url: str = field(repr=False)  # it may hold a password
    prefix: str = field(default="greenroom", kw_only=True)
    timeout_s: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        check.text("url", self.url)
        check.name("prefix", self.prefix)
        check.number("timeout_s", self.timeout_s, above=True)
        check_redis_url(self.url, what="RedisState")

    def open(self, pool: str) -> _RedisStore:
        """Connect to what is said of a pool's members."""
        return _RedisStore(self._client(), f"{self.prefix}:{pool}", f"{self.prefix}-limits:{pool}:")

    def listen(self, pool: str) -> _Channel:
        """Listen for news of it."""
        return _Channel(self._client(), f"{self.prefix}:{pool}")

    def _client(self) -> Any:
        return redis_client(
            self.url,
            self.timeout_s,
            decode_responses=True,
            encoding_errors="replace",  # of what somebody else has put there
        )


class _RedisStore:
    def __init__(self, client: Any, name: str, ledgers: str) -> None:
        self._client = client
        self._name = name
        self._ledgers = ledgers

    def put(self, key: str, value: str, ttl_s: float) -> None:
        self._client.eval(_PUT, 1, self._name, key, value, max(1, round(ttl_s * 1000)))

    def get(self) -> Mapping[str, Lying]:
        now, flat = self._client.eval(_GET, 1, self._name)
        found, gone = {}, []
        for key, held in zip(flat[::2], flat[1::2], strict=True):
            until, _, value = held.partition(" ")
            try:
                left_s = (float(until) - float(now)) / 1000
            except ValueError:  # nothing that was put there by `put`
                continue
            if left_s > 0:
                found[key] = Lying(value, left_s)
            elif left_s < -60:  # nobody puts a word there that is a minute old
                gone.append(key)
        if gone:
            self._client.hdel(self._name, *gone)
        return found

    def read(self, key: str) -> Held:
        now, (text, revision) = self._client.eval(_READ, 1, self._ledgers + key)
        return Held(text, revision or "", float(now) / 1_000_000)

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        values = (revision, text, os.urandom(8).hex(), max(1, math.ceil(ttl_s * 1000)))
        return bool(self._client.eval(_REPLACE, 1, self._ledgers + key, *values))

    def close(self) -> None:
        self._client.close()


class _Channel:
    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(name)

    def wait(self, timeout_s: float) -> bool:
        return self._pubsub.get_message(timeout=timeout_s) is not None

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()
