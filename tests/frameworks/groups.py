"""Which cases share an environment; a group's name is also that of its file of requirements."""

from __future__ import annotations

LIGHT = "light"
"""What the dev extra has, too: its cases run in `make test`."""

GROUPS: dict[str, tuple[str, ...]] = {
    LIGHT: ("pydantic_ai",),
}
