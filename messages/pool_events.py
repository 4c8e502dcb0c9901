"""What happens to a pool as a whole: its start and end, its settings, what it shares."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event


@event("pool.started")
class PoolStarted(Event):
    """The pool takes requests.

    Attributes:
        request_timeout_s, deadline_s, max_retries: its settings of these names.
    """

    members: tuple[str, ...] = ()
    strategy: str = ""
    request_timeout_s: float | None = None
    deadline_s: float | None = None
    max_retries: int | None = None

    def describe(self) -> str:
        return f"pool started: {', '.join(self.members) or 'no members'} ({self.strategy})"


@event("pool.stopped")
class PoolStopped(Event):
    """The pool has ended, its members are closed."""

    unfinished: int = 0

    def describe(self) -> str:
        rest = f"; {self.unfinished} unfinished requests were failed" if self.unfinished else ""
        return f"pool stopped{rest}"


@event("pool.draining")
class PoolDraining(Event):
    """The pool takes no more requests, and finishes those that it has. Told when that begins, and
    every ten seconds from then on.

    Attributes:
        left: how many requests are under way.
        elapsed_s: since it began, in seconds.
        timeout_s: after how long what is left is failed; None: never.
    """

    left: int = 0
    elapsed_s: float = 0.0
    timeout_s: float | None = None

    def describe(self) -> str:
        if self.elapsed_s:
            return f"pool draining: {self.left} still under way after {self.elapsed_s:.1f} s"
        limit = self.timeout_s
        rest = "" if limit is None else f"; what is left after {limit:g} s is failed"
        return f"pool draining: it takes no more requests, {self.left} are under way{rest}"


@event("pool.drained")
class PoolDrained(Event):
    """A drain is over: every request that was under way has ended by itself."""

    _says = "pool drained in {0.elapsed_s:.1f} s: nothing is under way any more"
    elapsed_s: float = 0.0


@event("pool.drain_timed_out", "WARNING")
class PoolDrainTimedOut(Event):
    """A drain has had its time: what was left has been failed.

    Attributes:
        failed: how many requests those were.
        timeout_s: how long it has waited for them, in seconds.
    """

    _says = (
        "pool drain timed out after {0.timeout_s:g} s: {0.failed} requests are failed; "
        "give it as long as the slowest of them may take: drain(timeout=...)"
    )
    failed: int = 0
    timeout_s: float = 0.0


@event("pool.configured")
class PoolConfigured(Event):
    """Settings or members have been changed by a `Configure`."""

    changes: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"pool configured: {'; '.join(self.changes) or 'everything was so already'}"


@event("pool.paused", "WARNING")
class PoolPaused(Event):
    """The process did not run for a while: it was stopped, or the machine slept. All limits have
    been put off by as much, and nobody is blamed.
    """

    _says = "the process did not run for {0.lasted_s:.1f} s: all limits are put off by that"
    lasted_s: float = 0.0


@event("shared.away", "WARNING")
class SharedStateAway(Event):
    """What the pool shares with other processes is out of reach: it goes on alone, by what it finds
    out itself. Told once until it is back.
    """

    _says = "alone: what is shared with other processes is out of reach ({0.error}); it goes on"
    error: str = ""


@event("shared.back")
class SharedStateBack(Event):
    """What the pool shares with other processes is there again."""

    _says = "back: what is shared with other processes is there again"
