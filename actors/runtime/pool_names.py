"""The names of the pools of this process: no two that are there at a time have the same."""

from __future__ import annotations

import threading
import weakref

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.event_bus import EventBus

# By the buses, weakly: a pool that a signal handler has kept from being started has no end.
_taken: dict[str, weakref.ref[EventBus]] = {}
# A signal handler may start a pool where one is being started.
_lock = threading.RLock()


def bus_of(name: str) -> EventBus:
    """The bus of a pool that is to have this name; it has another, `name-2` for one, while there
    is a pool of that name.
    """
    number, free = 1, name
    while (bus := _take(free)) is None:
        number += 1
        free = f"{name}-{number}"
    return bus


def _take(name: str) -> EventBus | None:
    bus = EventBus(name)
    mine = weakref.ref(bus)
    with _lock:
        others = _taken.get(name)
        if others is not None and others() is None:
            del _taken[name]
        return bus if _taken.setdefault(name, mine) is mine else None


def give_back(bus: EventBus) -> None:
    """The pool has ended: its name is free."""
    with _lock:
        others = _taken.get(bus.pool)
        if others is not None and others() is bus:
            del _taken[bus.pool]


def _begin_anew() -> None:
    """Run in a child, where there is none of the pools."""
    global _lock
    _lock = threading.RLock()
    _taken.clear()


forks.in_child(_begin_anew)
