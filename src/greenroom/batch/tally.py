"""How far a batch is. Pure."""

from __future__ import annotations

from collections import Counter, deque

_WINDOW_S = 30.0


class Tally:
    """Counts what a run has written, and how fast that goes.

    Args:
        total: how many prompts there are; None if nobody knows.
        before: how many of them had a line already.
        now: the time, in seconds.

    Attributes:
        answered: lines with an answer that this run has written.
        failed: lines with an error that it has written.
        sent_back: how often a prompt was turned away, and put back.
        by_member: answers of each member.
    """

    def __init__(self, total: int | None, before: int, now: float) -> None:
        self.total = total
        self.before = before
        self.answered = 0
        self.failed = 0
        self.sent_back = 0
        self.by_member: Counter[str] = Counter()
        self._began = now
        self._looks: deque[tuple[float, int]] = deque([(now, 0)])

    @property
    def written(self) -> int:
        """Lines that this run has written."""
        return self.answered + self.failed

    @property
    def done(self) -> int:
        """Prompts that have a line."""
        return self.before + self.written

    def rate(self, now: float) -> float:
        """Lines a second, of the last half minute."""
        if now > self._looks[-1][0]:
            self._looks.append((now, self.written))
        while len(self._looks) > 2 and self._looks[1][0] <= now - _WINDOW_S:
            self._looks.popleft()
        then, count = self._looks[0]
        return (self.written - count) / (now - then) if now > then else 0.0

    def left_s(self, now: float) -> float | None:
        """How long the rest takes at that rate; None if nobody knows."""
        rate = self.rate(now)
        if self.total is None or rate <= 0.0:
            return None
        return max(0, self.total - self.done) / rate

    def elapsed_s(self, now: float) -> float:
        """Since its beginning."""
        return now - self._began


def line_of(tally: Tally, now: float) -> str:
    """How far it is, in one line."""
    of = "" if tally.total is None else f" of {tally.total:,}"
    parts = [f"{tally.done:,}{of} done", f"{tally.rate(now):.1f} a second"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if tally.sent_back:
        parts.append(f"{tally.sent_back:,} put back")
    left_s = tally.left_s(now)
    if left_s is not None and left_s > 0:
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time for people: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
