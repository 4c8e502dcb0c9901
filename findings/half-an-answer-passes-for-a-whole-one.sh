#!/usr/bin/env bash
# openai 3.57.0, anthropic 2.14.0 and pydantic-ai-slim 2.68.0: a stream whose body ends between two events,
# without the end that the protocol has ("[DONE]", "message_stop"), is taken for a whole answer.
#
# Guess before running: each has a mark of its end, so its absence is an error, at least in the helpers
#   that give the finished message (`get_final_completion`, `get_final_message`).
# Seen: nothing is raised. openai gives a completion with `finish_reason` None, though its type has no None
#   there; anthropic a message with `stop_reason` None; pydantic-ai half an answer as the run's output, and
#   makes up a `finish_reason` of "stop". It raises only with `openai_chat_streaming_requires_finish_reason`
#   in its model's profile, which no provider of its sets.
# So where a proxy ends a response properly after its upstream has gone, a half answer is a success: no retry,
# no fallback. Whoever streams looks at the reason of the end, and takes None for a failure.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
  anthropic==2.14.0 openai==3.57.0 pydantic-ai-slim==2.68.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import re
from importlib.metadata import version
from typing import Any

import anthropic
import openai
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

ASKED: Any = [{"role": "user", "content": "hello"}]


def event(**data: object) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 1},
}
HALF = (
    event(type="message_start", message=MESSAGE)
    + event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Pay not"})
)
CHOICE = {"index": 0, "delta": {"role": "assistant", "content": "Pay not"}, "finish_reason": None}
OPENAI_HALF = event(
    id="c1", object="chat.completion.chunk", created=1, model="m", choices=[CHOICE]
)
servers: list[asyncio.Server] = []


async def server(body: bytes) -> str:
    """Answers 200 with `body` in full, and then ends the response as HTTP has it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        await writer.drain()
        writer.close()

    served = await asyncio.start_server(serve, "127.0.0.1", 0)
    servers.append(served)
    return f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}"


async def main() -> None:
    print(*(f"{name} {version(name)}" for name in ("openai", "anthropic", "pydantic-ai-slim")))
    url = await server(OPENAI_HALF)
    gpt = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    async with gpt.chat.completions.stream(model="m", messages=ASKED) as stream:
        choice = (await stream.get_final_completion()).choices[0]
    print(f"openai: {choice.message.content!r}, finish_reason {choice.finish_reason}")
    assert choice.message.content == "Pay not"
    assert choice.finish_reason is None

    url = await server(HALF)
    claude = anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)
    async with claude.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream:
        message = await stream.get_final_message()
    print(f"anthropic: {message.content[0].text!r}, stop_reason {message.stop_reason}")
    assert message.content[0].text == "Pay not"
    assert message.stop_reason is None

    provider = OpenAIProvider(openai_client=gpt)
    agent = Agent(OpenAIChatModel("m", provider=provider))
    async with agent.run_stream("hello") as run:
        output = await run.get_output()
    print(f"pydantic-ai: {output!r}, finish_reason {run.response.finish_reason}")
    assert output == "Pay not"
    assert run.response.finish_reason == "stop"

    profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    agent = Agent(OpenAIChatModel("m", provider=provider, profile=profile))
    try:
        async with agent.run_stream("hello") as run:
            await run.get_output()
    except ModelAPIError as error:
        print(f"pydantic-ai with the profile: {error}")
    else:
        raise SystemExit("nothing was raised with the profile")


asyncio.run(asyncio.wait_for(main(), 60))
PY
