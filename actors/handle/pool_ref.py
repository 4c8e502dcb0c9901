"""The app's handle on a pool: a Pykka actor ref that knows about requests, members and pools."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self, Unpack, cast, overload

import pykka

from greenroom.actors.handle.asking_ref import AskingRef
from greenroom.actors.handle.map_window import Window
from greenroom.actors.handle.pool_map import Flight, aresults, results
from greenroom.actors.handle.pool_stream import PoolStream
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages import _validate as check
from greenroom.messages.config import ChangeableSettings
from greenroom.messages.configure import Configure, MemberSettings
from greenroom.messages.errors import PoolError, PoolStoppedError
from greenroom.messages.events import Event
from greenroom.messages.member import CallContext, Member
from greenroom.messages.replies import MapResult, PoolStats, Reply
from greenroom.messages.requests import (
    AddMember,
    Cancel,
    DisableBreaker,
    Drain,
    EachSettings,
    ForceOpen,
    GetStats,
    RemoveMember,
    ReportMember,
    Request,
    RequestOptions,
    ResetAll,
    ResetMember,
    Subscribe,
    check_one_timeout,
)
from greenroom.messages.status import ReportedState, ReportedStateName

OUTER_ID_SHOWN = 600
"""How much of an outer request's id that of the inner one repeats: ids of pools in pools grow, and
there is a limit to them."""


class Source(Protocol):
    """Where a pool comes from, and is read from again: a file, see `AgentPool.from_toml`."""

    def reload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Have the pool be what stands there now; what has changed, in words."""

    async def areload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """The same, without blocking the event loop."""


class Recorder(Protocol):
    """What remembers where requests went, and why: see `AgentPool.start(record=)`."""

    def explain(self, request_id: str | None = None) -> str:
        """Why a request went where it did, in sentences; None: who is out.

        Raises:
            LookupError: nothing is known of such a request, or not any more.
        """


