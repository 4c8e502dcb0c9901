"""Processes that have a limit together, without any process: real budgets and a real ledger,
answers that take their time or get lost, and time that passes in steps.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from greenroom.actors.policy.budget import Budget, Spent
from greenroom.messages.shared_limits import BucketKey, LeaseGranted, LeaseRefused, LeaseWanted
from greenroom.shared.lease_book import LeaseBook

KEY: BucketKey = ("member", "a", "requests", 1.0)


@dataclass(eq=False)
class Tenant:
    """One process.

    Attributes:
        rate: how many calls begin here a second, if they may; infinite: as many as may.
        costs: what each of them costs, drawn anew.
        spent: when each of its calls has begun, and what it has really cost.
        waits: how long each of them has waited.
    """

    number: int
    lab: Lab
    rate: float
    costs: Callable[[random.Random], int]
    killed: bool = False
    spent: list[list[float]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.lab.seed * 1000 + self.number)
        lab = self.lab
        self.budget = Budget(KEY, lab.amount, lab.per_s, self._ask)
        self.queue: deque[tuple[float, int]] = deque()
        self._due = lab.now

    def _ask(self, asked: LeaseWanted) -> None:
        self.lab.send(self, asked)

    def step(self) -> None:
        now = self.lab.now
        if self.killed:
            return
        self.budget.tick(now, max((cost for _, cost in self.queue), default=0))
        while self._due <= now and len(self.queue) < 100:
            self.queue.append((now, self.costs(self.rng)))
            self._due = now if self.rate == float("inf") else self._due + 1.0 / self.rate
        self.pump()

    def pump(self) -> None:
        """Begin what may begin."""
        now, budget = self.lab.now, self.budget
        while self.queue:
            came, cost = self.queue[0]
            if budget.headroom(now) < cost:
                budget.lacks(cost, now)
                return
            self.queue.popleft()
            taken = budget.take(cost, now)
            row = [now, float(cost)]
            self.spent.append(row)
            self.waits.append(now - came)
            if self.lab.really is not None:
                self._settles(row, taken, cost, self.lab.settle_s, self.lab.really)
            elif cost > 1 and self.lab.settles:
                in_s, really = self.rng.random() * self.lab.per_s, self.rng.randint(0, cost)
                self._settles(row, taken, cost, in_s, really)

    def _settles(self, row: list[float], taken: Spent, cost: int, in_s: float, really: int) -> None:
        def settle() -> None:
            if not self.killed:
                row[1] = float(really)
                self.budget.change(taken, really - cost)

        self.lab.later(in_s, settle)


class Lab:
    """Some of them, one ledger, one clock."""

    def __init__(
        self,
        amount: int,
        per_s: float,
        rates: list[float],
        *,
        seed: int = 1,
        costs: Callable[[random.Random], int] = lambda rng: 1,
        lag_s: float = 0.003,
        loss: float = 0.0,
        settles: bool = False,
    ) -> None:
        self.amount, self.per_s, self.seed = amount, per_s, seed
        self.now = 1000.0
        self.text: str | None = None
        self.asks = 0
        self.settles = settles
        self.settle_s = 0.0
        self.really: int | None = None
        self.away = False
        self._lag_s, self._loss = lag_s, loss
        self._rng = random.Random(seed)
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self.tenants = [Tenant(i, self, rate, costs) for i, rate in enumerate(rates)]

    def later(self, in_s: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._later, (self.now + in_s, next(self._numbers), act))

    def send(self, tenant: Tenant, asked: LeaseWanted) -> None:
        self.asks += 1
        self.later(self._rng.random() * self._lag_s, lambda: self._arrives(tenant, asked))

    def _arrives(self, tenant: Tenant, asked: LeaseWanted) -> None:
        answer: LeaseGranted | LeaseRefused = LeaseRefused(key=asked.key, serial=asked.serial)
        if not self.away and self._rng.random() >= self._loss:
            # The store's clock has another origin.
            book = LeaseBook.read(self.text, self.now + 7e5)
            answer = book.lend(asked, f"p{tenant.number}")
            self.text = book.text()
            if self._rng.random() < self._loss:  # it is done, and nobody hears of it
                answer = LeaseRefused(key=asked.key, serial=asked.serial)
        self.later(self._rng.random() * self._lag_s, lambda: self._answered(tenant, answer))

    def _answered(self, tenant: Tenant, answer: LeaseGranted | LeaseRefused) -> None:
        if tenant.killed:
            return
        if isinstance(answer, LeaseGranted):
            tenant.budget.granted(answer, self.now)
        else:
            tenant.budget.refused(answer, self.now)
        tenant.pump()

    def run(self, seconds: float, step_s: float = 0.005) -> None:
        until = self.now + seconds
        next_step = self.now
        while True:
            at = min(next_step, self._later[0][0] if self._later else next_step)
            if at >= until:
                self.now = until
                return
            self.now = max(self.now, at)
            if self._later and self._later[0][0] <= next_step:
                heapq.heappop(self._later)[2]()
                continue
            next_step += step_s
            for each in self._rng.sample(self.tenants, len(self.tenants)):
                each.step()

    def most(self, since: float = 0.0) -> float:
        """The most that was spent in any window."""
        rows = sorted((at, cost) for x in self.tenants for at, cost in x.spent if at >= since)
        most = total = 0.0
        first = 0
        for at, cost in rows:
            total += cost
            while rows[first][0] + self.per_s <= at:
                total -= rows[first][1]
                first += 1
            most = max(most, total)
        return most

    def number(self, since: float = 0.0) -> list[float]:
        """How much each has spent."""
        return [sum(cost for at, cost in x.spent if at >= since) for x in self.tenants]
