"""Behaviour 12: the breaker against a model that keeps the history and counts it anew each time.

Requests come to their end, and are then at fault themselves or not, in any order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Permit, Transition

# Small binary fractions: sums are exact, and boundaries are hit.
POLICY = BreakerPolicy(
    failure_threshold=3,
    reset_timeout_s=8.0,
    reset_max_s=20.0,
    success_threshold=2,
    window=6,
    min_calls=4,
    failure_rate=0.5,
    slow_rate=0.75,
    slow_call_s=1.0,
    half_open_permits=2,
    permit_lease_s=4.0,
)
AT_ONCE = (FailureKind.AUTH, FailureKind.QUOTA)
IGNORED = (
    FailureKind.RATE_LIMITED,
    FailureKind.NOT_FOUND,
    FailureKind.TOO_LARGE,
    FailureKind.CALLER,
    FailureKind.CANCELLED,
    FailureKind.CREATE_FAILED,
    FailureKind.INTERRUPTED,
)
Kind = FailureKind | None

kinds = st.sampled_from([*[None] * 6, *[FailureKind.UNKNOWN] * 4, *FailureKind])
elapsed = st.sampled_from([0.0, 0.0, 1.0, 1.25, 3.0, 6.0, 9.0])
retry_afters = st.sampled_from([*[None] * 4, 0.0, -1.0, 2.0, 30.0])
steps = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.75, 4.0, 7.75, 8.0, 20.0])
calls = st.tuples(
    st.sampled_from([None, None, FailureKind.UNAVAILABLE, FailureKind.TIMEOUT]),
    st.sampled_from([0.0, 1.0, 1.25, 2.0]),
)


class Sixteenths(random.Random):
    """Draws only multiples of 1/16: a jittered delay stays a number without rounding."""

    def random(self) -> float:
        return int(super().random() * 16) / 16


@dataclass
class Trial:
    started: float
    fate: str = "running"  # or "reported", "lost"


@dataclass
class Call:
    """One that counts; `request` is whose it is, as long as that may be taken back."""

    kind: Kind
    slow: bool
    request: int | None = None
    in_row: bool = True  # no success has come since
    in_window: bool = True


@dataclass
class Model:
    """Histories, from which counts and permits are worked out anew each time."""

    state: str = "closed"
    epoch: int = 1
    openings: int = 0
    until: float = 0.0  # end of the opening
    calls: list[Call] = field(default_factory=list)  # counted, in this epoch
    trials: list[Trial] = field(default_factory=list)  # started, in this epoch
    before: list[Call] | None = None  # what it would have counted had it not opened
    failed_trials: list[int] = field(default_factory=list)  # requests that may be taken back
    lasting: bool = False  # whether the opening is for what does not pass by itself

    def go(self, state: str, until: float = 0.0) -> None:
        self.state, self.until = state, until
        self.epoch += 1
        self.calls, self.trials = [], []
        if state == "closed":
            self.openings = 0
        if state not in ("open", "half_open"):
            self.before, self.failed_trials = None, []

    def open(self, now: float, not_before: float, kind: Kind) -> None:
        """Opens for the shortest time that is right: the jitter is the breaker's own."""
        self.openings += 1
        self.lasting = kind in AT_ONCE
        lowest, _ = self.bounds()
        self.go("open", max(now + lowest, not_before))

    def bounds(self) -> tuple[float, float]:
        base, most = (30.0, 300.0) if self.lasting else (8.0, 20.0)
        nominal = min(most, base * 2.0 ** (self.openings - 1))
        return max(base, nominal / 2), nominal

    def run(self) -> int:
        """Requests that have failed since the last success."""
        return len(in_a_row(self.calls))

    def tick(self, now: float) -> None:
        if self.state == "open" and now >= self.until:
            self.go("half_open")
        for trial in self.trials:
            if trial.fate == "running" and now - trial.started >= POLICY.permit_lease_s:
                trial.fate = "lost"

    def running(self) -> list[Trial]:
        return sorted((t for t in self.trials if t.fate == "running"), key=lambda t: t.started)

    def admits(self, now: float) -> bool:
        if self.state == "half_open":
            return len(self.running()) < POLICY.half_open_permits
        return self.state in ("disabled", "closed")

    def reported(self, began: float) -> None:
        """A report belongs to the oldest trial under way, unless it is clearly older than that."""
        running = self.running()
        late = [t for t in self.trials if t.fate == "lost"]
        if running and late and running[0].started - began > POLICY.permit_lease_s / 2:
            late[0].fate = "reported"
        elif running:
            running[0].fate = "reported"

    def record(
        self,
        now: float,
        kind: Kind,
        took: float,
        retry: float | None,
        probe: bool,
        request: int | None = None,
        may_open: bool = True,
    ) -> None:
        if self.state == "half_open" and not probe:
            self.reported(now - took)
        if kind in IGNORED or (probe and kind is None and self.state == "closed"):
            return
        not_before = now + retry if kind is not None and retry is not None and retry > 0 else 0.0
        call = Call(kind, took > 1.0, request if kind is not None else None)
        if self.state == "half_open":
            self.calls.append(call)
            if kind is not None or call.slow:
                self.note_failed_trial(call)
                self.open(now, not_before, kind)
            elif len(self.calls) == POLICY.success_threshold:
                self.go("closed")
        elif self.state == "closed":
            worse = kind is not None or call.slow or len(window(self.calls)) < POLICY.min_calls
            count(self.calls, call)
            at_once = kind in AT_ONCE
            if may_open and (at_once or (worse and trips(self.calls))):
                before = self.calls if call.request is not None and not at_once else None
                self.before, self.failed_trials = before, []
                self.open(now, not_before, kind)
        elif self.state == "open":
            self.until = max(self.until, not_before)

    def note_failed_trial(self, call: Call) -> None:
        if call.request is None or call.kind in AT_ONCE:
            self.before, self.failed_trials = None, []
            return
        self.failed_trials.append(call.request)
        if self.before is not None:
            count(self.before, replace(call))

    def retract(self, request: int) -> None:
        if self.state == "closed":
            retract(self.calls, request)
        elif self.before is not None and retract(self.before, request) and not trips(self.before):
            calls = self.before
            self.go("closed")
            self.calls = calls
        elif request in self.failed_trials:
            last = self.failed_trials[-1] == request
            self.failed_trials.remove(request)
            self.openings -= 1
            if last and self.state == "open":
                self.go("half_open")

    def settle(self, request: int) -> None:
        if request in self.failed_trials:
            self.before, self.failed_trials = None, []
        for call in self.calls if self.state == "closed" else self.before or []:
            if call.request == request:
                call.request = None

    def review(self, now: float, beyond_doubt: bool) -> None:
        calls = [c for c in self.calls if not beyond_doubt or c.request is None]
        if self.state == "closed" and trips(calls):
            self.before, self.failed_trials = self.calls, []
            self.open(now, 0.0, None)


