"""A table of a scenario file: what it may hold, what it must, and where an error in it lies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

Made = TypeVar("Made")


class ScenarioError(ValueError):
    """A scenario cannot be used; the message names the file, the field, the value and the rule."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file, with the place where it stands.

    Args:
        source: what to call the file.
        path: the fields that lead to it, such as "members[1]."; empty for the whole file.

    Raises:
        ScenarioError: it is not a table, or holds what is not among `known`.
    """

    source: str
    path: str
    _values: Any
    _known: Collection[str]

    def __post_init__(self) -> None:
        if not isinstance(self._values, Mapping):
            raise self._error(f"{self.path[:-1]} must be a table, got {self._values!r}")
        for name in self._values:
            if name not in self._known:
                known = ", ".join(self._known)
                raise self._error(f"{self.path}{name} is not a setting; those are {known}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def only(self, known: Collection[str]) -> Table:
        """The same table, when nothing else may be in it after all."""
        return replace(self, _known=known)

    def some(self, *names: str) -> dict[str, Any]:
        """The values of those names which are there."""
        return {name: self._values[name] for name in names if name in self._values}

    def needed(self, name: str) -> Any:
        """The value of that name.

        Raises:
            ScenarioError: there is none.
        """
        if name not in self._values:
            raise self._error(f"{self.path}{name} must be given")
        return self._values[name]

    def table(self, name: str, known: Collection[str]) -> Table:
        """The table of that name; an empty one if there is none."""
        return Table(self.source, f"{self.path}{name}.", self._values.get(name, {}), known)

    def tables(self, name: str, known: Collection[str]) -> Iterator[Table]:
        """The tables of the array of that name; none if there is none."""
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise self._error(f"{self.path}{name} must be an array of tables, got {value!r}")
        for index, each in enumerate(value):
            yield Table(self.source, f"{self.path}{name}[{index}].", each, known)

    def make(self, maker: Callable[..., Made], *values: Any, **named: Any) -> Made:
        """What `maker` makes of them.

        Raises:
            ScenarioError: it refused a value, with its words.
        """
        with self.blamed():
            return maker(*values, **named)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """An error in here is one of this table, or of the field with which its message begins."""
        try:
            yield
        except ScenarioError:
            raise
        except (TypeError, ValueError) as error:
            # The checks begin their messages with the field: then the path is put right before it.
            whole = self.path and str(error).split()[0] not in self._known
            path = f"{self.path[:-1]}: " if whole else self.path
            raise self._error(f"{path}{error}") from None

    def _error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{self.source}: {text}")
