"""An event loop on a daemon thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from types import CodeType
from typing import Any, Protocol
from weakref import WeakSet

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.deferral import undisturbed
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.loop_factory import NewLoop
from greenroom.actors.runtime.thread_duties import HERE, Duty, ThreadRole
from greenroom.actors.runtime.waker import Row, in_step_of
from greenroom.messages.errors import not_begun

CLOSE_TIMEOUT_S = 3.0
"""How much longer than the grace a loop's end is waited for."""

LAST_TURN_S = 0.2
"""How long a clean-up that was cancelled for want of time is waited for at a loop's end."""

PATIENCE_S = 5.0
"""How long a loop that is to begin waits for others that do: what makes one may hang."""


class _Queue:
    """Loops begin one after another, whichever pools they are for.

    The thread of each competes with all others of the process for the interpreter, and with
    whoever asks. Where a thousand pools are asked for the first time at once, most of the time went
    to threads that woke up to find it taken, and whoever asked got it once in a thousand times: who
    waits here wants nothing of it meanwhile.
    """

    def __init__(self) -> None:
        self.renew_locks()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run in a child of a fork: nobody begins there yet."""
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the others, within reason."""
        # Kept by name: a fork in the middle of this has the child make a new one.
        lock = self.lock
        mine = lock.acquire(timeout=PATIENCE_S)
        try:
            yield
        finally:
            if mine:
                lock.release()


_BEGINNING = _Queue()

_ENDING: WeakSet[asyncio.Task[Any]] = WeakSet()
"""Tasks that clean up: a second cancellation would cut that short."""

_SPARED: WeakSet[asyncio.Task[Any]] = WeakSet()
"""Those of them that began without a cancellation."""


def cancel_once(task: asyncio.Task[Any]) -> None:
    """On the task's loop: cancel it, unless it has been already or closes what it read from."""
    if task not in _ENDING:
        _ENDING.add(task)
        task.cancel()


def spare_this_task() -> bool:
    """On a loop: what is left to the running task is its clean-up.

    Returns:
        False where no loop runs: the coroutine is thrown away with a loop that has closed, and
        nothing can be awaited any more.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    if task is not None and task not in _ENDING:
        _ENDING.add(task)
        _SPARED.add(task)
    return True


def cancel_spared(task: asyncio.Task[Any]) -> bool:
    """On the task's loop, when it has had its time: cancel a clean-up that hangs, unless it has had
    its cancellation already; whether it has it only now.
    """
    if task not in _SPARED or task.done():
        return False
    _SPARED.discard(task)
    return task.cancel()


class Begin(functools.partial[None]):
    """Something to be begun on a loop; its first argument is told if that raises: `broke(error)`.

    (A partial, since there is one for each async call, and to make a partial runs no code of ours.)
    """

    __slots__ = ()

    def broke(self, error: BaseException) -> None:
        self.args[0].broke(error)


class Actions(Row[Callable[[], object]]):
    """What is to be done on a loop.

    Args:
        apps: errors that are no action's: they leave the loop.
    """

    __slots__ = ("_apps", "_name")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        apps: tuple[type[BaseException], ...] = (),
    ) -> None:
        super().__init__(loop)
        self._name = name
        self._apps = apps

    def _deal(self, things: deque[Callable[[], object]]) -> None:
        # The app's loop runs in its main thread as a rule: what is taken out, or half done, must
        # not be lost by the handler of a signal.
        undisturbed(self._do_first, things)

    def _do_first(self, things: deque[Callable[[], object]]) -> bool:
        action = things.popleft()
        try:
            action()
        except self._apps:
            raise
        except BaseException as error:  # the others were posted by somebody else
            complain(f"{self._name} failed at what it was told to do", error)
            if type(action) is Begin:
                action.broke(error)
        return True

    def take_begins(self) -> Iterator[Begin]:
        """The loop has ended: what was still to begin there. The rest is left to it."""
        with contextlib.suppress(IndexError):  # the loop may take them at the same time
            for _ in range(len(self._things)):
                action = self._things.popleft()
                if type(action) is Begin:
                    yield action
                else:
                    self._things.append(action)


def spare_the_log(task: asyncio.Task[Any]) -> None:
    """Its loop may have been closed under it: that it has not been finished is known."""
    with contextlib.suppress(AttributeError):  # a task of the app's own kind
        task._log_destroy_pending = False  # type: ignore[attr-defined]


class KnowsSilence(Protocol):
    """The part of a heartbeat that a loop's thread needs."""

    @property
    def stalled(self) -> bool:
        """Whether the loop does not answer, and that has been found out."""


