"""`greenroom.log`: what happens in the pools, a line for each event, for people or for machines.

Actors never wait for the log: they hand the record over, and one thread renders and writes it.
loguru's own `enqueue=True` would not do: its queue is a pipe of 64 KiB, which a terminal that has
been stopped fills with some fifty records, and then every actor that logs is stuck.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, Protocol

from loguru import logger

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.event_bus import keep_journal
from greenroom.logs.lines import TextLine, json_line, wants_colours
from greenroom.logs.pykka_bridge import Bridge
from greenroom.logs.writer import Target, Writer
from greenroom.messages import _validate as check
from greenroom.messages.events import Event
from greenroom.messages.pickling import redact_by

_LEVELS = "TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL"


class Stream(Protocol):
    """What is needed of a stream."""

    def write(self, text: str, /) -> Any: ...


Sink = (
    Stream | str | os.PathLike[str] | Callable[[str], Any] | logging.Logger | logging.Handler | None
)

_switch = threading.RLock()
_current: _Log | None = None


def log(
    level: str | None = "INFO",
    *,
    format: Literal["text", "json"] = "text",
    sink: Sink = None,
    colorize: bool | None = None,
    rotation: Any = None,
    retention: Any = None,
    compression: Any = None,
    redact: Callable[[str], str] | None = None,
) -> Callable[[], None]:
    """Show what happens in the pools.

    Calling it again replaces what the last call has set up. Sinks of the app's own get nothing of
    it: what they are to have of greenroom's, the app says by loguru's
    `logger.enable("greenroom")`, with this or without. Where it does, one thing is seen to: the
    handler on stderr that loguru itself installs leaves out greenroom's while this is on, so that
    nothing is printed twice.

    What Pykka logs to the stdlib's `logging` comes here too, its chatter below WARNING only at
    DEBUG; meanwhile the logger `pykka` does not propagate to the root logger.

    Args:
        level: the least level to show, the name of a loguru level; None switches the log off.
        format: `text` for people, in columns; `json` for machines: a flat object a line, with
            `ts` (UTC), `level`, `event`, `pool`, `member`, `request_id`, `message`, `pid` and the
            event's own fields; what is None is left out. No payload is ever shown in either.
        sink: where to: a stream (not closed), the path of a file to append to, a callable that is
            given each line, or a logger or handler of the stdlib's `logging`; None is stderr. It is
            only used by one thread of its own. A sink that cannot keep up loses lines rather than
            hold up the pools. A logger gets records at their level, with what an event has as
            attributes (`event`, `pool`, `member`, `request_id`, ...); by `format="json"` their
            message is the line, else what happened to whom.
        colorize: colours in the text; None: on a terminal, unless NO_COLOR is set or FORCE_COLOR
            demands them anywhere.
        rotation, retention, compression: of a file that `sink` is the path of, as
            `loguru.logger.add` has them: `rotation="100 MB"` or `"00:00"`, `retention="10 days"` or
            a number of files, `compression="gz"`. One process for each such file.
        redact: is given every error's text, what looks like a key being `***` already, before it
            gets into a log, an event, a span or the statistics; what it returns is shown. It is
            called in the actors' turns: quick, and from any thread. Where it raises, the text
            is `***`. It is the whole process's, until the next call of `log`.

    Returns:
        What writes the rest and switches the log off. Once replaced it does nothing.

    Raises:
        TypeError, ValueError: a level, format or sink that is none, named with the rule.
        OSError: the file cannot be opened.
    """
    global _current
    check.function("redact", redact, optional=True)
    if level is None:
        chosen = None
    else:
        number = _level_number(level)
        if format not in ("text", "json"):
            raise ValueError(f"format must be 'text' or 'json', got {format!r}")
        # Before the last log is switched off: a bad level or a file
        # that cannot be opened changes nothing.
        sink, json = sys.stderr if sink is None else sink, format == "json"
        target = Target(sink, rotation, retention, compression, whole_lines=json)
        text = TextLine(wants_colours(target.stream, colorize))
        chosen = _Log(number, Writer(target, json_line if json else text))
    with _switch:
        if _current is not None:
            _current.off()
        _current = chosen
        redact_by(redact)
        if chosen is not None:
            chosen.on()
    return lambda: _end(chosen)


def _renew_switch() -> None:
    global _switch
    _switch = threading.RLock()


forks.in_child(_renew_switch)


def _end(log: _Log | None) -> None:
    global _current
    with _switch:
        if log is not None and log is _current:
            _current = None
            log.off()


def _level_number(level: str) -> int:
    if not isinstance(level, str):
        raise TypeError(f"level must be a string or None, got {level!r} ({type(level).__name__})")
    # As it is first: an app may have levels of its own in small letters.
    for name in (level, level.upper()):
        with contextlib.suppress(ValueError):
            return logger.level(name).no
    raise ValueError(f"level must be None or one of {_LEVELS}, got {level!r}")


class _Log:
    """Everything that `log` switches on, and how it is put back. It is the event bus's journal."""

    def __init__(self, level: int, writer: Writer) -> None:
        self._level = level
        self._writer = writer
        self._bridge = Bridge(level, self.put)

    @property
    def least(self) -> float:
        return self._level

    def put(self, level: str, source: str, said: Event | str, extra: dict[str, Any]) -> None:
        if logger.level(level).no >= self._level:
            at = datetime.now().astimezone()
            self._writer.write(partial(_record, at, level, source, said, _bound() | extra))

    def on(self) -> None:
        _hide_from_default(True)
        self._bridge.install()
        keep_journal(self)  # last: by it event buses look at the filters again

    def off(self) -> None:
        self._bridge.remove()
        # Before the journal goes, by which event buses notice that they have to look again.
        _hide_from_default(False)
        keep_journal(None)
        self._writer.stop()


