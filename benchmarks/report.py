"""What came out: medians, spreads, ratios and verdicts, as JSON and as a Markdown table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.model import Comparison, Group, Samples, Sheet

VERDICTS = ("met", "missed")


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some values, and the quarters between which the middle half of them lies."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """A comparison with its figures.

    Attributes:
        ratio: the median of the rounds' ratios; None where something was not measured, or where a
            figure stands alone.
    """

    mode: str
    group: str
    comparison: Comparison
    title: str
    unit: str
    value: Figure | None
    other: Figure | None
    ratio: Figure | None
    verdict: str
    other_title: str = ""
    other_unit: str = ""


def figure(values: Sequence[float]) -> Figure:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(statistics.median(values), low, high)


def quotient(value: float, other: float) -> float:
    """Of shares, which may be nothing: nothing next to nothing is as much."""
    if other:
        return value / other
    return math.inf if value else 1.0


def compare(
    groups: Iterable[Group], samples: Sequence[Samples], *, judged: bool = True
) -> list[Line]:
    """Every comparison for which both sides were to be measured, in the order of the groups.

    Args:
        judged: False gives no verdicts: the targets are for the full scale alone.
    """
    modes = list(dict.fromkeys(sample.mode for sample in samples))
    lines: list[Line] = []
    for mode in modes:
        for group in groups:
            mine = [each for each in samples if (each.mode, each.group) == (mode, group.name)]
            for comparison in group.comparisons:
                lines += _line(mode, group.name, comparison, mine)
    if not judged:
        return [_unjudged(line) for line in lines]
    return lines


def _unjudged(line: Line) -> Line:
    return replace(line, verdict="–") if line.verdict in VERDICTS else line


def _line(
    mode: str, group: str, comparison: Comparison, samples: Sequence[Samples]
) -> Iterable[Line]:
    other_case, other_peer = comparison.against or (comparison.case, comparison.peer)
    for company in dict.fromkeys(sample.company for sample in samples):
        found = {(each.case, each.peer): each for each in samples if each.company == company}
        mine = found.get((comparison.case, comparison.peer))
        other = found.get((other_case, other_peer))
        if mine is not None and other is not None:
            yield _compared(mode, group, comparison, mine, other)
            return  # whoever is in two companies is measured alone with each: the first counts


def _compared(mode: str, group: str, comparison: Comparison, mine: Samples, other: Samples) -> Line:
    value = figure(mine.values) if mine.values and mine.missing is None else None
    against = figure(other.values) if other.values and other.missing is None else None
    ratio, verdict = None, f"not measured: {mine.missing or other.missing}"
    if value is not None and comparison.against is None:
        against, verdict = None, comparison.verdict(value.median)
    elif value is not None and against is not None:
        ratio = figure([quotient(a, b) for a, b in zip(mine.values, other.values, strict=True)])
        verdict = comparison.verdict(ratio.median)
    return Line(
        mode,
        group,
        comparison,
        mine.title,
        mine.unit,
        value,
        against,
        ratio,
        verdict,
        other.title if other.title != mine.title else "",
        other.unit,
    )


def as_json(
    machine: dict[str, Any], plan: dict[str, Any], samples: Iterable[Samples], lines: Iterable[Line]
) -> dict[str, Any]:
    """All that was measured, value by value, and what was made of it."""
    return {
        "machine": machine,
        "plan": plan,
        "samples": [asdict(sample) for sample in samples],
        "comparisons": [asdict(line) for line in lines],
    }


def as_markdown(
    machine: dict[str, Any],
    plan: dict[str, Any],
    lines: Sequence[Line],
    sheets: Sequence[str] = (),
) -> str:
    """A table for each way of running, with the machine and the versions above it, then the
    groups' own.
    """
    versions = ", ".join(f"{name} {is_}" for name, is_ in machine["versions"].items() if is_)
    where = f"{machine['system']}, {machine['processor']}, {machine['cores']} cores"
    often = f"{plan['processes']} processes of {plan['rounds']} rounds"
    if plan.get("pace", 1.0) != 1.0:
        often += f"; loads took {plan['pace']:g} times as long, their times are divided by that"
    text = [f"{machine['python']}, {versions}; {where}; {often}."]
    if plan["quick"]:
        text.append("A quick run: less of everything, no verdicts. It shows that all works.")
    for mode in dict.fromkeys(line.mode for line in lines):
        how = "Pinned to one core" if mode == "pinned" else f"Free on {machine['cores']} cores"
        text += ["", f"{how}:", ""]
        text += table([line for line in lines if line.mode == mode])
    text += sheets
    return "\n".join(text) + "\n"


def sheets(groups: Iterable[Group], samples: Sequence[Samples]) -> list[str]:
    """The groups' own tables, with what was measured in the last way of running."""
    text: list[str] = []
    for group in groups:
        found = {(each.case, each.peer): each for each in samples if each.group == group.name}
        if group.sheet is not None and found:
            text += ["", f"{group.title}:", "", *_sheet(group.name, group.sheet, found)]
    return text


