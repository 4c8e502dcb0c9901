"""What an engine (HTTP, NATS) has to bring: a way for frames, and the news that it is cut.

The caller's end of a call and the worker's are the same for all engines (`remote_agent.py`,
`worker.py`); an engine only carries frames, in order, and knows who is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from greenroom.remote.frames import Call, Pong, ToCaller, ToWorker


class WorkerGone(Exception):
    """The worker is not there, or not any more: by what is its own. Its text says how that is
    known; it holds no payload and no password.

    Attributes:
        reached: whether the call may have come to it.
    """

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


class EngineAway(Exception):
    """What carries the calls is away (a broker), which is no member's fault.

    Attributes:
        reached: whether the call may have come to the worker.
    """

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


class CallLink(Protocol):
    """The caller's end of one call. One task uses it."""

    async def send(self, frame: ToWorker) -> None:
        """Say something of this call. A `Credit` may be on its way when it returns.

        Raises:
            WorkerGone, EngineAway: it cannot get there.
        """

    async def receive(self) -> ToCaller:
        """What the worker says next. Pongs of the engine's own are not among it.

        Raises:
            WorkerGone, EngineAway: nothing will come any more.
        """

    async def close(self) -> None:
        """The call is over; if it has not ended, the worker is told, as far as that goes. Raises
        nothing.
        """


class WorkerLink(Protocol):
    """The way to one worker, for the tasks of one event loop."""

    async def open(self, call: Call) -> CallLink:
        """Send a call.

        Raises:
            PayloadError: the format cannot carry it; nothing has been sent.
            WorkerGone, EngineAway: it did not get there (`reached` says whether it may have).
        """

    async def ask(self, timeout_s: float) -> Pong:
        """How the worker is.

        Raises:
            WorkerGone, EngineAway: it does not say.
        """

    async def close(self) -> None:
        """End the connection; calls that are open end as with `EngineAway`."""


class Link(Protocol):
    """An address, checked, without any connection: what `RemoteAgent` makes of its URL."""

    @property
    def shown(self) -> str:
        """The address without its secrets."""

    def connect(self, *, on_away: Callable[[bool], None]) -> WorkerLink:
        """A way to the worker for the running event loop; it connects with its first use.

        Args:
            on_away: told whether what carries the calls is away, whenever that changes.
        """


Send = Callable[[ToCaller], Awaitable[None]]
"""Bring a frame to the caller of one call; waits while the way is full. Raises a `PayloadError` for
what the format cannot carry, of which nothing has been sent; whatever else it raises, the caller is
gone.
"""


class RunningCall(Protocol):
    """A call as a front sees it."""

    def heard(self, frame: ToWorker) -> None:
        """The caller says something of it (`Go`, `Credit`, `Cancel`)."""

    def gone(self) -> None:
        """The caller is gone: it is cancelled."""


class WorkerDesk(Protocol):
    """The worker behind a front. All of it is for the loop that the front runs on."""

    def begin(self, call: Call, send: Send, *, on_end: Callable[[], None]) -> RunningCall:
        """Take a call: it is answered by `send`, at last by one of `ENDS`; then `on_end` is called.
        A call that cannot be taken is answered as well (`Busy`, `Error`).
        """

    def pong(self, unknown: tuple[str, ...] = ()) -> Pong:
        """How it is."""


class Front(Protocol):
    """Where a worker listens: what `serve_worker` makes of `--listen`."""

    @property
    def shown(self) -> str:
        """The address without its secrets; for port 0 with the real one, once it listens."""

    async def listen(self, desk: WorkerDesk) -> None:
        """Begin to take calls.

        Raises:
            OSError, ResourceError: it cannot.
        """

    async def refuse(self) -> None:
        """Take no more calls; those that run go on, and new ones hear `Busy(draining=True)`."""

    async def close(self) -> None:
        """End, when the calls are over. Raises nothing."""
