"""`greenroom serve`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.commands.exits import UsageError
from greenroom.commands.opened_pool import file_errors, local_modules, shown_log, started
from greenroom.commands.options import POOL_PATH, PoolPath, Status, Verbose, key_of
from greenroom.commands.terminal import say
from greenroom.pool.hangup import reload_on_hangup


def serve(
    pool: PoolPath = POOL_PATH,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for a free one.")] = 8000,
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
        float, typer.Option(metavar="S", help="Seconds for what is at hand at the end.")
    ] = 30.0,
    status: Status = None,
    verbose: Verbose = 0,
) -> None:
    """Serve the pool as an OpenAI-compatible endpoint.

    Any client of that protocol has the pool as its model: give it the URL that is printed. SIGTERM
    and Ctrl-C end it when what is at hand has been answered; a second one ends it at once. SIGHUP
    has it read the file again.
    """
    key = key_of(key_env)
    place = _Place(pool, host, port, key, without_key, tuple(model or ()), drain, status)
    with shown_log(verbose), local_modules():
        ended_by = asyncio.run(_serve(place))
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class _Place:
    """What is served, where and how."""

    path: Path
    host: str
    port: int
    key: str | None
    without_key: bool
    models: Sequence[str]
    drain_s: float
    status: str | None


async def _serve(place: _Place) -> signal.Signals | None:
    try:
        from greenroom.serve import serve as served
    except ModuleNotFoundError as error:
        raise UsageError(str(error)) from None
    async with _pool_of(place) as pool:
        try:
            return await served(
                pool,
                host=place.host,
                port=place.port,
                key=place.key,
                without_key=place.without_key,
                models=place.models,
                drain_s=place.drain_s,
                on_listening=lambda url: say(_where(pool, url), stream=sys.stderr),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"cannot listen at {place.host}:{place.port}: {why}") from None


@contextlib.asynccontextmanager
async def _pool_of(place: _Place) -> AsyncIterator[PoolRef]:
    """The pool of the file, on this loop; a SIGHUP has it read the file again."""
    with file_errors(place.path):
        pool = started(place.path, place.status)
    with contextlib.ExitStack() as last:
        if threading.current_thread() is threading.main_thread():
            # Ended behind the pool: a reload that is under way may wait for this loop.
            last.callback(reload_on_hangup(pool))
        async with pool:
            yield pool


def _where(pool: PoolRef, url: str) -> str:
    return f"{pool.name} is served at {url}"
