"""Paths into JSON."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.kinds.json_path import JsonPath

EVENT = {
    "type": "item.completed",
    "item": {"type": "agent_message", "text": "hi"},
    "content": [{"type": "tool", "text": "no"}, {"type": "text", "text": "yes"}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("type", "item.completed"),
        ("item.text", "hi"),
        ("[type=item.completed].item[type=agent_message].text", "hi"),
        ("[type=item.started].item.text", None),
        ("content[0].text", "no"),
        ("content[-1].text", "yes"),
        ("content[2].text", None),
        ("content[type=text].text", "yes"),
        ("content[type=image].text", None),
        ("item.text.more", None),
        ("type[0]", None),
    ],
)
def test_a_path_leads_to_what_stands_there_or_to_none(path: str, found: Any) -> None:
    """Names, places, and the object that has a text under a key."""
    assert JsonPath(path).of(EVENT) == found


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a b", "a[", "a[]", "a]", "[=x", "a.", "a[0]b"])
def test_what_is_no_path_is_refused_by_name(path: str) -> None:
    """With the field and the value."""
    with pytest.raises(ValueError, match="answer must"):
        JsonPath(path, "answer")
