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

    __slots__ = ("_outcomes", "failed", "size", "slow")

    def __init__(self, size: int) -> None:
        check.whole("size", size, minimum=1)
        self.size = size
        self.failed = 0
        self.slow = 0
        self._outcomes: deque[tuple[bool, bool, int | None]] = deque(maxlen=size)

    def record(self, *, failed: bool, slow: bool, request: int | None = None) -> None:
        """Take an outcome in; the oldest one leaves when the window is full."""
        if request is not None and any(each[2] == request for each in self._outcomes):
            return
        if len(self._outcomes) == self.size:
            old_failed, old_slow, _ = self._outcomes[0]
            self.failed -= old_failed
            self.slow -= old_slow
        self._outcomes.append((failed, slow, request))
        self.failed += failed
        self.slow += slow

    def retract(self, request: int) -> bool:
        """Take the failures of a request out; whether there was one."""
        for index, (failed, slow, of) in enumerate(self._outcomes):
            if of == request:
                del self._outcomes[index]
                self.failed -= failed
                self.slow -= slow
                return True
        return False

    @property
    def spotless(self) -> bool:
        """Whether none of them failed or was slow."""
        return not self.failed and not self.slow

    def extend(self, count: int) -> None:
        """Take in that many outcomes, none failed or slow, at once."""
        if not self.spotless:
            for failed, slow, _ in islice(self._outcomes, max(0, len(self) + count - self.size)):
                self.failed -= failed
                self.slow -= slow
        self._outcomes.extend(repeat(_GOOD, count))

    def settle(self, request: int) -> None:
        """A request's failure can be taken back no more."""
        for index, (failed, slow, of) in enumerate(self._outcomes):
            if of == request:
                self._outcomes[index] = (failed, slow, None)
                return

    def settled(self) -> OutcomeWindow:
        """The same without the failures that may still be taken back."""
        other = OutcomeWindow(self.size)
        for failed, slow, of in self._outcomes:
            if of is None:
                other.record(failed=failed, slow=slow)
        return other

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
