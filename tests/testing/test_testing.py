"""`greenroom.testing` and the pytest plugin: what users test their own agents with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers_processes import PROCESS_S

from greenroom import AgentPool, AllPoolMembersFailedError, FailureKind, Member, PoolConfig, Request
from greenroom.actors.reading.classify import classify
from greenroom.events import BreakerOpened, MemberStarted, PoolStarted, PoolStopped, RetryScheduled
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    Hang,
    ScriptedAgent,
    Slow,
    Streamed,
    http_error,
)

pytest_plugins = ["pytester"]

BOTH = pytest.mark.parametrize("agent_class", [ScriptedAgent, AsyncScriptedAgent])
AnyAgent = type[ScriptedAgent] | type[AsyncScriptedAgent]


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def answers(agent: Any, *payloads: Any) -> list[Any]:
    """What the agent makes of each payload: its answer or its error."""

    async def ask(payload: Any) -> Any:
        answer = agent(payload)
        return await answer if asyncio.iscoroutine(answer) else answer

    found: list[Any] = []
    for payload in payloads:
        try:
            found.append(asyncio.run(ask(payload)))
        except Exception as error:
            found.append(error)
    return found


# -- the clock


def test_a_fake_clock_stands_still() -> None:
    """Until it is moved, by as much as it is moved."""
    clock = FakeClock(5.0)
    assert clock.now() == clock.wall() == 5.0
    clock.advance(2.5)
    clock.advance(0)
    assert clock.now() == clock.wall() == 7.5


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_time_does_not_go_back(seconds: Any, error: type[Exception]) -> None:
    """Nor anywhere that is no number of seconds."""
    with pytest.raises(error, match="seconds must be"):
        FakeClock().advance(seconds)


def test_threads_and_coroutines_sleep_on_it() -> None:
    """Each is woken when its own time has come, and counted until then."""
    clock, woken = FakeClock(), list[str]()

    def block() -> None:
        clock.block(10)
        woken.append("thread")

    def sleep() -> None:
        asyncio.run(clock.sleep(20))
        woken.append("coroutine")

    threads = [in_thread(block), in_thread(sleep)]
    clock.wait_until_sleeping(2)
    assert clock.waiting == 2
    assert repr(clock) == "FakeClock(now=1000, waiting=2)"
    clock.advance(10)
    threads[0].join(10)
    assert (woken, clock.waiting) == (["thread"], 1)
    clock.advance(10)
    threads[1].join(10)
    assert (woken, clock.waiting) == (["thread", "coroutine"], 0)


def test_no_time_is_no_sleep() -> None:
    """Zero seconds are over at once."""
    clock = FakeClock()
    clock.block(0)
    asyncio.run(clock.sleep(0))
    assert clock.waiting == 0


def test_waiting_for_sleepers_that_do_not_come() -> None:
    """Says how many there were."""
    with pytest.raises(TimeoutError, match="0 of 2 asleep after 0 s"):
        FakeClock().wait_until_sleeping(2, timeout=0)


def test_a_cancelled_sleeper_is_forgotten() -> None:
    """It is no longer counted, and waking it is not tried."""
    clock = FakeClock()

    async def main() -> None:
        task = asyncio.create_task(clock.sleep(5))
        await asyncio.sleep(0)
        assert clock.waiting == 1
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert clock.waiting == 0
    clock.advance(5)


def test_wakes_are_called_until_they_are_unregistered() -> None:
    """What a pool's mailboxes rely on."""
    clock, woken = FakeClock(), list[float]()

    def wake() -> None:
        woken.append(clock.now())

    clock.register(wake)
    clock.advance(1)
    clock.unregister(wake)
    clock.unregister(wake)
    clock.advance(1)
    assert woken == [1001.0]


# -- scripted agents


