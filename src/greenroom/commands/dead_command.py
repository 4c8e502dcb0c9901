"""`greenroom dead`."""

from __future__ import annotations

from typing import Annotated

import typer

from greenroom.commands import burying
from greenroom.commands.options import POOL_PATH, PoolPath


def dead(
    action: Annotated[
        burying.Action, typer.Argument(help="What is to be done.")
    ] = burying.Action.LIST,
    request: Annotated[
        str | None, typer.Argument(metavar="ID", help="Of the tell: see list.")
    ] = None,
    pool: PoolPath = POOL_PATH,
    every: Annotated[bool, typer.Option("--all", help="All of them: of retry and drop.")] = False,
    payload: Annotated[
        bool, typer.Option("--payload", help="Of show: the payload and the metadata, too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Durable tells that are dead: list them, show one, retry or drop it.

    Asks the courier that stands in the pool's file; no pool is started. A retry has the tell
    delivered as if it were new. Exit code 1 if there is none of that id.
    """
    options = burying.Options(
        action=action, request=request, pool=pool, every=every, payload=payload, json=json
    )
    raise typer.Exit(burying.carry_out(options))
