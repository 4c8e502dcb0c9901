"""`greenroom ask`."""

from __future__ import annotations

from typing import Annotated

import typer

from greenroom.commands import asking
from greenroom.commands.options import POOL_PATH, Limit, PoolPath, Status, Verbose


def ask(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; - or none: what comes from stdin.")
    ] = None,
    pool: PoolPath = POOL_PATH,
    json: Annotated[bool, typer.Option("--json", help="The whole reply, as JSON.")] = False,
    stream: Annotated[
        bool | None,
        typer.Option(help="Chunk by chunk, where members can (default: in a terminal)."),
    ] = None,
    timeout: Limit = None,
    status: Status = None,
    verbose: Verbose = 0,
) -> None:
    """Ask a pool, once.

    The answer goes to stdout as it comes, the log and the errors to stderr. Exit code 1 if no
    member could answer, 2 if the file cannot be used.
    """
    options = asking.Options(
        prompt=prompt,
        pool=pool,
        json=json,
        stream=stream,
        timeout_s=timeout,
        verbose=verbose,
        status=status,
    )
    raise typer.Exit(asking.carry_out(options))
