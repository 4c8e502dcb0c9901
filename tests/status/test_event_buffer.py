"""Events on their way to a reader: nobody waits for it, and it is told what it has lost."""

from __future__ import annotations

import threading

from helpers_pools import WAIT_S

from greenroom.events import MemberRested
from greenroom.status.event_buffer import EventBuffer


def event(member: str) -> MemberRested:
    return MemberRested(pool="p", member=member)


def test_what_was_put_is_taken_in_order() -> None:
    """With the time that it was put with."""
    buffer = EventBuffer(everything=True)
    for at, name in enumerate("abc"):
        buffer.put(float(at), event(name))
    taken = buffer.take(0)
    assert taken is not None
    assert [(at, each.member, lost) for at, each, lost in taken] == [
        (0.0, "a", 0),
        (1.0, "b", 0),
        (2.0, "c", 0),
    ]
    assert buffer.take(0) == []


def test_b421_what_waits_is_bounded_by_its_texts_as_well() -> None:
    """An id of the app's may be as long as it likes."""
    buffer = EventBuffer(everything=True, most_text=100)
    for name in ("a" * 60, "b" * 60, "c" * 20, "d" * 200):
        buffer.put(0.0, event(name))
    taken = buffer.take(0) or ()
    assert [(each.member, lost) for _, each, lost in taken] == [("a" * 60, 0), ("c" * 20, 1)]
    buffer.put(0.0, event("e" * 60))
    assert [lost for _, _, lost in buffer.take(0) or ()] == [1]


def test_a_slow_reader_is_told_how_many_it_has_lost() -> None:
    """Where the gap is: before the first one that came after it."""
    buffer = EventBuffer(everything=True, room=2)
    for name in "abcd":
        buffer.put(0.0, event(name))
    assert [lost for _, _, lost in buffer.take(0) or ()] == [0, 0]
    buffer.put(0.0, event("e"))
    buffer.put(0.0, event("f"))
    assert [(each.member, lost) for _, each, lost in buffer.take(0) or ()] == [("e", 2), ("f", 0)]


def test_its_end_comes_behind_what_is_in_it() -> None:
    """Nothing is put in any more."""
    buffer = EventBuffer(everything=True)
    buffer.put(0.0, event("a"))
    buffer.close()
    buffer.put(0.0, event("b"))
    assert [each.member for _, each, _ in buffer.take(0) or ()] == ["a"]
    assert buffer.take(WAIT_S) is None


def test_a_reader_that_waits_is_woken() -> None:
    """By an event, and by the end."""
    buffer = EventBuffer(everything=True)
    taken: list[object] = []

    def read() -> None:
        taken.append(buffer.take(WAIT_S))
        taken.append(buffer.take(WAIT_S))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    buffer.put(0.0, event("a"))
    buffer.close()
    reader.join(WAIT_S)
    assert taken == [[(0.0, event("a"), 0)], None]
