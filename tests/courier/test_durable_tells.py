"""Pools with a courier: stored before `tell` returns, worked off by whoever runs the same one."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_courier import MemoryCourier, Shelf
from helpers_messages import refused
from helpers_pools import WAIT_S, ranked

from greenroom import (
    AgentPool,
    Drain,
    Member,
    PoolConfig,
    PoolRef,
    PoolStoppedError,
    ReentrantAskError,
    Request,
    TellNotStoredError,
)
from greenroom.courier import CourierRules
from greenroom.courier.parcel import unpacked
from greenroom.events import CourierAway, CourierBack, TellDead, TellFailed
from greenroom.testing import EventRecorder

FAST = CourierRules(max_deliveries=3, backoff_s=0.0, lease_s=30.0, timeout_s=WAIT_S)
CONFIG: dict[str, Any] = {"max_retries": 0, "circuit_reset_timeout_s": 600.0}


def told(payload: Any, **options: Any) -> Request[Any]:
    return Request(payload, durable=True, **options)


def empty(shelf: Shelf) -> bool:
    return not shelf.tells


@contextmanager
def pool_of(
    courier: MemoryCourier,
    *members: Member,
    config: dict[str, Any] | None = None,
    name: str = "web",
) -> Iterator[PoolRef]:
    pool = AgentPool.start(
        members,
        strategy="priority",
        config=PoolConfig(**(CONFIG | (config or {}))),
        name=name,
        rng=random.Random(1),
        courier=courier,
    )
    try:
        yield pool
    finally:
        pool.stop(timeout=WAIT_S)


class Works:
    """An agent that notes what it was given, and under which id."""

    def __init__(self, do: Callable[[Any], object] = lambda payload: None) -> None:
        self.had: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._do = do

    def __call__(self, payload: Any) -> Any:
        self.had.put(payload)
        return self._do(payload)

    def next(self) -> Any:
        return self.had.get(timeout=WAIT_S)


def test_b502_a_tell_is_stored_before_it_returns_and_worked_off() -> None:
    """By the pool itself, if it has members; the payload is what was told."""
    courier, agent = MemoryCourier(FAST), Works()
    with pool_of(courier, Member("a", agent)) as pool:
        pool.tell(told({"n": [1, None]}, metadata={"tenant": "x"}))
        assert agent.next() == {"n": [1, None]}
        courier.wait_for("web", empty)


def test_b502_who_has_no_members_stores_and_another_process_works_it_off() -> None:
    """Of the same name; what was stored before it started, too, and none twice."""
    courier, agent = MemoryCourier(FAST), Works()
    with pool_of(courier, name="web") as teller:
        for at in range(20):
            teller.tell(told(at))
        assert len(courier.shelf("web").tells) == 20
        other = Works()
        with (
            pool_of(courier, Member("a", other), name="batch"),
            pool_of(courier, Member("a", agent, max_concurrency=4), name="web"),
        ):
            assert sorted(agent.next() for _ in range(20)) == list(range(20))
            courier.wait_for("web", empty)
        # Two pools of one process have different names; what they share is the one that was given.
        assert other.had.empty()
    assert agent.had.empty()


def test_b502_its_id_is_that_of_every_delivery() -> None:
    """The app's own, or one that no other process makes."""
    courier = MemoryCourier(FAST)
    with pool_of(courier) as pool:
        pool.tell(told("x", request_id="order-7"))
        pool.tell(told("x", request_id="order-7"))
        pool.tell(told("x"))
        ids = [unpacked(each).request_id for each in courier.shelf("web").tells.values()]
    assert len(ids) == 2
    assert ids[0] == "order-7"
    assert str(ids[1]).startswith("web-")
    assert len(str(ids[1])) > 20


