"""Which values of the environment are keys, and texts without them."""

from __future__ import annotations

import os
import re

from greenroom.messages.pickling import LONGEST_LINE

SHORTEST_SECRET = 6
"""A shorter value of the environment is left alone: it would be found in ordinary words."""

_OF_A_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_named: set[str] = set()


def note_secret(name: str) -> None:
    """A variable holds a key, whatever it is called: a file, or an agent, says so."""
    _named.add(name)


def key_in(field: str, name: str) -> str:
    """The key that a variable of the environment holds.

    Raises:
        ValueError: it holds none; told with the field and the variable's name.
    """
    note_secret(name)
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"{field} must name a variable that is set, {name} is not")
    return key


def without_secrets(text: str) -> str:
    """The text without the keys of the environment: a server may repeat them in its refusal."""
    for secret in _secrets():
        text = text.replace(secret, "***")
        if len(text) >= LONGEST_LINE:
            text = _without_begin(text, secret)
    return text


def _without_begin(text: str, secret: str) -> str:
    """What an error says is cut where it is long, which may be in the middle of a key."""
    if secret[:SHORTEST_SECRET] not in text:
        return text
    for size in range(len(secret) - 1, SHORTEST_SECRET - 1, -1):
        if secret[:size] in text:
            text = re.sub(rf"{re.escape(secret[:size])}(?=[\s),;]|$)", "***", text)
    return text


def _secrets() -> list[str]:
    """The longest first, as one may hold another."""
    names = (name for name in os.environ if name in _named or _OF_A_SECRET.search(name))
    found = (os.environ.get(name, "").strip() for name in names)
    return sorted((each for each in found if len(each) >= SHORTEST_SECRET), key=len, reverse=True)
