"""The life of a request without an actor, a thread or a clock: `RequestFlow` on a fake world."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from helpers_flow import World

from greenroom import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    FailureKind,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.request import request_flow
from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.choice import Choice
from greenroom.actors.request.hedger import Hedger
from greenroom.actors.request.job import (
    ENDED,
    LAST_TRIAL,
    PAUSED,
    PLACED,
    QUEUED,
    RUNNING,
    Job,
    JobPhase,
)
from greenroom.events import AttemptStarted, RequestCompleted, RequestExhausted
from greenroom.messages import CancelReason, CircuitState, SkipReason
from greenroom.messages.execution import Refused
from greenroom.messages.status import RefusalReason
from greenroom.messages.supervision import MemberDrained, TrialStarted

MEMBERS = "abcde"
HALF_OPEN: dict[str, Any] = {"circuit": CircuitState.HALF_OPEN, "trial_permits": 1, "epoch": 2}


# -- it is given to a member, and answered


def test_a_request_goes_to_a_member_and_its_value_to_the_asker() -> None:
    """One call, one answer; then nothing of it is left."""
    world = World("a", "b")
    world.ask("r")
    assert (world.phase("r"), world.in_flight()) == (RUNNING, {"a": 1, "b": 0})
    job = world.flow.jobs["r"]
    world.succeed(world.call("a"), 42)
    assert world.answer("r") == 42
    assert (job.phase, dict(world.flow.jobs), world.in_flight()) == (ENDED, {}, {"a": 0, "b": 0})
    assert world.flow.endings.counts["completed"] == 1


def test_who_finds_all_members_busy_waits_for_the_first_slot() -> None:
    """In the queue, without a timer; the slot that comes free is its own."""
    world = World("a")
    world.ask("first")
    world.ask("second")
    assert (world.phase("second"), len(world.flow.room.queue)) == (QUEUED, 1)
    world.succeed(world.call())
    assert world.call().message.request_id == "second"
    assert world.phase("second") is RUNNING


def test_where_there_is_no_room_to_wait_the_last_one_is_refused() -> None:
    """The room says whom, the flow tells: at once, with the time to come back."""
    world = World("a", max_pending=1)
    for name in ("runs", "waits", "is shed"):
        world.ask(name)
    error = world.answer("is shed")
    assert isinstance(error, PoolSaturatedError)
    assert error.retry_after_s is not None
    assert world.phase("waits") is QUEUED
    world.ask("urgent", priority=5)  # ranks before the one that waits
    assert isinstance(world.answer("waits"), PoolSaturatedError)
    assert world.phase("urgent") is QUEUED


def test_before_the_supervisor_has_spoken_a_request_waits() -> None:
    """There may be members; the flow has not heard of them."""
    world = World()
    world.flow.table.epoch = 0
    world.ask("r")
    assert world.phase("r") is QUEUED


# -- an attempt fails


def test_another_member_has_it_at_once() -> None:
    """Then the error of each of them is in that of the request."""
    world = World("a", "b", max_retries=1)
    world.ask("r")
    first = world.fail(world.call("a"))
    assert world.phase("r") is RUNNING
    second = world.fail(world.call("b"))
    error = world.answer("r")
    assert isinstance(error, AllPoolMembersFailedError)
    assert [each.error for each in error.errors] == [first, second]


def test_who_has_nobody_untried_left_waits_for_the_time_of_its_retry() -> None:
    """It is in no queue then: only its alarm brings it back."""
    world = World("a", max_retries=1)
    world.ask("r")
    world.fail(world.call())
    assert (world.phase("r"), len(world.flow.room.queue), world.calls) == (PAUSED, 0, [])
    world.pass_(world.config.retry_max_delay_s)
    assert world.phase("r") is RUNNING
    world.succeed(world.call(), "at last")
    assert world.answer("r") == "at last"


def test_what_is_the_callers_fault_is_passed_on_as_it_is() -> None:
    """No second member is asked."""
    world = World("a", "b")
    world.ask("r")
    error = world.fail(world.call("a"), FailureKind.CALLER)
    assert world.answer("r") is error
    assert world.calls == []


def test_a_member_that_is_not_there_any_more_has_never_started() -> None:
    """`send` says so; the next member has it, be it idempotent or not."""
    world = World("a", "b")
    world.gone.add("a")
    world.ask("r", idempotent=False)
    assert world.call().member == "b"
    assert world.in_flight() == {"a": 0, "b": 1}


def test_a_member_that_refuses_has_never_started() -> None:
    """The same, where it says so itself."""
    world = World("a", "b")
    world.ask("r", idempotent=False)
    call = world.call("a")
    world.calls.remove(call)
    world.flow.refused(Refused(reason=RefusalReason.SATURATED, **call.about))
    assert world.call().member == "b"


def test_a_member_that_restarts_takes_its_attempts_along() -> None:
    """A newer incarnation in the snapshot: what ran on the old one has crashed."""
    world = World("a", "b")
    world.ask("r")
    old = world.call("a")
    world.restart("a")
    assert world.call().member == "b"
    world.calls.append(old)
    world.succeed(old, "from the grave")  # a report of an incarnation that is over
    assert world.answer("r") is None


def test_an_attempt_that_takes_too_long_is_cancelled_and_another_member_asked() -> None:
    """Its slot is free when its member says so, not before."""
    world = World("a", "b", request_timeout_s=3.0)
    world.ask("r")
    slow = world.call("a")
    world.pass_(3.0)
    assert [(name, each.reason) for name, each in world.cancelled] == [
        ("a", CancelReason.ATTEMPT_TIMEOUT)
    ]
    assert world.in_flight() == {"a": 1, "b": 1}
    world.succeed(slow, "too late")
    assert world.in_flight() == {"a": 0, "b": 1}
    assert world.answer("r") is None
    world.succeed(world.call("b"), "in time")
    assert world.answer("r") == "in time"


# -- a stream


def test_a_stream_whose_first_chunk_does_not_come_goes_to_another_member() -> None:
    """One alarm looks when the chunk is overdue."""
    world = World("a", "b", first_chunk_timeout_s=1.0)
    world.stream("r")
    world.pass_(1.0)
    assert [(name, each.reason) for name, each in world.cancelled] == [
        ("a", CancelReason.ATTEMPT_TIMEOUT)
    ]
    assert world.call("b").message.stream


def test_a_stream_that_falls_silent_is_broken_off() -> None:
    """Its consumer has had a part of it: nobody else can go on there."""
    world = World("a", "b", first_chunk_timeout_s=1.0, chunk_timeout_s=2.0)
    channel = world.stream("r")
    world.pass_(0.5)
    world.chunk(world.call("a"))
    channel.take()
    world.pass_(1.75)
    assert world.answer("r") is None
    world.pass_(0.25)
    assert isinstance(world.answer("r"), StreamInterruptedError)
    assert [each.member for each in world.calls] == ["a"]


# -- a second attempt


def test_a_slow_attempt_is_joined_by_a_second_one() -> None:
    """The first answer wins, the other member is told to end; its report frees its slot."""
    world = World("a", "b", hedge_after_s=1.0)
    world.ask("r")
    world.pass_(1.0)
    first, second = world.call("a"), world.call("b")
    world.succeed(second, "faster")
    assert world.answer("r") == "faster"
    assert [(name, each.reason) for name, each in world.cancelled] == [
        ("a", CancelReason.LOST_RACE)
    ]
    assert world.in_flight() == {"a": 1, "b": 0}
    world.fail(first, FailureKind.CANCELLED)
    assert world.in_flight() == {"a": 0, "b": 0}
    assert world.flow.endings.counts["hedges"] == 1


def test_a_trial_runs_beside_and_costs_its_request_nothing() -> None:
    """It fails: the request does not notice. It answers first: that is the answer."""
    for trial_wins in (False, True):
        world = World("a", "b")
        world.change("a", **HALF_OPEN)
        world.ask("r")
        assert sorted(each.member for each in world.calls) == ["a", "b"]
        assert [type(each) for each in world.noted] == [TrialStarted]
        if trial_wins:
            world.succeed(world.call("a"), "the trial's")
        else:
            world.fail(world.call("a"))
            assert world.phase("r") is RUNNING
            world.succeed(world.call("b"), "the other's")
        assert world.answer("r") == ("the trial's" if trial_wins else "the other's")


def test_who_is_given_away_anew_carries_one_trial_all_the_same() -> None:
    """Its member is not there any more, and whoever has it instead brought a trial as well: a
    second one would answer after the request was cancelled.
    """
    world = World("a", "b", "c")
    world.change("a", **HALF_OPEN | {"trial_permits": 2, "max_concurrency": 2})
    world.gone.add("b")
    world.ask("r")
    assert sorted(each.member for each in world.calls) == ["a", "c"]
    world.flow.cancel("r")
    assert len(world.claims) == 0


@pytest.mark.parametrize("gone", [("b",), ("b", "c")])
def test_a_trial_that_does_not_begin_is_not_counted(gone: tuple[str, ...]) -> None:
    """It was counted before the other attempt, whose member was not there any more: whoever has the
    request then says how many attempts there were, each with a number of its own.
    """
    world = World("a", "b", "c", "d")
    world.change("a", **HALF_OPEN | {"trial_permits": 2, "max_concurrency": 2})
    world.gone.update(gone)
    world.ask("r")
    assert sorted(each.member for each in world.calls) == ["a", "d" if "c" in gone else "c"]
    world.succeed(world.call("d" if "c" in gone else "c"))
    assert world.answer("r") == "well"
    (completed,) = [each for each in world.events if isinstance(each, RequestCompleted)]
    assert completed.attempts == len(gone) + 2


def test_a_trial_beside_whom_nobody_is_left_is_not_counted() -> None:
    """The request fails, or is turned away, before the trial has begun."""
    world = World("a", "b", max_retries=0)
    world.change("a", **HALF_OPEN)
    world.gone.add("b")
    world.ask("r")
    for call in list(world.calls):
        world.fail(call)
    (exhausted,) = [each for each in world.events if isinstance(each, RequestExhausted)]
    begun = [each for each in world.events if isinstance(each, AttemptStarted)]
    assert exhausted.attempts == len(begun)


def test_a_request_that_has_failed_otherwise_waits_for_its_trial() -> None:
    """The trial is all that it has left; what it brings is the answer, be it an error."""
    for well in (True, False):
        world = World("a", "b", max_retries=0)
        world.change("a", **HALF_OPEN)
        world.ask("r")
        world.fail(world.call("b"))
        assert (world.phase("r"), world.answer("r")) == (LAST_TRIAL, None)
        if well:
            world.succeed(world.call("a"), "saved")
            assert world.answer("r") == "saved"
        else:
            world.fail(world.call("a"))
            assert isinstance(world.answer("r"), AllPoolMembersFailedError)


def test_a_trial_outlasts_its_request() -> None:
    """The breaker waits for it: what it brings is reported, and given to nobody."""
    world = World("a", "b")
    world.change("a", **HALF_OPEN)
    world.ask("r")
    trial = world.call("a")
    world.succeed(world.call("b"), "the answer")
    assert world.cancelled == []
    world.succeed(trial, "nobody's")
    assert world.answer("r") == "the answer"
    assert [each.kind for each in world.outcomes if each.member == "a"] == [None]


# -- its time is over, or its caller has left


def test_a_deadline_ends_a_request_wherever_it_is() -> None:
    """In the queue, in a pause, or at a member, which is told."""
    world = World("a", max_retries=1)
    world.ask("runs", timeout_s=2.0)
    world.ask("waits", timeout_s=2.0)
    world.pass_(2.0)
    for name in ("runs", "waits"):
        assert isinstance(world.answer(name), DeadlineExceededError)
    assert [each.reason for _, each in world.cancelled] == [CancelReason.DEADLINE]
    assert dict(world.flow.jobs) == {}


def test_who_cancels_leaves_the_member_too() -> None:
    """False of what is not in flight; the slot is the member's until it has ended."""
    world = World("a")
    world.ask("r")
    assert world.flow.cancel("r")
    assert not world.flow.cancel("r")
    assert isinstance(world.answer("r"), RequestCancelledError)
    assert world.in_flight() == {"a": 1}
    world.fail(world.call(), FailureKind.CANCELLED)
    assert world.in_flight() == {"a": 0}


