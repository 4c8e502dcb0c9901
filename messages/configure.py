"""What may change in a pool while it runs, and the message that changes it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, get_type_hints

from greenroom.messages import _validate as check
from greenroom.messages.config import ChangeableSettings, PoolConfig, check_setting
from greenroom.messages.limits import Limit, checked_limits
from greenroom.messages.member import Concurrency, Member, Names, check_concurrency

_LIVES_THERE = "the agents live there"
_WATCHED = "the loops that run are watched by it"
_MADE_WITH = "loops and streams that run have been made with it"
_JUDGED = "answers that are under way are judged by it"

FIXED: Mapping[str, str] = {
    "event_loop": _LIVES_THERE,
    "propagate_context": "the agents have begun with it",
    "loop_check_interval_s": _WATCHED,
    "loop_stalled_after_s": _WATCHED,
    "loop_replaced_after_s": _WATCHED,
    "cancel_grace_s": _MADE_WITH,
    "stream_buffer": _MADE_WITH,
    "on_cut": _JUDGED,
    "stream_complete": _JUDGED,
    "classify": _JUDGED,
    "is_failure": _JUDGED,
    "is_empty": _JUDGED,
    "cost": "requests that wait have been reckoned by it",
    "priority_ageing_s": "those that wait stand in an order that comes of it",
    "fair_by": "those that wait stand in an order that comes of it",
}
"""The settings that stay as they are while a pool runs, each with why."""

CHANGEABLE: tuple[str, ...] = tuple(
    each.name for each in fields(PoolConfig) if each.name not in FIXED
)
"""The settings that a running pool takes over."""

_OF_AGENT = ("agent", "factory", "probe", "close", "lost", "isolated", "method", "accepts")


class MemberSettings(TypedDict, total=False):
    """The fields of a `Member` that can change while it works."""

    weight: float
    priority: int
    group: str | None
    max_concurrency: Concurrency
    max_concurrency_ceiling: int | None
    limits: Sequence[Limit]
    metadata: Mapping[str, Any]
    tags: Names
    cost: float


OF_MEMBER: tuple[str, ...] = tuple(get_type_hints(MemberSettings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Change a pool while it runs, all of it at once; what is refused changes nothing.

    Nothing in flight is lost: what runs goes on under the limits with which it began, and what
    waits goes on waiting. Answered, once it holds, with what has changed, in words.

    Args:
        settings: fields of `PoolConfig`, by name. Limits of time hold for attempts that begin from
            then on, those of requests for requests; thresholds for the next outcome.
        members: what changes of members, by their names: `weight`, `priority`, `group`,
            `max_concurrency`, `max_concurrency_ceiling`, `limits`, `metadata`, `tags`, `cost`.
        add: members to take in, behind the others.
        remove: names of those that leave: they get nothing new, finish what they have, and are
            closed.
        replace: members that take the place of those of the same names, as soon as these have
            finished what they have. Until then a request that nobody else can take waits. They are
            the pool's from now on: one that never gets in is closed as well.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field; a
            setting that cannot change while a pool runs, named with why.
    """

    settings: ChangeableSettings = field(default_factory=ChangeableSettings)
    members: Mapping[str, MemberSettings] = field(default_factory=dict)
    add: Sequence[Member] = ()
    remove: Sequence[str] = ()
    replace: Sequence[Member] = ()

    def __post_init__(self) -> None:
        check.mapping("settings", self.settings)
        for name, value in self.settings.items():
            check_changeable(name)
            check_setting(name, value)
        check.mapping("members", self.members)
        for name, changes in self.members.items():
            _check_member(f"members.{name}", changes)
        for which in ("add", "replace"):
            object.__setattr__(self, which, _members(which, getattr(self, which)))
        object.__setattr__(self, "remove", _names(self.remove))
        self._check_once()
        # Copies: who made it may go on with what it was made of.
        object.__setattr__(self, "settings", dict(self.settings))
        members = {name: _copied(name, changes) for name, changes in self.members.items()}
        object.__setattr__(self, "members", members)

    def _check_once(self) -> None:
        seen: set[str] = set()
        arriving = [each.name for each in (*self.add, *self.replace)]
        for name in (*self.members, *arriving, *self.remove):
            if name in seen:
                raise ValueError(f"a member must be named once in a Configure, got {name!r} twice")
            seen.add(name)


@dataclass(frozen=True, slots=True)
class Configured:
    """How a `Configure` was carried out.

    Attributes:
        config: the pool's settings from now on.
        changes: what has changed, in words; empty where everything was so already.
    """

    config: PoolConfig
    changes: tuple[str, ...] = ()


def check_changeable(name: str) -> None:
    """Refuse a setting of which a running pool can take over no other value.

    Raises:
        ValueError: it is one of those, or none at all.
    """
    if name in FIXED:
        raise ValueError(why_fixed(name))
    if name not in CHANGEABLE:
        raise ValueError(
            f"{name} is not a setting of a pool; {_meant(name, CHANGEABLE)}those that can change "
            f"are {', '.join(CHANGEABLE)}"
        )


def why_fixed(name: str) -> str:
    """What is said of a setting that stays as it is."""
    return f"{name} cannot change while the pool runs ({FIXED[name]}): start the pool anew for it"


def _check_member(where: str, changes: Any) -> None:
    check.mapping(where, changes)
    for key, value in changes.items():
        field_ = f"{where}.{key}"
        match key:
            case "weight":
                check.number(field_, value)
            case "priority":
                check.whole(field_, value, minimum=None)
            case "group":
                if value is not None:
                    check.name(field_, value)
            case "max_concurrency":
                check_concurrency(field_, value)
            case "max_concurrency_ceiling":
                check.whole(field_, value, minimum=1, optional=True)
            case "limits":
                checked_limits(field_, value)
            case "metadata":
                check.mapping(field_, value)
            case "tags":
                check.names(field_, value)
            case "cost":
                check.number(field_, value)
            case _ if key in _OF_AGENT:
                raise ValueError(f"{field_} cannot change in place: have the member replaced")
            case _:
                raise ValueError(
                    f"{field_} is not a setting of a member; {_meant(key, OF_MEMBER)}those that "
                    f"can change are {', '.join(OF_MEMBER)}"
                )


def _copied(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    copied = dict(changes)
    if "limits" in copied:
        copied["limits"] = checked_limits(f"members.{name}.limits", copied["limits"])
    return copied


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}? " if near else ""


def _members(which: str, members: Any) -> tuple[Member, ...]:
    if isinstance(members, str) or not isinstance(members, Iterable):
        raise check.misfit(f"{which} must be members", members)
    chosen = tuple(members)
    for each in chosen:
        if not isinstance(each, Member):
            raise check.misfit(f"{which} must be members, each a Member", each)
    return chosen


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise check.misfit("remove must be names of members", names)
    chosen = tuple(names)
    for each in chosen:
        check.text("remove", each)
    return chosen