def window(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.in_window]


def in_a_row(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.in_row and call.kind is not None]


def count(calls: list[Call], call: Call) -> None:
    """A request counts once in the row, and once in the window."""
    if call.kind is None:
        for each in calls:
            each.in_row = False
    same = [each for each in calls if call.request is not None and each.request == call.request]
    call.in_row = not any(each.in_row for each in same)
    call.in_window = not any(each.in_window for each in same)
    if call.in_window and len(window(calls)) == POLICY.window:
        window(calls)[0].in_window = False
    calls.append(call)


def retract(calls: list[Call], request: int) -> bool:
    counted = [c for c in calls if c.request == request and (c.in_row or c.in_window)]
    calls[:] = [call for call in calls if call.request != request]
    return bool(counted)


def trips(calls: list[Call]) -> bool:
    last = window(calls)
    failed, slow = sum(c.kind is not None for c in last), sum(c.slow for c in last)
    by_rate = len(last) >= POLICY.min_calls and (
        2 * failed >= len(last) or 4 * slow >= 3 * len(last)
    )
    return len(in_a_row(calls)) >= POLICY.failure_threshold or by_rate


class BreakerMachine(RuleBasedStateMachine):
    """Gives both the same random commands."""

    @initialize(seed=st.integers(0, 1000))
    def start(self, seed: int) -> None:
        self.breaker = Breaker(POLICY, Sixteenths(seed))
        self.model = Model()
        self.now = 100.0
        self.requests: list[int] = []  # that go on
        self.last = 0

    def agree(self, made: Transition | None, before: str) -> None:
        """The transition is the model's; the end of a new opening is within the jitter's bounds."""
        model = self.model
        assert (made is not None) == (model.state != before)
        if made is None:
            return
        assert (made.before.value, made.after.value) == (before, model.state)
        assert (made.epoch, made.at) == (model.epoch, self.now)
        assert made.reason
        if model.state == "open":
            assert made.reopens_at is not None
            _, longest = model.bounds()
            assert model.until <= made.reopens_at <= max(model.until, self.now + longest)
            model.until = made.reopens_at
        else:
            assert made.reopens_at is None

    @rule(seconds=steps)
    def advance(self, seconds: float) -> None:
        self.now += seconds
        before = self.model.state
        self.model.tick(self.now)
        self.agree(self.breaker.tick(self.now), before)

    @rule()
    def advance_to_the_next_event(self) -> None:
        self.advance(max(0.0, (self.breaker.next_event_at or self.now) - self.now))

    @rule(seconds=steps)
    def acquire(self, seconds: float) -> None:
        self.now += seconds  # acquire ticks by itself
        self.model.tick(self.now)
        granted = self.model.admits(self.now)
        if granted and self.model.state == "half_open":
            self.model.trials.append(Trial(self.now))
        permit = self.breaker.acquire(self.now)
        assert (permit is not None) == granted
        assert not isinstance(permit, Permit) or permit.epoch == self.model.epoch

    @precondition(lambda self: self.model.admits(self.now))
    @rule()
    def router_starts_a_trial(self) -> None:
        if self.model.state == "half_open":
            self.model.trials.append(Trial(self.now))
        self.breaker.trial_started(self.model.epoch, self.now)

    @rule(kind=kinds, took=elapsed, retry=retry_afters, probe=st.booleans())
    def record(self, kind: Kind, took: float, retry: float | None, probe: bool) -> None:
        before, epoch = self.model.state, self.model.epoch
        self.model.record(self.now, kind, took, retry, probe)
        made = self.breaker.record(
            epoch, self.now, kind=kind, elapsed_s=took, retry_after_s=retry, probe=probe
        )
        self.agree(made, before)

    @rule(
        kind=kinds,
        took=st.sampled_from([0.0, 0.0, 1.25]),
        which=st.integers(0, 4),
        may_open=st.booleans(),
    )
    def a_request_fails(self, kind: Kind, took: float, which: int, may_open: bool) -> None:
        """One that goes on, or a new one."""
        if which >= len(self.requests):
            self.last += 1
            self.requests.append(self.last)
        request = self.requests[min(which, len(self.requests) - 1)] if kind is not None else None
        may_open = may_open or kind is None
        before, epoch = self.model.state, self.model.epoch
        self.model.record(self.now, kind, took, None, False, request, may_open)
        made = self.breaker.record(
            epoch, self.now, kind=kind, elapsed_s=took, request=request, may_open=may_open
        )
        self.agree(made, before)

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 4), spared=st.booleans(), beyond_doubt=st.booleans())
    def a_request_ends(self, which: int, spared: bool, beyond_doubt: bool) -> None:
        """It was at fault, or its members were, and then an opening may be due."""
        request = self.requests.pop(min(which, len(self.requests) - 1))
        before = self.model.state
        if spared:
            self.model.retract(request)
            self.agree(self.breaker.retract(request, self.now), before)
            return
        self.model.settle(request)
        self.breaker.settle(request)
        self.same()
        self.model.review(self.now, beyond_doubt)
        self.agree(self.breaker.review(self.now, beyond_doubt=beyond_doubt), before)

    @rule(batch=st.lists(calls, min_size=3, max_size=8))
    def record_a_batch(self, batch: list[tuple[Kind, float]]) -> None:
        for kind, took in batch:
            self.record(kind, took, None, False)
            self.same()

    @precondition(lambda self: self.model.state == "closed")
    @rule()
    def lead_to_half_open(self) -> None:
        self.record(FailureKind.AUTH, 0.0, None, False)
        self.advance_to_the_next_event()

    @rule(count=st.integers(1, 2), took=st.sampled_from([0.0, 1.0]), probe=st.booleans())
    def trials_succeed(self, count: int, took: float, probe: bool) -> None:
        for _ in range(count):
            self.acquire(0.0)
            self.record(None, took, None, probe)

    @precondition(lambda self: self.model.state == "half_open")
    @rule(after=st.sampled_from([0.0, 1.0, 3.75]))
    def a_trial_is_lost_and_another_starts(self, after: float) -> None:
        self.acquire(0.0)
        self.advance_to_the_next_event()
        self.same()
        self.acquire(after)

    @rule(kind=kinds, age=st.sampled_from([-1, 1, 2]), retry=retry_afters, probe=st.booleans())
    def record_of_another_epoch(
        self, kind: Kind, age: int, retry: float | None, probe: bool
    ) -> None:
        epoch = self.model.epoch - age
        made = self.breaker.record(
            epoch, self.now, kind=kind, elapsed_s=9.0, retry_after_s=retry, probe=probe
        )
        assert made is None
        self.breaker.trial_started(epoch, self.now)

    @rule(state=st.sampled_from(["forced_open", "disabled", "closed", "closed"]))
    def by_hand(self, state: str) -> None:
        before = self.model.state
        if before != state or state == "closed":
            self.model.go(state)
        breaker = self.breaker
        commands = {"forced_open": breaker.force_open, "disabled": breaker.disable}
        self.agree(commands.get(state, breaker.reset)(self.now), before)

    @invariant()
    def same(self) -> None:
        """State, counts, permits and times are the model's after every command."""
        model, breaker = self.model, self.breaker
        assert breaker.state.value == model.state
        assert (breaker.epoch, breaker.openings) == (model.epoch, model.openings)
        assert breaker.consecutive_failures == (model.run() if model.state == "closed" else 0)
        assert breaker.reopens_at == (model.until or None)
        given_back = len(model.trials) - len(model.running())
        credit = POLICY.half_open_permits + given_back if model.state == "half_open" else None
        assert breaker.trial_credit == credit
        ends = [trial.started + POLICY.permit_lease_s for trial in model.running()]
        assert breaker.next_event_at == (min(ends) if ends else breaker.reopens_at)
        assert breaker.admits(self.now) == model.admits(self.now)


