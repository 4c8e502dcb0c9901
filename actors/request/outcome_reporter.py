"""What the router reports of attempts to the supervisor: successes in batches, the rest at once."""

from __future__ import annotations

import math
from collections import deque

from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import Attempt, Failure
from greenroom.actors.routing.routing_table import Slot
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import summary
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import (
    AttemptOutcome,
    Outcomes,
    RequestSettled,
    Successes,
)

BATCH = 64
DELAY_S = 0.1
"""How long a success may wait for company: nothing is decided by it before a failure comes."""


class _Run:
    """Successes of one member in one epoch of its breaker, as they come."""

    __slots__ = ("at", "elapsed_s", "epoch", "incarnation", "member")

    def __init__(self, attempt: Attempt) -> None:
        self.member = attempt.member
        self.incarnation = attempt.incarnation
        self.epoch = attempt.epoch
        self.at: list[float] = []
        self.elapsed_s: list[float] = []

    def message(self) -> Successes:
        return Successes(
            self.member,
            incarnation=self.incarnation,
            epoch=self.epoch,
            at=tuple(self.at),
            elapsed_s=tuple(self.elapsed_s),
        )


class OutcomeReporter:
    """Collects outcomes, those of each member in order. A failure, a trial's end or a slow call is
    sent without delay, with all that came before it; so the supervisor decides as if it had seen
    each one at once. Where it decides nothing, since the member's breaker is disabled, a failure
    waits for company as a success does.

    Args:
        read: where successes are left, for whoever wants to know how long they have taken.
    """

    def __init__(
        self, ports: FlowPorts, config: PoolConfig, read: deque[Successes] | None = None
    ) -> None:
        self._ports = ports
        self._read = deque[Successes](maxlen=1) if read is None else read
        self.configure(config)
        self._batch: list[AttemptOutcome | Successes | RequestSettled] = []
        self._runs: dict[str, _Run] = {}
        self._count = 0
        self._oldest = 0.0
        self._alarm_set = False

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings."""
        slow_s = config.circuit_slow_call_s
        # One comparison for every success, instead of two.
        self._slow_s = math.inf if slow_s is None else slow_s

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        """An attempt brought a value."""
        if attempt.trial or elapsed_s > self._slow_s:
            alone = _Run(attempt)
            alone.at, alone.elapsed_s = [now], [elapsed_s]
            self._read.append(alone.message())
            self._send(_outcome(attempt, now, elapsed_s))
            return
        run = self._runs.get(attempt.member)
        # A run is judged as a whole, so it must not span a change of state.
        if run is None or run.epoch != attempt.epoch or run.incarnation != attempt.incarnation:
            run = self._new_run(attempt)
        run.at.append(now)
        run.elapsed_s.append(elapsed_s)
        self._count += 1
        if self._count == 1:
            self._oldest = now
            if not self._alarm_set:
                self._set_alarm(now + DELAY_S)
        elif self._count >= BATCH:
            self.flush()

    def failed(
        self,
        attempt: Attempt,
        slot: Slot | None,
        failure: Failure,
        elapsed_s: float,
        now: float,
    ) -> None:
        """An attempt failed. Until the supervisor has judged it, its member gets no request, save
        the failure is of a kind that says nothing of the member, or its breaker is disabled.
        """
        number = 0
        disabled = slot is not None and slot.route.circuit is CircuitState.DISABLED
        if disabled and not attempt.trial:
            self._wait(_failure(attempt, failure, elapsed_s, now, number), now)
            return
        current = slot is not None and slot.route.incarnation == attempt.incarnation
        try:
            if slot is not None and current and failure.kind.counts_for_breaker:
                # Before it is sent: the supervisor may answer in this very thread.
                number = slot.failure_sent()
            self._send(_failure(attempt, failure, elapsed_s, now, number))
        except BaseException:
            if slot is not None:  # nobody will judge it: so nobody may wait for that
                slot.failures_judged(slot.failures_sent)
            raise

    def settled(self, request: RequestSettled, answered: bool, now: float) -> None:
        """A request has ended that failures have been reported of. Where somebody has answered it,
        that can wait for company: they were the members' anyway.
        """
        if not answered:
            self._send(request)
            return
        self._wait(request, now)

    def ignored(self, attempt: Attempt, now: float) -> None:
        """An attempt ended without saying anything of its member; a trial's permit comes back."""
        if attempt.trial:
            elapsed_s = now - attempt.started_at
            self._send(_outcome(attempt, now, elapsed_s, FailureKind.CANCELLED))

    def _wait(self, last: AttemptOutcome | RequestSettled, now: float) -> None:
        """Have it sent with what comes, behind what has come: a request's end behind the success
        that has ended it.
        """
        count = self._count
        self._gather().append(last)
        self._count = count + 1
        if self._count == 1:
            self._oldest = now
            if not self._alarm_set:
                self._set_alarm(now + DELAY_S)
        elif self._count >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        if self._runs or self._batch:
            self._send()

    def _send(self, *last: AttemptOutcome | RequestSettled) -> None:
        """Send what came before, and this."""
        batch = (*self._gather(), *last)
        # Before the report: if that raises, nothing is reported twice.
        self._batch.clear()
        self._ports.report(Outcomes(batch))

    def _gather(self) -> list[AttemptOutcome | Successes | RequestSettled]:
        self._count = 0
        runs = [run.message() for run in self._runs.values()]
        self._read.extend(runs)
        self._batch.extend(runs)
        self._runs.clear()
        return self._batch

    def _new_run(self, attempt: Attempt) -> _Run:
        before = self._runs.pop(attempt.member, None)
        if before is not None:
            message = before.message()
            self._read.append(message)
            self._batch.append(message)
        run = self._runs[attempt.member] = _Run(attempt)
        return run

    def _on_alarm(self, when: float) -> None:
        """Send what has waited long enough. An alarm is not called off with the batch that it was
        set for, since setting one for each batch costs more than to look in vain now and then.
        """
        self._alarm_set = False
        if self._count == 0:
            return
        due = self._oldest + DELAY_S
        if due <= when:
            self.flush()
        else:
            self._set_alarm(due)

    def _set_alarm(self, when: float) -> None:
        self._ports.at(when, lambda: self._on_alarm(when))
        self._alarm_set = True


def _failure(
    attempt: Attempt, failure: Failure, elapsed_s: float, now: float, number: int
) -> AttemptOutcome:
    return _outcome(
        attempt,
        now,
        elapsed_s,
        failure.kind,
        summary(failure.error),
        failure.retry_after_s,
        number,
        failure.opens_at_once,
    )


def _outcome(
    attempt: Attempt,
    now: float,
    elapsed_s: float,
    kind: FailureKind | None = None,
    error: str | None = None,
    retry_after_s: float | None = None,
    number: int = 0,
    opens_at_once: bool = False,
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
        number=number,
        opens_at_once=opens_at_once,
    )