# -- it ends


def test_what_is_closed_finishes_what_it_has_and_takes_no_more() -> None:
    """It says once that it is idle: with the last answer."""
    world = World("a")
    world.ask("r")
    world.flow.endings.close()
    world.ask("late")
    assert (world.idle, world.answer("late")) == (0, None)
    assert [each.name for each in world.events][-2:] == ["request.rejected", "dead_letter"]
    world.succeed(world.call())
    assert world.idle == 1


def test_all_can_be_failed_at_once() -> None:
    """As when a drain takes too long."""
    world = World("a")
    world.ask("runs")
    world.ask("waits")
    world.flow.fail_all("enough")
    assert all(isinstance(world.answer(name), PoolStoppedError) for name in ("runs", "waits"))


def test_a_member_that_drains_is_reported_with_its_last_call() -> None:
    """Not before: it finishes what it has."""
    world = World("a")
    world.ask("r")
    world.change("a", blocked=SkipReason.DRAINING)
    assert world.noted == []
    world.succeed(world.call())
    assert world.noted == [MemberDrained("a")]


def test_what_raises_on_the_way_to_a_member_costs_that_attempt_and_no_slot() -> None:
    """Another member has the request, or whoever asks is told; the next request is none the worse
    for it.
    """
    world = World("a", "b", strategy="failover")
    world.broken = {"a"}
    world.ask("r")
    assert world.complaints == ["it failed to give a request to a"]
    assert world.in_flight() == {"a": 0, "b": 1}
    world.succeed(world.call("b"), "well")
    assert world.answer("r") == "well"
    world.broken = {"a", "b"}
    world.ask("lost")
    assert isinstance(world.answer("lost"), AllPoolMembersFailedError)
    assert (world.in_flight(), dict(world.flow.jobs)) == ({"a": 0, "b": 0}, {})
    world.broken = set()
    world.ask("next")
    world.succeed(world.call("a"), "well")
    assert world.answer("next") == "well"


