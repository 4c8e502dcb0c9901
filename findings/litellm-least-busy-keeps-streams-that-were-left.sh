#!/usr/bin/env bash
# litellm 1.110.2: a stream whose reader leaves it before its end is in flight for an hour, as far as Router's `least-busy` goes:
# the deployment that it came from is passed by from then on.
#
# Guess before running: who leaves a stream by `break`, by `aclose()` or by a cancelled task closes the connection, and
#   the call is over: least-busy counts it no more. (A cancelled call without a stream is counted no more, either.)
# Seen: the count of a call that is left stays, with each of the three. After ten streams of one deployment that were left
#   twenty calls, one after the other, all go to the second one, though nothing is in flight anywhere; by its source
#   that goes on until ten are in flight there as well, or an hour is over.
# So where users hang up in the middle of an answer, least-busy sends the load away from whoever streams to those.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check litellm==1.110.2 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
import json
import logging
import os
from collections import Counter
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing from the network

from litellm import Router

logging.disable(logging.CRITICAL)
asked = Counter()


def chunk(text, reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    answer = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps(answer)


def server(name):
    """An OpenAI-compatible one, whose answers begin with its name."""

    async def serve(reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            asked[name] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for event in (chunk(name), chunk(" says"), chunk(" so", "stop"), "[DONE]"):
                writer.write(f"data: {event}\n\n".encode())
                await writer.drain()
                await asyncio.sleep(0.02)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # its reader has left
        finally:
            writer.close()

    return asyncio.start_server(serve, "127.0.0.1", 0)


async def stream(router):
    return await router.acompletion("m", [{"role": "user", "content": "hello"}], stream=True)


async def by_break(router):
    async for each in await stream(router):
        if each.choices[0].delta.content == "a":
            break


async def by_aclose(router):
    answer = await stream(router)
    async for each in answer:
        if each.choices[0].delta.content == "a":
            await answer.aclose()
            break


async def by_cancelled_task(router):
    leaving = asyncio.Event()

    async def read():
        async for each in await stream(router):
            if each.choices[0].delta.content == "a":
                leaving.set()
                await asyncio.sleep(60)

    task = asyncio.ensure_future(read())
    left = asyncio.ensure_future(leaving.wait())
    await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
    for each in (task, left):
        each.cancel()
    await asyncio.wait([task, left])


async def seen(leave):
    """Ten streams of a are left, those of b are read; then twenty are read, one after the other."""
    servers = {name: await server(name) for name in "ab"}
    models = []
    for name, each in servers.items():
        url = f"http://127.0.0.1:{each.sockets[0].getsockname()[1]}/v1"
        params = {"model": "openai/m", "api_key": "none", "api_base": url}
        models.append({"model_name": "m", "litellm_params": params, "model_info": {"id": f"{leave.__name__}-{name}"}})
    router = Router(model_list=models, routing_strategy="least-busy", num_retries=0)
    asked.clear()
    # More at once each time: one after the other all would go to b after the first.
    while asked["a"] < 10:
        await asyncio.gather(*(leave(router) for _ in range(2 + 2 * asked["a"])))
    await asyncio.sleep(1)
    asked.clear()
    for _ in range(20):
        async for _ in await stream(router):
            pass
    for each in servers.values():
        each.close()
    return dict(asked)


async def main():
    print("litellm", version("litellm"))
    for leave in (by_break, by_aclose, by_cancelled_task):
        found = await seen(leave)
        print(f"streams of a left {leave.__name__.replace('_', ' ')}; then twenty read whole:", found)
        assert found == {"b": 20}, found


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/seen.py"
