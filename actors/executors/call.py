"""One call of an agent, and the port behind which calls run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from enum import Enum
from typing import Any, Protocol

from greenroom.actors.runtime.event_bus import complain
from greenroom.messages.errors import RequestCancelledError, not_begun
from greenroom.messages.status import CancelReason

_UNSET: Any = object()


def go_on_in(context: Context) -> None:
    """Have the running code see what has been set in a copy of its own context, elsewhere."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


def set_since(before: Context | None, after: Context) -> tuple[tuple[ContextVar[Any], Any], ...]:
    """The variables that have another value in a copy of a context than they had there.

    Args:
        before: None for an empty one.
    """
    return tuple(
        (variable, value)
        for variable, value in after.items()
        if before is None or before.get(variable, _UNSET) is not value
    )


class CallPhase(Enum):
    """How far a call has come."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2
    DROPPED = 3
    ABANDONED = 4


class Call:
    """One piece of user code on its way through an executor.

    Whoever moves it out of WAITING or RUNNING reports it, and nobody else: the transitions are
    guarded, so that an end, a cancellation and an abandonment that meet yield one report. The guard
    is the executor's, shared by its calls: nobody holds it for longer than it takes to set a phase.

    Attributes:
        executor: where it runs.
        name: what to call it in a log or a task list.
        work: the user code, given the call; returns a value or an awaitable.
        collects: whether an answer that comes in chunks is to be made one list.
        collected: whether its answer is such a list.
        context: until it begins, what its code is to run in a copy of, and whatever judges how that
            has ended; None: an empty one.
    """

    __slots__ = (
        "cancelled",
        "canceller",
        "collected",
        "collects",
        "context",
        "executor",
        "handle",
        "name",
        "phase",
        "side_effects",
        "started_at",
        "work",
    )

    def __init__(
        self,
        name: str,
        executor: Executor,
        work: Callable[[Any], Any],
        collects: bool = False,
        context: Context | None = None,
    ) -> None:
        self.name = name
        self.executor = executor
        self.work = work
        self.collects = collects
        self.context = context
        self.collected = False
        self.phase = CallPhase.WAITING
        self.cancelled: CancelReason | None = None
        self.started_at = 0.0
        self.side_effects = False
        self.handle: Any = None
        self.canceller: Callable[[], object] | None = None

    def finish(self, value: Any, error: BaseException | None) -> None:
        """Called once, in the thread where it ended."""
        raise NotImplementedError

    def late(self) -> None:
        """Called when it has ended after all, having been abandoned."""

    def begin(self, now: float) -> bool:
        """WAITING -> RUNNING; False when it was cancelled before."""
        # Before it is RUNNING: whoever abandons it from then on reports how long it took.
        self.started_at = now
        # Written out, here and in `end`: each call comes this way, and `_move` is a call more.
        with self.executor.guard:
            begins = self.phase is CallPhase.WAITING
            if begins:
                self.phase = CallPhase.RUNNING
        return begins

    def end(self) -> bool:
        """RUNNING -> ENDED; False when it was abandoned before."""
        with self.executor.guard:
            ends = self.phase is CallPhase.RUNNING
            if ends:
                self.phase = CallPhase.ENDED
        return ends

    def drop(self) -> bool:
        """WAITING -> DROPPED: it has never run and never will."""
        return self._move(CallPhase.WAITING, CallPhase.DROPPED)

    def abandon(self) -> bool:
        """RUNNING -> ABANDONED: nobody waits for it any more, though it still runs."""
        return self._move(CallPhase.RUNNING, CallPhase.ABANDONED)

    def launch(self) -> None:
        """Have its executor run it. Where that cannot be, it ends here and now, and nothing has
        begun: whoever waits for it is told, be it that the machine has no thread left.
        """
        try:
            self.executor.run(self)
        except BaseException as error:
            self.broke(error)

    def left(self, error: BaseException | None) -> bool:
        """Its caller's own code has come to its end, well or by that error: it is told of, once,
        whatever breaks in. False where it had been given up on before.
        """
        try:
            if self.end():
                self.finish(None, error)
                return True
            if self.phase is CallPhase.ABANDONED:
                self.late()
            return False
        except BaseException as raised:  # of a signal handler
            self.broke(raised)
            raise

    def broke(self, error: BaseException) -> None:
        """Called by its executor when something else than the user code has raised on its way: it
        ends by that. Where it had ended already, that has not been reported.
        """
        try:
            # Told apart, since what never began may be given to another member at no risk.
            if self.drop():
                self.finish(None, not_begun(self.name, error))
            elif self.end():
                self.finish(None, error)
            else:
                self.unreported(error)
        except BaseException as again:
            complain("the end of a call failed", again)
            self.unreported(again)

    def unreported(self, error: BaseException) -> None:
        """Telling of its end has raised, which may have been told nevertheless."""
        complain(f"the end of {self.name} failed", error)
        self.finish(None, error)

    def cancel(self, reason: CancelReason) -> None:
        """Stop it as far as its executor can."""
        self.executor.cancel(self, reason)

    def start_side_effects(self) -> None:
        """Remember that the call must not be repeated.

        Raises:
            RequestCancelledError: it has been given up already, so the effects must not start.
        """
        with self.executor.guard:
            if self.cancelled is not None or self.phase is not CallPhase.RUNNING:
                raise RequestCancelledError(f"{self.name} has been given up: {self.cancelled}")
            self.side_effects = True

    def hearing(self) -> Callable[[Any], object] | None:
        """The answer comes in chunks and is about to be collected: what wants to hear of each, and
        raises when nobody wants more; None if nothing does.
        """
        return None

    def _move(self, before: CallPhase, after: CallPhase) -> bool:
        with self.executor.guard:
            if self.phase is not before:
                return False
            self.phase = after
            return True


class PlainCall(Call):
    """A call made of functions.

    Args:
        work: the user code, given the call.
        finish: told `(call, value, error)`.
        late: told the call.
    """

    __slots__ = ("_finish", "_late")

    def __init__(
        self,
        name: str,
        executor: Executor,
        work: Callable[[Call], Any],
        finish: Callable[[Call, Any, BaseException | None], None],
        late: Callable[[Call], None] = lambda _: None,
        context: Context | None = None,
    ) -> None:
        super().__init__(name, executor, work, context=context)
        self._finish = finish
        self._late = late

    def finish(self, value: Any, error: BaseException | None) -> None:
        self._finish(self, value, error)

    def late(self) -> None:
        self._late(self)


class Executor(Protocol):
    """Where an agent lives: all that a member actor needs of it."""

    guard: threading.Lock
    """Held while a call of this executor changes its phase."""

    def run(self, call: Call) -> None:
        """Run the call; `call.finish` is told once, from wherever it ends."""

    def cancel(self, call: Call, reason: CancelReason) -> None:
        """Stop the call as far as the executor can; it is still reported once."""

    def ping(self, answer: Callable[[], object]) -> bool:
        """Have `answer` called from inside the executor, to show that it is alive; False where it
        will not be, or nobody knows when.
        """

    def close(self) -> None:
        """Cancel what runs and let go of the threads, without waiting for any."""

    def join(self, timeout_s: float) -> None:
        """After `close`: wait for the threads that have nothing left to do."""
