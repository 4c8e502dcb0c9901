"""A provider of chat completions on loopback: does as the URL says, keeps what it was asked.

It answers, fails, or cuts its stream; one that is offered a tool calls it first.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

PIECES = ("It ", "is ", "42.")
ANSWER = "".join(PIECES)

Asked = dict[str, Any]
Script = Callable[[Asked], dict[str, Any]]
"""The assistant's message to the body of a request: with `content` or `tool_calls`."""


def talk(asked: Asked) -> dict[str, Any]:
    """Calls the first tool that it is offered, and answers once it has its result."""
    tools = asked.get("tools")
    if tools and all(each["role"] != "tool" for each in asked["messages"]):
        return calling(tools[0]["function"]["name"])
    return {"content": ANSWER}


def calling(tool: str, **arguments: Any) -> dict[str, Any]:
    """A message that calls one tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


@dataclass(slots=True)
class Backend:
    """One place at the provider.

    Attributes:
        does: "answer", "cut" (a stream, before its end), or the status of an error.
        asked: the bodies of its requests.
    """

    url: str
    does: str
    script: Script
    asked: list[Asked] = field(default_factory=list)


class Provider:
    """Runs in threads of its own, for as long as the block of `running` lasts."""

    def __init__(self) -> None:
        self._backends: dict[str, Backend] = {}
        self._numbers = itertools.count(1)
        self._root = ""

    @contextmanager
    def running(self) -> Iterator[Provider]:
        handler = type("Handler", (_Handler,), {"backends": self._backends})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            self._root = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield self
            finally:
                server.shutdown()

    def backend(self, does: str = "answer", script: Script = talk) -> Backend:
        """A new place; it counts its own requests."""
        key = f"{next(self._numbers)}"
        made = Backend(f"{self._root}/{key}/v1", does, script)
        self._backends[key] = made
        return made


class _Handler(BaseHTTPRequestHandler):
    backends: ClassVar[dict[str, Backend]]

    def do_POST(self) -> None:
        backend = self.backends[self.path.split("/")[1]]
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        backend.asked.append(asked)
        if backend.does.isdigit():
            error = {"message": "The server is busy.", "type": "server_error", "code": None}
            self._send(int(backend.does), "application/json", json.dumps({"error": error}))
            return
        message = {"role": "assistant"} | backend.script(asked)
        if asked.get("stream"):
            events = _events(message, asked, cut=backend.does == "cut")
            self._send(200, "text/event-stream", "".join(events))
        else:
            self._send(200, "application/json", json.dumps(_completion(message, asked)))

    def _send(self, status: int, content: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content)
        self.send_header("retry-after-ms", "1")  # those who know it do not make the tests wait
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _reason(message: dict[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _completion(message: dict[str, Any], asked: Asked) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": _reason(message)}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return _head("chat.completion", asked) | {"choices": [choice], "usage": usage}


def _events(message: dict[str, Any], asked: Asked, cut: bool) -> Iterator[str]:
    """Text word by word; a tool's call in one piece."""
    if message.get("tool_calls"):
        calls = [{"index": i, **call} for i, call in enumerate(message["tool_calls"])]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "tool_calls": calls}]
    else:
        words = re.findall(r"\S+\s*", message["content"])
        deltas = [{"role": "assistant", "content": word} for word in words]
    for delta in deltas[: len(deltas) - cut]:
        yield _event(asked, delta, None)
    if not cut:
        yield _event(asked, {}, _reason(message))
        yield "data: [DONE]\n\n"


def _event(asked: Asked, delta: dict[str, Any], reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = _head("chat.completion.chunk", asked) | {"choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


def _head(kind: str, asked: Asked) -> dict[str, Any]:
    return {"id": "c1", "object": kind, "created": 1, "model": asked.get("model", "none")}
