"""What an agent returns: which of it is a stream that is still to be read. Stand-ins have the shape
of the real classes, as far as the rule looks at it.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import email.message
import enum
import http.client
import io
import ipaddress
import queue
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, MagicMock

import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import READERS, Chunks, Read, rest, within

from greenroom import AgentTypeError, FailureKind, Member, Reply, Request
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


LEFT: list[Any] = []
"""Who was left, in order."""


@contextlib.contextmanager
def session() -> Iterator[Any]:
    """httpx: the `stream` of a client, whose response is read within."""
    try:
        yield HttpxResponse(SyncBody())
    finally:
        LEFT.append(session)


@contextlib.asynccontextmanager
async def asession() -> AsyncIterator[Any]:
    """pydantic-ai 2.68.0: `run_stream`, whose result is read within."""
    try:
        yield StreamedRunResult()
    finally:
        LEFT.append(asession)


class MessageStreamManager:
    """anthropic: the `stream` of its messages."""

    def __enter__(self) -> Any:
        return OpenAIStream()

    def __exit__(self, *_: object) -> None:
        pass


class AsyncChatCompletionStreamManager:
    """openai 3.57.0."""

    async def __aenter__(self) -> Any:
        return AsyncOpenAIStream()

    async def __aexit__(self, *_: object) -> None:
        pass


class _RunStreamEventsContext:
    """pydantic-ai 2.68.0: what `run_stream_events` gives; all that it has is private."""

    def __init__(self) -> None:
        self._iterator: Any = None

    async def __aenter__(self) -> Any:
        self._iterator = agenerator()
        return self._iterator

    async def __aexit__(self, *_: object) -> None:
        await self._iterator.aclose()


class Both:
    """It can be entered either way, and is by `async with`."""

    def __enter__(self) -> Any:
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        raise AssertionError

    async def __aenter__(self) -> Any:
        return iter(CHUNKS)

    async def __aexit__(self, *_: object) -> None:
        LEFT.append(Both)


class StreamedRunResult:
    """pydantic-ai 2.68.0: complete when it has been read."""

    def __init__(self, is_complete: bool = False) -> None:
        self.is_complete = is_complete

    async def stream_text(
        self, *, delta: bool = False, debounce_by: float | None = 0.1
    ) -> AsyncIterator[bytes]:
        assert (delta, debounce_by) == (True, None)
        for chunk in CHUNKS:
            yield chunk


class StreamedRunResultSync:
    """The same of its `run_stream_sync`."""

    is_complete = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stream_text(
        self, *, delta: bool = False, debounce_by: float | None = 0.1
    ) -> Iterator[bytes]:
        return iter(CHUNKS)


class RunResultStreaming:
    """openai-agents 0.24.0: what `Runner.run_streamed` gives."""

    def __init__(self, is_complete: bool = False) -> None:
        self.is_complete = is_complete

    async def stream_events(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk


class StreamingResponse:
    """llama-index-core 0.14.25: what a query engine gives that streams, sync and async."""

    def __init__(self, response_gen: Any) -> None:
        self.response_gen = response_gen

    def print_response_stream(self) -> None:
        raise AssertionError


class StreamingAgentChatResponse:
    """llama-index-core 0.14.25: the same of a chat engine, which reads its model by itself."""

    def __init__(self, chat: Any = None, achat: Any = None) -> None:
        self.chat_stream = chat
        self.achat_stream = achat

    @property
    def response_gen(self) -> Iterator[bytes]:
        return generator()

    def async_response_gen(self) -> AsyncIterator[bytes]:
        return agenerator()

    def print_response_stream(self) -> None:
        raise AssertionError


class AgentRun:
    """ag2 1.2.1: what `run` gives, before it is entered."""

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def result(self) -> str:
        raise AssertionError

    def start(self) -> None:
        raise AssertionError


@contextlib.contextmanager
def number() -> Iterator[Any]:
    """What it gives is an answer, which nobody has asked it for."""
    yield 7


@contextlib.asynccontextmanager
async def anumber() -> AsyncIterator[Any]:
    yield 7


class RawResponseContextManager:
    """openai 3.57.0: `with_streaming_response`, whose response is still to be parsed."""

    async def __aenter__(self) -> Any:
        return object()

    async def __aexit__(self, *_: object) -> None:
        pass


SYNC: list[Callable[[], Any]] = [
    session,
    MessageStreamManager,
    StreamedRunResultSync,
    lambda: StreamingResponse(generator()),
    lambda: StreamingAgentChatResponse(chat=generator()),
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
    asession,
    AsyncChatCompletionStreamManager,
    _RunStreamEventsContext,
    Both,
    StreamedRunResult,
    RunResultStreaming,
    lambda: StreamingResponse(agenerator()),
    lambda: StreamingAgentChatResponse(achat=agenerator()),
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


class Entered:
    """A connection or a picture: it can be entered, and says something without that."""

    name = "picture"

    def __enter__(self) -> Any:
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        raise AssertionError


class EnteredCalled:
    """What can be called, too."""

    def __enter__(self) -> Any:
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        raise AssertionError

    def __call__(self) -> Any:
        raise AssertionError


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
    Entered(),
    EnteredCalled(),
    contextlib.nullcontext(7),
    threading.Lock(),
    StreamedRunResult(is_complete=True),
    RunResultStreaming(is_complete=True),
    StreamingResponse(None),
    StreamingAgentChatResponse(),
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


class AsyncResult:
    """multiprocessing, and Celery."""

    def get(self, timeout: float | None = None) -> str:
        return "done"

    def ready(self) -> bool:
        return True

    def successful(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> None: ...


SUBMITTED, APPLIED = concurrent.futures.Future[str], AsyncResult


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

    def test_what_is_still_to_be_awaited_is_refused(self) -> None:
        """It is what awaiting an agent's answer has brought: one `await` was forgotten."""
        loop = asyncio.new_event_loop()
        with pytest.raises(AgentTypeError, match="a Future that nobody has awaited: await it in"):
            is_stream(loop.create_future())
        loop.close()
        with pytest.raises(AgentTypeError, match="a coroutine that nobody has awaited"):
            is_stream(asyncio.sleep(0))
        with pytest.raises(AgentTypeError, match="a Awaitable that nobody has awaited"):
            is_stream(Awaitable())

    def test_a_run_that_was_not_entered_is_refused(self) -> None:
        """Its request has not been made: it is no answer, and says what to do."""
        with pytest.raises(AgentTypeError, match="a AgentRun that was not opened: enter it by"):
            is_stream(AgentRun())


