"""The router's routing table, the account that an error gives of it, and the outcome reporter."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from helpers_flow import Box, ports

from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.failure_report import account, all_failed, why_unroutable
from greenroom.actors.request.job import Attempt, Failure, Job
from greenroom.actors.request.outcome_reporter import BATCH, DELAY_S, OutcomeReporter
from greenroom.actors.routing.routing_table import NoPick, RoutingTable, Slot
from greenroom.actors.runtime.alarms import Alarms
from greenroom.actors.runtime.mailbox import Mailbox
from greenroom.actors.runtime.pool_actor import hand
from greenroom.actors.strategies import Candidate, PickContext, RoundRobin
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import AttemptError, StrategyError
from greenroom.messages.requests import Request
from greenroom.messages.status import CircuitState, FailureKind, SkipReason
from greenroom.messages.supervision import (
    AttemptOutcome,
    MemberRoute,
    RequestSettled,
    RoutingSnapshot,
    Successes,
)

NOW = 100.0
CONTEXT = PickContext(NOW)
POLICY = RetryPolicy.from_config(PoolConfig(retry_max_delay_s=1.0))
SOMEBODY = object()


def route(name: str, index: int = 0, **changes: Any) -> MemberRoute:
    fields: dict[str, Any] = {"incarnation": 1, "ref": SOMEBODY, "max_concurrency": 1, **changes}
    return MemberRoute(name, index=index, **fields)


def table_of(*routes: MemberRoute, strategy: Any = None) -> RoutingTable:
    table = RoutingTable(strategy or RoundRobin(), random.Random(7))
    table.apply(RoutingSnapshot(1, routes))
    return table


def slot_of(table: RoutingTable, name: str) -> Slot:
    slot = table.get(name)
    assert slot is not None
    return slot


def picked(table: RoutingTable, *tried: str, exhaustive: bool = False) -> str | NoPick:
    choice = table.pick(tried, CONTEXT, exhaustive)
    return choice.name if isinstance(choice, Slot) else choice


# -- snapshots


def test_only_a_newer_snapshot_is_taken_over() -> None:
    """One that arrives late, or twice, changes nothing."""
    table = RoutingTable(RoundRobin(), random.Random(7))
    assert table.apply(RoutingSnapshot(2, (route("new"),)))
    assert not table.apply(RoutingSnapshot(1, (route("old"),)))
    assert not table.apply(RoutingSnapshot(2, (route("again"),)))
    assert (table.names, table.epoch) == (("new",), 2)


def test_members_stand_in_the_configured_order_whatever_the_snapshots() -> None:
    """The order is that of the indices."""
    table = table_of(route("c", 2), route("a", 0), route("b", 1))
    assert table.names == ("a", "b", "c")
    assert len(table) == 3
    assert [slot.index for slot in table] == [0, 1, 2]


def test_a_member_keeps_its_slot_over_snapshots() -> None:
    """What is in flight and what is known of its speed outlives a change of its route."""
    table = table_of(route("a"))
    slot = slot_of(table, "a")
    slot.take()
    slot.load.succeeded(2.0, NOW)
    table.apply(RoutingSnapshot(2, (route("a", weight=3.0, priority=4, max_concurrency=5),)))
    assert slot_of(table, "a") is slot
    assert (slot.in_flight, slot.latency_s(NOW)) == (1, 2.0)
    assert (slot.weight, slot.priority, slot.max_concurrency) == (3.0, 4, 5)


def test_a_new_incarnation_starts_with_nothing_in_flight() -> None:
    """Its slots, and the failures that are still to be judged, are the old incarnation's."""
    table = table_of(route("a"))
    slot = slot_of(table, "a")
    slot.take()
    slot.failure_sent()
    slot.failure_sent()
    table.apply(RoutingSnapshot(2, (route("a", incarnation=2),)))
    assert (slot.in_flight, slot.failures_sent, slot.skip_reason()) == (0, 0, None)


