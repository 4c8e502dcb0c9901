"""What an agent returns: which of it is a stream that is still to be read. Stand-ins have the shape
of the real classes, as far as the rule looks at it.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import email.message
import enum
import http.client
import io
import ipaddress
import queue
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, MagicMock

import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import READERS, Chunks, Read, rest, within

from greenroom import FailureKind, Member, Reply, Request
from greenroom.actors.reading.streamable import achunks_of, chunks_of, is_async_stream, is_stream

CHUNKS = [b"one ", b"two ", b"three"]


class Closes:
    """Notes how often it was closed."""

    def __init__(self) -> None:
        self.closed_times = 0

    def close(self) -> None:
        self.closed_times += 1


class EventStream(Closes):
    """botocore: `__iter__` and `close`."""

    def __iter__(self) -> Iterator[bytes]:
        yield from CHUNKS

    def get_initial_response(self) -> str:
        return "initial"


class AEventStream:
    """aiobotocore: `__aiter__` and an async `aclose`."""

    def __init__(self) -> None:
        self.closed_times = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk

    async def aclose(self) -> None:
        self.closed_times += 1


class Pages:
    """An iterable of pages that are fetched one by one: nothing but `__iter__`."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(CHUNKS)


class Output:
    """replicate: `__iter__` and `__aiter__`, no `__next__`."""

    def __iter__(self) -> Iterator[bytes]:
        yield from CHUNKS

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk


class OpenAIStream(Closes):
    """openai, anthropic, groq, mistral: `__iter__` and `__next__`."""

    def __init__(self) -> None:
        super().__init__()
        self._iterator = iter(CHUNKS)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._iterator

    def __next__(self) -> bytes:
        return next(self._iterator)


class AsyncOpenAIStream:
    """Their async twins: `__aiter__` and `__anext__`, an async `close`."""

    def __init__(self) -> None:
        self._iterator = iter(CHUNKS)
        self.closed_times = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._iterator:
            yield chunk

    async def __anext__(self) -> bytes:
        try:
            return next(self._iterator)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self) -> None:
        self.closed_times += 1


class SyncBody:
    def __iter__(self) -> Iterator[bytes]:
        yield from CHUNKS


class AsyncBody:
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk


class BothBodies(SyncBody, AsyncBody):
    """httpx: what a response has that was read, or made in a test."""


class HttpxResponse(Closes):
    """httpx: no `__iter__` at all. Reading it the wrong way round raises, as there."""

    def __init__(self, body: Any, consumed: bool = False) -> None:
        super().__init__()
        self.stream = body
        self.is_stream_consumed = consumed

    def iter_bytes(self) -> Iterator[bytes]:
        if not isinstance(self.stream, SyncBody):
            raise RuntimeError("Attempted to call a sync iterator on an async stream.")
        self.is_stream_consumed = True
        yield from self.stream

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        if not isinstance(self.stream, AsyncBody):
            raise RuntimeError("Attempted to call an async iterator on a sync stream.")
        self.is_stream_consumed = True
        async for chunk in self.stream:
            yield chunk

    async def aclose(self) -> None:
        self.closed_times += 1


class RequestsResponse(Closes):
    """requests: `__iter__` yields the body, whether it was read or not."""

    def __init__(self, consumed: bool = False) -> None:
        super().__init__()
        self._content_consumed = consumed

    def __iter__(self) -> Iterator[bytes]:
        return self.iter_content()

    def iter_content(self) -> Iterator[bytes]:
        self._content_consumed = True
        yield from CHUNKS


class Content:
    def __init__(self, eof: bool) -> None:
        self._eof = eof

    def at_eof(self) -> bool:
        return self._eof

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk


class AiohttpResponse(Closes):
    """aiohttp: the body is `content`, and `_body` once it was read."""

    def __init__(self, body: bytes | None = None, eof: bool = False) -> None:
        super().__init__()
        self._body = body
        self.content = Content(eof)

    async def start(self, connection: Any) -> None:
        raise AssertionError


class StreamingBody(io.IOBase):
    """botocore: the body of an answer, which looks like a file."""

    def __init__(self, amount_read: int = 0) -> None:
        self._amount_read = amount_read
        self._content_length = "13"
        self._left = iter(CHUNKS)

    def __next__(self) -> bytes:
        return next(self._left)

    def set_socket_timeout(self, timeout: float) -> None:
        raise AssertionError


