#!/usr/bin/env bash
# strands-agents 1.62.0, its OpenAI model: a stream that ends before its end mark ends the agent's turn with
# `end_turn` and a message that is empty, though its text has been streamed already.
#
# Expected: the half that has come, as from other clients (half-an-answer-passes-for-a-whole-one.sh),
#   or an error.
# Seen: no error; the callers of stream_async have had "The first half", the result's message has no
#   content, its stop_reason is `end_turn`, and the conversation goes on with an empty message in it.
# So what was shown is not what the agent remembers of it, and whoever asks without a stream gets "" as
# a success. An empty result is the only sign of the cut.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'strands-agents[openai]==1.62.0' 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import re
from importlib.metadata import version

from strands import Agent
from strands.models.openai import OpenAIModel

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def event(text: str) -> bytes:
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps(chunk | {'choices': [delta]})}\n\n".encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    if length:
        await reader.readexactly(int(length[1]))
    writer.write(HEAD + event("The first ") + event("half"))  # neither a finish_reason nor [DONE]
    await writer.drain()
    writer.close()


async def main() -> None:
    print("strands-agents", version("strands-agents"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = {"base_url": url, "api_key": "none", "max_retries": 0}
    model = OpenAIModel(client_args=client, model_id="m")

    agent = Agent(model, callback_handler=None, retry_strategy=None)
    shown, result = "", None
    async for each in agent.stream_async("tell me"):
        shown += each.get("data", "")
        result = each.get("result", result)
    print(f"streamed {shown!r}, stop_reason {result.stop_reason!r}, answer {str(result)!r}")
    assert shown == "The first half"
    assert result.stop_reason == "end_turn"
    assert str(result) == ""
    print("conversation:", [(each["role"], each["content"]) for each in agent.messages])
    assert agent.messages[-1]["role"] == "assistant"
    assert agent.messages[-1]["content"] in ([], [{"text": ""}])

    answer = await Agent(model, callback_handler=None, retry_strategy=None).invoke_async("tell me")
    print(f"asked without a stream: {str(answer)!r}, {answer.stop_reason!r}")
    assert (str(answer), answer.stop_reason) == ("", "end_turn")
    server.close()


asyncio.run(main())
print("as described: a cut stream is an empty success")
PY
