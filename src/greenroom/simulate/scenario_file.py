"""From the text of a scenario file to scenarios, one for each of its variants."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any, TypeVar

from greenroom.kinds.toml_lines import Place, line_of, lines_of, meant
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.limits import Limit
from greenroom.messages.status import FailureKind
from greenroom.simulate.faults import Failing, Fault, Hanging, RateLimit, Slow, Trouble
from greenroom.simulate.latency import Latency, latency_of
from greenroom.simulate.scenario import Load, MemberSpec, Scenario, Tenant

Made = TypeVar("Made")

NAMES = ("linkerd", "supermarket", "llm", "tenants", "limits")
"""The scenarios that come with greenroom: each one readable, each a start for a user's own."""

RUN = ("duration_s", "warmup_s", "within_s", "seed", "strategies")
ONE = (*RUN, "load", "members", "tenants", "faults", "pool")
LOAD = tuple(each.name for each in fields(Load))
PLAIN = ("speed", "concurrency", "servers", "weight", "priority", "group", "cost", "tags")
MEMBER = ("name", "count", "latency", "limits", *PLAIN)
TENANT = ("name", "count", *(each.name for each in fields(Tenant) if each.name != "name"))
LIMIT = tuple(each.name for each in fields(Limit))
LATENCY = ("kind", "mean_s", "median_s", "sigma_s", "sigma")
TROUBLES: Mapping[str, tuple[type[Trouble], tuple[str, ...]]] = {
    "slow": (Slow, ("factor", "latency")),
    "fail": (Failing, ("rate", "after_s", "failure")),
    "hang": (Hanging, ("rate",)),
    "rate_limit": (RateLimit, ("per_s", "burst", "retry_after_s", "after_s", "window_s")),
}
FAULT = ("member", "kind", "from_s", "until_s")
MOST_MEMBERS = 10_000
POOL = (
    "circuit",
    "circuit_max_open_share",
    "circuit_failure_threshold",
    "circuit_reset_timeout_s",
    "circuit_reset_max_s",
    "circuit_success_threshold",
    "circuit_window",
    "circuit_min_calls",
    "circuit_failure_rate",
    "circuit_slow_rate",
    "circuit_slow_call_s",
    "half_open_permits",
    "max_retries",
    "retry_delay_s",
    "retry_backoff_multiplier",
    "retry_max_delay_s",
    "retry_budget_ratio",
    "retry_budget_floor",
    "same_member_retries",
    "stay_for_retry_after_s",
    "hedge_after_s",
    "request_timeout_s",
    "deadline_s",
    "max_pending",
    "max_pending_per_key",
    "fair_by",
    "priority_ageing_s",
    "when_unavailable",
)
"""The settings of `PoolConfig` that mean something in a simulation."""
OPTIONAL = (
    "circuit_slow_rate",
    "circuit_slow_call_s",
    "hedge_after_s",
    "request_timeout_s",
    "deadline_s",
)


class ScenarioError(ValueError):
    """A scenario cannot be used; the message names the file, the field, the value and the rule."""


def shipped_text(name: str) -> str:
    """The TOML of a scenario of that name, which is one of `NAMES`."""
    folder = resources.files("greenroom.simulate") / "scenarios"
    return (folder / f"{name}.toml").read_text(encoding="utf-8")


def scenarios_of(text: str, source: str, name: str) -> tuple[Scenario, ...]:
    """The scenarios of a file: one for each of its variants, or the only one.

    Args:
        text: TOML.
        source: what to call the file in errors.
        name: what to call the scenario; a variant's own name follows.

    Raises:
        ScenarioError: it is not TOML, or a value in it cannot be used.
    """
    try:
        return _read(text, source, name)
    except RecursionError:
        raise ScenarioError(f"{source}: not usable: nested too deeply") from None


