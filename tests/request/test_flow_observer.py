"""Who watches requests is told of each step, of every end once, and harms nobody."""

from __future__ import annotations

import random
from collections import Counter
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
from helpers_flow import World

from greenroom import AgentPool, FailureKind, Member, Request
from greenroom.actors.claims.local_messages import Answered
from greenroom.actors.request.flow_observer import Ended, Observers
from greenroom.actors.request.job import Attempt, AttemptRole, Failure, Job
from greenroom.messages.status import CancelReason


class Watch:
    """Notes what it is told, in words."""

    in_time = True

    def __init__(self, context: Context | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.context = context

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        self.told.append(("given", *attempt.ticket, attempt.member, role.name))
        return self.context

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        self.told.append(("failed", *attempt.ticket, failure.kind.value))

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        self.told.append(("left", *attempt.ticket, reason.name))

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        self.told.append(("ended", job.id, how, member))

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any) -> None:
            first = args[0]
            who: tuple[Any, ...] = (first.id,) if isinstance(first, Job) else ()
            if isinstance(first, Attempt):
                who = first.ticket
            self.told.append((name, *who))

        return note

    def of(self, request: str) -> list[tuple[Any, ...]]:
        return [(each[0], *each[2:]) for each in self.told if request in each[1:2]]


def test_a_failover_is_told_step_by_step() -> None:
    watch = Watch()
    world = World("a", "b", observer=watch)
    world.ask("r")
    world.fail(world.call("a"))
    world.succeed(world.call("b"))
    assert watch.of("r") == [
        ("accepted",),
        ("given", 1, "a", "MAIN"),
        ("failed", 1, "unavailable"),
        ("given", 2, "b", "MAIN"),
        ("released", 1),
        ("succeeded", 2),
        ("ended", "answered", "b"),
        ("released", 2),
    ]


def test_a_wait_a_pause_and_the_end_of_time() -> None:
    watch = Watch()
    world = World("a", observer=watch, max_retries=2)
    world.ask("first")
    world.ask("second", timeout=5.0)
    assert watch.of("second") == [("accepted",), ("queued",)]
    world.fail(world.call("a"))
    assert ("resumes",) in watch.of("first")
    world.pass_(5.0)
    assert ("ended", "failed", None) in watch.of("second")


def test_who_is_given_up_is_left_and_released_when_its_call_has_ended() -> None:
    watch = Watch()
    world = World("a", observer=watch)
    world.ask("r")
    call = world.call("a")
    assert world.flow.cancel("r")
    before = watch.of("r")
    assert before[2:] == [("left", 1, "CALLER"), ("ended", "cancelled", None)]
    world.fail(call, FailureKind.CANCELLED)
    assert watch.of("r")[len(before) :] == [("released", 1)]


def test_no_room_to_wait_and_an_id_in_use() -> None:
    watch = Watch()
    world = World("a", observer=watch, max_pending=0)
    world.ask("r")
    world.ask("shed")
    world.ask("r")
    assert watch.of("shed")[-1] == ("ended", "rejected", None)
    assert [each for each in watch.told if each[0] == "turned_away"] == [("turned_away",)]


def test_what_it_returns_is_the_context_of_that_attempt() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    context = copy_context()
    context.run(name.set, "the span")
    world = World("a", observer=Watch(context))
    world.ask("r")
    assert world.call("a").message.context is context


def test_what_it_raises_harms_nobody_and_is_said_once() -> None:
    class Broken:
        in_time = False

        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    complaints: list[str] = []
    watch = Watch()
    both = Observers((Broken(), watch), lambda what, _: complaints.append(what))
    world = World("a", "b", observer=both)
    world.ask("r")
    world.fail(world.call("a"))
    world.succeed(world.call("b"))
    assert world.answer("r") == "well"
    assert watch.of("r")[-1] == ("released", 2)
    assert len(complaints) == 1


