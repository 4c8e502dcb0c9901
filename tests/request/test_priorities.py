"""Priorities and age in the waiting queue, and who gives way when it is full: 51 and 31."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from helpers_agents import Held
from helpers_pools import WAIT_S, pool_of, ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    Member,
    PoolConfig,
    PoolFuture,
    PoolRef,
    PoolSaturatedError,
    Reply,
    Request,
)
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.job import Job
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.actors.request.waiting_queue import WaitingQueue
from greenroom.actors.router.pool_router import PoolRouter
from greenroom.actors.runtime.mailbox import Mailbox
from greenroom.messages import AttemptStarted, DeadLetter, RequestRejected, RetryScheduled
from greenroom.messages.supervision import RoutingSnapshot
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

POLICY = RetryPolicy.from_config(PoolConfig())


class Jumping(FakeClock):
    """Moves without waking anybody, as the real one does: the alarms come when they come."""

    def jump(self, seconds: float) -> None:
        self._now += seconds


def ask(pool: PoolRef, payload: Any, priority: int = 0, **options: Any) -> PoolFuture[Reply[Any]]:
    request: Request[Any] = Request(payload, priority=priority, request_id=str(payload), **options)
    future: PoolFuture[Reply[Any]] = pool.ask(request, block=False)
    return future


def refused(future: PoolFuture[Reply[Any]]) -> PoolSaturatedError:
    with pytest.raises(PoolSaturatedError) as caught:
        future.get(timeout=WAIT_S)
    return caught.value


def occupied(pool: PoolRef, agent: Held) -> PoolFuture[Reply[Any]]:
    """The pool's only slot is taken by a request that runs until `agent` is let go."""
    future = ask(pool, "running")
    agent.wait_entered()
    return future


# -- the queue


def job(
    name: str,
    priority: int = 0,
    at: float = 0.0,
    deadline: float | None = None,
    attempts: int = 0,
) -> Job:
    made = Job(name, Request(name, priority=priority), None, at, deadline, POLICY)
    made.attempts = attempts
    return made


def order(*jobs: Job, ageing_s: float = 10.0) -> str:
    """The names in the order in which the queue serves them, by either way of asking."""
    queue = WaitingQueue(ageing_s)
    for each in jobs:
        queue.add(each)
    read = "".join(each.id for each in queue)
    taken = ""
    while (first := queue.first()) is not None:
        taken += first.id
        queue.discard(first)
    assert read == taken
    return taken


def test_b51_the_higher_number_is_first_and_equal_ones_are_in_order() -> None:
    """Whatever the order in which they came."""
    jobs = [job("a"), job("b", 2), job("c", -1), job("d", 2), job("e"), job("f", 1)]
    assert order(*jobs) == "bdfaec"


def test_b51_waiting_counts_as_priority_does() -> None:
    """One level is worth `ageing_s`: what comes later than that is served later."""
    old = job("o", at=0.0)
    assert order(old, job("n", 1, at=9.9)) == "no"
    assert order(old, job("n", 1, at=10.0)) == "on"  # a tie: in order of arrival
    assert order(job("n", 1, at=10.0), job("o", at=0.0)) == "on"
    assert order(old, job("n", 3, at=29.9)) == "no"
    assert order(old, job("n", 3, at=30.1)) == "on"
    assert order(old, job("n", 1, at=0.6), ageing_s=0.5) == "on"


def test_b51_a_number_beyond_what_a_float_can_hold_is_a_priority_too() -> None:
    """The highest and the lowest there are, among themselves in order."""
    jobs = [job("a", -(10**400)), job("b", 10**400), job("c", 10**9), job("d", 10**400)]
    assert order(*jobs) == "bdca"


