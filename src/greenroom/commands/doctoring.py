"""What `greenroom doctor` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.log_file import NO_LOG, log_lines
from greenroom.commands.terminal import complain, say
from greenroom.doctor.findings import Finding, findings, not_checked
from greenroom.doctor.pool_history import Histories
from greenroom.logs.log_filter import parsed
from greenroom.messages.pickling import on_one_line


@dataclass(slots=True)
class Report:
    """What was found in a log.

    Attributes:
        lines: how many of its lines were read.
        found: what is wrong.
        not_checked: by pool, what could not be looked at.
    """

    lines: int = 0
    found: list[Finding] = field(default_factory=list)
    not_checked: dict[str, tuple[str, ...]] = field(default_factory=dict)


def examined(lines: Iterator[str] | Sequence[str]) -> Report:
    """What is wrong by these lines of a log."""
    report, histories = Report(), Histories()
    for text in lines:
        line = parsed(text)
        if line is not None:
            report.lines += 1
            histories.take(line)
    for pool in histories:
        report.found += findings(pool)
        missing = not_checked(pool)
        if missing:
            report.not_checked[pool.name] = missing
    return report


def carry_out(files: Sequence[str], as_json: bool) -> Exit:
    """Say what is wrong by those logs, which are taken for one, in their order.

    Returns:
        FAILED if something is.

    Raises:
        UsageError: a file cannot be read, or none has a line of a log.
    """
    report = examined(line for file in files for line in log_lines(file))
    if not report.lines:
        raise UsageError(NO_LOG.format(file=", ".join(files)))
    if as_json:
        say(json.dumps(asdict(report)))
    else:
        _show(report)
    return Exit.FAILED if report.found else Exit.DONE


def _show(report: Report) -> None:
    for number, found in enumerate(report.found, 1):
        say(on_one_line(f"{number}. pool {found.pool}: {found.what}"))
        say(on_one_line(f"   seen: {found.seen}"))
        say(on_one_line(f"   do:   {found.change}"))
        say(f"   page: {found.page}")
    many = len(report.found)
    say(f"{many or 'nothing'} found in {report.lines} lines")
    for pool, missing in report.not_checked.items():
        for each in missing:
            complain(f"pool {on_one_line(pool)}: not looked at: {each}")
