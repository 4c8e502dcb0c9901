"""What Pykka logs to the stdlib's `logging` comes to the log, and to loguru."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from loguru import logger

from greenroom.actors.runtime.event_bus import traced
from greenroom.logs.stdlib_sink import PYKKA
from greenroom.messages.errors import summary
from greenroom.messages.pickling import on_one_line


def _name_pykka(record: Any) -> None:
    record["name"] = PYKKA


_from_pykka = logger.patch(_name_pykka)


Put = Callable[[str, str, str, dict[str, Any]], None]
"""Takes a level, a source, what is said, and what else is known of it."""


class Bridge(logging.Handler):
    """Brings what Pykka logs to the log, and to those of loguru's sinks that have greenroom's."""

    def __init__(self, level: int, put: Put) -> None:
        self._put = put
        self._chatty = level <= logging.DEBUG
        super().__init__(level if self._chatty else max(level, logging.WARNING))
        self._source = logging.getLogger(PYKKA)
        self._before = (self._source.level, self._source.propagate)

    def install(self) -> None:
        self._before = (self._source.level, self._source.propagate)
        self._source.addHandler(self)
        # Else a root handler of the app's would print the same again.
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
            # A level between two (35, say) has no name that both know: it goes by the lower one.
            level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
            name = logging.getLevelName(level)
            said, fault = on_one_line(record.getMessage()), _fault(record)
            self._put(name, PYKKA, said, fault)
            _from_pykka.log(name, "{}", said, **fault)
        except Exception:
            self.handleError(record)


def _fault(record: logging.LogRecord) -> dict[str, str]:
    error = record.exc_info[1] if record.exc_info else None
    return {} if error is None else {"error": summary(error), "traceback": traced(error)}