def test_b51_who_may_be_displaced_is_the_last_that_no_member_has_had() -> None:
    """And only by what ranks before it."""
    queue = WaitingQueue(10.0)
    for each in (job("a", 1), job("b"), job("c"), job("t", -5, attempts=1)):
        queue.add(each)
    assert queue.displaced_by(job("n", 0)) is None
    displaced = queue.displaced_by(job("n", 1))
    assert displaced is not None
    assert displaced.id == "c"
    queue.discard(displaced)
    queue.add(job("d", -1))
    displaced = queue.displaced_by(job("n", 0))
    assert displaced is not None
    assert displaced.id == "d"


numbers = st.integers(0, 1000)
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.tuples(
                st.integers(-3, 3),
                st.sampled_from([None, 1, 5, 20]),
                st.sampled_from([0, 0, 1]),
            ),
        ),
        st.tuples(st.sampled_from(["leave", "come back", "again", "wait"]), numbers),
    ),
    max_size=200,
)


class QueueModel:
    """The same queue as a sorted list."""

    def __init__(self, ageing_s: int) -> None:
        self.queue = WaitingQueue(ageing_s)
        self.ageing_s = ageing_s
        self.now = 0
        self.arrivals = 0
        self.waiting: list[tuple[float, float, int, Job]] = []
        self.gone: list[Job] = []

    def do(self, what: str, argument: Any) -> None:
        if what == "add":
            priority, limit, attempts = argument
            deadline = None if limit is None else self.now + limit
            self.arrive(job(str(self.arrivals), priority, self.now, deadline, attempts))
        elif what == "wait":
            self.now += argument % 7
        elif what == "come back" and self.gone:
            self.arrive(self.gone.pop(argument % len(self.gone)))
        elif self.waiting:
            *_, chosen = self.waiting[argument % len(self.waiting)]
            if what == "again":
                self.queue.add(chosen)
            else:
                self.leave(chosen)

    def arrive(self, job: Job) -> None:
        self.arrivals += 1
        rank = job.accepted_at - job.work.priority * self.ageing_s
        self.waiting.append((rank, job.accepted_at, self.arrivals, job))
        self.waiting.sort()
        self.queue.add(job)

    def leave(self, job: Job) -> None:
        self.waiting = [entry for entry in self.waiting if entry[3] is not job]
        self.gone.append(job)
        self.queue.discard(job)

    def check(self) -> None:
        jobs = [entry[3] for entry in self.waiting]
        untried = [each for each in jobs if each.attempts == 0]
        limits = [each.deadline for each in jobs if each.deadline is not None]
        expired = self.queue.expired(self.now)
        assert (len(self.queue), list(self.queue)) == (len(jobs), jobs)
        assert list(self.queue.tried()) == [each for each in jobs if each.attempts > 0]
        assert self.queue.first() is (jobs[0] if jobs else None)
        assert self.queue.last_untried() is (untried[-1] if untried else None)
        assert (expired is not None) == any(limit <= self.now for limit in limits)
        assert expired is None or expired.deadline == min(limits)
        self.check_displaced(untried)

    def check_displaced(self, untried: list[Job]) -> None:
        for priority in range(-4, 5):
            newcomer = job("n", priority, self.now)
            rank = self.now - priority * self.ageing_s
            last = untried[-1] if untried else None
            entry = next((entry for entry in self.waiting if entry[3] is last), None)
            gives_way = entry is not None and (rank, self.now) < entry[:2]
            assert self.queue.displaced_by(newcomer) is (last if gives_way else None)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), operations, st.booleans())
def test_b51_the_queue_equals_a_sorted_list(
    ageing_s: int, steps: list[tuple[str, Any]], all_along: bool
) -> None:
    """Whoever comes, leaves and comes back, and whenever one looks."""
    model = QueueModel(ageing_s)
    for what, argument in steps:
        model.do(what, argument)
        if all_along:
            model.check()
    model.check()


def test_b51_a_long_queue_may_change_while_it_is_read() -> None:
    """In order to the end; what leaves meanwhile is skipped, what comes is not part of it."""
    queue = WaitingQueue(10.0)
    jobs = [job(str(number), number % 7) for number in range(1000)]
    for each in jobs:
        queue.add(each)
    expected = sorted(jobs, key=lambda each: -each.work.priority)
    seen = []
    for number, each in enumerate(queue):
        seen.append(each)
        queue.add(job("late", 99))
        if number == 500:
            for gone in expected[:600]:
                queue.discard(gone)
    assert seen == expected[:501] + expected[600:]


