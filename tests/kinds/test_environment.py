"""Texts of the environment: which of them are numbers, truths and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Optional

import pytest

from greenroom.kinds.environment import hint_within, value_of

Words = Literal["fail", "wait"]


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("20", float, 20.0),
        (" 7.5\n", float | None, 7.5),
        ("1e-3", Optional[float], 0.001),  # noqa: UP045 - as other packages write it
        ("4", int, 4),
        ("10_000", int | None, 10_000),
        ("p95", float | Literal["p95"] | None, "p95"),
        ("2", float | Literal["p95"] | None, 2.0),
        ("true", bool, True),
        ("Off", bool, False),
        ("1", bool, True),
        ("wait", Words, "wait"),
        ("auto", Callable[[Any], object] | Literal["auto"] | None, "auto"),
        # Nobody can tell: it stays a text.
        ("20", str, "20"),
        ("20", int | str, "20"),
        ("20", None, "20"),
        ("20", Any, "20"),
        ("20", Mapping[str, int], "20"),
        ("other", Callable[[Any], object] | Literal["auto"] | None, "other"),
    ],
)
def test_a_text_is_what_the_field_wants(text: str, hint: Any, value: Any) -> None:
    """Where its type is clear; and of that very type."""
    found = value_of(text, hint)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "hint", "rule"),
    [
        ("soon", float | None, "must be a number"),
        ("", float, "must be a number"),
        ("1.5", int, "must be a whole number"),
        ("maybe", bool, "must be true or false"),
        ("2", bool, "must be true or false"),
        ("Wait", Words, "must be 'fail' or 'wait'"),
        ("p99", float | Literal["p95"] | None, "must be a number or 'p95'"),
    ],
)
def test_what_the_field_cannot_be_is_refused_by_its_rule(text: str, hint: Any, rule: str) -> None:
    """The rule alone: the text may be secret."""
    with pytest.raises(ValueError, match="must be") as caught:
        value_of(text, hint)
    assert str(caught.value) == rule


def test_the_type_of_what_is_in_a_table_or_an_array() -> None:
    """As far as it is said."""
    assert hint_within(Mapping[str, float] | None, "a") is float
    assert hint_within(dict[str, int], "a") is int
    assert hint_within(Sequence[int]) is int
    assert hint_within(list[str]) is str
    for unknown in (None, Any, dict, list, Mapping[str, float], float | None, Words):
        assert hint_within(unknown) is None
