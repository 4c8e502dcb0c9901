#!/usr/bin/env bash
# dspy 3.4.1: `dspy.LM` has a cache that is on by default, in memory and on disk; where the model is served
# is no part of its key.
#
# Guess before running: an answer is looked up by all that it may depend on, the server's address included. So
#   an LM whose server is down raises, whatever another server has answered before.
# Seen: `api_base`, `base_url` and `api_key` are left out of the key. An LM of the same model name at an address
#   where nobody listens answers what the first server said to the same prompt, also in a new process.
# So two deployments behind one name (two regions, two vLLM servers, a fine-tuned one beside its base)
# answer for each other; a health check by a fixed prompt finds a dead server well, for ever after.
# `dspy.LM(..., cache=False)` switches it off.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check dspy==3.4.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
export DSPY_CACHEDIR="$work/cache" LITELLM_LOCAL_MODEL_COST_MAP=true
cat >"$work/seen.py" <<'PY'
import json
import logging
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import dspy

logging.disable(logging.CRITICAL)
MESSAGE = {"role": "assistant", "content": "from the first server"}
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Server(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self):
        Server.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def nobody():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def ask(url, key, **settings):
    lm = dspy.LM("openai/m", api_base=url, api_key=key, num_retries=0, **settings)
    try:
        return lm("Are you there?")[0]
    except Exception as error:
        return type(error).__name__


if sys.argv[1] == "first":
    print("dspy", version("dspy"))
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    first = ask(f"http://127.0.0.1:{server.server_port}/v1", "key of Ann")
    print("the first server:", first)
    assert (first, Server.asked) == (MESSAGE["content"], 1)
dead = ask(nobody(), "key of Bob")
uncached = ask(nobody(), "key of Bob", cache=False)
print("a server that is down, another key:", dead, "| with cache=False:", uncached)
assert dead == MESSAGE["content"], dead
assert uncached != MESSAGE["content"], uncached
PY
"$work/venv/bin/python" "$work/seen.py" first
"$work/venv/bin/python" "$work/seen.py" "in a new process"
