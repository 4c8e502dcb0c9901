"""A member's circuit breaker. Pure: `now` is an argument, in monotonic seconds. Not thread-safe.

Each state is one small class that says which state it wants next; `Breaker` carries that out: it
starts the epoch, draws the delay and reports the `Transition`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.policy.breaker_states import (
    BreakerPolicy,
    Closed,
    Disabled,
    ForcedOpen,
    HalfOpen,
    Next,
    Open,
    Outcome,
    State,
)
from greenroom.supervisors.policy.delays import reopen_delay

__all__ = ["Breaker", "BreakerPolicy", "Permit", "Transition"]

LASTING_RESET_S = 30.0
LASTING_MAX_S = 300.0
"""How long it stays open, at first and at most, for what does not pass by itself (a key that is not
valid, a quota that is used up): trials every few seconds would be of no use. The policy's own times
are taken where they are longer.
"""
DISABLED_BY_HAND = "disabled by hand"
_FOLLOWED = "what had opened it was the request's fault: it failed alike everywhere"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; its outcome is reported with its epoch.

    Attributes:
        spent: whether an outcome has been recorded with it: there is one for each.
    """

    epoch: int
    id: int
    spent: bool = field(default=False, init=False, repr=False, compare=False)

    def spend(self) -> bool:
        """Whether this is the first time. To be called under the lock of whoever keeps count."""
        if self.spent:
            return False
        object.__setattr__(self, "spent", True)
        return True


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state: `epoch` is the new one, `reopens_at` the end of a timed opening.

    Attributes:
        goes_on: whether that opening is the one there was, which a trial before its end has failed
            to end.
        kind: that of the failure which has opened it.
        heard: whether somebody outside has said so.
    """

    before: CircuitState
    after: CircuitState
    epoch: int
    at: float
    reason: str
    reopens_at: float | None = None
    goes_on: bool = False
    kind: FailureKind | None = None
    heard: bool = False


@dataclass(slots=True, eq=False)
class _Evidence:
    """What a breaker that is not closed would take back if requests turned out to be at fault.

    Attributes:
        closed: the closed state as it would be had it not opened, failures since included; None
            where it is beyond doubt that it had to open.
        trials: requests, not yet at their end, whose trial failed, in order.
    """

    closed: Closed | None
    trials: list[int] = field(default_factory=list)


class Breaker:
    """One member's breaker. Every change of state starts an epoch; outcomes of older ones are void.

    Failures may carry the number of the request that they are of. Then they count once for a
    request, and `retract` takes them back, with what has come of them.

    Attributes:
        epoch: 1 at first; never goes back.
        openings: openings in a row, without a closing in between.
        tried: whether it has closed by what was tried, and so is to be given more step by step.
    """

    __slots__ = (
        "_evidence", "_last_permit", "_policy", "_rng", "_state", "epoch", "openings", "tried",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._state: State = Closed(policy)
        self._evidence: _Evidence | None = None
        self._last_permit = 0
        self.epoch = 1
        self.openings = 0
        self.tried = False

    @property
    def state(self) -> CircuitState:
        """The state as of the last event; `tick` first to have it as of now."""
        return self._state.circuit

    @property
    def consecutive_failures(self) -> int:
        """Requests in a row that failed while closed; 0 in every other state."""
        return self._state.failures

    @property
    def reopens_at(self) -> float | None:
        """When an opening ends; None when there is none, or it is by hand."""
        return self._state.reopens_at

    @property
    def next_event_at(self) -> float | None:
        """When `tick` next has something to do: a reopening, or a lease's end."""
        return self._state.next_event_at

    @property
    def trial_credit(self) -> int | None:
        """How many trials may be started in this epoch altogether; None unless half-open.

        A running total: `half_open_permits` and one more for every trial that reported, was
        cancelled, or whose lease ended.
        """
        return self._state.credit

    @property
    def is_early(self) -> bool:
        """Whether it is half-open before its time, by `try_early`."""
        return isinstance(self._state, HalfOpen) and self._state.early_until is not None

    def may_try_early(self, now: float) -> bool:
        """Whether it is open for what may pass by itself, and no Retry-After forbids a trial."""
        state = self._state
        return isinstance(state, Open) and not state.lasting and now >= state.not_before

    def early_from(self, now: float) -> float | None:
        """When a Retry-After ends that forbids such a trial, if that is before the opening ends."""
        state = self._state
        if not isinstance(state, Open) or state.lasting or state.not_before <= now:
            return None
        return state.not_before

    def try_early(self, now: float) -> Transition | None:
        """Have an open one tried before its time, one call at a time. The first success closes it;
        a failure leaves the opening as it was, no longer than it would have been.
        """
        if not self.may_try_early(now):
            return None
        until = self.reopens_at
        transition = self._enter(Next(CircuitState.HALF_OPEN, "before its time"), now)
        assert isinstance(self._state, HalfOpen)
        self._state.early_until = until
        return transition

    def open_with(
        self, reopens_at: float, kind: FailureKind, reason: str, now: float
    ) -> Transition | None:
        """Be open until the next trial of another breaker, which has opened by what both share: a
        key, an account. One that is open already, or by hand, stays as it is.
        """
        if not isinstance(self._state, Closed | HalfOpen):
            return None
        self._evidence = None
        shared = Open(reopens_at, lasting=True)
        return self._enter(Next(CircuitState.OPEN, reason, kind=kind), now, shared)

    def close_with(self, reason: str, now: float, *, heard: bool = False) -> Transition | None:
        """The other one has closed by its trials: so does this one, if it still waits for its."""
        if not isinstance(self._state, Open | HalfOpen):
            return None
        return self._enter(Next(CircuitState.CLOSED, reason, tried=True, heard=heard), now)

    def open_as_heard(
        self, until: float, kind: FailureKind, reason: str, now: float
    ) -> Transition | None:
        """Be open until then, as somebody outside says that its member fails. One that is open
        already lasts as long as the longer of both; one that is held by hand stays as it is.
        """
        state = self._state
        if isinstance(state, Open):
            state.reopens_at = max(state.reopens_at, until)
        if not isinstance(state, Closed | HalfOpen):
            return None
        self._evidence = None
        wanted = Next(CircuitState.OPEN, reason, kind=kind, heard=True)
        return self._enter(wanted, now, Open(until, lasting=kind.opens_at_once))

    def tick(self, now: float) -> Transition | None:
        """Let time pass: openings end, permits that never reported come back."""
        return self._enter(self._state.tick(now), now)

    def admits(self, now: float) -> bool:
        """Whether `acquire` would grant a permit now, given that `tick` has seen this time."""
        return self._state.admits(now)

    def acquire(self, now: float) -> Permit | None:
        """Leave for one call, or None. Ticks first, and tells nobody of a transition by that."""
        self.tick(now)
        if not self._state.admits(now):
            return None
        self._state.trial_started(now)
        self._last_permit += 1
        return Permit(self.epoch, self._last_permit)

    def trial_started(self, epoch: int, now: float) -> None:
        """A router has started a trial at `now` on its own account; void in any other epoch."""
        if epoch == self.epoch:
            self._state.trial_started(now)

    def record(
        self,
        epoch: int,
        now: float,
        *,
        kind: FailureKind | None,
        elapsed_s: float = 0.0,
        retry_after_s: float | None = None,
        probe: bool = False,
        began: float | None = None,
        opens_at_once: bool | None = None,
        request: int | None = None,
        may_open: bool = True,
    ) -> Transition | None:
        """Take in how a call admitted in `epoch` ended at `now`; `kind` is None for a success.

        Calls of any epoch but this one change nothing. A probe holds no permit and gives none back;
        while closed only its failures count.

        Args:
            retry_after_s: seconds before whose end an opening by this failure does not end.
            began: when it started, if that is not `elapsed_s` ago: a stream is as fast as its first
                chunk, and goes on for longer.
            opens_at_once: whether one such failure is enough; None: as the kind has it.
            request: the number, above 0, of the request that failed; None: one of its own.
            may_open: whether it may open a closed breaker. Where it may not, the failure counts all
                the same: the next one that may, or `review`, opens it.
        """
        if epoch != self.epoch:
            return None
        if opens_at_once is None:
            opens_at_once = kind is not None and kind.opens_at_once
        limit = self._policy.slow_call_s
        slow = limit is not None and elapsed_s > limit
        not_before = _retry_at(now, kind, retry_after_s)
        started = now - elapsed_s if began is None else began
        outcome = Outcome(
            now, kind, elapsed_s, slow, probe, not_before, started, opens_at_once, request, may_open
        )
        wanted = self._state.record(outcome)
        # Before `_enter`: what is kept is the state that is left by it.
        if wanted is not None and wanted.state is CircuitState.OPEN:
            self._note(outcome, wanted)
        return self._enter(wanted, now)

    def take(self, epoch: int, elapsed_s: Sequence[float]) -> bool:
        """Take in at once successes admitted in `epoch`, where that is the same as to `record` each
        of them: no change of state can come of it. False, and nothing taken in, where it is not.

        Args:
            elapsed_s: how long each of them took; at least one.
        """
        if epoch != self.epoch:
            return True
        limit = self._policy.slow_call_s
        if limit is not None and max(elapsed_s) > limit:
            return False
        return self._state.take(len(elapsed_s))

    def retract(self, request: int, now: float) -> Transition | None:
        """Take the failures of a request off all accounts: it was the request that was odd.

        An opening that would not have come without them is undone: closed again, with whatever
        else counts. Where they made a trial fail, the breaker is half-open again.
        """
        if isinstance(self._state, Closed):
            self._state.retract(request)
            return None
        evidence = self._evidence
        if evidence is None:
            return None
        # The closed state has been kept, and counts on while the breaker is open: so it can be
        # asked whether it would have opened without this request.
        closed = evidence.closed
        if closed is not None and closed.retract(request) and closed.reason_to_open() is None:
            return self._enter(Next(CircuitState.CLOSED, _FOLLOWED), now, closed)
        if request not in evidence.trials:
            return None
        last = evidence.trials[-1] == request
        evidence.trials.remove(request)
        # That trial is as if it had not been: the next opening does not last longer by it.
        self.openings -= 1
        # A later trial has failed as well, or the opening has ended
        # meanwhile: nothing to go back to.
        if not last or self.state is not CircuitState.OPEN:
            return None
        return self._enter(Next(CircuitState.HALF_OPEN, _FOLLOWED), now)

    def settle(self, request: int) -> None:
        """A request has ended: its failures are the member's, and cannot be taken back any more."""
        state, evidence = self._state, self._evidence
        if isinstance(state, Closed):
            state.settle(request)
        elif evidence is not None and request in evidence.trials:
            self._evidence = None  # a trial has failed for good
        elif evidence is not None and evidence.closed is not None:
            evidence.closed.settle(request)

    def review(self, now: float, *, beyond_doubt: bool) -> Transition | None:
        """Let an opening come that was held back: where `beyond_doubt`, only if there is enough for
        it without what may still be taken back.
        """
        reason = self._reason(beyond_doubt)
        if reason is None:
            return None
        assert isinstance(self._state, Closed)
        self._evidence = _Evidence(self._state)
        return self._enter(Next(CircuitState.OPEN, reason, kind=self._state.last_kind), now)

    def configure(self, policy: BreakerPolicy) -> None:
        """Go by another policy from the next outcome on: the state and all counts stay, and an
        opening ends when it was to end.
        """
        self._policy = policy
        self._state.configure(policy)
        if self._evidence is not None and self._evidence.closed is not None:
            self._evidence.closed.configure(policy)

    @property
    def in_doubt(self) -> bool:
        """Whether it has opened, and would not have without what may still be taken back."""
        closed = None if self._evidence is None else self._evidence.closed
        return closed is not None and closed.reason_to_open(beyond_doubt=True) is None

    def is_near_opening(self) -> bool:
        """Whether it is closed, and one more failure may open it, or what has been held back."""
        state = self._state
        return isinstance(state, Closed) and state.is_near_opening()

    def must_open(self) -> bool:
        """Whether a closed one has enough to open without what may still be taken back."""
        return self._reason(beyond_doubt=True) is not None

    def _reason(self, beyond_doubt: bool) -> str | None:
        state = self._state
        if not isinstance(state, Closed):
            return None
        return state.reason_to_open(beyond_doubt=beyond_doubt)

    def force_open(self, now: float) -> Transition | None:
        """Keep everything out until `reset` or `disable`."""
        return self._by_hand(CircuitState.FORCED_OPEN, "forced by hand", now)

    def disable(self, now: float) -> Transition | None:
        """Let everything through and record nothing until `reset` or `force_open`."""
        return self._by_hand(CircuitState.DISABLED, DISABLED_BY_HAND, now)

    def reset(self, now: float) -> Transition | None:
        """Close it, counts at zero. If closed already: a new epoch all the same, no transition."""
        return self._by_hand(CircuitState.CLOSED, "reset by hand", now)

    def _by_hand(self, state: CircuitState, reason: str, now: float) -> Transition | None:
        # To reset a closed one is not for nothing: its counts are zero after that, and what is
        # still under way is void.
        if state is self.state and state is not CircuitState.CLOSED:
            return None
        transition = self._enter(Next(state, reason), now)
        return transition if transition and transition.before is not state else None

    def _note(self, outcome: Outcome, opening: Next) -> None:
        """Keep what would be wanted if the request that opens it turned out to be at fault."""
        state, request = self._state, outcome.request
        if isinstance(state, Closed):
            # A 401 is the member's, however its request ends; so is a
            # failure without a request, as of a probe.
            doubtful = request is not None and not opening.lasting
            self._evidence = _Evidence(state) if doubtful else None
        elif opening.lasting or request is None or outcome.kind is None:
            self._evidence = None
        else:
            # Opened beyond doubt at first: then only the trials can be taken back.
            evidence = self._evidence = self._evidence or _Evidence(None)
            if not opening.until:  # else it has made no opening that could be undone
                evidence.trials.append(request)
            if evidence.closed is not None:
                evidence.closed.count(True, outcome.slow, request)

    def _enter(
        self, wanted: Next | None, now: float, back_to: Closed | Open | None = None
    ) -> Transition | None:
        if wanted is None:
            return None
        before = self.state
        made = self._made(wanted, now)
        # `_made` is called all the same: it counts the openings, or sets them back.
        self._state = made if back_to is None else back_to
        self.epoch += 1
        self.tried = wanted.tried
        return Transition(
            before,
            self.state,
            self.epoch,
            now,
            wanted.reason,
            self.reopens_at,
            bool(wanted.until),
            wanted.kind,
            wanted.heard,
        )

    def _made(self, wanted: Next, now: float) -> State:
        policy = self._policy
        match wanted.state:
            case CircuitState.OPEN:
                not_before = wanted.not_before
                if wanted.until:
                    return Open(max(wanted.until, not_before), not_before)
                self.openings += 1
                base_s, max_s = policy.reset_timeout_s, policy.reset_max_s
                if wanted.lasting:
                    base_s, max_s = max(base_s, LASTING_RESET_S), max(max_s, LASTING_MAX_S)
                delay = reopen_delay(self.openings, base_s, max_s, self._rng)
                return Open(max(now + delay, not_before), not_before, wanted.lasting)
            case CircuitState.HALF_OPEN:
                return HalfOpen(policy)
            case CircuitState.FORCED_OPEN:
                self._evidence = None
                return ForcedOpen()
            case CircuitState.DISABLED:
                self._evidence = None
                return Disabled()
            case CircuitState.CLOSED:
                self._evidence = None
                self.openings = 0
                return Closed(policy)

    def __repr__(self) -> str:
        until = "" if self.reopens_at is None else f", reopens at {self.reopens_at:.3f}"
        return (
            f"<Breaker {self.state}, epoch {self.epoch}, "
            f"{self.consecutive_failures} failures in a row{until}>"
        )


def _retry_at(now: float, kind: FailureKind | None, retry_after_s: float | None) -> float:
    """When a Retry-After ends; 0.0 if there is none, or none that makes sense."""
    if kind is None or not kind.counts_for_breaker or retry_after_s is None:
        return 0.0
    return now + retry_after_s if retry_after_s > 0 and math.isfinite(retry_after_s) else 0.0
