"""One execution of a `FallbackChain`: what its pool is asked, and what becomes of the answer."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

from greenroom.actors.member import agent_methods
from greenroom.actors.strategies import Candidate, PickContext
from greenroom.messages import _validate as check
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    AttemptTimeoutError,
    DeadlineExceededError,
    PoolError,
    UnsuccessfulResultError,
)
from greenroom.messages.replies import Reply
from greenroom.messages.requests import Apply

R = TypeVar("R")

OnFallback = Callable[[str, Any], Any] | None
"""`on_fallback(name, error)`."""


class EmptyChainError(PoolError, RuntimeError):
    """The chain has no agents (a `RuntimeError` as well, as of old)."""


@dataclass(frozen=True, slots=True)
class FallbackResult(Generic[R]):
    """How one execution of a chain ended.

    Attributes:
        success: whether an agent succeeded.
        agent_name: which one; None when none did.
        result: what it returned; None when none did.
        error: what the last agent that was tried raised; None on success.
        attempts: the agents that failed, in order, each with its error. What a breaker kept from
            being tried is not among them.
    """

    success: bool
    agent_name: str | None = None
    result: R | None = None
    error: BaseException | None = None
    attempts: list[tuple[str, BaseException]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """An agent of a chain. The pool never looks inside, so that the agent may be any object."""

    name: str
    agent: Any


class InOrder:
    """The strategy of a chain: the first member in its order that the request has not had.

    One that is merely busy is waited for: an agent must not be passed over because its last failure
    is still on its way to the supervisor, or because other callers use it.

    Attributes:
        links: the chain, replaced as a whole whenever it changes; from any thread.
    """

    name: ClassVar[str] = "fallback"
    exhaustive: ClassVar[bool] = True
    one_at_a_time: ClassVar[bool] = True

    def __init__(self) -> None:
        self.links: tuple[Link, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The names, in the order in which a request tries them."""
        return tuple(link.name for link in self.links)

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        present = {each.name: each for each in candidates}
        # One look at `order`: it may be replaced by another thread meanwhile.
        could = (name for name in self.order if name in present or name in context.busy)
        return present.get(next(could, ""))

    def __repr__(self) -> str:
        return f"<strategy {self.name}: {' -> '.join(self.order)}>"


class _Awaited:
    """What an agent returned to be awaited, within that block.

    It may never be: the call is cancelled first. A coroutine around it would not begin then, and
    Python would complain of the agent's.
    """

    def __init__(self, value: Awaitable[Any], block: AbstractContextManager[None]) -> None:
        self._value = value
        self._block = block

    def __await__(self) -> Generator[Any, None, Any]:
        with self._block:
            return (yield from self._value.__await__())

    def __del__(self) -> None:
        if isinstance(self._value, Coroutine):
            self._value.close()


class Run:
    """One execution.

    Args:
        chain: what it runs along.
        func: what to do with an agent.
        on_fallback: told of every agent that failed, by `result` and `value`.

    Attributes:
        message: what to ask the pool.
        answer: what it said, or raised.
    """

    def __init__(self, chain: InOrder, func: Callable[[Any], Any], on_fallback: OnFallback) -> None:
        check.function("func", func)
        self.message: Apply[Any] = Apply(
            self._acall if agent_methods.is_async(func) else self._call
        )
        self.answer: Reply[Any] | Exception = PoolError("not asked yet")
        self._chain = chain
        self._func = func
        self._on_fallback = plain_function(on_fallback)
        self._errors: dict[str, BaseException] = {}  # by agent, in the order of the calls

    def value(self) -> Any:
        """What the agent returned; raises whatever ended the execution without one."""
        result = self.result()
        if isinstance(self.answer, Exception):
            raise self.answer
        return result.result

    def result(self) -> FallbackResult[Any]:
        """How it ended; raises what is no matter of the agents."""
        failed, own = self._failed(), self._is_agents_own()
        # In the caller's thread, and before anything is raised: it
        # is told of the failures in any case.
        if self._on_fallback is not None:
            for name, error in failed:
                self._on_fallback(name, error)
        if isinstance(self.answer, Reply):
            return FallbackResult(True, self.answer.member, self.answer.value, attempts=failed)
        if own or not isinstance(self.answer, (AllPoolMembersFailedError, EmptyChainError)):
            raise self.answer
        # Only now: `_failed` and the look at whose error it is want the answer as the pool gave it.
        if isinstance(self.answer, AllPoolMembersFailedError):
            self.answer = _in_order(self.answer, self._chain.order)
        last = failed[-1][1] if failed else self.answer
        return FallbackResult(False, error=last, attempts=failed)

    def _failed(self) -> list[tuple[str, BaseException]]:
        tells = isinstance(self.answer, (Reply, AllPoolMembersFailedError, DeadlineExceededError))
        if tells and not self._is_agents_own():
            entries: tuple[AttemptError, ...] = cast(Any, self.answer).errors
            return [(each.member, each.error) for each in entries if each.error is not None]
        # The error says nothing of the agents before the one that raised it.
        return list(self._errors.items())[:-1]

    def _is_agents_own(self) -> bool:
        """An agent that is a pool itself raises the errors of a pool."""
        # A copy: a thread that was given up may note its error at any time.
        return any(self.answer is error for error in list(self._errors.values()))

    def _call(self, link: Link) -> Any:
        with self._noting(link.name):
            value = self._func(link.agent)
        # A plain function that returns a coroutine (a lambda around an async method, say): whoever
        # called awaits it on the loop.
        return _Awaited(value, self._noting(link.name)) if inspect.isawaitable(value) else value

    async def _acall(self, link: Link) -> Any:
        with self._noting(link.name):
            return await self._func(link.agent)

    @contextlib.contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Note what the agent has failed with, should the pool move on."""
        # In advance: if the call is given up, nothing of it comes back that could be noted.
        self._errors[name] = AttemptTimeoutError(f"{name} did not answer in time")
        try:
            yield
        except BaseException as error:
            self._errors[name] = error
            raise
        # In advance as well: read only where the pool has moved on in spite of this value.
        self._errors[name] = UnsuccessfulResultError(f"is_failure refused what {name} returned")


def plain_function(on_fallback: Any) -> Any:
    """Refuse what is not called in the caller's thread, or not called at all."""
    check.function("on_fallback", on_fallback, optional=True)
    if on_fallback is not None and agent_methods.is_async(on_fallback):
        raise TypeError(
            f"on_fallback must be a plain function, got the coroutine function {on_fallback!r}"
        )
    return on_fallback


def _in_order(error: AllPoolMembersFailedError, order: Sequence[str]) -> AllPoolMembersFailedError:
    """The pool counts its members as they came; a chain counts them by their places.

    One that was removed meanwhile comes last if it was tried, else it is no matter of the chain.
    """
    places = {name: place for place, name in enumerate(order)}
    entries = [
        AttemptError(each.member, places.get(each.member, len(order)), *each.args[2:])
        for each in error.errors
        if each.member in places or not each.skipped
    ]
    entries.sort(key=lambda each: each.index)
    return AllPoolMembersFailedError(
        error.pool_name, order, entries, error.reason, error.retry_after_s
    )
