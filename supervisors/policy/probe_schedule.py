"""When to probe a member: one probe at a time, each with its time limit."""

from __future__ import annotations

import math
import random

from greenroom.messages import _validate as check

JITTER = 0.1
"""An interval is up to this share shorter or longer, so that members are not probed in step."""


class ProbeSchedule:
    """One member's probes. It reads no clock and sends nothing: `now` is in monotonic seconds.

    Attributes:
        due_at: when the next probe starts; inf when none is planned, as while one is running.
        running: the id of the probe in flight, or None. Ids are never reused.
        epoch: what `start` was told last: the breaker's epoch to which the probe's outcome belongs.
    """

    __slots__ = (
        "_last_id", "_planned", "_rng", "_timeout_at", "due_at", "epoch", "interval_s", "running",
        "timeout_s",
    )  # fmt: skip

    def __init__(
        self, interval_s: float, timeout_s: float, rng: random.Random, now: float = 0.0
    ) -> None:
        check.number("interval_s", interval_s, above=True)
        check.number("timeout_s", timeout_s, above=True)
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self._rng = rng
        self.running: int | None = None
        self.epoch = 0
        self._last_id = 0
        self._timeout_at = math.inf
        self._plan(now + rng.random() * interval_s)  # members that start together spread out

    def is_due(self, now: float) -> bool:
        """Whether a probe should start now: its time has come and none is running."""
        return self.running is None and now >= self.due_at

    def start(self, now: float, epoch: int = 0) -> int:
        """Note that a probe starts, due or not; its id.

        Raises:
            RuntimeError: the one before is still running.
        """
        if self.running is not None:
            raise RuntimeError(f"probe {self.running} is still running")
        self._last_id += 1
        self.running = self._last_id
        self.epoch = epoch
        self._timeout_at = now + self.timeout_s
        # Whatever plans one from here on (`hurry`, `hold_until`) is heeded at its end.
        self.due_at, self._planned = math.inf, False
        return self._last_id

    def finish(self, probe_id: int, now: float) -> bool:
        """Note that a probe has ended; False, and nothing changes, unless it is the running one.

        The next one is due an interval from now, unless `hurry` or `hold_until` has said otherwise
        meanwhile: a probe that takes longer than the interval is not followed by another at once.
        """
        if probe_id != self.running:
            return False
        self.running = None
        self._timeout_at = math.inf
        if not self._planned:
            self.resume(now)
        return True

    def abandon(self, now: float) -> int | None:
        """Give the running probe up, as when its actor has ended; its id, None without one."""
        dropped = self.running
        if dropped is not None:
            self.finish(dropped, now)
        return dropped

    def expired(self, now: float) -> int | None:
        """The id of the running probe when its time is over; it stays running until `finish`."""
        return self.running if now >= self._timeout_at else None

    def hurry(self, now: float) -> None:
        """Make the next probe due now, or as soon as the running one has ended."""
        self._plan(min(self.due_at, now))

    def hold_until(self, at: float) -> None:
        """Make the next probe due at `at`: an open breaker's reopening time (inf: not at all)."""
        self._plan(at)

    def resume(self, now: float) -> None:
        """Go back to the rhythm: the next probe is due an interval from now, with jitter."""
        self._plan(now + self.interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER))

    def configure(self, interval_s: float, timeout_s: float) -> None:
        """Go by other times, from the next probe and the next interval on."""
        check.number("interval_s", interval_s, above=True)
        check.number("timeout_s", timeout_s, above=True)
        self.interval_s = interval_s
        self.timeout_s = timeout_s

    def hasten(self, now: float) -> None:
        """Do not wait longer than an interval, which may have been longer when it was planned."""
        if self.running is None:
            self._plan(min(self.due_at, now + self.interval_s))

    @property
    def next_event_at(self) -> float | None:
        """When to look again: the running probe's time limit, else the next one's start."""
        at = self.due_at if self.running is None else self._timeout_at
        return at if math.isfinite(at) else None

    def _plan(self, at: float) -> None:
        self.due_at, self._planned = at, True

    def __repr__(self) -> str:
        if self.running is not None:
            return f"<ProbeSchedule probe {self.running} until {self._timeout_at:.3f}>"
        return f"<ProbeSchedule due at {self.due_at:.3f}>"
