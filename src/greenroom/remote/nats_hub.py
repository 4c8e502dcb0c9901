"""The caller's connections to NATS: one for all calls of a loop that go to the same servers."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.brokers.nats_address import NatsAddress
from greenroom.brokers.nats_client import BrokerError, NatsConnection, is_nobody
from greenroom.remote.codec import Codec, ProtocolError
from greenroom.remote.frames import Pong
from greenroom.remote.links import EngineAway
from greenroom.remote.nats_broker import Broker
from greenroom.remote.nats_liveness import PING_S, SILENT_S
from greenroom.remote.nats_peer import PLAIN, Place, Worker
from greenroom.remote.nats_wire import Told, WireError, read_to_caller

if TYPE_CHECKING:
    from nats.aio.msg import Msg

REMIND_S = 10.0
"""How often whoever is behind a broker that is away is told so again."""

_Key = tuple[int, NatsAddress, str, int]
_hubs: dict[_Key, Hub] = {}
_hubs_lock = threading.Lock()


def hub_of(address: NatsAddress, codec: Codec) -> Hub:
    """The connection of the running loop to such an address; whoever has it lets it go."""
    loop = asyncio.get_running_loop()
    place = dataclasses.replace(address, subject="")
    key = (id(loop), place, codec.name, codec.most_bytes)
    with _hubs_lock:
        for old in [each for each in _hubs if _hubs[each].loop.is_closed()]:
            del _hubs[old]
        hub = _hubs.get(key)
        if hub is None or hub.loop is not loop or hub.is_closed:
            hub = _hubs[key] = Hub(place, codec, lambda: _hubs.pop(key, None))
        hub.users += 1
        return hub


class Target(Protocol):
    """What answers are for."""

    def message(self, data: bytes) -> None: ...

    def nobody(self) -> None: ...


class Hub:
    """One connection: all calls of a loop that go to the same servers in the same way.

    Attributes:
        caller: its name for workers, over all of its connections.
        targets: whom an answer is for, by the last part of the subject it comes to.
        places: by their subjects.
        workers: by the subjects that are their own.
    """

    def __init__(self, address: NatsAddress, codec: Codec, forget: Callable[[], object]) -> None:
        self.loop = asyncio.get_running_loop()
        self.codec = codec
        self.caller = os.urandom(8)
        self.caller_text = self.caller.hex()
        self.targets: dict[str, Target] = {}
        self.places: dict[str, Place] = {}
        self.workers: dict[str, Worker] = {}
        self.users = 0
        self.is_closed = False
        self._forget = forget
        self._tokens = itertools.count()
        self._prefix = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._reminder: asyncio.TimerHandle | None = None
        self.broker = Broker(
            address,
            name="greenroom caller",
            subscribe=self._subscribe,
            on_change=self._changed,
            is_busy=self._is_busy,
        )

    # -- whom it tells

    def place(self, subject: str) -> Place:
        """Where a worker is greeted."""
        found = self.places.get(subject)
        if found is None:
            found = self.places[subject] = Place(self, subject, is_away=self.broker.is_down)
        return found

    def worker(self, private: str) -> Worker:
        """The process at a subject of its own."""
        found = self.workers.get(private)
        if found is None:
            found = self.workers[private] = Worker(self, private)
        return found

    def pong(self, data: bytes) -> tuple[Told, Pong] | None:
        """What a message says, if it is a pong."""
        try:
            told, _, rest = read_to_caller(data)
            frame = PLAIN.to_caller(rest)
        except (WireError, ProtocolError):
            return None
        return (told, frame) if isinstance(told, Told) and isinstance(frame, Pong) else None

    async def let_go(self) -> None:
        """The end of one who has used it; the last one's is its own."""
        with _hubs_lock:
            self.users -= 1
            if self.users or self.is_closed:
                return
            self.is_closed = True
            self._forget()
        for timer in (self._tick, self._reminder):
            if timer is not None:
                timer.cancel()
        for place in self.places.values():
            place.close()
        if self._tasks:  # what tells workers that calls are over
            await asyncio.wait(set(self._tasks), timeout=SILENT_S)
        await self.broker.close()

    # -- the broker

    async def _subscribe(self, connection: NatsConnection) -> None:
        self._prefix = connection.new_inbox()
        await connection.subscribe(f"{self._prefix}.*", self._heard)

    def _changed(self, away: bool, why: str) -> None:
        if self.is_closed:
            return
        if not away:
            for place in list(self.places.values()):
                place.broker_back()
            return
        why = f"the broker is away: {why}"
        for worker in list(self.workers.values()):
            worker.broker_away(why)
        for place in list(self.places.values()):
            place.broker_away(why)
        self._remind_later()

    def _remind_later(self) -> None:
        if self._reminder is None:
            self._reminder = self.loop.call_later(REMIND_S, self._remind)

    def _remind(self) -> None:
        """Who was told that it is away has it for a while only."""
        self._reminder = None
        away = [each for each in self.places.values() if each.is_away]
        for place in away:
            place.tell(True)
        if away:
            self._remind_later()

    def _is_busy(self) -> bool:
        return any(each.calls for each in self.workers.values()) or any(
            each.is_busy for each in self.places.values()
        )

    def _heard(self, message: Msg) -> None:
        target = self.targets.get(message.subject.rpartition(".")[2])
        if target is None:
            return  # it is over
        if is_nobody(message):
            target.nobody()
        else:
            target.message(message.data)

    async def connection(self) -> NatsConnection:
        """What there is.

        Raises:
            EngineAway: there is none.
        """
        try:
            return await self.broker.ready()
        except BrokerError as error:
            raise EngineAway(f"the broker is away: {error}", reached=False) from None

    def token(self, target: Target) -> str:
        """A name for answers."""
        token = f"{next(self._tokens):x}"
        self.targets[token] = target
        return token

    def reply(self, token: str) -> str:
        """Where answers of that name go."""
        return f"{self._prefix}.{token}"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that nobody waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- its pulse

    def pulse(self) -> None:
        """Somebody's silence counts: look after it until none does."""
        if self._tick is None and not self.is_closed:
            self.broker.hurry()
            self._tick = self.loop.call_later(PING_S, self._beat)

    def _beat(self) -> None:
        self._tick = None
        for worker in list(self.workers.values()):
            if worker.calls:
                worker.look()
        if self._is_busy() and not self.is_closed:
            self._tick = self.loop.call_later(PING_S, self._beat)
