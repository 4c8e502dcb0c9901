"""Pools that find out how many calls at a time their members bear: `max_concurrency="auto"`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_load import error_of, pass_time, settled
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import AgentPool, Configure, Member, PoolFuture, PoolRef, Request
from greenroom.kinds import PoolFileError
from greenroom.messages import BreakerOpened
from greenroom.testing import EventRecorder, FakeClock, http_error

PATIENT: dict[str, Any] = {
    "when_unavailable": "wait",
    "max_pending": 10_000,
    "request_timeout_s": 1e6,
    "deadline_s": 1e7,
}


class Provider:
    """Bears so many calls at a time, each of which takes a second, and refuses more."""

    def __init__(self, clock: FakeClock, bears: int, retry_after_s: float = 5.0) -> None:
        self.clock, self.bears, self.retry_after_s = clock, bears, retry_after_s
        self.most = self.refused = 0
        self.began: list[float] = []
        self._ends: list[float] = []

    @property
    def running(self) -> int:
        """By the clock, not by which of those that have ended had their turn already."""
        self._ends = [each for each in self._ends if each > self.clock.now()]
        return len(self._ends)

    async def __call__(self, payload: Any) -> Any:
        self.began.append(self.clock.now())
        if self.running >= self.bears:
            self.refused += 1
            raise http_error(429, retry_after_s=self.retry_after_s)
        self._ends.append(self.clock.now() + 1.0)
        self.most = max(self.most, self.running)
        await self.clock.sleep(1.0)
        return payload


def ask(pool: PoolRef, number: int) -> list[PoolFuture[Any]]:
    return [pool.ask(Request(i), block=False) for i in range(number)]


def width(pool: PoolRef) -> int:
    return pool.stats()["a"].max_concurrency


def seconds(pool: PoolRef, clock: FakeClock, number: int) -> None:
    pass_time(pool, clock, float(number), step_s=1.0)


def auto(agent: Any, ceiling: int | None = None, **more: Any) -> Member:
    return Member("a", agent, max_concurrency="auto", max_concurrency_ceiling=ceiling, **more)


def test_b323_a_limit_that_nobody_knows_is_found_and_followed() -> None:
    """It is 20, then 8, then 40: few calls are refused, no request fails, no breaker opens; by a
    number of calls at a time, and by a pace where that is what refusals say.
    """
    clock = FakeClock()
    provider = Provider(clock, bears=20, retry_after_s=1.0)
    with EventRecorder() as log, pool_of(auto(provider), clock=clock, **PATIENT) as pool:
        done = []
        ask(pool, 5000)
        settled(pool, clock)
        for bears in (20, 8, 40):
            provider.bears = bears
            pass_time(pool, clock, 25.0, step_s=0.1)
            before = pool.stats().completed
            pass_time(pool, clock, 10.0, step_s=0.1)
            done.append((pool.stats().completed - before) / 10.0 / bears)
        assert min(done) >= 0.5
        assert provider.refused <= 0.05 * len(provider.began)
        assert pool.stats().failed == 0
        assert not log.named(BreakerOpened)
        assert pool.stats()["a"].concurrency_learned


def test_b323_the_first_429_pauses_that_member_alone_then_one_two_four_are_let_in() -> None:
    """For as long as its Retry-After says; those that wait are not let in all at once."""
    clock = FakeClock()
    provider = Provider(clock, bears=10)
    with pool_of(auto(provider), Member("b", echo), clock=clock, **PATIENT) as pool:
        for number in range(1000):
            pool.ask(Request(number, only="a"), block=False)
        settled(pool, clock)
        for _ in range(60):
            if provider.refused:
                break
            seconds(pool, clock, 1)
        began, pause = clock.now(), provider.retry_after_s
        assert pool.stats().available == ("b",)
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
        seconds(pool, clock, 9)
        calls = Counter(at - began for at in provider.began if at > began)
        assert [calls[pause + at - 1] for at in range(-3, 1)] == [0, 0, 0, 0]
        assert [calls[pause + at] for at in range(3)] == [1, 2, 4]
        assert width(pool) < 20


def test_b323_answers_that_only_wait_at_the_member_do_not_widen_it() -> None:
    """It works on ten at a time, and has the others wait: nothing refuses, and answers tell."""
    clock = FakeClock()
    gate: list[float] = [clock.now()] * 10

    async def agent(payload: Any) -> Any:
        free_at = max(clock.now(), min(gate))
        gate.remove(min(gate))
        gate.append(free_at + 1.0)
        await clock.sleep(free_at + 1.0 - clock.now())
        return payload

    with pool_of(auto(agent), clock=clock, **PATIENT) as pool:
        ask(pool, 5000)
        settled(pool, clock)
        seconds(pool, clock, 150)
        assert 10 <= width(pool) <= 40
        assert pool.stats().completed >= 0.9 * 10 * 150


def test_b320_load_that_does_not_use_it_does_not_widen_it_in_a_pool() -> None:
    """Any number of requests, one at a time; and a number stays what it is."""
    with pool_of(auto(echo), Member("b", echo, max_concurrency=3, priority=1)) as pool:
        for number in range(200):
            assert pool.execute(number, timeout=WAIT_S) == number
        stats = pool.stats()
        assert (stats["a"].max_concurrency, stats["a"].concurrency_learned) == (4, True)
        assert (stats["b"].max_concurrency, stats["b"].concurrency_learned) == (3, False)


def test_b321_timeouts_narrow_it() -> None:
    """Of calls that were begun together it counts once."""
    clock = FakeClock()
    provider = Provider(clock, bears=100)
    config = {**PATIENT, "request_timeout_s": 0.5, "circuit_failure_threshold": 100}
    with pool_of(auto(provider), clock=clock, max_retries=0, **config) as pool:
        futures = ask(pool, 4)
        settled(pool, clock)
        assert width(pool) == 4
        clock.advance(0.5)
        assert all(error_of(each, WAIT_S) for each in futures)
        assert width(pool) == 3


def test_b324_a_ceiling_bounds_it_in_threads_as_in_coroutines() -> None:
    """A sync agent's calls run at the same time, and no more than the ceiling of them."""
    together = threading.Barrier(2)

    def sync(payload: Any) -> Any:
        together.wait(WAIT_S)
        return payload

    with pool_of(auto(sync, ceiling=2)) as pool:
        assert [each.get(timeout=WAIT_S).value for each in ask(pool, 100)] == list(range(100))
        assert width(pool) == 2
    clock = FakeClock()
    provider = Provider(clock, bears=100)
    made = Member("a", factory=lambda: provider, max_concurrency="auto", max_concurrency_ceiling=30)
    with pool_of(made, clock=clock, **PATIENT) as pool:
        ask(pool, 1000)
        settled(pool, clock)
        seconds(pool, clock, 30)
        assert width(pool) == provider.most == 30


