"""`make live`: two providers of 5 calls a second, a load of 13, ten seconds, every strategy.

Real clocks and threads, all strategies side by side. Fails where one of them has fewer than 90 of
the 100 answers that the providers can give, or fewer than 36 of the 40 in the last four seconds.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from greenroom import AgentPool, LoadBalanceStrategy, Member, PoolError, Request

PER_S = 5
LOAD_PER_S = 13
SECONDS = 10
LAST_S = 4
LEAST, LEAST_LAST = 90, 36

Agent = Callable[[int], Awaitable[int]]


class TooManyRequests(Exception):
    """A 429 with an exact Retry-After."""

    status_code = 429

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests")
        self.retry_after = retry_after


def fixed_windows() -> Agent:
    """Five calls in each second of the provider's clock."""
    began, used = time.monotonic(), dict[int, int]()

    async def agent(payload: int) -> int:
        now = time.monotonic() - began
        window = math.floor(now)
        if used.get(window, 0) >= PER_S:
            raise TooManyRequests(window + 1 - now)
        used[window] = used.get(window, 0) + 1
        return payload

    return agent


def token_bucket() -> Agent:
    """Five calls at once, and one more each fifth of a second."""
    tokens, at = float(PER_S), time.monotonic()

    async def agent(payload: int) -> int:
        nonlocal tokens, at
        now = time.monotonic()
        tokens, at = min(PER_S, tokens + (now - at) * PER_S), now
        if tokens < 1:
            raise TooManyRequests((1 - tokens) / PER_S)
        tokens -= 1
        return payload

    return agent


@dataclass(frozen=True)
class Outcome:
    """How many requests were answered, and how many of those of the last seconds."""

    strategy: str
    limit: str
    answered: int
    last: int

    @property
    def holds(self) -> bool:
        """Whether it is as good as is promised."""
        return self.answered >= LEAST and self.last >= LEAST_LAST


def play(strategy: LoadBalanceStrategy, limit: Callable[[], Agent]) -> Outcome:
    """Ten seconds of requests through one pool."""
    with AgentPool.start([Member("a", limit()), Member("b", limit())], strategy=strategy) as pool:
        began, futures = time.monotonic(), []
        for number in range(LOAD_PER_S * SECONDS):
            time.sleep(max(0.0, began + number / LOAD_PER_S - time.monotonic()))
            futures.append(pool.ask(Request(number, key=str(number)), block=False))
        answered = []
        for number, future in enumerate(futures):
            try:
                future.get(timeout=30)
                answered.append(number / LOAD_PER_S)
            except PoolError:
                pass
    last = sum(at >= SECONDS - LAST_S for at in answered)
    return Outcome(strategy, limit.__name__, len(answered), last)


def main() -> int:
    """All of them side by side; 0 if all hold."""
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda *case: outcomes.append(play(*case)), args=(strategy, limit))
        for strategy in LoadBalanceStrategy
        for limit in (fixed_windows, token_bucket)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in sorted(outcomes, key=lambda each: (each.strategy, each.limit)):
        mark = "" if each.holds else "  TOO FEW"
        print(f"{each.strategy:18} {each.limit:14} {each.answered:4} {each.last:4}{mark}")
    return 0 if len(outcomes) == len(threads) and all(each.holds for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
