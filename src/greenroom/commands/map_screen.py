"""How a batch looks: a bar and a line a member in a terminal, elsewhere a line at times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from greenroom.batch.tally import Tally, line_of
from greenroom.commands.terminal import harmless, say
from greenroom.messages.replies import MemberStats

Show = Callable[[Tally, Sequence[MemberStats], float], None]
"""Shows how far a batch is, with its members, at a time in seconds."""

OFTEN_S, SELDOM_S = 0.25, 10.0
_COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "circuit_open": "red"}
_HEADS = ("member", "answered", "failed", "in flight", "p50", "status")


class LinesScreen:
    """For files and pipes: a line on stderr at times.

    Attributes:
        every_s: seconds from one look to the next.
    """

    every_s = SELDOM_S

    @contextmanager
    def shown(self) -> Iterator[Show]:
        """Within it, what it gives is called now and then."""
        yield lambda tally, members, now: say(line_of(tally, now), stream=sys.stderr)


class BarScreen:
    """For a terminal: a bar, how fast it goes, and a line a member, on stderr."""

    every_s = OFTEN_S

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False) if console is None else console

    @contextmanager
    def shown(self) -> Iterator[Show]:
        with Live(console=self._console, transient=True, auto_refresh=False) as live:

            def show(tally: Tally, members: Sequence[MemberStats], now: float) -> None:
                live.update(_picture(tally, members, now), refresh=True)

            yield show


def rows_of(tally: Tally, members: Sequence[MemberStats]) -> list[tuple[str, ...]]:
    """A line a member, under `_HEADS`; a prompt may have several attempts that failed."""
    return [
        (
            harmless(each.name),
            f"{tally.by_member[each.name]:,}",
            f"{each.failures:,}",
            f"{each.in_flight}/{each.max_concurrency}",
            "-" if each.latency_p50_s is None else f"{each.latency_p50_s * 1000:.0f} ms",
            str(each.status),
        )
        for each in members
    ]


def lines_of(tally: Tally, members: Sequence[MemberStats]) -> Iterator[str]:
    """The same as text, for the end of a batch."""
    for name, answered, failed, _, p50, status in rows_of(tally, members):
        yield f"  {name}: {answered} answered, {failed} attempts failed, p50 {p50}, {status}"


def _picture(tally: Tally, members: Sequence[MemberStats], now: float) -> Group:
    bar = Table.grid(expand=True)  # on its own a bar does not end its line
    bar.add_row(ProgressBar(total=tally.total, completed=tally.done, pulse=tally.total is None))
    table = Table(box=None, pad_edge=False)
    for head in _HEADS:
        table.add_column(head, justify="left" if head in ("member", "status") else "right")
    for *cells, status in rows_of(tally, members):
        table.add_row(*map(Text, cells), Text(status, _COLOURS.get(status, "")))
    return Group(bar, Text(line_of(tally, now)), table)
