"""The router's part of the simulated pool: whom a request is given to, and what follows a failure.

It goes through the steps of `greenroom.actors.routing` and `.attempts` with greenroom's own routing
table, strategies, load estimates, retry plan and retry budget. Messages take no time here: a
breaker has judged an outcome before anything else happens. A call that is given up ends at once,
as that of an async agent does.
"""

from __future__ import annotations

import random
from collections import OrderedDict
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
from greenroom.actors.strategies import PickContext, strategy_for
from greenroom.actors.table import NoPick, RoutingTable, Slot
from greenroom.messages.status import FailureKind
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.member import SimMember
from greenroom.simulate.scenario import Scenario
from greenroom.simulate.watch import SimWatch
from greenroom.simulate.work import Call, Job

ANSWERED = "answered"
REFUSED = "refused"
"""The queue was full."""
NO_MEMBER = "no_member"
"""Every member was kept out, by its breaker or a Retry-After."""
DEADLINE = "deadline"
"""The deadline of the whole request was over."""


class SimPool:
    """Takes requests, one after the other, and says of each what became of it.

    Args:
        chance: gives the random generator of that name.
        on_call: called with every attempt: its request, and the name of the member.
        on_end: called with every request that has ended; its `fate` says how: one of the names
            above, or the `FailureKind` of its last attempt.
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
        self._config = scenario.config
        self._agenda = agenda
        self._on_call = on_call
        self._on_end = on_end
        self._rng = chance("routing")
        self._strategy = strategy_for(strategy)
        self._table = RoutingTable(self._strategy, self._rng)
        self._exhaustive = bool(getattr(self._strategy, "exhaustive", False))
        self._policy = RetryPolicy.from_config(self._config, exhaustive=self._exhaustive)
        self._budget = RetryBudget(self._config.retry_budget_ratio, self._config.retry_budget_floor)
        self._waiting: OrderedDict[Job, None] = OrderedDict()
        self._tried: OrderedDict[Job, None] = OrderedDict()  # those of them that failed before
        self._changed = False
        self._members = {
            spec.name: SimMember(spec, agenda, chance(f"member {spec.name}"), self._ended)
            for spec in scenario.members
        }
        self._watch = SimWatch(
            scenario.members, self._config, self._table, agenda, self._rng, self._reviewed
        )
        self._slots = list(self._table)
        self._full = 0
        self._look_at_routes()

    def take(self, job: Job) -> None:
        """A request arrives."""
        self._budget.deposit(self._agenda.now)
        if job.deadline is not None:
            self._agenda.at(job.deadline, self._out_of_time, job)
        self._route(job)

    # -- whom a request is given to

    def _route(self, job: Job) -> None:
        now = self._agenda.now
        choice = self._choose(job, PickContext(now, job.key))
        if isinstance(choice, Slot):
            self._dispatch(job, choice, now)
        elif choice is NoPick.BUSY or self._may_wait(job, now):
            self._enqueue(job)
        else:
            self._end(job, NO_MEMBER)

    def _choose(self, job: Job, context: PickContext) -> Slot | NoPick:
        """What the table chooses. Where nobody is tried, full or kept out, that is what the
        strategy picks of all: asking each member first would take longer than all the rest.
        """
        if job.failures or self._full or not self._all_routable or self._exhaustive:
            return self._table.pick(job.failures, context, self._exhaustive)
        chosen = self._strategy.pick(self._slots, context, self._rng)
        return chosen if isinstance(chosen, Slot) else NoPick.UNROUTABLE

    def _may_wait(self, job: Job, now: float) -> bool:
        if self._exhaustive and job.failures:
            return False
        reopening = self._table.earliest_reopening()
        if reopening is not None and reopening <= now:
            return True
        if self._config.when_unavailable != "wait":
            return False
        if self._table.trial_running():
            return True
        return reopening is not None and (job.deadline is None or reopening < job.deadline)

    def _enqueue(self, job: Job) -> None:
        if job in self._waiting:
            return
        if job.attempts == 0 and len(self._waiting) >= self._config.max_pending:
            self._end(job, REFUSED)
        else:
            self._waiting[job] = None
            if job.failures:
                self._tried[job] = None

    def _leave_queue(self, job: Job) -> None:
        if self._waiting:
            self._waiting.pop(job, None)
            self._tried.pop(job, None)

    def _dispatch(self, job: Job, slot: Slot, now: float) -> None:
        self._leave_queue(job)
        job.attempts += 1
        call = job.call = Call(job, slot, now)
        slot.in_flight += 1
        self._full += slot.in_flight == slot.max_concurrency
        if call.trial:
            slot.trials_started += 1
            self._watch.trial_started(call)
        timeout_s = self._config.request_timeout_s
        if timeout_s is not None:
            self._agenda.at(now + timeout_s, self._timed_out, call)
        self._on_call(job, slot.name)
        self._members[slot.name].take(call)

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
        slot = call.slot
        self._full -= slot.in_flight == slot.max_concurrency
        slot.in_flight -= 1
        call.job.call = None

    # -- what follows a failure

    def _failed(self, call: Call, kind: FailureKind, retry_after_s: float | None) -> None:
        self._count_failure(call, kind, retry_after_s)
        job = call.job
        job.failures[call.slot.name] = kind
        situation = self._situation(job, kind, retry_after_s)
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
            self._table.record(call.slot.name, False)
        self._judge(call, kind, elapsed_s, retry_after_s)

    def _situation(self, job: Job, kind: FailureKind, retry_after_s: float | None) -> Situation:
        return Situation(
            kind=kind,
            started=True,
            side_effects=False,
            retry_after_s=retry_after_s,
            attempts=job.attempts,
            backoffs=job.backoffs,
            idempotent=True,
            untried=self._table.could_take(job.failures),
            tried_could_recover=any(each not in LASTING for each in job.failures.values()),
            now=self._agenda.now,
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
            self._look_at_routes()

    def _reviewed(self) -> None:
        self._changed = True
        self._look_at_routes()
        self._catch_up()

    def _look_at_routes(self) -> None:
        routes = [slot.route for slot in self._table]
        self._all_routable = all(
            route.blocked is None and route.trial_permits is None for route in routes
        )

    # -- those that wait

    def _catch_up(self) -> None:
        """What has become free goes to those that wait; a change of the table concerns them all."""
        if self._changed:
            self._changed = False
            for job in list(self._waiting):
                self._route(job)
        if self._waiting:
            self._pump()

    def _pump(self) -> None:
        while self._waiting and self._table.has_room():
            job = next(iter(self._waiting))
            self._route(job)
            if job in self._waiting:  # it cannot use the room there is: others may
                self._pump_past(job)
                return

    def _pump_past(self, first: Job) -> None:
        """The others by turns. Where one untried request finds nobody, none does."""
        stuck = not first.failures
        for job in list(self._tried if stuck else self._waiting):
            if job is first or (stuck and not job.failures):
                continue
            self._route(job)
            stuck = stuck or (job in self._waiting and not job.failures)
            if not self._table.has_room():
                return
