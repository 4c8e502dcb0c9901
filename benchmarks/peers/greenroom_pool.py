"""greenroom itself: a pool with its default strategy and settings, but for the room it needs.

What differs from the defaults: room for a thousand calls in each async member, since the peers have
no limit; `max_pending` as large as the pipeline; a time limit that sleepers keep; for failover the
strategy `priority`, a breaker that is disabled and a retry budget without a bottom, since every
request is to find the first member failing. What is awaited runs on the caller's own loop, as by
default; in the variant `greenroom-own` on one of the pool's. In `greenroom-uvloop` that loop is
uvloop's, as the caller's is.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from fractions import Fraction
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.model import Scale
from benchmarks.peers import agents, calls
from benchmarks.peers.base import LimitedCall, NewLoop, Peer, Providers, Stream
from benchmarks.remote_server import broker, server
from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Limit,
    Member,
    PoolConfig,
    PoolRef,
    RemoteAgent,
    Request,
)
from greenroom.events import Event, MemberResting
from greenroom.shared import SqliteState
from greenroom.testing import http_error

ROOM = 1_000
"""Calls that an async member takes at a time."""
LATE_S = 60.0
MEMBERS = 500
"""Of pools that tell each other, a member a word."""
NO_BOTTOM = 1e9
"""Retries a second that the budget always allows."""
ROOMY = (Limit(10_000_000, per_s=60), Limit(10_000_000, per_s=3600))
"""Rate limits that never hold anybody up."""
RETRY_DELAY_S, CIRCUIT_RESET_S = 0.1, 5.0
"""As by default."""
VARIABLES = [ContextVar[str](f"variable {number}") for number in range(10)]


def _throttled(payload: Any) -> Any:
    raise http_error(429, retry_after_s=600.0)


class Greenroom(Peer):
    """Everything that the suite asks for."""

    event_loop: Literal["auto", "own", "uvloop"] = "auto"
    width: int | Literal["auto"] | None = None

    def pool(self, members: list[Member], strategy: Any = "adaptive", **config: Any) -> PoolRef:
        """A running pool."""
        settings = PoolConfig(event_loop=self.event_loop, **config)
        return AgentPool.start(members, strategy=strategy, config=settings, name="bench")

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        with self._three(agents.echo, agents.down, failing, members) as pool:
            if failing:
                yield lambda i: pool.ask(Request(i)).attempts
            else:
                yield lambda i: pool.ask(Request(i))

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        async with self._three_in_a_loop(agents.aecho, agents.adown, failing, members) as pool:

            async def attempts(i: int) -> int:
                return (await pool.ask(Request(i), block=False)).attempts

            if failing:
                yield attempts
            else:
                yield lambda i: pool.ask(Request(i), block=False)

    @asynccontextmanager
    async def remote(self) -> AsyncIterator[tuple[AsyncAsk, Stream]]:
        with server("greenroom") as url:
            agent = RemoteAgent(url)
            member = Member("far", agent, max_concurrency=ROOM, close=RemoteAgent.aclose)
            async with self.pool([member]) as pool:
                yield lambda i: pool.ask(Request(i), block=False), lambda n: pool.stream(Request(n))

    @asynccontextmanager
    async def remote_nats(self) -> AsyncIterator[tuple[AsyncAsk, Stream]]:
        with broker() as listen, server("greenroom", listen) as url:
            agent = RemoteAgent(url)
            member = Member("far", agent, max_concurrency=ROOM, close=RemoteAgent.aclose)
            async with self.pool([member]) as pool:
                yield lambda i: pool.ask(Request(i), block=False), lambda n: pool.stream(Request(n))

    @contextmanager
    def shared_call(self, shares: bool) -> Iterator[Ask]:
        """A call of a pool that shares what it knows with other processes, or does not."""
        members = [Member(name, agents.echo) for name in "abc"]
        with tempfile.TemporaryDirectory() as folder:
            state = SqliteState(Path(folder, "state.db")) if shares else None
            settings = PoolConfig(event_loop=self.event_loop)
            with AgentPool.start(members, config=settings, name="bench", shared=state) as pool:
                yield lambda i: pool.ask(Request(i))

    @contextmanager
    def limited_call(self, shares: bool) -> Iterator[Ask]:
        """A call of a member with a rate limit that processes have together, or that is its own."""
        limits = [Limit(10_000_000, per_s=60)]
        members = [Member(name, agents.echo, limits=limits) for name in "abc"]
        with tempfile.TemporaryDirectory() as folder:
            state = SqliteState(Path(folder, "state.db")) if shares else None
            settings = PoolConfig(event_loop=self.event_loop)
            with AgentPool.start(members, config=settings, name="bench", shared=state) as pool:
                yield lambda i: pool.ask(Request(i))

    @contextmanager
    def neighbours(self) -> Iterator[Ask]:
        """What has one pool find out that a member is throttled, and waits until another knows."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            state = SqliteState(Path(folder, "state.db"))
            # Each word is about another member: a rest that goes on is no news.
            names = [f"m{number}" for number in range(MEMBERS)]
            heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
            pools = []
            for _ in range(2):
                pool = AgentPool.start([Member(name, _throttled) for name in names], shared=state)
                pools.append(stack.enter_context(pool))
            pools[1].on_event(
                lambda event: heard.put(event) if isinstance(event, MemberResting) else None
            )
            left = iter(names)

            def hear(_: int) -> Event:
                with suppress(AllPoolMembersFailedError):
                    pools[0].ask(Request(0, only=next(left)))
                return heard.get(timeout=LATE_S)

            yield hear

    @contextmanager
    def async_agent_call(self) -> Iterator[Ask]:
        """A thread's call of an async agent."""
        with self._three(agents.aecho, agents.adown, False, 3) as pool:
            yield lambda i: pool.ask(Request(i))

    @asynccontextmanager
    async def sync_agent_awaited(self) -> AsyncIterator[AsyncAsk]:
        """A coroutine's call of a sync agent."""
        async with self._three_in_a_loop(agents.echo, agents.down, False, 3) as pool:
            yield lambda i: pool.ask(Request(i), block=False)

    @contextmanager
    def call_in_context(self, *, copied: bool) -> Iterator[Ask]:
        """A call by somebody who has context variables, which reach the agent or do not."""
        members = [Member(name, agents.echo) for name in "abc"]
        with self.pool(members, propagate_context=copied) as pool, _variables():
            yield lambda i: pool.ask(Request(i))

    @asynccontextmanager
    async def async_call_in_context(self, *, copied: bool) -> AsyncIterator[AsyncAsk]:
        """The same, awaited."""
        members = [Member(name, agents.aecho, max_concurrency=ROOM) for name in "abc"]
        with self.pool(members, propagate_context=copied) as pool, _variables():
            yield lambda i: pool.ask(Request(i), block=False)

    @contextmanager
    def call_told(self, telemetry: Any) -> Iterator[Ask]:
        """A call of a pool with that setting for telemetry."""
        members = [Member(name, agents.echo) for name in "abc"]
        with AgentPool.start(members, name="bench", telemetry=telemetry) as pool:
            yield lambda i: pool.ask(Request(i))

    @asynccontextmanager
    async def async_call_told(self, telemetry: Any) -> AsyncIterator[AsyncAsk]:
        """The same, awaited."""
        members = [Member(name, agents.aecho, max_concurrency=ROOM) for name in "abc"]
        async with AgentPool.start(members, name="bench", telemetry=telemetry) as pool:
            yield lambda i: pool.ask(Request(i), block=False)

    @asynccontextmanager
    async def asleep(self, concurrency: int, seconds: float) -> AsyncIterator[AsyncAsk]:
        async with self._sleeping(concurrency, seconds, ()) as ask:
            yield ask

    @asynccontextmanager
    async def _sleeping(
        self, concurrency: int, seconds: float, limits: tuple[Limit, ...]
    ) -> AsyncIterator[AsyncAsk]:
        self.sleeper = agents.Sleeper(seconds)
        member = Member("a", self.sleeper, max_concurrency=concurrency, limits=limits)
        limit_s = 2 * seconds + LATE_S  # there is a timer for each, but none goes off
        pool = self.pool([member], max_pending=concurrency, request_timeout_s=limit_s)
        async with pool:
            yield lambda i: pool.ask(Request(i), block=False)

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        members = [Member(name, agents.echo) for name in "abc"]
        with self.pool(members, max_pending=scale.pipelined) as pool:
            yield lambda i: pool.ask(Request(i), block=False), lambda future: future.get()

    @contextmanager
    def async_pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        """The same for async agents."""
        members = [Member(name, agents.aecho, max_concurrency=ROOM) for name in "abc"]
        with self.pool(members, max_pending=scale.pipelined) as pool:
            yield lambda i: pool.ask(Request(i), block=False), lambda future: future.get()

    @contextmanager
    def tells(self) -> Iterator[Callable[[int], None]]:
        done, left = threading.Event(), [0]

        def count(_: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                done.set()

        with self.pool([Member("a", count)], max_pending=1_000_000) as pool:

            def send(times: int) -> None:
                left[0] = times
                done.clear()
                for i in range(times):
                    pool.tell(Request(i))
                done.wait()

            yield send

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        async with self.pool([Member(name, agents.achunks) for name in "abc"]) as pool:
            yield lambda count: aiter(pool.stream(Request(count)))

    @contextmanager
    def sync_stream(self) -> Iterator[Callable[[int], Iterator[Any]]]:
        """Chunks of a generator, for a caller that is a thread."""
        with self.pool([Member(name, agents.chunks) for name in "abc"]) as pool:
            yield lambda count: iter(pool.stream(Request(count)))

    def start_and_stop(self) -> Callable[[], None]:
        members = [Member(name, agents.echo) for name in "abc"]

        def once() -> None:
            self.pool(members).stop()

        return once

    @asynccontextmanager
    async def limited(self, providers: Providers) -> AsyncIterator[LimitedCall]:
        members = [
            Member(
                name,
                partial(_asked, providers, name),
                limits=_limits(providers),
                max_concurrency=self.width,
            )
            for name in providers.names
        ]
        pool = self.pool(
            members,
            fair_by="key" if providers.fair else None,
            when_unavailable="wait",
            retry_delay_s=RETRY_DELAY_S * providers.pace,
            circuit_reset_timeout_s=CIRCUIT_RESET_S * providers.pace,
        )

        async def call(tenant: str) -> Any:
            request = Request("hello", key=tenant, timeout=providers.deadline_s)
            return await pool.ask(request, block=False)

        async with pool:
            yield call

    def pick(self, strategy: str, members: int) -> Callable[[], Any]:
        from benchmarks.peers.greenroom_pick import pick

        return pick(strategy, members)

    def pick_for_new_key(self, members: int) -> Callable[[], Any]:
        """One choice for a key that was never seen before."""
        from benchmarks.peers.greenroom_pick import pick_for_new_key

        return pick_for_new_key(members)

    def pick_limited(self, members: int, *, limited: bool) -> Callable[[], Any]:
        """One choice among members with rate limits that hold nobody up, or without."""
        from benchmarks.peers.greenroom_pick import pick_limited

        return pick_limited(members, ROOMY if limited else ())

    @contextmanager
    def call_limited(self, members: int, *, limited: bool) -> Iterator[Ask]:
        """A whole call of one of them."""
        limits = ROOMY if limited else ()
        with self.pool(
            [Member(f"m{i}", agents.echo, limits=limits) for i in range(members)]
        ) as pool:
            yield lambda i: pool.ask(Request(i))

    @asynccontextmanager
    async def asleep_limited(self, concurrency: int, seconds: float) -> AsyncIterator[AsyncAsk]:
        """As `asleep`, by a member with rate limits."""
        async with self._sleeping(concurrency, seconds, ROOMY) as ask:
            yield ask

    @contextmanager
    def idle(self, members: int) -> Iterator[PoolRef]:
        with self.pool([Member(f"m{i}", agents.aecho) for i in range(members)]) as pool:
            pool.stats()
            yield pool

    @contextmanager
    def call_among(self, strategy: str, members: int) -> Iterator[Ask]:
        """A whole call with a pick among so many."""
        with self.pool([Member(f"m{i}", agents.aecho) for i in range(members)], strategy) as pool:
            yield lambda i: pool.ask(Request(i, key=str(i)))

    @contextmanager
    def watched_call(self) -> Iterator[tuple[PoolRef, Ask]]:
        """A pool and a call of it, for those who watch the pool meanwhile."""
        with self._three(agents.echo, agents.down, False, 3) as pool:
            yield pool, lambda i: pool.ask(Request(i))

    @contextmanager
    def recorded_call(self, record: Any) -> Iterator[Ask]:
        """A call of a pool that is recorded."""
        members = [Member(name, agents.echo) for name in "abc"]
        with AgentPool.start(members, name="recorded", record=record) as pool:
            yield lambda i: pool.ask(Request(i))

    @contextmanager
    def _three(self, works: Any, fails: Any, failing: bool, members: int) -> Iterator[PoolRef]:
        with self._of_them(works, fails, failing, members) as pool:
            if failing:
                pool.disable_breaker("m0")
            yield pool

    @asynccontextmanager
    async def _three_in_a_loop(
        self, works: Any, fails: Any, failing: bool, members: int
    ) -> AsyncIterator[PoolRef]:
        async with self._of_them(works, fails, failing, members) as pool:
            if failing:
                pool.disable_breaker("m0")
            yield pool

    def _of_them(self, works: Any, fails: Any, failing: bool, members: int) -> PoolRef:
        room = ROOM if works is agents.aecho else None
        first = fails if failing else works
        chosen = [Member("m0", first, priority=1, max_concurrency=room)]
        chosen += [
            Member(f"m{i}", works, priority=2, max_concurrency=room) for i in range(1, members)
        ]
        config = {"retry_budget_floor": NO_BOTTOM} if failing else {}
        strategy = "priority" if failing else "adaptive"
        return self.pool(chosen, strategy, **config)


async def _asked(providers: Providers, name: str, _: str) -> str:
    return await calls.call(providers, name)


def _limits(providers: Providers) -> list[Limit]:
    """The smallest whole number of calls, in as many seconds as it takes."""
    if providers.told is None:
        return []
    part = Fraction(providers.told * providers.pace).limit_denominator(100)
    return [Limit(part.numerator, per_s=part.denominator * providers.pace)]


class GreenroomAuto(Greenroom):
    """The same, which finds out how many calls at a time a member bears."""

    width = "auto"


class GreenroomOwn(Greenroom):
    """The same with a loop of the pool's own, on a thread of its own."""

    event_loop = "own"


@contextmanager
def _variables() -> Iterator[None]:
    """As many as the tracing, the log and the framework of an app have set."""
    set_ = [(variable, variable.set(variable.name)) for variable in VARIABLES]
    yield
    for variable, token in set_:
        variable.reset(token)


class GreenroomUvloop(Greenroom):
    """The same on uvloop, the caller's loop as well."""

    event_loop = "uvloop"

    def __init__(self) -> None:
        self.new_loop: NewLoop = import_module("uvloop").new_event_loop
