"""What the tests of judgement share: one value in the forms in which clients hand it out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def shaped(value: Any) -> Any:
    """The same as objects with attributes, the way a client has it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: shaped(each) for name, each in value.items()})
    return [shaped(each) for each in value] if isinstance(value, list) else value


class WithAttributes(dict[str, Any]):
    """A dict whose entries are attributes as well, as DashScope has it: a missing one raises."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def dict_with_attributes(value: Any) -> Any:
    if isinstance(value, dict):
        return WithAttributes({name: dict_with_attributes(each) for name, each in value.items()})
    return [dict_with_attributes(each) for each in value] if isinstance(value, list) else value


class Pydantic:
    """The parts of a pydantic model that count: declared fields in `__dict__`, others apart."""

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__")

    def __init__(self, fields: dict[str, Any], extra: dict[str, Any] | None = None) -> None:
        object.__setattr__(self, "__dict__", fields)
        object.__setattr__(self, "__pydantic_extra__", extra)


def model(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: model(each) for name, each in value.items() if name != "error"}
        extra = {name: each for name, each in value.items() if name == "error"}
        return Pydantic(fields, extra)
    return [model(each) for each in value] if isinstance(value, list) else value


def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


USAGE = {"object": "chat.completion.chunk", "model": "m", "choices": [], "usage": {"total": 1}}
