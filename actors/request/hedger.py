"""The hedger: when a second attempt joins a slow one, and what becomes of the slower one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from greenroom.actors.claims.claims import Claims
from greenroom.actors.claims.race import Race
from greenroom.actors.policy.hedging import HedgeBudget, Percentile95
from greenroom.actors.policy.retry_plan import RetryBudget
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import Attempt, Job
from greenroom.actors.request.refills import costs_of
from greenroom.actors.request.trials import Trials
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.strategies import PickContext
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import StrategyError
from greenroom.messages.status import CancelReason


@dataclass(slots=True, eq=False, repr=False)
class Hedger:
    """Hedges idempotent requests, within a budget of its own and that of the retries.

    Args:
        retries: the budget of the retries.
        due: called when the first attempt of a request has had its time; it asks `second`.

    Attributes:
        enabled: whether the pool hedges at all.
    """

    _ports: FlowPorts
    _config: PoolConfig
    _table: RoutingTable
    _claims: Claims
    _attempts: Attempts
    _trials: Trials
    _retries: RetryBudget
    _due: Callable[[Job], None]
    enabled: bool = field(init=False)
    _hedges: HedgeBudget = field(init=False, default_factory=HedgeBudget)
    _answer_times: Percentile95 = field(init=False, default_factory=Percentile95)
    _first_chunk_times: Percentile95 = field(init=False, default_factory=Percentile95)

    def __post_init__(self) -> None:
        self.configure(self._config)

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings: attempts that run are not hedged if they were not to be."""
        self._config = config
        self.enabled = config.hedge_after_s is not None

    def accepted(self) -> None:
        """A request has come in: it pays for a part of a hedge."""
        self._hedges.deposit()

    def plan(self, job: Job, now: float) -> None:
        """An attempt begins: see when a second one shall join it."""
        # A request has one race at most: with a trial beside, or with
        # the hedge that it has had before.
        if job.claim.race is not None or not job.work.idempotent or job.is_lease:
            return
        if job.hedge_alarm is not None:
            job.hedge_alarm.cancel()
        after_s = self._config.hedge_after_s
        delay_s = self._times(job).value() if isinstance(after_s, str) else after_s
        if delay_s is not None:
            job.hedge_alarm = self._ports.at(now + delay_s, lambda: self._ring(job))

    def second(self, job: Job, now: float) -> Slot | None:
        """Who is to have the request as well; it is a race from now on, and paid for. None if it
        may not be hedged, or nobody untried is free. No trial is spent on a hedge.
        """
        first, policy = job.current, job.policy
        if first is None or job.claim.race is not None or not self._hedges.has_any():
            return None
        if not self.enabled:  # not any more
            return None
        # A hedge counts as a retry: with `max_retries=0` there is none.
        if not policy.exhaustive and job.attempts - 1 >= policy.max_retries:
            return None
        context = PickContext(now, job.work.key, job.id)
        try:
            # An error of the strategy costs the hedge only: the first attempt goes on.
            headroom = self._table.headroom
            unfit: Collection[str] = ()
            if headroom.weighs and job.work.cost is not None:
                unfit = headroom.unfit(costs_of(job), now, job)
            slot = self._table.pick_second({*job.failures, first.member, *unfit}, context)
        except StrategyError as error:
            self._ports.events.complain_of("no member was found for a hedge", error)
            return None
        if slot is None or not self._open_race(job, first, now):
            return None
        # Last, as that of the retries: a hedge that comes to nothing costs nothing.
        self._hedges.withdraw()
        return slot

    def answered(self, job: Job, attempt: Attempt, elapsed_s: float) -> None:
        """A member has answered, or sent the first chunk of its stream, after `elapsed_s`: nobody
        shall race with it any more.
        """
        if self.enabled and not job.is_lease:  # how long a block takes is its caller's business
            # Before the rivals are dropped: it looks at all attempts that run.
            self._times(job).add(outstanding_s(job, attempt, elapsed_s))
        if job.hedge_alarm is not None:
            job.hedge_alarm.cancel()
            job.hedge_alarm = None
        if job.claim.race is not None:
            self.drop_rivals(job, attempt)

    def drop_rivals(self, job: Job, winner: Attempt) -> None:
        """The loser of a race is cancelled, and counts for nothing; a trial goes on by itself."""
        if job.claim.race is None:
            return
        # It goes on by itself: the breaker waits for how it ends.
        if winner is not job.trial:
            self._trials.let_go(job)
        for attempt in list(job.running()):
            if attempt is not winner:
                self._claims.withdraw(attempt.ticket)
                self._attempts.drop(job, attempt, CancelReason.LOST_RACE)
        if winner is job.trial:
            self._trials.await_(job)

    def _ring(self, job: Job) -> None:
        job.hedge_alarm = None
        self._due(job)

    def _open_race(self, job: Job, first: Attempt, now: float) -> bool:
        """Whether there is a race to be had, and the budget that hedges share with retries allows
        it. The race comes first, then the look at the first attempt: who answers now, in a thread
        of its own, sees the one, or is seen.
        """
        job.claim.race = Race()
        decided = not self._claims.is_open(first.ticket) or job.must_not_repeat(first)
        if decided or not self._retries.withdraw(now):
            job.claim.race = None
        return job.claim.race is not None

    def _times(self, job: Job) -> Percentile95:
        """Answers and first chunks take their own times."""
        return self._answer_times if job.channel is None else self._first_chunk_times


def outstanding_s(job: Job, winner: Attempt, elapsed_s: float) -> float:
    """How long the answer has taken, in seconds. Where a second attempt has won, that is the least
    that the first one would have taken; by the second's own time "p95" would fall every time.
    """
    began_at = min(attempt.started_at for attempt in job.running())
    return winner.started_at - began_at + elapsed_s
