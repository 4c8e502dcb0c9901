"""When to come back to a full pool: the estimate of behaviour 31."""

from __future__ import annotations

import heapq
import random
from collections import deque

import pytest
from helpers_agents import Held
from helpers_pools import WAIT_S, ask, pool_of, ranked
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Member, PoolFuture, PoolRef, PoolSaturatedError, Reply
from greenroom.actors.policy.throughput import Throughput
from greenroom.testing import AsyncScriptedAgent, FakeClock, http_error

START = 1000.0


class Servers:
    """n slots with a queue before them, and the estimate that is made of them."""

    def __init__(self, slots: int, now: float = START) -> None:
        self.now = now
        self.rate = Throughput()
        self.slots = slots
        self.running: list[tuple[float, float]] = []  # until when, since when
        self.waiting: deque[float] = deque()

    def arrive(self, call_s: float) -> None:
        self.waiting.append(call_s)
        self._fill()

    def next_end(self) -> None:
        self.now, since = heapq.heappop(self.running)
        self.rate.freed(since, self.now - since)
        self.rate.ended()
        self._fill()

    def until(self, when: float) -> None:
        while self.running and self.running[0][0] <= when:
            self.next_end()
        self.now = when

    def _fill(self) -> None:
        while self.waiting and len(self.running) < self.slots:
            heapq.heappush(self.running, (self.now + self.waiting.popleft(), self.now))
            self.rate.started(self.now)

    def estimate(self) -> float:
        return self.rate.retry_after_s(len(self.waiting), self.now)

    def truth(self) -> float:
        """How long it really takes until all that wait now have been given a slot."""
        start = self.now
        while self.waiting:
            self.next_end()
        return self.now - start


@given(
    st.integers(1, 20),
    st.integers(1, 60),
    st.floats(0.1, 1.0),
    st.lists(st.floats(0.0, 1.0), min_size=20, max_size=20),
    st.floats(0.0, 1.0),
)
def test_b31_while_calls_take_equally_long_it_is_off_by_one_call_at_most(
    slots: int, waiting: int, call_s: float, phases: list[float], moment: float
) -> None:
    """Whenever it is asked for, and however the calls are staggered."""
    servers = Servers(slots)
    for phase in sorted(phases)[:slots]:
        servers.now = START + phase * call_s
        servers.arrive(call_s)
    for _ in range(waiting + slots):
        servers.arrive(call_s)
    for _ in range(slots):
        servers.next_end()
    servers.until(servers.now + moment * (servers.running[0][0] - servers.now) * 0.999)
    estimate = servers.estimate()
    assert estimate == pytest.approx(max(servers.truth(), 0.05), abs=call_s * 1.001 + 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_b31_with_calls_of_any_length_it_is_right_within_a_third(seed: int) -> None:
    """Exponentially distributed calls, 20 slots, 200 that wait."""
    rng = random.Random(seed)
    servers = Servers(20)
    for _ in range(300):
        servers.arrive(rng.expovariate(1.0))
    for _ in range(80):
        servers.next_end()
    assert servers.estimate() == pytest.approx(servers.truth(), rel=0.35)


def test_b31_what_came_slowly_is_not_done_slowly() -> None:
    """A pool that had one request a minute is as fast as its calls when the rush comes."""
    servers = Servers(4)
    for _ in range(10):
        servers.arrive(2.0)
        servers.until(servers.now + 60.0)
    for _ in range(24):
        servers.arrive(2.0)
    assert servers.estimate() == pytest.approx(servers.truth(), abs=2.0)


def test_b31_it_follows_a_change_of_pace() -> None:
    """From 1 s a call to 10 s and back, with 5 slots."""
    servers = Servers(5)
    for call_s in (1.0, 10.0, 1.0):
        for _ in range(200 + 15):
            servers.arrive(call_s)
        for _ in range(200):
            servers.next_end()
        assert servers.estimate() == pytest.approx(servers.truth(), abs=call_s)


def test_b31_it_rises_while_the_pool_stalls() -> None:
    """Nothing comes free: it is what the running calls have taken so far, less half a usual one."""
    servers = Servers(4)
    for _ in range(20):
        servers.arrive(1.0)
    for _ in range(12):
        servers.next_end()
    assert servers.rate.retry_after_s(4, servers.now) == pytest.approx(1.0)
    assert servers.rate.retry_after_s(4, servers.now + 10.0) == pytest.approx(9.5)
    assert servers.rate.retry_after_s(4, servers.now + 50.0) == pytest.approx(49.5)
    assert servers.rate.retry_after_s(4, servers.now + 500.0) == 60.0


def test_b31_at_the_start_it_is_a_second_or_what_has_passed() -> None:
    """Before the first request has ended any number would be a guess."""
    rate = Throughput()
    assert rate.retry_after_s(10, START) == 1.0
    for _ in range(5):
        rate.started(START)
    assert rate.retry_after_s(10, START) == 1.0
    assert rate.retry_after_s(10, START + 20.0) == pytest.approx(40.0)


def test_b31_all_attempts_of_a_request_count_as_one() -> None:
    """Requests that need two calls each are done half as fast."""
    rate = Throughput()
    for turn in range(20):
        for attempt in range(2):
            now = START + 2 * turn + attempt
            rate.started(now)
            rate.freed(now, 1.0)
        rate.ended()
    rate.started(START + 40)
    assert rate.retry_after_s(5, START + 40) == pytest.approx(10.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1), st.integers(1, 50))
