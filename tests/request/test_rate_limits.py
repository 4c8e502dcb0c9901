"""Rate limits in the life of requests: who is given what, what waits, what comes back."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from helpers_flow import TOKENS, Call, World, limited_world
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Limit,
    SkipReason,
)
from greenroom.actors.request.job import JobPhase
from greenroom.actors.routing.routing_table import Slot
from greenroom.messages.execution import Failed, LimitsSeen, Refused, Succeeded
from greenroom.messages.status import RefusalReason


def per_minute(amount: int, cost: str = "requests", group: str | None = None) -> Limit:
    return Limit(amount, per_s=60, cost=cost, group=group)


def spend(world: World, call: Call, **spent: int) -> None:
    world.calls.remove(call)
    world.flow.succeeded(Succeeded(value="well", elapsed_s=0.0, spent=spent, **call.about))
    world.settle()


def refuse(world: World, call: Call) -> None:
    world.calls.remove(call)
    world.flow.refused(Refused(reason=RefusalReason.STOPPING, **call.about))
    world.settle()


def see(world: World, call: Call, cost: str = "requests", **seen: Any) -> None:
    world.flow.limits_seen(LimitsSeen(cost=cost, at=world.now, **seen, **call.about))
    world.settle()


def given_to(world: World) -> list[tuple[str, str]]:
    return [(each.message.request_id, each.member) for each in world.calls]


def left(world: World, name: str, cost: str = "requests") -> int:
    slot = world.flow.table.get(name)
    assert slot is not None
    stats = world.flow.table.headroom.stats(slot, world.now)
    (found,) = [each.headroom for each in stats if each.cost == cost]
    return found


def error_of(world: World, request_id: str, member: str) -> AttemptError:
    failed = world.answer(request_id)
    assert isinstance(failed, AllPoolMembersFailedError | DeadlineExceededError)
    (found,) = [each for each in failed.errors if each.member == member]
    return found


def test_who_has_no_headroom_is_skipped_and_waited_for() -> None:
    """Behaviour 291: the request goes to another member, or waits for the first that has some."""
    pool = limited_world(a=[per_minute(2)], b=[Limit(1, per_s=10)])
    for request in ("1", "2", "3", "4", "5"):
        pool.ask(request)
    assert given_to(pool) == [("1", "a"), ("2", "a"), ("3", "b")]
    for call in list(pool.calls):
        pool.succeed(call)
    assert pool.phase("4") is JobPhase.QUEUED
    pool.pass_(9.999)
    assert given_to(pool) == []
    pool.pass_(0.001)
    assert given_to(pool) == [("4", "b")]
    pool.pass_(10.0)
    assert given_to(pool) == [("4", "b"), ("5", "b")]


def test_headroom_that_comes_too_late_is_not_waited_for() -> None:
    """Behaviour 292: no refill within the deadline, so it fails at once, and says when."""
    pool = limited_world(a=[per_minute(1)])
    pool.ask("1")
    pool.ask("2", timeout=59.0)
    failed = pool.answer("2")
    assert isinstance(failed, AllPoolMembersFailedError)
    assert failed.retry_after_s == 60.0
    assert error_of(pool, "2", "a").kind is SkipReason.HEADROOM
    assert error_of(pool, "2", "a").detail == "back in 60.0 s"
    pool.ask("3", timeout=60.5)
    assert pool.phase("3") is JobPhase.QUEUED


def test_what_costs_more_than_a_limit_can_hold_is_told_at_once() -> None:
    """Behaviour 293: whether the member is busy, has nothing left or is free."""
    pool = limited_world(a=[per_minute(1000, TOKENS)], b=[per_minute(500, TOKENS)])
    pool.change("a", max_concurrency=1)
    pool.ask("1", cost={TOKENS: 1000})
    pool.ask("2", cost={TOKENS: 1001})
    failed = pool.answer("2")
    assert isinstance(failed, AllPoolMembersFailedError)
    assert failed.retry_after_s is None
    assert failed.reason == "it costs more than the rate limits of any member can hold"
    for name, most in (("a", "1,000"), ("b", "500")):
        assert error_of(pool, "2", name).kind is SkipReason.HEADROOM
        assert error_of(pool, "2", name).detail == (
            f"1,001 tokens are more than its limit of {most} per 60 s"
        )
    pool.ask("3", cost={TOKENS: 501})  # only a could, and can in a minute
    assert pool.phase("3") is JobPhase.QUEUED
    pool.succeed(pool.call())
    pool.pass_(60.0)
    assert given_to(pool) == [("3", "a")]


def test_what_costs_little_goes_on_while_what_costs_much_waits_and_keeps_its_turn() -> None:
    """Behaviour 294: who waits first has the headroom of the member that has it first; all other
    headroom is for whoever it suffices for.
    """
    pool = limited_world(a=[per_minute(1000, TOKENS)], b=[per_minute(600, TOKENS)])
    pool.ask("1", cost={TOKENS: 500})
    pool.ask("2", cost={TOKENS: 500})  # both to a
    pool.ask("3", cost={TOKENS: 550})
    assert given_to(pool) == [("1", "a"), ("2", "a"), ("3", "b")]
    pool.pass_(30.0)
    pool.ask("big", cost={TOKENS: 900})  # a alone can hold it, at 60
    assert pool.phase("big") is JobPhase.QUEUED
    spend(pool, pool.calls[0], tokens=100)  # a has 400 again, which are held
    pool.ask("4", cost={TOKENS: 200})
    pool.ask("5", cost={TOKENS: 40})
    assert given_to(pool)[2:] == [("5", "b")]
    pool.pass_(30.0)
    assert given_to(pool)[3:] == [("big", "a"), ("4", "b")]


def test_what_was_not_used_comes_back() -> None:
    """Behaviour 295: a call is settled by what its agent says, whether it succeeds, fails or was
    cancelled; one that has never begun has used nothing; of all others the estimate stays.
    """
    pool = limited_world(a=[per_minute(10), per_minute(1000, TOKENS)], config={"max_retries": 0})

    def after(request: str, **options: Any) -> Call:
        pool.ask(request, cost={TOKENS: 100}, **options)
        return pool.call()

    spend(pool, after("1"), tokens=40)
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (9, 960)
    spend(pool, after("2"), tokens=0, requests=0)
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (9, 960)
    pool.succeed(after("3"))
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (8, 860)
    pool.fail(after("4"))
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (7, 760)
    pool.fail(after("5"), spent={TOKENS: 10})
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (6, 750)
    pool.fail(after("6"), started=False)
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (6, 750)
    refuse(pool, after("7"))
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (6, 750)
    call = after("8")
    assert pool.flow.cancel("8")
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (5, 650)
    pool.fail(call, FailureKind.CANCELLED, spent={TOKENS: 70})
    assert (left(pool, "a"), left(pool, "a", TOKENS)) == (5, 680)
    spend(pool, after("9"), tokens=800)  # it was estimated too low
    assert left(pool, "a", TOKENS) == -120
    pool.ask("10", cost={TOKENS: 0})
    assert pool.phase("10") is JobPhase.QUEUED


def test_a_call_that_could_not_be_sent_has_used_nothing() -> None:
    """Behaviour 295: be it that its member is gone, or that something has raised on the way."""
    pool = limited_world(a=[per_minute(1)], b=[per_minute(1)])
    pool.gone.add("a")
    pool.ask("1")
    assert given_to(pool) == [("1", "b")]
    assert left(pool, "a") == 1
    pool.restart("a")
    pool.broken.add("a")
    pool.ask("2")
    assert left(pool, "a") == 1


def test_members_of_a_group_have_one_limit() -> None:
    """Behaviour 296: with two keys of one account neither gets what the other has used."""
    pool = limited_world(
        a=[per_minute(3, group="org")], b=[per_minute(3, group="org")], c=[per_minute(1)],
        strategy="round_robin",
    )  # fmt: skip
    for request in "12345":
        pool.ask(request)
    assert given_to(pool) == [("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")]
    assert (left(pool, "a"), left(pool, "b")) == (0, 0)
    pool.pass_(60.0)
    assert pool.phase("5") is JobPhase.RUNNING
    pool.change("b", limits=(per_minute(2, group="org"),))  # the smaller amount holds
    assert left(pool, "a") == 2 - 1 * (given_to(pool)[-1][1] in "ab")


def test_other_limits_keep_what_was_spent() -> None:
    """Behaviour 297: another amount, another window, a member that leaves and comes back."""
    pool = limited_world(a=[per_minute(3)], b=[])
    pool.ask("1")
    pool.ask("2")
    pool.change("a", limits=(per_minute(10),))
    assert left(pool, "a") == 8
    pool.change("a", limits=(Limit(2, per_s=120),))
    assert left(pool, "a") == 0
    route = pool.routes.pop("a")
    pool.snapshot()
    pool.pass_(50.0)
    pool.routes["a"] = route
    pool.change("a", index=7)
    assert left(pool, "a") == 0
    pool.change("a", limits=())
    pool.ask("3")
    assert all(slot.is_free for slot in pool.flow.table)


def test_a_hedge_and_a_trial_keep_to_the_limits() -> None:
    """Behaviour 298: whoever else works on a request has headroom for it, or does not begin."""
    pool = limited_world(
        a=[per_minute(5)], b=[per_minute(100, TOKENS)], c=[per_minute(5)],
        config={"hedge_after_s": 1.0},
    )  # fmt: skip
    pool.ask("1", cost={TOKENS: 101})
    pool.pass_(1.0)
    assert given_to(pool) == [("1", "a"), ("1", "c")]
    pool = limited_world(a=[per_minute(1, group="g")], b=[per_minute(1, group="g")])
    pool.change("a", circuit=CircuitState.HALF_OPEN, trial_permits=1, epoch=2)
    pool.ask("1")  # b has it, and with it the headroom of the trial
    assert given_to(pool) == [("1", "b")]
    pool.succeed(pool.call())
    pool.pass_(60.0)
    pool.change("b", limits=())
    pool.ask("2")
    assert given_to(pool) == [("2", "b"), ("2", "a")]
    assert left(pool, "a") == 0


def test_what_a_provider_says_holds_with_and_without_a_limit() -> None:
    """Behaviour 299: no more than is left is given to the member, less what has begun since; and
    what is back evenly where the whole is known.
    """
    pool = limited_world(a=[], b=[])
    pool.ask("1")
    pool.ask("2")
    see(pool, pool.calls[0], remaining=3, resets_in_s=30.0)
    assert left(pool, "a") == 2  # the second is not in it, maybe
    for request in "3456":
        pool.ask(request)
    assert [member for _, member in given_to(pool)] == ["a", "a", "a", "a", "b", "b"]
    pool.pass_(30.0)
    pool.ask("7")
    assert given_to(pool)[-1] == ("7", "a")

    pool = limited_world(a=[per_minute(60)])
    pool.ask("1")
    see(pool, pool.calls[0], remaining=0, resets_in_s=60.0, whole=60)
    pool.ask("2")
    assert pool.phase("2") is JobPhase.QUEUED
    pool.pass_(1.0)
    assert pool.phase("2") is JobPhase.RUNNING
    pool.flow.table.headroom.forget_learned("a", pool.now)
    assert left(pool, "a") == 58


def test_tokens_that_a_provider_says_are_left() -> None:
    """Behaviour 299: what the call itself took is in them already, and is not given back twice."""
    pool = limited_world(a=[per_minute(10_000, TOKENS)])
    pool.ask("1", cost={TOKENS: 5000})
    call = pool.call()
    see(pool, call, TOKENS, remaining=900, resets_in_s=50.0)
    spend(pool, call, tokens=100)
    assert left(pool, "a", TOKENS) == 900
    pool.ask("2", cost={TOKENS: 800})
    spend(pool, pool.call(), tokens=500)
    assert left(pool, "a", TOKENS) == 400


@pytest.mark.parametrize("strategy", ["failover", "consistent_hash", "weighted", "adaptive"])
def test_every_strategy_goes_on_to_who_has_headroom(strategy: str) -> None:
    """Behaviour 291: those that keep to a member, too."""
    pool = limited_world(strategy, a=[per_minute(1)], b=[per_minute(1)], c=[per_minute(1, TOKENS)])
    for request in "1234":
        pool.ask(request, key="k", cost={TOKENS: 1})
    assert sorted(member for _, member in given_to(pool)) == ["a", "b", "c"]
    assert pool.phase("4") is JobPhase.QUEUED
    pool.pass_(60.0)
    assert pool.phase("4") is JobPhase.RUNNING


def test_a_pick_among_a_hundred_members_with_limits_makes_no_call_more() -> None:
    """Behaviour 307: while there is headroom for every request so far, nobody is looked at."""

    def calls(limits: tuple[Limit, ...]) -> int:
        names = {f"m{n}": limits for n in range(100)}
        pool = limited_world("adaptive", **names)
        pool.ask("1", cost={TOKENS: 500})
        job = pool.flow.jobs["1"]
        count = 0

        def called(frame: object, event: str, arg: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(called)
        try:
            place = pool.flow._choice.place(job, pool.now)
        finally:
            sys.setprofile(None)
        assert isinstance(place, Slot)
        return count

    assert calls((per_minute(60), per_minute(90_000, TOKENS))) == calls(())


# -- an hour of everything at once, against a list of all that has begun


class Ledger:
    """All that has been sent to members, by the limits that it counts for: time and cost, each of
    which may become less.
    """

    def __init__(self, limits: Mapping[str, list[Limit]]) -> None:
        self.limits = limits
        self.begun: dict[tuple[str, str, float], list[list[float]]] = {}
        self.amounts: dict[tuple[str, str, float], int] = {}
        for name, each in limits.items():
            for limit in each:
                self.begun[self.key(name, limit)] = []
                self.amounts[self.key(name, limit)] = limit.amount

    def key(self, name: str, limit: Limit) -> tuple[str, str, float]:
        return limit.group or name, limit.cost, limit.per_s

    def begin(self, call: Call, now: float) -> list[tuple[str, list[float]]]:
        """What a call has taken: of which cost, and the entry."""
        taken = []
        for limit in self.limits[call.member]:
            cost = 1 if limit.cost == "requests" else (call.message.work.cost or {})[TOKENS]
            entry = [now, float(cost)]
            self.begun[self.key(call.member, limit)].append(entry)
            taken.append((limit.cost, entry))
        return taken

    def used(self, name: str, limit: Limit, now: float) -> float:
        recent = 0.0
        for at, cost in reversed(self.begun[self.key(name, limit)]):
            if at + limit.per_s <= now:
                break
            recent += cost
        return recent

    def holds(self, name: str, tokens: int, now: float) -> bool:
        return all(
            self.used(name, limit, now) + (1 if limit.cost == "requests" else tokens)
            <= limit.amount
            for limit in self.limits[name]
        )

    def check(self) -> None:
        """No window is over: where one is fullest, it ends with something that begins."""
        for key, entries in self.begun.items():
            first, total = 0, 0.0
            for at, cost in entries:
                total += cost
                while entries[first][0] + key[2] <= at:
                    total -= entries[first][1]
                    first += 1
                assert total <= self.amounts[key]


HOUR = {
    "a": [per_minute(60), per_minute(90_000, TOKENS)],
    "b": [Limit(20, per_s=10), per_minute(60_000, TOKENS, "org"), Limit(900, per_s=1800)],
    "c": [per_minute(60_000, TOKENS, "org")],
    "d": [Limit(1, per_s=1), per_minute(15_000, TOKENS)],
}


@settings(max_examples=3)
@given(st.integers(0, 2**32), st.sampled_from(["adaptive", "round_robin", "priority", "random"]))
def test_an_hour_of_64_callers_is_never_over_a_limit_and_loses_no_token(
    seed: int, strategy: str
) -> None:
    """Behaviour 300: costs from 1 to 20,000, cancels, failures and refusals at random: no limit is
    over in any window; what is used is, at every moment, what a list of all calls says; nobody
    waits whom a member with room and headroom could take; and all are answered once.
    """
    rng = random.Random(seed)
    pool = limited_world(strategy, config={"max_retries": 1, "retry_budget_floor": 1000.0}, **HOUR)
    for name in HOUR:
        pool.change(name, max_concurrency=rng.choice([2, 8, 64]))
    ledger = Ledger(HOUR)
    seen: dict[int, list[tuple[str, list[float]]]] = {}
    known: dict[int, Call] = {}
    asked, costs, end = 0, dict[str, int](), pool.now + 3600.0

    def book() -> None:
        for call in pool.calls:
            if id(call) not in known:
                known[id(call)] = call
                seen[id(call)] = ledger.begin(call, pool.now)

    def give_back(call: Call, to: Mapping[str, float]) -> None:
        for cost, entry in seen.pop(id(call)):
            entry[1] = to.get(cost, entry[1])

    def end_one(call: Call) -> None:
        tokens = (call.message.work.cost or {})[TOKENS]
        spent = {TOKENS: rng.randint(0, int(tokens))} if rng.random() < 0.6 else None
        if spent is not None and rng.random() < 0.1:
            spent["requests"] = 0
        how = rng.random()
        if how < 0.1:
            give_back(call, {TOKENS: 0, "requests": 0})
            refuse(pool, call)
        elif how < 0.3:
            give_back(call, spent or {})
            kind = rng.choice([FailureKind.UNAVAILABLE, FailureKind.UNKNOWN, FailureKind.CALLER])
            pool.calls.remove(call)
            error = ConnectionError("down")
            pool.flow.failed(
                Failed(kind=kind, error=error, elapsed_s=0.1, spent=spent, **call.about)
            )
            pool.settle()
        else:
            give_back(call, spent or {})
            pool.calls.remove(call)
            about = call.about
            pool.flow.succeeded(Succeeded(value="well", elapsed_s=0.1, spent=spent, **about))
            pool.settle()
        book()

    while pool.now < end:
        while len(pool.flow.jobs) < 64 and rng.random() < 0.7:
            asked += 1
            request = f"r{asked}"
            costs[request] = rng.choice([1, rng.randint(1, 2000), rng.randint(1, 20_000)])
            patience = rng.choice([None, 5.0, 40.0, 300.0])
            pool.ask(request, cost={TOKENS: costs[request]}, timeout=patience)
            book()
        for call in rng.sample(pool.calls, min(len(pool.calls), rng.randint(0, 16))):
            if call in pool.calls:
                end_one(call)
        if rng.random() < 0.1 and pool.flow.jobs:
            pool.flow.cancel(rng.choice(list(pool.flow.jobs)))
            pool.settle()
            book()
        pool.pass_(rng.choice([0.0, 0.1, 0.5, 1.0, 5.0, 7.0, rng.random() * 16]))
        book()
        if rng.random() < 0.7:
            continue
        for name, limits in HOUR.items():
            slot = pool.flow.table.get(name)
            assert slot is not None
            stats = pool.flow.table.headroom.stats(slot, pool.now)
            for limit in limits:
                (used,) = [
                    each.used
                    for each in stats
                    if (each.cost, each.per_s) == (limit.cost, limit.per_s)
                ]
                assert used == ledger.used(name, limit, pool.now)
        waiting = pool.flow.room.queue.first()
        if waiting is not None:
            for slot in pool.flow.table:
                able = slot.in_flight < slot.limit and not slot.failures_sent > slot.failures_seen
                if able and slot.name not in waiting.failures:
                    assert not ledger.holds(slot.name, costs[waiting.id], pool.now), waiting.id
    for _ in range(2000):
        if not pool.flow.jobs and not pool.calls:
            break
        while pool.calls:
            call = pool.calls[0]
            give_back(call, {})
            pool.succeed(call)
            book()
        pool.pass_(5.0)
        book()
    ledger.check()
    assert not pool.flow.jobs
    assert len(pool.answers) >= 0.8 * asked  # the others were cancelled
    assert all(len(each) == 1 for each in pool.answers.values())


def test_b299_a_reset_is_reckoned_from_when_it_was_said() -> None:
    """The answer may overtake it, and time pass, before it is read."""
    pool = World("a")
    pool.ask("1")
    call = pool.call()
    pool.pass_(15.0)
    seen = LimitsSeen(
        cost="requests", remaining=0, resets_in_s=20.0, at=pool.now - 15.0, **call.about
    )
    pool.flow.limits_seen(seen)
    slot = pool.flow.table.get("a")
    assert slot is not None
    (stats,) = pool.flow.table.headroom.stats(slot, pool.now)
    assert stats.refills_in_s == 5.0