def test_b503_one_that_fails_is_retried_and_then_dead_with_its_reasons(
    greenroom_events: EventRecorder,
) -> None:
    """Each time under the same id; others are worked off meanwhile."""
    courier = MemoryCourier(FAST)

    def poison(payload: Any) -> None:
        if payload == "poison":
            raise RuntimeError("the payload is poison")

    agent = Works(poison)
    with pool_of(courier, Member("a", agent), config={"circuit_failure_threshold": 99}) as pool:
        pool.tell(told("poison", request_id="p"))
        for at in range(5):
            pool.tell(told(at))
        courier.wait_for("web", lambda shelf: empty(shelf) and "p" in shelf.graves)
        had = [agent.next() for _ in range(8)]
    assert had.count("poison") == 3
    assert sorted(each for each in had if each != "poison") == list(range(5))
    grave = courier.shelf("web").graves["p"]
    assert [each.what for each in grave.record.reasons] == ["a: unknown (RuntimeError)"] * 3
    failed = greenroom_events.named(TellFailed)
    assert [(each.request_id, each.delivery, each.of) for each in failed] == [
        ("p", 1, 3),
        ("p", 2, 3),
    ]
    (dead,) = greenroom_events.named(TellDead)
    assert (dead.request_id, dead.deliveries) == ("p", 3)
    assert "the payload" not in str([*failed, dead])


def test_b503_one_that_ends_its_process_is_dead_after_as_many_receipts() -> None:
    """Whoever had it was gone without a word: it is given no more."""
    courier, agent = MemoryCourier(FAST), Works()
    store = courier.open("web")
    with pool_of(courier) as pool:
        pool.tell(told("ends it", request_id="p"))
    for _ in range(3):  # three processes that have had it
        assert store.receive(1, 0.0)
        courier.move("web", 31.0)
    with pool_of(courier, Member("a", agent)):
        courier.wait_for("web", lambda shelf: "p" in shelf.graves)
    assert agent.had.empty()


def test_b504_without_a_member_nothing_is_received_nor_burned() -> None:
    """While the breaker is open it stays where it is; another process may have it. Once the member
    is back, it is worked off, and no delivery was counted meanwhile.
    """
    courier, broken = MemoryCourier(FAST), threading.Event()

    def away(payload: Any) -> None:
        if broken.is_set():
            raise ConnectionError("no route")

    agent = Works(away)
    broken.set()
    with pool_of(courier, Member("a", agent), config={"circuit_failure_threshold": 1}) as pool:
        pool.tell(told("x", request_id="x"))
        agent.next()  # which opens the breaker
        courier.wait_for("web", lambda shelf: shelf.settled)
        (again,) = courier.shelf("web").settled
        assert again.record.deliveries == 0  # type: ignore[union-attr]
        for at in range(10):
            pool.tell(told(at))
        courier.move("web", 3600.0)
        assert agent.had.empty()
        assert not courier.shelf("web").leased
        broken.clear()
        pool.reset_member("a")
        assert len({agent.next() for _ in range(11)}) == 11
        courier.wait_for("web", empty)
    assert not courier.shelf("web").graves


def test_b504_no_more_is_received_than_there_is_room_for() -> None:
    """What one process has no room for lies there for the others."""
    courier, gate = MemoryCourier(FAST), threading.Event()
    agent = Works(lambda payload: gate.wait(WAIT_S))
    with pool_of(courier, Member("a", agent, max_concurrency=3)) as pool:
        for at in range(20):
            pool.tell(told(at))
        for _ in range(3):
            agent.next()
        pool.stats()
        assert len(courier.shelf("web").leased) == 3
        gate.set()
        courier.wait_for("web", empty)


def test_b505_a_drain_finishes_what_was_received_and_takes_no_more() -> None:
    """What is left lies there, uncounted; a tell is stored all the same while the pool drains."""
    courier, gate = MemoryCourier(FAST), threading.Event()
    agent = Works(lambda payload: gate.wait(WAIT_S))
    with pool_of(courier, Member("a", agent)) as pool:
        for at in range(3):
            pool.tell(told(at, request_id=f"t{at}"))
        agent.next()
        drain = pool.ask(Drain(WAIT_S), block=False)
        pool.tell(told("late", request_id="late"))
        gate.set()
        assert drain.get(timeout=WAIT_S)
    shelf = courier.shelf("web")
    assert set(shelf.tells) == {"t1", "t2", "late"}
    assert not any(record.deliveries for record in shelf.records.values())


