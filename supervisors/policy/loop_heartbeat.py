"""When to ask an event loop for a sign of life, and what its silence means."""

from __future__ import annotations

from enum import Enum

from greenroom.messages import _validate as check

LOOKS = 4
"""Looks at an unanswered loop until it counts as stalled.

Only time between two looks counts, and of that no more than was planned. So a process that stood
still as a whole, for a collection of garbage or because the machine slept, is not taken for a
stalled loop: one late look is one look, and the answer has the time of the others to come.

Where a look comes later than it takes to the next one, the machine has too much to do, and the loop
may not have had its turn either: such a look counts the less, the later it is.
"""

SLOWEST = 8.0
"""How many times as long as usual the time to the next look is, at most, where looks are late. Each
makes it worse there: a thousand loops are as many threads that want to answer."""

# Four gaps of a quarter each may fall short of the whole by a rounding error.
_ROUNDING = 1e-9


class Step(Enum):
    """What to do after a look."""

    WAIT = "nothing yet"
    PING = "ask for an answer"
    STALLED = "report the loop"
    REPLACE = "give the loop up"


class Heartbeat:
    """One loop's heartbeat. It reads no clock and sends nothing: `now` is in monotonic seconds.

    Args:
        interval_s: time between an answer and the next question.
        stalled_after_s: silence after which the loop counts as stalled.
        replaced_after_s: silence after which it is given up; None: never.
        now: the loop's start.
        part: the part of the first interval that passes before the first question, above 0 and up
            to 1. Loops that start together shall not all be asked together, again and again.

    Attributes:
        number: that of the last question; an answer carries it. Never reused.
        next_look_at: when to look again.
        stalled: whether the silence has been reported and still lasts.
    """

    __slots__ = (
        "_asked_at",
        "_given_up",
        "_pace",
        "_silence_s",
        "interval_s",
        "next_look_at",
        "number",
        "replaced_after_s",
        "stalled",
        "stalled_after_s",
    )

    def __init__(
        self,
        interval_s: float,
        stalled_after_s: float,
        replaced_after_s: float | None,
        now: float = 0.0,
        part: float = 1.0,
    ) -> None:
        check.number("interval_s", interval_s, above=True)
        check.number("part", part, above=True, maximum=1.0)
        check.number("stalled_after_s", stalled_after_s, above=True)
        least = stalled_after_s
        check.number("replaced_after_s", replaced_after_s, minimum=least, optional=True)
        self.interval_s = interval_s
        self.stalled_after_s = stalled_after_s
        self.replaced_after_s = replaced_after_s
        self.number = 0
        self.next_look_at = now + interval_s * part
        self.stalled = False
        self._asked_at: float | None = None
        self._pace = 1.0
        self._silence_s = 0.0
        self._given_up = False

    def look(self, now: float, part: float = 1.0) -> Step:
        """Let time pass; STALLED and REPLACE come once for a silence, at different looks.

        Args:
            part: that of the interval which passes before the next look, if this one is so late
                that nothing is asked.
        """
        if now < self.next_look_at:
            return Step.WAIT
        late_s, gap_s = now - self.next_look_at, self._gap_s
        late, slowest = late_s > gap_s, self._pace >= SLOWEST
        self._pace = min(SLOWEST, self._pace * 2.0) if late else max(1.0, self._pace / 2.0)
        if self._asked_at is not None:
            step = self._judge(gap_s * gap_s / late_s if late else gap_s)
        # The machine is busy: one question less. At its slowest it asks all the same, or a loop
        # that is stuck would never be found on a machine that is always busy.
        elif late and not slowest:
            self.next_look_at = now + self.interval_s * self._pace * part
            return Step.WAIT
        else:
            step = self._ask(now)
        self.next_look_at = now + gap_s * self._pace
        return step

    def answered(self, number: int, now: float, part: float = 1.0) -> float | None:
        """Take an answer in; how long (s) a silence that was reported has lasted, else None.

        An answer to any but the last question changes nothing.

        Args:
            part: that of the interval which passes before the next question, if this answer was
                late: then there may be a crowd, which comes together again if nobody draws apart.
        """
        if number != self.number or self._asked_at is None:
            return None
        lasted = self.silent_s(now) if self.stalled else None
        late = self.silent_s(now) >= self._gap_s
        self._asked_at = None
        self.stalled = self._given_up = False
        self.next_look_at = now + self.interval_s * self._pace * (part if late else 1.0)
        return lasted

    def rest(self, now: float, part: float = 1.0) -> float | None:
        """Nobody runs the loop right now, so it is not silent. As `answered`, whatever was asked.

        Args:
            part: that of the interval which passes before the next look.
        """
        lasted = self.silent_s(now) if self.stalled else None
        self._asked_at = None
        self.stalled = self._given_up = False
        self.next_look_at = now + self.interval_s * self._pace * part
        return lasted

    def silent_s(self, now: float) -> float:
        """How long the last question has waited for its answer; 0 when there is none to wait for.

        The loop may have been silent for up to `interval_s` longer.
        """
        return 0.0 if self._asked_at is None else now - self._asked_at

    @property
    def replaced_in_s(self) -> float | None:
        """Silence that is left until the loop is given up; None: it never is."""
        if self.replaced_after_s is None:
            return None
        return max(0.0, self.replaced_after_s - self._silence_s)

    @property
    def _gap_s(self) -> float:
        return self.stalled_after_s / LOOKS

    def _ask(self, now: float) -> Step:
        self.number += 1
        self._asked_at = now
        self._silence_s = 0.0
        return Step.PING

    def _judge(self, counted_s: float) -> Step:
        self._silence_s += counted_s
        silence_s = self._silence_s + _ROUNDING
        # Where both limits are the same, this look reports it, and the next one gives it up.
        if not self.stalled and silence_s >= self.stalled_after_s:
            self.stalled = True
            return Step.STALLED
        limit = self.replaced_after_s
        if limit is not None and silence_s >= limit and not self._given_up:
            self._given_up = True
            return Step.REPLACE
        return Step.WAIT

    def __repr__(self) -> str:
        state = "stalled" if self.stalled else "waiting" if self._asked_at is not None else "idle"
        return f"<Heartbeat {state}, question {self.number}, looks at {self.next_look_at:.3f}>"
