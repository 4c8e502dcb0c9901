"""Shared state in a real NATS server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_nats import free_port, nats_server, needs_nats
from helpers_pools import WAIT_S

from greenroom.shared import NatsState, SharedState
from greenroom.shared.named_state import shared_state
from greenroom.shared.nats_state import _seconds, _token

NAMES = ["a", "b c", "ä.*>", "x" * 200, "\U0001f600" * 200]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[NatsState]:
    port = free_port()
    with nats_server(tmp_path, port):
        yield NatsState(f"nats://127.0.0.1:{port}")


def test_b460_a_word_lies_in_nats_as_long_as_it_holds(state: NatsState) -> None:
    """For the pools of that name alone, whatever the names have in them; the last word is the one.

    How long is left is told by the server's clock, so another connection knows it as well.
    """
    assert isinstance(state, SharedState)
    one, two, other = state.open("web"), state.open("web"), state.open("w b.>")
    try:
        assert one.get() == {}
        for name in NAMES:
            one.put(f"breaker/{name}", "first", 10.0)
            one.put(f"breaker/{name}", f"of {name}", 50.0)
        other.put("breaker/a", "elsewhere", 50.0)
        one.put("rest/a", "over at once", 1e-9)
        for store in (one, two):
            found = store.get()
            assert {key: each.value for key, each in found.items()} == {
                f"breaker/{name}": f"of {name}" for name in NAMES
            }
            assert all(0 < each.left_s <= 50.0 for each in found.values())
        assert [each.value for each in other.get().values()] == ["elsewhere"]
    finally:
        for store in (one, two, other):
            store.close()


def test_b460_a_ledger_in_nats_is_replaced_by_one_at_a_time(state: NatsState) -> None:
    """Whoever has an older revision does not; none of it is among the words."""
    one, two = state.open("web"), state.open("web")
    try:
        nothing = one.read("a limit")
        assert nothing.text is None
        assert one.replace("a limit", "first", nothing.revision, 60.0)
        assert not two.replace("a limit", "too late", nothing.revision, 60.0)
        held = two.read("a limit")
        assert held.text == "first"
        assert held.now >= nothing.now
        assert two.replace("a limit", "second", held.revision, 60.0)
        assert not one.replace("a limit", "too late", held.revision, 60.0)
        assert one.read("a limit").text == "second"
        assert one.read("another").text is None
        assert one.get() == {}
    finally:
        one.close()
        two.close()


def test_b460_news_in_nats_are_heard_at_once_and_a_wait_can_be_ended(state: NatsState) -> None:
    """Of that pool alone; `close` may come from another thread."""
    store, news = state.open("web"), state.listen("web")
    other = state.open("other")
    try:
        other.put("rest/a", "x", 10.0)
        store.put("rest/a", "x", 10.0)
        assert news.wait(WAIT_S)
        assert not news.wait(0.01)
        waits = threading.Thread(target=news.wait, args=(WAIT_S,))
        waits.start()
        news.close()
        waits.join(WAIT_S)
        assert not waits.is_alive()
        assert not news.wait(0.0)
    finally:
        news.close()
        store.close()
        other.close()


def test_b460_a_nats_that_is_away_or_forgets_is_an_error_and_a_new_connection_finds_all(
    tmp_path: Path,
) -> None:
    """Its bucket is made anew: what was in it was in memory."""
    port = free_port()
    state = NatsState(f"nats://127.0.0.1:{port}", timeout_s=0.5)
    with pytest.raises(Exception, match=r"Connect|refused"):
        state.open("web")
    with nats_server(tmp_path, port):
        store, news = state.open("web"), state.listen("web")
        store.put("rest/a", "x", 10.0)
    with pytest.raises(Exception, match=r"\w"):
        store.get()
    with pytest.raises(Exception, match=r"\w"):
        while True:
            news.wait(0.05)
    store.close()
    news.close()
    with nats_server(tmp_path, port):
        again = state.open("web")
        assert again.get() == {}
        again.put("rest/a", "y", 10.0)
        assert again.get()["rest/a"].value == "y"
        again.close()


def test_b460_a_nats_without_jetstream_says_so(tmp_path: Path) -> None:
    """And one that wants a password says no more than that."""
    port = free_port()
    with nats_server(tmp_path, port, "--user", "me", "--pass", "s3cret"):
        with pytest.raises(Exception, match=r"(?i)authorization violation") as refused:
            NatsState(f"nats://me:wrong@127.0.0.1:{port}").open("web")
        assert "wrong" not in str(refused.value)
        NatsState(f"nats://me:s3cret@127.0.0.1:{port}").open("web").close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NatsState("nats://me:secret@"), "url must name hosts"),
        (lambda: NatsState("nats://secret@a/w"), "url must name no subject"),
        (lambda: NatsState("nats://secret@a", prefix="a.b"), "prefix must be a name of a bucket"),
        (lambda: NatsState("nats://secret@a", replicas=0), "replicas must be at least 1"),
        (lambda: NatsState("nats://secret@a", timeout_s=0), "timeout_s must be greater than 0"),
    ],
)
def test_b460_what_is_no_nats_state_is_refused(make: object, says: str) -> None:
    """By its field, and without what may be a password."""
    assert callable(make)
    with pytest.raises((TypeError, ValueError), match=says) as refused:
        make()
    assert "secret" not in str(refused.value)


def test_b460_nats_by_its_text() -> None:
    """As in a pool file."""
    needs_nats()
    for text in ("nats://me:secret@a", "tls://a"):
        made = shared_state("shared", text)
        assert made == NatsState(text)
        assert "secret" not in repr(made)


def test_b460_times_and_names_of_the_server() -> None:
    """Nine digits of a second, or none; and what a subject must not have in it."""
    assert _seconds("1970-01-01T00:00:01.123456789Z") == pytest.approx(1.123456789)
    assert _seconds("1970-01-01T00:01:00Z") == 60.0
    assert _token("a-b_C9") == "a-b_C9"
    assert len({_token(name) for name in NAMES}) == len(NAMES)
    assert all(not set(_token(name)) & set(" .*>") for name in NAMES)