def test_a_hedge_that_cannot_be_sent_costs_its_request_nothing() -> None:
    """The first attempt goes on, and answers."""
    world = World("a", "b", hedge_after_s=1.0)
    world.ask("r")
    world.broken = {"b"}
    world.pass_(1.0)
    assert world.complaints == ["it failed to give a request to b"]
    assert world.in_flight() == {"a": 1, "b": 0}
    world.succeed(world.call("a"), "well")
    assert world.answer("r") == "well"


@pytest.mark.parametrize("hedged", [False, True])
def test_an_answer_that_cannot_be_given_fails_its_request_by_name(hedged: bool) -> None:
    """It has been claimed, so nobody else gives one: not to answer is no answer."""
    world = World("a", "b", hedge_after_s=1.0)
    world.ask("r")
    if hedged:
        world.pass_(1.0)
    world.mute = 1
    world.succeed(world.call("a"))
    assert "a fault of the world's" in str(world.answer("r"))
    assert isinstance(world.answer("r"), PoolError)
    counts = world.flow.endings.counts
    assert (counts["completed"], counts["failed"], dict(world.flow.jobs)) == (0, 1, {})
    assert len(world.complaints) == 1
    for call in list(world.calls):
        world.succeed(call)
    assert world.in_flight() == {"a": 0, "b": 0}