def test_b324_an_agent_that_a_factory_makes_may_come_to_what_its_kind_bears() -> None:
    """More than 64 once it is known to be async."""
    clock = FakeClock()
    provider = Provider(clock, bears=90)
    made = Member("a", factory=lambda: provider, max_concurrency="auto")
    with pool_of(made, clock=clock, **PATIENT) as pool:
        ask(pool, 2000)
        settled(pool, clock)
        seconds(pool, clock, 25)
        assert provider.most == 90


def test_b323_a_stream_counts_by_its_first_chunk() -> None:
    """However long it goes on: each one of these does so for longer than the one before."""
    clock, rest_s = FakeClock(), [0.0]

    async def agent(payload: Any) -> AsyncIterator[Any]:
        await clock.sleep(1.0)
        yield "first"
        rest_s[0] += 0.2
        await clock.sleep(rest_s[0])
        yield "last"

    with pool_of(auto(agent), clock=clock, **PATIENT) as pool:
        streams = [pool.stream(Request(i)) for i in range(150)]
        settled(pool, clock)
        seconds(pool, clock, 100)
        assert width(pool) > 12
        assert streams[0].collect() == ["first", "last"]


def test_b325_a_number_and_auto_take_each_others_place_while_the_pool_runs() -> None:
    """What runs and what waits stays; it is learned anew each time."""
    clock = FakeClock()
    provider = Provider(clock, bears=1000)
    with pool_of(Member("a", provider, max_concurrency=7), clock=clock, **PATIENT) as pool:
        ask(pool, 1000)
        settled(pool, clock)
        assert pool.stats().in_flight == 7
        changed = pool.configure(members={"a": {"max_concurrency": "auto"}})
        assert changed == ("a: max_concurrency 7 -> 'auto'",)
        assert (width(pool), pool.stats()["a"].concurrency_learned) == (4, True)
        seconds(pool, clock, 15)
        assert provider.most > 7
        pool.configure(members={"a": {"max_concurrency_ceiling": 5}})
        assert width(pool) == 5
        seconds(pool, clock, 2)
        assert pool.stats().in_flight == 5
        pool.configure(members={"a": {"max_concurrency": 40}})
        assert (width(pool), pool.stats()["a"].concurrency_learned) == (40, False)
        assert settled(pool, clock).in_flight == 40
        seconds(pool, clock, 30)
        assert not provider.refused


FILE = "[[members]]\nname = 'a'\nkind = 'python'\nagent = 'builtins:len'\n"


def test_b325_a_file_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a word, which may come from the environment; it may change."""
    path = tmp_path / "pool.toml"
    path.write_text(f"{FILE}max_concurrency = '${{WIDTH}}'\nmax_concurrency_ceiling = 3\n")
    monkeypatch.setenv("WIDTH", "auto")
    with AgentPool.from_toml(path) as pool:
        assert width(pool) == 3
        assert pool.stats()["a"].concurrency_learned
        path.write_text(f"{FILE}max_concurrency = 5\n")
        assert pool.reload() == (
            "a: max_concurrency 'auto' -> 5",
            "a: max_concurrency_ceiling 3 -> None",
        )
        assert (width(pool), pool.stats()["a"].concurrency_learned) == (5, False)
    path.write_text(f"{FILE}max_concurrency = 'much'\n")
    said = "pool.toml:5: members.a.max_concurrency must be a whole number or 'auto', got 'much'"
    with pytest.raises(PoolFileError, match=said):
        AgentPool.from_toml(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Member("a", len, max_concurrency="much"),  # type: ignore[arg-type]
            "max_concurrency must be a whole number or 'auto', got 'much'",
        ),
        (
            lambda: Member("a", len, max_concurrency_ceiling=0),
            "max_concurrency_ceiling must be at least 1, got 0",
        ),
        (
            lambda: Member("a", len, max_concurrency_ceiling="auto"),  # type: ignore[arg-type]
            "max_concurrency_ceiling must be a whole number, got 'auto'",
        ),
        (
            lambda: Configure(members={"a": {"max_concurrency": "Auto"}}),  # type: ignore[typeddict-item]
            "members.a.max_concurrency must be a whole number or 'auto', got 'Auto'",
        ),
        (
            lambda: Configure(members={"a": {"max_concurrency_ceiling": 1.5}}),  # type: ignore[typeddict-item]
            "members.a.max_concurrency_ceiling must be a whole number, got 1.5",
        ),
    ],
)
def test_b325_what_is_neither_is_refused_where_it_is_given(
    make: Callable[[], Any], said: str
) -> None:
    """With field, value and rule."""
    with pytest.raises((TypeError, ValueError), match=said):
        make()
