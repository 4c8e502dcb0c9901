"""Attempts whose code is the caller's own: `pool.attempts` and `pool.acquire`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, NoReturn, Self, SupportsIndex

from greenroom.actors.runtime.beside import give_way
from greenroom.actors.runtime.call_ancestry import INSIDE
from greenroom.actors.runtime.lease import Lease, LeaseFuture
from greenroom.actors.runtime.task_cut import TaskCut, is_cancellation
from greenroom.messages import _validate as check
from greenroom.messages.errors import (
    AttemptTimeoutError,
    RequestCancelledError,
    UnsuccessfulResultError,
)
from greenroom.messages.execution import Ancestor
from greenroom.messages.member import CallContext
from greenroom.messages.pickling import refuse
from greenroom.messages.requests import Acquire
from greenroom.messages.status import CancelReason, FailureKind

Send = Callable[[Acquire], LeaseFuture]
_trace_of: Callable[[BaseException], TracebackType | None]
_trace_of = vars(BaseException)["__traceback__"].__get__
"""The traceback of an error that may raise at any look."""


def _ends(error: BaseException | None) -> bool:
    """Whether it ends the code around a block, whatever its agent has done."""
    return error is not None and not issubclass(type(error), Exception)


class _Course:
    """One request, and what has come of it: shared by its loop and its attempts."""

    __slots__ = ("_granted", "_send", "_work", "future", "now", "once", "over")

    def __init__(
        self, work: Acquire, send: Send, now: Callable[[], float], once: bool = False
    ) -> None:
        self._work = work
        self._send = send
        self._granted: Lease | None = None
        self.now = now
        self.once = once
        self.future: LeaseFuture | None = None
        self.over = False

    def ask(self, can_be_cut: bool) -> LeaseFuture:
        """Where the leases come, which are asked for when the first one is wanted."""
        if self.future is None:
            self.future = self._send(replace(self._work, can_be_cut=can_be_cut))
        return self.future

    def granted(self) -> Lease | None:
        """The next lease, if the attempt before has waited for it."""
        lease, self._granted = self._granted, None
        return lease

    def next_of(self, lease: Lease | None) -> Lease:
        """That lease: no request is answered before its block has begun."""
        if lease is None:
            raise RequestCancelledError("the request has ended before its block began")
        return lease

    def goes_on(self, lease: Lease | None) -> bool:
        """What follows an attempt, the next lease or nothing: whether something does."""
        self._granted, self.over = lease, lease is None
        return lease is not None

    def leave(self, lease: Lease | None = None) -> None:
        """Nobody wants another attempt. Any thread may run this, at any point, from a finalizer: no
        lock is taken here.
        """
        self.over = True
        if self.future is not None:
            self.future.leave(lease)

    def is_elsewhere(self) -> bool:
        """Whether the pool was started before a fork, and this is the child."""
        return self.future is not None and self.future.is_elsewhere()


class Block:
    """What an attempt is to the code in its block, and what its block is to the pool."""

    __slots__ = (
        "__weakref__",
        "_course",
        "_cut",
        "_entered",
        "_fault",
        "_inside",
        "_lease",
        "_variables",
    )

    def __init__(self, course: _Course) -> None:
        self._entered = False
        self._lease: Lease | None = None
        self._cut: TaskCut | None = None
        self._fault: UnsuccessfulResultError | None = None
        self._inside: tuple[Ancestor, ...] = ()
        self._variables: tuple[tuple[ContextVar[Any], Any, Token[Any]], ...] = ()
        self._course = course  # last: see `__del__`

    # -- what is known of it, in its block

    @property
    def context(self) -> CallContext:
        """What an agent that is called would be given: the request's id, key and metadata, the
        number of the attempt, the time that is left, `started_side_effects()`, `alive()`.
        """
        return self._open_lease().context

    @property
    def member(self) -> str:
        """Whose agent it is."""
        return self.context.member

    @property
    def number(self) -> int:
        """1 for the first attempt of the request."""
        return self.context.attempt

    @property
    def given_up(self) -> CancelReason | None:
        """Why the pool wants it no more, which its block may still have to hear; None as long as it
        does.
        """
        return self._open_lease().cancelled

    # -- what its block may say

    def first(self) -> None:
        """A chunk is about to be passed on: no other member can take the request over from now on,
        and what goes wrong is a `StreamInterruptedError`. Called for each further one, it shows
        that they come, for `chunk_timeout_s`.

        Raises:
            RequestCancelledError: the attempt has been given up: the chunk is not wanted.
        """
        lease = self._open_lease()
        if lease.cancelled is not None or not lease.marks.mark():
            raise self._given_up()

    def paused(self) -> Paused:
        """`with attempt.paused():` around what is the consumer's own time, the `yield` of a
        generator say: no chunk is owed meanwhile, and nothing is cut short in there.

        Leaving it raises a `RequestCancelledError` if the attempt has been given up meanwhile.
        """
        return Paused(self)

    def pause(self) -> None:
        """`paused` begins."""
        self._open_lease().marks.hold()
        self._unset_variables()
        if self._cut is not None:
            self._cut.paused = True

    def resume(self, error: BaseException | None) -> None:
        """It ends."""
        lease = self._lease
        if lease is None:  # the block has been left inside of it
            return
        lease.marks.go_on()
        self._set_variables(lease)
        given_up = error is None and lease.cancelled is not None
        if self._cut is not None:
            self._cut.resume(told=given_up)
        if given_up:
            raise self._given_up()

    @property
    def is_open(self) -> bool:
        """Whether its block runs."""
        return self._lease is not None

    @property
    def was_left(self) -> bool:
        """Whether its block has been entered and left."""
        return self._entered and self._lease is None

    def fail(
        self,
        reason: str = "its caller says so",
        *,
        kind: FailureKind | str = FailureKind.UNKNOWN,
        retry_after_s: float | None = None,
        lost: bool = False,
    ) -> None:
        """The agent has failed without raising, by an error in its answer say. It counts when the
        block is left without an error; what follows is what would follow had that been raised.

        Args:
            reason: for the log and the errors.
            kind: what it means: see the kinds of failure.
            retry_after_s: how long the member wants to be left alone.
            lost: whether it is gone for good, as by an `AgentLostError`.
        """
        check.flag("lost", lost)
        self._fault = UnsuccessfulResultError(
            f"{self.member} failed: {reason}",
            kind=FailureKind(kind),
            retry_after_s=retry_after_s,
            lost=lost,
        )

    def _open_lease(self) -> Lease:
        if self._lease is None:
            raise RuntimeError(
                "an attempt is to be used inside of its block: with attempt as agent"
            )
        return self._lease

    def _given_up(self) -> RequestCancelledError:
        context = self.context
        return RequestCancelledError(
            f"attempt {context.attempt} of {context.request_id} has been given up"
        )

    # -- its block

    def __enter__(self) -> Any:
        """The agent; it waits for one."""
        self._begin()
        try:
            asked = self._course.ask(can_be_cut=False)
            while True:
                lease = self._course.granted() or self._course.next_of(asked.wait_lease())
                if self._opens(lease, None):
                    return lease.agent
        except BaseException:
            self._leave()
            raise

    def _left(self, error: BaseException | None) -> bool:
        """The block in a thread has been left: whether its error is done with."""
        ended = True
        try:
            lease = self._close()
            if lease is None:
                return False
            if _ends(error):
                return self._leave()
            ended = self._end(lease, error)
            return not self._course.over and self._goes_on(self._asked().wait_lease(), error)
        except BaseException as final:
            return self._fails(final, error, ended)

    async def __aenter__(self) -> Any:
        """The same without blocking the event loop."""
        self._begin()
        try:
            asked = self._course.ask(can_be_cut=True)
            while True:
                lease = self._course.granted() or self._course.next_of(await asked.await_lease())
                if self._opens(lease, TaskCut()):
                    try:
                        return lease.agent if lease.make is None else await lease.make()
                    except BaseException as error:  # there is no block yet, and yet it has failed
                        if not await self._aleft(error):
                            raise
        except BaseException:
            self._leave()
            raise

    async def _aleft(self, error: BaseException | None) -> bool:
        """The same of a block in a task."""
        ended = True
        try:
            cut, lease = self._cut, self._close()
            if lease is None or cut is None:
                return False
            # The task's own end is nothing that the agent has done. A cancellation that nobody has
            # asked for is: so it is judged, as that of the pool's own is.
            cancelled = cut.close(error)
            if cancelled or (_ends(error) and not is_cancellation(error)):
                self._leave()
                if cancelled and cut.has_cut:
                    # The error may be that of the cut. A scope of anyio's knows its own alone, and
                    # raises that again where the task waits: within two turns.
                    await give_way()
                    await give_way()
                return False
            ended = self._end(lease, error)
            return not self._course.over and self._goes_on(await self._asked().await_lease(), error)
        except BaseException as final:
            return self._fails(final, error, ended)

    def _begin(self) -> None:
        if self._entered:
            raise RuntimeError("an attempt is entered once: each round of the loop has its own")
        self._entered = True

    def _asked(self) -> LeaseFuture:
        asked = self._course.future
        assert asked is not None
        return asked

    def _opens(self, lease: Lease, cut: TaskCut | None) -> bool:
        """Begin the block; False where the pool has taken the lease back."""
        self._lease, self._cut = lease, cut  # first: whatever breaks in below, it is given back
        if lease.begin(self._course.now(), cut):
            # What is asked for in the block is asked for from inside of the call.
            self._inside = (*INSIDE.get(), lease.inside)
            INSIDE.set(self._inside)
            self._set_variables(lease)
            return True
        self._lease = self._cut = None
        return False

    def _close(self) -> Lease | None:
        """The lease of the block that is left; None in a child of a fork, which has none."""
        self._step_out()
        return None if self._course.is_elsewhere() else self._lease

    def _step_out(self) -> None:
        """What is asked for from here on is not from inside of the call."""
        # Not by a token: a generator may be closed in another context than it was begun in.
        if self._inside and INSIDE.get() == self._inside:
            INSIDE.set(self._inside[:-1])
        self._unset_variables()

    def _set_variables(self, lease: Lease) -> None:
        """What has been set for the attempt holds from here on."""
        if lease.variables:
            self._variables = tuple(
                (variable, value, variable.set(value)) for variable, value in lease.variables
            )

    def _unset_variables(self) -> None:
        """What was there before holds again, unless the block has left something else there."""
        variables, self._variables = self._variables, ()
        for variable, value, token in variables:
            if variable.get(None) is not value:
                continue
            try:
                variable.reset(token)
            except ValueError:  # in another context, which has it by a copy
                if token.old_value is not Token.MISSING:
                    variable.set(token.old_value)

    def _end(self, lease: Lease, error: BaseException | None) -> bool:
        """Have the attempt judged; whether it had not been given up on before."""
        stands = lease.cancelled is None
        ended = lease.end(error if error is not None else self._fault)
        self._lease = self._cut = None  # only now: else it is given back by `_leave`
        # One attempt: its caller has its own error, whatever that says of the member.
        if self._course.once and stands and ended:
            self._course.over = True
        return ended

    def _goes_on(self, following: Lease | None, error: BaseException | None) -> bool:
        """What follows is known, the next lease or the end: whether the error is done with."""
        goes_on = self._course.goes_on(following)
        if goes_on and error is not None and (trace := _trace_of(error)) is not None:
            # The report of it lasts as long as the request. It need not hold the caller's frame,
            # with all that this has, the next attempts among it.
            BaseException.with_traceback(error, trace.tb_next)
        return following is not None

    def _fails(self, final: BaseException, error: BaseException | None, ended: bool) -> bool:
        """The request has come to its end by `final`, which may be the block's own error; or
        something has broken in here.
        """
        self._leave()
        if final is error:
            return False
        if not ended and isinstance(final, RequestCancelledError):
            raise AttemptTimeoutError("the block of an attempt went on when its time was over")
        raise final

    def _leave(self) -> bool:
        """Give back what there is, unjudged; in whatever thread, from a finalizer."""
        lease, cut, self._lease, self._cut = self._lease, self._cut, None, None
        if cut is not None:
            cut.forget()
        self._course.leave(lease)
        self._step_out()
        return False

    def __del__(self) -> None:
        if not hasattr(self, "_course"):  # its making was broken off
            return
        if self._lease is not None or (self._course.once and not self._course.over):
            self._leave()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("an attempt", "its block runs in the process that has begun it")

    def __repr__(self) -> str:
        if self._lease is None:
            return f"<{type(self).__name__} {'left' if self._entered else 'not entered'}>"
        return (
            f"<{type(self).__name__} {self.number} of {self.context.request_id}, on {self.member}>"
        )


class Attempt(Block):
    """One attempt at a request in the caller's own code: `async with attempt as agent`, or `with`.

    The block that is left in the usual way, be it by `break` or `return`, has succeeded. What it
    raises is judged as what an agent raises: either the next attempt follows, and the error is
    swallowed, or the request fails, with what `ask` would raise. A block that is left since its
    task is cancelled, or its generator closed, counts for nothing.
    """

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self._left(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return await self._aleft(error)


class Acquired(Block):
    """The only attempt at a request: it swallows nothing.

    What its block raises is judged, and raised as it is. What the pool has to say of it, that its
    time is over say, is what `ask` would raise.
    """

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._aleft(error)


class Paused:
    """The consumer's own time, in the block of an attempt."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Block) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        self._attempt.pause()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._attempt.resume(error)