class Socket:
    """What `http.client` reads a response from."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._text)


def http_response(length: int = 13) -> http.client.HTTPResponse:
    text = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b"one two three"
    response = http.client.HTTPResponse(Socket(text))  # type: ignore[arg-type]
    response.begin()
    return response


def read_response() -> http.client.HTTPResponse:
    response = http_response()
    response.read()
    return response


def generator() -> Iterator[bytes]:
    yield from CHUNKS


async def agenerator() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


SYNC: list[Callable[[], Any]] = [
    EventStream,
    Pages,
    OpenAIStream,
    RequestsResponse,
    StreamingBody,
    generator,
    lambda: map(bytes, CHUNKS),
    lambda: HttpxResponse(SyncBody()),
    lambda: HttpxResponse(BothBodies()),
]
ASYNC: list[Callable[[], Any]] = [
    AEventStream,
    Output,
    AsyncOpenAIStream,
    AiohttpResponse,
    agenerator,
    lambda: HttpxResponse(AsyncBody()),
]


class PydanticModel:
    """Its fields, one by one, and one of them is called `close`."""

    __pydantic_complete__ = True
    close = 2.0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        yield ("close", self.close)


class OldPydanticModel:
    __fields__ = ("a",)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        yield ("a", 1)


class AsyncPage(PydanticModel):
    """openai: a page of results, over which one can go on to the next ones."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield 1


@dataclasses.dataclass
class Point:
    """A record that can be unpacked."""

    x: int = 1

    def __iter__(self) -> Iterator[int]:
        yield self.x


class Pair(NamedTuple):
    a: int
    b: int


class Batch:
    """A container of an app's own."""

    def __iter__(self) -> Iterator[int]:
        yield 1

    def __len__(self) -> int:
        return 1


class Network:
    """A container without a length."""

    def __iter__(self) -> Iterator[int]:
        yield 1

    def __contains__(self, item: int) -> bool:
        return item == 1


class Lookup:
    """The old protocol of sequences."""

    def __getitem__(self, index: int) -> int:
        raise IndexError


class Awaitable:
    """A future: it can be awaited, and `__iter__` is the same."""

    def __await__(self) -> Iterator[None]:
        yield None

    __iter__ = __await__


class Colour(enum.Enum):
    RED = 1


class Lazy:
    """A client whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


class LazyResponse(Lazy):
    def iter_content(self) -> Any:
        raise AssertionError

    def aiter_bytes(self) -> Any:
        raise AssertionError

    def start(self) -> Any:
        raise AssertionError


ANSWERS: list[Any] = [
    None,
    "text",
    b"bytes",
    7,
    [1, 2],
    (1, 2),
    {"a": 1},
    {1, 2},
    frozenset({1}),
    range(3),
    bytearray(b"x"),
    memoryview(b"x"),
    collections.deque([1]),
    collections.OrderedDict(),
    types.MappingProxyType({}),
    ipaddress.ip_network("10.0.0.0/30"),
    email.message.Message(),
    io.StringIO("a\nb"),
    io.BytesIO(b"a\nb"),
    queue.Queue(),
    Path(),
    Reply("value", member="a"),
    MagicMock(),
    AsyncMock(),
    PydanticModel(),
    OldPydanticModel(),
    AsyncPage(),
    Point(),
    Pair(1, 2),
    Batch(),
    Network(),
    Lookup(),
    Awaitable(),
    Colour,
    Colour.RED,
    list[int],
    Pages,
    EventStream,
    object(),
    Lazy(),
    LazyResponse(),
    HttpxResponse(SyncBody(), consumed=True),
    HttpxResponse(BothBodies(), consumed=True),
    RequestsResponse(consumed=True),
    AiohttpResponse(body=b"one"),
    AiohttpResponse(eof=True),
    StreamingBody(amount_read=13),
    read_response(),
    http_response(0),
]


class TestRule:
    @pytest.mark.parametrize("make", SYNC)
    def test_sync_streams(self, make: Callable[[], Any]) -> None:
        """They are read by a `for`, in whatever way they are made for."""
        assert (is_stream(make()), is_async_stream(make())) == (True, False)
        assert list(chunks_of(make())) == CHUNKS

    @pytest.mark.parametrize("make", ASYNC)
    def test_async_streams(self, make: Callable[[], Any]) -> None:
        """They are read by an `async for`."""

        async def read() -> list[bytes]:
            return [chunk async for chunk in achunks_of(make())]

        assert (is_stream(make()), is_async_stream(make())) == (True, True)
        assert asyncio.run(read()) == CHUNKS

    @pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
    def test_answers(self, answer: Any) -> None:
        """Containers, records, files, mocks, classes, responses that have been read."""
        assert not is_stream(answer)

    def test_a_response_of_the_standard_library(self) -> None:
        """It is read line by line, until nothing is to come."""
        response = http_response()
        assert (is_stream(response), is_async_stream(response)) == (True, False)
        assert list(chunks_of(response)) == [b"one two three"]
        assert not is_stream(response)

    def test_a_record_that_can_be_closed_is_a_stream(self) -> None:
        """A dataclass may be a client's stream."""

        @dataclasses.dataclass
        class Events:
            body: Any

            def __iter__(self) -> Iterator[Any]:
                yield from self.body

            def close(self) -> None:
                pass

        assert is_stream(Events(CHUNKS))

    @pytest.mark.parametrize("hook", ["__enter__", "__aenter__"])
    @pytest.mark.parametrize("name", ["MessageStreamManager", "AsyncResponseContextManager"])
    def test_a_stream_that_was_not_opened_is_refused(self, name: str, hook: str) -> None:
        """Its request has not been made: it is no answer, and says what to do."""
        manager = type(name, (), {hook: lambda self: self})()
        with pytest.raises(TypeError, match=f"returned a {name} that was not opened"):
            is_stream(manager)


