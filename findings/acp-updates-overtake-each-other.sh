#!/usr/bin/env bash
# agent-client-protocol 0.12.1 (the Python SDK of the Agent Client Protocol): the client's handler
# `session_update` runs for several chunks at once.
#
# Guess before running: the chunks of an answer come over one pipe, in order, and the handler is awaited for
#   one before it is called for the next, as a stream is read; and `prompt` returns after the last of them.
# Seen: each chunk's handler is a task of its own. They start in order, and whoever awaits something lets the
#   next ones overtake: what is put together after an await (a lock, a queue, a write to a socket) is out of
#   order. `prompt` does return after all of them.
# So a handler takes down what it is told before its first await; "append after await" scrambles an answer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check agent-client-protocol==0.12.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/agent.py" <<'PY'
"""Answers with five chunks, one after the other."""

import asyncio
from typing import Any

from acp import (
    Agent,
    InitializeResponse,
    NewSessionResponse,
    PromptResponse,
    run_agent,
    update_agent_message_text,
)


class Chunks(Agent):
    def on_connect(self, conn: Any) -> None:
        self.conn = conn

    async def initialize(self, protocol_version: int, **more: Any) -> InitializeResponse:
        return InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, **more: Any) -> NewSessionResponse:
        return NewSessionResponse(session_id="s")

    async def prompt(self, session_id: str, **more: Any) -> PromptResponse:
        for number in range(5):
            chunk = update_agent_message_text(f"part {number}")
            await self.conn.session_update(session_id, chunk)
        return PromptResponse(stop_reason="end_turn")


asyncio.run(run_agent(Chunks()))
PY
"$work/venv/bin/python" - "$work/agent.py" <<'PY'
import asyncio
import importlib.metadata
import sys
from typing import Any

from acp import Client, spawn_agent_process, text_block


class Reader(Client):
    """Waits in its handler for the first chunk until all the others have been there."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.taken: list[str] = []
        self.others = asyncio.Event()

    def on_connect(self, conn: Any) -> None: ...

    async def session_update(self, session_id: str, update: Any, **more: Any) -> None:
        text = update.content.text
        self.begun.append(text)
        if text == "part 0":
            await asyncio.wait_for(self.others.wait(), 20)
        self.taken.append(text)
        if len(self.taken) == 4:
            self.others.set()


async def main() -> None:
    print("agent-client-protocol", importlib.metadata.version("agent-client-protocol"))
    reader = Reader()
    async with spawn_agent_process(reader, sys.executable, sys.argv[1]) as (conn, _):
        await conn.initialize(protocol_version=1)
        session = await conn.new_session(cwd="/", mcp_servers=[])
        await conn.prompt(session_id=session.session_id, prompt=[text_block("go")])
        print("handlers began:", reader.begun)
        print("and took down: ", reader.taken)
    parts = [f"part {number}" for number in range(5)]
    assert reader.begun == parts, reader.begun
    assert reader.taken == [*parts[1:], parts[0]], reader.taken


asyncio.run(main())
print("as described: a handler that awaits is overtaken by the chunks after it")
PY
