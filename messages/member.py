"""What a user declares of a member."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from greenroom.messages import _validate as check
from greenroom.messages.agent_shape import (
    Method,
    check_agent,
    check_factory,
    is_function,
    is_plain_data,
)
from greenroom.messages.call_context import CallContext as CallContext
from greenroom.messages.limits import Limit, checked_limits

Lost = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors of an agent mean that it is gone for good."""

Names = str | Iterable[str]
"""A name, or several."""

Concurrency = int | Literal["auto"] | None
"""Calls at a time; what `Member` says of its `max_concurrency`."""


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
        group: what it shares with other members of the pool: a key, an account, a region. A request
            that has failed on one of them goes to members of other groups first, and where a key or
            an account is refused all of the group rest.
        max_concurrency: calls at a time; None means 1 for a sync agent (and for one that has not
            been made yet), 100 for an async one. An object without a run method, for `apply`, is
            async if it is opened by `async with` alone, or all of its methods are coroutine
            functions; one that has both kinds of them is not. `"auto"`: the pool finds out how many
            it bears, by how long answers take, by refusals (429) and by timeouts.
        max_concurrency_ceiling: the most that `"auto"` may come to; None means 1,000 for an async
            agent, 64 for a sync one, of which each call takes a thread.
        probe: a cheap check, sync or async, called with the agent (or with nothing, if it takes
            nothing); it fails by raising or by returning False. An agent not made yet is not
            probed, unless its breaker is to be tried.
        close: called with the agent at its end, before it is left if it was entered; None means the
            `aclose` or `close` of what a factory made and nobody entered, and nothing for an agent
            that was handed over ready.
        lost: which errors mean that the agent is gone for good, so that the factory makes another
            one: an exception class or several, besides `AgentLostError`; or a function of an error,
            which has the last word. Without such a function the factory makes one, too, when a
            breaker is tried again that a refused, broken or closed connection has opened.
        isolated: give the agent an event loop of its own.
        method: the name of the method to call on an agent that is an object; None: the first that
            it has of `arun`, `ainvoke`, `run`, `invoke`, `kickoff`, `execute`, `complete`,
            `__call__`; False: none, for `apply`, `acquire` and `attempts` alone. Such a one need
            not be able to take a payload, and is not looked at for that.
        limits: its rate limits, any number of `Limit`: nothing is sent to it that would go over one
            of them.
        metadata: anything; comes back in `MemberStats`.
        tags: names that it shares with others, by which `Request.only`, `exclude` and `prefer` mean
            it as by its own.
        accepts: says of a payload whether this member may have it, by what its agent can do (a
            context window, a region). Called where the request is made, in the thread or the task
            of whoever makes it, which must not be held up: a plain function of the payload that is
            quick. If it raises, the member does not get the request. What is no `Request`, as
            `apply` and `attempts`, has no payload to ask about.
        cost: what a call costs, in whatever unit, for the strategy `cheapest`.

    Raises:
        AgentTypeError: what can be seen to be no agent, or no factory of one (a `TypeError`, too).
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    name: str
    agent: Any = None
    factory: Callable[[], Any] | None = field(default=None, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    max_concurrency: Concurrency = field(default=None, kw_only=True)
    max_concurrency_ceiling: int | None = field(default=None, kw_only=True)
    probe: Callable[..., Any] | None = field(default=None, kw_only=True)
    close: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    lost: Lost | None = field(default=None, kw_only=True)
    isolated: bool = field(default=False, kw_only=True)
    method: Method = field(default=None, kw_only=True)
    limits: Sequence[Limit] = field(default=(), kw_only=True)
    metadata: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    tags: Names = field(default=(), kw_only=True)
    accepts: Callable[[Any], object] | None = field(default=None, kw_only=True)
    cost: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check.name("name", self.name)
        self._check_agent()
        check.number("weight", self.weight)
        check.whole("priority", self.priority, minimum=None)
        if self.group is not None:
            check.name("group", self.group)
        check_concurrency("max_concurrency", self.max_concurrency)
        ceiling = self.max_concurrency_ceiling
        check.whole("max_concurrency_ceiling", ceiling, minimum=1, optional=True)
        check.function("probe", self.probe, optional=True)
        check.function("close", self.close, optional=True)
        _check_lost(self.lost)
        check.flag("isolated", self.isolated)
        self._check_method()
        if self.limits != ():
            object.__setattr__(self, "limits", checked_limits("limits", self.limits))
        check.mapping("metadata", self.metadata)
        object.__setattr__(self, "tags", check.names("tags", self.tags))
        _check_accepts(self.accepts)
        check.number("cost", self.cost)

    def _check_agent(self) -> None:
        if (self.agent is None) == (self.factory is None):
            given = "neither" if self.agent is None else "both"
            raise ValueError(
                f"member {self.name!r}: exactly one of agent and factory must be given, got {given}"
            )
        if is_plain_data(self.agent, self.method):
            raise TypeError(
                "agent must be a callable or an object with a run method, "
                f"got a {type(self.agent).__name__}"
            )
        if self.factory is not None:
            check_factory(self.name, self.factory)
        else:
            self._check_method()
            check_agent(f"agent of member {self.name!r}", self.agent, self.method)

    def _check_method(self) -> None:
        if self.method is not False:
            check.text("method", self.method, optional=True)


def check_concurrency(field: str, value: Any) -> None:
    """Refuse what is no number of calls at a time, nor `"auto"`, nor None."""
    if not isinstance(value, str):
        check.whole(field, value, minimum=1, optional=True)
    elif value != "auto":
        raise ValueError(f"{field} must be a whole number or 'auto', got {value!r}")


def _check_lost(lost: Any) -> None:
    kinds = lost if isinstance(lost, tuple) else (lost,)
    if kinds and all(isinstance(each, type) and issubclass(each, BaseException) for each in kinds):
        return
    if lost is not None and (not callable(lost) or isinstance(lost, type)):
        raise check.misfit("lost must be an exception class, several, or a function", lost)
    if is_function(inspect.iscoroutinefunction, lost):
        raise check.misfit("lost must be a plain function, since nobody awaits its answer", lost)


def _check_accepts(accepts: Any) -> None:
    check.function("accepts", accepts, optional=True)
    if is_function(inspect.iscoroutinefunction, accepts):
        raise check.misfit(
            "accepts must be a plain function, since nobody awaits its answer", accepts
        )
