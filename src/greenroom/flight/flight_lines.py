"""The lines of a recording: what each says, written and read. Pure. `docs/flight-recorder.md`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from json.encoder import encode_basestring_ascii as _text
from typing import Any, ClassVar

from greenroom.actors.routing.load_estimate import Known, latency_of

VERSION = 1
"""Of the format; what is read must be of this one."""


class FlightError(ValueError):
    """A recording that cannot be read, or does not hold what is asked for."""


NOT_OF_A_RECORDING = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What is raised where a value is of another type, or no time: lines are not looked through before
they are used, since a recording may have a million of them.
"""


class BrokenLineError(FlightError):
    """A line is not whole, as where a process was killed while it wrote. No reader stops there."""


# -- the steps of a request

GIVEN, QUEUED, FIRST_CHUNK, SUCCEEDED = "g", "q", "c", "s"
FAILED, LEFT, RELEASED, RESUMES = "f", "l", "x", "w"

ROLES = ("main", "hedge", "beside")

STARTED, MAY_MEND, OPENS_AT_ONCE, RUNS, DISCONNECTED = 1, 2, 4, 8, 16
"""What is true of a failure, as bits."""

UNJUDGED = "unjudged"
"""Why a member was out that has room, and waits for the supervisor's word on a failure."""

Out = tuple[int, str, float | None, int]
"""Who was not free: its index, a `SkipReason` or `UNJUDGED`, when it may be back, how many calls it
takes now.
"""


@dataclass(frozen=True, slots=True)
class Given:
    """A member is given the request. What was seen of the others is of that moment.

    Attributes:
        number: of the attempt.
        member: its index.
        role: one of `ROLES`.
        trial: whether it is the trial of a half-open breaker.
        loads: calls in flight on each member in the order of their indices, this one included; none
            where there are too many of them to be noted.
        out: who was not free, but for the one that was chosen.
        latencies: the seconds that each was expected to take, None of one that nobody has measured;
            none where the strategy does not look at them.
        error_rates: the recent ones, from 0 to 1; none where nobody has failed of late.
        barred: who must not have it, or has no headroom for it: index, why, and in words.
        draws: what chance has said on the way here, in order.
    """

    number: int
    member: int
    at: float
    role: str = "main"
    trial: bool = False
    loads: Sequence[int] = ()
    out: Sequence[Out] = ()
    latencies: Sequence[float | None] = ()
    error_rates: Sequence[float] = ()
    barred: Sequence[tuple[int, str, str]] = ()
    draws: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits for a member; `out` as of `Given`, of everybody."""

    at: float
    out: Sequence[Out] = ()
    barred: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True, slots=True)
class FirstChunk:
    """The first chunk of a stream came after so many seconds."""

    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt has answered after so many seconds; its report was read `late_s` later, behind
    others that came meanwhile.
    """

    number: int
    seconds: float
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt has failed.

    Attributes:
        kind: a `FailureKind`.
        error: the name of the error's class: what it says is not recorded.
        flags: `STARTED` and the others, added up.
    """

    number: int
    at: float
    kind: str
    seconds: float
    error: str = ""
    retry_after_s: float | None = None
    flags: int = STARTED


@dataclass(frozen=True, slots=True)
class Left:
    """The request goes on without an attempt; `reason` is a `CancelReason`."""

    number: int
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """The slot of an attempt is free, later than the attempt had its end."""

    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Resumes:
    """After a failure of that member (its index) there is a pause until `until`."""

    member: int
    at: float
    until: float
    draws: Sequence[float] = ()


Step = Given | Queued | FirstChunk | Succeeded | Failed | Left | Released | Resumes

_STEPS: Mapping[str, type[Step]] = {
    GIVEN: Given,
    QUEUED: Queued,
    FIRST_CHUNK: FirstChunk,
    SUCCEEDED: Succeeded,
    FAILED: Failed,
    LEFT: Left,
    RELEASED: Released,
    RESUMES: Resumes,
}
_LETTERS = {kind: letter for letter, kind in _STEPS.items()}


# -- the lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a recording, and of each that was added to the same file.

    Attributes:
        at: the pool's clock when it began, in seconds; all other times are of this clock.
        wall: the same moment in seconds since 1970.
        settings: what can be written down of the `PoolConfig`; `left_out` names the others.
        supervision: what the supervisor's chance was seeded with; None: not known.
    """

    KEY: ClassVar[str] = "flight"
    pool: str
    at: float
    wall: float
    strategy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    supervision: int | str | None = None
    greenroom: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What is said of a member, as of a `MemberRoute`."""

    index: int
    name: str
    weight: float = 1.0
    priority: int = 0
    cost: float = 0.0
    max_concurrency: int = 1
    learns: bool = False
    group: str | None = None
    tags: Sequence[str] = ()
    limits: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersLine:
    """Who is in the pool from then on, by index; `number` is what requests name it by."""

    KEY: ClassVar[str] = "members"
    number: int
    at: float
    members: Sequence[MemberFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLine:
    """A member's breaker, or what else keeps it out, has changed.

    Attributes:
        circuit: a `CircuitState`.
        blocked: a `SkipReason`, or None.
        until: when that may end; None: nobody says.
        here: whether an actor stands behind the name.
    """

    KEY: ClassVar[str] = "state"
    member: int
    at: float
    circuit: str
    blocked: str | None = None
    until: float | None = None
    permits: int | None = None
    epoch: int = 1
    incarnation: int = 0
    here: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLine:
    """A member rests, since it is throttled."""

    KEY: ClassVar[str] = "rest"
    member: int
    at: float
    until: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLine:
    """The supervisor has judged the first `count` failures of an incarnation of that member."""

    KEY: ClassVar[str] = "judged"
    member: int
    at: float
    incarnation: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLine:
    """The settings from then on, as of the header."""

    KEY: ClassVar[str] = "settings"
    at: float
    settings: Mapping[str, Any]
    left_out: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A request was not taken in at all; `error` is the name of what its asker got."""

    KEY: ClassVar[str] = "refused"
    id: str
    at: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLine:
    """So many lines are missing here: whoever writes was too slow."""

    KEY: ClassVar[str] = "lost"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLine:
    """The pool has ended."""

    KEY: ClassVar[str] = "ended"
    at: float


