"""`greenroom serve`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.commands.exits import UsageError
from greenroom.commands.opened_pool import file_errors, shown_log
from greenroom.commands.options import POOL_PATH, PoolPath, Verbose
from greenroom.commands.terminal import say
from greenroom.pool.agent_pool import AgentPool


def serve(
    config: PoolPath = POOL_PATH,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for a free one.")] = 8000,
    key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the key."),
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Listen beyond this machine without a key.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name for the pool; '*' takes any."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds for what is at hand at the end.")
    ] = 30.0,
    verbose: Verbose = 0,
) -> None:
    """Serve the pool as an OpenAI-compatible endpoint.

    Any client of that protocol has the pool as its model: give it the URL that is printed. SIGTERM
    and Ctrl-C end it when what is at hand has been answered; a second one ends it at once.
    """
    run = _serve(config, host, port, _key(key_env), without_key, model or (), drain)
    with shown_log(verbose):
        ended_by = asyncio.run(run)
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(
    path: Path,
    host: str,
    port: int,
    key: str | None,
    without_key: bool,
    models: Sequence[str],
    drain_s: float,
) -> signal.Signals | None:
    try:
        from greenroom.serve import serve as served
    except ModuleNotFoundError as error:
        raise UsageError(str(error)) from None
    with file_errors():
        pool = AgentPool.from_toml(path)
    async with pool:
        try:
            return await served(
                pool,
                host=host,
                port=port,
                key=key,
                without_key=without_key,
                models=models,
                drain_s=drain_s,
                on_listening=lambda url: _say_where(pool, url, key is not None),
            )
        except ValueError as error:
            raise UsageError(f"{error} (--key-env NAME or --without-key)") from None
        except OSError as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error.strerror}") from None


def _say_where(pool: PoolRef, url: str, with_key: bool) -> None:
    say(f"{pool.name} at {url}{' (with a key)' if with_key else ''}", stream=sys.stderr)


def _key(name: str | None) -> str | None:
    """The key; what is missing is told by the name of its variable."""
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(f"--key-env must name a variable that is set, {name} is not")
    return key
