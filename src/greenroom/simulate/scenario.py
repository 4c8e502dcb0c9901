"""A scenario: the members, their faults, the load, the pool's settings. All of it checked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.limits import MOST, Limit, checked_limits
from greenroom.messages.member import Names, check_concurrency
from greenroom.messages.requests import Request
from greenroom.messages.screening import check_weight
from greenroom.messages.status import LoadBalanceStrategy
from greenroom.simulate.faults import Fault
from greenroom.simulate.latency import Latency

MOST_REQUESTS = 100_000_000
"""A scenario with more of them is refused: a run would take most of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """A member as the simulation has it.

    Attributes:
        latency: how long a call takes once the member works on it.
        speed: a member of speed 2 takes half as long.
        concurrency: calls that the pool gives it at a time (`Member.max_concurrency`); "auto": it
            finds out how many.
        servers: calls that it works on at a time; the others wait in it, first come, first served.
            None: as many as its concurrency, so that nobody waits there; of one that is found out
            they must be given.
        weight, priority, group, limits, cost, tags: `Member`'s.
    """

    name: str
    latency: Latency
    speed: float = 1.0
    concurrency: int | Literal["auto"] = 1
    servers: int | None = None
    weight: float = 1.0
    priority: int = 0
    group: str | None = None
    cost: float = 0.0
    tags: Names = ()
    limits: tuple[Limit, ...] = ()
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        check.name("name", self.name)
        check.number("speed", self.speed, above=True)
        if self.concurrency is None:
            raise check.misfit("concurrency must be a whole number", self.concurrency)
        check_concurrency("concurrency", self.concurrency)
        check.whole("servers", self.servers, minimum=1, optional=True)
        if self.concurrency == "auto" and self.servers is None:
            raise ValueError("servers must be given with concurrency 'auto', got None")
        check.number("weight", self.weight)
        check.whole("priority", self.priority, minimum=None)
        check.number("cost", self.cost)
        object.__setattr__(self, "tags", check.names("tags", self.tags))
        if self.group is not None:
            check.name("group", self.group)
        object.__setattr__(self, "limits", checked_limits("limits", self.limits))

    @property
    def at_work(self) -> int:
        """Calls that it works on at a time."""
        if self.concurrency == "auto":
            return self.servers or 1  # never None: it has been checked
        return min(self.concurrency, self.servers or self.concurrency)

    @property
    def capacity_per_s(self) -> float:
        """Calls a second that it can end, faults aside."""
        return self.at_work * self.speed / self.latency.mean_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Where requests come from: exactly one of the first three is given.

    Attributes:
        rate_per_s: at random moments (Poisson), so many a second.
        utilisation: the same, as a share of what all members together can do.
        callers: so many, each with one request at a time, and a pause after each answer.
        think_s: that pause, in seconds.
        backlog: so many more come all at once at the start.
        keys: how many different `Request.key`s there are; None: every request has its own.
        only, exclude, prefer: `Request`'s, of all of them.
        cost: what requests cost by estimate (`Request.cost`): of each name the least and the most,
            all whole numbers from one to the other alike.
        spent: what they really take, as a share of that: the least and the most; None: nobody says,
            so the estimate stays.
    """

    rate_per_s: float | None = None
    utilisation: float | None = None
    callers: int | None = None
    think_s: float = 0.1
    backlog: int = 0
    keys: int | None = None
    only: Names | None = None
    exclude: Names | None = None
    prefer: Names | None = None
    cost: Mapping[str, tuple[int, int]] | None = None
    spent: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check.number("rate_per_s", self.rate_per_s, above=True, optional=True)
        check.number("utilisation", self.utilisation, above=True, optional=True)
        check.whole("callers", self.callers, minimum=1, optional=True)
        # Above 0: a caller whose calls all fail at once would stop
        # time, and `rate_per_s` divides by it.
        check.number("think_s", self.think_s, minimum=0.001)
        check.whole("backlog", self.backlog)
        check.whole("keys", self.keys, minimum=1, optional=True)
        # For its checks only: what is wrong with one of them is told as of a request.
        Request(None, only=self.only, exclude=self.exclude, prefer=self.prefer)
        self._check_costs()
        given = [each for each in _SOURCES if getattr(self, each) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(_SOURCES)} must be given, "
                f"got {' and '.join(given) or 'none'}"
            )
        if self.backlog and self.callers is not None:
            raise ValueError(
                f"backlog must be 0 with callers, who ask one by one, got {self.backlog!r}"
            )

    def _check_costs(self) -> None:
        if self.cost is not None:
            check.mapping("cost", self.cost)
            cost = {}
            for name, between in self.cost.items():
                least, most = _pair(f"cost of {name}", between)
                check.whole(f"cost of {name}", least, maximum=MOST)
                check.whole(f"cost of {name}", most, minimum=least, maximum=MOST)
                cost[name] = (int(least), int(most))
            object.__setattr__(self, "cost", cost)
        if self.spent is not None:
            least, most = _pair("spent", self.spent)
            check.number("spent", least)
            check.number("spent", most, minimum=least)
            object.__setattr__(self, "spent", (least, most))


def _pair(field: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise check.misfit(f"{field} must be the least and the most", value)
    return value[0], value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose a part of the requests is: with `fair_by` in the pool's settings they share it.

    Attributes:
        share: of the load, in proportion to the others'.
        weight: what it gets in proportion, where there is not enough for all.
        priority, only, exclude, prefer: `Request`'s, of all of its requests; those of the `Load`
            are for all others.
    """

    name: str
    share: float = 1.0
    weight: float = 1.0
    priority: int = 0
    only: Names | None = None
    exclude: Names | None = None
    prefer: Names | None = None

    def __post_init__(self) -> None:
        check.name("name", self.name)
        check.number("share", self.share, above=True)
        check_weight("weight", self.weight)
        # As of a load.
        Request(
            None,
            priority=self.priority,
            only=self.only,
            exclude=self.exclude,
            prefer=self.prefer,
        )


