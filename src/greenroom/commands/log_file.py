"""A log that a command reads: a file, which may be compressed, or stdin."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from greenroom.commands.exits import UsageError
from greenroom.commands.terminal import is_open
from greenroom.logs.followed_file import lines_of, whole_lines

NO_LOG = '{file}: no line of it is one of a log in JSON, as greenroom.log(format="json") writes it'


def log_lines(file: str) -> Iterator[str]:
    """The lines of a file; of stdin, if it is `-`.

    Raises:
        UsageError: it cannot be read.
    """
    if file == "-":
        if not is_open(sys.stdin):
            raise UsageError("there is no stdin to read")
        yield from whole_lines(cast(BufferedIOBase, sys.stdin.buffer))
        return
    try:
        yield from lines_of(Path(file))
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(file, error) from error


def unreadable(file: str, error: OSError | EOFError | zlib.error) -> UsageError:
    """Why a file cannot be read; an EOFError or a zlib.error: a .gz that is cut or damaged."""
    return UsageError(f"{file}: {getattr(error, 'strerror', None) or error}")
