"""An async agent that blocks its event loop: it is found, named, and in the end left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import helpers_loops
import pytest
from helpers_loops import LOOK_S, QUIET, REPORTED_S, Blocker, Resident, pass_time
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    Member,
    PoolRef,
    Request,
    SkipReason,
    StreamInterruptedError,
)
from greenroom.messages import (
    LoopRecovered,
    LoopReplaced,
    LoopStalled,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    RemoveMember,
)
from greenroom.pool.pool_owner import PLAIN
from greenroom.testing import EventRecorder, FakeClock


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    """An agent that blocks its loop, until the test is over at the latest."""
    agent = Blocker()
    yield agent
    agent.release()


class ByKey:
    """A strategy: the member that the request's key names, if it is a candidate."""

    def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
        named = [each for each in candidates if each.name == context.key]
        return named[0] if named else candidates[0]


def block(pool: PoolRef, blocker: Blocker, **options: Any) -> Any:
    """Ask for what blocks the loop; returns when it does."""
    future = pool.ask(Request("block", **options), block=False)
    blocker.wait_entered()
    return future


# Reported


def test_b37_others_go_on_and_the_event_names_the_blocker(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """An async agent that blocks its loop: other pools and sync members go on; loop.stalled names
    it, once.
    """
    members = [Member("a", blocker), Member("b", lambda payload: "sync", priority=1)]
    with (
        pool_of(Member("only", Resident()), name="other") as other,
        pool_of(*members, clock=clock, **QUIET) as pool,
    ):
        block(pool, blocker, request_id="r-1")
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.pool, stalled.member, stalled.request_id) == ("pool", "a", "r-1")
        assert (stalled.loop, stalled.stalled_s) == ("greenroom-pool-loop", 1.0)
        assert stalled.replaced_in_s is None
        assert f"{helpers_loops.__file__}:" in stalled.where
        assert stalled.where.endswith(" in Blocker.block")
        assert other.execute("x", timeout=WAIT_S) == "greenroom-other-loop"
        assert pool.execute("x", timeout=WAIT_S) == "sync"
        pass_time(pool, clock, 20.0)
        assert len(greenroom_events.named(LoopStalled)) == 1
        assert not greenroom_events.named(LoopReplaced)


