"""What `greenroom simulate` reads, and what it prints."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from greenroom.commands.terminal import is_terminal, say
from greenroom.flight.flight_file import lines_of
from greenroom.flight.flight_lines import NOT_OF_A_RECORDING, FlightError
from greenroom.simulate.fitted_scenario import fitted
from greenroom.simulate.recorded_flight import recorded
from greenroom.simulate.result_tables import as_json, as_text
from greenroom.simulate.run import simulate
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.scenario_file import NAMES, ScenarioError, scenarios_of, shipped_text
from greenroom.simulate.tally import Result

MOST_BYTES = 1_000_000
"""How long a scenario file may be."""
SUMMARY = "Which strategy for these members and this load."
DESCRIPTION = """\
Plays requests through a pool with each of several routing strategies, and compares what comes
out: how many are answered, how soon, by whom. Nothing waits: an hour takes seconds. The members,
their faults, the load and the pool's settings come from a TOML file, or are those of a scenario
that comes with greenroom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command; what is None is as the scenario has it.

    Attributes:
        recording: what the scenario is to be made of instead.
    """

    scenario: str
    recording: Path | None = None
    strategies: Sequence[str] | None = None
    variant: str | None = None
    seed: int | None = None
    json: bool = False
    print: bool = False


def carry_out(options: Options) -> None:
    """Simulate, and print what came out.

    Raises:
        ScenarioError: the scenario cannot be read, or not be used.
    """
    if options.recording is not None:
        text = _fitted(options.recording)
        options = replace(options, scenario=str(options.recording))
    else:
        text = _text(options.scenario)
    if options.print:
        say(text, end="")
        return
    outcomes = _outcomes(_chosen(text, options))
    if options.json:
        say(as_json(list(outcomes)))
        return
    for number, outcome in enumerate(outcomes):
        say(("\n" if number else "") + as_text(*outcome))


def _fitted(recording: Path) -> str:
    try:
        return fitted(recorded(lines_of(recording)))
    except (FlightError, ModuleNotFoundError) as error:
        raise ScenarioError(f"cannot use {recording}: {error}") from None
    except NOT_OF_A_RECORDING as error:
        raise ScenarioError(
            f"cannot use {recording}: a value is none of a recording: {error}"
        ) from None


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


def _chosen(text: str, options: Options) -> Sequence[Scenario]:
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
    if options.strategies:
        strategies = tuple(dict.fromkeys(options.strategies))
        found = tuple(each.replace(strategies=strategies) for each in found)
    return found


def _outcomes(scenarios: Sequence[Scenario]) -> Iterator[tuple[Scenario, list[Result]]]:
    for scenario in scenarios:
        results = []
        for strategy in scenario.strategies:
            _show(f"{scenario.name}: {strategy}")
            results.append(simulate(scenario, strategy))
        _show("")
        yield scenario, results


def _show(what: str) -> None:
    """Show in a terminal what is being simulated; an empty text wipes it off."""
    if is_terminal(sys.stderr):
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
