"""NATS as the caller's way to workers: one connection for all of a loop, a subject for each worker.

A worker is greeted at its subject, and names another one that is its own alone, as long as its
process lives: calls go there. So a call never comes to two workers, nor to one that was started
anew, and when nobody listens there any more the server says so at once.
"""

from __future__ import annotations

from collections.abc import Callable

from greenroom.brokers.given_files import see_files_of
from greenroom.brokers.nats_address import NatsAddress, nats_address
from greenroom.brokers.nats_client import BrokerError, needs_nats
from greenroom.remote.codec import Codec
from greenroom.remote.frames import Call, Pong
from greenroom.remote.links import EngineAway
from greenroom.remote.nats_call import NatsCall
from greenroom.remote.nats_hub import Hub, hub_of


class NatsLink:
    """The address of a worker.

    Args:
        url: `nats://[user:password@|token@]host[:port][,host...]/subject`, or `tls://`; behind a
            `?` files: `creds=`, `ca=`, `cert=`, `key=`; and `inbox=`.
        codec: the format of calls; what is said of them is JSON.
        ca_file, credentials: as `ca=` and `creds=` there.

    Raises:
        TypeError, ValueError: it is none, or a file that it names cannot be read.
        ModuleNotFoundError: the extra `nats` is not installed, or what `creds=` needs.
    """

    def __init__(
        self, url: str, codec: Codec, *, ca_file: str | None = None, credentials: str | None = None
    ) -> None:
        self._address = nats_address(
            "url", url, subject=True, ca_file=ca_file, credentials=credentials
        )
        see_files_of("url", self._address, ca_file=ca_file, credentials=credentials)
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
        return NatsWorkerLink(hub_of(self._address, self._codec), self._address, on_away)


class NatsWorkerLink:
    """The way to one worker: a `WorkerLink`."""

    def __init__(self, hub: Hub, address: NatsAddress, on_away: Callable[[bool], None]) -> None:
        self._hub = hub
        self._on_away = on_away
        self._is_closed = False
        self._open: set[NatsCall] = set()
        self._place = hub.place(address.subject)
        self._place.listen(on_away)

    async def open(self, call: Call) -> NatsCall:
        """Send a call."""
        hub = self._hub
        data = hub.codec.encode(call)
        self._check()
        worker = await self._place.worker()
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
        return await self._place.greet(timeout_s)

    async def close(self) -> None:
        """End the connection, if nobody else has it."""
        if self._is_closed:
            return
        self._is_closed = True
        for call in list(self._open):
            call.end(EngineAway("the connection was closed", reached=call.was_sent))
        self._place.listeners.remove(self._on_away)
        await self._hub.let_go()

    def _check(self) -> None:
        if self._is_closed:
            raise EngineAway("the connection was closed", reached=False)
