"""What follows when an attempt has failed: the same member, another one, later, or the end."""

from __future__ import annotations

import random
from typing import NamedTuple

from greenroom.actors.claims.claims import Claims
from greenroom.actors.policy.retry_plan import (
    Decision,
    GiveUp,
    RaiseAsIs,
    RetryBudget,
    RetryPolicy,
    StayFor,
    plan_retry,
)
from greenroom.actors.request.choice import Choice
from greenroom.actors.request.failure_report import broken_by
from greenroom.actors.request.job import Attempt, Failure, Job
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.actors.runtime.channel import Cut
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import summary
from greenroom.messages.requests import Acquire


class BreakOff(NamedTuple):
    """A stream that its consumer has had a part of ends here, by that error."""

    error: BaseException


class FollowUps:
    """Plans the retries of all requests, within one budget.

    Args:
        exhaustive: whether the strategy tries every member once, whatever `max_retries` says.

    Attributes:
        budget: what hedges are paid from as well.
        policy: that of requests which do not say how often they may be retried.
    """

    def __init__(
        self,
        config: PoolConfig,
        table: RoutingTable,
        choice: Choice,
        claims: Claims,
        rng: random.Random,
        exhaustive: bool,
    ) -> None:
        self.budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
        self._config = config
        self._table = table
        self._choice = choice
        self._claims = claims
        self._rng = rng
        self._exhaustive = exhaustive
        self.policy = RetryPolicy.from_config(config, exhaustive=exhaustive)

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings, for requests that come in from now on."""
        self._config = config
        self.budget.configure(config.retry_budget_ratio, config.retry_budget_floor)
        self.policy = RetryPolicy.from_config(config, exhaustive=self._exhaustive)

    def policy_of(self, max_retries: int) -> RetryPolicy:
        """That of a request which says itself how often it may be retried."""
        return RetryPolicy.from_config(self._config, max_retries, self._exhaustive)

    def plan(
        self,
        job: Job,
        attempt: Attempt,
        failure: Failure,
        now: float,
        mends: bool,
        preferred: bool,
    ) -> Decision | BreakOff:
        """What comes next for a request that has left its last attempt behind. If that had begun a
        stream, the next attempt may begin it anew.

        Args:
            mends: whether the same member may be over it by now.
            preferred: whether the strategy would not give the request to anybody else; it has not
                been told of the failure, so it is if the request does not stay for the member.
        """
        member, error = attempt.member, failure.error
        # Asked before `_may_restart` marks the member as cut, and before the claims are reopened:
        # both change what `shown` looks at.
        restarts = job.shown
        if restarts and not self._may_restart(job, member):
            return BreakOff(error)
        cut = member in job.cut
        if cut:  # left out for good
            mends = preferred = False
        situation = self._choice.situation(job, attempt, failure, mends, preferred, now)
        plan = plan_retry(job.policy, situation, self.budget, self._rng)
        # It was held back in `AttemptResults.failed`.
        if failure.runs and isinstance(job.work, Acquire) and not job.work.can_be_cut:
            plan = GiveUp("the block of its caller goes on, which could not be cut short")
        if preferred and failure.kind.is_the_members and not isinstance(plan, StayFor):
            self._table.record(member, False)
        # Even a 400: the consumer has had a part, so it is told that the stream broke off, and why.
        if isinstance(plan, GiveUp | RaiseAsIs):
            return BreakOff(broken_by(job, error)) if restarts else plan
        # Only where another attempt follows: until then the stream is that of this one.
        if job.begun:
            note = Cut(member, failure.kind, summary(error)) if cut else None
            self._claims.reopen(job.claim, max(attempt.number, job.attempts + job.skipped), note)
        return plan

    def _may_restart(self, job: Job, member: str) -> bool:
        """The consumer of a stream has had chunks that count, and its attempt has failed: whether
        another member may start over. The one whose stream has broken off is left out for good.
        """
        channel = job.channel
        if self._config.on_cut != "restart" or channel is None or job.is_lease:
            return False
        if job.begun and channel.counted:
            channel.cut |= {member}
        return True
