"""The report of a run: what was injected, what was seen, and whether all held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.findings import Findings, Violation

SHOWN = 20
"""Violations that are told in full; of the others there is the number."""
STORY = 15
"""The last lines of a request's story that are told."""


def report(findings: Findings) -> str:
    """All of it, as text."""
    return "\n".join(_lines(findings)) + "\n"


def command(findings: Findings) -> str:
    """What repeats the run."""
    return f"make chaos ARGS='--seed {findings.seed} --requests {findings.requests}'"


def _lines(findings: Findings) -> Iterator[str]:
    yield f"greenroom chaos: seed {findings.seed}, {findings.requests} requests"
    yield ""
    yield "Pools, one after the other"
    yield from (f"  {line}" for line in findings.acts)
    yield from _injected(findings)
    yield from _table("Seen", findings.seen)
    yield from _table("Checked", findings.checks)
    yield from _memory(findings)
    yield from _footprint(findings)
    yield ""
    yield from _verdict(findings)


def _injected(findings: Findings) -> Iterator[str]:
    """A move that is planned is not carried out if its request has ended before, and the last one
    of a request is as often as the request is tried again.
    """
    planned, performed = findings.planned, findings.performed
    names = sorted(planned.keys() | performed.keys())
    width = max(map(len, names), default=0)
    yield ""
    yield f"{'Injected':<{width + 2}}    planned (same for a seed)  carried out"
    for name in names:
        plan = f"{planned[name]:,}" if name in planned else ""
        yield f"  {name:<{width}}  {plan:>27}  {performed[name]:>11,}"


def _table(title: str, counts: Counter[str]) -> Iterator[str]:
    yield ""
    yield title
    width = max(map(len, counts), default=0)
    for name in sorted(counts):
        yield f"  {name:<{width}}  {counts[name]:>9,}"


def _memory(findings: Findings) -> Iterator[str]:
    yield ""
    yield "Memory, after each pool has ended"
    for mark in findings.marks:
        resident = "" if mark.resident_kib is None else f", {mark.resident_kib:>9,} KiB resident"
        yield f"  {mark.requests:>9,} requests: {mark.blocks:>9,} blocks{resident}"


def _footprint(findings: Findings) -> Iterator[str]:
    before, after = findings.before, findings.after
    if before is None or after is None:
        return
    yield ""
    yield "Held by the process, before and after"
    yield f"  threads      {len(before.threads):>5} {len(after.threads):>5}"
    yield f"  descriptors  {before.descriptors or 0:>5} {after.descriptors or 0:>5}"
    yield f"  actors       {before.actors:>5} {after.actors:>5}"


def _verdict(findings: Findings) -> Iterator[str]:
    if not findings.violations:
        yield f"OK: {findings.checks.total():,} checks, nothing that must not be"
        return
    yield f"FAILED: {len(findings.violations)} violations"
    yield f"  seed {findings.seed}; again with: {command(findings)}"
    for violation in findings.violations[:SHOWN]:
        yield from _told(violation)
    if len(findings.violations) > SHOWN:
        yield f"  and {len(findings.violations) - SHOWN} more"


def _told(violation: Violation) -> Iterator[str]:
    about = f", request {violation.request}" if violation.request else ""
    yield f"  {violation.where}{about}: {violation.what}"
    yield from (f"      {line}" for line in violation.story[-STORY:])
