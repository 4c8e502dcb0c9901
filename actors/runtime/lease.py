"""An attempt whose code is its caller's own: what the pool hands over, and how it comes back."""

from __future__ import annotations

import contextlib
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import pykka

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.channel import Channel
from greenroom.actors.runtime.future import PoolFuture, StreamFuture
from greenroom.actors.runtime.task_cut import TaskCut
from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.execution import Ancestor
from greenroom.messages.member import CallContext
from greenroom.messages.status import CancelReason


class Marks(Protocol):
    """What a block says of its chunks, which it gives to its consumer by itself."""

    def mark(self) -> bool:
        """There is one; False where the attempt has been given up."""

    def hold(self) -> None:
        """Its consumer has it: none is owed meanwhile."""

    def go_on(self) -> None:
        """The next one is owed from now on."""


class LeasedCall(Protocol):
    """The call behind a lease, as far as its caller needs it."""

    cancelled: CancelReason | None
    handle: Any

    def begin(self, now: float) -> bool: ...

    def left(self, error: BaseException | None) -> bool: ...


class Lease:
    """A member's agent and its slot, in the hands of whoever asked.

    It is begun and ended once, where the caller's block runs. Between the two the router may take
    it back: `cut`.

    Attributes:
        agent: the agent; None where it is still to be made for the caller's loop, by `make`.
        make: makes it, on the running loop.
        context: what an agent would know of the call.
        inside: what names the call, for whatever is asked in it.
        marks: where to say what comes of its chunks.
        asker: who it was granted to.
        variables: context variables that are to have these values in the block: what who watches
            requests has set for the attempt.
    """

    __slots__ = (
        "_call",
        "_cut",
        "_grace",
        "agent",
        "asker",
        "context",
        "inside",
        "make",
        "marks",
        "variables",
    )

    def __init__(self, call: LeasedCall) -> None:
        self._call = call
        self._cut: TaskCut | None = None
        self._grace: Callable[[], object] | None = None
        self.agent: Any = None
        self.make: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self.context: CallContext
        self.inside: Ancestor
        self.marks: Marks
        self.asker: LeaseFuture
        self.variables: tuple[tuple[ContextVar[Any], Any], ...] = ()

    @property
    def cancelled(self) -> CancelReason | None:
        """Why nobody wants it to go on; None as long as somebody does."""
        return self._call.cancelled

    def begin(self, now: float, cut: TaskCut | None) -> bool:
        """The block begins; False where the pool has taken the lease back before.

        Args:
            cut: by what it can be cut short; None where it cannot.
        """
        self._cut = cut  # first: whoever finds the call begun looks for this
        return self._call.begin(now)

    # -- the pool takes it back

    @property
    def can_be_cut(self) -> bool:
        """Whether its block hears that it is to end."""
        return self._cut is not None

    @property
    def loop(self) -> object:
        """The loop that its block runs on; None in a thread."""
        return None if self._cut is None else self._cut.loop

    def cut(self, grace: Callable[[], Callable[[], object]]) -> bool:
        """Have the block end; False where it cannot be told. Any thread may do so.

        Args:
            grace: begins, on the block's loop, the time that it has for that; returns what ends it.
        """

        def begin() -> None:
            if self._grace is None:
                self._grace = grace()

        return self._cut is not None and self._cut.cut(begin)

    # -- it comes back

    def end(self, error: BaseException | None) -> bool:
        """The block has been left, well or by that error: it is judged, and its slot is free. False
        where it had been given up on before.
        """
        grace, self._grace = self._grace, None
        if grace is not None:
            grace()
        ended = self._call.left(error)
        # Last: by this it is found if something breaks in above. The two refer to each other.
        self._call.handle = None
        return ended

    def give_back(self) -> None:
        """The block was left, and nothing is to be judged; in the router's turn."""
        if self._call.handle is self:
            self._call.cancelled = self._call.cancelled or CancelReason.CALLER
            self.end(RequestCancelledError("the block of the attempt was left"))


@dataclass(frozen=True, slots=True, eq=False)
class BlockLeft:
    """The word that a block was left by what says nothing of the agent: a cancellation, say."""

    lease: Lease


class LeaseFuture(StreamFuture):
    """What the router answers where an agent is asked for: one lease for each attempt, and the end.

    It has one reader.
    """

    def __init__(
        self,
        request_id: str,
        on_cancel: Callable[[PoolFuture[Any]], None],
    ) -> None:
        # The channel knows whether the stream of the caller's has begun. No chunk passes through.
        super().__init__(Channel(1), request_id, None, on_cancel)
        self._leases: deque[Lease] = deque()

    def grant(self, lease: Lease) -> None:
        """The next attempt may begin; in the turn of its member."""
        lease.asker = self
        with self._mutex:
            self._leases.append(lease)
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher()

    def wait_lease(self) -> Lease | None:
        """The next lease; None when the request has ended well.

        Raises:
            ReentrantAskError: it could only come when the code that runs here has returned.
            Exception: what `ask` raises.
        """
        try:
            if not self._leases and not self._done:
                self._wait(None)
        except BaseException:  # of a signal handler, say: nobody waits any more
            self.let_go()
            raise
        return self._next()

    async def await_lease(self) -> Lease | None:
        """The same in a coroutine."""
        if not self._leases and not self._done:
            await self._arrives()
        return self._next()

    def _next(self) -> Lease | None:
        # The end first: what was granted before has been taken back by it.
        if self._done:
            self._result()
            return None
        return self._leases.popleft()

    def _watch(self, watcher: Callable[[], object]) -> None:
        with self._mutex:
            if not self._leases and not self._done:
                self._watcher = watcher
                return
        watcher()

    def is_elsewhere(self) -> bool:
        """Whether it was asked for before a fork, and this is the child."""
        return self._born != forks.generation

    def leave(self, lease: Lease | None) -> None:
        """Nobody wants an attempt any more, nor the open one to go on. No lock is taken: a
        finalizer may call this.
        """
        self.let_go()
        pool = self._pool()
        if lease is not None and pool is not None:
            with contextlib.suppress(pykka.ActorDeadError):  # it has let go of all that it had
                pool.tell(BlockLeft(lease))

    @types.coroutine
    def _arrives(self) -> Generator[Any, None, None]:
        yield from self._arrival()
