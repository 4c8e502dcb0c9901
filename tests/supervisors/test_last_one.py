"""The last one stays: who is tried though its breaker is open, since nobody else is left."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from helpers_load import ask_at, error_of, pass_time, settled
from helpers_pools import echo, pool_of, ranked
from hypothesis import given
from hypothesis import strategies as st
from test_supervisor_parts import World

from greenroom import CircuitState, FailureKind, Member, PoolConfig
from greenroom.events import BreakerClosed, BreakerHalfOpened, BreakerKept, BreakerOpened
from greenroom.messages import AttemptOutcome, Outcomes, SkipReason, Successes
from greenroom.messages.supervision import TrialStarted
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy
from greenroom.supervisors.policy.open_share import Standing, let_in, most_out
from greenroom.testing import EventRecorder, FakeClock, http_error

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN = CircuitState.FORCED_OPEN
UNAVAILABLE = FailureKind.UNAVAILABLE


# -- how many may be out, and who is let in


@pytest.mark.parametrize(
    ("members", "share", "most"),
    [
        (1, None, 1),  # the only one of a pool: its breaker opens
        (2, None, 1),
        (5, None, 4),
        (0, None, 0),
        (1, 0.5, 0),
        (3, 2 / 3, 2),
        (3, 0.66, 1),
        (4, 1.0, 4),
        (4, 0.0, 0),
    ],
)
def test_b281_how_many_may_be_out(members: int, share: float | None, most: int) -> None:
    """All but one by default; a share is rounded down, but not by a rounding error."""
    assert most_out(members, share) == most


def test_b281_the_least_bad_is_let_in() -> None:
    """Who has opened the fewest times in a row, then who has answered last, then in order."""
    bad = Standing(True, True, 2, 99.0, 0)
    silent = Standing(True, True, 1, None, 1)
    old = Standing(True, True, 1, 10.0, 2)
    late = Standing(True, True, 1, 20.0, 3)
    barred = Standing(True, False, 0, 99.0, 4)
    everybody = [bad, silent, old, late, barred]
    assert let_in(everybody, None) == [late]
    assert let_in(everybody, 0.2) == [late, old, silent, bad]
    assert let_in([barred, barred], None) == []


@given(
    members=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=8),
    share=st.none() | st.floats(0.0, 1.0),
)
def test_b281_never_more_are_let_in_than_are_too_many(
    members: list[tuple[bool, bool, int]], share: float | None
) -> None:
    """Only of those that are out and may be tried; as many as are too many, if there are."""
    standings = [Standing(out, may, n, None, i) for i, (out, may, n) in enumerate(members)]
    chosen = let_in(standings, share)
    able = [each for each in standings if each.out and each.may_stay]
    too_many = sum(each.out for each in standings) - most_out(len(standings), share)
    assert len(chosen) == max(0, min(too_many, len(able)))
    assert all(each in able for each in chosen)


# -- a breaker that is tried before its time


class Bench:
    """A breaker that is open for 5 s, and its clock."""

    def __init__(self, kind: FailureKind = UNAVAILABLE, **outcome: Any) -> None:
        policy = BreakerPolicy.from_config(PoolConfig(circuit_failure_threshold=1))
        self.breaker = Breaker(policy, random.Random(1))
        self.now = 100.0
        self.record(kind, **outcome)
        assert self.breaker.state is OPEN

    def record(self, kind: FailureKind | None = None, **outcome: Any) -> Any:
        return self.breaker.record(self.breaker.epoch, self.now, kind=kind, **outcome)

    def try_early(self) -> Any:
        return self.breaker.try_early(self.now)


def test_b282_an_early_trial_is_one_call_whatever_the_permits() -> None:
    """`half_open_permits` are for a trial that has come in its time."""
    policy = BreakerPolicy.from_config(PoolConfig(circuit_failure_threshold=1, half_open_permits=5))
    breaker = Breaker(policy, random.Random(1))
    breaker.record(1, 0.0, kind=UNAVAILABLE)
    breaker.try_early(0.0)
    assert (breaker.state, breaker.trial_credit, breaker.is_early) == (HALF_OPEN, 1, True)
    assert breaker.acquire(0.0) is not None
    assert breaker.acquire(0.0) is None


def test_b282_one_that_fails_leaves_the_opening_as_it_was() -> None:
    """However often: it ends when it was to end, and the next one lasts no longer by it."""
    bench = Bench()
    until = bench.breaker.reopens_at
    for _ in range(10):
        bench.now += 0.1
        bench.try_early()
        transition = bench.record(UNAVAILABLE, request=7)
        assert (transition.after, transition.goes_on) == (OPEN, True)
        assert (bench.breaker.reopens_at, bench.breaker.openings) == (until, 1)
    assert until is not None
    bench.breaker.tick(until)
    assert (bench.breaker.state, bench.breaker.is_early) == (HALF_OPEN, False)


def test_b282_one_that_succeeds_closes_it_at_once() -> None:
    """What was waiting for it is let in step by step anyway."""
    bench = Bench()
    bench.try_early()
    assert bench.record().after is CLOSED
    assert (bench.breaker.tried, bench.breaker.openings) == (True, 0)


def test_b282_one_that_fails_when_the_opening_would_be_over_opens_it_anew() -> None:
    """It has come in its time by then, and counts as any other trial."""
    bench = Bench()
    bench.try_early()
    bench.now += 6.0
    transition = bench.record(UNAVAILABLE)
    assert (transition.after, transition.goes_on, bench.breaker.openings) == (OPEN, False, 2)


def test_b282_what_does_not_pass_by_itself_is_not_tried_early() -> None:
    """A key that is not valid, an account that is empty: nobody else's network is the reason."""
    bench = Bench(FailureKind.AUTH)
    assert (bench.breaker.may_try_early(bench.now), bench.try_early()) == (False, None)
    other = Bench()
    other.try_early()
    other.record(FailureKind.AUTH)
    assert not other.breaker.may_try_early(other.now)
    assert other.breaker.openings == 2


