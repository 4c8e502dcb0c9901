"""A recording as it is played again: who came when, and how each call ended."""

from __future__ import annotations

import bisect
import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from greenroom.flight.flight_lines import (
    BrokenLineError,
    FlightError,
    Header,
    JudgedLine,
    MemberFacts,
    MembersLine,
    SettingsLine,
    StateLine,
)
from greenroom.flight.flight_steps import (
    DISCONNECTED,
    FAILED,
    FIRST_CHUNK,
    GIVEN,
    LEFT,
    MAY_MEND,
    OPENS_AT_ONCE,
    QUEUED,
    RELEASED,
    RESUMES,
    RUNS,
    STARTED,
    SUCCEEDED,
)
from greenroom.flight.line_text import raw_read, read
from greenroom.flight.raw_requests import STEPS
from greenroom.flight.settings_said import config_of
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CancelReason, FailureKind

_NEAR = 6
"""A call that was never made ends as one of so many that its member has had just about then: of
more, some would be of before or after a fault.
"""
_AROUND = 40
"""Where one was left behind it is looked among so many for some that took longer."""
_LONGER = 1.5
"""If there is none, it would have taken so much longer."""
_ROUNDING_S = 1e-10
_LOST = str(CancelReason.LOST_RACE)
_ITS_OWN = frozenset((FailureKind.CALLER, FailureKind.TOO_LARGE))
"""Failures that are the request's, whoever has it."""


class CallEnd(NamedTuple):
    """How a call has ended, or ends.

    Attributes:
        seconds: from its beginning until the pool heard of it; inf: it never ends by itself.
        kind: None of an answer.
        lag_s: how much later its slot was free, where it was cut short.
        started: whether its agent had begun.
        late_s: how much later an answer's report was read.
        cut_s: after how long the pool has cut it off, where that is why it failed.
    """

    seconds: float
    kind: FailureKind | None = None
    retry_after_s: float | None = None
    lag_s: float = 0.0
    started: bool = True
    may_mend: bool = False
    opens_at_once: bool = False
    disconnected: bool = False
    late_s: float = 0.0
    cut_s: float = 0.0


class RecordedCall(NamedTuple):
    """A call that was made.

    Attributes:
        member: its index.
        role: 0 the awaited one, 1 a hedge, 2 a trial beside.
        end: None of one that was left behind before it had an end of its own.
        left_s: after how long that was.
    """

    member: int
    at: float
    role: int
    end: CallEnd | None
    left_s: float = 0.0
    lag_s: float = 0.0


class Arrival(NamedTuple):
    """A request that came, and what became of it.

    Attributes:
        took_s: how long it took to its end; None of one that had none.
        how: how it ended; "" of one that had no end.
        draws: what chance has said on its way.
        resumed: for each pause when it was to be over, and when it went on.
    """

    at: float
    number: int
    facts: Mapping[str, Any] | None
    calls: tuple[RecordedCall, ...]
    took_s: float | None
    how: str
    draws: tuple[float, ...] = ()
    resumed: tuple[tuple[float, float], ...] = ()


class Transition(NamedTuple):
    """A member's breaker changes."""

    at: float
    member: str
    circuit: str


@dataclass(slots=True, eq=False)
class RecordedFlight:
    """What one pool has recorded, in the order of the arrivals.

    Attributes:
        members: who was in the pool at first.
        states: of members, as the router heard of them.
        judged: when the router heard that the supervisor had judged failures: by member,
            incarnation, and how many.
        changed: whether members or settings have changed meanwhile, which is not played again.
    """

    header: Header
    members: tuple[MemberFacts, ...] = ()
    arrivals: list[Arrival] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    lost: int = 0
    changed: bool = False
    states: list[StateLine] = field(default_factory=list)
    judged: dict[tuple[str, int, int], float] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _circuits: dict[int, str] = field(default_factory=dict)

    @property
    def config(self) -> PoolConfig:
        """The settings at first, as far as they were written down."""
        try:
            return config_of(self.header.settings)
        except (TypeError, ValueError) as error:
            raise FlightError(f"settings of the recording: {error}") from None

    def name(self, index: int) -> str:
        """What a member was called."""
        return self._names.get(index, f"member {index}")

    def add(self, text: str) -> None:
        """One more line."""
        if text.startswith('{"request":'):
            self.arrivals.append(_arrival(raw_read(json.loads(text))))
            return
        line = read(text)
        match line:
            case MembersLine():
                self._members_are(line)
            case StateLine():
                self._state(line)
            case JudgedLine():
                self.judged[self.name(line.member), line.incarnation, line.count] = line.at
            case SettingsLine():
                self.changed = True
            case None:
                pass
            case _:
                self.lost += getattr(line, "count", 0)

    def _members_are(self, line: MembersLine) -> None:
        self._names.update((each.index, each.name) for each in line.members)
        if not self.members:
            self.members = tuple(line.members)
        elif [each.name for each in line.members] != [each.name for each in self.members]:
            self.changed = True

    def _state(self, line: StateLine) -> None:
        self.states.append(line)
        before = self._circuits.get(line.member, "closed")
        self._circuits[line.member] = line.circuit
        if line.circuit != before:
            self.transitions.append(Transition(line.at, self.name(line.member), line.circuit))

    @property
    def last_at(self) -> float:
        """When something is known to have happened last."""
        ends = (each.at + (each.took_s or 0.0) for each in self.arrivals)
        return max((*ends, *(each.at for each in self.states)), default=self.header.at)

    def in_order(self) -> RecordedFlight:
        """All is there: what was written at its end is put where it began."""
        self.arrivals.sort(key=_when)
        return self


