"""`greenroom.log`: what happens in the pools, a line for each event, for people or for machines.

Actors never wait for the log: they hand the record over, and one thread renders and writes it.
loguru's own `enqueue=True` would not do: its queue is a pipe of 64 KiB, which a terminal that has
been stopped fills with some fifty records, and then every actor that logs is stuck.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from loguru import logger

from greenroom.messages.errors import summary
from greenroom.messages.events import CATALOGUE, PoolStarted

BACKLOG = 10_000
"""How many records may wait for a slow sink; what comes on top is lost, and counted in the log."""
CLOSE_TIMEOUT_S = 2.0
"""How long switching off (and the end of the process) waits for a slow sink."""
WIDEST_NAME = 24
"""The text columns grow with the names of pools and members, up to this many characters."""

_EVENT_NAMES = frozenset(event.name for event in CATALOGUE)
_EVENT_WIDTH = max(map(len, _EVENT_NAMES))
_LEVELS = "TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL"

Render = Callable[[Any], str]


class Stream(Protocol):
    """What is needed of a stream."""

    def write(self, text: str, /) -> Any: ...


Sink = Stream | str | os.PathLike[str] | Callable[[str], Any] | None

_switch = threading.RLock()
_current: _Log | None = None


def log(
    level: str | None = "INFO",
    *,
    format: Literal["text", "json"] = "text",
    sink: Sink = None,
    colorize: bool | None = None,
) -> Callable[[], None]:
    """Show what happens in the pools.

    Calling it again replaces what the last call has set up. Sinks of the app's own are left alone:
    they get greenroom's records as well while this is on (and with loguru's
    `logger.enable("greenroom")` they get them without this). One thing is seen to: the handler on
    stderr that loguru itself installs goes on with the app's messages, but leaves out greenroom's,
    so that nothing is printed twice.

    What Pykka logs to the stdlib's `logging` comes here too, its chatter below WARNING only at
    DEBUG; meanwhile the logger `pykka` does not propagate to the root logger.

    Args:
        level: the least level to show, the name of a loguru level; None switches the log off.
        format: `text` for people, in columns; `json` for machines: a flat object a line, with
            `ts` (UTC), `level`, `event`, `pool`, `member`, `request_id`, `message` and the event's
            own fields; what is None is left out. No payload is ever shown in either.
        sink: where to: a stream (not closed), the path of a file to append to, or a callable that
            is given each line; None is stderr. It is only used by one thread of its own. A sink
            that cannot keep up loses lines rather than hold up the pools.
        colorize: colours in the text; None: on a terminal, unless NO_COLOR is set or FORCE_COLOR
            demands them anywhere.

    Returns:
        What writes the rest and switches it off again (it does nothing once it has been replaced).

    Raises:
        TypeError, ValueError: a level, format or sink that is none, named with the rule.
        OSError: the file cannot be opened.
    """
    global _current
    if level is None:
        chosen = None
    else:
        number = _level_number(level)
        if format not in ("text", "json"):
            raise ValueError(f"format must be 'text' or 'json', got {format!r}")
        target = _Target(sys.stderr if sink is None else sink)
        render = _json if format == "json" else _Text(_colours(target.stream, colorize))
        chosen = _Log(number, _Writer(target, render))
    with _switch:
        if _current is not None:
            _current.off()
        _current = chosen
        if chosen is not None:
            chosen.on()
    return lambda: _end(chosen)


def _end(log: _Log | None) -> None:
    global _current
    with _switch:
        if log is not None and log is _current:
            _current = None
            log.off()


def _level_number(level: str) -> int:
    if not isinstance(level, str):
        raise TypeError(f"level must be a string or None, got {level!r} ({type(level).__name__})")
    for name in (level, level.upper()):
        with contextlib.suppress(ValueError):
            return logger.level(name).no
    raise ValueError(f"level must be None or one of {_LEVELS}, got {level!r}")


class _Log:
    """Everything that `log` switches on, and how it is put back."""

    def __init__(self, level: int, writer: _Writer) -> None:
        self._level = level
        self._writer = writer
        self._bridge = _Bridge(level)
        self._id = -1

    def on(self) -> None:
        self._id = logger.add(
            self._writer,
            level=self._level,
            format=_no_text,  # the writer's thread makes the text
            filter=_is_ours,
            colorize=False,
            backtrace=False,
            diagnose=False,  # it would show the values of variables: payloads
        )
        _hide_from_default(True)
        self._bridge.install()
        logger.enable("greenroom")

    def off(self) -> None:
        logger.disable("greenroom")
        self._bridge.remove()
        _hide_from_default(False)
        with contextlib.suppress(ValueError):  # the app may have removed every handler
            logger.remove(self._id)


def _no_text(_: Any) -> str:
    return ""


def _is_ours(record: Any) -> bool:
    name = record["name"] or ""
    return name in ("greenroom", "pykka") or name.startswith("greenroom.")


def _is_not_ours(record: Any) -> bool:
    return not _is_ours(record)


def _hide_from_default(hide: bool) -> None:
    """Have loguru's own handler on stderr leave greenroom's records out, or no longer.

    loguru has no public way to change a handler; one put in its place would have another id, and
    the app's `logger.remove(0)` would raise. Where the internals look different, nothing is done.
    """
    with contextlib.suppress(AttributeError):
        handler: Any = logger._core.handlers.get(0)  # type: ignore[attr-defined]
        if hide and handler._name == "<stderr>" and handler._filter is None:
            handler._filter = _is_not_ours
        elif not hide and handler._filter is _is_not_ours:
            handler._filter = None


def _name_pykka(record: Any) -> None:
    record["name"] = "pykka"


_from_pykka = logger.patch(_name_pykka)


class _Bridge(logging.Handler):
    """Brings what Pykka logs to loguru."""

    def __init__(self, level: int) -> None:
        self._chatty = level <= logging.DEBUG
        super().__init__(level if self._chatty else max(level, logging.WARNING))
        self._source = logging.getLogger("pykka")
        self._before = (self._source.level, self._source.propagate)

    def install(self) -> None:
        self._before = (self._source.level, self._source.propagate)
        self._source.addHandler(self)
        self._source.propagate = False
        if self._chatty:
            self._source.setLevel(logging.DEBUG)

    def remove(self) -> None:
        self._source.removeHandler(self)
        level, self._source.propagate = self._before
        if self._chatty:
            self._source.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = min(record.levelno // 10 * 10, logging.CRITICAL)
            _from_pykka.opt(exception=record.exc_info).log(
                logging.getLevelName(level), "{}", record.getMessage()
            )
        except Exception:
            self.handleError(record)


class _Target:
    """Where the lines go, behind one `write`."""

    def __init__(self, sink: Any) -> None:
        self.stream: Any = None
        self._call: Callable[[str], Any] | None = None
        self._owned = isinstance(sink, str | os.PathLike)
        if self._owned:
            self.stream = open(sink, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        elif callable(getattr(sink, "write", None)):
            self.stream = sink
        elif callable(sink):
            self._call = sink
        elif sink is not None:  # it is where a process has no stderr
            raise TypeError(
                "sink must be a stream, a path, a callable or None, "
                f"got {sink!r} ({type(sink).__name__})"
            )

    def write(self, line: str) -> None:
        if self._call is not None:
            self._call(line)
        elif self.stream is not None:
            self._write_text(line)

    def _write_text(self, line: str) -> None:
        try:
            self.stream.write(line)
        except UnicodeEncodeError:  # half a surrogate pair in an error's text, or an ASCII stream
            self.stream.write(line.encode("ascii", "backslashreplace").decode())

    def flush(self) -> None:
        flush = getattr(self.stream, "flush", None)
        if flush is not None:
            flush()

    def close(self) -> None:
        if self._owned:
            self.stream.close()


class _Writer:
    """A loguru sink that never waits: a thread renders and writes what was put."""

    def __init__(self, target: _Target, render: Render) -> None:
        self._target = target
        self._render = render
        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lost = 0
        self._complained = False

    def write(self, message: Any) -> None:
        """Called by loguru, one record at a time."""
        if self._pid != os.getpid():  # the first record, or the first since a fork
            self._start()
        if self._records.qsize() >= BACKLOG:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        self._records.put((message.record, lost))

    def stop(self) -> None:
        """Called by loguru when the handler is removed, and at the end of the process."""
        if self._thread is not None and self._pid == os.getpid():
            self._records.put(None)
            self._thread.join(CLOSE_TIMEOUT_S)
        else:
            self._target.close()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._records = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._write_all, args=(self._records,), name="greenroom-log", daemon=True
        )
        self._thread.start()

    def _write_all(self, records: queue.SimpleQueue[Any]) -> None:
        while (entry := records.get()) is not None:
            self._try(self._write, *entry)
            if records.empty():
                self._try(self._target.flush)
            entry = None  # an idle thread keeps no exception alive, nor what its frames hold
        if self._lost:
            self._try(self._write_loss, self._lost)
        self._try(self._target.flush)
        self._try(self._target.close)

    def _write(self, record: Any, lost: int) -> None:
        if lost:
            self._write_loss(lost)
        self._target.write(self._render(record) + "\n")

    def _write_loss(self, lost: int) -> None:
        record = {
            "time": datetime.now(UTC).astimezone(),
            "level": logger.level("WARNING"),
            "name": __name__,
            "message": f"{lost} lines of the log were lost here: its sink is too slow",
            "extra": {},
            "exception": None,
        }
        self._target.write(self._render(record) + "\n")

    def _try(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # a closed stream, or whatever a user's callable does
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        """Once and to stderr, past the log."""
        if not self._complained:
            self._complained = True
            with contextlib.suppress(Exception):
                print(f"greenroom.log: the sink raised {summary(error)}", file=sys.stderr)


def _event_of(record: Any) -> str:
    """The catalogue's name of what happened; `log` for a fault that is no event."""
    event = record["extra"].get("event")
    return event if isinstance(event, str) and event in _EVENT_NAMES else "log"


