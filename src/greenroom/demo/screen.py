"""How a demo looks: log and progress bar on stderr, the result on stdout; with rich or plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from greenroom.demo.demo import Result
from greenroom.demo.demo_agents import KINDS
from greenroom.demo.story import Story
from greenroom.messages import MemberStats
from greenroom.simulate.result_tables import Row, aligned

OnProgress = Callable[[int, Story], None]

MEMBER_HEADS = ("member", "what it is", "calls", "failures", "p50", "p95", "breaker", "status")
RIGHT = {"calls", "failures", "p50", "p95", "s"}
COLOURS = {"closed": "green", "healthy": "green", "open": "red", "circuit_open": "red"}


class PlainScreen:
    """No colours, no bar: for files, pipes, and where rich is missing.

    Attributes:
        sink: what takes the log's lines; None: stderr.
    """

    sink: Callable[[str], Any] | None = None

    @contextmanager
    def progress(self, total: int) -> Iterator[OnProgress]:
        """Inside of it, call what it gives with how far the demo is."""
        yield lambda ended, story: None

    def say(self, text: str, style: str = "") -> None:
        """A line of the result."""
        try:
            print(text)
        except UnicodeEncodeError:  # a stream that knows only ASCII, or the like
            print(text.encode("ascii", "backslashreplace").decode())

    def table(self, heads: Row, rows: Sequence[Row]) -> None:
        """A table of the result."""
        for line in ("", *aligned(heads, rows, RIGHT)):
            self.say(line)


class RichScreen(PlainScreen):
    """Tables and colours by rich where stdout is a terminal, and a bar under the log lines.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, *, bar: bool) -> None:
        from rich.console import Console

        self._bar = bar
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)
        if bar:  # only the bar's own console can print above it
            self.sink = self._print_line

    def _print_line(self, text: str) -> None:
        from rich.text import Text

        self._err.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)

    @contextmanager
    def progress(self, total: int) -> Iterator[OnProgress]:
        if not self._bar:
            yield lambda ended, story: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        count = MofNCompleteColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), count, Elapsed())
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task(_lights({}), total=total)

            def show(ended: int, story: Story) -> None:
                progress.update(task, completed=ended, description=_lights(story.circuits))

            yield show

    def say(self, text: str, style: str = "") -> None:
        if self._out.is_terminal:
            self._out.print(text, style=style or None, markup=False, soft_wrap=True)
        else:
            super().say(text)

    def table(self, heads: Row, rows: Sequence[Row]) -> None:
        if not self._out.is_terminal:
            super().table(heads, rows)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for head in heads:
            right = head in RIGHT
            table.add_column(head, justify="right" if right else "left", no_wrap=right)
        for row in rows:
            table.add_row(*(Text(cell, COLOURS.get(cell, "")) for cell in row))
        self._out.print("", table, sep="\n")


def show_result(screen: PlainScreen, result: Result, source: str) -> None:
    """The table of members, what happened when, what became of the text, and the sentence."""
    screen.table(MEMBER_HEADS, [_member_row(each) for each in result.stats.members])
    rows = [(f"{each.at:.2f}", each.member, each.what) for each in result.story.moments()]
    if rows:
        screen.table(("s", "member", "what happened"), rows)
    screen.say("")
    for line in _account(result, source):
        screen.say(line)
    screen.say(result.sentence, "bold green" if result.ok else "bold red")


def _account(result: Result, source: str) -> Iterator[str]:
    counted, matches = result.counted, result.matches
    common = ", ".join(f"{word} {n}" for word, n in counted.most_common(5))
    yield f"text      {source}: {counted.total()} words, {len(counted)} different ({common})"
    verdict = "equals" if matches else "DIFFERS FROM"
    yield f"check     the counts of all answers together: it {verdict} a direct count"
    spent = result.stats.completed + result.stats.failed + result.stats.retries
    rate = len(result.passages) / result.elapsed_s
    yield f"effort    {spent} attempts in {result.elapsed_s:.1f} s, {rate:.0f} requests a second"
    kinds = Counter(f"{type(each).__name__}: {each}".splitlines()[0] for each in result.errors)
    for kind, n in kinds.most_common(5):
        yield f"error     {n} x {kind}"


def _member_row(member: MemberStats) -> Row:
    return (
        member.name,
        KINDS.get(member.name, ""),
        str(member.successes + member.failures),
        str(member.failures),
        _milliseconds(member.latency_p50_s),
        _milliseconds(member.latency_p95_s),
        str(member.circuit),
        str(member.status),
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _lights(circuits: dict[str, str]) -> str:
    """The members' names with their breakers' colours, in rich's markup."""
    colours = {"opened": "red", "half_open": "yellow"}
    return " ".join(f"[{colours.get(circuits.get(n, ''), 'green')}]● {n}[/]" for n in KINDS)