def test_a_member_that_was_removed_and_added_again_is_a_new_one() -> None:
    """The same name at another place of the order shares nothing with the old one."""
    table = table_of(route("a", 0))
    slot_of(table, "a").take()
    table.apply(RoutingSnapshot(2, (route("a", 1),)))
    assert slot_of(table, "a").in_flight == 0


def test_who_has_left_is_unknown() -> None:
    """Neither listed nor found."""
    table = table_of(route("a", 0), route("b", 1))
    table.apply(RoutingSnapshot(2, (route("b", 1),)))
    assert (table.get("a"), table.names) == (None, ("b",))


def test_the_strategy_is_told_of_members_only_when_they_change() -> None:
    """At the start, and whenever somebody comes or goes."""

    class Told(RoundRobin):
        told: list[tuple[str, ...]] = []  # noqa: RUF012

        def members_changed(self, names: Sequence[str]) -> None:
            self.told.append(tuple(names))

    table = table_of(route("a", 0), strategy=Told())
    table.apply(RoutingSnapshot(2, (route("a", 0, weight=2.0),)))
    table.apply(RoutingSnapshot(3, (route("a", 0), route("b", 1))))
    table.apply(RoutingSnapshot(4, (route("b", 1),)))
    assert Told.told == [("a",), ("a", "b"), ("b",)]


# -- why nothing can be sent


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"blocked": SkipReason.CIRCUIT_OPEN}, SkipReason.CIRCUIT_OPEN),
        ({"blocked": SkipReason.DRAINING}, SkipReason.DRAINING),
        ({"ref": None}, SkipReason.STARTING),
        ({"trial_permits": 0}, SkipReason.TRIAL_RUNNING),
        ({"trial_permits": 1}, None),
    ],
)
def test_a_slot_says_why_it_can_take_nothing(
    changes: dict[str, Any], reason: SkipReason | None
) -> None:
    """None means that it can."""
    assert slot_of(table_of(route("a", **changes)), "a").skip_reason() is reason


def test_a_full_member_is_saturated_until_a_slot_is_free() -> None:
    """Up to `max_concurrency` calls, not one more."""
    table = table_of(route("a", max_concurrency=2))
    slot = slot_of(table, "a")
    seen = []
    for change in (slot.take, slot.take, slot.take, slot.give_back, slot.give_back):
        seen.append((picked(table), table.has_room()))
        change()
    seen.append((picked(table), table.has_room()))
    free, full = ("a", True), (NoPick.BUSY, False)
    assert seen == [free, free, full, full, full, free]


def test_a_failure_on_its_way_to_the_supervisor_keeps_its_member_back() -> None:
    """Until it has been judged, another member is preferred, and without one the request waits."""
    table = table_of(route("a", 0, max_concurrency=9), route("b", 1, max_concurrency=9))
    slot_of(table, "a").failure_sent()
    assert [picked(table) for _ in range(3)] == ["b", "b", "b"]
    slot_of(table, "b").failure_sent()
    assert picked(table) is NoPick.BUSY
    slot_of(table, "a").failures_judged(1)
    assert picked(table) == "a"


# -- permits


def trial(permits: int, epoch: int = 2) -> MemberRoute:
    return route(
        "a",
        circuit=CircuitState.HALF_OPEN,
        epoch=epoch,
        trial_permits=permits,
        max_concurrency=9,
    )


def test_permits_are_a_running_total() -> None:
    """A snapshot that crosses with a trial on its way cannot make the router spend it twice."""
    table = table_of(trial(1))
    slot = slot_of(table, "a")
    assert slot.is_trial
    slot.take()
    slot.trial_started()
    assert picked(table) is NoPick.UNROUTABLE
    table.apply(RoutingSnapshot(2, (trial(1),)))  # sent before the supervisor heard of the trial
    assert picked(table) is NoPick.UNROUTABLE
    table.apply(RoutingSnapshot(3, (trial(2),)))  # the trial has reported
    assert picked(table) == "a"
    slot.trial_started()
    assert picked(table) is NoPick.UNROUTABLE


