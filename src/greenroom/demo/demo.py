"""The demo, an outage drill: three agents work on a text, one fails, one hangs, and no answer is
lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.event_bus import say
from greenroom.demo.demo_agents import Mode, Switch, Tally, crew, tally
from greenroom.demo.story import Story
from greenroom.messages import LoadBalanceStrategy, PoolConfig, PoolStats, Request
from greenroom.pool.agent_pool import AgentPool

Start = Callable[..., PoolRef]
"""What starts the pool: `AgentPool.start`, or in a test something that breaks it first."""

NAME = "drill"
REQUESTS, QUICK_REQUESTS = 2400, 480
IN_FLIGHT = 22
"""Requests under way at a time: some less than the crew can take, so that each moves on at once."""
RATE = 240.0
"""Requests a second that the crew gets through, roughly: for how long a demo will take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a demo goes. A short one has shorter times, so that it has everything, too."""

    requests: int = REQUESTS
    seed: int = 7
    failing: tuple[float, float] = (0.18, 0.38)
    """From which to which share of the answers `local` fails."""
    hanging: tuple[float, float] = (0.50, 0.72)
    """The same for `lazy`, which hangs."""

    @property
    def scale(self) -> float:
        """1 for ten seconds or more, less for a shorter demo."""
        return min(1.0, max(0.2, self.requests / RATE / 10))

    @property
    def patience_s(self) -> float:
        """An answer that takes longer than this is lost."""
        return max(3.0, 10 * self.scale)

    def config(self) -> PoolConfig:
        """Short times, so that an outage and its end fit into a few seconds."""
        return PoolConfig(
            circuit_failure_threshold=3,
            circuit_reset_timeout_s=1.0 * self.scale,
            circuit_reset_max_s=1.2 * self.scale,
            health_check_interval_s=1.0 * self.scale,
            health_check_timeout_s=max(0.15, 0.3 * self.scale),
            request_timeout_s=max(0.25, 0.5 * self.scale),
            deadline_s=self.patience_s,
            max_retries=10,
            retry_delay_s=0.02,
            retry_budget_floor=100,
            when_unavailable="wait",
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What a demo came to; `answers` has None for a request without one."""

    passages: Sequence[str]
    answers: Sequence[Tally | None]
    errors: Sequence[Exception]
    stats: PoolStats
    story: Story
    elapsed_s: float

    @property
    def answered(self) -> int:
        """Requests that were answered, rightly or not."""
        return sum(answer is not None for answer in self.answers)

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return len(self.passages) - self.answered

    @property
    def wrong(self) -> int:
        """Answers other than what the same work gives without a pool."""
        right = {passage: tally(passage) for passage in set(self.passages)}
        pairs = zip(self.passages, self.answers, strict=True)
        return sum(answer is not None and answer != right[passage] for passage, answer in pairs)

    @property
    def counted(self) -> Counter[str]:
        """The words of all answers together."""
        total: Counter[str] = Counter()
        for answer in self.answers:
            if isinstance(answer, Tally):
                total.update(answer.words)
        return total

    @property
    def matches(self) -> bool:
        """Whether that is what a direct count of the whole text gives."""
        return self.counted == tally("\n".join(self.passages)).words

    @property
    def ok(self) -> bool:
        """Whether every request has its answer, and the right one."""
        return self.lost == 0 and self.wrong == 0 and self.matches

    @property
    def sentence(self) -> str:
        """The sentence that counts."""
        wrong = f", {self.wrong} wrong" if self.wrong else ""
        return f"{len(self.passages)} requests, {self.answered} answers, {self.lost} lost{wrong}"


@dataclass(eq=False, repr=False)
class Demo:
    """One run.

    Args:
        passages: the requests' payloads.
        plan: what goes wrong, and when.
        start: starts the pool, called like `AgentPool.start`.
        on_progress: called with the number of requests that have ended and with the story so far.
    """

    passages: Sequence[str]
    plan: Plan
    start: Start = AgentPool.start
    on_progress: Callable[[int, Story], None] = lambda ended, story: None

    def __post_init__(self) -> None:
        self._answers: list[Tally | None] = [None] * len(self.passages)
        self._errors: list[Exception] = []
        self._ended = 0
        self._awaited = 0.0
        self._reached = asyncio.Event()
        self._story = Story(time.monotonic)
        self._switches = {"local": Switch(), "lazy": Switch()}

    def run(self) -> Result:
        """Start a pool, have it answer every request while things go wrong, stop it."""
        with self.start(
            crew(self.plan.seed, self._switches),
            strategy=LoadBalanceStrategy.LEAST_OUTSTANDING,
            config=self.plan.config(),
            name=NAME,
            rng=random.Random(self.plan.seed),
        ) as pool:
            try:
                pool.on_event(self._story)
                asyncio.run(self._drive(pool))
                elapsed_s = self._story.now()
                stats = pool.stats()
            finally:
                for switch in self._switches.values():
                    switch.end()
        return Result(self.passages, self._answers, self._errors, stats, self._story, elapsed_s)

    async def _drive(self, pool: PoolRef) -> None:
        todo = iter(range(len(self.passages)))
        script = asyncio.create_task(self._script())
        async with asyncio.TaskGroup() as askers:
            for _ in range(IN_FLIGHT):
                askers.create_task(self._ask_all(pool, todo))
        script.cancel()

    async def _ask_all(self, pool: PoolRef, todo: Iterator[int]) -> None:
        """One of the askers: takes the next request as soon as it has its answer."""
        for index in todo:
            request = Request(self.passages[index])
            try:
                async with asyncio.timeout(self.plan.patience_s + 1):
                    reply = await pool.ask(request, block=False)
            except Exception as error:  # whatever it was, there is no answer
                self._errors.append(error)
            else:
                self._answers[index] = reply.value
            self._count()

    def _count(self) -> None:
        self._ended += 1
        if self._ended >= self._awaited:
            self._reached.set()
        self.on_progress(self._ended, self._story)

    async def _script(self) -> None:
        failing, hanging = self.plan.failing, self.plan.hanging
        await self._outage("local", "starts to raise ConnectionError", Mode.FAILING, failing)
        await self._outage("lazy", "starts to hang", Mode.HANGING, hanging)

    async def _outage(self, member: str, what: str, mode: Mode, span: tuple[float, float]) -> None:
        await self._until(span[0])
        told = {"pool": NAME, "member": member}
        outage = self._story.begin(member, what)
        say("WARNING", __name__, f"drill: `{member}` {what} now", **told)
        self._switches[member].mode = mode
        await asyncio.sleep(1.5 * (self.plan.config().request_timeout_s or 0.0))
        await self._until(span[1])
        self._switches[member].mode = Mode.WELL
        outage.ended_at = self._story.now()
        say("INFO", __name__, f"drill: `{member}` works again", **told)

    async def _until(self, share: float) -> None:
        """Wait for that share of the requests to have ended."""
        self._awaited = share * len(self.passages)
        self._reached.clear()
        if self._ended < self._awaited:
            await self._reached.wait()
