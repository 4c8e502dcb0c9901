"""What every actor of a pool has in common, and all that is Pykka's own business.

Pykka has no public hooks for an actor's inbox, its future and its loop: what is private there is
used here and nowhere else.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import pykka
from pykka import ActorRegistry, Future
from pykka.messages import _ActorStop

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.alarms import AGAIN_S, Alarms
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.future import PENDING, PoolFuture
from greenroom.actors.runtime.mailbox import Envelope, Mailbox, Tick
from greenroom.actors.runtime.thread_duties import HERE, Duty
from greenroom.messages.errors import LACKS, not_begun
from greenroom.messages.supervision import Recipient

Handler = Callable[[Any], Any]
P = ParamSpec("P")
A = TypeVar("A", bound="PoolActor")

Stop = _ActorStop
"""The message that ends an actor."""


class JoinableRef(pykka.ActorRef["PoolActor"]):
    """A ref that can wait for the very end of its actor's thread."""

    actor_inbox: Mailbox

    def __init__(self, actor: PoolActor) -> None:
        super().__init__(actor)
        self._threads = actor.threads

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the thread has ended, unless this is the thread."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout_s)


class PoolActor(pykka.ThreadingActor):
    """An actor with a `Mailbox`, timers, and a table of handlers.

    It has a daemon thread, whose work others may do while it sleeps (`lend`); or none at all, and
    runs in the threads of those who talk to it.

    A handler that raises while it handles a tell would kill the actor, and a `BaseException` would
    stop every actor of the process: neither gets as far as that.
    """

    use_daemon_thread = True
    has_thread: ClassVar[bool] = True
    duty: Duty | None = None
    """What its thread is for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.ref: JoinableRef = JoinableRef(self)
        self.known_by(self.ref)
        self.clock = clock
        self.mailbox = cast(Mailbox, self.actor_inbox)
        if self.has_thread:  # else nobody waits for an alarm
            self.mailbox.follow(clock)
        self.alarms = Alarms(self.mailbox)
        self.handlers: dict[type, Handler] = {Tick: self._on_tick}

    def known_by(self, ref: JoinableRef) -> None:
        """Have that be its ref, from its constructor on."""
        self._actor_ref = ref

    @classmethod
    def start(cls: Callable[P, A], *args: P.args, **settings: P.kwargs) -> pykka.ActorRef[A]:
        """Pykka's, by way of `started`."""
        return started(lambda: cls(*args, **settings)).actor_ref

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> Future[Any]:
        return PoolFuture()

    def _start_actor_loop(self) -> None:
        """Pykka's, but the thread is kept at hand, so that a stop can wait for its very end."""
        if not self.has_thread:
            self._actor_loop_setup()
            self.mailbox.handlers = self.handlers
            self.mailbox.give_away(self._handle_envelope, self._envelope_failed)
            return
        thread = threading.Thread(
            target=self._actor_loop, name=f"greenroom-{type(self).__name__}", daemon=True
        )
        self.threads.append(thread)
        try:
            thread.start()
        except LACKS as error:  # the system gives no more threads
            raise not_begun(f"the thread of {type(self).__name__}", error) from error

    def lend(self, may: Callable[[], bool] = lambda: True) -> None:
        """Called at its start: who hands it a message may handle that while the thread sleeps.

        Args:
            may: asked before each: whether it is lent right now.
        """
        self.mailbox.handlers = self.handlers
        self.mailbox.lend(self._handle_envelope, self._envelope_failed, may)

    def never_started(self) -> None:
        """It has no thread, or nobody has heard of its start: leave nothing behind, and have a
        thread that has begun after all end by itself.
        """
        ActorRegistry.unregister(self.actor_ref)
        # First: a thread that begins after all looks at it, and handles nothing.
        self.actor_stopped.set()
        self.mailbox.put(Envelope(Stop()))
        self._unfollow()

    # -- handling

    def _actor_loop(self) -> None:
        HERE.duty = self.duty
        try:
            super()._actor_loop()
        finally:
            self.on_thread_end()

    def on_thread_end(self) -> None:
        """The last that its thread does, whatever has ended it."""

    def _actor_loop_running(self) -> None:
        """Pykka's, but what raises between two messages ends nothing, nor what raises at the entry
        of what handles one: no guard of its own can catch that.
        """
        while not self.actor_stopped.is_set():
            envelope: Any = None
            try:
                envelope = self.mailbox.get()
                answer = self._handle_receive(envelope.message)
                if envelope.reply_to is not None and answer is not PENDING:
                    envelope.reply_to.set(answer)
            except BaseException as error:
                self._hit(envelope, error)

    def _hit(self, envelope: Any, error: BaseException) -> None:
        """Something has raised at an envelope, or before there was one."""
        if envelope is None:
            complain(f"{self} goes on", error)
            self.actor_stopped.wait(AGAIN_S)  # it may raise again, and again
        elif envelope.reply_to is not None:
            told = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
            with contextlib.suppress(queue.Full):  # it has its answer
                envelope.reply_to.set_exception((type(told), told, error.__traceback__))
        elif type(envelope.message) in self.handlers:
            complain(f"{self} handles a {type(envelope.message).__name__} again", error)
            with contextlib.suppress(BaseException):  # it guards what it does, so nothing was done
                self._handle_receive(envelope.message)
        else:  # a word of Pykka's own that cannot be handled ends an actor
            self._handle_failure(type(error), error, error.__traceback__)
            try:
                self.on_failure(type(error), error, error.__traceback__)
            except BaseException as again:
                complain(f"the end of {self} failed", again)

    def _handle_envelope(self, envelope: Any) -> None:
        """The same for one envelope, in another thread, that the mailbox has no handler for."""
        # Only an actor without a thread comes here after its end: with a thread, its own keeps the
        # turn then, and Pykka's loop answers what is left.
        if not self.has_thread and self.actor_stopped.is_set():
            self._return_envelope(envelope)
            return
        try:
            answer = self._handle_receive(envelope.message)
            if envelope.reply_to is not None and answer is not PENDING:
                envelope.reply_to.set(answer)
        except BaseException as error:
            self._hit(envelope, error)

    def _handle_receive(self, message: Any) -> Any:
        """Pykka's, but what there is a handler for is not first compared with Pykka's own."""
        handler = self.handlers.get(type(message))
        if handler is None:
            return super()._handle_receive(message)
        try:
            return handler(message)
        except BaseException as error:
            return self._raised(message, error)

    def _raised(self, message: Any, error: BaseException) -> Any:
        """A handler has raised: what whoever asks is told, if not by now; or it raises that."""
        if self._made_good(message, error):
            return PENDING
        self._complain(message, error)
        return None

    def _made_good(self, message: Any, error: BaseException) -> bool:
        try:
            self.alarms.rearm()  # a tick may have been spent in vain
            return self.on_fault(message, error)
        except BaseException as again:
            complain(f"{self} failed to make good for a {type(message).__name__}", again)
            return False

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """A handler has raised; whether all has been done that can be, whoever asks included."""
        return False

    def on_receive(self, message: Any) -> Any:
        try:
            return self.on_unknown(message)
        except BaseException as error:
            self._complain(message, error)

    def _complain(self, message: Any, error: BaseException) -> None:
        """A handler has raised: whoever asks is told, by Pykka; else it is logged."""
        asked = self.mailbox.reply_to is not None
        if asked and isinstance(error, Exception):
            raise error
        complain(f"{self} failed to handle a {type(message).__name__}", error)
        if asked:
            raise RuntimeError(
                f"{type(error).__name__} while handling a {type(message).__name__}"
            ) from error

    def on_unknown(self, message: Any) -> Any:
        """Refuse what the actor has no handler for: the asker hears of it, a tell is logged."""
        raise TypeError(
            f"{type(self).__name__} takes the messages of greenroom.messages, "
            f"got a {type(message).__name__}"
        )

    def _on_tick(self, _: Tick) -> None:
        self.alarms.run_due(self.clock.now())

    def _envelope_failed(self, envelope: Any, error: BaseException) -> None:
        """Nobody who puts an envelope may be hit by it, nor wait for an answer to it in vain."""
        if type(envelope.message) in self.handlers:
            try:
                answer = self._raised(envelope.message, error)
                if envelope.reply_to is not None and answer is not PENDING:
                    envelope.reply_to.set(answer)
            except BaseException as again:
                self._hit(envelope, again)
            return
        complain(f"a {type(envelope.message).__name__} could not be handled", error)
        self.on_undelivered(envelope.message)
        if envelope.reply_to is not None:
            envelope.reply_to.resolve(error=error)

    # -- the end

    def _return_envelope(self, envelope: Any) -> None:
        """Answer what was put after the end, as Pykka does; what nobody asked for is let go."""
        self.on_undelivered(envelope.message)
        if envelope.reply_to is None:
            return
        if type(envelope.message) is Stop:
            envelope.reply_to.set(None)
        else:
            dead = pykka.ActorDeadError(f"{self.actor_ref} stopped before handling the message")
            envelope.reply_to.set_exception((pykka.ActorDeadError, dead, None))

    def on_undelivered(self, message: Any) -> None:
        """A message came after the end, to an actor without a thread."""

    def on_stop(self) -> None:
        self._unfollow()

    def on_failure(self, *_: Any) -> None:
        self._unfollow()

    def _unfollow(self) -> None:
        if self.has_thread:
            self.mailbox.unfollow()
        else:  # what comes from here on is returned
            self.mailbox.handlers = {}


