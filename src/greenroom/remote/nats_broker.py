"""The broker as each end of a call sees it: connected, watched, connected anew when it is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from greenroom.actors.runtime.event_bus import complain
from greenroom.brokers.nats_address import NatsAddress
from greenroom.brokers.nats_client import BrokerError, NatsConnection
from greenroom.remote.nats_liveness import ASK_BROKER_S, SILENT_S, Hearing, backoff_s

ASK_IDLE_S = 2.0
"""How often it is asked while nothing depends on it."""


class Broker:
    """Keeps a connection to a NATS system. All of it is for one loop.

    Args:
        name: of its connections, as the server shows them.
        subscribe: called with each new connection, before anybody else has it.
        on_change: told whether it is away, and why: whenever that changes, of the first attempt to
            connect as well.
        is_busy: whether anybody's silence counts now.

    Attributes:
        connection: what there is, or None.
        session: how many there have been.
        why: why there is none.
    """

    def __init__(
        self,
        address: NatsAddress,
        *,
        name: str,
        subscribe: Callable[[NatsConnection], Awaitable[None]],
        on_change: Callable[[bool, str], None],
        is_busy: Callable[[], bool],
    ) -> None:
        self._address = address
        self._name = name
        self._subscribe = subscribe
        self._on_change = on_change
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._rng = random.Random()
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._is_down: bool | None = None
        self.hearing = Hearing(self._loop.time())
        self.connection: NatsConnection | None = None
        self.session = 0
        self.why = "it has not been connected yet"

    @property
    def is_down(self) -> bool:
        """Whether it is known to be away."""
        return bool(self._is_down)

    def start(self) -> None:
        """Begin to connect; does nothing if it has begun."""
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def ready(self) -> NatsConnection:
        """A connection; waits for the first attempt to connect, and for no other.

        Raises:
            BrokerError: it is away.
        """
        if self.connection is not None and not self.connection.is_over:
            return self.connection
        self.start()
        while self._is_down is None and not self._is_closed:
            await self._changed.wait()
        if self.connection is None or self.connection.is_over:
            raise BrokerError(self.why)
        return self.connection

    async def up(self) -> NatsConnection:
        """A connection, for which it waits as long as it takes.

        Raises:
            BrokerError: it was closed.
        """
        self.start()
        while self.connection is None or self.connection.is_over:
            if self._is_closed:
                raise BrokerError(self.why)
            self._changed.clear()
            await self._changed.wait()
        return self.connection

    def hurry(self) -> None:
        """Somebody's silence counts from now on: ask the server soon."""
        self._wanted.set()

    async def close(self) -> None:
        """End it. Raises nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.why = "the connection was closed"
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})
        self._down(self.why)

    # -- its task

    async def _run(self) -> None:
        failures = 0
        while not self._is_closed:
            await asyncio.sleep(backoff_s(failures, self._rng.random()))
            connection: NatsConnection | None = None
            try:
                connection = await self._connected()
                failures = 0
                self._up(connection)
                self._down(await self._watched(connection))
            except BrokerError as error:
                failures += 1
                self._down(str(error))
            except Exception as error:  # of a kind that nobody has thought of: it goes on
                failures += 1
                self._down(type(error).__name__)
                complain(f"the connection to {self._address.shown} failed", error)
            finally:
                if connection is not None:
                    self.connection = None
                    await connection.close(at_once=not self._is_closed)

    async def _connected(self) -> NatsConnection:
        connection = await NatsConnection.open(self._address, name=self._name)
        try:
            self.session += 1
            await self._subscribe(connection)
            # What was subscribed is known to the server when it has answered.
            if not await connection.answers(SILENT_S):
                raise BrokerError(connection.complaint or "it does not answer")
        except BaseException:
            await connection.close(at_once=True)
            raise
        return connection

    async def _watched(self, connection: NatsConnection) -> str:
        """Ask it again and again; why it is over."""
        while not connection.is_over:
            if not await connection.answers(SILENT_S):
                break
            self.hearing.heard(self._loop.time())
            await self._pause(connection)
        if connection.over.done():
            return connection.over.result()
        return "the connection is over"

    async def _pause(self, connection: NatsConnection) -> None:
        self._wanted.clear()
        for_s = ASK_BROKER_S if self._is_busy() else ASK_IDLE_S
        wanted = self._loop.create_task(self._wanted.wait())
        waits: set[asyncio.Future[Any]] = {connection.over}
        if for_s != ASK_BROKER_S:
            waits.add(wanted)
        try:
            await asyncio.wait(waits, timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()

    def _up(self, connection: NatsConnection) -> None:
        self.hearing = Hearing(self._loop.time())
        self.connection = connection
        self._is_down = False
        self._changed.set()
        self._on_change(False, "")

    def _down(self, why: str) -> None:
        before, self._is_down = self._is_down, True
        self.connection = None
        if not self._is_closed:
            self.why = why
        self._changed.set()
        if not before:
            self._on_change(True, why)
