"""Where a worker listens by NATS: at its subject it is greeted, at one of its process it is called.

Calls of a caller that is not heard of any more are cancelled, as are those that it does not ask
about any more; while the broker is away nobody is missed, for ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from greenroom.actors.runtime.event_bus import say
from greenroom.brokers.given_files import see_files_of
from greenroom.brokers.nats_address import nats_address
from greenroom.brokers.nats_client import BrokerError, NatsConnection, is_nobody, needs_nats
from greenroom.messages.errors import ResourceError
from greenroom.messages.status import FailureKind
from greenroom.remote.codec import MOST_BYTES, Codec, ProtocolError, TooLongError, codec_for
from greenroom.remote.frames import (
    ENDS,
    Busy,
    Call,
    Cancel,
    Credit,
    Error,
    Go,
    Ping,
    Pong,
    ToCaller,
    ToWorker,
)
from greenroom.remote.links import RunningCall, WorkerDesk
from greenroom.remote.nats_broker import Broker
from greenroom.remote.nats_liveness import ASK_BROKER_S, LATE_S, PATIENCE_S
from greenroom.remote.nats_wire import (
    Parts,
    Sender,
    Told,
    TooLongWireError,
    WireError,
    pong,
    read_to_caller,
    read_to_worker,
    to_caller,
    to_worker,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

UNREAD_ID = "-"
"""Stands for the id of a call that could not be read."""
PING_BYTES = 1024 * 1024
"""What a ping of many calls may have, however little a payload may."""
TAKEN_S = 1.0
"""How long a worker that starts waits for another one to say that it is there already."""
DRAINING_WAITS_S = 0.05
"""So much later one that drains answers a greeting: where another one has begun, that one is first.
"""


class NatsFront:
    """A worker's end of NATS.

    Args:
        listen: as the address of a `NatsLink`: the subject is this worker's alone.
        ca_file, credentials: as `ca=` and `creds=` there.
        max_frame_bytes: the longest payload, answer or chunk.

    Raises:
        TypeError, ValueError: it is none, or a file that it names cannot be read.
        ModuleNotFoundError: the extra `nats` is not installed, or what `creds=` needs.
    """

    def __init__(
        self,
        listen: str,
        *,
        ca_file: str | None = None,
        credentials: str | None = None,
        max_frame_bytes: int = MOST_BYTES,
    ) -> None:
        self._address = nats_address(
            "listen", listen, subject=True, ca_file=ca_file, credentials=credentials
        )
        see_files_of("listen", self._address, ca_file=ca_file, credentials=credentials)
        self._most_bytes = max_frame_bytes
        most_bytes = max(max_frame_bytes, PING_BYTES)
        self._plain = codec_for("json", most_bytes)
        self._codecs = {"json": codec_for("json", max_frame_bytes)}
        self._desk: WorkerDesk | None = None
        # Nobody else's, and nobody's after this process.
        self._private = f"{self._address.subject}.{os.urandom(8).hex()}"
        self._callers: dict[bytes, _Caller] = {}
        self._parts = Parts(most_bytes)
        self._broker: Broker | None = None
        self._loop: asyncio.AbstractEventLoop
        self._taken: str | None = None
        self._is_refusing = False
        self._is_closed = False
        self._was_up = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        needs_nats(f"a worker at {self.shown}")

    def __repr__(self) -> str:
        return f"NatsFront({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address without its secrets."""
        return self._address.shown

    async def listen(self, desk: WorkerDesk) -> None:
        """Begin to take calls.

        Raises:
            OSError: the broker is away, or lets nobody in.
            ResourceError: another worker has this subject.
        """
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._broker = broker = Broker(
            self._address,
            name=f"greenroom worker {self._address.subject}",
            subscribe=self._subscribe,
            on_change=self._changed,
            is_busy=lambda: bool(self._callers),
        )
        try:
            await broker.ready()
        except BrokerError as error:
            await self.close()
            if self._taken is not None:
                raise ResourceError(self._taken) from None
            raise OSError(f"cannot listen at {self.shown}: {error}") from None

    async def refuse(self) -> None:
        """Take no more calls."""
        self._is_refusing = True

    async def close(self) -> None:
        """End."""
        self._is_closed = True
        for timer in (self._tick, self._patience):
            if timer is not None:
                timer.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        if self._broker is not None:
            await self._broker.close()

    # -- the broker

    async def _subscribe(self, connection: NatsConnection) -> None:
        if not self._was_up:
            await self._see_that_it_is_free(connection)
        await connection.subscribe(self._private, self._heard)
        await connection.subscribe(self._address.subject, self._heard)

    async def _see_that_it_is_free(self, connection: NatsConnection) -> None:
        """Raises a `BrokerError`, and says in `_taken` what is the matter."""
        answer: asyncio.Future[Pong | None] = self._loop.create_future()

        def heard(message: Msg) -> None:
            if answer.done():
                return
            if is_nobody(message):
                answer.set_result(None)
                return
            with contextlib.suppress(WireError, ProtocolError):
                frame = self._plain.to_caller(read_to_caller(message.data)[2])
                if isinstance(frame, Pong) and not frame.draining:
                    answer.set_result(frame)

        inbox = connection.new_inbox()
        ear = await connection.subscribe(inbox, heard)
        ping = self._plain.encode(Ping("worker"))
        for message in to_worker(Sender(b"", 0, 0.0, 0.0), ping, connection.max_payload):
            await connection.publish(self._address.subject, message, inbox)
        try:
            async with asyncio.timeout(TAKEN_S):
                found = await answer
        except TimeoutError:
            # Who listens says nothing: it drains, is stopped, or speaks otherwise.
            say("WARNING", __name__, f"somebody who does not answer listens at {self.shown}")
            return
        finally:
            with contextlib.suppress(Exception):
                await ear.unsubscribe()
        if found is not None:
            self._taken = (
                f"cannot listen at {self.shown}: another worker does, with the member "
                f"{found.member!r}; each worker needs a subject of its own"
            )
            raise BrokerError(self._taken)

    def _changed(self, away: bool, why: str) -> None:
        if self._is_closed:
            return
        if not away:
            if self._was_up:
                say("INFO", __name__, f"the broker of the worker at {self.shown} is back")
            self._was_up = True
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            now = self._loop.time()
            for caller in self._callers.values():
                caller.heard_at = now
        elif self._was_up:
            say("WARNING", __name__, f"the broker of the worker at {self.shown} is away: {why}")
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        for caller in list(self._callers.values()):
            caller.gone()

    def _look(self) -> None:
        """See which callers have not been heard of for too long."""
        self._tick = None
        broker, now = self._broker, self._loop.time()
        if broker is not None and broker.connection is not None:
            for caller in list(self._callers.values()):
                if broker.hearing.is_gone(caller.heard_at, now):
                    caller.gone()
        self._pulse()

    def _pulse(self) -> None:
        if self._tick is None and self._callers and not self._is_closed:
            if self._broker is not None:
                self._broker.hurry()
            self._tick = self._loop.call_later(ASK_BROKER_S, self._look)

    # -- what comes

    def _heard(self, message: Msg) -> None:
        """Takes a message; called by the task that reads."""
        now = self._loop.time()
        try:
            sender, part, format, data = read_to_worker(message.data)
        except WireError as error:
            self._not_understood(error)
            return
        try:
            if part is not None:
                whole = self._parts.add(message.reply, part, data, now)
                if whole is None:
                    return
                data = whole
            codec = self._codec(format)
            frame = (self._plain if format == "json" else codec).to_worker(data)
            if len(data) > self._most_bytes and not isinstance(frame, Ping):
                raise TooLongError(f"a frame must have at most {self._most_bytes} bytes")
        except (WireError, ProtocolError, ModuleNotFoundError) as error:
            self._not_understood(error)
            self._decline(sender, message.reply, error)
            return
        if isinstance(frame, Call):
            self._begin(frame, sender, message.reply, codec, now)
        elif isinstance(frame, Ping):
            self._asked(frame, sender, message, now)
        else:
            self._goes_on(frame, sender, now)

    def _not_understood(self, error: Exception) -> None:
        say("WARNING", __name__, f"a message at {self.shown} was not understood: {error}")

    def _decline(self, sender: Sender, reply: str, error: Exception) -> None:
        """Say so to its caller, if it is to begin a call; of one that is here already nothing is
        said, which its caller finds out.
        """
        caller = self._callers.get(sender.caller)
        known = () if caller is None else caller.calls.values()
        if not reply or any(served.reply == reply for served in known):
            return
        if isinstance(error, TooLongError | TooLongWireError):
            kind, why = FailureKind.TOO_LARGE, "the payload is too long for the worker"
        else:
            kind, why = FailureKind.UNAVAILABLE, f"the worker does not understand it: {error}"
        text = f"{self.shown}: {why}"
        # Where the answer goes says whose it is: the id may be what was not understood.
        self._answer(reply, Error(UNREAD_ID, kind.value, False, "", text), self._plain)

    def _codec(self, format: str) -> Codec:
        """Raises a `ModuleNotFoundError`: it is not installed."""
        found = self._codecs.get(format)
        if found is None:
            found = self._codecs[format] = codec_for(format, self._most_bytes)
        return found

    def _begin(self, call: Call, sender: Sender, reply: str, codec: Codec, now: float) -> None:
        caller = self._callers.get(sender.caller)
        if caller is not None and call.id in caller.calls:
            return  # it has it already
        age_s = sender.age_s(now)
        # One that was held up on its way is wanted by nobody any more, and must not begin.
        if age_s > LATE_S or (call.left_s is not None and age_s >= call.left_s):
            self._answer(reply, Busy(call.id), codec)
            return
        if self._is_refusing:
            self._answer(reply, Busy(call.id, draining=True), codec)
            return
        if caller is None:
            caller = self._callers[sender.caller] = _Caller(self, sender.caller, now)
        caller.heard_at = now
        caller.begin(call, reply, codec, sender.session)
        self._pulse()

    def _asked(self, ping: Ping, sender: Sender, message: Msg, now: float) -> None:
        is_greeting = message.subject == self._address.subject
        caller = self._callers.get(sender.caller)
        unknown = ping.ids
        if caller is not None:
            caller.heard_at = now
            unknown = tuple(each for each in ping.ids if each not in caller.calls)
            if not is_greeting:
                caller.wants(ping, sender.session)
        if self._is_refusing and is_greeting:
            self._loop.call_later(DRAINING_WAITS_S, self._say_pong, message.reply, unknown)
        else:
            self._say_pong(message.reply, unknown)

    def _goes_on(self, frame: Go | Cancel | Credit, sender: Sender, now: float) -> None:
        caller = self._callers.get(sender.caller)
        if caller is None:
            return
        caller.heard_at = now
        served = caller.calls.get(frame.id)
        if served is not None:
            served.heard(frame)

    # -- what is said

    @property
    def _connection(self) -> NatsConnection | None:
        return None if self._broker is None else self._broker.connection

    def _say_pong(self, reply: str, unknown: tuple[str, ...]) -> None:
        desk, connection = self._desk, self._connection
        if desk is None or connection is None or not reply:
            return
        frame = desk.pong(unknown)
        if self._is_refusing:
            frame = dataclasses.replace(frame, draining=True)
        told = Told(self._loop.time(), self._private)
        self._spawn(self._publish(connection, reply, [pong(told, self._plain.encode(frame))]))

    def _answer(self, reply: str, frame: ToCaller, codec: Codec) -> None:
        connection = self._connection
        if connection is not None:
            messages = to_caller(codec.encode(frame), connection.max_payload, codec.name)
            self._spawn(self._publish(connection, reply, messages))

    async def _publish(self, connection: NatsConnection, reply: str, messages: list[bytes]) -> None:
        with contextlib.suppress(BrokerError):  # nobody hears it any more
            for message in messages:
                await connection.publish(reply, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, served: _Served, frame: ToCaller) -> None:
        """Bring something to the caller of a call; while the broker is away it waits, as long as
        the call is wanted.
        """
        data = served.codec.encode(frame)
        broker = self._broker
        assert broker is not None
        connection = broker.connection
        while True:
            if served.is_gone:
                raise ConnectionError("the caller is gone")
            try:
                if connection is None or connection.is_over:
                    connection = await broker.up()
                for message in to_caller(data, connection.max_payload, served.codec.name):
                    if connection.is_full:
                        await connection.room()
                    if served.is_gone:
                        raise ConnectionError("the caller is gone")
                    await connection.publish(served.reply, message)
                return
            except BrokerError:
                if self._is_closed:
                    raise ConnectionError("the worker has ended") from None
                if connection is not None and not connection.is_over:
                    raise ConnectionError("the broker does not take it") from None
                connection = None

    def forget(self, caller: _Caller) -> None:
        """It has no calls any more."""
        if self._callers.get(caller.name) is caller:
            del self._callers[caller.name]

    @property
    def desk(self) -> WorkerDesk:
        """The worker behind it."""
        assert self._desk is not None
        return self._desk


