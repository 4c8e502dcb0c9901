"""Word for other processes, on whatever hosts, in a NATS server with JetStream; extra `nats`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from greenroom.brokers.given_files import see_files_of
from greenroom.brokers.nats_address import NatsAddress, nats_address
from greenroom.brokers.nats_client import BrokerError, NatsConnection, needs_nats
from greenroom.messages import _validate as check
from greenroom.shared.state_store import LONGEST_TTL_S, Held, Lying

T = TypeVar("T")

_AT_A_TIME = 200
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,60}")
_ODD = re.compile(rb"[^A-Za-z0-9_-]")
_LONGEST_TOKEN = 200
_NO_STREAM = 10059
_WRONG_REVISION = (10071, 10164)


@dataclass(frozen=True, slots=True)
class NatsState:
    """A NATS server with JetStream, from 2.10 on, in which processes of one host or of several
    leave word for each other.

    It holds the names of pools and members, what is said of them and by which process, for as long
    as that holds, and who holds how much of a rate limit, in one bucket of key-value pairs that is
    created where it is missing; no payload, no key. What it loses is said again or forgotten, so
    the bucket is in memory.

    Args:
        url: `nats://[user:password@|token@]host[:port][,host...]`, or `tls://`; behind a `?` files:
            `creds=`, `ca=`, `cert=`, `key=`; and `inbox=`.
        prefix: the name of the bucket.
        replicas: on how many servers of a cluster it is to be, where it is created.
        timeout_s: after which it counts as away.

    Raises:
        ModuleNotFoundError: the extra `nats` is not installed.
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    url: str = field(repr=False)  # it may hold a password
    prefix: str = field(default="greenroom", kw_only=True)
    replicas: int = field(default=1, kw_only=True)
    timeout_s: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        see_files_of("url", self._address)
        check.name("prefix", self.prefix)
        if not _BUCKET.fullmatch(self.prefix):
            raise ValueError(
                "prefix must be a name of a bucket: at most 60 of A-Z, a-z, 0-9, _ and -, "
                f"got {self.prefix[:60]!r}"
            )
        check.whole("replicas", self.replicas, minimum=1)
        check.number("timeout_s", self.timeout_s, above=True)
        needs_nats("NatsState")

    def open(self, pool: str) -> _NatsStore:
        """Connect to what is said of a pool's members."""
        line = _Line(self._address, self.timeout_s)
        try:
            line.run(_there(line, self.prefix, self.replicas))
        except BaseException:
            line.close()
            raise
        return _NatsStore(line, self.prefix, pool)

    def listen(self, pool: str) -> _Watch:
        """Listen for news of it."""
        return _Watch(self._address, self.timeout_s, f"{_words(self.prefix, pool)}.>")

    @property
    def _address(self) -> NatsAddress:
        return nats_address("url", self.url, subject=False)


# -- names there


def _words(bucket: str, pool: str) -> str:
    return f"$KV.{bucket}.words.{_token(pool)}"


def _limits(bucket: str, pool: str) -> str:
    return f"$KV.{bucket}.limits.{_token(pool)}"


def _token(text: str) -> str:
    """A text as a part of a subject, readable if that goes; another one for each text."""
    data = text.encode("utf-8", "surrogatepass")
    token = _ODD.sub(lambda found: f"={found[0][0]:02X}".encode(), data).decode()
    if len(token) <= _LONGEST_TOKEN:
        return token
    return f"=={hashlib.blake2b(data, digest_size=24).hexdigest()}"


# -- a connection, for a thread that has no loop


class _Line:
    """A connection and the loop that it needs, which runs while something is wanted of it."""

    def __init__(self, address: NatsAddress, timeout_s: float) -> None:
        self._loop = asyncio.new_event_loop()
        self.timeout_s = timeout_s
        try:
            self.connection = self.run(NatsConnection.open(address, name="greenroom shared state"))
        except BaseException:
            self._close_loop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it; what it raises is raised."""
        return self._loop.run_until_complete(work)

    def call_soon(self, what: Any) -> None:
        """From another thread."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(what)

    def close(self) -> None:
        try:
            self.run(self.connection.close())
        finally:
            self._close_loop()

    def _close_loop(self) -> None:
        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    async def ask(self, subject: str, said: bytes | dict[str, Any] = b"", **headers: str) -> _Reply:
        """What the server answers to that."""
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        return _Reply(*await self.connection.request(subject, data, self.timeout_s, headers))

    async def api(self, what: str, **said: Any) -> dict[str, Any]:
        """What the API of JetStream answers.

        Raises:
            BrokerError: an error, but that there is no such stream, which is an empty answer.
        """
        reply = (await self.ask(f"$JS.API.{what}", said)).read()
        error = reply.get("error")
        if not error:
            return reply
        if error.get("err_code") == _NO_STREAM:
            return {}
        raise BrokerError(f"JetStream: {error.get('description')}")


