"""The life of a request, from its acceptance to its end, in the order in which it is lived.

A `RequestFlow` is no actor: it has no thread, no mailbox and no clock of its own. Whoever drives it
(the pool's router, a test, a simulator) calls its methods, one at a time, and gives it `FlowPorts`
to the world. What it calls there returns at once; what follows from it comes as a call of its own.

Each step asks its parts, and tells them what it does. They know nothing of each other's insides:
`RoutingTable` (who is free, whom the strategy picks), `Choice` (whom a request may have, and
whether it waits), `WaitingRoom`, `Attempts` (tickets, slots, time limits), `Hedger`, `Trials`,
`AttemptResults` (what is learned of the members) with `RestingMembers` and `OutcomeReporter`,
`Refills` (what requests take from the rate limits of members), `Deadlocks`, `Endings`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from greenroom.actors.claims.claims import Claims
from greenroom.actors.claims.local_messages import Answered
from greenroom.actors.policy.retry_plan import (
    GiveUp,
    RaiseAsIs,
    SameAgain,
    StayFor,
    TryLater,
    TryNow,
)
from greenroom.actors.policy.throughput import Throughput
from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.attempt_results import AttemptResults
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.choice import Beside, Choice, Step
from greenroom.actors.request.deadlocks import Deadlocks
from greenroom.actors.request.endings import Endings
from greenroom.actors.request.failure_report import (
    all_failed,
    expired,
    interrupted,
    nobody_named,
    own,
    reentrant,
    why_unroutable,
)
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.follow_ups import BreakOff, FollowUps
from greenroom.actors.request.hedger import Hedger
from greenroom.actors.request.job import (
    ENDED,
    PLACING,
    QUEUED,
    Attempt,
    AttemptRole,
    Bound,
    Failure,
    Job,
    Work,
)
from greenroom.actors.request.outcome_reporter import OutcomeReporter
from greenroom.actors.request.queue_hints import QueueHints
from greenroom.actors.request.refills import Refills, costs_of
from greenroom.actors.request.resting_members import RestingMembers
from greenroom.actors.request.trials import Trials
from greenroom.actors.request.waiting_room import NOBODY, Leavers, WaitingRoom
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.routing.selection import terms_of
from greenroom.actors.runtime.future import GivenUp, PoolFuture, Waits
from greenroom.actors.runtime.pauses import excuses
from greenroom.actors.strategies import RoutingStrategy
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import (
    AttemptTimeoutError,
    MemberCrashedError,
    PoolError,
    PoolStoppedError,
    StrategyError,
    not_begun,
    summary,
)
from greenroom.messages.execution import (
    Execute,
    Failed,
    LimitsSeen,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    Succeeded,
)
from greenroom.messages.pickling import fit_to_look_at
from greenroom.messages.requests import RequestOptions
from greenroom.messages.screening import Heard
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason
from greenroom.messages.supervision import FailuresSeen, RoutingSnapshot, TableWanted


class RequestFlow:
    """Owns the requests in flight; every one that is accepted is answered exactly once.

    Its methods without an underscore are called one at a time: by the router, in its own thread or
    in that of a member which holds the router's turn. The alarms that it sets count as such calls.
    Other threads touch only the claims, of which each request has one.

    It runs no user code but the strategy's. What an entry raises is for its caller to bring to
    `made_good`; what has no message that would tell of it is guarded here, by `_see_to`.

    Args:
        urn: what the pool is called in the ancestry of calls.
        claims: where members claim the right to answer by themselves.
        idle: called when its `endings` are closed and nothing is in flight any more.

    Attributes:
        jobs: the requests in flight, by id. Read only, as the parts are.
    """

    def __init__(
        self,
        ports: FlowPorts,
        *,
        name: str,
        urn: str,
        strategy: RoutingStrategy,
        config: PoolConfig,
        rng: random.Random,
        claims: Claims,
        idle: Callable[[], object],
    ) -> None:
        # The order is that of who needs whom. What has to go on by itself, when an alarm rings or a
        # rest is over, comes back by a method of the flow: parts do not know the flow.
        self._ports = ports
        self._name = name
        self._urn = urn
        self._config = config
        self._claims = claims
        self._numbers = itertools.count(1)
        throughput = self._throughput = Throughput()
        attempt_events = self._attempt_events = AttemptEvents(name, ports.events)
        table = self.table = RoutingTable(strategy, rng)
        stay_s = config.stay_for_retry_after_s if table.sticks else 0.0
        room = self.room = WaitingRoom(config, table, stays=bool(stay_s))
        self.refills = Refills(ports, table, room, self._pump)
        self.outcome_reporter = OutcomeReporter(ports, config, table.untimed)
        self.rests = RestingMembers(ports, table, attempt_events, rng, self._pump)
        attempt_results = self._attempt_results = AttemptResults(
            ports, table, attempt_events, self.outcome_reporter, self.rests
        )
        overdue = self._overdue
        attempts = self.attempts = Attempts(
            ports,
            config,
            table,
            claims,
            throughput,
            attempt_events,
            attempt_results,
            overdue,
            self._see_to,
        )
        trials = self._trials = Trials(
            ports, room, attempts, attempt_results, attempt_events, overdue
        )
        self._choice = Choice(table, room, stay_s)
        exhaustive = bool(getattr(strategy, "exhaustive", False))
        self._follow_ups = FollowUps(config, table, self._choice, claims, rng, exhaustive)
        budget = self._follow_ups.budget
        choice, due = self._choice, self._hedge
        self._hedger = Hedger(ports, config, choice, claims, attempts, trials, budget, due)
        self.endings = Endings(ports, name, room, attempt_results, throughput, idle)
        self.jobs = self.endings.jobs
        self._queue_hints = QueueHints(name, ports.events, table)
        self._deadlocks = Deadlocks(urn, self.jobs, attempts.live, table)

    # -- a request comes in

    def accept(
        self,
        work: Work,
        future: PoolFuture[Any] | None = None,
        now: float | None = None,
        context: Context | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Take a request in, or refuse it. None for a future: nobody waits for the answer, and the
        caller's context is `context`, what members have said of the payload `heard`; else these are
        the future's.

        Args:
            now: the time, where the asker's own thread takes it in: that does so only while nobody
                reads any event.
        """
        ports, listened = self._ports, now is None
        if now is None:
            now = ports.now()
        # An ask was numbered in the caller's thread, which must know the id to cancel by it. Only a
        # tell without an id of its own is numbered here; the t keeps the two kinds of number apart.
        job_id = (future.request_id if future is not None else None) or work.request_id
        job_id = job_id or f"{self._name}-t{next(self._numbers)}"
        if self.endings.closed or job_id in self.jobs:
            self.endings.refused(job_id, future)
            return
        retries, policy = self._follow_ups, self._follow_ups.policy
        if work.max_retries is not None:
            policy = retries.policy_of(work.max_retries)
        # The earliest of three: of the ask (`timeout`), reckoned by its
        # caller; of the request; of the pool.
        deadline = None if future is None else future.deadline
        if work.timeout is not None or self._config.deadline_s is not None:
            limits = [now + limit for limit in (work.timeout, self._config.deadline_s) if limit]
            deadline = min(limits if deadline is None else (*limits, deadline), default=None)
        # Booked first: what raises from here on finds it in the books, and can answer who asks.
        terms = None
        if future is not None:
            heard = future.heard
        if (
            (heard is not None and heard.asked)
            or self.table.screens
            or work.only is not None
            or work.exclude is not None
            or work.prefer is not None
        ):
            terms = terms_of(work, heard)
        job = self.jobs[job_id] = Job(
            job_id, work, future, now, deadline, policy, context, terms, heard
        )
        self.endings.counts["accepted"] += 1
        if ports.observer is not None:
            ports.observer.accepted(job, now)
        if work.cost is not None and self.table.headroom.weighs:
            self.table.headroom.note(costs_of(job))
        try:
            # Before it is given to anybody: its own retries and hedges may be paid from this.
            retries.budget.deposit(now)
            if self._hedger.enabled:
                self._hedger.accepted()
            if deadline is not None:
                if deadline <= now:  # it has lain in the mailbox for too long
                    self._out_of_time(job)
                    return
                job.deadline_alarm = ports.at(deadline, lambda: self._deadline_over(job))
            if future is not None and future.waits:
                self._deadlocks.waits(job, future.waits)
            try:  # from here on as `_give`, without the call
                place = self._choice.place(job, now)
            except StrategyError as error:
                self._fail(job, error)
                return
            if isinstance(place, Slot):
                self._dispatch(job, place, now, heard=listened)
            else:
                self._give_later(job, place, now)
        except BaseException as error:
            self._fail_by_fault(job, "give a request to a member", error)

    # -- it is given to a member, or waits for one

    def _route(self, job: Job, now: float | None = None) -> None:
        """Give it to a member, let it wait, or fail it. Raises nothing: who calls it has something
        else in hand.
        """
        now = self._ports.now() if now is None else now
        try:
            if job.deadline is not None and job.deadline <= now:  # its alarm has not gone off yet
                self._expire(job, now)
            else:
                self._give(job, now)
        except BaseException as error:
            self._fail_by_fault(job, "give a request to a member", error)

    def _give(self, job: Job, now: float) -> None:
        """The same where its deadline is known not to be over."""
        try:
            place = self._choice.place(job, now)
        except StrategyError as error:
            self._fail(job, error)
            return
        if isinstance(place, Slot):
            self._dispatch(job, place, now)
        else:
            self._give_later(job, place, now)

    def _give_later(self, job: Job, place: Beside | Step, now: float) -> None:
        """Nobody is to have it just now, or not alone."""
        if isinstance(place, Beside):
            self._give_beside(job, place, now)
        elif place is Step.WAIT:
            self._enqueue(job, now)
        elif place is Step.FAIL:
            if self._choice.names_nobody(job):
                self._fail(job, nobody_named(self._name, job, self.table))
                return
            waits = job.policy.config.when_unavailable == "wait"
            reason = why_unroutable(job, self.table, waits, now)
            self._fail(job, all_failed(self._name, job, self.table, reason, now))

    def _give_beside(self, job: Job, place: Beside, now: float) -> None:
        # First: whoever is given it next may answer, in a thread of
        # its own, before the trial has begun.
        number = self._trials.count(job, now)
        if place.member is not None:
            self._dispatch(job, place.member, now)
        else:
            self._enqueue(job, now)
        # Looked at anew: a dispatch that fails goes on by itself, and may end the request, take the
        # place of the trial, or bring one of its own: of two, one would be in no book of the job's.
        if job.phase is ENDED or not job.promised:
            return
        # And what it has taken from a rate limit may be what the trial would have needed.
        headroom, costs = self.table.headroom, costs_of(job)
        fits = not place.trial.buckets or headroom.fits(place.trial, costs, now)
        if job.trial is None and place.trial.is_free and fits:
            self._dispatch(job, place.trial, now, AttemptRole.BESIDE, number)
        else:
            self._trials.take_back(job, now)

    def _enqueue(self, job: Job, now: float) -> None:
        if job.future is not None and job.future.inside and self._deadlocks.closed_by(job):
            self._fail(job, reentrant(self._name, self._urn, job))
            return
        waited = job.phase is QUEUED
        leavers = self.room.enter(job, now)
        if (observer := self._ports.observer) is not None and job.phase is QUEUED and not waited:
            observer.queued(job, now)
        if self.table.headroom.weighs and job.work.cost is not None and job.phase is QUEUED:
            self.refills.awaits(job, now)
        self._queue_hints.queued(self.room.queue.size, now)
        if leavers is not NOBODY:
            self._put_out(leavers, now)

    def _put_out(self, leavers: Leavers, now: float) -> None:
        """Tell those that have no place in the waiting room any more."""
        for job in leavers.expired:
            self._see_to(job, "end a request in time", partial(self._expire, job, now))
        for job, waiting, of_key in leavers.shed:
            # While anything runs, the next slot comes from that, and
            # its pace says when to come back.
            barred = self.table.eligible(job.terms).barred
            reopening = None if self.attempts.live else self.table.earliest_reopening(barred)
            shed = partial(self.endings.shed, job, waiting, reopening, of_key)
            self._see_to(job, "turn a request away", shed)

    def _pump(self) -> None:
        """Give waiting requests, the first ones first, to whoever has become free."""
        if self.attempts.unsaid:
            self.attempts.say_released()
        queue = self.room.queue
        while queue.size and (job := queue.first()) is not None and self.table.has_room():
            self._offer(job)
            if job.phase is QUEUED:  # it cannot use the room there is: others may
                for other in self.room.behind(job):
                    self._offer(other)
                if self.table.headroom.weighs:
                    for other in self.refills.lighter(job):
                        self._offer(other)
                return

    def _offer(self, job: Job) -> None:
        """Give one that waits to whoever has become free."""
        if job.deadline is None:
            self._route(job)
        else:
            self._see_to(job, "give a request to a member", partial(self._offer_in_time, job))

    def _offer_in_time(self, job: Job) -> None:
        """The same unless it can be in time no more, and another one that waits can."""
        now = self._ports.now()
        if self._choice.gives_way(job, now):
            self._expire(job, now)
        else:
            self._route(job, now)

    def _route_waiting(self) -> None:
        """Look at each that waits: some may be served now, some wait in vain."""
        # Where it is not order that says who is served, who has turns has them first.
        if self.room.fair is not None:
            self._pump()
        for job in self.room.queue:
            self._route(job)

    def _dispatch(
        self,
        job: Job,
        slot: Slot,
        now: float,
        role: AttemptRole = AttemptRole.MAIN,
        number: int = 0,
        *,
        heard: bool = True,
    ) -> None:
        """Have a member work on it. The claim to its answer is open before the member hears of it,
        which may answer at once, in its own thread.

        Args:
            number: of a trial beside, that has been counted already; 0 for the next one.
            heard: whether anybody may read of its beginning, unless others have begun before.
        """
        beside, charge = role is AttemptRole.BESIDE, None
        # Before all else: what its limits do not hold is not given to a member, whoever has chosen
        # it.
        if slot.buckets:
            charge = self.refills.reserve(job, slot, now)
            if charge is None:
                self._lacks_headroom(job, role, now)
                return
        # A trial beside was counted by `Trials.count`. Out of the queue before the
        # count goes up: the queue finds its tried ones by `attempts`, and would
        # look for this one in the wrong heap.
        if not beside:
            if job.phase is QUEUED:
                self.room.serve(job)
            job.attempts += 1
        attempts, channel, route = self.attempts, job.channel, slot.route
        trial = route.trial_permits is not None
        attempt = Attempt(
            job, slot.name, slot.index, route.incarnation, route.epoch, trial, now, number
        )
        attempt.charge = charge
        held, sent = slot.in_flight, False
        try:
            attempts.begin(attempt, job, slot, now, role)
            # The first attempt is neither; `extra` are trials, which are charged to nobody.
            if job.attempts - job.extra > 1 and not beside:
                self.endings.counts["hedges" if role is AttemptRole.HEDGE else "retries"] += 1
            if channel is not None:
                channel.attempts = job.attempts
            if (
                role is AttemptRole.HEDGE
                or job.failed_last is not None
                or (heard and self._ports.events.listening())
            ):
                self._attempt_events.started(job, attempt)
            if self._hedger.enabled and role is AttemptRole.MAIN:
                self._hedger.plan(job, now)
            context = job.context
            if (observer := self._ports.observer) is not None:
                context = observer.given(job, attempt, role, now) or context
            message = Execute(
                job.id,
                attempt.number,
                attempt.incarnation,
                job.work,
                attempt.deadline,
                channel is not None,
                () if job.future is None else job.future.inside,
                context,
            )
            # Set before the call: if that raises, nobody knows
            # whether the envelope is in the mailbox.
            sent = True
            sent = self._ports.send(route, message)
            if sent:
                return
            # Its actor has ended and the supervisor has not said so yet: it never started.
            slot.member_gone()
            attempts.undo(attempt)
            self.refills.undone(attempt)
            self._never_started(attempt, MemberCrashedError(f"{slot.name} has ended"))
            self.attempts.say_released()
        except BaseException as error:
            if not sent:
                self.refills.undone(attempt)
            if attempts.live.get(attempt.ticket) is not attempt:
                raise  # it never began, or has ended: this came of what followed
            # `undo` gives one back whatever has happened, and `begin`
            # may have raised before it took one.
            if slot.in_flight == held:
                slot.in_flight += 1  # to be given back
            self._not_sent(attempt, sent, error)

    def _lacks_headroom(self, job: Job, role: AttemptRole, now: float) -> None:
        """A member was chosen whose rate limits do not hold the request, as they are by now."""
        if role is AttemptRole.BESIDE:
            self._trials.take_back(job, now)
        elif role is AttemptRole.MAIN:
            self._enqueue(job, now)

    def _not_sent(self, attempt: Attempt, perhaps: bool, error: BaseException) -> None:
        """Something has raised on the way to the member: another one may have the request.

        Args:
            perhaps: whether the member may have it in spite of that.
        """
        member = attempt.member
        self._ports.events.complain_of(f"it failed to give a request to {member}", error)
        self.table.mend()
        # False: it has answered in spite of all. Then its report ends
        # the request, and nothing follows.
        if self.attempts.undo(attempt, perhaps):
            self.refills.undone(attempt)
            if perhaps:
                self.attempts.cancel(attempt, CancelReason.LOST_RACE)
            self._never_started(attempt, not_begun(f"a call of {member}", error))
            self.attempts.say_released()

    def _hedge(self, job: Job) -> None:
        """The first attempt has had its time; a second one joins it if it may."""
        self._see_to(job, "hedge a request", lambda: self._join(job))

    def _join(self, job: Job) -> None:
        now = self._ports.now()
        slot = self._hedger.second(job, now)
        if slot is not None:
            self._dispatch(job, slot, now, AttemptRole.HEDGE)

    # -- a member answers

    def answered(self, message: Answered) -> None:
        """The usual end of a request, all of it in one place: it runs for every request that goes
        well. By way of `_won`, which does the same, an ask makes sixteen calls more, and takes 3 to
        6 us more. The asker has the answer already. What is special about an
        attempt comes as `Succeeded`.
        """
        attempt: Attempt = message.attempt
        elapsed_s, attempts = message.elapsed_s, self.attempts
        job = attempt.job
        if attempts.live.get(attempt.ticket) is not attempt:
            return
        if job is None:
            attempts.release(attempt)
            self._pump()
            return
        ended_at = attempt.started_at + elapsed_s
        table = self.table
        slot = table.get(attempt.member)
        stands = slot is not None and slot.route.incarnation == attempt.incarnation
        if slot is not None and stands:
            slot.give_back()
        del attempts.live[attempt.ticket]  # from here on its slot is given back: see `made_good`
        if attempts.timeouts is not None:
            attempts.timeouts.running.pop(attempt, None)
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        self._throughput.answered(attempt.started_at, elapsed_s)
        if slot is not None:
            slot.load.succeeded(elapsed_s, ended_at)
            if slot.recovers:
                slot.answered(attempt.started_at, elapsed_s)
            if stands and table.draining:
                attempts.check_drained(slot)
        if table.learns:
            table.record(attempt.member, True)
        self.outcome_reporter.succeeded(attempt, elapsed_s, ended_at)
        if self._hedger.enabled:
            self._hedger.answered(job, attempt, elapsed_s)
        if (observer := self._ports.observer) is not None:
            observer.succeeded(attempt, elapsed_s, ended_at)
            observer.released(attempt, ended_at)
        if job.blame is not None:
            self._attempt_results.settle(job, job.blame, True)
        del self.jobs[job.id]
        self.endings.counts["completed"] += 1
        if job.deadline_alarm is None and job.hedge_alarm is None and job.alarm is None:
            job.phase, job.context = ENDED, None  # as `Job.end`, without the call
        else:
            job.end()
        if observer is not None:
            observer.ended(job, "answered", None, attempt.member, ended_at)
        attempt.job = None  # the two refer to each other: the collector need not find out
        if self.endings.closed:
            self.endings.check_idle()
        if self.room.queue.size:
            self._pump()

    def succeeded(self, message: Succeeded) -> None:
        """A member reports a success; its asker may have the answer already, or not."""
        # First: whatever follows, the slot is free. None if its
        # member's actor was replaced meanwhile.
        attempt = self.attempts.ended(message, message.elapsed_s)
        job = attempt.job if attempt is not None else None
        if attempt is not None and attempt.charge is not None:
            self.refills.ended(attempt, message.spent)
        if attempt is not None and attempt.alone:
            self._trials.succeeded(attempt, message.elapsed_s)
        elif attempt is None or job is None:
            # Chunks have found their consumer one by one, or none; a value is lost as a whole. That
            # of an attempt which has lost a race was not to be had: no loss.
            if message.first_chunk_s is None and (attempt is None or not attempt.lost):
                self.endings.dead_letter(message.request_id, message.member, "a late result")
        # A member asks its race before it answers, so for one that
        # has answered this only confirms it.
        elif job.claim.race is None or job.claim.race.win(attempt.ticket):
            self._won(message, attempt, job)
        elif attempt is job.trial:
            job.leave(attempt)
            self._trials.succeeded(attempt, message.elapsed_s)
        else:
            self.attempts.ignore(job, attempt)  # the winner's report is on its way
        self._pump()

    def _won(self, message: Succeeded, attempt: Attempt, job: Job) -> None:
        now = self._ports.now()
        streamed = message.first_chunk_s is not None
        elapsed_s = message.elapsed_s if message.first_chunk_s is None else message.first_chunk_s
        # The report may have lain aside; the answer may have been given on the spot.
        ended_at = min(attempt.started_at + message.elapsed_s, now)
        # The accounts before the answer: the next request of the
        # asker shall find the member as it is.
        self._attempt_results.succeeded(attempt, elapsed_s, ended_at, streamed=streamed)
        try:
            if self.attempts.is_unanswered(job, attempt, streamed):
                if message.metadata is not None:
                    job.claim.metadata = message.metadata
                self._ports.answer(job, message.value, attempt.member, now - job.accepted_at)
        except BaseException as error:  # it is claimed, so nobody else will answer
            job.leave(attempt)
            self._fail_by_fault(job, "answer a request", error)
            return
        # Of a stream `stream_begun` has told, with its first chunk.
        if not streamed:
            self._hedger.answered(job, attempt, elapsed_s)
        self.endings.answered(job, attempt.member)
        attempt.detach()

    # -- it tells of itself meanwhile

    def side_effects(self, message: SideEffectsStarted) -> None:
        """An attempt must not be repeated: nobody races with it any more."""
        attempt = self.attempts.of(message)
        if attempt is not None:
            attempt.side_effects = True
            if attempt.job is not None:
                self._hedger.drop_rivals(attempt.job, attempt)

    def limits_seen(self, message: LimitsSeen) -> None:
        """An agent has been told by its provider what is left of a rate limit."""
        self.refills.seen(message, self.attempts.of(message))
        self._pump()

    def stream_begun(self, message: StreamBegun) -> None:
        """The first chunk of a stream has come: for the strategies that is its answer."""
        attempt = self.attempts.begun(message)
        if attempt is not None and attempt.job is not None:
            self._hedger.answered(attempt.job, attempt, message.first_chunk_s)
            self.attempts.limits.watch(attempt)

    # -- an attempt fails

    def failed(self, message: Failed) -> None:
        """A member reports a failure."""
        attempt = self.attempts.ended(message)
        if attempt is not None:
            if attempt.charge is not None:
                self.refills.ended(attempt, message.spent, message.started)
            failure, now = Failure.of(message), self._ports.now()
            if self._is_excused(attempt, failure, now):
                failure = failure._replace(kind=FailureKind.INTERRUPTED)
            if attempt.job is not None:
                self._claims.withdraw(attempt.ticket)
                attempt.side_effects = attempt.side_effects or message.side_effects
                self._attempt_failed(attempt, attempt.job, failure, now)
            elif attempt.alone:
                self._trials.reported_failed(attempt, failure)
            elif self._attempt_results.heed(attempt, failure, now):
                self._route_waiting()  # some may wait in vain now
        self._pump()

    def _is_excused(self, attempt: Attempt, failure: Failure, now: float) -> bool:
        """Whether it failed by a pause of the process: an agent's own time limits do not know of
        one, nor does who has waited at the other end of its connection. Who says in an answer that
        it is unavailable has not waited for us.
        """
        if failure.kind is not FailureKind.TIMEOUT and not failure.disconnected:
            return False
        paused_at, began = self._ports.paused_at(), attempt.started_at
        return began < paused_at and excuses(paused_at, began, now)

    def refused(self, message: Refused) -> None:
        """A member has not taken an attempt."""
        attempt = self.attempts.ended(message)
        if attempt is not None:
            if attempt.charge is not None:
                self.refills.ended(attempt, None, began=False)
            self._claims.withdraw(attempt.ticket)
            # Not every refusal comes with an error: a member that is full has only a reason.
            error = message.error or PoolError(f"{message.member} refused it: {message.reason}")
            create_failed = message.reason is RefusalReason.CREATE_FAILED
            kind = FailureKind.CREATE_FAILED if create_failed else FailureKind.UNAVAILABLE
            self._never_started(attempt, error, kind)
        self._pump()

    def _overdue(self, attempt: Attempt, limit: str, limit_s: float, lack: str) -> None:
        """An attempt has had its time; whoever asks must not wait for the member to notice."""
        error = AttemptTimeoutError(f"{attempt.member} {lack} within {limit}={limit_s:g}")
        what = "end an attempt in time"
        self._see_to(attempt.job, what, partial(self._time_out, attempt, error))

    def _time_out(self, attempt: Attempt, error: AttemptTimeoutError) -> None:
        # It has gone off: nobody need cancel it.
        attempt.alarm, job = None, attempt.job
        if job is not None and not self.attempts.give_up(job, attempt):
            return
        # Cancelled, not released: a thread cannot be stopped, so the slot is held until the call
        # ends or the member abandons it.
        self.attempts.cancel(attempt, CancelReason.ATTEMPT_TIMEOUT)
        now = self._ports.now()
        if attempt.first_chunk_s is None:
            self.table.still_running(attempt.member, now - attempt.started_at, now)
        self._ended_badly(attempt, job, FailureKind.TIMEOUT, error)
        if job is not None:
            self._pump()

    def _crashed(self, attempt: Attempt) -> None:
        """The member's actor is gone, and the attempt with it."""
        job = attempt.job
        if job is not None and not self._claims.give_up(attempt.ticket, job.claim):
            return  # it has just been answered: the report is on its way
        self.attempts.release(attempt)
        error = MemberCrashedError(f"{attempt.member} ended while it worked on the request")
        self._ended_badly(attempt, job, FailureKind.CRASHED, error)

    def _ended_badly(
        self, attempt: Attempt, job: Job | None, kind: FailureKind, error: Exception
    ) -> None:
        now = self._ports.now()
        failure = Failure(kind, error, now - attempt.started_at, runs=True)
        if job is not None:
            self._attempt_failed(attempt, job, failure, now)
        elif attempt.alone:
            self._trials.failed(attempt, failure)

    def _attempt_failed(self, attempt: Attempt, job: Job, failure: Failure, now: float) -> None:
        """An attempt ended badly and its request still waits: count it, and see what follows.

        A failure that no other member can mend is an answer, too: it must win its race.
        """
        race = job.claim.race
        if race is not None and not failure.kind.tries_another_member:
            # A 400, say: the caller gets it unless the other one has answered already. If this has
            # lost the race, `has_lost` below says so.
            race.win(attempt.ticket)
        if job.has_lost(attempt):
            if attempt is job.trial:
                job.leave(attempt)
                self._trials.failed(attempt, failure._replace(opens_at_once=False))
            else:
                self.attempts.ignore(job, attempt)
                if self._attempt_results.heed(attempt, failure, now):
                    self._route_waiting()
            return
        # Both are asked before what is learned of the members changes what they look at.
        preferred = self._choice.is_preferred(job, attempt, failure, now)
        mends = self._choice.may_mend(attempt, failure)
        self._attempt_events.failed(attempt, failure)
        new_rest = self._attempt_results.failed(attempt, job, failure, now, preferred)
        job.failed(attempt, failure)
        self._follow_up(job, attempt, failure, now, mends, preferred)
        if new_rest:
            self._route_waiting()  # some may wait in vain now

    def _never_started(
        self, attempt: Attempt, error: BaseException, kind: FailureKind = FailureKind.UNAVAILABLE
    ) -> None:
        """The member refused: nothing has run, so another may have the request in any case."""
        job = attempt.job
        if job is not None or attempt.alone:
            self._attempt_results.ignored(attempt)
        if job is None:
            return
        if job.promised:  # what follows may bring a trial of its own
            job.take_back()
        if job.has_lost(attempt):
            job.leave(attempt)
            return
        if kind is FailureKind.CREATE_FAILED:
            # Of no other refusal: a member that is full, or that ends, has not failed.
            self.table.record(attempt.member, False)
        now = self._ports.now()
        failure = Failure(kind, error, now - attempt.started_at, started=False)
        if self._ports.observer is not None:
            self._ports.observer.failed(attempt, failure, now)
        job.failed(attempt, failure)
        self._follow_up(job, attempt, failure, now)

    # -- what follows: the same member or another one at once, a retry later, or the end

    def _follow_up(
        self,
        job: Job,
        attempt: Attempt,
        failure: Failure,
        now: float,
        mends: bool = False,
        preferred: bool = False,
    ) -> None:
        member = attempt.member
        beside = attempt is job.trial
        job.leave(attempt)
        race = job.claim.race
        won = race is not None and race.won(attempt.ticket)
        # A trial that failed, or one of two hedged attempts: neither is the end of the request.
        if (beside or job.current is not None) and not won:
            return  # two were racing, or might be: the request goes on with the other one
        if won:  # the others have lost to one that now has failed
            self._trials.let_go(job)
            self.attempts.abort(job, CancelReason.LOST_RACE)
            if race is not None and not job.begun:  # else `Claims` does so: see `FollowUps`
                race.reopen(max(attempt.number, job.attempts + job.skipped))
        plan = self._follow_ups.plan(job, attempt, failure, now, mends, preferred)
        match plan:
            case SameAgain():
                # Not waited for: a hiccup is worth a second try on the
                # spot, but no place in the queue.
                job.bound = Bound(member, rests=False)
                self._route(job, now)
            case StayFor(delay_s):
                job.bound = Bound(member, rests=True)
                self._retry_later(job, member, delay_s, now)
            case TryNow():
                self._route(job, now)
            case TryLater(delay_s):
                self._retry_later(job, member, delay_s, now)
            case BreakOff(error):
                self._fail(job, error)
            case GiveUp(reason):
                self._fail(job, all_failed(self._name, job, self.table, reason, now))
            case RaiseAsIs():
                self.endings.callers_fault(job, own(failure.error))

    def _retry_later(self, job: Job, member: str, delay_s: float, now: float) -> None:
        # Waits, not attempts: an attempt on another member at once
        # does not make the next pause longer.
        job.backoffs += 1
        self._attempt_events.retry(job, member, delay_s)
        if self._ports.observer is not None:
            self._ports.observer.resumes(job, member, now + delay_s, now)
        resume = partial(self._see_to, job, "try a request again", partial(self._resume, job))
        job.pause(self._ports.at(now + delay_s, resume))

    def _resume(self, job: Job) -> None:
        job.placing()
        self._route(job)

    # -- its time is over, or its caller has left

    def _deadline_over(self, job: Job) -> None:
        self._see_to(job, "end a request in time", partial(self._out_of_time, job))

    def _out_of_time(self, job: Job) -> None:
        """The deadline of the whole request is over."""
        now = self._ports.now()
        if not self.attempts.cut_short(job, now):
            return
        self._expire(job, now)
        self._pump()

    def _expire(self, job: Job, now: float) -> None:
        """The request, which no member has at this moment, has run out of time."""
        if self._trials.let_go(job):
            self._fail(job, expired(self._name, job, self.table, now))
        # It must not be given to anybody else until then.
        elif job.phase is QUEUED:  # it has just been answered: the report is on its way
            self.room.leave(job)

    def cancel(self, request_id: str) -> bool:
        """Somebody has cancelled a request; False if it is not in flight, or has its answer."""
        job = self.jobs.get(request_id)
        return job is not None and self._cancel(job)

    def given_up(self, future: PoolFuture[Any]) -> None:
        """The asker waits no longer: for this request, not for another of the same id."""
        job = self.jobs.get(future.request_id or "")
        # An id may be used again once its request has ended, and this
        # message may have lain in the mailbox.
        if job is not None and job.future is future and self._cancel(job):
            future.let_asker_go()

    def _cancel(self, job: Job) -> bool:
        if not self.attempts.abort(job, CancelReason.CALLER):
            return False
        self.endings.cancelled(job)
        self._pump()
        return True

    def waits(self, message: Waits) -> None:
        """Code inside a call of this pool begins to wait for a request, or ends that."""
        stuck = self._deadlocks.heard(message)
        if stuck is not None:  # it is told, and frees its caller's slot
            self._fail(stuck, reentrant(self._name, self._urn, stuck))

    # -- it ends

    def _fail(self, job: Job, error: BaseException) -> None:
        """Nobody can answer it; as long as its trial may, that is waited for."""
        if job.trial is not None:
            self._trials.await_(job)
        else:
            self.endings.failed(job, interrupted(self._name, job, error) if job.shown else error)

    def fail_all(self, reason: str) -> None:
        """Nothing goes on; what has just been answered is left to its report."""
        for job in list(self.jobs.values()):
            self._see_to(job, "end a request", partial(self._stop, job, reason))

    def _stop(self, job: Job, reason: str) -> None:
        if self.attempts.abort(job, CancelReason.STOPPING):
            self._fail(job, PoolStoppedError(reason))

    # -- something raises that must not

    def _see_to(self, job: Job | None, what: str, act: Callable[[], object]) -> None:
        """Do what is due for a request, or for nobody: see `SeeTo`."""
        try:
            act()
        except BaseException as error:
            if job is None:
                raise
            self._fail_by_fault(job, what, error)

    def made_good(
        self, message: Any, error: BaseException, future: PoolFuture[Any] | None = None
    ) -> bool:
        """An entry has raised. What its message was about is not lost by that: the request has
        failed by it, unless it has its answer; the slot of an attempt whose end it was is given
        back; the supervisor's word is heeded. Returns whether whoever asks has been seen to.

        Args:
            future: of who asks for an answer to the message.
        """
        what = f"handle a {type(message).__name__}"
        # Both before anything is mended: each looks a message up in books
        # that are changed by what follows.
        job, ended = self._concerned(message, future), self._ended_by(message)
        if ended is not None:
            self.attempts.release(ended)
        if job is not None:
            self._fail_by_fault(job, what, error, self._has_answered(message, job))
        # It may have been taken over in part, and its epoch noted or not: a whole one is asked for.
        if isinstance(message, RoutingSnapshot):
            self._ports.note(TableWanted())
        self.table.mend()
        # Once more, whole: a member whose failures count as unjudged would get nothing any more.
        if isinstance(message, FailuresSeen):
            self.failures_judged(message)
        self._look_for_lost()
        self._pump()
        return job is not None

    def _concerned(self, message: Any, future: PoolFuture[Any] | None) -> Job | None:
        """The request that a message is or reports of."""
        if isinstance(message, Answered):
            answered: Attempt = message.attempt
            return answered.job
        if isinstance(message, GivenUp):
            job = self.jobs.get(message.future.request_id or "")
            return job if job is not None and job.future is message.future else None
        if future is not None and isinstance(message, RequestOptions):
            return self.jobs.get(future.request_id or "")
        request_id = getattr(message, "request_id", None)
        return self.jobs.get(request_id) if isinstance(request_id, str) else None

    def _ended_by(self, message: Any) -> Attempt | None:
        """The attempt whose end a message reports, if it still holds its slot."""
        attempt: Attempt | None = None
        if isinstance(message, Answered):
            attempt = message.attempt
        elif isinstance(message, Succeeded | Failed | Refused):
            attempt = self.attempts.of(message)
        held = attempt is not None and self.attempts.live.get(attempt.ticket) is attempt
        return attempt if held else None

    def _has_answered(self, message: Any, job: Job) -> bool:
        """Whether the call whose end a message reports has answered the request, or is about to."""
        if isinstance(message, Answered):
            return True
        if not isinstance(message, Succeeded):
            return False
        attempt = job.attempt_of((message.request_id, message.attempt))
        return attempt is not None and not self.attempts.is_unanswered(job, attempt, True)

    def _fail_by_fault(
        self, job: Job, what: str, error: BaseException, answered: bool = False
    ) -> None:
        """A request has failed by what it is not to blame for, and whoever asks is told, whatever
        else is broken.

        Args:
            what: what could not be done.
            answered: whether its answer is there all the same, or on its way.
        """
        events, known = self._ports.events, self.jobs.get(job.id) is job
        events.complain_of(f"it failed to {what}", error)
        failure = PoolError(f"pool {self._name!r} failed at request {job.id}: {summary(error)}")
        failure.__cause__ = fit_to_look_at(error)
        answered = answered or (job.future is not None and job.future.done())
        try:
            self.table.mend()  # who is free may have been half noted
            self._look_for_lost()
            for attempt in list(job.running()):
                runs = self.attempts.live.get(attempt.ticket) is attempt
                if not self.attempts.can_leave(job, attempt) and runs:
                    return  # it has just answered the request: the report is on its way
                self.attempts.drop(job, attempt, CancelReason.STOPPING)
            if known and answered:
                self.endings.answered(job, None)
            elif known:
                self.endings.failed(job, failure)
            else:
                self._end_by_fault(job, failure, answered)
        except BaseException as again:  # what is broken is broken: but whoever asks is told
            events.complain_of("it could not even let a request fail", again)
            self._end_by_fault(job, failure, answered)

    def _look_for_lost(self) -> None:
        """Soon: what is under way at this moment is not lost. See `_place_lost`."""
        self._ports.at(self._ports.now(), self._place_lost)

    def _place_lost(self) -> None:
        """A fault at one request may have hit others on their way from one place to the next: out
        of the queue, say. Who is nowhere is given a place.
        """
        for job in list(self.jobs.values()):
            if job.phase is PLACING and job.current is None and job.trial is None:
                self._route(job)
        # A slot may have come free unheard, and a drain waits for no other word.
        if self.table.draining:
            for slot in self.table:
                self.attempts.check_drained(slot)

    def _end_by_fault(self, job: Job, failure: PoolError, answered: bool) -> None:
        """The same with as little as can be done."""
        if not answered:
            self._ports.fail(job, failure)
        for attempt in list(job.running()):
            job.leave(attempt)
        if answered:
            self.endings.forget(job, "completed", "answered")
        else:
            self.endings.forget(job, "failed", "failed", failure)
        self.endings.check_idle()

    # -- the supervisor's word

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings from now on. What is under way keeps its limits of time."""
        self._config = config
        stay_s = config.stay_for_retry_after_s if self.table.sticks else 0.0
        self.room.configure(config, stays=bool(stay_s))
        self.outcome_reporter.configure(config)
        self.attempts.configure(config)
        self._choice.configure(stay_s)
        self._follow_ups.configure(config)
        self._hedger.configure(config)
        if self._ports.observer is not None:
            self._ports.observer.configured(config, self._ports.now())

    def reset(self, name: str | None) -> None:
        """A member is reset by hand, or all are: no rest of it goes on, and nothing counts that its
        provider has said. What is declared holds, and what has been taken of it.
        """
        self.rests.forget(name)
        self.refills.forget(name)
        self._pump()

    def snapshot(self, snapshot: RoutingSnapshot) -> None:
        """The members have changed: attempts may have fallen, those that wait may be served now, or
        would wait in vain.
        """
        table = self.table
        # An older one is of no interest; a change that has a gap before it cannot be applied, and
        # the supervisor sends a whole table then.
        screens = table.screens
        if not table.apply(snapshot):
            if table.misses(snapshot):
                self._ports.note(TableWanted())
            return
        if self._ports.observer is not None:
            self._ports.observer.table(snapshot, self._ports.now())
        for attempt in self.attempts.fallen():
            self._see_to(attempt.job, "end an attempt", partial(self._crashed, attempt))
        self.attempts.say_released()
        # A member that drains and was idle all the while has no last call that would say so.
        names = table.names if snapshot.since is None else [each.name for each in snapshot.members]
        for slot in filter(None, map(table.get, names)):
            self.attempts.check_drained(slot)
        self.refills.members_changed(snapshot)
        if table.screens and not screens:
            self.room.screen()
        self._route_waiting()
        self._review_over_limit()

    def awaits_reports(self) -> bool:
        """Whether something hangs on the next slot that is given back."""
        if self.endings.closed or self.room.queue.size > 0 or self.table.draining:
            return True
        observer = self._ports.observer
        return observer is not None and observer.in_time

    def failures_judged(self, message: FailuresSeen) -> None:
        """What was sent of a member's failures has been judged: it may take requests again."""
        slot = self.table.get(message.member)
        if slot is not None and slot.route.incarnation == message.incarnation:
            slot.failures_judged(message.count)
            self._pump()
            self._review_over_limit()

    def _review_over_limit(self) -> None:
        if self.room.over_limit:
            now = self._ports.now()
            self._put_out(self.room.review(now), now)
