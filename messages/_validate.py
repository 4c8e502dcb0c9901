"""The checks of messages and settings: a clear error names the field, the value and the rule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

S = TypeVar("S", bound=StrEnum)

LONGEST_NAME = 200
"""How long a name may be, in characters: it stands in every line of the log and in every error."""
LONGEST_ID = 1000
"""The same for the id of a request: those of pools in pools grow with each of them."""

MOST_BITS_SHOWN = 2000

_UNFIT_FOR_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Each of them makes a terminal show what follows in another order (Unicode's Bidi_Control); a half
# of a surrogate pair cannot be encoded at all.
_UNFIT_TO_BE_SHOWN = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def number(
    field: str,
    value: Any,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Refuse whatever is not a finite number in [minimum, maximum] (or above the minimum).

    Raises:
        TypeError: not an int or float (a bool counts as neither).
        ValueError: NaN, infinite, or out of range.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise misfit(f"{field} must be a number", value)
    if not _finite(value):
        raise ValueError(f"{field} must be finite, got {shown(value)}")
    if value < minimum or (above and value == minimum):
        rule = f"greater than {minimum:g}" if above else f"at least {minimum:g}"
        raise ValueError(f"{field} must be {rule}, got {shown(value)}")
    if value > maximum:
        raise ValueError(f"{field} must be at most {maximum:g}, got {shown(value)}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def whole(
    field: str,
    value: Any,
    *,
    minimum: int | None = 0,
    maximum: int | None = None,
    optional: bool = False,
) -> None:
    """Refuse whatever is not an int in [minimum, maximum]."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise misfit(f"{field} must be a whole number", value)
    if minimum is not None and value < minimum:
        raise ValueError(f"{field} must be at least {minimum}, got {shown(value)}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{field} must be at most {maximum}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value as its repr, also a whole number with more digits than Python will print."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS_SHOWN:
        return f"a number of {value.bit_length()} bits"
    return repr(value)


def misfit(rule: str, value: Any) -> TypeError:
    """The error for a value of a type that is against a rule."""
    return TypeError(f"{rule}, got {shown(value)} ({type(value).__name__})")


def text(field: str, value: Any, *, optional: bool = False) -> None:
    """Refuse whatever is not a string with something in it."""
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise misfit(f"{field} must be a string", value)
    if not value.strip():
        raise ValueError(f"{field} must not be empty, got {value!r}")


def name(field: str, value: Any, *, longest: int = LONGEST_NAME) -> None:
    """Refuse whatever cannot stand in one line of a log: a name, or an id."""
    text(field, value)
    if len(value) > longest:
        raise ValueError(
            f"{field} must have at most {longest} characters, got {len(value)}: {value[:20]!r}..."
        )
    if _UNFIT_FOR_NAMES.search(value):
        raise ValueError(
            f"{field} must not contain line breaks or control characters, got {value!r}"
        )
    if _UNFIT_TO_BE_SHOWN.search(value):
        raise ValueError(
            f"{field} must not contain marks of text direction or halves of surrogate pairs, "
            f"got {value!a}"
        )


def one_of(field: str, value: Any, kind: type[S]) -> S:
    """The value as one of a vocabulary; its text may be given.

    Raises:
        TypeError: not a string.
        ValueError: none of them.
    """
    if not isinstance(value, str):
        raise misfit(f"{field} must be one of {', '.join(kind)}", value)
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{field} must be one of {', '.join(kind)}, got {value!r}") from None


def names(field: str, value: Any) -> tuple[str, ...]:
    """Names as a tuple, each of them once; one alone may be given as it is.

    Raises:
        TypeError: not a string, nor several of them.
        ValueError: one that cannot be a name.
    """
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise misfit(f"{field} must be a name, or several", value)
    chosen = tuple(value)
    for each in chosen:
        name(field, each)
    return tuple(dict.fromkeys(chosen))


def flag(field: str, value: Any) -> None:
    """Refuse whatever is not True or False."""
    if not isinstance(value, bool):
        raise misfit(f"{field} must be True or False", value)


def function(field: str, value: Any, *, optional: bool = False, secret: bool = False) -> None:
    """Refuse whatever cannot be called; what is `secret` may hold a key or payload: not shown."""
    if value is None and optional:
        return
    if not callable(value):
        raise TypeError(f"{field} must be callable, got {_given(value, secret)}")


def mapping(field: str, value: Any, *, secret: bool = False) -> None:
    """Refuse whatever is not a mapping with string keys; `secret` as for `function`."""
    if not hasattr(value, "keys") or not hasattr(value, "__getitem__"):
        raise TypeError(f"{field} must be a mapping, got {_given(value, secret)}")
    for key in value.keys():  # noqa: SIM118 - a duck-typed mapping need not iterate over its keys
        if not isinstance(key, str):
            raise TypeError(f"{field} must have string keys, got the key {key!r}")


def _given(value: Any, secret: bool) -> str:
    kind = type(value).__name__
    return f"a {kind}" if secret else f"{value!r} ({kind})"
