"""Whether a payload can be said to anybody: Python's texts may hold halves of characters, its
numbers be infinite, its lists hold themselves. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from greenroom.messages.errors import PayloadError

DEEPEST = 100
"""Lists in lists: of more, whoever writes or reads them runs out of stack."""

_LONE = re.compile(r"[\ud800-\udfff]")
_PLAIN = (int, type(None))
_HOLDERS = (dict, list, tuple, Mapping)  # the last one is slow to ask


def check_encodable(payload: Any) -> None:
    """Refuse what cannot be encoded: whoever tries to has it whole in an error, and the blame.

    Raises:
        PayloadError: there is such a thing in it, which is named by its kind.
    """
    if fault := unencodable(payload):
        raise PayloadError(f"payload must be what can be encoded, got {fault} in it")


def unencodable(value: Any) -> str | None:
    """What of a value JSON in UTF-8 cannot say, in words; None where there is no such thing."""
    level: Iterable[Any] = [[value]]
    for _ in range(DEEPEST + 1):
        inner: dict[int, Any] = {}  # each once: a list may be in itself twice
        for each in level:
            for held in chain(each, each.values()) if isinstance(each, Mapping) else each:
                if isinstance(held, str):
                    if not held.isascii() and _LONE.search(held) is not None:
                        return "a lone surrogate"
                elif isinstance(held, float):
                    if not math.isfinite(held):
                        return "a number that is not finite"
                elif not isinstance(held, _PLAIN) and isinstance(held, _HOLDERS):
                    inner[id(held)] = held
        if not inner:
            return None
        level = inner.values()
    return f"more than {DEEPEST} lists in lists"
