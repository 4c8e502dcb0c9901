"""What most tests share: how long they wait, and pools that are the same in every run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from greenroom import (
    AgentPool,
    Member,
    PoolConfig,
    PoolFuture,
    PoolRef,
    ReentrantAskError,
    Reply,
    Request,
)
from greenroom.actors.runtime.thread_duties import running_loop
from greenroom.testing import FakeClock

WAIT_S = 20.0
"""How long a test waits for what must come: it fails then. Nothing that goes well takes so long."""


class AgentsLoop:
    """Whose loop the agents of `pool_of` run on.

    Attributes:
        kind: for `PoolConfig.event_loop`.
        app: a loop in another thread, in which pools are started; None: they are where they are.
    """

    kind: Any = "auto"
    app: asyncio.AbstractEventLoop | None = None

    def started(self, start: Callable[[], PoolRef]) -> PoolRef:
        """Start a pool, in a coroutine of the app's if there is one, and that is not here."""

        async def main() -> PoolRef:
            return start()

        if self.app is None or running_loop() is not None:
            return start()
        return asyncio.run_coroutine_threadsafe(main(), self.app).result(WAIT_S)

    @contextlib.contextmanager
    def of_an_app(self) -> Iterator[None]:
        """The app runs in a thread of its own, and everything else asks from outside."""
        running, over = threading.Event(), asyncio.Event()

        async def main() -> None:
            self.app = asyncio.get_running_loop()
            running.set()
            await over.wait()

        thread = threading.Thread(target=asyncio.run, args=(main(),), name="the app", daemon=True)
        thread.start()
        assert running.wait(WAIT_S)
        app = self.app
        assert app is not None
        try:
            yield
        finally:
            self.app = None
            app.call_soon_threadsafe(over.set)
            thread.join(WAIT_S)


AGENTS_LOOP = AgentsLoop()


@contextlib.contextmanager
def pool_of(
    *members: Member,
    clock: FakeClock | None = None,
    strategy: Any = "priority",
    seed: int = 1,
    name: str = "pool",
    **config: Any,
) -> Iterator[PoolRef]:
    """A pool with a seeded generator, stopped at the end, and waited for; where this is left in a
    coroutine while a call still ends on that very loop, which a wait would hold up, it is told.
    """
    # A slow machine is no blocked loop: a framework's first call imports for seconds.
    defaults = {"event_loop": AGENTS_LOOP.kind, "loop_replaced_after_s": None}
    start = functools.partial(
        AgentPool.start,
        members,
        clock=clock,
        rng=random.Random(seed),
        strategy=strategy,
        name=name,
        config=PoolConfig(**(defaults | config)),
    )
    pool = AGENTS_LOOP.started(start)
    try:
        yield pool
    finally:
        try:
            pool.stop(timeout=2 * WAIT_S)
        except ReentrantAskError:
            if running_loop() is None:
                raise
            pool.stop(block=False)


def ranked(**agents: Any) -> list[Member]:
    """Members, pools among them, that the strategy `priority` prefers in this order."""
    return [Member(name, agent, priority=i) for i, (name, agent) in enumerate(agents.items())]


def echo(payload: Any) -> Any:
    """A sync agent that answers what it is asked."""
    return payload


async def echo_async(payload: Any) -> Any:
    """The same as a coroutine function."""
    return payload


def chunks(payload: Any) -> Iterator[Any]:
    """A sync generator of what it is asked, in one chunk."""
    yield payload


async def async_chunks(payload: Any) -> AsyncIterator[Any]:
    """The same as an async one."""
    yield payload


def ask(pool: PoolRef, payload: Any = "x", **options: Any) -> PoolFuture[Reply[Any]]:
    """Ask, and do not wait."""
    request: Request[Any] = Request(payload, **options)
    future: PoolFuture[Reply[Any]] = pool.ask(request, block=False)
    return future
