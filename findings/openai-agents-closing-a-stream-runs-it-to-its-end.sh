#!/usr/bin/env bash
# openai-agents 0.24.0, Runner.run_streamed: closing the stream of events does not end the run.
#
# Guess before running: `stream_events()` is an async generator, and closing it (`aclose()`, `aclosing`)
#   ends the run behind it: no further model call, no tool.
# Seen: `aclose()` after the first event returns only when the whole run is over: its tool has been called
#   and the model been asked a second time. Cancelling the task that reads ends the run at once, and so
#   does `result.cancel()` before `aclose()`.
# So whoever leaves an answer early and closes it, as one does with streams, waits for all of it, pays for it,
# and its tools have been at work. `result.cancel()` comes first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check openai-agents==0.24.0 openai==3.57.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.models.interface import Model
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

CALLS = ResponseFunctionToolCall(
    arguments="{}", call_id="c1", name="book", type="function_call", id="f1"
)
ANSWERS = ResponseOutputMessage(
    id="m1",
    role="assistant",
    status="completed",
    type="message",
    content=[ResponseOutputText(text="done", type="output_text", annotations=[])],
)
booked = 0


@function_tool
async def book() -> str:
    """Book it."""
    global booked
    booked += 1
    return "booked"


class TwoTurns(Model):
    """Calls its tool in the first turn and answers in the second; each turn is a stream."""

    def __init__(self) -> None:
        self.turns = 0

    async def get_response(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        self.turns += 1
        output = CALLS if self.turns == 1 else ANSWERS
        for number in range(3):
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta",
                content_index=0,
                delta=f"word {number}",
                item_id="m1",
                output_index=0,
                sequence_number=number,
                logprobs=[],
            )
            await asyncio.sleep(0.01)
        yield ResponseCompletedEvent(
            type="response.completed",
            sequence_number=3,
            response=Response(
                id="r1",
                created_at=0,
                model="m",
                object="response",
                output=[output],
                parallel_tool_calls=False,
                tool_choice="auto",
                tools=[],
            ),
        )


async def first_event(result: Any) -> Any:
    events = result.stream_events()
    async for event in events:
        if event.type == "raw_response_event":
            break
    return events


async def closed() -> None:
    result = Runner.run_streamed(agent, "book it")
    await (await first_event(result)).aclose()


async def cancelled_and_closed() -> None:
    result = Runner.run_streamed(agent, "book it")
    events = await first_event(result)
    result.cancel()
    await events.aclose()


async def task_cancelled() -> None:
    there = asyncio.Event()

    async def read() -> None:
        async for event in Runner.run_streamed(agent, "book it").stream_events():
            if event.type == "raw_response_event":
                there.set()

    task = asyncio.create_task(read())
    await there.wait()
    task.cancel()
    await asyncio.wait([task])


async def leave(by: Callable[[], Awaitable[None]]) -> tuple[int, int]:
    """How often the tool was called, and the model asked, when the stream has been left."""
    global agent, booked
    model, booked = TwoTurns(), 0
    agent = Agent(name="a", model=model, tools=[book])
    await by()
    await asyncio.sleep(0.5)  # what goes on behind the reader's back would be over
    print(f"{by.__name__}: tool called {booked} times, model asked {model.turns} times")
    return booked, model.turns


async def main() -> None:
    print("openai-agents", importlib.metadata.version("openai-agents"))
    set_tracing_disabled(True)
    assert await leave(closed) == (1, 2)
    assert await leave(cancelled_and_closed) == (0, 1)
    assert await leave(task_cancelled) == (0, 1)


asyncio.run(main())
print("as described: closing the stream lets the run go on to its end")
PY
