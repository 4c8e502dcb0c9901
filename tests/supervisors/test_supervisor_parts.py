"""The supervisor's parts without the supervisor: no actor, no thread, no clock."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers_pools import echo, echo_async

from greenroom.actors.member.agent_actor import MemberRef
from greenroom.actors.member.surroundings import LoopGone, LoopLost, LoopSilent
from greenroom.actors.runtime.alarms import Alarms
from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.loop_blocker import NOBODY, Blocker
from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.messages import (
    AttemptOutcome,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    CircuitState,
    Event,
    FailureKind,
    HealthChanged,
    LoopEnded,
    LoopRecovered,
    LoopReplaced,
    LoopStalled,
    Member,
    MemberAgentLost,
    MemberAgentRemade,
    MemberCreateFailed,
    MemberDraining,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    MemberStarted,
    MemberStopped,
    Outcomes,
    PoolConfig,
    ProbeFailed,
    ProbeSucceeded,
    RequestSettled,
    SkipReason,
    Successes,
    TrialDue,
    UnknownMemberError,
)
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    AgentLost,
    CancelProbe,
    CommandDone,
    FailuresSeen,
    Leave,
    MemberDrained,
    MemberRoute,
    Probe,
    ProbeResult,
    RoutingSnapshot,
    TrialStarted,
)
from greenroom.supervisors.loop_monitor import (
    LookDue,
    LoopAnswered,
    LoopHasEnded,
    LoopMonitor,
    LoopStarted,
)
from greenroom.supervisors.member_record import Life, MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.prober import Prober
from greenroom.supervisors.roster import Roster
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts, ToRouter

CONFIG = PoolConfig(
    circuit_failure_threshold=3,
    circuit_reset_timeout_s=30.0,
    circuit_success_threshold=1,
    restart_intensity=2,
    restart_period_s=100.0,
    restart_backoff_s=1.0,
    health_check_interval_s=10.0,
    health_check_timeout_s=2.0,
    loop_check_interval_s=1.0,
    loop_stalled_after_s=4.0,
    loop_replaced_after_s=8.0,
)
STOP_TIMEOUT_S = 5.0


async def ping_async(agent: Any) -> bool:
    return True


class World:
    """All parts, and lists in the place of everything that they reach."""

    def __init__(
        self,
        *members: Member,
        home: HomeLoop | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.now = 100.0
        self.requests = 0
        self.paused_at = -math.inf
        self.alarms = Alarms(SimpleNamespace(alarm=None))
        self.events: list[Event] = []
        self.members_told: list[tuple[str, Any]] = []
        self.router_told: list[Any] = []
        self.asked: list[LoopAnswered] = []
        self.complaints: list[str] = []
        self.spawns = 0
        self.blocker = NOBODY
        self.records: dict[str, MemberRecord] = {}
        rng = random.Random(7)
        ports = SupervisorPorts(
            pool="p",
            config=CONFIG.replace(**(config or {})),
            now=lambda: self.now,
            paused_at=lambda: self.paused_at,
            at=self.alarms.at,
            emit=self.events.append,
            tell=lambda record, message: self.members_told.append((record.name, message)),
            tell_router=self._tell_router,
            complain_of=lambda what, error: self.complaints.append(f"{what}: {error}"),
        )
        self.routes = RoutePublisher(ports, self.records, self._review)
        self.loops = LoopMonitor(
            ports,
            self.routes,
            by_hand=lambda: True,
            new_loop=lambda owner: LoopThread(f"loop of {owner or 'all'}"),  # nothing starts it
            plan=lambda when, thread: self.alarms.at(
                when, lambda: self.loops.look_due(LookDue(thread, handed=True))
            ),
            ask=self.asked.append,
            find_blocker=lambda _: self.blocker,
            home=home,
        )
        self.roster = Roster(ports, self.records, self.routes, rng, self._spawn, STOP_TIMEOUT_S)
        self.judge = OutcomeJudge(ports, self.routes, self.router_told.append)
        self.prober = Prober(ports, self.routes, self.judge)
        for member in members:
            self.roster.add(member)
        self.events.clear()

    def _tell_router(self, message: ToRouter) -> None:
        self.router_told.append(message)

    def _spawn(self, record: MemberRecord) -> None:
        if record.name == "impossible":
            raise OSError("no room")
        self.spawns += 1
        record.started(cast(MemberRef, f"{record.name}-{self.spawns}"), self.loops.shared)

    def _review(self) -> None:
        for record in list(self.records.values()):
            self.roster.review(record, self.now)
            self.judge.review(record, self.now)
            self.prober.review(record, self.now)
            self.judge.review_health(record, self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, alarm by alarm."""
        until = self.now + seconds
        while self._next_alarm() <= until:
            self.now = max(self.now, self._next_alarm())
            self.alarms.run_due(self.now)
        self.now = until

    def _next_alarm(self) -> float:
        self.alarms.run_due(float("-inf"))
        alarm = cast(Any, self.alarms)._mailbox.alarm
        return float("inf") if alarm is None else alarm

    def route(self, name: str) -> MemberRoute:
        return self.records[name].route(self.now)

    def ended(self, name: str, incarnation: int = 1, **details: Any) -> None:
        details = {"expected": False, "error": "boom", **details}
        self.roster.actor_ended(ActorEnded(member=name, incarnation=incarnation, **details))

    def failed(
        self, name: str, request_id: str, kind: FailureKind = FailureKind.UNKNOWN, number: int = 0
    ) -> None:
        outcome = AttemptOutcome(
            member=name,
            incarnation=1,
            epoch=self.records[name].breaker.epoch,
            request_id=request_id,
            attempt=1,
            at=self.now,
            elapsed_s=0.1,
            kind=kind,
            error="E",
            number=number,
        )
        self.judge.take_in(Outcomes((outcome,)))

    def names(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    def answers(self) -> list[CommandDone]:
        return [each for each in self.router_told if isinstance(each, CommandDone)]

    def snapshots(self) -> list[RoutingSnapshot]:
        return [each for each in self.router_told if isinstance(each, RoutingSnapshot)]


# -- the publisher


def test_a_change_names_the_table_that_it_is_a_change_of() -> None:
    """One member's route alone, or its name alone if it has gone; each table has a number."""
    world = World(Member("a", echo), Member("b", echo))
    a = world.records["a"]
    world.routes.publish()
    world.routes.publish(a)
    del world.records["a"]
    world.routes.publish(a)
    whole, changed, gone = world.snapshots()
    assert [route.name for route in whole.members] == ["a", "b"]
    assert (whole.epoch, whole.since) == (1, None)
    assert [route.name for route in changed.members] == ["a"]
    assert (changed.epoch, changed.since, changed.gone) == (2, 1, ())
    assert (gone.members, gone.since, gone.gone) == ((), 2, ("a",))


def test_a_look_is_planned_for_when_time_has_something_to_say() -> None:
    """Once, at the earliest of all; the whole table follows it."""
    world = World(Member("a", echo), Member("b", echo))
    world.records["a"].creation_at = 110.0
    world.records["b"].creation_at = 105.0
    world.routes.plan_review(world.records["a"])
    world.routes.plan_review(world.records["b"])
    world.routes.plan_review(world.records["a"])
    assert len(world.alarms) == 1
    world.advance(5.0)
    assert [record.creation_at for record in world.records.values()] == [110.0, None]
    assert [snapshot.since for snapshot in world.snapshots()] == [None]
    assert len(world.alarms) == 1


# -- the roster


def test_a_crash_is_followed_by_a_restart_until_there_are_too_many() -> None:
    """After a delay that doubles; then the member is given up, and its error is told."""
    world = World(Member("a", echo))
    for incarnation, delay_s in ((1, 1.0), (2, 2.0)):
        world.ended("a", incarnation)
        assert (world.route("a").blocked, world.route("a").ref) == (SkipReason.STARTING, None)
        world.advance(delay_s - 0.1)
        assert world.records["a"].incarnation == incarnation
        world.advance(0.1)
        assert world.records["a"].incarnation == incarnation + 1
    world.ended("a", 3)
    assert world.route("a").blocked is SkipReason.GAVE_UP
    assert world.names() == [MemberFailed, MemberRestarted] * 2 + [MemberFailed, MemberGaveUp]
    assert [e.restart_in_s for e in world.events if isinstance(e, MemberFailed)] == [1.0, 2.0, None]
    world.advance(1000.0)
    assert world.spawns == 3


def test_who_ends_without_blame_is_restarted_at_once() -> None:
    """And it does not count among his crashes."""
    world = World(Member("a", echo))
    for incarnation in range(1, 10):
        world.ended("a", incarnation, blameless=True, error="moved")
    assert world.names() == [MemberRestarted] * 9
    assert world.route("a").incarnation == 10


def test_the_word_of_an_earlier_incarnation_changes_nothing() -> None:
    """Nor does that of a member that is not there."""
    world = World(Member("a", echo))
    world.ended("a", 1, blameless=True)
    world.events.clear()
    world.ended("a", 1)
    world.ended("z", 1)
    failed = AgentCreateFailed(member="a", incarnation=1, error="E")
    world.roster.agent_create_failed(failed)
    assert (world.events, world.route("a").blocked) == ([], None)


def test_a_removal_is_answered_when_the_member_has_gone() -> None:
    """The router knows by then; every one that asked for it has an answer."""
    world = World(Member("a", echo), Member("b", echo))
    a = world.records["a"]
    world.roster.remove(a, 1)
    world.roster.remove(a, 2)
    assert (world.route("a").blocked, world.answers()) == (SkipReason.DRAINING, [])
    world.roster.drained(MemberDrained("a"))
    assert world.members_told == [("a", Leave())]
    world.router_told.clear()
    world.ended("a", expected=True, error=None)
    assert isinstance(world.router_told[0], RoutingSnapshot)
    assert world.router_told[0].gone == ("a",)
    assert world.answers() == [CommandDone(1), CommandDone(2)]
    told: list[type[Event]] = [MemberDraining, MemberStopped]
    assert world.names() == told
    world.advance(100.0)
    assert world.complaints == []


def test_a_member_that_does_not_end_is_left_behind() -> None:
    """Its removal is answered all the same, when its time is over."""
    world = World(Member("a", echo))
    world.roster.remove(world.records["a"], 1)
    world.roster.drained(MemberDrained("a"))
    world.advance(STOP_TIMEOUT_S - 0.1)
    assert world.answers() == []
    world.advance(0.1)
    assert world.answers() == [CommandDone(1)]
    assert world.complaints == [
        "member 'a' does not end and is left behind: its close hook took more than 5 s"
    ]


def test_a_name_that_comes_back_goes_on_counting() -> None:
    """So that nothing of its last bearer is taken for the new one's."""
    world = World(Member("a", echo))
    epoch = world.route("a").epoch
    world.ended("a", expected=True)
    assert (world.names(), world.records) == ([MemberStopped], {})
    world.roster.add(Member("a", echo))
    assert world.names() == [MemberStopped, MemberStarted]
    assert (world.route("a").incarnation, world.route("a").epoch) == (2, epoch + 1)
    assert world.route("a").index == 1


def test_a_member_without_an_actor_is_no_member() -> None:
    """What cannot be started leaves nothing behind."""
    world = World(Member("a", echo))
    with pytest.raises(OSError, match="no room"):
        world.roster.add(Member("impossible", echo))
    assert list(world.records) == ["a"]
    assert world.events == []
    with pytest.raises(UnknownMemberError, match=r"pool 'p' \(a\), got 'impossible'"):
        world.roster.known("impossible")


@pytest.mark.parametrize(("close", "spawned"), [(None, 0), (lambda agent: None, 1)])
def test_who_is_down_is_closed_by_an_actor_for_that(
    close: Callable[[Any], Any] | None, spawned: int
) -> None:
    """If there is an agent with something to close; else it has gone at once."""
    world = World(Member("a", echo, close=close))
    world.ended("a")
    before = world.spawns
    world.roster.remove(world.records["a"], 1)
    assert world.spawns - before == spawned
    assert (world.answers() == []) is bool(spawned)


def test_at_the_end_of_the_pool_nobody_is_restarted() -> None:
    """Whoever ends then was to end."""
    world = World(Member("a", echo))
    world.roster.stopping = True
    world.ended("a")
    assert (world.events, world.records["a"].life) == ([], Life.RUNNING)


def test_a_factory_that_fails_is_left_alone_for_longer_each_time() -> None:
    """Until it has made an agent."""
    world = World(Member("a", factory=lambda: echo))
    for delay_s in (1.0, 2.0, 4.0):
        failed = AgentCreateFailed(member="a", incarnation=1, error="E")
        world.roster.agent_create_failed(failed)
        assert world.route("a").blocked is SkipReason.STARTING
        assert world.route("a").reopens_at == world.now + delay_s
        world.advance(delay_s)
        assert world.route("a").blocked is None
    assert world.names() == [MemberCreateFailed] * 3
    world.roster.agent_created(AgentCreated(member="a", incarnation=1, max_concurrency=9))
    assert (world.records["a"].creations_failed, world.route("a").max_concurrency) == (0, 9)


def lost(remade: bool, of_loop: bool = False) -> AgentLost:
    return AgentLost(member="a", incarnation=1, error="E", remade=remade, of_loop=of_loop)


def test_b255_a_lost_agent_is_told_of_and_so_is_the_next() -> None:
    """That of a caller's loop is not waited for: nobody tells of those."""
    world = World(Member("a", factory=lambda: echo))
    created = AgentCreated(member="a", incarnation=1, max_concurrency=9)
    world.roster.agent_created(created)
    world.roster.agent_lost(lost(remade=True, of_loop=True))
    world.roster.agent_created(created)
    assert world.names() == [MemberAgentLost]
    world.roster.agent_lost(lost(remade=True))
    assert world.route("a").blocked is None
    for _ in range(2):
        world.roster.agent_created(created)
    assert world.names() == [MemberAgentLost, MemberAgentLost, MemberAgentRemade]
    assert world.records["a"].stats(world.now, 0.0).agents_lost == 2


def test_b258_who_has_lost_a_ready_agent_is_out_until_a_reset() -> None:
    """Said once, whatever else still runs on it; no probe looks at it meanwhile."""
    world = World(Member("a", echo, probe=lambda: True))
    for _ in range(2):
        world.roster.agent_lost(lost(remade=False))
    assert world.names() == [MemberAgentLost]
    assert world.route("a").blocked is SkipReason.GAVE_UP
    assert not world.records["a"].stats(world.now, 0.0).available
    world.members_told.clear()
    world.advance(100.0)
    assert world.members_told == []
    assert world.records["a"].next_event_at(world.now) is None
    world.records["a"].reset(world.now)
    assert world.route("a").blocked is None


def test_b258_a_word_of_an_earlier_incarnation_says_nothing() -> None:
    world = World(Member("a", echo))
    world.roster.agent_lost(AgentLost(member="a", incarnation=0, error="E", remade=False))
    assert world.events == []


# -- the judge


def test_failures_open_a_breaker_and_the_router_knows_before_it_is_answered() -> None:
    """It is told which failures have been judged behind the table that follows from them."""
    world = World(Member("a", echo), Member("b", echo))
    for number in (1, 2, 3):
        world.failed("a", f"r{number}", number=number)
    assert world.route("a").blocked is SkipReason.CIRCUIT_OPEN
    table, seen = world.router_told[-2:]
    assert [route.circuit for route in table.members] == [CircuitState.OPEN]
    assert seen == FailuresSeen(member="a", incarnation=1, count=3)
    assert [e.reason for e in world.events if isinstance(e, BreakerOpened)] == [
        "3 failures in a row (E)"
    ]
    world.advance(CONFIG.circuit_reset_timeout_s)
    assert world.route("a").trial_permits == 1
    assert [e.trial for e in world.events if isinstance(e, BreakerHalfOpened)] == ["one request"]


def test_the_last_member_that_serves_is_not_left_before_the_request_has_ended() -> None:
    """It may be the request's fault: then the failures are taken back."""
    world = World(Member("a", echo), Member("b", echo))
    for request in ("r1", "r2", "r3"):
        world.failed("a", request)
    world.router_told.clear()
    for request in ("r1", "r2", "r3"):
        world.failed("b", request)
    assert world.route("b").blocked is None
    for request in ("r1", "r2", "r3"):
        settled = RequestSettled(request_id=request, kind=FailureKind.UNKNOWN)
        world.judge.take_in(Outcomes((settled,)))
    assert [world.route(name).circuit for name in "ab"] == [CircuitState.CLOSED] * 2
    assert world.names().count(BreakerClosed) == 1
    assert world.snapshots()[-1].since is None


@pytest.mark.parametrize(("name", "timed_out"), [("innocent", 0), ("guilty", 2), ("elsewhere", 2)])
def test_who_had_no_time_because_another_blocked_the_loop_has_not_timed_out(
    name: str, timed_out: int
) -> None:
    """The one who blocked it has; so has who does not live on that loop."""
    world = stalled_world()
    for number in range(2):
        world.failed(name, f"r{number}", FailureKind.TIMEOUT)
    assert world.records[name].breaker.consecutive_failures == timed_out


def test_successes_in_a_row_are_taken_in_at_once() -> None:
    """They end a row of failures and of crashes; nothing is published for them."""
    world = World(Member("a", echo))
    world.failed("a", "r1")
    world.failed("a", "r2")
    world.records["a"].crashes_in_a_row = 1
    world.router_told.clear()
    run = Successes("a", incarnation=1, epoch=1, at=(world.now,), elapsed_s=(0.1,))
    world.judge.take_in(Outcomes((run,)))
    assert world.records["a"].breaker.consecutive_failures == 0
    assert world.records["a"].crashes_in_a_row == 0
    assert world.router_told == []


def test_a_trial_that_reports_gives_its_permit_back_or_closes() -> None:
    """Each of it is published."""
    world = World(Member("a", echo))
    for request in ("r1", "r2", "r3"):
        world.failed("a", request)
    world.advance(CONFIG.circuit_reset_timeout_s)
    epoch = world.route("a").epoch
    trial = TrialStarted(member="a", incarnation=1, epoch=epoch, at=world.now)
    world.judge.trial_started(trial)
    world.failed("a", "r4", FailureKind.CANCELLED)
    assert (world.route("a").trial_permits, world.route("a").epoch) == (2, epoch)
    world.judge.trial_started(trial)
    run = Successes("a", incarnation=1, epoch=epoch, at=(world.now,), elapsed_s=(0.1,))
    world.judge.take_in(Outcomes((run,)))
    assert world.route("a").circuit is CircuitState.CLOSED
    assert world.snapshots()[-1].members[0].circuit is CircuitState.CLOSED


def test_health_follows_and_is_told_of_once() -> None:
    """By whatever it changes: outcomes, a breaker, time."""
    world = World(Member("a", echo), Member("b", echo))
    for number in range(3):
        world.failed("a", f"r{number}")
    changes = [(e.before, e.after) for e in world.events if isinstance(e, HealthChanged)]
    assert changes
    world.judge.review_health(world.records["a"], world.now)
    assert [(e.before, e.after) for e in world.events if isinstance(e, HealthChanged)] == changes


# -- the prober


def probed(probe: Any = lambda agent: True) -> World:
    """A world with a member whose first probe is due."""
    world = World(Member("a", echo, probe=probe))
    world.routes.publish()
    probes = world.records["a"].probes
    assert probes is not None
    world.advance(probes.due_at - world.now)
    return world


def result(probe_id: int, **details: Any) -> ProbeResult:
    details = {"ok": True, "elapsed_s": 0.1, **details}
    return ProbeResult(member="a", incarnation=1, probe_id=probe_id, **details)


def test_a_probe_is_started_when_it_is_due_and_counted_when_it_ends() -> None:
    """One at a time; a word of another one comes too late."""
    world = probed()
    assert world.members_told == [("a", Probe(1))]
    world.prober.ended(result(7))
    assert world.events == []
    world.prober.ended(result(1))
    world.prober.ended(result(1))
    assert world.names() == [ProbeSucceeded]
    world.advance(1.2 * CONFIG.health_check_interval_s)
    assert world.members_told[1] == ("a", Probe(2))


def test_a_probe_that_was_skipped_says_nothing() -> None:
    """There was no agent to look at."""
    world = probed()
    world.prober.ended(result(1, skipped=True))
    assert world.events == []


def test_a_probe_without_an_answer_is_a_failure_and_is_cancelled() -> None:
    """When its time is over."""
    world = probed()
    world.advance(CONFIG.health_check_timeout_s)
    assert world.members_told[:2] == [("a", Probe(1)), ("a", CancelProbe(1))]
    failed = [event for event in world.events if isinstance(event, ProbeFailed)]
    assert [event.error for event in failed] == ["no answer within health_check_timeout_s=2"]
    world.prober.ended(result(1))
    assert ProbeSucceeded not in world.names()


@pytest.mark.parametrize(("probe", "excused"), [(ping_async, True), (lambda agent: True, False)])
def test_a_probe_that_waits_for_a_stalled_loop_is_excused(probe: Any, excused: bool) -> None:
    """If it is one that needs the loop."""
    world = probed(probe)
    world.loops.shared.heartbeat = SimpleNamespace(stalled=True)
    world.advance(CONFIG.health_check_timeout_s)
    assert (ProbeFailed not in world.names()) is excused


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (CircuitState.CLOSED, True),
        (CircuitState.FORCED_OPEN, False),
        (CircuitState.DISABLED, False),
    ],
)
def test_a_probe_that_a_pause_has_failed_is_repeated_save_where_it_is_held_back(
    change: CircuitState, again: bool
) -> None:
    """Nobody is blamed for the pause, and a breaker that was set by hand is not looked at."""
    world = probed()
    record = world.records["a"]
    if change is CircuitState.FORCED_OPEN:
        world.judge.announce(record, record.breaker.force_open(world.now))
    elif change is CircuitState.DISABLED:
        world.judge.announce(record, record.breaker.disable(world.now))
    world.events.clear()
    world.members_told.clear()
    world.now += 1.0
    world.paused_at = world.now - 0.1
    world.prober.ended(result(1, ok=False, error="late", elapsed_s=0.9))
    assert ProbeFailed not in world.names()
    world.prober.review(record, world.now)
    assert world.members_told == ([("a", Probe(2))] if again else [])


