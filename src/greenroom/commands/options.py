"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PoolPath = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The pool: a TOML file.")
]
"""Where the pool stands; `POOL_PATH` unless it is said."""

POOL_PATH = Path("pool.toml")

Limit = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="How long it may take.")
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
