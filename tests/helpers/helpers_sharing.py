"""Several processes that share, without any process: real breakers, a store that may lose things,
and time that passes in steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from greenroom import CircuitState, FailureKind, ReportedState
from greenroom.shared.sharing import Alone, Back, Effect, LookAtMembers, Looked, Put, Say, Sharing
from greenroom.shared.state_store import Lying, Said, key_text
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Transition

STEP_S = 0.05
RESET_S = 5.0
POLICY = BreakerPolicy(
    failure_threshold=3,
    reset_timeout_s=RESET_S,
    reset_max_s=2 * RESET_S,
    success_threshold=1,
    window=20,
    min_calls=20,
    failure_rate=None,
    slow_rate=None,
    slow_call_s=None,
    half_open_permits=1,
    permit_lease_s=10.0,
)


class LossyStore:
    """A store that loses some of what is put there, and shows others late.

    Attributes:
        away: whether it answers at all.
    """

    def __init__(self, rng: random.Random, loss: float = 0.0, lag_s: float = 0.0) -> None:
        self._rng, self._loss, self._lag_s = rng, loss, lag_s
        self._words: dict[str, tuple[str, float, float]] = {}
        self._before: dict[str, tuple[str, float, float]] = {}
        self.away = False
        self.puts: list[tuple[float, Put]] = []
        self.news_at = 0.0

    def put(self, put: Put, now: float) -> None:
        if self.away:
            raise OSError("the store is away")
        self.puts.append((now, put))
        if self._rng.random() >= self._loss:
            key = key_text(put.key)
            if key in self._words:
                self._before[key] = self._words[key]
            self._words[key] = (put.word.text(), now, now + put.ttl_s)
            self.news_at = now + self._lag_s

    def get(self, now: float) -> Mapping[str, Lying]:
        if self.away:
            raise OSError("the store is away")
        found = {}
        for key, word in self._words.items():
            if now < word[1] + self._lag_s:
                word = self._before.get(key, ("", 0.0, 0.0))
            value, _, until = word
            if until > now:
                found[key] = Lying(value, until - now)
        return found


@dataclass(eq=False)
class Process:
    """A process with two members: requests go to `a` first, then to `b`.

    Attributes:
        calls: when it has called which.
        cut: whether its own network is away.
        busy: what asks at all.
        trial_s: how long a call takes that is not refused at once.
    """

    number: int
    store: LossyStore
    down: set[str]
    seed: int
    cut: bool = False
    busy: bool = True
    killed: bool = False
    trial_s: float = 0.0
    calls: list[tuple[float, str]] = field(default_factory=list)
    told: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed * 100 + self.number)
        self.breakers = {name: Breaker(POLICY, rng) for name in "ab"}
        self.sharing = Sharing(f"p{self.number}", f"host:{self.number}", rng)
        self._answered_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._running: dict[str, tuple[int, float]] = {}
        self._seen = 0

    def step(self, now: float) -> None:
        if self.killed:
            return
        effects: list[Effect] = []
        for name, breaker in self.breakers.items():
            effects += self._follow(name, breaker.tick(now), now)
        for name, (epoch, began) in list(self._running.items()):
            if now >= began + self.trial_s:
                del self._running[name]
                effects += self._ended(name, epoch, began, now)
        if self.busy:
            effects += self._ask(now)
        effects += self.sharing.tick(now)
        self._carry_out(effects, now)
        self._exchange(now)

    def _ask(self, now: float) -> Iterator[Effect] | list[Effect]:
        effects: list[Effect] = []
        for name, breaker in self.breakers.items():
            if not breaker.admits(now) or name in self._running:
                continue
            breaker.trial_started(breaker.epoch, now)
            self.calls.append((now, name))
            if self.trial_s:
                self._running[name] = (breaker.epoch, now)
                continue
            effects += self._ended(name, breaker.epoch, now, now)
            if self._answered_at.get(name) == now:
                break
        return effects

    def _ended(self, name: str, epoch: int, began: float, now: float) -> list[Effect]:
        failed = self.cut or name in self.down
        (self._failed_at if failed else self._answered_at)[name] = now
        kind = FailureKind.UNAVAILABLE if failed else None
        moved = self.breakers[name].record(epoch, now, kind=kind, elapsed_s=now - began)
        return self._follow(name, moved, now)

    def _follow(self, name: str, moved: Transition | None, now: float) -> list[Effect]:
        if moved is None:
            return []
        match moved.after:
            case CircuitState.OPEN:
                assert moved.reopens_at is not None
                for_s = moved.reopens_at - now
                return self.sharing.opened(name, for_s, moved.kind, moved.heard, now)
            case CircuitState.HALF_OPEN:
                return self.sharing.half_opened(name, now)
        return self.sharing.closed(name, moved.heard, now)

    def _carry_out(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            self.told.append(effect)
            match effect:
                case Put():
                    try:
                        self.store.put(effect, now)
                    except OSError as error:
                        self._carry_out(self.sharing.failed(str(error), now), now)
                case Say(name, ReportedState.OPEN, for_s, _, kind):
                    assert for_s is not None
                    moved = self.breakers[name].open_as_heard(
                        now + for_s, kind or FailureKind.UNAVAILABLE, "heard", now
                    )
                    self._carry_out(self._follow(name, moved, now), now)
                case Say(name, ReportedState.CLOSED):
                    moved = self.breakers[name].close_with("heard", now, heard=True)
                    self._carry_out(self._follow(name, moved, now), now)
                case LookAtMembers():
                    looked = {
                        name: Looked(
                            self._answered_at.get(name),
                            self._failed_at.get(name),
                            int(name in self._running),
                        )
                        for name in self.breakers
                    }
                    self._carry_out(self.sharing.members(looked, now), now)
                case Alone() | Back() | Say():
                    pass

    def _exchange(self, now: float) -> None:
        news = len(self.store.puts) != self._seen and self.store.news_at <= now
        if not self.sharing.polls(now) and not news:
            return
        self._seen = len(self.store.puts)
        try:
            effects = self.sharing.looked(self.store.get(now), now)
        except OSError as error:
            effects = self.sharing.failed(str(error), now)
        self._carry_out(effects, now)

    def said(self, kind: type[Effect]) -> list[Effect]:
        return [each for each in self.told if isinstance(each, kind)]

    def calls_of(self, name: str, since: float = 0.0, until: float = 1e9) -> list[float]:
        return [at for at, called in self.calls if called == name and since <= at <= until]


class Town:
    """Some processes, one store, one clock."""

    def __init__(
        self, processes: int = 4, seed: int = 1, loss: float = 0.0, lag_s: float = 0.0
    ) -> None:
        self.now = 100.0
        self.down: set[str] = set()
        self.store = LossyStore(random.Random(seed), loss, lag_s)
        self.processes = [Process(i, self.store, self.down, seed) for i in range(processes)]

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now += STEP_S
            for each in self.processes:
                each.step(self.now)

    def states(self, name: str = "a") -> list[CircuitState]:
        return [each.breakers[name].state for each in self.processes if not each.killed]

    def until_closed(self, name: str = "a", limit_s: float = 60.0) -> float:
        """When all of them have that breaker closed."""
        began = self.now
        while set(self.states(name)) != {CircuitState.CLOSED}:
            assert self.now < began + limit_s, self.states(name)
            self.run(STEP_S)
        return self.now

    def trials(self, name: str, since: float) -> int:
        """How many calls of it had begun when the one did that has brought it back."""
        said = (at for at, put in self.store.puts if put.word.said is Said.CLOSED and at >= since)
        back_at = next(said, self.now)
        return sum(
            len(each.calls_of(name, since, back_at - each.trial_s + 1e-9))
            for each in self.processes
        )