def test_a_half_open_breaker_is_tried_by_a_probe_at_once() -> None:
    """Which makes the agent if need be, closes it by a success, and is not started before."""
    world = probed()
    world.prober.ended(result(1))
    for request in ("r1", "r2", "r3"):
        world.failed("a", request)
    world.members_told.clear()
    world.advance(CONFIG.circuit_reset_timeout_s - 1.0)
    assert world.members_told == []
    world.advance(1.0)
    assert world.members_told == [("a", TrialDue()), ("a", Probe(2, create=True))]
    assert world.route("a").blocked is SkipReason.TRIAL_RUNNING
    world.prober.ended(result(2))
    assert world.route("a").circuit is CircuitState.CLOSED
    assert [event.trial for event in world.events if isinstance(event, BreakerHalfOpened)] == [
        "its probe"
    ]


def test_who_is_down_is_not_probed() -> None:
    """And a probe that was under way is given up."""
    world = probed()
    for incarnation in (1, 2, 3):
        world.ended("a", incarnation)
        world.advance(5.0)
    world.members_told.clear()
    world.advance(10 * CONFIG.health_check_interval_s)
    assert world.members_told == []


# -- the loop monitor


def stalled_world(blocker: Blocker | None = None) -> World:
    """Three members on a loop that has just been found to be stalled, two of them by coroutines."""
    world = World(
        Member("innocent", echo_async), Member("guilty", echo_async), Member("elsewhere", echo)
    )
    world.loops.started(LoopStarted(world.loops.shared, None, world.now))
    world.blocker = Blocker("guilty", "r", "a.py:1 in f") if blocker is None else blocker
    world.advance(CONFIG.loop_check_interval_s + CONFIG.loop_stalled_after_s)
    return world


