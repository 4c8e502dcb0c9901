"""The stores of what processes share: each keeps the same promises, whatever else lies in it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_messages import refused
from helpers_stores import (
    PASSWORD,
    any_store,
    dsn,
    free_port,
    needs_postgres,
    needs_redis,
    postgres_data,
    postgres_server,
    redis_server,
)

from greenroom.shared import Ledger, PostgresState, RedisState, SharedState, SqliteState
from greenroom.shared.named_state import shared_state
from greenroom.shared.state_store import Said, Word, key_of

SOON_S = 20.0


@pytest.fixture(params=["sqlite", "redis", "postgres", "nats"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedState]:
    with any_store(request.param, tmp_path) as text:
        yield shared_state("shared", text)


@pytest.fixture
def postgres() -> Iterator[tuple[PostgresState, Any]]:
    """A state, and the process of its server."""
    needs_postgres()
    port = free_port()
    with postgres_data() as data, postgres_server(data, port) as server:
        yield PostgresState(dsn(port)), server


# -- each of them


def test_b478_a_word_lies_there_as_long_as_it_holds(state: SharedState) -> None:
    """Of that pool alone; the last one is there."""
    store, other = state.open("web"), state.open("web'; DROP TABLE words --")
    store.put("breaker/a b'%", "old", 600.0)
    store.put("breaker/a b'%", "n\u00e9w % {}", 600.0)
    store.put("breaker/b", "over", 0.001)
    until = time.monotonic() + SOON_S
    while set(store.get()) != {"breaker/a b'%"}:
        assert time.monotonic() < until
    (lying,) = store.get().values()
    assert lying.value == "n\u00e9w % {}"
    assert 500.0 < lying.left_s <= 600.0
    assert not other.get()
    store.close()
    other.close()


def test_b478_a_ledger_is_changed_in_one_step(state: SharedState) -> None:
    """By one of two that have read the same; no word is seen in it; its time never goes back."""
    one, two = state.open("web"), state.open("web")
    assert isinstance(one, Ledger)
    assert isinstance(two, Ledger)
    key = json.dumps(["member", "a'b", "requests", 1.0])
    held = one.read(key)
    assert held.text is None
    assert one.replace(key, "first", held.revision, 60.0)
    assert not two.replace(key, "second", held.revision, 60.0)
    again = two.read(key)
    assert again.text == "first"
    assert again.now >= held.now
    assert two.replace(key, "second", again.revision, 60.0)
    assert not one.replace(key, "third", again.revision, 60.0)
    assert one.read(key).text == "second"
    assert not one.get()
    one.close()
    two.close()


def test_b478_many_at_once_lose_nothing(state: SharedState) -> None:
    """Six threads count to twenty each, by compare and set alone."""

    def count() -> None:
        store = state.open("web")
        assert isinstance(store, Ledger)
        for _ in range(20):
            while True:
                held = store.read("counter")
                if store.replace("counter", str(int(held.text or 0) + 1), held.revision, 60.0):
                    break
        store.close()

    threads = [threading.Thread(target=count) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    store = state.open("web")
    assert isinstance(store, Ledger)
    assert store.read("counter").text == "120"
    store.close()


def test_b478_news_hasten_what_is_found_all_the_same(state: SharedState) -> None:
    """Of that pool; and who listens ends soon after it is told to."""
    store, news = state.open("web"), state.listen("web")
    assert not news.wait(0.01)
    store.put("breaker/a", "x", 60.0)
    until = time.monotonic() + SOON_S
    while not news.wait(0.1):
        assert time.monotonic() < until
    news.close()
    store.close()


# -- what somebody else has put there


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '[1, "open", "x", 1, ["host"], null]',
        '[1, "open", "x", true, "host", null]',
        '[true, "open", "x", 1, "host", null]',
        '[1, "open", "x", 1e400, "host", null]',
        '[1, "open", ["x"], 1, "host", null]',
        '[1, ["open"], "x", 1, "host", null]',
        '[1, "open", "x", 1, "host", {"a": 1}]',
        '[1, "open", "x", 1, "host"]',
        "[" + "9" * 5000 + "]",
        "\ud800",
    ],
)
def test_b481_what_is_no_word_is_passed_over(text: str) -> None:
    """However deep it is, and whatever its parts are."""
    assert Word.read(text) is None


def test_b481_what_is_no_text_is_passed_over(tmp_path: Path) -> None:
    """A file of SQLite's holds values of any kind, whatever a column says."""
    state = SqliteState(tmp_path / "state.db")
    store = state.open("web")
    store.put("breaker/a", Word(Said.OPEN, "x", 1, "host:1").text(), 600.0)
    assert isinstance(store, Ledger)
    store.replace("limit", "text", "", 60.0)
    for path, change in (
        (
            "state.db",
            "INSERT INTO words SELECT pool, x'00ff', value, boot, said_at, until FROM words",
        ),
        ("state.db", "INSERT INTO words SELECT pool, 'b', x'ff', boot, said_at, until FROM words"),
        ("state.db", "INSERT INTO words SELECT pool, 'c', value, boot, said_at, 'z' FROM words"),
        ("state.db-limits", "UPDATE ledgers SET text = x'ff'"),
    ):
        db = sqlite3.connect(tmp_path / path)
        with db:
            db.execute(change + (" LIMIT 1" if change.startswith("INSERT") else ""))
        db.close()
    assert set(store.get()) == {"breaker/a"}
    assert store.read("limit").text is None
    assert key_of(b"breaker/a") is None
    store.close()


