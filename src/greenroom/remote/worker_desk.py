"""The worker's end of calls: each is a request of the pool that has the member."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.clock import SYSTEM_CLOCK, Clock
from greenroom.actors.runtime.event_bus import complain
from greenroom.messages.call_context import CallContext
from greenroom.messages.errors import PayloadError, RequestCancelledError
from greenroom.messages.status import FailureKind
from greenroom.remote import worker_words
from greenroom.remote.frames import (
    Busy,
    Call,
    Cancel,
    Chunk,
    Credit,
    End,
    Error,
    Go,
    MayStart,
    Noted,
    Pong,
    Started,
    ToCaller,
    ToWorker,
    Value,
)
from greenroom.remote.links import Send

MOST_CREDIT = 10_000
"""Chunks that a caller may have sent ahead, whatever it says."""
FIRST_GUESS_S = 0.1
"""What a call is taken to last before any has ended."""
LONGEST_RETRY_S = 30.0
SHARE = 0.2
"""How much the last call counts in how long they last."""


class Desk:
    """Takes calls for one member.

    As many run as the member takes at a time; as many again (`queue`) wait for their turn here, as
    callers cannot know of each other, nor of a slot that is given back by a cancellation that is
    still on its way. The others hear `Busy`.

    Args:
        pool: of that member alone.
        member: its name.
        capacity: calls that run at a time.
        queue: calls that wait for that.
    """

    def __init__(
        self,
        pool: PoolRef,
        member: str,
        *,
        capacity: int,
        queue: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.pool = pool
        self.member = member
        self.capacity = capacity
        self.queue = capacity if queue is None else queue
        self.clock = clock
        self.draining = False
        self.running = 0
        self._waiting: deque[_Served] = deque()
        self._open: set[_Served] = set()
        self._lasts_s = FIRST_GUESS_S
        self._idle = asyncio.Event()
        self._idle.set()

    # -- what a front asks for

    def begin(self, call: Call, send: Send, *, on_end: Callable[[], None]) -> _Served:
        served = _Served(self, call, send, on_end)
        self._open.add(served)
        self._idle.clear()
        if self.draining:
            served.refuse(Busy(call.id, draining=True))
        elif self.running < self.capacity:
            self.running += 1
            served.start()
        elif len(self._waiting) < self.queue:
            self._waiting.append(served)
        else:
            served.refuse(Busy(call.id, retry_after_s=self._room_in_s()))
        return served

    def pong(self, unknown: tuple[str, ...] = ()) -> Pong:
        running = self.running + len(self._waiting)
        return Pong(self.member, self.capacity, running, self.draining, unknown)

    # -- its end

    async def drained(self) -> None:
        """Take no more; returns when what is at hand has been answered."""
        self.draining = True
        await self._idle.wait()

    async def cut_short(self) -> None:
        """End what is at hand, which is told so; returns when nothing is left."""
        self.draining = True
        for served in list(self._open):
            served.cut_short()
        await self._idle.wait()

    # -- of its calls

    def gives_back(self, took_s: float | None) -> None:
        """A call that held a slot has ended."""
        if took_s is not None:
            self._lasts_s += SHARE * (took_s - self._lasts_s)
        while self._waiting:
            served = self._waiting.popleft()
            if not served.over:
                served.start()
                return
        self.running -= 1

    def forget(self, served: _Served) -> None:
        self._open.discard(served)
        if not self._open:
            self._idle.set()

    def leaves(self, served: _Served) -> None:
        """One that waits will not begin."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(served)

    def _room_in_s(self) -> float:
        turns = (len(self._waiting) + 1) / max(1, self.capacity)
        return min(LONGEST_RETRY_S, round(max(0.01, self._lasts_s * turns), 3))


