"""What `greenroom check` does: it has the members of a file asked, and shows what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from greenroom.commands.exits import Exit
from greenroom.commands.member_check import Checkup, Finding, check_file
from greenroom.commands.opened_pool import at_work, file_errors
from greenroom.commands.terminal import harmless, is_terminal, say

PROMPT = "Answer with one word: ready?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command."""

    pool: Path
    prompt: str = PROMPT
    json: bool = False
    timeout_s: float | None = None
    verbose: int = 0


def carry_out(options: Options) -> Exit:
    """Ask every member of the file, and tell what each has done.

    Raises:
        UsageError: the file as a whole cannot be used.
    """
    checkup = Checkup(options.prompt, options.timeout_s)
    quiet = options.json or options.verbose > 0
    with at_work(options.verbose), file_errors(options.pool), _working(quiet):
        findings = check_file(options.pool, checkup)
    if options.json:
        told = [{"ok": each.is_good, **asdict(each)} for each in findings]
        say(json.dumps({"members": told}, ensure_ascii=False))
    elif is_terminal(sys.stdout):
        _show_table(findings)
    else:
        for each in findings:
            say(_line(each))
    return Exit.DONE if all(each.is_good for each in findings) else Exit.FAILED


def _working(quiet: bool) -> AbstractContextManager[object]:
    """Something that moves while nothing is to be seen."""
    if quiet or not is_terminal(sys.stderr):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("asking the members")


def _line(finding: Finding) -> str:
    """`gpt: ok, 0.41 s, gpt-5`, or `gpt: auth, 0.02 s, gpt-5: refuses the key: ...`."""
    facts = ", ".join(each for each in _facts(finding) if each)
    return f"{finding.member}: {facts}" + (f": {finding.wrong}" if finding.wrong else "")


def _facts(finding: Finding) -> tuple[str, str, str]:
    """How it is, how long it took, and its model; what is not known is empty."""
    time = "" if finding.elapsed_s is None else f"{finding.elapsed_s:.2f} s"
    return finding.kind or "ok", time, finding.model or ""


def _show_table(findings: Sequence[Finding]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("member", "is", "time", "model", "what is wrong"):
        table.add_column(head, justify="right" if head == "time" else "left", overflow="fold")
    for each in findings:
        state, time, model = _facts(each)
        colour = "green" if each.is_good else "red"
        cells = (time, harmless(model), harmless(each.wrong or ""))
        table.add_row(Text(each.member), Text(state, colour), *map(Text, cells))
    Console(highlight=False).print(table)
