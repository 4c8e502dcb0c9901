"""`greenroom demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenroom.commands import drill
from greenroom.commands.options import Level, Status
from greenroom.demo.demo import QUICK_REQUESTS, REQUESTS


def _requests(text: str) -> int:
    try:
        return drill.at_least_one(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def demo(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: the README here.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(parser=_requests, metavar="N", help=f"Default: {REQUESTS}."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two seconds.")] = False,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 7,
    json: Annotated[bool, typer.Option("--json", help="Log lines as JSON.")] = False,
    log_level: Annotated[Level, typer.Option(case_sensitive=False)] = Level.INFO,
    progress: Annotated[
        bool | None, typer.Option(help="A progress bar (default: in a terminal).")
    ] = None,
    status: Status = None,
) -> None:
    if quick and requests is not None:
        raise typer.BadParameter("not allowed with --requests", param_hint="--quick")
    options = drill.Options(
        file=file,
        requests=QUICK_REQUESTS if quick else requests or REQUESTS,
        seed=seed,
        json=json,
        log_level=log_level.value,
        progress=progress,
        status=status,
    )
    raise typer.Exit(drill.carry_out(options, context.obj))


demo.__doc__ = f"{drill.SUMMARY}\n\n{drill.DESCRIPTION}"
