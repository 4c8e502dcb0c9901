"""Programs of examples/ in processes of their own, as their servers run them."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers_gate import LIMIT_S
from helpers_pages import ROOT
from helpers_serving import Answer

EXAMPLES = ROOT / "examples"
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


class Program:
    """One that runs, with all that it has started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def said(self, pattern: str) -> re.Match[str]:
        """The first of its lines that has this; it waits for one."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._over, LIMIT_S)
            match = found()
        assert match, f"{pattern!r} is not in:\n{self.text}"
        return match

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        """To its own process, not to those that it has started."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status; it waits for that."""
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.text}") from None
        self._reader.join(LIMIT_S)
        return status

    def kill(self) -> None:
        """With its whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """A program with this folder, the examples and the helpers on its path; it ends with the block.

    Args:
        command: the arguments of a Python.
    """
    path = [str(folder), str(EXAMPLES), str(Path(__file__).parent)]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    own = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", **(environment or {})}
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**clean, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        program.kill()


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
