"""`greenroom explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenroom.commands import explaining


def explain(
    request: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Of the request; without it: who is out until when."),
    ] = None,
    flight: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The recording (default: the newest flight.jsonl, .gz or .zst here).",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Why a request went where it did.

    From what AgentPool.start(record="flight.jsonl.zst") has written: why that member and none of
    the others, what took how long, what failed and what followed, what would have changed it.
    """
    options = explaining.Options(request=request, flight=flight, json=json)
    raise typer.Exit(explaining.carry_out(options))