TestB12BreakerIsItsModel = BreakerMachine.TestCase
TestB12BreakerIsItsModel.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, derandomize=True, database=None
)


def play_requests(machine: BreakerMachine, draw: random.Random) -> None:
    """Requests fail and end, in any order; openings and trials come of it more often than not."""
    kinds: list[Kind] = [FailureKind.UNKNOWN, FailureKind.UNKNOWN, FailureKind.TIMEOUT, None]
    for _ in range(80):
        if machine.model.state == "half_open" and draw.random() < 0.6:
            machine.acquire(0.0)
        what = draw.random()
        if what < 0.55:
            kind = draw.choice(kinds)
            machine.a_request_fails(kind, 0.0, draw.randrange(9), draw.random() < 0.8)
        elif what < 0.8 and machine.requests:
            spared, beyond = draw.random() < 0.6, draw.random() < 0.5
            machine.a_request_ends(draw.randrange(9), spared, beyond)
        elif what < 0.9:
            machine.advance_to_the_next_event()
        elif what < 0.95:
            machine.record(None, 0.0, None, False)
        elif what < 0.96:
            machine.a_request_fails(FailureKind.AUTH, 0.0, draw.randrange(9), True)
        machine.same()


def test_b12_requests_that_end_in_any_order() -> None:
    """What is taken back undoes what came of it, as the model has it; each way of that comes up."""
    undone: Counter[str] = Counter()
    for seed in range(300):
        machine = BreakerMachine()
        machine.start(seed)
        agree = machine.agree

        def agree_and_count(made: Transition | None, before: str, agree: Any = agree) -> None:
            agree(made, before)
            if made is not None and "request's fault" in made.reason:
                undone[f"{made.before} -> {made.after}"] += 1

        machine.agree = agree_and_count  # type: ignore[method-assign]
        play_requests(machine, random.Random(seed))
    ways = {"open -> closed", "half_open -> closed", "open -> half_open"}
    assert {way for way, count in undone.items() if count > 20} == ways


def test_b12_the_model_reaches_every_state() -> None:
    """The commands of the model's test lead into all five states, so that it compares them all."""
    states = {CircuitState.CLOSED}
    machine = BreakerMachine()
    machine.start(1)
    commands: list[Callable[[], object]] = [
        lambda: machine.by_hand("forced_open"),
        lambda: machine.by_hand("disabled"),
        lambda: machine.by_hand("closed"),
        lambda: machine.record(FailureKind.AUTH, 0.0, None, False),
        machine.advance_to_the_next_event,
        lambda: machine.trials_succeed(2, 0.0, False),
    ]
    for command in commands:
        command()
        machine.same()
        states.add(machine.breaker.state)
    assert states == set(CircuitState)
    assert machine.breaker.state is CircuitState.CLOSED
