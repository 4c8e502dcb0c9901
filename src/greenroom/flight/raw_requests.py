"""Requests in the form in which a recorder keeps them in memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from greenroom.actors.routing.load_estimate import latency_of
from greenroom.flight.flight_lines import End, RequestLine
from greenroom.flight.flight_steps import (
    FAILED,
    FIRST_CHUNK,
    GIVEN,
    LEFT,
    QUEUED,
    RELEASED,
    RESUMES,
    ROLES,
    SUCCEEDED,
    Failed,
    FirstChunk,
    Given,
    Left,
    Queued,
    Released,
    Resumes,
    Step,
    Succeeded,
)

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