@BOTH
def test_a_script_is_played_step_by_step(agent_class: AnyAgent) -> None:
    """Values, exceptions, classes of exceptions, callables; the last step is repeated."""
    error = ValueError("no")
    agent = agent_class(["one", error, KeyError, lambda payload: payload * 2, None])
    one, raised, key_error, doubled, nothing, again = answers(agent, *range(6))
    assert (one, doubled, nothing, again) == ("one", 6, None, None)
    assert raised is error
    assert type(key_error) is KeyError
    assert agent.calls == [0, 1, 2, 3, 4, 5]


def test_a_step_may_be_a_coroutine_function() -> None:
    """Of an async agent."""

    async def step(payload: int) -> int:
        return payload + 1

    assert answers(AsyncScriptedAgent([step]), 1) == [2]


@BOTH
def test_a_script_needs_a_step(agent_class: AnyAgent) -> None:
    """An empty one would not know what to do."""
    with pytest.raises(ValueError, match="steps must hold at least one step, got none"):
        agent_class([])


@BOTH
def test_a_step_may_be_a_stream(agent_class: AnyAgent) -> None:
    """Chunk by chunk, cut off by an exception; a `Hang` is waited for."""
    cut = agent_class([Streamed("", "a", ConnectionError("cut")), Streamed(Hang("b"), "c")])
    config = PoolConfig(on_cut="restart", retry_delay_s=0)
    whole = agent_class([Streamed("all of ", "it")])
    assert repr(Streamed("a", 1)) == "Streamed('a', 1)"
    members = [Member("cut", cut), Member("whole", whole, priority=1)]
    with AgentPool.start(members, strategy="priority", config=config) as pool:
        assert pool.stream(Request("x")).collect() == ["all of ", "it"]
        stream = pool.stream(Request("y"))
        cut.wait_for_calls(2)
        cut.release()
        assert stream.collect() == ["b", "c"]
        assert pool.execute("z") == ["b", "c"]


def test_an_async_stream_that_is_left_was_cancelled() -> None:
    """As any async call that is given up."""
    agent = AsyncScriptedAgent([Streamed("a", Hang("b"))])
    with AgentPool.start([Member("a", agent)]) as pool:
        for chunk in pool.stream(Request("x")):
            assert chunk == "a"
            break
        assert agent.wait_for_cancelled() == ["x"]


@BOTH
def test_an_agent_that_fails_at_first(agent_class: AnyAgent) -> None:
    """With a ConnectionError, or the error that is given."""
    *failures, value = answers(agent_class.failing(2, then="hi"), 1, 2, 3)
    assert [type(error) for error in failures] == [ConnectionError] * 2
    assert value == "hi"
    assert [type(each) for each in answers(agent_class.failing(1, KeyError), 1)] == [KeyError]
    assert answers(agent_class.failing(0), 1) == ["value"]
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        agent_class.failing(-1)


@BOTH
def test_a_rate_limited_agent(agent_class: AnyAgent) -> None:
    """Its errors are what a pool takes for a 429, with the time to come back."""
    error, value = answers(agent_class.rate_limited(1, retry_after_s=2.5, then="hi"), 1, 2)
    verdict = classify(error)
    assert (verdict.kind, verdict.retry_after_s) == (FailureKind.RATE_LIMITED, 2.5)
    assert str(error) == "429 Too Many Requests"
    assert value == "hi"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.AUTH),
        (413, FailureKind.TOO_LARGE),
        (422, FailureKind.CALLER),
        (503, FailureKind.UNAVAILABLE),
        (599, FailureKind.UNAVAILABLE),
    ],
)
def test_http_errors_are_classified(status: int, kind: FailureKind) -> None:
    """As those of a real client are."""
    error = http_error(status)
    assert classify(error).kind is kind
    assert classify(error).retry_after_s is None
    assert str(error).startswith(str(status))


@pytest.mark.parametrize("status", [200, 600])
def test_what_is_no_http_error(status: int) -> None:
    """A success, and what no server says."""
    with pytest.raises(ValueError, match="status must be at"):
        http_error(status)


