"""A pool with something to see: three members at work, one of which fails when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from greenroom import AgentPool, Limit, Member, PoolConfig, PoolError, PoolRef

LIMIT_S = 60.0
"""How long is waited for what must come."""


@dataclass
class Scene:
    """What plays."""

    pool: PoolRef
    url: str
    failing: threading.Event
    ended: threading.Event = field(default_factory=threading.Event)

    def play(self) -> None:
        """Ask, again and again, until the end."""
        while not self.ended.wait(0.005):
            try:
                self.pool.execute("hello")
            except PoolError:
                continue


@contextmanager
def playing(askers: int = 4, reset_s: float = 30.0) -> Iterator[Scene]:
    """Within it the pool is asked all the time.

    Args:
        reset_s: how long an open breaker stays open.
    """
    failing = threading.Event()

    def quick(prompt: str) -> str:
        if failing.is_set():
            raise ConnectionError("connection refused")
        time.sleep(0.02)
        return prompt

    def slow(prompt: str) -> str:
        time.sleep(0.06)
        return prompt

    def words(prompt: str) -> Any:
        time.sleep(0.04)
        yield from prompt.split()

    members = [
        Member("gpt", quick, max_concurrency=4, weight=2.0),
        Member("claude", slow, max_concurrency=4, limits=[Limit(3_000, per_s=60)]),
        Member("local", words, max_concurrency="auto", max_concurrency_ceiling=8),
    ]
    config = PoolConfig(circuit_reset_timeout_s=reset_s, circuit_reset_max_s=reset_s)
    # By turns: a strategy that learns would soon leave alone who fails.
    pool = AgentPool.start(
        members, strategy="round_robin", name="writers", config=config, status="127.0.0.1:0"
    )
    assert pool.status_url is not None
    scene = Scene(pool, pool.status_url, failing)
    threads = [threading.Thread(target=scene.play, daemon=True) for _ in range(askers)]
    with pool:
        for thread in threads:
            thread.start()
        try:
            yield scene
        finally:
            scene.ended.set()
            for thread in threads:
                thread.join(LIMIT_S)
