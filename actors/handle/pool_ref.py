"""The app's handle on a pool: a Pykka actor ref that knows about requests, members and pools."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import pykka

from greenroom.actors.handle.asking_ref import AskingRef
from greenroom.actors.handle.pool_stream import PoolStream
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.events import Event
from greenroom.messages.member import CallContext, Member
from greenroom.messages.replies import PoolStats, Reply
from greenroom.messages.requests import (
    AddMember,
    Cancel,
    DisableBreaker,
    Drain,
    ForceOpen,
    GetStats,
    RemoveMember,
    Request,
    ResetAll,
    ResetMember,
    Subscribe,
)

OUTER_ID_SHOWN = 600
"""How much of an outer request's id that of the inner one repeats: ids of pools in pools grow, and
there is a limit to them."""


class PoolRef(AskingRef):
    """A running pool. `ask`, `tell`, `stop` and `is_alive` mean what they mean in Pykka.

    It is a context manager, sync and async: leaving it stops the pool (`drain` first where what is
    under way shall be finished). It lives in the process that started it: in one that is forked off
    later every call raises a `ForkedPoolError`, and leaving it does nothing.
    """

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

    # -- the pool

    def stats(self) -> PoolStats:
        """The pool and its members at this moment."""
        return self.ask(GetStats())

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

    async def astats(self) -> PoolStats:
        """`stats`, awaited."""
        return await self.aask(GetStats())

    async def adrain(self, timeout: float | None = None) -> bool:
        """`drain`, awaited. Cancelled meanwhile, the pool goes on draining."""
        return cast(bool, await self.aask(Drain(timeout)))

    async def acancel(self, request_id: str) -> bool:
        """`cancel`, awaited."""
        return cast(bool, await self.aask(Cancel(request_id)))

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
        (`stats().available` leaves out who is busy: a pool at work would be taken for a dead one.)

        Raises:
            PoolStoppedError: the pool has stopped.
        """
        stats = self.stats()
        return not stats.draining and any(
            each.available or (each.health.is_available and each.in_flight >= each.max_concurrency)
            for each in stats.members
        )

    def close(self) -> None:
        """`stop`, under the name by which a pool ends what a factory has made for it."""
        self.stop()

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        if self.is_elsewhere():
            return f"<PoolRef {self.name}, of process {forks.pid_of(self._born)}>"
        return f"<PoolRef {self.name}{'' if self.is_alive() else ', stopped'}>"
