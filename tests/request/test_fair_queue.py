"""The waiting room shared out among keys: turns, weights, priorities, who has to go."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from helpers_flow import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom import FailureKind, PoolConfig, PoolSaturatedError, Request
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.fair_queue import FairQueue
from greenroom.actors.request.job import QUEUED, Job
from greenroom.actors.request.waiting_queue import lane_of
from greenroom.actors.routing.selection import terms_of
from greenroom.messages.screening import Heard

POLICY = RetryPolicy.from_config(PoolConfig())
AGEING_S = 10.0


def job(name: str, key: Any = None, weight: float = 1.0, at: float = 0.0, **options: Any) -> Job:
    request: Request[str] = Request(name, **options)
    terms = terms_of(request, None) if request.only else None
    heard = Heard(fair_key=key, weight=weight)
    return Job(name, request, None, at, None, POLICY, None, terms, heard)


def queue_of(*jobs: Job, cost: Any = None) -> FairQueue:
    queue = FairQueue(AGEING_S) if cost is None else FairQueue(AGEING_S, cost)
    for each in jobs:
        queue.add(each)
    return queue


def served(queue: FairQueue, times: int = 1_000) -> list[str]:
    order: list[str] = []
    while (first := queue.first()) is not None and len(order) < times:
        queue.serve(first)
        order.append(first.id)
    return order


# -- the order


def test_keys_take_turns_and_each_is_served_in_order() -> None:
    """One that has many waiting holds nobody up for longer than one of them takes."""
    many = [job(f"a{n}", "a", at=n) for n in range(4)]
    queue = queue_of(*many, job("b", "b", at=9), job("c", "c", at=10))
    assert served(queue) == ["a0", "b", "c", "a1", "a2", "a3"]
    assert (len(queue), queue.keys) == (0, 0)


def test_a_key_is_served_by_its_weight() -> None:
    """Three to one."""
    heavy = [job(f"a{n}", "a", 3.0) for n in range(6)]
    queue = queue_of(*heavy, *[job(f"b{n}", "b") for n in range(2)])
    assert served(queue) == ["a0", "a1", "a2", "b0", "a3", "a4", "a5", "b1"]


def test_a_share_is_one_of_cost() -> None:
    """Whose requests cost three has a third of the turns."""
    dear = [job(f"a{n}", "a") for n in range(10)]
    cheap = [job(f"b{n}", "b") for n in range(30)]
    queue = queue_of(*dear, *cheap, cost=lambda each: 3.0 if each.id[0] == "a" else 1.0)
    first = Counter(name[0] for name in served(queue, 20))
    assert first == {"a": 5, "b": 15}


def test_a_higher_priority_is_served_first_as_ever() -> None:
    """Turns are taken within a priority, and waiting counts as priority does."""
    queue = queue_of(
        job("old", "a", at=0.0), job("new", "a", at=12.0),
        job("high 1", "b", at=5.0, priority=1), job("high 2", "b", at=11.0, priority=1),
    )  # fmt: skip
    assert served(queue) == ["high 1", "old", "high 2", "new"]


def test_all_are_told_in_the_order_of_age() -> None:
    """Whoever looks at each of them, as after a change of the members; who leaves is left out."""
    jobs = [job("a", "a", at=3), job("b", "b", at=1), job("c", "a", at=2, priority=1)]
    queue = queue_of(*jobs)
    seen = []
    for each in queue:
        seen.append(each.id)
        queue.discard(jobs[1])
    assert seen == ["c", "a"]


def test_lanes_that_nobody_can_serve_are_passed_over() -> None:
    """Within a key, too; the turn of a key that is passed over is kept."""
    queue = queue_of(
        job("a1", "a", only="x"), job("a2", "a"), job("b1", "b", only="x"), job("c1", "c")
    )
    stuck = lane_of(job("x", only="x"))
    first = queue.first({stuck})
    assert first is not None
    assert first.id == "a2"
    queue.serve(first)
    second = queue.first({stuck})
    assert second is not None
    assert second.id == "c1"
    assert queue.first({stuck, None}) is None
    assert served(queue) == ["b1", "c1", "a1"]


# -- who has to go


def test_who_has_most_waiting_makes_room() -> None:
    """Its last one goes; the newcomer does if it is that key's own."""
    queue = queue_of(*[job(f"a{n}", "a", at=n) for n in range(3)], job("b", "b"))
    displaced = queue.displaced_by(job("c", "c", at=9))
    assert displaced is not None
    assert displaced.id == "a2"
    assert queue.displaced_by(job("a3", "a", at=9)) is None
    # By weight: three of a weight of 10 are fewer than two of a weight of 1.
    queue = queue_of(*[job(f"a{n}", "a", 10.0) for n in range(3)], job("b0", "b"), job("b1", "b"))
    displaced = queue.displaced_by(job("c", "c"))
    assert displaced is not None
    assert displaced.id == "b1"


