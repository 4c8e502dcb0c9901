"""Lines of a recording: written and read they are the same; what is none is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.flight import flight_lines as lines
from greenroom.flight import flight_steps as steps
from greenroom.flight import line_text as text_of
from greenroom.flight import raw_requests as raws

TIMES = st.floats(min_value=0.0, max_value=1e9)
NAMES = st.text(max_size=12)
INDICES = st.integers(min_value=0, max_value=1_000)
OUT = st.tuples(INDICES, NAMES, st.none() | TIMES, INDICES)
BARRED = st.tuples(INDICES, NAMES, NAMES)
DRAWS = st.lists(TIMES | st.integers(0, 2**64), max_size=3).map(tuple)


def _many(values: Any) -> Any:
    return st.lists(values, max_size=4).map(tuple)


GIVEN = st.builds(
    steps.Given,
    number=INDICES,
    member=INDICES,
    at=TIMES,
    role=st.sampled_from(steps.ROLES),
    trial=st.booleans(),
    loads=_many(INDICES),
    out=_many(OUT),
    latencies=_many(st.none() | TIMES),
    error_rates=_many(TIMES),
    barred=_many(BARRED),
    draws=DRAWS,
)
STEPS = st.one_of(
    GIVEN,
    st.builds(steps.Queued, at=TIMES, out=_many(OUT), barred=_many(BARRED)),
    st.builds(steps.FirstChunk, number=INDICES, seconds=TIMES),
    st.builds(steps.Succeeded, number=INDICES, seconds=TIMES, late_s=TIMES),
    st.builds(
        steps.Failed,
        number=INDICES,
        at=TIMES,
        kind=NAMES,
        seconds=TIMES,
        error=NAMES,
        retry_after_s=st.none() | TIMES,
        flags=st.integers(0, 31),
    ),
    st.builds(steps.Left, number=INDICES, at=TIMES, reason=NAMES),
    st.builds(steps.Released, number=INDICES, at=TIMES),
    st.builds(steps.Resumes, member=INDICES, at=TIMES, until=TIMES, draws=DRAWS),
)
ENDS = st.builds(
    lines.End,
    at=TIMES,
    how=NAMES,
    member=st.none() | INDICES,
    error=NAMES,
    reason=NAMES,
    skipped=_many(st.tuples(NAMES, NAMES, NAMES)),
)
REQUESTS = st.builds(
    lines.RequestLine,
    id=NAMES,
    number=INDICES,
    at=TIMES,
    members=INDICES,
    end=st.none() | ENDS,
    steps=_many(STEPS),
    facts=st.dictionaries(NAMES, NAMES | TIMES | st.booleans(), max_size=3),
)
MEMBERS = st.builds(
    lines.MemberFacts,
    index=INDICES,
    name=NAMES,
    weight=TIMES,
    priority=INDICES,
    cost=TIMES,
    max_concurrency=INDICES,
    learns=st.booleans(),
    group=st.none() | NAMES,
    tags=_many(NAMES),
    limits=st.just(()),
)
SETTINGS = st.dictionaries(NAMES, st.none() | NAMES | TIMES | st.booleans(), max_size=3)
OTHERS = st.one_of(
    st.builds(
        lines.Header,
        pool=NAMES,
        at=TIMES,
        wall=TIMES,
        strategy=NAMES,
        settings=SETTINGS,
        left_out=_many(NAMES),
        supervision=st.none() | st.integers(0, 2**64),
    ),
    st.builds(lines.MembersLine, number=INDICES, at=TIMES, members=_many(MEMBERS)),
    st.builds(
        lines.StateLine,
        member=INDICES,
        at=TIMES,
        circuit=NAMES,
        blocked=st.none() | NAMES,
        until=st.none() | TIMES,
        permits=st.none() | INDICES,
        epoch=INDICES,
        incarnation=INDICES,
        here=st.booleans(),
    ),
    st.builds(lines.RestLine, member=INDICES, at=TIMES, until=TIMES, kind=NAMES),
    st.builds(lines.JudgedLine, member=INDICES, at=TIMES, incarnation=INDICES, count=INDICES),
    st.builds(lines.SettingsLine, at=TIMES, settings=SETTINGS, left_out=_many(NAMES)),
    st.builds(lines.RefusedLine, id=NAMES, at=TIMES, error=NAMES),
    st.builds(lines.LostLine, count=INDICES),
    st.builds(lines.EndLine, at=TIMES),
)


@given(REQUESTS | OTHERS)
def test_b375_what_is_written_is_read_as_it_was(line: lines.Line) -> None:
    """Whatever is said comes back, on one line."""
    text = text_of.written(line)
    assert "\n" not in text
    assert text_of.read(text) == line


@given(REQUESTS)
def test_a_request_in_memory_says_the_same_as_its_line(line: lines.RequestLine) -> None:
    """The list that the router fills is the line in another form."""
    raw = raws.raw_of(line)
    assert raws.request_of(raw) == line
    assert text_of.written_request(raw) == text_of.written(line)


def test_b375_what_a_later_version_adds_is_left_out() -> None:
    """A new kind of line is none to be read, and a new field is passed by."""
    assert text_of.read('{"weather":"fine","at":1.0}') is None
    assert text_of.read('{"rest":1,"at":2.0,"until":3.0,"kind":"quota","why":"new"}') == (
        lines.RestLine(member=1, at=2.0, until=3.0, kind="quota")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a line of JSON"),
        ("[1]", "not an object"),
        ('{"flight":2,"pool":"p"}', "flight must be 1, the version of the format, got 2"),
        ('{"request":"r"}', "not a line of a recording"),
        ('{"rest":1}', "not a line of a recording"),
        (
            '{"request":"r","n":1,"at":0,"members":1,"end":null,"steps":[["?"]]}',
            "not a line of a recording",
        ),
    ],
)
def test_what_is_no_line_is_refused(text: str, said: str) -> None:
    """It is told what is wrong with it."""
    with pytest.raises(lines.FlightError, match=said):
        text_of.read(text)


def test_every_kind_of_line_is_tried() -> None:
    """No line, and no field of a request, is forgotten here."""
    assert {each.name for each in fields(lines.RequestLine)} == {
        "id", "number", "at", "members", "end", "steps", "facts"
    }  # fmt: skip


@given(
    st.text(max_size=12),
    TIMES,
    st.lists(st.tuples(INDICES, st.none() | TIMES, INDICES, TIMES), min_size=1, max_size=4),
    DRAWS,
)
def test_the_usual_request_is_written_in_the_same_words(
    request_id: str, at: float, members: list[tuple[int, float | None, int, float]], draws: Any
) -> None:
    """In a form of its own, since nearly all are of it: what is read is the same."""
    loads = tuple(load for load, _, _, _ in members)
    known = tuple((latency, streak, stamp, 10.0) for _, latency, streak, stamp in members)
    brief = (request_id, (7, at, 1, at, 1, 0, loads, known, draws), 0.25, 0.0, at + 0.25)
    line = text_of.read(text_of.written_request(brief))
    assert line == raws.request_of(raws.whole(brief))
    assert line == text_of.read(text_of.written(raws.request_of(raws.whole(brief))))
