"""What it costs that a pool records the flight of each request: in memory, and in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.groups.shared import Prepare
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus

AT_MOST = 1.03


def _recorded(record: bool | str) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, record) if isinstance(record, str) else record
            with peer.recorded_call(place) as ask:
                yield lambda: measure.latency_us(ask, scale.asks)

    return prepare


def _case(name: str, title: str, record: bool | str) -> Case:
    return Case(name, f"ask, sync agents, {title}", "us", ("greenroom",), _recorded(record))


CASES = (
    _case("recorder.off", "not recorded", False),
    _case("recorder.memory", "recorded in memory", True),
    _case("recorder.file", "recorded in a .zst", "flight.jsonl.zst"),
)
COMPARISONS: tuple[Comparison, ...] = tuple(
    line
    for case in CASES[1:]
    for line in versus(case.name, ("greenroom",), other="recorder.off", at_most=AT_MOST)
)
GROUP = Group("recorder", "The flight recorder", CASES, COMPARISONS)
