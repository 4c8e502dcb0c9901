"""A durable tell as it lies in an engine: a request as bytes, and back. Never a pickle. Pure."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from greenroom.messages.errors import summary
from greenroom.messages.requests import Request

VERSION = 1

_OPTIONS = (
    *("key", "timeout", "priority", "idempotent", "max_retries"),
    *("metadata", "only", "exclude", "prefer", "cost"),
)
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("key", "timeout", "max_retries", "only", "exclude", "prefer", "cost")),
    "priority": 0,
    "idempotent": True,
    "metadata": {},
}
_PLAIN = (str, bool, int, float, type(None))
_PACKED = b"m"
"""How a parcel by msgpack begins; one of JSON begins with a brace."""


class ParcelError(ValueError):
    """What lies there is nothing that this version, or this environment, can read."""


def packed(request: Request[Any], request_id: str) -> bytes:
    """A request as it is stored: JSON, or msgpack where there are bytes in it and it is installed.
    What comes back is equal to what was given: what would come back as something else is refused.

    Raises:
        TypeError: its payload, or its metadata, holds what cannot be carried; the type is named.
    """
    said = {name: getattr(request, name) for name in _OPTIONS}
    said["metadata"] = dict(said["metadata"])
    said["cost"] = None if said["cost"] is None else dict(said["cost"])
    options = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in said.items()
        if value != _DEFAULTS[name]
    }
    binary = _check("payload", request.payload) | _check("metadata", said["metadata"])
    whole = {"v": VERSION, "id": request_id, "payload": request.payload, "options": options}
    if binary:
        return _PACKED + bytes(_msgpack().packb(whole, use_bin_type=True))
    try:
        return json.dumps(whole, separators=(",", ":")).encode("ascii")
    except ValueError:  # a whole number with more digits than Python will print
        raise TypeError("payload holds a whole number that is too long to be carried") from None


def unpacked(body: bytes) -> Request[Any]:
    """The request that was stored so, with its id.

    Raises:
        ParcelError: it cannot be read.
    """
    try:
        if body.startswith(_PACKED):
            whole = _msgpack().unpackb(body[1:], raw=False, strict_map_key=False)
        else:
            whole = json.loads(body)
        if whole["v"] != VERSION:
            found = whole["v"]  # shown if it is a number: all else may be anything
            said = str(found) if type(found) is int and 0 <= found < 1000 else type(found).__name__
            raise ParcelError(f"it is of version {said}, and this knows {VERSION}")
        options = whole["options"]
        if unknown := set(options) - set(_OPTIONS):
            raise ParcelError(f"it has options that this version does not know: {len(unknown)}")
        return Request(whole["payload"], request_id=whole["id"], **options)
    except ParcelError:
        raise
    except Exception as error:  # whatever somebody else has put there; its text may be payload
        raise ParcelError(f"it cannot be read: {type(error).__name__}") from None


def _check(field: str, value: Any) -> bool:
    """Whether there are bytes in it.

    Raises:
        TypeError: it cannot be carried.
    """
    binary = False
    stack: list[Any] = [value]
    inside: set[int] = set()
    # By identity, and without recursion: what holds itself would be endless.
    while stack:
        each = stack.pop()
        kind = type(each)
        if kind in _PLAIN:
            continue
        if kind is bytes:
            binary = True
        elif kind is list or kind is dict:
            if id(each) in inside:
                continue
            inside.add(id(each))
            if kind is dict:
                _check_keys(field, each)
            stack += each.values() if kind is dict else each
        else:
            hint = ": make it a list" if isinstance(each, tuple) else ""
            raise TypeError(
                f"{field} of a durable tell must be made of str, int, float, bool, None, list, "
                f"dict with string keys and, with msgpack, bytes, got a {kind.__name__}{hint}"
            )
    if binary:
        try:
            _msgpack()
        except ModuleNotFoundError:
            raise TypeError(
                f"{field} of a durable tell holds bytes, which takes msgpack: pip install msgpack, "
                "here and where it is worked off"
            ) from None
    if inside:
        _check_depth(field, value)
    return binary


def _check_keys(field: str, value: Mapping[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            raise TypeError(
                f"{field} of a durable tell must have string keys only, got a {type(key).__name__}"
            )


def _check_depth(field: str, value: Any) -> None:
    try:
        json.dumps(value, default=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise TypeError(f"{field} of a durable tell cannot be carried: {summary(error)}") from None


def _msgpack() -> Any:
    return importlib.import_module("msgpack")
