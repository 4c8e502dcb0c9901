"""The choice of a member for a request, and whether it may wait for one. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import NamedTuple

from greenroom.actors.policy.retry_plan import LASTING, Situation
from greenroom.actors.request.job import Attempt, Bound, Failure, Job
from greenroom.actors.request.refills import costs_of
from greenroom.actors.request.waiting_room import WaitingRoom
from greenroom.actors.routing.headroom import NOBODY
from greenroom.actors.routing.routing_table import NoPick, RoutingTable, Slot
from greenroom.actors.strategies import PickContext
from greenroom.messages.status import CircuitState, SkipReason

_ABOUT_NOW_S = 1e-6
"""More than two ways to reckon a moment differ by."""
_NEXT_FEW = 8
"""So many of those that wait are looked at for one that can be in time, beside the last one."""


class Step(Enum):
    """What becomes of a request that nobody is given just now."""

    WAIT = "it waits for a member"
    FAIL = "nobody can take it, and there is nothing to wait for"
    NOTHING = "it has its answer, of which the router has not heard yet"


class Beside(NamedTuple):
    """A half-open member is tried beside, at no cost to the request.

    Attributes:
        member: who has it all the same; None while it waits for somebody.
    """

    member: Slot | None
    trial: Slot


@dataclass(slots=True, eq=False, repr=False)
class Choice:
    """Asks the table on behalf of a request, by what has become of it so far."""

    _table: RoutingTable
    _room: WaitingRoom
    _stay_s: float
    _context: PickContext = field(init=False, default_factory=lambda: PickContext(0.0))

    def configure(self, stay_s: float) -> None:
        """Go by another setting; the others are those of each request's own policy."""
        self._stay_s = stay_s

    # -- whom

    def place(self, job: Job, now: float) -> Slot | Beside | Step:
        """Who shall have it. It is bound to nobody any more once it need not wait for that one.

        Raises:
            StrategyError: as by `RoutingTable.pick`.
        """
        table = self._table
        # Whether what it costs is to be held against the rate limits of members.
        headroom = table.headroom
        weighed = bool(headroom.tight) or headroom.giants
        weighed = weighed and job.work.cost is not None
        # The trial has answered, in its own thread: a second attempt would be made for nothing.
        if job.trial is not None and job.is_won():
            return Step.NOTHING
        if job.bound is not None:
            step = self._again(job, job.bound, now)
            if step is not None:
                return step
        barred = () if job.terms is None else table.eligible(job.terms).barred
        if not (weighed or job.failures or table.free) and table.is_busy(barred):
            return Step.WAIT  # no strategy need be asked
        if table.treats_alike:  # no strategy of this package keeps it: so one will do for all
            context = self._context
            context.now, context.key, context.request_id = now, job.work.key, job.id
        else:
            context = PickContext(now, job.work.key, job.id)
        if self._stay_s and self._stays(job, context):
            return Step.WAIT
        unfit = self._unfit(job, now) if weighed else NOBODY
        if job.terms is not None or (job.deadline is not None and self._may_be_late(job, now)):
            chosen = self._among_those_wanted(job, context, unfit)
        elif job.failures or job.trial is not None or unfit:
            chosen = self._another(job, context, unfit)
        else:
            chosen = table.pick((), context, job.policy.exhaustive)
        if table.half_open and isinstance(chosen, Slot) and chosen.is_trial:
            return self._spare(job, chosen, context, unfit)
        if isinstance(chosen, Slot):
            return chosen
        # Epoch 0: the supervisor has not spoken yet, and an empty
        # table says nothing of the members.
        if chosen is NoPick.BUSY or table.epoch == 0 or self._may_wait(job, now):
            return Step.WAIT
        return Step.FAIL

    def _may_be_late(self, job: Job, now: float) -> bool:
        """Whether any member may take as long as the request has left."""
        if job.deadline is None:
            return False
        if self._table.untimed:
            self._table.read_times()
        return job.deadline - now <= self._table.longest_s

    def gives_way(self, job: Job, now: float) -> bool:
        """Whether it can be in time no more, and would take a place from one that waits, too, and
        can. To be asked of one that waits, where there is room.
        """
        queue = self._room.queue
        # Where nobody else waits it is tried: an idle slot is of no use to anybody.
        if job.deadline is None or queue.size < 2 or not self._is_too_late(job, now):
            return False
        last = queue.last_untried()
        if last is not None and self._makes_use(last, job, now):
            return True
        if self._room.fair is not None:  # which is read as a whole
            return False
        return any(self._makes_use(each, job, now) for each in islice(queue, _NEXT_FEW))

    def _is_too_late(self, job: Job, now: float) -> bool:
        if job.trial is not None or job.promised or not self._may_be_late(job, now):
            return False
        assert job.deadline is not None
        return self._table.is_too_late(job.deadline, now, self._barred(job))

    def _makes_use(self, other: Job, job: Job, now: float) -> bool:
        """Whether another one may have whatever this one may have, and can be in time."""
        if other is job or self._is_too_late(other, now):
            return False
        if other.terms is not None and (job.terms is None or other.terms.key != job.terms.key):
            return False
        if not self._table.headroom.weighs:
            return True
        costs = costs_of(job)
        return all(amount <= costs.get(name, 0) for name, amount in costs_of(other).items())

    def _barred(self, job: Job) -> Collection[str]:
        return self._table.eligible(job.terms).barred if job.terms is not None else ()

    def _among_those_wanted(
        self, job: Job, context: PickContext, unfit: Collection[str]
    ) -> Slot | NoPick:
        """For a request that not everybody may have, or not everybody in time."""
        may, taken = self._table.eligible(job.terms), {*self._taken(job), *unfit}
        for aside in self.asides(job, context.now):
            chosen = self._table.pick_untried({*taken, *aside}, context, may.strategy, job.taken)
            if chosen is not None:
                return chosen
        return self._another(job, context, unfit)

    def asides(self, job: Job, now: float) -> list[Collection[str]]:
        """Whom it is not given to as long as one of the others is free, the most wanted first: who
        would be too late, and who is not preferred; then the former, then the latter.
        """
        late: Collection[str] = ()
        if job.deadline is not None and self._may_be_late(job, now):
            late = self._table.too_slow(job.deadline - now, now)
        others = self._table.eligible(job.terms).others
        if not late or not others:
            return [each for each in (late, others) if each]
        return [{*late, *others}, late, others]

    def _taken(self, job: Job) -> Collection[str]:
        """Members that have had it, or have it in a trial, or must not have it."""
        return {*job.taken, *self._table.eligible(job.terms).barred}

    def _unfit(self, job: Job, now: float) -> Collection[str]:
        """Who has no headroom for it, whatever there is for others."""
        headroom = self._table.headroom
        if not headroom.weighs or job.work.cost is None:
            return NOBODY
        return headroom.unfit(costs_of(job), now, job)

    def _another(self, job: Job, context: PickContext, unfit: Collection[str]) -> Slot | NoPick:
        """For a request that members have had, or have, or must not have, or that not all have
        headroom for.
        """
        table = self._table
        # Calls that are saved: a request that fails over makes a dozen of such looks.
        had = job.taken
        taken = had if job.terms is None else self._taken(job)
        taken = {*taken, *unfit} if unfit else taken
        # What else there is to be known is asked only where no untried one can take it now. (A
        # strategy of the app's own would be asked twice by that.)
        if table.treats_alike and not job.policy.exhaustive:
            by = None if job.terms is None else table.eligible(job.terms).strategy
            untried = table.pick_untried(taken, context, by, had)
            if untried is not None:
                return untried
        only_untried = self._only_untried(job)
        # Who has let it wait for a whole time limit is asked again only where nobody else can come.
        last = () if only_untried else job.silent
        never = self._hopeless(job) if job.failures or job.terms is not None else ()
        never = {*never, *unfit} if unfit else never
        return table.pick(taken, context, only_untried, never, last, had)

    def _spare(
        self, job: Job, trial: Slot, context: PickContext, unfit: Collection[str]
    ) -> Slot | Beside | Step:
        """Whom to give it to in place of a half-open member, and whether to try that one beside."""
        table = self._table
        # A chain calls one agent at a time: the request goes to the
        # half-open one, and waits for that.
        if table.one_at_a_time:
            return trial
        # So does a caller that runs agents in a block of its own: where it may be run again, the
        # trial is an attempt like any other.
        if job.is_lease and job.work.idempotent:
            return trial
        other = self._other_than({*table.half_open, *unfit}, job, context)
        # Nobody else can take it, or it would be turned away while
        # it waits: better a trial than that.
        if other is NoPick.UNROUTABLE or (other is NoPick.BUSY and self._room.shuts_out(job)):
            return trial
        member = other if isinstance(other, Slot) else None
        # Two at a time must not run it, and one trial beside it is enough.
        if not job.work.idempotent or job.trial is not None:
            return member or Step.WAIT
        return Beside(member, trial)

    def _other_than(self, names: Collection[str], job: Job, context: PickContext) -> Slot | NoPick:
        """Whom to give it to that is none of these, and has not had it."""
        out = {*self._taken(job), *names}
        for aside in self.asides(job, context.now) if job.terms is not None else ():
            by = self._table.eligible(job.terms).strategy
            chosen = self._table.pick_untried({*out, *aside}, context, by, job.failures)
            if chosen is not None:
                return chosen
        return self._table.pick(out, context, exhaustive=True, failed=job.failures)

    def second(self, job: Job, taken: Collection[str], context: PickContext) -> Slot | None:
        """Whom to give it to as well, other than those taken.

        Raises:
            StrategyError: as by `RoutingTable.pick_second`.
        """
        table = self._table
        unfit = self._unfit(job, context.now)
        if job.terms is None and not unfit and not self._may_be_late(job, context.now):
            return table.pick_second(taken, context)
        may = table.eligible(job.terms)
        out = {*taken, *may.barred, *unfit}
        for aside in self.asides(job, context.now):
            chosen = table.pick_second({*out, *aside}, context, may.strategy, taken)
            if chosen is not None:
                return chosen
        return table.pick_second(out, context, may.strategy, taken)

    def _again(self, job: Job, bound: Bound, now: float) -> Slot | Step | None:
        """The member that it is bound to, or whether to wait for that one; None if neither, and
        anybody will do.
        """
        slot = self._table.get(bound.member)
        if job.terms is not None and bound.member in self._table.eligible(job.terms).barred:
            slot = None  # it is known by other names since
        # Who stays for a member has asked for it by name; a hiccup is not worth a trial's permit.
        if slot is not None and slot.is_free and (bound.rests or not slot.is_trial):
            job.bound = None
            # Without headroom for it: anybody will do, as where it is full and not waited for.
            return None if slot.name in self._unfit(job, now) else slot
        if slot is not None and self._is_worth_waiting(slot, bound, job, now):
            return Step.WAIT
        job.bound = None
        return None

    def _is_worth_waiting(self, slot: Slot, bound: Bound, job: Job, now: float) -> bool:
        # Its failure is on its way to the supervisor, whose word will say more before long.
        if slot.is_unjudged():
            return True
        if not bound.rests:
            return False
        # Not for any other reason: one that is open or drains by now has got worse than a rest.
        saturated = slot.skip_reason() is SkipReason.SATURATED
        return saturated or slot.rests(now + self._stay_s, job.deadline)

    # -- may it wait

    def names_nobody(self, job: Job) -> bool:
        """Whether nobody in the pool has a name or a tag of those that alone may have it."""
        if job.terms is None or job.failures or self._table.epoch == 0:
            return False
        return not self._table.eligible(job.terms).named

    def _stays(self, job: Job, context: PickContext) -> bool:
        """Whether it waits for a preferred member that rests, though others could take it."""
        if self._room.shuts_out(job):
            return False
        until = context.now + self._stay_s
        barred = self._table.eligible(job.terms).barred
        return self._table.rests(job.failures, context, until, job.deadline, barred)

    def _may_wait(self, job: Job, now: float) -> bool:
        """Whether a request may wait for a member to come back, rather than fail at once."""
        besides: Collection[str] = self._hopeless(job)
        if self._only_untried(job):
            besides = {*job.failures, *besides}
        if self._table.headroom.limited and self._refills(job, besides, now):
            return True
        # Each member has one turn: to wait would be for a second one.
        if job.policy.exhaustive and job.failures:
            return False
        reopening = self._table.earliest_reopening(besides)
        if reopening is not None and reopening <= now + _ABOUT_NOW_S:
            return True  # its time has come: the word of it is on its way
        # Whatever `when_unavailable` says: it is a retry, which waits as retries do.
        if job.failures and self._sits_out(job, besides, now):
            return True
        if job.policy.config.when_unavailable != "wait":
            return False
        if self._table.trial_running(besides):
            return True
        return reopening is not None and (job.deadline is None or reopening < job.deadline)

    def _refills(self, job: Job, besides: Collection[str], now: float) -> bool:
        """Whether a member that lacks nothing but headroom for it has some in time."""
        # Of one that rests it is its Retry-After that is sat out.
        longest = now + job.policy.config.retry_max_delay_s
        return any(
            slot.name not in besides
            and (job.deadline is None or at < job.deadline)
            and (not slot.rest.until or at <= longest)
            for at, slot in self._table.headroom.refills(self._table, costs_of(job), now, job)
        )

    def _sits_out(self, job: Job, besides: Collection[str], now: float) -> bool:
        """Whether a request that has retries left waits for the first member that has rested, as it
        would right after a failure. It has been tried before; a new one need not wait.
        """
        until, policy = self._table.first_rested(besides), job.policy
        if until is None or until > now + policy.config.retry_max_delay_s:
            return False
        if job.attempts - 1 >= policy.max_retries:
            return False
        return job.deadline is None or until < job.deadline

    def _only_untried(self, job: Job) -> bool:
        """Whether no member that it has tried can still help the request."""
        return job.policy.exhaustive or (bool(job.failures) and not self._could_recover(job))

    def _hopeless(self, job: Job) -> Collection[str]:
        """The members that it need not be given to once more, however long it waits."""
        lasting = _failed_for_good(job)
        if job.terms is not None:
            lasting |= self._table.eligible(job.terms).barred.keys()
        if job.work.cost is not None and self._table.headroom.weighs:
            lasting.update(self._table.headroom.too_small(costs_of(job)))
        return lasting | job.cut if lasting else job.cut

    def _could_recover(self, job: Job) -> bool:
        """Whether a member that has failed the request might answer it later."""
        cut = job.cut
        for name, failure in job.failures.items():  # any() takes twice as long
            if failure.kind not in LASTING and name not in cut and self._table.get(name):
                return True
        return False

    # -- after a failure

    def is_preferred(self, job: Job, attempt: Attempt, failure: Failure, now: float) -> bool:
        """Whether the request would rather wait for the member that has failed it."""
        after_s = failure.retry_after_s
        if not self._stay_s or after_s is None or after_s > self._stay_s:
            return False
        context = PickContext(now, job.work.key, job.id)
        barred = self._table.eligible(job.terms).barred
        return self._table.prefers(attempt.member, self._taken(job), context, barred)

    def may_mend(self, attempt: Attempt, failure: Failure) -> bool:
        """Whether the same member may be over it: it takes requests as usual, as far as the
        supervisor has said. To be asked before anything is learned of the failure.
        """
        slot = self._table.get(attempt.member)
        # A trial that fails has answered the question that it was; and
        # the breaker is open again by it.
        if not failure.may_mend or slot is None or attempt.trial or not slot.in_service:
            return False
        return slot.route.circuit in (CircuitState.CLOSED, CircuitState.DISABLED)

    def situation(
        self,
        job: Job,
        attempt: Attempt,
        failure: Failure,
        mends: bool,
        preferred: bool,
        now: float,
    ) -> Situation:
        """All that the plan for what comes next may look at.

        Args:
            mends: whether the same member may be over it by now.
            preferred: whether the strategy would not give the request to anybody else.
        """
        after_s, table = failure.retry_after_s, self._table
        # Who stays for a member waits for that one, whoever else may be back.
        if not preferred and (after_s is not None or table.somebody_rests()):
            hopeless = _failed_for_good(job) | self._table.eligible(job.terms).barred.keys()
            after_s = table.asked_to_wait_s(hopeless, attempt.member, after_s, now)
        return Situation(
            kind=failure.kind,
            started=failure.started,
            side_effects=job.must_not_repeat(attempt),
            retry_after_s=after_s,
            attempts=job.attempts - job.extra,
            backoffs=job.backoffs,
            idempotent=job.work.idempotent,
            untried=self._untried_left(job, now),
            tried_could_recover=self._could_recover(job),
            now=now,
            deadline=job.deadline,
            may_mend=mends,
            tries=job.failures[attempt.member].attempts,
            members=len(table)
            - (0 if job.terms is None else len(table.eligible(job.terms).barred)),
            in_service=mends,
            preferred=preferred,
        )

    def _untried_left(self, job: Job, now: float) -> bool:
        """Whether an untried member can take the request: now, once a slot is free, or, if only
        such a one can help it, and it may wait for that, once one is back.
        """
        unfit = self._unfit(job, now) if self._table.headroom.weighs else NOBODY
        taken = job.taken if job.terms is None else self._taken(job)
        if self._table.could_take({*taken, *unfit} if unfit else taken):
            return True
        # One that is kept out is waited for only where no tried member will
        # do: else a retry on that one comes first.
        return not job.policy.exhaustive and self._only_untried(job) and self._may_wait(job, now)


def _failed_for_good(job: Job) -> set[str]:
    """The members whose failures do not pass with time."""
    return {name for name, each in job.failures.items() if each.kind in LASTING}
