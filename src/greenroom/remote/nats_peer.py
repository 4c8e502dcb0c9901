"""Workers as their callers see them: where they are greeted, and the processes that answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from greenroom.actors.runtime.event_bus import complain
from greenroom.brokers.nats_client import BrokerError, NatsConnection
from greenroom.remote.codec import JsonCodec
from greenroom.remote.frames import Cancel, Ping, Pong, pings
from greenroom.remote.links import EngineAway, WorkerGone
from greenroom.remote.nats_liveness import (
    GAP_S,
    KNOWN_S,
    PING_S,
    RETURN_S,
    SILENT_S,
    SUSPICION_S,
)
from greenroom.remote.nats_wire import Sender, Told, to_worker

if TYPE_CHECKING:
    from greenroom.remote.nats_call import NatsCall
    from greenroom.remote.nats_hub import Hub

MOST_PINGS = 50
"""Of one worker, whose answers are still waited for: who has not answered as many is gone."""
PLAIN = JsonCodec()
"""The format of pings and pongs."""


class Place:
    """A subject at which a worker is greeted, and who has answered there last.

    Attributes:
        is_away: whether the way there is, by what is no worker's fault: the broker, or that the
            worker may not yet be connected again to one that has just come back.
        listeners: who is told of that.
    """

    def __init__(self, hub: Hub, subject: str, *, is_away: bool) -> None:
        self._hub = hub
        self._subject = subject
        self._greeting: asyncio.Future[Pong] | None = None
        self._last: asyncio.Future[Pong]
        self._worker: Worker | None = None
        self._returning: asyncio.Task[None] | None = None
        self.is_away = is_away
        self.listeners: list[Callable[[bool], None]] = []

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self._greeting is not None

    async def worker(self) -> Worker:
        """Who is there; it is asked, if it has not said so just now.

        Raises:
            WorkerGone, EngineAway: nobody.
        """
        await self._hub.connection()
        if self.is_away:
            raise EngineAway("the broker has only just come back", reached=False)
        if self._worker is None or not self._worker.is_known():
            await self.greet(SILENT_S)
        worker = self._worker
        assert worker is not None
        return worker

    async def greet(self, timeout_s: float) -> Pong:
        """Ask whoever is there.

        Raises:
            WorkerGone, EngineAway: nobody, or who does not answer in that time.
        """
        connection = await self._hub.connection()
        begun = self._hub.loop.time()
        if self._greeting is None:
            await self._begin(connection)
        greeting = self._greeting
        if greeting is None:  # answered while it was sent
            greeting = self._last
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(greeting)
        except TimeoutError:
            raise self._unanswered(begun) from None

    async def _begin(self, connection: NatsConnection) -> None:
        hub = self._hub
        greeting = self._greeting = self._last = hub.loop.create_future()
        target = _Greeting(self, greeting)
        token = hub.token(target)
        begun = hub.loop.time()
        timer = hub.loop.call_later(SILENT_S, lambda: self._expired(greeting, begun))
        greeting.add_done_callback(lambda _: self._over(token, timer))
        hub.pulse()
        sender = Sender(hub.caller, hub.broker.session, 0.0, 0.0)
        ping = PLAIN.encode(Ping(hub.caller_text))
        try:
            for message in to_worker(sender, ping, connection.max_payload):
                await connection.publish(self._subject, message, hub.reply(token))
        except BrokerError as error:
            self._fail(greeting, EngineAway(f"the broker is away: {error}", reached=False))

    def _over(self, token: str, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._hub.targets.pop(token, None)
        self._last.exception()  # it may be that nobody waits any more
        self._greeting = None

    def _expired(self, greeting: asyncio.Future[Pong], begun: float) -> None:
        self._fail(greeting, self._unanswered(begun))

    def _unanswered(self, begun: float) -> WorkerGone | EngineAway:
        hub = self._hub
        connection, hearing = hub.broker.connection, hub.broker.hearing
        now = hub.loop.time()
        silent_s = now - begun
        heard_s = now - max(begun, hearing.since)
        if connection is None or now - hearing.last > GAP_S or heard_s < silent_s / 2:
            return EngineAway("the broker does not answer", reached=False)
        why = f"the worker at {self._subject} has not answered for {silent_s:.1f} s"
        if connection.complaint:  # it may not be allowed to ask
            why += f"; the server has said: {connection.complaint}"
        return WorkerGone(why, reached=False)

    def greeted(self, greeting: asyncio.Future[Pong], data: bytes) -> None:
        """An answer: the first counts."""
        read = self._hub.pong(data)
        if read is None or greeting.done():
            return
        told, pong = read
        worker = self._hub.worker(told.private)
        before, self._worker = self._worker, worker
        if before is not None and before is not worker:
            before.is_replaced = True
            before.forget_if_over()
        worker.heard(told, pong)
        greeting.set_result(pong)

    def nobody(self, greeting: asyncio.Future[Pong]) -> None:
        """Nobody listens there."""
        why = f"no worker listens at {self._subject}"
        self._fail(greeting, WorkerGone(why, reached=False))

    # -- the way there

    def listen(self, on_away: Callable[[bool], None]) -> None:
        """Have somebody told whether it is away."""
        self.listeners.append(on_away)
        if self.is_away:
            _tell(on_away, True)

    def tell(self, away: bool) -> None:
        """Tell all of them."""
        for each in list(self.listeners):
            _tell(each, away)

    def broker_away(self, why: str) -> None:
        """The broker is."""
        self._stop_returning()
        if self._greeting is not None:
            self._fail(self._greeting, EngineAway(why, reached=False))
        if not self.is_away:
            self.is_away = True
            self.tell(True)

    def broker_back(self) -> None:
        """The broker is there; so will the worker be, in a moment."""
        if self.is_away:
            self._stop_returning()
            self._returning = self._hub.loop.create_task(self._return())

    def close(self) -> None:
        """Nobody wants to know any more."""
        self._stop_returning()
        if self._greeting is not None:
            why = "the connection was closed"
            self._fail(self._greeting, EngineAway(why, reached=False))

    def _stop_returning(self) -> None:
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None

    async def _return(self) -> None:
        loop = self._hub.loop
        until = loop.time() + RETURN_S
        while loop.time() < until:
            try:
                await self.greet(SILENT_S)
                break
            except (WorkerGone, EngineAway):
                if self._hub.broker.is_down:
                    return  # and once more when it is back
                await asyncio.sleep(PING_S)
        self._returning = None
        self.is_away = False
        self.tell(False)

    def _fail(self, greeting: asyncio.Future[Pong], error: WorkerGone | EngineAway) -> None:
        if not greeting.done():
            greeting.set_exception(error)


def _tell(on_away: Callable[[bool], None], away: bool) -> None:
    try:
        on_away(away)
    except Exception as error:
        complain("what is told whether a broker is away raised", error)


class _Greeting:
    """What answers to one greeting are for."""

    def __init__(self, place: Place, greeting: asyncio.Future[Pong]) -> None:
        self._place = place
        self._greeting = greeting

    def message(self, data: bytes) -> None:
        self._place.greeted(self._greeting, data)

    def nobody(self) -> None:
        self._place.nobody(self._greeting)


class _Asked:
    """What answers are for to what was asked at one time."""

    def __init__(self, worker: Worker, ids: tuple[str, ...]) -> None:
        self._worker = worker
        self._ids = ids

    def message(self, data: bytes) -> None:
        self._worker.answered(data)

    def nobody(self) -> None:
        self._worker.asked_nobody(self._ids)


class Worker:
    """One process of a worker, at the subject that is its own.

    Attributes:
        calls: those that are open, by their ids.
        is_replaced: whether another process answers where it did.
    """

    def __init__(self, hub: Hub, private: str) -> None:
        self._hub = hub
        self._private = private
        self._pings: deque[str] = deque()
        self._stamp = 0.0
        self._heard_at = float("-inf")
        self._doubted = False
        self._suspected_at: float | None = None
        self.calls: dict[str, NatsCall] = {}
        self.is_replaced = False

    def is_known(self) -> bool:
        """Whether it may be called without being asked first."""
        return not self._doubted and self._hub.loop.time() - self._heard_at <= KNOWN_S

    def heard(self, told: Told, pong: Pong) -> None:
        """It has answered."""
        self._stamp = told.stamp
        self._heard_at = self._hub.loop.time()
        self._suspected_at = None
        self._doubted = pong.draining  # another one may be there by now
        for unknown in pong.unknown:
            call = self.calls.get(unknown)
            if call is not None:
                call.fail(WorkerGone("the worker knows nothing of the call any more", reached=True))

    def answered(self, data: bytes) -> None:
        """It answers a ping."""
        read = self._hub.pong(data)
        if read is not None:
            self.heard(*read)

    def asked_nobody(self, ids: tuple[str, ...]) -> None:
        """Nobody listens where a ping went that has asked about these."""
        now = self._hub.loop.time()
        if self._suspected_at is not None and now - self._suspected_at >= SUSPICION_S * 0.9:
            # What has been sent since hears by itself that it got nowhere.
            self.gone("the worker is gone: nobody listens where it was", ids)
        else:
            self.suspect()

    def suspect(self) -> None:
        """Nobody listens where a message went: ask again in a moment."""
        self._doubted = True
        if self._suspected_at is None and self.calls:
            self._suspected_at = self._hub.loop.time()
            self._hub.loop.call_later(SUSPICION_S, self._ask_again)

    def _ask_again(self) -> None:
        if self.calls and self._suspected_at is not None:
            self._send_ping()

    def gone(self, why: str, ids: Iterable[str]) -> None:
        """It is: these calls end."""
        self._doubted = True
        self._suspected_at = None
        for id in list(ids):
            call = self.calls.get(id)
            if call is not None:
                call.fail(WorkerGone(why, reached=call.was_sent))

    def broker_away(self, why: str) -> None:
        """The way to it is."""
        self._doubted = True
        self._suspected_at = None
        for call in list(self.calls.values()):
            call.fail(EngineAway(why, reached=call.was_sent))

    def look(self) -> None:
        """Ask it how its calls are; see whether it has been silent for too long."""
        if self._hub.broker.hearing.is_gone(self._heard_at, self._hub.loop.time()):
            why = f"the worker has not answered for {SILENT_S:g} s, and the broker has"
            self.gone(why, self.calls)
        else:
            self._send_ping()

    def over(self, call: NatsCall) -> None:
        """A call is."""
        if self.calls.get(call.id) is call:
            del self.calls[call.id]
            self.forget_if_over()

    def forget_if_over(self) -> None:
        """Forget it, if it is of no use any more."""
        if self.is_replaced and not self.calls:
            self._hub.workers.pop(self._private, None)
            self._forget_pings(0)

    # -- what is said to it

    def _sender(self) -> Sender:
        hub = self._hub
        since_s = hub.loop.time() - self._heard_at
        connection = hub.broker.connection
        if connection is not None and connection.asked_at is not None:
            # The broker's silence may have begun then, and this is given up with it: it ages since.
            since_s -= hub.loop.time() - connection.asked_at
        return Sender(hub.caller, hub.broker.session, self._stamp, since_s)

    def _forget_pings(self, most: int) -> None:
        while len(self._pings) > most:
            self._hub.targets.pop(self._pings.popleft(), None)

    def _messages(self, connection: NatsConnection, data: bytes) -> list[bytes]:
        """What is in the format of calls, as messages."""
        return to_worker(self._sender(), data, connection.max_payload, self._hub.codec.name)

    def _send_ping(self) -> None:
        connection = self._hub.broker.connection
        if connection is not None and not connection.is_full:
            self._hub.spawn(self._ping(connection))

    async def _ping(self, connection: NatsConnection) -> None:
        # What it lists is what has been sent before it: nothing waits in between.
        ids = tuple(each.id for each in self.calls.values() if each.was_sent)
        token = self._hub.token(_Asked(self, ids))
        self._pings.append(token)
        self._forget_pings(MOST_PINGS)
        reply = self._hub.reply(token)
        with contextlib.suppress(BrokerError):  # its calls end with the connection
            for ping in pings(self._hub.caller_text, ids):
                data = PLAIN.encode(ping)
                for message in to_worker(self._sender(), data, connection.max_payload):
                    await connection.publish(self._private, message, reply)

    async def cancel(self, id: str) -> None:
        """Say that nobody wants a call any more; if that does not get there, a ping without it
        says so.
        """
        connection = self._hub.broker.connection
        if connection is None or connection.is_full:
            return
        with contextlib.suppress(BrokerError):
            for message in self._messages(connection, self._hub.codec.encode(Cancel(id))):
                await connection.publish(self._private, message)

    async def say(self, data: bytes, call: NatsCall) -> None:
        """Send something of a call.

        Raises:
            BrokerError: the connection is over before all of it was sent.
        """
        hub = self._hub
        connection = hub.broker.connection
        if connection is None:
            raise BrokerError(hub.broker.why)
        messages = self._messages(connection, data)
        reply = hub.reply(call.token)
        for index, message in enumerate(messages):
            if connection.is_full:
                await connection.room()
            if call.error is not None:
                return
            # Said before it is, and nothing runs between: a ping lists what was sent before it.
            call.was_sent = call.was_sent or index == len(messages) - 1
            await connection.publish(self._private, message, reply)
