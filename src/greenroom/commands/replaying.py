"""What `greenroom replay` reads, and what it prints."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.terminal import say
from greenroom.flight.flight_file import lines_of
from greenroom.flight.flight_lines import NOT_OF_A_RECORDING, FlightError
from greenroom.flight.flight_reading import newest_in
from greenroom.messages.config import PoolConfig
from greenroom.simulate.recorded_flight import recorded
from greenroom.simulate.replay import Changes, replay
from greenroom.simulate.replay_tables import replay_as_json, replay_as_text

_STRATEGY = "strategy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command."""

    flight: Path | None = None
    settings: Sequence[str] = ()
    without: Sequence[str] = ()
    within_s: float | None = None
    seed: int = 1
    json: bool = False


def carry_out(options: Options) -> int:
    """Play it again, and print what came out; the exit code.

    Raises:
        UsageError: the recording cannot be played, or a change is none.
    """
    try:
        changes = _changes(options)
        path = newest_in(Path()) if options.flight is None else options.flight
        flight = recorded(lines_of(path))
        outcome = replay(flight, changes, within_s=options.within_s, seed=options.seed)
        told = replay_as_json(outcome) if options.json else replay_as_text(outcome)
    except FlightError as error:
        where = "" if options.flight is None else f"{options.flight}: "
        what = str(error)
        raise UsageError(what if what.startswith(("cannot", "there")) else where + what) from None
    except (TypeError, ValueError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from None
    except NOT_OF_A_RECORDING as error:
        raise UsageError(f"{path}: a value is none of a recording: {error}") from None
    say(told)
    return Exit.DONE


def _changes(options: Options) -> Changes:
    settings: dict[str, Any] = {}
    strategy = None
    known = [each.name for each in fields(PoolConfig)]
    for text in options.settings:
        name, equals, said = text.partition("=")
        if not equals:
            raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
        if name == _STRATEGY:
            strategy = said
        elif name in known:
            settings[name] = _value(said)
        else:
            raise ValueError(f"--set: {name!r} is neither strategy nor a setting of a pool")
    return Changes(strategy=strategy, settings=settings, without=options.without)


def _value(said: str) -> Any:
    """As in TOML; a bare word is a text, and `none` is no limit."""
    if said.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {said}")["value"]
    except tomllib.TOMLDecodeError:
        return said
