"""Frames as bytes, and back: JSON, or msgpack. Pure.

What comes in is taken for hostile: its size, its depth and the type of each field are checked
before anybody looks at it. What is not known in a frame is passed over, so that a later version may
say more; a frame that is not known is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from json.encoder import encode_basestring
from typing import Any, Literal, NoReturn, Protocol, TypeVar, cast

from greenroom.messages import _validate as check
from greenroom.messages.errors import PayloadError
from greenroom.remote import frames
from greenroom.remote.frames import PROTOCOL, Frame, ToCaller, ToWorker

MOST_BYTES = 64 * 1024 * 1024
"""Of a frame, if nobody has said another number."""
LONGEST_TEXT = 10_000
"""Characters of what is no payload: an id, the text of an error."""
MOST_NAMES = frames.MOST_IDS
"""Of the calls that a ping asks about, and of what else is listed."""

FormatName = Literal["json", "msgpack"]

F = TypeVar("F")


class ProtocolError(ValueError):
    """What the other end has sent is no frame. The text shows nothing of it but names and types."""


class TooLongError(ProtocolError):
    """A frame has more bytes than may be."""


class Codec(Protocol):
    """A format."""

    name: str
    content_type: str
    most_bytes: int

    def encode(self, frame: Frame) -> bytes:
        """A frame as bytes. As JSON it is one line, without an end of line.

        Raises:
            PayloadError: it holds what the format cannot carry, or is too long.
        """

    def to_worker(self, data: bytes | bytearray | memoryview) -> ToWorker:
        """What a caller says.

        Raises:
            ProtocolError: it is no frame.
        """

    def to_caller(self, data: bytes | bytearray | memoryview) -> ToCaller:
        """What a worker says.

        Raises:
            ProtocolError: it is no frame.
        """


# -- fields


class _Bad(ValueError):
    """A field that does not hold; its text goes behind the field's name."""


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Bad("must be a string")
    if len(value) > LONGEST_TEXT:
        raise _Bad(f"must have at most {LONGEST_TEXT} characters")
    return value


