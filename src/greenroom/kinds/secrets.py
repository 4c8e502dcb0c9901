"""Which values of the environment are keys, and texts without them."""

from __future__ import annotations

import os
import re

SHORTEST_SECRET = 6
"""A shorter value of the environment is left alone: it would be found in ordinary words."""

_OF_A_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_named: set[str] = set()


def note_secret(name: str) -> None:
    """A variable holds a key, whatever it is called: a file, or an agent, says so."""
    _named.add(name)


def without_secrets(text: str) -> str:
    """The text without the keys of the environment: a server may repeat them in its refusal."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return text


def _secrets() -> list[str]:
    """The longest first, as one may hold another."""
    names = (name for name in os.environ if name in _named or _OF_A_SECRET.search(name))
    found = (os.environ.get(name, "").strip() for name in names)
    return sorted((each for each in found if len(each) >= SHORTEST_SECRET), key=len, reverse=True)
