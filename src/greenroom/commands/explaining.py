"""What `greenroom explain` reads, and what it prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.terminal import say
from greenroom.flight.explanation import explain, who_is_out
from greenroom.flight.flight_lines import NOT_OF_A_RECORDING, FlightError
from greenroom.flight.flight_reading import log_with, newest_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command."""

    request: str | None = None
    flight: Path | None = None
    json: bool = False


def carry_out(options: Options) -> int:
    """Explain, and print it; the exit code.

    Raises:
        UsageError: the recording cannot be read, or knows nothing of the request.
    """
    request = None if options.request is None else options.request.removeprefix("#")
    try:
        flight = newest_in(Path()) if options.flight is None else options.flight
        log = log_with(flight, request)
        explanation = who_is_out(log) if request is None else explain(log, request)
    except (FlightError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from None
    except NOT_OF_A_RECORDING as error:
        raise UsageError(f"{flight}: a value is none of a recording: {error}") from None
    say(json.dumps(asdict(explanation)) if options.json else str(explanation))
    return Exit.DONE
