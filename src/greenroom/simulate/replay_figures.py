"""What became of the requests of a recording, in figures: as it was, or played again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from greenroom.flight.flight_lines import FlightError
from greenroom.simulate.recorded_flight import RecordedFlight, Transition
from greenroom.simulate.tally import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the requests. Times are in seconds, of those that were answered.

    Attributes:
        good: how many were answered in time.
        ended: how the others ended.
        calls: of each member.
        failovers: calls of a request beyond its first, hedges and trials beside left out.
        transitions: of breakers, in their order.
        slices: of each part of the time, all as long: arrived, good, and the 95th percentile.
    """

    arrived: int
    good: int
    ended: Mapping[str, int]
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    calls: Mapping[str, int]
    failovers: int
    hedges: int
    transitions: Sequence[Transition]
    slices: Sequence[tuple[int, int, float | None]]

    @property
    def goodput(self) -> float | None:
        """The share of all that was answered in time, from 0 to 1."""
        return self.good / self.arrived if self.arrived else None


SLICES = 60
"""Into so many parts the time is cut for a plot."""


class _Slices:
    """Requests by the time of their arrival."""

    def __init__(self, from_s: float, until_s: float) -> None:
        self._from_s, self._step_s = from_s, max(until_s - from_s, 1e-9) / SLICES
        self._arrived, self._good = [0] * SLICES, [0] * SLICES
        self._times: list[list[float]] = [[] for _ in range(SLICES)]

    def add(self, at: float, took_s: float | None, good: bool) -> None:
        place = min(SLICES - 1, max(0, int((at - self._from_s) / self._step_s)))
        self._arrived[place] += 1
        if took_s is not None:
            self._times[place].append(took_s)
            self._good[place] += good

    def all(self) -> tuple[tuple[int, int, float | None], ...]:
        return tuple(
            (arrived, good, quantile(sorted(times), 0.95))
            for arrived, good, times in zip(self._arrived, self._good, self._times, strict=True)
        )


class Count:
    """Counts requests by what became of them."""

    def __init__(self, from_s: float, until_s: float, within_s: float | None) -> None:
        self._within_s = math.inf if within_s is None else within_s
        self._slices = _Slices(from_s, until_s)
        self._times: list[float] = []
        self._ended: Counter[str] = Counter()
        self._good = self._arrived = 0
        self.calls: Counter[str] = Counter()
        self.failovers = self.hedges = 0
        self.transitions: list[Transition] = []

    def ended(self, at: float, took_s: float | None, how: str) -> None:
        self._arrived += 1
        answered = how == "answered" and took_s is not None
        good = answered and took_s is not None and took_s <= self._within_s
        self._good += good
        if answered and took_s is not None:
            self._times.append(took_s)
        else:
            self._ended[how or "unfinished"] += 1
        self._slices.add(at, took_s if answered else None, good)

    def figures(self, names: Sequence[str]) -> Figures:
        times = sorted(self._times)
        return Figures(
            arrived=self._arrived,
            good=self._good,
            ended=dict(sorted(self._ended.items())),
            p50_s=quantile(times, 0.50),
            p95_s=quantile(times, 0.95),
            p99_s=quantile(times, 0.99),
            calls={name: self.calls[name] for name in names},
            failovers=self.failovers,
            hedges=self.hedges,
            transitions=tuple(self.transitions),
            slices=self._slices.all(),
        )


def figures_of(flight: RecordedFlight, within_s: float | None = None) -> Figures:
    """What really happened."""
    count = Count(*span_of(flight), within_s)
    for arrival in flight.arrivals:
        count.ended(arrival.at, arrival.took_s, arrival.how)
        main = 0
        for call in arrival.calls:
            count.calls[flight.name(call.member)] += 1
            main += call.role == 0
            count.hedges += call.role == 1
        count.failovers += max(0, main - 1)
    count.transitions += flight.transitions
    return count.figures([each.name for each in flight.members])


def span_of(flight: RecordedFlight) -> tuple[float, float]:
    arrivals = flight.arrivals
    if not arrivals:
        raise FlightError("nothing was recorded: no request came")
    return arrivals[0].at, arrivals[-1].at