def _traceback_of(exception: Any) -> str:
    return "".join(traceback.format_exception(*exception)).rstrip()


def _json(record: Any) -> str:
    """A flat object; of the app's own `extra` only plain values are let in."""
    extra = record["extra"]
    event = _event_of(record)
    line: dict[str, Any] = {
        "ts": record["time"].astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": record["level"].name,
        "event": event,
        "pool": _plain_value(extra.get("pool")),
        "member": _plain_value(extra.get("member")),
        "request_id": _plain_value(extra.get("request_id")),
        "message": extra.get("described", record["message"]),
    }
    if event == "log":
        line["logger"] = record["name"]
    for key, value in extra.items():
        if key not in line and key != "described":
            line[key] = _plain_value(value)
    if record["exception"] is not None:
        line["error"] = summary(record["exception"].value)
        line["traceback"] = _traceback_of(record["exception"])
    return json.dumps({key: value for key, value in line.items() if value is not None})


def _plain_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int) else None


_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_BOLD = "\x1b[1m"
_LEVEL_COLOURS = ((50, "\x1b[1;97;41m"), (40, "\x1b[31m"), (30, "\x1b[33m"), (20, "\x1b[32m"))

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


class _Text:
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
        if event == PoolStarted.name:
            self._fit_members(extra.get("members"))
        cells = [
            self._paint(_DIM, record["time"].strftime("%H:%M:%S.") + _milliseconds(record)),
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
        line = "  ".join(cells).rstrip()
        if record["exception"] is not None:
            line += "\n" + _traceback_of(record["exception"]).translate(_CONTROLS_OF_BLOCK)
        return line

    def _fit_members(self, members: Any) -> None:
        for member in str(members).split(", "):
            self._member.fit(_name(member))

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._coloured else text


def _milliseconds(record: Any) -> str:
    return f"{record['time'].microsecond // 1000:03d}"


def _name(value: Any) -> str:
    return str(value).translate(_CONTROLS) if value else "-"


def _beyond(event: str, described: str) -> str:
    """What the description says beyond the event's name, which stands in the column before it."""
    head = event.replace(".", " ").replace("_", " ")
    if not described.startswith(head):
        return described
    rest = described[len(head) :].lstrip(" :;,")
    return rest[1:-1] if rest.startswith("(") and rest.find(")") == len(rest) - 1 else rest


def _colours(stream: Any, wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
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
