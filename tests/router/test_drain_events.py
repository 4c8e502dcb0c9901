"""What is told of a drain: that it has begun, what is left, and how it ends."""

from __future__ import annotations

from helpers_pools import WAIT_S, echo, pool_of

from greenroom import Drain, Member, Request
from greenroom.events import MemberDraining, PoolDrained, PoolDraining, PoolDrainTimedOut
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

NAMES = ("pool.draining", "pool.drained", "pool.drain_timed_out")


def told(events: EventRecorder) -> list[str]:
    return [name for name in events.names() if name in NAMES]


def test_b387_a_drain_says_when_it_begins_and_when_it_is_over(
    greenroom_events: EventRecorder,
) -> None:
    """How many are under way at first, and every ten seconds what is left; once, whoever drains."""
    clock, gate = FakeClock(), ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), clock=clock, request_timeout_s=None) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        drained = pool.ask(Drain(), block=False)
        again = pool.ask(Drain(60), block=False)
        greenroom_events.wait_for(PoolDraining)
        clock.advance(10)
        second = greenroom_events.wait_for(PoolDraining, count=2)
        clock.advance(2)
        gate.release()
        assert (drained.get(timeout=WAIT_S), again.get(timeout=WAIT_S)) == (True, True)
        future.get(timeout=WAIT_S)
        first = greenroom_events.named(PoolDraining)[0]
        over = greenroom_events.wait_for(PoolDrained)
        assert pool.drain() is True
        clock.advance(30)
        pool.stats()
    assert (first.left, first.elapsed_s, first.timeout_s) == (1, 0.0, None)
    assert (second.left, second.elapsed_s) == (1, 10.0)
    assert over.elapsed_s == 12.0
    assert told(greenroom_events) == ["pool.draining", "pool.draining", "pool.drained"]


def test_b387_a_drain_that_has_had_its_time_says_what_it_failed(
    greenroom_events: EventRecorder,
) -> None:
    """And it is not said to be over."""
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        assert pool.drain(timeout=0) is False
        timed_out = greenroom_events.wait_for(PoolDrainTimedOut)
        gate.release()
    assert (timed_out.failed, timed_out.timeout_s) == (1, 0.0)
    assert told(greenroom_events) == ["pool.draining", "pool.drain_timed_out"]


def test_b387_a_stop_is_no_drain(greenroom_events: EventRecorder) -> None:
    """What is cut off by it is told by its own event alone."""
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        pool.ask(Drain(), block=False)
        pool.stop(timeout=WAIT_S)
        gate.release()
    assert told(greenroom_events) == ["pool.draining"]
    greenroom_events.wait_for("pool.stopped")


def test_b387_a_member_that_leaves_says_so(greenroom_events: EventRecorder) -> None:
    """It gets nothing new, and finishes what it has; then it has stopped."""
    with pool_of(Member("a", echo), Member("b", echo)) as pool:
        pool.remove_member("a")
        greenroom_events.wait_for("member.stopped", "a")
        (leaving,) = greenroom_events.named(MemberDraining)
    assert (leaving.member, leaving.replaced) == ("a", False)
    names = [each.name for each in greenroom_events.all if each.member == "a"]
    assert names.index("member.draining") < names.index("member.stopped")