@pytest.mark.parametrize("is_async", [False, True])
class TestPool:
    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("make", [*SYNC, *ASYNC])
    def test_they_stream(self, make: Callable[[], Any], is_async: bool, read: Read) -> None:
        """Whoever returns them, and however that is read: `ask` has the same in a list."""
        made: list[Any] = []
        with pool_of(Member("a", returning(make, made, is_async))) as pool:
            assert within(read, pool.stream(Request("x"))) == CHUNKS
            assert pool.execute("x", timeout=WAIT_S) == CHUNKS
            closed = [getattr(each, "closed_times", 1) for each in made]
            assert closed == [1, 1]

    @pytest.mark.parametrize("make", [EventStream, AEventStream, OpenAIStream, RequestsResponse])
    def test_leaving_closes_them(self, make: Callable[[], Any], is_async: bool) -> None:
        """As a generator is."""
        made: list[Any] = []
        with pool_of(Member("a", returning(make, made, is_async)), stream_buffer=1) as pool:
            for chunk in pool.stream(Request("x")):
                assert chunk == CHUNKS[0]
                break
            assert pool.drain(timeout=WAIT_S)
        assert made[0].closed_times == 1

    def test_one_that_was_closed_unread_is_a_failure(self, is_async: bool) -> None:
        """As where an agent returns the response out of its `with` block."""

        class Closed(HttpxResponse):
            def iter_bytes(self) -> Iterator[bytes]:
                raise RuntimeError("Attempted to read or stream content, but it was closed.")

        a = returning(lambda: Closed(SyncBody()), [], is_async)
        with pool_of(*ranked(a=a, b=Chunks("b"))) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.errors[0].kind) == (["b"], FailureKind.UNKNOWN)
            assert rest(pool.stream(Request("x"))) == ["b"]

    def test_one_that_was_not_opened_is_a_failure(self, is_async: bool) -> None:
        """It says so, and another member answers."""
        manager = type("MessageStreamManager", (), {"__enter__": lambda self: self})
        a = returning(manager, [], is_async)
        with pool_of(*ranked(a=a, b=Chunks("b"))) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, type(reply.errors[0].error)) == (["b"], TypeError)
            assert rest(pool.stream(Request("x"))) == ["b"]


def returning(make: Callable[[], Any], made: list[Any], is_async: bool) -> Callable[[Any], Any]:
    """An agent that returns what is made, and notes it down."""

    def agent(payload: Any) -> Any:
        made.append(make())
        return made[-1]

    async def aagent(payload: Any) -> Any:
        return agent(payload)

    return aagent if is_async else agent
