"""What a Configure takes, and what it refuses by name."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest
from helpers_messages import NAN, agent, refused

from greenroom import Configure, Member, PoolConfig
from greenroom.messages.config import ChangeableSettings
from greenroom.messages.configure import CHANGEABLE, FIXED, OF_MEMBER, MemberSettings


def configure(**what: Any) -> Configure:
    """One that may be of wrong types."""
    return Configure(**what)


def test_what_can_change_and_what_cannot_are_all_settings_there_are() -> None:
    """Each once, with the type that `PoolConfig` has it with."""
    names = [each.name for each in dataclasses.fields(PoolConfig)]
    assert sorted((*CHANGEABLE, *FIXED)) == sorted(names)
    hints, of_config = get_type_hints(ChangeableSettings), get_type_hints(PoolConfig)
    assert tuple(hints) == CHANGEABLE
    assert hints == {name: of_config[name] for name in CHANGEABLE}
    of_member = get_type_hints(Member)
    assert get_type_hints(MemberSettings) == {name: of_member[name] for name in OF_MEMBER}


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_cannot_change_is_refused_by_name_with_why(name: str) -> None:
    said = refused(lambda: configure(settings={name: getattr(PoolConfig(), name)}))
    assert said == (
        f"ValueError: {name} cannot change while the pool runs ({FIXED[name]}): "
        "start the pool anew for it"
    )


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            {"settings": {"request_timeout_s": 0}},
            "ValueError: request_timeout_s must be greater than 0, got 0",
        ),
        (
            {"settings": {"max_retries": "3"}},
            "TypeError: max_retries must be a whole number, got '3' (str)",
        ),
        (
            {"settings": {"when_unavailable": "hope"}},
            "ValueError: when_unavailable must be 'fail' or 'wait', got 'hope'",
        ),
        (
            {"settings": {"hedge_after_s": "p50"}},
            "ValueError: hedge_after_s must be a number or 'p95', got 'p50'",
        ),
        (
            {"members": {"a": {"weight": NAN}}},
            "ValueError: members.a.weight must be finite, got nan",
        ),
        (
            {"members": {"a": {"max_concurrency": 0}}},
            "ValueError: members.a.max_concurrency must be at least 1, got 0",
        ),
        (
            {"members": {"a": {"priority": 1.5}}},
            "TypeError: members.a.priority must be a whole number, got 1.5 (float)",
        ),
        ({"members": {"a": 3}}, "TypeError: members.a must be a mapping, got 3 (int)"),
        (
            {"members": {"a": {"agent": agent}}},
            "ValueError: members.a.agent cannot change in place: have the member replaced",
        ),
        (
            {"members": {"a": {"wieght": 1}}},
            (
                "ValueError: members.a.wieght is not a setting of a member; did you mean weight? "
                "those that can change are weight, priority, group, max_concurrency, "
                "max_concurrency_ceiling, limits, metadata, tags, cost"
            ),
        ),
        (
            {"add": (3,)},
            "TypeError: add must be members, each a Member, got 3 (int)",
        ),
        ({"replace": 3}, "TypeError: replace must be members, got 3 (int)"),
        ({"remove": "a"}, "TypeError: remove must be names of members, got 'a' (str)"),
        ({"remove": [3]}, "TypeError: remove must be a string, got 3 (int)"),
        (
            {"remove": ["a"], "members": {"a": {}}},
            "ValueError: a member must be named once in a Configure, got 'a' twice",
        ),
    ],
    ids=str,
)
def test_wrong_values_are_refused_where_they_are_given(what: dict[str, Any], said: str) -> None:
    assert refused(lambda: configure(**what)) == said


def test_a_setting_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    said = refused(lambda: configure(settings={"request_timout_s": 3}))
    assert said.startswith(
        "ValueError: request_timout_s is not a setting of a pool; did you mean request_timeout_s? "
        "those that can change are circuit, circuit_max_open_share, "
    )


def test_what_it_was_made_of_may_change_afterwards() -> None:
    settings: ChangeableSettings = {"max_retries": 1}
    change: MemberSettings = {"weight": 2.0}
    members = {"a": change}
    command = Configure(settings=settings, members=members, remove=["b"])
    settings["max_retries"] = 9
    change["weight"] = 9.0
    members["c"] = {}
    assert command.settings == {"max_retries": 1}
    assert command.members == {"a": {"weight": 2.0}}
    assert command.remove == ("b",)