def test_a_loop_that_answers_is_asked_again_and_again() -> None:
    """An interval after each answer; nothing is said of it."""
    world = World(Member("a", echo_async))
    world.loops.started(LoopStarted(world.loops.shared, None, world.now))
    for number in (1, 2, 3):
        world.advance(CONFIG.loop_check_interval_s)
        assert world.asked[-1] == LoopAnswered(world.loops.shared, number)
        world.loops.answered(world.asked[-1])
    assert (world.events, world.loops.shared.stalled) == ([], False)


def test_a_silent_loop_is_reported_and_takes_its_residents_out() -> None:
    """Who lives there gets nothing more; who is only closed or probed there goes on."""
    world = stalled_world()
    assert world.loops.shared.stalled
    told = [each for each in world.members_told if isinstance(each[1], LoopSilent)]
    assert [name for name, _ in told] == ["innocent", "guilty", "elsewhere"]
    assert [route.blocked for route in world.snapshots()[-1].members] == [
        SkipReason.STALLED,
        SkipReason.STALLED,
        None,
    ]
    (event,) = [each for each in world.events if isinstance(each, LoopStalled)]
    assert (event.member, event.request_id, event.where) == ("guilty", "r", "a.py:1 in f")
    assert (event.stalled_s, event.replaced_in_s) == (4.0, 4.0)


