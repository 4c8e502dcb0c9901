#!/usr/bin/env bash
# google-genai 3.6.1, sync: what a Client has made stops working as soon as nobody holds the Client
# itself: `genai.Client(...).models`, and a chat made by `genai.Client(...).chats.create(...)`.
#
# Guess before running: they keep their client alive, as resources of other SDKs do, and as the async
#   ones of this SDK do.
# Seen: "RuntimeError: Cannot send a request, as the client has been closed", for `.models` and for a
#   chat; `.aio.models` of a client that nobody holds works, and so does the sync one while it is held.
# So a helper that makes a client and returns a chat or `.models` hands out something dead, and the
# error (a plain RuntimeError) looks like a fault of the transport that a retry might mend.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check google-genai==3.6.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from google import genai

ANSWER = json.dumps(
    {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}
        ]
    }
).encode()


class Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()


def client() -> genai.Client:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return genai.Client(api_key="none", http_options={"base_url": url})


def said(call: object) -> str:
    try:
        return call().text
    except RuntimeError as error:
        return f"RuntimeError: {error}"


async def of_aio() -> str:
    models = client().aio.models
    return (await models.generate_content(model="m", contents="hi")).text


print("google-genai", version("google-genai"))
held = client()
models = client().models
chat = client().chats.create(model="m")
CLOSED = "RuntimeError: Cannot send a request, as the client has been closed."
for what, seen, expected in [
    ("models, client held", said(lambda: held.models.generate_content(model="m", contents="hi")), "hello"),
    ("models alone", said(lambda: models.generate_content(model="m", contents="hi")), CLOSED),
    ("chat alone", said(lambda: chat.send_message("hi")), CLOSED),
    ("aio.models alone", asyncio.run(of_aio()), "hello"),
]:
    print(f"{what}: {seen}")
    assert seen == expected, (what, seen)
PY