# -- served by priority


def test_b51_under_saturation_a_higher_one_is_served_first() -> None:
    """Equal ones in order."""
    agent = Held()
    with pool_of(*ranked(a=agent), clock=FakeClock()) as pool:
        futures = [occupied(pool, agent)]
        priorities = [(n * 5) % 4 - 1 for n in range(40)]
        futures += [ask(pool, n, priority) for n, priority in enumerate(priorities)]
        assert pool.stats().pending == 40
        agent.let_go(41)
        for future in futures:
            future.get(timeout=WAIT_S)
        assert agent.payloads[1:] == sorted(range(40), key=lambda n: -priorities[n])


def test_b51_a_new_member_is_given_the_first_in_rank() -> None:
    """Also where room comes from elsewhere than from a call that ends."""
    agent, new = Held(), Held("new")
    with pool_of(*ranked(a=agent), clock=FakeClock()) as pool:
        occupied(pool, agent)
        ask(pool, "low")
        high = ask(pool, "high", 1)
        pool.add_member(Member("b", new))
        new.wait_entered()
        assert new.payloads == ["high"]
        agent.let_go(2)
        new.let_go(2)
        assert high.get(timeout=WAIT_S).member == "b"


def test_b51_none_starves() -> None:
    """A request is overtaken only for (difference in priority) * priority_ageing_s seconds, though
    better ones come as fast as they are served.
    """
    clock, agent = FakeClock(), Held()
    with pool_of(
        *ranked(a=agent), clock=clock, priority_ageing_s=5.0, request_timeout_s=None
    ) as pool:
        running = occupied(pool, agent)
        futures = [running, ask(pool, "patient")]
        for second in range(14):
            futures.append(ask(pool, second, 2))
            pool.stats()
            clock.advance(1.0)
            agent.let_go()
            agent.wait_entered()
        agent.let_go(2)
        for future in futures:
            future.get(timeout=WAIT_S)
        assert agent.payloads == ["running", *range(10), "patient", *range(10, 14)]


def test_b51_a_request_that_comes_back_has_kept_its_age() -> None:
    """After a failed attempt it is served before those that came after it."""
    clock, agent = FakeClock(), Held(http_error(503))
    with pool_of(*ranked(a=agent), clock=clock, same_member_retries=0) as pool:
        first = ask(pool, "first")
        agent.wait_entered()
        clock.advance(1.0)
        others = [ask(pool, n) for n in range(3)]
        agent.let_go()  # it fails, and waits for its backoff
        agent.wait_entered()
        agent.value = "well"
        clock.advance(0.1)
        assert pool.stats().pending == 3
        agent.let_go(4)
        for future in (first, *others):
            future.get(timeout=WAIT_S)
        assert agent.payloads == ["first", 0, "first", 1, 2]


# -- what has expired


def test_b51_what_has_expired_is_dropped_before_anything_runs() -> None:
    """Also where a slot comes free before the alarm of its deadline has been handled."""
    clock, agent = Jumping(), Held()
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=agent), clock=clock, request_timeout_s=None) as pool,
    ):
        running = occupied(pool, agent)
        late = [ask(pool, f"late {n}", 1, timeout_s=1.0 + n / 1000) for n in range(200)]
        following = ask(pool, "next")
        pool.stats()
        clock.jump(1.2)
        agent.let_go(2)
        for future in (running, following):
            assert future.get(timeout=WAIT_S).value == "held"
        for future in late:
            with pytest.raises(DeadlineExceededError):
                future.get(timeout=WAIT_S)
        assert [event.request_id for event in log.named(AttemptStarted)] == ["running", "next"]
        stats = pool.stats()
        assert (stats.pending, stats.in_flight, stats.failed) == (0, 0, 200)


