"""The process does not run for a while: limits are put off, and nobody is blamed for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_loops import pass_time
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolFuture,
    PoolRef,
    Request,
)
from greenroom.actors.executors import loop_executor
from greenroom.actors.runtime import clock as clock_module
from greenroom.actors.runtime import future as future_module
from greenroom.actors.runtime.clock import LINGER_S, SystemClock
from greenroom.actors.runtime.pauses import LOOK_S
from greenroom.messages import (
    AttemptFailed,
    BreakerOpened,
    HealthChanged,
    LoopStalled,
    PoolPaused,
    ProbeFailed,
    RetryScheduled,
)
from greenroom.supervisors import loop_monitor
from greenroom.supervisors.loop_monitor import LoopMonitor
from greenroom.supervisors.policy.loop_heartbeat import Heartbeat
from greenroom.testing import EventRecorder, FakeClock, http_error

CALLS = 40
WORK_S = 2.0
LIMIT_S = 3.0
PAUSE_S = 5.0


def worker(clock: FakeClock, work_s: float, is_async: bool) -> Any:
    """An agent whose work takes so long, whether or not the process runs meanwhile."""

    async def awork(payload: Any) -> Any:
        await clock.sleep(work_s)
        return payload

    def work(payload: Any) -> Any:
        clock.block(work_s)
        return payload

    return awork if is_async else work


def clean(pool: PoolRef) -> None:
    """Nobody has been blamed for anything, and every slot is back."""
    stats = pool.stats()
    assert (stats.in_flight, stats.pending) == (0, 0)
    for member in stats.members:
        assert (member.failures, member.health.circuit) == (0, CircuitState.CLOSED)
        assert (member.health.consecutive_failures, member.health.last_error) == (0, None)


# What was running


@pytest.mark.parametrize("is_async", [True, False])
def test_calls_that_had_time_left_have_it_after_a_pause(
    is_async: bool, clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """40 calls of 2 s under a limit of 3 s and a pause of 5 s: all are answered, every breaker is
    closed, nothing has been counted.
    """
    agent = worker(clock, WORK_S, is_async)
    members = [Member(name, agent, max_concurrency=CALLS // 2) for name in "ab"]
    with pool_of(*members, clock=clock, strategy="round_robin", request_timeout_s=LIMIT_S) as pool:
        futures = [pool.ask(Request(i, timeout_s=LIMIT_S), block=False) for i in range(CALLS)]
        clock.wait_until_sleeping(CALLS)
        clock.advance(0.5)
        clock.pause(PAUSE_S)
        assert [future.get(timeout=WAIT_S).value for future in futures] == list(range(CALLS))
        clean(pool)
        assert pool.stats().completed == CALLS
        assert all(each.latency_p95_s == 0.5 for each in pool.stats().members)
    assert [each.lasted_s for each in greenroom_events.named(PoolPaused)] == [PAUSE_S]
    assert not {"attempt.failed", "breaker.opened", "retry.scheduled"} & set(
        greenroom_events.names()
    )


def test_what_still_hangs_has_what_it_had_left_and_no_more(clock: FakeClock) -> None:
    """A pause puts a limit off by its own length, and a second one again."""
    with pool_of(
        Member("a", worker(clock, 1e6, True)),
        clock=clock,
        request_timeout_s=LIMIT_S,
        max_retries=0,
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        clock.wait_until_sleeping(1)
        clock.advance(2.0)
        clock.pause(PAUSE_S)
        clock.advance(0.5)
        clock.pause(100 * PAUSE_S)
        assert pool.stats().in_flight == 1
        clock.advance(0.499)
        pool.stats()
        assert not future.done()
        clock.advance(0.001)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            future.get(timeout=WAIT_S)
        assert caught.value.errors[0].kind is FailureKind.TIMEOUT
        assert pool.stats()["a"].failures == 1


def test_pauses_again_and_again_let_nothing_hang_for_ever(clock: FakeClock) -> None:
    """Shorter than the limit or longer: the time in which it could run counts."""
    with pool_of(
        Member("a", worker(clock, 1e6, True)), clock=clock, request_timeout_s=LIMIT_S, max_retries=0
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        clock.wait_until_sleeping(1)
        for _ in range(11):
            clock.advance(0.25)
            clock.pause(2.0)
            pool.stats()
            assert not future.done()
        clock.advance(0.25)
        with pytest.raises(AllPoolMembersFailedError):
            future.get(timeout=WAIT_S)


def test_time_that_passes_is_no_pause(clock: FakeClock, greenroom_events: EventRecorder) -> None:
    """`advance` past a limit is served on time, as ever."""
    with pool_of(
        Member("a", worker(clock, 1e6, True)), clock=clock, request_timeout_s=LIMIT_S, max_retries=0
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        clock.wait_until_sleeping(1)
        clock.advance(60.0)
        with pytest.raises(AllPoolMembersFailedError):
            future.get(timeout=WAIT_S)
        pool.stats()
    assert not greenroom_events.named("pool.paused")


# Each kind of limit


def test_who_waits_for_a_slot_has_its_time_after_a_pause(clock: FakeClock) -> None:
    """The deadline of a request in the queue is put off like that of one at work."""
    with pool_of(Member("a", worker(clock, WORK_S, True), max_concurrency=1), clock=clock) as pool:
        first = pool.ask(Request(1), block=False)
        clock.wait_until_sleeping(1)
        waiting = pool.ask(Request(2, timeout_s=LIMIT_S), block=False)
        late = pool.ask(Request(3, timeout_s=0.5), block=False)
        pool.stats()
        clock.pause(PAUSE_S)
        assert first.get(timeout=WAIT_S).value == 1
        clock.wait_until_sleeping(1)
        clock.advance(0.5)
        with pytest.raises(DeadlineExceededError):
            late.get(timeout=WAIT_S)
        clock.advance(WORK_S - 0.5)
        assert waiting.get(timeout=WAIT_S).value == 2


def test_a_stream_has_its_time_for_each_chunk(clock: FakeClock) -> None:
    """The limits of the first chunk and of the next ones."""

    async def chunks(payload: Any) -> AsyncIterator[int]:
        for i in range(3):
            await clock.sleep(1.0)
            yield i

    limits: dict[str, Any] = {"first_chunk_timeout_s": 1.5, "chunk_timeout_s": 1.5}
    with pool_of(Member("a", chunks), clock=clock, max_retries=0, **limits) as pool:
        stream = pool.stream(Request("x"))
        for i in range(3):
            clock.wait_until_sleeping(1)
            clock.advance(0.9)
            clock.pause(PAUSE_S)
            assert next(stream) == i
        assert list(stream) == []
        clean(pool)


def test_a_pause_hedges_nothing_and_hurries_no_retry(
    clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A second member is asked, and the same one again, when the delay has passed in which they
    could answer.
    """
    asked: list[str] = []

    def member(name: str, work_s: float) -> Member:
        work = worker(clock, work_s, True)

        async def agent(payload: Any) -> Any:
            asked.append(name)
            if payload == "fail" and asked.count(name) == 1:
                raise RuntimeError("not now")
            return await work(payload)

        return Member(name, agent, max_concurrency=5)

    with pool_of(member("a", WORK_S), member("b", 0.0), clock=clock, hedge_after_s=1.0) as pool:
        future = pool.ask(Request("x"), block=False)
        clock.wait_until_sleeping(1)
        clock.pause(WORK_S)
        assert future.get(timeout=WAIT_S).member == "a"
        pool.stats()
    assert asked == ["a"]
    asked.clear()
    with pool_of(member("a", 0.0), clock=clock, retry_delay_s=4.0) as pool:
        future = pool.ask(Request("fail"), block=False)
        delay_s = greenroom_events.wait_for(RetryScheduled).delay_s
        clock.pause(PAUSE_S)
        pool.stats()
        assert asked == ["a"]
        clock.advance(delay_s)
        assert future.get(timeout=WAIT_S).value == "fail"