def test_the_lowest_priority_makes_room_first() -> None:
    """Whosever it is."""
    queue = queue_of(*[job(f"a{n}", "a", priority=1) for n in range(3)], job("b", "b"))
    displaced = queue.displaced_by(job("c", "c", priority=1))
    assert displaced is not None
    assert displaced.id == "b"
    assert queue.displaced_by(job("d", "d", priority=-1)) is None


# -- in the life of a request


def heard(key: Any, weight: float = 1.0) -> Heard:
    return Heard(fair_key=key, weight=weight)


def begun(world: World) -> str:
    return world.call().message.request_id


def test_a_burst_of_one_key_does_not_keep_others_waiting() -> None:
    """Two hundred that wait cost the next key one turn."""
    world = World("a", fair_by="key")
    for number in range(200):
        world.ask(f"many {number}", heard("many"))
    world.ask("one", heard("one"))
    order = []
    for _ in range(3):
        world.succeed(world.call())
        order.append(begun(world))
    assert order == ["many 1", "one", "many 2"]


def test_members_that_come_serve_those_whose_turn_it_is() -> None:
    """Not those that have waited longest."""
    world = World("a", fair_by="key")
    for number in range(10):
        world.ask(f"many {number}", heard("many"))
    for key in "xyz":
        world.ask(key, heard(key))
    world.change("a", max_concurrency=5)
    assert {call.message.request_id for call in world.calls} == {
        "many 0", "many 1", "x", "y", "z",
    }  # fmt: skip


def test_a_key_has_a_bound_of_its_own() -> None:
    """With a reason of its own; others come in still, and a running one does not count."""
    world = World("a", fair_by="key", max_pending_per_key=2)
    for number in range(4):
        world.ask(f"a{number}", heard("a"))
    world.ask("b", heard("b"))
    error = world.answer("a3")
    assert isinstance(error, PoolSaturatedError)
    assert (error.reason, error.pending) == ("max_pending_per_key", 2)
    assert "2 requests of the same fair_by key waiting (max_pending_per_key)" in str(error)
    assert "'a'" not in str(error)
    world.ask("a high one", heard("a"), priority=1)
    assert world.answer("a2").reason == "max_pending_per_key"
    assert world.phase("b") is world.phase("a high one") is QUEUED


def test_the_bound_of_a_key_holds_for_those_that_came_before_the_members() -> None:
    """Before the first table all wait; who has found nobody by then has to go if he is too many."""
    world = World(fair_by="key", max_pending_per_key=1)
    world.flow.table.epoch = 0  # as before it
    for number in range(4):
        world.ask(f"a{number}", heard("a"))
    assert all(world.phase(f"a{number}") is QUEUED for number in range(4))
    other = World("m", fair_by="key", max_pending_per_key=1)
    world.routes = other.routes
    world.snapshot()
    assert begun(world) == "a0"
    shed = [name for name in world.answers if world.answer(name).reason == "max_pending_per_key"]
    assert len(shed) == 2


def test_retries_take_their_turn() -> None:
    """A request that a member has had keeps its place, is never put out, and is served again."""
    world = World("a", "b", fair_by="key", max_retries=9, retry_delay_s=0.0, max_pending=1)
    world.ask("r", heard("a"))
    world.ask("s", heard("b"))
    world.fail(world.call("a"))
    world.fail(world.call("b"), FailureKind.UNAVAILABLE)
    world.pass_(1.0)
    assert len(world.calls) == 2
    for call in list(world.calls):
        world.succeed(call)
    assert (world.answer("r"), world.answer("s")) == ("well", "well")


def test_a_strategy_of_ones_own_has_turns_too() -> None:
    """It is offered each that waits, as it may refuse any; the first in turn before the others."""
    world = World("a", "b", fair_by="key", strategy="weighted")
    world.flow.table.treats_alike = False
    world.flow.room._alike = False
    for number in range(6):
        world.ask(f"a{number}", heard("a"))
    world.ask("b", heard("b"), only="b")
    world.succeed(world.call("b"))
    assert {call.message.request_id for call in world.calls} <= {"a0", "a2", "b"}


