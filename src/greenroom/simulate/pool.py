"""What becomes of a call that has ended, and what follows a failure.

The steps are those of `actors.request_flow`, with greenroom's own load estimates, retry plan
and retry budget. Messages take no time here: a breaker has judged an outcome before anything else
happens. A call that is given up ends at once, as that of an async agent does.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from greenroom.actors.retry import (
    LASTING,
    GiveUp,
    RaiseAsIs,
    RetryBudget,
    RetryPolicy,
    Situation,
    TryLater,
    TryNow,
    plan_retry,
)
from greenroom.actors.table import Slot
from greenroom.messages.status import FailureKind
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.routing import ANSWERED, DEADLINE, SimRouting
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.work import Call, Job


class SimPool(SimRouting):
    """Takes requests, one after the other, and says of each what became of it.

    Args:
        chance, on_call: those of `SimRouting`.
        on_end: called with every request that has ended; its `fate` says how: one of the names in
            `routing`, or the `FailureKind` of its last attempt.
    """

    def __init__(
        self,
        scenario: Scenario,
        strategy: str,
        agenda: Agenda,
        chance: Callable[[str], random.Random],
        on_call: Callable[[Job, str], None],
        on_end: Callable[[Job], None],
    ) -> None:
        super().__init__(scenario, strategy, agenda, chance, on_call)
        config = scenario.config
        self._policy = RetryPolicy.from_config(config, exhaustive=self._exhaustive)
        self._budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
        self._on_end = on_end

    def take(self, job: Job) -> None:
        """A request arrives."""
        self._budget.deposit(self._agenda.now)
        if job.deadline is not None:
            self._agenda.at(job.deadline, self._out_of_time, job)
        self._route(job)

    # -- how a call ends

    def _ended(self, call: Call) -> None:
        """A member reports the end of a call."""
        self._release(call)
        if call.kind is None:
            self._succeeded(call)
        else:
            self._failed(call, call.kind, call.retry_after_s)
        self._catch_up()

    def _succeeded(self, call: Call) -> None:
        now = self._agenda.now
        elapsed_s = now - call.started_at
        call.slot.load.succeeded(elapsed_s, now)
        if call.slot.recovers:
            call.slot.answered(call.started_at)
        self._table.record(call.slot.name, True)
        self._judge(call, None, elapsed_s, None)
        self._end(call.job, ANSWERED)

    def _timed_out(self, call: Call) -> None:
        """The attempt has had its time."""
        if call.ended:
            return
        self._give_up(call)
        self._failed(call, FailureKind.TIMEOUT, None)
        self._catch_up()

    def _out_of_time(self, job: Job) -> None:
        """The request has had its time. A member that was cut short has not failed."""
        if job.fate is not None:
            return
        call = job.call
        if call is not None:
            self._give_up(call)
            elapsed_s = self._agenda.now - call.started_at
            if call.slot.load.overdue(elapsed_s, self._agenda.now):
                self._count_failure(call, FailureKind.TIMEOUT, None)
            elif call.trial:
                self._judge(call, FailureKind.CANCELLED, elapsed_s, None)
        self._end(job, DEADLINE)
        self._catch_up()

    def _give_up(self, call: Call) -> None:
        self._members[call.slot.name].cancel(call)
        self._release(call)

    def _release(self, call: Call) -> None:
        call.slot.give_back()
        call.job.call = None

    # -- what follows a failure

    def _failed(self, call: Call, kind: FailureKind, retry_after_s: float | None) -> None:
        self._count_failure(call, kind, retry_after_s)
        job = call.job
        job.failures[call.slot.name] = kind
        situation = self._situation(call, kind, retry_after_s)
        match plan_retry(self._policy, situation, self._budget, self._rng):
            case TryNow():
                self._route(job)
            case TryLater(delay_s):
                job.backoffs += 1
                self._agenda.at(self._agenda.now + delay_s, self._again, job)
            case GiveUp() | RaiseAsIs():
                self._end(job, kind)

    def _count_failure(self, call: Call, kind: FailureKind, retry_after_s: float | None) -> None:
        now = self._agenda.now
        elapsed_s = now - call.started_at
        if kind.counts_for_breaker:
            call.slot.load.failed(elapsed_s, now)
        if kind.is_the_members:
            self._table.record(call.slot.name, False)
            self._rest(call, kind, retry_after_s)
        self._judge(call, kind, elapsed_s, retry_after_s)

    def _rest(self, call: Call, kind: FailureKind, retry_after_s: float | None) -> None:
        slot, now = call.slot, self._agenda.now
        rests = bool(slot.rest.until)
        if not slot.rest_for(kind, now, call.started_at, retry_after_s, self._rng):
            return
        if not rests:
            self._changed = True
            self._agenda.at(slot.rest.until, self._rest_over, slot)

    def _rest_over(self, slot: Slot) -> None:
        if slot.rested(self._agenda.now):
            self._catch_up()
        elif slot.rest.until:  # it has been prolonged meanwhile
            self._agenda.at(slot.rest.until, self._rest_over, slot)

    def _situation(self, call: Call, kind: FailureKind, retry_after_s: float | None) -> Situation:
        job, now = call.job, self._agenda.now
        hopeless = {name for name, each in job.failures.items() if each in LASTING}
        name = call.slot.name
        wait_s = self._table.asked_to_wait_s(hopeless, name, retry_after_s, now)
        return Situation(
            kind=kind,
            started=True,
            side_effects=False,
            retry_after_s=wait_s,
            attempts=job.attempts,
            backoffs=job.backoffs,
            idempotent=True,
            untried=self._table.could_take(job.failures),
            tried_could_recover=any(each not in LASTING for each in job.failures.values()),
            now=now,
            deadline=job.deadline,
        )

    def _again(self, job: Job) -> None:
        if job.fate is None:
            self._route(job)

    def _end(self, job: Job, fate: str) -> None:
        self._leave_queue(job)
        job.fate = fate
        self._on_end(job)

    # -- the breakers

    def _judge(
        self, call: Call, kind: FailureKind | None, elapsed_s: float, retry_after_s: float | None
    ) -> None:
        if self._watch.judge(call, kind, elapsed_s, retry_after_s):
            self._changed = True
