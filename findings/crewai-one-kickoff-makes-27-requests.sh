#!/usr/bin/env bash
# crewai 1.15.30, its OpenAI model: three layers try again, one inside the other, and one of them cannot be
# switched off.
#
# Guess before running: a Crew's kickoff against an outage makes 9 requests, the client's three (`max_retries`)
#   for each of the task's three (`max_retry_limit`); none more with both at 0; a wrong key is asked once.
# Seen: 9 for a 500, but 27 for a 429, since every model's `call` is wrapped in three tries more after a rate
#   limit, of which no setting tells. With both switches at 0 a 429 still makes 3 requests. A wrong key (401)
#   is asked 3 times: the task is run again after any error.
# So whoever limits a crew's rate is asked 27 times by one kickoff. It needs about a gigabyte to install.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check crewai==1.15.30 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
HOME="$work" "$work/venv/bin/python" - <<'PY'
import contextlib
import io
import json
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"
logging.disable(logging.CRITICAL)

from crewai import LLM, Agent, Crew, Task

asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        global asked
        asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"error": {"message": "no", "type": "error", "code": None}}).encode()
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after-ms", "1")  # the openai client does not wait long then
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def requests_of(status: int, **off: int) -> int:
    """How many one kickoff makes where each is answered with that status."""
    global asked
    asked = 0
    url = f"http://127.0.0.1:{server.server_port}/{status}/v1"
    llm = LLM("openai/m", base_url=url, api_key="none", **({"max_retries": 0} if off else {}))
    agent = Agent(role="r", goal="g", backstory="b", llm=llm, **off)
    task = Task(description="answer", expected_output="an answer", agent=agent)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        Crew(agents=[agent], tasks=[task]).kickoff()
        raise SystemExit("it has answered")
    return asked


print("crewai", version("crewai"))
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {status: requests_of(status) for status in (500, 429, 401)}
print("requests of one kickoff, by default:", seen)
off = {status: requests_of(status, max_retry_limit=0) for status in (500, 429, 401)}
print("with max_retries=0 and max_retry_limit=0:", off)
assert seen == {500: 9, 429: 27, 401: 3}, seen
assert off == {500: 1, 429: 3, 401: 1}, off
print("as described: 27 requests of a rate limit, and three with every switch off")
PY