def test_b481_what_is_no_word_of_a_redis_is_passed_over(tmp_path: Path) -> None:
    """Nor what is no text at all."""
    needs_redis()
    import redis

    port = free_port()
    with redis_server(tmp_path, port):
        state = RedisState(f"redis://127.0.0.1:{port}")
        store = state.open("web")
        store.put("breaker/a", "x", 60.0)
        client = redis.Redis(port=port)
        client.hset("greenroom:web", "breaker/b", b"no time")
        client.hset("greenroom:web", b"\xff\xfe", b"nan \xff")
        client.hset("greenroom:web", "breaker/c", b"")
        assert set(store.get()) == {"breaker/a"}
        client.close()
        store.close()


# -- a file that is deleted


@pytest.mark.parametrize("all_of_it", [True, False])
def test_b480_a_file_that_is_deleted_is_left_for_the_new_one(
    tmp_path: Path, all_of_it: bool
) -> None:
    """By who has it open, with the next word: whoever comes later has the same one. Without what
    lies beside it as well.
    """
    state = SqliteState(tmp_path / "state.db")
    before = state.open("web")
    before.put("breaker/a", "x", 60.0)
    for path in list(tmp_path.iterdir()):
        if all_of_it or path.name == "state.db":
            path.unlink()
    after = state.open("web")
    before.put("breaker/b", "x", 60.0)
    after.put("breaker/c", "x", 60.0)
    for store in (before, after, state.open("web")):
        assert {"breaker/b", "breaker/c"} <= set(store.get())
    db = sqlite3.connect(tmp_path / "state.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0 or os.name == "nt"
    before.close()
    after.close()


# -- PostgreSQL


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PostgresState(""), "dsn must not be empty"),
        (lambda: PostgresState(3), "TypeError: dsn must be a string"),  # type: ignore[arg-type]
        (lambda: PostgresState("postgresql://u:secret@h:port/db?x"), "dsn must be one that libpq"),
        (lambda: PostgresState("postgresql://x", prefix="a-b"), "prefix must be a name of a table"),
        (lambda: PostgresState("postgresql://x", prefix="x" * 41), "at most 40 of a-z"),
        (lambda: PostgresState("postgresql://x", timeout_s=0), "timeout_s must be greater than 0"),
    ],
)
def test_b479_what_is_no_postgres_is_refused(make: Any, said: str) -> None:
    """With the field and the rule, and no password."""
    pytest.importorskip("psycopg")
    assert said in refused(make)
    assert "secret" not in refused(make)
    assert "secret" not in repr(PostgresState("postgresql://u:secret@host/db"))
    for text in ("postgres://u:p@h/db", "postgresql://u:p@h/db"):
        assert shared_state("shared", text) == PostgresState(text)


def test_b479_a_password_is_in_no_error() -> None:
    """Of a server that is not there, nor of one that refuses it."""
    needs_postgres()
    port = free_port()
    with pytest.raises(ConnectionError) as away:
        PostgresState(dsn(port)).open("web")
    wrong_one = f"postgresql://greenroom:swordfish@127.0.0.1:{port}/postgres"
    with (
        postgres_data() as data,
        postgres_server(data, port),
        pytest.raises(ConnectionError) as wrong,
    ):
        PostgresState(wrong_one).open("web")
    assert PASSWORD not in repr(away.value)
    assert "swordfish" not in repr(wrong.value)
    assert wrong.value.__cause__ is None


def test_b479_its_tables_are_made_once_whoever_comes_first(
    postgres: tuple[PostgresState, Any],
) -> None:
    """Eight at the same time, with a prefix of their own."""
    state = PostgresState(postgres[0].dsn, prefix="mine")
    faults: list[BaseException] = []

    def come() -> None:
        try:
            state.open("web").close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not faults
    store = state.open("web")
    store.put("breaker/a", "x", 60.0)
    other = postgres[0].open("web")
    assert not other.get()
    other.close()
    store.close()


def test_b479_a_server_that_stands_still_is_away_in_time(
    postgres: tuple[PostgresState, Any],
) -> None:
    """Though its connection is there: it is told by no error of the network."""
    import psutil

    state, server = postgres
    store = state.open("web")
    store.put("breaker/a", "x", 60.0)
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for each in family:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            store.get()
        assert time.monotonic() < began + SOON_S
    finally:
        for each in family:
            os.kill(each.pid, signal.SIGCONT)
    store.close()
    again = state.open("web")
    assert set(again.get()) == {"breaker/a"}
    again.close()


def test_b479_who_holds_a_row_holds_up_nobody_for_long(
    postgres: tuple[PostgresState, Any],
) -> None:
    """A client that is stopped in the middle of a transaction is put out by the server, and who
    waits for it is told in time.
    """
    import psycopg

    state, _ = postgres
    store = state.open("web")
    assert isinstance(store, Ledger)
    assert store.replace("limit", "one", "", 60.0)
    held = store.read("limit")
    stopped = state._connection()
    stopped.execute("BEGIN")
    stopped.execute("UPDATE greenroom_limits SET text = 'mine'")
    until = time.monotonic() + SOON_S
    while True:
        try:
            assert store.replace("limit", "two", held.revision, 60.0)
            break
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
            assert time.monotonic() < until
        except TimeoutError:  # a server that has no turn in time
            assert time.monotonic() < until
            store.close()
            store = state.open("web")
            assert isinstance(store, Ledger)
    assert store.read("limit").text == "two"
    stopped.close()
    store.close()
