"""A pool that each process starts for itself, on first use. Behaviour 260."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers_forks import needs_fork, script
from helpers_pools import WAIT_S

from greenroom import AgentPool, Member, PoolPerProcess, PoolRef, PoolStoppedError


def started() -> PoolRef:
    return AgentPool.start([Member("only", str.upper, max_concurrency=8)], name="per-process")


def test_it_starts_on_first_use_once_whoever_asks() -> None:
    """Eight threads that come at the same time have one pool."""
    starts: list[PoolRef] = []
    together = threading.Barrier(8)

    def start() -> PoolRef:
        starts.append(started())
        return starts[-1]

    pool = PoolPerProcess(start)
    assert repr(pool) == "<PoolPerProcess: not started here>"

    def ask(_: int) -> str:
        together.wait(WAIT_S)
        return str(pool().execute("hi"))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == ["HI"] * 8
    assert len(starts) == 1
    assert "per-process" in repr(pool)
    pool.stop()


def test_after_its_stop_there_is_none() -> None:
    """Whether it had been used before or not: a late request starts no second one."""
    used, unused = PoolPerProcess(started), PoolPerProcess(started)
    assert used().execute("hi") == "HI"
    for each in (used, unused):
        each.stop()
        each.stop(drain_s=1)
        with pytest.raises(PoolStoppedError) as caught:
            each().execute("hi")
        assert not caught.value.started


def test_it_answers_what_is_at_hand_before_it_stops() -> None:
    """With a drain; the caller in another thread has its answer."""
    begun, go = threading.Event(), threading.Event()

    def slow(prompt: str) -> str:
        begun.set()
        go.wait(WAIT_S)
        return prompt.upper()

    pool = PoolPerProcess(lambda: AgentPool.start([Member("only", slow)]))
    with ThreadPoolExecutor(2) as threads:
        answer = threads.submit(lambda: pool().execute("hi"))
        assert begun.wait(WAIT_S)
        stopping = threads.submit(pool.stop, WAIT_S)
        while not pool().stats().draining:
            pass
        go.set()
        assert answer.result(WAIT_S) == "HI"
        stopping.result(WAIT_S)


def test_a_start_that_fails_is_tried_again() -> None:
    """What it raises goes to who has asked."""
    failures = [ValueError("no members"), None]

    def start() -> PoolRef:
        if failure := failures.pop(0):
            raise failure
        return started()

    pool = PoolPerProcess(start)
    with pytest.raises(ValueError, match="no members"):
        pool()
    assert pool().execute("hi") == "HI"
    pool.stop()


def test_one_that_is_stopped_while_it_is_started_is_stopped() -> None:
    """As by the handler of a signal that breaks in: it is in the same thread, and cannot wait."""
    starts: list[PoolRef] = []

    def start() -> PoolRef:
        pool.stop()
        starts.append(started())
        return starts[-1]

    pool = PoolPerProcess(start)
    for _ in range(2):
        with pytest.raises(PoolStoppedError, match="the pool of this process has been stopped"):
            pool()
    (only,) = starts
    assert not only.is_alive()


def test_a_start_that_asks_for_its_own_pool_is_told_so() -> None:
    """There would be another one below it, and so on; who is asked next starts the one."""
    asks = [True, False]

    def start() -> PoolRef:
        return pool() if asks.pop(0) else started()

    pool = PoolPerProcess(start)
    with pytest.raises(RuntimeError, match="start must not ask for the pool that it is to start"):
        pool()
    assert pool().execute("hi") == "HI"
    pool.stop()


def test_what_is_given_is_checked() -> None:
    """By its name, with what is meant."""
    with pytest.raises(TypeError, match="start must be callable"):
        PoolPerProcess("pool")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="start must return a PoolRef, got 5"):
        PoolPerProcess(lambda: 5)()  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="drain_s must be at least 0"):
        PoolPerProcess(started).stop(-1)


def test_it_is_not_sent_to_another_process() -> None:
    """Nor copied: there would be a second pool."""
    pool = PoolPerProcess(started)
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="where each process imports it"):
            send(pool)


@needs_fork
def test_each_child_has_its_own() -> None:
    """Whether its parent has one, has stopped it, or is starting it in another thread just then;
    the parent's goes on.
    """
    said, parent = script("""
    def pid(payload):
        return os.getpid()

    def start():
        return AgentPool.start([Member("a", pid)], name="mine")

    begun, go = threading.Event(), threading.Event()
    used, unused, stopped = PoolPerProcess(start), PoolPerProcess(start), PoolPerProcess(start)
    starting = PoolPerProcess(lambda: (begun.set(), go.wait(20), start())[-1])
    used().execute(0)
    stopped().execute(0)
    stopped.stop()
    thread = threading.Thread(target=starting)
    thread.start()
    begun.wait(20)

    def child():
        go.set()
        pools = {"used": used, "unused": unused, "stopped": stopped, "starting": starting}
        for name, pool in pools.items():
            note(name, lambda: pool().execute(0) == os.getpid())
            note(name + " again", lambda: pool() is pool())
            note(name + " ends", pool.stop)
    said, _ = forked(child)
    go.set()
    thread.join(20)
    tell([said, [used().execute(0), starting().execute(0)] == [os.getpid()] * 2])
    """)
    for name in ("used", "unused", "stopped", "starting"):
        assert said[name] == said[f"{name} again"] == ["returned", "True"], said
        assert said[f"{name} ends"] == ["returned", "None"]
    assert parent