def test_a_trial_that_is_over_is_waited_for_until_it_is_judged() -> None:
    """The supervisor's word on it is on its way: nobody need be refused meanwhile."""
    table = table_of(trial(1))
    slot_of(table, "a").trial_started()
    assert picked(table) is NoPick.BUSY
    table.apply(RoutingSnapshot(2, (route("a", blocked=SkipReason.CIRCUIT_OPEN),)))
    assert picked(table) is NoPick.UNROUTABLE


def test_permits_are_counted_anew_in_every_epoch_of_the_breaker() -> None:
    """A second half-open period grants its own."""
    table = table_of(trial(1, epoch=2))
    slot_of(table, "a").trial_started()
    table.apply(RoutingSnapshot(2, (trial(1, epoch=4),)))
    assert (picked(table), slot_of(table, "a").trials_started) == ("a", 0)


def test_a_closed_breaker_rations_nothing() -> None:
    """Without permits a member is no trial."""
    slot = slot_of(table_of(route("a")), "a")
    for _ in range(7):
        slot.trial_started()
    assert (slot.is_trial, slot.skip_reason()) == (False, None)


# -- the choice


def test_the_untried_come_first_and_are_waited_for() -> None:
    """A tried member is picked again only when no untried one is free or will be."""
    table = table_of(route("a", 0), route("b", 1))
    assert picked(table, "a") == "b"
    slot_of(table, "b").take()
    assert picked(table, "a") is NoPick.BUSY
    table.apply(RoutingSnapshot(2, (route("a", 0), route("b", 1, blocked=SkipReason.GAVE_UP))))
    assert picked(table, "a") == "a"


def test_an_exhaustive_strategy_tries_nobody_twice() -> None:
    """Neither at once nor by waiting for one that was tried."""
    table = table_of(route("a", 0), route("b", 1))
    assert picked(table, "a", "b", exhaustive=True) is NoPick.UNROUTABLE
    slot_of(table, "a").take()
    assert picked(table, "a", "b", exhaustive=True) is NoPick.UNROUTABLE
    assert picked(table, "a", "b") == "b"


def test_with_everybody_tried_a_busy_one_is_waited_for() -> None:
    """The retry goes to whoever is free first."""
    table = table_of(route("a", 0))
    slot_of(table, "a").take()
    assert picked(table, "a") is NoPick.BUSY


def test_a_pool_without_members_has_nobody() -> None:
    """Neither now nor later."""
    table = RoutingTable(RoundRobin(), random.Random(7))
    assert (picked(table), table.has_room(), table.could_take(())) == (
        NoPick.UNROUTABLE,
        False,
        False,
    )


def test_who_could_take_a_retry() -> None:
    """An untried member that is free, or that is only busy; not one that is out."""
    table = table_of(
        route("tried", 0), route("busy", 1), route("open", 2, blocked=SkipReason.CIRCUIT_OPEN)
    )
    slot_of(table, "busy").take()
    assert table.could_take(["tried"])
    assert not table.could_take(["tried", "busy"])


def test_the_earliest_reopening_is_the_first_that_anybody_names() -> None:
    """None when nobody does."""
    out = SkipReason.CIRCUIT_OPEN
    table = table_of(
        route("a", 0, blocked=out, reopens_at=120.0),
        route("b", 1, blocked=out, reopens_at=110.0),
        route("c", 2, blocked=out),
    )
    assert table.earliest_reopening() == 110.0
    assert table_of(route("a")).earliest_reopening() is None


# -- strategies that misbehave


