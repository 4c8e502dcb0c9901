"""`greenroom doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from greenroom.commands import doctoring


def doctor(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Logs, the oldest first (- is stdin, .gz will do), or endpoints (http://...).",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="What is found as JSON.")] = False,
) -> None:
    """Say what is wrong in how pools are set up, by their log or their endpoint.

    Reads what greenroom.log("DEBUG", format="json", sink="app.jsonl") has written, or what
    AgentPool.start(status="127.0.0.1:9100") shows. Ends with 1 if
    something is found: each with what was seen, what to do, and the page that has more.
    """
    raise typer.Exit(doctoring.carry_out(files, json))
