"""`greenroom top`."""

from __future__ import annotations

from typing import Annotated

import typer

from greenroom.commands import watching


def top(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A status endpoint, as http://127.0.0.1:9100; or a log in JSON, - is stdin.",
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="One frame, and no more.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="From one frame to the next.")
    ] = 1.0,
) -> None:
    """Show pools at work.

    Members, breakers, queue, latencies and the last events, live: from the endpoint that --status
    or AgentPool.start(status=...) opens, or from what greenroom.log(format="json") writes, also
    afterwards.
    """
    options = watching.Options(source=source, once=once, every_s=every)
    raise typer.Exit(watching.carry_out(options))