def test_b505_what_is_not_done_when_the_pool_stops_is_given_back() -> None:
    """At once and uncounted, not after its lease; threads and connection end."""
    courier, gate = MemoryCourier(FAST), threading.Event()
    agent = Works(lambda payload: gate.wait(WAIT_S))
    with pool_of(courier, Member("a", agent, max_concurrency=2)) as pool:
        for at in range(3):
            pool.tell(told(at))
        agent.next()
        agent.next()
        threading.Timer(0.2, gate.set).start()  # a thread cannot be cancelled
    shelf = courier.shelf("web")
    assert len(shelf.tells) == 3
    assert not shelf.leased
    assert not any(record.deliveries for record in shelf.records.values())
    assert courier.closed >= 1
    names = [each.name for each in threading.enumerate()]
    assert not [each for each in names if "courier" in each and "greenroom-web" in each]


def test_b506_a_courier_that_is_away_is_told_once_and_so_is_its_return(
    greenroom_events: EventRecorder,
) -> None:
    """Who tells meanwhile is told; the pool works on, and what is done meanwhile is settled."""
    courier, gate = MemoryCourier(FAST), threading.Event()
    agent = Works(lambda payload: gate.wait(WAIT_S))
    with pool_of(courier, Member("a", agent)) as pool:
        pool.tell(told("x", request_id="x"))
        agent.next()
        courier.down = True
        for _ in range(3):
            with pytest.raises(TellNotStoredError) as found:
                pool.tell(told("y"))
            assert found.value.reason == "away"
        gate.set()
        assert pool.execute("asked") is not None
        greenroom_events.wait_for(CourierAway, timeout=WAIT_S)
        courier.down = False
        courier.wait_for("web", empty)
        greenroom_events.wait_for(CourierBack, timeout=WAIT_S)
        pool.tell(told("z"))
        courier.wait_for("web", empty)
    assert len(greenroom_events.named(CourierAway)) == 1
    assert len(greenroom_events.named(CourierBack)) == 1


def test_b506_a_full_courier_is_an_error_of_its_tellers() -> None:
    """Which says so; nothing that lies there is lost."""
    courier = MemoryCourier(CourierRules(max_queue=2))
    with pool_of(courier) as pool:
        pool.tell(told(1))
        pool.tell(told(2))
        with pytest.raises(TellNotStoredError, match="is not stored, its courier is full") as found:
            pool.tell(told(3))
    assert (found.value.reason, found.value.maybe, found.value.started) == ("full", False, False)


def test_b507_what_is_wrong_is_said_at_once() -> None:
    """No courier, an ask, a payload that cannot be carried, a pool that has ended."""
    with AgentPool.start(ranked(a=str), name="web") as plain:
        said = refused(lambda: plain.tell(told("x")))
        assert said.startswith("ValueError: durable must be left out: pool 'web' has no courier")
        for ask in (
            lambda: plain.ask(told("x")),
            lambda: plain.ask(told("x"), block=False),
            lambda: plain.stream(told("x")),
            lambda: list(plain.map([told("x")])),
        ):
            assert "durable must be left out of what is asked for" in refused(ask)
    assert refused(lambda: told("x", key=5)).startswith("TypeError: key must be")
    wrong = refused(lambda: Request("x", durable="yes"))  # type: ignore[arg-type]
    assert wrong == "TypeError: durable must be True or False, got 'yes' (str)"
    courier = MemoryCourier(FAST)
    with pool_of(courier) as pool:
        assert "got a object" in refused(lambda: pool.tell(told(object())))
    with pytest.raises(PoolStoppedError):
        pool.tell(told("x"))
    assert not courier.shelf("web").tells
    with pytest.raises(TypeError, match="courier must be a JetStream"):
        AgentPool.start(courier=5)  # type: ignore[arg-type]
    assert "durable=True" in repr(told("x"))


