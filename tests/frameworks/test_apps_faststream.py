"""The recipe of docs/durable.md for FastStream, as it stands there, on a real nats-server.
Behaviour 511.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from helpers_courier import free_port, need, server, url_of
from helpers_pages import DOCS, text_of

from greenroom import Member

LIMIT_S = 60.0


class Provider:
    """Fails a few times, and notes what it was given."""

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.had: list[Any] = []
        self.answered = asyncio.Event()

    async def __call__(self, order: Any) -> str:
        self.had.append(order)
        if len(self.had) <= self.fails:
            raise RuntimeError("not yet")
        self.answered.set()
        return "a letter"


def recipe(word: str, **given: Any) -> dict[str, Any]:
    """What the block of the page makes in which that word stands."""
    blocks = re.findall(r"```text\n(.*?)```", text_of(DOCS / "durable.md"), re.DOTALL)
    (block,) = [each for each in blocks if f"from {word} import" in each]
    made = {"__name__": "recipe", **given}
    # Not with this module's `annotations`: what FastStream reads would be texts.
    exec(compile(block, "durable.md", "exec", dont_inherit=True), made)
    return made


def members(provider: Provider) -> list[Member]:
    return [Member("only", provider)]


def test_b511_faststream_delivers_again_what_the_pool_could_not_answer(tmp_path: Path) -> None:
    """From the stream, until the handler returns."""
    pytest.importorskip("faststream.nats")
    need("nats")
    port = free_port()

    async def main() -> list[Any]:
        provider = Provider(fails=5)
        made = recipe("faststream", MEMBERS=members(provider), URL=url_of("nats", port))
        app, broker = made["app"], made["broker"]
        ready = asyncio.Event()

        async def started() -> None:
            ready.set()

        app.after_startup(started)
        running = asyncio.create_task(app.run())
        try:
            async with asyncio.timeout(LIMIT_S):
                await ready.wait()
                await broker.publish({"order": 17}, "letters", stream="LETTERS")
                await provider.answered.wait()
        finally:
            app.exit()
            await asyncio.wait_for(running, LIMIT_S)
        return provider.had

    with server("nats", tmp_path, port):
        had = asyncio.run(main())
    assert had == [{"order": 17}] * 6
