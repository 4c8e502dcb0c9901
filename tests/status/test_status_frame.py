"""A status as text: what `greenroom top` shows where no terminal is."""

from __future__ import annotations

from typing import Any

from greenroom.status.status_frame import HEADS, event_row, frames_of, text_of

MEMBER = {
    "name": "gpt",
    "status": "circuit_open",
    "circuit": "open",
    "in_flight": 2,
    "max_concurrency": 8,
    "concurrency_learned": True,
    "successes": 12_345,
    "failures": 6,
    "error_rate": 0.256,
    "latency_p50_s": 0.0421,
    "latency_p95_s": 12.5,
    "reopens_in_s": 29.6,
    "last_error": "ConnectionError: refused",
    "limits": [{"headroom": 12, "limit": 60, "cost": "requests"}],
}
POOL: dict[str, Any] = {
    "name": "writers",
    "answers": True,
    "strategy": "adaptive",
    "can_serve": True,
    "pending": 3,
    "in_flight": 2,
    "completed": 12_345,
    "failed": 6,
    "cancelled": 0,
    "retries": 7,
    "hedges": 1,
    "members": [MEMBER],
}


def test_a_row_has_what_one_wants_to_know_of_a_member() -> None:
    """Times in units that can be read, the breaker with when it is tried."""
    (frame,) = frames_of({"at": 1.0, "pools": [POOL]})
    assert frame.title == "writers: ready (adaptive)"
    assert dict(zip(HEADS, frame.rows[0], strict=True)) == {
        "member": "gpt",
        "status": "circuit_open",
        "breaker": "open, trial in 30 s",
        "in flight": "2/8 learned",
        "ok": "12,345",
        "failed": "6",
        "errors": "26%",
        "p50": "42 ms",
        "p95": "12.50 s",
        "left": "12/60 requests",
    }
    assert frame.errors == (("gpt", "ConnectionError: refused"),)


def test_rates_are_since_the_one_before() -> None:
    """The first has none; a pool that was started anew has none below zero."""
    before = {"at": 10.0, "pools": [POOL | {"completed": 12_245}]}
    (frame,) = frames_of({"at": 14.0, "pools": [POOL]}, before)
    assert frame.figures.startswith("25.0 answered/s, 3 waiting, 2 in flight, 12,345 answered")
    (frame,) = frames_of({"at": 14.0, "pools": [POOL | {"completed": 0}]}, before)
    assert frame.figures.startswith("0.0 answered/s")
    (frame,) = frames_of({"at": 14.0, "pools": [POOL]})
    assert frame.figures.startswith("3 waiting")


def test_the_state_of_a_pool_is_in_its_title() -> None:
    """Whether it could serve, drains, has stopped, or does not answer."""
    titles = {
        "writers: nobody is available (adaptive)": POOL | {"can_serve": False},
        "writers: draining (adaptive)": POOL | {"draining": True},
        "writers: stopped (adaptive)": POOL | {"stopped": True},
        "writers: does not answer (within 1 s)": {
            "name": "writers",
            "answers": False,
            "waited_s": 1,
        },
    }
    for title, pool in titles.items():
        assert [each.title for each in frames_of({"pools": [pool]})] == [title]


def test_what_is_not_known_is_a_dash() -> None:
    """Of a log, or of an endpoint of another version."""
    (frame,) = frames_of({"pools": [{"name": "p", "answers": True, "members": [{"name": "a"}]}]})
    assert frame.rows == (("a", "-", "-", "-", "-", "-", "0%", "-", "-", "-"),)
    assert frames_of({"pools": 3}) == frames_of({}) == []


def test_an_event_is_a_row() -> None:
    """With whose it is; one without a time that can be read has a dash."""
    said = {"event": "breaker.opened", "pool": "p", "member": "a", "message": "breaker opened"}
    assert event_row(said | {"ts": "never"}) == ("-", "p/a", "breaker.opened", "breaker opened")


def test_a_text_has_columns() -> None:
    """Below one another, without blanks at the ends."""
    second = MEMBER | {"name": "a-much-longer-name", "last_error": None}
    status = {"pools": [POOL | {"members": [MEMBER, second]}], "events": []}
    lines = list(text_of(status, "http://127.0.0.1:9100"))
    assert lines[0] == "http://127.0.0.1:9100"
    head, first, other = lines[4:7]
    assert head.index("status") == first.index("circuit_open") == other.index("circuit_open")
    assert all(line == line.rstrip() for line in lines)
    assert lines[-1] == "  last error of gpt: ConnectionError: refused"
