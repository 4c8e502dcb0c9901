"""The race of two attempts for one request. Any thread may ask who has won."""

from __future__ import annotations

import threading

from greenroom.messages.execution import Ticket


class Race:
    """Two attempts for one request: the first to win is the only one, whatever the other brings.

    A winner whose stream starts over has to leave it to a later attempt; its rival stays beaten.
    """

    __slots__ = ("_effects", "_lock", "_over", "_winner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._effects = False
        self._over = 0
        self._winner: Ticket | None = None

    def win(self, ticket: Ticket) -> bool:
        """Whether this attempt is the winner; the first one that asks is."""
        with self._lock:
            # Who has won may ask again: a stream wins by its first chunk, and is asked for once
            # more where its agent starts side effects.
            if self._winner is None and ticket[1] > self._over:
                self._winner = ticket
            return self._winner == ticket

    def start_side_effects(self, ticket: Ticket) -> bool:
        """The same for one that must not be repeated from now on: see `bars`."""
        won = self.win(ticket)
        if won:
            # Only the winner gets here, so no lock. Who asks `bars` a moment before runs beside.
            self._effects = True
        return won

    def bars(self, ticket: Ticket) -> bool:
        """Whether this attempt must not begin any more, since another one has started side effects.
        One that has only answered bars nobody: a late trial is still of use to its breaker.
        """
        return self._effects and self._winner != ticket

    def reopen(self, number: int) -> None:
        """Let an attempt with a higher number than that one win."""
        with self._lock:
            self._over, self._winner = number, None

    def is_past(self, ticket: Ticket) -> bool:
        """Whether an attempt of that number has had its chance."""
        # No lock, here and below: they are asked by the router, and it alone takes a winner back.
        return ticket[1] <= self._over

    @property
    def over(self) -> bool:
        """Whether there is a winner."""
        return self._winner is not None

    def won(self, ticket: Ticket) -> bool:
        """Whether this attempt has won."""
        return self._winner == ticket

    def lost(self, ticket: Ticket) -> bool:
        """Whether another attempt has won."""
        if ticket[1] <= self._over:
            return True
        return self._winner is not None and self._winner != ticket
