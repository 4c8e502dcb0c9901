"""Behaviour 42: whatever happens to a pool, every ask is answered once, and the books are right.
Behaviour 50: also if a second member is asked where the first one takes its time.

The agents do nothing of their own accord: each call waits until the test lets it end, one way or
another. So the test knows what runs, and compares the pool's statistics with that.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pykka
import pytest
from helpers_pools import WAIT_S
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from greenroom import (
    AddMember,
    AgentPool,
    CallContext,
    CircuitState,
    Event,
    ForceOpen,
    GetStats,
    LoadBalanceStrategy,
    Member,
    PoolConfig,
    PoolFuture,
    PoolStats,
    RemoveMember,
    Request,
    RequestCancelledError,
    ResetMember,
)
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.executions import Executions
from greenroom.actors.policy.hedging import HedgeBudget
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.job import Attempt, AttemptRole
from greenroom.actors.runtime import pool_actor
from greenroom.actors.runtime.event_bus import observe
from greenroom.actors.runtime.pool_actor import PoolActor
from greenroom.messages.events import (
    DeadLetter,
    HedgeStarted,
    RequestCompleted,
    RequestExhausted,
    RequestRejected,
)
from greenroom.messages.supervision import CommandDone, Forwarded
from greenroom.supervisors.roster import Roster
from greenroom.testing import FakeClock, http_error

ASYNC = {"b": 3, "d": 2}
SYNC = {"a": 1, "c": 2, "e": 1}
NAMES = sorted(ASYNC | SYNC)
FIRST = ("a", "b", "c")
STRATEGIES = (
    "round_robin",
    "adaptive",
    "weighted",
    "failover",
    "consistent_hash",
    "least_outstanding",
)
CONFIG = PoolConfig(
    circuit_failure_threshold=2,
    circuit_reset_timeout_s=5.0,
    circuit_reset_max_s=20.0,
    circuit_success_threshold=2,
    circuit_window=6,
    circuit_min_calls=4,
    request_timeout_s=10.0,
    max_retries=2,
    retry_delay_s=0.5,
    max_pending=4,
    restart_intensity=2,
    restart_period_s=20.0,
    restart_backoff_s=0.5,
)


FAILURES: dict[str, Callable[[], BaseException]] = {
    "error": lambda: ValueError("broken"),
    "unavailable": lambda: http_error(503),
    "rate limit": lambda: http_error(429, retry_after_s=2.0),
    "auth": lambda: http_error(401),
    "caller": lambda: http_error(400),
    "too large": lambda: http_error(413),
    "exit": lambda: SystemExit(1),
    "cancelled": lambda: asyncio.CancelledError("by itself"),
}
ENDINGS = ("ok", "ok", "ok", *FAILURES)

Ticket = tuple[str, int]


class Call:
    """One run of an agent, which ends when the test says so."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.ending: str | None = None
        self._event = threading.Event()
        self._awaited: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def end(self, ending: str) -> None:
        self.ending = ending
        self._event.set()
        if self._awaited is not None:
            loop, future = self._awaited
            loop.call_soon_threadsafe(_let_go, future)

    def wait(self) -> None:
        assert self._event.wait(10 * WAIT_S)

    async def waited(self) -> None:
        loop = asyncio.get_running_loop()
        self._awaited = loop, loop.create_future()
        if not self._event.is_set():
            await self._awaited[1]

    def result(self) -> str:
        assert self.ending is not None
        if self.ending in FAILURES:
            raise FAILURES[self.ending]()
        return self.ending