class _Caller:
    """A process that has calls here.

    Attributes:
        heard_at: when it was heard of last.
        calls: those that have not ended, by their ids.
    """

    def __init__(self, front: NatsFront, name: bytes, now: float) -> None:
        self._front = front
        self.name = name
        self.heard_at = now
        self.calls: dict[str, _Served] = {}

    def begin(self, call: Call, reply: str, codec: Codec, session: int) -> None:
        """Take a call."""
        served = self.calls[call.id] = _Served(self._front, self, call.id, reply, codec, session)
        served.begin(call)

    def wants(self, ping: Ping, session: int) -> None:
        """Of what it has sent by this connection, or an older one, and the ping covers, it wants
        these alone: it says so in the order in which it has sent them.
        """
        ids = ping.ids
        if len(ids) == len(self.calls) and all(map(self.calls.__contains__, ids)):
            return
        wanted = set(ids)
        for served in list(self.calls.values()):
            if served.id not in wanted and served.session <= session and ping.covers(served.id):
                served.gone()

    def gone(self) -> None:
        """It is: nobody wants its calls."""
        for served in list(self.calls.values()):
            served.gone()
        self._front.forget(self)

    def over(self, served: _Served) -> None:
        """A call is."""
        if self.calls.get(served.id) is served:
            del self.calls[served.id]
            if not self.calls:
                self._front.forget(self)


class _Served:
    """One call, from the side of the worker.

    Attributes:
        session: by which of its caller's connections it has come.
        is_gone: whether nobody wants it any more.
    """

    def __init__(
        self,
        front: NatsFront,
        caller: _Caller,
        id: str,
        reply: str,
        codec: Codec,
        session: int,
    ) -> None:
        self.id = id
        self.reply = reply
        self.codec = codec
        self.session = session
        self.is_gone = False
        self._front = front
        self._caller = caller
        self._running: RunningCall | None = None

    def begin(self, call: Call) -> None:
        self._running = self._front.desk.begin(call, self._send, on_end=self._over)

    async def _send(self, frame: ToCaller) -> None:
        await self._front.send(self, frame)
        if isinstance(frame, ENDS):
            self._over()

    def heard(self, frame: ToWorker) -> None:
        if self._running is not None:
            self._running.heard(frame)

    def gone(self) -> None:
        """Nobody wants it any more: it is cancelled, and not known here from now on."""
        if not self.is_gone:
            self.is_gone = True
            self._over()
            if self._running is not None:
                self._running.gone()

    def _over(self) -> None:
        self._caller.over(self)
