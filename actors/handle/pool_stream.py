"""The app's end of a stream: one object for `for`, `async for`, `with` and `collect`."""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Mapping
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, SupportsIndex, TypeVar

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.channel import ANEW, EMPTY, END, Channel
from greenroom.actors.runtime.future import PoolFuture, StreamFuture
from greenroom.actors.runtime.thread_duties import HERE, running_loop, waits_for
from greenroom.actors.runtime.waker import wait_here
from greenroom.messages.errors import AttemptError, StreamInterruptedError
from greenroom.messages.pickling import refuse
from greenroom.messages.replies import Restarted

C = TypeVar("C")


class PoolStream(Generic[C]):
    """An answer that comes chunk by chunk, made by `PoolRef.stream`. It is under way already.

    Iterate over it with `for` or `async for`. Whoever leaves such a loop early, leaves the `with`
    block, cancels it or lets go of it closes the agent's generator and frees its slot. It can be
    read once; chunks that one consumer has had are not for another.

    Iterating raises what `ask` would raise, as long as there has been no chunk that counts; after
    the first one a `StreamInterruptedError` with what was received. What has arrived is delivered
    before the error.

    With `PoolConfig(on_cut="restart")` a chunk may be a `Restarted`: another member has started
    over, what came before is void. The type of a chunk does not say so, since all other pools never
    send one; `isinstance(chunk, Restarted)` tells. With `on_cut="hold"` nothing comes before the
    end, and the whole answer lies in memory until then.
    """

    def __init__(self, future: StreamFuture) -> None:
        self._channel: Channel = future.channel
        self._born = forks.generation
        self._future = future  # last: see `__del__`

    @property
    def request_id(self) -> str:
        """The id of the request."""
        return self._future.request_id or ""

    @property
    def member(self) -> str | None:
        """Whose chunks these are; None before the first one."""
        return self._channel.member

    @property
    def attempts(self) -> int:
        """How many attempts it has taken so far."""
        return self._channel.attempts

    @property
    def errors(self) -> tuple[AttemptError, ...]:
        """What became of the members that failed before the first chunk of the one that delivers,
        those included whose streams broke off if it has started over.
        """
        return self._channel.errors

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the agent has said of its answer, as in `Reply.metadata`; empty until
        it has come to its end."""
        return self._channel.metadata

    def cancel(self) -> bool:
        """Give the stream up; False when it had come to its end already.

        The agent's generator is closed at once where it waits (a sync one that is at work, when it
        yields next), its slot is freed, and nothing is counted as a failure. Who goes on iterating
        has a `RequestCancelledError`.
        """
        given_up = self._future.cancel()  # first: what the producer does next comes after this
        self._channel.left = True
        return given_up

    def close(self) -> None:
        """Leave the stream, as a loop or a `with` block does; nothing happens if it has ended."""
        self._leave()

    def first(self) -> PoolFuture[str | None]:
        """Whether the stream begins: `await stream.first()`, or `stream.first().get(timeout=)`.

        The future has the member's name as soon as its first chunk that counts lies ready, None
        when the stream has ended well without any, and raises what iterating would raise when it
        fails before. No chunk is taken. It can be asked for at any time, and any number of times;
        to stop waiting for it gives nothing up. With `on_cut="hold"` a stream begins at its end.
        """
        future: PoolFuture[str | None] = PoolFuture()
        if self._born != forks.generation:  # before the channel's lock: see `forks`
            future.resolve(error=self._future._forked())
            return future
        # What waits for this future waits for the request: it is told, and refused, in its name.
        future.inside, future.stands_for = self._future.inside, self._future
        channel = self._channel  # not `self`: whoever lets go of the stream leaves it

        def tell() -> None:
            try:
                future.resolve(channel.first())
            except Exception as error:
                future.resolve(error=error)

        # It may be called here and now, or by whoever puts the first chunk in.
        channel.watch_first(tell)
        return future

    def collect(self) -> list[C]:
        """All chunks that have not been taken yet, once the stream has come to its end. If it has
        started over meanwhile, those of the last attempt: the whole answer.

        Raises:
            StreamInterruptedError: it broke off; `received` has all of these chunks, however many.
            Exception: what iterating raises.
        """
        chunks: list[C] = []
        try:
            while (chunk := self._take()) is not END:
                if chunk is EMPTY:
                    self._wait()
                else:
                    _add(chunk, chunks)
            return chunks
        except StreamInterruptedError as error:
            # What the channel remembers is bounded; these are all, but for what was taken before.
            error.received = max(tuple(chunks), error.received, key=len)
            raise

    async def acollect(self) -> list[C]:
        """`collect` without blocking the event loop."""
        chunks: list[C] = []
        try:
            while (chunk := self._take()) is not END:
                if chunk is EMPTY:
                    await self._arrival()
                else:
                    _add(chunk, chunks)
            return chunks
        except StreamInterruptedError as error:
            error.received = max(tuple(chunks), error.received, key=len)
            raise

    # -- iterating

    def __next__(self) -> C:
        while (chunk := self._take()) is EMPTY or chunk is ANEW:
            if chunk is EMPTY:
                self._wait()
        if chunk is END:
            raise StopIteration
        taken: C = chunk  # no call: none could be hit by a signal and lose it
        return taken

    def __anext__(self) -> Coroutine[Any, Any, C]:
        return _next_of(self, self)

    def __iter__(self) -> Reader[C]:
        return Reader(self)

    def __aiter__(self) -> AsyncReader[C]:
        return AsyncReader(self)

    def _take(self) -> Any:
        if self._born != forks.generation:  # before the channel's lock: see `forks`
            raise self._future._forked()
        try:
            return self._channel.take()
        except StreamInterruptedError as error:
            error.received = tuple(self._channel.received)
            error.received_count = self._channel.taken
            raise

    def _wait(self) -> None:
        if HERE.duty is None and running_loop() is None:
            self._wait_told()
            return
        future = self._future
        held = future.may_wait()
        with waits_for(future._pool(), future.request_id, held):
            self._wait_told()

    def _wait_told(self) -> None:
        if self._future.inside:
            self._future.say_waiting()
        # One for each wait: a late wake of one that was broken off must not end the next one.
        bell: SimpleQueue[None] = SimpleQueue()
        ring = functools.partial(bell.put, None)
        try:
            self._channel.watch_chunks(ring)
            bell.get()
        except BaseException:  # somebody pressed Ctrl-C
            self._channel.unwatch_chunks(ring)
            raise

    async def _arrival(self) -> None:
        if HERE.duty is not None or self._future.inside:
            self._future.may_await()
        if self._future.inside:
            self._future.say_waiting()
        waiting, wake = wait_here()
        try:
            self._channel.watch_chunks(wake)
            await waiting
        except BaseException:  # cancelled, or closed as a whole
            self._channel.unwatch_chunks(wake)
            raise

    # -- leaving

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Any thread may run this, at any point, from a finalizer: no lock is taken here."""
        try:
            self._future.let_go()  # first, as in `cancel`
        finally:
            self._channel.left = True

    def __del__(self) -> None:
        if "_future" in self.__dict__:  # else its making was broken off, by a Ctrl-C say
            _leave_all_the_same(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a stream of a pool", "its chunks come to the process that asked: send those")

    def __repr__(self) -> str:
        whose = f" of {self.member}" if self.member else ""
        state = "ended" if self._channel.ended else "open" if self.member else "not begun"
        return f"<PoolStream {self.request_id}{whose}, {state}, {self._channel.taken} chunks taken>"


def _leave_all_the_same(stream: PoolStream[Any]) -> None:
    """In a finalizer, which nobody calls again: though an error break in."""
    try:
        stream._leave()
    except BaseException:
        stream._leave()
        raise


async def _next_of(stream: PoolStream[C], reader: object) -> C:
    """The next chunk.

    Args:
        reader: whoever was asked for it; it is held until then, since to let go of it is to leave.
    """
    while (chunk := stream._take()) is EMPTY or chunk is ANEW:
        if chunk is EMPTY:
            await stream._arrival()
    if chunk is END:
        raise StopAsyncIteration
    taken: C = chunk
    return taken


def _add(chunk: Any, chunks: list[Any]) -> None:
    """The chunk, or the mark that all before it are void."""
    if chunk is ANEW or type(chunk) is Restarted:
        chunks.clear()
    else:
        chunks.append(chunk)


class Reader(Generic[C]):
    """A `for` loop over a stream. When the loop is left, nothing holds this any more."""

    __slots__ = ("_stream",)

    def __init__(self, stream: PoolStream[C]) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> C:
        return self._stream.__next__()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        self._stream.__reduce_ex__(protocol)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            _leave_all_the_same(self._stream)


class AsyncReader(Generic[C]):
    """An `async for` loop over a stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: PoolStream[C]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, C]:
        return _next_of(self._stream, self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        self._stream.__reduce_ex__(protocol)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            _leave_all_the_same(self._stream)


__all__ = ["PoolStream"]
