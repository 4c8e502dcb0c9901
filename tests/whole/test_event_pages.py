"""`docs/events.md` has every event, with its level, its fields, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from helpers_events import EXAMPLES

from greenroom.events import CATALOGUE, Event

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMON = {each.name for each in fields(Event)}


def test_b390_every_event_has_a_section() -> None:
    """In the order of the catalogue, and there is none of anything else."""
    assert list(SECTIONS) == [event.name for event in CATALOGUE]
    assert set(EXAMPLES) == set(CATALOGUE)


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_b390_a_section_says_what_the_event_says(event: type[Event]) -> None:
    """Its level, an example in its own words, and its fields."""
    section = SECTIONS[event.name]
    assert section.lstrip().startswith(f"{event.level}. ")
    (example,) = re.findall(r"```text\n(.*?)\n```", section, re.DOTALL)
    assert example == str(EXAMPLES[event])
    own = [each.name for each in fields(event) if each.name not in COMMON]
    told = re.search(r"^Its own fields: (.*)\.$", section, re.MULTILINE)
    assert (re.findall(r"`(\w+)`", told[1]) if told else []) == own
