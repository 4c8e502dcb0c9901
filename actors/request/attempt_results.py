"""The results of attempts: what they say of their members, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.actors.policy.blame import Blame, Missing
from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import Attempt, Failure, Job
from greenroom.actors.request.outcome_reporter import OutcomeReporter
from greenroom.actors.request.resting_members import RestingMembers
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import RequestSettled


@dataclass(slots=True, eq=False, repr=False)
class AttemptResults:
    """Takes successes and failures down: in the load estimate of the member, with the strategy if
    it learns, with the supervisor, as a rest, and as what speaks against the request itself.
    """

    _ports: FlowPorts
    _table: RoutingTable
    _attempt_events: AttemptEvents
    _outcome_reporter: OutcomeReporter
    _resting: RestingMembers

    def succeeded(
        self,
        attempt: Attempt,
        elapsed_s: float,
        ended_at: float,
        *,
        streamed: bool = False,
        late: bool = False,
    ) -> None:
        """A member has answered. `RequestFlow.answered` does the same by itself, for speed.

        Args:
            elapsed_s: how long it took, or the first chunk of what was `streamed`.
            late: whether it is a trial that nobody waits for: its member stays as narrow as it is.
        """
        slot = self._table.get(attempt.member)
        if slot is not None:  # what a first chunk has told of its speed is known already
            slot.load.succeeded(None if streamed else elapsed_s, ended_at)
            if slot.recovers and not late:
                slot.answered(attempt.started_at, elapsed_s)
        if self._table.learns:
            self._table.record(attempt.member, True)
        self._outcome_reporter.succeeded(attempt, elapsed_s, ended_at)
        if (observer := self._ports.observer) is not None:
            observer.succeeded(attempt, elapsed_s, ended_at)
        if self._ports.events.listening():
            self._attempt_events.succeeded(attempt, elapsed_s)

    def ignored(self, attempt: Attempt) -> None:
        """An attempt has ended without saying anything of its member."""
        self._outcome_reporter.ignored(attempt, self._ports.now())

    def failed(
        self,
        attempt: Attempt,
        job: Job | None,
        failure: Failure,
        now: float,
        preferred: bool = False,
    ) -> bool:
        """A member has failed; whether it begins to rest by that.

        Args:
            job: whose attempt it is; None of a trial whose request has gone on without it.
            preferred: the strategy is not told, or not yet: the request may stay for the member.
        """
        kind = failure.kind
        if (observer := self._ports.observer) is not None:
            observer.failed(attempt, failure, now)
        slot = self._table.get(attempt.member)
        if slot is not None:
            self._attempt_events.slow_to_fail(attempt, failure, slot.load.usual_s)
        # A stream is as fast as its first chunk.
        first_s = attempt.first_chunk_s
        elapsed_s = failure.elapsed_s if first_s is None else first_s
        # A 429 or a 400 is fast, and says nothing of how fast an answer would be.
        if kind.counts_for_breaker and slot is not None:
            slot.load.failed(elapsed_s, now)
        # While a request may yet stay for its member, a strategy that leaves who has failed must
        # not leave it: `FollowUps.plan` tells it if nothing comes of that.
        if kind.is_the_members and not preferred and self._table.learns:
            self._table.record(attempt.member, False)
        if job is not None:
            _blame(job, attempt, failure)
        new_rest = False
        if slot is not None and kind.is_the_members:
            began, after_s = attempt.started_at, failure.retry_after_s
            if kind is FailureKind.RATE_LIMITED:  # what was let in until now is of interest
                self._outcome_reporter.flush()
            new_rest = self._resting.begin(slot, kind, began, after_s, now)
        self._outcome_reporter.failed(attempt, slot, failure, elapsed_s, now)
        # A trial whose request has gone on: nobody will settle its case, so it is closed here, and
        # the failure is the member's for good.
        if job is None and kind.counts_for_breaker:
            self._outcome_reporter.settled(
                RequestSettled(request_id=attempt.request_id), False, now
            )
        return new_rest

    def heed(self, attempt: Attempt, failure: Failure, now: float) -> bool:
        """An attempt has failed that nobody needs any more, and counts for nothing. That its member
        is throttled is true all the same: it rests. Whether that is new.
        """
        slot = self._table.get(attempt.member)
        # A 429 of a hedge that lost, say. Nothing else is taken from it: it was told to end, and
        # what it raises then may have come of that.
        if slot is not None and failure.kind is FailureKind.RATE_LIMITED:
            began, after_s = attempt.started_at, failure.retry_after_s
            self._outcome_reporter.flush()
            return self._resting.begin(slot, failure.kind, began, after_s, now)
        return False

    def settle(self, job: Job, blame: Blame, answered: bool) -> None:
        """A request has ended, and it is known whose fault its failures were. The supervisor hears
        of it before the asker does, whose next request shall find the members as they are.
        """
        now = self._ports.now()
        # A 404 says that the member lacks a model, or that there is no such model: it is the former
        # once another one has answered the same request.
        if answered:
            for missing in blame.missing:
                slot = self._table.get(missing.member)
                if slot is not None:
                    kind = FailureKind.NOT_FOUND
                    self._resting.begin(slot, kind, missing.began, missing.retry_after_s, now)
        elif blame.alike:
            for member, failures in blame.members.items():
                slot = self._table.get(member)
                if slot is not None:
                    # What strategies look at; the breaker and the health take
                    # theirs back by the supervisor, below.
                    slot.load.pardon(failures)
        if blame.counts:
            fault = None if answered else blame.kind
            # Whether the request was on all who could have taken it;
            # else one more might have answered it.
            everywhere = fault is None or not self._table.could_take(job.failures)
            settled = RequestSettled(request_id=job.id, kind=fault, everywhere=everywhere)
            self._outcome_reporter.settled(settled, answered, now)


def _blame(job: Job, attempt: Attempt, failure: Failure) -> None:
    """Note what speaks against the request or the member; see `AttemptResults.settle`."""
    missing = failure.kind is FailureKind.NOT_FOUND
    if not missing and not failure.kind.counts_for_breaker:
        return
    if job.blame is None:
        job.blame = Blame()
    if missing:
        after_s = failure.retry_after_s
        job.blame.missing.append(Missing(attempt.member, attempt.started_at, after_s))
    else:
        job.blame.add(attempt.member, failure.kind, failure.opens_at_once)