def test_b51_a_backoff_that_ended_before_the_deadline_does_not_run_after_it() -> None:
    """Both have passed at one jump of the clock; the alarm of the backoff is the first."""
    clock, agent = FakeClock(), ScriptedAgent([http_error(503), "well"])
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=agent), clock=clock, same_member_retries=0) as pool,
    ):
        future = ask(pool, "x", timeout_s=1.0)
        log.wait_for(RetryScheduled)
        clock.advance(2.0)
        with pytest.raises(DeadlineExceededError) as caught:
            future.get(timeout=WAIT_S)
        assert [str(e.kind) for e in caught.value.errors] == ["unavailable"]
        assert (len(log.named(AttemptStarted)), len(agent.calls)) == (1, 1)


def test_b51_what_has_expired_makes_room_first() -> None:
    """A full queue turns nobody away for the sake of a request that is over."""
    clock, agent = Jumping(), Held()
    with pool_of(*ranked(a=agent), clock=clock, max_pending=2, request_timeout_s=None) as pool:
        running = occupied(pool, agent)
        waiting, late = ask(pool, "waiting"), ask(pool, "late", 9, timeout_s=1.0)
        pool.stats()
        clock.jump(1.0)
        newcomer = ask(pool, "newcomer")
        with pytest.raises(DeadlineExceededError):
            late.get(timeout=WAIT_S)
        agent.let_go(3)
        for future in (running, waiting, newcomer):
            assert future.get(timeout=WAIT_S).value == "held"
        assert agent.payloads == ["running", "waiting", "newcomer"]


# -- who gives way


def test_b51_the_last_in_rank_gives_way_to_a_better_one() -> None:
    """It fails at once with PoolSaturatedError and one request.rejected, and counts as failed."""
    agent = Held()
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=agent), clock=FakeClock(), max_pending=3) as pool,
    ):
        futures = {"running": occupied(pool, agent)}
        for name, priority in (("low 1", 0), ("high 1", 2), ("low 2", 0)):
            futures[name] = ask(pool, name, priority)
        futures["mid"] = ask(pool, "mid", 1)
        error = refused(futures.pop("low 2"))
        assert (error.pool_name, error.pending) == ("pool", 3)
        futures["high 2"] = ask(pool, "high 2", 2)
        refused(futures.pop("low 1"))
        refused(ask(pool, "mid 2", 1))  # not better than the last one, `mid`
        refused(ask(pool, "low 3", 0))
        stats = pool.stats()
        assert (stats.pending, stats.in_flight, stats.failed) == (3, 1, 4)
        assert [event.request_id for event in log.named(RequestRejected)] == [
            "low 2",
            "low 1",
            "mid 2",
            "low 3",
        ]
        agent.let_go(4)
        for future in futures.values():
            future.get(timeout=WAIT_S)
        assert agent.payloads == ["running", "high 1", "high 2", "mid"]


def test_b51_age_protects_from_being_displaced() -> None:
    """One level is worth no more than `priority_ageing_s` here, too."""
    clock, agent = FakeClock(), Held()
    with pool_of(*ranked(a=agent), clock=clock, max_pending=1, request_timeout_s=None) as pool:
        futures = [occupied(pool, agent), ask(pool, "old")]
        pool.stats()
        clock.advance(10.0)
        refused(ask(pool, "new", 1))
        futures.append(ask(pool, "urgent", 2))
        refused(futures.pop(1))
        agent.let_go(2)
        for future in futures:
            future.get(timeout=WAIT_S)


def test_b51_a_told_one_that_gives_way_is_a_dead_letter() -> None:
    """It is not lost without a trace."""
    agent = Held()
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=agent), clock=FakeClock(), max_pending=1) as pool,
    ):
        futures = [occupied(pool, agent)]
        pool.tell(Request("told", request_id="told"))
        futures.append(ask(pool, "better", 1))
        log.wait_for(DeadLetter)
        assert [letter.request_id for letter in log.named(DeadLetter)] == ["told"]
        agent.let_go(2)
        for future in futures:
            future.get(timeout=WAIT_S)


