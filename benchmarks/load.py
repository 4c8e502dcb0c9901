"""A load on rate-limited providers: when requests come, what could be answered, what was. Pure."""

from __future__ import annotations

import heapq
import random
import statistics
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field


class Limiter:
    """What a provider lets through: so many calls in any window of so many seconds, exactly.

    A call that comes up to `grace_s` early is let in as if it had come in time, and counts from
    then on: no network is more exact than that, and nobody gets more by it in the long run.

    Args:
        amount: calls in any window.
        per_s: the length of the window, in seconds.
        grace_s: seconds.
    """

    def __init__(self, amount: int, per_s: float, grace_s: float = 0.0) -> None:
        self._counted: deque[float] = deque(maxlen=amount)
        self._per_s = per_s
        self._grace_s = grace_s

    def wait_s(self, now: float) -> float:
        """0: the call is let in, and counted. Else it is refused: when to come back, in seconds."""
        full = len(self._counted) == self._counted.maxlen
        due = max(now, self._counted[0] + self._per_s) if full else now
        if due - now > self._grace_s:
            return due - now
        self._counted.append(due)
        return 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that comes `at_s` seconds after the beginning, and whose it is."""

    at_s: float
    tenant: str


def arrivals(rates: dict[str, float], seconds: float, seed: int) -> list[Asked]:
    """A Poisson stream for each tenant, all of them in order.

    Args:
        rates: requests a second, by tenant.
    """
    found = []
    for tenant, rate in rates.items():
        rng = random.Random(f"{seed} {tenant}")
        at_s = rng.expovariate(rate)
        while at_s < seconds:
            found.append(Asked(at_s, tenant))
            at_s += rng.expovariate(rate)
    return sorted(found, key=lambda each: (each.at_s, each.tenant))


@dataclass(frozen=True, slots=True)
class Providers:
    """All providers together.

    Args:
        calls: how many they let through in any window, all of them together.
        per_s: the length of the window, in seconds.
        takes_s: how long a call takes.
        out_s: from when to when nobody answers; a call that runs into it is lost.
    """

    calls: int
    per_s: float
    takes_s: float
    out_s: tuple[float, float] | None = None

    def starts(self, at_s: float) -> float:
        """The first time from `at_s` on at which a call can begin that is answered."""
        if self.out_s is not None and self.out_s[0] - self.takes_s < at_s < self.out_s[1]:
            return self.out_s[1]
        return at_s


def possible(asked: Iterable[Asked], providers: Providers, deadline_s: float) -> int:
    """How many somebody could have answered in time who knows all limits.

    In the order of their deadlines, each as soon as a call is free, and none that would be late:
    with one length of deadline and of call no other order answers more.
    """
    free = [0.0] * providers.calls
    answered = 0
    for each in asked:
        start = providers.starts(max(each.at_s, free[0]))
        if start + providers.takes_s <= each.at_s + deadline_s:
            heapq.heapreplace(free, start + providers.per_s)
            answered += 1
    return answered


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a request: how long until its answer, in seconds, or what it failed by."""

    asked: Asked
    took_s: float | None
    failed: str = ""

    @property
    def answered_at_s(self) -> float | None:
        """Seconds after the beginning."""
        return None if self.took_s is None else self.asked.at_s + self.took_s


@dataclass(frozen=True, slots=True)
class Account:
    """What the providers have seen.

    Attributes:
        calls: all of them.
        refused: those that got a 429.
        cut: those whose connection broke.
    """

    calls: int = 0
    refused: int = 0
    cut: int = 0

    def __sub__(self, before: Account) -> Account:
        """What came since."""
        return Account(
            self.calls - before.calls, self.refused - before.refused, self.cut - before.cut
        )


@dataclass(frozen=True)
class Result:
    """What a peer has made of a load.

    Attributes:
        possible: how many could have been answered in time.
        back_s: when the providers were back after they had been out, after the beginning.
    """

    told: Sequence[Told]
    account: Account
    possible: int
    back_s: float | None = None
    times: list[float] = field(init=False)

    def __post_init__(self) -> None:
        times = sorted(each.took_s for each in self.told if each.took_s is not None)
        object.__setattr__(self, "times", times)

    @property
    def answered(self) -> float:
        """Percent of those that could have been answered in time."""
        return 100 * len(self.times) / self.possible if self.possible else 0.0

    @property
    def refused(self) -> float:
        """Percent of all calls: those that got a 429 or broke."""
        bad = self.account.refused + self.account.cut
        return 100 * bad / self.account.calls if self.account.calls else 0.0

    def part(self, tenants: Collection[str]) -> float:
        """Percent of the requests of these tenants that were answered."""
        theirs = [each for each in self.told if each.asked.tenant in tenants]
        return 100 * sum(each.took_s is not None for each in theirs) / len(theirs)

    def quantile_s(self, share: float, tenants: Collection[str] | None = None) -> float | None:
        """How long that share of the answers took at most (of these tenants); None without any."""
        times = self.times
        if tenants is not None:
            times = sorted(
                each.took_s
                for each in self.told
                if each.took_s is not None and each.asked.tenant in tenants
            )
        if not times:
            return None
        if len(times) == 1:
            return times[0]
        return statistics.quantiles(times, n=100, method="inclusive")[round(share * 100) - 1]

    @property
    def first_after_s(self) -> float | None:
        """From the providers' return to the first answer after it, in seconds."""
        assert self.back_s is not None
        after = [at - self.back_s for at in self._ends() if at > self.back_s]
        return min(after, default=None)

    def _ends(self) -> Iterator[float]:
        for each in self.told:
            if each.answered_at_s is not None:
                yield each.answered_at_s
