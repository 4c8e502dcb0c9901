"""The future of an ask: Pykka's, and awaitable without blocking, and cancellable."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from types import GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeVar, cast

import pykka

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.call_ancestry import INSIDE
from greenroom.actors.runtime.channel import Channel, call_each
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.actors.runtime.deferral import is_on_here
from greenroom.actors.runtime.end_signal import EndSignal
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.thread_duties import (
    HERE,
    Asked,
    Held,
    Need,
    ThreadRole,
    before_waiting,
    check_chain,
    running_loop,
    waits_for,
)
from greenroom.actors.runtime.waker import wait_here
from greenroom.messages.errors import (
    DeadlineExceededError,
    PoolStoppedError,
    RequestCancelledError,
    not_begun,
)
from greenroom.messages.execution import Ancestor
from greenroom.messages.pickling import refuse
from greenroom.messages.requests import Apply, Request
from greenroom.messages.screening import Heard

T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")
J = TypeVar("J")
DAY_S = 86_400.0
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


@dataclass(frozen=True, slots=True, eq=False)
class GivenUp:
    """An asker's word that it waits no longer: for its own request, not another of the same id."""

    future: PoolFuture[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Waits:
    """The word of code inside an agent's call that it waits for a request.

    Attributes:
        inside: the calls that it is inside of.
        over: whether it has waited for long enough, without an answer.
    """

    future: PoolFuture[Any]
    inside: tuple[Ancestor, ...]
    over: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Told:
    """A request that nobody waits for, with the context of whoever sends it."""

    work: Request[Any] | Apply[Any]
    context: Context | None
    heard: Heard | None = None


def _nobody() -> None:
    """Nobody is to be told."""


class _Pending:
    """What the router returns from `on_receive` when the answer comes later."""

    def __repr__(self) -> str:
        return "<pending>"


PENDING = _Pending()


class DeadPoolError(PoolStoppedError, pykka.ActorDeadError):
    """The pool's actor has ended: greenroom's error and Pykka's in one."""


class ForkedPoolError(DeadPoolError):
    """The pool was started before a fork, and this is the child: its threads are not here.

    Attributes:
        pool_name: the pool's name.
        pool_pid: the process in which it was started, and may live on.
        pid: the process that used it.
    """

    def __init__(self, pool_name: str, pool_pid: int, pid: int, *, refused: bool = True) -> None:
        super().__init__(pool_name, pool_pid, pid, refused=refused)
        self.pool_name = pool_name
        self.pool_pid = pool_pid
        self.pid = pid

    def __str__(self) -> str:
        return (
            f"pool {self.pool_name!r} was started in process {self.pool_pid}, and this is process "
            f"{self.pid}: threads do not survive a fork. Start the pool in each worker process: in "
            "gunicorn's post_fork hook, on Celery's worker_process_init signal, in the initializer "
            "of a ProcessPoolExecutor, or on its first use there"
        )


def forked(pool_name: str, born: int, *, refused: bool = True) -> ForkedPoolError:
    """The error of what was made in generation `born`, and is used in another."""
    return ForkedPoolError(pool_name, forks.pid_of(born), os.getpid(), refused=refused)


class AskTimeoutError(DeadlineExceededError, pykka.Timeout):
    """A blocking ask ran out of its timeout: greenroom's error, Pykka's, and a TimeoutError."""


if TYPE_CHECKING:

    class _Awaited(pykka.Future[T], Coroutine[Any, Any, T]):
        """A future that is a coroutine as well."""
else:
    # It is one by its methods. By its base, each `isinstance` would be a call of the ABC's.
    _Awaited = pykka.Future


class PoolFuture(_Awaited[T]):
    """The answer to an ask, now or later.

    `get`, `map`, `filter`, `join` and `reduce` are Pykka's. Beyond them it can be awaited from any
    event loop (a cancelled await cancels the request, also when what `map` and the like made of it
    was awaited), cancelled, and watched.

    It counts as a coroutine: `asyncio.create_task`, `TaskGroup.create_task`, `asyncio.run` and
    `run_coroutine_threadsafe` take it, any number of times. (`asyncio.wait` takes tasks only, and
    says so.) Such a task that is cancelled before it has begun cancels the request, too.

    Attributes:
        request_id: the id of the request behind it; None for other messages.
        deadline: the asker's own limit, absolute on the pool's clock; None without one.
        inside: the calls from inside of which it was asked for; see `call_ancestry`.
        context: that of whoever asked, until there is an answer; None where it is not carried.
        waits: those of them whose code waits for it, as far as the router has been told.
        arrival: of one with a get hook: what tells when that can answer without waiting.
        need: what it takes until it is answered.
        check_call: raises where the running call of an agent is what it waits for; None if no call
            can be.
        heard: what members have said of its payload; None if nobody has been asked.
        stands_for: the future of the request whose course this one tells of, if it is another's.
        on_side_effects: called, in the agent's thread, before an agent starts its side effects;
            when it raises they must not start. For an asker that would repeat the request.
    """

    def on_alive(self) -> None:
        """Called, in the agent's thread, when an agent says that it is alive; raises when nobody
        wants that any more. Replaced where the asker is another pool.
        """

    def on_spent(self, took: Mapping[str, int]) -> None:
        """Called, in the agent's thread, with what it says that it has spent. Replaced where the
        asker wants to know at once.
        """

    def on_limits(self, cost: str, remaining: int, resets_in_s: float, whole: int | None) -> None:
        """The same of what its provider says of a limit."""

    inside: tuple[Ancestor, ...] = ()
    context: Context | None = None
    waits: tuple[Ancestor, ...] = ()
    arrival: EndSignal | None = None
    need: Need = Need.WORK
    stands_for: PoolFuture[Any] | None = None
    check_call: Callable[[], object] | None = None
    heard: Heard | None = None

    def __init__(
        self,
        request_id: str | None = None,
        deadline: float | None = None,
        on_cancel: Callable[[PoolFuture[Any]], None] | None = None,
        on_side_effects: Callable[[], None] = lambda: None,
    ) -> None:
        pykka.Future.__init__(self)  # without the look-ups of `super`
        self.request_id = request_id
        self.deadline = deadline
        self.on_side_effects = on_side_effects
        self._on_cancel = on_cancel
        self._mutex = threading.Lock()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._watcher: Callable[[], object] | None = None  # the first, and mostly the only one
        self._others: list[Callable[[], object]] | None = None
        self._sources: tuple[pykka.Future[Any], ...] = ()
        self._born = forks.generation

    def resolve(self, value: Any = None, error: BaseException | None = None) -> bool:
        """Answer, unless somebody has answered already; tells whether this was the answer."""
        watcher: Callable[[], object] | None = None
        others: list[Callable[[], object]] | None = None
        try:
            with self._mutex:
                if self._done or self._get_hook is not None:
                    return False
                self._value = value
                self._error = error
                self._trace = None if error is None else error.__traceback__
                self.context = None  # the app may keep its future for long
                # Last: `_done` is read without the lock, and the other three right after it.
                self._done = True
                # Taken under the lock, called outside of it: a watcher may be code of the app's (a
                # done callback), which may look at this very future, or take long.
                watcher, self._watcher = self._watcher, None
                others, self._others = self._others, None
            if watcher is not None:
                watcher()
            if others is not None:
                call_each(others)
        except BaseException:  # of a signal handler: those who wait are told all the same
            call_each([each for each in (watcher, *(others or ())) if each is not None])
            raise
        return True

    def set(self, value: T | None = None) -> None:
        if value is PENDING:
            return
        if not self.resolve(value):
            raise queue.Full

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        error = (exc_info or sys.exc_info())[1]
        if isinstance(error, pykka.ActorDeadError) and not isinstance(error, DeadPoolError):
            # the pool's end may answer what its stop has answered already: that is no error
            self.resolve(error=DeadPoolError(f"the pool has stopped: {error}"))
        elif not self.resolve(error=error):
            raise queue.Full

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        with self._mutex:
            if self._done:
                raise queue.Full
            super().set_get_hook(func)

    def get(self, *, timeout: float | None = None) -> T:
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done and not self._wait(timeout):
            raise pykka.Timeout(f"{timeout} seconds")
        return self._result()

    def map(self, func: Callable[[T], M]) -> PoolFuture[M]:
        return _made_of(super().map(func), self)

    def filter(self: PoolFuture[Iterable[J]], func: Callable[[J], bool]) -> PoolFuture[Iterable[J]]:
        return _made_of(pykka.Future.filter(self, func), self)

    def join(self, *futures: pykka.Future[Any]) -> PoolFuture[Iterable[Any]]:
        return _made_of(super().join(*futures), self, *futures)

    def reduce(self: PoolFuture[Iterable[J]], func: Callable[[R, J], R], *args: R) -> PoolFuture[R]:
        return _made_of(pykka.Future.reduce(self, func, *args), self)

    def done(self) -> bool:
        """Whether there is an answer."""
        return self._done

    def cancel(self) -> bool:
        """Give the request up; False when it has been answered already or cannot be cancelled.

        The future is answered with `RequestCancelledError`, the running attempt is cancelled
        (a sync agent's thread cannot be: its late result becomes a dead letter).
        """
        if self._done:
            return False
        if self._born != forks.generation:
            raise self._forked()
        if self._on_cancel is None or self.request_id is None:
            return False
        try:
            # The router is told, and nothing more: an answer on its way may still come first.
            self._on_cancel(self)
        except pykka.ActorDeadError:
            return self.resolve(error=RequestCancelledError("cancelled after the pool had stopped"))
        return True

    def let_go(self) -> None:
        """Say that nobody waits any more. No lock is taken: a finalizer may call this, in whatever
        thread and whatever lock that thread holds.
        """
        # `_on_cancel` puts into the router's mailbox, which takes no lock either: see its bell.
        if not self._done and self._on_cancel is not None:
            with contextlib.suppress(pykka.ActorDeadError):  # the pool's end answers everybody
                self._on_cancel(self)

    def add_done_callback(self, callback: Callable[[PoolFuture[T]], Any]) -> None:
        """Call `callback(future)` once there is an answer, in the thread that brings it.

        It must be quick and must not raise: that thread may be the router's. It runs in a copy of
        the context of here, as asyncio's do.
        """
        # Where a signal breaks in, `resolve` calls its watchers once more. A wake does nothing the
        # second time; what a callback of the app's would do nobody knows.
        self._watch(DoneCallback(callback, self))

    def let_asker_go(self) -> None:
        """The asker has gone, who may be another pool's call: do not keep it, and its payload, for
        as long as the router has nothing else to look at.
        """
        self.on_side_effects = _nobody
        for name in ("on_alive", "on_spent", "on_limits"):
            vars(self).pop(name, None)

    def __await__(self) -> Generator[Any, None, T]:
        if self._sources:
            yield from self._await_origins()
        elif self._get_hook is not None:
            yield from self._hook_arrival()
        elif not self._done:  # as in `_arrival`, without a generator more for each that waits
            if HERE.duty is not None or self.inside or self.check_call is not None:
                self.may_await()
            if self.inside:
                self.say_waiting()
            try:
                waiting, wake = wait_here()
                watched = False
                if self._born == forks.generation:  # as `_watch`, without the call
                    with self._mutex:
                        # Once more: another thread may have answered since.
                        watched = not self._done and self._watcher is None  # type: ignore[redundant-expr]
                        if watched:
                            self._watcher = wake
                if not watched:
                    self._watch(wake)
                if waiting.done():  # the answer has just come: the loop gets its turn all the same,
                    yield None  # for what the router had it do before, such as a cancellation
                yield from waiting
            except BaseException:  # cancelled, closed as a whole, or hit by a signal
                self.cancel()
                raise
        if self._get_hook is not None:
            return self.get()
        if self._error is not None:
            raise self._error.with_traceback(self._trace)
        value: T = self._value
        return value

    def _arrival(self) -> Generator[Any, None, None]:
        """Wait, in a coroutine, until it can be read without waiting."""
        self.may_await()
        if self.inside:
            self.say_waiting()
        try:
            waiting, wake = wait_here()
            self._watch(wake)
            yield from waiting
        except BaseException:
            self.cancel()
            raise

    def _hook_arrival(self) -> Generator[Any, None, None]:
        """The same where `get` asks a hook."""
        if self.arrival is None:
            yield from _thread_arrival(self)
            return
        if self.arrival.is_set() or self._born != forks.generation:  # `get` answers at once
            return
        self.may_await()
        waiting, wake = wait_here()
        self.arrival.watch(wake)
        try:
            yield from waiting
        finally:
            self.arrival.unwatch(wake)

    def _await_origins(self) -> Generator[Any, None, None]:
        """The same for what it was made of."""
        try:
            for future in self._origins():
                if not isinstance(future, PoolFuture):
                    yield from _thread_arrival(future)
                elif future._get_hook is not None:
                    yield from future._hook_arrival()
                elif not future._done:
                    yield from future._arrival()
        except BaseException:
            self._give_up()
            raise

    def _origins(self) -> Iterator[pykka.Future[Any]]:
        """What it was made of in the first place, or itself."""
        if not self._sources:
            yield self
        for source in self._sources:
            if isinstance(source, PoolFuture):
                yield from source._origins()
            else:
                yield source

    __iter__ = __await__

    # -- as a coroutine

    def send(self, value: Any, /) -> Any:
        """One step of the task that awaits it: for event loops."""
        return self._step(GeneratorType.send, value)

    def throw(self, *error: Any) -> Any:
        """One step of the task that awaits it, by an error: for event loops."""
        return self._step(GeneratorType.throw, *error)

    def close(self) -> None:
        """The task that was to await it will not: for event loops."""
        walk = self._walks().pop(_task_here(), None)
        if walk is not None:
            walk.close()
        self._give_up()

    def _step(self, how: Callable[..., Any], *args: Any) -> Any:
        walks, task = self._walks(), _task_here()
        walk = walks.get(task)
        begun = walk is not None
        if walk is None:
            walk = walks[task] = self.__await__()
        try:
            return how(walk, *args)
        except StopIteration:  # it has its answer
            walks.pop(task, None)
            raise
        except BaseException:
            walks.pop(task, None)
            if not begun:  # a cancellation: the generator has not seen it
                self._give_up()
            raise

    def _walks(self) -> dict[object, Generator[Any, None, T]]:
        """How far each task has come that awaits it."""
        walks: dict[object, Generator[Any, None, T]]
        walks = self.__dict__.setdefault("_by_task", {})  # one operation: loops may be many
        return walks

    def _give_up(self) -> None:
        for each in self._origins():
            if isinstance(each, PoolFuture):
                each.cancel()

    def _result(self) -> T:
        if self._error is not None:
            # One error for all who read it: each raise adds its frames to what it finds there.
            raise self._error.with_traceback(self._trace)
        value: T = self._value
        return value

    def _watch(self, watcher: Callable[[], object]) -> None:
        if self._born != forks.generation:  # the lock may be held for ever
            if not self._done:
                raise self._forked()
            watcher()
            return
        with self._mutex:
            if not self._done:
                if self._watcher is None:
                    self._watcher = watcher
                elif self._others is None:
                    self._others = [watcher]
                else:
                    self._others.append(watcher)
                return
        watcher()

    def may_wait(self) -> list[Held]:
        """The running thread is about to wait for this; whom it holds up meanwhile.

        Raises:
            ReentrantAskError: it is one of the pool's own, which the answer needs.
        """
        asked = self.stands_for or self
        if asked.check_call is not None:
            asked.check_call()
        return before_waiting(asked._pool(), asked.need)

    def may_await(self) -> None:
        """A coroutine is about to. That holds up no thread but one in which somebody has started a
        loop of its own.
        """
        duty = HERE.duty
        if duty is not None and duty.role is not ThreadRole.LOOP:
            self.may_wait()
            return
        asked = self.stands_for or self
        if asked.check_call is not None:
            asked.check_call()
        pool = asked._pool()
        if pool is not None:
            check_chain(pool, asked.need)

    def say_waiting(self) -> None:
        """Tell the router that the code which runs here waits for this, if that is inside of a call
        of the router's own: it may have to wait for that very call.
        """
        asked = self.stands_for or self
        pool = asked._pool()
        inside = INSIDE.get()
        if pool is None or inside == asked.waits or not any(u == pool.actor_urn for u, _ in inside):
            return
        asked.waits = inside
        self._tell(pool, Waits(asked, inside))

    def _say_over(self) -> None:
        asked = self.stands_for or self
        pool = asked._pool()
        inside, asked.waits = asked.waits, ()
        if pool is not None and inside:
            self._tell(pool, Waits(asked, inside, over=True))

    @staticmethod
    def _tell(pool: Asked, message: Waits) -> None:
        with contextlib.suppress(pykka.ActorDeadError):  # the pool's end answers everybody
            pool.tell(message)

    def _pool(self) -> Asked | None:
        """Who was asked; None where it is no pool. (It is whose method `on_cancel` is: one field
        for both, since there is such a future for every request.)
        """
        pool: Asked | None = getattr(self._on_cancel, "__self__", None)
        return pool

    def _wait(self, timeout: float | None) -> bool:
        if timeout is not None and timeout <= 0.0:  # a look is no wait
            return self._wait_here(timeout)
        if running_loop() is not None:
            held = self.may_wait()
            asked = self.stands_for or self
            with waits_for(asked._pool(), asked.request_id, held):
                return self._wait_told(timeout)
        if HERE.duty is not None:
            self.may_wait()
        return self._wait_told(timeout) if self.inside else self._wait_here(timeout)

    def _wait_told(self, timeout: float | None) -> bool:
        if not self.inside:
            return self._wait_here(timeout)
        self.say_waiting()
        if self._wait_here(timeout):
            return True
        self._say_over()
        return False

    def _wait_here(self, timeout: float | None) -> bool:
        bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        ring = functools.partial(bell.put, None)
        try:
            self._watch(ring)
            if timeout is None:
                bell.get()
            else:
                _get_within(bell, timeout)
        except queue.Empty:
            # The answer may have come between the end of the wait and this.
            self._unwatch(ring)
            return self._done
        except BaseException:
            self._unwatch(ring)
            raise
        return True

    def _unwatch(self, watcher: Callable[[], object]) -> None:
        """Who polls for long must not leave a trail."""
        if self._born != forks.generation:  # see `_watch`
            return
        with self._mutex:
            if self._watcher is watcher:
                self._watcher = None
            elif self._others is not None and watcher in self._others:
                self._others.remove(watcher)

    def _forked(self) -> ForkedPoolError:
        """Nobody in this process will answer. (Its work may be under way in the other one.)"""
        return forked(getattr(self._pool(), "name", "pool"), self._born, refused=False)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a future of a pool", "its answer comes to the process that asked: send that")

    def __repr__(self) -> str:
        state = "pending" if not self._done else "failed" if self._error else "answered"
        return f"<PoolFuture {self.request_id or ''} {state}>"


class StreamFuture(PoolFuture[None]):
    """What the router answers where chunks are asked for: the end of the stream.

    Attributes:
        channel: where the chunks come.
    """

    def __init__(
        self,
        channel: Channel,
        request_id: str | None = None,
        deadline: float | None = None,
        on_cancel: Callable[[PoolFuture[Any]], None] | None = None,
        on_side_effects: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(request_id, deadline, on_cancel, on_side_effects)
        self.channel = channel

    def resolve(self, value: Any = None, error: BaseException | None = None) -> bool:
        # First: it decides whose word is the end. The channel would take a second one.
        if not super().resolve(value, error):
            return False
        try:
            self.channel.end(error)
        except BaseException:  # it is answered by now, so nobody else would end the stream
            self.channel.end(error)
            raise
        return True


async def answer_within(future: PoolFuture[T], patience_s: float, late: Exception) -> T:
    """Await it for so long. It is given up then, and `late` is its answer.

    Pauses of the process are no part of that time.
    """
    loop, until = asyncio.get_running_loop(), SYSTEM_CLOCK.now() + patience_s
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        left_s = until - SYSTEM_CLOCK.now()
        if left_s > 0.0:
            # Not all at once: there are loops that cannot count that far.
            timer = loop.call_later(min(left_s, DAY_S), look, context=Context())
            return
        future.cancel()
        future.resolve(error=late)

    # One that is called off lies there until its time, with the context of who set it.
    timer = loop.call_later(min(max(patience_s, 0.0), DAY_S), look, context=Context())
    try:
        return await future
    finally:
        timer.cancel()


def _task_here() -> object:
    """The running task; None where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _get_within(bell: queue.SimpleQueue[None], timeout_s: float) -> None:
    """
    Raises:
        queue.Empty: it has not rung in that time, of which pauses of the process are no part.
    """
    until, left_s = SYSTEM_CLOCK.now() + timeout_s, max(timeout_s, 0.0)
    while True:
        try:
            return bell.get(timeout=min(left_s, threading.TIMEOUT_MAX))
        except queue.Empty:
            left_s = until - SYSTEM_CLOCK.now()
            if left_s <= 0.0:
                raise


def _thread_arrival(future: pykka.Future[Any]) -> Generator[Any, None, None]:
    """Wait, in a coroutine, for a future that only its `get` can tell of. A thread of its own waits
    there: those of the loop's executor may all be waiting for something else, and if it never comes
    they would keep the process from ending.

    Raises:
        ResourceError: the machine gives no more threads.
    """
    come = EndSignal()

    def wait() -> None:
        with contextlib.suppress(BaseException):  # whoever reads it is told
            future.get()
        come.set()

    waiting, wake = wait_here()
    come.watch(wake)
    try:
        threading.Thread(target=wait, name="greenroom-await", daemon=True).start()
    except RuntimeError as error:
        raise not_begun("a thread to wait for another library's future", error) from error
    yield from waiting


def _made_of(future: pykka.Future[T], *sources: pykka.Future[Any]) -> PoolFuture[T]:
    made = cast("PoolFuture[T]", future)
    made._sources = sources
    return made


class DoneCallback:
    """Code of the app's that is called once there is an answer, in whatever thread brings that.

    Not in a thread of the app's that does the router's part while it asks for something else: it
    may hold a lock which this code wants. Nor where the signals are put off: it may take long, or
    set handlers. There it is left to the router's own.
    """

    __slots__ = ("_context", "_future", "_once")

    def __init__(self, callback: Callable[[Any], Any], future: PoolFuture[Any]) -> None:
        self._once = [callback]
        self._context = copy_context()
        self._future = future

    def __call__(self) -> None:
        duty, pool = HERE.duty, self._future._pool()
        asks = duty is not None and duty.role is ThreadRole.ASKER
        if (asks or is_on_here()) and pool is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                pool.tell(self)
                return
        self.run()

    def run(self) -> None:
        """Call it, unless it has been called."""
        if not self._once:
            return
        callback = self._once.pop()
        try:
            self._context.run(callback, self._future)
        except BaseException as error:  # others wait for the answer, and the thread is not its own
            complain("a future's done callback raised", error)


__all__ = [
    "PENDING",
    "AskTimeoutError",
    "DeadPoolError",
    "DoneCallback",
    "ForkedPoolError",
    "PoolFuture",
    "StreamFuture",
]
