"""Plain HTTP, by httpx: the status is asked for, and the body of an error is read."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from greenroom import Member


def asked(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": prompt}], **more}


def member(name: str, url: str) -> Member:
    @asynccontextmanager
    async def agent() -> AsyncIterator[Any]:
        async with httpx.AsyncClient(base_url=url, timeout=31) as http:

            async def ask(prompt: str) -> dict[str, Any]:
                response = await http.post("/chat/completions", json=asked(prompt))
                return dict(response.raise_for_status().json())

            yield ask

    return Member(name, factory=agent)


def streaming(name: str, url: str) -> Member:
    @asynccontextmanager
    async def agent() -> AsyncIterator[Any]:
        async with httpx.AsyncClient(base_url=url, timeout=31) as http:

            async def lines(prompt: str) -> AsyncIterator[str]:
                body = asked(prompt, stream=True)
                async with http.stream("POST", "/chat/completions", json=body) as response:
                    if response.is_error:
                        await response.aread()  # why: it is looked at, where it has been read
                        response.raise_for_status()
                    async for line in response.aiter_lines():
                        yield line

            yield lines

    return Member(name, factory=agent)


# end of recipe
import json  # noqa: E402

from frameworks.case import Case  # noqa: E402


def plain(name: str, url: str) -> Member:
    return Member(name, httpx.AsyncClient(base_url=url))


def piece(line: str) -> str:
    data = line.removeprefix("data: ")
    return str(json.loads(data)["choices"][0]["delta"].get("content", "")) if "{" in data else ""


CASE = Case(
    package="httpx",
    member=member,
    plain=plain,
    said=lambda value: str(value["choices"][0]["message"]["content"]),
    unswitched=member,
    why="a client has no run method",
    streaming=streaming,
    piece=piece,
)
