"""Four real processes, by each kind of store: a dead member, a 429, a finder that is killed, a
process that is cut off, a store that goes away.

Times are bounded by what a busy machine keeps; the tight ones are measured by `sharing_live`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from helpers_nats import nats_server, needs_nats
from helpers_processes import PROCESS_S
from helpers_sharing_processes import Worker, workers
from helpers_stores import any_store, free_port, needs_redis, redis_server

BUSY_S = 10.0
"""What a machine that has other things to do may add: the turn of the others is at 2 to 3 s."""


@pytest.fixture(params=["sqlite", "redis", "postgres", "nats"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The text of a store that is there."""
    with any_store(request.param, tmp_path) as text:
        yield text


def find(worker: Worker, dead: Path) -> None:
    """Have one process find out that the member is dead, and that it is not its own network."""
    dead.touch()
    while not worker.named("breaker.opened"):
        assert set(worker.ask("ask 1")) == {"b"}
    worker.ask("ask 2")


def test_b412_a_dead_member_costs_one_process_what_it_costs_and_the_others_nothing(
    store: str, tmp_path: Path
) -> None:
    """No call of it from their word on, and one trial, by the finder; then all have it back."""
    dead = tmp_path / "dead"
    with workers(store, tmp_path, reset_s=3.0) as (finder, *others):
        find(finder, dead)
        for each in others:
            each.heard_of("breaker.opened", heard=True)
            assert each.ask("ask 5") == ["b"] * 5
        assert [each.ask("calls") for each in others] == [0, 0, 0]
        dead.unlink()
        before = finder.ask("calls")
        while not finder.named("breaker.closed"):
            finder.ask("ask 1")
        for each in others:
            each.heard_of("breaker.closed", heard=True)
        assert finder.ask("calls") >= before + 1
        assert [each.ask("calls") for each in others] == [0, 0, 0]
        assert not [each for each in others if each.named("breaker.half_open")]
        assert [each.ask("ask 1") for each in others] == [["a"]] * 3


def test_b412_a_429_of_one_process_rests_them_all(store: str, tmp_path: Path) -> None:
    """Three of them have never called it."""
    throttled = tmp_path / "throttled"
    throttled.touch()
    with workers(store, tmp_path) as (first, *others):
        assert first.ask("ask 1") == ["b"]
        for each in others:
            each.heard_of("member.resting", heard=True)
            assert each.ask("ask 3") == ["b"] * 3
        assert [each.ask("calls") for each in others] == [0, 0, 0]


def test_b412_a_finder_that_is_killed_is_not_waited_for(store: str, tmp_path: Path) -> None:
    """One of the others tries the member in its place, and all have it back: within five seconds of
    the time at which it would have been tried.
    """
    dead, reset_s = tmp_path / "dead", 2.0
    with workers(store, tmp_path, count=3, reset_s=reset_s) as (finder, *others):
        find(finder, dead)
        opened_at = finder.heard_of("breaker.opened")["at"]
        for each in others:
            each.heard_of("breaker.opened", heard=True)
        finder.kill()
        dead.unlink()
        until = time.monotonic() + PROCESS_S
        while not all(each.named("breaker.closed") for each in others):
            assert time.monotonic() < until
            for each in others:
                each.ask("ask 1")
        closed_at = max(each.heard_of("breaker.closed")["at"] for each in others)
        assert closed_at <= opened_at + reset_s + 5.0 + BUSY_S
        assert [each.ask("ask 1") for each in others] == [["a"]] * 2


def test_b412_a_process_that_is_cut_off_opens_nothing_elsewhere(store: str, tmp_path: Path) -> None:
    """Its own breakers open, and close again."""
    with workers(store, tmp_path, count=3, reset_s=1.0) as (cut, *others):
        cut.ask("cut on")
        while not cut.named("breaker.opened", member="a"):
            cut.ask("ask 1")
        cut.ask("ask 20")
        cut.ask("cut off")
        while not cut.named("breaker.closed", member="a"):
            cut.ask("ask 1")
        # Word of something else comes, so what was said before has come.
        (tmp_path / "throttled").touch()
        cut.ask("ask 1")
        for each in others:
            each.heard_of("member.resting", heard=True)
            assert not each.named("breaker.opened")


Server = Callable[[Path, int], AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.mark.parametrize(
    ("needs", "url", "server"),
    [
        pytest.param(needs_redis, "redis://127.0.0.1:{}/0", redis_server, id="redis"),
        pytest.param(needs_nats, "nats://127.0.0.1:{}", nats_server, id="nats"),
    ],
)
def test_b413_b461_a_server_that_is_killed_and_back_is_one_warning_and_one_word(
    needs: Callable[[], None], url: str, server: Server, tmp_path: Path
) -> None:
    """Every ask is answered meanwhile, and what was found out alone is told afterwards."""
    needs()
    port = free_port()
    with workers(url.format(port), tmp_path, count=2) as (one, two):
        for each in (one, two):
            each.heard_of("shared.away")
            assert each.ask("ask 3") == ["a"] * 3
        (tmp_path / "throttled").touch()
        assert one.ask("ask 1") == ["b"]
        with server(tmp_path, port) as process:
            for each in (one, two):
                each.heard_of("shared.back")
            two.heard_of("member.resting", heard=True)
            process.kill()
            for each in (one, two):
                each.heard_of("shared.away", count=2)
            assert [len(each.named("shared.back")) for each in (one, two)] == [1, 1]
            assert two.ask("ask 3") == ["b"] * 3
