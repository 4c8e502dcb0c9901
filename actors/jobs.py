"""A request on its way through the pool, and its attempts."""

from __future__ import annotations

from typing import Any

from greenroom.actors.alarms import Alarm
from greenroom.actors.future import PoolFuture
from greenroom.actors.retry import RetryPolicy
from greenroom.messages.errors import AttemptError
from greenroom.messages.execution import Ticket
from greenroom.messages.requests import Apply, Request
from greenroom.messages.status import FailureKind, SkipReason

Work = Request[Any] | Apply[Any]


class Job:
    """One request, from its arrival to its answer.

    Attributes:
        future: where the answer goes; None for a tell.
        deadline: absolute; None without a limit.
        current: the attempt whose answer is awaited; None while the request waits.
        cell: its place in the waiting queue; None while it is not in it.
        failures: what became of every member tried so far, by name, in the order of the first try.
        failed_last: the member that failed it last; None before the first failure.
    """

    __slots__ = (
        "accepted_at",
        "alarm",
        "attempts",
        "backoffs",
        "cell",
        "current",
        "deadline",
        "deadline_alarm",
        "failed_last",
        "failures",
        "future",
        "id",
        "policy",
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
    ) -> None:
        self.id = id
        self.work = work
        self.future = future
        self.accepted_at = accepted_at
        self.deadline = deadline
        self.policy = policy
        self.attempts = 0
        self.backoffs = 0
        self.current: Attempt | None = None
        self.failures: dict[str, AttemptError] = {}
        self.failed_last: str | None = None
        self.cell: list[Job | None] | None = None
        self.alarm: Alarm | None = None
        self.deadline_alarm: Alarm | None = None

    def failed(
        self,
        attempt: Attempt,
        kind: FailureKind | SkipReason,
        error: BaseException | None,
        elapsed_s: float,
        started: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        """Note how an attempt ended; one entry a member, its last failure."""
        self.failed_last = attempt.member
        before = self.failures.get(attempt.member)
        self.failures[attempt.member] = AttemptError(
            attempt.member,
            attempt.index,
            kind,
            error,
            elapsed_s,
            (before.attempts if before else 0) + 1,
            started=started or (before is not None and before.started),
            retry_after_s=retry_after_s,
        )

    def cancel_alarms(self) -> None:
        """Let no timer of this request go off any more."""
        for alarm in (self.alarm, self.deadline_alarm):
            if alarm is not None:
                alarm.cancel()
        self.alarm = self.deadline_alarm = None


class Attempt:
    """One execution on one member. It holds a slot until the member reports its end.

    Attributes:
        ticket: what names it in messages; follows `number`.
        side_effects: whether the agent has said that it must not be repeated.
    """

    __slots__ = (
        "alarm",
        "epoch",
        "incarnation",
        "index",
        "job",
        "member",
        "number",
        "request_id",
        "side_effects",
        "started_at",
        "ticket",
        "trial",
    )

    def __init__(
        self,
        job: Job,
        member: str,
        index: int,
        incarnation: int,
        epoch: int,
        trial: bool,
        started_at: float,
    ) -> None:
        self.job: Job | None = job
        self.request_id = job.id
        self.number = job.attempts
        self.ticket: Ticket = (job.id, job.attempts)
        self.member = member
        self.index = index
        self.incarnation = incarnation
        self.epoch = epoch
        self.trial = trial
        self.started_at = started_at
        self.side_effects = False
        self.alarm: Alarm | None = None

    def renumber(self) -> None:
        """Take the next number: an earlier request of that id still has a call of this one."""
        self.number += 1
        self.ticket = (self.request_id, self.number)

    def detach(self) -> None:
        """The request moves on; only the member's slot is still to be given back."""
        self.job = None