def test_no_loop_stalls_and_no_probe_fails_by_a_pause(
    clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A heartbeat that is on its way, a probe at work: both have the time that they had left."""
    probing = threading.Event()

    async def probe(agent: Any) -> None:
        probing.set()
        await clock.sleep(0.5)

    member = Member("a", worker(clock, 0.0, True), probe=probe)
    with pool_of(member, clock=clock, health_check_interval_s=10.0, health_check_timeout_s=1.0) as (
        pool
    ):
        assert pool.execute("x", timeout=WAIT_S) == "x"
        while not probing.is_set():
            pass_time(pool, clock, LOOK_S)
        clock.wait_until_sleeping(1)
        for _ in range(3):
            clock.pause(60.0)
            pool.stats()
        clean(pool)
    names = greenroom_events.names()
    assert not {ProbeFailed.name, LoopStalled.name, BreakerOpened.name} & set(names)
    assert HealthChanged.name not in names


def test_an_open_breaker_and_a_rest_last_as_long_as_they_would_have(clock: FakeClock) -> None:
    """A pause shortens no time out: it was not seen whether the member was well."""
    with pool_of(Member("a", worker(clock, 0.0, True)), clock=clock) as pool:
        pool.force_open("a")
        pool.reset_member("a")
        for _ in range(5):
            with pytest.raises(AllPoolMembersFailedError):
                pool.apply(lambda _: 1 / 0, timeout=WAIT_S, max_retries=0)
        before = pool.stats()["a"].health.reopens_in_s
        assert before is not None
        clock.pause(before + 1.0)
        after = pool.stats()["a"]
        assert (after.health.circuit, after.health.reopens_in_s) == (CircuitState.OPEN, before)


# Agents have limits of their own


@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError])
def test_an_agents_own_time_limit_that_a_pause_has_used_up_is_no_failure_of_its_member(
    error: type[Exception], clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """Its client knows of no pause: that fails over, and counts for nothing. What fails a second
    later, or began after the pause, counts.
    """

    async def client(payload: Any) -> Any:
        await clock.sleep(payload)
        raise error("nothing came")

    async def other(payload: Any) -> Any:
        return "other"

    members = [Member("a", client, max_concurrency=20), Member("b", other, priority=1)]
    with pool_of(*members, clock=clock, max_retries=1) as pool:
        futures = [pool.ask(Request(1.0), block=False) for _ in range(10)]
        late = pool.ask(Request(PAUSE_S + 1.5), block=False)
        clock.wait_until_sleeping(11)
        clock.advance(0.5)
        clock.pause(PAUSE_S)
        assert {future.get(timeout=WAIT_S).value for future in futures} == {"other"}
        health = pool.stats()["a"].health
        assert (health.failures, health.circuit) == (0, CircuitState.CLOSED)
        kinds = {each.kind for each in greenroom_events.named(AttemptFailed)}
        assert kinds <= {FailureKind.INTERRUPTED}
        clock.advance(1.01)
        assert late.get(timeout=WAIT_S).value == "other"
        assert pool.stats()["a"].failures == 1


def test_what_a_server_says_has_no_excuse_by_a_pause(
    clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """A 503 that has come is the server's word, whether or not we stood still on the way."""

    async def client(payload: Any) -> Any:
        await clock.sleep(payload)
        raise http_error(503)

    members = [Member("a", client), Member("b", lambda _: "other", priority=1)]
    with pool_of(*members, clock=clock, max_retries=1) as pool:
        future = pool.ask(Request(1.0), block=False)
        clock.wait_until_sleeping(1)
        clock.advance(0.5)
        clock.pause(PAUSE_S)
        assert future.get(timeout=WAIT_S).value == "other"
        assert pool.stats()["a"].health.failures == 1
        kinds = [each.kind for each in greenroom_events.named(AttemptFailed)]
        assert kinds == [FailureKind.UNAVAILABLE]


# The clock


class Raw:
    """The machine's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def raw() -> Raw:
    return Raw()


@pytest.fixture
def watched(raw: Raw) -> Iterator[SystemClock]:
    """A clock of which somebody waits for a moment that is far away."""
    clock = SystemClock(raw)
    clock.register(wake)
    clock.watch(1e6)
    yield clock
    clock.unregister(wake)


def wake() -> None:
    """What a mailbox does."""


def watch_of(clock: SystemClock) -> Any:
    """Who looks at it."""
    return clock._watch


def test_whoever_reads_the_time_first_finds_the_pause(raw: Raw, watched: SystemClock) -> None:
    """No message, no timer and no thread has to come first for it."""
    raw.now += LOOK_S + PAUSE_S
    assert watched.now() == pytest.approx(100.0 + LOOK_S)
    assert watched.lost_s == pytest.approx(PAUSE_S)
    assert watched.paused_at == pytest.approx(100.0 + LOOK_S)
    raw.now += 0.2
    assert watched.now() == pytest.approx(100.2 + LOOK_S)


def test_who_wants_to_know_is_told_of_a_pause(raw: Raw, watched: SystemClock) -> None:
    """By the thread that looks, so that none of them is called where somebody reads the time."""
    told: queue.SimpleQueue[float] = queue.SimpleQueue()
    watched.tell_pauses(told.put)
    watched.look()
    raw.now += LOOK_S + 0.9  # too short to be talked of
    watched.look()
    raw.now += LOOK_S + PAUSE_S
    watched.look()
    assert told.get(timeout=WAIT_S) >= PAUSE_S  # with the other, if they came between two looks
    watched.tell_no_more(told.put)


def test_what_a_clock_is_asked_to_do_is_done_in_time_and_in_order(
    raw: Raw, watched: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its one thread; what has been called off is not done, what raises harms no other."""
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(clock_module, "complain", lambda what, error: done.put(str(error)))

    def fail() -> None:
        raise SystemExit("failed")

    watched.at(100.0, lambda: done.put("at once"))
    assert done.get(timeout=WAIT_S) == "at once"
    watched.at(100.2, lambda: done.put("second"))
    watched.at(100.1, lambda: done.put(threading.current_thread().name))
    watched.at(100.15, fail)
    watched.at(100.16, lambda: done.put("never")).cancel()
    assert done.empty()
    raw.now = 100.2
    said = [done.get(timeout=WAIT_S) for _ in range(3)]
    assert said == ["greenroom-clock", "failed", "second"]


def test_no_supervisor_wakes_up_for_a_heartbeat(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock's thread asks the loop, whose thread hands the answer over: a thousand pools are
    not another thousand threads that run every second.
    """
    seen: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def note(name: str) -> None:
        original = getattr(LoopMonitor, name)

        def noted(watch: LoopMonitor, message: Any) -> None:
            original(watch, message)
            seen.put((name, threading.current_thread().name))

        monkeypatch.setattr(LoopMonitor, name, noted)

    note("look_due")
    note("answered")

    async def answer(payload: Any) -> Any:
        return payload

    clock = SystemClock(raw)
    with AgentPool.start([Member("a", answer)], clock=clock, rng=random.SystemRandom()) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        pool.stats()
        beats: set[tuple[str, str]] = set()
        while len(beats) < 2:
            raw.now += 0.1
            clock.look()
            with contextlib.suppress(queue.Empty):
                beats.add(seen.get(timeout=0.05))
        assert beats == {
            ("look_due", "greenroom-clock"),
            ("answered", f"greenroom-{pool.name}-loop"),
        }
        assert not clock.lost_s


def test_heartbeats_draw_apart_and_nothing_is_drawn_for_it_from_the_pools_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the machine's clock each loop's first question comes after a part of the interval by
    chance; by a clock that is moved by hand after all of it, since somebody counts on that.
    """
    parts: list[float] = []

    class Noted(Heartbeat):
        __slots__ = ()

        def __init__(self, *args: Any) -> None:
            parts.append(args[4])
            super().__init__(*args)

    monkeypatch.setattr(loop_monitor, "Heartbeat", Noted)

    async def answer(payload: Any) -> Any:
        return payload

    def draws(clock: Any) -> float:
        """What the pool's generator gives next when ten loops have been started."""
        parts.clear()
        rng = random.Random(7)
        members = [Member(str(i), answer, isolated=True) for i in range(10)]
        with AgentPool.start(members, clock=clock, rng=rng, strategy="round_robin") as pool:
            for i in range(10):
                pool.execute(i, timeout=WAIT_S)
            pool.stats()
        return rng.random()

    by_hand = draws(FakeClock())
    assert parts == [1.0] * 10
    assert draws(None) == by_hand
    assert len(parts) == len(set(parts)) == 10
    assert all(0.0 < part <= 1.0 for part in parts)


def test_nobody_looks_when_nothing_is_timed(raw: Raw) -> None:
    """An hour of rest is no pause, and no thread sits through it."""
    clock = SystemClock(raw)
    assert clock.wait_s(103.0) == 3.0  # of nobody who is registered
    assert watch_of(clock) is None
    clock.register(wake)
    clock.wait_s(103.0)
    assert watch_of(clock) is not None
    thread = watch_of(clock)
    while raw.now <= 103.0 + LINGER_S:
        raw.now += LOOK_S
        clock.look()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    raw.now += 3600.0
    assert (clock.now(), clock.lost_s) == (raw.now, 0.0)
    clock.unregister(wake)


def test_the_thread_ends_with_the_last_who_waits(raw: Raw) -> None:
    """The pools of a process have one, and leave none behind."""
    clock = SystemClock(raw)
    clock.register(wake)
    clock.watch(1e6)
    assert watch_of(clock) is not None
    thread = watch_of(clock)
    clock.unregister(wake)
    thread.join(WAIT_S)
    assert not thread.is_alive()
    clock.register(wake)
    clock.watch(1e6)
    assert watch_of(clock) is not None
    clock.unregister(wake)


def test_without_a_thread_nothing_is_taken_for_a_pause(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine gives none: then the time is what the machine says."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    clock = SystemClock(raw)
    clock.register(wake)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert clock.wait_s(103.0) == 3.0
    raw.now += 60.0
    assert (clock.now(), clock.lost_s) == (160.0, 0.0)
    assert clock.wait_s(170.0) == 10.0
    assert watch_of(clock) is not None
    clock.unregister(wake)


def test_a_caller_that_waits_with_a_limit_has_what_it_had_left(
    raw: Raw, watched: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own wait ends late as well: the clock tells whether its time is over."""
    monkeypatch.setattr(future_module, "SYSTEM_CLOCK", watched)
    future: PoolFuture[str] = PoolFuture()
    reads = threading.Semaphore(0)
    original = watched.now

    def now() -> float:
        reads.release()
        return original()

    monkeypatch.setattr(watched, "now", now)

    def answer() -> None:
        for _ in range(3):  # at the begin of the wait, and twice at what would be its end
            assert reads.acquire(timeout=WAIT_S)
        future.set("answer")

    thread = threading.Thread(target=answer)
    thread.start()
    assert future.get(timeout=0.01) == "answer"
    thread.join(WAIT_S)


def test_what_cleans_up_has_what_it_had_left(
    raw: Raw, watched: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grace of a cancelled call does not pass while nothing can clean up."""
    monkeypatch.setattr(loop_executor, "SYSTEM_CLOCK", watched)

    async def main() -> None:
        given_up = asyncio.Event()
        grace = loop_executor.Grace(0.01, given_up.set)
        for _ in range(3):  # it rings, and is put off
            handle = grace._handle
            while grace._handle is handle:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0)
        assert not given_up.is_set()
        raw.now += 0.02
        await asyncio.wait_for(given_up.wait(), WAIT_S)
        loop_executor.Grace(0.01, given_up.clear).cancel()
        raw.now += 0.02
        assert given_up.is_set()

    asyncio.run(main())


# For real

CHILD = """
import asyncio, json, sys, threading, time
from greenroom import *

begun, stopped = threading.Semaphore(0), threading.Event()

async def work(payload):
    begun.release()
    await asyncio.sleep(1.0)
    return payload

async def hang(payload):
    begun.release()
    await asyncio.sleep(3600.0)

config = PoolConfig(request_timeout_s=2.5, max_retries=0)
events = []
with AgentPool.start(
    [Member("a", work), Member("b", work)], config=config, strategy="round_robin", name="works"
) as pool, AgentPool.start([Member("c", hang)], config=config, name="hangs") as hangs:
    for i in range(4):
        pool.execute(i)
        begun.acquire()
    pool.on_event(lambda event: event.severity() not in ("DEBUG", "INFO") and events.append(event))
    began = time.monotonic()
    futures = [pool.ask(Request(i), block=False) for i in range(39)]
    hanging = hangs.ask(Request("x"), block=False)
    asked = []
    asker = threading.Thread(target=lambda: asked.append(pool.execute(39, timeout=2.5)))
    asker.start()
    for _ in range(41):
        begun.acquire()
    print("running", flush=True)
    values = []
    for future in futures:
        try:
            values.append(future.get(timeout=30).value)
        except Exception as error:
            values.append(type(error).__name__)
    asker.join(30)
    try:
        hanging.get(timeout=30)
    except AllPoolMembersFailedError as error:
        kinds = [str(each.kind) for each in error.errors]
    stats = pool.stats()
    print(json.dumps({
        "values": values + asked,
        "failures": [each.failures for each in stats.members],
        "circuits": [str(each.health.circuit) for each in stats.members],
        "kinds": kinds,
        "hung_s": time.monotonic() - began,
        "paused_s": sum(each.lasted_s for each in events),
        "events": [each.name for each in events],
    }), flush=True)
"""

STOPPED_S = 4.0


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no SIGSTOP")
def test_a_process_that_is_stopped_and_continued_fails_nothing() -> None:
    """40 calls of a second under a limit of 2.5 s in a process that is stopped for four: all are
    answered. One that hangs is timed out all the same.
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(STOPPED_S)
            child.send_signal(signal.SIGCONT)
            said = json.loads(child.stdout.readline())
            assert child.wait(WAIT_S) == 0
        finally:
            child.kill()
    assert said["values"] == list(range(40))
    assert said["failures"] == [0, 0]
    assert said["circuits"] == ["closed", "closed"]
    assert said["kinds"] == ["timeout"]
    assert said["hung_s"] > STOPPED_S + 2.0
    assert said["paused_s"] == pytest.approx(STOPPED_S, abs=2 * LOOK_S)
    assert said["events"] == ["pool.paused"]