class Broken:
    """A user's strategy that does in `pick` whatever the test says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "answer", [ZeroDivisionError("x"), SystemExit(1), KeyboardInterrupt(), "b", 7, object()]
)
def test_a_strategy_that_raises_or_names_a_stranger_is_reported_as_such(answer: Any) -> None:
    """Whatever it raises, the router gets a `StrategyError`, with the cause where there is one."""
    with pytest.raises(StrategyError) as caught:
        picked(table_of(route("a"), strategy=Broken(answer)))
    expected = answer if isinstance(answer, BaseException) else None
    assert caught.value.__cause__ is expected


def test_a_slot_that_is_no_candidate_is_a_stranger_too() -> None:
    """A strategy that remembers a slot cannot send it more than it takes."""
    strategy = Broken(None)
    table = table_of(route("a", 0), route("b", 1), strategy=strategy)
    strategy.answer = slot_of(table, "a")
    slot_of(table, "a").take()
    with pytest.raises(StrategyError, match="candidates"):
        picked(table)


def test_a_strategy_may_want_none_of_them() -> None:
    """None means: nobody, unless a busy member may be more to its liking."""
    table = table_of(route("a", 0), route("b", 1), strategy=Broken(None))
    assert picked(table) is NoPick.UNROUTABLE
    slot_of(table, "b").take()
    assert picked(table) is NoPick.BUSY


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SystemExit(1)])
def test_hooks_of_a_strategy_that_raise_cost_nobody_anything(error: BaseException) -> None:
    """`record` and `members_changed` inform the strategy: its trouble with them is its own."""

    class BrokenHooks(RoundRobin):
        def record(self, name: str, succeeded: bool) -> None:
            raise error

        def members_changed(self, names: Sequence[str]) -> None:
            raise error

    table = table_of(route("a", 0), strategy=BrokenHooks())
    assert table.apply(RoutingSnapshot(2, (route("a", 0), route("b", 1))))
    table.record("a", False)
    assert table.names == ("a", "b")


# -- the account of a failure


def tried(name: str, index: int) -> AttemptError:
    return AttemptError(name, index, FailureKind.UNKNOWN, ValueError(name), 1.0)


def entries(attempts: list[AttemptError], table: RoutingTable) -> list[tuple[str, str]]:
    return [(each.member, str(each.kind)) for each in account(attempts, table, NOW)]


def test_an_account_lists_the_tried_in_the_order_of_their_tries() -> None:
    """Not in the configured order."""
    table = table_of(*(route(name, index) for index, name in enumerate("abc")))
    order = [tried("c", 2), tried("a", 0), tried("b", 1)]
    assert [name for name, _ in entries(order, table)] == ["c", "a", "b"]


def test_an_account_puts_the_skipped_where_they_were_passed_over() -> None:
    """A skipped member stands before the first tried one that follows it, else at the end."""
    out = SkipReason.CIRCUIT_OPEN
    table = table_of(
        route("a", 0, blocked=out),
        route("b", 1),
        route("c", 2, blocked=SkipReason.GAVE_UP),
        route("d", 3),
        route("e", 4, blocked=out),
    )
    assert entries([tried("b", 1), tried("d", 3)], table) == [
        ("a", "circuit_open"),
        ("b", "unknown"),
        ("c", "gave_up"),
        ("d", "unknown"),
        ("e", "circuit_open"),
    ]


def test_an_account_says_when_a_skipped_member_may_be_back() -> None:
    """And why one that was free was passed over: the strategy did not want it."""
    table = table_of(
        route("a", 0, blocked=SkipReason.CIRCUIT_OPEN, reopens_at=NOW + 12.0), route("b", 1)
    )
    first, second = account([], table, NOW)
    assert (first.skipped, first.detail, first.elapsed_s, first.attempts) == (
        True,
        "back in 12.0 s",
        0.0,
        0,
    )
    assert (second.kind, second.detail) == (SkipReason.EXCLUDED, "")


def test_an_account_keeps_a_tried_member_that_has_left() -> None:
    """What was tried was tried; who left untried is not mentioned."""
    table = table_of(route("b", 1))
    assert entries([tried("gone", 0)], table) == [("gone", "unknown"), ("b", "excluded")]


def test_the_error_of_a_request_names_every_member_and_the_next_chance() -> None:
    """All members in order, what became of each, and seconds until the first may be back."""
    table = table_of(
        route("a", 0), route("b", 1, blocked=SkipReason.CIRCUIT_OPEN, reopens_at=NOW + 3.0)
    )
    request = job("r")
    request.failed(attempt(request, "a"), Failure(FailureKind.TIMEOUT, TimeoutError("slow"), 1.0))
    error = all_failed("writers", request, table, "why", NOW)
    assert (error.pool_name, error.member_names, error.reason) == ("writers", ("a", "b"), "why")
    assert [entry.member for entry in error.errors] == ["a", "b"]
    assert error.retry_after_s == 3.0
    assert str(error.__cause__) == "slow"


def test_why_a_request_found_nobody() -> None:
    """No members, nobody available, or nobody before the deadline."""
    empty = RoutingTable(RoundRobin(), random.Random(7))
    out = table_of(route("a", blocked=SkipReason.CIRCUIT_OPEN, reopens_at=NOW + 9.0))
    silent = table_of(route("a", blocked=SkipReason.GAVE_UP))
    hurried = job("r", deadline=NOW + 2.0)
    assert why_unroutable(job("r"), empty, False, NOW) == "the pool has no members"
    assert why_unroutable(job("r"), out, False, NOW) == "no member is available"
    assert why_unroutable(job("r"), silent, True, NOW) == (
        "no member is available, and none says when it will be"
    )
    assert why_unroutable(hurried, out, True, NOW) == (
        "no member is available before the deadline: the first in 9.0 s, 2.0 s left"
    )


def test_the_last_failure_of_a_member_counts_and_the_first_gives_the_order() -> None:
    """A member that was tried twice has one entry, with the number of its attempts."""
    request = job("r")
    request.failed(attempt(request, "a"), Failure(FailureKind.UNKNOWN, ValueError("first"), 1.0))
    request.failed(attempt(request, "b"), Failure(FailureKind.UNKNOWN, ValueError("other"), 1.0))
    request.failed(attempt(request, "a"), Failure(FailureKind.TIMEOUT, ValueError("second"), 2.0))
    listed = [(e.member, str(e.error), e.attempts, e.elapsed_s) for e in request.failures.values()]
    assert listed == [("a", "second", 2, 2.0), ("b", "other", 1, 1.0)]


# -- the outcome reporter


class Supervisor:
    """Takes what it is told."""

    def __init__(self, alive: bool = True) -> None:
        self.actor_stopped = threading.Event()
        self.actor_inbox = Mailbox()
        self._batches: list[tuple[AttemptOutcome | Successes, ...]] = []
        if not alive:
            self.actor_stopped.set()

    @property
    def batches(self) -> list[tuple[AttemptOutcome | Successes, ...]]:
        while not self.actor_inbox.empty():
            self._batches.append(self.actor_inbox.get().message.batch)
        return self._batches

    @property
    def told(self) -> list[list[float | str]]:
        """Batch by batch: the times of ordinary successes, the ids of whatever else it was."""
        return [[each for entry in batch for each in _told(entry)] for batch in self.batches]

    @property
    def outcomes(self) -> list[AttemptOutcome]:
        return [
            each for batch in self.batches for each in batch if isinstance(each, AttemptOutcome)
        ]


def _told(entry: AttemptOutcome | Successes) -> tuple[float | str, ...]:
    return entry.at if isinstance(entry, Successes) else (entry.request_id,)


def reporter_to(
    supervisor: Supervisor, config: PoolConfig | None = None
) -> tuple[OutcomeReporter, Alarms]:
    alarms = Alarms(Box())
    to_it = ports(alarms, report=lambda outcomes: hand(cast(Any, supervisor), outcomes))
    outcome_reporter = OutcomeReporter(to_it, config or PoolConfig())
    return outcome_reporter, alarms


def job(name: str, deadline: float | None = None) -> Job:
    return Job(name, Request(name), None, NOW, deadline, POLICY)


def attempt(of: Job, member: str = "a", trial: bool = False, incarnation: int = 1) -> Attempt:
    ticket = (of.id, of.attempts)
    return Attempt(of, member, 0, incarnation, 5, trial, NOW, ticket=ticket)


def fail(
    outcome_reporter: OutcomeReporter, name: str, slot: Slot | None = None, incarnation: int = 1
) -> None:
    of = attempt(job(name), incarnation=incarnation)
    failure = Failure(FailureKind.UNKNOWN, ValueError(name), 0.5, 3.0)
    outcome_reporter.failed(of, slot, failure, failure.elapsed_s, NOW)


def test_successes_are_sent_in_batches() -> None:
    """A full batch goes at once; what is left of it after a tenth of a second."""
    supervisor = Supervisor()
    outcome_reporter, alarms = reporter_to(supervisor)
    for number in range(BATCH + 2):
        outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW + number / 1e6)
    assert supervisor.told == [[NOW + number / 1e6 for number in range(BATCH)]]
    alarms.run_due(NOW + DELAY_S)  # that of the first batch
    assert len(supervisor.told) == 1
    alarms.run_due(NOW + BATCH / 1e6 + DELAY_S)
    assert supervisor.told[1:] == [[NOW + number / 1e6 for number in (BATCH, BATCH + 1)]]
    assert len(alarms) == 0


def test_the_end_of_a_request_comes_behind_the_success_that_ended_it() -> None:
    """Both wait for company; the supervisor judges by the success first, as it came first."""
    supervisor = Supervisor()
    outcome_reporter, alarms = reporter_to(supervisor)
    outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW)
    outcome_reporter.settled(RequestSettled(request_id="x"), True, NOW)
    outcome_reporter.succeeded(attempt(job("y")), 0.5, NOW)
    assert supervisor.batches == []
    alarms.run_due(NOW + DELAY_S)
    ((*batch,),) = supervisor.batches
    assert [type(each) for each in batch] == [Successes, RequestSettled, Successes]


def test_failures_of_a_member_whose_breaker_is_disabled_wait_for_company() -> None:
    """Nothing is decided by them, and nobody waits for them to be judged."""
    supervisor = Supervisor()
    outcome_reporter, alarms = reporter_to(supervisor)
    slot = Slot(route("a", circuit=CircuitState.DISABLED))
    for number in range(BATCH - 1):
        fail(outcome_reporter, str(number), slot)
        assert slot.is_free
    assert supervisor.batches == []
    fail(outcome_reporter, "last", slot)
    ((*batch,),) = supervisor.batches
    assert [cast(AttemptOutcome, each).number for each in batch] == [0] * BATCH
    fail(outcome_reporter, "one more", slot)
    outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW)
    alarms.run_due(NOW + DELAY_S)
    assert [type(each) for each in supervisor.batches[1]] == [AttemptOutcome, Successes]
    assert len(alarms) == 0


def test_batches_that_fill_quickly_share_an_alarm() -> None:
    """Nothing is set or called off for each of them."""
    supervisor = Supervisor()
    outcome_reporter, alarms = reporter_to(supervisor)
    for _ in range(3 * BATCH):
        outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW)
        assert len(alarms) == 1
    alarms.run_due(NOW + DELAY_S)
    assert (len(supervisor.told), len(alarms)) == (3, 0)


def test_ordinary_successes_of_a_member_are_one_entry() -> None:
    """With the times of each, in order; another epoch or incarnation of it is another entry."""
    supervisor = Supervisor()
    outcome_reporter, _ = reporter_to(supervisor)
    for i, (member, incarnation) in enumerate([("a", 1), ("b", 1), ("a", 1), ("a", 2), ("a", 1)]):
        outcome_reporter.succeeded(
            attempt(job("x"), member, incarnation=incarnation), i / 10, NOW + i
        )
    outcome_reporter.flush()
    ((*batch,),) = supervisor.batches

    def run(member: str, incarnation: int, *numbers: int) -> Successes:
        at, elapsed_s = zip(*((NOW + i, i / 10) for i in numbers), strict=True)
        return Successes(member, incarnation=incarnation, epoch=5, at=at, elapsed_s=elapsed_s)

    assert [each for each in batch if each.member == "a"] == [
        run("a", 1, 0, 2),
        run("a", 2, 3),
        run("a", 1, 4),
    ]
    assert [each for each in batch if each.member == "b"] == [run("b", 1, 1)]


def test_a_failure_goes_at_once_behind_the_successes_before_it() -> None:
    """The order is kept: the supervisor decides as if it had seen each one at once."""
    supervisor = Supervisor()
    outcome_reporter, alarms = reporter_to(supervisor)
    outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW)
    outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW + 1.0)
    fail(outcome_reporter, "c")
    assert supervisor.told == [[NOW, NOW + 1.0, "c"]]
    assert supervisor.outcomes[0].kind is FailureKind.UNKNOWN
    outcome_reporter.succeeded(attempt(job("x")), 0.5, NOW + 2.0)
    alarms.run_due(NOW + 2.0 + DELAY_S)
    assert supervisor.told[1:] == [[NOW + 2.0]]


def test_the_end_of_a_trial_and_a_slow_call_go_at_once() -> None:
    """Both may change a breaker's state."""
    supervisor = Supervisor()
    config = PoolConfig(circuit_slow_call_s=2.0, circuit_slow_rate=0.5)
    outcome_reporter, _ = reporter_to(supervisor, config)
    outcome_reporter.succeeded(attempt(job("slow enough not to be")), 2.0, NOW)
    assert supervisor.told == []
    outcome_reporter.succeeded(attempt(job("slow")), 2.1, NOW)
    outcome_reporter.succeeded(attempt(job("trial"), trial=True), 0.5, NOW)
    assert supervisor.told == [[NOW, "slow"], ["trial"]]


