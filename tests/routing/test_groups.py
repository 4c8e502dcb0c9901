"""Members of one group: after a failure on one of them, others are asked first."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_load import ask_at, error_of, pass_time
from helpers_pools import WAIT_S, echo, pool_of
from test_routing_table import picked, route, slot_of, table_of

from greenroom import Configure, Member, Request
from greenroom.actors.routing.routing_table import NoPick, RoutingTable
from greenroom.actors.strategies import PickContext, Priority
from greenroom.messages.supervision import RoutingSnapshot
from greenroom.testing import FakeClock, http_error

CONTEXT = PickContext(100.0)


def grouped(strategy: Any = None, **groups: str | None) -> RoutingTable:
    """Members in that order, each the only one of its priority, with those groups."""
    routes = [
        route(name, i, priority=i, group=group) for i, (name, group) in enumerate(groups.items())
    ]
    return table_of(*routes, strategy=strategy or Priority())


def test_b285_a_retry_leaves_the_group_first() -> None:
    """To the best of the others; back to the group when nobody else is left."""
    table = grouped(a="x", b="x", c="y", d=None)
    assert picked(table) == "a"
    assert picked(table, "a") == "c"
    assert picked(table, "c") == "a"
    assert picked(table, "a", "c") == "d"
    assert picked(table, "a", "c", "d") == "b"
    assert picked(table, "d") == "a"  # of no group: it has left none


def test_b285_who_is_full_elsewhere_is_not_waited_for() -> None:
    """The group is left first, not at any price."""
    table = grouped(a="x", b="x", c="y")
    slot_of(table, "c").take()
    assert picked(table, "a") == "b"
    slot_of(table, "b").take()
    assert picked(table, "a") is NoPick.BUSY


def test_b285_strategies_that_try_everybody_leave_it_too() -> None:
    """In their own order among the others, and then among the rest."""
    table = grouped(a="x", b="x", c="y")
    assert picked(table, "a", exhaustive=True) == "c"
    assert picked(table, "a", "c", exhaustive=True) == "b"
    assert picked(table, "a", "b", "c", exhaustive=True) is NoPick.UNROUTABLE


def test_b285_a_hedge_leaves_it_too() -> None:
    """Who is slow shares what makes it slow."""
    table = grouped(a="x", b="x", c="y")
    second = table.pick_second({"a"}, CONTEXT)
    assert second is not None
    assert second.name == "c"
    slot_of(table, "c").take()
    second = table.pick_second({"a"}, CONTEXT)
    assert second is not None
    assert second.name == "b"


def test_b285_a_half_open_member_is_no_reason_to_leave_its_group() -> None:
    """Only a failure of the request's own is: its mate is as good as ever."""
    table = grouped(a="x", b="x", c="y")
    choice = table.pick({"a"}, CONTEXT, exhaustive=True, failed=())
    assert getattr(choice, "name", None) == "b"


def test_b285_groups_change_with_the_routes() -> None:
    """By a change of one member as well as by a whole table; who has left is nobody's mate."""
    table = grouped(a="x", b="x", c="y")
    table.apply(RoutingSnapshot(2, (route("b", 1, priority=1, group="z"),), since=1))
    assert picked(table, "a") == "b"
    table.apply(RoutingSnapshot(3, (route("c", 2, priority=2, group="z"),), since=2))
    assert picked(table, "b") == "a"
    table.apply(RoutingSnapshot(4, (), since=3, gone=("c",)))
    assert picked(table, "b") == "a"
    table.apply(RoutingSnapshot(5, (route("a", 0, priority=0), route("b", 1, priority=1))))
    assert picked(table, "a") == "b"


# -- a pool


class Counting:
    """An agent that fails with a status, or answers."""

    def __init__(self, status: int | None = None) -> None:
        self.status = status
        self.calls = 0

    def __call__(self, payload: Any) -> Any:
        self.calls += 1
        if self.status is not None:
            raise http_error(self.status)
        return payload


@pytest.mark.parametrize("strategy", ["priority", "failover"])
def test_b285_a_request_is_answered_by_another_group(strategy: str) -> None:
    """In two attempts; without groups it takes as many as there are members before it."""
    agents = [Counting(503), Counting(503), Counting(503), Counting()]
    groups = ["one", "one", "one", "two"]
    members = [
        Member(f"m{i}", agent, priority=i, group=group)
        for i, (agent, group) in enumerate(zip(agents, groups, strict=True))
    ]
    with pool_of(*members, strategy=strategy) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert (reply.member, reply.attempts) == ("m3", 2)
        assert [agent.calls for agent in agents] == [1, 0, 0, 1]
        assert [each.group for each in pool.stats().members] == groups


def test_b285_a_group_can_change_while_the_pool_runs() -> None:
    """The next failure goes by it."""
    bad, mate, other = Counting(503), Counting(), Counting()
    members = [
        Member("bad", bad, priority=0, group="one"),
        Member("mate", mate, priority=1, group="one"),
        Member("other", other, priority=2),
    ]
    with pool_of(*members) as pool:
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "other"
        changes = pool.configure(members={"mate": {"group": None}})
        assert changes == ("mate: group 'one' -> None",)
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "mate"


def test_b285_a_hedge_goes_to_another_group() -> None:
    """The first one hangs with all that it shares."""
    clock = FakeClock()

    async def hangs(payload: Any) -> Any:
        await clock.sleep(60.0)

    members = [
        Member("slow", hangs, priority=0, group="one"),
        Member("mate", hangs, priority=1, group="one"),
        Member("other", echo, priority=2, group="two"),
    ]
    with pool_of(*members, clock=clock, hedge_after_s=1.0) as pool:
        futures = ask_at(pool, clock, [0.0])
        pass_time(pool, clock, 2.0, 0.5)
        assert error_of(futures[0], WAIT_S) is None
        assert futures[0].get(timeout=0).member == "other"


@pytest.mark.parametrize("group", ["", "a\nb", 7])
def test_b285_a_group_is_a_name(group: Any) -> None:
    """It stands in lines of the log."""
    with pytest.raises((TypeError, ValueError), match="group"):
        Member("a", echo, group=group)
    with pytest.raises((TypeError, ValueError), match=r"members\.a\.group"):
        Configure(members={"a": {"group": group}})
