"""What is found out about a request where it is made, since it takes code of the app's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Accepts = Callable[[Any], object]
"""Says of a payload whether a member may have it: `Member.accepts`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the members' `accepts` have said of a payload.

    Attributes:
        asked: the functions that were; held, since they are known by their ids below.
        refusals: by the id of a function, why its members must not have the request; "" where they
            may.
    """

    asked: tuple[Accepts, ...] = ()
    refusals: tuple[tuple[int, str], ...] = ()


NOBODY_ASKED = Heard()
