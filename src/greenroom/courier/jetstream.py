"""Durable tells in NATS JetStream: a work queue; with the extra `nats`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import itertools
import json
import math
import os
import re
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from contextvars import Context
from dataclasses import dataclass, field, replace
from random import sample
from typing import Any, TypeVar

from greenroom.brokers.given_files import path_of, see_files_of
from greenroom.brokers.nats_address import NatsAddress, nats_address
from greenroom.brokers.nats_client import CLOSE_S, BrokerError, NatsConnection, needs_nats
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

T = TypeVar("T")

CONSUMER = "workers"
FULL = 10077
"""The server's error code for a stream that has as many messages as it may."""
_RECORD = "Greenroom-Record"
_DIED_AT = "Greenroom-Died-At"
_ID = "Nats-Msg-Id"
_PROGRESS = b"+WPI"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NEXT_ADDRESS = re.compile(r"\s*,\s*(?=\w+://)")


@dataclass(frozen=True, slots=True, repr=False)
class JetStream(CourierRules):
    """A NATS server with JetStream, from 2.9 on, that keeps durable tells, payloads included.

    Per pool it has three streams, which are made when they are missing: a work queue that refuses
    what is too much, the reasons of tells that have failed, and the dead. A server that is killed
    loses nothing; a crash of its whole host may, unless it says `sync_interval: always`.

    Args:
        url: `nats://[user:password@|token@]host[:port][,host...]`, or `tls://`, `ws://`, `wss://`;
            behind a `?` files: `creds=`, `ca=`, `cert=`, `key=`; and `inbox=`. Several of these
            with commas. By `tls://` and `wss://` a server without TLS is told no secret.
        credentials: of a file with NATS credentials; None: without.
        prefix: of the names of subjects and, in capitals, of streams.
        replicas: how many servers of a cluster keep each tell, as far as streams are made anew.
        max_deliveries, backoff_s, max_backoff_s, lease_s, max_queue, timeout_s: see `CourierRules`.

    Raises:
        ModuleNotFoundError: the extra `nats` is not installed.
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    url: str = field(kw_only=False)  # in no repr: it may hold a password
    credentials: str | os.PathLike[str] | None = None
    prefix: str = "greenroom"
    replicas: int = 1

    def __post_init__(self) -> None:
        self.check()
        check.text("url", self.url)
        check.text("prefix", self.prefix)
        check.whole("replicas", self.replicas, minimum=1, maximum=5)
        if not _TOKEN.fullmatch(self.prefix):
            raise ValueError(f"prefix must be of letters, digits, _ and -, got {self.prefix!r}")
        given = path_of("credentials", self.credentials)
        for address in _addresses(self.url, given):
            see_files_of("url", address, credentials=given)
        needs_nats("JetStream")

    def __repr__(self) -> str:
        return f"<JetStream {self.prefix}>"

    @property
    def rules(self) -> CourierRules:
        return self

    def open(self, pool: str) -> _JetStreamTells:
        known = _TOKEN.fullmatch(pool)
        token = pool if known else hashlib.sha256(pool.encode("utf-8", "replace")).hexdigest()[:32]
        return _JetStreamTells(self, token)


def _addresses(url: str, credentials: str | None) -> list[NatsAddress]:
    """Each of the servers, with what is said to that one.

    Raises:
        ValueError: that is no address.
    """
    found = []
    for text in _NEXT_ADDRESS.split(url.strip()):
        if not text.startswith(("nats://", "tls://", "ws://", "wss://")):
            raise ValueError("url must begin with nats://, tls://, ws:// or wss://")
        whole = nats_address("url", text, subject=False, credentials=credentials, websocket=True)
        found += [replace(whole, servers=(server,)) for server in whole.servers]
    return found


async def _connected(addresses: list[NatsAddress], timeout_s: float) -> NatsConnection:
    """A connection to any of them: one that is silent leaves some of the time to the others."""
    clock = asyncio.get_running_loop().time
    until = clock() + timeout_s
    why = BrokerError("it does not answer")
    for tried, address in enumerate(sample(addresses, len(addresses))):
        limit_s = (until - clock()) / (len(addresses) - tried)
        try:
            return await NatsConnection.open(address, name="greenroom-courier", timeout_s=limit_s)
        except BrokerError as error:
            why = error
    raise why


class _JetStreamTells:
    """A connection, on an event loop of its own in a thread of its own. It is not mended: when it
    breaks, it is of no use, and another one is opened.
    """

    def __init__(self, courier: JetStream, token: str) -> None:
        self._courier = courier
        base, stream = f"{courier.prefix}.{token}", f"{courier.prefix}_{token}".upper()
        self._tells, self._notes, self._deads = f"{base}.tell", f"{base}.note", f"{base}.dead"
        self._queue, self._noted, self._grave = stream, f"{stream}_NOTES", f"{stream}_DEAD"
        if not token.isupper() and not token.isdigit():  # names that differ in case alone
            mark = hashlib.sha256(token.encode()).hexdigest()[:8].upper()
            self._queue, self._noted, self._grave = (
                f"{name}_{mark}" for name in (self._queue, self._noted, self._grave)
            )
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, name=f"greenroom-courier-nats-{token}", daemon=True
        )
        Context().run(self._thread.start)
        try:
            self._there(self._begin(), courier.timeout_s)
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            # By TLS what is closed waits for the other end's word, up to half a minute, and has a
            # socket until then. Nobody is left to hear it; asyncio has no other way to it.
            for transport in list(getattr(self._loop, "_transports", {}).values()):
                with contextlib.suppress(Exception):
                    transport.abort()
            with contextlib.suppress(Exception):  # what is closed is let go of in the next turns
                for _ in range(3):
                    self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T], times: float = 1.0, more_s: float = 0.0) -> T:
        """Have it done on the loop, within the courier's patience."""
        limit_s = times * self._courier.timeout_s + more_s
        if self._connection.over.done():
            work.close()
            raise self._ended()
        return self._there(self._guarded(work, limit_s), limit_s)

    def _there(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        future: ThreadFuture[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit_s + 1.0)
        except BaseException:
            future.cancel()
            raise

    async def _begin(self) -> None:
        courier = self._courier
        until = self._loop.time() + courier.timeout_s
        addresses = _addresses(courier.url, path_of("credentials", courier.credentials))
        self._connection = await _connected(addresses, courier.timeout_s)
        await self._guarded(self._prepare(), until - self._loop.time())

    async def _guarded(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Have it end with the connection: nobody would answer what was asked by that."""
        task, over = asyncio.ensure_future(work), self._connection.over
        ends = asyncio.FIRST_COMPLETED
        try:
            either: set[asyncio.Future[Any]] = {task, over}
            await asyncio.wait(either, timeout=limit_s, return_when=ends)
            if task.done():
                return task.result()
            if over.done():
                raise self._ended()
            raise TimeoutError("no answer in time")
        finally:
            task.cancel()

    def _ended(self) -> ConnectionError:
        return ConnectionError(f"the connection is over: {self._connection.over.result()}")

    async def _prepare(self) -> None:
        courier, api = self._courier, importlib.import_module("nats.js.api")
        self._js = self._connection.jetstream(courier.timeout_s)
        whole = {"storage": api.StorageType.FILE, "num_replicas": courier.replicas}
        await self._stream(
            api.StreamConfig(
                name=self._queue,
                subjects=[self._tells],
                retention=api.RetentionPolicy.WORK_QUEUE,
                discard=api.DiscardPolicy.NEW,
                max_msgs=courier.max_queue,
                # After a restart it knows only the ids of tells that lie there still.
                duplicate_window=float(KNOWN_FOR_S),
                **whole,
            )
        )
        for name, subject in ((self._noted, self._notes), (self._grave, self._deads)):
            config = api.StreamConfig(
                name=name, subjects=[f"{subject}.*"], max_msgs_per_subject=1, **whole
            )
            await self._stream(config)
        await self._js.add_consumer(
            self._queue,
            api.ConsumerConfig(
                durable_name=CONSUMER,
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=courier.lease_s,
                max_deliver=-1,
                max_ack_pending=-1,  # those that wait for their next delivery count, too
            ),
        )
        # A server that was killed may have forgotten that these were delivered: see `_receipt`.
        info = await self._js.stream_info(self._noted, subjects_filter=f"{self._notes}.*")
        self._noted_before = frozenset(info.state.subjects or {})
        self._inbox = self._connection.new_inbox()
        self._received: asyncio.Queue[Any] = asyncio.Queue()
        await self._connection.subscribe(f"{self._inbox}.*", self._received.put_nowait)

    async def _stream(self, config: Any) -> None:
        errors = importlib.import_module("nats.js.errors")
        try:
            info = await self._js.stream_info(config.name)
        except errors.NotFoundError:
            await self._js.add_stream(config)
            return
        if config.max_msgs is not None and info.config.max_msgs != config.max_msgs:
            config.num_replicas = info.config.num_replicas
            await self._js.update_stream(config)

    def put(self, request_id: str, body: bytes) -> None:
        most = self._connection.max_payload
        if len(body) + 2 * len(request_id) + 100 > most:
            raise RefusedError(f"the tell has {len(body)} bytes, and the server takes {most}")
        self._do(self._put(body, _header(request_id)))

    async def _put(self, body: bytes, message_id: str) -> None:
        errors = importlib.import_module("nats.js.errors")
        try:
            await self._js.publish(self._tells, body, stream=self._queue, headers={_ID: message_id})
        except errors.APIError as error:
            if error.err_code == FULL:
                raise QueueFullError from None
            raise

    def receive(self, most: int, wait_s: float) -> Sequence[Receipt]:
        return self._do(self._receive(most, wait_s), 1.0, wait_s)

    async def _receive(self, most: int, wait_s: float) -> list[Receipt]:
        messages = await self._pull({"batch": most, "no_wait": True}, self._courier.timeout_s)
        if not messages and wait_s > 0:
            # One: of a request that lingers for more, what comes later would go to nobody.
            lingers = {"batch": 1, "expires": round(wait_s * 1e9)}
            messages = await self._pull(lingers, wait_s + self._courier.timeout_s)
        return list(await asyncio.gather(*map(self._receipt, messages)))

    async def _pull(self, wanted: Mapping[str, int], limit_s: float) -> list[Any]:
        """What a pull brings, until the server says that it is over."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._queue}.{CONSUMER}"
        await self._connection.publish(subject, json.dumps(wanted).encode(), reply)
        found: list[Any] = []
        while len(found) < wanted["batch"]:
            message = await asyncio.wait_for(self._received.get(), limit_s)
            if not message.subject.startswith(self._inbox):
                found.append(message)  # be it of an earlier pull: it is ours all the same
            elif message.subject == reply:
                status = (message.headers or {}).get("Status")
                if status not in ("404", "408"):
                    described = (message.headers or {}).get("Description", "")
                    raise ConnectionError(f"the server says {status} {described}")
                break
        return found

    async def _receipt(self, message: Any) -> Receipt:
        """A message as a tell. The server counts deliveries; how many of them count for nothing,
        and why others have failed, is noted beside it where there is anything to note.
        """
        meta = message.metadata
        count, sequence = meta.num_delivered, meta.sequence.stream
        record = Record(deliveries=count)
        subject = f"{self._notes}.{sequence}"
        if count > 1 or subject in self._noted_before:
            noted = await self._last(self._noted, subject)
            if noted is not None:
                at, _, text = noted.data.partition(b" ")
                known = Record.read(text)
                since = max(1, count - int(at)) if at.isdigit() and len(at) < 20 else 1
                record = Record(known.deliveries + since, known.failures, known.reasons)
        name = (message.headers or {}).get(_ID, "")
        return Receipt(
            _id_of(name) or f"{self._queue}-{sequence}",
            message.data,
            record,
            (message.reply, sequence, count, name),
        )

    async def _last(self, stream: str, subject: str) -> Any:
        errors = importlib.import_module("nats.js.errors")
        try:
            return await self._js.get_last_msg(stream, subject)
        except errors.NotFoundError:
            return None

    def extend(self, receipts: Sequence[Receipt]) -> None:
        self._do(self._extend(receipts))

    async def _extend(self, receipts: Sequence[Receipt]) -> None:
        for each in receipts:
            await self._connection.publish(each.token[0], _PROGRESS)
        if not await self._connection.answers(self._courier.timeout_s):
            raise ConnectionError("the server does not answer")

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self._do(self._settle(settlements))

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        await asyncio.gather(*map(self._settle_one, settlements))

    async def _settle_one(self, each: Settlement) -> None:
        reply, sequence, count, name = each.receipt.token
        match each:
            case Done():
                await self._gone(reply, sequence, name)
            case Again(_, after_s, record):
                # First: a delivery that comes before its note is counted, and more than once.
                noted = f"{count} {record.text()}".encode()
                await self._js.publish(f"{self._notes}.{sequence}", noted, stream=self._noted)
                delay = json.dumps({"delay": max(1, round(after_s * 1e9))}).encode()
                await self._confirmed(reply, b"-NAK " + delay)
                return
            case Bury(receipt, record, at):
                headers = {_RECORD: record.text(), _DIED_AT: repr(at)}
                headers[_ID] = f"{_header(receipt.request_id)}.{sequence}"
                subject = f"{self._deads}.{_key(receipt.request_id)}"
                await self._js.publish(subject, receipt.body, stream=self._grave, headers=headers)
                await self._gone(reply, sequence, name)
        if count > 1 or f"{self._notes}.{sequence}" in self._noted_before:
            await self._js.purge_stream(self._noted, subject=f"{self._notes}.{sequence}")

    async def _gone(self, reply: str, sequence: int, name: str) -> None:
        """Have the server forget a message. One that was killed, and has forgotten that it had
        delivered it, never answers to its acknowledgement: it is deleted by its number then.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._courier.timeout_s / 3):
                await self._confirmed(reply, b"+ACK")
                return
        missing = importlib.import_module("nats.js.errors").NotFoundError
        with contextlib.suppress(missing):  # it has been acknowledged before
            found = await self._js.get_msg(self._queue, sequence)
            # Of a stream that was made anew the number is somebody else's.
            if (found.headers or {}).get(_ID, "") == name:
                await self._js.delete_msg(self._queue, sequence)

    async def _confirmed(self, reply: str, what: bytes) -> None:
        """Acknowledge, and wait until the server has it."""
        limit_s = self._courier.timeout_s
        _, headers = await self._connection.request(reply, what, limit_s, {})
        if headers.get("Status") == "503":
            raise ConnectionError("the server knows no such stream any more")

    def dead(self) -> Sequence[DeadTell]:
        # Each is a question of its own.
        return self._do(self._dead(), 1.0, 60.0)

    async def _dead(self) -> list[DeadTell]:
        info = await self._js.stream_info(self._grave, subjects_filter=f"{self._deads}.*")
        subjects = sorted(info.state.subjects or {})
        found = []
        for subject in subjects:
            message = await self._last(self._grave, subject)
            if message is not None:
                found.append(_dead_tell(message))
        return sorted(found, key=lambda each: each.died_at)

    def revive(self, request_id: str) -> bool:
        return self._do(self._taken(request_id, revive=True), 3.0)

    def drop(self, request_id: str) -> bool:
        return self._do(self._taken(request_id, revive=False), 3.0)

    async def _taken(self, request_id: str, *, revive: bool) -> bool:
        subject = f"{self._deads}.{_key(request_id)}"
        message = await self._last(self._grave, subject)
        if message is None:
            return False
        if revive:
            # Another id for the server, which may know the first one still; the tell has its own.
            await self._put(message.data, f"{_header(request_id)}.again-{message.seq}")
        await self._js.purge_stream(self._grave, subject=subject)
        return True

    def close(self) -> None:
        with contextlib.suppress(Exception):
            connection: NatsConnection | None = getattr(self, "_connection", None)
            if connection is not None and not self._loop.is_closed():
                self._there(connection.close(), CLOSE_S)
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)


def _header(request_id: str) -> str:
    """An id as a header's value: of letters that need no escape, and one word."""
    return request_id.encode("utf-8", "replace").hex()


def _id_of(header: str) -> str:
    try:
        return bytes.fromhex(header.partition(".")[0]).decode("utf-8", "replace")
    except ValueError:
        return ""


def _key(request_id: str) -> str:
    return hashlib.sha256(request_id.encode("utf-8", "replace")).hexdigest()[:32]


def _dead_tell(message: Any) -> DeadTell:
    headers = message.headers or {}
    try:
        died_at = float(headers.get(_DIED_AT, "0"))
        died_at = died_at if math.isfinite(died_at) else 0.0
    except ValueError:
        died_at = 0.0
    record = Record.read(headers.get(_RECORD))
    return DeadTell(_id_of(headers.get(_ID, "")), record, died_at, message.data)
