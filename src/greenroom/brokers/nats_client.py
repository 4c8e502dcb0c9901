"""A connection to a NATS server that ends in time, and is made anew by whoever has it.

nats-py connects anew by itself, and then sends what was said meanwhile: a call would be delivered
that nobody waits for. So its own way is off, and a connection is over when it is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from greenroom.brokers.given_files import believing, credentials_of, show
from greenroom.brokers.nats_address import NatsAddress

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

CONNECT_S = 2.0
CLOSE_S = 1.0
HIGH_WATER = 1024 * 1024
"""Bytes that wait to be written, above which whoever sends more waits."""
_STEP_S = 0.1
_NEVER_S = 1e6


class BrokerError(Exception):
    """The server is not there, not any more, or lets nobody in. Its text holds no secret."""


def needs_nats(what: str) -> None:
    """See that nats-py is here.

    Args:
        what: that needs it.

    Raises:
        ModuleNotFoundError: it is not.
    """
    try:
        import nats.aio.client  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs nats-py: pip install 'greenroom[nats]'", name=error.name
        ) from error


def is_nobody(message: Msg) -> bool:
    """Whether the server says by it that nobody listens where something was sent."""
    headers = message.headers
    return headers is not None and not message.data and headers.get("Status") == "503"


def _of_files(address: NatsAddress) -> dict[str, Any]:
    """What nats-py is given of the files of an address; each connection reads them anew.

    Raises:
        BrokerError: one is not there any more, or is something else by now.
    """
    given: dict[str, Any] = {}
    try:
        if address.tls:
            given["tls"] = context = believing("ca= must be", address.ca)
            if address.cert is not None:
                show(context, ("cert= must be", "key= must be"), address.cert, address.key)
        if address.creds is not None:
            given["user_credentials"] = credentials_of("creds= must be", address.creds)
    except ValueError as error:
        raise BrokerError(str(error)) from None
    return given


async def _nothing(*_: object) -> None:
    return None


def _is_encrypted(client: Client, address: NatsAddress) -> bool:
    # Whether there is TLS is the server's word: who has said tls:// tells no password to one that
    # has none. A WebSocket by wss:// has it before anything is said.
    info = getattr(client, "_server_info", None)
    told = isinstance(info, dict) and bool(info.get("tls_required"))
    return told or address.servers[0].startswith("wss://")


class NatsConnection:
    """One connection. All of it is for the loop on which it was made.

    Attributes:
        over: done when it is; its result says why.
        complaint: what the server has said last against something that was sent, if anything.
        asked_at: when the server was asked whether it is there, by the loop's clock, as long as it
            has not answered.
    """

    def __init__(self) -> None:
        from nats.aio.client import Client

        self._client: Client = Client()
        self.asked_at: float | None = None
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.complaint: str | None = None

    @classmethod
    async def open(
        cls, address: NatsAddress, *, name: str, timeout_s: float = CONNECT_S
    ) -> NatsConnection:
        """Connect.

        Args:
            name: of the connection, as the server shows it.
            timeout_s: how long that may take.

        Raises:
            BrokerError: it cannot, or not in time.
        """
        self = cls()
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(address, name, timeout_s)
        except Exception as error:
            await self.close(at_once=True)
            raise BrokerError(_why(error, self.complaint)) from None
        except BaseException:
            await self.close(at_once=True)
            raise
        return self

    async def _connect(self, address: NatsAddress, name: str, timeout_s: float) -> None:
        client = self._client
        options = _of_files(address)
        if address.tls and address.creds is not None:
            # Whoever is between could use a signature as well. A token is asked for after it, and
            # before anything is said; an empty one is none.
            options["token"] = self._secret(address, "")
        for field in ("user", "password", "token"):
            value = getattr(address, field)
            if value is not None:
                # Asked for when the server has said whether it has TLS.
                options[field] = self._secret(address, value)
        await client.connect(
            servers=list(address.servers),
            name=name,
            allow_reconnect=False,
            # Without a number it tries for ever, and with 0 as well.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=timeout_s,  # type: ignore[arg-type]
            ping_interval=_NEVER_S,  # type: ignore[arg-type]
            # What waits is bounded here; at its own bound nats-py waits without one.
            pending_size=1024 * HIGH_WATER,
            inbox_prefix=address.inbox,
            error_cb=self._on_error,
            disconnected_cb=self._on_closed,
            closed_cb=self._on_closed,
            **options,
        )
        if address.tls and not _is_encrypted(client, address):
            raise BrokerError("it has no TLS, and the address demands it")

    def _secret(self, address: NatsAddress, value: str) -> Callable[[], str]:
        def say() -> str:
            if address.tls and not _is_encrypted(self._client, address):
                raise BrokerError("it has no TLS, and the address demands it")
            return value

        return say

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have."""
        return self._client.max_payload

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.over.done() or self._client.is_closed

    def jetstream(self, timeout_s: float) -> JetStreamContext:
        """What nats-py has for JetStream, over this connection. It raises errors of nats-py.

        Args:
            timeout_s: how long each answer may take.
        """
        return self._client.jetstream(timeout=timeout_s)

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return self._client.new_inbox()

    async def subscribe(self, subject: str, heard: Callable[[Msg], None]) -> Any:
        """Have a function called with each message to a subject, in the order of the server, by the
        task that reads: it must return soon. What it raises ends nothing.

        Raises:
            BrokerError: the connection is over.
        """
        with self._as_broker_error():
            return await self._client.subscribe(subject, future=_Ear(heard))

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message; when too much waits to be sent, call `room` first. Between the call and
        what it appends to what is sent next, nothing else runs.

        Raises:
            BrokerError: the connection is over; nothing was sent.
        """
        if self.is_over:
            raise BrokerError(self._ended())
        with self._as_broker_error():
            await self._client.publish(subject, data, reply=reply)

    async def request(
        self, subject: str, data: bytes, timeout_s: float, headers: Mapping[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        """What is answered to a message: its bytes, and its headers, `Status` among them.

        Raises:
            BrokerError: nothing is, in that time.
        """
        from nats.errors import NoRespondersError

        if self.is_over:
            raise BrokerError(self._ended())
        with self._as_broker_error():
            try:
                answer = await self._client.request(
                    subject, data, timeout_s, headers=dict(headers) or None
                )
            except NoRespondersError:
                return b"", {"Status": "503"}
        return answer.data, answer.headers or {}

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that one should not add to it."""
        return self._client.pending_data_size > HIGH_WATER

    async def room(self) -> None:
        """Wait until there is room for more.

        Raises:
            BrokerError: the connection is over.
        """
        while self.is_full:
            if self.is_over:
                raise BrokerError(self._ended())
            await asyncio.sleep(0.002)

    async def answers(self, within_s: float) -> bool:
        """Whether the server answers in that time; if not, the connection is of no use any more.
        Seconds in which this process itself stood still hardly count.
        """
        # nats-py ends its reading, without a word, when an answer comes that it had ceased to wait
        # for: so it never ceases.
        answer = asyncio.ensure_future(self._client.rtt(timeout=_NEVER_S))  # type: ignore[arg-type]
        either: set[asyncio.Future[Any]] = {answer, self.over}
        self.asked_at = asyncio.get_running_loop().time()
        try:
            for _ in range(max(1, round(within_s / _STEP_S))):
                if self.over.done():
                    return False
                await asyncio.wait(either, timeout=_STEP_S, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    self.asked_at = None
                    return answer.exception() is None and not self.is_over
            return False
        finally:
            if not answer.done():
                self._is_over("it has not answered")
                answer.cancel()
            elif not answer.cancelled():
                answer.exception()

    async def close(self, *, at_once: bool = False) -> None:
        """End it; what waits to be sent is sent first, within a second. Raises nothing.

        Args:
            at_once: without that.
        """
        self._is_over("it was closed")
        if at_once:
            self._abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        if not at_once:
            self._abort()
        # Of a WebSocket: where nats-py is closing already, nobody waits for it to close this.
        session = getattr(getattr(self._client, "_transport", None), "_client", None)
        if session is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await session.close()

    def _abort(self) -> None:
        # nats-py has no way to end without waiting for what is still to be written, and a server
        # that is stopped takes nothing.
        transport = getattr(self._client, "_transport", None)
        writer = getattr(transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    # -- what nats-py tells

    async def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError, UnexpectedEOF

        if isinstance(error, UnexpectedEOF):
            self._is_over("it has closed the connection")
        elif not isinstance(error, SlowConsumerError):
            self.complaint = _why(error, None)

    async def _on_closed(self) -> None:
        last = self._client.last_error
        self._is_over("it has closed the connection" if last is None else _why(last, None))

    def _is_over(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)

    def _ended(self) -> str:
        return self.over.result() if self.over.done() else "the connection is over"

    @contextlib.contextmanager
    def _as_broker_error(self) -> Iterator[None]:
        from nats.errors import Error

        try:
            yield
        except (Error, OSError) as error:
            raise BrokerError(_why(error, None)) from None


class _Ear(asyncio.Future[Any]):
    """Takes messages of a subscription where nats-py would set the result of a future, for each of
    them: without a queue whose limit drops some, and without a task.
    """

    def __init__(self, heard: Callable[[Msg], None]) -> None:
        super().__init__()
        self._heard = heard

    def set_result(self, message: Msg) -> None:
        try:
            self._heard(message)
        except Exception as error:  # it would end the reading of all that comes
            self.get_loop().call_exception_handler(
                {"message": "a message was not understood", "exception": error}
            )


def _why(error: BaseException, complaint: str | None) -> str:
    """What a user may be told of it: what nats-py and the system say, which have no secrets."""
    if isinstance(error, BrokerError):
        return str(error)
    if isinstance(error, TimeoutError):
        return complaint or "it does not answer"
    if isinstance(error, ModuleNotFoundError) and error.name == "nkeys":
        return "creds= needs nkeys: pip install nkeys"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or type(error).__name__}"
    if type(error).__name__ == "NoServersError" and complaint:
        return complaint
    said = str(error).removeprefix("nats: ").strip().strip("'\"")
    return said or type(error).__name__