class AttemptLoop:
    """A `for` or an `async for` over the attempts of one request."""

    __slots__ = ("_course", "_last")

    def __init__(self, course: _Course) -> None:
        self._last: Attempt | None = None
        self._course = course  # last, as in `Block`

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        if not self._goes_on():
            raise StopIteration
        self._last = Attempt(self._course)
        return self._last

    async def __anext__(self) -> Attempt:
        if not self._goes_on():
            raise StopAsyncIteration
        self._last = Attempt(self._course)
        return self._last

    def _goes_on(self) -> bool:
        if self._last is not None and not self._last.was_left:
            raise RuntimeError("each attempt is to be entered, and left: with attempt as agent")
        return not self._course.over

    def __del__(self) -> None:
        if not hasattr(self, "_course"):
            return
        # A loop that is left between two attempts: an open block comes to an end of its own.
        if not self._course.over and (self._last is None or not self._last.is_open):
            self._course.leave()


class Attempts:
    """What `PoolRef.attempts` returns: each loop over it is a request of its own."""

    __slots__ = ("_new_course",)

    def __init__(self, work: Acquire, send: Send, now: Callable[[], float]) -> None:
        self._new_course = functools.partial(_Course, work, send, now)

    def __iter__(self) -> AttemptLoop:
        return AttemptLoop(self._new_course())

    def __aiter__(self) -> AttemptLoop:
        return AttemptLoop(self._new_course())


def acquired(work: Acquire, send: Send, now: Callable[[], float]) -> Acquired:
    """The one attempt of a request."""
    return Acquired(_Course(work, send, now, once=True))
