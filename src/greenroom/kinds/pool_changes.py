"""What a pool that runs has to change to be what stands in its file now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from greenroom.kinds.pool_file import PoolFile
from greenroom.messages.config import ChangeableSettings, PoolConfig
from greenroom.messages.configure import CHANGEABLE, FIXED, OF_MEMBER, Configure, MemberSettings
from greenroom.messages.member import Member
from greenroom.messages.status import LoadBalanceStrategy

_OBJECTS = ("agent", "factory", "probe", "close", "lost")
"""The app's, which are not compared by code of theirs."""


def changes(before: PoolFile, after: PoolFile, present: Mapping[str, Member | None]) -> Configure:
    """The way from one file to another. What both say is said again, so that the pool is what
    stands there whatever has been changed by code meanwhile; but members that code has added stay.

    Args:
        before: what the pool has taken over last.
        present: who bears each name that is taken, or is to; None: who has it is about to leave.

    Raises:
        PoolFileError: a running pool cannot take it over.
    """
    _refuse_fixed(before, after)
    new: list[Member] = []
    other: list[Member] = []
    kept: dict[str, MemberSettings] = {}
    names = set()
    mine = {member.name: member for member in before.members}
    for at, member in enumerate(after.members):
        if member.name in names:
            raise after.error(("members", str(at), "name"), "must be unique in the file")
        names.add(member.name)
        known = before.makings.get(member.name)
        if member.name not in present:
            new.append(member)
        elif (bearer := present[member.name]) is None:
            other.append(member)
        elif known is None:
            why = "is that of a member that the pool has already, and not from its file"
            raise after.error(("members", str(at), "name"), why)
        elif known != after.makings[member.name] or not is_of_file(bearer, mine[member.name]):
            other.append(member)
        else:
            kept[member.name] = cast(
                MemberSettings, {key: getattr(member, key) for key in OF_MEMBER}
            )
    return Configure(
        settings=cast(ChangeableSettings, {key: getattr(after.config, key) for key in CHANGEABLE}),
        members=kept,
        add=tuple(new),
        remove=tuple(name for name in before.makings if present.get(name) and name not in names),
        replace=tuple(other),
    )


def is_of_file(bearer: Member | None, member: Member) -> bool:
    """Whether who bears a name is what a file has made, whatever has been changed of it since, and
    not what code has put in its place.
    """
    if bearer is None or not all(getattr(bearer, x) is getattr(member, x) for x in _OBJECTS):
        return False
    return (bearer.isolated, bearer.method) == (member.isolated, member.method)


def _refuse_fixed(before: PoolFile, after: PoolFile) -> None:
    """What a running pool stays by."""
    whole = "cannot change while the pool runs: start the pool anew for it"
    if before.name != after.name:
        raise after.error(("pool", "name"), f"{whole}; got {after.name!r}, it is {before.name!r}")
    if _strategy(before) != _strategy(after):
        was = f"got {_strategy(after)!r}, it is {_strategy(before)!r}"
        raise after.error(("pool", "strategy"), f"{whole}; {was}")
    if before.shared != after.shared:  # not shown: it may hold a password
        raise after.error(("pool", "shared"), whole)
    if before.courier != after.courier:  # the same of it
        raise after.error(("pool", "courier"), whole)
    for each in fields(PoolConfig):
        old, new = _both(each.name, before, after)
        if each.name in FIXED and old != new:
            why = f"cannot change while the pool runs ({FIXED[each.name]}): start the pool anew"
            raise after.error(("pool", each.name), f"{why} for it; got {new!r}, it is {old!r}")


def _both(name: str, before: PoolFile, after: PoolFile) -> tuple[Any, Any]:
    return getattr(before.config, name), getattr(after.config, name)


def _strategy(file: PoolFile) -> str:
    return LoadBalanceStrategy.ADAPTIVE.value if file.strategy is None else file.strategy
