"""A look at a value of somebody else's without running any code of its own.

What an agent returns may be anything: a test's mock that has every attribute, a response whose body
is read by a property, a row that asks its database. So nothing is asked for: only what a value
holds is looked at, its dict entries, its `__dict__`, its slots, the extra fields of a pydantic
model. Nothing of it blocks, raises or changes anything.
"""

from __future__ import annotations

from enum import Enum
from types import MemberDescriptorType
from typing import Any

Record = dict[Any, Any]
"""What a value holds, by name. It may be the value itself: only `get` and `has` look into it."""

get = dict.get
has = dict.__contains__

BARE = frozenset({str, bytes, bytearray, int, float, complex, bool, type(None), list, tuple, set})
"""Types that hold nothing under a name."""

WORD_LIMIT = 100

_MOCKS = ("unittest.mock", "mock.mock")
_UNSET = frozenset({"NotGiven", "Omit", "Unset"})
_NO_RECORD: Record = {}

_name_of = type.__dict__["__name__"].__get__  # a metaclass of somebody's is not asked


def record(value: Any) -> Record:
    """What it holds under names; empty for what holds nothing, and for a mock."""
    kind = type(value)
    if kind is dict:
        return value  # type: ignore[no-any-return]
    try:
        if kind in BARE or kind.__module__ in _MOCKS:
            return _NO_RECORD
        if issubclass(kind, dict):
            return value  # type: ignore[no-any-return]
        if kind.__module__.endswith("_pb2"):
            return _of_proto(value)
        if kind.__module__.startswith("azure.") and hasattr(kind, "items"):
            return dict(value.items())  # its models are mappings around what they hold
        return _held(value, kind)
    except BaseException:  # a metaclass or a descriptor of somebody's that raises
        return _NO_RECORD


def _held(value: Any, kind: type) -> Record:
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        held = None
    if type(held) is not dict:
        return _slots(value, kind)
    if not any("__pydantic_extra__" in cls.__dict__ for cls in kind.__mro__):
        return held
    extra = object.__getattribute__(value, "__pydantic_extra__")
    return {**held, **extra} if type(extra) is dict and extra else held


def _of_proto(value: Any) -> Record:
    """The fields of a protobuf message that are set, enums by name. They are held in C, and reading
    them runs nothing else.
    """
    held: Record = {}
    for field, what in value.ListFields():
        names = field.enum_type
        name = names.values_by_number[what].name if names and type(what) is int else what
        held[field.name] = name
    return held


def _slots(value: Any, kind: type) -> Record:
    held: Record = {}
    for cls in kind.__mro__:
        for name, member in cls.__dict__.items():
            if type(member) is MemberDescriptorType and name not in held:
                try:
                    held[name] = member.__get__(value, kind)
                except AttributeError:  # not set
                    continue
    return held


def items(value: Any) -> list[Any] | tuple[Any, ...]:
    """It, if it is a list or a tuple; else nothing."""
    return value if issubclass(type(value), (list, tuple)) else ()


def filled(value: Any) -> bool:
    """Whether it is something: not None, not False, no text or collection that is empty, and not
    what a client has for a field that was never set.
    """
    if value is None or value is False:
        return False
    kind = type(value)
    for cls in (str, bytes, list, tuple, dict):
        if issubclass(kind, cls):
            return cls.__len__(value) > 0
    return _name_of(kind) not in _UNSET


def word(value: Any) -> str:
    """A short text or the value of an enum, in lower case; "" for anything else and for "null"."""
    if not issubclass(type(value), str):
        if not issubclass(type(value), Enum):
            return ""
        value = get(record(value), "_value_")
        if type(value) is not str:
            return ""
    text = str.__str__(value)
    if len(text) > WORD_LIMIT:
        return ""
    text = text.lower()
    return "" if text in ("null", "none") else text


def number(value: Any) -> int | None:
    """A whole number, also of an IntEnum, or as text of three digits; None for anything else."""
    kind = type(value)
    if kind is bool:
        return None
    if issubclass(kind, int):
        return int.__int__(value)
    return int(value) if kind is str and len(value) == 3 and value.isdecimal() else None
