"""Where the lines of a stream of events end, and where they do not. Behaviour 198."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from greenroom.kinds.stream_lines import StreamLines

STREAM = "data: é\r\ndata: a\u2028b\x85c\rdata: \U0001f600\n\n: x\x0b\x1c\n\r\nlast".encode()
LINES = ["data: é", "data: a\u2028b\x85c", "data: \U0001f600", "", ": x\x0b\x1c", "", "last"]


def lines_of(*pieces: bytes, longest: int = 1_000) -> list[str]:
    lines = StreamLines(longest)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.end()


@given(st.lists(st.integers(0, len(STREAM))))
def test_lines_are_the_same_however_they_come(cuts: list[int]) -> None:
    """In whatever pieces: within a character, or a line's end."""
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert lines_of(*pieces) == LINES


def test_a_line_without_an_end_is_not_kept() -> None:
    """It comes in pieces, so that it costs no memory."""
    assert lines_of(b"x" * 6, b"x" * 6, b"\n", longest=10) == ["x" * 12, ""]


def test_a_byte_order_mark_is_none_of_the_text() -> None:
    """At the beginning only, whole or in parts."""
    assert lines_of(b"\xef", b"\xbb\xbfdata: x\n") == ["data: x"]
    assert lines_of(b"\xef\xbb\xbf\n") == [""]