class AgentLoop(Protocol):
    """A loop on which agents run: a pool's own, or the app's."""

    name: str
    heartbeat: KnowsSilence | None
    grace_s: float

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """None before its start."""

    @property
    def ident(self) -> int | None:
        """The identifier of the thread that runs it."""

    @property
    def floor(self) -> CodeType | None:
        """The code that runs what runs on it, as far as it is known."""

    @property
    def successor(self) -> LoopThread | None:
        """Where to go on once it has ended; None where that is the end of all."""

    @property
    def lost(self) -> bool:
        """Whether nobody waits for it any more."""

    @property
    def stalled(self) -> bool:
        """Whether it does not answer, as far as is known."""

    @property
    def ended(self) -> bool:
        """Whether it takes nothing more."""

    @property
    def gone(self) -> bool:
        """Whether it has ended though the pool has not."""

    def post(self, action: Callable[[], object]) -> bool:
        """Run `action` on the loop, soon; False when it takes nothing more."""

    def begins_here(self) -> bool:
        """Whether the running code may begin a task there without `post`: nothing of the task's own
        runs before that code has gone on.
        """

    def close(self, *, wait: bool = True) -> None:
        """The pool, or the member whose it is, has ended."""

    def abandon(self) -> None:
        """It does not answer: nobody waits for it any more."""

    def end(self) -> None:
        """It takes nothing more from here on."""

    def can_answer(self) -> bool:
        """Whether anybody runs it: one that nobody runs is not silent."""

    def winds_up(self) -> bool:
        """On the loop, in a task that was cancelled: whether all there have been, since it ends."""

    def keep(self, leave: Callable[[], object]) -> None:
        """A thread waits for the loop: `leave` ends that, should the loop end before the pool."""

    def drop(self, leave: Callable[[], object]) -> None:
        """End what `keep` began."""


