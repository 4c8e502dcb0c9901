"""Who has asked, and who has been answered: every answer of a pool passes by here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from chaos.entry import End, Entry, end_of
from chaos.stage import JumpingClock
from greenroom import PoolFuture

INNER_MARK = "#"
"""What only the id of a request inside another one has in it."""


class Ledger:
    """The requests of the current round, by their id."""

    def __init__(self, clock: JumpingClock) -> None:
        self.entries: dict[str, Entry] = {}
        self.kills = 0
        self.strangers: Counter[str] = Counter()
        """Answers to requests that nobody asks about any more, by their id."""
        self._clock = clock
        self._changed = threading.Condition()
        self._unanswered = 0
        self._unheard = 0
        self._tells = 0

    def open(self, entry: Entry) -> None:
        """A request is about to be sent."""
        entry.sent_at = self._clock.now()
        entry.kills = (self.kills, self.kills)
        entry.note(entry.sent_at, f"sent ({entry.send.way})", ", ".join(entry.send.moves))
        with self._changed:
            self.entries[entry.id] = entry
            self._tells += entry.is_tell
            self._unanswered += not entry.is_tell
            self._unheard += not entry.is_tell

    def tried_beside(self, request_id: str) -> None:
        """A trial is about to run beside it."""
        entry = self.entries.get(request_id.partition(INNER_MARK)[0])
        if entry is not None:
            entry.trials += 1

    def permitted(self, request_id: str, member: str, turn: int) -> None:
        """The pool has let a member begin with it. What happens in pools inside comes of that."""
        entry = self.entries.get(request_id)
        if entry is not None:
            entry.permitted[member] = turn

    def answered(self, future: PoolFuture[object], won: bool) -> None:
        """Somebody has tried to answer a request, and did if it was the first."""
        entry = self.entries.get(future.request_id or "")
        if entry is None:
            if future.request_id is not None and INNER_MARK not in future.request_id:
                self.strangers[future.request_id] += 1
            return
        with self._changed:
            entry.answers += 1
            if won:
                self._note_answer(entry, future)
            self._changed.notify_all()
        entry.note(self._clock.now(), f"answered (answer {entry.answers}):", entry.end or "")

    def _note_answer(self, entry: Entry, future: PoolFuture[object]) -> None:
        entry.error, entry.value = future._error, future._value
        entry.end = end_of(entry.error)
        entry.answered_at = self._clock.now()
        entry.kills = (entry.kills[0], self.kills)
        entry.unanswered = self._unanswered + self._tells  # who knows which tells are over
        self._unanswered -= 1

    def withdraw(self, entry: Entry) -> None:
        """It was never sent: whoever was about to was cancelled before."""
        with self._changed:
            del self.entries[entry.id]
            self._unanswered -= 1
            self._unheard -= 1
            self._changed.notify_all()

    def heard(self, entry: Entry, end: End) -> None:
        """The asker has been told, in its own way."""
        with self._changed:
            entry.heard.append(end)
            self._unheard -= 1
            self._changed.notify_all()

    def close(self) -> list[Entry]:
        """All requests of the round, which is over."""
        with self._changed:
            entries, self.entries = list(self.entries.values()), {}
            self._unanswered = self._unheard = self._tells = 0
            return entries

    @property
    def unanswered(self) -> int:
        """Asks without an answer."""
        with self._changed:
            return self._unanswered

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether the condition holds, now or within that many real seconds."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def all_heard(self) -> bool:
        """Whether every ask has its answer, and every asker knows. Ask within `wait`."""
        return self._unanswered == 0 and self._unheard <= 0

    def fewer_than(self, asks: int) -> Callable[[], bool]:
        """Whether fewer asks are unanswered; for `wait`."""
        return lambda: self._unanswered < asks
