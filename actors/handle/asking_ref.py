"""A pool's ref as one asks by it: Pykka's own calls, and the short forms for requests."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import copy_context
from typing import (
    Any,
    Literal,
    NoReturn,
    Protocol,
    SupportsIndex,
    TypeVar,
    Unpack,
    overload,
)

import pykka

from greenroom.actors.handle.caller_attempts import Acquired, Attempts, acquired
from greenroom.actors.handle.pool_stream import PoolStream
from greenroom.actors.handle.screening import Questions
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.call_ancestry import INSIDE, tickets_of
from greenroom.actors.runtime.channel import Channel
from greenroom.actors.runtime.end_signal import EndSignal
from greenroom.actors.runtime.event_bus import puts_only
from greenroom.actors.runtime.future import (
    AskTimeoutError,
    DeadPoolError,
    GivenUp,
    PoolFuture,
    StreamFuture,
    Told,
    answer_within,
    forked,
)
from greenroom.actors.runtime.lease import LeaseFuture
from greenroom.actors.runtime.mailbox import Envelope, enveloped
from greenroom.actors.runtime.pool_actor import JoinableRef, PoolActor, Stop
from greenroom.actors.runtime.thread_duties import (
    HERE,
    Need,
    before_waiting,
    running_loop,
    wait_for,
)
from greenroom.messages import _validate as check
from greenroom.messages.agent_shape import is_function
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import ReentrantAskError
from greenroom.messages.execution import Ticket
from greenroom.messages.limits import CostFunction, checked_costs
from greenroom.messages.member import CallContext
from greenroom.messages.pickling import refuse
from greenroom.messages.replies import PoolStats, Reply
from greenroom.messages.requests import (
    Acquire,
    AcquireSettings,
    Apply,
    Drain,
    GetStats,
    RemoveMember,
    Request,
    RequestOptions,
    RequestSettings,
    check_one_timeout,
)
from greenroom.messages.screening import Accepts

R = TypeVar("R")
C = TypeVar("C")

GRACE_S = 0.03
"""The router answers at the deadline and says what was tried: the asker waits that bit longer."""


class Stores(Protocol):
    """What stores durable tells: see `AgentPool.start(courier=)`."""

    def post(self, request: Request[Any]) -> str:
        """Store a request; its id. It is stored when this returns."""

    async def apost(self, request: Request[Any]) -> str:
        """The same, without blocking the event loop."""


class AskingRef(JoinableRef):
    """The part of a `PoolRef` that sends messages and stops.

    Args:
        actor: the pool's router.
        ended: the end of the router, and so of all that is the pool's.
        member_of: whose an attempt is that somebody waits for; asked by any thread.

    Attributes:
        courier: what stores durable tells; None of a pool that was started without one.
    """

    courier: Stores | None = None

    def __init__(
        self,
        actor: PoolActor,
        *,
        name: str,
        config: PoolConfig,
        ended: EndSignal,
        member_of: Callable[[Ticket], str | None],
    ) -> None:
        super().__init__(actor)
        self.name = name
        self._member_of = member_of
        self._clock = actor.clock
        self._ended = ended
        self._stream_buffer = config.stream_buffer
        # None: nothing, as nearly always; no call is made to find that out.
        self._questions: Questions | None = None
        self._screens: tuple[Accepts, ...] = ()
        self._fair_by = config.fair_by
        self._go_by(config)
        self._holds = config.on_cut == "hold"
        self._cost = config.cost
        self._carries_context = config.propagate_context
        self._numbers = itertools.count(1)
        self._born = forks.generation
        self._canceller = self._cancel  # bound once: each future holds it

    def _go_by(self, config: PoolConfig) -> None:
        """The pool goes by other settings: told by its router."""
        self._max_pending = config.max_pending
        self._fair_weights = config.fair_weights
        self._ask_first(self._screens)

    def _ask_first(self, screens: tuple[Accepts, ...]) -> None:
        """Ask these about every payload from now on: told by its router, whenever members change.

        Args:
            screens: each function once.
        """
        self._screens = screens
        self._questions = Questions(screens, self._fair_by, self._fair_weights) or None

    # -- Pykka's own

    def is_alive(self) -> bool:
        """Whether it takes messages; False in a process that was forked off after its start."""
        return self._born == forks.generation and not self.actor_stopped.is_set()

    @puts_only
    def tell(self, message: Any) -> None:
        """Send a message without waiting for an answer.

        A request that fails with nobody to hear of it becomes a `DeadLetter` event. One that is
        `durable` is stored by the pool's courier when this returns; that may take a moment, for
        which it blocks: on an event loop `await pool.atell(...)`.

        Raises:
            TellNotStoredError: a durable request is not stored, and why.
            TypeError, ValueError: it is durable, and holds what cannot be stored; or the pool has
                no courier.
            PoolStoppedError: the pool has stopped (it is a `pykka.ActorDeadError` as well).
            ForkedPoolError: it was started before a fork, and this is the child; so does every
                other call (it is a `PoolStoppedError` as well).
        """
        if not self.is_alive():
            raise self._dead()
        if isinstance(message, Request) and message.durable:
            courier = self._storing()
            if HERE.duty is not None or running_loop() is not None:
                before_waiting(self, Need.WORD)  # a thread of the pool's own never blocks
            courier.post(message)
            return
        if isinstance(message, RequestOptions):
            if self._cost is not None:
                message = self._weighed(message, self._cost)
            questions = self._questions
            heard = None if questions is None else questions.heard_of(message)
            context = copy_context() if self._carries_context else None
            if isinstance(message, Request | Apply) and (context is not None or heard is not None):
                message = Told(message, context, heard)
            self._bring(Envelope(message))
        else:
            self.actor_inbox.put(Envelope(message))

    async def atell(self, message: Any) -> None:
        """`tell`, awaited: the same arguments and errors. Who is cancelled while a durable request
        is being stored takes nothing back.
        """
        if not self.is_alive():
            raise self._dead()
        if isinstance(message, Request) and message.durable:
            await self._storing().apost(message)
        else:
            self.tell(message)

    def _storing(self) -> Stores:
        """What stores durable tells.

        Raises:
            ValueError: there is nothing that does.
        """
        if self.courier is None:
            raise ValueError(
                f"durable must be left out: pool {self.name!r} has no courier; start it with "
                "AgentPool.start(..., courier=JetStream(url)), or RedisStreams(url)"
            )
        return self.courier

    @overload  # type: ignore[override]
    def ask(
        self, message: GetStats, *, block: Literal[True] = True, timeout: float | None = None
    ) -> PoolStats: ...

    @overload
    def ask(
        self, message: Request[Any], *, block: Literal[True] = True, timeout: float | None = None
    ) -> Reply[Any]: ...

    @overload
    def ask(
        self,
        message: Apply[Awaitable[R]],
        *,
        block: Literal[True] = True,
        timeout: float | None = None,
    ) -> Reply[R]: ...

    @overload
    def ask(
        self, message: Apply[R], *, block: Literal[True] = True, timeout: float | None = None
    ) -> Reply[R]: ...

    @overload
    def ask(
        self, message: Request[Any], *, block: Literal[False], timeout: float | None = None
    ) -> PoolFuture[Reply[Any]]: ...

    @overload
    def ask(
        self, message: Apply[Awaitable[R]], *, block: Literal[False], timeout: float | None = None
    ) -> PoolFuture[Reply[R]]: ...

    @overload
    def ask(
        self, message: Apply[R], *, block: Literal[False], timeout: float | None = None
    ) -> PoolFuture[Reply[R]]: ...

    @overload
    def ask(
        self, message: GetStats, *, block: Literal[False], timeout: float | None = None
    ) -> PoolFuture[PoolStats]: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send a message; wait for the answer, or with `block=False` have its future.

        Args:
            message: a `Request`, `Apply`, or any other message of `greenroom.messages`.
            block: False returns a `PoolFuture`: `.get(timeout=)` it, `await` it, `.cancel()` it.
            timeout: seconds; of a request it is the deadline too: when nobody is left to read the
                answer, the work is cancelled. So it is where a signal handler raises meanwhile.

        Raises:
            pykka.Timeout: no answer within `timeout` (a `DeadlineExceededError`, too).
            AllPoolMembersFailedError: nobody could answer; it lists every member with its reason.
            PoolSaturatedError: `max_pending` requests are waiting already, none of them of a lower
                rank; or this one was the last in rank when a better one came.
            PoolStoppedError: the pool has stopped, or is draining.
            ReentrantAskError: an agent of this very pool asks, and would wait for its own slot; or
                a callback in a thread of the pool's own, which would wait for that very thread.
            Exception: the agent's own, when it says that the request itself is at fault.
        """
        if timeout is not None:
            check.number("timeout", timeout)
        wait = None
        if block and (HERE.duty is not None or running_loop() is not None) and self.is_alive():
            wait = wait_for(self, _need_of(message))
            if wait is not None:
                wait.step_in()
        try:
            future = self._submit(message, timeout, waits=block)
            if not block:
                return future
            try:
                return future.get() if timeout is None else future.get(timeout=timeout + GRACE_S)
            except AskTimeoutError:
                raise
            except pykka.Timeout:
                if timeout is None:
                    raise
                future.cancel()
                raise AskTimeoutError(self.name, timeout) from None
            except BaseException:  # its answer; or a signal handler's error: nobody waits any more
                future.cancel()
                raise
        finally:
            if wait is not None:
                wait.step_out()
                wait.end()

    def proxy(self) -> Any:
        self.check_process()
        return super().proxy()

    @overload
    def stop(self, *, block: Literal[True] = True, timeout: float | None = None) -> bool: ...

    @overload
    def stop(
        self, *, block: Literal[False], timeout: float | None = None
    ) -> pykka.Future[bool]: ...

    @overload
    def stop(
        self, *, block: bool = True, timeout: float | None = None
    ) -> bool | pykka.Future[bool]: ...

    def stop(
        self, *, block: bool = True, timeout: float | None = None
    ) -> bool | pykka.Future[bool]:
        """Stop the pool: what is unanswered fails with `PoolStoppedError`, the agents are closed.

        What was sent before is still taken in before the stop; to have it finished, `drain` first.

        Returns:
            True once everything has been cleaned up; False if it had been stopped before. With
            `block=False` a future of that, which a coroutine can await: no thread waits meanwhile.
            Who gives up waiting takes nothing back: the pool goes on to its end.

        Raises:
            pykka.Timeout: the clean-up took longer than `timeout` seconds.
            ReentrantAskError: this thread is one that the end waits for; nothing has been done.
        """
        check.number("timeout", timeout, optional=True)
        self.check_process()
        if block and timeout != 0:
            self.check_thread()
        was_alive = self.is_alive()
        if was_alive:
            self.actor_inbox.put(Envelope(Stop()))

        def wait(timeout: float | None) -> bool:
            self.check_process()
            if timeout != 0:
                self.check_thread()
            patience_s = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
            # Set by the router's own thread, as its last deed: what follows waits for that thread.
            if not self._ended.wait(patience_s):
                raise pykka.Timeout(f"{timeout} seconds")
            self.join(patience_s)
            return was_alive

        if block:
            return wait(timeout)
        future: PoolFuture[bool] = PoolFuture(on_cancel=self._canceller)
        future.need = Need.END
        future.set_get_hook(wait)
        future.arrival = self._ended
        return future

    # -- requests

    def execute(
        self, payload: Any, *, timeout: float | None = None, **options: Unpack[RequestSettings]
    ) -> Any:
        """What the agent makes of `payload`: `ask(Request(payload, **options)).value`."""
        if options:
            check_one_timeout(timeout, options.get("timeout_s"))
        return self.ask(Request(payload, **options), timeout=timeout).value

    @overload
    def apply(
        self,
        function: Callable[[Any], Awaitable[R]],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> R: ...

    @overload
    def apply(
        self,
        function: Callable[[Any], R],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> R: ...

    def apply(
        self,
        function: Callable[[Any], Any],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> Any:
        """What `function(agent)` returns, for whichever agent is picked; it may be a coroutine.

        An agent that is a pool is given as its `PoolRef`.
        """
        if options:
            check_one_timeout(timeout, options.get("timeout_s"))
        return self.ask(Apply(function, **options), timeout=timeout).value

    # -- the same in coroutines: these never block the event loop

    @overload
    async def aask(self, message: GetStats, *, timeout: float | None = None) -> PoolStats: ...

    @overload
    async def aask(self, message: Request[Any], *, timeout: float | None = None) -> Reply[Any]: ...

    @overload
    async def aask(
        self, message: Apply[Awaitable[R]], *, timeout: float | None = None
    ) -> Reply[R]: ...

    @overload
    async def aask(self, message: Apply[R], *, timeout: float | None = None) -> Reply[R]: ...

    @overload
    async def aask(self, message: Any, *, timeout: float | None = None) -> Any: ...

    async def aask(self, message: Any, *, timeout: float | None = None) -> Any:
        """`ask`, awaited: the same arguments, answers and errors. To cancel it is to cancel what
        was asked for.
        """
        if timeout is not None:
            check.number("timeout", timeout)
        self._may_await(_need_of(message))
        future = self._submit(message, timeout, waits=True)
        try:
            if timeout is None:
                return await future
            late = AskTimeoutError(self.name, timeout)
            return await answer_within(future, timeout + GRACE_S, late)
        except BaseException:  # its answer; or nobody waits any more
            future.cancel()
            raise

    async def aexecute(
        self, payload: Any, *, timeout: float | None = None, **options: Unpack[RequestSettings]
    ) -> Any:
        """`execute`, awaited."""
        if options:
            check_one_timeout(timeout, options.get("timeout_s"))
        return (await self.aask(Request(payload, **options), timeout=timeout)).value

    @overload
    async def aapply(
        self,
        function: Callable[[Any], Awaitable[R]],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> R: ...

    @overload
    async def aapply(
        self,
        function: Callable[[Any], R],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> R: ...

    async def aapply(
        self,
        function: Callable[[Any], Any],
        *,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> Any:
        """`apply`, awaited."""
        if options:
            check_one_timeout(timeout, options.get("timeout_s"))
        return (await self.aask(Apply(function, **options), timeout=timeout)).value

    async def astop(self, *, timeout: float | None = None) -> bool:
        """`stop`, awaited. Who is cancelled meanwhile takes nothing back, either.

        Raises:
            pykka.Timeout: the clean-up took longer than `timeout` seconds.
            ReentrantAskError: the end waits for this very code; nothing has been done.
        """
        check.number("timeout", timeout, optional=True)
        self.check_process()
        if not self._ended.is_set():
            self._may_await(Need.END)
        end = self.stop(block=False)
        if timeout is not None:
            heard: PoolFuture[None] = PoolFuture()
            self._ended.watch(heard.resolve)
            try:
                await answer_within(heard, timeout, pykka.Timeout(f"{timeout} seconds"))
            finally:
                self._ended.unwatch(heard.resolve)
        return await end

    # -- streams

    @overload
    def stream(self, message: Request[Any], *, timeout: float | None = None) -> PoolStream[Any]: ...

    @overload
    def stream(
        self, message: Apply[AsyncIterator[C]], *, timeout: float | None = None
    ) -> PoolStream[C]: ...

    @overload
    def stream(
        self, message: Apply[Iterator[C]], *, timeout: float | None = None
    ) -> PoolStream[C]: ...

    @overload
    def stream(
        self, message: Apply[Awaitable[AsyncIterator[C]]], *, timeout: float | None = None
    ) -> PoolStream[C]: ...

    @overload
    def stream(
        self, message: Apply[Awaitable[Iterator[C]]], *, timeout: float | None = None
    ) -> PoolStream[C]: ...

    @overload
    def stream(
        self, message: Apply[Awaitable[R]], *, timeout: float | None = None
    ) -> PoolStream[R]: ...

    @overload
    def stream(self, message: Apply[R], *, timeout: float | None = None) -> PoolStream[R]: ...

    def stream(
        self, message: Request[Any] | Apply[Any], *, timeout: float | None = None
    ) -> PoolStream[Any]:
        """Have the answer chunk by chunk. The request is under way when this returns.

        An agent streams if it is a generator function, sync or async, has a method `astream` or
        `stream`, or answers with an iterator; the answer of any other is the only chunk. A member
        that fails before its first chunk that counts is replaced by another; after it,
        `PoolConfig.on_cut` says what follows.

        Args:
            message: a `Request` or an `Apply`.
            timeout: seconds for the whole stream, however slowly it is consumed.

        Raises:
            TypeError, ValueError: something else; a timeout that is no number of at least 0.
        """
        check.number("timeout", timeout, optional=True)
        if not isinstance(message, RequestOptions):
            raise TypeError(
                f"message must be a Request or an Apply, got a {type(message).__name__}"
            )
        return self._open(message, timeout)

    def attempts(
        self,
        *,
        stream: bool = False,
        timeout: float | None = None,
        **options: Unpack[RequestSettings],
    ) -> Attempts:
        """Attempts in the caller's own task: the pool picks, limits, judges, retries and logs.

            async for attempt in pool.attempts(key=user, timeout=30):
                async with attempt as agent:
                    result = await agent.run(prompt)

        Plain `for` and `with` do the same in a thread. The loop ends with the block that succeeds;
        what a block raises has the next member tried, or is raised as `ask` would raise it. It is a
        request like any other (one deadline, priorities, trials, retries), but is never hedged.

        Args:
            stream: whether the block passes chunks on: the limits of streams hold for it then,
                `first_chunk_timeout_s` until `attempt.first()`, `chunk_timeout_s` from there on;
                otherwise it has `request_timeout_s`, as an answer has.
            timeout: seconds for all of it, from the first attempt on.
            options: `key`, `priority`, `idempotent`, `max_retries`, `metadata`, `only`, `exclude`,
                `prefer` and `request_id`, as of a `Request`.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        """
        work = Acquire(stream=stream, timeout=timeout, **options)
        return Attempts(work, self._lease, self._clock.now)

    def acquire(
        self,
        *,
        stream: bool = False,
        timeout: float | None = None,
        **options: Unpack[AcquireSettings],
    ) -> Acquired:
        """One attempt in the caller's own task, without a retry: `async with pool.acquire() as
        agent`, or `with`. What its block raises is judged, and raised as it is.

        Args:
            stream, timeout, options: as of `attempts`; there is nothing to be retried.
        """
        work = Acquire(stream=stream, timeout=timeout, idempotent=False, **options)
        return acquired(work, self._lease, self._clock.now)

    def _lease(self, message: Acquire) -> LeaseFuture:
        """Have leases, one for each attempt."""
        self.check_process()
        # Before a block begins whose end could not be waited for.
        if not message.can_be_cut and running_loop() is not None and self.is_alive():
            before_waiting(self, Need.WORK)
        questions = self._questions
        heard = None if questions is None else questions.heard_of(message)
        future = LeaseFuture(self._address(message, None)[0], self._canceller)
        if heard is not None:
            future.heard = heard
        if self._carries_context:  # for who watches requests: the block has it anyway
            future.context = copy_context()
        future.inside = INSIDE.get()
        try:
            self._post(message, future)
            return future
        except BaseException:  # of a signal handler: nobody will have the future
            future.let_go()
            raise

    def _submit(
        self,
        message: Any,
        timeout: float | None,
        outer: CallContext | None = None,
        waits: bool = False,
    ) -> PoolFuture[Any]:
        future: PoolFuture[Any]
        if self._born != forks.generation:  # before any lock, a clock's too: see `forks`
            raise forked(self.name, self._born)
        if isinstance(message, RequestOptions):
            if isinstance(message, Request) and message.durable:
                raise _not_asked()
            if self._cost is not None:
                message = self._weighed(message, self._cost)
            # As `_address`, without the call: every ask comes this way.
            request_id = message.request_id or f"{self.name}-{next(self._numbers)}"
            deadline = None if timeout is None else self._clock.now() + timeout
            questions = self._questions
            heard = None if questions is None else questions.heard_of(message)
            future = PoolFuture(request_id, deadline, self._canceller)
            if heard is not None:
                future.heard = heard
            if outer is not None:
                _tell_of(outer, future)
            if type(message) is Apply:
                future.need = _need_of(message)
            if self._carries_context:
                future.context = copy_context()
            inside = INSIDE.get()
            if inside:
                future.inside = inside
                if waits:
                    # Said by the request itself: who waits at once need send no `Waits` for it.
                    future.waits = inside
        else:
            future = PoolFuture(on_cancel=self._canceller)
            future.need = _need_of(message)
            if isinstance(message, Drain | RemoveMember):
                if waits:
                    self._check_call(message)
                future.check_call = functools.partial(self._check_call, message)
        try:
            # As `_post`, without the call: every request comes this way.
            inbox, stopped = self.actor_inbox, self.actor_stopped.is_set
            if HERE.duty is not None or stopped() or not isinstance(message, RequestOptions):
                self._post(message, future)
                return future
            envelope = enveloped((message, future))
            if not inbox.handles(envelope):
                inbox.put(envelope)
            if stopped():
                future.resolve(error=self._dead())
            return future
        except BaseException:  # of a signal handler: nobody will have the future
            future.cancel()
            raise

    def _open(
        self,
        message: RequestOptions,
        timeout: float | None,
        outer: CallContext | None = None,
    ) -> PoolStream[Any]:
        self.check_process()
        if isinstance(message, Request) and message.durable:
            raise _not_asked()
        if self._cost is not None:
            message = self._weighed(message, self._cost)
        channel = Channel(self._stream_buffer, self._holds)
        address = self._address(message, timeout)
        questions = self._questions
        heard = None if questions is None else questions.heard_of(message)
        future = StreamFuture(channel, *address, self._canceller)
        if heard is not None:
            future.heard = heard
        future.inside, future.need = INSIDE.get(), _need_of(message)
        if self._carries_context:
            future.context = copy_context()
        # Before the request is sent: from then on somebody has to leave it if it is not read.
        stream: PoolStream[Any] = PoolStream(future)
        try:
            if outer is not None:
                _tell_of(outer, future)
            self._post(message, future)
            return stream
        except BaseException:  # of a signal handler: nobody will have the stream
            stream.close()
            raise

    def _weighed(self, message: RequestOptions, cost: CostFunction) -> RequestOptions:
        """A request with the estimate of what it costs. It is made here, in the asker's thread: no
        code of the app's runs in the router's, and what it raises is raised to the asker.

        Raises:
            TypeError, ValueError: the estimate is none.
        """
        if message.cost is not None or not isinstance(message, Request):
            return message
        found = cost(message.payload)
        if found is None:
            return message
        return dataclasses.replace(message, cost=checked_costs("what cost returns", found))

    def _address(self, message: RequestOptions, timeout: float | None) -> tuple[str, float | None]:
        """The id and the deadline of a request."""
        request_id = message.request_id or f"{self.name}-{next(self._numbers)}"
        return request_id, None if timeout is None else self._clock.now() + timeout

    def is_elsewhere(self) -> bool:
        """Whether it was started before a fork, and this is the child."""
        return self._born != forks.generation

    def check_process(self) -> None:
        """Refuse to work in a process that was forked off after the pool's start.

        Raises:
            ForkedPoolError: this is such a process.
        """
        if self._born != forks.generation:
            raise forked(self.name, self._born)

    def check_thread(self) -> None:
        """Refuse to wait for the pool's end in a thread that it waits for.

        Raises:
            ReentrantAskError: this is such a thread.
            ForkedPoolError: it was started before a fork, and this is the child.
        """
        self.check_process()
        if not self._ended.is_set():
            before_waiting(self, Need.END)

    def _may_await(self, need: Need) -> None:
        """Refuse, before anything is sent, to await in a thread of the pool's own what needs it.

        Raises:
            ReentrantAskError: this is such a thread.
        """
        if HERE.duty is not None and self.is_alive():
            asked: PoolFuture[Any] = PoolFuture(on_cancel=self._canceller)
            asked.need = need
            asked.may_await()

    def _check_call(self, message: Drain | RemoveMember) -> None:
        """Refuse to wait, inside of a call of this pool's, for the end of that very call.

        Raises:
            ReentrantAskError: this is such a call; nothing has been done.
        """
        inside = INSIDE.get()
        for ticket in tickets_of(self.actor_urn, inside) if inside else ():
            # None once the router has let go of that attempt: nothing waits for this code then.
            member = self._member_of(ticket)
            if member is None:
                continue
            if isinstance(message, Drain):
                what = "cannot be drained and waited for in a call of its own: the drain"
            elif member == message.name:
                what = f"cannot remove {message.name!r} for a call of that member's: the removal"
            else:
                continue
            raise ReentrantAskError(
                f"pool {self.name!r} {what} waits for this code to return; ask with block=False "
                "and do not wait"
            )

    def _post(self, message: Any, future: PoolFuture[Any]) -> None:
        stopped = self.actor_stopped.is_set
        # First look: a mailbox that nobody reads any more takes whatever is put into it.
        if stopped():
            future.resolve(error=self._dead(refused=True))
            return
        if isinstance(message, RequestOptions):
            self._bring(Envelope(message, future))
        else:
            self.actor_inbox.put(Envelope(message, future))
        if stopped() and type(message) is not Stop:
            # It may have been put after the last look into the mailbox: answered here, or there.
            future.resolve(error=self._dead())

    def _bring(self, envelope: Envelope) -> None:
        """Have a request taken in, in this very thread if that may be.

        A thread of a pool's own leaves it to the router: what asks there may be a finalizer's code
        that breaks in on what the thread does for the pool, whose locks it may hold.
        """
        if HERE.duty is None:
            self.actor_inbox.bring(envelope)
        else:
            self.actor_inbox.put(envelope)

    def _cancel(self, future: PoolFuture[Any]) -> None:
        # Put, never brought: a finalizer says so as well, whatever locks its thread holds.
        self.tell(GivenUp(future))

    def _dead(self, refused: bool = False) -> DeadPoolError:
        if self._born != forks.generation:
            return forked(self.name, self._born)
        return DeadPoolError(f"pool {self.name!r} has stopped", refused=refused)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse(
            f"pool {self.name!r}",
            "it lives in the process that started it: start one in each process, and send requests "
            "and answers",
        )


def _not_asked() -> ValueError:
    return ValueError(
        "durable must be left out of what is asked for: who waits for an answer learns what has "
        "become of it; pool.tell(Request(..., durable=True))"
    )


def _need_of(message: Any) -> Need:
    if isinstance(message, Apply) and is_function(inspect.iscoroutinefunction, message.function):
        return Need.LOOP
    agents = isinstance(message, (RequestOptions, Drain, RemoveMember))
    return Need.WORK if agents else Need.WORD


def _tell_of(outer: CallContext, future: PoolFuture[Any]) -> None:
    """Have the agent's words for the pool reach another pool that asks, too."""
    future.on_side_effects = outer.started_side_effects
    future.on_alive = outer.alive  # type: ignore[method-assign]
    if outer.passes_on:

        def limits(cost: str, remaining: int, resets_in_s: float, whole: int | None) -> None:
            outer.limits(cost=cost, remaining=remaining, resets_in_s=resets_in_s, limit=whole)

        future.on_limits = limits  # type: ignore[method-assign]
        future.on_spent = lambda took: outer.spent(**took)  # type: ignore[method-assign]