class _Reply(NamedTuple):
    data: bytes
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        return self.headers.get("Status", "")

    def read(self) -> dict[str, Any]:
        """What it is as JSON.

        Raises:
            BrokerError: nobody has answered, or not that.
        """
        if self.status:
            raise BrokerError(_no_answer(self.status))
        try:
            found = json.loads(self.data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BrokerError("it answers otherwise than JetStream does")
        return found


def _no_answer(status: str) -> str:
    if status == "503":
        return "it has no JetStream, or none of that name"
    return f"JetStream answers with status {status}"


async def _there(line: _Line, bucket: str, replicas: int) -> None:
    """See that the bucket is."""
    if await line.api(f"STREAM.INFO.KV_{bucket}"):
        return
    await line.api(
        f"STREAM.CREATE.KV_{bucket}",
        name=f"KV_{bucket}",
        subjects=[f"$KV.{bucket}.>"],
        max_msgs_per_subject=1,
        max_age=round(LONGEST_TTL_S * 1e9),
        storage="memory",
        discard="new",
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        num_replicas=replicas,
    )


# -- what lies there


class _NatsStore:
    """Times are the server's: when something was put there it says itself, and what time it is."""

    def __init__(self, line: _Line, bucket: str, pool: str) -> None:
        self._line = line
        self._bucket = bucket
        self._words = _words(bucket, pool)
        self._limits = _limits(bucket, pool)

    def put(self, key: str, value: str, ttl_s: float) -> None:
        data = json.dumps([ttl_s, key, value]).encode()
        self._line.run(self._put(f"{self._words}.{_token(key)}", data))

    def get(self) -> Mapping[str, Lying]:
        return self._line.run(self._get())

    def read(self, key: str) -> Held:
        return self._line.run(self._read(f"{self._limits}.{_token(key)}"))

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        # It is forgotten with all else, a day later.
        subject = f"{self._limits}.{_token(key)}"
        return self._line.run(self._put(subject, text.encode(), revision))

    def close(self) -> None:
        self._line.close()

    async def _put(self, subject: str, data: bytes, revision: str | None = None) -> bool:
        headers = {} if revision is None else {"Nats-Expected-Last-Subject-Sequence": revision}
        reply = (await self._line.ask(subject, data, **headers)).read()
        error = reply.get("error")
        if not error:
            return True
        if revision is not None and error.get("err_code") in _WRONG_REVISION:
            return False
        raise BrokerError(f"JetStream: {error.get('description')}")

    async def _get(self) -> Mapping[str, Lying]:
        info = await self._info(f"{self._words}.>")
        now = _seconds(info.get("ts"))
        subjects = list((info.get("state") or {}).get("subjects") or ())
        found: dict[str, Lying] = {}
        for begin in range(0, len(subjects), _AT_A_TIME):
            some = subjects[begin : begin + _AT_A_TIME]
            for reply in await asyncio.gather(*map(self._held, some)):
                if reply is not None:
                    _note(reply, now, found)
        return found

    async def _read(self, subject: str) -> Held:
        reply, info = await asyncio.gather(self._held(subject), self._info(None))
        now = _seconds(info.get("ts"))
        if reply is None:
            return Held(None, "0", now)
        return Held(reply.data.decode("utf-8", "replace"), reply.headers["Nats-Sequence"], now)

    async def _info(self, subjects: str | None) -> dict[str, Any]:
        said = {} if subjects is None else {"subjects_filter": subjects}
        info = await self._line.api(f"STREAM.INFO.KV_{self._bucket}", **said)
        if not info:
            raise BrokerError(f"the bucket {self._bucket} is gone")  # made anew with the connection
        return info

    async def _held(self, subject: str) -> _Reply | None:
        """What lies at a subject; None if nothing does."""
        reply = await self._line.ask(f"$JS.API.DIRECT.GET.KV_{self._bucket}.{subject}")
        if reply.status == "404":
            return None
        if reply.status or "Nats-Time-Stamp" not in reply.headers:
            raise BrokerError(_no_answer(reply.status))
        return reply


def _note(reply: _Reply, now: float, found: dict[str, Lying]) -> None:
    try:
        ttl_s, key, value = json.loads(reply.data)
        # Put there since the time was asked for, it is younger than nothing.
        age_s = max(0.0, now - _seconds(reply.headers["Nats-Time-Stamp"]))
        left_s = float(ttl_s) - age_s
    except (ValueError, TypeError, KeyError, RecursionError):
        return  # somebody else has put it there
    if left_s > 0 and isinstance(key, str) and isinstance(value, str):
        found[key] = Lying(value, left_s)


def _seconds(text: Any) -> float:
    """A time of the server's, which has up to nine digits of a second.

    Raises:
        BrokerError: it is none.
    """
    try:
        whole, _, rest = str(text).removesuffix("Z").partition(".")
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")
    except ValueError:
        raise BrokerError("it does not say what time it is: it must be 2.10 or newer") from None


class _Watch:
    """Hears what is put there as it comes by, without any state at the server: a watch of
    JetStream's can be silent for long after that has started anew.
    """

    def __init__(self, address: NatsAddress, timeout_s: float, subjects: str) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._news = asyncio.Event()
        self._line = _Line(address, timeout_s)
        try:
            self._line.run(self._line.connection.subscribe(subjects, lambda _: self._news.set()))
        except BaseException:
            self._line.close()
            raise

    def wait(self, timeout_s: float) -> bool:
        with self._lock:
            return not self._is_closed and self._line.run(self._wait(timeout_s))

    async def _wait(self, timeout_s: float) -> bool:
        if self._line.connection.is_over:
            raise BrokerError("the connection is over")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        is_news = self._news.is_set() and not self._is_closed
        self._news.clear()
        return is_news

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._line.call_soon(self._news.set)
        with self._lock:
            self._line.close()