_SOURCES = ("rate_per_s", "utilisation", "callers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated. Times are in seconds since the start.

    Attributes:
        duration_s: until then requests arrive; the run goes on until the last one has ended.
        warmup_s: what arrives before is simulated like the rest, and left out of the result.
        within_s: an answer that takes longer is no good any more.
        seed: of all chance.
        strategies: those to compare.
        tenants: whose the requests are; none: nobody's in particular.
        config: the pool's settings.
    """

    name: str
    members: tuple[MemberSpec, ...]
    load: Load
    duration_s: float
    warmup_s: float = 0.0
    within_s: float = 60.0
    seed: int = 1
    strategies: tuple[str, ...] = tuple(each.value for each in LoadBalanceStrategy)
    config: PoolConfig = field(default_factory=PoolConfig)
    tenants: tuple[Tenant, ...] = ()

    def __post_init__(self) -> None:
        check.number("duration_s", self.duration_s, above=True)
        check.number("warmup_s", self.warmup_s)
        if self.warmup_s >= self.duration_s:
            raise ValueError(
                f"warmup_s must be less than duration_s ({self.duration_s!r}), "
                f"got {self.warmup_s!r}"
            )
        check.number("within_s", self.within_s, above=True)
        check.whole("seed", self.seed, minimum=None)
        self._check_strategies()
        self._check_members()
        self._check_size()

    def _check_strategies(self) -> None:
        known = [each.value for each in LoadBalanceStrategy]
        for name in self.strategies:
            if name not in known:
                raise ValueError(f"strategies must be among {', '.join(known)}, got {name!r}")
        if not self.strategies:
            raise ValueError("strategies must not be empty")
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError(f"strategies must differ, got {', '.join(self.strategies)}")

    def _check_members(self) -> None:
        if not self.members:
            raise ValueError("members must not be empty")
        for name, times in Counter(each.name for each in self.members).items():
            if times > 1:
                raise ValueError(f"members must have different names, got {name!r} twice")
        for name, times in Counter(each.name for each in self.tenants).items():
            if times > 1:
                raise ValueError(f"tenants must have different names, got {name!r} twice")

    def _check_size(self) -> None:
        if self.load.utilisation is not None:
            instant = [each.name for each in self.members if each.latency.mean_s == 0]
            if instant:
                raise ValueError(
                    "load.utilisation must not be given with a member that takes no time, "
                    f"got {instant[0]!r}"
                )
        expected = self.load.backlog + self.rate_per_s * self.duration_s
        if expected > MOST_REQUESTS:
            raise ValueError(
                f"duration_s must be such that at most {MOST_REQUESTS:,} requests come, "
                f"got {self.duration_s!r}: about {expected:,.0f}"
            )

    @property
    def rate_per_s(self) -> float:
        """Requests a second that arrive; with callers the most that can."""
        load = self.load
        if load.callers is not None:
            return load.callers / load.think_s
        if load.utilisation is not None:
            return load.utilisation * sum(each.capacity_per_s for each in self.members)
        assert load.rate_per_s is not None
        return load.rate_per_s

    def replace(self, **changes: object) -> Scenario:
        """A copy with some values changed, checked like a new one."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