def _let_go(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Stage:
    """Every call of every agent: given to a member, begun, reported."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.actors: list[AgentActor] = []
        self.given: dict[Ticket, AgentActor] = {}
        self.begun: dict[Ticket, Call] = {}
        self.left: set[Ticket] = set()
        self.reported: set[Ticket] = set()
        self.complaints: list[str] = []
        self.trials: dict[Ticket, float] = {}  # those beside a request, and when they were given
        self.over = False
        self.steps = 0

    def agent(self, name: str) -> Callable[..., Any]:
        if name in SYNC:

            def run(payload: Any, context: CallContext) -> Any:
                call = self._begin(context)
                call.wait()
                self._leave(call)
                return call.result()

            return run

        async def arun(payload: Any, context: CallContext) -> Any:
            call = self._begin(context)
            try:
                await call.waited()
            finally:
                self._leave(call)
            return call.result()

        return arun

    def _begin(self, context: CallContext) -> Call:
        call = Call((context.request_id, context.attempt))
        with self.changed:
            self.begun[call.ticket] = call
            if self.over:
                call.end("ok")
            self.changed.notify_all()
        return call

    def _leave(self, call: Call) -> None:
        with self.changed:
            self.left.add(call.ticket)
            self.changed.notify_all()

    def note(self, book: Any, ticket: Ticket, actor: AgentActor | None = None) -> None:
        with self.changed:
            self.steps += 1
            if actor is None:
                book.add(ticket)
            else:
                book[ticket] = actor
            self.changed.notify_all()

    def running(self) -> list[Call]:
        """What waits for the test, in the order in which it was given to members."""
        with self.changed:
            return [
                self.begun[ticket]
                for ticket in self.given
                if ticket in self.begun and ticket not in self.left
            ]

    def holding(self, actor: AgentActor) -> int:
        """Calls that hold a slot of that actor."""
        with self.changed:
            return sum(
                each is actor and ticket not in self.reported for ticket, each in self.given.items()
            )

    def wait(self, what: str, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), f"{what}: never happened"

    def everything_has_begun(self) -> bool:
        return all(ticket in self.begun or ticket in self.reported for ticket in self.given)

    def everything_that_ended_is_reported(self) -> bool:
        return all(
            ticket in self.reported and ticket in self.left
            for ticket, call in self.begun.items()
            if call.ending is not None
        )


class Barrier:
    """A message that no actor takes: its refusal says that all before it has been handled."""


IDLE = (GetStats, CommandDone, Barrier)


@contextmanager
def watched(stage: Stage, answers: Counter[str]) -> Iterator[None]:
    """Note down what actors do and what futures are answered."""
    with pytest.MonkeyPatch.context() as patch:

        def wrap(kind: type, name: str, note: Callable[..., None]) -> None:
            original = getattr(kind, name)

            def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(self, *args, **kwargs)
                note(self, *args, result)
                return result

            patch.setattr(kind, name, noted)

        def handled(_: Any, message: Any, __: Any) -> None:
            command = message.command if isinstance(message, Forwarded) else message
            if not isinstance(command, IDLE):
                with stage.changed:
                    stage.steps += 1

        def resolved(future: PoolFuture[Any], *args: Any) -> None:
            if future.request_id is not None:
                answers[future.request_id] += 1  # also those that came second

        make_call: Callable[..., None] = AttemptCall.__init__

        def made(call: AttemptCall, owner: Any, work: Any, executor: Any, *args: Any) -> None:
            (actor,) = (each for each in stage.actors if each.calls is owner)
            stage.note(stage.given, (args[0].request_id, args[0].attempt), actor)
            make_call(call, owner, work, executor, *args)

        def begun(_: Any, attempt: Attempt, *given: Any) -> None:
            _job, _slot, now, role, _result = given
            if role is AttemptRole.BESIDE:
                stage.trials[attempt.ticket] = now

        patch.setattr(AttemptCall, "__init__", made)
        wrap(Attempts, "begin", begun)
        wrap(AgentActor, "__init__", lambda actor, *_: stage.actors.append(actor))
        wrap(
            Executions,
            "finished",
            lambda _, call, *__: stage.note(stage.reported, call.ticket),
        )
        wrap(PoolActor, "_handle_receive", handled)
        patch.setattr(pool_actor, "complain", lambda *fault: stage.complaints.append(repr(fault)))
        patch.setattr(HedgeBudget, "has_any", lambda _: True)  # else there were hardly any
        patch.setattr(PoolFuture, "resolve", _counted(PoolFuture.resolve, resolved))
        yield


def _counted(original: Callable[..., bool], note: Callable[..., None]) -> Callable[..., bool]:
    def resolve(self: Any, value: Any = None, error: BaseException | None = None) -> bool:
        note(self)
        return original(self, value, error)

    return resolve


class Theatre:
    """A pool, what was asked of it, and the model: who waits for an answer, and what runs."""

    def __init__(
        self, strategy: str, when_unavailable: Any, seed: int, hedge_after_s: Any = None
    ) -> None:
        self.clock = FakeClock()
        self.stage = Stage()
        self.answers: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.dead_tells: Counter[str] = Counter()
        self.hedges: set[Ticket] = set()
        self.cancelled: set[str] = set()
        self._watch = watched(self.stage, self.answers)
        self._watch.__enter__()
        self._end_observing = observe(self._on_event)
        self.asked: list[PoolFuture[Any]] = []
        self.told = 0
        self.commands: list[PoolFuture[Any]] = []
        self.config = CONFIG.replace(
            when_unavailable=when_unavailable,
            hedge_after_s=hedge_after_s,
            same_member_retries=seed % 2,
            stay_for_retry_after_s=(0.0, 3.0)[seed // 2 % 2],
        )
        self.pool = AgentPool.start(
            [self.member(name) for name in FIRST],
            strategy=LoadBalanceStrategy(strategy),
            config=self.config,
            name="model",
            clock=self.clock,
            rng=random.Random(seed),
        )

    def member(self, name: str) -> Member:
        slots = (ASYNC | SYNC)[name]
        return Member(name, self.stage.agent(name), max_concurrency=slots, weight=slots)

    def _on_event(self, event: Event) -> None:
        if event.request_id is None:
            return
        if isinstance(event, RequestCompleted | RequestExhausted | RequestRejected):
            self.ends[event.request_id] += 1
            if isinstance(event, RequestCompleted) and event.outcome == "cancelled":
                self.cancelled.add(event.request_id)
        elif isinstance(event, DeadLetter) and event.member is None:
            self.dead_tells[event.request_id] += 1
        elif isinstance(event, HedgeStarted):
            assert (event.request_id, event.attempt) not in self.hedges
            self.hedges.add((event.request_id, event.attempt))

    # -- what may happen

    def ask(self, timeout_s: float | None, key: str | None, idempotent: bool) -> None:
        request = Request("x", timeout_s=timeout_s, key=key, idempotent=idempotent)
        self.asked.append(self.pool.ask(request, block=False))

    def tell(self) -> None:
        self.told += 1
        self.pool.tell(Request("x", request_id=f"tell-{self.told}"))

    def cancel(self, which: int) -> None:
        waiting = [future for future in self.asked if not future.done()]
        if waiting:
            waiting[which % len(waiting)].cancel()

    def end_call(self, which: int, ending: str) -> None:
        running = [call for call in self.stage.running() if call.ending is None]
        if running:
            running[which % len(running)].end(ending)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def kill(self, which: int) -> None:
        alive = [actor for actor in self.stage.actors if actor.actor_ref.is_alive()]
        if alive:
            alive[which % len(alive)].actor_ref.stop(block=False)

    def add(self, name: str) -> None:
        self.commands.append(self.pool.ask(AddMember(self.member(name)), block=False))

    def remove(self, name: str) -> None:
        self.commands.append(self.pool.ask(RemoveMember(name), block=False))

    def force_open(self, name: str) -> None:
        self.commands.append(self.pool.ask(ForceOpen(name), block=False))

    def reset(self, name: str) -> None:
        self.commands.append(self.pool.ask(ResetMember(name), block=False))

    # -- coming to rest

    def settle(self) -> PoolStats:
        """Wait until nothing moves any more but for the test's doing."""
        stage = self.stage
        while True:
            with stage.changed:
                before = stage.steps
            self.pool.ask(GetStats(), timeout=WAIT_S)
            for actor in list(stage.actors):
                self._pass_through(actor)
            stage.wait("a call begins", stage.everything_has_begun)
            stage.wait("an ended call is reported", stage.everything_that_ended_is_reported)
            stats = self.pool.ask(GetStats(), timeout=WAIT_S)
            with stage.changed:
                if stage.steps == before:
                    return stats

    def _pass_through(self, actor: AgentActor) -> None:
        if actor.actor_ref.is_alive():
            with pytest.raises((TypeError, pykka.ActorDeadError)):
                actor.actor_ref.ask(Barrier(), timeout=WAIT_S)
        else:
            assert actor.ended.wait(WAIT_S), f"{actor} does not end"
            self.stage.actors.remove(actor)
        answered = threading.Semaphore(0)
        for _ in range(4):  # a cancelled task needs two rounds of its loop to end
            actor.host.loop.ping(answered.release)
            assert answered.acquire(timeout=WAIT_S)

    # -- the model

    def check(self, stats: PoolStats) -> None:
        """The pool is at rest: its books must be those of the model."""
        answered = Counter(self._how(future) for future in self.asked if future.done())
        dead = sum(self.dead_tells.values())
        waiting = sum(not future.done() for future in self.asked)
        assert stats.accepted == len(self.asked) + self.told
        assert stats.cancelled == answered["cancelled"]
        assert stats.failed == answered["failed"] + dead
        open_tells = stats.accepted - stats.completed - stats.failed - stats.cancelled - waiting
        assert stats.completed == answered["completed"] + self.told - dead - open_tells
        assert open_tells >= 0
        assert stats.hedges == len(self.hedges)
        running = waiting + open_tells - stats.pending
        assert 0 <= running <= stats.in_flight
        self._check_slots(stats)
        self._check_answers()
        self._check_that_nothing_runs_in_vain()

    def _check_slots(self, stats: PoolStats) -> None:
        holding = {
            actor.member.name: self.stage.holding(actor)
            for actor in self.stage.actors
            if actor.actor_ref.is_alive()
        }
        for member in stats.members:
            assert member.in_flight == holding.get(member.name, 0), stats
            assert member.in_flight <= member.max_concurrency
        assert stats.in_flight == sum(member.in_flight for member in stats.members)

    def _check_that_nothing_runs_in_vain(self) -> None:
        """A coroutine whose answer nobody wants any more has been cancelled. Of two attempts at a
        time, the later one is a hedge, or one is a trial: that may outlast its request, unless it
        is cancelled, but not its own time.
        """
        given = dict(self.stage.given)
        trials = dict(self.stage.trials)
        more = given.keys() - self.hedges - trials.keys()
        limit_s = self.config.request_timeout_s or 0.0
        for call in self.stage.running():
            request_id, attempt = call.ticket
            actor = given[call.ticket]
            if actor.member.name in ASYNC:
                assert actor.actor_ref.is_alive()
                if call.ticket in trials:
                    assert request_id not in self.cancelled
                    assert self.clock.now() < trials[call.ticket] + limit_s
                    continue
                assert self.ends[request_id] == 0
                assert (request_id, attempt + 1) not in more
                assert (request_id, attempt + 2) not in given.keys() - trials.keys()

    def _check_answers(self) -> None:
        assert self.stage.complaints == [], "an actor failed to handle a message"
        assert {name: n for name, n in self.answers.items() if n > 1} == {}
        assert {name: n for name, n in self.ends.items() if n > 1} == {}
        assert {name: n for name, n in self.dead_tells.items() if n > 1} == {}

    @staticmethod
    def _how(future: PoolFuture[Any]) -> str:
        try:
            future.get(timeout=0)
        except RequestCancelledError:
            return "cancelled"
        except Exception:
            return "failed"
        return "completed"

    # -- the end

    def finish(self) -> None:
        """Let everything end well: then nothing may be left over."""
        self._let_everything_end()
        for future in self.asked:
            self._how(future)
        stats = self.settle()
        self.check(stats)
        assert (stats.pending, stats.in_flight) == (0, 0), stats
        assert all(member.in_flight == 0 for member in stats.members)
        assert stats.accepted == stats.completed + stats.failed + stats.cancelled
        assert all(future.done() for future in self.asked)
        assert all(self.answers[future.request_id or ""] == 1 for future in self.asked)
        assert all(self.ends[future.request_id or ""] == 1 for future in self.asked)
        assert all(self.ends[f"tell-{number}"] == 1 for number in range(1, self.told + 1))
        for command in self.commands:
            assert command.done(), "a command was never answered"
        self._everybody_comes_back()

    def _let_everything_end(self) -> None:
        self.stage.over = True
        for _ in range(50):
            for call in self.stage.running():
                call.end("ok")
            stats = self.settle()
            if stats.pending == stats.in_flight == 0 and all(f.done() for f in self.asked):
                break
            self.clock.advance(1.0)
        for _ in range(30):
            self.clock.advance(1.0)
            self.settle()

    def _everybody_comes_back(self) -> None:
        """No permit is lost, no member out for ever: with calls that succeed all breakers close."""
        for member in self.pool.stats().members:
            if member.circuit is CircuitState.FORCED_OPEN or not self._is_supervised(member.name):
                self.pool.reset_member(member.name)
        for _ in range(12):
            self.clock.advance((CONFIG.circuit_reset_max_s or 0.0) + 1.0)
            self.settle()
            for number in range(20):
                self.asked.append(self.pool.ask(Request("x", key=str(number)), block=False))
            stats = self.settle()
            if all(member.circuit is CircuitState.CLOSED for member in stats.members):
                break
        self.clock.advance(CONFIG.request_timeout_s or 0.0)
        stats = self.settle()
        assert stats.available == tuple(member.name for member in stats.members), stats
        self.check(stats)

    def _is_supervised(self, name: str) -> bool:
        return any(
            actor.member.name == name and actor.actor_ref.is_alive() for actor in self.stage.actors
        )

    def close(self) -> None:
        self.stage.over = True
        for call in self.stage.running():
            call.end("ok")
        self._end_observing()
        try:
            self.pool.stop(timeout=WAIT_S)
        finally:
            self._watch.__exit__(None, None, None)


numbers = st.integers(0, 10_000)
names = st.sampled_from(NAMES)


class PoolMachine(RuleBasedStateMachine):
    """Random operations on a pool, each followed by rest and a comparison with the model."""

    theatre: Theatre | None = None

    @initialize(
        strategy=st.sampled_from(STRATEGIES),
        when_unavailable=st.sampled_from(["fail", "wait"]),
        seed=numbers,
        hedge_after_s=st.sampled_from([None, 0.4, "p95"]),
    )
    def start(self, strategy: str, when_unavailable: str, seed: int, hedge_after_s: Any) -> None:
        self.theatre = Theatre(strategy, when_unavailable, seed, hedge_after_s)

    @property
    def on(self) -> Theatre:
        assert self.theatre is not None
        return self.theatre

    @rule(
        timeout_s=st.sampled_from([None, None, 0.1, 3.0, 12.0, 40.0]),
        key=st.sampled_from([None, "k", "l"]),
        idempotent=st.sampled_from([True, True, False]),
        times=st.integers(1, 3),
    )
    def ask(self, timeout_s: float | None, key: str | None, idempotent: bool, times: int) -> None:
        for _ in range(times):
            self.on.ask(timeout_s, key, idempotent)

    @rule()
    def tell(self) -> None:
        self.on.tell()

    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        self.on.cancel(which)

    @rule(which=numbers, ending=st.sampled_from(ENDINGS))
    def end_call(self, which: int, ending: str) -> None:
        self.on.end_call(which, ending)

    @rule(which=numbers, ending=st.sampled_from(ENDINGS))
    def end_another_call(self, which: int, ending: str) -> None:
        self.on.end_call(which, ending)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]))
    def advance(self, seconds: float) -> None:
        self.on.advance(seconds)

    @rule(which=numbers)
    def kill(self, which: int) -> None:
        self.on.kill(which)

    @rule(name=names)
    def add(self, name: str) -> None:
        self.on.add(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.on.remove(name)

    @rule(name=names)
    def force_open(self, name: str) -> None:
        self.on.force_open(name)

    @rule(name=names)
    def reset(self, name: str) -> None:
        self.on.reset(name)

    @invariant()
    def books_are_right(self) -> None:
        if self.theatre is not None:
            self.theatre.check(self.theatre.settle())

    def teardown(self) -> None:
        if self.theatre is None:
            return
        try:
            self.theatre.finish()
        finally:
            self.theatre.close()


class TestB42(PoolMachine.TestCase):  # type: ignore[misc, valid-type]
    """b42: every ask is answered once, slots come back, and the statistics equal a model."""

    settings = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("hedge_after_s", [None, 0.4, "p95"])
@pytest.mark.parametrize("seed", range(9))
def test_b42_b50_a_long_random_run_loses_no_answer_and_no_slot(
    seed: int, hedge_after_s: Any
) -> None:
    """2000 operations, mostly without coming to rest in between, so that they truly race."""
    rng = random.Random(seed)
    theatre = Theatre(rng.choice(STRATEGIES), rng.choice(["fail", "wait"]), seed, hedge_after_s)
    operations: list[tuple[int, Callable[[], object]]] = [
        (25, lambda: theatre.ask(rng.choice([None, 0.5, 3.0, 20.0]), rng.choice("kl"), True)),
        (4, theatre.tell),
        (4, lambda: theatre.cancel(rng.randrange(100))),
        (40, lambda: theatre.end_call(rng.randrange(100), rng.choice(ENDINGS))),
        (8, lambda: theatre.advance(rng.choice([0.1, 0.1, 0.5, 2.0, 10.0]))),
        (2, lambda: theatre.kill(rng.randrange(100))),
        (4, lambda: theatre.add(rng.choice(NAMES))),
        (1, lambda: theatre.remove(rng.choice(NAMES))),
        (1, lambda: theatre.force_open(rng.choice(NAMES))),
        (5, lambda: theatre.reset(rng.choice(NAMES))),
        ((0, 10, 30)[seed % 3], theatre.pool.stats),  # lets the actors catch up
        (4, lambda: theatre.check(theatre.settle())),
    ]
    weights = [weight for weight, _ in operations]
    try:
        for _, operate in rng.choices(operations, weights, k=2000):
            operate()
        theatre.finish()
    finally:
        theatre.close()


def test_b42_a_call_of_a_member_that_has_just_died_can_be_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The router has found its actor dead, the supervisor has not said so yet."""
    supervisor_may_go_on = threading.Event()
    died = threading.Event()
    actor_ended = Roster.actor_ended

    def held(self: Roster, message: Any) -> None:
        died.set()
        assert supervisor_may_go_on.wait(WAIT_S)
        actor_ended(self, message)

    monkeypatch.setattr(Roster, "actor_ended", held)
    theatre = Theatre("round_robin", "fail", 1)
    try:
        for _ in FIRST:
            theatre.ask(None, None, True)
        theatre.settle()
        (victim,) = (actor for actor in theatre.stage.actors if actor.member.name == "b")
        victim.actor_ref.stop(block=False)
        assert died.wait(WAIT_S)
        for _ in FIRST:  # one of them is meant for b
            theatre.ask(None, None, True)
        assert theatre.asked[1].cancel()
        with pytest.raises(RequestCancelledError):
            theatre.asked[1].get(timeout=WAIT_S)
        supervisor_may_go_on.set()
        theatre.finish()
    finally:
        supervisor_may_go_on.set()
        theatre.close()
