"""Durable tells in a Redis: a stream with a consumer group; with the extra `redis`."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from greenroom.brokers.redis_client import check_redis_url, redis_client
from greenroom.courier.courier_store import (
    KNOWN_FOR_S,
    Again,
    Bury,
    CourierRules,
    DeadTell,
    Done,
    QueueFullError,
    Receipt,
    Record,
    RefusedError,
    Settlement,
)
from greenroom.messages import _validate as check

GROUP = "greenroom"
MOST_AT_ONCE = 200
"""How many tells one script looks at: while it runs, the server does nothing else."""

# Each script is one step: it is carried out as a whole, or not at all. The time is the server's.
# KEYS: queue (stream of ids), later (zset by when they are due), tells (hash of parcels),
# counts (hash of deliveries), records (hash), known (zset of ids that are no more), dead (zset by
# when they died), graves (hash of their parcels), causes (hash of their records).
_KEYS = (
    *("queue", "later", "tells", "counts", "records", "known"),
    *("dead", "graves", "causes"),
)
_NOW = (
    "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
    "local queue, later, tells, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4] "
    "local records, known, dead, graves, causes = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9] "
)
_PUT = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', known, '-inf', now - tonumber(ARGV[4]) * 1000)
if redis.call('HEXISTS', tells, ARGV[1]) == 1 then return 'known' end
if redis.call('ZSCORE', known, ARGV[1]) then return 'known' end
if redis.call('XLEN', queue) + redis.call('ZCARD', later) >= tonumber(ARGV[3]) then
  return 'full'
end
redis.call('HSET', tells, ARGV[1], ARGV[2])
redis.call('XADD', queue, '*', 'id', ARGV[1])
return 'stored'
"""
)
_RECEIVE = (
    _NOW
    + """
local most, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  redis.call('XADD', queue, '*', 'id', id)
  redis.call('ZREM', later, id)
end
local found = {}
local function take(entries)
  for _, entry in ipairs(entries) do
    local id = entry and entry[2] and entry[2][2]
    local body = id and redis.call('HGET', tells, id)
    if body then
      local count = redis.call('HINCRBY', counts, id, 1)
      found[#found + 1] = {entry[1], id, body, count, redis.call('HGET', records, id) or ''}
    elseif entry then
      redis.call('XACK', queue, ARGV[4], entry[1])
      redis.call('XDEL', queue, entry[1])
    end
  end
end
local from = '0-0'
for _ = 1, 20 do
  local claimed = redis.call('XAUTOCLAIM', queue, ARGV[4], ARGV[1], lease, from, 'COUNT',
    math.max(1, most - #found))
  take(claimed[2])
  from = claimed[1]
  if from == '0-0' or #found >= most then break end
end
if #found < most then
  local fresh = redis.call('XREADGROUP', 'GROUP', ARGV[4], ARGV[1], 'COUNT', most - #found,
    'STREAMS', queue, '>')
  if fresh then take(fresh[1][2]) end
end
local next = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
local about, last = redis.call('XINFO', 'STREAM', queue), '$'
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then last = about[i + 1] end
end
return {found, next[2] and math.max(0, math.ceil(next[2] - now)) or -1, last}
"""
)
# Only what is still that consumer's: a tell whose lease has ended is somebody else's. It is the one
# that has received it, of this connection or of one before it.
_EXTEND = """
for i = 2, #ARGV, 2 do
  local entry, who = ARGV[i], ARGV[i + 1]
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, who)
  if #held > 0 then redis.call('XCLAIM', KEYS[1], ARGV[1], who, 0, entry, 'JUSTID') end
end
"""
_GONE = """
local function gone(entry)
  redis.call('XACK', queue, ARGV[1], entry)
  return redis.call('XDEL', queue, entry)
end
"""
_DONE = (
    _NOW
    + _GONE
    + """
for i = 2, #ARGV, 2 do
  local entry, id = ARGV[i], ARGV[i + 1]
  gone(entry)
  redis.call('HDEL', tells, id)
  redis.call('HDEL', counts, id)
  redis.call('HDEL', records, id)
  redis.call('ZREM', later, id)
  redis.call('ZADD', known, now, id)
end
"""
)
_AGAIN = (
    _NOW
    + _GONE
    + """
if gone(ARGV[2]) == 0 then return end
redis.call('HSET', counts, ARGV[3], ARGV[5])
redis.call('HSET', records, ARGV[3], ARGV[6])
redis.call('ZADD', later, now + tonumber(ARGV[4]), ARGV[3])
"""
)
_BURY = (
    _NOW
    + _GONE
    + """
local body = redis.call('HGET', tells, ARGV[3])
if gone(ARGV[2]) == 0 or not body then return end
redis.call('HDEL', tells, ARGV[3])
redis.call('HDEL', counts, ARGV[3])
redis.call('HDEL', records, ARGV[3])
redis.call('ZADD', known, now, ARGV[3])
redis.call('ZADD', dead, ARGV[4], ARGV[3])
redis.call('HSET', graves, ARGV[3], body)
redis.call('HSET', causes, ARGV[3], ARGV[5])
"""
)
_REVIVE = (
    _NOW
    + """
local body = redis.call('HGET', graves, ARGV[1])
if redis.call('ZREM', dead, ARGV[1]) == 0 or not body then return 0 end
redis.call('HDEL', graves, ARGV[1])
redis.call('HDEL', causes, ARGV[1])
if redis.call('HSETNX', tells, ARGV[1], body) == 1 then
  redis.call('XADD', queue, '*', 'id', ARGV[1])
end
return 1
"""
)
_DROP = (
    _NOW
    + """
if redis.call('ZREM', dead, ARGV[1]) == 0 then return 0 end
redis.call('HDEL', graves, ARGV[1])
redis.call('HDEL', causes, ARGV[1])
return 1
"""
)