def _id(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= check.LONGEST_ID:
        raise _Bad(f"must be a string of 1 to {check.LONGEST_ID} characters")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Bad("must be true or false")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 2**53:
        raise _Bad("must be a whole number of at least 0")
    return value


def _level(value: Any) -> int:
    if type(value) is not int or not -(2**53) <= value <= 2**53:
        raise _Bad("must be a whole number")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1e12:  # a NaN is neither
        raise _Bad("must be a number of seconds of at least 0")
    return float(value)


def _or_none(look: Callable[[Any], F]) -> Callable[[Any], F | None]:
    return lambda value: None if value is None else look(value)


def _anything(value: Any) -> Any:
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise _Bad("must be an object with names")
    return cast(Mapping[str, Any], value)


def _texts(value: Any) -> Mapping[str, str]:
    found = _mapping(value)
    for each in found.values():
        _text(each)
    return found


def _numbers(value: Any) -> Mapping[str, float]:
    found = _mapping(value)
    for each in found.values():
        if type(each) not in (int, float) or not 0 <= each < math.inf:
            raise _Bad("must hold numbers of at least 0")
    return found


def _list(look: Callable[[Any], F]) -> Callable[[Any], tuple[F, ...]]:
    def looked(value: Any) -> tuple[F, ...]:
        if type(value) is not list or len(value) > MOST_NAMES:
            raise _Bad(f"must be a list of at most {MOST_NAMES}")
        return tuple(map(look, value))

    return looked


_Fields = dict[str, Callable[[Any], Any]]

_TO_WORKER: dict[str, tuple[type[Any], _Fields]] = {
    "call": (
        frames.Call,
        {
            "id": _id,
            "payload": _anything,
            "wants_stream": _flag,
            "left_s": _or_none(_seconds),
            "idempotent": _flag,
            "credit": _whole,
            "request_id": _text,
            "attempt": _whole,
            "key": _or_none(_text),
            "priority": _level,
            "metadata": _mapping,
            "carrier": _texts,
        },
    ),
    "go": (frames.Go, {"id": _id}),
    "cancel": (frames.Cancel, {"id": _id}),
    "credit": (frames.Credit, {"id": _id, "chunks": _whole}),
    "ping": (frames.Ping, {"caller": _id, "ids": _list(_id), "after": _text, "upto": _text}),
}
_TO_CALLER: dict[str, tuple[type[Any], _Fields]] = {
    "ack": (frames.Ack, {"id": _id}),
    "may_start": (frames.MayStart, {"id": _id}),
    "started": (frames.Started, {"id": _id}),
    "noted": (
        frames.Noted,
        {
            "id": _id,
            "alive": _flag,
            "described": _mapping,
            "spent": _numbers,
            "limits": _list(_mapping),
        },
    ),
    "value": (frames.Value, {"id": _id, "value": _anything}),
    "chunk": (frames.Chunk, {"id": _id, "number": _whole, "value": _anything}),
    "end": (frames.End, {"id": _id, "chunks": _whole}),
    "error": (
        frames.Error,
        {
            "id": _id,
            "kind": _text,
            "started": _flag,
            "type": _text,
            "text": _text,
            "retry_after_s": _or_none(_seconds),
            "opens_at_once": _flag,
        },
    ),
    "busy": (
        frames.Busy,
        {"id": _id, "retry_after_s": _or_none(_seconds), "draining": _flag},
    ),
    "pong": (
        frames.Pong,
        {
            "member": _text,
            "capacity": _whole,
            "running": _whole,
            "draining": _flag,
            "unknown": _list(_id),
            "protocol": _whole,
        },
    ),
}

_SENT: dict[type[Any], tuple[str, tuple[tuple[str, Any], ...]]] = {
    kind: (
        name,
        # What is as it would be by default is left out.
        tuple(
            (
                each.name,
                each.default if each.default_factory is MISSING else each.default_factory(),
            )
            for each in fields(kind)
        ),
    )
    for table in (_TO_WORKER, _TO_CALLER)
    for name, (kind, _) in table.items()
}
_REQUIRED: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(name for name, default in own if default is MISSING)
    for kind, (_, own) in _SENT.items()
}


def _chunk(said: dict[str, Any]) -> frames.Chunk | None:
    """One that is as it should be, without the tables: there may be many. Else None."""
    id, number = said.get("id"), said.get("number")
    if type(id) is not str or type(number) is not int or "value" not in said:
        return None
    if not 0 < len(id) <= check.LONGEST_ID or number < 0:
        return None
    return frames.Chunk(id, number, said["value"])


_CONTENT: dict[type[Any], str] = {
    frames.Call: "payload",
    frames.Value: "value",
    frames.Chunk: "value",
    frames.Noted: "described",
}
"""Where somebody else's code has brought something into a frame."""


def _plain(frame: Frame) -> dict[str, Any]:
    """A frame as what each format knows."""
    name, own = _SENT[type(frame)]
    said: dict[str, Any] = {"frame": name}
    for field, default in own:
        value = getattr(frame, field)
        if default is MISSING or value != default:
            said[field] = value
    if name in ("call", "pong"):
        said["protocol"] = getattr(frame, "protocol", PROTOCOL)
    return said


def _framed(said: Any, table: dict[str, tuple[type[Any], _Fields]]) -> Any:
    """A frame of what a format has read.

    Raises:
        ProtocolError: it is none.
    """
    if type(said) is not dict:
        raise ProtocolError("a frame must be an object")
    name = said.get("frame")
    if name == "chunk" and table is _TO_CALLER:
        chunk = _chunk(said)
        if chunk is not None:
            return chunk
    if type(name) is not str or name not in table:
        what = "one without a name" if name is None else "another one"
        raise ProtocolError(f"a frame must be one of {', '.join(table)}, got {what}")
    kind, looks = table[name]
    spoken = said.get("protocol", PROTOCOL)
    if name == "call" and spoken != PROTOCOL:
        raise ProtocolError(f"protocol {PROTOCOL} is spoken here, the caller speaks another one")
    given = {}
    for field, value in said.items():
        look = looks.get(field)
        if look is not None:
            try:
                given[field] = look(value)
            except _Bad as bad:
                raise ProtocolError(f"{field} of a frame {name} {bad}") from None
    for field in _REQUIRED[kind]:
        if field not in given:
            raise ProtocolError(f"a frame {name} must have {field}")
    return kind(**given)


