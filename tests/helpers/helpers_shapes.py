"""Builds errors and values that look as those of real clients did, without any client.

The files are written by `make test-clients ARGS=freeze`; their form is that of
`real_clients/capture.py`. A class of the standard library is the real one, any other is made here
under its own module and name; attributes stand where the client had them.
"""

from __future__ import annotations

import builtins
import datetime
import enum
import functools
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helpers_pages import ROOT


@dataclass(frozen=True, slots=True)
class Shape:
    """A client in a situation, and what came of it.

    Attributes:
        right: the kinds that are right, as strings.
        retry_after_s: what the backend asked for; None if nothing.
        wall_now: the time that a date in its Retry-After counts from.
        stream: whether the client was asked for a stream; a value is then the list of its chunks.
    """

    id: str
    client: str
    version: str
    mode: str
    situation: str
    right: tuple[str, ...]
    retry_after_s: float | None
    wall_now: float
    stream: bool
    what: dict[str, Any] | Any
    classes: tuple[tuple[str, ...], ...]

    def error(self) -> BaseException:
        """The error, made anew."""
        return _Maker(self.classes).error(self.what)

    def value(self) -> Any:
        """The value, made anew."""
        return _Maker(self.classes).value(self.what)


@functools.cache
def error_shapes() -> tuple[Shape, ...]:
    """What the clients raised."""
    return tuple(_read("client_shapes.json", "error"))


@functools.cache
def value_shapes() -> tuple[Shape, ...]:
    """What the clients returned where it should not pass for an answer, and some good answers."""
    return tuple(_read("client_values.json", "value"))


def _read(name: str, what: str) -> Iterator[Shape]:
    data = json.loads((ROOT / "tests" / name).read_text())
    classes = tuple(tuple(mro) for mro in data["classes"])
    for it in data["shapes"]:
        yield Shape(
            id=it["id"],
            client=it["client"],
            version=it["version"],
            mode=it["mode"],
            situation=it["situation"],
            right=tuple(it["right"]),
            retry_after_s=it.get("retry_after_s"),
            wall_now=it.get("wall_now", 0.0),
            stream=it.get("stream", False),
            what=it[what],
            classes=classes,
        )


class _Name(str):
    """A str subclass, as some clients have for the names of headers."""

    __slots__ = ()