def test_b282_a_retry_after_is_kept() -> None:
    """Until it is over; what is learned of it while it is open counts as well."""
    bench = Bench(retry_after_s=2.0)
    assert (bench.try_early(), bench.breaker.early_from(bench.now)) == (None, 102.0)
    bench.now = 102.0
    assert bench.breaker.early_from(bench.now) is None
    bench.try_early()
    bench.record(UNAVAILABLE, retry_after_s=1.0)
    assert bench.try_early() is None
    bench.now = 103.0
    assert bench.try_early() is not None


def test_b282_a_request_at_fault_is_taken_back_from_an_early_trial() -> None:
    """It has made no opening that could be undone; what opened the breaker can."""
    bench = Bench(request=1)
    bench.try_early()
    bench.record(UNAVAILABLE, request=2)
    assert bench.breaker.retract(2, bench.now) is None
    assert (bench.breaker.state, bench.breaker.openings) == (OPEN, 1)
    assert bench.breaker.retract(1, bench.now) is not None
    assert bench.breaker.state is CLOSED


# -- the supervisor


def world_of(*names: str, config: dict[str, Any] | None = None, probe: Any = None) -> World:
    return World(*(Member(name, echo, probe=probe) for name in names), config=config)


def fail(world: World, name: str, kind: FailureKind | None = UNAVAILABLE, **more: Any) -> None:
    """A call of a request of its own ends so."""
    world.requests += 1
    outcome = AttemptOutcome(
        member=name,
        incarnation=1,
        epoch=world.records[name].breaker.epoch,
        request_id="" if kind is None else f"r{world.requests}",
        attempt=1,
        at=world.now,
        elapsed_s=0.1,
        kind=kind,
        **more,
    )
    world.judge.take_in(Outcomes((outcome,)))


def open_up(world: World, *names: str) -> None:
    """Have their breakers open, for what cannot be taken back."""
    for name in names:
        record = world.records[name]
        for _ in range(3):
            transition = record.breaker.record(record.breaker.epoch, world.now, kind=UNAVAILABLE)
        world.judge.announce(record, transition)
        world.routes.publish(record)