def test_b31_an_answer_in_one_step_counts_as_in_two(
    calls: list[tuple[float, float]], pending: int
) -> None:
    """The usual end of a request is a slot that is freed and a request that has ended."""
    one, two = Throughput(), Throughput()
    for rate in (one, two):
        rate.started(0.0)  # and goes on
    for started_at, held_s in calls:
        for rate in (one, two):
            rate.started(started_at)
        one.answered(started_at, held_s)
        two.freed(started_at, held_s)
        two.ended()
    assert one.retry_after_s(pending, 200.0) == two.retry_after_s(pending, 200.0)


def test_b31_calls_left_behind_hold_their_slots() -> None:
    """Requests whose callers have left make nobody's turn come sooner while their calls go on."""
    servers = Servers(2)
    for _ in range(10):
        servers.arrive(1.0)
    for _ in range(4):
        servers.next_end()
    for _ in range(2):
        servers.rate.ended()  # given up by their callers, their calls run on
    assert servers.rate.retry_after_s(4, servers.now + 8.0) == pytest.approx(15.0, rel=0.05)


@given(
    st.lists(st.tuples(st.floats(0.0, 1e4), st.booleans(), st.booleans()), max_size=40),
    st.integers(0, 10**6),
    st.floats(0.0, 1e6),
)
def test_b31_the_advice_is_bounded(
    steps: list[tuple[float, bool, bool]], pending: int, later: float
) -> None:
    """Between 0.05 and 60 s, and not shorter for more requests."""
    rate, now = Throughput(), START
    running: list[float] = []
    for pause_s, starts, ends in steps:
        now += pause_s
        if starts or not running:
            rate.started(now)
            running.append(now)
        else:
            since = running.pop()
            rate.freed(since, now - since)
        if ends:
            rate.ended()
    advice = rate.retry_after_s(pending, now + later)
    assert 0.05 <= advice <= 60.0
    assert rate.retry_after_s(pending + 1, now + later) >= advice
    assert rate.retry_after_s(pending, now + later + 1.0) >= advice or not running


# -- in a pool


def advice(pool: PoolRef) -> float:
    """What one too many is told."""
    with pytest.raises(PoolSaturatedError) as caught:
        ask(pool).get(timeout=WAIT_S)
    return caught.value.retry_after_s


class Simulation:
    """A pool of three slots whose calls take two seconds; six may wait."""

    def __init__(self, pool: PoolRef, clock: FakeClock) -> None:
        self.pool = pool
        self.clock = clock
        self.futures: list[PoolFuture[Reply[object]]] = []

    def arrive(self, requests: int) -> None:
        self.futures += [ask(self.pool) for _ in range(requests)]
        self.pool.stats()

    def let_pass(self, seconds: float) -> None:
        """The rest of the time that the running calls take, which have begun together."""
        running = self.pool.stats().in_flight
        self.clock.wait_until_sleeping(running)
        self.clock.advance(seconds)
        for future in self.futures[:running]:
            future.get(timeout=WAIT_S)
        del self.futures[:running]