class _Served:
    """One call. Its methods are called on the loop of the front; what its agent says comes from
    wherever that runs.
    """

    def __init__(self, desk: Desk, call: Call, send: Send, on_end: Callable[[], None]) -> None:
        self._desk = desk
        self._call = call
        self._send = send
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        # From its arrival: it may wait here for its turn.
        left_s = call.left_s
        self._deadline = None if left_s is None else desk.clock.now() + left_s
        self._task: asyncio.Task[None] | None = None
        self._credit = min(call.credit, MOST_CREDIT)
        self._credited: asyncio.Future[None] | None = None
        # The answers to what is asked of the caller, in order: `Go`, or that it is not to be.
        self._asked: deque[concurrent.futures.Future[None]] = deque()
        self._going: asyncio.Future[None] | None = None
        self._said: deque[ToCaller] = deque()
        self._pumping: asyncio.Task[None] | None = None
        self._entered = False
        self._gone = False
        self._cut = False
        self.over = False

    # -- what the front says

    def heard(self, frame: ToWorker) -> None:
        match frame:
            case Go():
                if self._going is not None:
                    if not self._going.done():
                        self._going.set_result(None)
                    self._going = None
                elif self._asked:
                    self._asked.popleft().set_result(None)
            case Credit(_, chunks):
                self._credit = min(self._credit + chunks, MOST_CREDIT)
                if self._credited is not None and not self._credited.done():
                    self._credited.set_result(None)
            case Cancel():
                self._leave()

    def gone(self) -> None:
        self._leave()

    def cut_short(self) -> None:
        """The worker ends: the caller is told so."""
        if self.over:
            return
        if self._task is None:
            self._desk.leaves(self)
            self.refuse(Busy(self._call.id, draining=True))
        else:
            self._cut = True
            self._break_off(self._task)
        self._refuse_asked()

    def _leave(self) -> None:
        if self._gone or self.over:
            return
        self._gone = True
        if self._task is None:
            self._desk.leaves(self)
            self._end()
        else:
            self._break_off(self._task)
        self._refuse_asked()

    def _break_off(self, task: asyncio.Task[None]) -> None:
        # One that has not been entered would end without a word; it looks for itself, then.
        if self._entered:
            task.cancel()

    def _refuse_asked(self) -> None:
        while self._asked:
            asked = self._asked.popleft()
            asked.set_exception(RequestCancelledError("its caller has given the call up"))

    # -- its course

    def refuse(self, frame: Busy | Error) -> None:
        """End it unbegun."""
        self._task = self._loop.create_task(self._refused(frame))

    async def _refused(self, frame: Busy | Error) -> None:
        self._entered = True
        try:
            if not self._gone:
                await self._say_last(frame)
        except asyncio.CancelledError:
            pass  # the caller has gone
        finally:
            self._end()

    def start(self) -> None:
        """Its turn has come: it holds a slot from here on."""
        self._task = self._loop.create_task(self._run(), context=_context_of(self._call.carrier))

    async def _run(self) -> None:
        desk, began = self._desk, self._desk.clock.now()
        self._entered, ran = True, False
        try:
            if self._gone or self._cut:
                raise asyncio.CancelledError
            if not self._call.idempotent:
                await self._may_start()
            ran = True
            last = await self._answer()
        except asyncio.CancelledError:
            if not self._cut:
                self._finish(desk, began, ran)
                return
            why = RequestCancelledError("the worker has ended")
            last = Error(self._call.id, FailureKind.INTERRUPTED.value, ran, *_parts(why))
        except _CallerGone:
            self._finish(desk, began, ran)
            return
        except BaseException as error:
            last = worker_words.said_of(self._call.id, error)
        # The slot is free before the caller hears of the end: what it sends next is not refused.
        desk.gives_back(desk.clock.now() - began if ran else None)
        try:
            await self._say_last(last)
        except asyncio.CancelledError:
            pass
        finally:
            self._end()

    def _finish(self, desk: Desk, began: float, ran: bool) -> None:
        desk.gives_back(desk.clock.now() - began if ran else None)
        self._end()

    async def _may_start(self) -> None:
        """Ask the caller, and wait for its word: it may have gone, or have given the call up."""
        going = self._going = self._loop.create_future()
        await self._bring(MayStart(self._call.id))
        await going

    async def _answer(self) -> ToCaller:
        call, pool = self._call, self._desk.pool
        context = self._call_context()
        if not call.wants_stream:
            reply = await pool.forward(call.payload, context)
            if reply.metadata:
                self._said.append(Noted(call.id, described=dict(reply.metadata)))
            return Value(call.id, reply.value)
        number = 0
        with pool.forward_stream(call.payload, context) as stream:
            async for chunk in stream:
                if self._credit <= 0:
                    await self._more_credit()
                self._credit -= 1
                if self._said or self._pumping is not None:
                    await self._settle()
                try:  # as `_put`, without the call: there may be many
                    await self._send(Chunk(call.id, number, chunk))
                except PayloadError as error:
                    return worker_words.not_carried(call.id, error)
                except Exception as error:
                    raise _CallerGone from error
                number += 1
            if stream.metadata:
                self._said.append(Noted(call.id, described=dict(stream.metadata)))
        return End(call.id, number)

    async def _more_credit(self) -> None:
        while self._credit <= 0:
            self._credited = self._loop.create_future()
            await self._credited

    def _call_context(self) -> CallContext:
        call, clock = self._call, self._desk.clock
        return CallContext(
            request_id=call.request_id or call.id,
            member=self._desk.member,
            attempt=call.attempt,
            key=call.key,
            priority=call.priority,
            idempotent=call.idempotent,
            deadline=self._deadline,
            metadata=call.metadata,
            now=clock.now,
            on_side_effects=self._effects_start,
            on_alive=self._is_alive,
            on_spent=lambda took: self._tell(Noted(call.id, spent=dict(took))),
            on_limits=self._limits,
            passes_on=True,
        )

    # -- what the agent says, in whatever thread

    def _effects_start(self) -> None:
        """An agent in a thread waits for the caller's word. One on a loop cannot: it says that it
        begins.
        """
        if self._gone:
            raise RequestCancelledError("its caller has given the call up")
        if asyncio._get_running_loop() is not None:
            self._tell(Started(self._call.id))
            return
        asked: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(self._ask, asked)
        asked.result()

    def _ask(self, asked: concurrent.futures.Future[None]) -> None:
        if self._gone or self.over:
            asked.set_exception(RequestCancelledError("its caller has given the call up"))
            return
        self._asked.append(asked)
        self._say(MayStart(self._call.id))

    def _is_alive(self) -> None:
        if self._gone:
            raise RequestCancelledError("its caller has given the call up")
        self._tell(Noted(self._call.id, alive=True))

    def _limits(self, cost: str, remaining: int, resets_in_s: float, whole: int | None) -> None:
        said = {"cost": cost, "remaining": remaining, "resets_in_s": resets_in_s, "limit": whole}
        self._tell(Noted(self._call.id, limits=(said,)))

    def _tell(self, frame: ToCaller) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._say(frame)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._say, frame)

    # -- what is said

    def _say(self, frame: ToCaller) -> None:
        """Have it brought behind what has been said; nothing waits for it."""
        if self.over:
            return
        if isinstance(frame, Noted) and frame.alive and any(map(_is_sign, self._said)):
            return  # one sign of life is as good as many
        self._said.append(frame)
        if self._pumping is None:
            self._pumping = self._loop.create_task(self._pump(), context=Context())

    async def _pump(self) -> None:
        try:
            await self._flush()
        except (_CallerGone, asyncio.CancelledError):
            pass
        finally:
            self._pumping = None

    async def _flush(self) -> None:
        while self._said:
            frame = self._said.popleft()
            try:
                await self._put(frame)
            except PayloadError as error:  # of `describe`
                complain("what an agent has said of its answer cannot be carried", error)

    async def _bring(self, frame: ToCaller) -> None:
        """Say something behind all that has been said."""
        if self._said or self._pumping is not None:
            await self._settle()
        await self._put(frame)

    async def _settle(self) -> None:
        while self._pumping is not None:
            await asyncio.wait((self._pumping,))
        await self._flush()

    async def _put(self, frame: ToCaller) -> None:
        try:
            await self._send(frame)
        except PayloadError:
            raise
        except Exception as error:
            raise _CallerGone from error

    async def _say_last(self, frame: ToCaller) -> None:
        try:
            await self._bring(frame)
        except PayloadError as error:
            with contextlib.suppress(_CallerGone):
                await self._put(worker_words.not_carried(self._call.id, error))
        except _CallerGone:
            pass

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        self._refuse_asked()
        if self._pumping is not None:
            self._pumping.cancel()
        try:
            self._on_end()
        except Exception as error:
            complain("the end of a call could not be told", error)
        self._desk.forget(self)


class _CallerGone(Exception):
    """Nobody hears any more."""


def _is_sign(frame: ToCaller) -> bool:
    return isinstance(frame, Noted) and frame.alive


def _parts(error: Exception) -> tuple[str, str]:
    return type(error).__name__, str(error)


@functools.lru_cache(maxsize=1)
def _extract() -> Callable[[Mapping[str, str]], Any] | None:
    try:
        from opentelemetry import propagate
    except ModuleNotFoundError:
        return None
    return propagate.extract


def _context_of(carrier: Mapping[str, str]) -> Context:
    """What a call's agent runs in: nothing of the front's, but the caller's span."""
    context = Context()
    if carrier and (extract := _extract()) is not None:
        from opentelemetry import context as otel_context

        context.run(lambda: otel_context.attach(extract(carrier)))
    return context