def states(world: World) -> list[CircuitState]:
    return [record.breaker.state for record in world.records.values()]


def kept(world: World) -> list[str | None]:
    return [each.member for each in world.events if isinstance(each, BreakerKept)]


def test_b281_the_last_one_is_tried_one_request_at_a_time() -> None:
    """As soon as it is the last one; the router has one permit, and the app one event."""
    world = world_of("a", "b", "c")
    open_up(world, "a", "b")
    assert (states(world), kept(world)) == ([OPEN, OPEN, CLOSED], [])
    open_up(world, "c")
    assert (states(world), kept(world)) == ([HALF_OPEN, OPEN, OPEN], ["a"])
    assert world.route("a").trial_permits == 1
    assert world.route("b").blocked is SkipReason.CIRCUIT_OPEN
    changed = world.snapshots()[-1]
    assert {route.name for route in changed.members} == {"c", "a"}


def test_b281_they_take_turns() -> None:
    """Who has failed a trial is no better than the others; nothing more is told of it."""
    world = world_of("a", "b")
    fail(world, "b", None)
    world.now += 1.0
    open_up(world, "a", "b")
    assert states(world) == [OPEN, HALF_OPEN]  # it has answered, and the other has not
    told = len(world.events)
    for _ in range(5):
        fail(world, "b")
        assert states(world) == [OPEN, HALF_OPEN]
    assert len(world.events) == told
    assert [record.breaker.openings for record in world.records.values()] == [1, 1]


def test_b281_when_somebody_answers_again_the_others_are_tried_too() -> None:
    """What they had in common is over, most likely. One trial each, and no opening is longer by
    it.
    """
    world = world_of("a", "b", "c")
    open_up(world, "a", "b", "c")
    until = world.records["b"].breaker.reopens_at
    world.events.clear()
    fail(world, "a", None)
    assert states(world) == [CLOSED, HALF_OPEN, HALF_OPEN]
    told = [each.name for each in world.events if each.name.startswith("breaker.")]
    assert told == ["breaker.closed", "breaker.half_open", "breaker.half_open"]
    fail(world, "b")
    assert (states(world), world.records["b"].breaker.reopens_at) == (
        [CLOSED, OPEN, HALF_OPEN],
        until,
    )


def test_b281_what_is_out_for_good_stays_out() -> None:
    """All keys invalid: nobody is tried before the time."""
    world = world_of("a", "b")
    fail(world, "a", FailureKind.AUTH, opens_at_once=True)
    fail(world, "b", FailureKind.QUOTA, opens_at_once=True)
    assert (states(world), kept(world)) == ([OPEN, OPEN], [])


def test_b281_next_to_one_that_is_out_for_good_the_other_stays() -> None:
    """A key that is not valid leaves the house to the other, however that fails."""
    world = world_of("a", "b")
    fail(world, "a", FailureKind.AUTH, opens_at_once=True)
    open_up(world, "b")
    assert (states(world), kept(world)) == ([OPEN, HALF_OPEN], ["b"])


def test_b281_by_hand_is_by_hand() -> None:
    """Who was forced open stays out, and counts as out."""
    world = world_of("a", "b")
    record = world.records["a"]
    world.judge.announce(record, record.breaker.force_open(world.now))
    world.routes.publish(record)
    open_up(world, "b")
    assert (states(world), kept(world)) == ([FORCED_OPEN, HALF_OPEN], ["b"])
    world = world_of("a", "b")
    open_up(world, "a")
    record = world.records["b"]
    world.judge.announce(record, record.breaker.force_open(world.now))
    world.routes.publish(record)
    assert states(world) == [HALF_OPEN, FORCED_OPEN]
    for each in world.records.values():
        world.judge.announce(each, each.breaker.force_open(world.now))
    world.routes.publish()
    assert states(world) == [FORCED_OPEN, FORCED_OPEN]


def test_b281_who_leaves_is_no_member_any_more() -> None:
    """The last one that takes requests leaves: of those that stay one is tried."""
    world = world_of("a", "b", "c")
    open_up(world, "a", "b")
    world.roster.remove(world.records["c"], 1)
    assert states(world)[:2] == [HALF_OPEN, OPEN]


