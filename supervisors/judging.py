"""Judging: what the outcomes of attempts mean for the members' breakers and health."""

from __future__ import annotations

from typing import Any

from greenroom.actors.base import tell
from greenroom.actors.lending import hand
from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import (
    AttemptOutcome,
    FailuresSeen,
    Outcomes,
    Successes,
    TrialStarted,
)
from greenroom.supervisors.loopwatch import LoopWatch
from greenroom.supervisors.record import MemberRecord


class Judging(LoopWatch):
    """Takes in what the router reports of attempts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.handlers[Outcomes] = self._on_outcomes
        self.handlers[TrialStarted] = self._on_trial_started

    def _on_outcomes(self, message: Outcomes) -> None:
        judged: dict[tuple[str, int], int] = {}
        changed = False
        touched = {}
        for outcome in message.batch:
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
        if changed:
            self._publish()
        for (member, incarnation), count in judged.items():
            self._answer(FailuresSeen(member=member, incarnation=incarnation, count=count))

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
        if kind is None:
            record.crashes_in_a_row = 0
        record.health.record(outcome.at, kind, outcome.elapsed_s, outcome.error)
        return self._decide(
            record,
            outcome.epoch,
            outcome.at,
            kind,
            elapsed_s=outcome.elapsed_s,
            retry_after_s=outcome.retry_after_s,
            began=outcome.began,
            why=f" ({outcome.error})" if outcome.error else "",
        )

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
    ) -> bool:
        """Let the breaker have an outcome; whether routing changes by it."""
        breaker = record.breaker
        before = (breaker.trial_credit, breaker.cooling_until)
        transition = breaker.record(
            epoch, at, kind=kind, elapsed_s=elapsed_s, retry_after_s=retry_after_s, began=began
        )
        if transition is not None:
            self._announce(record, transition, why)
            return True
        return before != (breaker.trial_credit, breaker.cooling_until)

    def _on_trial_started(self, message: TrialStarted) -> None:
        record = self._records.get(message.member)
        if record is not None:  # of whichever incarnation: the permit is the breaker epoch's
            record.breaker.trial_started(message.epoch, message.at)
            self._plan_review()
