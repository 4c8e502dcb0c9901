"""The last outcomes of a member, counted."""

from __future__ import annotations

from collections import deque
from itertools import islice, repeat

from greenroom.messages import _validate as check

_GOOD = (False, False, None)


class OutcomeWindow:
    """The last `size` outcomes, with running counts: recording one takes constant time.

    A failure may carry the number of the request that it is of: a request's failures count once,
    the first of them, and can be taken back.

    Attributes:
        failed: how many of them failed.
        slow: how many of them were slow, failed or not.
    """

    __slots__ = ("_open", "_outcomes", "failed", "size", "slow")

    def __init__(self, size: int) -> None:
        check.whole("size", size, minimum=1)
        self.size = size
        self.failed = 0
        self.slow = 0
        self._outcomes: deque[tuple[bool, bool, int | None]] = deque(maxlen=size)
        self._open: set[int] = set()  # the requests whose failures in it may be taken back

    def record(self, *, failed: bool, slow: bool, request: int | None = None) -> None:
        """Take an outcome in; the oldest one leaves when the window is full."""
        if request is not None:
            # The request's second failure here, of a retry on the same member: it counts once.
            if request in self._open:
                return
            self._open.add(request)
        if len(self._outcomes) == self.size:
            self._count_off(self._outcomes[0])
        self._outcomes.append((failed, slow, request))
        self.failed += failed
        self.slow += slow

    def retract(self, request: int) -> bool:
        """Take the failures of a request out; whether there was one."""
        index = self._taken_out(request)
        if index is None:
            return False
        self._count_off(self._outcomes[index])
        del self._outcomes[index]
        return True

    def _count_off(self, outcome: tuple[bool, bool, int | None]) -> None:
        """It leaves the window, and can be taken back no more: the window does not remember it."""
        failed, slow, request = outcome
        self.failed -= failed
        self.slow -= slow
        if request is not None:
            self._open.discard(request)

    def _taken_out(self, request: int) -> int | None:
        """Where the failure of a request is, which is not open any more; None if there is none. It
        is looked for from the end: those that are open are young.
        """
        if request not in self._open:
            return None
        self._open.discard(request)
        last = len(self._outcomes) - 1
        found = (
            last - back for back, each in enumerate(reversed(self._outcomes)) if each[2] == request
        )
        return next(found)

    @property
    def spotless(self) -> bool:
        """Whether none of them failed or was slow."""
        return not self.failed and not self.slow

    def extend(self, count: int) -> None:
        """Take in that many outcomes, none failed or slow, at once."""
        if not self.spotless:
            # The deque drops them by itself; they only have to be counted off.
            leaving = max(0, len(self) + count - self.size)
            for each in islice(self._outcomes, leaving):
                self._count_off(each)
        self._outcomes.extend(repeat(_GOOD, count))

    def settle(self, request: int) -> None:
        """A request's failure can be taken back no more."""
        index = self._taken_out(request)
        if index is not None:
            self._outcomes[index] = (*self._outcomes[index][:2], None)

    def settled(self) -> OutcomeWindow:
        """The same without the failures that may still be taken back."""
        other = OutcomeWindow(self.size)
        for failed, slow, of in self._outcomes:
            if of is None:
                other.record(failed=failed, slow=slow)
        return other

    def resize(self, size: int) -> None:
        """Be the last `size` outcomes from now on; what is too old for that leaves it."""
        check.whole("size", size, minimum=1)
        for each in islice(self._outcomes, max(0, len(self) - size)):
            self._count_off(each)
        self.size = size
        self._outcomes = deque(self._outcomes, maxlen=size)

    @property
    def failure_rate(self) -> float:
        """Share of failures, from 0 to 1; 0 when there is nothing in it."""
        return self.failed / len(self._outcomes) if self._outcomes else 0.0

    @property
    def slow_rate(self) -> float:
        """Share of slow outcomes, from 0 to 1; 0 when there is nothing in it."""
        return self.slow / len(self._outcomes) if self._outcomes else 0.0

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"<OutcomeWindow {self.failed} failed, {self.slow} slow of {len(self)}/{self.size}>"
