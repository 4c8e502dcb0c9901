"""A Ray actor on this machine: another process, reached through Ray's own store and scheduler.

Its dashboard and its log to the driver are off. An actor of Ray's may live on any machine, which is
what the time buys. It has greenroom alone for company, since its processes never quite sleep, and
is measured in two groups only, since it takes half a minute to start.
"""

from __future__ import annotations

import atexit
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.model import Scale
from benchmarks.peers.base import Peer

ray: Any = import_module("ray")


class AsyncEcho:
    """Answers with what it was asked; Ray runs a class with a coroutine on an event loop."""

    async def aecho(self, payload: Any) -> Any:
        return payload


class Echo:
    """The same in a plain method."""

    def echo(self, payload: Any) -> Any:
        return payload


class RayActor(Peer):
    """`remote` and `get`."""

    slow = True

    def __init__(self) -> None:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
        atexit.register(ray.shutdown)

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        with self._actor(Echo) as actor:
            yield lambda i: ray.get(actor.echo.remote(i))

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        with self._actor(AsyncEcho) as actor:
            yield lambda i: actor.aecho.remote(i)

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        with self._actor(Echo) as actor:
            yield lambda i: actor.echo.remote(i), ray.get

    @contextmanager
    def _actor(self, kind: type) -> Iterator[Any]:
        actor = ray.remote(num_cpus=0)(kind).remote()
        try:
            yield actor
        finally:
            ray.kill(actor)
