"""What an error or a value looks like to somebody who reads attributes, as plain data.

The form is read again by `helpers_shapes.py`. Bounded in size; addresses, ports, paths and keys are
replaced by words.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

TEXT_LIMIT = 2000
_DEPTH = 4
_ITEMS = 30
_LINKS = 8

# What a look by attributes could ask an error for, next to what the error keeps in its own dict.
_NAMES = (
    "status_code", "status", "code", "http_status", "http_status_code", "api_error_status", "type",
    "param", "reason", "body", "message", "details", "detail", "error", "errors", "error_code",
    "error_type", "error_message", "response", "headers", "retry_after", "retry_after_s",
    "retry_delay", "trailing_metadata", "done", "errno", "strerror", "inner_exception", "data",
    "raw_response", "rcvd", "sent", "returncode", "exit_code", "cmd", "stderr", "subtype", "result",
    "grpc_status_code", "response_headers", "litellm_response_headers", "response_json",
    "model_response", "is_error", "isError",
)  # fmt: skip
# On objects that an error keeps: its response above all.
_INNER = (
    "status_code", "status", "code", "reason", "reason_phrase", "headers", "text", "message",
    "type", "body", "name", "value", "error", "data",
)  # fmt: skip
_METHODS = frozenset({"code", "details", "trailing_metadata", "done"})
# Some hold the request, and with it keys and prompts; others are machinery.
_NEVER = frozenset(
    {"request", "request_info", "_request", "history", "ssl_object", "socket", "lock", "pool",
     "messages", "fp", "file", "add_note", "with_traceback", "args", "exceptions", "raw",
     "os_error", "call", "connection", "client", "session", "object", "doc", "next_request"}
)  # fmt: skip
_SCRUB = (
    (re.compile(r"(127\.0\.0\.1|localhost)([:,/ '\"port=]*?)\d{4,5}"), r"\1\2PORT"),
    (re.compile(r"\bport[=: ]+\d+"), "port=PORT"),
    (re.compile(r"'127\.0\.0\.1', \d+"), "'127.0.0.1', PORT"),
    (re.compile(r"0x[0-9a-f]{6,}"), "0x0"),
    (re.compile(r"(/(?:root|tmp|home|usr|opt|var|work|proc)(?:/[\w.+@-]+)+)"), "PATH"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\bkey-of-nobody\w*"), "KEY"),
)


def error_shape(error: BaseException, seen: frozenset[int] = frozenset()) -> dict[str, Any]:
    """An error, what caused it and what it groups."""
    shape: dict[str, Any] = {"mro": _mro(type(error)), "args": _plain_args(error)}
    attrs = _attributes(error, _NAMES, 0)
    grouped = error.exceptions[:4] if isinstance(error, BaseExceptionGroup) else ()
    if attrs:
        shape["attrs"] = attrs
    seen = seen | {id(error)}
    if len(seen) > _LINKS:
        return shape
    cause, context = error.__cause__, error.__context__
    if cause is not None and id(cause) not in seen:
        shape["cause"] = error_shape(cause, seen)
    elif context is not None and id(context) not in seen and not (grouped or _says_enough(attrs)):
        shape["context"] = error_shape(context, seen)
        if error.__suppress_context__:
            shape["suppress"] = True
    if grouped:
        shape["exceptions"] = [error_shape(e, seen) for e in grouped]
    return shape


def _says_enough(attrs: dict[str, Any]) -> bool:
    """Whether what happened while it was handled would only say the same again."""
    return any(isinstance(attrs.get(name), int) for name in ("status_code", "code", "status"))


def value_shape(value: object) -> Any:
    """A value that a client returned as if it were an answer."""
    return _value(value, 0, value=True)


def _mro(cls: type) -> list[str]:
    return [f"{c.__module__}.{c.__qualname__}" for c in cls.__mro__ if c is not object]


def _plain_args(error: BaseException) -> list[Any]:
    simple = (str, int, float, type(None), bool, bytes, BaseException, dict, list)
    args = error.args[:1] if isinstance(error, BaseExceptionGroup) else error.args[:4]
    return [_value(arg, 2) if isinstance(arg, simple) else "" for arg in args]


def _attributes(
    owner: Any, names: tuple[str, ...], depth: int, value: bool = False
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    own = [] if names is _INNER and not value else list(islice(_dict_of(owner), _ITEMS))
    if value:  # a model of pydantic, an attrs class with slots
        own += [n for n in getattr(type(owner), "__slots__", ()) if isinstance(n, str)]
        own += list(getattr(owner, "__pydantic_extra__", None) or ())
        own += [d.name for d, _ in islice(_fields_of_proto(owner), _ITEMS)]
    for name in dict.fromkeys((*names, *own)):
        if name.startswith("_") or (name in _NEVER and not (value and name == "object")):
            continue
        try:
            it = getattr(owner, name)
        except AttributeError:
            continue
        except BaseException as e:
            found[name] = {"~raises": _mro(type(e))[0]}
            continue
        if callable(it) and not isinstance(it, (type, enum.Enum)):
            if name in _METHODS and depth == 0:
                found[name] = {"~method": _answer_of(it, depth)}
            continue
        if isinstance(it, type):
            continue
        got = _value(it, depth + 1, value)
        if got is not None or name in ("error", "response", "body"):
            found[name] = got
    return found


def _answer_of(method: Any, depth: int) -> Any:
    try:
        return _value(method(), depth + 1)
    except BaseException as e:
        return {"~raises": _mro(type(e))[0]}


def _dict_of(owner: Any) -> Mapping[str, Any]:
    it = getattr(owner, "__dict__", {})
    return it if isinstance(it, dict) else {}


def _fields_of_proto(owner: Any) -> list[tuple[Any, Any]]:
    try:
        return list(owner.ListFields())
    except Exception:
        return []


def _value(it: Any, depth: int, value: bool = False) -> Any:
    limit = _DEPTH + 3 if value else _DEPTH
    kind: Any = type(it)
    if it is None or kind in (bool, int, float):
        return it
    if isinstance(it, enum.Enum):
        return {"~enum": _mro(type(it)), "name": it.name, "value": _value(it.value, depth + 1)}
    if isinstance(it, str):
        return _scrubbed(it)
    if isinstance(it, (bytes, bytearray)):
        return {"~bytes": _scrubbed(bytes(it).decode("latin-1"))}
    if isinstance(it, int):
        return int.__int__(it)
    if isinstance(it, float):
        return float.__float__(it)
    if isinstance(it, datetime.timedelta):
        return {"~timedelta": it.total_seconds()}
    if isinstance(it, datetime.datetime):
        return {"~datetime": it.isoformat()}
    if isinstance(it, BaseException):
        return {"~error": error_shape(it, frozenset(range(_LINKS - 2)))} if depth < limit else None
    if depth > limit:
        return None
    if isinstance(it, (list, tuple)):
        listed = [_value(i, depth + 1, value) for i in it[:_ITEMS]]
        return listed if isinstance(it, list) else {"~tuple": listed}
    if type(it) is dict:
        return {str(k): _value(v, depth + 1, value) for k, v in islice(it.items(), _ITEMS)}
    items = _mapping_items(it)
    if items is not None:
        keys = {type(k) for k, _ in items}
        shape: dict[str, Any] = {"~map": _mro(type(it))}
        shape["items"] = [[_scrubbed(str(k)), _value(v, depth + 1, value)] for k, v in items
                          if str(k).lower() not in ("date", "server")]  # fmt: skip
        if keys - {str}:
            shape["keys"] = "subclass of str"
        attrs = _attributes(it, (), depth, value) if isinstance(it, dict) else {}
        return shape | ({"attrs": attrs} if attrs else {})
    if type(it).__name__ == "Metadata":  # of gRPC: pairs
        return {"~pairs": _mro(type(it)), "items": [_value(list(p), depth + 1) for p in it]}
    attrs = _attributes(it, _INNER, depth, value)
    return {"~object": _mro(type(it)), "attrs": attrs}


def _mapping_items(it: Any) -> list[tuple[Any, Any]] | None:
    """The items of what serves as a mapping."""
    if not (isinstance(it, Mapping) or type(it).__name__.endswith(("Headers", "HTTPMessage"))):
        return None
    try:
        return list(islice(it.items(), _ITEMS))
    except Exception:
        return None


def _scrubbed(text: str) -> str:
    text = str.__str__(text)[:TEXT_LIMIT]
    for pattern, word in _SCRUB:
        text = pattern.sub(word, text)
    return text