def recorded(lines: Iterable[str]) -> RecordedFlight:
    """The last recording of a file.

    Raises:
        FlightError: a line is none of a recording, or there is none.
    """
    flight: RecordedFlight | None = None
    for number, text in enumerate(lines, 1):
        try:
            if text.startswith('{"flight":'):
                header = read(text)
                assert isinstance(header, Header)
                flight = RecordedFlight(header)
            elif flight is not None:
                flight.add(text)
            else:
                raise FlightError("not a recording: it has no first line")
        except (BrokenLineError, json.JSONDecodeError) as error:
            if flight is None:
                raise FlightError(f"line {number}: {error}") from None
            flight.lost += 1
        except (FlightError, LookupError, TypeError, ValueError) as error:
            raise FlightError(f"line {number}: {error}") from None
    if flight is None:
        raise FlightError("not a recording: it has no first line")
    if not flight.members:
        raise FlightError("nothing was recorded: there is nobody in the pool")
    return flight.in_order()


def _when(arrival: Arrival) -> int:
    return arrival.number


def _arrival(raw: Sequence[Any]) -> Arrival:
    _, number, at, _, facts, _, end = raw[:STEPS]
    calls, draws = _calls(raw[STEPS:], at if end is None else end[0])
    took_s = None if end is None else end[0] - at
    resumed = tuple(_resumed(raw[STEPS:])) if len(calls) > 1 else ()
    how = end[1] if end else ""
    return Arrival(at, number, facts or None, calls, took_s, how, draws, resumed)


def _resumed(steps: Sequence[Sequence[Any]]) -> Iterator[tuple[float, float]]:
    for step, following in itertools.pairwise(steps):
        if step[0] == RESUMES and following[0] in (GIVEN, QUEUED):
            yield step[3], following[3] if following[0] == GIVEN else following[1]


def _calls(
    steps: Sequence[Sequence[Any]], ended_at: float
) -> tuple[tuple[RecordedCall, ...], tuple[float, ...]]:
    if len(steps) == 2 and steps[0][0] == GIVEN and steps[1][0] == SUCCEEDED:  # as most are
        given = steps[0]
        call = RecordedCall(given[2], given[3], given[4], _answer(steps[1], given[3], ended_at))
        return (call,), tuple(given[11])
    begun: dict[int, Sequence[Any]] = {}
    ends: dict[int, CallEnd] = {}
    left: dict[int, float] = {}
    cut_at: dict[int, float] = {}
    lags: dict[int, float] = {}
    draws: list[float] = []
    # The answer to a race is told with the time at which it ended; who lost, when that was read.
    heard_at = min((s[2] for s in steps if s[0] == LEFT and s[3] == _LOST), default=ended_at)
    for step in steps:
        letter = step[0]
        if letter == GIVEN:
            begun[step[1]] = step
            draws += step[11]
        elif letter == RESUMES:
            draws += step[4]
        elif letter in (SUCCEEDED, FAILED, LEFT, RELEASED, FIRST_CHUNK):
            number = step[1]
            if number not in begun:
                continue
            at = begun[number][3]
            if letter == SUCCEEDED:
                ends[number] = _answer(step, at, heard_at)
            elif letter == FAILED:
                ends[number] = _failure(step, at)
                if step[7] & RUNS:
                    cut_at[number] = step[2]
            elif letter == LEFT:
                left[number] = step[2] - at
                cut_at[number] = step[2]
            elif letter == RELEASED and number in cut_at:
                lags[number] = max(0.0, step[2] - cut_at[number])
    calls = tuple(
        RecordedCall(
            step[2],
            step[3],
            step[4],
            ends.get(number),
            left.get(number, 0.0),
            lags.get(number, 0.0),
        )
        for number, step in begun.items()
    )
    return calls, tuple(draws)