class _Maker:
    """Makes objects of shapes."""

    def __init__(self, classes: tuple[tuple[str, ...], ...]) -> None:
        self._classes = classes

    def error(self, shape: dict[str, Any]) -> BaseException:
        base = _class(self._classes[shape["mro"]])
        attrs, on_class = self._attributes(shape.get("attrs", {}))
        cls = type(base.__name__, (base,), on_class | {"__module__": base.__module__})
        args = tuple(self.value(arg) for arg in shape["args"])
        grouped = [self.error(e) for e in shape.get("exceptions", [])]
        error: BaseException = _made(cls, args, grouped)
        _give(error, cls, attrs)
        if "cause" in shape:
            error.__cause__ = self.error(shape["cause"])
        if "context" in shape:
            error.__context__ = self.error(shape["context"])
            error.__suppress_context__ = shape.get("suppress", False)
        return error

    def value(self, it: Any) -> Any:
        if isinstance(it, list):
            return [self.value(item) for item in it]
        if not isinstance(it, dict):
            return it
        kind = next((key for key in it if key.startswith("~")), None)
        match kind:
            case None:
                return {key: self.value(value) for key, value in it.items()}
            case "~bytes":
                return it[kind].encode("latin-1")
            case "~tuple":
                return tuple(self.value(item) for item in it[kind])
            case "~timedelta":
                return datetime.timedelta(seconds=it[kind])
            case "~datetime":
                return datetime.datetime.fromisoformat(it[kind])
            case "~error":
                return self.error(it[kind])
            case "~method":
                return self._method(it[kind])
            case "~map":
                return self._mapping(it)
            case "~pairs":
                return self._pairs(it)
            case "~enum":
                return self._enum(it)
        return self._object(it)

    def _attributes(self, attrs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Those for the instance, and those for its class: methods and what raises."""
        mine: dict[str, Any] = {}
        on_class: dict[str, Any] = {}
        for name, it in attrs.items():
            if isinstance(it, dict) and "~raises" in it:
                on_class[name] = property(_raiser(it["~raises"]))
            elif isinstance(it, dict) and "~method" in it:
                on_class[name] = staticmethod(self._method(it["~method"]))
            else:
                mine[name] = self.value(it)
        return mine, on_class

    def _method(self, it: Any) -> Any:
        if isinstance(it, dict) and "~raises" in it:
            raiser = _raiser(it["~raises"])
            return lambda: raiser(None)
        made = self.value(it)
        return lambda: made

    def _object(self, it: dict[str, Any]) -> Any:
        mine, on_class = self._attributes(it["attrs"])
        base = _class(self._classes[it["~object"]])
        cls = type(base.__name__, (base,), on_class | {"__module__": base.__module__})
        made = cls()
        _give(made, cls, mine)
        return made

    def _mapping(self, it: dict[str, Any]) -> Any:
        name = _Name if "keys" in it else str
        pairs = [(name(key), self.value(value)) for key, value in it["items"]]
        module, _, title = self._classes[it["~map"]][0].rpartition(".")
        # Some are dicts that have attributes too, and must be seen as dicts.
        is_dict = "builtins.dict" in self._classes[it["~map"]]
        base: type = dict if is_dict else _Mapping
        cls = type(title, (base,), {"__module__": module})
        made = cls(pairs)
        _give(made, cls, self._attributes(it.get("attrs", {}))[0])
        return made

    def _pairs(self, it: dict[str, Any]) -> Any:
        module, _, title = self._classes[it["~pairs"]][0].rpartition(".")
        pairs = [tuple(self.value(pair)) for pair in it["items"]]
        return type(title, (_Pairs,), {"__module__": module})(pairs)

    def _enum(self, it: dict[str, Any]) -> Any:
        """A member of an enum that may also be an int or a str."""
        mro = self._classes[it["~enum"]]
        module, _, title = mro[0].rpartition(".")
        value = self.value(it["value"])
        mixin: type | None = None
        if "builtins.int" in mro and isinstance(value, int):
            mixin = int
        elif "builtins.str" in mro and isinstance(value, str):
            mixin = str
        make: Any = enum.Enum
        cls = make(title, {it["name"]: value}, module=module, type=mixin)
        return cls[it["name"]]


class _Mapping:
    """Headers of a client: a mapping whose names ignore case, and that is no dict."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self._pairs = pairs

    def items(self) -> list[tuple[str, Any]]:
        return list(self._pairs)

    def keys(self) -> list[str]:
        return [key for key, _ in self._pairs]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, name: str) -> Any:
        for key, value in self._pairs:
            if key.lower() == name.lower():
                return value
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


class _Pairs:
    """Metadata of gRPC."""

    def __init__(self, pairs: list[tuple[Any, ...]]) -> None:
        self._pairs = pairs

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


def _class(mro: tuple[str, ...]) -> type:
    """A class with these above it, the real ones where they are of the standard library."""
    return _made_class(mro)


@functools.cache
def _made_class(mro: tuple[str, ...]) -> type:
    cls: type = object
    for name in reversed(mro):
        real = _real(name)
        if real is not None and issubclass(real, cls):
            cls = real
            continue
        module, _, title = name.rpartition(".")
        bases = (cls,)
        if real is not None:
            try:  # a class of the standard library next to one of the client's
                cls = type(title, (real, cls), {"__module__": module})
            except TypeError:
                pass
            else:
                continue
        cls = type(title, bases, {"__module__": module})
    return cls


def _real(name: str) -> type | None:
    """The class of the standard library that has this name, if it is an exception."""
    module, _, title = name.rpartition(".")
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    owner = builtins if module == "builtins" else importlib.import_module(module)
    found = getattr(owner, title, None)
    exception = isinstance(found, type) and issubclass(found, BaseException)
    return found if exception else None


def _made(cls: type, args: tuple[Any, ...], grouped: list[BaseException]) -> Any:
    """An instance whose own `__init__` has not run."""
    if issubclass(cls, BaseExceptionGroup):
        return cls(str(args[0]) if args else "", grouped)
    made: Any = cls.__new__(cls, *args)
    made.args = args
    return made


def _give(it: Any, cls: type, attrs: dict[str, Any]) -> None:
    """Attributes: of the instance where it takes them, else of the class that only it has."""
    for name, value in attrs.items():
        try:
            object.__setattr__(it, name, value)
        except (AttributeError, TypeError):
            setattr(cls, name, value)


def _raiser(name: str) -> Any:
    def raiser(_: object) -> Any:
        raise (_real(name) or RuntimeError)("not to be looked at")

    return raiser
