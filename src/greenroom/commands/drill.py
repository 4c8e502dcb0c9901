"""What `greenroom demo` works on, and where it shows what becomes of it."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import greenroom
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.terminal import is_terminal
from greenroom.demo.demo import REQUESTS, Demo, Plan, Start
from greenroom.demo.demo_agents import passages
from greenroom.demo.screen import PlainScreen, RichScreen, show_result
from greenroom.logs.log import log

READMES = ("README.md", "README.rst", "README.txt", "README")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MOST_BYTES = 4_000_000
"""Of a longer file, only this much is worked on."""
SUMMARY = "An outage drill."
DESCRIPTION = """\
Three agents (a coroutine, a blocking function, an object made on first use) count the words of a
file. One starts to fail, another to hang; the pool routes around them and takes them back. The log
goes to stderr, the result to stdout. Exit code 1 if an answer is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command; what is None is found out."""

    file: Path | None = None
    requests: int = REQUESTS
    seed: int = 7
    json: bool = False
    log_level: str = "INFO"
    progress: bool | None = None
    status: str | None = None


def at_least_one(text: str) -> int:
    """A number of requests.

    Raises:
        ValueError: it is none, or less than 1.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"must be a whole number of at least 1, got {text!r}")
    return number


def carry_out(options: Options, start: Start) -> Exit:
    """Run the drill, and print what came out.

    Raises:
        UsageError: there is no text to work on, or no rich for the bar.
    """
    source, text = _text(options.file)
    try:
        pieces = passages(text, options.requests)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    if options.status is not None:
        start = functools.partial(_start_shown, start, options.status)
    screen = _screen(options.progress)
    plan = Plan(requests=len(pieces), seed=options.seed)
    with screen.progress(len(pieces)) as on_progress:
        end_log = log(
            options.log_level,
            format="json" if options.json else "text",
            sink=screen.sink,
            colorize=None if screen.sink is None else True,
        )
        try:
            result = Demo(pieces, plan, start=start, on_progress=on_progress).run()
        finally:
            end_log()  # its last lines come while the bar is still there to print above
    show_result(screen, result, source)
    return Exit.DONE if result.ok else Exit.FAILED


def _start_shown(start: Start, status: str, *members: Any, **settings: Any) -> PoolRef:
    try:
        return start(*members, status=status, **settings)
    except OSError as error:  # nobody can listen there
        raise UsageError(error.strerror or str(error)) from None


def _screen(progress: bool | None) -> PlainScreen:
    if find_spec("rich") is None:
        if progress:
            raise UsageError('--progress needs rich: pip install "greenroom[cli]"')
        return PlainScreen()
    return RichScreen(bar=is_terminal(sys.stderr) if progress is None else progress)


def _text(file: Path | None) -> tuple[str, str]:
    """What to work on: its name, and the text itself."""
    if file is None:
        file = next((Path(name) for name in READMES if Path(name).is_file()), None)
    if file is None:
        docs = (inspect.getdoc(getattr(greenroom, name)) for name in greenroom.__all__)
        return "greenroom's own docs", "\n".join(doc for doc in docs if doc)
    try:
        with file.open("rb") as stream:
            return str(file), stream.read(MOST_BYTES).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
