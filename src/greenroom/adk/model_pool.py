"""The pool under a `PoolModel`: its members, and its life."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

from google.adk.models import BaseLlm, LlmCapabilities, LLMRegistry

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.strategies import RoutingStrategy
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import MemberExistsError
from greenroom.messages.member import Member
from greenroom.pool.pool_owner import PoolOwner

MAX_CONCURRENCY = 100
"""Calls that one model takes at a time, unless its member says otherwise."""


class ModelPool(PoolOwner):
    """A pool of models: started with the first request, stopped by `close`, or when nobody has it
    any more.
    """

    def __init__(
        self,
        name: str,
        members: tuple[Member, ...],
        strategy: RoutingStrategy,
        config: PoolConfig,
    ) -> None:
        super().__init__(name, config, MAX_CONCURRENCY)
        self.members = members
        self.config = config
        self._strategy = strategy

    def _start_pool(self) -> PoolRef:
        return self._launch(self.members, self._strategy)


def members_of(given: Any) -> tuple[Member, ...]:
    """The members that a user has given: models, names of models, and `Member`s.

    Raises:
        TypeError, ValueError: there are none, or one is nothing of that kind.
        MemberExistsError: two of the same name.
    """
    # A string is an iterable of strings, a model one of its fields.
    if isinstance(given, str | BaseLlm) or not isinstance(given, Iterable):
        raise TypeError(
            "members must be an iterable of models, names of models or Member, "
            f"got a {type(given).__name__}"
        )
    entries = list(given)
    if not entries:
        raise ValueError("members must hold at least one model, got none")
    taken = {each.name for each in entries if isinstance(each, Member)}
    members = tuple(_member_of(each, taken) for each in entries)
    names = [member.name for member in members]
    for name in names:
        if names.count(name) > 1:
            raise MemberExistsError(
                f"members must have different names, got {name!r} more than once"
            )
    return members


def model_name(members: tuple[Member, ...]) -> str:
    """What ADK calls a model of these: as their first one."""
    agent = members[0].agent
    return agent.model if isinstance(agent, BaseLlm) else members[0].name


def capabilities_of(members: tuple[Member, ...]) -> LlmCapabilities:
    """What each of them can."""
    known = [_capabilities(member) for member in members]
    able = {
        name: value
        for name, value in known[0]
        if all(getattr(each, name) == value for each in known[1:])
    }
    return LlmCapabilities(**able)


def _capabilities(member: Member) -> LlmCapabilities:
    made: object = member.agent
    if isinstance(member.factory, _Named):
        made = member.factory.new()
    return made.capabilities if isinstance(made, BaseLlm) else LlmCapabilities()


def _member_of(given: Any, taken: set[str]) -> Member:
    if isinstance(given, Member):
        return _checked(given)
    if isinstance(given, BaseLlm):
        name = _free(given.model, taken)
        return Member(name, given, max_concurrency=MAX_CONCURRENCY)
    if isinstance(given, str):
        _check_known(given)
        name = _free(given, taken)
        return Member(name, factory=_Named(given), max_concurrency=MAX_CONCURRENCY)
    raise TypeError(f"members must hold models, names of models or Member, got a {_kind(given)}")


def _checked(member: Member) -> Member:
    if member.factory is None and not isinstance(member.agent, BaseLlm):
        raise TypeError(
            f"agent of member {member.name!r} must be a model (BaseLlm), got a "
            f"{_kind(member.agent)}"
        )
    return replace(
        member,
        factory=None if member.factory is None else _Made(member.factory),
        # A pool cannot see of a model that it takes many calls at a time.
        max_concurrency=member.max_concurrency or MAX_CONCURRENCY,
    )


def _check_known(name: str) -> None:
    try:
        LLMRegistry.resolve(name)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"members must hold names of models that ADK knows, got {name!r}: {error}"
        ) from error


def _free(name: str, taken: set[str]) -> str:
    """That name, with a number if another member has it."""
    free = next(each for each in _numbered(name) if each not in taken)
    taken.add(free)
    return free


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _kind(value: object) -> str:
    return f"class {value.__name__}" if isinstance(value, type) else type(value).__name__


class _Made:
    """A factory whose models belong to the event loop on which they are used.

    As a model's clients do: so each loop has its own, which is closed with it.
    """

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    async def __call__(self) -> Any:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made


class _Named:
    """Makes the model of a name by ADK's registry, for each loop its own."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self) -> BaseLlm:
        return self.new()

    def new(self) -> BaseLlm:
        return LLMRegistry.new_llm(self._name)
