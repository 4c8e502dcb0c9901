"""What follows a failed attempt: another member at once, a retry later, or the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from greenroom.actors.policy.backoff import full_jitter
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import FailureKind

_BUCKETS = 10
_ROUNDING = 1e-9  # ratio * requests may fall short of a whole number by a rounding error

LASTING = frozenset(
    {FailureKind.AUTH, FailureKind.QUOTA, FailureKind.NOT_FOUND, FailureKind.TOO_LARGE}
)
"""Kinds of failure that the same member would repeat however long one waits."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a request is retried.

    Attributes:
        config: the pool's, as it was when the request came.
        max_retries: attempts that may follow the first one.
        exhaustive: try every member once, whatever `max_retries` and the budget say; none twice.
    """

    config: PoolConfig
    max_retries: int
    exhaustive: bool = False

    @classmethod
    def from_config(
        cls, config: PoolConfig, max_retries: int | None = None, exhaustive: bool = False
    ) -> RetryPolicy:
        """The pool's policy, with a request's own `max_retries` when it has one."""
        return cls(config, config.max_retries if max_retries is None else max_retries, exhaustive)


class RetryBudget:
    """Lets a pool retry only a share of its recent requests, so that retries cannot become a storm.

    Over the last `ttl_s` seconds: retries <= ratio * requests + floor_per_s * ttl_s.
    Time is counted in ten buckets, the current one included; a bucket's whole content expires at
    once. Each call takes constant time.
    Source: Finagle's `RetryBudget` (`com.twitter.finagle.service`).

    Args:
        ratio: retries allowed per request.
        floor_per_s: retries a second that are allowed on top, for a pool with little traffic.
        ttl_s: how long a request and a retry count, in seconds.
    """

    __slots__ = (
        "_bucket", "_bucket_ends", "_floor", "_ratio", "_requests", "_retries", "_slot", "_spent",
        "_taken", "_ttl_s", "_width",
    )  # fmt: skip

    def __init__(self, ratio: float, floor_per_s: float, ttl_s: float = 10.0) -> None:
        self._ttl_s = ttl_s
        self.configure(ratio, floor_per_s)
        self._width = ttl_s / _BUCKETS
        self._requests = [0] * _BUCKETS
        self._retries = [0] * _BUCKETS
        self._taken = 0
        self._spent = 0
        self._bucket: int | None = None
        self._bucket_ends = -math.inf
        self._slot = 0

    def configure(self, ratio: float, floor_per_s: float) -> None:
        """Allow another share; what has been counted stays."""
        self._ratio = ratio
        self._floor = floor_per_s * self._ttl_s

    def deposit(self, now: float) -> None:
        """Count a request, once however often it is tried."""
        if now >= self._bucket_ends:
            self._advance(now)
        self._requests[self._slot] += 1
        self._taken += 1

    def withdraw(self, now: float) -> bool:
        """Count a retry, or return False when the budget has none left."""
        if now >= self._bucket_ends:
            self._advance(now)
        if self._spent + 1 > self._ratio * self._taken + self._floor + _ROUNDING:
            return False
        self._retries[self._slot] += 1
        self._spent += 1
        return True

    def _advance(self, now: float) -> None:
        """Empty the buckets whose time is over, and go on to the one that `now` belongs to."""
        bucket = int(now // self._width)
        if self._bucket is None:
            self._bucket = bucket
        # After a long silence each bucket is emptied once, however many have gone by.
        expired = min(bucket - self._bucket, _BUCKETS)
        for slot in range(bucket - expired + 1, bucket + 1):
            self._empty(slot % _BUCKETS)
        # A time that lies before the last one goes into the current
        # bucket: nothing is counted twice.
        self._bucket = max(self._bucket, bucket)
        self._slot = self._bucket % _BUCKETS
        self._bucket_ends = (self._bucket + 1) * self._width

    def _empty(self, slot: int) -> None:
        self._taken -= self._requests[slot]
        self._spent -= self._retries[slot]
        self._requests[slot] = self._retries[slot] = 0

    def __repr__(self) -> str:
        allowed = self._ratio * self._taken + self._floor
        return f"<RetryBudget {self._spent} of {allowed:.1f} spent, {self._taken} requests>"


@dataclass(slots=True, kw_only=True)  # to be frozen would make it four times as dear
class Situation:
    """All that the decision may look at, right after an attempt has failed. Nobody changes it.

    Attributes:
        kind: how the attempt failed.
        started: whether the agent may have begun; False only when it provably has not.
        side_effects: whether the agent has said that it must not be repeated.
        retry_after_s: seconds that the member asked to be left alone; None if it did not.
        attempts: attempts made so far, the one that just failed included; without trials that ran
            beside one.
        backoffs: waits made so far.
        idempotent: `Request.idempotent`.
        untried: whether a member not yet tried by this request could take it, now or once a slot
            frees.
        tried_could_recover: whether one already tried could still answer it later: it is not gone,
            and its own last failure is of a kind that passes with time (not `LASTING`).
        now, deadline: monotonic seconds; a deadline of None is no limit.
        may_mend: whether the same member may be over it by now: a hiccup, not a refusal.
        tries: attempts that the member has had, the one that just failed included.
        members: how many the pool has.
        in_service: whether the member takes requests as usual, as far as is known: its breaker is
            closed, it does not rest, and what failed was no trial.
        preferred: whether the strategy would not give the request to anybody else, if it could.
    """

    kind: FailureKind
    started: bool
    side_effects: bool
    retry_after_s: float | None
    attempts: int
    backoffs: int
    idempotent: bool
    untried: bool
    tried_could_recover: bool
    now: float
    deadline: float | None
    may_mend: bool = False
    tries: int = 1
    members: int = 0
    in_service: bool = False
    preferred: bool = False


@dataclass(frozen=True, slots=True)
class SameAgain:
    """Give the request to the same member once more, at once."""


@dataclass(frozen=True, slots=True)
class StayFor:
    """Wait for the same member: it takes requests again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class TryNow:
    """Give the request to an untried member."""


