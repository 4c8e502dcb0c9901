"""Whether a command was given an endpoint or a file."""

from __future__ import annotations

import stat
from pathlib import Path

from greenroom.commands.exits import UsageError
from greenroom.status.status_client import StatusClient


def endpoint_of(source: str) -> StatusClient | None:
    """Who asks an endpoint; None: it is a file.

    Raises:
        UsageError: it is an address, and no endpoint can be there.
    """
    if source.startswith("https://"):
        raise UsageError(f"an endpoint is asked by http://, got {source}")
    named = source.startswith(("http://", "unix:"))
    path = Path(source)
    if not named and path.exists():
        named = stat.S_ISSOCK(path.stat().st_mode)
        if not named:
            return None
    try:
        return StatusClient(source) if named or ":" in source else None
    except ValueError as error:
        if named:
            raise UsageError(str(error)) from None
        return None