def _content_of(frame: Frame) -> Any:
    """What somebody else's code has brought into a frame; None if it is all ours."""
    name = _CONTENT.get(type(frame))
    return None if name is None else getattr(frame, name)


def _misfit(value: Any, *, has_bytes: bool) -> str | None:
    """The type of the first thing in it that cannot be carried, or what is odd about it."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > 10_000:
            return "what is nested too deep"
        if each is None or isinstance(each, bool):
            continue
        if isinstance(each, str):
            if not has_bytes and not _encodes(each):
                return "half of a surrogate pair in a str"
        elif isinstance(each, float):
            if not has_bytes and not math.isfinite(each):
                return "a number that is not finite"
        elif isinstance(each, int):
            if has_bytes and not -(2**63) <= each < 2**64:
                return "a number of more than 64 bits"
        elif isinstance(each, list | tuple):
            waiting += ((part, depth + 1) for part in reversed(each))
        elif isinstance(each, dict):
            for key in each:
                if not isinstance(key, str):
                    return f"a dict with a key that is a {type(key).__name__}"
            waiting += ((part, depth + 1) for part in reversed(each.values()))
        elif not (has_bytes and isinstance(each, bytes | bytearray)):
            return f"a {type(each).__name__}"
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


_CARRIED = {
    "json": "what JSON can carry (str, finite numbers, bool, None, lists, dicts with str keys; "
    "bytes need format='msgpack')",
    "msgpack": "what msgpack can carry (str, bytes, numbers of 64 bits, bool, None, lists, dicts "
    "with str keys)",
}


def _refuse(name: str, frame: Frame, cause: BaseException | None = None) -> NoReturn:
    field, value = _CONTENT.get(type(frame), "frame"), _content_of(frame)
    odd = _misfit(value, has_bytes=name == "msgpack") or (
        "what is nested too deep" if isinstance(cause, RecursionError) else "something else"
    )
    raise PayloadError(f"{field} must be {_CARRIED[name]}, got {odd} in it") from None


def _has_odd_key(value: Any) -> bool:
    """Whether a dict in it has a key that a format would make a str of, or refuse."""
    if not isinstance(value, dict | list | tuple):
        return False
    waiting: list[Any] = [value]
    steps = 0
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            for key, part in each.items():
                if not isinstance(key, str):
                    return True
                if isinstance(part, dict | list | tuple):
                    waiting.append(part)
        elif isinstance(each, list | tuple):
            waiting += [part for part in each if isinstance(part, dict | list | tuple)]
        steps += 1
        if steps > 1_000_000:  # one that holds itself: the format will say so
            return False
    return False


def carried(metadata: Mapping[Any, Any], codec: Codec) -> Mapping[str, Any]:
    """What of a request's metadata a format can carry."""
    return {
        name: value
        for name, value in metadata.items()
        if isinstance(name, str) and _misfit(value, has_bytes=codec.name == "msgpack") is None
    }


