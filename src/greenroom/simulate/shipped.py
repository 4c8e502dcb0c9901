"""The scenarios that come with greenroom: each one readable, each a start for a user's own."""

from __future__ import annotations

from importlib import resources

NAMES = ("linkerd", "supermarket", "llm")


def shipped_text(name: str) -> str:
    """The TOML of a scenario of that name, which is one of `NAMES`."""
    folder = resources.files("greenroom.simulate") / "scenarios"
    return (folder / f"{name}.toml").read_text(encoding="utf-8")
