"""`python -m chaos`: carry out a plan, print the report; the exit code says whether all held."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.driver import run
from chaos.report import report
from chaos.traced import watch_spans

LONG_FORM = 200_000


def main(arguments: Sequence[str] | None = None) -> int:
    """0: everything held; 1: it did not, and the report says what."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    ends = watch_spans() if options.traced else None
    findings = run(options.seed, options.requests, _progress)
    text = report(findings) + f"took {time.monotonic() - began:.0f} s\n"
    if ends is not None:
        text += ends.report()
    print(text)
    if options.report is not None:
        options.report.write_text(text)
    return 1 if findings.violations or (ends is not None and not ends.is_even) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the fault plan (default: 1)")
    parser.add_argument(
        "--requests", type=_positive, default=LONG_FORM, help=f"default: {LONG_FORM}"
    )
    parser.add_argument(
        "--traced", action="store_true", help="also look whether each span is ended once"
    )
    parser.add_argument("--report", type=Path, help="write the report to this file as well")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