def test_a_claim_that_raises_fails_its_request_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then whether it is taken: whoever asks is told in any case."""
    world = World("a")
    world.ask("r")

    def claim(ticket: Any) -> Any:
        world.claims.withdraw(ticket)
        raise MemoryError

    monkeypatch.setattr(world.claims, "claim", claim)
    world.succeed(world.call())
    assert isinstance(world.answer("r"), PoolError)
    assert (dict(world.flow.jobs), world.in_flight()) == ({}, {"a": 0})


def _at_its_deadline(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(request_flow, "expired", broken)
    world.ask("r", timeout_s=3.0)
    world.pass_(3.0)


def _in_the_queue(world: World, patch: pytest.MonkeyPatch) -> None:
    world.ask("other", idempotent=False)
    world.ask("another", idempotent=False)
    world.ask("r", timeout_s=3.0)
    patch.setattr(request_flow, "expired", broken)
    world.now += 3.0  # its alarm has not gone off yet
    world.succeed(world.call("a"))


def _when_its_attempt_is_overdue(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AttemptEvents, "failed", broken)
    world.ask("r")
    world.pass_(8.0)


def _when_it_is_hedged(world: World, patch: pytest.MonkeyPatch) -> None:
    world.ask("r")
    patch.setattr(Hedger, "second", broken)
    world.pass_(1.0)


def _when_its_member_is_gone(world: World, patch: pytest.MonkeyPatch) -> None:
    world.ask("r")
    patch.setattr(AttemptEvents, "failed", broken)
    world.restart("a")


def _after_a_pause(world: World, patch: pytest.MonkeyPatch) -> None:
    world.ask("r", idempotent=True)
    world.fail(world.call("a"))
    world.fail(world.call("b"))
    assert world.phase("r") is PAUSED
    patch.setattr(Choice, "place", broken)
    world.pass_(world.config.retry_max_delay_s)


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("a fault of greenroom's own")


@pytest.mark.parametrize(
    "meet",
    [
        _at_its_deadline,
        _in_the_queue,
        _when_its_attempt_is_overdue,
        _when_it_is_hedged,
        _when_its_member_is_gone,
        _after_a_pause,
    ],
)
def test_what_raises_where_no_message_is_about_the_request_fails_it_too(
    meet: Callable[[World, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm, or a snapshot: the flow sees to it by itself."""
    world = World("a", "b", request_timeout_s=8.0, hedge_after_s=1.0, max_retries=5)
    with monkeypatch.context() as patch:
        meet(world, patch)
    assert "greenroom's own" in str(world.answer("r"))
    assert "r" not in world.flow.jobs
    assert len(world.complaints) == 1
    for call in list(world.calls):
        world.fail(call, FailureKind.CANCELLED)
    assert world.in_flight() == {"a": 0, "b": 0}


