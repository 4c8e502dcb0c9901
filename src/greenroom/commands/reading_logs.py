"""What `greenroom logs` does."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.log_file import NO_LOG, log_lines, unreadable
from greenroom.commands.terminal import complain, harmless, is_terminal, say
from greenroom.logs.followed_file import followed
from greenroom.logs.lines import TextLine, wants_colours
from greenroom.logs.log_filter import LEVELS, Line, LogFilter, Tally, time_of

LOOK_S = 0.25
"""How often a file that is followed is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Those of the command.

    Args:
        file: the path of the log; `-` is stdin.
        wanted: which lines.
        last: only so many of what is there already; None: all.
        follow: go on with what is written from now on.
        json: the lines as they stand there.
    """

    file: str
    wanted: LogFilter
    last: int | None = None
    follow: bool = False
    json: bool = False


def carry_out(options: Options, wait: Callable[[], object] = lambda: time.sleep(LOOK_S)) -> Exit:
    """Show what is wanted.

    Raises:
        UsageError: there is no such file, or nothing of it is a line of a log.
    """
    show = _show_text() if not options.json else _show_json
    # Until all has been read that is there already.
    held: deque[tuple[Line, str]] | None = deque(maxlen=options.last)

    def take(line: Line, text: str) -> None:
        if held is None or options.last is None:
            show(line, text)
        else:
            held.append((line, text))

    tally = Tally(take, options.wanted)
    for line in _lines(options, wait):
        if line is not None:
            tally.take(line)
        elif held is not None:
            _all_of(held, show)
            held = None
    _all_of(held or (), show)
    if tally.foreign and not tally.lines:
        raise UsageError(NO_LOG.format(file=options.file))
    if tally.foreign:
        complain(f"{options.file}: left out {tally.foreign} lines that are none of the log")
    return Exit.DONE


_Show = Callable[[Line, str], None]


def _all_of(held: Iterable[tuple[Line, str]], show: _Show) -> None:
    for line, text in held:
        show(line, text)


def _lines(options: Options, wait: Callable[[], object]) -> Iterator[str | None]:
    if options.file == "-" or not options.follow:
        yield from log_lines(options.file)
        return
    try:
        yield from followed(Path(options.file), wait)
    except OSError as error:
        raise unreadable(options.file, error) from error


def _show_json(_: Line, text: str) -> None:
    say(text)


def _show_text() -> _Show:
    render = TextLine(is_terminal(sys.stdout) and wants_colours(sys.stdout, None))

    def show(line: Line, _: str) -> None:
        # What is in it from elsewhere is escaped already; the colours are to stay.
        say(render(_record(line)), is_harmless=True)

    return show


def _record(line: Line) -> dict[str, Any]:
    """What loguru would have given to the log, as far as a line is made of it."""
    at = time_of(line)
    assert at is not None  # `parsed` has seen to that
    name = line["level"] if line["level"] in LEVELS else harmless(str(line["level"]))
    return {
        "time": at.astimezone(),
        "level": SimpleNamespace(name=name, no=LEVELS.get(name, LEVELS["INFO"])),
        "name": line.get("logger", "greenroom"),
        "message": str(line.get("message", "")),
        "extra": dict(line),
    }