def _sheet(group: str, sheet: Sheet, found: dict[tuple[str, str], Samples]) -> Iterable[str]:
    titles = [title for _, title in sheet.columns]
    yield f"| case | who | {' | '.join(titles)} |"
    yield f"|---|---|{'---:|' * len(titles)}"
    peers = dict.fromkeys(peer for _, peer in found)
    for row, title in sheet.rows:
        for number, peer in enumerate(peers):
            cells = [found.get((f"{group}.{row}.{column}", peer)) for column, _ in sheet.columns]
            if any(cells):
                shown = _reason(cells) or [_cell(each) for each in cells]
                yield f"| {'' if number else title} | {peer} | {' | '.join(shown)} |"


def _reason(cells: Sequence[Samples | None]) -> list[str]:
    """Where nothing at all was measured: why, in the first column."""
    missing = [each.missing for each in cells if each is not None]
    if all(missing):
        return [str(missing[0]), *([""] * (len(cells) - 1))]
    return []


def _cell(sample: Samples | None) -> str:
    if sample is None:
        return ""
    if not sample.values or sample.missing is not None:
        return "–"
    return _shown(figure(sample.values), sample.unit)


def table(lines: Iterable[Line]) -> list[str]:
    """The ratio's spread is that of the middle half of the rounds."""
    rows = [
        "| case | greenroom | next to | its figure | ratio (middle half) | target | verdict |",
        "|---|---:|---|---:|---:|---|---|",
    ]
    return rows + [_row(line) for line in lines]


def _row(line: Line) -> str:
    who = "" if line.comparison.peer == "greenroom" else f" ({line.comparison.peer})"
    against = line.comparison.against
    peer = "" if against is None else against[1]
    beside = f"{peer}: {line.other_title}" if line.other_title else peer
    cells = [
        f"{line.title}{who}",
        _shown(line.value, line.unit),
        beside,
        _shown(line.other, line.other_unit),
        _ratio(line.ratio),
        _target(line),
        line.verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _shown(value: Figure | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if value.median >= 100 else 1 if value.median >= 10 else 2
    return f"{value.median:,.{digits}f} {unit}"


def _ratio(ratio: Figure | None) -> str:
    if ratio is None:
        return ""
    digits = 2 if ratio.median >= 0.1 else 4
    return f"{ratio.median:.{digits}f}x ({ratio.low:.{digits}f}–{ratio.high:.{digits}f})"


def _target(line: Line) -> str:
    limit, word = line.comparison.at_most, "at most"
    if limit is None:
        limit, word = line.comparison.at_least, "at least"
    if limit is None:
        return "–"
    unit = "x" if line.comparison.against is not None else f" {line.unit}"
    return f"{word} {limit:.3g}{unit}"
