"""What the tests of streams share: agents that send chunks as a test tells them, and readers."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from helpers_pools import WAIT_S

from greenroom import PoolRef, PoolStream, Restarted
from greenroom.actors.runtime.channel import ANEW, EMPTY, END, Channel
from greenroom.testing import FakeClock
from greenroom.testing.waits import resolver

R = TypeVar("R")


class Hold:
    """A step at which an agent waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], None]] = []

    def block(self) -> None:
        self._reached.release()
        assert self._opened.wait(6 * WAIT_S)

    async def pause(self) -> None:
        done = asyncio.get_running_loop().create_future()
        with self._lock:
            if not self._opened.is_set():
                self._wakes.append(resolver(done))
            else:
                done.set_result(None)
        self._reached.release()
        await done

    def wait_reached(self) -> None:
        assert self._reached.acquire(timeout=WAIT_S), "no agent came here"

    def open(self) -> None:
        with self._lock:
            self._opened.set()
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()


@dataclass(frozen=True)
class After:
    """A step that takes so many seconds of the clock."""

    clock: FakeClock
    seconds: float

    def block(self) -> None:
        self.clock.block(self.seconds)

    async def pause(self) -> None:
        await self.clock.sleep(self.seconds)


class Chunks:
    """A sync generator for an agent. A step is waited for, raised, or sent as a chunk.

    Attributes:
        payloads: of the calls, in order.
        made: how many chunks were made, in all calls.
        ends: how the calls ended: "end", or the type of the error that ended the generator.
    """

    def __init__(self, *steps: Any, endless: Iterable[Any] = ()) -> None:
        self.steps: Iterable[Any] = steps or endless
        self.payloads: list[Any] = []
        self.made = 0
        self.ends: list[str] = []
        self.watch: Callable[[], object] = lambda: None
        self._made = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)

    @classmethod
    def counting(cls) -> Any:
        """1, 2, 3 and so on for ever."""
        return cls(endless=itertools.count(1))

    @property
    def calls(self) -> int:
        return len(self.payloads)

    def __call__(self, payload: Any) -> Iterator[Any]:
        self.payloads.append(payload)
        try:
            for step in self.steps:
                if isinstance(step, (Hold, After)):
                    step.block()
                else:
                    yield self._make(step)
        except BaseException as error:
            self._note(type(error).__name__)
            raise
        self._note("end")

    def wait_made(self, chunks: int) -> None:
        """Until that many further chunks have been made."""
        for _ in range(chunks):
            assert self._made.acquire(timeout=WAIT_S), f"only {self.made} chunks were made"

    def wait_ended(self) -> str:
        """How the next call that ends did."""
        assert self._ended.acquire(timeout=WAIT_S), "no call ended"
        return self.ends[-1]

    def _make(self, step: Any) -> Any:
        if isinstance(step, BaseException):
            raise step
        self.made += 1
        self.watch()
        self._made.release()
        return step

    def _note(self, end: str) -> None:
        self.ends.append(end)
        self._ended.release()


class AsyncChunks(Chunks):
    """The same as an async generator."""

    async def __call__(self, payload: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        self.payloads.append(payload)
        try:
            for step in self.steps:
                if isinstance(step, (Hold, After)):
                    await step.pause()
                else:
                    yield self._make(step)
        except BaseException as error:
            self._note(type(error).__name__)
            raise
        self._note("end")


PRODUCERS = [Chunks, AsyncChunks]


GONE = ConnectionError("gone")
Producer = type[Chunks]
Read = Callable[[PoolStream[Any]], list[Any]]


def by_for(stream: PoolStream[R]) -> list[R]:
    return list(stream)


def by_async_for(stream: PoolStream[R]) -> list[R]:
    async def read() -> list[R]:
        return [chunk async for chunk in stream]

    return asyncio.run(read())


READERS: list[Callable[[PoolStream[Any]], list[Any]]] = [by_for, by_async_for]


class Doing:
    """Something that another thread does meanwhile; `result` is what it returned or raised."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._action()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "it has not come to an end"
        if self._error is not None:
            raise self._error
        return self._value


def within(action: Callable[..., R], *arguments: Any) -> R:
    """What `action(*arguments)` returns or raises; it fails rather than hang."""
    result: R = Doing(lambda: action(*arguments)).result()
    return result


def take(stream: PoolStream[R], chunks: int) -> list[R]:
    """The next so many chunks; the stream goes on."""
    return within(lambda: [next(stream) for _ in range(chunks)])


def rest(stream: PoolStream[R]) -> list[R]:
    """All the others, up to the end."""
    return within(stream.collect)


def wait_free(pool: PoolRef) -> None:
    """Until the only slot there is can be had, and with it the report of whoever had it before."""
    assert pool.ask(_free(), timeout=WAIT_S).value == "free"


def _free() -> Any:
    from greenroom import Apply

    return Apply(lambda agent: "free")


class Consumer:
    """What one has had since the last mark; `received` is what the error at the end would say."""

    def __init__(self) -> None:
        self.had: list[Any] = []
        self.received: list[Any] | None = None

    def take(self, chunks: Channel, sent: dict[int, list[Any]]) -> bool:
        """Whether there was something to take."""
        chunk = chunks.take()
        if chunk in (EMPTY, END):
            return False
        if chunk is ANEW or isinstance(chunk, Restarted):
            if isinstance(chunk, Restarted):
                assert (chunk.dropped, chunk.attempt) == (len(self.had), max(sent))
            self.had = []
        else:
            self.had.append(chunk)
            assert self.had == sent[chunk[0]][: len(self.had)]
        return True

    def read(self, chunks: Channel, sent: dict[int, list[Any]]) -> None:
        try:
            while self.take(chunks, sent):
                pass
        except ConnectionError:
            self.received = list(chunks.received)


def failures(pool: PoolRef, member: str = "a") -> int:
    """How often a member has failed, as its breaker counts."""
    return pool.stats()[member].failures
