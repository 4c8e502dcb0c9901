"""Providers that count calls, for simulations, each with an exact Retry-After, in milliseconds."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from greenroom import Limit, PoolConfig
from greenroom.actors.request.job import Job
from greenroom.messages.execution import Execute
from greenroom.messages.status import FailureKind
from greenroom.simulate import Load, MemberSpec, Result, Scenario, run, simulate
from greenroom.simulate.faults import Effect, Ending, Fault
from greenroom.simulate.latency import Constant, Latency
from greenroom.simulate.tally import Tally

Counter = Callable[[float], float]
"""Lets a call in at a time, or says after how many seconds it would: 0.0 is a yes."""


def bucket(per_s: int) -> Counter:
    """So many a second, and as many at once."""
    tokens, stamp = float(per_s), 0.0

    def let_in(now: float) -> float:
        nonlocal tokens, stamp
        tokens, stamp = min(float(per_s), tokens + (now - stamp) * per_s), now
        if tokens < 1.0 - 1e-9:
            return (1.0 - tokens) / per_s
        tokens -= 1.0
        return 0.0

    return let_in


def sliding(per_s: int) -> Counter:
    """So many in any second."""
    log = deque[float]()

    def let_in(now: float) -> float:
        while log and log[0] + 1.0 <= now + 1e-9:
            log.popleft()
        if len(log) >= per_s:
            return log[0] + 1.0 - now
        log.append(now)
        return 0.0

    return let_in


def fixed(per_s: int) -> Counter:
    """So many from each full second to the next."""
    window, used = 0, 0

    def let_in(now: float) -> float:
        nonlocal window, used
        second = int(now + 1e-9)
        if second != window:
            window, used = second, 0
        if used >= per_s:
            return second + 1 - now
        used += 1
        return 0.0

    return let_in


KINDS: dict[str, Callable[[int], Counter]] = {
    "bucket": bucket,
    "sliding": sliding,
    "fixed": fixed,
}


@dataclass(frozen=True)
class Counting:
    """The trouble with one of them: it refuses at once."""

    kind: str
    per_s: int

    def effect(self, rng: random.Random) -> Effect:
        let_in = KINDS[self.kind](self.per_s)

        def counted(ending: Ending, now: float) -> Ending:
            wait_s = let_in(now)
            if not wait_s:
                return ending
            Watched.last.calls_refused += 1
            retry_after_s = max(0.001, math.ceil(wait_s * 1000.0) / 1000.0)
            return Ending(0.0, FailureKind.RATE_LIMITED, retry_after_s)

        return counted


FOR_EVER = 1e9


def provider(
    name: str,
    kind: str,
    *per_s: tuple[int, float],
    concurrency: int | Literal["auto"] = "auto",
    limits: tuple[Limit, ...] = (),
    latency: Latency | None = None,
) -> MemberSpec:
    """A member that lets so many calls a second in, each number until the time beside it."""
    faults, since = [], 0.0
    for number, until in per_s:
        faults.append(Fault(Counting(kind, number), since, until))
        since = until
    return MemberSpec(
        name=name,
        latency=latency or Constant(0.3),
        concurrency=concurrency,
        servers=1000 if concurrency == "auto" else None,
        limits=limits,
        faults=tuple(faults),
    )


class Watched(Tally):
    """Notes when requests were answered, and how many calls there were."""

    last: Watched
    answered_at: list[float]
    calls_made: int
    calls_refused: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answered_at, self.calls_made, self.calls_refused = [], 0, 0
        Watched.last = self

    def called(self, job: Job, message: Execute, member: str) -> None:
        super().called(job, message, member)
        self.calls_made += 1

    def answered(self, job: Job, member: str) -> None:
        super().answered(job, member)
        self.answered_at.append(self._agenda.now)


@dataclass(frozen=True)
class Outcome:
    """What came out of a run."""

    result: Result
    answered_at: list[float]
    calls: int
    refused: int

    @property
    def refused_share(self) -> float:
        return self.refused / self.calls

    def rate(self, since: float, until: float) -> float:
        """Answers a second from one time to another one."""
        return sum(since <= at < until for at in self.answered_at) / (until - since)


def played(
    monkeypatch: Any,
    *members: MemberSpec,
    rate_per_s: float,
    duration_s: float,
    deadline_s: float,
    seed: int = 1,
    strategy: str = "adaptive",
) -> Outcome:
    """Let that load come to them."""
    monkeypatch.setattr(run, "Tally", Watched)
    scenario = Scenario(
        name="goal",
        members=members,
        load=Load(rate_per_s=rate_per_s),
        duration_s=duration_s,
        config=PoolConfig(deadline_s=deadline_s),
    )
    result = simulate(scenario, strategy, seed)
    last = Watched.last
    return Outcome(result, last.answered_at, last.calls_made, last.calls_refused)
