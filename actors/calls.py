"""One call of an agent, and the port behind which calls run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.status import CancelReason


class Phase(Enum):
    """How far a call has come."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2
    DROPPED = 3
    ABANDONED = 4


class Call:
    """One piece of user code on its way through a place.

    Whoever moves it out of WAITING or RUNNING reports it, and nobody else: the transitions are
    guarded, so that an end, a cancellation and an abandonment that meet yield one report.

    Args:
        name: what to call it in a log or a task list.
        place: where it runs.
        work: the user code; returns a value or an awaitable.
        finish: told `(call, value, error)` once, from the thread where the call ended.
        late: told when an abandoned call has ended after all.
        origin: whose code it is: the member, and the request's id if it is for one.
        collects: whether an answer that comes in chunks is to be made one list.
    """

    __slots__ = (
        "_lock",
        "cancelled",
        "canceller",
        "collects",
        "finish",
        "handle",
        "late",
        "name",
        "origin",
        "phase",
        "place",
        "side_effects",
        "started_at",
        "work",
    )

    def __init__(
        self,
        name: str,
        place: Place,
        work: Callable[[Call], Any],
        finish: Callable[[Call, Any, BaseException | None], None],
        late: Callable[[Call], None] | None = None,
        origin: tuple[str, str | None] | None = None,
        collects: bool = False,
    ) -> None:
        self.name = name
        self.origin = origin
        self.place = place
        self.work = work
        self.finish = finish
        self.late = late
        self.collects = collects
        self.phase = Phase.WAITING
        self.cancelled: CancelReason | None = None
        self.started_at = 0.0
        self.side_effects = False
        self.handle: Any = None
        self.canceller: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def begin(self, now: float) -> bool:
        """WAITING -> RUNNING; False when it was cancelled before."""
        self.started_at = now
        return self._move(Phase.RUNNING, Phase.WAITING)

    def end(self) -> bool:
        """RUNNING -> ENDED; False when it was abandoned before."""
        return self._move(Phase.ENDED, Phase.RUNNING)

    def drop(self) -> bool:
        """WAITING -> DROPPED: it has never run and never will."""
        return self._move(Phase.DROPPED, Phase.WAITING)

    def abandon(self) -> bool:
        """RUNNING -> ABANDONED: nobody waits for it any more, though it still runs."""
        return self._move(Phase.ABANDONED, Phase.RUNNING)

    def cancel(self, reason: CancelReason) -> None:
        """Stop it as far as its place can."""
        self.place.cancel(self, reason)

    def start_side_effects(self) -> None:
        """Remember that the call must not be repeated.

        Raises:
            RequestCancelledError: it has been given up already, so the effects must not start.
        """
        with self._lock:
            if self.cancelled is not None or self.phase is not Phase.RUNNING:
                raise RequestCancelledError(f"{self.name} has been given up: {self.cancelled}")
            self.side_effects = True

    def _move(self, to: Phase, *origins: Phase) -> bool:
        with self._lock:
            if self.phase not in origins:
                return False
            self.phase = to
            return True


class Place(Protocol):
    """Where an agent lives: all that a member actor needs of it."""

    def run(self, call: Call) -> None:
        """Run the call; `call.finish` is told once, from wherever it ends."""

    def cancel(self, call: Call, reason: CancelReason) -> None:
        """Stop the call as far as the place can; it is still reported once."""

    def ping(self, answer: Callable[[], None]) -> None:
        """Have `answer` called from inside the place, to show that it is alive."""

    def close(self) -> None:
        """Cancel what runs and let go of the threads, without waiting for any."""

    def join(self, timeout_s: float) -> None:
        """After `close`: wait for the threads that have nothing left to do."""
