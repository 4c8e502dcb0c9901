"""Processes with limits of their own, run by `test_real_limits.py`: each prints what it has seen.

Everything that is needed is imported before the limits are set: a process that is nobody's may not
be able to read its own libraries any more.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Apply,
    Member,
    PoolConfig,
    PoolRef,
    Request,
)

NOBODY = 65534
PATIENCE_S = 10.0
"""How long an answer is waited for that comes at once or never."""
LONGEST_S = 30.0
CONFIG = PoolConfig(max_retries=3, retry_delay_s=0.0, request_timeout_s=None)


def in_a_process_of_its_own(what: str) -> dict[str, Any]:
    """What the function of that name has seen there."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, what],
        capture_output=True,
        text=True,
        timeout=2 * LONGEST_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def outcome(pool: PoolRef, payload: Any = "x", **options: Any) -> str:
    """How an ask without any time limit has ended."""
    future = pool.ask(Request(payload, **options), block=False)
    try:
        reply = future.get(timeout=PATIENCE_S)
    except AllPoolMembersFailedError as failed:
        return " ".join(f"{type(each.error).__name__}/{each.kind}" for each in failed.errors)
    except pykka.Timeout:
        return "unanswered"
    return f"{reply.value} by {reply.member}"


def rest(pool: PoolRef) -> list[Any]:
    """What is in flight, and what the breakers have counted."""
    stats = pool.stats()
    return [stats.in_flight, *[[each.in_flight, each.failures] for each in stats.members]]


def sync(payload: Any) -> Any:
    return payload


async def on_loop(payload: Any) -> Any:
    return payload


# -- no thread to be had


def as_nobody() -> str:
    """Be a user who may be refused a thread; why that cannot be, if it cannot."""
    try:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        with_threads(False)
        try:
            threading.Thread(target=int).start()
        except RuntimeError:
            return ""
        finally:
            with_threads(True)
    except OSError as error:
        return f"this process cannot be another user's: {error}"
    return "the system does not keep to RLIMIT_NPROC"


def with_threads(allowed: bool) -> None:
    """Whether the system gives this user any more of them."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (most if allowed else 1, most))


def refused_threads(agent: Callable[[Any], Any]) -> dict[str, Any]:
    """Asks of a pool before there is a thread for its agent, and when there is one again."""
    why = as_nobody()
    if why:
        return {"skip": why}
    members = [Member("a", agent, max_concurrency=4), Member("b", sync, priority=1)]
    pool = AgentPool.start(members, config=CONFIG, strategy="priority")
    pool.force_open("a")
    outcome(pool)  # the second member has its thread
    pool.reset_member("a")
    with_threads(False)
    seen: dict[str, Any] = {"refused": [outcome(pool) for _ in range(3)], "rest": rest(pool)}
    pool.force_open("b")
    seen["alone"] = outcome(pool, max_retries=0)
    with_threads(True)
    seen["again"] = outcome(pool)
    seen["together"] = together(pool, 4) if agent is sync else 4
    seen["end"] = rest(pool)
    pool.stop()
    return seen


def together(pool: PoolRef, count: int) -> int:
    """How many calls run at a time."""
    arrived, leave = threading.Semaphore(0), threading.Event()

    def hold(_: Any) -> None:
        arrived.release()
        leave.wait(PATIENCE_S)

    futures = [pool.ask(Apply(hold), block=False) for _ in range(count)]
    running = sum(arrived.acquire(timeout=PATIENCE_S / 5) for _ in range(count))
    leave.set()
    for future in futures:
        future.get(timeout=PATIENCE_S)
    return running


def sync_without_threads() -> dict[str, Any]:
    return refused_threads(sync)


def async_without_threads() -> dict[str, Any]:
    return refused_threads(on_loop)


# -- no descriptor to be had


def async_without_descriptors() -> dict[str, Any]:
    """The first use of the loop when every descriptor is taken."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    members = [Member("a", on_loop), Member("b", sync, priority=1)]
    pool = AgentPool.start(members, config=CONFIG, strategy="priority")
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, most))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    seen: dict[str, Any] = {"refused": [outcome(pool) for _ in range(3)], "rest": rest(pool)}
    pool.force_open("b")
    seen["alone"] = outcome(pool, max_retries=0)
    for descriptor in taken:
        os.close(descriptor)
    seen["again"] = outcome(pool)
    seen["end"] = rest(pool)
    pool.stop()
    return seen


# -- at the end of the process


def at_exit(agent: Callable[[Any], Any]) -> dict[str, Any]:
    """The first use of a pool in an exit handler, where no thread can be started any more: CPython
    from 3.12 on says so by itself.
    """
    pool = AgentPool.start([Member("a", agent)], config=CONFIG)
    seen: dict[str, Any] = {}

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    def last_words() -> None:
        for name in ("_start_new_thread", "_start_joinable_thread"):
            if hasattr(threading, name):
                setattr(threading, name, refuse)
        seen["refused"] = [outcome(pool, max_retries=0) for _ in range(3)]
        seen["rest"] = rest(pool)
        seen["stopped"] = pool.stop(timeout=PATIENCE_S)
        print(json.dumps(seen), flush=True)

    atexit.register(last_words)
    return {}


def sync_at_exit() -> dict[str, Any]:
    return at_exit(sync)


def async_at_exit() -> dict[str, Any]:
    return at_exit(on_loop)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    asyncio.new_event_loop().close()
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
