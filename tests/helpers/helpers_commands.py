"""Files of pools for the commands, and the commands as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from helpers_processes import PROCESS_S, bounded

SHOWN = Event()
"""Set by a test that runs a command in its own process: something of an answer has been shown."""

MODULE = """
import asyncio, contextlib, pathlib, threading
from greenroom import CallContext

with contextlib.suppress(ImportError):  # a process of its own has not got them
    import helpers_commands

async def down(prompt):
    raise ConnectionError("connection refused")

def upper(prompt):
    return prompt.upper()

async def tale(prompt):
    for word in ("Once ", "upon ", "a ", "time"):
        yield word

async def torn(prompt):
    yield "Once "
    raise ConnectionError("connection lost")

async def torn_when_shown(prompt):
    yield "Once "
    await asyncio.to_thread(helpers_commands.SHOWN.wait, 60.0)
    raise ConnectionError("connection lost")

async def hostile(prompt):
    yield "\\x1b[2Jred\\x07"

class Refusal(Exception):
    status_code = 400

def choosy(prompt):
    raise Refusal("no such prompt")

def table(prompt):
    return {"prompt": prompt}

async def described(prompt, context: CallContext):
    context.describe(model="m-7", usage={"tokens": 3})
    return prompt

async def endless(prompt):
    yield "begun\\n"
    try:
        await asyncio.Event().wait()
    finally:
        pathlib.Path("cancelled").touch()

def stuck(prompt):
    print("begun", flush=True)
    threading.Event().wait()
"""
"""Agents; it is a module of its own for each test, so that none has another one's."""

INTERRUPTIBLE = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    number = getattr(signal, name, None)
    if number is not None:
        ours = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        signal.signal(number, ours)
from greenroom.cli import main
sys.exit(main())
"""
"""As `python -m greenroom`, but no signal is ignored, as it may be by whoever runs the tests."""


def python_members(*agents: str) -> str:
    """Each is named as its agent is."""
    return "".join(
        f'[[members]]\nname = "{agent}"\nkind = "python"\nagent = "{{module}}:{agent}"\n'
        for agent in agents
    )


def openai_member(name: str, url: str, **settings: str) -> str:
    """A member that asks a server."""
    rest = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
    return f'[[members]]\nname = "{name}"\nkind = "openai"\nbase_url = "{url}"\n{rest}'


def command_member(name: str, *argv: str) -> str:
    """A member that runs a command."""
    return f'[[members]]\nname = "{name}"\nkind = "command"\nargv = {json.dumps(argv)}\n'


def process(
    folder: Path, *arguments: str, **options: Any
) -> AbstractContextManager[subprocess.Popen[str]]:
    """The command line in a process of its own."""
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    return bounded(running)


class Models(BaseHTTPRequestHandler):
    """A server of models: what a path begins with says how it answers."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["authorization"].removeprefix("Bearer ")
        status = int(self.path.split("/")[1])
        said: dict[str, Any] = {"error": {"message": f"{status} for {key} and {asked['model']}"}}
        if status == 200:
            message = {"role": "assistant", "content": "ready"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            said = {"id": "c", "object": "chat.completion", "model": "m-1", "choices": [choice]}
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def models() -> Iterator[str]:
    """Where such a server is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(PROCESS_S)
