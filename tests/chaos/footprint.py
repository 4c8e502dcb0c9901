"""What a process holds: threads, descriptors, handlers, actors, memory."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka
from loguru import logger

from greenroom.actors.runtime import event_bus

_DESCRIPTORS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the process holds at one moment.

    Attributes:
        descriptors: open file descriptors; None where the system does not tell.
        handlers: every hook and handler that is the process's own, by name.
    """

    threads: tuple[str, ...]
    descriptors: int | None
    actors: int
    observers: int
    handlers: dict[str, object]


def footprint() -> Footprint:
    """What the process holds now."""
    return Footprint(
        threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        descriptors=len(list(_DESCRIPTORS.iterdir())) if _DESCRIPTORS.exists() else None,
        actors=len(pykka.ActorRegistry.get_all()),
        observers=len(event_bus._observers),
        handlers=_handlers(),
    )


def judge_footprint(before: Footprint, after: Footprint) -> Iterator[str]:
    """What is left over of pools that have stopped."""
    for name, more in (Counter(after.threads) - Counter(before.threads)).items():
        yield f"{more} more thread(s) {name!r}"
    if (after.descriptors or 0) > (before.descriptors or 0):
        yield f"{after.descriptors} open descriptors, {before.descriptors} before"
    if after.actors > before.actors:
        yield f"{after.actors} actors are registered, {before.actors} before"
    if after.observers > before.observers:
        yield f"{after.observers} observers of all events, {before.observers} before"
    for name, handler in after.handlers.items():
        if handler != before.handlers.get(name):
            yield f"{name} was changed"


def wait_for_threads(before: Footprint, seconds: float) -> None:
    """Let threads end that have been told to: each that is new is waited for that long, at most."""
    known = Counter(before.threads)
    for thread in threading.enumerate():
        known[thread.name] -= 1
        if known[thread.name] < 0 and thread is not threading.current_thread():
            thread.join(seconds)


@dataclass(frozen=True, slots=True)
class Mark:
    """Memory at one moment, with everything at rest.

    Attributes:
        requests: how many had been sent until then.
        blocks: memory blocks that Python has given out.
        resident_kib: resident memory; None where the system does not tell.
        kept: tasks that never end, which are kept on purpose, with all that they hold.
    """

    requests: int
    blocks: int
    resident_kib: int | None
    kept: int = 0


BLOCKS_GIVEN = 10_000
"""Blocks by which memory may grow whatever the traffic: caches and windows that fill."""
BLOCKS_PER_REQUEST = 0.05
"""Blocks that a request may leave behind on top: a leaked one leaves ten and more."""
BLOCKS_PER_KEPT = 500
"""Blocks that a task which is kept on purpose may hold: itself, its call, and its pool's share."""
RESIDENT_KIB = 64 * 1024
"""Resident memory that may come on top: what the allocator keeps for reuse."""


def mark(requests: int, kept: int = 0) -> Mark:
    """Collect the garbage and measure what remains. A stream that is garbage hands itself to its
    router once more, and with it all that it is tied up with lives until the next time.
    """
    for _ in range(5):
        if not gc.collect():
            break
    resident = int(_MEMORY.read_text().split()[1]) * _PAGE_KIB if _MEMORY.exists() else None
    return Mark(requests, sys.getallocatedblocks(), resident, kept)


def judge_memory(marks: list[Mark]) -> Iterator[str]:
    """Whether memory grew from the first mark on, which is taken when all has been used once."""
    if len(marks) < 2:
        return
    first, last = marks[0], marks[-1]
    sent = last.requests - first.requests
    allowed = BLOCKS_GIVEN + BLOCKS_PER_REQUEST * sent
    allowed += BLOCKS_PER_KEPT * (last.kept - first.kept)
    more = last.blocks - first.blocks
    if more > allowed:
        yield f"{more} more blocks of memory over {sent} requests, {allowed:.0f} are allowed"
    grown = (last.resident_kib or 0) - (first.resident_kib or 0)
    if grown > RESIDENT_KIB:
        yield f"{grown} KiB more resident over {sent} requests, {RESIDENT_KIB} are allowed"


_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024 if hasattr(os, "sysconf") else 0


def _handlers() -> dict[str, object]:
    core: Any = logger._core  # type: ignore[attr-defined]
    return {
        "sys.excepthook": sys.excepthook,
        "sys.unraisablehook": sys.unraisablehook,
        "threading.excepthook": threading.excepthook,
        "the root logger's handlers": tuple(map(id, logging.getLogger().handlers)),
        "asyncio's handlers": tuple(map(id, logging.getLogger("asyncio").handlers)),
        "loguru's handlers": tuple(core.handlers),
        "the number of exit handlers": _exit_handlers(),
    } | {
        f"the handler of {number!r}": signal.getsignal(number) for number in signal.valid_signals()
    }


def _exit_handlers() -> int:
    count: Any = getattr(atexit, "_ncallbacks", lambda: 0)
    return int(count())
