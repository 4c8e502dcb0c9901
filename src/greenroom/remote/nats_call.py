"""One call by NATS, from the side of the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.brokers.nats_client import BrokerError
from greenroom.remote.codec import ProtocolError
from greenroom.remote.frames import ENDS, ToCaller, ToWorker
from greenroom.remote.links import EngineAway, WorkerGone
from greenroom.remote.nats_peer import PLAIN, Worker
from greenroom.remote.nats_wire import Part, Whole, WireError, read_to_caller

if TYPE_CHECKING:
    from greenroom.remote.nats_hub import Hub


class NatsCall:
    """The caller's end of one call: a `CallLink`.

    Attributes:
        was_sent: whether all of it has been given to the broker.
        error: why nothing more comes.
    """

    def __init__(
        self, hub: Hub, worker: Worker, id: str, on_over: Callable[[NatsCall], None]
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
            part, format, rest = read_to_caller(data)
            if isinstance(part, Part):
                self._was_heard = True
                if self._whole is None:
                    self._whole = Whole(self._hub.codec.most_bytes)
                whole = self._whole.add(part, rest)
                if whole is None:
                    return
                rest = whole
            # A worker that lacks the format of calls says so in JSON.
            codec = self._hub.codec if format == self._hub.codec.name else PLAIN
            frame = codec.to_caller(rest)
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
