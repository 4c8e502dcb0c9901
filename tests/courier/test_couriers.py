"""What every engine promises: one in memory, and real servers on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers_courier import MemoryCourier, free_port, need, server, url_of
from helpers_messages import refused
from helpers_processes import PROCESS_S, stopped

from greenroom import JetStream, RedisStreams
from greenroom.courier import Courier, CourierRules
from greenroom.courier.courier_store import (
    Again,
    Bury,
    CourierStore,
    Done,
    QueueFullError,
    Reason,
    Receipt,
    Record,
    RefusedError,
)
from greenroom.courier.named_courier import courier as named

RULES = CourierRules(max_queue=5, lease_s=0.6, timeout_s=5.0)
WAIT_S = 20.0


def made(engine: str, port: int, **settings: float) -> Courier:
    """A courier whose server is there, or will be."""
    kind = RedisStreams if engine == "redis" else JetStream
    rules = {"max_queue": 5, "lease_s": 0.6, "timeout_s": 5.0} | settings
    return kind(url_of(engine, port), **rules)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "redis", "nats"])
def courier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Courier]:
    """An engine that is there."""
    if request.param == "memory":
        memory = MemoryCourier(RULES)
        stop = threading.Event()

        def goes_by() -> None:
            while not stop.wait(0.01):
                memory.move("web", 0.01)

        thread = threading.Thread(target=goes_by)
        thread.start()
        yield memory
        stop.set()
        thread.join()
        return
    need(request.param)
    port = free_port()
    with server(request.param, tmp_path, port):
        yield made(request.param, port)


@pytest.fixture
def store(courier: Courier) -> Iterator[CourierStore]:
    """A connection to it."""
    store = courier.open("web")
    yield store
    store.close()


def one(store: CourierStore) -> Receipt:
    """The next that is due, waited for."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        found = store.receive(1, 0.5)
        if found:
            return found[0]
    raise AssertionError("nothing has come")


def test_b496_what_is_put_is_received_and_forgotten_when_done(store: CourierStore) -> None:
    """In order, at most so many, each of them counted once; a second word of it changes nothing."""
    for name in "abc":
        store.put(name, name.encode() * 3)
    first = [one(store)]
    while len(first) < 3:
        first += store.receive(3 - len(first), 0.5)
    assert [each.request_id for each in first] == ["a", "b", "c"]
    assert [each.body for each in first] == [b"aaa", b"bbb", b"ccc"]
    assert {each.record for each in first} == {Record(1, 0)}
    store.settle([Done(each) for each in first])
    store.settle([Done(first[0])])
    assert not store.receive(5, 1.2)


def test_b496_the_same_id_is_the_same_tell(store: CourierStore) -> None:
    """So who does not know whether it is stored tells it once more; odd ids are ids, too."""
    odd = "über/π *.> id"
    for _ in range(3):
        store.put(odd, b"x")
    found = one(store)
    assert found.request_id == odd
    assert not store.receive(5, 0.2)
    store.settle([Done(found)])
    store.put(odd, b"x")
    assert not store.receive(5, 0.2)


def test_b497_a_full_queue_is_an_error(courier: Courier, store: CourierStore) -> None:
    """Never a silent loss, of neither the new one nor an old one; those in hand count."""
    for at in range(5):
        store.put(f"t{at}", b"x")
    held = one(store)
    with pytest.raises(QueueFullError):
        store.put("t5", b"x")
    store.settle([Done(held)])
    store.put("t5", b"x")
    found: set[str] = set()
    while len(found) < 5:
        receipt = one(store)
        found.add(receipt.request_id)
        store.settle([Done(receipt)])
    assert found == {"t1", "t2", "t3", "t4", "t5"}


def test_b498_again_is_not_before_its_time_and_brings_its_record_along(
    store: CourierStore,
) -> None:
    """With the next delivery counted on receipt."""
    store.put("a", b"x")
    known = Record(1, 1, (Reason(1, 5.0, "m: unknown (OSError)"),))
    began = time.monotonic()
    store.settle([Again(one(store), 0.8, known)])
    found = one(store)
    assert time.monotonic() - began > 0.7
    assert found.record == replace(known, deliveries=2)
    store.settle([Again(found, 0.0, Record(1, 1, known.reasons))])  # uncounted
    found = one(store)
    assert found.record == replace(known, deliveries=2)
    store.settle([Done(found)])


