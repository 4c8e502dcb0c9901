"""What the router reports of attempts to the supervisor: successes in batches, the rest at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from greenroom.actors.alarms import Alarm, Alarms
from greenroom.actors.base import tell
from greenroom.actors.jobs import Attempt
from greenroom.actors.table import Slot
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import summary
from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import AttemptOutcome, Outcomes

BATCH = 64
DELAY_S = 0.1
"""How long a success may wait for company: nothing is decided by it before a failure comes."""


class Outbox:
    """Collects outcomes in order. A failure, a trial's end or a slow call is sent without delay,
    with all that came before it; so the supervisor decides as if it had seen each one at once.
    """

    def __init__(self, config: PoolConfig, alarms: Alarms) -> None:
        self.supervisor: Any = None
        self._alarms = alarms
        self._slow_s = config.circuit_slow_call_s
        self._batch: list[AttemptOutcome] = []
        self._alarm: Alarm | None = None

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        """An attempt brought a value."""
        self._batch.append(_outcome(attempt, now, elapsed_s))
        slow = self._slow_s is not None and elapsed_s > self._slow_s
        if slow or attempt.trial or len(self._batch) >= BATCH:
            self.flush()
        elif self._alarm is None:
            self._alarm = self._alarms.at(now + DELAY_S, self.flush)

    def failed(
        self,
        attempt: Attempt,
        slot: Slot | None,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None,
        now: float,
    ) -> None:
        """An attempt failed. Until the supervisor has judged it, its member is not preferred, save
        the failure is of a kind that says nothing of the member.
        """
        number = 0
        current = slot is not None and slot.route.incarnation == attempt.incarnation
        if slot is not None and current and kind.counts_for_breaker:
            number = slot.failure_sent()
        outcome = _outcome(attempt, now, elapsed_s, kind, summary(error), retry_after_s)
        self._batch.append(replace(outcome, number=number))
        self.flush()

    def ignored(self, attempt: Attempt, now: float) -> None:
        """An attempt ended without saying anything of its member; a trial's permit comes back."""
        if attempt.trial:
            elapsed_s = now - attempt.started_at
            self._batch.append(_outcome(attempt, now, elapsed_s, FailureKind.CANCELLED))
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._batch:
            batch, self._batch = self._batch, []
            tell(self.supervisor, Outcomes(tuple(batch)))


def _outcome(
    attempt: Attempt,
    now: float,
    elapsed_s: float,
    kind: FailureKind | None = None,
    error: str | None = None,
    retry_after_s: float | None = None,
) -> AttemptOutcome:
    return AttemptOutcome(
        member=attempt.member,
        incarnation=attempt.incarnation,
        epoch=attempt.epoch,
        request_id=attempt.request_id,
        attempt=attempt.number,
        at=now,
        elapsed_s=elapsed_s,
        began=None if attempt.first_chunk_s is None else attempt.started_at,
        kind=kind,
        error=error,
        retry_after_s=retry_after_s,
    )
