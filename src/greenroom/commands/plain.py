"""The two commands that need nothing but greenroom itself, by the standard library's argparse: for
where the extra `cli` is not installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from greenroom.commands import drill, simulation
from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.naming import DESCRIPTION, NEEDS_CLI, version
from greenroom.demo.demo import QUICK_REQUESTS, REQUESTS, Start
from greenroom.messages.status import LoadBalanceStrategy
from greenroom.simulate.scenario_file import NAMES
from greenroom.status.status_address import StatusAddress


def run(argv: Sequence[str], start: Start) -> int:
    """Carry out what the arguments say; the exit code.

    Raises:
        UsageError: they ask for another command.
    """
    parser = _parser()
    command = next((each for each in argv if not each.startswith("-")), None)
    if command not in (None, "demo", "simulate"):
        raise UsageError(f"{command} {NEEDS_CLI}; without it there are demo and simulate")
    try:
        options = vars(parser.parse_args(argv))
    except SystemExit as exit:  # argparse's way to say --help (0) and bad arguments (2)
        return exit.code if isinstance(exit.code, int) else Exit.USAGE
    command = options.pop("command")
    if command == "demo":
        return drill.carry_out(drill.Options(**options), start)
    if command == "simulate":
        simulation.carry_out(simulation.Options(**options))
    else:
        parser.print_help()
    return Exit.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="greenroom", description=DESCRIPTION, epilog=f"Every other command {NEEDS_CLI}."
    )
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    _add_demo(commands.add_parser("demo", help=drill.SUMMARY, description=drill.DESCRIPTION))
    _add_simulate(
        commands.add_parser("simulate", help=simulation.SUMMARY, description=simulation.DESCRIPTION)
    )
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the README here")
    length = demo.add_mutually_exclusive_group()
    length.add_argument(
        "--requests", type=_at_least_one, default=REQUESTS, metavar="N", help="default: %(default)s"
    )
    length.add_argument(
        "--quick", dest="requests", action="store_const", const=QUICK_REQUESTS, help="two seconds"
    )
    demo.add_argument("--seed", type=int, default=7, help="of all chance (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="log lines as JSON")
    demo.add_argument("--log-level", type=str.upper, choices=drill.LEVELS, default="INFO")
    demo.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a progress bar (default: in a terminal, with greenroom[cli])",
    )
    demo.add_argument(
        "--status", type=_address, metavar="ADDRESS", help="show the pool there, over HTTP"
    )


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenario", metavar="SCENARIO", help=f"a TOML file, or one of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--strategy",
        dest="strategies",
        action="append",
        choices=[each.value for each in LoadBalanceStrategy],
        metavar="NAME",
        help="only this one; may be given several times (default: those of the scenario)",
    )
    parser.add_argument("--variant", metavar="NAME", help="only this variant of the scenario")
    parser.add_argument("--seed", type=int, help="of all chance (default: the scenario's)")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument(
        "--print", action="store_true", help="the scenario's own TOML, as a start for yours"
    )


def _at_least_one(text: str) -> int:
    try:
        return drill.at_least_one(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> str:
    try:
        return str(StatusAddress.parsed(text, "the address"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
