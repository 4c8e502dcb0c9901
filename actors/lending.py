"""A mailbox that is lent out: who brings a message handles it, while the owner has nothing to do.

A wake-up of another thread is the dearest part of a message. An owner whose handlers neither wait
nor run an agent's code loses nothing when a message is handled in the sender's thread, provided
that it is still one at a time and in order; `actors.inline` does so with every message. This is for
an owner that has a thread of its own all the same: for its timers, and for whatever else it is
told. Never is a message handled in a thread of the app, where a signal may break in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from greenroom.actors.base import JoinableRef, PoolActor
from greenroom.actors.clock import Clock
from greenroom.actors.duties import Role, turn
from greenroom.actors.eventbus import complain
from greenroom.actors.mailbox import Letter, Mailbox, Tick

_ONE = (None,)


class LendingMailbox(Mailbox):
    """A mailbox, with `hand` and `serve` for senders that may handle messages themselves.

    Attributes:
        turn: held by whoever handles a message; the owner takes it for each of its own, and for
            its end. Never by a thread of the app: see `InlineMailbox` for what could raise there.
        handle: what a sender does with a message; None while nothing is lent. It must not raise.
    """

    __slots__ = ("_awaited", "_behind", "_borrower", "_reading", "_unread", "handle", "turn")

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Lock()
        self.handle: Callable[[Any], object] | None = None
        self._unread: deque[None] = deque()  # one for each letter, until it has been handled
        self._reading = False
        self._awaited: float | None = None
        self._borrower: int | None = None  # the thread that handles what was handed over
        self._behind: deque[Any] = deque()  # what it has been told by that

    # A thread of the app puts letters, too, and there a signal handler may raise behind any call.
    # Neither an addition in place nor the entry of a `with` is one: what is counted is there.

    def put(self, envelope: Any, /) -> None:
        self._unread += _ONE
        self._queue.put(envelope)

    def leave(self, letter: Letter) -> bool:
        with self._lock:
            self._unread += _ONE
            self._aside += (letter,)
            return self._wanted

    def get(self) -> Any:
        if self._reading and self._unread:
            self._unread.popleft()
        self._reading, self._awaited = False, None
        letter = super().get()
        self._reading = type(letter.message) is not Tick
        return letter

    def hand(self, message: Any) -> None:
        """Have a message handled behind all that the sender has put before: here and now if the
        owner has nothing to do, else by the owner.
        """
        if self._unread or self.handle is None:
            self.put(Letter(message))
        elif self._borrower == threading.get_ident():
            self._behind.append(message)
        elif not self._handled_here(message):
            self.put(Letter(message))

    def serve(self) -> None:
        """Handle what lies aside, for an owner that sleeps in a hurry; where that cannot be, or
        there is more to be read than that, wake it.
        """
        if not self._in_its_turn(self._all_lies_aside, self._borrow_what_lies_aside):
            self.wake()

    def _all_lies_aside(self) -> bool:
        return len(self._unread) == len(self._aside)

    def _borrow_what_lies_aside(self) -> None:
        while self._aside:
            try:
                letter = self._aside.popleft()
            except IndexError:  # the owner was quicker
                return
            try:
                self._borrow(letter.message)
            finally:
                self._unread.popleft()

    def _handled_here(self, message: Any) -> bool:
        return self._in_its_turn(lambda: not self._unread, lambda: self._borrow(message))

    def _in_its_turn(self, comes_next: Callable[[], bool], act: Callable[[], None]) -> bool:
        """Act in the owner's place, if it has nothing to do; whether that was so.

        Args:
            comes_next: whether nothing else is to be read before what `act` handles.
        """
        if self.handle is None or not comes_next() or not self.turn.acquire(blocking=False):
            return False
        try:
            if not comes_next() or self._ended or self._tick_is_due():
                return False
            alarm = self.alarm
            act()
            sooner = self.alarm != alarm
        finally:
            self.turn.release()
        if sooner or (self._may_not_sleep() and self._wanted):
            self.wake()  # the owner sleeps as things were before
        return True

    def _borrow(self, message: Any) -> None:
        assert self.handle is not None
        try:
            self._borrower = threading.get_ident()
            self.handle(message)
            while self._behind:
                self.handle(self._behind.popleft())
        finally:
            self._borrower = None

    def _tick_is_due(self) -> bool:
        """Whether a timer comes first, be it that the owner has not got to it yet."""
        now, alarm, awaited = self._clock.now(), self.alarm, self._awaited
        return (alarm is not None and alarm <= now) or (awaited is not None and awaited <= now)

    def _get_until(self, alarm: float) -> Any:
        self._awaited = alarm
        return super()._get_until(alarm)


turn(
    LendingMailbox._borrow,
    Role.ROUTERS_TURN,
    lambda mailbox: str(mailbox.handle.__self__.duty.pool),
)


class LendingRef(JoinableRef):
    """The ref of an actor that has messages handled by those who `hand` them over."""

    actor_inbox: LendingMailbox


class LendingActor(PoolActor):
    """An actor that has some of its messages handled by those who `hand` them over."""

    @staticmethod
    def _create_actor_inbox() -> Any:
        return LendingMailbox()

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.ref: LendingRef = LendingRef(self)
        self._actor_ref = self.ref
        self._turn = cast(LendingMailbox, self.mailbox).turn

    def on_start(self) -> None:
        cast(LendingMailbox, self.mailbox).handle = self.on_handed

    def _handle_receive(self, message: Any) -> Any:
        with self._turn:
            return super()._handle_receive(message)

    def on_handed(self, message: Any) -> None:
        """Handle a message in its sender's thread. It is a tell: there is nobody to reply to."""
        try:
            self.handlers[type(message)](message)
        except BaseException as error:  # nobody who reports something may be hit by it
            if not self._made_good(message, error):
                complain(f"{self} failed to handle a {type(message).__name__}", error)


def hand(ref: LendingRef, message: object) -> None:
    """Have a message handled by a `LendingActor`, if it has not ended."""
    if not ref.actor_stopped.is_set():
        ref.actor_inbox.hand(message)
