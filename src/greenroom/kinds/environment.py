"""A text of the environment as the value that a field wants, where its type says which. Pure."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

_TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
_TRUTHS |= {"false": False, "no": False, "off": False, "0": False}


def value_of(text: str, hint: Any) -> Any:
    """The number, the truth or one of the words that a field of this type wants; else the text.

    Args:
        hint: the type; None where nobody knows it.

    Raises:
        ValueError: it is none of what the field takes. The message is the rule, without the text,
            which may be secret.
    """
    kinds = {each for each in _parts(hint) if each is not type(None)}
    words = [word for each in kinds for word in _words(each)]
    if text in words:
        return text
    numbers, rules = kinds & {bool, int, float}, []
    if not numbers and not words:
        return text
    if kinds - numbers - {each for each in kinds if _words(each)}:
        return text  # it takes texts, or something else: nobody can tell which was meant
    if bool in numbers:
        if text.strip().lower() in _TRUTHS:
            return _TRUTHS[text.strip().lower()]
        rules.append("true or false")
    for number, rule in ((int, "a whole number"), (float, "a number")):
        if number in numbers:
            try:
                return number(text)
            except ValueError:
                rules.append(rule)
    raise ValueError(f"must be {' or '.join([*rules, *map(repr, sorted(words))])}")


def hint_within(hint: Any, key: str | None = None) -> Any:
    """The type of what is in a table or an array of this type; None where nobody knows it."""
    for each in _parts(hint):
        origin, arguments = get_origin(each), get_args(each)
        if not isinstance(origin, type) or not arguments:
            continue
        if key is not None and issubclass(origin, Mapping) and len(arguments) == 2:
            return arguments[1]
        if key is None and issubclass(origin, Sequence):
            return arguments[0]
    return None


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _words(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is not Literal:
        return ()
    return tuple(word for word in get_args(kind) if isinstance(word, str))