@pytest.mark.parametrize("age_s", [0.0, 0.5, 1.5])
def test_b31_a_pool_says_when_those_that_wait_will_have_been_served(age_s: float) -> None:
    """Right to within the two seconds of one call."""
    clock = FakeClock()
    agent = AsyncScriptedAgent.slow(clock, 2.0)
    with pool_of(Member("a", agent, max_concurrency=3), clock=clock, max_pending=6) as pool:
        simulation = Simulation(pool, clock)
        simulation.arrive(9)
        assert advice(pool) == 1.0  # nothing has been seen yet
        for _ in range(4):
            simulation.let_pass(2.0)
            simulation.arrive(3)
        clock.wait_until_sleeping(3)
        clock.advance(age_s)
        told, start = advice(pool), clock.now()
        simulation.let_pass(2.0 - age_s)
        while pool.stats().pending:
            simulation.let_pass(2.0)
        assert told == pytest.approx(clock.now() - start, abs=2.0)
        while simulation.futures:
            simulation.let_pass(2.0)


def test_b31_what_never_had_a_member_says_nothing_of_the_pace() -> None:
    """Cancelled, expired, displaced and refused while it waited: the advice stays what it was."""
    clock, agent = FakeClock(), Held()
    with pool_of(*ranked(a=agent), clock=clock, max_pending=4, request_timeout_s=None) as pool:
        running = ask(pool)
        agent.wait_entered()
        clock.advance(5.0)
        agent.let_go()
        running.get(timeout=WAIT_S)
        running = ask(pool)
        agent.wait_entered()
        before = [ask(pool, n) for n in range(4)]
        assert advice(pool) == pytest.approx(20.0)
        for future in before:
            future.cancel()
        waiting = [ask(pool, n, timeout_s=0.001) for n in range(4)]
        pool.stats()
        clock.advance(0.001)
        for future in waiting:
            with pytest.raises(TimeoutError):
                future.get(timeout=WAIT_S)
        waiting = [ask(pool, n) for n in range(4)]
        better = [ask(pool, n, priority=1) for n in range(4)]
        for future in waiting:
            with pytest.raises(PoolSaturatedError) as caught:
                future.get(timeout=WAIT_S)
            assert caught.value.retry_after_s == pytest.approx(20.0)
        assert advice(pool) == pytest.approx(20.0)
        agent.let_go(5)
        for future in (running, *better):
            future.get(timeout=WAIT_S)


def test_b31_a_pool_that_has_stalled_says_so() -> None:
    """The longer nothing comes free, the later one is asked to come back."""
    clock, agent = FakeClock(), Held()
    with pool_of(*ranked(a=agent), clock=clock, max_pending=2, request_timeout_s=None) as pool:
        running = ask(pool)
        agent.wait_entered()
        clock.advance(1.0)
        agent.let_go()
        running.get(timeout=WAIT_S)
        futures = [ask(pool) for _ in range(3)]
        assert advice(pool) == pytest.approx(2.0)
        clock.advance(20.0)
        assert advice(pool) == pytest.approx(39.0)
        agent.let_go(3)
        for future in futures:
            future.get(timeout=WAIT_S)


def test_b31_with_nobody_at_work_it_is_not_before_the_first_reopening() -> None:
    """All that wait, wait for a member that is out."""
    clock, agent = FakeClock(), Held(http_error(401))
    with pool_of(
        *ranked(a=agent),
        clock=clock,
        max_pending=1,
        max_retries=0,
        when_unavailable="wait",
        circuit_reset_timeout_s=90.0,
        circuit_reset_max_s=90.0,
    ) as pool:
        opens_it = ask(pool)
        agent.let_go()
        with pytest.raises(Exception, match="max_retries=0"):
            opens_it.get(timeout=WAIT_S)
        waiting = ask(pool)
        pool.stats()
        clock.advance(10.0)
        assert advice(pool) == pytest.approx(80.0)
        waiting.cancel()


def test_b31_reports_that_lay_aside_do_not_make_calls_look_longer() -> None:
    """A quick answer whose books were done much later was a quick answer."""
    clock, agent = FakeClock(), Held()
    with pool_of(*ranked(a=agent), clock=clock, max_pending=1, request_timeout_s=None) as pool:
        for _ in range(3):
            running = ask(pool)
            agent.wait_entered()
            clock.advance(0.5)
            agent.let_go()
            running.get(timeout=WAIT_S)
            clock.advance(100.0)
        futures = [ask(pool) for _ in range(2)]
        assert advice(pool) == pytest.approx(0.5)
        agent.let_go(2)
        for future in futures:
            future.get(timeout=WAIT_S)