def test_b281_who_was_given_up_counts_as_out() -> None:
    """And cannot be tried."""
    world = world_of("a", "b")
    open_up(world, "b")
    for incarnation in (1, 2, 3):
        world.ended("a", incarnation)
        world.advance(3.0)
    assert world.route("a").blocked is SkipReason.GAVE_UP
    assert (states(world), kept(world)) == ([CLOSED, HALF_OPEN], ["b"])


def test_b281_the_only_member_of_a_pool_opens_as_ever() -> None:
    """Its breaker is there to keep callers from waiting; with a share it stays, too."""
    world = world_of("a")
    open_up(world, "a")
    assert states(world) == [OPEN]
    world = world_of("a", config={"circuit_max_open_share": 0.5})
    open_up(world, "a")
    assert (states(world), kept(world)) == ([HALF_OPEN], ["a"])


def test_b281_a_share_of_one_lets_all_be_out() -> None:
    """As it was without the rule."""
    world = world_of("a", "b", config={"circuit_max_open_share": 1.0})
    open_up(world, "a", "b")
    assert (states(world), kept(world)) == ([OPEN, OPEN], [])


def test_b281_a_share_of_half_keeps_half() -> None:
    """The third of four that opens is tried all the same, and so is the fourth."""
    world = world_of("a", "b", "c", "d", config={"circuit_max_open_share": 0.5})
    open_up(world, "a", "b", "c")
    assert states(world).count(HALF_OPEN) == 1
    open_up(world, "d")
    assert (states(world).count(OPEN), states(world).count(HALF_OPEN)) == (2, 2)


def test_b281_a_retry_after_is_waited_for_and_no_longer() -> None:
    """Nobody may be tried until the first of them is over; the supervisor looks then."""
    world = world_of("a", "b")
    for name, after_s in (("a", 20.0), ("b", 5.0)):
        record = world.records[name]
        for _ in range(3):
            turned = record.breaker.record(
                record.breaker.epoch, world.now, kind=UNAVAILABLE, retry_after_s=after_s
            )
        world.judge.announce(record, turned)
        world.routes.publish(record)
    assert states(world) == [OPEN, OPEN]
    world.advance(4.9)
    assert states(world) == [OPEN, OPEN]
    world.advance(0.1)
    assert (states(world), kept(world)) == ([OPEN, HALF_OPEN], ["b"])


def test_b281_with_a_probe_requests_are_the_trials_all_the_same() -> None:
    """While nobody else is left; the probe comes in its time, and not with every request."""
    world = world_of("a", "b", probe=lambda _: True)
    open_up(world, "a", "b")
    assert states(world) == [HALF_OPEN, OPEN]
    route = world.route("a")
    assert (route.trial_permits, route.blocked) == (1, None)
    told = len(world.members_told)
    for _ in range(5):
        world.judge.trial_started(
            TrialStarted(
                member="a", incarnation=1, epoch=world.records["a"].breaker.epoch, at=world.now
            )
        )
        fail(world, "a")
        world.advance(0.1)
    assert len(world.members_told) == told


# -- only observed


def test_b283_an_observed_breaker_says_what_it_would_do_and_does_nothing() -> None:
    """Its events, at most warnings; the route, the health and the statistics are as without it."""
    world = world_of("a", "b", config={"circuit": "observe"})
    open_up(world, "a")
    event = next(each for each in world.events if isinstance(each, BreakerOpened))
    assert (event.observed, event.severity()) == (True, "WARNING")
    assert event.describe() == "breaker would open: 3 failures in a row; it is only observed"
    route = world.route("a")
    assert (route.blocked, route.trial_permits, route.circuit) == (None, None, CLOSED)
    assert world.records["a"].stats(world.now, 0.0).circuit is CLOSED
    world.events.clear()
    world.advance(40.0)
    half_open = [each for each in world.events if isinstance(each, BreakerHalfOpened)]
    assert [each.observed for each in half_open] == [True]
    fail(world, "a", None)
    closed = [each for each in world.events if isinstance(each, BreakerClosed)]
    assert [each.describe() for each in closed] == ["breaker would be closed: 1 trial succeeded"]
    assert world.members_told == []  # nor is anything tried, or told to be


