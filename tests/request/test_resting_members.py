"""The part of the flow that lets members rest, and has them come back."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from greenroom.actors.request.resting_members import RestingMembers
from greenroom.messages import FailureKind


def test_a_rest_ends_though_nobody_could_be_told_of_it() -> None:
    """What is to wake the member is set before a subscriber may raise."""
    alarms: list[float] = []
    rest = SimpleNamespace(until=0.0, is_news=lambda: True)

    def rest_for(*_: Any) -> bool:
        rest.until = 5.0
        return True

    ports = Mock(now=lambda: 1.0, wall=lambda: 1.0, at=lambda when, _: alarms.append(when))
    events = Mock(resting=Mock(side_effect=SystemExit("a sink has raised")))
    members = RestingMembers(ports, Mock(), events, random.Random(1), Mock())
    slot = cast(Any, SimpleNamespace(name="a", rest=rest, rest_for=rest_for))
    with pytest.raises(SystemExit):
        members.begin(slot, FailureKind.NOT_FOUND, 0.0, 4.0, 1.0)
    assert alarms == [5.0]