def assert_is_no_answer(agent: Any, words: str) -> None:
    """What it returns is a failure that says so; the same again would be no better."""
    with pool_of(*ranked(a=agent, b=Chunks("b"))) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert reply.value == ["b"]
        (error,) = reply.errors
        assert isinstance(error.error, AgentTypeError)
        assert words in str(error.error)
        assert (error.kind, error.attempts) == (FailureKind.TOO_LARGE, 1)
        assert rest(pool.stream(Request("x"))) == ["b"]


@pytest.mark.parametrize("is_async", [False, True])
class TestPool:
    @pytest.mark.parametrize("make", [SUBMITTED, APPLIED], ids=["submitted", "applied"])
    def test_what_nobody_has_waited_for_is_a_failure(
        self, make: Callable[[], Any], is_async: bool
    ) -> None:
        """The result of another thread or process, whether it is there by now or not."""
        assert_is_no_answer(
            returning(make, [], is_async), "that nobody has waited for: wait for it in the agent"
        )

    def test_an_await_that_was_forgotten_is_a_failure(self, is_async: bool) -> None:
        """Nothing has been done yet: it says so, and nothing is left un-awaited."""

        async def run(prompt: Any) -> str:
            raise AssertionError

        async def arun(prompt: Any) -> Any:
            return run(prompt)

        forgets: Any = arun if is_async else lambda prompt: arun(prompt)
        with pool_of(*ranked(a=forgets, b=Chunks("b"))) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert reply.value == ["b"]
            (error,) = reply.errors
            assert "a coroutine that nobody has awaited: await it in" in str(error.error)
            assert rest(pool.stream(Request("x"))) == ["b"]

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

    @pytest.mark.parametrize("make", [session, asession, Both])
    def test_what_is_left_is_left_once(self, make: Callable[[], Any], is_async: bool) -> None:
        """Also by whoever wants no more of it."""
        LEFT.clear()
        with pool_of(Member("a", returning(make, [], is_async)), stream_buffer=1) as pool:
            for chunk in pool.stream(Request("x")):
                assert chunk == CHUNKS[0]
                break
            assert pool.drain(timeout=WAIT_S)
        assert [make] == LEFT

    @pytest.mark.parametrize("make", [AgentRun, number, anumber, RawResponseContextManager])
    def test_what_nobody_has_read_is_a_failure(
        self, make: Callable[[], Any], is_async: bool
    ) -> None:
        """It says so, and another member answers; the same again would be no better."""
        assert_is_no_answer(returning(make, [], is_async), "that was not opened")

    def test_one_that_raises_when_it_is_entered_has_failed(self, is_async: bool) -> None:
        """As a request that is made there."""

        class Refused:
            def __enter__(self) -> Any:
                raise ConnectionError("refused")

            def __exit__(self, *_: object) -> None:
                raise AssertionError

        a = returning(Refused, [], is_async)
        with pool_of(*ranked(a=a, b=Chunks("b"))) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.errors[0].kind) == (["b"], FailureKind.UNAVAILABLE)


def returning(make: Callable[[], Any], made: list[Any], is_async: bool) -> Callable[[Any], Any]:
    """An agent that returns what is made, and notes it down."""

    def agent(payload: Any) -> Any:
        made.append(make())
        return made[-1]

    async def aagent(payload: Any) -> Any:
        return agent(payload)

    return aagent if is_async else agent