def _answer(step: Sequence[Any], began: float, heard_at: float) -> CallEnd:
    seconds, late_s = step[2], max(step[3], heard_at - began - step[2])
    return CallEnd(seconds, late_s=late_s) if late_s > _ROUNDING_S else CallEnd(seconds)


def _failure(step: Sequence[Any], began: float) -> CallEnd:
    _, _, at, kind, _, _, after_s, flags = step
    return CallEnd(
        # What the router has cut off would not have ended by itself.
        math.inf if flags & RUNS else at - began,
        FailureKind(kind),
        after_s,
        started=bool(flags & STARTED),
        may_mend=bool(flags & MAY_MEND),
        opens_at_once=bool(flags & OPENS_AT_ONCE),
        disconnected=bool(flags & DISCONNECTED),
        cut_s=at - began if flags & RUNS else 0.0,
    )


class Likely:
    """How calls of a member end that it was never asked for.

    Whether it fails, and how, is as of one of the calls that it had just about then. An answer
    takes what its answers took just then (their geometric mean), times what one of all of them took
    over its own time's: a few calls in a bad time are not repeated a hundred times that way. Of
    what was left behind it is known how long it ran at least: it ends as one of those that took
    longer (as by Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, 1958).

    Args:
        calls: of all requests.
    """

    def __init__(self, calls: Iterator[RecordedCall], rng: random.Random) -> None:
        known: dict[int, list[RecordedCall]] = {}
        for call in calls:
            if call.end is None or call.end.kind not in _ITS_OWN:
                known.setdefault(call.member, []).append(call)
        self._calls = {member: sorted(each, key=_began) for member, each in known.items()}
        self._ends = {
            member: sorted((c.end for c in each if c.end is not None), key=_seconds)
            for member, each in self._calls.items()
        }
        self._times = {member: _Times(each) for member, each in self._calls.items()}
        self._rng = rng

    def end_of(self, member: int, at: float) -> CallEnd | None:
        """How a call that begins then would end; None of a member that has never had one."""
        calls = self._calls.get(member)
        if not calls:
            return None
        middle = bisect.bisect(calls, at, key=_began)
        first = max(0, min(middle - _NEAR // 2, len(calls) - _NEAR))
        call = self._rng.choice(calls[first : first + _NEAR])
        if call.end is None:
            return self.longer_than(call)
        if call.end.kind is not None:
            return call.end
        return CallEnd(self._times[member].drawn(at, self._rng))

    def longer_than(self, left: RecordedCall) -> CallEnd:
        """How one that was left behind would have ended."""
        calls, ends = self._calls.get(left.member, []), self._ends.get(left.member, [])
        middle = bisect.bisect(calls, left.at, key=_began)
        first = max(0, middle - _AROUND // 2)
        near = [
            call.end
            for call in calls[first : first + _AROUND]
            if call.end is not None and call.end.seconds > left.left_s
        ]
        if near:
            return self._rng.choice(near)
        longer = ends[bisect.bisect(ends, left.left_s, key=_seconds) :]
        return self._rng.choice(longer) if longer else CallEnd(_LONGER * left.left_s)


class _Times:
    """What the answers of a member took, in seconds: about a time, and around that.

    Args:
        calls: by the time of their beginning.
    """

    def __init__(self, calls: Sequence[RecordedCall]) -> None:
        answered = [each for each in calls if each.end is not None and each.end.kind is None]
        self._at = [each.at for each in answered]
        logs = [math.log(max(each.end.seconds, 1e-9)) for each in answered if each.end is not None]
        self._sums = [0.0, *itertools.accumulate(logs)]
        # Not widened for the value's own part in that mean: at the edges of a fault, where a mean
        # is of both sides, they are too far apart as it is.
        self._apart = [log - self._mean(at) for at, log in zip(self._at, logs, strict=True)]

    def _mean(self, at: float) -> float:
        middle = bisect.bisect(self._at, at)
        first = max(0, min(middle - _NEAR // 2, len(self._at) - _NEAR))
        last = min(len(self._at), first + _NEAR)
        return (self._sums[last] - self._sums[first]) / (last - first)

    def drawn(self, at: float, rng: random.Random) -> float:
        return math.exp(self._mean(at) + rng.choice(self._apart))


def _seconds(end: CallEnd) -> float:
    return end.seconds


def _began(call: RecordedCall) -> float:
    return call.at


def own_failure(arrival: Arrival) -> CallEnd | None:
    """A failure that is the request's own: whoever has it fails so."""
    for call in arrival.calls:
        if call.end is not None and call.end.kind in _ITS_OWN:
            return call.end
    return None
