"""Pools that share: `AgentPool.start(..., shared=...)`, files, forks, a store that goes away."""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from helpers_forks import needs_fork, script
from helpers_messages import refused
from helpers_pools import WAIT_S, echo, ranked

from greenroom import AgentPool, Member, PoolConfig, PoolRef, Request
from greenroom.events import (
    BreakerClosed,
    BreakerOpened,
    Event,
    MemberHeard,
    MemberResting,
    SharedStateAway,
    SharedStateBack,
)
from greenroom.kinds import PoolFileError
from greenroom.shared import RedisState, SharedState, SqliteState
from greenroom.shared.named_state import shared_state
from greenroom.shared.sqlite_state import BOOT, host_now
from greenroom.shared.state_store import Said, Word
from greenroom.testing import EventRecorder, http_error

E = TypeVar("E", bound=Event)

FAST: dict[str, Any] = {
    "circuit_failure_threshold": 2,
    "circuit_reset_timeout_s": 1.0,
    "circuit_success_threshold": 1,
}


class Provider:
    """What is one and the same for all pools: alive or dead.

    Attributes:
        calls: by whom it was called.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[str] = []

    def agent(self, who: str) -> Any:
        def call(payload: Any) -> Any:
            self.calls.append(who)
            if self.error is not None:
                raise self.error
            return payload

        return call


@contextmanager
def sharing(state: SharedState | str, agent: Any = echo, **config: Any) -> Iterator[PoolRef]:
    """A pool of the name "web", whose first member is shared."""
    pool = AgentPool.start(
        ranked(a=agent, b=echo),
        strategy="priority",
        config=PoolConfig(**(FAST | config)),
        name="web",
        rng=random.Random(1),
        shared=state,
    )
    try:
        yield pool
    finally:
        pool.stop(timeout=WAIT_S)


def who(pool: PoolRef) -> str:
    return pool.ask(Request("x"), timeout=WAIT_S).member


def until(log: EventRecorder, pool: PoolRef, kind: type[E]) -> E:
    return log.wait_for(kind, pool=pool.name, timeout=WAIT_S)


# -- two pools


def test_b408_a_fault_that_one_pool_finds_is_known_to_the_other(tmp_path: Path) -> None:
    """It calls the member no more, though it never failed there; and is told when it is back."""
    state, provider = SqliteState(tmp_path / "state.db"), Provider()
    with (
        EventRecorder() as log,
        sharing(state, provider.agent("one")) as one,
        sharing(state, provider.agent("two")) as two,
    ):
        provider.error = http_error(503)
        while not log.named(BreakerOpened):
            assert who(one) == "b"
        who(one)  # another member answers: it is not one's own network
        opened = until(log, two, BreakerOpened)
        assert opened.heard
        heard = until(log, two, MemberHeard)
        assert heard.source.endswith(f":{os.getpid()}")
        assert [who(two) for _ in range(5)] == ["b"] * 5
        assert "two" not in provider.calls
        provider.error = None
        while not log.named(BreakerClosed, pool=one.name):
            who(one)
        assert until(log, two, BreakerClosed).heard
        assert who(two) == "a"


def test_b408_a_429_of_one_pool_rests_the_other(tmp_path: Path) -> None:
    """As long as it has asked for; and a pool that comes later rests for what is left of that."""
    state, provider = SqliteState(tmp_path / "state.db"), Provider()
    provider.error = http_error(429, retry_after_s=600.0)
    with (
        EventRecorder() as log,
        sharing(state, provider.agent("one")) as one,
        sharing(state) as two,
    ):
        assert who(one) == "b"
        resting = until(log, two, MemberResting)
        assert resting.heard
        assert 500.0 < resting.rests_s <= 600.0
        assert who(two) == "b"
        with sharing(state) as three:
            assert 500.0 < until(log, three, MemberResting).rests_s <= 600.0
            assert who(three) == "b"


def test_b408_what_is_only_observed_or_held_by_hand_is_not_told(tmp_path: Path) -> None:
    """A rest that comes after it is: so what was told before it has come."""
    state, provider = SqliteState(tmp_path / "state.db"), Provider()
    with (
        EventRecorder() as log,
        sharing(state, provider.agent("one"), circuit="observe") as one,
        sharing(state) as two,
    ):
        one.force_open("a")
        one.reset_member("a")
        one.disable_breaker("a")
        one.reset_member("a")
        provider.error = http_error(503)
        while not log.named(BreakerOpened, pool=one.name)[1:]:
            assert who(one) == "b"
        assert log.named(BreakerOpened, pool=one.name)[1].observed
        for _ in range(3):
            who(one)
        provider.error = http_error(429, retry_after_s=600.0)
        while not log.named(MemberResting, pool=one.name):
            who(one)
        assert until(log, two, MemberResting).heard
        assert not log.named(BreakerOpened, pool=two.name)


def test_b408_pools_of_other_names_share_nothing(tmp_path: Path) -> None:
    """In the same file."""
    state = SqliteState(tmp_path / "state.db")
    store = state.open("another")
    word = Word(Said.OPEN, "x", 1, "host:1")
    store.put("breaker/a", word.text(), 600.0)
    assert set(store.get()) == {"breaker/a"}
    with sharing(state) as pool:
        assert not state.open("web").get()
        assert who(pool) == "a"
    store.close()


def test_b408_threads_and_connection_end_with_the_pool(tmp_path: Path) -> None:
    """Which waits a second for that at most."""
    with sharing(SqliteState(tmp_path / "state.db")) as pool:
        names = {each.name for each in threading.enumerate()}
        assert {f"greenroom-{pool.name}-shared", f"greenroom-{pool.name}-shared-news"} <= names
        who(pool)
    left = [each for each in threading.enumerate() if "-shared" in each.name]
    for each in left:
        each.join(WAIT_S)
    assert not [each for each in left if each.is_alive()]


# -- the store


def test_b409_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """And so are those that SQLite puts beside it."""
    state = SqliteState(tmp_path / "state.db")
    store = state.open("web")
    store.put("breaker/a", "x", 1.0)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or os.name == "nt"
    store.close()


def test_b409_a_word_is_there_as_long_as_it_holds_and_not_after_a_reboot(tmp_path: Path) -> None:
    """The clock starts anew with the host: what was said in the future was said before that."""
    state = SqliteState(tmp_path / "state.db")
    store, news = state.open("web"), state.listen("web")
    store.put("breaker/a", "old", 600.0)
    store.put("breaker/a", "new", 600.0)
    store.put("breaker/b", "over", 1e-9)
    found = store.get()
    assert {key: each.value for key, each in found.items()} == {"breaker/a": "new"}
    assert 590.0 < found["breaker/a"].left_s <= 600.0
    assert news.wait(WAIT_S)
    now = host_now()
    for boot, at in (("another boot", now), (BOOT, now + 50.0)):
        store._words.connected().execute("UPDATE words SET boot = ?, said_at = ?", (boot, at))
        assert not store.get()
    news.close()
    assert not news.wait(WAIT_S)
    store.close()


def test_b409_where_the_store_is_away_the_pool_goes_on_alone(tmp_path: Path) -> None:
    """One warning, however long that is; and one word when it is back, with what was found out."""
    folder = tmp_path / "mounted"
    provider = Provider()
    with (
        EventRecorder() as log,
        sharing(SqliteState(folder / "s.db"), provider.agent("one")) as one,
    ):
        away = until(log, one, SharedStateAway)
        assert away.severity() == "WARNING"
        assert away.describe().startswith("alone: ")
        provider.error = http_error(429, retry_after_s=600.0)
        assert who(one) == "b"
        folder.mkdir()
        until(log, one, SharedStateBack)
        with sharing(SqliteState(folder / "s.db")) as two:
            assert until(log, two, MemberResting).heard
        assert len(log.named(SharedStateAway, pool=one.name)) == 1


def test_b480_a_file_that_is_deleted_under_pools_splits_them_not(tmp_path: Path) -> None:
    """What one has found out before is said again in the new one, and heard by who comes later."""
    state, provider = SqliteState(tmp_path / "state.db"), Provider()
    provider.error = http_error(429, retry_after_s=600.0)
    with EventRecorder() as log, sharing(state, provider.agent("one")) as one:
        assert who(one) == "b"
        until(log, one, MemberResting)
        store = state.open("web")
        while not store.get():
            time.sleep(0.01)
        for path in list(tmp_path.iterdir()):
            path.unlink()
        with sharing(state) as two:
            assert until(log, two, MemberResting).heard
            assert not log.named(SharedStateAway)
        store.close()


# -- what is given


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: shared_state("shared", "state.db"), "shared must be 'sqlite:PATH', 'redis://"),
        (lambda: shared_state("shared", "sqlite:"), "shared must be 'sqlite:PATH'"),
        (lambda: shared_state("shared", 7), "TypeError: shared must be a SqliteState"),
        (lambda: shared_state("shared", SqliteState), "TypeError: shared must be a SqliteState"),
        (lambda: SqliteState(""), "path must not be empty"),
        (lambda: SqliteState(3), "TypeError: path must be a path"),  # type: ignore[arg-type]
        (lambda: SqliteState(":memory:"), "path must be that of a file"),
        (lambda: RedisState("http://x"), "url must begin with redis://"),
        (
            lambda: RedisState("redis://:secret/x@h:1/0"),
            "url must be one that redis-py understands",
        ),
        (lambda: RedisState("redis://x", timeout_s=0), "timeout_s must be greater than 0"),
    ],
)
def test_b410_what_is_no_shared_state_is_refused(make: Any, said: str) -> None:
    """With the field and the rule, before anything is started."""
    pytest.importorskip("redis")
    assert said in refused(make)
    assert "secret" not in refused(make)
    assert "secret" not in repr(RedisState("redis://:secret@host"))
    assert "secret" not in refused(lambda: shared_state("shared", "rodis://:secret@host"))


def test_b410_a_path_is_that_of_the_moment_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may be elsewhere later."""
    monkeypatch.chdir(tmp_path)
    assert SqliteState("state.db") == SqliteState(tmp_path / "state.db")
    assert shared_state("shared", "sqlite:state.db") == SqliteState(tmp_path / "state.db")


