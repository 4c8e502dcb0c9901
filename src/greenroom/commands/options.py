"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from greenroom.commands.exits import UsageError
from greenroom.kinds.secrets import key_in
from greenroom.messages import _validate as check
from greenroom.status.status_address import StatusAddress

PoolPath = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The pool: a TOML file.")
]
"""Where the pool stands; `POOL_PATH` unless it is said."""

POOL_PATH = Path("pool.toml")


class Level(StrEnum):
    """Those of the log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


def _seconds(value: float | None) -> float | None:
    try:
        check.number("timeout", value, above=True, optional=True)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


Limit = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", callback=_seconds, help="How long an answer may take."
    ),
]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Show the pool's log; -vv: all of it.",
    ),
]


def _address(value: str | None) -> str | None:
    try:
        return None if value is None else str(StatusAddress.parsed(value, "the address"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="ADDRESS",
        callback=_address,
        help="Show the pool there, over HTTP: 127.0.0.1:9100, or unix:PATH.",
    ),
]


def key_of(name: str | None) -> str | None:
    """The key that `--key-env` names; what is missing is told by the name of its variable."""
    try:
        return None if name is None else key_in("--key-env", name)
    except ValueError as error:
        raise UsageError(str(error)) from None