def test_b51_a_request_that_a_member_has_had_never_gives_way() -> None:
    """However high the priority of the newcomer is."""
    first, second = Held(ValueError("first")), Held("second")
    with pool_of(*ranked(a=first, b=second), clock=FakeClock(), max_pending=1) as pool:
        tried = ask(pool, "tried")
        first.wait_entered()
        futures = [tried, ask(pool, "on b")]
        second.wait_entered()
        futures.append(ask(pool, "on a"))
        first.let_go()  # `tried` waits for b from now on
        first.wait_entered()
        refused(ask(pool, "urgent", 9))
        first.let_go()
        second.let_go(3)
        for future in futures:
            assert future.get(timeout=WAIT_S).value == "second"


# -- nothing may wait


@pytest.mark.parametrize("max_pending", [0, 2])
def test_b31_right_after_the_start_no_more_may_wait_than_later(
    max_pending: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came before the supervisor had spoken find a member, or the last ones must go."""
    said: list[RoutingSnapshot] = []
    monkeypatch.setattr(RequestFlow, "snapshot", lambda _, snapshot: said.append(snapshot))
    agent = Held()
    with pool_of(*ranked(a=agent), clock=FakeClock(), max_pending=max_pending) as pool:
        futures = [ask(pool, n, priority) for n, priority in enumerate([0, 0, 0, 3, 2, 1])]
        assert pool.stats().pending == 6
        monkeypatch.undo()
        listen_again(pool, said[0])
        agent.wait_entered()
        assert pool.stats().pending == max_pending
        served = futures[3 : 4 + max_pending]
        for future in futures:
            if future not in served:
                refused(future)
        agent.let_go(len(served))
        for future in served:
            assert future.get(timeout=WAIT_S).value == "held"
    assert agent.payloads == [3, 4, 5][: max_pending + 1]


def router_of(pool: PoolRef) -> PoolRouter:
    return cast(PoolRouter, pool._actor_weakref())


def listen_again(pool: PoolRef, snapshot: RoutingSnapshot) -> None:
    """The router hears from now on what the supervisor says, and what it has said."""
    router = router_of(pool)
    router.handlers[RoutingSnapshot] = router.flow.snapshot
    pool.tell(snapshot)


def test_b31_nobody_is_kept_in_mind_who_was_let_in_for_a_moment() -> None:
    """The router's list of those who wait for a judgement is empty when there is none to come."""
    agent = ScriptedAgent([ValueError("odd")])
    with pool_of(*ranked(a=agent), max_pending=0, max_retries=0) as pool:
        pool.disable_breaker("a")
        for n in range(100):
            with pytest.raises(AllPoolMembersFailedError):
                ask(pool, n).get(timeout=WAIT_S)
        pool.stats()
        assert router_of(pool).flow.room.over_limit == []


def test_b31_who_was_let_in_for_a_member_that_then_opens_must_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `max_pending=0` a request may wait for the judgement of a failure, and no longer."""
    judged = threading.Event()
    take_in = OutcomeJudge.take_in

    def held(self: OutcomeJudge, message: Any) -> None:
        assert judged.wait(WAIT_S)
        take_in(self, message)

    monkeypatch.setattr(Mailbox, "handles", lambda *_: False)
    monkeypatch.setattr(OutcomeJudge, "take_in", held)
    busy = Held()
    members = ranked(a=busy, b=ScriptedAgent([http_error(401)]))
    try:
        with pool_of(*members, clock=FakeClock(), max_pending=0, max_retries=0) as pool:
            running = occupied(pool, busy)
            with pytest.raises(AllPoolMembersFailedError):
                ask(pool, "opens b").get(timeout=WAIT_S)
            guest = ask(pool, "guest")
            better = ask(pool, "better", 1)  # there is one place: the better one has it
            refused(guest)
            assert not better.done()
            judged.set()
            refused(better)
            busy.let_go()
            running.get(timeout=WAIT_S)
    finally:
        judged.set()
