"""What is found out about a request where it is made, since it takes code of the app's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from greenroom.messages import _validate as check

Accepts = Callable[[Any], object]
"""Says of a payload whether a member may have it: `Member.accepts`."""

FairKey = str | int | bytes | tuple[Any, ...] | None
"""Whom a pool is shared out to: plain data, since its hash is taken in the router's place."""

WEIGHT_IN_METADATA = "fair_weight"
"""Where `Request.metadata` has the weight of the request's key."""

LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6


@dataclass(frozen=True, slots=True)
class Heard:
    """What the members' `accepts` have said of a payload, and whose request it is.

    Attributes:
        asked: the functions that were; held, since they are known by their ids below.
        refusals: by the id of a function, why its members must not have the request; "" where they
            may.
        fair_key: whose it is, by `PoolConfig.fair_by`; shown in no repr, as no key is.
        weight: the weight of that one.
    """

    asked: tuple[Accepts, ...] = ()
    refusals: tuple[tuple[int, str], ...] = ()
    fair_key: FairKey = None
    weight: float = 1.0

    def __repr__(self) -> str:
        return f"Heard({len(self.asked)} asked)"


NOBODY_ASKED = Heard()


def plain_key(field: str, value: Any) -> FairKey:
    """A key without any code of the app's in it.

    Raises:
        TypeError: it is no text, whole number, bytes, None, or a tuple of these.
    """
    if value is None or type(value) in (str, int, bytes, bool):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):  # an enum's, say
        return str.__str__(value)
    if type(value) is tuple:
        return tuple([plain_key(field, each) for each in value])
    # Not its repr: keys are the app's own, and may be secret.
    raise TypeError(
        f"{field} must give a text, a whole number, bytes, None or a tuple of these, "
        f"got a {type(value).__name__}"
    )


def check_weight(field: str, value: Any) -> None:
    """Refuse whatever is no number that a weight can be."""
    check.number(field, value, minimum=LEAST_WEIGHT, maximum=MOST_WEIGHT)


def check_weights(field: str, value: Any) -> None:
    """Refuse whatever is no table of weights by key; no key is told."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{field} must be a mapping of weights, got a {type(value).__name__}")
    for key, weight in value.items():
        plain_key(f"{field}: a key", key)
        check_weight(f"{field}: each weight", weight)
