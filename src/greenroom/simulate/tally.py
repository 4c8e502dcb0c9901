"""What came out of a run: the requests by their fate, the latencies, the calls of each member."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from greenroom.actors.request.job import Job
from greenroom.messages.errors import DeadlineExceededError, PoolSaturatedError
from greenroom.messages.execution import Execute
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import Scenario

REFUSED = "refused"
"""The queue was full."""
NO_MEMBER = "no_member"
"""Nobody was ever given it: every member was kept out, by its breaker or a Retry-After."""
DEADLINE = "deadline"
"""The deadline of the whole request was over."""
UNFINISHED = "unfinished"
"""Its call hangs for ever, without a timeout that would end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantResult:
    """What became of the requests of one tenant; as of all of them in `Result`."""

    arrived: int
    answered: int
    refused: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One strategy in one scenario. Latencies are in seconds, of the answered requests, and None
    when none was answered. arrived = answered + refused + all that failed.

    Attributes:
        within: how many were answered in time.
        refused: how many found the queue full.
        failed: how many failed, by the kind of their last failure, or by what ended them.
        calls: attempts on each member, in the configured order.
        throttled: how many of them ended with a 429.
        tenants: what became of the requests of each.
        fairness: Jain's index of what each tenant was answered, over what it would have had of all
            answers if they had been shared out by weight, nobody getting more than it asked for: 1
            if just that, 1 / n if one of n has had everything. None without tenants.
    """

    strategy: str
    arrived: int
    answered: int
    within: int
    refused: int
    failed: Mapping[str, int]
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
    calls: Mapping[str, int]
    throttled: int = 0
    tenants: Mapping[str, TenantResult] = field(default_factory=dict)
    fairness: float | None = None

    @property
    def answered_share(self) -> float | None:
        """Of all that arrived, from 0 to 1; None when nothing arrived."""
        return self.answered / self.arrived if self.arrived else None

    @property
    def goodput(self) -> float | None:
        """The share of all that arrived which was answered in time, from 0 to 1."""
        return self.within / self.arrived if self.arrived else None


def fate_of(job: Job, error: BaseException) -> str:
    """What became of a request that was not answered, by what its asker would have raised."""
    if isinstance(error, PoolSaturatedError):
        return REFUSED
    if isinstance(error, DeadlineExceededError):
        return DEADLINE
    return NO_MEMBER if job.failed_last is None else job.failures[job.failed_last].kind


class Tally:
    """Counts the requests that arrived after the warm-up: the `Audience` of a pool.

    Args:
        over: told of each request that has ended.
    """

    def __init__(self, scenario: Scenario, agenda: Agenda, over: Callable[[], object]) -> None:
        self._from_s = scenario.warmup_s
        self._agenda = agenda
        self._over = over
        self._arrived = 0
        self._fates: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._calls = dict.fromkeys([each.name for each in scenario.members], 0)
        self._throttled = 0
        self._weights = {each.name: each.weight for each in scenario.tenants}
        self._came: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._times: dict[str, list[float]] = {each.name: [] for each in scenario.tenants}

    def arrived(self, tenant: str | None = None) -> None:
        """A request arrives."""
        if self._agenda.now >= self._from_s:
            self._arrived += 1
            if tenant is not None:
                self._came[tenant] += 1

    def called(self, job: Job, message: Execute, member: str) -> None:
        """An attempt begins."""
        if job.accepted_at >= self._from_s:
            self._calls[member] += 1

    def throttled(self, job: Job | None) -> None:
        """An attempt has ended with a 429."""
        if job is None or job.accepted_at >= self._from_s:
            self._throttled += 1

    def answered(self, job: Job, member: str) -> None:
        """A member has answered a request."""
        if job.accepted_at >= self._from_s:
            self._latencies.append(self._agenda.now - job.accepted_at)
            if self._times:
                self._times[str(job.fair_key)].append(self._latencies[-1])
        self._over()

    def failed(self, job: Job, error: BaseException) -> None:
        """A request has ended otherwise."""
        if job.accepted_at >= self._from_s:
            fate = fate_of(job, error)
            self._fates[fate] += 1
            if self._times and fate == REFUSED:
                self._refused[str(job.fair_key)] += 1
        self._over()

    def result(self, strategy: str, within_s: float) -> Result:
        """All of it. Call it once, at the end."""
        latencies = sorted(self._latencies)
        failed = {k: n for k, n in sorted(self._fates.items()) if k != REFUSED}
        # The agenda is empty, and these have not ended: nothing would ever end them.
        unfinished = self._arrived - len(latencies) - self._fates.total()
        return Result(
            strategy=strategy,
            arrived=self._arrived,
            answered=len(latencies),
            within=sum(each <= within_s for each in latencies),
            refused=self._fates[REFUSED],
            failed={**failed, UNFINISHED: unfinished} if unfinished else failed,
            mean_s=math.fsum(latencies) / len(latencies) if latencies else None,
            p50_s=quantile(latencies, 0.50),
            p95_s=quantile(latencies, 0.95),
            p99_s=quantile(latencies, 0.99),
            max_s=latencies[-1] if latencies else None,
            calls=self._calls,
            throttled=self._throttled,
            tenants={name: self._of(name) for name in self._times},
            fairness=self._fairness(),
        )

    def _of(self, tenant: str) -> TenantResult:
        times = sorted(self._times[tenant])
        return TenantResult(
            arrived=self._came[tenant],
            answered=len(times),
            refused=self._refused[tenant],
            p50_s=quantile(times, 0.50),
            p99_s=quantile(times, 0.99),
        )

    def _fairness(self) -> float | None:
        had = {name: len(times) for name, times in self._times.items() if self._came[name]}
        due = shares(sum(had.values()), {name: self._came[name] for name in had}, self._weights)
        return jains_index([had[name] / due[name] for name in had if due[name] > 0])


def shares(
    total: float, wanted: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """What each gets of a total that is shared out by weight, nobody getting more than it wants:
    who wants less leaves the rest to the others (max-min fairness).
    """
    given: dict[str, float] = {}
    left, open_ = total, dict(wanted)
    while open_:
        each = left / math.fsum(weights[name] for name in open_)
        content = [name for name, want in open_.items() if want <= each * weights[name]]
        for name in content or list(open_):
            given[name] = open_[name] if content else each * weights[name]
            del open_[name]
            left -= given[name]
    return given


def jains_index(shares_had: Sequence[float]) -> float | None:
    """(sum x)^2 / (n sum x^2); None of nobody, or if nobody has had anything.

    Source: Jain, Chiu and Hawe, A Quantitative Measure of Fairness (1984).
    """
    squares = math.fsum(each * each for each in shares_had)
    return math.fsum(shares_had) ** 2 / (len(shares_had) * squares) if squares else None


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The smallest value that at least a share `q` of them does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
