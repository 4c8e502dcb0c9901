"""The command: which groups, which peers, how often, pinned or free, and where to write it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, report
from benchmarks.groups import GROUPS
from benchmarks.harness import Plan, a_core, run_group
from benchmarks.model import Samples
from benchmarks.peers import PEERS

MOST_PACE = 10.0
"""A round of more would take longer than anybody waits for one."""
RESULTS = Path(__file__).resolve().parent / "results"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that everything works")
    for name, metavar, known in (("--only", "GROUP", GROUPS), ("--peers", "PEER", PEERS)):
        parser.add_argument(
            name,
            nargs="+",
            metavar=metavar,
            choices=known,
            default=[*known],
            help=f"some of {', '.join(known)}",
        )
    parser.add_argument("--processes", type=int, help="fresh processes a peer (default: 3)")
    parser.add_argument("--rounds", type=int, help="rounds in each of them (default: 5)")
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        metavar="X",
        help="loads take X times as long: for a machine that has other things to do",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--pin", action="store_const", const="pin", dest="where")
    where.add_argument("--free", action="store_const", const="free", dest="where")
    where.add_argument("--both", action="store_const", const="both", dest="where")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/")
    parser.add_argument("--markdown", type=Path, help="default: benchmarks/results/")
    arguments = parser.parse_args(argv)
    arguments.peers = ["greenroom", *(each for each in arguments.peers if each != "greenroom")]
    arguments.processes = arguments.processes or (1 if arguments.quick else 3)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    for name in ("processes", "rounds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if not 1 <= arguments.pace <= MOST_PACE:
        parser.error(f"--pace must be from 1 to {MOST_PACE:g}, got {arguments.pace:g}")
    if arguments.where == "pin" and a_core() is None:
        parser.error("--pin needs a system that can pin a process to a core")
    stem = RESULTS / ("quick" if arguments.quick else "latest")
    arguments.json = arguments.json or stem.with_suffix(".json")
    arguments.markdown = arguments.markdown or stem.with_suffix(".md")
    return arguments


def plans(arguments: argparse.Namespace) -> Iterator[Plan]:
    """Pinned, free, or both (the default, where a process can be pinned)."""
    core = a_core()
    if arguments.where != "free" and core is not None:
        yield Plan(arguments.processes, arguments.rounds, arguments.quick, core, arguments.pace)
    if arguments.where != "pin":
        yield Plan(arguments.processes, arguments.rounds, arguments.quick, None, arguments.pace)


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    described = machine.described()
    groups = [GROUPS[name] for name in GROUPS if name in arguments.only]
    samples: list[Samples] = []
    plan: Plan | None = None
    all_plans = list(plans(arguments))
    for plan in all_plans:
        for group in groups:
            if plan is all_plans[-1] or not group.together:
                samples += run_group(group, arguments.peers, plan, tell)
    assert plan is not None
    lines = report.compare(groups, samples, judged=not arguments.quick)
    text = report.as_markdown(described, asdict(plan), lines, report.sheets(groups, samples))
    figures = report.as_json(described, asdict(plan), samples, lines)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
    arguments.markdown.write_text(text, encoding="utf-8")
    print(text)
    return 0


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