def test_b410_a_file_says_where_its_pools_share(tmp_path: Path) -> None:
    """And a running one stays by that."""
    text = """
[pool]
name = "web"
shared = "sqlite:{where}"

[[members]]
name = "a"
kind = "python"
agent = "builtins:str"
"""
    file = tmp_path / "pool.toml"
    file.write_text(text.format(where=(tmp_path / "state.db").as_posix()))
    state = SqliteState(tmp_path / "state.db")
    with EventRecorder() as log, AgentPool.from_toml(file) as pool:
        store = state.open("web")
        store.put("breaker/a", Word(Said.OPEN, "x", 1, "host:1").text(), 600.0)
        assert until(log, pool, MemberHeard).source == "host:1"
        store.close()
        file.write_text(text.format(where="other.db"))
        with pytest.raises(PoolFileError, match=r"pool\.shared cannot change while the pool runs"):
            pool.reload()
    file.write_text(text.replace("sqlite:{where}", "mysql://x"))
    with pytest.raises(PoolFileError, match="shared must be 'sqlite:PATH'"):
        AgentPool.from_toml(file)


def test_b410_members_that_a_pool_has_not_are_nothing_to_it(tmp_path: Path) -> None:
    """Another version of the app may have them."""
    state = SqliteState(tmp_path / "state.db")
    store = state.open("web")
    with EventRecorder() as log, sharing(state) as pool:
        store.put("breaker/gone", Word(Said.OPEN, "x", 1, "host:1").text(), 600.0)
        store.put("rest/ ", Word(Said.COOLING, "x", 2, "host:1").text(), 600.0)
        store.put("rest/gone", Word(Said.COOLING, "x", 2, "host:1").text(), 600.0)
        store.put("breaker/a", Word(Said.OPEN, "x", 3, "host:1").text(), 600.0)
        until(log, pool, MemberHeard)
        assert who(pool) == "b"
    store.close()


