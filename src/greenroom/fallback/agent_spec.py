"""What a `PoolExecutor` is told: who can do the work, and how their agents are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from greenroom.messages import _validate as check
from greenroom.messages.errors import MemberExistsError


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """One provider that can do the work.

    Args:
        name: unique in its executor; the creator is given it.
        cfg: whatever the creator needs to know of it; greenroom does not look inside.
    """

    name: str
    cfg: Any = None

    def __post_init__(self) -> None:
        check.name("name", self.name)


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """What every agent of an executor is to be: handed to the creator as it is.

    Args:
        name: the agent's own name.
        description: the agent's own description.
        system_instructions: what the agent is told before anything else.
        working_directory: where the session works.
    """

    name: str = ""
    description: str = ""
    system_instructions: str = ""
    working_directory: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "description", "system_instructions", "working_directory"):
            value = getattr(self, field)
            if not isinstance(value, str):
                raise TypeError(f"{field} must be a string, got {value!r} ({type(value).__name__})")


@runtime_checkable
class AgentCreator(Protocol):
    """Makes the agent of one member on demand."""

    def create_agent(self, name: str, request: AgentRequest) -> Any:
        """An agent, or a coroutine that gives one; it fails by raising.

        One with a further parameter named `cfg` is given `MemberConfig.cfg` by it.
        """
        ...


def creation(creator: Any, member: MemberConfig, request: AgentRequest) -> Callable[[], Any]:
    """What makes the agent of that member."""
    # A plain function, or a class with `__call__`, is a creator as well.
    create = getattr(creator, "create_agent", creator)
    if not callable(create):
        raise TypeError(
            f"creator must have a method create_agent or be callable, got {creator!r} "
            f"({type(creator).__name__})"
        )
    cfg = {"cfg": member.cfg} if _takes_cfg(create) else {}
    return functools.partial(create, member.name, request, **cfg)


def checked_members(members: Any) -> tuple[MemberConfig, ...]:
    """At least one, each of a name of its own."""
    # A string is an iterable of strings: the error would name its first letter.
    if isinstance(members, str) or not isinstance(members, Iterable):
        raise TypeError(
            f"members must be an iterable of MemberConfig, got {members!r} "
            f"({type(members).__name__})"
        )
    chosen: dict[str, MemberConfig] = {}
    for each in members:
        if not isinstance(each, MemberConfig):
            raise TypeError(f"members must hold MemberConfig, got {each!r} ({type(each).__name__})")
        if each.name in chosen:
            raise MemberExistsError(
                f"members must have different names, got {each.name!r} more than once"
            )
        chosen[each.name] = each
    if not chosen:
        raise ValueError(f"members must hold at least one MemberConfig, got {members!r}")
    return tuple(chosen.values())


def checked_request(request: Any) -> AgentRequest:
    """None is an empty one."""
    if request is None:
        return AgentRequest()
    if not isinstance(request, AgentRequest):
        raise TypeError(f"request must be an AgentRequest, got a {type(request).__name__}")
    return request


def _takes_cfg(create: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(create).parameters.get("cfg")
    except (TypeError, ValueError):
        # What has no signature (some built-in callables) is called without it.
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter is not None and parameter.kind in by_name