def _record(at: datetime, level: str, source: str, said: Event | str, extra: dict[str, Any]) -> Any:
    """What loguru would make of it, as far as a line is made of that."""
    if isinstance(said, Event):
        extra = extra | said.as_dict() | {"described": said.describe()}
    return {
        "time": at,
        "level": logger.level(level),
        "name": source,
        "message": str(said),
        "extra": extra,
        "process": SimpleNamespace(id=os.getpid()),
    }


def _bound() -> dict[str, Any]:
    """What the app has bound to all that it logs, by loguru's `contextualize` and `configure`.

    There is no public way to ask: where its internals look different, it is nothing.
    """
    try:
        from loguru._logger import context

        core: Any = logger._core  # type: ignore[attr-defined]
        return {**core.extra, **context.get()}
    except (AttributeError, ImportError, LookupError):
        return {}


def _at_exit() -> None:
    """The last lines are written before the process ends."""
    if _current is not None:
        _current.off()


atexit.register(_at_exit)


def _is_ours(record: Any) -> bool:
    name = record["name"] or ""
    return name in ("greenroom", "pykka") or name.startswith("greenroom.")


class _NotOurs:
    """A filter that leaves greenroom's records out; the event bus knows it by its attribute."""

    hides_greenroom = True

    def __call__(self, record: Any) -> bool:
        return not _is_ours(record)


_not_ours = _NotOurs()


def _hide_from_default(hide: bool) -> None:
    """Have loguru's own handler on stderr leave greenroom's records out, or no longer.

    loguru has no public way to change a handler; one put in its place would have another id, and
    the app's `logger.remove(0)` would raise. Where the internals look different, nothing is done.
    """
    with contextlib.suppress(AttributeError):
        handler: Any = logger._core.handlers.get(0)  # type: ignore[attr-defined]
        if hide and handler._name == "<stderr>" and handler._filter is None:
            handler._filter = _not_ours
        elif not hide and handler._filter is _not_ours:
            handler._filter = None
