"""A Ray actor on this machine: another process, reached through Ray's own store and scheduler.

Its dashboard and its log to the driver are off. An actor of Ray's may live on any machine, which is
what the time buys; it has its company of greenroom alone, since its processes never quite sleep.
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


class Echo:
    """Answers with what it was asked."""

    def echo(self, payload: Any) -> Any:
        return payload

    async def aecho(self, payload: Any) -> Any:
        return payload


class SyncEcho:
    """The same without a coroutine: Ray runs a class that has one on an event loop."""

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
        with self._actor(SyncEcho) as actor:
            yield lambda i: ray.get(actor.echo.remote(i))

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        with self._actor(Echo) as actor:
            yield lambda i: actor.aecho.remote(i)

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        with self._actor(SyncEcho) as actor:
            yield lambda i: actor.echo.remote(i), ray.get

    @contextmanager
    def tells(self) -> Iterator[Callable[[int], None]]:
        with self._actor(SyncEcho) as actor:

            def send(times: int) -> None:
                for i in range(times - 1):
                    actor.echo.remote(i)
                ray.get(actor.echo.remote(times))  # in order, so the others were handled

            yield send

    @contextmanager
    def _actor(self, kind: type) -> Iterator[Any]:
        actor = ray.remote(num_cpus=0)(kind).remote()
        try:
            yield actor
        finally:
            ray.kill(actor)
