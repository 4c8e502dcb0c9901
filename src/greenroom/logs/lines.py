"""A record of the log as a line: columns for people, or a JSON object for machines."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import textwrap
from datetime import UTC
from typing import Any

from greenroom.messages.events import CATALOGUE, PoolStarted

WIDEST_NAME = 24
"""The text columns grow with the names of pools and members, up to this many characters."""

_EVENT_NAMES = frozenset(event.name for event in CATALOGUE)
_EVENT_WIDTH = max(map(len, _EVENT_NAMES))

# Where a description says the same as the event's name by another word.
_IN_OTHER_WORDS = {
    "exhausted": "failed",
    "failover": "failed over",
    "gave up": "given up",
    "ok": "passed",
}


def _head(name: str) -> re.Pattern[str]:
    """How the description of such an event begins where it repeats the event's name.

    `attempt 2 failed` repeats `attempt.failed`; but its number needs the noun.
    """
    noun, _, verb = (
        _IN_OTHER_WORDS.get(part, part) for part in name.replace("_", " ").partition(".")
    )
    return re.compile(rf"(?:(?P<numbered>{noun} \d+)|{noun})(?: {verb})?\b[ :;,]*")


_HEADS = {name: _head(name) for name in _EVENT_NAMES}


def _event_of(record: Any) -> str:
    """The catalogue's name of what happened; `log` for a fault that is no event."""
    event = record["extra"].get("event")
    return event if isinstance(event, str) and event in _EVENT_NAMES else "log"


def json_line(record: Any) -> str:
    """A flat object; of the app's own `extra` only plain values are let in."""
    extra = record["extra"]
    event = _event_of(record)
    line: dict[str, Any] = {
        # Without `+00:00`, six characters: Z is what log collectors expect.
        "ts": record["time"].astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": record["level"].name,
        "event": event,
        "pool": _plain_value(extra.get("pool")),
        "member": _plain_value(extra.get("member")),
        "request_id": _plain_value(extra.get("request_id")),
        "message": extra.get("described", record["message"]),
        # Several processes may write to one file.
        "pid": record["process"].id,
    }
    if event == "log":
        line["logger"] = record["name"]
    for key, value in extra.items():
        # The fields of every line win: an app's own extra named `level` must not hide the record's.
        if key not in line and key != "described":
            line[key] = _plain_value(value)
    return json.dumps({key: value for key, value in line.items() if value is not None})


def _plain_value(value: Any) -> Any:
    if isinstance(value, float):
        # NaN and Infinity are no JSON, though `json.dumps` writes them.
        return round(value, 6) if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int) else None


_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_BOLD = "\x1b[1m"
_LEVEL_COLOURS = ((50, "\x1b[1;97;41m"), (40, "\x1b[31m"), (30, "\x1b[33m"), (20, "\x1b[32m"))

# An error's text comes from outside: it must neither forge a second line nor move the cursor.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
_CONTROLS_OF_BLOCK = {code: text for code, text in _CONTROLS.items() if chr(code) not in "\n\t"}


class _Column:
    """Pads to the widest text so far, so that names of any length line up before long."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, text: str) -> str:
        self.fit(text)
        return text.ljust(self._width)

    def fit(self, text: str) -> None:
        self._width = max(self._width, min(len(text), WIDEST_NAME))


class TextLine:
    """Time, level, pool, member, event, what happened; then a dim request id."""

    def __init__(self, coloured: bool) -> None:
        self._coloured = coloured
        self._pool = _Column(6)
        self._member = _Column(8)

    def __call__(self, record: Any) -> str:
        extra, event = record["extra"], _event_of(record)
        level = record["level"]
        colour = next((code for least, code in _LEVEL_COLOURS if level.no >= least), _DIM)
        name = "pykka" if record["name"] == "pykka" else event
        # All names at once, before the first line of a member: the
        # columns need not widen one by one.
        if event == PoolStarted.name:
            for member in str(extra.get("members")).split(", "):
                self._member.fit(_name(member))
        cells = [
            self._paint(_DIM, record["time"].strftime("%H:%M:%S.%f")[:-3]),
            self._paint(colour, f"{level.name:<8}"),
            self._pool(_name(extra.get("pool"))),
            self._paint(_BOLD, self._member(_name(extra.get("member")))),
            self._paint(colour, f"{name:<{_EVENT_WIDTH}}"),
        ]
        told = _beyond(event, extra.get("described", record["message"]))
        if told:
            cells.append(told.translate(_CONTROLS))
        if extra.get("request_id"):
            cells.append(self._paint(_DIM, f"#{_name(extra['request_id'])}"))
        if event != "log" and extra.get("metadata"):
            cells.append(self._paint(_DIM, _name(extra["metadata"])))
        line = "  ".join(cells).rstrip()
        if isinstance(extra.get("traceback"), str):
            line += "\n" + textwrap.indent(extra["traceback"].translate(_CONTROLS_OF_BLOCK), "  ")
        return line

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._coloured else text


def _name(value: Any) -> str:
    return str(value).translate(_CONTROLS) if value else "-"


def _beyond(event: str, described: str) -> str:
    """What the description says beyond the event's name, which stands in the column before it."""
    head = _HEADS[event].match(described) if event in _HEADS else None
    if head is None:
        return described
    rest = described[head.end() :]
    if head["numbered"]:
        return f"{head['numbered']} {rest}".rstrip()
    return rest[1:-1] if rest.startswith("(") and rest.find(")") == len(rest) - 1 else rest


def wants_colours(stream: Any, wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
    # Set and not empty, as no-color.org has it; it is stronger than FORCE_COLOR.
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if sys.platform == "win32" or os.environ.get("TERM") == "dumb":
        return False
    try:
        return bool(stream.isatty())
    except Exception:  # no stream, a closed one, or one that does not say
        return False
