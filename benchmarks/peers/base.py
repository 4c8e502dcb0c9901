"""What a group may want of a peer. Each gives what it has, and refuses the rest by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.model import NotMeasured, Scale
from benchmarks.peers.agents import Sleeper

LimitedCall = Callable[[str], Awaitable[Any]]
"""A request of a tenant: raises when it has no answer."""
Stream = Callable[[int], AsyncIterator[Any]]
NewLoop = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True, slots=True)
class Providers:
    """Where a peer finds rate-limited providers, and what it is told of them.

    Attributes:
        url: of the server that is all of them.
        owner: whose the keys are: each provider's key is `owner.name`.
        told: the limit of each, in calls a second; None: nobody knows it.
        fair: they are to be shared out to those who ask.
        deadline_s: how long a request has.
        pace: how many times as long everything takes, which pauses of the peer's own should, too.
    """

    url: str
    owner: str
    names: tuple[str, ...]
    told: float | None
    fair: bool
    deadline_s: float
    pace: float = 1.0

    def key(self, name: str) -> str:
        """The key of a provider."""
        return f"{self.owner}.{name}"

    @property
    def base_url(self) -> str:
        """As a client of OpenAI's protocol wants it."""
        return f"{self.url}/v1"


class Peer:
    """The base of all peers. What is given is a context manager, which cleans up behind itself.

    Attributes:
        slow: it takes milliseconds a call, and is asked less often.
        sleeper: the agent of `asleep`, which knows how many calls it has.
        new_loop: what makes the caller's event loop; None: asyncio's own.
    """

    slow = False
    sleeper: Sleeper
    new_loop: NewLoop | None = None

    def sync_call(self, *, failing: bool = False, members: int = 3) -> AbstractContextManager[Ask]:
        """One call of an instant sync agent; `failing`: the first of them always fails.

        With `failing`, the call returns how many attempts it took.
        """
        self._lacks("sync calls")

    def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AbstractAsyncContextManager[AsyncAsk]:
        """One awaited call of an instant async agent; `failing` as above."""
        self._lacks("async calls")

    def remote(self) -> AbstractAsyncContextManager[tuple[AsyncAsk, Stream]]:
        """Calls of an instant async agent in another process, over HTTP, and streams of it."""
        self._lacks("calls of another process")

    def remote_nats(self) -> AbstractAsyncContextManager[tuple[AsyncAsk, Stream]]:
        """The same by a NATS server between."""
        self._lacks("calls of another process by NATS")

    def asleep(self, concurrency: int, seconds: float) -> AbstractAsyncContextManager[AsyncAsk]:
        """One awaited call of an async agent that sleeps; so many fit into it at a time."""
        self._lacks("sleeping calls")

    def pipeline(self, scale: Scale) -> AbstractContextManager[tuple[Ask, Callable[[Any], Any]]]:
        """How a call is sent, and how its answer is read later."""
        self._lacks("calls that are answered later")

    def tells(self) -> AbstractContextManager[Callable[[int], None]]:
        """What sends so many messages without an answer, and returns when all were handled."""
        self._lacks("tells")

    def stream(self) -> AbstractAsyncContextManager[Stream]:
        """Given a number, an async iterator over so many chunks."""
        self._lacks("streams")

    def start_and_stop(self) -> Callable[[], None]:
        """Start and stop once."""
        self._lacks("a start and a stop")

    def pick(self, strategy: str, members: int) -> Callable[[], Any]:
        """One choice among so many members."""
        self._lacks("picks")

    def limited(self, providers: Providers) -> AbstractAsyncContextManager[LimitedCall]:
        """One awaited request to rate-limited providers, set up as its own documentation has it."""
        self._lacks("rate-limited providers")

    def idle(self, members: int) -> AbstractContextManager[Any]:
        """So many members that have nothing to do."""
        self._lacks("members")

    def _has_no_fairness(self) -> NoReturn:
        raise NotMeasured("not expressible: it knows no fairness")

    def _lacks(self, what: str) -> NoReturn:
        raise NotMeasured(f"{type(self).__name__} has no {what} in this suite")


def counted(attempts: Iterator[int], attempt: Callable[[int], Any]) -> int:
    """By-hand failover, as who has no supervisor writes it: in order, until one answers."""
    for number in attempts:
        try:
            attempt(number)
        except ConnectionError:
            continue
        return number + 1
    raise ConnectionError("nobody could answer")
