"""A hint that requests wait for members that take one call at a time, by default: once for each."""

from __future__ import annotations

import pytest
from helpers_agents import AsyncHeld, Held
from helpers_pools import ask, echo, pool_of

from greenroom import Member
from greenroom.actors.request.queue_hints import LOOK_S, QUEUE
from greenroom.events import MemberQueueing
from greenroom.testing import EventRecorder, FakeClock


def hints(log: EventRecorder) -> list[tuple[str | None, int]]:
    return [(each.member, each.waiting) for each in log.named(MemberQueueing)]


def test_a_queue_is_hinted_at_once_for_each_member(log: EventRecorder, clock: FakeClock) -> None:
    """However long it is, and however often it comes."""
    held = Held()
    members = [Member("a", held), Member("b", held), Member("told", held, max_concurrency=1)]
    with pool_of(*members, clock=clock, request_timeout_s=None) as pool:
        asked = [ask(pool) for _ in range(len(members) + QUEUE - 1)]
        pool.stats()
        assert hints(log) == []
        asked += [ask(pool) for _ in range(3)]
        pool.stats()
        assert hints(log) == [("a", QUEUE), ("b", QUEUE)]
        clock.advance(2 * LOOK_S)
        asked += [ask(pool) for _ in range(3)]
        pool.stats()
        assert hints(log) == [("a", QUEUE), ("b", QUEUE)]
        held.let_go(len(asked))


def test_a_member_that_comes_later_has_its_own(log: EventRecorder, clock: FakeClock) -> None:
    """Where requests wait for it, too; members are looked at now and then."""
    held = Held()
    with pool_of(Member("a", held), clock=clock, request_timeout_s=None) as pool:
        asked = [ask(pool) for _ in range(QUEUE + 1)]
        pool.add_member(Member("b", held))
        asked.append(ask(pool))
        pool.stats()
        assert hints(log) == [("a", QUEUE)]
        clock.advance(LOOK_S)
        asked.append(ask(pool))
        pool.stats()
        assert hints(log) == [("a", QUEUE), ("b", QUEUE + 1)]
        held.let_go(len(asked))


@pytest.mark.parametrize(
    "member",
    [
        Member("a", Held(), max_concurrency=1),
        Member("a", Held(), max_concurrency=2),
        Member("a", AsyncHeld()),
    ],
    ids=["told 1", "told 2", "async"],
)
def test_where_there_is_nothing_to_say_nothing_is_said(
    log: EventRecorder, clock: FakeClock, member: Member
) -> None:
    """Somebody has said how many it takes, or it takes many."""
    with pool_of(member, clock=clock, request_timeout_s=None) as pool:
        for _ in range(120):
            ask(pool)
        assert pool.stats().pending > QUEUE
        assert hints(log) == []
        member.agent.let_go(120) if isinstance(member.agent, Held) else member.agent.let_go()


def test_who_is_kept_out_is_not_what_they_wait_for(log: EventRecorder, clock: FakeClock) -> None:
    """A member whose breaker is open has no call: more at a time would not help."""
    held = Held()
    with pool_of(Member("a", held), Member("b", echo), clock=clock, request_timeout_s=None) as pool:
        pool.force_open("b")
        asked = [ask(pool) for _ in range(QUEUE + 1)]
        pool.stats()
        assert hints(log) == [("a", QUEUE)]
        held.let_go(len(asked))


def test_the_hint_says_what_to_write() -> None:
    """And that it is a default."""
    assert str(MemberQueueing(pool="p", member="a", waiting=9)) == (
        "member.queueing p/a: 9 requests wait, and it takes 1 call at a time by default; if its "
        "agent can do more, say so: Member(max_concurrency=...)"
    )
