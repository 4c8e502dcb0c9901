"""Pools that have the rate limits of their members together, by a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_messages import refused
from helpers_pools import WAIT_S, echo

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    CallContext,
    Limit,
    LimitStats,
    Member,
    PoolConfig,
    PoolRef,
    Request,
)
from greenroom.events import SharedStateAway, SharedStateBack
from greenroom.kinds import PoolFileError
from greenroom.shared import Ledger, SharedState, SqliteState
from greenroom.shared.sharing_threads import MOST_TRIES
from greenroom.shared.state_store import Held, Lying
from greenroom.testing import EventRecorder

TOKENS = "tokens"


@contextmanager
def sharing(
    state: SharedState | str, *limits: Limit, agent: Any = echo, name: str = "web", **config: Any
) -> Iterator[PoolRef]:
    """A pool of two members, the first of which has these limits, the second none."""
    first = Member("a", agent, limits=limits, max_concurrency=128)
    members = [first, Member("b", echo, priority=1)]
    pool = AgentPool.start(
        members, strategy="priority", config=PoolConfig(**config), name=name, shared=state
    )
    try:
        yield pool
    finally:
        pool.stop(timeout=WAIT_S)


def who(pool: PoolRef, **options: Any) -> str:
    return pool.ask(Request("x", **options), timeout=WAIT_S).member


def limit_of(pool: PoolRef) -> LimitStats:
    (limit,) = pool.stats()["a"].limits
    return limit


@pytest.fixture
def state(tmp_path: Path) -> SqliteState:
    return SqliteState(tmp_path / "state.db")


# -- together


def test_b472_pools_that_share_have_a_limit_together(state: SqliteState) -> None:
    """Ten an hour: what the one has not spent the other may, and no more; the next ones go to
    another member.
    """
    limit = Limit(10, per_s=3600)
    with sharing(state, limit) as one, sharing(state, limit) as two:
        assert [who(one) for _ in range(3)] == ["a"] * 3
        assert who(two) == "a"
        used, until = 0, time.monotonic() + WAIT_S
        while used < 10:  # what the one holds in reserve it gives back when it has no use for it
            assert time.monotonic() < until
            who(two)
            used = sum(limit_of(pool).used or 0 for pool in (one, two))
        assert [who(pool) for _ in range(3) for pool in (one, two)] == ["b"] * 6
        assert limit_of(one).shared
        assert limit_of(one).limit == 10


def test_b472_who_has_a_limit_for_itself_says_so(state: SqliteState) -> None:
    """Each of the two may spend all of it; in a file it is `per_process = true`."""
    limit = Limit(3, per_s=3600, per_process=True)
    with sharing(state, limit) as one, sharing(state, limit) as two:
        for pool in (one, two):
            assert [who(pool) for _ in range(4)] == ["a"] * 3 + ["b"]
            assert not limit_of(pool).shared


def test_b472_a_file_says_so_too_and_what_is_none_is_refused(tmp_path: Path) -> None:
    """With the field."""
    assert "per_process must be True or False" in refused(
        lambda: Limit(3, per_s=1, per_process=1)  # type: ignore[arg-type]
    )
    file = tmp_path / "pool.toml"
    text = '[[members]]\nname = "a"\nkind = "python"\nagent = "builtins:str"\n'
    file.write_text(text + "limits = [{ amount = 3, per_s = 60, per_process = true }]\n")
    with AgentPool.from_toml(file) as pool:
        assert pool.execute("x") == "x"
    file.write_text(text + "limits = [{ amount = 3, per_s = 60, per_process = 3 }]\n")
    with pytest.raises(PoolFileError, match="per_process"):
        AgentPool.from_toml(file)


def test_b472_pools_of_other_names_have_limits_of_their_own(state: SqliteState) -> None:
    """In the same file, and of members of the same name."""
    limit = Limit(2, per_s=3600)
    with sharing(state, limit) as one, sharing(state, limit, name="batch") as two:
        assert [who(one) for _ in range(3)] == ["a", "a", "b"]
        assert [who(two) for _ in range(3)] == ["a", "a", "b"]


def test_b472_a_limit_can_change_while_it_is_shared(state: SqliteState) -> None:
    """What has been spent stays; and it can be taken back to each, and shared again."""
    with sharing(state, Limit(2, per_s=3600)) as pool:
        assert [who(pool) for _ in range(3)] == ["a", "a", "b"]
        pool.configure(members={"a": {"limits": [Limit(4, per_s=3600)]}})
        while limit_of(pool).used == 2:
            who(pool)
        pool.configure(members={"a": {"limits": [Limit(5, per_s=3600, per_process=True)]}})
        assert limit_of(pool).used >= 3  # type: ignore[operator]
        assert not limit_of(pool).shared
        pool.configure(members={"a": {"limits": [Limit(2, per_s=3600)]}})
        assert who(pool) == "b"
        assert limit_of(pool).shared


# -- who waits


def test_b473_the_first_calls_wait_for_a_lease_and_go_to_nobody_else(state: SqliteState) -> None:
    """Though another member is free: a hundred at once, and as many again after a pause."""
    with sharing(state, Limit(1000, per_s=60)) as pool:
        futures = [pool.ask(Request("x"), block=False) for _ in range(100)]
        assert {each.get(timeout=WAIT_S).member for each in futures} == {"a"}
        assert pool.stats().failed == 0


def test_b473_a_limit_that_is_used_up_sends_requests_on_or_says_when(state: SqliteState) -> None:
    """To another member; where there is none it is waited for, if that is in time."""
    with sharing(state, Limit(1, per_s=3600)) as pool:
        assert [who(pool, only="a"), who(pool)] == ["a", "b"]
        with pytest.raises(AllPoolMembersFailedError) as failed:
            pool.ask(Request("x", only="a", timeout=5.0), timeout=WAIT_S)
        assert failed.value.errors[0].kind.value == "headroom"
        assert 3500 < failed.value.retry_after_s <= 3700  # type: ignore[operator]


def test_b473_that_there_is_nothing_left_is_found_out_anew_after_a_while(
    state: SqliteState,
) -> None:
    """Where nobody waits for it, nobody asks meanwhile; the next request does."""
    with sharing(state, Limit(1, per_s=3600)) as pool:
        assert [who(pool), who(pool)] == ["a", "b"]
        assert limit_of(pool).refills_in_s > 3500
        until = time.monotonic() + WAIT_S
        while limit_of(pool).refills_in_s:
            assert time.monotonic() < until
        assert who(pool) == "b"
        assert limit_of(pool).refills_in_s > 3500


def test_b473_who_waits_is_served_when_something_comes_back(state: SqliteState) -> None:
    """Two a half second, of two pools: eight calls take a second and a half at least."""
    limit = Limit(2, per_s=0.5)
    with sharing(state, limit) as one, sharing(state, limit) as two:
        futures = [
            pool.ask(Request("x", only="a"), block=False) for _ in range(4) for pool in (one, two)
        ]
        for each in futures:
            assert each.get(timeout=WAIT_S).member == "a"


# -- other costs


def test_b474_tokens_are_reserved_together_and_settled(state: SqliteState) -> None:
    """Estimates of 400 of 1,000, of which ten are really taken: far more than two are let in."""

    def says(payload: Any, context: CallContext) -> Any:
        context.spent(tokens=10)
        return payload

    limit = Limit(1000, per_s=60, cost=TOKENS)
    with sharing(state, limit, agent=says) as one, sharing(state, limit, agent=says) as two:
        served = [who(pool, only="a", cost={TOKENS: 400}) for _ in range(4) for pool in (one, two)]
        assert served == ["a"] * 8
        assert limit_of(one).used == limit_of(two).used == 40


def test_b474_what_costs_more_than_the_limit_is_refused_at_once(state: SqliteState) -> None:
    """Whatever this process holds of it."""
    with sharing(state, Limit(1000, per_s=60, cost=TOKENS)) as pool:
        assert who(pool, cost={TOKENS: 1001}) == "b"
        with pytest.raises(AllPoolMembersFailedError, match="more than its limit"):
            pool.ask(Request("x", only="a", cost={TOKENS: 1001}), timeout=WAIT_S)


# -- the store


class Plain:
    """A state of an app's own, without ledgers."""

    def open(self, pool: str) -> Plain:
        return self

    def listen(self, pool: str) -> Plain:
        return self

    def put(self, key: str, value: str, ttl_s: float) -> None:
        pass

    def get(self) -> Mapping[str, Lying]:
        return {}

    def wait(self, timeout_s: float) -> bool:
        threading.Event().wait(timeout_s)
        return False

    def close(self) -> None:
        pass