def test_b498_who_is_gone_is_followed_and_who_is_at_work_is_not(
    courier: Courier, store: CourierStore
) -> None:
    """By the lease; counted on receipt, and what the late one says of it does no harm."""
    store.put("a", b"x")
    held = one(store)
    other = courier.open("web")
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            store.extend([held])
            assert not other.receive(1, 0.1)
        found = one(other)
        assert found.record == Record(2, 0)
        store.settle([Again(held, 60.0, Record(1, 1))])
        other.settle([Done(found)])
        store.settle([Done(held)])
        assert not other.receive(1, 1.0)
    finally:
        other.close()


def test_b498_who_is_connected_anew_keeps_what_it_has(
    courier: Courier, store: CourierStore
) -> None:
    """A connection that breaks while an agent is at work has nobody else begin on it as well."""
    store.put("a", b"x")
    anew, other = courier.open("web"), courier.open("web")
    try:
        held = one(store)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            anew.extend([held])
            assert not other.receive(1, 0.1)
        anew.settle([Done(held)])
        assert not other.receive(1, 1.0)
    finally:
        anew.close()
        other.close()


def test_b499_the_dead_are_kept_until_somebody_says_what_becomes_of_them(
    store: CourierStore,
) -> None:
    """The oldest first; one that is retried is as new, one that is dropped is gone."""
    for at, name in enumerate("ab"):
        store.put(name, name.encode())
        record = Record(3, 3, (Reason(3, 1.0, f"why π {name}"),))
        store.settle([Bury(one(store), record, 10.5 - at)])
    assert not store.receive(1, 1.0)
    dead = store.dead()
    assert [(each.request_id, each.died_at, each.body) for each in dead] == [
        ("b", 9.5, b"b"),
        ("a", 10.5, b"a"),
    ]
    assert dead[0].record == Record(3, 3, (Reason(3, 1.0, "why π b"),))
    assert [store.revive("a"), store.revive("a"), store.revive("nobody")] == [True, False, False]
    found = one(store)
    assert (found.request_id, found.body, found.record) == ("a", b"a", Record(1, 0))
    store.settle([Done(found)])
    assert [store.drop("b"), store.drop("b")] == [True, False]
    assert not store.dead()


def test_b499_pools_of_other_names_have_queues_of_their_own(courier: Courier) -> None:
    """Also where the names are no words, or differ in case alone."""
    names = ["web", "Web", "a pool.of > mine", "a pool.of > yours"]
    stores = [courier.open(name) for name in names]
    try:
        for name, store in zip(names, stores, strict=True):
            store.put("id", name.encode())
        for name, store in zip(names, stores, strict=True):
            assert one(store).body == name.encode()
    finally:
        for store in stores:
            store.close()


@pytest.mark.parametrize("engine", ["redis", "nats"])
def test_b500_a_server_that_is_killed_loses_nothing(engine: str, tmp_path: Path) -> None:
    """What was stored, settled and counted; who has the broken connection is told."""
    need(engine)
    port = free_port()
    with server(engine, tmp_path, port):
        store = made(engine, port, max_queue=100).open("web")
        for at in range(20):
            store.put(f"t{at}", b"x")
        for _ in range(5):
            store.settle([Done(one(store))])
        buried = one(store)
        store.settle([Bury(buried, Record(1, 1), 1.0)])
        again = one(store)
        store.settle([Again(again, 0.0, Record(1, 1))])
    with pytest.raises(Exception):  # noqa: B017 - whatever the client raises: it is of no use
        store.put("late", b"x")
    store.close()
    with server(engine, tmp_path, port):
        store = made(engine, port, max_queue=100).open("web")
        found: dict[str, Record] = {}
        while len(found) < 14:
            receipt = one(store)
            found.setdefault(receipt.request_id, receipt.record)
            store.settle([Done(receipt)])
        assert set(found) == {f"t{at}" for at in range(6, 20)}
        assert found[again.request_id].failures == 1
        assert [each.request_id for each in store.dead()] == [buried.request_id]
        store.close()


