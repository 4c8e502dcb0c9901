"""An actor's mailbox: what is to be handled, whose turn it is to do so, and what wakes its owner.

A wake-up of another thread is the dearest part of a message. An actor whose handlers neither wait
nor run an agent's code loses nothing when a message is handled in the thread that brings it,
provided that it is still one at a time and in order. So a mailbox can be lent while its owner has
nothing to do (`lend`), and one whose actor has no thread at all is given away (`give_away`).
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, NamedTuple

from greenroom.actors.runtime.clock import SYSTEM_CLOCK, Clock
from greenroom.actors.runtime.deferral import DEFERRAL
from greenroom.actors.runtime.thread_duties import HERE, Duty, ThreadRole, turn

LONGEST_WAIT_S = 3600.0

_ROOM = 150
"""So many frames more than one turn takes, and what makes good for what raises in it."""

_ASKERS = Duty("", ThreadRole.ASKER)
"""Of a thread of the app's that handles an envelope: which turn it is, its frames tell."""

_AWAKE, _ASLEEP, _HURRIED = range(3)
"""What the owner does: it sees by itself what is put; it is to be woken for that; it is to be woken
for what is put aside as well."""


Handle = Callable[[Any], object]
Take = Callable[[Any, Any, float], object]
Returned = Callable[[Any, BaseException], object]


class Tick:
    """The message that a mailbox delivers when its alarm goes off."""

    __slots__ = ()


class _Letter(NamedTuple):
    message: Any
    reply_to: Any = None


class Envelope(_Letter):
    """As much of Pykka's envelope as its actor loop reads, and quicker to make: see `enveloped`.

    Two are the same only if they are one: a message may hold anything of the app's, whose
    comparison is the app's code.
    """

    __slots__ = ()

    __eq__ = object.__eq__
    __hash__ = object.__hash__


enveloped: Callable[[tuple[Any, Any]], Envelope] = functools.partial(tuple.__new__, Envelope)
"""An envelope of a message and who asks, made without a call of Python's."""


def _never() -> bool:
    return False


def _let_go(envelope: Any, error: BaseException) -> None:
    raise error