# -- whatever happens


@pytest.mark.parametrize("strategy", ["priority", "adaptive", "round_robin", "failover"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_every_request_is_answered_once(strategy: str, seed: int) -> None:
    """After each of 600 steps every request is in a phase that fits what it has, no slot is lost,
    and at the end nothing is left over: no request, no slot, no timer.
    """
    rng = random.Random(seed)
    world = World(
        *MEMBERS,
        strategy=strategy,
        max_pending=6,
        request_timeout_s=8.0,
        hedge_after_s=1.0 if seed % 2 else None,
        when_unavailable="wait" if seed % 3 else "fail",
    )
    asked: list[str] = []
    for _ in range(600):
        rng.choices([each for each, _ in STEPS], [weight for _, weight in STEPS])[0](
            world, rng, asked
        )
        check(world)
    world.flow.endings.close()
    world.gone.clear()
    for name in MEMBERS:
        world.change(name, blocked=None, circuit=CircuitState.CLOSED, trial_permits=None)
    while world.calls or world.flow.jobs:
        for call in list(world.calls):
            if call in world.calls:
                world.succeed(call)
        world.pass_(world.config.retry_max_delay_s)
        check(world)
    assert set(world.answers) == set(asked)
    assert all(len(each) == 1 for each in world.answers.values())
    assert world.complaints == []
    assert world.in_flight() == dict.fromkeys(MEMBERS, 0)
    world.pass_(100.0)
    assert (world.idle, world.timers) == (1, 0)


def check(world: World) -> None:
    """The books fit each other."""
    flow = world.flow
    for job in flow.jobs.values():
        assert job.phase in CONSISTENT
        assert CONSISTENT[job.phase](job), (job.phase, job.id)
        assert (job.hedge is None) or (job.phase is RUNNING)
        assert all(flow.attempts.live.get(each.ticket) is each for each in job.running())
    # Nobody answers but by an attempt whose answer is awaited.
    wanted = [each.ticket for job in flow.jobs.values() for each in job.running()]
    assert sum(map(world.claims.is_open, wanted)) == len(world.claims)
    queued = sum(job.phase is QUEUED for job in flow.jobs.values())
    assert queued == len(flow.room.queue)
    held = [each.member for each in flow.attempts.live.values()]
    assert world.in_flight() == {name: held.count(name) for name in MEMBERS}


CONSISTENT: dict[JobPhase, Callable[[Job], bool]] = {
    QUEUED: lambda job: job.cell is not None and job.current is None and job.alarm is None,
    PAUSED: lambda job: job.alarm is not None and job.cell is None and job.current is None,
    RUNNING: lambda job: job.current is not None and job.cell is None and job.alarm is None,
    LAST_TRIAL: lambda job: job.current is not None and job.trial is None and job.cell is None,
}
"""What each phase that outlasts a turn goes along with."""


def _ask(world: World, rng: random.Random, asked: list[str]) -> None:
    asked.append(f"r{len(asked)}")
    world.ask(
        asked[-1],
        timeout_s=rng.choice([None, 2.0, 20.0]),
        idempotent=rng.random() < 0.8,
        priority=rng.randrange(3),
        max_retries=rng.choice([None, 0, 1, 5]),
    )


def _succeed(world: World, rng: random.Random, _: list[str]) -> None:
    if world.calls:
        world.succeed(rng.choice(world.calls))


def _fail(world: World, rng: random.Random, _: list[str]) -> None:
    if world.calls:
        kind = rng.choice(list(FailureKind))
        world.fail(rng.choice(world.calls), kind, retry_after_s=rng.choice([None, 1.0]))


def _pass(world: World, rng: random.Random, _: list[str]) -> None:
    world.pass_(rng.choice([0.1, 1.0, 3.0]))


def _cancel(world: World, rng: random.Random, _: list[str]) -> None:
    if world.flow.jobs:
        world.flow.cancel(rng.choice(list(world.flow.jobs)))


def _restart(world: World, rng: random.Random, _: list[str]) -> None:
    world.restart(rng.choice(MEMBERS))


def _vanish(world: World, rng: random.Random, _: list[str]) -> None:
    """Its actor has ended, and the flow has not heard of it."""
    world.gone.add(rng.choice(MEMBERS))


def _half_open(world: World, rng: random.Random, _: list[str]) -> None:
    name = rng.choice(MEMBERS)
    epoch = world.routes[name].epoch + 1
    permits = rng.choice((1, 2))
    world.change(name, circuit=CircuitState.HALF_OPEN, trial_permits=permits, epoch=epoch)


def _open(world: World, rng: random.Random, _: list[str]) -> None:
    reopens_at = world.now + rng.choice([1.0, 5.0])
    epoch = world.routes[name := rng.choice(MEMBERS)].epoch + 1
    world.change(
        name,
        circuit=CircuitState.OPEN,
        blocked=SkipReason.CIRCUIT_OPEN,
        trial_permits=None,
        reopens_at=reopens_at,
        epoch=epoch,
    )


def _close(world: World, rng: random.Random, _: list[str]) -> None:
    epoch = world.routes[name := rng.choice(MEMBERS)].epoch + 1
    world.change(name, circuit=CircuitState.CLOSED, blocked=None, trial_permits=None, epoch=epoch)


STEPS: list[tuple[Callable[[World, random.Random, list[str]], None], int]] = [
    (_ask, 12),
    (_succeed, 6),
    (_fail, 6),
    (_pass, 4),
    (_cancel, 1),
    (_restart, 1),
    (_vanish, 1),
    (_half_open, 3),
    (_open, 1),
    (_close, 3),
]


def test_the_phases_without_a_member_are_those_that_count_as_pending() -> None:
    """`stats().pending` is read off them."""
    assert set(JobPhase) - PLACED == {JobPhase.PLACING, QUEUED, PAUSED}
