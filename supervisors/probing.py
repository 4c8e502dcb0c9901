"""Probing: the supervisor's own look at members, on schedule and where a breaker asks for it."""

from __future__ import annotations

from typing import Any

from greenroom.actors.agents import is_async
from greenroom.actors.base import tell
from greenroom.actors.clock import paused_at
from greenroom.actors.pauses import excuses
from greenroom.messages.events import ProbeFailed, ProbeSucceeded
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import CancelProbe, Probe, ProbeResult
from greenroom.supervisors.record import Life, MemberRecord
from greenroom.supervisors.watch import AGAIN_S, Watch


class Probing(Watch):
    """Starts probes when they are due, ends them when their time is over, counts what they say."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.handlers[ProbeResult] = self._on_probe_result

    def _review_member(self, record: MemberRecord, now: float) -> None:
        super()._review_member(record, now)
        if record.life is Life.RUNNING:
            self._review_probes(record, now)
        self._review_health(record)

    def _review_probes(self, record: MemberRecord, now: float) -> None:
        if record.probes is None:
            return
        expired = record.probes.expired(now)
        if expired is not None:
            self._probe_timed_out(record, expired, now)
        if record.probes.is_due(now) and record.breaker.state is not CircuitState.OPEN:
            self._start_probe(record, now)

    def _start_probe(self, record: MemberRecord, now: float) -> None:
        assert record.probes is not None
        half_open = record.breaker.state is CircuitState.HALF_OPEN
        probe_id = record.probes.start(now, record.breaker.epoch)
        tell(record.ref, Probe(probe_id, create=half_open))

    def _on_probe_result(self, message: ProbeResult) -> None:
        record = self._current(message.member, message.incarnation)
        if record is None or record.probes is None:
            return
        now = self.clock.now()
        if not record.probes.finish(message.probe_id, now):
            return
        failed = not (message.ok or message.skipped)
        if failed and excuses(paused_at(self.clock), now - message.elapsed_s, now):
            record.probes.hurry(now)  # it could not run in time: another one
        elif not message.skipped:
            self._probe_ended(record, message.ok, message.elapsed_s, message.error or "", now)
        elif record.breaker.state is CircuitState.HALF_OPEN:  # for want of a thread, say
            record.probes.hold_until(now + min(AGAIN_S, record.probes.interval_s))
        self._publish(record)

    def _probe_timed_out(self, record: MemberRecord, probe_id: int, now: float) -> None:
        assert record.probes is not None
        record.probes.finish(probe_id, now)
        tell(record.ref, CancelProbe(probe_id))
        if record.stalled and not record.blocks_loop and is_async(record.member.probe):
            return  # the loop had no time for it: that says nothing of the member
        limit = self.config.health_check_timeout_s
        error = f"no answer within health_check_timeout_s={limit:g}"
        self._probe_ended(record, False, limit, error, now)

    def _probe_ended(
        self, record: MemberRecord, ok: bool, elapsed_s: float, error: str, now: float
    ) -> None:
        assert record.probes is not None
        if ok:
            self._news.append(
                ProbeSucceeded(pool=self.pool, member=record.name, elapsed_s=elapsed_s)
            )
        else:
            self._news.append(
                ProbeFailed(pool=self.pool, member=record.name, elapsed_s=elapsed_s, error=error)
            )
        transition = record.breaker.record(
            record.probes.epoch,
            now,
            kind=None if ok else FailureKind.UNAVAILABLE,
            elapsed_s=elapsed_s,
            probe=True,
        )
        self._announce(record, transition, "" if ok else f" (probe: {error})")
        if record.breaker.state is CircuitState.HALF_OPEN:
            record.probes.hurry(now)
