"""Eight real processes that have a rate limit together, by each kind of store; some are killed.

What is looked at is what the limit has let in, by the clock that all processes of a host share, as
each has noted it before it began: so a machine that is busy can let nothing look like too much.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_sharing_processes import Worker, most_in, spenders, spent_in
from helpers_stores import any_store, free_port, needs_redis, redis_server

AMOUNT, PER_S = 60, 1.0
SLACK_S = 0.001
"""No clock of a store is finer than that, as processes see it."""


@pytest.fixture(params=["sqlite", "redis", "postgres", "nats"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The text of a store that is there."""
    with any_store(request.param, tmp_path) as text:
        yield text


def until_spent(folder: Path, number: int) -> None:
    """Wait until so much more has been spent."""
    goal = number + sum(map(len, spent_in(folder)))
    seen = threading.Event()
    until = time.monotonic() + 60.0
    while sum(map(len, spent_in(folder))) < goal:
        assert time.monotonic() < until
        seen.wait(0.05)


def test_b477_eight_processes_are_never_over_their_limit(store: str, tmp_path: Path) -> None:
    """All of them want as much as there is; three are killed with a lease in hand, two others come
    in their place. Each has its part, and together they have most of it.
    """
    with spenders(store, tmp_path, 8, AMOUNT, PER_S) as started:
        for each in started:
            each.ask("spend 16")
        until_spent(tmp_path, 3 * AMOUNT)
        for each in random.Random(1).sample(started, 3):
            each.kill()
        with spenders(store, tmp_path, 2, AMOUNT, PER_S) as more:
            for each in more:
                each.ask("spend 16")
            until_spent(tmp_path, 3 * AMOUNT)
            for each in (*started, *more):
                _end(each)
    spent = spent_in(tmp_path)
    assert most_in(spent, PER_S - SLACK_S) <= AMOUNT
    assert all(spent)
    assert not [each for each in started if each.named("shared.away")]


def _end(worker: Worker) -> None:
    if worker.process.poll() is None:
        worker.ask("stop")


def test_b477_a_store_that_is_killed_and_back_has_them_spend_their_part(tmp_path: Path) -> None:
    """A quarter each while it is away; then they have it together again."""
    needs_redis()
    port = free_port()
    with (
        redis_server(tmp_path, port) as server,
        spenders(f"redis://127.0.0.1:{port}/0", tmp_path, 4, AMOUNT, PER_S) as started,
    ):
        for each in started:
            each.ask("spend 16")
        until_spent(tmp_path, 3 * AMOUNT)
        server.kill()
        server.wait()
        for each in started:
            each.heard_of("shared.away")
        until_spent(tmp_path, AMOUNT)
        away = time.monotonic()
        until_spent(tmp_path, 2 * AMOUNT)
        with redis_server(tmp_path, port):
            for each in started:
                each.heard_of("shared.back")
            until_spent(tmp_path, AMOUNT)
            back = time.monotonic()
            until_spent(tmp_path, 4 * AMOUNT)
            for each in started:
                _end(each)
    spent = spent_in(tmp_path)
    alone = [[row for row in each if away <= row[0] < away + PER_S] for each in spent]
    assert most_in(alone, PER_S) <= AMOUNT
    together = [[row for row in each if row[0] >= back + 2 * PER_S] for each in spent]
    assert any(together)
    assert most_in(together, PER_S - SLACK_S) <= AMOUNT
