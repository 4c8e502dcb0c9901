"""Judging: what the outcomes of attempts mean for the members' breakers and health."""

from __future__ import annotations

from typing import Any

from greenroom.actors.base import tell
from greenroom.actors.lending import hand
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import (
    AttemptOutcome,
    FailuresSeen,
    Outcomes,
    RequestSettled,
    Successes,
    TrialStarted,
)
from greenroom.supervisors.breaker import Transition
from greenroom.supervisors.ledger import Case, Ledger
from greenroom.supervisors.loopwatch import LoopWatch
from greenroom.supervisors.record import MemberRecord


class Judging(LoopWatch):
    """Takes in what the router reports of attempts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._ledger = Ledger(self.config.circuit_failure_threshold)
        self.handlers[Outcomes] = self._on_outcomes
        self.handlers[TrialStarted] = self._on_trial_started

    def _on_outcomes(self, message: Outcomes) -> None:
        judged: dict[tuple[str, int], int] = {}
        changed = changed_elsewhere = False
        touched = {}
        for outcome in message.batch:
            if isinstance(outcome, RequestSettled):
                changed_elsewhere = self._settle(outcome) or changed_elsewhere
                continue
            record = self._records.get(outcome.member)
            if record is None:
                continue
            touched[record.name] = record
            if isinstance(outcome, Successes):
                changed = self._take(record, outcome) or changed
                continue
            changed = self._judge(record, outcome) or changed
            if outcome.number:
                judged[outcome.member, outcome.incarnation] = outcome.number
        for record in touched.values():
            self._review_health(record)
        if changed_elsewhere:
            self._publish()
        elif changed:
            self._publish(*touched.values())
        for (member, incarnation), count in judged.items():
            self._answer(FailuresSeen(member=member, incarnation=incarnation, count=count))

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """A member whose failures the router waits for to be judged gets no request until then."""
        super().on_fault(message, error)
        if isinstance(message, Outcomes):
            for each in message.batch:
                if isinstance(each, AttemptOutcome) and each.number:
                    self._answer(
                        FailuresSeen(
                            member=each.member, incarnation=each.incarnation, count=each.number
                        )
                    )
        return False

    def _answer(self, seen: FailuresSeen) -> None:
        """Where the router waits for it in this very thread, it need not be woken; see `lending`.
        What it has to tell of the requests that go on now is told in its own thread.
        """
        if self.bus.listening("CRITICAL"):
            tell(self.router, seen)
        else:
            hand(self.router, seen)

    def _take(self, record: MemberRecord, run: Successes) -> bool:
        """Judge successes: as a rule all at once."""
        record.crashes_in_a_row = 0
        self._ledger.answered(record.name)
        if record.breaker.take(run.epoch, run.elapsed_s):
            record.health.extend(run.at, run.elapsed_s)
            return False
        changed = False
        for at, elapsed_s in zip(run.at, run.elapsed_s, strict=True):
            record.health.record(at, None, elapsed_s)
            changed = self._decide(record, run.epoch, at, None, elapsed_s=elapsed_s) or changed
        return changed

    def _judge(self, record: MemberRecord, outcome: AttemptOutcome) -> bool:
        """Let the breaker and the health record have an outcome; whether routing changes by it."""
        kind = self._pardoned(record, outcome.kind)
        case: Case | None = None
        if kind is None:
            record.crashes_in_a_row = 0
            self._ledger.answered(record.name)
        elif kind.counts_for_breaker:
            case = self._ledger.failed(outcome.request_id, record.name)
        number = None if case is None else case.number
        record.health.record(outcome.at, kind, outcome.elapsed_s, outcome.error, number)
        return self._decide(
            record,
            outcome.epoch,
            outcome.at,
            kind,
            elapsed_s=outcome.elapsed_s,
            retry_after_s=outcome.retry_after_s,
            began=outcome.began,
            why=f" ({outcome.error})" if outcome.error else "",
            opens_at_once=outcome.opens_at_once,
            case=case,
        )

    def _settle(self, request: RequestSettled) -> bool:
        """A request has ended: its failures are taken back, or are the members' from now on."""
        case, spared = self._ledger.settle(request, self._others_in_doubt)
        if case is None:
            return False
        now, changed = self.clock.now(), False
        for record in [self._records[name] for name in case.members if name in self._records]:
            if record.name in spared:
                record.health.retract(case.number)
                transition = record.breaker.retract(case.number, now)
            else:
                record.health.settle(case.number)
                record.breaker.settle(case.number)
                transition = self._held_back(record, case, now)
            self._announce(record, transition)
            self._review_health(record)
            changed = changed or transition is not None
        return changed

    def _held_back(self, record: MemberRecord, case: Case, now: float) -> Transition | None:
        """The opening that a request at its end makes possible."""
        if case.opened is not None:
            return None
        transition = record.breaker.review(now, beyond_doubt=not self._others_serve(record, now))
        if transition is not None:
            case.opened = record.name
        return transition

    def _may_open(self, record: MemberRecord, case: Case | None, opens_at_once: bool) -> bool:
        """Whether a failure may open its member's breaker: not if its request has opened another,
        nor if that would leave nobody and it may all turn out to be the fault of requests.
        """
        if case is None:
            return True
        if case.opened not in (None, record.name):
            return False
        if opens_at_once or record.breaker.must_open():
            return True
        return self._others_serve(record, self.clock.now())

    def _others_in_doubt(self, case: Case) -> bool:
        """Whether a request had only the members that it failed on because others are kept out by
        what may be the fault of requests, too.
        """
        others = (each for each in self._records.values() if each.name not in case.members)
        return any(each.breaker.in_doubt for each in others)

    def _others_serve(self, record: MemberRecord, now: float) -> bool:
        """Whether another member takes requests; true as well where there is no other, and so no
        request can be told from its member.
        """
        if len(self._records) < 2:
            return True
        return any(each is not record and each.serves(now) for each in self._records.values())

    def _decide(
        self,
        record: MemberRecord,
        epoch: int,
        at: float,
        kind: FailureKind | None,
        *,
        elapsed_s: float,
        retry_after_s: float | None = None,
        began: float | None = None,
        why: str = "",
        opens_at_once: bool = False,
        case: Case | None = None,
    ) -> bool:
        """Let the breaker have an outcome; whether routing changes by it."""
        breaker = record.breaker
        before = breaker.trial_credit
        transition = breaker.record(
            epoch,
            at,
            kind=kind,
            elapsed_s=elapsed_s,
            retry_after_s=retry_after_s,
            began=began,
            opens_at_once=opens_at_once,
            request=None if case is None else case.number,
            may_open=self._may_open(record, case, opens_at_once),
        )
        if transition is None:
            return before != breaker.trial_credit
        if case is not None and transition.before is CircuitState.CLOSED:
            case.opened = record.name
        self._announce(record, transition, why)
        return True

    def _on_trial_started(self, message: TrialStarted) -> None:
        record = self._records.get(message.member)
        if record is not None:  # of whichever incarnation: the permit is the breaker epoch's
            record.breaker.trial_started(message.epoch, message.at)
            self._plan_review(record)
