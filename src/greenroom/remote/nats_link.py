"""NATS as the caller's way to workers: one connection for all of a loop, a subject for each worker.

A worker is greeted at its subject, and names another one that is its own alone, as long as its
process lives: calls go there. So a call never comes to two workers, nor to one that was started
anew, and when nobody listens there any more the server says so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.actors.runtime.event_bus import complain
from greenroom.brokers.nats_address import NatsAddress, nats_address
from greenroom.brokers.nats_client import BrokerError, NatsConnection, needs_nats
from greenroom.remote.codec import Codec, ProtocolError
from greenroom.remote.frames import ENDS, Call, Cancel, Ping, Pong, ToCaller, ToWorker
from greenroom.remote.links import EngineAway, WorkerGone
from greenroom.remote.nats_broker import Broker
from greenroom.remote.nats_liveness import GAP_S, KNOWN_S, PING_S, SILENT_S, SUSPICION_S
from greenroom.remote.nats_wire import (
    Part,
    Sender,
    Told,
    Whole,
    WireError,
    read_to_caller,
    to_worker,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

NOBODY = "503"
"""What the server answers where nobody listens."""


class NatsLink:
    """The address of a worker.

    Args:
        url: `nats://[user:password@|token@]host[:port][,host...]/subject`, or `tls://`; behind a
            `?` files: `creds=`, `ca=`, `cert=`, `key=`; and `inbox=`.

    Raises:
        TypeError, ValueError: it is none.
        ModuleNotFoundError: the extra `nats` is not installed.
    """

    def __init__(self, url: str, codec: Codec) -> None:
        self._address = nats_address("url", url, subject=True)
        self._codec = codec
        needs_nats(f"a member at {self.shown}")

    def __repr__(self) -> str:
        return f"NatsLink({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address without its secrets."""
        return self._address.shown

    def connect(self, *, on_away: Callable[[bool], None]) -> NatsWorkerLink:
        """A way to the worker for the running event loop; it connects with its first use."""
        return NatsWorkerLink(_hub(self._address, self._codec), self._address, on_away)


# -- the connections of the process

_HubKey = tuple[int, NatsAddress, str, int]
_hubs: dict[_HubKey, _Hub] = {}
_hubs_lock = threading.Lock()


def _hub(address: NatsAddress, codec: Codec) -> _Hub:
    """The connection of the running loop to such an address; whoever has it lets it go."""
    import dataclasses

    loop = asyncio.get_running_loop()
    place = dataclasses.replace(address, subject="")
    key = (id(loop), place, codec.name, codec.most_bytes)
    with _hubs_lock:
        for old in [each for each in _hubs if _hubs[each].loop.is_closed()]:
            del _hubs[old]
        hub = _hubs.get(key)
        if hub is None or hub.loop is not loop or hub.is_closed:
            hub = _hubs[key] = _Hub(place, codec, lambda: _hubs.pop(key, None))
        hub.users += 1
        return hub


class _Target(Protocol):
    """What answers are for."""

    def message(self, data: bytes) -> None: ...

    def nobody(self) -> None: ...


