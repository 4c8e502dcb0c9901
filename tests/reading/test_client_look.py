"""Whether a client is made for coroutines, told without running any code of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx
import pytest

from greenroom.actors.reading.client_look import is_for_coroutines


class Bomb(Exception):
    """No code of a client's may run."""


class Completions:
    async def create(self, prompt: str) -> str:
        return prompt

    def _helper(self) -> None: ...


class Chat:
    def __init__(self) -> None:
        self.completions = Completions()


class Namespaces:
    """As OpenAI's: nothing but resources."""

    def __init__(self) -> None:
        self.chat = Chat()
        self.api_key = "sk"
        self.log = logging.getLogger("client")
        self.lock = asyncio.Lock()
        self.kind = Chat
        self.itself = self

    @property
    def models(self) -> Any:
        raise Bomb


class SyncCompletions:
    def create(self, prompt: str) -> str:
        return prompt


class SyncNamespaces:
    def __init__(self) -> None:
        self.completions = SyncCompletions()


class MixedNamespaces(Namespaces):
    def __init__(self) -> None:
        super().__init__()
        self.completions = SyncCompletions()


class Opened:
    """As httpx's: `async with`, and helpers of the other kind."""

    async def __aenter__(self) -> Opened:
        raise Bomb

    async def get(self, url: str) -> str:
        return url

    def build_request(self) -> None:
        raise Bomb

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[str]:
        yield "x"


class Both(Opened):
    """As Mistral's: for either."""

    def __enter__(self) -> Both:
        raise Bomb


class Methods:
    @classmethod
    def from_env(cls) -> Methods:
        raise Bomb

    @staticmethod
    def version() -> str:
        raise Bomb

    async def embed(self, text: str) -> list[float]:
        return []

    async def tokens(self, text: str) -> AsyncIterator[str]:
        yield text

    @functools.cached_property
    def lazy(self) -> Any:
        raise Bomb

    def __getattr__(self, name: str) -> Any:
        raise Bomb


class OneOfEach(Methods):
    def embed_now(self, text: str) -> list[float]:
        return []


class Hidden(Methods):
    """A method that another class gives again counts as that one does."""

    def embed(self, text: str) -> list[float]:  # type: ignore[override]
        return []


class Slotted:
    __slots__ = ("name",)

    async def embed(self, text: str) -> list[float]:
        return []


class Loop:
    def __init__(self) -> None:
        self.itself = self


class Untouchable:
    def __getattribute__(self, name: str) -> Any:
        raise Bomb


async def coroutine(*_: Any) -> None: ...


ASYNC: dict[str, Callable[[], Any]] = {
    "resources": Namespaces,
    "one resource": Completions,
    "async with": Opened,
    "methods": Methods,
    "slots": Slotted,
    "functions as attributes": lambda: types.SimpleNamespace(
        create=coroutine, more=functools.partial(coroutine, 1)
    ),
    "httpx": httpx.AsyncClient,
}
SYNC: dict[str, Callable[[], Any]] = {
    "resources": SyncNamespaces,
    "resources of both kinds": MixedNamespaces,
    "opened by both": Both,
    "methods of both kinds": OneOfEach,
    "an overridden method": Hidden,
    "nothing": object,
    "no methods": lambda: types.SimpleNamespace(a=1, b="x", c=None),
    "itself alone": Loop,
    "untouchable": Untouchable,
    "functions as attributes": lambda: types.SimpleNamespace(create=coroutine, now=len),
    "data": dict,
    "a class": lambda: Methods,
    "httpx": httpx.Client,
}


@pytest.mark.parametrize("make", ASYNC.values(), ids=ASYNC)
def test_made_for_coroutines(make: Callable[[], Any]) -> None:
    """By `async with` alone, or by all of its methods; no property of its own is run."""
    assert is_for_coroutines(make())


@pytest.mark.parametrize("make", SYNC.values(), ids=SYNC)
def test_not_made_for_coroutines(make: Callable[[], Any]) -> None:
    """Sync, of both kinds, without methods, or not to be looked at."""
    assert not is_for_coroutines(make())


def test_a_with_that_only_refuses_does_not_count() -> None:
    """aiohttp's session has one."""

    async def session() -> bool:
        async with aiohttp.ClientSession() as made:
            return is_for_coroutines(made)

    assert asyncio.run(session())