class Mailbox:
    """A queue that any thread may put into, handled by one at a time: by whoever has the turn.

    The turn is the owner's, the one thread that calls `get`, from the beginning. It keeps it from
    one envelope to the next, and gives it up only while it sleeps. Then another thread may take it;
    all of them try for it, and only the owner ever waits for it.

    An alarm that is due is delivered before what has been put, so that a flood of messages cannot
    hold back a deadline.

    A message that decides nothing, such as the report of a request that has been answered, may be
    put aside with `leave`: it does not wake the owner, and is delivered before whatever comes next.
    So the asker does not share its core with the books.

    Attributes:
        alarm: when to deliver the next `Tick`, on the clock; set by who has the turn.
        reply_to: the future of the message being handled, None for a tell.
        hurried: asked before the owner goes to sleep: whether what is put aside shall wake it.
        handle: handles an envelope in another thread than the owner's; None before any may.
        handlers: by type, what handles a message that nobody asks for an answer to, there.
        takers: by type, what takes a message in that somebody asks for an answer to, there: given
            the message, whom to answer, and the time as it was when the turn began.
    """

    # Nothing here takes a lock to see who is awake: who sleeps says so first and looks for
    # envelopes then, who puts one puts it first and looks whether somebody sleeps then. One sees
    # the other.

    __slots__ = (
        "_aside",
        "_behind",
        "_bell",
        "_borrower",
        "_clock",
        "_ended",
        "_envelopes",
        "_may",
        "_owner",
        "_returned",
        "_ring",
        "_turn",
        "alarm",
        "handle",
        "handlers",
        "hurried",
        "reply_to",
        "takers",
    )

    def __init__(self) -> None:
        # Any thread appends to the right of these two, and who has the turn takes from the left:
        # single operations of a deque, so neither side takes a lock for it.
        self._envelopes: deque[Any] = deque()
        self._aside: deque[Any] = deque()
        # Taken here for the owner's thread, which has not begun yet: a lock may be given back by
        # another thread than took it. Nothing is handled before the owner's first sleep.
        self._turn = threading.Lock()
        self._turn.acquire()
        self._owner = _AWAKE  # changed by who has the turn
        # Its `put` may come in the middle of another `put` of the same thread, as an Event's `set`
        # may not: a finalizer rings (a stream that is let go of), and so may a signal handler.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ring: Callable[[None], object] = self._bell.put
        self._borrower: int | None = None  # the thread that handles what was handed over
        self._behind: deque[Envelope] = deque()  # that, and what it has been handed by its handling
        self._clock: Clock = SYSTEM_CLOCK
        self._ended = False
        self.alarm: float | None = None
        self.reply_to: Any = None
        self.hurried: Callable[[], bool] = _never
        self.handle: Handle | None = None
        self.handlers: Mapping[type, Handle] = {}
        self.takers: Mapping[type, Take] = {}
        # Until `lend` is called nobody else tries for the turn: this is asked first.
        self._may: Callable[[], bool] = _never
        self._returned: Returned = _let_go

    def follow(self, clock: Clock) -> None:
        """Read the time from `clock` from now on."""
        self._clock = clock
        clock.register(self.wake)

    def unfollow(self) -> None:
        """The owner ends: let the clock forget this mailbox, and deliver no alarm any more.

        From here on `get` does not wait, and gives nobody the turn: Pykka reads a mailbox until it
        is empty.
        """
        # The owner has the turn here, and keeps it for good: all others put from now on.
        self._clock.unregister(self.wake)
        self._ended = True

    # -- any thread

    def put(self, envelope: Any, /) -> None:
        """Have it handled, by the owner if there is one."""
        # A thread of the app puts envelopes, too, where a signal handler may raise behind any call.
        # An addition in place is none: no envelope is put without the look at who is to be woken.
        self._envelopes += (envelope,)
        if self._owner:
            self._ring(None)

    def take_back(self, envelope: Any) -> None:
        """Something has raised while it was put: nobody handles it, unless somebody does by now."""
        while True:
            try:
                # The router takes it for not sent: it must not begin some day, beside the next.
                self._envelopes.remove(envelope)
            except ValueError:
                return
            except IndexError:  # others have put envelopes, or taken some
                continue

    def leave(self, message: Any) -> bool:
        """Put a message aside that need not wake the owner; whether it sleeps in a hurry, and is to
        be woken all the same.
        """
        self._aside += (message,)
        return self._owner == _HURRIED

    def wake(self) -> None:
        """Have the owner look again: the clock has moved."""
        self._ring(None)

    def empty(self) -> bool:
        return not self._envelopes

    # -- the owner

    def get(self) -> Any:
        """The next envelope, with the turn to handle it; the turn with the one before is over."""
        # What lies aside is let go: it is about requests that have been answered.
        if self._ended:
            return self._envelopes.popleft()
        self.reply_to = None
        while True:
            # First: a slot is to be free before what its asker has sent next is read.
            if self._aside:
                envelope = Envelope(self._aside.popleft())
            elif self._envelopes and (self.alarm is None or self._clock.now() < self.alarm):
                envelope = self._envelopes.popleft()
            elif (tick := self._tick()) is not None:
                envelope = tick
            else:
                continue
            self.reply_to = envelope.reply_to
            return envelope

    def _tick(self) -> Envelope | None:
        """A tick, if the alarm is due; None after a sleep that something has ended."""
        wait_s = None
        if self.alarm is not None:
            # The alarm cannot change between here and the sleep: only who has the turn sets it. Who
            # takes the turn during the sleep, and sets it, wakes the owner (`handles`).
            wait_s = self._clock.wait_s(self.alarm)
            if wait_s is None:  # a clock that is moved by hand wakes this mailbox itself
                wait_s = LONGEST_WAIT_S if self._clock.now() < self.alarm else 0.0
            if wait_s <= 0.0:
                tick = Envelope(Tick())
                self.alarm = None  # last: what raises above must not cost an alarm
                return tick
            wait_s = min(wait_s, LONGEST_WAIT_S)
        if self._falls_asleep():
            self._sleep(wait_s)
        return None

    def _falls_asleep(self) -> bool:
        """Whether there is nothing to be had; whoever puts something from here on wakes the owner.

        It does so even while the owner waits for the turn: a wake-up too many is one look more.
        """
        self._owner = _HURRIED if self.hurried() else _ASLEEP
        if self._envelopes or self._aside:
            self._owner = _AWAKE
            return False
        return True

    def _sleep(self, wait_s: float | None) -> None:
        self._turn.release()
        try:
            self._bell.get(timeout=wait_s)
        except queue.Empty:
            pass
        finally:
            self._turn.acquire()
            self._owner = _AWAKE
        # All that these tell of was put before they rang, and is looked for from here on. Left
        # there, each would end a later sleep for nothing.
        while not self._bell.empty():  # nobody else takes anything out
            self._bell.get()

    # -- in the owner's place: in any thread; in the main one with the signals of the app put off

    def lend(
        self, handle: Handle, returned: Returned, may: Callable[[], bool] = lambda: True
    ) -> None:
        """Let other threads handle envelopes while the owner sleeps. Called in its turn.

        Args:
            handle: given what there are neither `handlers` nor `takers` for.
            returned: told of an envelope at which one of these has raised, and what.
            may: asked before each, in whatever thread: whether it is lent right now.
        """
        self._may, self.handle, self._returned = may, handle, returned

    def give_away(self, handle: Handle, returned: Returned) -> None:
        """There is no owner: whoever puts an envelope handles it, and what is put meanwhile; the
        rest pass by.
        """
        self.lend(handle, returned)
        self._ring = self._take_turns
        self._owner = _ASLEEP
        self._turn.release()

    def _take_turns(self, _: None) -> bool:
        # Somebody's turn it is already, as a rule: then all is put off.
        interruptible = not DEFERRAL.on and get_ident() == DEFERRAL.thread
        if interruptible and DEFERRAL.run(self._take_turns, None):
            return True
        envelopes, handle = self._envelopes, self.handle
        assert handle is not None
        # An envelope that comes between the last look and the release is seen by the look after the
        # release: none is left behind.
        # Nobody waits for the turn: who has it may be further down this very stack (a member that
        # tells itself something), and would never give it back.
        while envelopes and self._turn.acquire(False):
            try:
                while envelopes:
                    envelope = envelopes.popleft()
                    self.reply_to = envelope.reply_to
                    try:
                        # Looked up each time: there are none left once the actor has ended.
                        handler = self.handlers.get(type(envelope.message))
                        if handler is None or envelope.reply_to is not None:
                            handle(envelope)
                        else:
                            handler(envelope.message)
                    except BaseException as error:  # whose it is, is somebody else's guess
                        self._returned(envelope, error)
            finally:
                self._turn.release()
        return True

    def hand(self, message: Any) -> None:
        """Have a message handled behind all that the sender has put before: here and now if the
        owner has nothing to do, else by the owner.
        """
        self.bring(Envelope(message))

    def bring(self, envelope: Envelope) -> None:
        """The same for an envelope."""
        if not self.handles(envelope):
            self.put(envelope)

    def serve(self) -> None:
        """Handle what lies aside, for an owner that sleeps in a hurry; where that cannot be, or
        there is more to be read than that, wake it.
        """
        if not self.handles(None):
            self.wake()

    def is_borrowed(self) -> bool:
        """In the turn with an envelope: whether another thread than the owner's handles it."""
        return self._borrower is not None

    def handles(self, envelope: Envelope | None) -> bool:
        """Handle what lies aside, and then that envelope, if the owner sleeps and nothing comes
        before it; whether that was so, or will be at once.
        """
        # The first look is but for speed: it proves nothing without the turn, and comes again.
        if self._envelopes:
            return False
        here = get_ident()
        if self._borrower == here:  # within the handling of another one
            if envelope is not None:
                self._behind.append(envelope)
            return True
        if not self._may():
            return False
        if HERE.duty is None:
            # Code of the app's that is about to reach the limit of recursion: a turn would be
            # broken off at any place, and so would all that makes good for that.
            try:  # quicker than to count: it makes no frames, and leaves at the first one
                sys._getframe(sys.getrecursionlimit() - _ROOM)
                return False
            except ValueError:
                pass
        # In the main thread the handler of a signal could raise between any two steps, or wait for
        # what comes only when it has returned.
        if here == DEFERRAL.thread and not DEFERRAL.on:
            # Where others wait it will wait as well, and the owner takes many at a time: that is
            # cheaper than to put off the signals for each.
            if envelope is not None and self._owner == _HURRIED:
                return False
            return DEFERRAL.run(self._handled, envelope)
        return self._handled(envelope)

    def _handled(self, envelope: Envelope | None) -> bool:
        here, stale = HERE, False
        mine = here.duty is None
        if mine:
            # So that what would wait in here is told so: see `thread_duties`. Before the turn is
            # taken, and until it has been given back: a finalizer may run between any two steps.
            here.duty = _ASKERS
        try:
            if not self._turn.acquire(False):
                return False
            try:
                # With the turn: nothing may be overtaken, neither what was put nor a timer. The
                # caller puts or wakes then, and the owner takes them in their order.
                alarm = self.alarm
                now = self._clock.now()
                if self._envelopes or (alarm is not None and alarm <= now):
                    return False
                # All counts as changed until the end is reached: should something raise, the owner
                # looks.
                stale = True
                aside, behind, handlers = self._aside, self._behind, self.handlers
                if envelope is not None:
                    behind.append(envelope)
                # A thread finds its own number there only inside of this, so no lock is taken to
                # look.
                self._borrower = get_ident()
                # What lies aside comes first: a slot is to be free before what its asker has sent
                # next is read.
                while aside or behind:
                    if aside:
                        message, asks = aside.popleft(), None
                    else:
                        message, asks = behind.popleft()
                    self.reply_to = asks
                    try:
                        # By type, without a function between that would see to it: each request
                        # comes by here twice.
                        if asks is None and (handler := handlers.get(type(message))) is not None:
                            handler(message)
                        elif (
                            asks is not None
                            and (take := self.takers.get(type(message))) is not None
                        ):
                            take(message, asks, now)
                        else:
                            assert self.handle is not None
                            self.handle(Envelope(message, asks))
                    except BaseException as error:  # whose it is, is somebody else's guess
                        self._returned(Envelope(message, asks), error)
                self._owner = _HURRIED if self.hurried() else _ASLEEP
                # Looked at after the word above: who left something before that was not told to
                # serve.
                stale = self.alarm != alarm or (self._owner == _HURRIED and bool(aside))
            finally:
                self._borrower = None
                self._turn.release()
                if stale:  # the owner sleeps as things were before
                    self._ring(None)
        finally:
            if mine:
                here.duty = None
        return True


def _pool_of(mailbox: Any) -> str:
    return str(mailbox.handle.__self__.duty.pool)


turn(Mailbox._handled, ThreadRole.ROUTERS_TURN, _pool_of)
turn(Mailbox._take_turns, ThreadRole.MEMBERS_TURN, _pool_of)
