"""What somebody outside of the pool says of its members: another process, or a member's engine."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.messages.events import MemberHeard, MemberReachable, MemberUnreachable
from greenroom.messages.requests import ReportMember
from greenroom.messages.status import CircuitState, FailureKind, ReportedState
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts

_BY_HAND = frozenset((CircuitState.FORCED_OPEN, CircuitState.DISABLED))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OutsideWord:
    """Has the pool go by what is said, and by its own experience as ever: a breaker that is open by
    hearsay half-opens in its time, and its trial decides.
    """

    _ports: SupervisorPorts
    _routes: RoutePublisher
    _judge: OutcomeJudge

    def take_in(self, record: MemberRecord, word: ReportMember) -> None:
        """Go by it, and tell the router. Rests are in the router's books: these are told only."""
        match word.state:
            case ReportedState.OPEN:
                self._open(record, word)
            case ReportedState.CLOSED:
                self._close(record, word)
            case ReportedState.UNREACHABLE:
                self._away(record, word)
            case ReportedState.COOLING:
                self._tell(record, word)
        self._routes.publish(record)

    def _open(self, record: MemberRecord, word: ReportMember) -> None:
        breaker, now = record.breaker, self._ports.now()
        if breaker.state in _BY_HAND:
            return
        assert word.for_s is not None
        kind = word.kind or FailureKind.UNAVAILABLE
        reason = f"{kind} failure, heard from {word.source or 'outside'}"
        was_until = breaker.reopens_at
        transition = breaker.open_as_heard(now + word.for_s, kind, reason, now)
        until = breaker.reopens_at
        if transition is not None:
            self._tell(record, word)
            self._judge.announce(record, transition)
        elif record.probes is not None and until is not None and until != was_until:
            record.probes.hold_until(until)

    def _close(self, record: MemberRecord, word: ReportMember) -> None:
        now = self._ports.now()
        reason = f"heard from {word.source or 'outside'}"
        transition = record.breaker.close_with(reason, now, heard=True)
        if transition is not None or record.is_away:
            self._tell(record, word)
        self._judge.announce(record, transition)
        self.forget(record)

    def _away(self, record: MemberRecord, word: ReportMember) -> None:
        now, for_s = self._ports.now(), word.for_s
        if not for_s:
            self.forget(record)
            return
        if not record.is_away:
            record.unreachable_since = now
            self._ports.emit(
                MemberUnreachable(
                    pool=self._ports.pool, member=record.name, source=word.source, for_s=for_s
                )
            )
        # The last word holds, be it for a shorter time: who says it knows its engine.
        record.unreachable_until = now + for_s

    def forget(self, record: MemberRecord) -> None:
        """It is reachable, if it was not."""
        if not record.is_away:
            return
        now = self._ports.now()
        record.unreachable_until = None
        if record.probes is not None and record.circuit is CircuitState.HALF_OPEN:
            record.probes.hurry(now)
        after_s = now - record.unreachable_since
        self._ports.emit(
            MemberReachable(pool=self._ports.pool, member=record.name, after_s=after_s)
        )

    def review(self, record: MemberRecord, now: float) -> None:
        """Do for a member what time alone asks for."""
        if record.unreachable_until is not None and now >= record.unreachable_until:
            self.forget(record)

    def _tell(self, record: MemberRecord, word: ReportMember) -> None:
        self._ports.emit(
            MemberHeard(
                pool=self._ports.pool,
                member=record.name,
                state=word.state,
                source=word.source,
                for_s=word.for_s,
            )
        )
