"""Attempts: their tickets, the slots they hold, their time limits, who may still answer by them."""

from __future__ import annotations

from dataclasses import dataclass, field

from greenroom.actors.claims.claims import Claims
from greenroom.actors.claims.local_messages import Collecting
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.policy.throughput import Throughput
from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.attempt_results import AttemptResults
from greenroom.actors.request.chunk_limits import NO_ANSWER, ChunkLimits, Overdue
from greenroom.actors.request.flow_ports import FlowPorts, SeeTo
from greenroom.actors.request.job import RUNNING, Attempt, AttemptRole, Failure, Job
from greenroom.actors.request.timeouts import Timeouts
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import AttemptTimeoutError
from greenroom.messages.execution import (
    CancelExecution,
    Failed,
    LimitsSeen,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Succeeded,
    Ticket,
)
from greenroom.messages.status import CancelReason, FailureKind, SkipReason
from greenroom.messages.supervision import MemberDrained, TrialStarted

FromMember = (
    Succeeded
    | Failed
    | Refused
    | SideEffectsStarted
    | StreamBegun
    | StreamResumed
    | Collecting
    | LimitsSeen
)
"""What a member reports of an attempt: each says which one that is."""


@dataclass(slots=True, eq=False, repr=False)
class Attempts:
    """Those that hold a slot, from their beginning until their member has let go of them.

    Whoever ends a live attempt claims it first: where that fails, its asker has just
    been answered in the member's thread, and the member's report is on its way.

    Args:
        overdue: told of each attempt that has had its time.

    Attributes:
        live: by ticket. Only `RequestFlow.answered` may take one out beside the methods here.
        timeouts: one timer for all that are not streams; None without a limit.
        limits: the timers of chunks.
        unsaid: those that the observer has not been told to be released, and when they were.
    """

    _ports: FlowPorts
    _config: PoolConfig
    _table: RoutingTable
    _claims: Claims
    _throughput: Throughput
    _attempt_events: AttemptEvents
    _attempt_results: AttemptResults
    _overdue: Overdue
    _see_to: SeeTo
    live: dict[Ticket, Attempt] = field(default_factory=dict)
    timeouts: Timeouts | None = None
    limits: ChunkLimits = field(init=False)
    unsaid: list[tuple[Attempt, float]] = field(default_factory=list)
    _former_timeouts: list[Timeouts] = field(default_factory=list)

    def __post_init__(self) -> None:
        overdue = self._overdue
        self.limits = ChunkLimits(self._ports, self._config, self.live, overdue, self._see_to)
        self.timeouts = self._new_timeouts()

    def _new_timeouts(self) -> Timeouts | None:
        limit_s = self._config.request_timeout_s
        if limit_s is None:
            return None

        def over(attempt: Attempt) -> None:
            # One that has ended since another limit holds has been taken out of the next timer.
            if self.live.get(attempt.ticket) is attempt:
                self._overdue(attempt, "request_timeout_s", limit_s, NO_ANSWER)

        return Timeouts(self._ports.at, self._ports.now, limit_s, over)

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings, for attempts that begin from now on: those that run keep their
        timer, which goes off by itself until the last of them has ended.
        """
        before, self._config = self._config, config
        self.limits.configure(config)
        if config.request_timeout_s != before.request_timeout_s:
            former = [*self._former_timeouts, *([] if self.timeouts is None else [self.timeouts])]
            self._former_timeouts = [each for each in former if len(each)]
            self.timeouts = self._new_timeouts()

    def is_timed(self, attempt: Attempt) -> bool:
        """Whether a timer for whole answers ends it in time: the one that it began with."""
        if self.timeouts is not None and attempt in self.timeouts:
            return True
        return any(attempt in each for each in self._former_timeouts)

    # -- it begins

    def begin(self, attempt: Attempt, job: Job, slot: Slot, now: float, role: AttemptRole) -> None:
        """Take a slot for a request, open the claim to its answer, and let its time begin."""
        claim = job.claim
        # The count includes this attempt already: `RequestFlow` has counted before it makes one.
        number = attempt.number or job.attempts + job.skipped
        # An earlier request of that id may still have a call of that number, or a race be past it.
        while (ticket := (job.id, number)) in self.live or (
            claim.race is not None and claim.race.is_past(ticket)
        ):
            number += 1
        attempt.number, attempt.ticket = number, ticket
        # Before all that can raise: a fault on the way must find the attempt with its request.
        if role is AttemptRole.MAIN:
            job.current, job.phase = attempt, RUNNING
        elif role is AttemptRole.HEDGE:
            job.hedge = attempt
        else:
            job.trial, job.promised = attempt, False
        # All of this before the member hears of it: it may answer, and report, in its own thread.
        self.live[attempt.ticket] = attempt
        self._throughput.started(now)
        claim.attempts, claim.attempt, claim.trial = job.attempts, attempt, attempt.trial
        self._claims.open(attempt.ticket, claim)
        # A trial is there before the attempt that it runs beside; a hedge comes later.
        if claim.race is not None or (
            self._config.hedge_after_s is not None and job.work.idempotent
        ):
            self._claims.await_begin(attempt.ticket, claim)
        # Only now: what raises above has taken no slot, which `RequestFlow._dispatch` looks for.
        slot.take()
        if attempt.trial:
            slot.trial_started()
            started = TrialStarted(
                member=slot.name, incarnation=attempt.incarnation, epoch=attempt.epoch, at=now
            )
            self._ports.note(started)
        # A trial beside has the time of any attempt, not what its caller has left.
        attempt.deadline = deadline = job.deadline
        if job.channel is not None and job.owes_chunks:
            attempt.life_signs = LifeSigns(now)
            # A dict of its own each time: a thread that streams for another
            # attempt may be reading the last one.
            claim.life_signs = {**(claim.life_signs or {}), attempt.ticket: attempt.life_signs}
            self.limits.watch(attempt)
            if role is AttemptRole.BESIDE and attempt.alarm is not None:
                attempt.deadline = None
        elif (timeouts := self.timeouts) is not None:
            if timeouts.alarm is None:
                timeouts.start(attempt)
            else:  # as there, without the call
                timeouts.running[attempt] = None
            cut_off = now + timeouts.limit_s
            if deadline is None or cut_off < deadline or role is AttemptRole.BESIDE:
                attempt.deadline = cut_off

    # -- what members report of it

    def of(self, message: FromMember) -> Attempt | None:
        """The attempt that a message is about; None for one that ended with its member's actor."""
        attempt = self.live.get((message.request_id, message.attempt))
        # The member as well: where an id is used again, a call that has outlived its actor may
        # report by a ticket that is by now another member's.
        if attempt is None or attempt.incarnation != message.incarnation:
            return None
        return attempt if attempt.member == message.member else None

    def begun(self, message: StreamBegun) -> Attempt | None:
        """The first chunk of a stream has come: for the strategies that is its answer."""
        attempt = self.of(message)
        if attempt is not None:
            attempt.first_chunk_s = message.first_chunk_s
            slot = self._table.get(attempt.member)
            if slot is not None:
                # At once, not at its end: a stream may go on for
                # minutes, and its member be the fastest.
                slot.load.measured(message.first_chunk_s, self._ports.now())
            if (observer := self._ports.observer) is not None:
                observer.first_chunk(attempt, message.first_chunk_s, self._ports.now())
        return attempt

    def resumed(self, message: StreamResumed) -> None:
        """A producer that was held back by its consumer goes on."""
        attempt = self.of(message)
        if attempt is not None and attempt.job is not None:
            self.limits.watch(attempt)

    def collecting(self, message: Collecting) -> None:
        """An ask whose agent streams: its chunks are collected where they are made."""
        attempt = self.of(message)
        if attempt is not None and attempt.job is not None:
            attempt.life_signs = message.life_signs
            self.limits.watch(attempt)

    def ended(self, message: FromMember, elapsed_s: float | None = None) -> Attempt | None:
        """The attempt that a member reports the end of, if it still stands; its slot is free."""
        attempt = self.of(message)
        if attempt is not None:
            self.release(attempt, elapsed_s)
        return attempt

    def member_of(self, ticket: Ticket) -> str | None:
        """Whose an attempt is that somebody waits for; None of any other. Any thread may ask: it is
        one look-up, and what it finds changes once, when nobody waits any more.
        """
        attempt = self.live.get(ticket)
        return None if attempt is None or attempt.job is None else attempt.member

    def release(self, attempt: Attempt, elapsed_s: float | None = None) -> None:
        """The member has let go of it: its slot is free, no timer of it goes off any more.

        Args:
            elapsed_s: how long it took, if its report may have lain aside.
        """
        slot = self._table.get(attempt.member)
        stands = slot is not None and slot.route.incarnation == attempt.incarnation
        if slot is not None and stands:
            slot.give_back()
        # One that never began has not asked, and would stay among those that are to.
        self._claims.has_ended(attempt.ticket)
        self.live.pop(attempt.ticket, None)  # it is given back from here on: see `made_good`
        held_s = self._ports.now() - attempt.started_at
        # Else a report that lay in the mailbox would make the pool look slower than it is.
        if elapsed_s is not None and elapsed_s < held_s:
            held_s = elapsed_s
        self._throughput.freed(attempt.started_at, held_s)
        if self._ports.observer is not None:
            self.unsaid.append((attempt, attempt.started_at + held_s))
        if self.timeouts is not None:
            self.timeouts.running.pop(attempt, None)
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        if slot is not None and stands and self._table.draining:
            self.check_drained(slot)

    def say_released(self) -> None:
        """Tell the observer of those that were released: once it knows how they ended."""
        observer = self._ports.observer
        while self.unsaid and observer is not None:
            observer.released(*self.unsaid.pop())

    def undo(self, attempt: Attempt, sent: bool = False) -> bool:
        """It was not sent, so nobody else would give its slot back, and nobody can answer by it.

        Args:
            sent: whether the member may have it all the same; then False if it has answered, and
                its report is on its way.
        """
        # Where it was certainly not sent nobody can have claimed it,
        # and the slot comes back in any case.
        if not self._claims.withdraw(attempt.ticket) and sent:
            return False
        self.release(attempt)
        return True

    def check_drained(self, slot: Slot) -> None:
        """Tell the supervisor if a member that drains has nothing left."""
        if slot.in_flight == 0 and slot.route.blocked is SkipReason.DRAINING:
            self._ports.note(MemberDrained(slot.name))

    # -- it is ended

    def fallen(self) -> list[Attempt]:
        """Those whose member's actor is not there any more."""
        return [attempt for attempt in self.live.values() if not self._stands(attempt)]

    def _stands(self, attempt: Attempt) -> bool:
        slot = self._table.get(attempt.member)
        if slot is None or slot.index != attempt.index or slot.route.ref is None:
            return False
        return slot.route.incarnation == attempt.incarnation

    def give_up(self, job: Job, attempt: Attempt) -> bool:
        """Let nobody answer by one that has had its time; False if it has just ended, or its stream
        begins: its report is on its way.
        """
        # A stream whose first chunk is on its way is not late any more, so its
        # claim is only withdrawn: if it has just begun, that fails. One that has
        # begun is sealed, which breaks it off.
        if attempt.first_chunk_s is None:
            attempt.given_up = self._claims.withdraw(attempt.ticket)
        else:
            attempt.given_up = self._claims.give_up(attempt.ticket, job.claim)
        return attempt.given_up

    def is_unanswered(self, job: Job, attempt: Attempt, streamed: bool) -> bool:
        """Whether nobody has answered by one that has succeeded, as when its member was about to
        end; it is claimed then.
        """
        if not streamed and not self._claims.is_open(attempt.ticket):
            return False
        # A success that was reported without a claim: nobody else can have it any more after this.
        if self._claims.claim(attempt.ticket) is not None:
            return True
        return job.channel is not None and self._claims.give_up(attempt.ticket, job.claim)

    def can_leave(self, job: Job, attempt: Attempt) -> bool:
        """Whether the request can do without an attempt: not if that has just answered. What one
        that has lost its race reports is no answer, so it is not waited for. After a True nobody
        answers by it.
        """
        # Asked once: a second `give_up` would find the claim gone and take it for answered.
        if not attempt.given_up:
            attempt.given_up = self._claims.give_up(attempt.ticket, job.claim)
        return attempt.given_up or job.has_lost(attempt)

    def leave(
        self, job: Job, attempt: Attempt, reason: CancelReason, *, told: bool = False
    ) -> None:
        """The request leaves its attempt behind; the member frees the slot when it has ended.

        Args:
            told: whether who watches has been told already how it ended.
        """
        if reason is CancelReason.LOST_RACE:
            attempt.lost = True
            self._attempt_events.lost(attempt)
        if (observer := self._ports.observer) is not None and not told:
            observer.left(attempt, reason, self._ports.now())
        self.cancel(attempt, reason)  # first: what raises there is tried again by `_fail_by_fault`
        job.leave(attempt)
        self.limits.told_to_end(job, attempt)

    def ignore(self, job: Job, attempt: Attempt) -> None:
        """One has ended that nobody needs and that says nothing of its member."""
        self._claims.withdraw(attempt.ticket)
        self._attempt_results.ignored(attempt)
        self._attempt_events.lost(attempt)
        if (observer := self._ports.observer) is not None:
            observer.left(attempt, CancelReason.LOST_RACE, self._ports.now())
        job.leave(attempt)

    def drop(self, job: Job, attempt: Attempt, reason: CancelReason) -> None:
        """Leave one that says nothing of its member; nobody can answer by it any more."""
        self._attempt_results.ignored(attempt)
        self.leave(job, attempt, reason)

    def abort(self, job: Job, reason: CancelReason) -> bool:
        """Leave all attempts of a request; False when it has just been answered, and the report of
        that is on its way.
        """
        for attempt in list(job.running()):
            if not self.can_leave(job, attempt):
                return False
            self.drop(job, attempt, reason)
        return True

    def cut_short(self, job: Job, now: float) -> bool:
        """The same for a request that has run out of time, but for its trial, which may go on.

        A member that took longer than it usually does has timed out; one that was cut short has
        not: a caller in a hurry must not open the breaker of a healthy member. Nor has one whose
        stream was flowing, or that has lost a race.
        """
        # Not the trial: `RequestFlow._expire` lets it go, and it may go on by itself.
        for attempt in (job.current, job.hedge):
            if attempt is None:
                continue
            if not self.can_leave(job, attempt):
                return False
            elapsed_s = now - attempt.started_at
            error = AttemptTimeoutError(f"{attempt.member} had not answered by the deadline")
            failure = Failure(FailureKind.TIMEOUT, error, elapsed_s)
            excused = job.begun or job.has_lost(attempt)
            slot = None if excused else self._table.get(attempt.member)
            # By what this member usually takes, since the deadline is the caller's: one of 50 ms is
            # over before a member that takes a second could have answered.
            if slot is not None:
                self._table.still_running(attempt.member, elapsed_s, now)
            overdue = slot is not None and slot.load.overdue(elapsed_s, now)
            if overdue:
                self._attempt_results.failed(attempt, job, failure, now)
            else:
                self._attempt_results.ignored(attempt)
            job.failed(attempt, failure)
            self.leave(job, attempt, CancelReason.DEADLINE, told=overdue)
        return True

    def cancel(self, attempt: Attempt, reason: CancelReason) -> None:
        """Tell its member to end it, unless the actor has ended, and cancelled what it had."""
        slot = self._table.get(attempt.member)
        if slot is None or slot.route.ref is None:
            return
        if slot.route.incarnation == attempt.incarnation:
            request, number = attempt.ticket
            message = CancelExecution(request_id=request, attempt=number, reason=reason)
            self._ports.cancel(slot.route, message)