def test_b500_what_a_server_has_forgotten_to_have_delivered_is_settled(tmp_path: Path) -> None:
    """One that was killed never answers to an acknowledgement of that: nobody says it for ever."""
    need("nats")
    port = free_port()
    with server("nats", tmp_path, port):
        store = made("nats", port, timeout_s=1.5).open("web")
        for name in "abcd":
            store.put(name, b"x")
        first = one(store)
        reply, _, count, header = first.token

        def undelivered(name: str, sequence: int) -> Receipt:
            """As if it had been received, and the server knew nothing of it."""
            parts = reply.split(".")
            parts[5:7] = [str(sequence)] * 2
            known = name.encode().hex()
            return Receipt(name, b"x", Record(1), (".".join(parts), sequence, count, known))

        done, buried, strange = undelivered("b", 2), undelivered("c", 3), undelivered("e", 4)
        assert (first.request_id, header) == ("a", b"a".hex())
        for _ in range(2):
            store.settle([Done(done), Bury(buried, Record(1, 1), 1.0)])
        store.settle([Done(strange), Done(first)])  # that number is somebody else's
        assert one(store).request_id == "d"
        assert [each.request_id for each in store.dead()] == ["c"]
        store.close()


@pytest.mark.parametrize("engine", ["redis", "nats"])
def test_b500_nobody_waits_for_a_server_that_is_silent(engine: str, tmp_path: Path) -> None:
    """One that takes connections and says nothing more, and one that is not there at all."""
    need(engine)
    port = free_port()
    with pytest.raises(Exception):  # noqa: B017
        made(engine, port, timeout_s=1.0).open("web")
    with server(engine, tmp_path, port) as process:
        store = made(engine, port, timeout_s=1.0).open("web")
        with stopped(process):
            began = time.monotonic()
            with pytest.raises(Exception):  # noqa: B017
                store.put("a", b"x")
            with pytest.raises(Exception):  # noqa: B017
                made(engine, port, timeout_s=1.0).open("web")
            assert time.monotonic() - began < PROCESS_S
        store.close()


def test_b501_a_redis_that_loses_what_it_confirms_is_refused(tmp_path: Path) -> None:
    """Unless it is said that it is to be used all the same."""
    need("redis")
    port = free_port()
    with server("redis", tmp_path, port, aof=False):
        with pytest.raises(RefusedError, match="set `appendonly yes`, or say"):
            made("redis", port).open("web")
        forced = RedisStreams(url_of("redis", port), force=True).open("web")
        forced.put("a", b"x")
        assert one(forced).request_id == "a"
        forced.close()


def test_b501_what_is_no_courier_is_refused_without_its_password() -> None:
    """By its field; in no repr, and in no error."""
    need("redis")
    need("nats")
    assert isinstance(named("courier", "redis://h"), RedisStreams)
    assert isinstance(named("courier", "nats://h"), JetStream)
    for odd, what in (
        ("sqlite:x", "ValueError: courier must be 'nats://...' or 'redis://...', got 'sqlite':..."),
        ("", "ValueError: courier must be 'nats://...' or 'redis://...', got '':..."),
    ):
        assert refused(partial(named, "courier", odd)) == what
    assert "courier must be a JetStream, a RedisStreams" in refused(lambda: named("courier", 5))
    for kind in (JetStream, RedisStreams):
        url = f"{'nats' if kind is JetStream else 'redis'}://ann:s3cret@h"
        assert "s3cret" not in repr(kind(url))
        assert "s3cret" not in refused(partial(kind, "http://ann:s3cret@h"))
        wrong = refused(partial(kind, url, max_deliveries=0))
        assert wrong == "ValueError: max_deliveries must be at least 1, got 0"
        wrong = refused(partial(kind, url, max_backoff_s=0.5))
        assert wrong == "ValueError: max_backoff_s must be at least 1, got 0.5"
