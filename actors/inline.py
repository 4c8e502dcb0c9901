"""An actor without a thread of its own: it handles a message in the thread that brings it.

Messages are still handled one at a time and in order. That is enough for an actor whose handlers
neither wait nor run user code, and it saves the two things that cost most between a request and its
agent: a wake-up of another thread, and the thread.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pykka
from pykka.messages import _ActorStop

from greenroom.actors.base import JoinableRef, PoolActor
from greenroom.actors.clock import Clock
from greenroom.actors.duties import Role, turn
from greenroom.actors.eventbus import complain

LONGEST_JOIN_S = 10.0


def _let_go(letter: Any, error: BaseException) -> None:
    complain(f"a {type(letter.message).__name__} could not be handled", error)


class InlineMailbox:
    """Whoever puts a message handles it, and what is put meanwhile; the rest pass by.

    Attributes:
        handle: handles a letter; None before the owner has started. It should not raise.
        returned: told of a letter that it has raised at, and what.

    The lock is only ever tried, never waited for. Letters that come between the last look and the
    release are seen by the look after the release: none is left behind.

    An error between `acquire` and the `try` would keep the lock. None can come there: messages are
    handled in greenroom's own threads, and signal handlers run in the main one.
    """

    __slots__ = ("_busy", "_letters", "alarm", "handle", "reply_to", "returned")

    def __init__(self) -> None:
        self._letters: deque[Any] = deque()
        self._busy = threading.Lock()
        self.alarm: float | None = None
        self.reply_to: Any = None
        self.handle: Callable[[Any], None] | None = None
        self.returned: Callable[[Any, BaseException], None] = _let_go

    def put(self, envelope: Any, /) -> None:
        letters, busy, handle = self._letters, self._busy, self.handle
        letters.append(envelope)
        while letters and handle is not None and busy.acquire(False):
            try:
                while letters:
                    letter = letters.popleft()
                    self.reply_to = letter.reply_to
                    try:
                        handle(letter)
                    except BaseException as error:  # whose letter it is, is somebody else's guess
                        self.returned(letter, error)
            finally:
                busy.release()

    def get(self) -> Any:
        return self._letters.popleft()

    def empty(self) -> bool:
        return not self._letters

    def follow(self, clock: Clock) -> None:
        """It has no alarm to follow a clock for."""

    def unfollow(self) -> None:
        """It followed none."""


turn(
    InlineMailbox.put,
    Role.MEMBERS_TURN,
    lambda mailbox: str(mailbox.handle.__self__.around.router.actor_urn),
)


class InlineRef(JoinableRef):
    """The ref of an inline actor.

    Attributes:
        ended: set when the actor has stopped and let go of everything it held.
    """

    def __init__(self, actor: InlineActor) -> None:
        super().__init__(actor)
        self.ended = actor.ended
        self._actor = actor  # there is no thread that would keep it alive

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until what the actor held has come to rest."""
        self._actor.join(LONGEST_JOIN_S if timeout_s is None else timeout_s)


class InlineActor(PoolActor):
    """The base of actors that run in the threads of those who talk to them."""

    def __init__(self, clock: Clock) -> None:
        self.ended = threading.Event()
        super().__init__(clock)
        self._actor_ref = InlineRef(self)

    @staticmethod
    def _create_actor_inbox() -> Any:
        return InlineMailbox()

    def _start_actor_loop(self) -> None:
        self._actor_loop_setup()
        mailbox = cast(InlineMailbox, self.actor_inbox)
        mailbox.returned = self._letter_failed
        mailbox.handle = self._handle_letter

    def _handle_letter(self, letter: Any) -> None:
        """What Pykka's loop does with one envelope; but nothing here stops all actors."""
        reply_to = letter.reply_to
        if self.actor_stopped.is_set():
            self._return_letter(letter)
            return
        try:
            response = self._handle_receive(letter.message)
            if reply_to is not None:
                reply_to.set(response)
        except Exception:
            if reply_to is not None:
                reply_to.set_exception()
            else:
                self._fail()
        except BaseException as error:
            complain(f"{self} was hit by {type(error).__name__}", error)
            self._fail()

    def _letter_failed(self, letter: Any, error: BaseException) -> None:
        """Nobody who puts a letter may be hit by it, nor wait for an answer to it in vain."""
        _let_go(letter, error)
        self.on_undelivered(letter.message)
        if letter.reply_to is not None:
            letter.reply_to.resolve(error=error)

    def _fail(self) -> None:
        exc_info = sys.exc_info()
        self._handle_failure(*exc_info)
        try:
            self.on_failure(*exc_info)
        except Exception as error:
            complain(f"the end of {self} failed", error)

    def _return_letter(self, letter: Any) -> None:
        """Answer what was put after the end, as Pykka does; what nobody asked for is let go."""
        self.on_undelivered(letter.message)
        if letter.reply_to is None:
            return
        if isinstance(letter.message, _ActorStop):
            letter.reply_to.set(None)
        else:
            dead = pykka.ActorDeadError(f"{self.actor_ref} stopped before handling the message")
            letter.reply_to.set_exception((pykka.ActorDeadError, dead, None))

    def on_undelivered(self, message: Any) -> None:
        """A message came after the end."""

    def join(self, timeout_s: float) -> None:
        """Wait until what the actor held has come to rest."""
