"""A recording as a file, as far as it is asked for: one of a million requests is not kept whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from greenroom.flight.flight_file import lines_of
from greenroom.flight.flight_lines import (
    BrokenLineError,
    FlightError,
    Header,
    LostLine,
    RequestLine,
)
from greenroom.flight.flight_log import FlightLog
from greenroom.flight.line_text import read

NAMES = ("flight.jsonl", "flight.jsonl.gz", "flight.jsonl.zst")
"""Where a recording is looked for that nobody names."""

_IS_REQUEST = '{"request":'


def newest_in(folder: Path) -> Path:
    """The recording there that was written to last.

    Raises:
        FlightError: there is none.
    """
    found = [path for name in NAMES if (path := folder / name).is_file()]
    if not found:
        raise FlightError(f"there is no recording here: none of {', '.join(NAMES)}")
    return max(found, key=lambda path: path.stat().st_mtime)


def log_with(path: str | os.PathLike[str], request_id: str | None = None) -> FlightLog:
    """What a file says of a request, and all else that is needed to explain it: of the last pool
    that had one of that id. Without an id: who was in what state in the last one.

    Raises:
        FlightError: it cannot be read, or has no such request.
    """
    if request_id is None:
        return _last(path, "")
    log = _last(path, f"{_IS_REQUEST}{json.dumps(request_id)},", request_id)
    line = log.requests.get(request_id)
    key = None if line is None else line.facts.get("key")
    if key is not None:
        for text in lines_of(path):
            if text.startswith(_IS_REQUEST) and f'"key":"{key}"' in text:
                with contextlib.suppress(FlightError):
                    other = read(text)
                    if isinstance(other, RequestLine) and other.id != request_id:
                        log.add(other)
    return log


def _last(path: str | os.PathLike[str], start: str, request_id: str | None = None) -> FlightLog:
    """The last pool's, without requests that do not start so."""
    found: FlightLog | None = None
    for log in logs_of(path, start):
        if request_id is None or request_id in log.requests or request_id in log.refused:
            found = log
    if found is None and request_id is None:
        raise FlightError(f"{path}: not a recording: it has no first line")
    if found is None:
        raise FlightError(f"{path}: nothing is recorded of a request {request_id!r}")
    return found


def logs_of(path: str | os.PathLike[str], start: str | None = None) -> Iterator[FlightLog]:
    """What each pool has recorded in that file, one after the other.

    Args:
        start: how the lines of the requests begin that are of interest; None: all are.

    Raises:
        FlightError: it cannot be read, or a line of it is none of a recording.
    """
    log: FlightLog | None = None
    last = ""
    for number, text in enumerate(lines_of(path), 1):
        if (
            start is not None
            and text.startswith(_IS_REQUEST)
            and not (start and text.startswith(start))
        ):
            last = text
            continue
        try:
            line = read(text)
        except BrokenLineError as error:
            if log is None:
                raise FlightError(f"{path}, line {number}: {error}") from None
            line = LostLine(count=1)
        except FlightError as error:
            raise FlightError(f"{path}, line {number}: {error}") from None
        if isinstance(line, Header):
            if log is not None:
                yield _until(log, last)
            log, last = FlightLog(line), ""
        elif log is None:
            raise FlightError(f"{path}, line {number}: not a recording: it has no first line")
        elif line is not None:
            log.add(line)
    if log is not None:
        yield _until(log, last)


def _until(log: FlightLog, last: str) -> FlightLog:
    """With the time of the last request that was passed by."""
    with contextlib.suppress(FlightError):
        line = read(last) if last else None
        if isinstance(line, RequestLine):
            log.last_at = max(log.last_at, line.at if line.end is None else line.end.at)
            log.look_at(line)
    return log
