"""Frames as messages of NATS."""

from __future__ import annotations

import contextlib
import random

import pytest

from greenroom.remote.nats_wire import (
    RESERVE,
    Part,
    Parts,
    Sender,
    Told,
    Whole,
    WireError,
    pong,
    read_to_caller,
    read_to_worker,
    to_caller,
    to_worker,
)

SENDER = Sender(b"12345678", 3, 100.5, 0.25)


def test_b453_a_frame_comes_out_as_it_went_in() -> None:
    """With who has sent it, and by which connection; in either format."""
    for format in ("json", "msgpack"):
        (message,) = to_worker(SENDER, b"frame", 10_000, format)
        assert read_to_worker(message) == (SENDER, None, format, b"frame")
        (message,) = to_caller(b"frame", 10_000, format)
        assert read_to_caller(message) == (None, format, b"frame")
    told = Told(7.25, "work.one.a1")
    assert read_to_caller(pong(told, b"{}")) == (told, "json", b"{}")


def test_b453_the_age_of_a_call_is_told_by_the_clock_of_the_worker_alone() -> None:
    """What its caller adds is how long ago it heard that clock."""
    assert SENDER.age_s(101.0) == 0.25
    assert SENDER.age_s(110.75) == 10.0


@pytest.mark.parametrize("most", [2 * RESERVE, 5000, 1_000_000])
@pytest.mark.parametrize("size", [0, 1, 4999, 70_000])
def test_b453_what_is_too_long_for_a_message_goes_in_parts(most: int, size: int) -> None:
    """None is longer than the server takes, and together they are what was sent."""
    data = random.Random(size).randbytes(size)
    parts, whole = Parts(100_000), Whole(100_000)
    found = back = None
    for message in to_worker(SENDER, data, most):
        assert len(message) <= most
        sender, part, _, rest = read_to_worker(message)
        assert sender == SENDER
        found = rest if part is None else parts.add("key", part, rest, 0.0)
    for message in to_caller(data, most):
        assert len(message) <= most
        told, _, rest = read_to_caller(message)
        back = whole.add(told, rest) if isinstance(told, Part) else rest
    assert found == back == data
    assert len(parts) == 0


def test_b453_parts_are_bounded_in_bytes_number_and_time() -> None:
    """A missing part is an error, and what never ends is dropped."""
    parts = Parts(100)
    with pytest.raises(WireError, match="a part is missing"):
        parts.add("a", Part(1, 3), b"x", 0.0)
    with pytest.raises(WireError, match="longer than 100 bytes"):
        parts.add("a", Part(0, 3), b"x" * 101, 0.0)
    assert len(parts) == 0
    for each in range(10):
        parts.add(str(each), Part(0, 2), b"x" * 90, 0.0)
    assert len(parts) == 4
    parts.add("late", Part(0, 2), b"x", Parts.LONGEST_S)
    assert len(parts) == 1
    many = Parts(10**9)
    for each in range(2 * Parts.MOST_BEGUN):
        many.add(str(each), Part(0, 2), b"", 0.0)
    assert len(many) <= Parts.MOST_BEGUN


def test_b453_what_is_no_message_is_an_error_and_nothing_else() -> None:
    """Whatever bytes come, a thousand times."""
    rng = random.Random(446)
    good = [*to_worker(SENDER, b"x" * 50, 10_000), *to_caller(b"x" * 50, 10_000)]
    good += [*to_worker(SENDER, b"x" * 5000, 2048), pong(Told(1.0, "a.b"), b"{}")]
    for _ in range(1000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)]
        for read in (read_to_worker, read_to_caller):
            with contextlib.suppress(WireError):
                read(bytes(data))
