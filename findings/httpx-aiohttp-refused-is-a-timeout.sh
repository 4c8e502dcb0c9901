#!/usr/bin/env bash
# httpx-aiohttp 0.2.0 (the async transport of cohere, fireworks-ai and of openai[aiohttp]): a connection
# that is refused at once, and a host that does not exist, are raised as httpx.ConnectTimeout.
#
# Guess before running: httpx.ConnectError, as httpx's own transport raises.
# Seen: ConnectTimeout, within milliseconds, under a limit of 30 s. The transport picks the most derived
#   of the httpx classes that it has for the classes of aiohttp's error; ConnectTimeout (for
#   ClientConnectionError) comes first, and ConnectError (for ClientConnectorError) is not below it.
# So "a timeout" in a log may be a server that is not there, and a rule such as "a timeout is not tried
# again on the same host" hits what would have been fine.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
  httpx-aiohttp==0.2.0 httpx==0.28.1 aiohttp==3.14.5 2>"$work/pip.log" || { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import socket
import time
from importlib.metadata import version

import httpx
from httpx_aiohttp import AiohttpTransport


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def raised(transport: httpx.AsyncBaseTransport | None, url: str) -> tuple[str, float]:
    async with httpx.AsyncClient(transport=transport, timeout=30, trust_env=False) as client:
        began = time.monotonic()
        try:
            await client.get(url)
        except httpx.TransportError as error:
            return type(error).__name__, time.monotonic() - began
    raise SystemExit("nothing was raised")


async def main() -> None:
    print("httpx-aiohttp", version("httpx-aiohttp"), "httpx", version("httpx"), "aiohttp", version("aiohttp"))
    for what, url in [
        ("refused", f"http://127.0.0.1:{free_port()}/"),
        ("no such host", "http://no-such-host.invalid/"),
    ]:
        plain, _ = await raised(None, url)
        bridged, took_s = await raised(AiohttpTransport(), url)
        print(f"{what}: httpx {plain}, httpx-aiohttp {bridged} after {took_s:.3f} s of 30")
        assert plain == "ConnectError", plain
        assert bridged == "ConnectTimeout", bridged
        assert took_s < 15, took_s


asyncio.run(main())
PY