@dataclass(frozen=True, slots=True, repr=False)
class RedisStreams(CourierRules):
    """A Redis, from 6.2 on, that keeps durable tells, payloads included.

    It must write what it is told to its append-only file (`appendonly yes`): one that does not
    loses, when it is killed, tells that it has confirmed, and is refused. With `appendfsync
    everysec`, its default, a crash of the whole host may cost the last second's; with `always`
    nothing.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with the password in it if it needs one.
        prefix: of the names in it.
        force: use one without an append-only file all the same.
        max_deliveries, backoff_s, max_backoff_s, lease_s, max_queue, timeout_s: see `CourierRules`.

    Raises:
        ModuleNotFoundError: the extra `redis` is not installed.
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    url: str = field(kw_only=False)  # in no repr: it may hold a password
    prefix: str = "greenroom"
    force: bool = False

    def __post_init__(self) -> None:
        self.check()
        check.text("url", self.url)
        check.name("prefix", self.prefix)
        check.flag("force", self.force)
        check_redis_url(self.url, what="RedisStreams")

    def __repr__(self) -> str:
        return f"<RedisStreams {self.prefix}>"

    @property
    def rules(self) -> CourierRules:
        return self

    def open(self, pool: str) -> _RedisTells:
        client = redis_client(self.url, self.timeout_s, protocol=2)
        try:
            if not self.force and not client.info("persistence").get("aof_enabled"):
                raise RefusedError(
                    "this Redis keeps no append-only file, so it loses what it has confirmed when "
                    "it is killed: set `appendonly yes`, or say RedisStreams(..., force=True)"
                )
            return _RedisTells(client, f"{{{self.prefix}:{pool}}}", self)
        except BaseException:
            client.close()
            raise


class _RedisTells:
    """Args:
    name: of the keys; in braces, so that a cluster has them all in one place.
    """

    def __init__(self, client: Any, name: str, rules: CourierRules) -> None:
        self._client = client
        self._rules = rules
        self._keys = [f"{name}:{each}" for each in _KEYS]
        self._queue = self._keys[0]
        self._consumer = f"{socket.gethostname()[:60]}:{os.getpid()}:{os.urandom(4).hex()}"
        self._scripts = {
            text: client.register_script(text)
            for text in (_PUT, _RECEIVE, _EXTEND, _DONE, _AGAIN, _BURY, _REVIVE, _DROP)
        }
        try:
            client.xgroup_create(self._queue, GROUP, id="0", mkstream=True)
        except Exception as error:
            if "BUSYGROUP" not in str(error):  # there is one already
                raise

    def _run(self, script: str, *args: object, client: Any = None) -> Any:
        return self._scripts[script](keys=self._keys, args=args, client=client)

    def put(self, request_id: str, body: bytes) -> None:
        said = self._run(_PUT, request_id, body, self._rules.max_queue, KNOWN_FOR_S)
        if said == b"full":
            raise QueueFullError

    def receive(self, most: int, wait_s: float) -> Sequence[Receipt]:
        receipts, next_ms, last = self._due(most)
        if receipts or wait_s <= 0:
            return receipts
        wait_ms = max(1, round(wait_s * 1000))
        if next_ms >= 0:
            wait_ms = min(wait_ms, next_ms + 1)
        # Only a bell: who hears it asks by the script, which counts as well.
        self._client.xread({self._queue: last}, count=1, block=wait_ms)
        return self._due(most)[0]

    def _due(self, most: int) -> tuple[list[Receipt], int, bytes]:
        lease_ms = round(self._rules.lease_s * 1000)
        found, next_ms, last = self._run(
            _RECEIVE, self._consumer, min(most, MOST_AT_ONCE), lease_ms, GROUP
        )
        receipts = []
        for entry, request_id, body, count, text in found:
            known = Record.read(text)
            record = Record(max(1, int(count)), known.failures, known.reasons)
            name = request_id.decode("utf-8", "replace")
            receipts.append(Receipt(name, body, record, (entry, request_id, self._consumer)))
        return receipts, int(next_ms), last

    def extend(self, receipts: Sequence[Receipt]) -> None:
        for at in range(0, len(receipts), MOST_AT_ONCE):
            tokens = [each.token for each in receipts[at : at + MOST_AT_ONCE]]
            pairs = [part for entry, _, consumer in tokens for part in (entry, consumer)]
            self._run(_EXTEND, GROUP, *pairs)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        done: list[bytes] = []
        pipeline = self._client.pipeline(transaction=False)
        for each in settlements:
            entry, request_id, _ = each.receipt.token
            match each:
                case Done():
                    done += entry, request_id
                case Again(_, after_s, record):
                    after_ms = max(0, round(after_s * 1000))
                    known = (after_ms, record.deliveries, record.text())
                    self._run(_AGAIN, GROUP, entry, request_id, *known, client=pipeline)
                case Bury(_, record, at):
                    text = record.text()
                    self._run(_BURY, GROUP, entry, request_id, at, text, client=pipeline)
        if done:
            self._run(_DONE, GROUP, *done, client=pipeline)
        pipeline.execute()

    def dead(self) -> Sequence[DeadTell]:
        found = []
        dead, graves, causes = self._keys[6:]
        for request_id, at in self._client.zrange(dead, 0, -1, withscores=True):
            body = self._client.hget(graves, request_id)
            text = self._client.hget(causes, request_id)
            if body is not None:
                name = request_id.decode("utf-8", "replace")
                found.append(DeadTell(name, Record.read(text), float(at), body))
        return found

    def revive(self, request_id: str) -> bool:
        return bool(self._run(_REVIVE, request_id))

    def drop(self, request_id: str) -> bool:
        return bool(self._run(_DROP, request_id))

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it is gone all the same
            self._client.close()
