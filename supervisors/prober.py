"""The supervisor's own look at members, on schedule and where a breaker asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.actors.member.agent_methods import is_async
from greenroom.actors.runtime.pauses import excuses
from greenroom.messages.events import ProbeFailed, ProbeSucceeded
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import CancelProbe, Probe, ProbeResult
from greenroom.supervisors.member_record import MemberRecord, current
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.route_publisher import AGAIN_S, RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts

_BY_HAND = frozenset((CircuitState.FORCED_OPEN, CircuitState.DISABLED))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prober:
    """Starts probes when they are due, ends them when their time is over, counts what they say."""

    _ports: SupervisorPorts
    _routes: RoutePublisher
    _judge: OutcomeJudge

    def review(self, record: MemberRecord, now: float) -> None:
        """Do for a member what time alone asks for."""
        if record.probes is None or not record.can_be_probed:
            return
        # Before the next one is looked at: there is one at a time.
        expired = record.probes.expired(now)
        if expired is not None:
            self._probe_timed_out(record, expired, now)
        if record.probes.is_due(now) and record.circuit is not CircuitState.OPEN:
            self._start_probe(record, now)

    def _start_probe(self, record: MemberRecord, now: float) -> None:
        assert record.probes is not None
        half_open = record.circuit is CircuitState.HALF_OPEN
        probe_id = record.probes.start(now, record.breaker.epoch)
        # Only a trial makes an agent where there is none: a look on schedule must not have one made
        # that nobody has asked for.
        self._ports.tell(record, Probe(probe_id, create=half_open))

    def ended(self, message: ProbeResult) -> None:
        """Take in what the running probe says; any other comes too late."""
        record = current(self._routes.records, message.member, message.incarnation)
        if record is None or record.probes is None:
            return
        now = self._ports.now()
        if not record.probes.finish(message.probe_id, now):
            return
        failed = not (message.ok or message.skipped)
        if failed and record.is_away:
            pass  # that is known, and not its fault
        elif failed and excuses(self._ports.paused_at(), now - message.elapsed_s, now):
            if record.breaker.state not in _BY_HAND:  # there it is held back until a reset
                record.probes.hurry(now)  # it could not run in time: another one
        elif not message.skipped:
            self._probe_ended(record, message.ok, message.elapsed_s, message.error or "", now)
        elif record.circuit is CircuitState.HALF_OPEN:  # for want of a thread, say
            record.probes.hold_until(now + min(AGAIN_S, record.probes.interval_s))
        self._routes.publish(record)

    def _probe_timed_out(self, record: MemberRecord, probe_id: int, now: float) -> None:
        assert record.probes is not None
        record.probes.finish(probe_id, now)
        self._ports.tell(record, CancelProbe(probe_id))
        if record.stalled and not record.blocks_loop and is_async(record.member.probe):
            return  # the loop had no time for it: that says nothing of the member
        if record.is_away:
            return
        limit = self._ports.config.health_check_timeout_s
        error = f"no answer within health_check_timeout_s={limit:g}"
        self._probe_ended(record, False, limit, error, now)

    def _probe_ended(
        self, record: MemberRecord, ok: bool, elapsed_s: float, error: str, now: float
    ) -> None:
        assert record.probes is not None
        pool, name, emit = self._ports.pool, record.name, self._ports.emit
        if ok:
            emit(ProbeSucceeded(pool=pool, member=name, elapsed_s=elapsed_s))
        else:
            emit(ProbeFailed(pool=pool, member=name, elapsed_s=elapsed_s, error=error))
        transition = record.breaker.record(
            record.probes.epoch,
            now,
            kind=None if ok else FailureKind.UNAVAILABLE,
            elapsed_s=elapsed_s,
            probe=True,
        )
        self._judge.announce(record, transition, "" if ok else f" (probe: {error})")
        # The next trial at once, where it takes several to close it: an interval between them would
        # keep the member out for longer.
        if record.circuit is CircuitState.HALF_OPEN:
            record.probes.hurry(now)