# -- formats


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _json(value: Any) -> str:
    """A value as JSON; what is neither list nor dict costs no encoder.

    Raises:
        TypeError, ValueError, RecursionError: it is none.
    """
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is int:
        return int.__repr__(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if _has_odd_key(value):
        raise TypeError("a key that is no str")
    return _dumps(value)


_CALL_DEFAULTS = _SENT[frames.Call][1][2:]


def _call(call: frames.Call) -> str:
    """One as JSON, without what is as it would be by default."""
    text = f'{{"frame":"call","id":{_json(call.id)},"payload":{_json(call.payload)}'
    for name, default in _CALL_DEFAULTS:
        value = getattr(call, name)
        if value != default:
            text += f',"{name}":{_json(value)}'
    return f'{text},"protocol":{PROTOCOL}}}'


def _loaded(text: str) -> Any:
    try:
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return _decoder.decode(text)  # there is something around it: spaces, or what must not be


class JsonCodec:
    """One object a frame, in UTF-8, without an end of line."""

    name = "json"
    content_type = "application/json"

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes

    def encode(self, frame: Frame) -> bytes:
        try:
            # Most of all that is said is one of these three: without the tables.
            if type(frame) is frames.Chunk:
                head = f'{{"frame":"chunk","id":{_json(frame.id)},"number":{frame.number},"value":'
                text = head + _json(frame.value) + "}"
            elif type(frame) is frames.Value:
                text = f'{{"frame":"value","id":{_json(frame.id)},"value":{_json(frame.value)}}}'
            elif type(frame) is frames.Call:
                text = _call(frame)
            else:
                if _has_odd_key(_content_of(frame)):
                    _refuse("json", frame)
                text = _dumps(_plain(frame))
            data = text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            _refuse("json", frame, error)
        return _bounded(data, frame, self.most_bytes)

    def to_worker(self, data: bytes | bytearray | memoryview) -> ToWorker:
        return cast(ToWorker, _framed(self._read(data), _TO_WORKER))

    def to_caller(self, data: bytes | bytearray | memoryview) -> ToCaller:
        return cast(ToCaller, _framed(self._read(data), _TO_CALLER))

    def _read(self, data: bytes | bytearray | memoryview) -> Any:
        _check_size(data, self.most_bytes)
        try:
            return _loaded(str(data, "utf-8"))
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"a frame must be JSON in UTF-8: {type(error).__name__}") from None


class MsgpackCodec:
    """One map a frame; needs msgpack, which the other end must have as well.

    Raises:
        ModuleNotFoundError: it is not installed.
    """

    name = "msgpack"
    content_type = "application/msgpack"

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._msgpack = _msgpack()
        self.most_bytes = most_bytes

    def encode(self, frame: Frame) -> bytes:
        if _has_odd_key(_content_of(frame)):
            _refuse("msgpack", frame)
        try:
            data = self._msgpack.packb(_plain(frame), use_bin_type=True)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            _refuse("msgpack", frame, error)
        return _bounded(cast(bytes, data), frame, self.most_bytes)

    def to_worker(self, data: bytes | bytearray | memoryview) -> ToWorker:
        return cast(ToWorker, _framed(self._read(data), _TO_WORKER))

    def to_caller(self, data: bytes | bytearray | memoryview) -> ToCaller:
        return cast(ToCaller, _framed(self._read(data), _TO_CALLER))

    def _read(self, data: bytes | bytearray | memoryview) -> Any:
        _check_size(data, self.most_bytes)
        try:
            return self._msgpack.unpackb(
                data, raw=False, strict_map_key=True, ext_hook=_no_extension
            )
        except Exception as error:  # it has several of its own, of no common base
            raise ProtocolError(f"a frame must be msgpack: {type(error).__name__}") from None


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError("extension types are not read")


def _check_size(data: bytes | bytearray | memoryview, most_bytes: int) -> None:
    if len(data) > most_bytes:
        raise TooLongError(f"a frame must have at most {most_bytes} bytes")


def _bounded(data: bytes, frame: Frame, most_bytes: int) -> bytes:
    if len(data) > most_bytes:
        field = _CONTENT.get(type(frame), "frame")
        raise PayloadError(
            f"{field} must have at most {most_bytes} bytes as it is sent, got {len(data)}"
        )
    return data


def _msgpack() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        if error.name != "msgpack":
            raise
        raise ModuleNotFoundError(
            "format='msgpack' needs msgpack: pip install 'greenroom[msgpack]'", name="msgpack"
        ) from error
    return msgpack


def codec_for(name: FormatName | str, most_bytes: int = MOST_BYTES) -> Codec:
    """The format of a name.

    Raises:
        ValueError: there is none of it.
        ModuleNotFoundError: msgpack is not installed.
    """
    if name == "json":
        return JsonCodec(most_bytes)
    if name == "msgpack":
        return MsgpackCodec(most_bytes)
    raise ValueError(f"format must be 'json' or 'msgpack', got {name!r}")
