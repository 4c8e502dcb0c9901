"""Whom a request is given to, and the queue of those that wait for a member.

The steps are those of `greenroom.actors.choice`, on greenroom's own table and strategies.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable

from greenroom.actors.strategies import PickContext, strategy_for
from greenroom.actors.table import NoPick, RoutingTable, Slot
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


_ABOUT_NOW_S = 1e-6


class SimRouting(ABC):
    """Gives requests to members, at once or when one becomes free.

    Args:
        chance: gives the random generator of that name.
        on_call: called with every attempt: its request, and the name of the member.
    """

    def __init__(
        self,
        scenario: Scenario,
        strategy: str,
        agenda: Agenda,
        chance: Callable[[str], random.Random],
        on_call: Callable[[Job, str], None],
    ) -> None:
        self._config = scenario.config
        self._agenda = agenda
        self._on_call = on_call
        self._rng = chance("routing")
        self._strategy = strategy_for(strategy)
        self._table = RoutingTable(self._strategy, self._rng)
        self._exhaustive = bool(getattr(self._strategy, "exhaustive", False))
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

    def _route(self, job: Job) -> None:
        now = self._agenda.now
        choice = self._table.pick(job.failures, PickContext(now, job.key), self._exhaustive)
        if isinstance(choice, Slot):
            self._dispatch(job, choice, now)
        elif choice is NoPick.BUSY or self._may_wait(job, now):
            self._enqueue(job)
        else:
            self._end(job, NO_MEMBER)

    def _may_wait(self, job: Job, now: float) -> bool:
        if self._exhaustive and job.failures:
            return False
        reopening = self._table.earliest_reopening()
        if reopening is not None and reopening <= now + _ABOUT_NOW_S:
            return True
        if job.failures and self._sits_out(job, now):
            return True
        if self._config.when_unavailable != "wait":
            return False
        if self._table.trial_running():
            return True
        return reopening is not None and (job.deadline is None or reopening < job.deadline)

    def _sits_out(self, job: Job, now: float) -> bool:
        """Whether one that has retries left waits for the first member that has rested."""
        until = self._table.first_rested()
        if until is None or until > now + self._config.retry_max_delay_s:
            return False
        if job.attempts - 1 >= self._config.max_retries:
            return False
        return job.deadline is None or until < job.deadline

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
        slot.take()
        if call.trial:
            slot.trial_started()
            self._watch.trial_started(call)
        timeout_s = self._config.request_timeout_s
        if timeout_s is not None:
            self._agenda.at(now + timeout_s, self._timed_out, call)
        self._on_call(job, slot.name)
        self._members[slot.name].take(call)

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

    def _reviewed(self) -> None:
        self._changed = True
        self._catch_up()

    @abstractmethod
    def _ended(self, call: Call) -> None:
        """A member reports the end of a call."""

    @abstractmethod
    def _timed_out(self, call: Call) -> None:
        """The attempt has had its time."""

    @abstractmethod
    def _end(self, job: Job, fate: str) -> None:
        """A request leaves the pool."""
