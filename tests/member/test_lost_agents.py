"""An agent that is gone for good is made anew: behaviours 255 to 259."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_agents import raising
from helpers_lost import AsyncMortal, Makers, Mortal
from helpers_pools import WAIT_S, ask, echo, pool_of

from greenroom import (
    AgentLostError,
    AgentPool,
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CircuitState,
    FailureKind,
    Member,
    PoolExecutor,
    PoolRef,
    Request,
    SkipReason,
)
from greenroom.actors.executors import closing
from greenroom.fallback.agent_spec import MemberConfig
from greenroom.messages import (
    BreakerOpened,
    MemberAgentLost,
    MemberAgentRemade,
    MemberFailed,
    ProbeFailed,
)
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "sync": (Mortal, {}),
    "async": (AsyncMortal, {}),
    "isolated": (AsyncMortal, {"isolated": True}),
}


@pytest.fixture(params=KINDS)
def lazy(request: pytest.FixtureRequest) -> tuple[Makers, Callable[[], Member]]:
    kind, settings = KINDS[request.param]
    makers = Makers(kind)

    def member() -> Member:
        # A coroutine function: an agent of a loop is made on it.
        async def factory() -> Any:
            return makers()

        made = makers if kind is Mortal else factory
        return Member("lazy", factory=made, max_concurrency=8, **settings)

    return makers, member


def let_go(agent: Any) -> None:
    agent.gate.set() if isinstance(agent, Mortal) else agent.let_go()


def goes_elsewhere(pool: PoolRef) -> bool:
    """A request that ends the agent is answered by member b; what that says has been judged."""
    member = ask(pool, "end").get(timeout=WAIT_S).member
    pool.stats()
    return member == "b"


pytestmark = pytest.mark.usefixtures("agents_loop")
Lazy = tuple[Makers, Callable[[], Member]]


# -- it says so itself


def test_b255_a_request_goes_on_to_the_fresh_agent(lazy: Lazy, log: EventRecorder) -> None:
    """In a pool of one at once, without a pause; the next one finds it."""
    makers, member = lazy

    class Once:
        """Ends the first agent that it is given to."""

        def __eq__(self, other: object) -> bool:
            return other == "end" and len(makers.made) == 1

        __hash__ = None  # type: ignore[assignment]

    with pool_of(member(), clock=FakeClock()) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1
        reply = ask(pool, Once()).get(timeout=WAIT_S)
        assert (reply.value, reply.attempts) == (2, 2)
        assert [each.kind for each in reply.errors] == [FailureKind.CRASHED]
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert makers.made[0].closed.wait(WAIT_S)
        stats = pool.stats()["lazy"]
        assert (stats.agents_lost, stats.incarnation, stats.failures) == (1, 1, 1)
    assert makers.closed == [1, 2]
    assert log.wait_for(MemberAgentLost).remade
    assert "the process has ended" in log.wait_for(MemberAgentLost).error
    assert len(log.named(MemberAgentRemade)) == 1
    assert not log.named(MemberFailed)


def test_b255_a_request_goes_on_to_another_member(lazy: Lazy) -> None:
    """As after any failure, if there is one; the next request finds a fresh agent."""
    makers, member = lazy
    with pool_of(member(), Member("b", echo, priority=1)) as pool:
        assert goes_elsewhere(pool)
        assert pool.execute("x", timeout=WAIT_S) == 2
    assert makers.closed == [1, 2]


def test_b255_nothing_is_made_that_nobody_asks_for(lazy: Lazy) -> None:
    """Another agent is made by the next request, not before."""
    makers, member = lazy
    with pool_of(member(), Member("b", echo, priority=1)) as pool:
        goes_elsewhere(pool)
        pool.stats()
        assert makers.made[0].closed.wait(WAIT_S)
    assert makers.closed == [1]


@pytest.mark.parametrize("lost", [EOFError, (KeyError, OSError, EOFError)])
def test_b255_other_errors_mean_the_same_if_a_member_says_so(lost: Any) -> None:
    """Be it that a client has wrapped them."""

    def agent_of(number: int) -> Callable[[Any], int]:
        def agent(payload: Any) -> int:
            if payload == "end" and number == 1:
                raise ValueError("no answer") from EOFError("of the pipe")
            return number

        return agent

    numbers = iter(range(1, 9))
    member = Member("lazy", factory=lambda: agent_of(next(numbers)), lost=lost)
    with pool_of(member, retry_delay_s=0.0) as pool:
        assert pool.execute("end", timeout=WAIT_S) == 2


def test_b255_a_function_has_the_last_word() -> None:
    """What it does not call lost is not: neither by its class, nor by a broken connection."""
    makers = Makers(Mortal)
    seen: list[BaseException] = []

    def lost(error: BaseException) -> bool:
        seen.append(error)
        return "twice" in str(error)

    with pool_of(Member("lazy", factory=makers, lost=lost), max_retries=0) as pool:
        for _ in range(2):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("end", timeout=WAIT_S)
        assert len(makers.made) == 1
        makers.made[0].error = lambda _: ConnectionError("said twice")
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("end", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == 2
    assert [type(each) for each in seen] == [AgentLostError, AgentLostError, ConnectionError]


def test_b255_a_function_that_raises_says_nothing() -> None:
    """The failure is what it was."""
    makers = Makers(Mortal)
    member = Member("lazy", factory=makers, lost=raising(SystemExit(3)))
    with pool_of(member, Member("b", echo, priority=1)) as pool:
        assert goes_elsewhere(pool)
        assert len(makers.made) == 1


def test_b255_a_call_that_never_answers_may_mean_it() -> None:
    """`lost=TimeoutError`: who hangs is replaced when a call's time is over."""
    clock, makers = FakeClock(), Makers(AsyncMortal)

    async def factory() -> Any:
        return makers()

    member = Member("lazy", factory=factory, lost=TimeoutError)
    with pool_of(member, clock=clock, request_timeout_s=5.0, max_retries=0) as pool:
        future = ask(pool, "hold")
        while not makers.made:
            pool.stats()
        makers.made[0].wait_entered()
        clock.advance(5.0)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            future.get(timeout=WAIT_S)
        assert isinstance(caught.value.errors[0].error, AttemptTimeoutError)
        assert makers.made[0].closed.wait(WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == 2


def test_b255_what_has_not_begun_is_repeated_though_it_is_not_idempotent() -> None:
    """The agent knows that it was gone before: nothing has happened twice."""
    numbers = iter(range(1, 9))

    def factory() -> Any:
        number = next(numbers)

        def agent(payload: Any) -> int:
            if number == 1:
                raise AgentLostError("gone before it was asked", started=payload == "begun")
            return number

        return agent

    with pool_of(Member("lazy", factory=factory)) as pool:
        assert ask(pool, "x", idempotent=False).get(timeout=WAIT_S).value == 2
    numbers = iter(range(1, 9))
    with pool_of(Member("lazy", factory=factory)) as pool:
        begun = ask(pool, "begun", idempotent=False)
        with pytest.raises(AllPoolMembersFailedError, match="not idempotent"):
            begun.get(timeout=WAIT_S)


def test_b255_a_stream_goes_on_to_the_fresh_agent() -> None:
    """As long as it has not begun."""
    numbers = iter(range(1, 9))

    def factory() -> Any:
        number = next(numbers)

        def agent(payload: Any) -> Iterator[int]:
            if number == 1:
                raise AgentLostError("gone")
            yield number

        return agent

    with pool_of(Member("lazy", factory=factory)) as pool:
        assert pool.stream(Request("x")).collect() == [2]


def test_b255_a_probe_may_find_it(log: EventRecorder) -> None:
    """The failed probe counts as any; the next request has a fresh agent."""
    clock, makers = FakeClock(), Makers(Mortal)
    probed = ScriptedAgent([True, AgentLostError("found dead"), True])
    member = Member("lazy", factory=makers, probe=probed)
    with pool_of(member, clock=clock, health_check_timeout_s=1e6) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1
        while not log.named(ProbeFailed):
            clock.advance(5.0)
            pool.stats()
        assert log.wait_for(MemberAgentLost).error.endswith("found dead")
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert makers.made[0].closed.wait(WAIT_S)
    assert makers.closed == [1, 2]


def test_b255_an_inner_pools_lost_agent_is_not_the_pool() -> None:
    """It makes its own anew; the outer member goes on with the same pool."""
    makers = Makers(Mortal)
    started: list[Any] = []

    def factory() -> Any:
        started.append(AgentPool.start([Member("inner", factory=makers)], name="inner"))
        return started[-1]

    members = [Member("pool", factory=factory), Member("b", echo, priority=1)]
    with pool_of(*members) as pool:
        assert ask(pool, "end", max_retries=1).get(timeout=WAIT_S).member == "b"
        assert isinstance(pool.execute("x", timeout=WAIT_S), int)
        assert len(started) == 1


def test_b255_an_executor_goes_by_its_own_rules() -> None:
    """Its member makes each agent anew that has failed: it is not taken for lost itself."""
    makers = Makers(Mortal)

    def create(name: str, request: Any) -> Any:
        return makers()

    with PoolExecutor("writers", [MemberConfig("only")], create) as executor:
        for _ in range(3):
            with pytest.raises(AllPoolMembersFailedError):
                executor.execute("end", timeout=WAIT_S)
        assert executor.execute("x", timeout=WAIT_S) == 4
        assert executor.pool.stats()["only"].agents_lost == 0


# -- many calls


def test_b256_calls_on_the_old_agent_go_on_and_it_is_closed_behind_the_last(
    lazy: Lazy, log: EventRecorder
) -> None:
    """One new agent, whoever says that the old one is lost; the old one is closed once."""
    makers, member = lazy
    members = [member(), Member("b", echo, priority=1)]
    with pool_of(*members) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1
        old = makers.made[0]
        old.wait_entered()
        held = [ask(pool, "hold") for _ in range(2)]
        for _ in held:
            old.wait_entered()
        ended = [ask(pool, "end") for _ in range(3)]
        assert {each.get(timeout=WAIT_S).member for each in ended} <= {"b", "lazy"}
        pool.stats()
        fresh = [ask(pool, "x") for _ in range(3)]
        assert {each.get(timeout=WAIT_S).value for each in fresh} == {len(makers.made)}
        pool.stats()
        assert not old.closed.is_set()
        let_go(old)
        assert [each.get(timeout=WAIT_S).value for each in held] == [1, 1]
        assert old.closed.wait(WAIT_S)
    assert makers.closed == list(range(1, len(makers.made) + 1))


def test_b256_one_loss_is_one_failure(log: EventRecorder) -> None:
    """What fails beside it on the same agent says nothing of the next: no breaker opens by it."""
    gate, numbers = threading.Barrier(8, timeout=WAIT_S), iter(range(1, 9))

    def factory() -> Any:
        number = next(numbers)

        def agent(payload: Any) -> int:
            if number == 1:
                gate.wait()
                raise (AgentLostError if int(payload) % 2 else ConnectionError)("gone")
            return number

        return agent

    member = Member("lazy", factory=factory, max_concurrency=8, lost=ConnectionError)
    with pool_of(member, Member("b", echo, priority=1), retry_budget_floor=100.0) as pool:
        futures = [ask(pool, str(i)) for i in range(8)]
        assert len({each.get(timeout=WAIT_S).request_id for each in futures}) == 8
        stats = pool.stats()["lazy"]
        assert (stats.circuit, stats.agents_lost) == (CircuitState.CLOSED, 1)
        assert stats.failures == 1
        assert pool.execute("x", timeout=WAIT_S) == 2
    assert len(log.named(MemberAgentLost)) == 1


def test_b256_an_agent_that_ends_each_time_opens_the_breaker(log: EventRecorder) -> None:
    """Each loss counts: it is not made anew for every request for ever."""
    clock, makers = FakeClock(), Makers(Mortal)
    members = [Member("lazy", factory=makers), Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, circuit_failure_threshold=3) as pool:
        for _ in range(10):
            goes_elsewhere(pool)
        log.wait_for(BreakerOpened)
        assert len(makers.made) == 3


# -- its close


def test_b256_a_close_that_raises_is_told_and_holds_nothing_up() -> None:

    class Bad(Mortal):
        def close(self) -> None:
            super().close()
            raise BrokenPipeError("gone")

    makers = Makers(Bad)
    with pool_of(Member("lazy", factory=makers), retry_delay_s=0.0) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("end", timeout=WAIT_S, max_retries=0)
        assert pool.execute("x", timeout=WAIT_S) == 2
    assert makers.closed == [1, 2]


@pytest.mark.parametrize("kind", ["sync", "async", "entered", "entered in a thread"])
def test_b256_a_close_that_hangs_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The member goes on, and so does the pool's end."""
    monkeypatch.setattr(closing, "CLOSE_LIMIT_S", 0.0)
    told, over = [], threading.Event()
    given_up = threading.Event()

    def complain(what: str, error: BaseException) -> None:
        told.append(what)
        given_up.set()

    monkeypatch.setattr(closing, "complain", complain)
    numbers = iter(range(1, 9))

    def agent_of(number: int) -> Any:
        def run(payload: Any) -> int:
            if number == 1:
                raise AgentLostError("gone")
            return number

        return run

    async def hang() -> None:
        await asyncio.Event().wait()

    class Sync:
        def __init__(self) -> None:
            self.number = next(numbers)
            self.run = agent_of(self.number)

        def close(self) -> None:
            if self.number == 1:
                assert over.wait(WAIT_S)

    class Async:
        def __init__(self) -> None:
            self.number = next(numbers)
            self.call = agent_of(self.number)

        async def arun(self, payload: Any) -> Any:
            return self.call(payload)

        async def aclose(self) -> None:
            if self.number == 1:
                await hang()

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[Any]:
        agent = Async()
        yield agent
        await agent.aclose()

    @contextlib.contextmanager
    def in_thread() -> Iterator[Any]:
        agent = Sync()
        yield agent
        agent.close()

    ways: dict[str, Any] = {
        "sync": Sync,
        "async": Async,
        "entered": entered,
        "entered in a thread": in_thread,
    }
    with pool_of(Member("lazy", factory=ways[kind]), cancel_grace_s=0.0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert given_up.wait(WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == 2
    over.set()
    assert told == ["closing the lost agent of greenroom-pool-lazy is given up"]


def test_b256_the_pools_end_waits_for_the_close_of_a_lost_agent() -> None:
    """It is not cut short by that: who was lost just before is closed as well."""
    begun, gate = threading.Event(), threading.Event()

    class Slow(Mortal):
        def close(self) -> None:
            if self.number == 1:
                begun.set()
                assert gate.wait(WAIT_S)
            super().close()

    makers = Makers(Slow)
    with pool_of(Member("lazy", factory=makers)) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("end", timeout=WAIT_S, max_retries=0)
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert begun.wait(WAIT_S)
        ended = pool.stop(block=False)
        assert makers.made[1].closed.wait(WAIT_S)
        assert makers.closed == [2]
        gate.set()
        ended.get(timeout=WAIT_S)
    assert makers.closed == [1, 2]


def test_b256_an_agent_that_was_entered_in_a_thread_is_left_there() -> None:
    """The fresh one has a thread of its own, though the old one's close has still to come."""
    log: list[tuple[str, int, int]] = []
    numbers = iter(range(1, 9))
    probing, gate, left = threading.Event(), threading.Event(), threading.Event()

    @contextlib.contextmanager
    def factory() -> Iterator[Any]:
        number = next(numbers)
        log.append(("entered", number, threading.get_ident()))

        def agent(payload: Any) -> int:
            if payload:
                log.append(("called", number, threading.get_ident()))
            if payload == "end":
                raise AgentLostError("gone")
            return number

        yield agent
        log.append(("left", number, threading.get_ident()))
        left.set()

    def close(agent: Any) -> None:
        log.append(("closed", agent(""), threading.get_ident()))

    def probe() -> None:
        probing.set()
        assert gate.wait(WAIT_S)

    clock = FakeClock()
    member = Member("lazy", factory=factory, close=close, probe=probe)
    with pool_of(member, clock=clock, health_check_timeout_s=1e6, max_retries=0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1
        clock.advance(40.0)
        assert probing.wait(WAIT_S)
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("end", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert ("left", 1) not in [entry[:2] for entry in log]
        gate.set()
        assert left.wait(WAIT_S)
    at = {entry[:2]: entry[2] for entry in log}
    assert at["left", 1] == at["entered", 1] != at["entered", 2] == at["called", 2] == at["left", 2]
    assert [at["closed", each] for each in (1, 2)] == [at["left", each] for each in (1, 2)]
    assert [entry[0] for entry in log].count("closed") == 2


# -- at the trial of a breaker


def until_half_open(pool: PoolRef, clock: FakeClock) -> None:
    """The breaker of the lazy member has opened, and is to be tried."""
    while pool.stats()["lazy"].circuit is not CircuitState.OPEN:
        pass  # the failure is on its way
    while pool.stats()["lazy"].circuit is not CircuitState.HALF_OPEN:
        clock.advance(1.0)


def until_closed(pool: PoolRef) -> None:
    """Requests are its trials, each beside another member."""
    while pool.stats()["lazy"].circuit is not CircuitState.CLOSED:
        pool.execute("x", timeout=WAIT_S)


def test_b257_a_trial_after_broken_connections_begins_with_a_fresh_agent(
    lazy: Lazy, log: EventRecorder
) -> None:
    """What has ended does not come back, however often it is tried."""
    makers, member = lazy
    clock = FakeClock()
    members = [member(), Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, circuit_failure_threshold=3) as pool:
        pool.execute("x", timeout=WAIT_S)
        makers.made[0].error = ConnectionResetError
        for _ in range(3):
            goes_elsewhere(pool)
        log.wait_for(BreakerOpened)
        assert len(makers.made) == 1
        until_half_open(pool, clock)
        assert "ConnectionResetError" in log.wait_for(MemberAgentLost).error
        until_closed(pool)
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert makers.made[0].closed.wait(WAIT_S)
    assert makers.closed == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        lambda _: http_error(500),
        lambda _: http_error(503),
        lambda _: TimeoutError("slow"),
        lambda _: ValueError("a bug"),
        lambda _: http_error(401),
    ],
    ids=["500", "503", "timeout", "unknown", "401"],
)
def test_b257_an_agent_that_was_answered_is_kept(error: Any, log: EventRecorder) -> None:
    """It is connected: a fresh one would do no better, and may cost a lot."""
    clock, makers = FakeClock(), Makers(Mortal)
    members = [Member("lazy", factory=makers), Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, circuit_failure_threshold=3) as pool:
        pool.execute("x", timeout=WAIT_S)
        agent = makers.made[0]
        for each in (ConnectionResetError, ConnectionResetError, error):
            agent.error = each
            goes_elsewhere(pool)
        log.wait_for(BreakerOpened)
        until_half_open(pool, clock)
        agent.ended = False
        until_closed(pool)
        assert len(makers.made) == 1


def test_b257_a_function_forbids_it() -> None:
    clock, makers = FakeClock(), Makers(Mortal)
    member = Member("lazy", factory=makers, lost=lambda error: False)
    members = [member, Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, circuit_failure_threshold=1) as pool:
        pool.execute("x", timeout=WAIT_S)
        makers.made[0].error = BrokenPipeError
        goes_elsewhere(pool)
        until_half_open(pool, clock)
        makers.made[0].ended = False
        until_closed(pool)
        assert len(makers.made) == 1


def test_b257_a_probe_that_is_the_trial_looks_at_the_fresh_agent(log: EventRecorder) -> None:
    """The old one is not asked again."""
    clock, makers = FakeClock(), Makers(Mortal)
    probed: list[int] = []

    def probe(agent: Mortal) -> None:
        probed.append(agent.number)
        if agent.number == 1:
            raise EOFError("of the pipe")

    members = [Member("lazy", factory=makers, probe=probe), Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, circuit_failure_threshold=1) as pool:
        pool.execute("x", timeout=WAIT_S)
        while not log.named(BreakerOpened):
            clock.advance(5.0)
            pool.stats()
        while pool.stats()["lazy"].circuit is not CircuitState.CLOSED:
            clock.advance(0.5)
        assert probed[-1] == 2
        assert set(probed) == {1, 2}
        assert pool.execute("x", timeout=WAIT_S) == 2


# -- one that was handed over ready


def test_b258_a_ready_agent_that_is_lost_is_out_until_it_is_reset(log: EventRecorder) -> None:
    """Nobody can make another one; it is said once, and it is not closed."""
    agent = Mortal(Makers(Mortal), 1)
    clock = FakeClock()
    probe = ScriptedAgent([True])
    members = [
        Member("ready", agent, probe=probe, max_concurrency=8),
        Member("b", echo, priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        held = ask(pool, "hold")
        agent.wait_entered()
        assert goes_elsewhere(pool)
        assert not log.wait_for(MemberAgentLost).remade
        assert pool.stats().available == ("b",)
        agent.gate.set()
        assert held.get(timeout=WAIT_S).member == "ready"
        for _ in range(3):
            clock.advance(100.0)
            assert ask(pool, "x").get(timeout=WAIT_S).member == "b"
        assert probe.calls == []
        agent.ended = False
        pool.reset_member("ready")
        assert pool.stats()["ready"].agents_lost == 0
        assert ask(pool, "x").get(timeout=WAIT_S).member == "ready"
        assert goes_elsewhere(pool)
        assert pool.stats().available == ("b",)
    assert len(log.named(MemberAgentLost)) == 2
    assert agent.closes == 0


def test_b258_a_pool_of_one_says_that_it_is_out() -> None:
    """A request fails at once, and says why."""
    with pool_of(Member("ready", Mortal(Makers(Mortal), 1))) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("end", timeout=WAIT_S)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [SkipReason.GAVE_UP]
