#!/usr/bin/env bash
# google-adk 2.13.0: `async for event in runner.run_async(...)` does not hold a streaming model back. While the
# body of the loop waits at the first partial event, the agent's model goes on to its end.
#
# Guess before running: it is an async generator down to the model, so the model is one piece ahead at most, and a
#   slow consumer (a browser on a bad line) slows the model's stream down.
# Seen: with 1,000 pieces, at the first partial event that the loop gets, and without a further one being asked
#   for, all 1,000 have been made: they lie in memory. An event that is not partial holds its agent back: of two
#   whole events by one agent the second is not begun while the first is looked at.
# So time limits and byte counts inside a model or an agent tell nothing of its consumer; memory for one run has no
# bound but the model's own; and leaving the loop early saves nothing that the backend has been asked for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check google-adk==2.13.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
from importlib.metadata import version

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.events import Event
from google.adk.models import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

PIECES = 1_000
made = 0
begun = []


def text(said: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=said)])


class Model(BaseLlm):
    async def generate_content_async(self, llm_request, stream=False):
        global made
        for _ in range(PIECES):
            made += 1
            yield LlmResponse(content=text("x"), partial=True)
            await asyncio.sleep(0)
        yield LlmResponse(content=text("x" * PIECES), finish_reason=types.FinishReason.STOP)


class Whole(BaseAgent):
    async def _run_async_impl(self, ctx):
        for number in (1, 2):
            begun.append(number)
            yield Event(author=self.name, content=text("x"))
            await asyncio.sleep(0)


async def first_of(agent: BaseAgent) -> bool:
    """Look at a run's first event for long, and leave. Whether it was partial."""
    runner = InMemoryRunner(agent=agent, app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    run = runner.run_async(
        user_id="u",
        session_id=session.id,
        new_message=types.UserContent("hi"),
        run_config=RunConfig(streaming_mode=StreamingMode.SSE),
    )
    event = await anext(run)
    for _ in range(600):
        if made == PIECES and event.partial:
            break
        await asyncio.sleep(0.1 if event.partial else 0.01)
    partial = bool(event.partial)
    print("at the first event:", made, "pieces made; whole events begun:", begun)
    await run.aclose()
    return partial


print("google-adk", version("google-adk"))
assert asyncio.run(first_of(LlmAgent(name="writer", model=Model(model="m"))))
assert made == PIECES, made
assert not asyncio.run(first_of(Whole(name="whole")))
assert begun == [1], begun
PY