def _read(text: str, file: str, name: str) -> tuple[Scenario, ...]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: not TOML: {error}") from None
    source = Source(file, lines_of(text))
    # For its check only: the variants are taken out below, and each table must be known by then.
    Table(source, "", values, (*ONE, "variants"))
    variants = values.pop("variants", {})
    if not variants:
        return (_scenario(Table(source, "", values, ONE), name),)
    table = Table(source, "variants.", variants, variants)
    for each in table:
        table.table(each, ONE)
    return tuple(
        _scenario(Table(source.of(each), "", _merged(values, changes), ONE), f"{name}, {each}")
        for each, changes in variants.items()
    )


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes in them: tables are merged, all else is replaced."""
    merged = dict(values)
    for name, change in changes.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(change, Mapping)
        merged[name] = _merged(before, change) if both else change  # type: ignore[arg-type]
    return merged


def _scenario(table: Table, name: str) -> Scenario:
    table.needed("duration_s")
    load, run = table.table("load", LOAD), table.some(*RUN)
    if "strategies" in run:
        with table.blamed():
            if not isinstance(run["strategies"], list):
                raise TypeError(f"strategies must be an array of names, got {run['strategies']!r}")
        run["strategies"] = tuple(run["strategies"])
    return table.make(
        Scenario,
        name=name,
        members=_members(table),
        load=load.make(Load, **load.some(*LOAD)),
        config=_config(table),
        tenants=tuple(_tenants(table)),
        **run,
    )


# -- the members, and what goes wrong with them


def _members(table: Table) -> tuple[MemberSpec, ...]:
    """The members of the tables `members`, each with its faults from the tables `faults`."""
    members = [member for each in table.tables("members", MEMBER) for member in _counted(each)]
    faults: dict[str, list[Fault]] = {each.name: [] for each in members}
    known = {name for _, names in TROUBLES.values() for name in names}
    for each in table.tables("faults", (*FAULT, *sorted(known))):
        fault, whose = _fault(each), each.needed("member")
        with each.blamed():
            check.name("member", whose)
            if whose not in faults:
                raise ValueError(f"member must name a member, got {whose!r}")
        faults[whose].append(fault)
    return tuple(replace(each, faults=tuple(faults[each.name])) for each in members)


def _counted(table: Table) -> Iterator[MemberSpec]:
    """One, or `count` of them, whose names end in numbers."""
    latency = _latency(table)
    limits = tuple(
        each.make(Limit, each.needed("amount"), per_s=each.needed("per_s"), **each.some(*LIMIT[2:]))
        for each in table.tables("limits", LIMIT)
    )
    for name in _names(table):
        plain = table.some(*PLAIN)
        yield table.make(MemberSpec, name=name, latency=latency, limits=limits, **plain)


def _names(table: Table) -> list[str]:
    name = table.needed("name")
    count = table.some("count").get("count")
    with table.blamed():
        check.name("name", name)
        check.whole("count", count, minimum=1, maximum=MOST_MEMBERS, optional=True)
    return [name] if count is None else [f"{name}-{n}" for n in range(1, count + 1)]


def _tenants(table: Table) -> Iterator[Tenant]:
    """Whose the requests are, each of them or `count` alike."""
    for each in table.tables("tenants", TENANT):
        for name in _names(each):
            yield each.make(Tenant, name=name, **each.some(*TENANT[2:]))


def _latency(table: Table) -> Latency:
    table.needed("latency")
    latency = table.table("latency", LATENCY)
    return latency.make(latency_of, latency.needed("kind"), latency.some(*LATENCY[1:]))


def _fault(table: Table) -> Fault:
    kind = table.needed("kind")
    with table.blamed():
        if not isinstance(kind, str) or kind not in TROUBLES:
            names = ", ".join(map(repr, TROUBLES))
            raise ValueError(f"kind must be one of {names}, got {kind!r}")
    maker, own = TROUBLES[kind]
    fault = table.only((*FAULT, *own))
    values = fault.some(*own)
    if "latency" in values:
        values["latency"] = _latency(fault)
    if "failure" in values:
        with fault.blamed():
            values["kind"] = _failure_kind(values.pop("failure"))
    trouble = fault.make(maker, **values)
    return fault.make(Fault, trouble, fault.needed("from_s"), fault.needed("until_s"))


def _failure_kind(value: Any) -> FailureKind:
    # Nobody fails by that: it is what a call says that was told to end.
    kinds = [each for each in FailureKind if each is not FailureKind.CANCELLED]
    if value not in kinds:
        raise ValueError(f"failure must be one of {', '.join(map(str, kinds))}, got {value!r}")
    return FailureKind(value)


# -- the pool


def _config(table: Table) -> PoolConfig:
    # Known are all of them: one that is not simulated is refused
    # in other words than a misspelt one.
    pool = table.table("pool", [each.name for each in fields(PoolConfig)])
    with pool.blamed():
        for name in pool:
            if name not in POOL:
                raise ValueError(f"{name} is not simulated; leave it out")
    values = {
        # TOML has no null.
        name: None if name in OPTIONAL and value == "off" else value
        for name, value in pool.some(*POOL).items()
    }
    return pool.make(PoolConfig, **values)


# -- a table: what it may hold, what it must, and where an error in it lies


@dataclass(frozen=True, slots=True)
class Source:
    """The file, and where what stands in it; of one of its variants, what that changes first."""

    file: str
    lines: Mapping[Place, int]
    variant: str | None = None

    def of(self, variant: str) -> Source:
        """The same for a variant."""
        changed = {
            place[2:]: line
            for place, line in self.lines.items()
            if place[:2] == ("variants", variant)
        }
        return Source(self.file, {**self.lines, **changed}, variant)

    def at(self, field: str) -> str:
        """Where a field stands, as in "members[1].latency"; the words before an error."""
        line = line_of(self.lines, tuple(re.findall(r"[^\s.\[\]:]+", field)))
        where = self.file if line is None else f"{self.file}:{line}"
        return where if self.variant is None else f"{where} ({self.variant})"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file, with the place where it stands.

    Args:
        source: the file.
        path: the fields that lead to it, such as "members[1]."; empty for the whole file.

    Raises:
        ScenarioError: it is not a table, or holds what is not among `known`.
    """

    source: Source
    path: str
    _values: Any
    _known: Collection[str]

    def __post_init__(self) -> None:
        if not isinstance(self._values, Mapping):
            raise self._error(f"{self.path[:-1]} must be a table, got {self._values!r}")
        for name in self._values:
            if name not in self._known:
                known = f"{meant(name, self._known)}those are {', '.join(self._known)}"
                raise self._error(f"{self.path}{name} is not a setting; {known}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def only(self, known: Collection[str]) -> Table:
        """The same table, when nothing else may be in it after all."""
        return replace(self, _known=known)

    def some(self, *names: str) -> dict[str, Any]:
        """The values of those names which are there."""
        return {name: self._values[name] for name in names if name in self._values}

    def needed(self, name: str) -> Any:
        """The value of that name.

        Raises:
            ScenarioError: there is none.
        """
        if name not in self._values:
            raise self._error(f"{self.path}{name} must be given")
        return self._values[name]

    def table(self, name: str, known: Collection[str]) -> Table:
        """The table of that name; an empty one if there is none."""
        return Table(self.source, f"{self.path}{name}.", self._values.get(name, {}), known)

    def tables(self, name: str, known: Collection[str]) -> Iterator[Table]:
        """The tables of the array of that name; none if there is none."""
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise self._error(f"{self.path}{name} must be an array of tables, got {value!r}")
        for index, each in enumerate(value):
            yield Table(self.source, f"{self.path}{name}[{index}].", each, known)

    def make(self, maker: Callable[..., Made], *values: Any, **named: Any) -> Made:
        """What `maker` makes of them.

        Raises:
            ScenarioError: it refused a value, with its words.
        """
        with self.blamed():
            return maker(*values, **named)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """An error in here is one of this table, or of the field with which its message begins."""
        try:
            yield
        except ScenarioError:
            raise
        except (TypeError, ValueError) as error:
            # The checks begin their messages with the field: then the path is put right before it.
            whole = self.path and str(error).split()[0] not in self._known
            path = f"{self.path[:-1]}: " if whole else self.path
            raise self._error(f"{path}{error}") from None

    def _error(self, text: str) -> ScenarioError:
        return ScenarioError(f"{self.source.at(text.split()[0])}: {text}")
