#!/usr/bin/env bash
# openai-agents 0.24.0, Runner.run(..., session=SQLiteSession): a run that fails, or is cancelled by a
# time limit, leaves what it was asked in the session.
#
# Guess before running: a run that raises leaves the session as it was, so the same call can be tried
#   again; what a turn said is stored when it has succeeded.
# Seen: the question is stored before the model is asked and stays there. Each try puts another copy of
#   it in front of the model: after three failures the fourth one reads it four times. A run that is
#   cancelled leaves it as well. A tool call that went well before the model failed stays with its
#   output, so that there at least the next run sees what has been done.
# So a retry or a fallback around Runner.run with a session changes the conversation. Whoever tries again
# takes the session back to its length of before (`pop_item`), or tries again below the run, at the model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check openai-agents==0.24.0 openai==3.57.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Runner, SQLiteSession, function_tool, set_tracing_disabled
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

FAILS, HANGS = "fails", "hangs"
ANSWERS = ResponseOutputMessage(
    id="m1",
    role="assistant",
    status="completed",
    type="message",
    content=[ResponseOutputText(text="done", type="output_text", annotations=[])],
)
CALLS = ResponseFunctionToolCall(
    arguments="{}", call_id="c1", name="book", type="function_call", id="f1"
)


class Scripted(Model):
    """Does one thing of its script each time it is asked."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.read: list[Any] = []

    async def get_response(self, *args: Any, input: Any, **more: Any) -> ModelResponse:
        self.read.append(input)
        step = self.script.pop(0)
        if step is FAILS:
            raise ConnectionError("the model is away")
        if step is HANGS:
            await asyncio.Event().wait()
        return ModelResponse(output=[step], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@function_tool
def book() -> str:
    """Book it."""
    return "booked"


async def kinds(session: SQLiteSession) -> list[str]:
    return [item.get("role") or item["type"] for item in await session.get_items()]


async def main() -> None:
    print("openai-agents", importlib.metadata.version("openai-agents"))
    set_tracing_disabled(True)

    model, session = Scripted(FAILS, FAILS, FAILS, ANSWERS), SQLiteSession("one")
    agent = Agent(name="a", model=model, tools=[book])
    for _ in range(3):
        try:
            await Runner.run(agent, "book it", session=session)
        except ConnectionError:
            print("failed; in the session:", await kinds(session))
    await Runner.run(agent, "book it", session=session)
    read = [item["role"] for item in model.read[-1]]
    print("the fourth run read:", read)
    assert read == ["user"] * 4, read

    session = SQLiteSession("two")
    agent = Agent(name="a", model=Scripted(HANGS))
    run = asyncio.create_task(Runner.run(agent, "book it", session=session))
    while not agent.model.read:
        await asyncio.sleep(0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    print("cancelled; in the session:", await kinds(session))
    assert run.cancelled()
    assert await kinds(session) == ["user"]

    session = SQLiteSession("three")
    agent = Agent(name="a", model=Scripted(CALLS, FAILS), tools=[book])
    try:
        await Runner.run(agent, "book it", session=session)
    except ConnectionError:
        print("failed after a tool; in the session:", await kinds(session))
    assert await kinds(session) == ["user", "function_call", "function_call_output"]


asyncio.run(main())
print("as described: a failed or cancelled run stays in the session")
PY
