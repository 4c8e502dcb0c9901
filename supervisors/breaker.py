"""A member's circuit breaker. Pure: `now` is an argument, in monotonic seconds. Not thread-safe.

Each state is one small class that says which state it wants next; `Breaker` carries that out: it
starts the epoch, draws the delay and reports the `Transition`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.backoff import reopen_delay
from greenroom.supervisors.breaker_states import (
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

__all__ = ["Breaker", "BreakerPolicy", "Permit", "Transition"]


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; its outcome is reported with its epoch."""

    epoch: int
    id: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state: `epoch` is the new one, `reopens_at` the end of a timed opening."""

    before: CircuitState
    after: CircuitState
    epoch: int
    at: float
    reason: str
    reopens_at: float | None = None


class Breaker:
    """One member's breaker. Every change of state starts an epoch; outcomes of older ones are void.

    Attributes:
        epoch: 1 at first; never goes back.
        openings: openings in a row, without a closing in between.
    """

    __slots__ = ("_last_permit", "_policy", "_rng", "_state", "epoch", "openings")

    def __init__(self, policy: BreakerPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._state: State = Closed(policy)
        self._last_permit = 0
        self.epoch = 1
        self.openings = 0

    @property
    def state(self) -> CircuitState:
        """The state as of the last event; `tick` first to have it as of now."""
        return self._state.circuit

    @property
    def consecutive_failures(self) -> int:
        """Failures in a row while closed; 0 in every other state."""
        return self._state.failures

    @property
    def cooling_until(self) -> float:
        """While closed: the end of a Retry-After; 0.0 if there is none, or `tick` saw it end."""
        return self._state.cooling_until

    @property
    def reopens_at(self) -> float | None:
        """When an opening or a cool-down ends; None when there is none, or it is by hand."""
        return self._state.reopens_at

    @property
    def next_event_at(self) -> float | None:
        """When `tick` next has something to do: a reopening, a cool-down's or a lease's end."""
        return self._state.next_event_at

    @property
    def trial_credit(self) -> int | None:
        """How many trials may be started in this epoch altogether; None unless half-open.

        A running total: `half_open_permits` and one more for every trial that reported, was
        cancelled, or whose lease ended.
        """
        return self._state.credit

    def tick(self, now: float) -> Transition | None:
        """Let time pass: openings and cool-downs end, permits that never reported come back."""
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
    ) -> Transition | None:
        """Take in how a call admitted in `epoch` ended at `now`; `kind` is None for a success.

        `began` is when it started, if that is not `elapsed_s` ago: a stream is as fast as its first
        chunk, and goes on for longer.

        Calls of any epoch but this one change nothing. A probe holds no permit and gives none back;
        while closed only its failures count. The Retry-After (seconds) of any failure that counts
        keeps the member out for that long.
        """
        if epoch != self.epoch:
            return None
        limit = self._policy.slow_call_s
        slow = limit is not None and elapsed_s > limit
        not_before = _retry_at(now, kind, retry_after_s)
        started = now - elapsed_s if began is None else began
        outcome = Outcome(now, kind, elapsed_s, slow, probe, not_before, started)
        return self._enter(self._state.record(outcome), now)

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

    def force_open(self, now: float) -> Transition | None:
        """Keep everything out until `reset` or `disable`."""
        return self._by_hand(CircuitState.FORCED_OPEN, "forced by hand", now)

    def disable(self, now: float) -> Transition | None:
        """Let everything through and record nothing until `reset` or `force_open`."""
        return self._by_hand(CircuitState.DISABLED, "disabled by hand", now)

    def reset(self, now: float) -> Transition | None:
        """Close it, counts at zero. If closed already: a new epoch all the same, no transition."""
        return self._by_hand(CircuitState.CLOSED, "reset by hand", now)

    def _by_hand(self, state: CircuitState, reason: str, now: float) -> Transition | None:
        if state is self.state and state is not CircuitState.CLOSED:
            return None
        transition = self._enter(Next(state, reason), now)
        return transition if transition and transition.before is not state else None

    def _enter(self, wanted: Next | None, now: float) -> Transition | None:
        if wanted is None:
            return None
        before = self.state
        self._state = self._made(wanted, now)
        self.epoch += 1
        until = self.reopens_at
        return Transition(before, self.state, self.epoch, now, wanted.reason, until)

    def _made(self, wanted: Next, now: float) -> State:
        policy = self._policy
        match wanted.state:
            case CircuitState.OPEN:
                self.openings += 1
                delay = reopen_delay(
                    self.openings, policy.reset_timeout_s, policy.reset_max_s, self._rng
                )
                return Open(max(now + delay, wanted.not_before))
            case CircuitState.HALF_OPEN:
                return HalfOpen(policy)
            case CircuitState.FORCED_OPEN:
                return ForcedOpen()
            case CircuitState.DISABLED:
                return Disabled()
            case CircuitState.CLOSED:
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
