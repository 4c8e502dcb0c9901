"""Races: a second attempt for a request whose first one is slow; the first answer wins."""

from __future__ import annotations

from typing import Any

from greenroom.actors.attempts import Attempts
from greenroom.actors.hedging import HedgeBudget, Percentile95
from greenroom.actors.jobs import Attempt, Job, Race
from greenroom.actors.strategies import PickContext
from greenroom.actors.table import Slot
from greenroom.messages.errors import StrategyError
from greenroom.messages.execution import SideEffectsStarted
from greenroom.messages.status import CancelReason


class Races(Attempts):
    """Hedges idempotent requests, within a budget of its own and that of the retries."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._hedges = HedgeBudget()
        self._answer_times = Percentile95()
        self._first_chunk_times = Percentile95()

    def _plan_hedge(self, job: Job, now: float) -> None:
        if job.race is not None or not job.work.idempotent:
            return
        if job.hedge_alarm is not None:
            job.hedge_alarm.cancel()
        delay_s = self._hedge_delay_s(job)
        if delay_s is not None:
            job.hedge_alarm = self.alarms.at(
                now + delay_s, lambda: self._see_to(job, "hedge a request", self._hedge)
            )

    def _hedge_delay_s(self, job: Job) -> float | None:
        after_s = self.config.hedge_after_s
        if not isinstance(after_s, str):
            return after_s
        return self._times(job).value()

    def _times(self, job: Job) -> Percentile95:
        """Answers and first chunks take their own times."""
        return self._answer_times if job.channel is None else self._first_chunk_times

    def _hedge(self, job: Job) -> None:
        """The first attempt has had its time; a second one joins it if it may."""
        job.hedge_alarm = None
        first, now = job.current, self.clock.now()
        if first is None or not self._may_hedge(job):
            return
        slot = self._second_member(job, first, now)
        if slot is not None and self._open_race(job, first, now):
            self._hedges.withdraw()
            self._dispatch(job, slot, now, hedge=True)

    def _may_hedge(self, job: Job) -> bool:
        if job.race is not None or not self._hedges.has_any():
            return False
        return job.policy.exhaustive or job.attempts - 1 < job.policy.max_retries

    def _second_member(self, job: Job, first: Attempt, now: float) -> Slot | None:
        """An untried member that is free; no trial is spent on a hedge."""
        context = PickContext(now, job.work.key, job.id)
        try:
            return self._table.pick_second({*job.failures, first.member}, context)
        except StrategyError as error:
            self.bus.complain_of("no member was found for a hedge", error)
            return None

    def _open_race(self, job: Job, first: Attempt, now: float) -> bool:
        """Whether there is a race to be had, and the budget that hedges share with retries allows
        it. The race comes first, then the look at the first attempt: who answers now sees the one,
        or is seen.
        """
        job.race = Race()
        decided = not self.desk.is_open(first.ticket) or first.side_effects
        if decided or not self._budget.withdraw(now):
            job.race = None
        return job.race is not None

    def _answered(self, job: Job, attempt: Attempt, elapsed_s: float) -> None:
        if self.config.hedge_after_s is not None:
            self._times(job).add(_outstanding_s(job, attempt, elapsed_s))
        if job.hedge_alarm is not None:
            job.hedge_alarm.cancel()
            job.hedge_alarm = None
        if job.race is not None:
            self._drop_rivals(job, attempt)

    def _on_side_effects(self, message: SideEffectsStarted) -> None:
        super()._on_side_effects(message)
        attempt = self._attempt_of(message)
        if attempt is not None and attempt.job is not None:
            self._drop_rivals(attempt.job, attempt)

    def _drop_rivals(self, job: Job, winner: Attempt) -> None:
        """The loser is cancelled, and counts for nothing; a trial goes on by itself."""
        if job.race is None:
            return
        if winner is not job.trial:
            self._let_trial_go_on(job)
        for attempt in list(job.running()):
            if attempt is not winner:
                self.desk.withdraw(attempt.ticket)
                self._outbox.ignored(attempt, self.clock.now())
                self._detach(job, attempt, CancelReason.LOST_RACE)
        if winner is job.trial:
            self._await_trial(job)


def _outstanding_s(job: Job, winner: Attempt, elapsed_s: float) -> float:
    """How long the answer has taken, in seconds. Where a second attempt has won, that is the least
    that the first one would have taken; by the second's own time "p95" would fall every time.
    """
    began_at = min(attempt.started_at for attempt in job.running())
    return winner.started_at - began_at + elapsed_s