def test_an_answer_brings_the_residents_back() -> None:
    """And says how long it has lasted, and whose doing it was."""
    world = stalled_world()
    world.advance(1.0)
    world.loops.answered(world.asked[-1])
    assert not world.loops.shared.stalled
    assert [route.blocked for route in world.snapshots()[-1].members] == [None] * 3
    (event,) = [each for each in world.events if isinstance(each, LoopRecovered)]
    assert (event.member, event.stalled_s) == ("guilty", 5.0)
    assert not world.records["guilty"].blocks_loop


def test_a_loop_that_stays_silent_is_replaced() -> None:
    """Who blocked it has crashed, who lives there begins anew, who does not just moves."""
    world = stalled_world()
    old = world.loops.shared
    world.members_told.clear()
    world.advance(CONFIG.loop_stalled_after_s)
    fresh = world.loops.shared
    assert (fresh is old, old.lost) == (False, True)
    why = "it blocked its event loop for 8.0 s at a.py:1 in f"
    assert dict(world.members_told) == {
        "innocent": LoopLost(reason="another one blocked its event loop"),
        "guilty": LoopLost(reason=why, guilty=True),
        "elsewhere": LoopLost(fresh=fresh),
    }
    assert world.records["elsewhere"].loop is fresh
    (event,) = [each for each in world.events if isinstance(each, LoopReplaced)]
    assert (event.member, event.moved) == ("guilty", ("innocent",))
    asked = len(world.asked)
    world.loops.answered(world.asked[-1])
    world.advance(100.0)
    assert (len(world.asked), len(world.events)) == (asked, 2)


