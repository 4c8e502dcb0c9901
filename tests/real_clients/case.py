"""What an adapter is given and what it declares."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from real_clients.situations import Situation

KEY = "key-of-nobody"
PROMPT = "How much is six times seven?"


@dataclass(frozen=True, slots=True)
class Case:
    """One call to make.

    Attributes:
        url: what the client is pointed at.
        stream: whether to ask for a stream and to read it to its end.
        timeout_s: the client's own timeout.
        defaults: leave the client's retries and timeouts as it has them, to count its requests.
    """

    url: str
    situation: str
    stream: bool
    timeout_s: float = 1.0
    defaults: bool = False

    def settings(self, **settings: Any) -> dict[str, Any]:
        """The settings that turn retries off and bound the time, unless the defaults are wanted."""
        return {} if self.defaults else settings


Sync = Callable[[Case], object]
Async = Callable[[Case], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A client, and how to make it call.

    Attributes:
        name: what it goes by in the tables.
        package: the distribution that has its version.
        provider: in whose words the server answers it.
        streams: whether it can stream.
        own: situations of its own, where the HTTP server has none for it.
    """

    name: str
    package: str
    provider: str
    sync: Sync | None = None
    async_: Async | None = None
    streams: bool = True
    own: Mapping[str, Situation] | None = None


def read(stream: Iterable[Any]) -> list[Any]:
    """All chunks of a stream."""
    return list(stream)


async def aread(stream: AsyncIterable[Any]) -> list[Any]:
    """All chunks of a stream."""
    return [chunk async for chunk in stream]
