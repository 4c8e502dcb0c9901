"""What the program says of itself."""

from __future__ import annotations

from importlib import metadata

DESCRIPTION = "A supervised pool of agents: routing, breakers, restarts."
NEEDS_CLI = "needs the extra cli: pip install 'greenroom[cli]'"


def version() -> str:
    """The name of the program and its version."""
    return f"greenroom {metadata.version('greenroom')}"