class Contended(Plain):
    """One whose ledgers somebody else changes each time; or that raises, or hangs."""

    def __init__(self, refuses: int = 10**6) -> None:
        self.fails: Callable[[], object] | None = None
        self.refuses = refuses
        self.reads = 0

    def read(self, key: str) -> Held:
        self.reads += 1
        if self.fails is not None:
            self.fails()
        return Held(None, "", 100.0)

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        self.refuses -= 1
        return self.refuses < 0


def test_b475_without_a_ledger_limits_are_those_of_each_process() -> None:
    """Which is told once, and holds up nobody."""
    assert not isinstance(Plain(), Ledger)
    with (
        sharing(Plain(), Limit(3, per_s=3600)) as one,
        sharing(Plain(), Limit(3, per_s=3600)) as two,
    ):
        for pool in (one, two):
            assert [who(pool) for _ in range(4)] == ["a"] * 3 + ["b"]
            assert not limit_of(pool).shared


def test_b475_where_the_ledger_is_out_of_reach_each_goes_on_alone(tmp_path: Path) -> None:
    """With one warning; and together again once it is back."""
    folder = tmp_path / "mounted"
    limit = Limit(6, per_s=3600)
    with EventRecorder() as log, sharing(SqliteState(folder / "s.db"), limit) as one:
        log.wait_for(SharedStateAway, pool=one.name, timeout=WAIT_S)
        assert [who(one) for _ in range(3)] == ["a"] * 3
        folder.mkdir()
        log.wait_for(SharedStateBack, pool=one.name, timeout=WAIT_S)
        store = SqliteState(folder / "s.db").open("web")
        while store.read('["member", "a", "requests", 3600.0]').text is None:
            who(one)
        store.close()
        with sharing(SqliteState(folder / "s.db"), limit) as two:
            served = [who(pool) for _ in range(8) for pool in (one, two)]
            assert served.count("a") <= 2


