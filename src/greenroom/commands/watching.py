"""What `greenroom top` does: it shows how pools stand, by their endpoint or by their log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.status_source import endpoint_of
from greenroom.commands.terminal import complain, is_open, is_terminal, say
from greenroom.commands.top_screen import Show, TopScreen
from greenroom.logs.followed_file import followed, lines_of, whole_lines
from greenroom.logs.log_filter import parsed
from greenroom.status.log_fold import LAST_EVENTS, LogFold
from greenroom.status.plain_status import Plain
from greenroom.status.status_client import StatusClient, StatusError
from greenroom.status.status_frame import text_of

Wait = Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Those of the command.

    Args:
        source: an endpoint, or a log in JSON; `-` is stdin.
        once: one frame, and no more.
        every_s: seconds from one frame to the next.
    """

    source: str
    once: bool = False
    every_s: float = 1.0


def carry_out(options: Options, wait: Wait = time.sleep) -> Exit:
    """Show how things stand, until Ctrl-C, or once: where it is asked for, where nobody looks
    (stdout is no terminal), and where nothing can be added (a log that comes by stdin or is
    compressed).

    Raises:
        UsageError: there is neither an endpoint nor a log there.
    """
    endpoint = endpoint_of(options.source)
    once = options.once or not is_terminal(sys.stdout)
    if endpoint is not None:
        return _show_endpoint(endpoint, options, once, wait)
    if once or options.source == "-" or options.source.endswith(".gz"):
        return _show_log(options.source)
    _follow_log(options, wait)
    return Exit.DONE


def _show_endpoint(client: StatusClient, options: Options, once: bool, wait: Wait) -> Exit:
    try:
        status = client.status(LAST_EVENTS)
    except StatusError as error:
        complain(error)
        return Exit.FAILED
    if once:
        _print(status, client.target)
        return Exit.DONE
    with TopScreen().shown() as show:
        while True:
            show(status, f"{client.target}, process {status.get('pid')}")
            wait(options.every_s)
            try:
                status = client.status(LAST_EVENTS)
            except StatusError as error:
                _wait_for(client, show, error, options.every_s, wait)


def _wait_for(
    client: StatusClient, show: Show, error: StatusError, every_s: float, wait: Wait
) -> None:
    """The last that was known stays, with why there is nothing newer."""
    while True:
        show(None, f"{error} (as it was last)")
        wait(every_s)
        try:
            client.status(0)
            return
        except StatusError as again:
            error = again


def _show_log(source: str) -> Exit:
    fold = LogFold()
    for text in _lines(source):
        line = parsed(text)
        if line is not None:
            fold.take(line)
    if not fold.lines:
        raise UsageError(
            f"{source}: no line of it is one of a log in JSON, as "
            'greenroom.log(format="json") writes it'
        )
    status = fold.plain()
    _print(status, f"{source}, as of {_last(status)}")
    return Exit.DONE


def _lines(source: str) -> Iterator[str]:
    if source == "-":
        if not is_open(sys.stdin):
            raise UsageError("there is no stdin to read")
        yield from whole_lines(cast(BufferedIOBase, sys.stdin.buffer))
        return
    try:
        yield from lines_of(Path(source))
    except (OSError, EOFError) as error:  # an EOFError: a .gz that is cut
        raise UsageError(f"{source}: {getattr(error, 'strerror', None) or error}") from error


def _follow_log(options: Options, wait: Wait) -> None:
    fold = LogFold()
    lines = followed(Path(options.source), lambda: wait(options.every_s))
    try:
        with TopScreen().shown() as show:
            for text in lines:
                if text is None:
                    show(fold.plain(time.time()), options.source)
                elif (line := parsed(text)) is not None:
                    fold.take(line)
    except OSError as error:
        raise UsageError(f"{options.source}: {error.strerror or error}") from error


def _last(status: Plain) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["at"]))


def _print(status: Plain, source: str) -> None:
    if is_terminal(sys.stdout):
        TopScreen().print(status, source)
        return
    for line in text_of(status, source):
        say(line)