def test_where_nobody_can_be_blamed_a_loop_is_replaced_only_so_often() -> None:
    """As often as a member may be restarted; then it is left as it is, and that is logged."""
    world = stalled_world(NOBODY)
    for _ in range(CONFIG.restart_intensity):
        world.advance(CONFIG.loop_stalled_after_s)
        world.loops.started(LoopStarted(world.loops.shared, None, world.now))
        world.advance(CONFIG.loop_check_interval_s + CONFIG.loop_stalled_after_s)
    left = world.loops.shared
    world.advance(CONFIG.loop_stalled_after_s)
    assert world.loops.shared is left
    assert world.names().count(LoopReplaced) == CONFIG.restart_intensity
    assert world.complaints == [
        "loop of all stalls again and again and is left as it is: restart_intensity=2 is exceeded"
    ]


def test_at_the_end_of_the_pool_nobody_waits_for_a_stalled_loop() -> None:
    """It is abandoned, and who lives there is told; one that answers is left to end by itself."""
    world = stalled_world()
    world.members_told.clear()
    healthy = LoopThread("another")
    world.loops.started(LoopStarted(healthy, "z", world.now))
    world.loops.let_stalled_go()
    assert (world.loops.shared.lost, healthy.lost) == (True, False)
    assert [name for name, _ in world.members_told] == ["innocent", "guilty", "elsewhere"]
    assert {message for _, message in world.members_told} == {LoopLost()}


