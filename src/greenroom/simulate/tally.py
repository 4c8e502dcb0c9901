"""What came out of a run: the requests by their fate, the latencies, the calls of each member."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
class Result:
    """One strategy in one scenario. Latencies are in seconds, of the answered requests, and None
    when none was answered. arrived = answered + refused + all that failed.

    Attributes:
        within: how many were answered in time.
        refused: how many found the queue full.
        failed: how many failed, by the kind of their last failure, or by what ended them.
        calls: attempts on each member, in the configured order.
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

    def arrived(self) -> None:
        """A request arrives."""
        if self._agenda.now >= self._from_s:
            self._arrived += 1

    def called(self, job: Job, message: Execute, member: str) -> None:
        """An attempt begins."""
        if job.accepted_at >= self._from_s:
            self._calls[member] += 1

    def answered(self, job: Job, member: str) -> None:
        """A member has answered a request."""
        if job.accepted_at >= self._from_s:
            self._latencies.append(self._agenda.now - job.accepted_at)
        self._over()

    def failed(self, job: Job, error: BaseException) -> None:
        """A request has ended otherwise."""
        if job.accepted_at >= self._from_s:
            self._fates[fate_of(job, error)] += 1
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
        )


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The smallest value that at least a share `q` of them does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
