"""Carries a plan out: one pool after the other, and what all of them leave behind."""

from __future__ import annotations

from collections.abc import Callable

from chaos import footprint
from chaos.act import OneAct
from chaos.findings import Findings, Violation
from chaos.plan import acts
from chaos.watch import Watch
from chaos.ways import senders


def run(seed: int, requests: int, tell: Callable[[str], object] = lambda _: None) -> Findings:
    """Carry out a plan.

    Args:
        seed, requests: of the plan.
        tell: is given a line after every act.
    """
    findings, watch = Findings(seed, requests), Watch()
    findings.before = footprint.footprint()
    ways = senders()
    try:
        for act in acts(seed, requests):
            one = OneAct(act, findings, watch, ways)
            try:
                one.play()
            except Exception as error:  # Stuck, or a command that was not answered in time
                one.report_stuck(error)
                break
            finally:
                one.leave()
            tell(f"act {act.number + 1}: {act.strategy}, {findings.sent} requests sent")
    finally:
        for each in ways.values():
            each.close()
    findings.after = footprint.footprint()
    for what in footprint.judge_footprint(findings.before, findings.after):
        findings.violations.append(Violation(what, "the whole run"))
    findings.seen.update(watch.seen)
    shouts = watch.seen["complaint: a future's done callback raised"]
    findings.performed["fault: done callback that raises"] = shouts
    findings.checks["memory"] += 1
    for what in footprint.judge_memory(findings.marks):  # from the end of the first act on
        findings.violations.append(Violation(what, "the whole run"))
    return findings
