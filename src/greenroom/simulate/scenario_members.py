"""The members of a scenario file, and what goes wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from greenroom.messages import _validate as check
from greenroom.messages.status import FailureKind
from greenroom.simulate.faults import Failing, Fault, Hanging, RateLimit, Slow, Trouble
from greenroom.simulate.fields import ScenarioError, Table
from greenroom.simulate.latency import Latency, latency_of
from greenroom.simulate.scenario import MemberSpec

PLAIN = ("speed", "concurrency", "servers", "weight", "priority")
MEMBER = ("name", "count", "latency", *PLAIN)
LATENCY = ("kind", "mean_s", "median_s", "sigma_s", "sigma")
TROUBLES: Mapping[str, tuple[type[Trouble], tuple[str, ...]]] = {
    "slow": (Slow, ("factor", "latency")),
    "fail": (Failing, ("rate", "after_s", "failure")),
    "hang": (Hanging, ("rate",)),
    "rate_limit": (RateLimit, ("per_s", "burst", "retry_after_s", "after_s")),
}
FAULT = ("member", "kind", "from_s", "until_s")
MOST_MEMBERS = 10_000


def members_of(table: Table) -> tuple[MemberSpec, ...]:
    """The members of the tables `members`, each with its faults from the tables `faults`.

    Raises:
        ScenarioError: a value cannot be used, or a fault names nobody.
    """
    members = [member for each in table.tables("members", MEMBER) for member in _members(each)]
    names = {each.name for each in members}
    faults: dict[str, list[Fault]] = {}
    for path, whose, fault in _faults(table):
        if whose not in names:
            raise ScenarioError(f"{table.source}: {path}member must name a member, got {whose!r}")
        faults.setdefault(whose, []).append(fault)
    return tuple(
        dataclasses.replace(each, faults=tuple(faults.get(each.name, ()))) for each in members
    )


def _members(table: Table) -> Iterator[MemberSpec]:
    """One, or `count` of them, whose names end in numbers."""
    latency = _latency(table)
    name = table.needed("name")
    count = table.some("count").get("count")
    with table.blamed():
        check.name("name", name)
        check.whole("count", count, minimum=1, optional=True)
        if count is not None and count > MOST_MEMBERS:
            raise ValueError(f"count must be at most {MOST_MEMBERS}, got {count!r}")
    names = [name] if count is None else [f"{name}-{n}" for n in range(1, count + 1)]
    for each in names:
        yield table.make(MemberSpec, name=each, latency=latency, **table.some(*PLAIN))


def _latency(table: Table) -> Latency:
    table.needed("latency")
    latency = table.table("latency", LATENCY)
    return latency.make(latency_of, latency.needed("kind"), latency.some(*LATENCY[1:]))


def _faults(table: Table) -> Iterator[tuple[str, str, Fault]]:
    """Each with the place where it stands, and with the name of its member."""
    everything = {name for _, names in TROUBLES.values() for name in names}
    for loose in table.tables("faults", (*FAULT, *sorted(everything))):
        kind = loose.needed("kind")
        if not isinstance(kind, str) or kind not in TROUBLES:
            names = ", ".join(map(repr, TROUBLES))
            raise ScenarioError(
                f"{table.source}: {loose.path}kind must be one of {names}, got {kind!r}"
            )
        maker, names_of = TROUBLES[kind]
        fault = loose.only((*FAULT, *names_of))
        trouble = fault.make(maker, **_trouble_values(fault, names_of))
        times = {each: fault.needed(each) for each in ("from_s", "until_s")}
        whose = fault.needed("member")
        with fault.blamed():
            check.name("member", whose)
        yield fault.path, whose, fault.make(Fault, trouble, **times)


def _trouble_values(fault: Table, names: tuple[str, ...]) -> dict[str, Any]:
    values = fault.some(*names)
    if "latency" in values:
        values["latency"] = _latency(fault)
    if "failure" in values:
        with fault.blamed():
            values["kind"] = _failure_kind(values.pop("failure"))
    return values


def _failure_kind(value: Any) -> FailureKind:
    # Nobody fails by that: it is what a call says that was told to end.
    kinds = [each for each in FailureKind if each is not FailureKind.CANCELLED]
    if value not in kinds:
        raise ValueError(f"failure must be one of {', '.join(map(str, kinds))}, got {value!r}")
    return FailureKind(value)
