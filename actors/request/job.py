"""A request on its way through the pool, and its attempts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextvars import Context
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from greenroom.actors.claims.claims import Claim
from greenroom.actors.policy.blame import Blame
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.routing.headroom import Charge
from greenroom.actors.routing.selection import Terms
from greenroom.actors.runtime.alarms import Alarm
from greenroom.actors.runtime.channel import Channel
from greenroom.actors.runtime.future import PoolFuture, StreamFuture
from greenroom.messages.errors import AttemptError
from greenroom.messages.execution import Failed, Ticket
from greenroom.messages.requests import Acquire, Apply, Request
from greenroom.messages.screening import FairKey, Heard
from greenroom.messages.status import FailureKind

Work = Request[Any] | Apply[Any] | Acquire


@dataclass(frozen=True, slots=True)
class Bound:
    """The member that a request shall have again, before anybody else.

    Attributes:
        rests: whether it is waited for while it rests or is busy; else it is asked now or not.
    """

    member: str
    rests: bool


class JobPhase(Enum):
    """Where a request is on its way. A trial may run beside it in every phase but the last two."""

    PLACING = "somebody is being looked for, or need not: its trial has won, as a report will say"
    QUEUED = "it waits in the queue for a member; it has a `cell`"
    PAUSED = "it waits for the time of its next attempt; it has an `alarm`"
    RUNNING = "a member has it, which is `current`, and while it is hedged another one"
    LAST_TRIAL = "what was a trial beside it, now `current`, is all that it has left"
    ENDED = "it is answered; it has no timer, and no attempt of it counts any more"


PLACING, QUEUED, PAUSED, RUNNING, LAST_TRIAL, ENDED = JobPhase  # looked up for every request
PLACED = frozenset((RUNNING, LAST_TRIAL, ENDED))
"""The phases of a request that does not wait for a member."""


class AttemptRole(Enum):
    """What an attempt is to its request."""

    MAIN = "the one whose answer is awaited"
    HEDGE = "a second one, since the first is slow"
    BESIDE = "a trial of a half-open member, which costs the request nothing"


class Failure(NamedTuple):
    """How an attempt has failed.

    Attributes:
        elapsed_s: how long it took, in seconds.
        retry_after_s: how long its member asked to be left alone.
        started: whether the agent may have begun; False only when it provably has not.
        opens_at_once: whether it is certain to be the member's fault.
        may_mend: whether it is of a kind that the same member may be over by now.
        runs: whether its call may go on all the same, since it is the router that has ended it.
        disconnected: whether nobody has answered: its connection was refused, broken off or closed.
    """

    kind: FailureKind
    error: BaseException
    elapsed_s: float
    retry_after_s: float | None = None
    started: bool = True
    opens_at_once: bool = False
    may_mend: bool = False
    runs: bool = False
    disconnected: bool = False

    @classmethod
    def of(cls, message: Failed) -> Failure:
        """What a member reports."""
        return cls(
            message.kind,
            message.error,
            message.elapsed_s,
            message.retry_after_s,
            message.started,
            message.opens_at_once,
            message.same_member_may_mend,
            disconnected=message.disconnected,
        )


_NONE: dict[str, AttemptError] = {}


class Job:
    """One request, from its arrival to its answer.

    What belongs to a phase is set and cleared together with it, by the methods here and by the
    waiting queue. No other thread than the router's looks at it: what it shares is its `claim`.

    Attributes:
        phase: where it is on its way.
        future: where the answer goes; None for a tell.
        context: that of whoever asked: each attempt begins in a copy of it. None: in an empty one.
        deadline: absolute; None without a limit.
        channel: where the chunks go; None when it is one answer that is asked for.
        current: the attempt whose answer is awaited; None while the request waits.
        hedge: a second attempt that races with it; None without one.
        claim: what whoever answers it has to know.
        trial: the trial of a member's half-open breaker that runs beside; None without one. What
            else becomes of the request does not hang on it, unless it answers first.
        extra: attempts made as such trials: they are not charged to the request.
        promised: whether one of these has been counted that is still to begin.
        skipped: numbers of attempts that were kept for such as have never begun.
        heard: what has been found out about it where it was made; None: nothing.
        terms: what it asks of those who may have it; None: nothing, as nearly always.
        bound: whom it shall have again; None as long as anybody will do.
        cell: its place in the waiting queue, which sets it; None while it is not in it.
        alarm: goes off at the time of the next attempt; None while none is set.
        failures: what became of every member tried so far, by name, in the order of the first try.
        failed_last: the member that failed it last; None before the first failure.
        blame: what its failures say of it and of the members; None before the first that says any.
    """

    __slots__ = (
        "accepted_at",
        "alarm",
        "attempts",
        "backoffs",
        "blame",
        "bound",
        "cell",
        "channel",
        "claim",
        "context",
        "current",
        "deadline",
        "deadline_alarm",
        "extra",
        "failed_last",
        "failures",
        "future",
        "heard",
        "hedge",
        "hedge_alarm",
        "id",
        "phase",
        "policy",
        "promised",
        "skipped",
        "terms",
        "trial",
        "work",
    )

    def __init__(
        self,
        id: str,
        work: Work,
        future: PoolFuture[Any] | None,
        accepted_at: float,
        deadline: float | None,
        policy: RetryPolicy,
        context: Context | None = None,
        terms: Terms | None = None,
        heard: Heard | None = None,
    ) -> None:
        self.id = id
        self.terms = terms
        self.heard = heard
        self.work = work
        self.future = future
        self.accepted_at = accepted_at
        self.deadline = deadline
        self.policy = policy
        self.context = context if future is None else future.context
        self.phase = PLACING
        self.channel: Channel | None = None
        if isinstance(future, StreamFuture):
            self.channel = future.channel
        self.claim = Claim(id, future, self.channel, accepted_at)
        self.attempts = self.backoffs = self.extra = self.skipped = 0
        self.promised = False
        self.current: Attempt | None = None
        self.hedge: Attempt | None = None
        self.trial: Attempt | None = None
        self.bound: Bound | None = None
        self.failures = _NONE  # replaced, never changed
        self.failed_last: str | None = None
        self.blame: Blame | None = None
        self.cell: list[Job | None] | None = None
        self.alarm: Alarm | None = None
        self.deadline_alarm: Alarm | None = None
        self.hedge_alarm: Alarm | None = None

    @property
    def failed_alike(self) -> bool:
        """Whether it has failed in the same way on every member that it was given to."""
        return self.blame is not None and self.blame.alike

    @property
    def fair_key(self) -> FairKey:
        """Whose it is, among whom the pool is shared out."""
        return None if self.heard is None else self.heard.fair_key

    @property
    def fair_weight(self) -> float:
        """What that one gets in proportion."""
        return 1.0 if self.heard is None else self.heard.weight

    @property
    def is_lease(self) -> bool:
        """Whether its caller runs the agent, in a block of its own: one at a time."""
        return isinstance(self.work, Acquire)

    @property
    def owes_chunks(self) -> bool:
        """Whether the time limits of streams hold for it, and not that of a whole answer."""
        if self.channel is None:
            return False
        return self.work.stream if isinstance(self.work, Acquire) else True

    @property
    def begun(self) -> bool:
        """Whether it is a stream that has its first chunk."""
        return self.channel is not None and self.channel.begun_by is not None

    @property
    def shown(self) -> bool:
        """Whether its consumer may have had chunks that count: no other member can go on there."""
        channel = self.channel
        # A channel that holds its chunks back gives them out as a whole, at the end: until then
        # another member may well go on.
        if channel is None or channel.holds:
            return False
        return bool(channel.cut) or (channel.begun_by is not None and channel.counted)

    @property
    def cut(self) -> frozenset[str]:
        """The members that must not get it again: their streams of it broke off."""
        return frozenset() if self.channel is None else self.channel.cut

    def running(self) -> Iterator[Attempt]:
        """The attempts whose answer is awaited."""
        return filter(None, (self.current, self.hedge, self.trial))

    def attempt_of(self, ticket: Ticket) -> Attempt | None:
        """The one of that name whose answer is awaited."""
        return next((each for each in self.running() if each.ticket == ticket), None)

    def has_lost(self, attempt: Attempt) -> bool:
        """Whether another attempt has answered before that one."""
        race = self.claim.race
        return race is not None and race.lost(attempt.ticket)

    def is_won(self) -> bool:
        """Whether one that races for it has won, and only the router has not heard of it yet."""
        return self.claim.race is not None and self.claim.race.over

    def must_not_repeat(self, attempt: Attempt) -> bool:
        """Whether its agent has said so, be it that the router has not read that yet."""
        return attempt.side_effects or attempt.ticket in self.claim.side_effects

    def pause(self, alarm: Alarm) -> None:
        """It waits until `alarm` goes off, by which `placing` is called."""
        self.alarm = alarm
        self.phase = PAUSED

    def placing(self) -> None:
        """The time has come to look for a member again."""
        self.alarm = None
        self.phase = PLACING

    def leave(self, attempt: Attempt) -> None:
        """Go on without an attempt; if two were racing, the other is the one that is awaited."""
        attempt.detach()
        if attempt is self.trial:
            self.trial = None
        elif attempt is self.hedge:
            self.hedge = None
        # A hedge that is left behind by the first attempt goes on in its place; the request is
        # RUNNING all the while, since whoever asks still waits for it.
        elif attempt is self.current:
            self.current = self.hedge
            self.hedge = None
            if self.current is None:
                self.phase = PLACING

    def take_back(self) -> None:
        """The trial that was counted does not begin. It must not be in the queue, which looks at
        `attempts`; the trial's number is not used again, lest a claim be taken for another one's.
        """
        self.promised = False
        self.attempts -= 1
        self.extra -= 1
        self.skipped += 1

    def await_trial(self) -> None:
        """Nothing else is left: the answer is that of the trial, or none. It is in no queue."""
        self.current, self.trial = self.trial, None
        self.phase = LAST_TRIAL
        self.bound = None
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def end(self) -> None:
        """It is done with, and in no queue: no timer of it goes off any more."""
        self.phase, self.context = ENDED, None
        for alarm in (self.alarm, self.deadline_alarm, self.hedge_alarm):
            if alarm is not None:
                alarm.cancel()
        self.alarm = self.deadline_alarm = self.hedge_alarm = None

    @property
    def taken(self) -> Collection[str]:
        """Members that have had it, or have it in a trial."""
        return self.failures if self.trial is None else {*self.failures, self.trial.member}

    @property
    def silent(self) -> list[str]:
        """Members that have let it wait in vain."""
        return [name for name, each in self.failures.items() if each.kind is FailureKind.TIMEOUT]

    def failed(self, attempt: Attempt, failure: Failure) -> None:
        """Note how an attempt ended; one entry a member, its last failure."""
        self.failed_last = attempt.member
        before = self.failures.get(attempt.member)
        entry = AttemptError(
            attempt.member,
            attempt.index,
            failure.kind,
            failure.error,
            failure.elapsed_s,
            (before.attempts if before else 0) + 1,
            # A refusal does not undo that the member has begun it once before.
            started=failure.started or (before is not None and before.started),
            retry_after_s=failure.retry_after_s,
        )
        # Replaced, not changed: what has been handed out of it
        # (`taken`, the claim) keeps what it had.
        self.failures = {**self.failures, attempt.member: entry}
        self.claim.errors = tuple(self.failures.values())


@dataclass(slots=True, eq=False, repr=False)
class Attempt:
    """One execution on one member. It holds a slot until the member reports its end.

    Attributes:
        number: among those of its request; until it begins 0, or the one that is kept for it.
        ticket: what names it in messages, by its `number`; from its beginning on.
        side_effects: whether the agent has told the router that it must not be repeated.
        first_chunk_s: how long the first chunk of its stream took; None before that.
        lost: whether it was dropped for another one; what it still brings is of no interest.
        given_up: whether the router has seen to it that nobody answers by it.
        life_signs: its signs of life; None as long as no chunk is owed.
        deadline: until when its member may work on it, on the pool's clock; None for ever.
        alone: whether it is a trial whose request has gone on without it: how it ends is still of
            interest, but what it brings is not.
        charge: what it has taken from the rate limits of its member, as long as that is to be
            settled; None without any.
    """

    job: Job | None
    member: str
    index: int
    incarnation: int
    epoch: int
    trial: bool
    started_at: float
    number: int = 0
    ticket: Ticket = ("", 0)
    side_effects: bool = False
    first_chunk_s: float | None = None
    lost: bool = False
    given_up: bool = False
    alone: bool = False
    alarm: Alarm | None = None
    life_signs: LifeSigns | None = None
    deadline: float | None = None
    charge: Charge | None = None

    @property
    def request_id(self) -> str:
        """The id of its request."""
        return self.ticket[0]

    def detach(self) -> None:
        """The request moves on; only the member's slot is still to be given back."""
        self.job = None