def test_b475_a_ledger_that_others_change_each_time_is_out_of_reach() -> None:
    """After so many tries; so is one that raises."""
    state = Contended()
    with EventRecorder() as log, sharing(state, Limit(6, per_s=3600)) as pool:
        assert who(pool) == "a"
        away = log.wait_for(SharedStateAway, pool=pool.name, timeout=WAIT_S)
        assert f"changed by others {MOST_TRIES} times" in away.describe()
        assert state.reads >= MOST_TRIES


def test_b475_a_ledger_that_others_change_often_is_not_out_of_reach() -> None:
    """Eight busy processes had one of them come in vain sixteen times."""
    state = Contended(refuses=MOST_TRIES - 1)
    with EventRecorder() as log, sharing(state, Limit(6, per_s=3600)) as pool:
        assert who(pool) == "a"
        assert limit_of(pool).shared
    assert not log.named(SharedStateAway)


def test_b476_what_a_pool_holds_at_its_end_is_given_back(state: SqliteState) -> None:
    """Its successor has all that it has not spent."""
    limit = Limit(10, per_s=3600)
    with sharing(state, limit) as one:
        assert who(one) == "a"
    with sharing(state, limit) as two:
        served = [who(two) for _ in range(12)]
        assert served == ["a"] * 9 + ["b"] * 3