class LoopThread:
    """An event loop on a thread of its own, started on first use.

    Whatever a coroutine raises, SystemExit included, the loop goes on: only `close` ends it, or
    `abandon`.

    Args:
        on_start: told when the thread is started; must not wait.
        new_loop: what makes the loop.
        grace_s: how long what is cancelled there may clean up.
        pool: the urn of the router whose pool it is for.

    Attributes:
        heartbeat: knows whether it answers; set by the supervisor once it watches the loop.
        lost: whether it has been abandoned.
    """

    gone = False
    successor: LoopThread | None = None

    def __init__(
        self,
        name: str,
        on_start: Callable[[], object] = lambda: None,
        new_loop: NewLoop = asyncio.new_event_loop,
        grace_s: float = 1.0,
        pool: str = "",
    ) -> None:
        self.name = name
        self.grace_s = grace_s
        self._pool = pool
        self.loop: asyncio.AbstractEventLoop | None = None
        self.heartbeat: KnowsSilence | None = None
        self.lost = False
        self._on_start = on_start
        self._new_loop = new_loop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._actions: Actions | None = None  # there is one as soon as there is a loop
        self._closing = self._over = False
        self._waits: set[Callable[[], object]] = set()

    @property
    def floor(self) -> CodeType | None:
        return LoopThread._run.__code__

    @property
    def ident(self) -> int | None:
        """The thread's identifier; None before its start."""
        return None if self._thread is None else self._thread.ident

    @property
    def stalled(self) -> bool:
        """Whether the supervisor has found that it does not answer. Any thread may ask."""
        return self.heartbeat is not None and self.heartbeat.stalled

    @property
    def ended(self) -> bool:
        """Whether it takes nothing more."""
        return self._closing

    def post(self, action: Callable[[], object]) -> bool:
        """Run `action` on the loop, soon; False when the loop has been closed.

        Raises:
            ResourceError: it has not been started yet, and cannot be now.
        """
        with self._lock:
            if self._closing:
                return False
            # Under the lock: two that bring the first work at once start one loop, and `close`
            # finds either a loop to end or none that will ever begin.
            actions = self._actions or self._start()
        try:
            # Not under the lock: here the loop is told.
            actions.put(action)
        except RuntimeError:
            if not actions.loop.is_closed():  # else it has been closed since
                raise
            return False
        return True

    def end(self) -> None:
        """Only the pool ends it, by `close`."""

    def can_answer(self) -> bool:
        return True

    def winds_up(self) -> bool:
        return False

    def keep(self, leave: Callable[[], object]) -> None:
        """It ends all its tasks before it ends, and whoever waits for one is told: but not of what
        outlasts its time, or is posted just when it ends, and never begins.
        """
        self._waits.add(leave)
        if self._over:
            leave()

    def drop(self, leave: Callable[[], object]) -> None:
        self._waits.discard(leave)

    def begins_here(self) -> bool:
        """As `AgentLoop` says: it is code of the pool's agents that runs there."""
        loop, actions = self.loop, self._actions
        if loop is None or self._closing or actions is None or actions.due or not in_step_of(loop):
            return False  # what others have posted comes first
        return loop.get_task_factory() is None

    def close(self, *, wait: bool = True) -> None:
        """Cancel every task once, let them clean up for `grace_s`, end the thread."""
        with self._lock:
            already, self._closing = self._closing, True
            loop, thread = self.loop, self._thread
        if loop is None or thread is None or self.lost:
            return
        if not already:
            # What was posted before is done before it stops: a loop keeps the order.
            loop.call_soon_threadsafe(loop.stop)
        if wait and thread is not threading.current_thread():
            thread.join(self.grace_s + CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Let go of a loop that does not answer; nobody waits for it any more.

        Should it ever answer, it does what has been posted, close hooks among it, and ends. What
        then still runs is given a moment, and is cancelled.
        """
        with self._lock:
            # One that is ending has been told to stop; all that changes is that nobody waits.
            already, self.lost = self.lost or self._closing, True
            if not already and self.loop is not None:
                self.loop.call_soon_threadsafe(self.loop.stop)

    def _start(self) -> Actions:
        """The loop and its thread, or neither: whoever comes next tries again. Nothing that may
        raise comes after the thread's start, but for telling of it.
        """
        loop = None
        try:
            with _BEGINNING.turn():
                # Whoever asks first makes it, and a loop keeps the context that it is made in.
                loop = Context().run(self._new_loop)
                actions, duty = Actions(loop, self.name), Duty(self._pool, ThreadRole.LOOP)
                runner = self._begin_run(loop, duty)
                next(runner)
                thread = threading.Thread(target=runner.__next__, name=self.name, daemon=True)
                Context().run(thread.start)  # nobody's: see `ThreadExecutor._spawn`
        except BaseException as error:  # no descriptor, no thread, no memory
            if loop is not None:
                loop.close()
            raise not_begun(self.name, error) from error
        # The thread may run by now: all that it needs of these it has been given.
        self.loop, self._thread, self._actions = loop, thread, actions
        try:
            self._on_start()
        except BaseException as error:
            complain(f"nobody was told that {self.name} has started", error)
        return actions

    def _begin_run(
        self, loop: asyncio.AbstractEventLoop, duty: Duty
    ) -> Generator[None, None, None]:
        """What its thread does. It is resumed there, inside of its `try`, as in `waker`: a
        function may be hit at its entry, and a pool without its loop would never answer.
        """
        try:
            yield
            self._run(loop, duty)
        except GeneratorExit:  # there is no thread for it: whoever wanted one is told
            raise
        except BaseException as error:
            complain(f"{self.name} begins again", error)
            self._run(loop, duty)
        yield

    def _run(self, loop: asyncio.AbstractEventLoop, duty: Duty) -> None:
        HERE.duty = duty
        asyncio.set_event_loop(loop)
        # No lock: both only ever become true, and who sets one tells the loop to stop after that.
        while not (self._closing or self.lost or loop.is_closed()):
            try:
                loop.run_forever()
            except BaseException as error:  # a task's SystemExit leaves run_forever
                complain(f"{self.name} was left by {type(error).__name__} and goes on", error)
        with self._lock:
            self._closing = True
        try:
            loop.run_until_complete(self._wind_up())
            # Behind the tasks, which may still read from such a generator.
            loop.run_until_complete(self._close_generators(loop))
        except BaseException as error:
            complain(f"{self.name} could not end all of its tasks", error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            # First the word, then the look; `keep` does it the other way round.
            self._over = True
            for leave in list(self._waits):
                leave()

    async def _wind_up(self) -> None:
        # It was left for dead and answers: what was posted meanwhile, the cancellations among it,
        # comes before the look at what still runs.
        if self.lost:
            if self._actions is not None:
                self._actions.empty()
            if tasks := _other_tasks():
                await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S / 2)
        tasks = _other_tasks()
        for task in tasks:
            if not _closes_a_generator(task):
                cancel_once(task)
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=self.grace_s)
        if told := [each for each in left if cancel_spared(each)]:
            await asyncio.wait(told, timeout=LAST_TURN_S)

    async def _close_generators(self, loop: asyncio.AbstractEventLoop) -> None:
        closing = loop.create_task(loop.shutdown_asyncgens())
        await asyncio.wait([closing], timeout=self.grace_s)


def _other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _closes_a_generator(task: asyncio.Task[Any]) -> bool:
    """Whether asyncio made it for a generator that nobody has closed."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"
