"""LangChain's `with_fallbacks` over runnables made of functions: no model, no prompt, no parser.

Tracing is off. Failover: the first runnable
raises a ConnectionError, which is what it is told to handle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.peers import agents
from benchmarks.peers.base import Peer, Stream

_runnables: Any = import_module("langchain_core.runnables")


def _chain(failing: bool, members: int) -> Any:
    works = [_runnables.RunnableLambda(agents.echo, agents.aecho) for _ in range(members)]
    if failing:
        works[0] = _runnables.RunnableLambda(agents.down, agents.adown)
    return works[0].with_fallbacks(works[1:], exceptions_to_handle=(ConnectionError,))


class LangChainFallbacks(Peer):
    """`invoke`, `ainvoke` and `astream`."""

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        chain = _chain(failing, members)

        def ask(i: int) -> int:
            chain.invoke(i)
            return 1 + failing

        yield ask

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        chain = _chain(failing, members)

        async def ask(i: int) -> int:
            await chain.ainvoke(i)
            return 1 + failing

        yield ask

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        wanted = [0]

        async def speak(_: AsyncIterator[Any]) -> AsyncIterator[str]:
            async for chunk in agents.achunks(wanted[0]):
                yield chunk

        first, *others = (_runnables.RunnableGenerator(speak) for _ in range(3))
        chain = first.with_fallbacks(others)

        def chunks(count: int) -> AsyncIterator[Any]:
            wanted[0] = count
            return aiter(chain.astream("hello"))

        yield chunks
