"""What every event is: how it is named, what it shows of itself, and what it hides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from greenroom.messages.pickling import masked_known, on_one_line

_NAMES = frozenset(("pool", "member", "request_id"))
"""The app's own words, by which it knows what it is about: they are shown as they are."""

_LEFT_OUT = frozenset(("metadata", "skipped", "tried", "advice"))
"""What `as_dict` has None for where there is nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a pool.

    Whatever it is made of: no text in it has a line end or a control character, nor, but for names
    and ids, what looks like a key.

    Attributes:
        name: the event's name in the catalogue (`breaker.opened`).
        level: its log level.
        pool: the pool's name.
        member, request_id: whom it concerns; None where it concerns nobody in particular.
        metadata: of its request, what `PoolConfig.log_metadata` names: `key=value` each.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[str] = "INFO"
    _says: ClassVar[str] = "{0.name}"
    """`describe`, as a template for the event; where more is to be said it has a method."""

    _texts: ClassVar[tuple[str, ...]] = ()
    """The fields that may hold what comes from outside."""

    pool: str
    member: str | None = None
    request_id: str | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self._texts:
            value = getattr(self, name)
            if value:
                safe = on_one_line(value) if name in _NAMES else _safe(value)
                if safe != value:
                    object.__setattr__(self, name, safe)

    def describe(self) -> str:
        """What happened, why, and what comes next, in one line without pool and member."""
        return self._says.format(self)

    def severity(self) -> str:
        """The log level of this very event."""
        return self.level

    def length(self) -> int:
        """How many characters its texts have, all together."""
        texts = (getattr(self, name) for name in self._texts)
        return sum(
            sum(map(len, text)) if isinstance(text, tuple) else len(text) for text in texts if text
        )

    def as_dict(self) -> dict[str, Any]:
        """The event as flat plain data, ready for JSON: `event`, then its fields."""
        plain: dict[str, Any] = {"event": self.name}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, str):
                value = str(value)  # an enum becomes its value
            elif isinstance(value, tuple):
                value = ", ".join(str(item) for item in value)
            plain[each.name] = None if value == "" and each.name in _LEFT_OUT else value
        return plain

    def __str__(self) -> str:
        where = f"{self.pool}/{self.member}" if self.member else self.pool
        return f"{self.name} {where}: {self.describe()}"


_TEXTS = ("str", "str | None", "tuple[str, ...]")
"""The types of such fields, as they are written here."""


def _safe(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(map(_safe_text, value))
    return _safe_text(value)


def _safe_text(text: str) -> str:
    return on_one_line(masked_known(text))


E = TypeVar("E", bound=Event)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(name: str, level: str = "INFO") -> Callable[[type[E]], type[E]]:
    """Make a class an event of that name and log level."""

    def made(kind: type[E]) -> type[E]:
        kind.name, kind.level = name, level
        whole = dataclass(frozen=True, slots=True, kw_only=True)(kind)
        whole._texts = tuple(each.name for each in fields(whole) if each.type in _TEXTS)
        return whole

    return made
