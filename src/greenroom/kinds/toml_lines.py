"""Where something stands in a TOML file, and which key may have been meant: for errors. Pure.

No reader that keeps the lines is installed with greenroom, and all that errors want is the line of
a key: so that is looked for line by line, and what cannot be seen so has the line of what is around
it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

Place = tuple[str, ...]
"""The keys that lead to something, tables of an array by their number."""

_NAME = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"
_NAMES = rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*"
_HEADER = re.compile(rf"\s*(\[\[?){_NAMES}\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"{_NAMES}=")


def lines_of(text: str) -> dict[Place, int]:
    """The first line of each table and of each key, by its place."""
    lines: dict[Place, int] = {}
    last: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            names = _names(header[2])
            if header[1] == "[[":
                last[names] = last.get(names, -1) + 1
                lines.setdefault(_numbered(names[:-1], last) + names[-1:], number)
            table = _numbered(names, last)
            lines.setdefault(table, number)
        elif (key := _KEY.match(line)) is not None:
            place = table
            for name in _names(key[1]):
                place = (*place, name)
                lines.setdefault(place, number)
    return lines


def line_of(lines: Mapping[Place, int], place: Place) -> int | None:
    """The line of a place, or of what is next around it; None where nothing is known of that."""
    around = (place[:end] for end in range(len(place), 0, -1))
    return next((lines[each] for each in around if each in lines), None)


def meant(key: str, known: Iterable[str]) -> str:
    """A question for the key that may have been meant, with a space behind it; empty if none is
    near.
    """
    near = difflib.get_close_matches(key, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""


def _names(text: str) -> Place:
    return tuple(each.strip("\"'") for each in re.findall(_NAME, text))


def _numbered(names: Place, last: Mapping[Place, int]) -> Place:
    """With the number of the last table behind each name of an array."""
    place: Place = ()
    for end, name in enumerate(names, 1):
        number = last.get(names[:end])
        place = (*place, name) if number is None else (*place, name, str(number))
    return place
