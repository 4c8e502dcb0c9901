"""Who cannot be in time any more gives his place to one that waits, too, and can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers_flow import World

from greenroom import DeadlineExceededError


def known(*members: str, takes_s: float = 1.0, calls: int = 20, **config: Any) -> World:
    """Members, one call at a time each, of which it is known how long they take."""
    made = World(*members, strategy="round_robin", max_retries=0, **config)
    for number in range(calls * len(members)):
        made.ask(f"before {number}")
        call = made.calls[0]
        made.pass_(takes_s)
        made.succeed(call, after_s=takes_s)
    return made


def test_b327_who_cannot_be_in_time_is_let_go_for_one_that_can() -> None:
    """At once, and with a clear error; the other one is served."""
    world = known("a")
    world.ask("first")
    world.ask("late", timeout=1.8)
    world.ask("in time", timeout=5.0)
    world.pass_(1.0)
    world.succeed(world.call(), after_s=1.0)
    assert [each.message.request_id for each in world.calls] == ["in time"]
    error = world.answer("late")
    assert isinstance(error, DeadlineExceededError)
    assert (error.elapsed_s, error.left_s) == pytest.approx((1.0, 0.8))
    assert str(error).startswith(
        "pool 'pool': no member answers in the 0.800 s that are left until the deadline, "
        "after 1.000 s"
    )


@pytest.mark.parametrize("other", [{"timeout": 1.9}, {"timeout": 5.0, "only": "b"}])
def test_b327_without_one_that_makes_use_of_it_it_is_tried(other: dict[str, Any]) -> None:
    """Nobody else waits, or who does cannot be in time either, or may not have that member."""
    world = known("a", "b")
    world.ask("on a", only="a")
    world.ask("on b", only="b")
    world.ask("late", timeout=1.8, only="a")
    world.ask("other", **other)
    world.pass_(1.0)
    world.succeed(world.call("a"), after_s=1.0)
    assert world.call("a").message.request_id == "late"
    alone = known("a")
    alone.ask("first")
    alone.ask("late", timeout=1.8)
    alone.pass_(1.0)
    alone.succeed(alone.call(), after_s=1.0)
    assert alone.call().message.request_id == "late"


def test_b327_where_too_little_is_known_nobody_is_let_go() -> None:
    """Of a few calls nothing is concluded, and a member without any may be the quick one."""
    few = known("a", calls=5)
    newcomer = known("a")
    newcomer.routes["b"] = replace(newcomer.routes["a"], name="b", index=1)
    newcomer.snapshot()
    newcomer.ask("on b", only="b")
    for world in (few, newcomer):
        world.ask("first", only="a")
        world.ask("late", timeout=1.8)
        world.ask("in time", timeout=5.0)
        world.pass_(1.0)
        world.succeed(world.call("a"), after_s=1.0)
        assert world.call("a").message.request_id == "late"


def test_b327_without_a_deadline_nobody_is_let_go() -> None:
    """Who has all the time there is never is too late."""
    world = known("a")
    world.ask("first")
    world.ask("patient")
    world.ask("in time", timeout=50.0)
    world.pass_(10.0)
    world.succeed(world.call(), after_s=10.0)
    assert world.call().message.request_id == "patient"


def test_b327_it_holds_in_a_pool_that_is_shared_out_fairly() -> None:
    """Each key in its turn, and who cannot be in time has none."""
    world = known("a", fair_by="key")
    world.ask("first", key="x")
    world.ask("late", key="x", timeout=1.8)
    world.ask("in time", key="y", timeout=5.0)
    world.pass_(1.0)
    world.succeed(world.call(), after_s=1.0)
    assert world.call().message.request_id == "in time"
    assert isinstance(world.answer("late"), DeadlineExceededError)
