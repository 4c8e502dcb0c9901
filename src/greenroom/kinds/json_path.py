"""Where in a piece of JSON something stands: `result`, `item[type=agent_message].text`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(
    r"""
      (?P<dot>\.)? (?P<name>[^.\[\]=\s]+)
    | \[ (?P<index>-?\d+) \]
    | \[ (?P<key>[^\[\]=]+) = (?P<value>[^\[\]]*) \]
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Name:
    name: str

    def follow(self, value: Any) -> Any:
        return value.get(self.name) if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class _Index:
    index: int

    def follow(self, value: Any) -> Any:
        if not isinstance(value, list) or not -len(value) <= self.index < len(value):
            return None
        return value[self.index]


@dataclass(frozen=True, slots=True)
class _Where:
    key: str
    value: str

    def follow(self, value: Any) -> Any:
        if isinstance(value, list):
            return next((each for each in value if self._holds(each)), None)
        return value if self._holds(value) else None

    def _holds(self, value: Any) -> bool:
        return isinstance(value, dict) and value.get(self.key) == self.value


class JsonPath:
    """A way into a piece of JSON; what is not there is None.

    Its steps: `name` or `.name`, a key of an object; `[0]` or `[-1]`, a place in an array;
    `[key=text]`, the object itself if it has that text under that key, or the first such object of
    an array.

    Args:
        field: how the errors call it.

    Raises:
        ValueError: what is no such path, with the place at which it ends to be one.
    """

    def __init__(self, text: str, field: str = "path") -> None:
        self.text = text
        self._steps: list[_Name | _Index | _Where] = []
        at = 0
        while at < len(text):
            found = _STEP.match(text, at)
            # Between two names stands a dot, and nowhere else.
            if found is None or (found["name"] and bool(found["dot"]) != bool(at)):
                raise ValueError(
                    f"{field} must be names, [index] and [key=text] like 'item[type=a].text', "
                    f"got {text!r} (wrong from character {at + 1})"
                )
            at = found.end()
            if found["name"]:
                self._steps.append(_Name(found["name"]))
            elif found["index"]:
                self._steps.append(_Index(int(found["index"])))
            else:
                self._steps.append(_Where(found["key"], found["value"]))
        if not self._steps:
            raise ValueError(f"{field} must not be empty, got {text!r}")

    def of(self, value: Any) -> Any:
        """What stands there in `value`; None if nothing does."""
        for step in self._steps:
            value = step.follow(value)
            if value is None:
                return None
        return value