@BOTH
def test_a_hanging_agent(agent_class: AnyAgent) -> None:
    """Goes on when it is released, at once from then on."""
    agent = agent_class([Hang(then="late"), Hang(then="later")])
    with AgentPool.start([Member("a", agent)]) as pool:
        future = pool.ask(Request("x"), block=False)
        assert agent.wait_for_calls(1) == ["x"]
        agent.release()
        assert future.get(timeout=10).value == "late"
        assert pool.ask(Request("y"), timeout=10).value == "later"
    assert agent.calls == ["x", "y"]


def test_a_hanging_coroutine_can_be_cancelled() -> None:
    """And knows that it was."""
    agent = AsyncScriptedAgent.hanging()
    with AgentPool.start([Member("a", agent)]) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls(1)
        assert agent.cancelled == []
        future.cancel()
        assert agent.wait_for_cancelled(1) == ["x"]
    assert agent.cancelled == ["x"]


def test_waiting_for_calls_that_do_not_come() -> None:
    """Says how many there were."""
    agent = ScriptedAgent(["hi"])
    agent(1)
    with pytest.raises(TimeoutError, match="1 of 2 calls begun after 0 s"):
        agent.wait_for_calls(2, timeout=0)
    with pytest.raises(TimeoutError, match="0 of 1 calls cancelled after 0 s"):
        agent.wait_for_cancelled(timeout=0)


def test_waiting_in_vain_on_a_loop_says_what_may_have_kept_it() -> None:
    """An agent on that very loop cannot begin while its thread waits for it."""

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"after 0 s \(in the thread .* by await_for\)"):
            ScriptedAgent(["hi"]).wait_for_calls(timeout=0)
        with pytest.raises(TimeoutError, match=r"asyncio\.to_thread"):
            FakeClock().wait_until_sleeping(timeout=0)

    asyncio.run(main())