def home_world(loop: asyncio.AbstractEventLoop) -> World:
    """Members on a loop of the app's, which nobody runs at the moment."""
    home = HomeLoop("home", loop, LoopThread("successor"))
    world = World(Member("async", echo_async), Member("sync", echo), home=home)
    world.loops.started(LoopStarted(home, None, world.now))
    return world


def test_an_apps_loop_that_nobody_runs_is_neither_asked_nor_replaced() -> None:
    """It is looked at again and again: it may run later."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        world = home_world(loop)
        world.advance(100.0)
        assert (world.asked, world.events, world.members_told) == ([], [], [])
        assert not world.loops.shared.ended


def test_who_lives_on_an_apps_loop_that_has_ended_goes_on_elsewhere() -> None:
    """All are told, with one event; of the actors none has ended, so nobody is restarted."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        world = home_world(loop)
        home = world.loops.shared
        assert isinstance(home, HomeLoop)
        loop.close()
        world.advance(CONFIG.loop_check_interval_s)
        assert home.gone
        world.members_told.clear()
        for _ in range(2):
            world.loops.has_ended(LoopHasEnded(home))
        assert world.loops.shared is home.successor
        told = LoopGone(home.successor)
        assert dict(world.members_told) == {"async": told, "sync": told}
        assert [each.loop for each in world.records.values()] == [home.successor] * 2
        (event,) = world.events
        assert isinstance(event, LoopEnded)
        assert (event.loop, event.moved) == ("home", ("async",))


