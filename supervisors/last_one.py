"""The last one stays: members that are tried though their breakers are open, since nobody else is
left; and all that were out with them, as soon as somebody answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from greenroom.messages.events import BreakerKept
from greenroom.messages.status import CircuitState
from greenroom.messages.supervision import TrialDue
from greenroom.supervisors.member_record import Life, MemberRecord
from greenroom.supervisors.policy.breaker import Transition
from greenroom.supervisors.policy.open_share import Standing, let_in, most_out
from greenroom.supervisors.supervisor_ports import SupervisorPorts


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LastOne:
    """Keeps `circuit_max_open_share`, whenever the router is about to be told how things stand.

    Args:
        _announce: tells of a breaker's change of state.
    """

    _ports: SupervisorPorts
    _records: Mapping[str, MemberRecord]
    _announce: Callable[[MemberRecord, Transition], None]

    def review(self, changed: Sequence[MemberRecord]) -> list[MemberRecord]:
        """Have members tried where more are out than may be; who they are.

        Args:
            changed: those that may be out now and were not before; empty: any of them.
        """
        share, records = self._ports.config.circuit_max_open_share, self._records
        # Nearly always: so that a change costs the same among ten thousand members as among ten.
        if changed and all(records.get(each.name) is each and _is_in(each) for each in changed):
            return []
        if share is None and self._somebody_is_in():
            return []
        now = self._ports.now()
        by_index = {each.index: each for each in records.values() if each.life is not Life.LEAVING}
        chosen = let_in([_standing(each, now) for each in by_index.values()], share)
        kept = [by_index[each.place] for each in chosen]
        for record in kept:
            self._keep(record, len(by_index), now)
        return kept

    def _somebody_is_in(self) -> bool:
        for each in self._records.values():  # noqa: SIM110 - any() takes twice as long
            if _is_in(each):
                return True
        return False

    def _keep(self, record: MemberRecord, members: int, now: float) -> None:
        transition = record.breaker.try_early(now)
        assert transition is not None
        # Once for each outage: while it lasts there may be such a trial with every request.
        if record.kept:
            return
        record.kept = True
        self._ports.tell(record, TrialDue())
        may = most_out(members, self._ports.config.circuit_max_open_share)
        self._ports.emit(
            BreakerKept(pool=self._ports.pool, member=record.name, may_be_out=may, members=members)
        )

    def turned(self, record: MemberRecord, transition: Transition) -> None:
        """A breaker has changed its state: one that was kept, and is back, was not ill alone. What
        kept the others out is over as well, most likely: so they are tried, at no request's cost.
        """
        if transition.after is CircuitState.OPEN:
            return
        was_kept, record.kept = record.kept, False
        # By hand, or because requests were at fault: that says nothing of the others.
        if not was_kept or not record.breaker.tried:
            return
        for other in self._records.values():
            # Who has a probe is tried by that, in its time: no request is to be its trial.
            if other.probes is not None or other.circuit is not CircuitState.OPEN:
                continue
            tried = other.breaker.try_early(transition.at)
            if tried is not None:
                self._announce(other, tried)


def _is_in(record: MemberRecord) -> bool:
    return not record.is_out and record.life is not Life.LEAVING


def _standing(record: MemberRecord, now: float) -> Standing:
    by_breaker = record.circuit is CircuitState.OPEN and record.can_be_tried
    return Standing(
        record.is_out,
        by_breaker and record.breaker.may_try_early(now),
        record.breaker.openings,
        record.health.last_success_at,
        record.index,
    )
