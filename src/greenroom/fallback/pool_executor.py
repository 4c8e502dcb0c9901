"""`PoolExecutor`: ordered failover over members whose agents are created on demand."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeVar, Unpack, overload

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.fallback.agent_spec import (
    AgentCreator,
    AgentRequest,
    MemberConfig,
    checked_members,
    checked_request,
    creation,
)
from greenroom.fallback.lazy_agent import AGENT, LazyAgent
from greenroom.fallback.ring import Ring, creations_told_apart
from greenroom.flight.flight_recorder import Record
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.member import Member
from greenroom.messages.requests import Apply, Request, RequestSettings, check_one_timeout
from greenroom.otel.activation import TelemetrySetting
from greenroom.pool.pool_owner import MAX_CONCURRENCY, PoolOwner, never_lost
from greenroom.shared.state_store import SharedState

R = TypeVar("R")


class PoolExecutor(PoolOwner):
    """Ordered failover: one member does the work until a run of it fails, then the next one does.

        members = [MemberConfig("primary"), MemberConfig("secondary")]
        with PoolExecutor("writers", members, make_agent) as executor:
            text = executor.execute("hello")

    The first member that can be created is created on first use, and nobody else; its agent is
    used again until a run of it fails. A failed agent is forgotten at once (and closed when nobody
    uses it any more), the same request goes on to the next member, which stays in charge from then
    on; behind the last member comes the first. Whoever's turn comes again is created anew. A
    request has one turn of each member: when all have failed it ends in
    `AllPoolMembersFailedError`, and the next one begins at once with the member that is due.

    Failures that do not speak against the member leave its agent alone: an error of the caller's
    own (HTTP 400; raised as it is), a request too large for it (413; the next member gets that
    one), a run that its caller's `timeout` or cancellation ends before `config.request_timeout_s`
    does.

    An executor has one agent in charge at a time; concurrent callers share it. Sync agents run in
    threads, async ones on the event loop of the executor's pool. Safe to use from several threads.

    Args:
        pool_name: how the log and the errors call it.
        members: in the order in which they are tried, at least one.
        creator: an `AgentCreator`, or a callable `(name, request) -> agent`, sync or async; one
            that has a parameter named `cfg` is given the member's `cfg` by it. An agent is whatever
            a `Member` may have; for `agent` and `apply` any object but None.
        request: what the creator is given; None: an empty `AgentRequest`.
        config: the settings of the pool underneath; its circuit breakers are on then. None: no
            breakers, and no run is cut short. Its `event_loop="auto"` means "own" here.
        max_concurrency: runs that one agent takes at a time; further ones wait.
        status, telemetry, record: as of `AgentPool.start`, for the pool underneath.
        shared: the same; it needs a `config`, since without one there are no breakers.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        MemberExistsError: two members of the same name.
    """

    def __init__(
        self,
        pool_name: str,
        members: Iterable[MemberConfig],
        creator: AgentCreator | Callable[..., Any],
        request: AgentRequest | None = None,
        *,
        config: PoolConfig | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        status: str | os.PathLike[str] | None = None,
        telemetry: TelemetrySetting = "auto",
        record: Record | None = None,
        shared: SharedState | str | None = None,
    ) -> None:
        super().__init__(
            pool_name,
            config,
            max_concurrency,
            field="pool_name",
            status=status,
            telemetry=telemetry,
            record=record,
            shared=shared,
        )
        self.members = checked_members(members)
        self.request = checked_request(request)
        self._creations = [creation(creator, each, self.request) for each in self.members]

    @property
    def pool_name(self) -> str:
        """The name of the pool."""
        return self.name

    # -- calls

    def agent(self, *, timeout: float | None = None) -> Any:
        """The agent in charge; made first if there is none, by the first member that can.

        What the caller does with it is not seen here: a failure that shall lead on to the next
        member has to come by way of `execute` or `apply`.

        Raises:
            AllPoolMembersFailedError: nobody could be created; it lists each with its error.
            DeadlineExceededError: `timeout` seconds are over.
            PoolStoppedError: the executor has been closed.
        """
        return self.execute(AGENT, timeout=timeout)

    def execute(
        self, payload: Any, *, timeout: float | None = None, **options: Unpack[RequestSettings]
    ) -> Any:
        """What the agent in charge makes of `payload`, or the next one when its run fails.

        Args:
            payload: what the agent is run with.
            timeout: seconds for the whole of it.
            options: those of `Request`.

        Raises:
            AllPoolMembersFailedError: every member failed: `pool_name`, `member_names`, and in
                `errors` each with its place, kind and error, in evaluation order.
            DeadlineExceededError: `timeout` is over (a `TimeoutError` as well).
            PoolStoppedError: the executor has been closed.
            Exception: the agent's own, when it says that the request itself is at fault.
        """
        check_one_timeout(timeout, options.get("timeout_s"))
        request = Request(payload, **options)
        if not request.idempotent:
            until = _until(timeout)
            self.agent(timeout=timeout)  # a creation that fails may be repeated all the same
            timeout = _left(until)
        return self.pool.ask(request, timeout=timeout).value

    run = execute

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
        """What `function(agent)` returns, sync or async; it fails over like a run.

        A sync function runs where the agent does: with an async one on the event loop, so that it
        may return an awaitable and must not block.
        """
        return self.execute(Apply(function), timeout=timeout, **options)

    async def aagent(self, *, timeout: float | None = None) -> Any:
        """`agent`, without blocking the caller's event loop."""
        return await self.aexecute(AGENT, timeout=timeout)

    async def aexecute(
        self, payload: Any, *, timeout: float | None = None, **options: Unpack[RequestSettings]
    ) -> Any:
        """`execute`, without blocking the caller's event loop; cancelling it cancels the run."""
        check_one_timeout(timeout, options.get("timeout_s"))
        request = Request(payload, **options)
        if not request.idempotent:
            until = _until(timeout)
            await self.aagent(timeout=timeout)
            timeout = _left(until)
        return (await self.pool.ask(request, block=False, timeout=timeout)).value

    arun = aexecute

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
        """`apply`, without blocking the caller's event loop."""
        return await self.aexecute(Apply(function), timeout=timeout, **options)

    def __repr__(self) -> str:
        names = " -> ".join(member.name for member in self.members)
        return f"<PoolExecutor {self.name}: {names}>"

    # -- the pool

    def _start_pool(self) -> PoolRef:
        # Nothing that is made here refers to the executor: see `PoolOwner`.
        ring = Ring()
        lazy_agents = [
            LazyAgent(member.name, self.name, create, self._config, ring.lost.append)
            for member, create in zip(self.members, self._creations, strict=True)
        ]
        members = [
            Member(
                each.name,
                each,
                close=LazyAgent.close,
                lost=never_lost,
                max_concurrency=self._max_concurrency,
            )
            for each in lazy_agents
        ]
        kind_of = creations_told_apart(lazy_agents, self._config.classify)
        # A value is judged where its agent is at hand, so the pool need not do it again; what it
        # collects from a stream is seen by the pool alone.
        auto: Literal["auto"] | None = "auto" if self._config.is_failure == "auto" else None
        return self._launch(members, ring, is_failure=auto, classify=kind_of)


def _until(timeout: float | None) -> float | None:
    """When the time is over that both steps have together."""
    if timeout is None:
        return None
    check.number("timeout", timeout)  # before it is reckoned with: its error names the field
    return SYSTEM_CLOCK.now() + timeout


def _left(until: float | None) -> float | None:
    """Of that time; a millisecond at least, in which the pool says that it is over."""
    return None if until is None else max(0.001, until - SYSTEM_CLOCK.now())
