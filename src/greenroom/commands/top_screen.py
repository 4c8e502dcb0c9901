"""How `greenroom top` looks: tables that renew themselves in a terminal, elsewhere lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from greenroom.commands.terminal import harmless
from greenroom.status.plain_status import Plain
from greenroom.status.status_frame import HEADS, NUMBERS, PoolFrame, event_row, frames_of

Show = Callable[[Plain | None, str], None]
"""Shows a status, and a line about where it comes from; without one the last stays."""

_COLOURS = {
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
    "circuit_open": "red",
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "red",
    "disabled": "yellow",
    "WARNING": "yellow",
    "ERROR": "red",
    "CRITICAL": "red",
}


class TopScreen:
    """A screen of its own in a terminal, on stdout; what was there before is back at the end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(highlight=False) if console is None else console
        self._last: Plain = {}
        self._before: Plain | None = None

    @contextmanager
    def shown(self) -> Iterator[Show]:
        """Within it, what it gives shows a status."""
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            yield lambda status, source: live.update(self._next(status, source), refresh=True)

    def print(self, status: Plain, source: str) -> None:
        """Once, below what is there already."""
        self._console.print(self._next(status, source))

    def _next(self, status: Plain | None, source: str) -> RenderableType:
        if status is not None:
            self._before, self._last = self._last or None, status
        return picture(self._last, self._before, source)


def picture(status: Plain, before: Plain | None, source: str) -> RenderableType:
    """A status, with its rates since the one before."""
    parts: list[RenderableType] = [Text(harmless(source), "dim")]
    for frame in frames_of(status, before):
        parts.append(Text(f"\n{harmless(frame.title)}", "bold" if frame.is_well else "bold red"))
        if frame.figures:
            parts.append(Text(frame.figures))
        if frame.rows:
            parts.append(_members(frame))
        for name, error in frame.errors:
            parts.append(
                Text(
                    harmless(f"last error of {name}: {error}"),
                    "dim",
                    overflow="ellipsis",
                    no_wrap=True,
                )
            )
    parts.append(_events(status))
    return Group(*parts)


def _members(frame: PoolFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in HEADS:
        table.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
    for row in frame.rows:
        table.add_row(*(Text(harmless(cell), _colour(cell)) for cell in row))
    return table


def _events(status: Plain) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    events = status.get("events")
    # The newest first: where the screen is full, the oldest are not seen.
    for event in reversed(events if isinstance(events, list) else []):
        at, whose, name, said = map(harmless, event_row(event))
        colour = _COLOURS.get(str(event.get("level")), "")
        table.add_row(Text(at, "dim"), Text(whose), Text(name, colour), Text(said))
    return table


def _colour(cell: str) -> str:
    return _COLOURS.get(cell.partition(",")[0], "")
