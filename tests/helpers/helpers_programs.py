"""Programs of examples/ in processes of their own, as their servers run them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from helpers_gate import LIMIT_S
from helpers_pages import ROOT

EXAMPLES = ROOT / "examples"


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