@BOTH
def test_a_slow_agent_follows_the_clock(agent_class: AnyAgent) -> None:
    """The pool measures exactly what the script says."""
    clock = FakeClock()
    agent = agent_class.slow(clock, 7.0, then="done")
    with AgentPool.start([Member("a", agent)], clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        clock.wait_until_sleeping()
        clock.advance(7.0)
        reply = future.get(timeout=10)
    assert (reply.value, reply.elapsed_s) == ("done", 7.0)


def test_a_slow_step_checks_its_seconds() -> None:
    """Where it is written, not where it is played."""
    with pytest.raises(ValueError, match="seconds must be at least 0, got -1"):
        Slow(FakeClock(), -1)


def test_an_agent_counts_the_calls_of_many_threads() -> None:
    """Each call takes a step of its own."""
    agent = ScriptedAgent([*range(200)])
    with ThreadPoolExecutor(8) as threads:
        found = sorted(threads.map(agent, range(200)))
    assert found == sorted(agent.calls) == list(range(200))
    assert repr(ScriptedAgent(["hi"])) == "ScriptedAgent(['hi'], calls=0)"


def test_timeouts_without_real_time() -> None:
    """A member that hangs is given up at its timeout, which nobody sat through."""
    clock, agent = FakeClock(), AsyncScriptedAgent.hanging()
    config = PoolConfig(request_timeout_s=30.0, max_retries=0)
    with AgentPool.start([Member("a", agent)], config=config, clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls(1)
        clock.advance(30.0)
        with pytest.raises(AllPoolMembersFailedError):
            future.get(timeout=10)
        agent.wait_for_cancelled(1)


# -- events


def test_recorded_events() -> None:
    """In order, by name, by class, by member, by pool."""
    recorder = EventRecorder()
    started = PoolStarted(pool="p")
    first, second = (MemberStarted(pool="p", member=name) for name in "ab")
    for event in (started, first, second):
        recorder(event)
    assert recorder.all == tuple(recorder) == (started, first, second)
    assert recorder.names() == ["pool.started", "member.started", "member.started"]
    assert recorder.named("member.started") == recorder.named(MemberStarted) == [first, second]
    assert recorder.named("member.started", member="b") == [second]
    assert recorder.named("member.started", pool="q") == []
    assert recorder.wait_for("member.started", count=2) is second
    assert recorder.wait_for(MemberStarted).incarnation == 1
    assert len(recorder) == 3
    assert repr(recorder) == "EventRecorder(pool.started, member.started, member.started)"
    recorder.clear()
    assert len(recorder) == 0
    assert recorder  # an empty one is still a recorder


def test_an_event_that_does_not_come() -> None:
    """The error says what came instead."""
    recorder = EventRecorder()
    with pytest.raises(TimeoutError) as caught:
        recorder.wait_for("pool.stopped", timeout=0)
    assert str(caught.value) == "0 of 1 pool.stopped after 0 s; seen: nothing"
    recorder(MemberStarted(pool="p", member="a"))
    with pytest.raises(TimeoutError) as caught:
        recorder.wait_for("member.started", member="b", pool="p", count=2, timeout=0)
    assert str(caught.value) == (
        "0 of 2 member.started of member 'b' of pool 'p' after 0 s; seen:\n"
        "  member.started p/a: member started (incarnation 1)"
    )


def test_an_event_that_does_not_exist() -> None:
    """A typo is told at once, not after the timeout."""
    with pytest.raises(ValueError, match=r"name must be one of .*breaker\.opened.*, got 'breaker"):
        EventRecorder().wait_for("breaker.open")
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        EventRecorder().wait_for("breaker.opened", count=0)


def test_an_event_is_waited_for() -> None:
    """Whoever waits is woken by the event, from whatever thread it comes."""
    recorder = EventRecorder()
    found: list[BreakerOpened] = []
    thread = in_thread(lambda: found.append(recorder.wait_for(BreakerOpened, member="a")))
    recorder(BreakerOpened(pool="p", member="b"))
    recorder(BreakerOpened(pool="p", member="a", reason="forced"))
    thread.join(10)
    assert [event.reason for event in found] == ["forced"]


def test_the_fixture_hears_every_pool(greenroom_events: EventRecorder) -> None:
    """From its start to its end, DEBUG events as well."""
    for name in ("one", "two"):
        with AgentPool.start([Member("a", ScriptedAgent(["hi"]))], name=name) as pool:
            pool.ask(Request("x"), timeout=10)
    for name in ("one", "two"):
        greenroom_events.wait_for("attempt.succeeded", pool=name, member="a")
        greenroom_events.wait_for("pool.stopped", pool=name)


def test_a_recorder_ends_with_its_block() -> None:
    """What happens later is not recorded; one pool alone can be recorded too."""
    alone = EventRecorder()
    with EventRecorder() as events:
        pool = AgentPool.start([Member("a", len)], name="p")
        pool.on_event(alone)
        events.wait_for(PoolStarted)
    pool.stop()
    assert events.named(PoolStopped) == []
    alone.wait_for(PoolStopped)


def test_a_retry_without_real_time(greenroom_events: EventRecorder) -> None:
    """The example of the module's docstring."""
    clock = FakeClock()
    flaky = ScriptedAgent.failing(2, then="hello")
    with AgentPool.start([Member("a", flaky)], clock=clock) as pool:
        future = pool.ask(Request("hi"), block=False)
        clock.advance(greenroom_events.wait_for(RetryScheduled).delay_s)
        assert future.get(timeout=10).value == "hello"
    assert flaky.calls == ["hi"] * 3


# -- the plugin

USES_FIXTURE = """
from greenroom import AgentPool, Member, Request

def test_events(greenroom_events):
    with AgentPool.start([Member("a", len)]) as pool:
        assert pool.ask(Request("four"), timeout=10).value == 4
    assert greenroom_events.wait_for("pool.stopped").pool == "pool"
"""


def test_pytest_finds_the_fixture_by_itself(pytester: pytest.Pytester) -> None:
    """Nothing has to be imported or configured."""
    pytester.makepyfile(USES_FIXTURE)
    pytester.runpytest_subprocess("-W", "error", timeout=PROCESS_S).assert_outcomes(passed=1)


def test_the_plugin_can_be_left_out(pytester: pytest.Pytester) -> None:
    """With pytest's own `-p no:greenroom`; then nothing of greenroom is imported."""
    pytester.makepyfile("import sys\ndef test(): assert 'greenroom' not in sys.modules")
    pytester.runpytest_subprocess("-p", "no:greenroom", timeout=PROCESS_S).assert_outcomes(passed=1)
    pytester.makepyfile(USES_FIXTURE)
    result = pytester.runpytest_subprocess("-p", "no:greenroom", timeout=PROCESS_S)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'greenroom_events' not found*"])


def test_the_helpers_do_not_need_pytest() -> None:
    """They serve any test runner, and an app's own checks."""
    script = "import sys, greenroom.testing, greenroom.events; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


# -- waiting for events in a coroutine


def test_b389_an_event_is_awaited_while_the_loop_brings_it() -> None:
    """Its agent lives on the very loop that waits: `wait_for` would hold it up."""
    release = asyncio.Event()

    async def agent(payload: str) -> str:
        await release.wait()
        raise ConnectionError("refused")

    async def main() -> str:
        config = PoolConfig(max_retries=0, circuit_failure_threshold=1)
        with EventRecorder() as events:
            pool = AgentPool.start([Member("a", agent), Member("b", len)], config=config)
            async with pool:
                asked = pool.ask(Request("x", only="a"), block=False)
                await events.await_for("attempt.started", member="a")
                release.set()
                opened = await events.await_for(BreakerOpened, member="a")
                with pytest.raises(AllPoolMembersFailedError):
                    await asked
                return opened.reason

    assert "failure" in asyncio.run(main())


def test_b389_what_was_recorded_is_there_at_once() -> None:
    """Also by its count, without a turn of the loop."""

    async def main() -> None:
        events = EventRecorder()
        events(PoolStarted(pool="one"))
        events(PoolStarted(pool="two"))
        assert (await events.await_for(PoolStarted, timeout=0)).pool == "one"
        assert (await events.await_for("pool.started", count=2, timeout=0)).pool == "two"
        assert (await events.await_for("pool.started", pool="two", timeout=0)).pool == "two"

    asyncio.run(main())


def test_b389_several_wait_and_each_has_its_own() -> None:
    """Events come from a thread; who is cancelled is forgotten."""

    async def main() -> None:
        events = EventRecorder()
        first = asyncio.create_task(events.await_for("pool.started"))
        second = asyncio.create_task(events.await_for("pool.started", count=2))
        given_up = asyncio.create_task(events.await_for("pool.stopped"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        await asyncio.to_thread(events, PoolStarted(pool="one"))
        assert (await first).pool == "one"
        assert not second.done()
        await asyncio.to_thread(events, PoolStarted(pool="two"))
        assert (await second).pool == "two"
        await asyncio.to_thread(events, PoolStopped(pool="one"))
        assert given_up.cancelled()

    asyncio.run(main())


def test_b389_an_event_that_does_not_come_is_told() -> None:
    """As by `wait_for`: with what has happened instead."""

    async def main() -> None:
        events = EventRecorder()
        events(PoolStarted(pool="one"))
        with pytest.raises(TimeoutError, match=r"0 of 1 pool.stopped after 0 s; seen:\n  pool.st"):
            await events.await_for("pool.stopped", timeout=0)
        with pytest.raises(ValueError, match="name must be one of"):
            await events.await_for("no.such")
        with pytest.raises(ValueError, match="count must be at least 1"):
            await events.await_for("pool.stopped", count=0)

    asyncio.run(main())
