"""The agent of an executor's member: made on demand, anew once it has failed."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from greenroom.actors.executors.call import Call, PlainCall, go_on_in
from greenroom.actors.executors.entered_agent import Idle, Stay, entered_on_loop, fault
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.member import agent_methods
from greenroom.actors.member.call_outcome import refused
from greenroom.actors.reading.classify import classify
from greenroom.actors.runtime.call_ancestry import INSIDE
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.future import PoolFuture
from greenroom.actors.runtime.loop_blocker import ORIGIN
from greenroom.messages.config import PoolConfig
from greenroom.messages.member import CallContext
from greenroom.messages.requests import Apply
from greenroom.messages.status import CancelReason

_ALL_OF_IT = 0.5
"""Who was left at least this share of `request_timeout_s` to begin with has had all of it."""

_NEARLY_S = 0.01
"""An alarm may go off a little early."""


AGENT: Apply[Any] = Apply(lambda agent: agent)
"""A payload that asks for the agent itself; any other `Apply` is called with it."""


@dataclass(slots=True, eq=False)
class _Held:
    """An agent, from the begin of its creation to the end of its close hook.

    Attributes:
        error: what its creation raised.
        users: runs that use it, or wait for it.
        made: ends when it has been created, or could not be.
        closed: ends when its close hook has; None while there is use for it.
        stay: what has entered the context manager that was created, if it was one.
        host: its task; a loop holds that weakly.
    """

    agent: Any = None
    runner: agent_methods.Runner | None = None
    error: BaseException | None = None
    users: int = 0
    made: asyncio.Task[None] = field(init=False)
    closed: asyncio.Task[None] | None = None
    stay: Stay | None = None
    host: asyncio.Task[None] | None = None


@dataclass(eq=False, repr=False)
class LazyAgent:
    """The agent of a pool member that outlives the agents it makes, one after the other.

    All of it happens on the pool's event loop, what is sync in threads; so nothing needs a lock,
    and no creation, run or close hook, sync or async, stands in the way of another.

    Args:
        name: the member's.
        pool: the executor's name.
        create: makes an agent, sync or async.
        config: says which failures speak against an agent.
        on_create_failed: told when `create` fails, before anybody else hears of it.

    Attributes:
        create_error: what the last creation raised; None when it succeeded.
    """

    name: str
    _pool: str
    _create: Callable[[], Any]
    _config: PoolConfig
    _on_create_failed: Callable[[str], None]
    create_error: BaseException | None = None
    _current: _Held | None = None
    # Whatever is to be closed at the end: the one in charge, and
    # those forgotten that are still used.
    _open: set[_Held] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._label = f"greenroom-{self._pool}-{self.name}"
        propagates = self._config.propagate_context
        self._context = copy_context() if propagates else Context()
        self._threads = ThreadExecutor(self._label, SYSTEM_CLOCK)

    async def run(self, payload: Any, context: CallContext) -> Any:
        """Run the agent, which is made first if there is none."""
        held = self._hold()
        # Before the first await: nobody may close it while this one waits for it to be made.
        held.users += 1
        try:
            await self._made(held)
            return await self._try(held, payload, context)
        finally:
            held.users -= 1
            # The last to use one that has failed closes it; the one in
            # charge is kept for the next request.
            if not held.users and held is not self._current:
                self._close(held)

    async def close(self) -> None:
        """Close whatever was made and is not closed yet."""
        if self._open:
            await asyncio.wait([self._close(held) for held in list(self._open)])
        self._threads.close()

    # -- making

    def _hold(self) -> _Held:
        if self._current is None:
            held = self._current = _Held()
            self._open.add(held)
            # One task for all who come meanwhile: an agent is made once, however many wait for it.
            held.made = self._start(self._make(held), "create")
        return self._current

    async def _made(self, held: _Held) -> None:
        # Shielded: the agent is made for whoever comes, also when this caller gives up.
        await asyncio.shield(held.made)
        if held.error is not None:
            raise held.error

    async def _make(self, held: _Held) -> None:
        """Never raises: an error in a task that nobody waits for any more would only make noise."""
        try:
            held.agent = await self._call(self._create)
            takes_loop = entered_on_loop(held.agent)
            if takes_loop is not None:
                held.agent = await self._enter(held, Stay(held.agent, takes_loop))
            if held.agent is None:
                raise TypeError(f"creator must return an agent for {self.name!r}, got None")
            held.runner = agent_methods.runner_of(held.agent)
        except BaseException as error:
            held.error = error
            self._forget(held)
            self._open.discard(held)
            # Before whoever waits is woken: the ring has moved on when
            # the pool picks the next member.
            self._on_create_failed(self.name)
        self.create_error = held.error

    async def _enter(self, held: _Held, stay: Stay) -> Any:
        """What entering gives, by a task or a thread that stays until it is to leave again."""
        given: PoolFuture[Any] = PoolFuture()

        def begun(agent: Any) -> None:
            held.stay = stay
            given.resolve(agent)

        def ended(_: object, value: Any, error: BaseException | None) -> None:
            if held.stay is None:
                given.resolve(value, error)
            elif not stay.asked:  # on the loop: only a task can be ended by something else
                self._forget(held)
                if not held.users:
                    self._close(held)
            elif (failed := fault(error)) is not None:
                complain(f"closing the agent of {self._label} failed", failed)
            stay.ended()

        if stay.takes_loop:
            coroutine = _reported(stay.on_loop(begun, _at_once), ended)
            held.host = asyncio.create_task(coroutine, name=f"{self._label}:agent")
        else:
            work = functools.partial(stay.in_thread, begun, lambda: None, Idle())
            call = PlainCall(
                self._label, self._threads, lambda _: work(), ended, context=self._context
            )
            self._threads.run(call)
        return await given

    # -- using

    async def _try(self, held: _Held, payload: Any, context: CallContext) -> Any:
        allowed_s = context.remaining_s
        try:
            # The time that is left is read before and after: it tells a run cut off for being slow
            # from one whose caller had little left.
            value = await self._use(held, payload, context)
            if payload is not AGENT:
                error = refused(self._config, self.name, value, SYSTEM_CLOCK.wall())
                if error is not None:
                    raise error
            return value
        except BaseException as error:
            if self._speaks_against_it(error, allowed_s, context.remaining_s):
                self._forget(held)
            raise

    async def _use(self, held: _Held, payload: Any, context: CallContext) -> Any:
        runner = held.runner
        on_loop = runner is not None and runner.is_async
        if payload is AGENT:
            return held.agent
        if isinstance(payload, Apply):
            return await self._call(functools.partial(payload.function, held.agent), on_loop)
        if runner is None:
            raise TypeError(
                f"agent must be callable or have one of {', '.join(agent_methods.METHODS)}, "
                f"__call__, got a {type(held.agent).__name__} (apply can use it all the same)"
            )
        return await self._call(functools.partial(runner.run, payload, context), on_loop)

    def _speaks_against_it(
        self, error: BaseException, allowed_s: float | None, left_s: float | None
    ) -> bool:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            return classify(error, self._config.classify).kind.counts_for_breaker
        # Cut off: for being slow, or because its caller has no more time or interest?
        limit_s = self._config.request_timeout_s
        if limit_s is None or allowed_s is None or (left_s or 0.0) > _NEARLY_S:
            return False
        return allowed_s >= limit_s * _ALL_OF_IT

    # -- parting

    def _forget(self, held: _Held) -> None:
        if self._current is held:
            self._current = None

    def _close(self, held: _Held) -> asyncio.Task[None]:
        """Nobody waits for it but the end of the executor."""
        self._forget(held)
        if held.closed is None:
            held.closed = self._start(self._end(held), "close")
        return held.closed

    async def _end(self, held: _Held) -> None:
        try:
            # It may be closed while it is being made: then it is waited
            # for, and closed when it is there.
            await held.made
            if held.stay is not None:
                left: PoolFuture[None] = PoolFuture()
                held.stay.leave(left.resolve)
                await left
                return
            hook = agent_methods.method_of(held.agent, "aclose") or agent_methods.method_of(
                held.agent, "close"
            )
            if hook is not None:
                await self._call(hook)
        except BaseException as error:
            complain(f"closing the agent of {self._label} failed", error)
        finally:
            self._open.discard(held)

    # -- calling

    def _start(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """What is no request's, though one has led to it: the agent may outlive that."""
        context = self._context.copy()
        # The pool's own, all the same: who waits for it, and whose code it is.
        context.run(INSIDE.set, INSIDE.get())
        context.run(ORIGIN.set, ORIGIN.get())
        return asyncio.create_task(work, name=f"{self._label}:{what}", context=context)

    async def _call(self, function: Callable[[], Any], on_loop: bool = False) -> Any:
        """Call it where it may not block anybody: async on the loop, sync in a thread."""
        if on_loop or agent_methods.is_async(function):
            value = function()
        else:
            value = await self._in_thread(function)
        return await value if inspect.isawaitable(value) else value

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        future: PoolFuture[Any] = PoolFuture()

        def finish(_: Call, value: Any, error: BaseException | None) -> None:
            future.resolve(value, error)

        context = copy_context()
        call = PlainCall(self._label, self._threads, lambda _: context.run(function), finish)
        self._threads.run(call)
        try:
            return await future
        except asyncio.CancelledError:
            # A sync call cannot be ended: its thread is abandoned.
            call.cancel(CancelReason.ATTEMPT_TIMEOUT)
            raise
        finally:
            go_on_in(context)
            context = Context()  # an error leads back here


def _at_once(action: Callable[[], object]) -> bool:
    """Whoever lets an agent go does so on its loop."""
    action()
    return True


async def _reported(
    stay: Awaitable[Any], ended: Callable[[object, Any, BaseException | None], object]
) -> None:
    value, error = None, None
    try:
        value = await stay
    except BaseException as raised:  # told, as a call's is
        error = raised
    ended(None, value, error)