def test_an_attempt_that_says_nothing_is_sent_only_to_give_its_permit_back() -> None:
    """A cancelled call is no outcome; a cancelled trial frees its permit."""
    supervisor = Supervisor()
    outcome_reporter, _ = reporter_to(supervisor)
    outcome_reporter.ignored(attempt(job("ordinary")), NOW)
    outcome_reporter.flush()
    assert supervisor.batches == []
    outcome_reporter.ignored(attempt(job("trial"), trial=True), NOW + 2.0)
    (outcome,) = supervisor.outcomes
    assert (outcome.kind, outcome.elapsed_s) == (FailureKind.CANCELLED, 2.0)


def test_failures_are_numbered_by_incarnation() -> None:
    """The number comes back when it has been judged; one of an older incarnation has none."""
    supervisor = Supervisor()
    outcome_reporter, _ = reporter_to(supervisor)
    slot = Slot(route("a", incarnation=2, max_concurrency=9))
    fail(outcome_reporter, "x", slot, incarnation=2)
    fail(outcome_reporter, "y", slot, incarnation=1)
    fail(outcome_reporter, "z", slot, incarnation=2)
    fail(outcome_reporter, "gone", None)
    assert [outcome.number for outcome in supervisor.outcomes] == [1, 0, 2, 0]
    assert (slot.failures_sent, slot.skip_reason()) == (2, SkipReason.SATURATED)


def test_an_outcome_says_all_that_a_breaker_needs_and_no_payload() -> None:
    """Member, incarnation, epoch, attempt, times, kind, one line of the error, Retry-After."""
    supervisor = Supervisor()
    outcome_reporter, _ = reporter_to(supervisor)
    fail(outcome_reporter, "secret", incarnation=3)
    (outcome,) = supervisor.outcomes
    assert outcome == AttemptOutcome(
        member="a",
        incarnation=3,
        epoch=5,
        request_id="secret",
        attempt=0,
        at=NOW,
        elapsed_s=0.5,
        kind=FailureKind.UNKNOWN,
        error="ValueError: secret",
        retry_after_s=3.0,
    )


def test_a_supervisor_that_has_ended_is_no_error() -> None:
    """The pool is stopping: nobody needs the outcomes any more."""
    outcome_reporter, _ = reporter_to(Supervisor(alive=False))
    fail(outcome_reporter, "x")
    outcome_reporter.succeeded(attempt(job("y"), trial=True), 0.5, NOW)