class _Hub:
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
        self.targets: dict[str, _Target] = {}
        self.places: dict[str, _Place] = {}
        self.workers: dict[str, _Worker] = {}
        self.users = 0
        self.is_closed = False
        self._forget = forget
        self._tokens = itertools.count()
        self._prefix = ""
        self._listeners: list[Callable[[bool], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self.broker = Broker(
            address,
            name="greenroom caller",
            subscribe=self._subscribe,
            on_change=self._changed,
            is_busy=self._is_busy,
        )

    # -- whom it tells

    def listen(self, on_away: Callable[[bool], None]) -> None:
        self._listeners.append(on_away)
        if self.broker.is_down:
            self._tell(on_away, True)

    def place(self, subject: str) -> _Place:
        """Where a worker is greeted."""
        found = self.places.get(subject)
        if found is None:
            found = self.places[subject] = _Place(self, subject)
        return found

    def worker(self, private: str) -> _Worker:
        """The process at a subject of its own."""
        found = self.workers.get(private)
        if found is None:
            found = self.workers[private] = _Worker(self, private)
        return found

    def pong(self, data: bytes) -> tuple[Told, Pong] | None:
        """What a message says, if it is a pong."""
        try:
            told, rest = read_to_caller(data)
            frame = self.codec.to_caller(rest)
        except (WireError, ProtocolError):
            return None
        return (told, frame) if isinstance(told, Told) and isinstance(frame, Pong) else None

    async def let_go(self, on_away: Callable[[bool], None]) -> None:
        """The end of one who has used it; the last one's is its own."""
        self._listeners.remove(on_away)
        with _hubs_lock:
            self.users -= 1
            if self.users or self.is_closed:
                return
            self.is_closed = True
            self._forget()
        if self._tick is not None:
            self._tick.cancel()
        if self._tasks:  # what tells workers that calls are over
            await asyncio.wait(set(self._tasks), timeout=SILENT_S)
        await self.broker.close()

    def _tell(self, on_away: Callable[[bool], None], away: bool) -> None:
        try:
            on_away(away)
        except Exception as error:
            complain("what is told whether a broker is away raised", error)

    # -- the broker

    async def _subscribe(self, connection: NatsConnection) -> None:
        self._prefix = connection.new_inbox()
        await connection.subscribe(f"{self._prefix}.*", self._heard)

    def _changed(self, away: bool, why: str) -> None:
        if away:
            why = f"the broker is away: {why}"
            for worker in list(self.workers.values()):
                worker.broker_away(why)
            for place in list(self.places.values()):
                place.broker_away(why)
        for each in list(self._listeners):
            self._tell(each, away)

    def _is_busy(self) -> bool:
        return any(each.calls for each in self.workers.values()) or any(
            each.is_busy for each in self.places.values()
        )

    def _heard(self, message: Msg) -> None:
        target = self.targets.get(message.subject.rpartition(".")[2])
        if target is None:
            return  # it is over
        headers = message.headers
        if headers and not message.data and headers.get("Status") == NOBODY:
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

    def token(self, target: _Target) -> str:
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


class _Place:
    """A subject at which a worker is greeted, and who has answered there last."""

    def __init__(self, hub: _Hub, subject: str) -> None:
        self._hub = hub
        self._subject = subject
        self._greeting: asyncio.Future[Pong] | None = None
        self._worker: _Worker | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self._greeting is not None

    async def worker(self) -> _Worker:
        """Who is there; it is asked, if it has not said so just now.

        Raises:
            WorkerGone, EngineAway: nobody.
        """
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
        ping = hub.codec.encode(Ping(hub.caller_text))
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

    def broker_away(self, why: str) -> None:
        """The way to it is."""
        if self._greeting is not None:
            self._fail(self._greeting, EngineAway(why, reached=False))

    def _fail(self, greeting: asyncio.Future[Pong], error: WorkerGone | EngineAway) -> None:
        if not greeting.done():
            greeting.set_exception(error)


class _Greeting:
    """What answers to one greeting are for."""

    def __init__(self, place: _Place, greeting: asyncio.Future[Pong]) -> None:
        self._place = place
        self._greeting = greeting

    def message(self, data: bytes) -> None:
        self._place.greeted(self._greeting, data)

    def nobody(self) -> None:
        self._place.nobody(self._greeting)


class _Worker:
    """One process of a worker, at the subject that is its own.

    Attributes:
        calls: those that are open, by their ids.
        is_replaced: whether another process answers where it did.
    """

    def __init__(self, hub: _Hub, private: str) -> None:
        self._hub = hub
        self._private = private
        self._token = hub.token(self)
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

    def message(self, data: bytes) -> None:
        """An answer to a ping."""
        read = self._hub.pong(data)
        if read is not None:
            self.heard(*read)

    def nobody(self) -> None:
        """Nobody listens where a ping went."""
        now = self._hub.loop.time()
        if self._suspected_at is not None and now - self._suspected_at >= SUSPICION_S * 0.9:
            self.gone("the worker is gone: nobody listens where it was")
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

    def gone(self, why: str) -> None:
        """It is: all of its calls end."""
        self._doubted = True
        self._suspected_at = None
        for call in list(self.calls.values()):
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
            self.gone(f"the worker has not answered for {SILENT_S:g} s, and the broker has")
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
            self._hub.targets.pop(self._token, None)

    # -- what is said to it

    def _sender(self) -> Sender:
        hub = self._hub
        return Sender(
            hub.caller, hub.broker.session, self._stamp, hub.loop.time() - self._heard_at
        )

    def _send_ping(self) -> None:
        connection = self._hub.broker.connection
        if connection is not None and not connection.is_full:
            self._hub.spawn(self._ping(connection))

    async def _ping(self, connection: NatsConnection) -> None:
        # What it lists is what has been sent before it: nothing waits in between.
        ids = tuple(call.id for call in self.calls.values() if call.was_sent)
        data = self._hub.codec.encode(Ping(self._hub.caller_text, ids))
        reply = self._hub.reply(self._token)
        with contextlib.suppress(BrokerError):  # its calls end with the connection
            for message in to_worker(self._sender(), data, connection.max_payload):
                await connection.publish(self._private, message, reply)

    async def cancel(self, id: str) -> None:
        """Say that nobody wants a call any more; if that does not get there, a ping without it
        says so.
        """
        connection = self._hub.broker.connection
        if connection is None or connection.is_full:
            return
        data = self._hub.codec.encode(Cancel(id))
        with contextlib.suppress(BrokerError):
            for message in to_worker(self._sender(), data, connection.max_payload):
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
        messages = list(to_worker(self._sender(), data, connection.max_payload))
        reply = hub.reply(call.token)
        for index, message in enumerate(messages):
            if connection.is_full:
                await connection.room()
            if call.error is not None:
                return
            # Said before it is, and nothing runs between: a ping lists what was sent before it.
            call.was_sent = call.was_sent or index == len(messages) - 1
            await connection.publish(self._private, message, reply)


class NatsCall:
    """The caller's end of one call: a `CallLink`.

    Attributes:
        was_sent: whether all of it has been given to the broker.
        error: why nothing more comes.
    """

    def __init__(
        self, hub: _Hub, worker: _Worker, id: str, on_over: Callable[[NatsCall], None]
    ) -> None:
        self.id = id
        self.token = hub.token(self)
        self.was_sent = False
        self.error: WorkerGone | EngineAway | None = None
        self._hub = hub
        self._worker = worker
        self._on_over = on_over
        self._frames: deque[ToCaller] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._whole: Whole | None = None
        self._was_heard = False
        self._has_ended = False
        worker.calls[id] = self

    async def send(self, frame: ToWorker) -> None:
        """Say something of this call."""
        if self.error is not None:
            raise self.error
        try:
            await self._worker.say(self._hub.codec.encode(frame), self)
        except BrokerError as error:
            raise EngineAway(f"the broker is away: {error}", reached=True) from None

    async def receive(self) -> ToCaller:
        """What the worker says next."""
        while not self._frames:
            if self.error is not None:
                raise self.error
            self._waiter = self._hub.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()

    async def close(self) -> None:
        """The call is over."""
        if self._has_ended or self.error is not None:
            return
        self.end(WorkerGone("the call was closed", reached=self.was_sent))

    def end(self, error: WorkerGone | EngineAway) -> None:
        """End it, and tell the worker."""
        self.fail(error)
        self._hub.spawn(self._worker.cancel(self.id))

    # -- what comes

    def message(self, data: bytes) -> None:
        """Something of it."""
        try:
            part, rest = read_to_caller(data)
            if isinstance(part, Part):
                self._was_heard = True
                if self._whole is None:
                    self._whole = Whole(self._hub.codec.most_bytes)
                whole = self._whole.add(part, rest)
                if whole is None:
                    return
                rest = whole
            frame = self._hub.codec.to_caller(rest)
        except (WireError, ProtocolError) as error:
            self.fail(WorkerGone(f"the worker says what is not understood: {error}", reached=True))
            return
        self._was_heard = True
        self._frames.append(frame)
        if isinstance(frame, ENDS):
            self._has_ended = True
            self._let_go()
        self._wake()

    def nobody(self) -> None:
        """Nobody listens where something of it went."""
        if not self._was_heard:  # the call itself: nothing else is sent until then
            why = "nobody listens any more where the worker was"
            self.fail(WorkerGone(why, reached=False))
        self._worker.suspect()

    def fail(self, error: WorkerGone | EngineAway) -> None:
        """Nothing more comes."""
        if self.error is None and not self._has_ended:
            self.error = error
            self._let_go()
            self._wake()

    def _let_go(self) -> None:
        self._hub.targets.pop(self.token, None)
        self._worker.over(self)
        self._on_over(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class NatsWorkerLink:
    """The way to one worker: a `WorkerLink`."""

    def __init__(self, hub: _Hub, address: NatsAddress, on_away: Callable[[bool], None]) -> None:
        self._hub = hub
        self._subject = address.subject
        self._on_away = on_away
        self._is_closed = False
        self._open: set[NatsCall] = set()
        hub.listen(on_away)

    async def open(self, call: Call) -> NatsCall:
        """Send a call."""
        hub = self._hub
        data = hub.codec.encode(call)
        self._check()
        await hub.connection()
        worker = await hub.place(self._subject).worker()
        self._check()
        end = NatsCall(hub, worker, call.id, self._open.discard)
        self._open.add(end)
        hub.pulse()
        try:
            await worker.say(data, end)
        except BrokerError as error:
            end.fail(EngineAway(f"the broker is away: {error}", reached=False))
        except BaseException:  # cancelled while there was no room
            await end.close()
            raise
        if end.error is not None and not end.was_sent:
            raise end.error
        return end

    async def ask(self, timeout_s: float) -> Pong:
        """How the worker is."""
        self._check()
        return await self._hub.place(self._subject).greet(timeout_s)

    async def close(self) -> None:
        """End the connection, if nobody else has it."""
        if self._is_closed:
            return
        self._is_closed = True
        for call in list(self._open):
            call.end(EngineAway("the connection was closed", reached=call.was_sent))
        await self._hub.let_go(self._on_away)

    def _check(self) -> None:
        if self._is_closed:
            raise EngineAway("the connection was closed", reached=False)
