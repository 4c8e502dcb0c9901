"""The log to the standard library's `logging`: each record at its level, with what it says of whom.

There is no way back from there: the log's source is neither loguru nor `logging`, but for Pykka's
logger, which is refused as a sink.
"""

from __future__ import annotations

import logging
from typing import Any

PYKKA = "pykka"
"""The logger that comes here: see `pykka_bridge`."""

_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What a record of `logging` has itself."""

_OF_EVERY: dict[str, Any] = {"event": "log", "pool": None, "member": None, "request_id": None}
"""What Pykka's records have as well, and one of lines that were lost: a format may name them."""


class StdlibSink:
    """A logger or a handler, behind one `write`.

    Args:
        whole_lines: whether the message is the rendered line; else it is what a sink of loguru
            would have, and the fields are attributes of the record in either case.

    Raises:
        ValueError: it is Pykka's logger, or below it.
    """

    def __init__(self, sink: logging.Logger | logging.Handler, whole_lines: bool) -> None:
        self._whole_lines = whole_lines
        self._handler: logging.Handler | None = None
        if isinstance(sink, logging.Handler):
            self._handler, self._logger = sink, logging.getLogger("greenroom")
        else:
            self._logger = sink
        if f"{sink.name}.".startswith(f"{PYKKA}."):
            raise ValueError(
                f"sink must not be Pykka's own logger, whose lines come here: {sink!r}"
            )

    def write(self, line: str, record: Any) -> None:
        """Hand a record over, if its level is wanted."""
        number = min(record["level"].no, logging.CRITICAL)
        wanted = self._logger if self._handler is None else None
        if wanted is not None and not wanted.isEnabledFor(number):
            return
        message = line.rstrip("\n") if self._whole_lines else record["message"]
        made = self._logger.makeRecord(
            self._logger.name, number, record["name"], 0, message, (), None
        )
        # When it happened, not when the log's thread has come to it.
        made.created = record["time"].timestamp()
        made.msecs = int((made.created - int(made.created)) * 1000) + 0.0
        for key, value in (_OF_EVERY | record["extra"]).items():
            if key not in _TAKEN and key != "described":
                setattr(made, key, value)
        if not self._whole_lines and isinstance(record["extra"].get("traceback"), str):
            made.exc_text = record["extra"]["traceback"]
        if self._handler is None:
            self._logger.handle(made)
        elif number >= self._handler.level:
            self._handler.handle(made)
