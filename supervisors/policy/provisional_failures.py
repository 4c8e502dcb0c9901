"""Which failures are only provisional, and whose fault they turn out to be. Pure.

What a request's failures say of the members is known when it has ended: a request that failed in
the same way on every member it was given to is itself at fault. Until then its failures count, so
that a member that is ill is left at once, and can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import RequestSettled

# With a threshold of 1, two odd requests in a row would else be taken for an outage.
LEAST_LIMIT = 10
PASSING = frozenset({FailureKind.TIMEOUT, FailureKind.UNAVAILABLE, FailureKind.CRASHED})
"""Kinds in which all members may fail at once for a reason of their own: a network, a region."""


@dataclass(slots=True, eq=False)
class Case:
    """A request with failures that count, until it ends.

    Attributes:
        number: stands for it in the members' accounts, and for no other request ever.
        members: whom it failed on, in order.
        opened: whose breaker it has opened; None as yet.
    """

    number: int
    members: list[str] = field(default_factory=list)
    opened: str | None = None

    def __repr__(self) -> str:
        return f"<Case {self.number}: {', '.join(self.members)}>"


class ProvisionalFailures:
    """The cases that are open, and how often in a row requests were found to be at fault.

    That cannot go on for ever, or a total outage would never open a breaker. So for kinds that are
    `PASSING`, once `limit` requests in a row were at fault and nobody has answered any in between,
    it is an outage: such failures are the members' until somebody answers again. An unknown
    failure, and a 403, follow the request however many there are. Where a request was not given to
    everybody who could have taken it, or failed on one alone while others were out in doubt (a
    stream that broke off, too), there is less to go by: then a member is spared `limit` times at
    most without an answer of its own in between, whatever the kind.

    Args:
        failure_threshold: that of the breakers; the limit is twice that, and at least ten.
    """

    __slots__ = ("_cases", "_in_a_row", "_last", "_spared", "limit")

    def __init__(self, failure_threshold: int) -> None:
        self.configure(failure_threshold)
        self._cases: dict[str, Case] = {}
        self._last = 0
        self._in_a_row = 0
        self._spared: dict[str, int] = {}

    def configure(self, failure_threshold: int) -> None:
        """Go by another threshold."""
        self.limit = max(LEAST_LIMIT, 2 * failure_threshold)

    def __len__(self) -> int:
        return len(self._cases)

    def failed(self, request_id: str, member: str) -> Case:
        """Open the case of a request that failed on a member, or go on with it."""
        case = self._cases.get(request_id)
        if case is None:
            self._last += 1
            case = self._cases[request_id] = Case(self._last)
        if member not in case.members:
            case.members.append(member)
        return case

    def answered(self, member: str) -> None:
        """A member has answered a request."""
        if self._in_a_row:
            self._in_a_row = 0
        if self._spared:
            self._spared.pop(member, None)

    def settle(
        self, request: RequestSettled, others_in_doubt: Callable[[Case], bool] = lambda _: False
    ) -> tuple[Case | None, Collection[str]]:
        """Close the case of a request that has ended.

        Args:
            others_in_doubt: whether another member is kept out by failures that may yet turn out to
                be those of requests.

        Returns:
            the case, and the members that its failures are taken back from; None if there is none.
        """
        case = self._cases.pop(request.request_id, None)
        if case is None:
            return None, ()
        if request.kind is None:
            return case, ()
        # On one member alone a request cannot be told from the member, unless others were kept out.
        alone = len(case.members) < 2
        if alone and not others_in_doubt(case):
            return case, ()
        if alone or not request.everywhere:
            return case, [member for member in case.members if self._spares(member)]
        if request.kind not in PASSING:
            return case, case.members
        if self._in_a_row >= self.limit:
            return case, ()
        self._in_a_row += 1
        return case, case.members

    def _spares(self, member: str) -> bool:
        times = self._spared.get(member, 0)
        self._spared[member] = min(times + 1, self.limit)
        return times < self.limit

    def __repr__(self) -> str:
        in_a_row = f"{self._in_a_row} of {self.limit} in a row at fault"
        return f"<ProvisionalFailures {len(self)} open, {in_a_row}>"