class PoolRef(AskingRef):
    """A running pool. `ask`, `tell`, `stop` and `is_alive` mean what they mean in Pykka.

    It is a context manager, sync and async: leaving it stops the pool (`drain` first where what is
    under way shall be finished). It lives in the process that started it: in one that is forked off
    later every call raises a `ForkedPoolError`, and leaving it does nothing.

    Attributes:
        source: what `reload` reads; None of a pool that was started by code.
        status_url: where its status is to be seen; None: nowhere.
        recorder: what `explain` asks; None of a pool that records nothing.
    """

    source: Source | None = None
    status_url: str | None = None
    recorder: Recorder | None = None

    # -- many requests

    @overload
    def map(
        self,
        payloads: Iterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[EachSettings],
    ) -> Generator[Any, None, None]: ...

    @overload
    def map(
        self,
        payloads: Iterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["return"],
        **options: Unpack[EachSettings],
    ) -> Generator[MapResult[Any], None, None]: ...

    def map(
        self,
        payloads: Iterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["raise", "return"] = "raise",
        **options: Unpack[EachSettings],
    ) -> Generator[Any, None, None]:
        """What the agents make of each of the payloads, `max_in_flight` of them at a time.

        It begins with the first `next`. However many payloads there are, no more are held than may
        be in flight: a payload is pulled when there is room for it, and it keeps its place until
        its result has been taken; so a slow consumer holds the input back. Who leaves early (by
        `break`, `close()`, an error, or by letting go of it) cancels what is in flight, and closes
        the input if that is a generator. If the input raises, what was sent is answered first.

        Args:
            payloads: any iterable, an endless one too; it is pulled in the consumer's thread. A
                `Request` or an `Apply` among them is sent as it is.
            ordered: results in the order of the payloads; False: as they come.
            max_in_flight: None: twice what the members take at a time, as that changes, but no more
                beside that than may wait (`PoolConfig.max_pending`).
            timeout: seconds for each request, from when it is sent.
            errors: "raise": results are values, and the first error is raised and ends it all.
                "return": results are `MapResult`, of which an error is one like any other.
            options: those of `Request`, but for `request_id`, for each of them.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field.
            PoolStoppedError: the pool has stopped, or is draining; in either way of `errors`.
            Exception: while iterating, what `ask` raises, and what the input does.
        """
        if not isinstance(payloads, Iterable):
            raise TypeError(
                f"payloads must be an iterable, got a {type(payloads).__name__}"
                f"{' (amap takes it)' if isinstance(payloads, AsyncIterable) else ''}"
            )
        flight = self._flight(ordered, max_in_flight, timeout, errors, options)
        return results(iter(payloads), flight, self.stats)

    @overload
    def amap(
        self,
        payloads: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[EachSettings],
    ) -> AsyncGenerator[Any, None]: ...

    @overload
    def amap(
        self,
        payloads: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["return"],
        **options: Unpack[EachSettings],
    ) -> AsyncGenerator[MapResult[Any], None]: ...

    def amap(
        self,
        payloads: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        errors: Literal["raise", "return"] = "raise",
        **options: Unpack[EachSettings],
    ) -> AsyncGenerator[Any, None]:
        """`map` for `async for`, with the same arguments and errors.

        The input may be async, too. It is read in a task of its own on the consumer's loop, so that
        results come while it waits for its next payload; a sync one must not block.

        After a `break` Python closes it soon, not at once: `async with contextlib.aclosing(...)`
        has everything ended where the block is left.
        """
        if not isinstance(payloads, Iterable | AsyncIterable):
            raise TypeError(
                f"payloads must be an iterable, sync or async, got a {type(payloads).__name__}"
            )
        flight = self._flight(ordered, max_in_flight, timeout, errors, options)
        return aresults(payloads, flight, self.astats)

    def _flight(
        self,
        ordered: bool,
        max_in_flight: int | None,
        timeout: float | None,
        errors: str,
        options: EachSettings,
    ) -> Flight:
        self.check_process()
        check.flag("ordered", ordered)
        check.whole("max_in_flight", max_in_flight, minimum=1, optional=True)
        check.number("timeout", timeout, optional=True)
        check_one_timeout(timeout, options.get("timeout_s"))
        if errors not in ("raise", "return"):
            raise ValueError(f"errors must be 'raise' or 'return', got {errors!r}")
        if "request_id" in options:
            raise ValueError("request_id must be left out: each payload is a request of its own")
        Request(None, **options)  # for its refusal only, before anything is sent

        def send(payload: Any) -> PoolFuture[Reply[Any]]:
            whole = isinstance(payload, RequestOptions)
            message = payload if whole else Request(payload, **options)
            return self._submit(message, timeout, waits=True)

        window = Window(max_in_flight, ordered)
        return Flight(window, self, send, self.check_process, self._max_pending, errors == "return")

    # -- members

    def add_member(self, member: Member, *, timeout: float | None = None) -> None:
        """Take a member in.

        Raises:
            MemberExistsError: there is one of that name.
        """
        self.ask(AddMember(member), timeout=timeout)

    def remove_member(self, name: str, *, timeout: float | None = None) -> None:
        """Take a member out: no new requests, those it has are finished, then it is closed.

        Raises:
            UnknownMemberError: there is none of that name.
            pykka.Timeout: it is still busy after `timeout` seconds; it goes on draining.
        """
        self.ask(RemoveMember(name), timeout=timeout)

    def reset_member(self, name: str) -> None:
        """Close a member's breaker, forget its outcomes, bring it back if it was given up.

        Raises:
            UnknownMemberError: there is none of that name.
        """
        self.ask(ResetMember(name))

    def reset_all(self) -> None:
        """`reset_member` for every member."""
        self.ask(ResetAll())

    def force_open(self, name: str) -> None:
        """Keep requests from a member until it is reset. It holds when this returns.

        Raises:
            UnknownMemberError: there is none of that name.
        """
        self.ask(ForceOpen(name))

    def disable_breaker(self, name: str) -> None:
        """Let requests through to a member whatever happens, until it is reset.

        Raises:
            UnknownMemberError: there is none of that name.
        """
        self.ask(DisableBreaker(name))

    def report_member(
        self,
        name: str,
        state: ReportedState | ReportedStateName,
        *,
        for_s: float | None = None,
        source: str = "",
    ) -> None:
        """Say what is known of a member outside of the pool: see `ReportMember`. It holds when this
        returns. From within an agent's call `tell` a `ReportMember`, which waits for nothing.

            pool.report_member("berlin", "unreachable", for_s=5.0, source="its broker")

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field.
            UnknownMemberError: there is none of that name.
        """
        self.ask(ReportMember(name, cast(ReportedState, state), for_s=for_s, source=source))

    # -- while it runs

    def configure(
        self,
        *,
        members: Mapping[str, MemberSettings] | None = None,
        **settings: Unpack[ChangeableSettings],
    ) -> tuple[str, ...]:
        """Change settings of the pool and of its members, all at once, while it works. It holds
        when this returns, and nothing in flight is lost: see `Configure`, which also has members
        come, go and be replaced.

            pool.configure(request_timeout_s=10.0, members={"local": {"max_concurrency": 8}})

        Args:
            members: what changes, by the member's name: `weight`, `priority`, `group`,
                `max_concurrency`, `max_concurrency_ceiling`, `limits`, `metadata`, `tags`, `cost`.
            settings: fields of `PoolConfig`.

        Returns:
            What has changed, in words.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, or a setting that
                cannot change while a pool runs, named; then nothing has changed.
            UnknownMemberError: there is no member of a name.
        """
        command = Configure(settings=settings, members={} if members is None else members)
        return cast(tuple[str, ...], self.ask(command))

    def reload(self, path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
        """Be what stands in a file, as `AgentPool.from_toml` has it; None: in the one that the pool
        was started from, or that it has taken over last.

        Settings change as by `configure`. Members that are new are taken in, behind the others;
        those that are not in the file any more leave; one whose agent is another is replaced, once
        it has finished what it has. All others keep their state: breaker, statistics, calls. Who
        was added by `add_member` is left alone. When this returns, nothing new goes to an agent
        that is not in the file.

        Returns:
            What has changed, in words; nothing has if it is empty.

        Raises:
            PoolFileError: the file cannot be read, or says something that does not hold, or that a
                running pool cannot take over; then nothing has changed.
            PoolError: the pool was not started from a file; or another reload is under way.
            ModuleNotFoundError: a kind of member needs an extra that is not installed.
        """
        return self._origin().reload(self, path)

    def _origin(self) -> Source:
        self.check_process()
        if self.source is None:
            raise PoolError(
                f"pool {self.name!r} was not started from a file (AgentPool.from_toml), so there "
                "is nothing to compare one with: use configure, add_member and remove_member"
            )
        return self.source

    # -- the pool

    def stats(self) -> PoolStats:
        """The pool and its members at this moment."""
        return self.ask(GetStats())

    def explain(self, request_id: str | None = None) -> str:
        """Why a request went where it did, in plain sentences: why that member and none of the
        others, what took how long, what failed and what followed, what would have changed it. Of
        the last 10,000 requests, also when the pool has ended.

        Args:
            request_id: of the request; None: who is out, why, and until when.

        Raises:
            LookupError: nothing is known of such a request, or not any more.
            RuntimeError: the pool does not record: see `AgentPool.start(record=)`.
        """
        recorder = self._the_recorder()
        with contextlib.suppress(PoolStoppedError):
            self.stats()  # what has been reported, and lies aside, is read before that
        return recorder.explain(request_id)

    def _the_recorder(self) -> Recorder:
        self.check_process()
        if self.recorder is None:
            raise RuntimeError(
                f"pool {self.name!r} does not record: start it with record=True, or a path"
            )
        return self.recorder

    def on_event(
        self, subscriber: Callable[[Event], Any] | pykka.ActorRef[Any]
    ) -> Callable[[], None]:
        """Have every event: an actor ref is told, a callable is called on a thread kept for that.

        Returns:
            What ends the subscription when called.
        """
        return cast(Callable[[], None], self.ask(Subscribe(subscriber)))

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new requests, wait until those at hand are answered.

        Past `timeout` seconds the rest fail with a `PoolStoppedError` that says so.

        Returns:
            Whether all of them were finished in time.
        """
        return cast(bool, self.ask(Drain(timeout)))

    def cancel(self, request_id: str) -> bool:
        """Give a request up by its id; whether there was one to cancel."""
        return cast(bool, self.ask(Cancel(request_id)))

    # -- the same in coroutines: these never block the event loop

    async def aadd_member(self, member: Member, *, timeout: float | None = None) -> None:
        """`add_member`, awaited."""
        await self.aask(AddMember(member), timeout=timeout)

    async def aremove_member(self, name: str, *, timeout: float | None = None) -> None:
        """`remove_member`, awaited. Cancelled meanwhile, the member is removed all the same."""
        await self.aask(RemoveMember(name), timeout=timeout)

    async def areset_member(self, name: str) -> None:
        """`reset_member`, awaited."""
        await self.aask(ResetMember(name))

    async def areset_all(self) -> None:
        """`reset_all`, awaited."""
        await self.aask(ResetAll())

    async def aforce_open(self, name: str) -> None:
        """`force_open`, awaited."""
        await self.aask(ForceOpen(name))

    async def adisable_breaker(self, name: str) -> None:
        """`disable_breaker`, awaited."""
        await self.aask(DisableBreaker(name))

    async def aconfigure(
        self,
        *,
        members: Mapping[str, MemberSettings] | None = None,
        **settings: Unpack[ChangeableSettings],
    ) -> tuple[str, ...]:
        """`configure`, awaited."""
        command = Configure(settings=settings, members={} if members is None else members)
        return cast(tuple[str, ...], await self.aask(command))

    async def areload(self, path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
        """`reload`, awaited; the file is read in a thread."""
        return await self._origin().areload(self, path)

    async def astats(self) -> PoolStats:
        """`stats`, awaited."""
        return await self.aask(GetStats())

    async def aexplain(self, request_id: str | None = None) -> str:
        """`explain`, awaited."""
        recorder = self._the_recorder()
        with contextlib.suppress(PoolStoppedError):
            await self.astats()
        return recorder.explain(request_id)

    async def adrain(self, timeout: float | None = None) -> bool:
        """`drain`, awaited. Cancelled meanwhile, the pool goes on draining."""
        return cast(bool, await self.aask(Drain(timeout)))

    async def acancel(self, request_id: str) -> bool:
        """`cancel`, awaited."""
        return cast(bool, await self.aask(Cancel(request_id)))

    async def areport_member(
        self,
        name: str,
        state: ReportedState | ReportedStateName,
        *,
        for_s: float | None = None,
        source: str = "",
    ) -> None:
        """`report_member`, awaited."""
        await self.aask(ReportMember(name, cast(ReportedState, state), for_s=for_s, source=source))

    # -- as a context manager

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
        if not self.is_elsewhere():
            # Not waited for in this thread: the loop that runs here may have other things to do.
            await self.stop(block=False)

    def _leave(self) -> None:
        """Stop, where the pool lives: a child that leaves its parent's block has nothing to end."""
        if not self.is_elsewhere():
            self.stop()

    # -- as a member of another pool

    def forward(self, payload: Any, context: CallContext) -> PoolFuture[Reply[Any]]:
        """Take a request over from a pool of which this one is a member.

        Key, priority, metadata, the time that is left and whether it may be repeated pass through.
        The id begins with the outer request's and its attempt: `front-7#2/eu-31`.
        """
        request = self._forwarded(payload, context)
        # It is awaited at once (`nested_pool`): on a loop, where its caller waits, but no thread.
        return self._submit(request, context.remaining_s, context, waits=True)

    def forward_stream(self, payload: Any, context: CallContext) -> PoolStream[Any]:
        """The same for an answer that is wanted chunk by chunk."""
        request = self._forwarded(payload, context)
        return self._open(request, context.remaining_s, context)

    def _forwarded(self, payload: Any, context: CallContext) -> Request[Any]:
        number = next(self._numbers)
        outer = context.request_id[-OUTER_ID_SHOWN:]
        return Request(
            payload,
            key=context.key,
            priority=context.priority,
            idempotent=context.idempotent,
            metadata=context.metadata,
            request_id=f"{outer}#{context.attempt}/{self.name}-{number}",
        )

    def can_serve(self) -> bool:
        """Whether a member could take a request, now or once it is less busy.

        Made to be the probe of a member that is a pool: `Member(..., probe=PoolRef.can_serve)`.

        Raises:
            PoolStoppedError: the pool has stopped.
        """
        return self.stats().can_serve

    def close(self) -> None:
        """`stop`, under the name by which a pool ends what a factory has made for it."""
        self.stop()

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        if self.is_elsewhere():
            return f"<PoolRef {self.name}, of process {forks.pid_of(self._born)}>"
        return f"<PoolRef {self.name}{'' if self.is_alive() else ', stopped'}>"
