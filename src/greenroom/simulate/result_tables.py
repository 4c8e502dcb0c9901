"""What came out, for people (tables) and for programs (JSON)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any

from greenroom.simulate.scenario import Scenario
from greenroom.simulate.tally import Result

Row = Sequence[str]
MOST_COLUMNS = 12
"""With more members than that, their calls are summed up."""


def as_json(outcomes: Sequence[tuple[Scenario, Sequence[Result]]]) -> str:
    """An array with an object for each scenario. Times are in seconds, shares from 0 to 1."""
    return json.dumps([_plain(*each) for each in outcomes], indent=2)


def _plain(scenario: Scenario, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "duration_s": scenario.duration_s,
        "warmup_s": scenario.warmup_s,
        "within_s": scenario.within_s,
        "strategies": [
            {
                **dataclasses.asdict(each),
                "answered_share": each.answered_share,
                "within_share": each.goodput,
            }
            for each in results
        ],
    }


def as_text(scenario: Scenario, results: Sequence[Result]) -> str:
    """A headline, the table of the strategies, and the table of the members' calls."""
    heads = (
        "strategy",
        "answered",
        f"in {scenario.within_s:g} s",
        *("mean", "p50", "p95", "p99", "max"),
        "not answered",
    )
    summary = aligned(heads, [_row(each) for each in results], heads[1:-1])
    tenants = ["", *_tenants(results)] if results[0].tenants else []
    return "\n".join([_headline(scenario, results), "", *summary, "", *_calls(results), *tenants])


def _headline(scenario: Scenario, results: Sequence[Result]) -> str:
    numbers = sorted({each.arrived for each in results})
    # With callers it depends on the strategy how many arrive: who
    # answers sooner is asked again sooner.
    arrived = " to ".join(f"{n:,}" for n in (numbers[:1] + numbers[1:][-1:]))
    warmup = f" after {scenario.warmup_s:g} s of warm-up" if scenario.warmup_s else ""
    until = f"{scenario.duration_s:g} s"
    return f"{scenario.name}: {arrived} requests in {until}{warmup}, seed {scenario.seed}"


def _row(result: Result) -> Row:
    times = (result.mean_s, result.p50_s, result.p95_s, result.p99_s, result.max_s)
    return (
        result.strategy,
        share_words(result.answered_share),
        share_words(result.goodput),
        *map(time_words, times),
        _losses(result),
    )


def _losses(result: Result) -> str:
    refused = {"refused": result.refused} if result.refused else {}
    return ", ".join(f"{n:,} {why}" for why, n in {**refused, **result.failed}.items()) or "-"


def _calls(results: Sequence[Result]) -> list[str]:
    names = list(results[0].calls)
    if len(names) > MOST_COLUMNS:
        heads: Row = ("calls a member", "fewest", "mean", "most")
        return aligned(heads, [(each.strategy, *_spread(each)) for each in results], heads[1:])
    rows = [(each.strategy, *(f"{each.calls[name]:,}" for name in names)) for each in results]
    return aligned(("calls of", *names), rows, names)


def _tenants(results: Sequence[Result]) -> list[str]:
    """The 99th percentile of each tenant, and how fairly all were shared out."""
    names = list(results[0].tenants)
    few = len(names) <= MOST_COLUMNS
    heads = (*(names if few else ("best", "worst")), "answered", "fairness")
    rows = []
    for each in results:
        p99 = [each.tenants[name].p99_s for name in names]
        known = sorted(x for x in p99 if x is not None)
        ends: list[float | None] = [known[0], known[-1]] if known else [None, None]
        shown = p99 if few else ends
        fairness = "-" if each.fairness is None else f"{each.fairness:.3f}"
        rows.append((each.strategy, *map(time_words, shown), f"{each.answered:,}", fairness))
    return aligned(("p99 of", *heads), rows, heads)


def _spread(result: Result) -> Row:
    calls = list(result.calls.values())
    return tuple(f"{n:,.0f}" for n in (min(calls), sum(calls) / len(calls), max(calls)))


def aligned(heads: Row, rows: Sequence[Row], right: Collection[str]) -> list[str]:
    """The lines of a table; the columns with a head among `right` are set to the right."""
    columns = []
    for head, *cells in zip(heads, *rows, strict=True):
        width = max(map(len, (head, *cells)))
        columns.append(
            [f"{each:{'>' if head in right else '<'}{width}}" for each in (head, *cells)]
        )
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def share_words(share: float | None) -> str:
    """In percent, rounded down: what is not quite all never looks like all."""
    return "-" if share is None else f"{int(share * 10_000) / 100:.2f}%"


def time_words(seconds: float | None) -> str:
    """In milliseconds below a second."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
