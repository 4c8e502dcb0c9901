"""The last outcomes of a member, counted."""

from __future__ import annotations

from collections import deque
from itertools import islice, repeat

from greenroom.messages import _validate as check

_GOOD = (False, False)


class OutcomeWindow:
    """The last `size` outcomes, with running counts: recording one takes constant time.

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
        self._outcomes: deque[tuple[bool, bool]] = deque(maxlen=size)

    def record(self, *, failed: bool, slow: bool) -> None:
        """Take an outcome in; the oldest one leaves when the window is full."""
        if len(self._outcomes) == self.size:
            old_failed, old_slow = self._outcomes[0]
            self.failed -= old_failed
            self.slow -= old_slow
        self._outcomes.append((failed, slow))
        self.failed += failed
        self.slow += slow

    @property
    def spotless(self) -> bool:
        """Whether none of them failed or was slow."""
        return not self.failed and not self.slow

    def extend(self, count: int) -> None:
        """Take in that many outcomes, none failed or slow, at once."""
        if not self.spotless:
            for failed, slow in islice(self._outcomes, max(0, len(self) + count - self.size)):
                self.failed -= failed
                self.slow -= slow
        self._outcomes.extend(repeat(_GOOD, count))

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
