"""What a pool does beside answering: its log's complaints, and what dies quietly."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from chaos.entry import TURNS
from chaos.ledger import Ledger
from greenroom import Event, PoolFuture
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.job import Attempt, AttemptRole, Job
from greenroom.actors.routing.routing_table import Slot
from greenroom.actors.runtime import event_bus
from greenroom.messages.errors import summary
from greenroom.messages.events import RequestCompleted, RequestExhausted, RequestRejected

_INJECTED = (
    "a subscriber raised on",
    "a future's done callback raised",
    "closing the agent of",
    "closing an agent of",
    "closing a stream failed",
    "does not end and is left behind",
)
"""What complaints say of what the plan itself has put in (a clock jump cuts a removal short)."""
_NOT_CLOSED = "an error occurred during closing of asynchronous generator"
_ABANDONED = "greenroom-chaos-closers-long"
"""The tasks whose clean-up never ends: asyncio says so when their loop has gone."""
_OVER = (RequestCompleted, RequestExhausted, RequestRejected)


class Watch:
    """Listens while pools run.

    Attributes:
        seen: how often each event and each expected complaint came.
        faults: what should never have happened, in words.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def on(self, ledger: Callable[[], Ledger | None]) -> Iterator[None]:
        """Watch everything that happens in the process meanwhile."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_every_answer(ledger))
            stack.enter_context(_every_trial(ledger))
            stack.enter_context(_every_permission(ledger))
            stack.enter_context(self._every_complaint())
            stack.enter_context(self._what_dies_quietly())
            yield

    @contextlib.contextmanager
    def events(self, ledger: Ledger) -> Iterator[None]:
        """Count the events of the requests in the ledger, and all others by name."""

        def note(event: Event) -> None:
            entry = ledger.entries.get(event.request_id or "")
            with self._lock:
                self.seen[f"event: {event.name}"] += 1
                if entry is not None and isinstance(event, _OVER):
                    entry.ends = (entry.ends or 0) + 1

        end = event_bus.observe(note)
        try:
            yield
        finally:
            end()

    def fault(self, what: str) -> None:
        """Something that should never have happened has."""
        with self._lock:
            self.faults.append(what)

    def _complaint(self, what: str, error: BaseException) -> None:
        with self._lock:
            known = next((each for each in _INJECTED if each in what), None)
            self.seen[f"complaint: {known or 'not foreseen'}"] += 1
        if known is None:
            self.fault(f"the pool complains: {what}: {event_bus.traced(error)}")

    @contextlib.contextmanager
    def _every_complaint(self) -> Iterator[None]:
        """The modules of the pool know `complain` by its name: it is replaced in each of them."""
        original = event_bus.complain
        modules = [
            module
            for name, module in list(sys.modules.items())
            if name.startswith("greenroom.") and vars(module).get("complain") is original
        ]
        with contextlib.ExitStack() as stack:
            for module in modules:
                stack.enter_context(_replaced(module, "complain", self._complaint))
            yield

    @contextlib.contextmanager
    def _what_dies_quietly(self) -> Iterator[None]:
        """Threads that die of an exception, exceptions in finalizers, warnings (of coroutines that
        nobody has awaited, for one), asyncio's own complaints.
        """

        def thread_died(args: threading.ExceptHookArgs) -> None:
            self.fault(f"thread {args.thread} died: {summary(args.exc_value)}")

        def unraisable(args: Any) -> None:
            self.fault(f"{args.err_msg or 'ignored'} in {args.object!r}: {summary(args.exc_value)}")

        def warned(message: Warning | str, *_: Any) -> None:
            self.fault(f"a warning: {message}")

        handler = _Handler(self.fault)
        logging.getLogger("asyncio").addHandler(handler)
        try:
            with (
                _replaced(threading, "excepthook", thread_died),
                _replaced(sys, "unraisablehook", unraisable),
                _replaced(warnings, "showwarning", warned),
            ):
                yield
        finally:
            logging.getLogger("asyncio").removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, fault: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._fault = fault

    def emit(self, record: logging.LogRecord) -> None:
        if _NOT_CLOSED in record.msg:  # a stream that goes on when it is closed, at its loop's end
            return
        if _ABANDONED in record.getMessage():
            return
        self._fault(f"asyncio complains: {record.getMessage()}")


@contextlib.contextmanager
def _every_answer(ledger: Callable[[], Ledger | None]) -> Iterator[None]:
    """Every attempt to answer a future goes into the ledger, also one that comes second."""
    original: Callable[..., bool] = PoolFuture.resolve

    def resolve(
        self: PoolFuture[Any], value: Any = None, error: BaseException | None = None
    ) -> bool:
        won = original(self, value, error)
        book = ledger()
        if book is not None:
            book.answered(self, won)
        return won

    with _replaced(PoolFuture, "resolve", resolve):
        yield


@contextlib.contextmanager
def _every_trial(ledger: Callable[[], Ledger | None]) -> Iterator[None]:
    """Every trial that runs beside a request goes into the ledger, those in pools inside, too."""
    original: Callable[..., None] = Attempts.begin

    def begin(
        self: Attempts, attempt: Attempt, job: Job, slot: Slot, now: float, role: AttemptRole
    ) -> None:
        book = ledger()
        if book is not None and role is AttemptRole.BESIDE:
            book.tried_beside(job.id)
        original(self, attempt, job, slot, now, role)

    with _replaced(Attempts, "begin", begin):
        yield


@contextlib.contextmanager
def _every_permission(ledger: Callable[[], Ledger | None]) -> Iterator[None]:
    """When the pool lets an attempt begin goes into the ledger. Its agent may begin later than
    that: its thread may be held up in between.
    """
    original: Callable[..., bool] = AttemptCall.begin

    def begin(self: AttemptCall, now: float) -> bool:
        turn = next(TURNS)  # not after the decision: what is found to be wrong has been
        begins, book = original(self, now), ledger()
        if begins and book is not None:
            book.permitted(self.message.request_id, self._owner.member_name, turn)
        return begins

    with _replaced(AttemptCall, "begin", begin):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