def test_the_books_of_a_fair_room_are_kept_whatever_happens() -> None:
    """Any mix of keys, priorities, terms, failures and cancels: each has one answer, nobody waits
    whom a free member could serve.
    """
    rng = random.Random(11)
    world = World("a", "b", "c", fair_by="key", max_pending=40, max_pending_per_key=15)
    world.change("b", tags=("x",))
    asked = 0
    for number in range(4_000):
        roll = rng.random()
        if roll < 0.55:
            asked += 1
            only = rng.choice([None, None, "x", "a"])
            world.ask(
                f"r{number}", heard(rng.choice("ppppqr"), rng.choice([1.0, 2.0])), only=only,
                priority=rng.choice([0, 0, 0, 1]), timeout=rng.choice([None, 3.0]),
            )  # fmt: skip
        elif roll < 0.6 and world.flow.jobs:
            world.flow.cancel(rng.choice(list(world.flow.jobs)))
        elif roll < 0.7 and world.calls:
            world.fail(rng.choice(world.calls))
        elif roll < 0.9 and world.calls:
            world.succeed(rng.choice(world.calls))
        else:
            world.pass_(rng.choice([0.0, 0.1, 1.0]))
        room = world.flow.room
        waiting = [each for each in world.flow.jobs.values() if each.phase is QUEUED]
        assert room.queue.size == len(waiting) == len(list(room.queue))
        free = {slot.name for slot in world.flow.table if slot.is_free}
        for each in waiting:
            may = {None: "abc", ("x",): "b", ("a",): "a"}[each.work.only]  # type: ignore[index]
            assert each.failures or not free & set(may)
    while world.flow.jobs:
        for call in list(world.calls):
            if call in world.calls:
                world.succeed(call)
        world.pass_(1.0)
    assert world.complaints == []
    assert len(world.answers) == asked
    assert all(len(each) == 1 for each in world.answers.values())
    assert world.flow.room.queue.size == 0


class Model(RuleBasedStateMachine):
    """A fair queue beside a list: none lost, each key's in order, turns bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(AGEING_S)
        self.jobs: list[Job] = []
        self.number = 0

    @rule(key=st.sampled_from("abcd"), priority=st.integers(0, 1), tried=st.booleans())
    def add(self, key: str, priority: int, tried: bool) -> None:
        self.number += 1
        made = job(f"{self.number}", key, at=float(self.number), priority=priority)
        made.attempts = int(tried)
        self.queue.add(made)
        self.jobs.append(made)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def discard(self, data: Any) -> None:
        gone = data.draw(st.sampled_from(self.jobs))
        self.queue.discard(gone)
        self.jobs.remove(gone)

    @precondition(lambda self: self.jobs)
    @rule()
    def serve(self) -> None:
        first = self.queue.first()
        assert first is not None
        mine = [
            each for each in self.jobs
            if (each.fair_key, each.work.priority) == (first.fair_key, first.work.priority)
        ]  # fmt: skip
        assert mine[0] is first
        self.queue.serve(first)
        self.jobs.remove(first)

    @invariant()
    def holds_them_all(self) -> None:
        def rank(each: Job) -> float:
            return each.accepted_at - AGEING_S * each.work.priority

        assert list(self.queue) == sorted(
            self.jobs, key=lambda each: (rank(each), each.accepted_at)
        )
        assert self.queue.size == len(self.jobs)
        assert list(self.queue.tried()) == [each for each in self.queue if each.attempts]
        assert (self.queue.first() is None) == (not self.jobs)
        for key in "abcd":
            count = sum(each.fair_key == key for each in self.jobs)
            assert self.queue.waiting_of(key) == count


TestModel = Model.TestCase
TestModel.settings = settings(deadline=None, max_examples=50, stateful_step_count=40)


@pytest.mark.parametrize("keys", [2, 5])
def test_unfairness_is_bounded_with_any_arrivals(keys: int) -> None:
    """Between any two keys that always have something waiting, by no more than a turn or two."""
    rng, queue = random.Random(keys), FairQueue(AGEING_S)
    total: Counter[int] = Counter()
    number = 0
    for _ in range(2_000):
        for key in range(keys):
            while queue.waiting_of(key) < 2 or rng.random() < 0.1:
                number += 1
                queue.add(job(f"{number}", key))
        first = queue.first()
        assert first is not None
        queue.serve(first)
        total[first.fair_key] += 1  # type: ignore[index]
        assert max(total.values()) - min(total[key] for key in range(keys)) <= 2
