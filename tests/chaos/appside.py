"""An app that is an asyncio program: its loop is the home of a pool's agents, until it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from chaos.findings import Stuck
from chaos.rest import PATIENCE_S, patience

T = TypeVar("T")


class App:
    """A program in a thread of its own, as `asyncio.run` has it."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-app", daemon=True)
        self._thread.start()
        self._ready.wait(PATIENCE_S)

    def call(self, action: Callable[[], T]) -> T:
        """What an action returns that a coroutine of the program calls."""

        async def act() -> T:
            return action()

        return self.begin(act()).result(PATIENCE_S)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a task of the program run it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def tasks(self) -> list[str]:
        """The names of the tasks that are not the program's main one."""
        return self.call(self._others)

    def end(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """The main coroutine returns, and `asyncio.run` winds the loop up: every task is cancelled,
        and waited for. Once is enough.

        Raises:
            Stuck: it does not come to its end.
        """
        if not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self._over.set)
        for _ in patience():
            self._thread.join(0.02)
            if not self._thread.is_alive():
                return
            meanwhile()
        raise Stuck(f"the app does not end: {asyncio.all_tasks(self.loop)}")

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._own = asyncio.current_task()
        self._ready.set()
        await self._over.wait()

    def _others(self) -> list[str]:
        others = asyncio.all_tasks() - {self._own, asyncio.current_task()}
        return sorted(task.get_name() for task in others)
