"""The command line: `greenroom demo` shows a pool at work through two outages, `greenroom simulate`
compares the strategies.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import greenroom
from greenroom import simulate_command as simulation
from greenroom.demo.demo import QUICK_REQUESTS, REQUESTS, Demo, Plan, Start
from greenroom.demo.demo_agents import passages
from greenroom.demo.screen import PlainScreen, RichScreen, show_result
from greenroom.logs.log import log
from greenroom.pool.agent_pool import AgentPool
from greenroom.simulate.scenario_file import ScenarioError

READMES = ("README.md", "README.rst", "README.txt", "README")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MOST_BYTES = 4_000_000
"""Of a longer file, only this much is worked on."""
OK, MISSING_ANSWERS, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
NOBODY_READS = 141
"""What a shell makes of a program that SIGPIPE has ended: `greenroom demo | head -1`."""


class UsageError(Exception):
    """What was asked for cannot be done; the message says why."""


def main(argv: Sequence[str] | None = None, *, start: Start = AgentPool.start) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None for those of the process.
        start: what starts the demo's pool (for tests).

    Returns:
        0: done, and of a demo every answer is there and right. 1: one is missing or wrong.
        2: bad arguments. 130: interrupted. 141: nobody reads the output.
    """
    try:
        code = _run(argv, start)
        print(end="", flush=True)  # here, and not at the exit, where it could not be caught
        return code
    except BrokenPipeError:
        _write_nowhere()
        return NOBODY_READS


def _run(argv: Sequence[str] | None, start: Start) -> int:
    try:
        options = _parser().parse_args(argv)
        if options.command == "simulate":
            simulation.carry_out(options)
            return OK
        return _demo(options, start)
    except SystemExit as exit:  # argparse's way to say --help (0) and bad arguments (2)
        return exit.code if isinstance(exit.code, int) else BAD_ARGUMENTS
    except (UsageError, ScenarioError) as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        print("greenroom: interrupted", file=sys.stderr)
        return INTERRUPTED


def _write_nowhere() -> None:
    """So that what is still buffered does no harm at the exit (Python docs, Note on SIGPIPE)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # there may be no such stream, or none with a file
            os.dup2(nowhere, stream.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="greenroom", description="A supervised pool of agents: routing, breakers, restarts."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    demo = commands.add_parser(
        "demo",
        help="an outage drill",
        description="Three agents (a coroutine, a blocking function, an object made on first use) "
        "count the words of a file. One starts to fail, another to hang; the pool routes around "
        "them and takes them back. The log goes to stderr, the result to stdout. Exit code 1 if "
        "an answer is missing or wrong.",
    )
    demo.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the README here")
    length = demo.add_mutually_exclusive_group()
    length.add_argument(
        "--requests", type=_positive, default=REQUESTS, metavar="N", help="default: %(default)s"
    )
    length.add_argument(
        "--quick", dest="requests", action="store_const", const=QUICK_REQUESTS, help="two seconds"
    )
    demo.add_argument("--seed", type=int, default=7, help="of all chance (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="log lines as JSON")
    demo.add_argument("--log-level", type=str.upper, choices=LEVELS, default="INFO")
    demo.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a progress bar (default: in a terminal, with greenroom[cli])",
    )
    help = "which strategy for these members and this load"
    simulation.add_arguments(commands.add_parser("simulate", help=help))
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def _demo(options: argparse.Namespace, start: Start) -> int:
    source, text = _text(options.file)
    try:
        pieces = passages(text, options.requests)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    screen = _screen(options.progress)
    plan = Plan(requests=len(pieces), seed=options.seed)
    with screen.progress(len(pieces)) as on_progress:
        end_log = log(
            options.log_level,
            format="json" if options.json else "text",
            sink=screen.sink,
            colorize=None if screen.sink is None else True,
        )
        try:
            result = Demo(pieces, plan, start=start, on_progress=on_progress).run()
        finally:
            end_log()  # its last lines come while the bar is still there to print above
    show_result(screen, result, source)
    return OK if result.ok else MISSING_ANSWERS


def _screen(progress: bool | None) -> PlainScreen:
    if find_spec("rich") is None:
        if progress:
            raise UsageError('--progress needs rich: pip install "greenroom[cli]"')
        return PlainScreen()
    return RichScreen(bar=sys.stderr.isatty() if progress is None else progress)


def _text(file: Path | None) -> tuple[str, str]:
    """What to work on: its name, and the text itself."""
    if file is None:
        file = next((Path(name) for name in READMES if Path(name).is_file()), None)
    if file is None:
        docs = (inspect.getdoc(getattr(greenroom, name)) for name in greenroom.__all__)
        return "greenroom's own docs", "\n".join(doc for doc in docs if doc)
    try:
        with file.open("rb") as stream:
            return str(file), stream.read(MOST_BYTES).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