@pytest.mark.parametrize("seed", range(40))
def test_each_request_ends_once_and_each_attempt_is_released_once(seed: int) -> None:
    rng, watch = random.Random(seed), Watch()
    members = ("a", "b", "c")
    config = {"hedge_after_s": 0.5} if seed % 2 else {}
    world = World(
        *members, observer=watch, strategy="random", max_pending=3, request_timeout_s=4.0, **config
    )
    kinds = (FailureKind.UNAVAILABLE, FailureKind.RATE_LIMITED, FailureKind.CALLER)
    for turn in range(120):
        match rng.randrange(8):
            case 0 | 1 | 2:
                timeout = rng.choice((None, 1.0, 3.0))
                world.ask(f"r{turn}", timeout=timeout, idempotent=rng.random() < 0.8)
            case 3 | 4 if world.calls:
                world.succeed(rng.choice(world.calls))
            case 5 if world.calls:
                world.fail(rng.choice(world.calls), rng.choice(kinds))
            case 6:
                world.pass_(rng.choice((0.1, 0.6, 2.0)))
            case 7 if world.flow.jobs and rng.random() < 0.5:
                world.flow.cancel(rng.choice(list(world.flow.jobs)))
            case 7 if rng.random() < 0.3:
                world.restart(rng.choice(members))
    world.flow.fail_all("the end")
    for call in list(world.calls):
        world.fail(call, FailureKind.CANCELLED)
    told = Counter(each[:1] + each[1:3] for each in watch.told if each[0] in ("given", "released"))
    given = {each[1:] for each in told if each[0] == "given"}
    assert given
    assert set(told.values()) == {1}
    assert {each[1:] for each in told if each[0] == "released"} == given
    ends = Counter(each[1] for each in watch.told if each[0] == "ended")
    assert ends == Counter(each[1] for each in watch.told if each[0] == "accepted")
    words = Counter(each[1:3] for each in watch.told if each[0] in ("failed", "succeeded", "left"))
    assert set(words.values()) <= {1}
    last: dict[Any, str] = {}
    for each in watch.told:
        if each[0] in ("failed", "succeeded", "left", "released"):
            last[each[1:3]] = each[0]
    assert set(last.values()) == {"released"}
    assert not world.complaints


def test_a_pool_tells_of_an_answer_in_time_without_anybody_reading_events() -> None:
    watch = Watch()
    watched: list[Any] = [watch]

    class Pool(AgentPool):
        def __init__(self, **given: Any) -> None:
            super().__init__(**{**given, "observers": watched})

    with Pool.start([Member("a", str.upper)]) as pool:
        assert pool.ask(Request("x", request_id="r")).value == "X"
        pool.stats()
        assert set(watch.of("r")[-2:]) == {("released", 1), ("ended", "answered", "a")}
        assert [each for each in watch.told if each[0] == "table"]


class InOne(Watch):
    """Is told the usual end in one."""

    def answered(self, job: Job, attempt: Attempt, elapsed_s: float, now: float) -> None:
        self.told.append(("answered", *attempt.ticket, elapsed_s))

    def judged(self, member: str, incarnation: int, count: int, now: float) -> None:
        self.told.append(("judged", member, incarnation, count))


def test_an_observer_that_takes_it_in_one_is_told_the_usual_end_in_one() -> None:
    in_one, step_by_step = InOne(), Watch()
    world = World("a", observer=in_one)
    both = Observers((in_one, step_by_step), world.complain_of)
    world.ask("r")
    (attempt,) = world.flow.attempts.live.values()
    job = world.flow.jobs["r"]
    world.flow.answered(Answered(attempt, 0.5))
    assert in_one.of("r") == [("accepted",), ("given", 1, "a", "MAIN"), ("answered", 1, 0.5)]
    both.answered(job, attempt, 0.5, 100.5)
    assert step_by_step.of("r") == [
        ("succeeded", 1),
        ("released", 1),
        ("ended", "answered", "a"),
    ]


def test_it_is_told_of_failures_that_were_judged() -> None:
    in_one = InOne()
    world = World("a", "b", observer=in_one)
    world.ask("r")
    world.fail(world.call("a"))
    assert ("judged", "a", 1, 1) in in_one.told


def test_what_it_raises_harms_nobody() -> None:
    class Broken(InOne):
        def answered(self, job: Job, attempt: Attempt, elapsed_s: float, now: float) -> None:
            raise RuntimeError("broken")

        def judged(self, member: str, incarnation: int, count: int, now: float) -> None:
            raise RuntimeError("broken")

    world = World("a", "b", observer=Broken())
    world.ask("first")
    world.fail(world.call("a"))
    world.ask("second")
    for attempt in list(world.flow.attempts.live.values()):
        world.flow.answered(Answered(attempt, 0.5))
    assert not world.flow.jobs
    assert len(world.complaints) == 1
