"""The command `greenroom simulate`: its arguments, what it reads, what it prints."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from greenroom.messages.status import LoadBalanceStrategy
from greenroom.simulate.result_tables import as_json, as_text
from greenroom.simulate.run import simulate
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.scenario_file import NAMES, ScenarioError, scenarios_of, shipped_text
from greenroom.simulate.tally import Result

MOST_BYTES = 1_000_000
"""How long a scenario file may be."""

DESCRIPTION = """\
Plays requests through a pool with each of several routing strategies, and compares what comes
out: how many are answered, how soon, by whom. Nothing waits: an hour takes seconds. The members,
their faults, the load and the pool's settings come from a TOML file, or are those of a scenario
that comes with greenroom."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "scenario", metavar="SCENARIO", help=f"a TOML file, or one of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--strategy",
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


def carry_out(options: argparse.Namespace) -> None:
    """Simulate, and print what came out.

    Raises:
        ScenarioError: the scenario cannot be read, or not be used.
    """
    text = _text(options.scenario)
    if options.print:
        print(text, end="")
        return
    outcomes = _outcomes(_chosen(text, options))
    if options.json:
        print(as_json(list(outcomes)))
        return
    for number, outcome in enumerate(outcomes):
        print(*([""] if number else []), as_text(*outcome), sep="\n", flush=True)


def _text(scenario: str) -> str:
    if scenario in NAMES:
        return shipped_text(scenario)
    try:
        with Path(scenario).open("rb") as file:  # no more than that of a file that never ends
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ScenarioError(f"cannot use {scenario}: longer than {MOST_BYTES} bytes")
        return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8").read()
    except OSError as error:
        raise ScenarioError(f"cannot read {scenario}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"cannot read {scenario}: not UTF-8: {error.reason}") from None


def _chosen(text: str, options: argparse.Namespace) -> Sequence[Scenario]:
    """The scenarios to simulate, with what the arguments say instead of the file."""
    source = options.scenario
    name = source if source in NAMES else Path(source).stem
    found = scenarios_of(text, source, name)
    if options.variant is not None:
        wanted = f"{name}, {options.variant}"
        names = ", ".join(repr(each.name.removeprefix(f"{name}, ")) for each in found)
        found = tuple(each for each in found if each.name == wanted)
        if not found:
            raise ScenarioError(
                f"{source}: --variant must be among {names}, got {options.variant!r}"
            )
    if options.seed is not None:
        found = tuple(each.replace(seed=options.seed) for each in found)
    if options.strategy is not None:
        strategies = tuple(dict.fromkeys(options.strategy))
        found = tuple(each.replace(strategies=strategies) for each in found)
    return found


def _outcomes(scenarios: Sequence[Scenario]) -> Iterator[tuple[Scenario, list[Result]]]:
    for scenario in scenarios:
        results = []
        for strategy in scenario.strategies:
            _say(f"{scenario.name}: {strategy}")
            results.append(simulate(scenario, strategy))
        _say("")
        yield scenario, results


def _say(what: str) -> None:
    """Show in a terminal what is being simulated; an empty text wipes it off."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