def test_b283_an_observed_one_can_be_opened_by_hand() -> None:
    """What is done by hand is done."""
    world = world_of("a", "b", config={"circuit": "observe"})
    open_up(world, "a")
    record = world.records["a"]
    world.judge.announce(record, record.breaker.force_open(world.now))
    assert world.route("a").blocked is SkipReason.CIRCUIT_OPEN
    last = world.events[-1]
    assert not [each for each in world.events if isinstance(each, BreakerOpened)][-1].observed
    assert last.member == "a"
    world.judge.announce(record, record.breaker.reset(world.now))
    assert world.route("a").blocked is None


# -- a pool


class Network:
    """Agents that all fail while the network is down.

    Args:
        down: from when until when, in seconds from the start.
    """

    def __init__(self, clock: FakeClock, down: tuple[float, float], latency_s: float) -> None:
        self.clock, self.latency_s = clock, latency_s
        self.start = clock.now()
        self.down = down
        self.calls: list[float] = []

    async def agent(self, payload: Any) -> Any:
        now = self.clock.now() - self.start
        self.calls.append(now)
        if self.down[0] <= now < self.down[1]:
            raise ConnectionError("unreachable")
        await self.clock.sleep(self.latency_s)
        return payload


BLIP = (3.0, 5.0)
GAP_S = 0.1


def blip(strategy: str, members: int, latency_s: float = 0.05, **config: Any) -> tuple[Any, ...]:
    """Ten requests a second, and all members fail for two seconds: the times at which those were
    asked that failed, the calls, the events.
    """
    clock = FakeClock()
    network = Network(clock, BLIP, latency_s)
    agents = {f"m{i}": network.agent for i in range(members)}
    log = EventRecorder()
    with pool_of(*ranked(**agents), clock=clock, strategy=strategy, **config) as pool:
        pool.on_event(log)
        futures = ask_at(pool, clock, [i * GAP_S for i in range(100)], step_s=0.05)
        pass_time(pool, clock, 10.0, 0.5)
        settled(pool, clock)
        failed = [i * GAP_S for i, future in enumerate(futures) if error_of(future) is not None]
    return failed, network.calls, log


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize("strategy", ["priority", "adaptive", "round_robin", "failover"])
def test_b281_a_blip_is_over_when_it_is_over(strategy: str, members: int) -> None:
    """Every member fails for two seconds: what is asked from a second after that on is answered,
    each of it; the members are spared all the same meanwhile, and one event tells of it.
    """
    failed, calls, log = blip(strategy, members)
    assert [at for at in failed if at >= BLIP[1] + 1.0] == []
    assert [at for at in failed if at < BLIP[0] - GAP_S] == []
    # A trial and its retries for each request, after the failures that open the breakers.
    during = [at for at in calls if BLIP[0] <= at < BLIP[1]]
    assert len(during) <= 20 * max(4, members)
    assert len(log.named(BreakerKept)) <= members


def test_b281_without_the_rule_it_takes_as_long_as_the_openings() -> None:
    """What the rule is for: seconds of it in which nobody is asked at all."""
    failed, _, _ = blip("priority", 3, circuit_max_open_share=1.0)
    assert max(failed) > BLIP[1] + 3.0


def test_b281_a_slow_answer_is_waited_for_by_nobody_but_one() -> None:
    """Half a second each: the first answer comes within a second of the end."""
    failed, _, _ = blip("priority", 3, latency_s=0.5)
    assert [at for at in failed if at >= BLIP[1] + 1.0] == []


def test_b283_observed_breakers_keep_nobody_out() -> None:
    """All requests of the time after are answered at once; what they would have done is told."""
    failed, _, log = blip("priority", 3, circuit="observe")
    assert [at for at in failed if at >= BLIP[1]] == []
    assert {each.observed for each in log.named(BreakerOpened)} == {True}


