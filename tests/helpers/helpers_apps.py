"""The web apps of examples/, and clients for them."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers_gate import LIMIT_S
from helpers_programs import EXAMPLES
from helpers_serving import Answer

URL = r"(http://127\.0\.0\.1:\d+)"
"""What servers say when they listen."""


def module_of(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example, imported anew but not run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Client:
    """One connection to a server, kept open as far as the server does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=LIMIT_S
        )

    def send(self, path: str, text: str | None = None) -> None:
        """A POST of a prompt; a GET without one. Its answer is not waited for."""
        if text is None:
            self._connection.request("GET", path)
            return
        body = json.dumps({"text": text}).encode()
        heads = {"content-type": "application/json"}
        self._connection.request("POST", path, body, heads)

    def begun(self) -> http.client.HTTPResponse:
        """The answer, as soon as it begins."""
        return self._connection.getresponse()

    def answer(self) -> Answer:
        """The whole of it."""
        got = self.begun()
        heads = {name.lower(): value for name, value in got.getheaders()}
        return Answer(got.status, heads, got.read())

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def client(url: str) -> Iterator[Client]:
    with contextlib.closing(Client(url)) as connected:
        yield connected


def asked(url: str, path: str, text: str | None = None) -> Answer:
    """One request on a connection of its own."""
    with client(url) as connected:
        connected.send(path, text)
        return connected.answer()


def events(answer: Answer) -> list[Any]:
    """The data of server-sent events."""
    return [
        json.loads(each.split("data: ", 1)[1]) for each in answer.body.decode().split("\n\n")[:-1]
    ]
