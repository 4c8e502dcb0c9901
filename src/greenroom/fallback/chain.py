"""`FallbackChain`: agents in order, tried until one succeeds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, Self, TypeVar, overload

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.reading.classify import answer_of, classify
from greenroom.actors.runtime.future import PoolFuture
from greenroom.fallback.chain_run import (
    EmptyChainError,
    FallbackResult,
    InOrder,
    Link,
    OnFallback,
    Run,
    plain_function,
)
from greenroom.flight.flight_recorder import Record
from greenroom.messages import _validate as check
from greenroom.messages.config import Classifier, PoolConfig
from greenroom.messages.errors import MemberExistsError, UnknownMemberError, UnsuccessfulResultError
from greenroom.messages.member import Member
from greenroom.messages.requests import RemoveMember
from greenroom.messages.status import FailureKind
from greenroom.otel.activation import TelemetrySetting
from greenroom.pool.pool_owner import MAX_CONCURRENCY, PoolOwner, never_lost
from greenroom.shared.state_store import SharedState

A = TypeVar("A")
R = TypeVar("R")

Use = Callable[[A], R]
"""What an execution does with an agent."""

Seconds = float | None
"""None: without a limit."""


class FallbackChain(PoolOwner, Generic[A]):
    """An ordered chain of agents: each is tried in turn until one succeeds.

        chain = FallbackChain[Client]().add("primary", primary).add("secondary", secondary)
        text = chain.execute(lambda client: client.complete(prompt))

    Every execution starts from the first agent, whoever answered the last one, and tries each agent
    once at most, in the order of the chain, whatever `max_retries` and the retry budget say. An
    agent is any object; greenroom hands it to the function and does nothing else with it: it is
    not closed. The function may be sync (it runs in a thread) or async (it runs on the event loop
    of the chain's pool).

    Safe to use from several threads; callers do not wait for each other until one agent has
    `max_concurrency` calls at a time, then they wait for a free place at that same agent.

    Args:
        handled_exceptions: the types (or one type) of error that send a call on to the next agent;
            any other is raised as it is, at once. They alone decide: an HTTP 400 is handled like
            any other error. What is no `Exception` (a `SystemExit`) and not handled arrives as a
            `PoolError` with it as the cause. An agent that runs out of `config.request_timeout_s`,
            or whose value `config.is_failure` refuses, has failed whatever they say.
        on_fallback: called as `on_fallback(name, error)` for each agent that failed, in order, in
            the caller's thread, once the execution has ended; what it raises is raised.
        name: how the log and the errors call the chain.
        config: the settings of the pool underneath; its circuit breakers are on then, and an agent
            whose breaker is open is passed over. None: a plain chain without breakers, where no
            call is cut short. Its `event_loop="auto"` means "own" here: a chain is used from many.
        max_concurrency: calls that one agent takes at a time.
        status, telemetry, record: as of `AgentPool.start`, for the pool underneath.
        shared: the same; it needs a `config`, since without one there are no breakers.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    def __init__(
        self,
        handled_exceptions: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
        on_fallback: OnFallback = None,
        name: str = "fallback",
        config: PoolConfig | None = None,
        *,
        max_concurrency: int = MAX_CONCURRENCY,
        status: str | os.PathLike[str] | None = None,
        telemetry: TelemetrySetting = "auto",
        record: Record | None = None,
        shared: SharedState | str | None = None,
    ) -> None:
        super().__init__(
            name,
            config,
            max_concurrency,
            status=status,
            telemetry=telemetry,
            record=record,
            shared=shared,
        )
        self.handled_exceptions = _exceptions(handled_exceptions)
        self.on_fallback = plain_function(on_fallback)
        self._strategy = InOrder()
        self._leaving: dict[str, PoolFuture[Any]] = {}

    # -- the agents

    def add(self, name: str, agent: A) -> Self:
        """Put an agent at the end of the chain; see `insert`."""
        return self.insert(self.size, name, agent)

    def insert(self, index: int, name: str, agent: A) -> Self:
        """Put an agent before the one at `index` (as `list.insert` does); returns the chain.

        An execution under way counts it in when it has not come past that place.

        Raises:
            MemberExistsError: the chain has an agent of that name (a `ValueError` as well).
            PoolStoppedError: the chain has been closed.
        """
        check.whole("index", index, minimum=None)
        check.name("name", name)
        self._check_process()
        # Outside of the lock: the agent may take its time to finish,
        # and others must not wait for that.
        if leaving := self._leaving.get(name):
            with contextlib.suppress(UnknownMemberError):  # it never got as far as the pool
                leaving.get()
        with self._lock:
            self._check_open()
            # Under the lock, and only here: another thread may have added it while this one waited.
            if name in self.names:
                raise MemberExistsError(
                    f"name must be unique in chain {self.name!r}, got {name!r} again"
                )
            link = Link(name, agent)
            self._leaving.pop(name, None)
            links = list(self._strategy.links)
            links.insert(index, link)
            try:
                if self._pool is not None:
                    # First the pool, then the order: the strategy must not
                    # name a member that there is not.
                    self._pool.add_member(self._member(link))
                    self._settle_breaker(self._pool, name)
                self._strategy.links = tuple(links)
            except BaseException:  # of a signal handler: whoever adds it again must not find it
                if self._pool is not None:
                    self._leaving[name] = self._pool.ask(RemoveMember(name), block=False)
                raise
        return self

    def remove(self, name: str) -> bool:
        """Take an agent out; whether there was one of that name.

        It gets nothing new from here on and may finish what it has; this does not wait for it. Only
        an `add` of the same name does, so do not call that from within a call of the agent.
        """
        check.text("name", name)
        self._check_process()
        with self._lock:
            if name not in self.names:
                return False
            links = tuple(link for link in self._strategy.links if link.name != name)
            if self._pool is not None:  # first: what a signal breaks off is done by the next call
                self._leaving[name] = self._pool.ask(RemoveMember(name), block=False)
            self._strategy.links = links
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """The agents' names in order."""
        return self._strategy.order

    @property
    def size(self) -> int:
        """How many agents there are."""
        return len(self.names)

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self.names

    # -- calls

    @overload
    def execute(
        self, func: Use[A, Awaitable[R]], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> R: ...

    @overload
    def execute(
        self, func: Use[A, R], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> R: ...

    def execute(
        self, func: Use[A, Any], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> Any:
        """What `func(agent)` returns for the first agent with which it succeeds.

        Args:
            func: sync or async; what it returns is awaited if need be.
            on_fallback: for this call, in place of the chain's own.
            timeout: seconds for the whole of it.

        Raises:
            AllPoolMembersFailedError: every agent failed; it lists each with its error, in the
                order of the chain, and is chained to the first.
            EmptyChainError: there is no agent (a `RuntimeError` as well).
            DeadlineExceededError: `timeout` is over (a `TimeoutError` as well).
            PoolStoppedError: the chain has been closed.
            Exception: an error of `func` that is not handled, as it is.
        """
        return self._ask(func, on_fallback, timeout).value()

    @overload
    def execute_detailed(
        self, func: Use[A, Awaitable[R]], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[R]: ...

    @overload
    def execute_detailed(
        self, func: Use[A, R], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[R]: ...

    def execute_detailed(
        self, func: Use[A, Any], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[Any]:
        """`execute`, but that all agents failed, or that there are none, is a result, not an error.

        Raises:
            DeadlineExceededError, PoolStoppedError, Exception: as `execute` does.
        """
        return self._ask(func, on_fallback, timeout).result()

    @overload
    async def aexecute(
        self, func: Use[A, Awaitable[R]], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> R: ...

    @overload
    async def aexecute(
        self, func: Use[A, R], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> R: ...

    async def aexecute(
        self, func: Use[A, Any], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> Any:
        """`execute`, without blocking the caller's event loop; cancelling it cancels the call."""
        return (await self._aask(func, on_fallback, timeout)).value()

    @overload
    async def aexecute_detailed(
        self, func: Use[A, Awaitable[R]], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[R]: ...

    @overload
    async def aexecute_detailed(
        self, func: Use[A, R], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[R]: ...

    async def aexecute_detailed(
        self, func: Use[A, Any], on_fallback: OnFallback = None, *, timeout: Seconds = None
    ) -> FallbackResult[Any]:
        """`execute_detailed`, without blocking the caller's event loop."""
        return (await self._aask(func, on_fallback, timeout)).result()

    def __repr__(self) -> str:
        return f"<FallbackChain {self.name}: {' -> '.join(self.names) or 'empty'}>"

    def _ask(self, func: Use[A, Any], on_fallback: OnFallback, timeout: Seconds) -> Run:
        run = self._run(func, on_fallback)
        try:
            run.answer = self._staffed_pool().ask(run.message, timeout=timeout)
        except Exception as error:  # raised by the run, after `on_fallback` has been told
            run.answer = error
        return run

    async def _aask(self, func: Use[A, Any], on_fallback: OnFallback, timeout: Seconds) -> Run:
        run = self._run(func, on_fallback)
        try:
            run.answer = await self._staffed_pool().ask(run.message, block=False, timeout=timeout)
        except Exception as error:
            run.answer = error
        return run

    def _run(self, func: Use[A, Any], on_fallback: OnFallback) -> Run:
        return Run(self._strategy, func, self.on_fallback if on_fallback is None else on_fallback)

    # -- the pool

    def _staffed_pool(self) -> PoolRef:
        self._check_open()
        if self.is_empty:
            raise EmptyChainError(f"chain {self.name!r} has no agents")
        return self.pool

    def _start_pool(self) -> PoolRef:
        members = [self._member(link) for link in self._strategy.links]
        kind_of = _classifier(self.handled_exceptions, self._config.classify)
        return self._launch(members, self._strategy, classify=kind_of)

    def _member(self, link: Link) -> Member:
        return Member(link.name, link, max_concurrency=self._max_concurrency, lost=never_lost)


def _classifier(handled: tuple[type[BaseException], ...], custom: Classifier | None) -> Classifier:
    """Says which errors go on to the next agent; `custom` says how those count for a breaker."""
    fails_over = (*handled, UnsuccessfulResultError)

    def kind_of(error: BaseException) -> FailureKind | None:
        if not isinstance(error, fails_over):
            # The kind that is raised as it is, and counts for no breaker.
            return FailureKind.CALLER
        kind = answer_of(custom, error)
        if kind is None:
            kind = classify(error).kind
            if kind.tries_another_member:
                return None  # those rules are asked again: what an app says is taken for certain
        # The chain has said that it goes on, whatever the app calls it: a kind that ends a request
        # must not win over `handled_exceptions`.
        return kind if kind.tries_another_member else FailureKind.UNKNOWN

    return kind_of


def _exceptions(types: Any) -> tuple[type[BaseException], ...]:
    several = isinstance(types, Iterable) and not isinstance(types, type)
    given = tuple(types) if several else (types,)
    for each in given:
        if not isinstance(each, type) or not issubclass(each, BaseException):
            raise TypeError(
                f"handled_exceptions must hold types of exceptions, got {each!r} "
                f"({type(each).__name__})"
            )
    return given
