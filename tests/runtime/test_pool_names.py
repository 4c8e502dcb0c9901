"""Names of pools: no two that are there at a time have the same, and none is kept."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_forks import needs_fork, script
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FallbackChain,
    Member,
    MemberExistsError,
    ResourceError,
)
from greenroom.actors.runtime import pool_names
from greenroom.messages.events import PoolStarted, PoolStopped
from greenroom.supervisors.pool_supervisor import PoolSupervisor
from greenroom.testing import EventRecorder


@pytest.fixture(autouse=True)
def none_is_kept() -> Iterator[None]:
    """What a test has taken is free at its end."""
    before = dict(pool_names._taken)
    yield
    assert pool_names._taken == before


def test_a_second_pool_of_a_name_is_numbered(greenroom_events: EventRecorder) -> None:
    """In its events, its statistics, its ids and its errors; whoever was there first keeps it."""

    def broken(payload: Any) -> Any:
        raise ValueError("broken")

    with (
        pool_of(Member("a", echo), name="eu") as first,
        pool_of(Member("a", broken), name="eu", max_retries=0) as second,
        pool_of(Member("a", echo), name="eu") as third,
    ):
        assert [each.name for each in (first, second, third)] == ["eu", "eu-2", "eu-3"]
        assert second.stats().name == "eu-2"
        assert repr(second) == "<PoolRef eu-2>"
        with pytest.raises(AllPoolMembersFailedError, match="pool 'eu-2'") as caught:
            second.execute("x", timeout=WAIT_S)
        assert caught.value.pool_name == "eu-2"
        assert third.execute("x", timeout=WAIT_S) == "x"
    for name in ("eu", "eu-2", "eu-3"):
        assert len(greenroom_events.named(PoolStarted, pool=name)) == 1
        assert len(greenroom_events.named(PoolStopped, pool=name)) == 1


def test_a_number_that_is_taken_is_left_out() -> None:
    """Somebody may have called a pool so."""
    with (
        pool_of(Member("a", echo), name="eu-2"),
        pool_of(Member("a", echo), name="eu"),
        pool_of(Member("a", echo), name="eu") as third,
    ):
        assert third.name == "eu-3"


def test_the_name_of_a_pool_that_has_ended_is_free() -> None:
    """As soon as `stop` returns, whichever of them has ended."""
    with pool_of(Member("a", echo), name="eu") as first:
        with pool_of(Member("a", echo), name="eu") as second:
            assert second.name == "eu-2"
        first.stop()
        with pool_of(Member("a", echo), name="eu") as again:
            assert again.name == "eu"


def test_what_is_refused_takes_no_name() -> None:
    """A pool that does not start is none."""
    with pytest.raises(MemberExistsError):
        AgentPool.start([Member("a", echo), Member("a", echo)], name="eu")
    with pytest.raises(ValueError, match="strategy"):
        AgentPool.start([Member("a", echo)], name="eu", strategy="fastest")  # type: ignore[arg-type]
    with pool_of(Member("a", echo), name="eu") as pool:
        assert pool.name == "eu"


def test_a_pool_that_could_not_be_started_gives_its_name_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its router, or before there was one."""

    def no_thread(**_: Any) -> Any:
        raise ResourceError("no thread")

    monkeypatch.setattr(PoolSupervisor, "start", no_thread)
    with pytest.raises(ResourceError, match="pool 'eu'"):
        AgentPool.start([Member("a", echo)], name="eu")
    monkeypatch.undo()
    with pool_of(Member("a", echo), name="eu") as pool:
        assert pool.name == "eu"


def test_a_bus_that_nobody_has_holds_no_name() -> None:
    """A signal handler that raises may keep a pool from being started behind its name."""
    pool_names.bus_of("lost")
    gc.collect()
    bus = pool_names.bus_of("lost")
    assert bus.pool == "lost"
    pool_names.give_back(bus)
    pool_names.give_back(bus)  # twice is as good as once


def test_only_its_owner_gives_a_name_back() -> None:
    """The end of an older pool does not free the name of a younger one."""
    old = pool_names.bus_of("eu")
    pool_names.give_back(old)
    young = pool_names.bus_of("eu")
    pool_names.give_back(old)
    other = pool_names.bus_of("eu")
    assert (young.pool, other.pool) == ("eu", "eu-2")
    pool_names.give_back(young)
    pool_names.give_back(other)


def test_pools_that_are_started_at_once_have_names_of_their_own() -> None:
    """From many threads."""
    barrier = threading.Barrier(8)
    buses: list[Any] = []

    def take() -> None:
        barrier.wait(WAIT_S)
        buses.extend(pool_names.bus_of("crowd") for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    numbers = ["crowd", *(f"crowd-{number}" for number in range(2, 161))]
    assert sorted(each.pool for each in buses) == sorted(numbers)
    for bus in buses:
        pool_names.give_back(bus)


@needs_fork
def test_a_childs_pools_are_not_numbered_by_their_parents() -> None:
    """In a child of a fork there is none of those."""
    told = script("""
        def start():
            with AgentPool.start([Member("a", len)], name="eu") as pool:
                return pool.name

        with AgentPool.start([Member("a", len)], name="eu"):
            child, _ = forked(lambda: note("child", start))
            note("parent", start)
        tell([child["child"], said["parent"]])
    """)
    assert told == [["returned", "'eu'"], ["returned", "'eu-2'"]]


def test_a_chain_keeps_its_own_name() -> None:
    """Its pool is numbered, as any other."""
    with FallbackChain[Any]() as one, FallbackChain[Any]() as two:
        for chain in (one, two):
            chain.add("a", echo)
        assert [chain.pool.name for chain in (one, two)] == ["fallback", "fallback-2"]
        assert two.name == "fallback"
