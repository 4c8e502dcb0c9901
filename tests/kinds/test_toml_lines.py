"""Where something stands in a file, as far as can be seen line by line."""

from __future__ import annotations

import pytest

from greenroom.kinds.toml_lines import line_of, lines_of, meant

TEXT = """\
# a file
title = "x"
load.rate = 2

[pool]   # its settings
name = "eu"
"quoted key" = 1

[[members]]
name = "a"
[members.params]
heat = 0.5
[[members]]
name = "b"
latency = { kind = "constant", mean = 1 }

[variants.busy]
load.rate = 9
[[variants.busy.members]]
name = "c"
[ spaced . "out" ]
key = [
    1,
]
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("title",), 2),
        (("load",), 3),
        (("load", "rate"), 3),
        (("pool",), 5),
        (("pool", "name"), 6),
        (("pool", "quoted key"), 7),
        (("members",), 9),
        (("members", "0"), 9),
        (("members", "0", "params"), 11),
        (("members", "0", "params", "heat"), 12),
        (("members", "1", "name"), 14),
        (("variants", "busy", "load", "rate"), 18),
        (("variants", "busy", "members", "0", "name"), 20),
        (("spaced", "out", "key"), 22),
        # What is next around it:
        (("members", "1", "latency", "mean"), 15),
        (("members", "1", "weight"), 13),
        (("pool", "missing"), 5),
        (("missing",), None),
        ((), None),
    ],
)
def test_the_line_of_a_place(place: tuple[str, ...], line: int | None) -> None:
    """Its own, or that of what is around it."""
    assert line_of(lines_of(TEXT), place) == line


def test_the_key_that_may_have_been_meant() -> None:
    """None, where none is near."""
    assert meant("modle", ["model", "weight"]) == "did you mean model? "
    assert meant("heat", ["model", "mode"]) == ""
