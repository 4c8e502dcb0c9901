"""The words of the suite: cases, groups of them, how far they are to be held against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Measure = Callable[[], float]
"""Measures once, over as many calls as the scale says; the result is in the unit of its case."""


class NotMeasured(Exception):
    """A peer cannot be measured here; the text says why, and the report says it too."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. The small one shows that all works, its figures mean nothing.

    Attributes:
        load_s: how long a load lasts.
        pace: how many times as long everything in a load takes; its figures are divided by that.
    """

    asks: int = 1_000
    pipelined: int = 20_000
    in_flight: int = 10_000
    chunks: int = 10_000
    callers: tuple[int, ...] = (1, 100, 1_000)
    calls: int = 2_000
    members: tuple[int, ...] = (3, 30, 300, 1_000)
    starts: int = 20
    load_s: float = 16.0
    pace: float = 1.0

    def for_slow(self) -> Scale:
        """For a peer that takes milliseconds a call: fewer of them."""
        return replace(
            self,
            asks=self.asks // SLOW,
            pipelined=self.pipelined // SLOW,
            chunks=self.chunks // SLOW,
            calls=self.calls // SLOW,
        )


SLOW = 5
FULL = Scale()
QUICK = Scale(
    asks=50,
    pipelined=500,
    in_flight=300,
    chunks=500,
    callers=(1, 10, 50),
    calls=100,
    members=(3, 10, 20, 30),
    starts=2,
    load_s=2.0,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured, and of whom.

    Attributes:
        name: unique among all cases; what comparisons refer to.
        title: what the report calls it; `{scale.asks:,}` and the like stand for how much a peer was
            really given.
        unit: us, s, /s, KiB, %.
        peers: by name, whoever can do it.
        prepare: given the peer and the scale, sets it up and yields what measures.
    """

    name: str
    title: str
    unit: Literal["us", "s", "/s", "KiB", "%"]
    peers: tuple[str, ...]
    prepare: Callable[[Any, Scale], AbstractContextManager[Measure]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the report: a figure of greenroom's, next to another's.

    Attributes:
        case, peer: whose figure it is.
        against: the case and the peer of the other figure; None: the figure stands alone.
        at_most, at_least: the target for the ratio, or for the figure that stands alone.
    """

    case: str
    peer: str
    against: tuple[str, str] | None = None
    at_most: float | None = None
    at_least: float | None = None

    def verdict(self, value: float) -> str:
        """Whether the target is met; a dash where there is none."""
        if self.at_most is not None:
            return "met" if value <= self.at_most else "missed"
        if self.at_least is not None:
            return "met" if value >= self.at_least else "missed"
        return "–"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of a group's own: a row for each peer of each of `rows`, with a figure of each of
    `columns`, that of the case `group.row.column`.

    Attributes:
        rows, columns: by name, and what the table calls them.
    """

    rows: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that run in the same processes.

    Attributes:
        once: one round a process: what is measured shows only in a fresh one, such as memory.
        together: all peers measure at the same time, once, since what they do is mostly waiting and
            takes long.
        beside: runs for as long as the peers' processes, and says what their environment needs.
        sheet: how its figures are shown, beside its comparisons.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    comparisons: tuple[Comparison, ...]
    once: bool = False
    together: bool = False
    beside: Callable[[Scale], AbstractContextManager[Mapping[str, str]]] | None = None
    sheet: Sheet | None = None

    def case(self, name: str) -> Case:
        """The case of that name."""
        return next(case for case in self.cases if case.name == name)


def versus(
    case: str,
    peers: tuple[str, ...],
    *,
    peer: str = "greenroom",
    at_most: float | None = None,
    at_least: float | None = None,
    other: str | None = None,
) -> tuple[Comparison, ...]:
    """greenroom's figure of a case against that of each of the peers, in the same case or another.

    Args:
        peer: which greenroom: its name among the peers.
        other: the case of the peers' figures, if it is another one.
    """
    return tuple(
        Comparison(case, peer, (other or case, each), at_most=at_most, at_least=at_least)
        for each in peers
    )


@dataclass(slots=True)
class Samples:
    """What was measured of one case and one peer: a value a round, over all processes.

    Attributes:
        mode: pinned or free.
        company: the peers whose processes were there at the time; only these may be compared.
        missing: why nothing was measured.
    """

    mode: str
    group: str
    case: str
    peer: str
    company: str
    title: str
    unit: str
    values: list[float] = field(default_factory=list)
    missing: str | None = None
