"""An engine in memory: the ends of a call, with nothing between them but what a test puts there."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from helpers_processes import PROCESS_S

from greenroom import Member
from greenroom.remote import serve_worker
from greenroom.remote.codec import Codec, JsonCodec
from greenroom.remote.frames import (
    ENDS,
    Call,
    Cancel,
    Frame,
    Pong,
    ToCaller,
    ToWorker,
)
from greenroom.remote.links import EngineAway, RunningCall, WorkerDesk, WorkerGone


class MemoryEngine:
    """One worker and whoever calls it, in one loop. Each frame goes through the codec.

    Attributes:
        said: every frame, in order, as it was sent.
        away: what carries the calls is away: nothing gets anywhere.
        refuses: nobody listens.
        holds: kinds of frames that are kept back, until `release`.
    """

    shown = "memory://worker"

    def __init__(self, codec: Codec | None = None) -> None:
        self.codec: Codec = codec or JsonCodec()
        self.said: list[Frame] = []
        self.away = False
        self.refuses = False
        self.holds: tuple[type, ...] = ()
        self.held: list[Callable[[], None]] = []
        self.desk: WorkerDesk | None = None
        self.links: list[MemoryCall] = []
        self.on_away: list[Callable[[bool], None]] = []

    def connect(self, *, on_away: Callable[[bool], None]) -> MemoryWay:
        self.on_away.append(on_away)
        return MemoryWay(self)

    async def listen(self, desk: WorkerDesk) -> None:
        self.desk = desk

    async def refuse(self) -> None:
        pass

    async def close(self) -> None:
        self.desk = None

    def kinds(self) -> list[str]:
        """What has been said, by its kind."""
        return [type(each).__name__ for each in self.said]

    def lose(self) -> None:
        """The worker dies, with all that runs on it."""
        self.refuses = True
        for link in list(self.links):
            link.cut(WorkerGone("memory://worker: gone", reached=True))

    def go_away(self, away: bool) -> None:
        """What carries the calls goes away, or comes back."""
        self.away = away
        if away:
            for link in list(self.links):
                link.cut(EngineAway("memory: away", reached=True))
        for tell in self.on_away:
            tell(away)

    def release(self) -> None:
        """Let through what was held."""
        held, self.held, self.holds = self.held, [], ()
        for each in held:
            each()

    def passes(self, frame: Frame, deliver: Callable[[], None]) -> None:
        self.said.append(frame)
        if isinstance(frame, self.holds):
            self.held.append(deliver)
        else:
            deliver()


class MemoryWay:
    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    async def open(self, call: Call) -> MemoryCall:
        engine = self._engine
        data = engine.codec.encode(call)
        if engine.away:
            raise EngineAway("memory: away", reached=False)
        if engine.refuses or engine.desk is None:
            raise WorkerGone("memory://worker: nobody listens", reached=False)
        return MemoryCall(engine, engine.codec.to_worker(data))

    async def ask(self, timeout_s: float) -> Pong:
        engine = self._engine
        if engine.away:
            raise EngineAway("memory: away", reached=False)
        if engine.refuses or engine.desk is None:
            raise WorkerGone("memory://worker: nobody listens", reached=False)
        pong = engine.codec.to_caller(engine.codec.encode(engine.desk.pong()))
        assert isinstance(pong, Pong)
        return pong

    async def close(self) -> None:
        pass


class MemoryCall:
    """Both ends of one call."""

    def __init__(self, engine: MemoryEngine, call: ToWorker) -> None:
        assert isinstance(call, Call)
        assert engine.desk is not None
        self._engine = engine
        self._id = call.id
        self._come: asyncio.Queue[ToCaller | Exception] = asyncio.Queue()
        self._ended = False
        self._cut = False
        engine.links.append(self)
        engine.said.append(call)
        self._running: RunningCall = engine.desk.begin(call, self._to_caller, on_end=self._over)

    async def _to_caller(self, frame: ToCaller) -> None:
        data = self._engine.codec.encode(frame)
        if self._cut:
            raise ConnectionError("nobody is there")
        said = self._engine.codec.to_caller(data)
        self._engine.passes(said, lambda: self._come.put_nowait(said))

    def _over(self) -> None:
        if self in self._engine.links:
            self._engine.links.remove(self)

    def cut(self, why: Exception) -> None:
        self._cut = True
        self._come.put_nowait(why)
        self._running.gone()

    async def send(self, frame: ToWorker) -> None:
        said = self._engine.codec.to_worker(self._engine.codec.encode(frame))
        if self._cut:
            raise WorkerGone("memory://worker: gone", reached=True)
        self._engine.passes(said, lambda: self._running.heard(said))

    async def receive(self) -> ToCaller:
        said = await self._come.get()
        if isinstance(said, Exception):
            raise said
        self._ended = isinstance(said, ENDS)
        return said

    async def close(self) -> None:
        if not self._ended and not self._cut:
            said = Cancel(self._id)
            self._engine.passes(said, lambda: self._running.heard(said))


TEST_S = 4 * PROCESS_S
"""Only what hangs reaches it: a test may have three processes begin, one after another."""


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine, in a loop of its own; not without end."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **named), TEST_S))

    return run


async def until(holds: Callable[[], object]) -> None:
    """Let the loop go round until it holds."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for is told by nobody
            await asyncio.sleep(0.001)


async def echo(payload: Any) -> Any:
    return payload


@asynccontextmanager
async def served(
    member: Member | None = None, listen: str = "http://127.0.0.1:0", **given: Any
) -> AsyncIterator[str]:
    """A worker of this loop, by its address; where it cannot be served, that is raised."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(
        serve_worker(
            member or Member("w", echo),
            listen,
            stopping=stopping,
            on_listening=url.set_result,
            **given,
        )
    )
    try:
        either: list[asyncio.Future[Any]] = [url, serving]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if url.done():
            yield url.result()
    finally:
        stopping.set()
        await serving