# -- a member that is replaced


def test_who_is_replaced_and_the_next_one_are_in_one_table_at_the_same_place() -> None:
    """Between two tables there would be nobody; and what is known of the old one goes with it."""
    world = World(Member("a", echo), Member("b", echo))
    world.roster.replace(world.records["a"], Member("a", str, weight=3.0))
    assert (world.route("a").blocked, world.route("a").replaced) == (SkipReason.DRAINING, True)
    world.roster.drained(MemberDrained("a"))
    assert world.members_told[-1] == ("a", Leave())
    world.router_told.clear()
    world.ended("a", expected=True)
    table = world.snapshots()[0]
    (route,) = table.members
    assert (table.gone, route.name, route.index, route.incarnation) == (("a",), "a", 0, 2)
    assert (route.weight, route.replaced, route.blocked) == (3.0, False, None)
    assert list(world.records) == ["a", "b"]
    world.failed("a", "late of the old one")
    assert world.records["a"].health.failures == 0
    told: list[type[Event]] = [MemberDraining, MemberStopped, MemberStarted]
    assert world.names() == told


def test_a_successor_that_cannot_be_started_is_tried_again() -> None:
    """Unless somebody has the name by then, or the pool stops."""
    for name_taken in (False, True):
        world = World(Member("a", echo))
        spawn = world.roster._spawn
        world.roster._spawn = refuse_to_spawn
        world.roster.replace(world.records["a"], Member("a", str))
        world.ended("a", expected=True)
        assert world.complaints == ["member 'a' could not be replaced: no room"]
        assert world.snapshots()[-1].gone == ("a",)
        world.advance(0.9)
        assert world.records == {}
        world.roster._spawn = spawn
        if name_taken:
            world.roster.add(Member("a", echo, weight=9.0))
        world.advance(0.1)
        assert world.route("a").weight == (9.0 if name_taken else 1.0)
        assert world.route("a").incarnation == 2


def refuse_to_spawn(record: MemberRecord) -> None:
    raise OSError("no room")