# -- processes


@needs_fork
def test_b411_each_process_of_a_fork_has_threads_of_its_own(tmp_path: Path) -> None:
    """A pool a process, one file; what the child says is heard in the parent, whose connection is
    its own whatever becomes of the child.
    """
    said = script(f"""
    from greenroom.shared import SqliteState
    from greenroom.testing import http_error

    state = SqliteState({os.fspath(tmp_path / "state.db")!r})

    def throttled(payload):
        raise http_error(429, retry_after_s=600.0)

    def pool(agent):
        members = [Member("a", agent), Member("b", str, priority=1)]
        return AgentPool.start(members, strategy="priority", name="web", shared=state)

    POOL = PoolPerProcess(lambda: pool(str if os.getpid() == parent else throttled))
    parent = os.getpid()
    first = POOL().ask(Request("x"), timeout=20).member
    heard = threading.Event()
    POOL().on_event(lambda event: heard.set() if event.name == "member.heard" else None)

    def child():
        note("member", lambda: POOL().ask(Request("x"), timeout=20).member)
        gc.collect()
        POOL.stop()

    theirs, _ = forked(child)
    there = heard.wait(20)
    tell([first, theirs, there, POOL().ask(Request("x"), timeout=20).member])
    """)
    assert said == ["a", {"member": ["returned", "'b'"]}, True, "b"]


def test_b408_a_pool_of_one_member_shares_its_rests(tmp_path: Path) -> None:
    """Though its openings are nobody else's."""
    state = SqliteState(tmp_path / "state.db")
    with EventRecorder() as log:
        one = AgentPool.start([Member("a", echo)], name="solo", shared=state)
        store = state.open("solo")
        store.put("rest/a", Word(Said.COOLING, "x", 1, "host:1").text(), 600.0)
        assert until(log, one, MemberResting).heard
        one.stop()
        store.close()