def test_b281_with_wait_they_wait_for_the_one_that_is_tried() -> None:
    """Nobody fails for want of a member but those that have had their retries."""
    clock = FakeClock()
    network = Network(clock, BLIP, 0.05)
    agents = {f"m{i}": network.agent for i in range(3)}
    config: dict[str, Any] = {"when_unavailable": "wait", "max_retries": 50}
    with pool_of(*ranked(**agents), clock=clock, **config) as pool:
        futures = ask_at(pool, clock, [i * GAP_S for i in range(80)], step_s=0.05)
        pass_time(pool, clock, 20.0, 0.25)
        settled(pool, clock)
        assert [error_of(future) for future in futures] == [None] * len(futures)


def test_b281_both_can_change_while_the_pool_runs() -> None:
    """A pool of which all are out has one tried as soon as it may not be so any more; what was
    only observed is obeyed as soon as it is to be.
    """
    clock = FakeClock()

    async def down(payload: Any) -> Any:
        raise http_error(503)

    with pool_of(*ranked(a=down, b=down), clock=clock, circuit_max_open_share=1.0) as pool:
        ask_at(pool, clock, [i * 0.1 for i in range(25)])
        assert settled(pool, clock).available == ()
        pool.configure(circuit_max_open_share=None)
        assert len(settled(pool, clock).available) == 1
        pool.configure(circuit="observe")
        assert settled(pool, clock).available == ("a", "b")
        assert pool.configure(circuit="on") == ("circuit 'observe' -> 'on'",)
        assert len(settled(pool, clock).available) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"circuit": "off"}, "circuit must be 'on' or 'observe', got 'off'"),
        ({"circuit_max_open_share": 1.5}, "circuit_max_open_share must be at most 1, got 1.5"),
        ({"circuit_max_open_share": -0.1}, "circuit_max_open_share must be at least 0, got -0.1"),
    ],
)
def test_b281_wrong_values_are_refused(settings: dict[str, Any], words: str) -> None:
    """Field, rule and value."""
    with pytest.raises(ValueError, match=words):
        PoolConfig(**settings)


def test_b284_after_it_has_closed_a_member_is_given_more_by_success() -> None:
    """A thousand wait for it: one, then with each success one more than there were."""
    clock = FakeClock()
    network = Network(clock, (0.0, 1.0), 1.0)
    calls: Sequence[float] = network.calls
    with pool_of(
        Member("a", network.agent, max_concurrency=64),
        clock=clock,
        when_unavailable="wait",
        max_retries=9,
        circuit_failure_threshold=1,
    ) as pool:
        futures = ask_at(pool, clock, [0.0] * 40)
        pass_time(pool, clock, 30.0, 0.5)
        assert [error_of(future) for future in futures] == [None] * 40
    begun = [round(at) for at in calls if at >= 1.0]
    rounds = [begun.count(at) for at in sorted(set(begun))]
    assert rounds == [1, 1, 1, 2, 4, 8, 16, 7]


def test_b281_an_answer_does_not_put_the_last_one_out() -> None:
    """Four answers after six failures make the calls enough for a rate: it stays while nobody else
    serves, and goes by the next failure that makes it so.
    """
    world = world_of("a", "b")
    open_up(world, "b")
    record = world.records["a"]
    epoch = record.breaker.epoch
    for _ in range(3):
        for kind in (UNAVAILABLE, UNAVAILABLE, None):
            record.breaker.record(epoch, world.now, kind=kind)
    run = Successes("a", incarnation=1, epoch=epoch, at=(world.now,), elapsed_s=(0.1,))
    world.judge.take_in(Outcomes((run,)))
    assert record.breaker.state is CLOSED
    other = world_of("a", "b")
    record = other.records["a"]
    for _ in range(3):
        for kind in (UNAVAILABLE, UNAVAILABLE, None):
            record.breaker.record(epoch, other.now, kind=kind)
    other.judge.take_in(Outcomes((run,)))
    assert record.breaker.state is OPEN
