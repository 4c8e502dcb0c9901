"""`greenroom worker`."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from greenroom.commands.exits import UsageError
from greenroom.commands.opened_pool import file_errors, local_modules, shown_log
from greenroom.commands.options import POOL_PATH, PoolPath, Verbose, key_of
from greenroom.commands.terminal import say
from greenroom.kinds.pool_file import read_pool_file
from greenroom.messages.member import Member
from greenroom.remote.worker import serve_worker


def worker(
    pool: PoolPath = POOL_PATH,
    member: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which member of the file; the only one if not said."),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="URL", help="Where: http://HOST:PORT, or nats://HOST/SUBJECT.")
    ] = "http://127.0.0.1:8700",
    key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the key."),
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Listen beyond this machine without a key.")
    ] = False,
    cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate, for https://.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The key of it.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", metavar="FILE", help="What a NATS server's is of.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .creds file of a NATS server.")
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(metavar="N", help="Calls that may wait; as many as run, if not said."),
    ] = None,
    drain: Annotated[
        float, typer.Option(metavar="S", help="Seconds for what is at hand at the end.")
    ] = 30.0,
    verbose: Verbose = 0,
) -> None:
    """Serve one member of the pool's file to pools elsewhere.

    Those have it as RemoteAgent(URL). SIGTERM and Ctrl-C end it when what is at hand has been
    answered; a second one ends it at once.
    """
    key = key_of(key_env)
    options = _Options(listen, key, without_key, cert, tls_key, ca_file, credentials, queue, drain)
    with shown_log(verbose), local_modules():
        served = _member(pool, member)
        ended_by = asyncio.run(_serve(served, options))
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class _Options:
    """Where it is served, and how. (Not in a repr: the key.)"""

    listen: str
    key: str | None
    without_key: bool
    cert: Path | None
    tls_key: Path | None
    ca_file: Path | None
    credentials: Path | None
    queue: int | None
    drain_s: float

    def __repr__(self) -> str:
        return f"<worker at {self.listen.partition('://')[0]}>"


async def _serve(member: Member, options: _Options) -> signal.Signals | None:
    try:
        return await serve_worker(
            member,
            options.listen,
            key=options.key,
            without_key=options.without_key,
            cert=options.cert,
            tls_key=options.tls_key,
            ca_file=options.ca_file,
            credentials=options.credentials,
            queue=options.queue,
            drain_s=options.drain_s,
            on_listening=lambda url: say(f"{member.name} is served at {url}", stream=sys.stderr),
        )
    except (ValueError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot serve: {error.strerror or error}") from None


def _member(path: Path, name: str | None) -> Member:
    """The member of that name. What is wrong with another one is no matter here.

    Raises:
        UsageError: the file cannot be used, or has none of that name.
    """
    wrong: dict[str, Exception] = {}

    def note(_: int, of: str, error: Any) -> None:
        wrong[of] = error

    with file_errors(path):
        members = {each.name: each for each in read_pool_file(path, None, note).members}
        names = [*members, *wrong]
        if name is None:
            if len(names) != 1:
                raise UsageError(f"--member must be one of {', '.join(names)}, got none")
            (name,) = names
        if name in wrong:
            raise wrong[name]
    if name not in members:
        raise UsageError(f"--member must be one of {', '.join(names)}, got {name!r}")
    return members[name]
