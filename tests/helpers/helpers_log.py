"""What the tests of the log share."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import Any

import greenroom
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import Event

SECRET = "the-payload-that-nobody-may-read"
NASTY = "<red>{x}</red> {0} {} </> <b> %s"


@contextlib.contextmanager
def logged(level: str = "INFO", **options: Any) -> Iterator[Callable[[], list[str]]]:
    """The log while the block runs; ask for its lines after the block."""
    sink = io.StringIO()
    off = greenroom.log(level, sink=sink, **options)
    try:
        yield lambda: sink.getvalue().splitlines()
    finally:
        off()


def emit(*events: Event) -> None:
    bus = EventBus("writers")
    for event in events:
        bus.emit(event)


def filled(event: type[Event]) -> Event:
    """An event with something nasty in every field that takes a string."""
    values: dict[str, Any] = {"pool": "writers", "member": "claude", "request_id": "writers-1"}
    for field in dataclasses.fields(event):
        if field.type == "str" and field.name not in values:
            values[field.name] = NASTY
    return event(**values)