def test_b37_a_loop_that_answers_again_is_said_to(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """The block ends: its request is answered, loop.recovered says how long it took, and the next
    stall is reported again.
    """
    with pool_of(Member("a", blocker), clock=clock, **QUIET) as pool:
        future = block(pool, blocker, request_id="r-1")
        pass_time(pool, clock, REPORTED_S + 3.0)
        assert not pool.stats()["a"].available
        blocker.release()
        recovered = greenroom_events.wait_for(LoopRecovered)
        assert (recovered.member, recovered.request_id) == ("a", "r-1")
        assert (recovered.loop, recovered.stalled_s) == ("greenroom-pool-loop", 4.0)
        assert future.get(timeout=WAIT_S).value == "block"
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stats()["a"].available
        blocker.__init__()  # type: ignore[misc]
        block(pool, blocker)
        pass_time(pool, clock, REPORTED_S)
        greenroom_events.wait_for(LoopStalled, count=2)
        blocker.release()


def test_b37_requests_pass_a_stalled_loop_by_or_wait_for_it(
    blocker: Blocker, clock: FakeClock
) -> None:
    """A member whose loop has stalled gets nothing new; with nobody else a request waits."""
    with pool_of(Member("a", blocker), clock=clock, **QUIET) as pool:
        first = block(pool, blocker)
        pass_time(pool, clock, REPORTED_S)
        second = pool.ask(Request("x"), block=False)
        assert pool.stats().pending == 1
        blocker.release()
        assert first.get(timeout=WAIT_S).value == "block"
        assert second.get(timeout=WAIT_S).value == "x"


def test_b37_a_skipped_member_says_that_it_has_stalled(blocker: Blocker, clock: FakeClock) -> None:
    """The error of a request that found nobody else tells why this one was not asked."""

    def fails(payload: str) -> str:
        raise ValueError(payload)

    members = [Member("a", blocker), Member("b", fails, priority=1)]
    with pool_of(*members, clock=clock, **QUIET) as pool:
        block(pool, blocker)
        pass_time(pool, clock, REPORTED_S)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", max_retries=0, timeout=WAIT_S)
        kinds = {error.member: error.kind for error in caught.value.errors}
        assert kinds == {"a": SkipReason.STALLED, "b": FailureKind.UNKNOWN}
        blocker.release()


def test_b270_what_was_given_up_on_a_stalled_loop_counts_until_the_loop_answers(
    blocker: Blocker, clock: FakeClock
) -> None:
    """It is ended then, and is not abandoned any more: else a member would be replaced one day for
    calls that are long over.
    """
    resident, settings = Resident(), QUIET | {"request_timeout_s": 3.0}
    members = [Member("a", blocker), Member("b", resident)]
    with pool_of(*members, strategy=ByKey(), clock=clock, **settings) as pool:
        held = pool.ask(Request("hold", key="b", max_retries=0), block=False)
        resident.wait_entered()
        blocking = block(pool, blocker, key="a", max_retries=0)
        pass_time(pool, clock, REPORTED_S + 2.0)
        for future in (held, blocking):
            with pytest.raises(AllPoolMembersFailedError):
                future.get(timeout=WAIT_S)
        assert [each.abandoned for each in pool.stats().members] == [1, 1]
        blocker.release()
        assert resident.cancelled.acquire(timeout=WAIT_S)
        pass_time(pool, clock, 1.0)
        assert [each.abandoned for each in pool.stats().members] == [0, 0]


async def in_a_task(blocker: Blocker) -> None:
    async def inner() -> None:
        blocker.block()

    await asyncio.gather(inner(), inner())


async def in_a_callback(blocker: Blocker) -> None:
    asyncio.get_running_loop().call_soon(blocker.block)
    await asyncio.Event().wait()


@pytest.mark.parametrize("agent", [in_a_task, in_a_callback])
def test_b37_what_an_agent_starts_is_the_agents(
    agent: Any, blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """The block is in a task or a callback that the agent has made: it is named all the same."""
    with pool_of(Member("a", agent), Member("b", Resident()), clock=clock, **QUIET) as pool:
        pool.ask(Request(blocker, request_id="r-1"), block=False)
        blocker.wait_entered()
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.member, stalled.request_id) == ("a", "r-1")
        blocker.release()


def test_b37_a_blocking_factory_is_named(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """An async factory that blocks: its member is named, without a request."""

    async def factory() -> Any:
        blocker.block()
        return Resident()

    with pool_of(Member("a", factory=factory), clock=clock, **QUIET) as pool:
        future = pool.ask(Request("x"), block=False)
        blocker.wait_entered()
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.member, stalled.request_id) == ("a", None)
        blocker.release()
        assert future.get(timeout=WAIT_S).value == "greenroom-pool-loop"


def test_b37_a_blocking_probe_is_named(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """An async probe of a sync agent blocks: its member is named, and goes on as it is sync."""

    async def probe() -> None:
        blocker.block()

    member = Member("a", lambda payload: payload, probe=probe)
    with pool_of(member, clock=clock, **QUIET, health_check_interval_s=1.0) as pool:
        pass_time(pool, clock, 1.0)
        blocker.wait_entered()
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.member, stalled.request_id) == ("a", None)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        blocker.release()


def test_b37_a_blocking_close_hook_is_named(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A member leaves, and its async close hook blocks the loop of the others: it is named."""

    async def close(_: Any) -> None:
        blocker.block()

    members = [Member("a", len, close=close), Member("b", Resident())]
    with pool_of(*members, clock=clock, **QUIET) as pool:
        removed = pool.ask(RemoveMember("a"), block=False)
        blocker.wait_entered()
        pass_time(pool, clock, REPORTED_S)
        assert greenroom_events.wait_for(LoopStalled).member == "a"
        blocker.release()
        removed.get(timeout=WAIT_S)


def test_b37_a_block_by_nobody_we_know_names_nobody(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A callback that somebody else has put on the loop: no member is named, but the line is."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def agent(payload: str) -> str:
        loops.append(asyncio.get_running_loop())
        return payload

    with pool_of(Member("a", agent), clock=clock, **QUIET) as pool:
        pool.execute("x", timeout=WAIT_S)
        loops[0].call_soon_threadsafe(blocker.block)
        blocker.wait_entered()
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.member, stalled.request_id) == (None, None)
        assert stalled.where.endswith(" in Blocker.block")
        assert "blocked by code of no known member at " in stalled.describe()
        blocker.release()


def test_b37_one_long_pause_of_everything_is_no_stall(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """The process stood still for an hour: the loop gets its time to answer before it is judged."""
    with pool_of(Member("a", blocker), clock=clock, **QUIET) as pool:
        block(pool, blocker)
        pass_time(pool, clock, 1.0)
        clock.pause(3600.0)
        pool.stats()
        pass_time(pool, clock, 3 * LOOK_S)
        assert not greenroom_events.named(LoopStalled)
        pass_time(pool, clock, LOOK_S)
        greenroom_events.wait_for(LoopStalled)
        blocker.release()


def test_b37_no_loop_is_started_to_be_watched(clock: FakeClock) -> None:
    """A pool of sync members has no loop, however often it would be looked at."""
    before = set(threading.enumerate())
    with pool_of(Member("a", lambda payload: payload), clock=clock, **QUIET) as pool:
        pool.execute("x", timeout=WAIT_S)
        pass_time(pool, clock, 5.0)
        names = [thread.name for thread in set(threading.enumerate()) - before]
        assert not [name for name in names if name.endswith("-loop")]


# While it lasts


def test_b37_a_call_that_is_given_up_does_not_keep_its_slot(
    blocker: Blocker, clock: FakeClock
) -> None:
    """It cannot be cancelled while its loop is blocked, but it does not count for as long: neither
    one that was cut off before the stall was reported, nor one after that.
    """
    quiet = QUIET | {"request_timeout_s": 1.5}
    member = Member("a", blocker)
    with pool_of(member, clock=clock, **quiet, circuit_failure_threshold=9) as pool:
        first = block(pool, blocker, max_retries=0)
        pass_time(pool, clock, 1.0)
        second = pool.ask(Request("x", max_retries=0), block=False)
        assert pool.stats()["a"].in_flight == 2
        pass_time(pool, clock, 0.5)
        with pytest.raises(AllPoolMembersFailedError):
            first.get(timeout=WAIT_S)
        assert pool.stats()["a"].in_flight == 2
        pass_time(pool, clock, 0.5)
        assert pool.stats()["a"].in_flight == 1
        pass_time(pool, clock, 0.5)
        with pytest.raises(AllPoolMembersFailedError):
            second.get(timeout=WAIT_S)
        assert pool.stats()["a"].in_flight == 0
        assert blocker.payloads == ["block"]
        pool.remove_member("a")
        blocker.release()


def test_b37_bystanders_are_not_blamed_for_their_timeouts(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """Two members time out on one blocked loop: only the one that blocks it has failed."""
    resident = Resident()
    members = [Member("a", blocker), Member("b", resident)]
    quiet = QUIET | {"request_timeout_s": 2.5}
    with pool_of(*members, clock=clock, strategy="round_robin", **quiet) as pool:
        future = pool.ask(Request("x", max_retries=0), block=False)
        future.get(timeout=WAIT_S)
        held = pool.ask(Request("hold", max_retries=0), block=False)
        resident.wait_entered()
        blocked = block(pool, blocker, max_retries=0)
        pass_time(pool, clock, 2.5)
        for future in (held, blocked):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert FailureKind.TIMEOUT in [error.kind for error in caught.value.errors]
        stats = pool.stats()
        assert (stats["a"].failures, stats["b"].failures) == (1, 0)
        blocker.release()


def test_b37_a_probe_that_the_loop_had_no_time_for_is_not_counted(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """An async probe times out on a loop that another member blocks: it says nothing."""

    async def probe() -> None:
        """Does not get to run."""

    members = [Member("a", blocker), Member("b", lambda payload: payload, probe=probe, priority=1)]
    settings = QUIET | {"health_check_interval_s": 1.0, "health_check_timeout_s": 3.0}
    with pool_of(*members, clock=clock, **settings) as pool:
        block(pool, blocker)
        pass_time(pool, clock, 12.0)
        assert pool.stats()["b"].circuit is CircuitState.CLOSED
        assert not greenroom_events.named("probe.failed")
        blocker.release()


# Replaced

REPLACED = QUIET | {"loop_replaced_after_s": 2.0}
REPLACED_S = REPORTED_S + 1.0


def test_b37_the_members_go_on_with_a_fresh_loop(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """The one that blocks has crashed; the others are moved, their work is done again, nothing is
    held against them; sync members notice nothing; the blocked thread ends when it can.
    """
    resident = Resident()
    sync_entered, sync_gate = threading.Event(), threading.Event()

    def sync(payload: str) -> str:
        sync_entered.set()
        assert sync_gate.wait(6 * WAIT_S)
        return payload

    members = [Member("a", blocker), Member("b", resident), Member("c", sync)]
    with pool_of(*members, clock=clock, strategy=ByKey(), **REPLACED) as pool:
        in_c = pool.ask(Request("c", key="c"), block=False)
        assert sync_entered.wait(WAIT_S)
        in_b = pool.ask(Request("hold", key="b"), block=False)
        resident.wait_entered()
        resident.let_go()
        in_a = block(pool, blocker, key="a", max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        replaced = greenroom_events.wait_for(LoopReplaced)
        assert (replaced.member, replaced.moved, replaced.stalled_s) == ("a", ("b",), 2.0)
        restarted = greenroom_events.wait_for(MemberRestarted, member="b")
        assert restarted.reason == "another one blocked its event loop"
        with pytest.raises(AllPoolMembersFailedError) as caught:
            in_a.get(timeout=WAIT_S)
        assert caught.value.errors[0].kind is FailureKind.CRASHED
        pass_time(pool, clock, 1.0)
        assert in_b.get(timeout=WAIT_S).member == "a"
        failed = greenroom_events.named(MemberFailed)
        assert [each.member for each in failed] == ["a"]
        assert failed[0].error.startswith("it blocked its event loop for 2.0 s at ")
        stats = pool.stats()
        assert [each.incarnation for each in stats.members] == [2, 2, 1]
        assert [each.failures for each in stats.members] == [1, 0, 0]
        assert all(each.available for each in stats.members[:2])
        assert pool.execute("x", key="a", timeout=WAIT_S) == "x"
        sync_gate.set()
        assert in_c.get(timeout=WAIT_S).value == "c"
        blocker.release()
        assert resident.cancelled.acquire(timeout=WAIT_S)
        blocker.join()
        assert pool.execute("x", key="b", timeout=WAIT_S) == "greenroom-pool-loop"


def test_b37_what_has_started_is_not_repeated_against_its_callers_will(
    blocker: Blocker, clock: FakeClock
) -> None:
    """A bystander's call that is not idempotent fails, and the error says what has happened."""
    resident = Resident()
    members = [Member("a", blocker), Member("b", resident)]
    with pool_of(*members, clock=clock, strategy="round_robin", **REPLACED) as pool:
        pool.execute("x", timeout=WAIT_S)
        held = pool.ask(Request("hold", idempotent=False), block=False)
        resident.wait_entered()
        block(pool, blocker, max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
            held.get(timeout=WAIT_S)
        error = caught.value.errors[-1]
        assert (error.member, error.kind) == ("b", FailureKind.INTERRUPTED)
        assert str(error.error) == "b lost its event loop, which another member blocked"
        blocker.release()


def test_b37_an_isolated_member_blocks_only_itself(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """It has a loop of its own: the others answer all the time, and only it is replaced."""
    members = [Member("a", blocker, isolated=True), Member("b", Resident(), priority=1)]
    with pool_of(*members, clock=clock, **REPLACED) as pool:
        block(pool, blocker, max_retries=0)
        pass_time(pool, clock, REPORTED_S)
        stalled = greenroom_events.wait_for(LoopStalled)
        assert (stalled.member, stalled.loop) == ("a", "greenroom-pool-a-loop")
        assert stalled.replaced_in_s == 1.0
        assert pool.execute("x", timeout=WAIT_S) == "greenroom-pool-loop"
        pass_time(pool, clock, REPLACED_S - REPORTED_S)
        assert greenroom_events.wait_for(LoopReplaced).moved == ()
        pass_time(pool, clock, 1.0)
        stats = pool.stats()
        assert (stats["a"].incarnation, stats["b"].incarnation) == (2, 1)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        blocker.release()
        blocker.join()
        assert len(greenroom_events.named(LoopStalled)) == 1


def test_b37_who_blocks_its_loop_too_often_is_given_up(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """Each block counts as a crash under the restart intensity; the others are not counted."""
    members = [Member("a", blocker), Member("b", Resident(), priority=1)]
    with pool_of(*members, clock=clock, **REPLACED, restart_intensity=1) as pool:
        for _ in range(2):
            block(pool, blocker, max_retries=0)
            pass_time(pool, clock, REPLACED_S + 1.0)
        greenroom_events.wait_for(MemberGaveUp, member="a")
        assert not greenroom_events.named(MemberGaveUp, member="b")
        assert pool.stats()["b"].incarnation == 3
        assert pool.execute("block", timeout=WAIT_S) == "greenroom-pool-loop"
        blocker.release()
        blocker.join()


def test_b37_a_loop_that_nobody_blocks_is_not_replaced_for_ever(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """With nobody to blame, the restart intensity limits how often the loop itself is replaced."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def agent(payload: str) -> str:
        loops.append(asyncio.get_running_loop())
        return payload

    with pool_of(Member("a", agent), clock=clock, **REPLACED, restart_intensity=1) as pool:
        for _ in range(2):
            pool.execute("x", timeout=WAIT_S)
            loops[-1].call_soon_threadsafe(blocker.block)
            blocker.wait_entered()
            pass_time(pool, clock, REPLACED_S + 2.0)
        assert len(greenroom_events.named(LoopStalled)) == 2
        assert len(greenroom_events.named(LoopReplaced)) == 1
        assert pool.stats()["a"].incarnation == 2
        blocker.release()
        greenroom_events.wait_for(LoopRecovered)
        assert pool.execute("x", timeout=WAIT_S) == "x"


def test_b37_a_factorys_agent_is_made_anew_and_closed_on_its_own_loop(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A client belongs to its loop: the next one is made on the fresh loop, and the old one's close
    hook runs on the old loop as soon as that answers, while nobody waits for it.
    """
    made: list[asyncio.AbstractEventLoop] = []
    closed: list[asyncio.AbstractEventLoop] = []
    has_closed = threading.Semaphore(0)

    class Client:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()
            made.append(self.loop)

        async def run(self, payload: str) -> str:
            assert asyncio.get_running_loop() is self.loop
            return payload

        async def aclose(self) -> None:
            assert asyncio.get_running_loop() is self.loop
            closed.append(self.loop)
            has_closed.release()

    async def factory() -> Client:
        return Client()

    members = [Member("a", blocker), Member("b", factory=factory)]
    with pool_of(*members, clock=clock, strategy=ByKey(), **REPLACED) as pool:
        assert pool.execute("x", key="b", timeout=WAIT_S) == "x"
        block(pool, blocker, key="a", max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        greenroom_events.wait_for(MemberRestarted, member="b")
        assert pool.execute("y", key="b", timeout=WAIT_S) == "y"
        assert len(set(made)) == 2
        assert closed == []
        blocker.release()
        assert has_closed.acquire(timeout=WAIT_S)
        assert closed == made[:1]
        blocker.join()
    assert closed == made


def test_b37_an_async_factory_that_blocks_is_tried_again_on_a_fresh_loop(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """Its member has crashed; the request that waited for the agent never started, and waits on."""
    blocks = [True, False]

    async def factory() -> Any:
        if blocks.pop(0):
            blocker.block()
        return Resident()

    with pool_of(Member("a", factory=factory), clock=clock, **REPLACED) as pool:
        future = pool.ask(Request("x", idempotent=False), block=False)
        blocker.wait_entered()
        pass_time(pool, clock, REPLACED_S + 1.0)
        assert future.get(timeout=WAIT_S).value == "greenroom-pool-loop"
        assert greenroom_events.wait_for(MemberFailed).member == "a"
        blocker.release()
        blocker.join()


def test_b37_a_sync_agents_coroutines_move_without_it(blocker: Blocker, clock: FakeClock) -> None:
    """A sync callable that returns awaitables is not restarted: its next one runs on the fresh
    loop.
    """
    resident = Resident()
    members = [Member("a", blocker), Member("b", lambda payload: resident(payload))]
    with pool_of(*members, clock=clock, strategy=ByKey(), **REPLACED) as pool:
        block(pool, blocker, key="a", max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        assert pool.execute("x", key="b", timeout=WAIT_S) == "greenroom-pool-loop"
        assert pool.stats()["b"].incarnation == 1
        blocker.release()
        blocker.join()


def test_b37_a_blocking_probe_costs_its_own_member_alone(
    blocker: Blocker, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """An async probe blocks the loop: its member crashes, though its agent is sync."""

    async def probe() -> None:
        blocker.block()

    members = [Member("a", lambda payload: payload, probe=probe), Member("b", Resident())]
    settings = REPLACED | {"health_check_interval_s": 1.0, "restart_intensity": 0}
    with pool_of(*members, clock=clock, **settings) as pool:
        pass_time(pool, clock, 1.0)
        blocker.wait_entered()
        pass_time(pool, clock, REPLACED_S)
        assert greenroom_events.wait_for(MemberGaveUp).member == "a"
        assert greenroom_events.wait_for(LoopReplaced).moved == ("b",)
        assert pool.execute("x", timeout=WAIT_S) == "greenroom-pool-loop"
        blocker.release()
        blocker.join()


def test_b37_what_is_left_on_a_lost_loop_is_cancelled_when_it_answers(
    blocker: Blocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that an agent has left behind is given a moment; then it is cancelled, and the thread
    ends.
    """
    monkeypatch.setattr("greenroom.actors.runtime.loop_thread.CLOSE_TIMEOUT_S", 0.05)
    cancelled = threading.Event()
    left: list[asyncio.Task[None]] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def agent(payload: str) -> None:
        left.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        blocker.block()

    with pool_of(Member("a", agent), clock=clock, **REPLACED) as pool:
        block(pool, blocker, max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        assert not cancelled.is_set()
        blocker.release()
        assert cancelled.wait(WAIT_S)
        blocker.join()


def test_b37_a_stream_on_a_lost_loop_is_interrupted(blocker: Blocker, clock: FakeClock) -> None:
    """Who reads what a bystander was producing keeps what has come, and hears that there will be
    no more; the bystander's breaker does not.
    """

    async def chunks(payload: str) -> AsyncIterator[str]:
        yield payload
        await asyncio.Event().wait()

    members = [Member("a", blocker), Member("b", chunks)]
    with pool_of(*members, clock=clock, strategy=ByKey(), **REPLACED) as pool:
        stream = iter(pool.stream(Request("x", key="b")))
        assert next(stream) == "x"
        block(pool, blocker, key="a", max_retries=0)
        pass_time(pool, clock, REPLACED_S)
        with pytest.raises(StreamInterruptedError) as interrupted:
            next(stream)
        assert interrupted.value.received == ("x",)
        assert pool.stats()["b"].failures == 0
        blocker.release()
        blocker.join()


def test_b37_a_pool_without_time_limits_waits_for_its_loop() -> None:
    """A `FallbackChain` and a `PoolExecutor` cut nothing short unless they are told to."""
    assert PLAIN.loop_replaced_after_s is None


def test_b37_a_member_that_leaves_leaves_a_stalled_loop_behind(
    blocker: Blocker, clock: FakeClock
) -> None:
    """A draining member whose loop is given up is gone for good; its work is cut short."""
    resident = Resident()
    members = [Member("a", blocker), Member("b", resident)]
    with pool_of(*members, clock=clock, strategy=ByKey(), **REPLACED) as pool:
        held = pool.ask(Request("hold", key="b", max_retries=0), block=False)
        resident.wait_entered()
        block(pool, blocker, key="a", max_retries=0)
        removed = pool.ask(RemoveMember("b"), block=False)
        pass_time(pool, clock, REPLACED_S)
        removed.get(timeout=WAIT_S)
        with pytest.raises(AllPoolMembersFailedError):
            held.get(timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["a"]
        blocker.release()
        blocker.join()


# The end


@pytest.mark.parametrize("isolated", [False, True])
def test_b37_a_stop_does_not_wait_for_a_stalled_loop(
    isolated: bool, blocker: Blocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the waits of a stop is begun for it; what it holds is closed when it answers."""
    monkeypatch.setattr("greenroom.supervisors.pool_supervisor.MEMBER_STOP_TIMEOUT_S", 3600.0)
    monkeypatch.setattr("greenroom.actors.router.pool_router.SUPERVISOR_STOP_TIMEOUT_S", 3600.0)
    monkeypatch.setattr("greenroom.actors.runtime.loop_thread.CLOSE_TIMEOUT_S", 3600.0)
    closed: list[str] = []
    has_closed = threading.Semaphore(0)

    async def close(_: Any) -> None:
        closed.append(threading.current_thread().name)
        has_closed.release()

    def close_in_thread(_: Any) -> None:
        closed.append("sync")

    members = [
        Member("a", blocker, close=close, isolated=isolated),
        Member("b", len, close=close_in_thread),
    ]
    with pool_of(*members, clock=clock, **QUIET) as pool:
        block(pool, blocker)
        pass_time(pool, clock, REPORTED_S)
        stopped = threading.Thread(target=pool.stop)
        stopped.start()
        stopped.join(WAIT_S)
        assert not stopped.is_alive()
        assert closed == ["sync"]
        blocker.release()
        assert has_closed.acquire(timeout=WAIT_S)
        assert closed == ["sync", blocker.threads[0].name]
        blocker.join()


def test_b37_a_stop_is_bounded_where_the_stall_has_not_been_noticed(
    blocker: Blocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives the loop the time that any clean-up gets, and ends."""
    monkeypatch.setattr("greenroom.supervisors.pool_supervisor.MEMBER_STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr("greenroom.actors.runtime.loop_thread.CLOSE_TIMEOUT_S", 0.05)

    async def close(_: Any) -> None:
        """Does not get to run."""

    with pool_of(Member("a", blocker, close=close), clock=clock, **QUIET) as pool:
        block(pool, blocker)
        stopped = threading.Thread(target=pool.stop)
        stopped.start()
        stopped.join(WAIT_S)
        assert not stopped.is_alive()
        blocker.release()
        blocker.join()
