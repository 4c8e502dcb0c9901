"""What a user declares of a member, and what the agent may learn of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, SupportsIndex

from greenroom.messages import _validate as check
from greenroom.messages.pickling import refuse

_PLAIN_DATA = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class Member:
    """One agent of a pool: a callable, an object with a run method, or a factory that makes one.

    Args:
        name: unique in its pool.
        agent: the agent itself (give exactly one of `agent` and `factory`). It may be another pool
            (a `PoolRef`): an attempt on it is a whole request there, its retries included, for
            which `request_timeout_s` of the outer pool should leave room.
        factory: makes the agent on its first use; sync (in a thread) or async (on the loop). When
            it raises, the request goes elsewhere and the factory is left alone for a while. What it
            makes is entered if it is a context manager, and the agent is what that gives: by
            `async with` if it has `__aenter__`, in a task of the loop that lasts as long as the
            agent; else by `with`, in a thread kept for that, if it has no `close` (with one it is
            open from the start). At its end it is left there, in place of being closed. A client
            that says by a `RuntimeError` that it is open already is taken as it is.
        weight: share of the traffic under the weighted strategies; 0 gets nothing.
        priority: lower is preferred by the priority strategy. (With `Request.priority` it is the
            other way round: the higher number is served first.)
        max_concurrency: calls at a time; None means 1 for a sync agent (and for one that has not
            been made yet), 100 for an async one. An object without a run method, for `apply`, is
            async if it is opened by `async with` alone, or all of its methods are coroutine
            functions; one that has both kinds of them is not.
        probe: a cheap check, sync or async, called with the agent (or with nothing, if it takes
            nothing); it fails by raising or by returning False. An agent not made yet is not
            probed, unless its breaker is to be tried.
        close: called with the agent at its end, before it is left if it was entered; None means the
            `aclose` or `close` of what a factory made and nobody entered, and nothing for an agent
            that was handed over ready.
        isolated: give the agent an event loop of its own.
        method: the name of the method to call on an agent that is an object.
        metadata: anything; comes back in `MemberStats`.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    name: str
    agent: Any = None
    factory: Callable[[], Any] | None = field(default=None, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    max_concurrency: int | None = field(default=None, kw_only=True)
    probe: Callable[..., Any] | None = field(default=None, kw_only=True)
    close: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    isolated: bool = field(default=False, kw_only=True)
    method: str | None = field(default=None, kw_only=True)
    metadata: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        check.name("name", self.name)
        self._check_agent()
        check.number("weight", self.weight)
        check.whole("priority", self.priority, minimum=None)
        check.whole("max_concurrency", self.max_concurrency, minimum=1, optional=True)
        check.function("probe", self.probe, optional=True)
        check.function("close", self.close, optional=True)
        check.flag("isolated", self.isolated)
        check.text("method", self.method, optional=True)
        check.mapping("metadata", self.metadata)

    def _check_agent(self) -> None:
        if (self.agent is None) == (self.factory is None):
            given = "neither" if self.agent is None else "both"
            raise ValueError(
                f"member {self.name!r}: exactly one of agent and factory must be given, got {given}"
            )
        check.function("factory", self.factory, optional=True)
        if isinstance(self.agent, _PLAIN_DATA):
            rule = "agent must be a callable or an object with a run method"
            raise check.misfit(rule, self.agent)
        if self.method is not None and self.agent is not None:
            check.text("method", self.method)
            if not callable(getattr(self.agent, self.method, None)):
                raise TypeError(
                    f"method must name a method of the agent, got {self.method!r} "
                    f"({type(self.agent).__name__} has none)"
                )


class CallContext:
    """What an agent may know of the call it is working on.

    An agent that has a parameter annotated `CallContext` is given one.

    Attributes:
        request_id: the request's id, the same over all of its attempts.
        key: `Request.key`.
        attempt: 1 for the first attempt of the request.
        priority: `Request.priority`.
        idempotent: `Request.idempotent`.
        metadata: `Request.metadata`.
        member: the name of the member that runs the call.
    """

    __slots__ = (
        "_now", "_on_alive", "_on_describe", "_on_side_effects", "attempt", "deadline",
        "idempotent", "key", "member", "metadata", "priority", "request_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        request_id: str,
        member: str,
        attempt: int = 1,
        key: str | None = None,
        priority: int = 0,
        idempotent: bool = True,
        deadline: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        now: Callable[[], float],
        on_side_effects: Callable[[], None],
        on_alive: Callable[[], None] = lambda: None,
        on_describe: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self.request_id = request_id
        self.member = member
        self.attempt = attempt
        self.key = key
        self.priority = priority
        self.idempotent = idempotent
        self.deadline = deadline
        self.metadata: Mapping[str, Any] = metadata if metadata is not None else {}
        self._now = now
        self._on_side_effects = on_side_effects
        self._on_alive = on_alive
        self._on_describe = on_describe

    @property
    def remaining_s(self) -> float | None:
        """Seconds until this attempt is cut off (never below 0); None without a limit."""
        return None if self.deadline is None else max(0.0, self.deadline - self._now())

    def started_side_effects(self) -> None:
        """Say that from here on the call must not be repeated: nothing is retried after this.

        Raises:
            RequestCancelledError: the call has been given up already: the effects must not start.
        """
        self._on_side_effects()

    def alive(self) -> None:
        """Say that the agent is at work although it sends nothing, as one that thinks.

        For `first_chunk_timeout_s` and `chunk_timeout_s` (and where these are None and a stream is
        wanted, for `request_timeout_s` in their place) it is as good as a chunk that counts, but it
        does not begin the stream. What bounds a whole attempt or request is not put off by it: the
        `request_timeout_s` of an ask, a deadline. Cheap; any thread may call it, as often as it
        likes. Through a pool in a pool it reaches the outer one.

        Raises:
            RequestCancelledError: the call has been given up: there is nothing left to work for.
        """
        self._on_alive()

    def describe(self, **said: Any) -> None:
        """Say something of the answer, before it is given: which model it is of, its usage.

        It comes back in `Reply.metadata`, or at the end of a stream in `PoolStream.metadata`, where
        this call's answer is the one that is taken. What is said once more replaces what was said
        of that name before. Never logged; through a pool in a pool it reaches the outer one.
        """
        self._on_describe(said)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a CallContext", "it belongs to one call, in the process that runs it")

    def __repr__(self) -> str:
        return f"CallContext({self.request_id!r}, member={self.member!r}, attempt={self.attempt})"
