"""The signs of life of an attempt: since when it has owed its next sign of life. Pure."""

from __future__ import annotations


class LifeSigns:
    """Written where the agent runs, read by the router, which looks when a chunk could be overdue.

    Nothing is locked: each attribute is set by one side, and whoever sets one of `held_at` and
    `watched` looks at the other afterwards, so that one of the two sees the other.

    Args:
        since: when the attempt began, on the pool's clock.

    Attributes:
        since: when the last chunk came that counts; the time in which the agent was held back is
            left out.
        alive_at: when the agent said last that it is alive.
        held_at: since when a full buffer has held the agent back; None while it may go on.
        counts: whether a chunk has come that counts.
        watched: whether the router wants to hear when an agent that was held back goes on.
    """

    __slots__ = ("alive_at", "counts", "held_at", "since", "watched")

    def __init__(self, since: float) -> None:
        self.since = since
        self.alive_at = since
        self.held_at: float | None = None
        self.counts = False
        self.watched = False

    def resume(self, now: float) -> bool:
        """The agent goes on: while it was held back its time stood still. Tells whether the router
        wants to hear of it.
        """
        if self.held_at is not None:
            self.since += now - self.held_at
            self.held_at = None
        watched, self.watched = self.watched, False
        return watched

    def owed_since(self) -> float | None:
        """Since when a chunk is owed; None while none is: then the agent tells when one is."""
        if self.held_at is not None:
            self.watched = True
            # Again, after the note: it may have gone on in between, without having seen that.
            if self.held_at is not None:
                return None
        return max(self.since, self.alive_at)
