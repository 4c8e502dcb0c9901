"""Clients that are for coroutines alone, used by `apply`: many calls at a time, and no thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import Apply, Member, PoolRef

CALLS = 10


class Completions:
    def __init__(self, held: AsyncHeld) -> None:
        self.held = held
        self.threads: set[str] = set()

    async def create(self, prompt: str) -> Any:
        self.threads.add(threading.current_thread().name)
        return await self.held(prompt)


class Chat:
    def __init__(self, held: AsyncHeld) -> None:
        self.completions = Completions(held)


class Client:
    """Shaped like OpenAI's: `client.chat.completions.create`."""

    def __init__(self, held: AsyncHeld) -> None:
        self.chat = Chat(held)

    async def close(self) -> None: ...


class Opened(Client):
    """The same with what those have who are opened by `async with`."""

    async def __aenter__(self) -> Opened:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def with_options(self) -> Opened:
        return self


class OfBothKinds(Client):
    """One that has methods of both kinds."""

    def complete_now(self) -> None: ...


def made_by(how: str, client: Any) -> Member:
    async def make() -> Any:
        return client

    given: dict[str, Any] = {
        "ready": {"agent": client},
        "sync factory": {"factory": lambda: client},
    }
    return Member("a", **given.get(how, {"factory": make}))


@pytest.mark.parametrize("how", ["ready", "sync factory", "async factory"])
@pytest.mark.parametrize("kind", [Client, Opened])
def test_its_calls_run_beside_each_other(kind: type[Client], how: str) -> None:
    """All of them at a time, whatever function is applied; one that a factory has to make takes one
    call until it is there.
    """
    held = AsyncHeld()
    client = kind(held)

    async def complete(client: Client) -> Any:
        return await client.chat.completions.create("coroutine function")

    name = f"{kind.__name__}-{how}"  # of its own: workers of others may be about to end
    with pool_of(made_by(how, client), name=name) as pool:
        assert pool.stats()["a"].max_concurrency == (100 if how == "ready" else 1)
        calls = [ask(pool, lambda client: client.chat.completions.create("lambda"))]
        calls += [ask(pool, complete) for _ in range(CALLS - 1)]
        held.wait_entered(CALLS)
        assert pool.stats()["a"].max_concurrency == 100
        held.let_go()
        assert [each.get(timeout=WAIT_S).value for each in calls] == ["held"] * CALLS
        # On the loop, all of them: a thread for each would wait for it there.
        assert len(client.chat.completions.threads) == 1
        workers = [each.name for each in threading.enumerate() if f"-{name}-a" in each.name]
        assert len(workers) == (1 if how == "sync factory" else 0)


@pytest.mark.parametrize(
    "member",
    [
        Member("a", OfBothKinds(AsyncHeld())),
        Member("a", echo),
        Member("a", Client(AsyncHeld()), max_concurrency=1),
    ],
    ids=["both kinds", "a function", "told so"],
)
def test_others_take_one_call_at_a_time(member: Member) -> None:
    """Who says nothing, or is told."""
    with pool_of(member) as pool:
        assert pool.stats()["a"].max_concurrency == 1


def test_the_real_client_of_httpx() -> None:
    """It has sync helpers beside its coroutines, and a `stream` that no payload will do for."""
    held = AsyncHeld()

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=await held(request.url.path))

    async def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(answer))

    with pool_of(Member("a", factory=make)) as pool:
        calls = [ask(pool, lambda client: client.get("http://a/x")) for _ in range(CALLS)]
        held.wait_entered(CALLS)
        held.let_go()
        assert [each.get(timeout=WAIT_S).value.text for each in calls] == ["held"] * CALLS


def test_its_properties_are_left_alone() -> None:
    """A lazy resource is made by whoever uses it first, where that runs."""

    class Lazy:
        @property
        def chat(self) -> Any:
            asyncio.get_running_loop()  # raises elsewhere
            return Chat(held)

        async def close(self) -> None: ...

    held = AsyncHeld()
    with pool_of(Member("a", Lazy())) as pool:
        assert pool.stats()["a"].max_concurrency == 100
        call = ask(pool, lambda client: client.chat.completions.create("x"))
        held.wait_entered()
        held.let_go()
        assert call.get(timeout=WAIT_S).value == "held"


def ask(pool: PoolRef, function: Any) -> Any:
    return pool.ask(Apply(function), block=False)
