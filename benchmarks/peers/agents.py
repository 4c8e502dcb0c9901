"""The work that every peer is given: next to none, so that what is measured is the peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any


def echo(payload: Any) -> Any:
    return payload


async def aecho(payload: Any) -> Any:
    return payload


def down(payload: Any) -> Any:
    raise ConnectionError("connection refused")


async def adown(payload: Any) -> Any:
    raise ConnectionError("connection refused")


def chunks(count: int) -> Iterator[str]:
    for _ in range(count):
        yield "abc"


async def achunks(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield "abc"


class Sleeper:
    """An async agent that sleeps; it knows how many calls have begun and not ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asleep = 0

    async def __call__(self, payload: Any) -> Any:
        self.asleep += 1
        await asyncio.sleep(self.seconds)
        self.asleep -= 1
        return payload
