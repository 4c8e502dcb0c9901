"""The README's way from nothing to a pool over two servers that answers, as it stands there.
Behaviour 218.

`make test-clients ARGS=llmock` has it; elsewhere it is skipped.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_pages import FENCE, README, ROOT, text_of

for _package in ("llmock", "typer"):
    pytest.importorskip(
        _package, reason=f"{_package} is not installed: make test-clients ARGS=llmock has it"
    )

WAIT_S = 60.0
"""How long is waited for what must come: interpreters start slowly on a busy machine."""
FILE = "examples/two_servers.toml"


def said() -> list[str]:
    """The two lines of the README."""
    block: str
    (block,) = [text for _, text in FENCE.findall(text_of(README)) if text.startswith("llmock ")]
    return block.splitlines()


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Shell:
    """In a folder with the file, where the two ports are others: these may be somebody's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start, self._ask = said()
        self._ports = dict(
            zip(re.findall(r"--port (\d+)", self._start), free_ports(2), strict=True)
        )
        # Where greenroom is installed this is there; here it is on the path of modules alone.
        script = folder / "bin" / "greenroom"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m greenroom "$@"\n')
        script.chmod(0o755)
        scripts = [str(script.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        modules = [each for each in sys.path if each]
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join(scripts),
            "PYTHONPATH": os.pathsep.join(modules),
        }
        file = folder / FILE
        file.parent.mkdir()
        file.write_text(self._moved((ROOT / FILE).read_text(encoding="utf-8")))

    def _moved(self, text: str) -> str:
        for old, new in self._ports.items():
            assert old in text
            text = text.replace(old, new)
        return text

    def start(self) -> subprocess.Popen[str]:
        """Run the first line, until both servers listen."""
        shell = subprocess.Popen(
            self._moved(self._start) + " wait",
            shell=True,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert shell.stdout is not None
        lines: list[str] = []
        while sum("running on http" in each for each in lines) < 2:
            lines.append(shell.stdout.readline())
            assert lines[-1], "".join(lines)
        return shell

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            shell=True,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def ask(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the second line."""
        return self.run(shlex.join([*shlex.split(self._ask), *options]))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    running = made.start()
    try:
        yield made
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=WAIT_S)


def test_two_lines_are_enough_for_an_answer_of_two_servers(shell: Shell) -> None:
    """The first is down, so the second answers; the log and `check` say so."""
    done = shell.ask()
    assert (done.returncode, done.stderr) == (0, "")
    assert "gpt-4o" in done.stdout or "hello" in done.stdout
    assert "attempt.failed" in shell.ask("-v").stderr
    check = shell.run(f"greenroom check -c {FILE}")
    assert check.returncode == 1
    first, second = check.stdout.splitlines()
    assert first.startswith("first: unavailable")
    assert second.startswith("second: ok")