def test_b507_the_loop_is_not_held_up_by_atell_nor_the_router_by_anybody() -> None:
    """A thread of the pool's own never waits for an engine: it is refused there."""
    courier = MemoryCourier(FAST)
    found: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    with pool_of(courier, Member("a", Works())) as pool:

        def tells(_: Any) -> None:
            try:
                pool.tell(told("from the router"))
            except BaseException as error:
                found.put(error)

        async def main() -> None:
            await asyncio.gather(*(pool.atell(told(at)) for at in range(10)))
            await pool.atell(Request("plain"))

        asyncio.run(main())
        courier.wait_for("web", empty)
        future = pool.ask(Request("x"), block=False)
        future.add_done_callback(tells)
        future.get(timeout=WAIT_S)
        # Where the answer was there already it has run in this thread, which may wait.
        if not found.empty():
            assert isinstance(found.get(), ReentrantAskError)


def test_b508_a_file_says_its_courier(tmp_path: Path) -> None:
    """By its text, which is never shown; a running pool stays by what it has."""
    from greenroom.kinds import PoolFileError

    file = tmp_path / "pool.toml"
    member = '[[members]]\nname = "a"\nkind = "command"\nargv = ["cat"]\n'
    file.write_text('[pool]\ncourier = "redis://:s3cret@127.0.0.1:1"\n' + member)
    with AgentPool.from_toml(file) as pool:
        assert pool.courier is not None
        with pytest.raises(TellNotStoredError) as away:
            pool.tell(told("x"))
        assert "s3cret" not in str(away.value)
        file.write_text('[pool]\ncourier = "redis://:other@127.0.0.1:1"\n' + member)
        with pytest.raises(PoolFileError, match="courier cannot change while the pool") as found:
            pool.reload()
        assert "other" not in str(found.value)
    for odd in ('courier = "x"', "courier = 5"):
        file.write_text(f"[pool]\n{odd}\n{member}")
        with pytest.raises(PoolFileError, match="courier"):
            AgentPool.from_toml(file)


def test_b509_many_tells_by_many_processes_are_worked_off_once_each() -> None:
    """While pools come and go, the engine is away now and then, and some raise: none is lost."""
    rng = random.Random(7)
    courier = MemoryCourier(CourierRules(max_deliveries=4, backoff_s=0.0, lease_s=30.0))
    lock, done = threading.Lock(), dict[int, int]()

    def works(payload: Any) -> None:
        if payload % 50 == 0:
            raise RuntimeError("poison")
        with lock:
            done[payload] = done.get(payload, 0) + 1

    config = {"circuit_failure_threshold": 10_000}
    count, next_one = 600, 0
    with pool_of(courier) as teller:
        while next_one < count:
            members = [Member("a", works, max_concurrency=8)]
            with pool_of(courier, *members, config=config):
                for _ in range(rng.randrange(40, 120)):
                    if next_one >= count:
                        break
                    try:
                        teller.tell(told(next_one, request_id=f"t{next_one}"))
                        next_one += 1
                    except TellNotStoredError:
                        courier.down = False
                        courier.move("web", 1.0)
                if rng.random() < 0.3:
                    courier.down = True
            courier.down = False
    with pool_of(courier, Member("a", works, max_concurrency=8), config=config):
        until = threading.Event()
        for _ in range(200):
            courier.move("web", 31.0)  # leases of those that could not be given back
            if empty(courier.shelf("web")):
                break
            until.wait(0.1)
    dead = {int(each[1:]) for each in courier.shelf("web").graves}
    assert dead == {at for at in range(count) if at % 50 == 0}
    assert set(done) == set(range(count)) - dead
