"""Members of one group share a key or an account: where that is refused on one of them, all of them
are out, and where a trial shows that it is good again, all of them are back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.member_record import Life, MemberRecord
from greenroom.supervisors.policy.breaker import Transition
from greenroom.supervisors.supervisor_ports import SupervisorPorts

SHARED = frozenset({FailureKind.AUTH, FailureKind.QUOTA})
"""Kinds of failure of what a group shares; all others are a member's own."""


@dataclass(slots=True, eq=False, repr=False)
class SharedFate:
    """Opens and closes the breakers of a group together, for such failures. All of them are tried
    at the same time, by whomever the strategy picks first; so nobody waits for one that is not
    picked.

    Args:
        _announce: tells of a breaker's change of state.
    """

    _ports: SupervisorPorts
    _records: Mapping[str, MemberRecord]
    _announce: Callable[[MemberRecord, Transition], None]
    _moved: list[MemberRecord] = field(default_factory=list)
    _at_it: bool = False

    def turned(self, record: MemberRecord, transition: Transition) -> None:
        """A breaker has changed its state."""
        before = record.opened_by
        match transition.after:
            case CircuitState.OPEN:
                record.opened_by = transition.kind
                self.review(record)
            case CircuitState.HALF_OPEN:
                pass  # what it was opened by is what its trial is about
            case _:
                record.opened_by = None
        # By hand, or taken back: that says nothing of the others.
        if transition.after is CircuitState.CLOSED and before in SHARED and record.breaker.tried:
            self._close_mates(record, transition.at)

    def review(self, record: MemberRecord) -> bool:
        """Have its group be out as well, if it has opened by what they share, and that is certain:
        as long as it is not, the request may be at fault, and the opening be taken back. Returns
        whether that has changed anybody.
        """
        breaker, kind = record.breaker, record.opened_by
        if kind not in SHARED or breaker.state is not CircuitState.OPEN or breaker.in_doubt:
            return False
        assert breaker.reopens_at is not None
        assert kind is not None
        until, now = breaker.reopens_at, self._ports.now()
        reason = f"{kind} failure of {record.name}, of the same group"
        return self._turn(record, lambda mate: mate.breaker.open_with(until, kind, reason, now))

    def _close_mates(self, record: MemberRecord, now: float) -> None:
        reason = f"{record.name}, of the same group, is back"
        self._turn(
            record,
            lambda mate: mate.breaker.close_with(reason, now) if mate.opened_by in SHARED else None,
        )

    def _turn(
        self, record: MemberRecord, turn: Callable[[MemberRecord], Transition | None]
    ) -> bool:
        """Have the breakers of all its mates turn. What is announced of one of them comes back
        here, and has no mates to turn any more: a group of thousands would be as deep.
        """
        if self._at_it:
            return False
        moved = len(self._moved)
        self._at_it = True
        try:
            for mate in self._mates(record):
                turned = turn(mate)
                if turned is not None:
                    self._moved.append(mate)
                    self._announce(mate, turned)
        finally:
            self._at_it = False
        return len(self._moved) > moved

    def moved(self) -> list[MemberRecord]:
        """Those that have changed since the router was last told."""
        moved, self._moved = self._moved, []
        return [each for each in moved if self._records.get(each.name) is each]

    def _mates(self, record: MemberRecord) -> Iterator[MemberRecord]:
        group = record.member.group
        if group is None:
            return
        for mate in list(self._records.values()):
            same = mate.member.group == group and mate.life is not Life.LEAVING
            if same and mate is not record:
                yield mate
