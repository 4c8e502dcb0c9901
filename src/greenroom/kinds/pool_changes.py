"""What a pool that runs has to change to be what stands in its file now. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any, cast

from greenroom.kinds.pool_file import PoolFile
from greenroom.messages.config import PoolConfig
from greenroom.messages.configure import CHANGEABLE, FIXED, OF_MEMBER, Configure, MemberSettings
from greenroom.messages.configure import Settings as PoolSettings
from greenroom.messages.member import Member
from greenroom.messages.status import LoadBalanceStrategy


def changes(before: PoolFile, after: PoolFile, present: Collection[str]) -> Configure:
    """The way from one file to another. What both say is said again, so that the pool is what
    stands there whatever has been changed by code meanwhile; but members that code has added stay.

    Args:
        before: what the pool has taken over last.
        present: the names of the members that there are.

    Raises:
        PoolFileError: a running pool cannot take it over.
    """
    _refuse_fixed(before, after)
    new: list[Member] = []
    other: list[Member] = []
    kept: dict[str, MemberSettings] = {}
    names = set()
    for at, member in enumerate(after.members):
        if member.name in names:
            raise after.error(("members", str(at), "name"), "must be unique in the file")
        names.add(member.name)
        known = before.makings.get(member.name)
        if member.name not in present:
            new.append(member)
        elif known is None:
            why = "is that of a member that the pool has already, and not from its file"
            raise after.error(("members", str(at), "name"), why)
        elif known != after.makings[member.name]:
            other.append(member)
        else:
            kept[member.name] = cast(
                MemberSettings, {key: getattr(member, key) for key in OF_MEMBER}
            )
    return Configure(
        settings=cast(PoolSettings, {key: getattr(after.config, key) for key in CHANGEABLE}),
        members=kept,
        add=tuple(new),
        remove=tuple(name for name in before.makings if name in present and name not in names),
        replace=tuple(other),
    )


def _refuse_fixed(before: PoolFile, after: PoolFile) -> None:
    """What a running pool stays by."""
    whole = "cannot change while the pool runs: start the pool anew for it"
    if before.name != after.name:
        raise after.error(("pool", "name"), f"{whole}; got {after.name!r}, it is {before.name!r}")
    if _strategy(before) != _strategy(after):
        was = f"got {_strategy(after)!r}, it is {_strategy(before)!r}"
        raise after.error(("pool", "strategy"), f"{whole}; {was}")
    for each in fields(PoolConfig):
        old, new = _both(each.name, before, after)
        if each.name in FIXED and old != new:
            why = f"cannot change while the pool runs ({FIXED[each.name]}): start the pool anew"
            raise after.error(("pool", each.name), f"{why} for it; got {new!r}, it is {old!r}")


def _both(name: str, before: PoolFile, after: PoolFile) -> tuple[Any, Any]:
    return getattr(before.config, name), getattr(after.config, name)


def _strategy(file: PoolFile) -> str:
    return LoadBalanceStrategy.ADAPTIVE.value if file.strategy is None else file.strategy