@dataclass(frozen=True, slots=True)
class End:
    """How a request has ended.

    Attributes:
        how: "answered", "failed", "cancelled", or "rejected".
        member: the index of who answered; None of nobody.
        error: the name of the class of what its asker got; "" of an answer.
        reason: why the pool gave up, in the pool's own words.
        skipped: of an error that lists the members those that were not asked: name, why, in words.
    """

    at: float
    how: str
    member: int | None = None
    error: str = ""
    reason: str = ""
    skipped: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request, from its arrival to its end.

    Attributes:
        id: of the request.
        number: counts the requests of a recording in the order of their arrival.
        at: when it was taken in.
        members: the `MembersLine` by which its indices are to be read.
        end: None of one that is still under way.
        steps: in their order.
        facts: what it asked for, as far as it asked: "key" and "fair" (salted hashes), "weight",
            "deadline", "priority", "once" (not idempotent), "max_retries", "only", "exclude",
            "prefer", "cost", "stream", "lease".
    """

    id: str
    number: int
    at: float
    members: int
    end: End | None
    steps: Sequence[Step]
    facts: Mapping[str, Any] = field(default_factory=dict)


Line = (
    Header
    | MembersLine
    | StateLine
    | RestLine
    | JudgedLine
    | SettingsLine
    | RefusedLine
    | LostLine
    | EndLine
    | RequestLine
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


# -- requests in the form in which they are kept in memory

# A list, filled in the router's turn: an object with names for its parts takes three times as long
# to make. What stands where; from STEPS on there are steps, each a tuple with its letter first.
ID, NUMBER, AT, MEMBERS, FACTS, RUNNING, END, STEPS = range(8)

Raw = list[Any]
"""A request as it is recorded; `RUNNING` counts its attempts that still hold a slot."""


Brief = tuple[Any, ...]
"""The same of one that was given to a member at once, while all were free and nobody failed, and
has asked for nothing else: as most are. While it is under way its number, when it came, the number
of its members, when it was given, the attempt, the member, and what was seen; then its id, all of
that, how long its answer took, how late that was read, and when it ended.
"""


def begun(brief: Sequence[Any], request_id: str) -> Raw:
    """As a raw request what is noted of one that is under way."""
    if isinstance(brief, list):
        return brief
    number, at, members, given_at, attempt, member, loads, known, draws = brief
    step = (GIVEN, attempt, member, given_at, 0, False, loads, (), known, (), (), draws)
    return [request_id, number, at, members, None, 1, None, step]


def whole(brief: Sequence[Any]) -> Raw:
    """As a raw request what is noted of one that has ended."""
    if isinstance(brief, list):
        return brief
    request_id, first, elapsed_s, late_s, now = brief
    raw = begun(first, request_id)
    number, member = raw[STEPS][1:3]
    raw[RUNNING], raw[END] = 0, (now, "answered", member, "", "", ())
    raw.append((SUCCEEDED, number, elapsed_s, late_s))
    return raw


def reckoned(raw: Sequence[Any]) -> Raw:
    """A raw request with what each member was expected to take, in place of what was known of it:
    the router leaves that to who reads or writes it.
    """
    return [*raw[:STEPS], *[_reckoned(step) if step[0] == GIVEN else step for step in raw[STEPS:]]]


_AT, _LOADS, _LATENCIES = 3, 6, 8


def _reckoned(step: Sequence[Any]) -> Sequence[Any]:
    known = step[_LATENCIES]
    if not known or not isinstance(known[0], tuple):
        return step
    at, expected = step[_AT], []
    for each, load in zip(known, step[_LOADS], strict=True):
        latency = latency_of(each, at, load)
        expected.append(None if latency is None else float(f"{latency:.4g}"))
    return (*step[:_LATENCIES], expected, *step[_LATENCIES + 1 :])


def request_of(raw: Sequence[Any]) -> RequestLine:
    """What a raw request says."""
    raw = reckoned(raw)
    end = raw[END]
    return RequestLine(
        raw[ID],
        raw[NUMBER],
        raw[AT],
        raw[MEMBERS],
        None if end is None else _end(end),
        tuple(map(step_of, raw[STEPS:])),
        dict(raw[FACTS] or {}),
    )


def _end(said: Sequence[Any]) -> End:
    at, how, member, error, reason, skipped = said
    return End(at, how, member, error, reason, tuple(map(tuple, skipped)))


def step_of(said: Sequence[Any]) -> Step:
    """What a raw step says."""
    letter, *values = said
    kind = _STEPS[letter]
    if kind is Given:
        number, member, at, role, trial, loads, out, latencies, rates, barred, draws = values
        return Given(
            number,
            member,
            at,
            ROLES[role],
            bool(trial),
            tuple(loads),
            tuple(map(tuple, out)),
            tuple(latencies),
            tuple(rates),
            tuple(map(tuple, barred)),
            tuple(draws),
        )
    if kind is Queued:
        at, out, barred = values
        return Queued(at, tuple(map(tuple, out)), tuple(map(tuple, barred)))
    if kind is Resumes:
        member, at, until, draws = values
        return Resumes(member, at, until, tuple(draws))
    return kind(*values)


def raw_of(line: RequestLine) -> Raw:
    """The raw request that says the same."""
    end = line.end
    said = None
    if end is not None:
        said = (end.at, end.how, end.member, end.error, end.reason, end.skipped)
    steps = map(_raw_step, line.steps)
    return [line.id, line.number, line.at, line.members, line.facts or None, 0, said, *steps]


def _raw_step(step: Step) -> tuple[Any, ...]:
    values = [getattr(step, name) for name in step.__slots__]
    if isinstance(step, Given):
        values[3], values[4] = ROLES.index(step.role), int(step.trial)
    return (_LETTERS[type(step)], *values)


# -- written

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


# -- read


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