@dataclass(frozen=True, slots=True)
class TryLater:
    """Nobody untried is left: try again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Answer with an error that says `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class RaiseAsIs:
    """Answer with the agent's own error: no member would do better."""


Decision = SameAgain | StayFor | TryNow | TryLater | GiveUp | RaiseAsIs


def plan_retry(
    policy: RetryPolicy, situation: Situation, budget: RetryBudget, rng: Random
) -> Decision:
    """Decide what follows a failed attempt.

    The budget is charged last, when all else allows the retry: one that is refused costs nothing,
    nor does one after an attempt that never started, nor one of an exhaustive policy.
    """
    # Whatever else holds: nobody else would answer it differently.
    if not situation.kind.tries_another_member:
        return RaiseAsIs()
    refusal = _unrepeatable(situation)
    same = None if refusal else _same_member(policy, situation)
    if same is not None and (not situation.started or budget.withdraw(situation.now)):
        return same
    refusal = refusal or _used_up(policy, situation)
    if refusal:
        return GiveUp(refusal)
    plan = TryNow() if situation.untried else _wait(policy, situation, rng)
    # What never started (a refusal, a dead actor) has cost no provider anything: it is free.
    if isinstance(plan, GiveUp) or policy.exhaustive or not situation.started:
        return plan
    return plan if budget.withdraw(situation.now) else GiveUp("retry budget exhausted")


def _unrepeatable(situation: Situation) -> str:
    """Why the request must not run again at all, or an empty string."""
    if situation.side_effects:
        return "the agent had started side effects"
    if situation.started and not situation.idempotent:
        return "not idempotent: not retried once started"
    left = _left(situation)
    if left is not None and left <= 0:
        return f"the deadline passed {_seconds(-left)} ago" if left else "the deadline is over"
    return ""


def _same_member(policy: RetryPolicy, situation: Situation) -> SameAgain | StayFor | None:
    """What the member that failed can still do for the request, before anybody else is asked.

    `max_retries` bounds it for an exhaustive policy, too: that each member is tried once is free,
    that one is tried twice is not.
    """
    if situation.attempts - 1 >= policy.max_retries:
        return None
    if _is_a_hiccup(policy, situation):
        return SameAgain()
    delay, left = situation.retry_after_s, _left(situation)
    # Only for a strategy that sticks: who prefers a member for what it keeps of earlier requests, a
    # cache of prompts, say, may gain more by waiting than by going elsewhere.
    if (
        not situation.preferred
        or delay is None
        or not 0.0 < delay <= policy.config.stay_for_retry_after_s
    ):
        return None
    return StayFor(delay) if left is None or delay < left else None


def _is_a_hiccup(policy: RetryPolicy, situation: Situation) -> bool:
    """Whether the same member is tried again at once; one that let the request wait never is."""
    if not situation.may_mend or not situation.in_service or situation.retry_after_s is not None:
        return False
    limit = policy.config.same_member_retries
    if limit is None:
        # With one member there is nobody else to ask; with more
        # another one is the better second try.
        limit = 1 if situation.members == 1 else 0
    return situation.tries <= limit and situation.kind is not FailureKind.TIMEOUT


def _used_up(policy: RetryPolicy, situation: Situation) -> str:
    """Why the policy allows no further attempt, or an empty string."""
    if policy.exhaustive:
        return "" if situation.untried else "every member was tried once"
    if situation.attempts - 1 < policy.max_retries:
        return ""
    return f"max_retries={policy.max_retries} reached" if policy.max_retries else "max_retries=0"


def _wait(policy: RetryPolicy, situation: Situation, rng: Random) -> TryLater | GiveUp:
    """A retry on a member that has failed already, when that makes sense and the time allows it."""
    if not situation.tried_could_recover:
        kind = situation.kind
        if kind in LASTING:
            return GiveUp(f"no other member left; {kind} does not pass with time")
        return GiveUp("no other member left, and none of those tried can come back")
    delay = _delay(policy, situation, rng)
    # A backoff never is: only what a member asks for can be longer than the pool is ready to wait.
    longest = policy.config.retry_max_delay_s
    if situation.retry_after_s is not None and delay > longest:
        return GiveUp(
            f"the member wants to be left alone for {_seconds(delay)}, "
            f"longer than retry_max_delay_s={longest:g}"
        )
    left = _left(situation)
    if left is not None and delay >= left:
        return GiveUp(
            f"the next retry in {_seconds(delay)} would come after the deadline, "
            f"{_seconds(left)} left"
        )
    return TryLater(delay)


def _delay(policy: RetryPolicy, situation: Situation, rng: Random) -> float:
    """Seconds to wait: what the member asked for, else the next backoff."""
    if situation.retry_after_s is not None:
        return max(0.0, situation.retry_after_s)
    config = policy.config
    base_s, max_s = config.retry_delay_s, config.retry_max_delay_s
    n, multiplier = situation.backoffs + 1, config.retry_backoff_multiplier
    return full_jitter(n, base_s, multiplier, max_s, rng)


def _left(situation: Situation) -> float | None:
    return None if situation.deadline is None else situation.deadline - situation.now


def _seconds(duration: float) -> str:
    return f"{duration:.1f} s" if duration >= 1 else f"{duration:.3f} s"
