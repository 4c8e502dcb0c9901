"""The lines of a recording as text: written and read. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from json.encoder import encode_basestring_ascii as _text
from typing import Any

from greenroom.actors.routing.load_estimate import Known, latency_of
from greenroom.flight.flight_lines import (
    VERSION,
    BrokenLineError,
    EndLine,
    FlightError,
    Header,
    JudgedLine,
    Line,
    LostLine,
    MemberFacts,
    MembersLine,
    RefusedLine,
    RequestLine,
    RestLine,
    SettingsLine,
    StateLine,
)
from greenroom.flight.raw_requests import (
    AT,
    END,
    FACTS,
    ID,
    MEMBERS,
    NUMBER,
    STEPS,
    Raw,
    raw_of,
    reckoned,
    request_of,
)

_REQUEST = "request"

_KINDS: Mapping[str, type[Any]] = {
    kind.KEY: kind
    for kind in (
        Header,
        MembersLine,
        StateLine,
        RestLine,
        JudgedLine,
        SettingsLine,
        RefusedLine,
        LostLine,
        EndLine,
    )
}

_dumped: Callable[[Any], str] = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def _written_brief(brief: Sequence[Any]) -> str:
    """The same as by way of `whole`, in a third of the time: nearly all lines are of these."""
    request_id, first, elapsed_s, late_s, now = brief
    number, at, members, given_at, attempt, member, loads, known, draws = first
    expected = ",".join(map(_expected, known, loads, repeat(given_at)))
    return (
        f'{{"request":{_text(request_id)},"n":{number},"at":{at!r},"members":{members},'
        f'"end":[{now!r},"answered",{member},"","",[]],'
        f'"steps":[["g",{attempt},{member},{given_at!r},0,false,[{",".join(map(str, loads))}],[],'
        f"[{expected}],[],[],[{','.join(map(repr, draws))}]],"
        f'["s",{attempt},{elapsed_s!r},{late_s!r}]]}}'
    )


def _expected(known: Known, load: int, at: float) -> str:
    latency = latency_of(known, at, load)
    return "null" if latency is None else f"{latency:.4g}"


def written_request(raw: Sequence[Any]) -> str:
    """The line of a raw request, without its end."""
    if isinstance(raw, tuple):
        return _written_brief(raw)
    raw = reckoned(raw)
    end = raw[END]
    line: dict[str, Any] = {
        _REQUEST: raw[ID],
        "n": raw[NUMBER],
        "at": raw[AT],
        "members": raw[MEMBERS],
        "end": end,
        "steps": raw[STEPS:],
    }
    if raw[FACTS]:
        line["facts"] = raw[FACTS]
    return _dumped(line)


def written(line: Line) -> str:
    """The line, without its end."""
    if isinstance(line, RequestLine):
        return written_request(raw_of(line))
    values = {name: getattr(line, name) for name in line.__slots__}
    if isinstance(line, MembersLine):
        values["members"] = [
            {name: getattr(each, name) for name in each.__slots__} for each in line.members
        ]
    first = {Header: "version", MembersLine: "number", LostLine: "count", RefusedLine: "id"}
    key = first.get(type(line)) or ("member" if "member" in values else "at")
    if isinstance(line, MembersLine):
        return _dumped({line.KEY: values.pop("number"), "at": line.at, "list": values["members"]})
    if isinstance(line, SettingsLine):
        return _dumped({line.KEY: values.pop("settings"), **values})
    return _dumped({line.KEY: values.pop(key), **values})


def read(text: str) -> Line | None:
    """What a line says; None of a kind that a later version may have added.

    Raises:
        FlightError: it is no line of a recording, or one of another version.
    """
    said = _object(text)
    try:
        if _REQUEST in said:
            return request_of(raw_read(said))
        for key, kind in _KINDS.items():
            if key in said:
                return _other(key, kind, said)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, FlightError):
            raise
        raise FlightError(f"not a line of a recording: {error}") from None
    return None


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenLineError(f"not a line of JSON: {error}") from None
    if not isinstance(said, dict):
        raise FlightError("not a line of a recording: not an object")
    return said


def raw_read(said: Mapping[str, Any]) -> Raw:
    """A request as it is kept in memory, of what JSON makes of its line."""
    return [
        said[_REQUEST],
        said["n"],
        said["at"],
        said["members"],
        said.get("facts"),
        0,
        said["end"],
        *said["steps"],
    ]


def _other(key: str, kind: type[Any], said: dict[str, Any]) -> Line:
    first = said.pop(key)
    if kind is Header:
        if first != VERSION:
            raise FlightError(f"flight must be {VERSION}, the version of the format, got {first!r}")
        header: Header = kind(version=first, **_known(kind, said))
        return header
    if kind is MembersLine:
        members = tuple(MemberFacts(**_known(MemberFacts, each)) for each in said["list"])
        return MembersLine(number=first, at=said["at"], members=members)
    if kind is SettingsLine:
        return SettingsLine(settings=first, **_known(kind, said))
    name = {LostLine: "count", RefusedLine: "id", EndLine: "at"}.get(kind, "member")
    line: Line = kind(**{name: first}, **_known(kind, said))
    return line


def _known(kind: type[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a later version may have added."""
    found = {}
    for name, value in said.items():
        if name in kind.__slots__:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found
