"""Who watches the life of requests, step by step: traces, metrics, recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Literal, Protocol, TypeGuard

from greenroom.actors.request.job import Attempt, AttemptRole, Failure, Job
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CancelReason, FailureKind
from greenroom.messages.supervision import RoutingSnapshot

Ended = Literal["answered", "failed", "cancelled", "rejected"]
"""How a request ends; `rejected`: it was taken in, and there was no room for it to wait."""


class FlowObserver(Protocol):
    """Is told each step of each request, in the router's turn, which may be in the thread of who
    asks: so it is quick, waits for nothing, runs no code of the user's that may take its time, and
    does not call the flow. It never looks at what is asked: `Job.work` has the payload.

    Unlike a reader of events it keeps nobody from doing the router's part. Times are those of the
    pool's clock, in seconds.

    Attributes:
        in_time: whether ends are to be told when they come. Else the report of an answer may lie
            aside until something else happens in the pool.
    """

    in_time: bool

    def accepted(self, job: Job, now: float) -> None:
        """A request is in the books, and was given to nobody yet."""

    def turned_away(self, request_id: str, error: BaseException, now: float) -> None:
        """A request was not taken in: the pool drains, or another one has its id."""

    def queued(self, job: Job, now: float) -> None:
        """It begins to wait for a member."""

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        """A member is about to hear of it. What is returned takes the place of the caller's context
        for this attempt.
        """

    def first_chunk(self, attempt: Attempt, first_chunk_s: float, now: float) -> None:
        """The first chunk of its stream has come."""

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        """A member has answered, be it that nobody waits for it any more (a trial). `elapsed_s` is
        what its answer took, of a stream its first chunk; `now` is when it ended.
        """

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        """A member has failed, or has not taken it (`Failure.started` is False)."""

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        """The request goes on, or ends, without an attempt that has neither answered nor failed."""

    def released(self, attempt: Attempt, now: float) -> None:
        """The last word on an attempt: its slot is free. It comes once for each that was `given`,
        in any case, and perhaps for one that was not; it may come long after the request's end.
        """

    def resumes(self, job: Job, member: str, at: float, now: float) -> None:
        """After a failure of that member it pauses, until `at`."""

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        """A request has its end; once for each that was `accepted`.

        Args:
            error: what it ends with; None where it was answered.
            member: whose answer it has, where that is known.
        """

    def rests(self, member: str, kind: FailureKind, until: float, now: float) -> None:
        """A member is left alone: it is throttled, or has not what it was asked for. Until now: it
        has been reset by hand, and is not any more.
        """

    def table(self, snapshot: RoutingSnapshot, now: float) -> None:
        """The supervisor's word on the members holds from here on."""

    def configured(self, config: PoolConfig, now: float) -> None:
        """Other settings hold from here on."""


class FlowWatcher(FlowObserver, Protocol):
    """What a flow tells. An observer that has a method `answered` is told all of it."""

    def answered(self, job: Job, attempt: Attempt, elapsed_s: float, now: float) -> None:
        """`succeeded`, `released` and `ended`, of a request that had this answer and no other
        attempt left; most end so, and three calls would cost more than one.
        """

    def judged(self, member: str, incarnation: int, count: int, now: float) -> None:
        """The supervisor has judged that many failures of that incarnation."""


class Observers:
    """Several observers as one. What one of them raises is complained of, once for each of them,
    and harms neither the others nor the request.
    """

    def __init__(
        self,
        observers: Iterable[FlowObserver],
        complain_of: Callable[[str, BaseException], object],
    ) -> None:
        self._observers = tuple(observers)
        self._in_one = [each for each in self._observers if _takes_it_in_one(each)]
        self._step_by_step = [each for each in self._observers if not _takes_it_in_one(each)]
        self._complain_of = complain_of
        self._blamed: set[int] = set()
        self.in_time = any(each.in_time for each in self._observers)

    def accepted(self, job: Job, now: float) -> None:
        for each in self._observers:
            try:
                each.accepted(job, now)
            except Exception as error:
                self._blame(each, error)

    def turned_away(self, request_id: str, error: BaseException, now: float) -> None:
        for each in self._observers:
            try:
                each.turned_away(request_id, error, now)
            except Exception as fault:
                self._blame(each, fault)

    def queued(self, job: Job, now: float) -> None:
        for each in self._observers:
            try:
                each.queued(job, now)
            except Exception as error:
                self._blame(each, error)

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        context = None
        for each in self._observers:
            try:
                context = each.given(job, attempt, role, now) or context
            except Exception as error:
                self._blame(each, error)
        return context

    def first_chunk(self, attempt: Attempt, first_chunk_s: float, now: float) -> None:
        for each in self._observers:
            try:
                each.first_chunk(attempt, first_chunk_s, now)
            except Exception as error:
                self._blame(each, error)

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        for each in self._observers:
            try:
                each.succeeded(attempt, elapsed_s, now)
            except Exception as error:
                self._blame(each, error)

    def answered(self, job: Job, attempt: Attempt, elapsed_s: float, now: float) -> None:
        for told in self._in_one:
            try:
                told.answered(job, attempt, elapsed_s, now)
            except Exception as error:
                self._blame(told, error)
        for each in self._step_by_step:
            try:
                each.succeeded(attempt, elapsed_s, now)
                each.released(attempt, now)
                each.ended(job, "answered", None, attempt.member, now)
            except Exception as error:
                self._blame(each, error)

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        for each in self._observers:
            try:
                each.failed(attempt, failure, now)
            except Exception as error:
                self._blame(each, error)

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        for each in self._observers:
            try:
                each.left(attempt, reason, now)
            except Exception as error:
                self._blame(each, error)

    def released(self, attempt: Attempt, now: float) -> None:
        for each in self._observers:
            try:
                each.released(attempt, now)
            except Exception as error:
                self._blame(each, error)

    def resumes(self, job: Job, member: str, at: float, now: float) -> None:
        for each in self._observers:
            try:
                each.resumes(job, member, at, now)
            except Exception as error:
                self._blame(each, error)

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        for each in self._observers:
            try:
                each.ended(job, how, error, member, now)
            except Exception as fault:
                self._blame(each, fault)

    def rests(self, member: str, kind: FailureKind, until: float, now: float) -> None:
        for each in self._observers:
            try:
                each.rests(member, kind, until, now)
            except Exception as error:
                self._blame(each, error)

    def table(self, snapshot: RoutingSnapshot, now: float) -> None:
        for each in self._observers:
            try:
                each.table(snapshot, now)
            except Exception as error:
                self._blame(each, error)

    def judged(self, member: str, incarnation: int, count: int, now: float) -> None:
        for each in self._in_one:
            try:
                each.judged(member, incarnation, count, now)
            except Exception as error:
                self._blame(each, error)

    def configured(self, config: PoolConfig, now: float) -> None:
        for each in self._observers:
            try:
                each.configured(config, now)
            except Exception as error:
                self._blame(each, error)

    def _blame(self, observer: FlowObserver, error: Exception) -> None:
        if id(observer) not in self._blamed:
            self._blamed.add(id(observer))
            what = f"{type(observer).__name__}, which watches requests, raised (said once)"
            self._complain_of(what, error)


def _takes_it_in_one(observer: FlowObserver) -> TypeGuard[FlowWatcher]:
    return hasattr(type(observer), "answered")
