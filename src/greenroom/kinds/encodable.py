"""Whether a payload can be said to anybody: Python's texts may hold halves of characters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LONE = re.compile(r"[\ud800-\udfff]")
_DEEPEST = 20
"""How deep it is looked: what is deeper, or holds itself, is for the client to refuse."""


def check_encodable(payload: Any) -> None:
    """Refuse texts that cannot be encoded: whoever tries to has them whole in an error.

    Raises:
        ValueError: there is a lone surrogate in it.
    """
    if _has_lone(payload, _DEEPEST):
        raise ValueError("payload must be text that can be encoded, got a lone surrogate in it")


def _has_lone(value: Any, deep: int) -> bool:
    if isinstance(value, str):
        return not value.isascii() and _LONE.search(value) is not None
    if deep and isinstance(value, Mapping):
        return any(_has_lone(each, deep - 1) for pair in value.items() for each in pair)
    if deep and isinstance(value, list | tuple):
        return any(_has_lone(each, deep - 1) for each in value)
    return False