def _forget_actors() -> None:
    """Run in a child: no actor of greenroom's lives here, and `ActorRegistry.stop_all` must not
    wait for one. A thread that is not here may have held the registry's lock.
    """
    ActorRegistry._actor_refs_lock = threading.RLock()
    refs = ActorRegistry._actor_refs
    refs[:] = [ref for ref in refs if not isinstance(ref, JoinableRef)]


forks.in_child(_forget_actors)


def started(make: Callable[[], A]) -> A:
    """Start an actor. One that breaks off leaves nothing behind: the machine may refuse a thread, a
    signal handler may raise.
    """
    actor: A | None = None
    try:
        actor = make()
        # Before the loop begins: an actor that ends at once takes itself out of there again.
        ActorRegistry.register(actor.actor_ref)
        actor._start_actor_loop()
        return actor
    except BaseException:
        if actor is not None:
            actor.never_started()
        raise


def tell(ref: Recipient, message: object) -> bool:
    """Tell, and say whether there was anybody to be told."""
    if ref.actor_stopped.is_set():
        return False
    # Should it end right here: one with a thread lets the message go, one without is asked by
    # `on_undelivered` what becomes of it.
    ref.actor_inbox.put(Envelope(message))
    return True


def hand(ref: JoinableRef, message: object) -> None:
    """Have a message handled by an actor that lends its mailbox, if it has not ended."""
    if not ref.actor_stopped.is_set():
        ref.actor_inbox.hand(message)
