"""`greenroom check`."""

from __future__ import annotations

from typing import Annotated

import typer

from greenroom.commands import checking
from greenroom.commands.options import POOL_PATH, Limit, PoolPath, Verbose


def check(
    pool: PoolPath = POOL_PATH,
    prompt: Annotated[
        str, typer.Option(help="What is asked of a member that has no probe.")
    ] = checking.PROMPT,
    json: Annotated[bool, typer.Option("--json", help="What was found, as JSON.")] = False,
    timeout: Limit = None,
    verbose: Verbose = 0,
) -> None:
    """Try each member of a pool.

    Every member is made and asked by itself: its time, its model, and what is wrong with it. This
    is a real request to each, unless it has a probe. Exit code 1 if one of them is not well, 2 if
    the file as a whole cannot be used.
    """
    options = checking.Options(
        pool=pool, prompt=prompt, json=json, timeout_s=timeout, verbose=verbose
    )
    raise typer.Exit(checking.carry_out(options))
