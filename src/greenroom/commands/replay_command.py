"""`greenroom replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenroom.commands import replaying


def replay(
    flight: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The recording (default: the newest flight.jsonl, .gz or .zst here).",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="The strategy or a setting that is to be another; may be given several times.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--members-without", metavar="NAME", help="A member that is not there."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="An answer that takes longer is no good."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn where nothing is recorded.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """What other settings would have made of a recording.

    The requests that came, the times that members took and their faults, through the same deciders:
    what is answered, how soon, by whom, when breakers are open, beside what really happened.
    """
    options = replaying.Options(
        flight=flight,
        settings=set_ or (),
        without=without or (),
        within_s=within,
        seed=seed,
        json=json,
    )
    raise typer.Exit(replaying.carry_out(options))
