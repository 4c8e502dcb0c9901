"""What `greenroom doctor` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.log_file import NO_LOG, log_lines
from greenroom.commands.status_source import endpoint_of
from greenroom.commands.terminal import complain, say
from greenroom.doctor.findings import Finding, findings, not_checked
from greenroom.doctor.pool_history import Histories
from greenroom.logs.log_filter import parsed
from greenroom.messages.pickling import on_one_line
from greenroom.status.plain_status import Plain
from greenroom.status.status_client import StatusError


@dataclass(slots=True)
class Report:
    """What was found in a log, or by an endpoint.

    Attributes:
        lines: how many lines of a log were read.
        pools: how many pools an endpoint has told of.
        found: what is wrong.
        not_checked: by pool, what could not be looked at.
    """

    lines: int = 0
    pools: int = 0
    found: list[Finding] = field(default_factory=list)
    not_checked: dict[str, tuple[str, ...]] = field(default_factory=dict)


def examined(lines: Iterable[str] = (), statuses: Iterable[Plain] = ()) -> Report:
    """What is wrong by these lines of a log, and by what endpoints say."""
    report, histories = Report(), Histories()
    for status in statuses:
        report.pools += histories.take_status(status)
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


def carry_out(sources: Sequence[str], as_json: bool) -> Exit:
    """Say what is wrong by those logs, which are taken for one, in their order, and by endpoints.

    Returns:
        FAILED if something is.

    Raises:
        UsageError: a file or an endpoint cannot be read, or none of them tells anything.
    """
    clients = [(each, endpoint_of(each)) for each in sources]
    files = [each for each, client in clients if client is None]
    try:
        statuses = [client.status(0) for _, client in clients if client is not None]
    except StatusError as error:
        raise UsageError(str(error)) from None
    report = examined((line for file in files for line in log_lines(file)), statuses)
    if not report.lines and not report.pools:
        if not files:
            raise UsageError(f"{', '.join(sources)}: no pool answers there")
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
    read = [f"{report.lines} lines"] if report.lines else []
    read += [f"{report.pools} pool(s) of an endpoint"] if report.pools else []
    say(f"{many or 'nothing'} found in {' and '.join(read)}")
    for pool, missing in report.not_checked.items():
        for each in missing:
            complain(f"pool {on_one_line(pool)}: not looked at: {each}")
