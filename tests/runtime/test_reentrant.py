"""A pool that is asked from inside its own agent: served when there is room, else told at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pykka
import pytest
from helpers_pools import WAIT_S

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Member,
    PoolConfig,
    PoolRef,
    ReentrantAskError,
    Request,
)
from greenroom.events import RequestExhausted
from greenroom.testing import EventRecorder

pytestmark = pytest.mark.usefixtures("agents_loop")


class Asking:
    """A sync agent that asks a pool again as long as the payload is above 0."""

    def __init__(self, way: Callable[[PoolRef, int], Any]) -> None:
        self.way = way
        self.pool: PoolRef | None = None
        self.calls: list[int] = []

    def __call__(self, payload: int) -> Any:
        self.calls.append(payload)
        assert self.pool is not None
        return payload if payload == 0 else self.way(self.pool, payload - 1)


WAYS: dict[str, Callable[[PoolRef, int], Any]] = {
    "ask": lambda pool, payload: pool.ask(Request(payload)).value,
    "execute": lambda pool, payload: pool.execute(payload),
    "apply": lambda pool, payload: pool.apply(lambda agent: agent(payload)),
    "stream": lambda pool, payload: pool.stream(Request(payload)).collect()[0],
    "future": lambda pool, payload: pool.ask(Request(payload), block=False).get().value,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_asks_its_own_full_pool_is_told_at_once(way: str) -> None:
    """With one slot the inner request could only wait for the outer one: no time is waited away,
    nothing is tried again, and nobody's breaker hears of it.
    """
    agent = Asking(WAYS[way])
    with AgentPool.start([Member("only", agent)]) as pool:
        agent.pool = pool
        with pytest.raises(ReentrantAskError, match="own request pool-1") as caught:
            pool.ask(Request(1), timeout=WAIT_S)
        assert not caught.value.started
        assert agent.calls == [1]
        stats = pool.stats()
        assert (stats.in_flight, stats.pending, stats["only"].failures) == (0, 0, 0)
        assert pool.execute(0, timeout=WAIT_S) == 0


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_asks_its_own_pool_is_served_where_there_is_room(way: str) -> None:
    """Two slots are enough for one level, and not for two."""
    agent = Asking(WAYS[way])
    with AgentPool.start([Member("only", agent, max_concurrency=2)]) as pool:
        agent.pool = pool
        assert pool.execute(1, timeout=WAIT_S) == 0
        with pytest.raises(ReentrantAskError):
            pool.execute(2, timeout=WAIT_S)


def test_an_async_agent_that_asks_its_own_full_pool() -> None:
    """Awaiting is no different, nor is `async for`."""
    seen: list[int] = []

    async def agent(payload: int) -> int:
        seen.append(payload)
        if payload == 1:
            return int((await pool.ask(Request(0), block=False)).value)
        if payload == 2:
            async for chunk in pool.stream(Request(0)):
                return int(chunk)
        return payload

    with AgentPool.start([Member("only", agent, max_concurrency=1)]) as pool:
        for payload in (1, 2):
            with pytest.raises(ReentrantAskError):
                pool.execute(payload, timeout=WAIT_S)
        assert seen == [1, 2]
        assert pool.execute(0, timeout=WAIT_S) == 0


def test_a_streaming_agent_that_asks_its_own_full_pool() -> None:
    """Sync and async generators."""

    def chunks(payload: str) -> Iterator[str]:
        yield pool.execute("inner")

    async def achunks(payload: str) -> AsyncIterator[str]:
        yield (await pool.ask(Request("inner"), block=False)).value

    for agent in (chunks, achunks):
        with (
            AgentPool.start([Member("only", agent, max_concurrency=1)]) as pool,
            pytest.raises(ReentrantAskError),
        ):
            pool.stream(Request("outer"), timeout=WAIT_S).collect()


def test_two_members_that_ask_each_other() -> None:
    """Both slots are held by calls that wait for the pool: the one that comes second is told."""
    both = threading.Barrier(2)

    def agent(payload: str) -> Any:
        if payload == "inner":
            return "served"
        both.wait(WAIT_S)
        return pool.execute("inner")

    with AgentPool.start([Member("a", agent), Member("b", agent)]) as pool:
        first, second = (pool.ask(Request("outer"), block=False) for _ in range(2))
        answers: list[Any] = []
        for future in (first, second):
            try:
                answers.append(future.get(timeout=WAIT_S).value)
            except ReentrantAskError as error:
                answers.append(type(error))
        assert sorted(map(str, answers)) == sorted(["served", str(ReentrantAskError)])


def test_a_slot_that_others_will_give_back_is_waited_for() -> None:
    """What holds it is no call that waits for the pool."""
    release, busy = threading.Event(), threading.Event()

    def agent(payload: str) -> Any:
        if payload == "busy":
            busy.set()
            release.wait(WAIT_S)
            return "busy"
        if payload == "outer":
            inner = pool.ask(Request("inner"), block=False)
            assert pool.stats().pending == 1
            release.set()
            return inner.get(timeout=WAIT_S).value
        return payload

    with AgentPool.start([Member("a", agent, max_concurrency=2)]) as pool:
        held = pool.ask(Request("busy"), block=False)
        assert busy.wait(WAIT_S)
        assert pool.execute("outer", timeout=WAIT_S) == "inner"
        assert held.get(timeout=WAIT_S).value == "busy"


def test_a_tell_from_inside_waits_like_any_other() -> None:
    """Nobody waits for it, so there is no circle."""
    done = threading.Event()

    def agent(payload: str) -> str:
        if payload == "told":
            done.set()
        else:
            pool.tell(Request("told"))
        return payload

    with AgentPool.start([Member("only", agent)]) as pool:
        assert pool.execute("outer", timeout=WAIT_S) == "outer"
        assert done.wait(WAIT_S)


def test_a_pool_in_between_is_seen_through() -> None:
    """Front asks back, whose agent asks front: front would wait for itself."""

    def in_front(payload: str) -> Any:
        return back.execute(payload)

    def behind(payload: str) -> Any:
        return front.execute(payload)

    with (
        AgentPool.start([Member("f", in_front)], name="front") as front,
        AgentPool.start([Member("b", behind)], name="back") as back,
        pytest.raises(ReentrantAskError, match="pool 'front' was asked from inside"),
    ):
        front.ask(Request("x"), timeout=WAIT_S)


def test_a_pool_as_a_member_is_seen_through() -> None:
    """The same where the pool behind is a member itself."""

    def behind(payload: str) -> Any:
        return front.execute(payload)

    with AgentPool.start([Member("b", behind)], name="back") as back:
        member = Member("back", back, max_concurrency=1)
        with (
            AgentPool.start([member], name="front") as front,
            pytest.raises(ReentrantAskError, match="pool 'front' was asked from inside"),
        ):
            front.ask(Request("x"), timeout=WAIT_S)


def test_an_agent_that_wraps_the_error_is_not_tried_again() -> None:
    """`raise ... from` keeps what it was."""
    calls: list[str] = []

    def agent(payload: str) -> Any:
        calls.append(payload)
        try:
            return pool.execute("inner")
        except ReentrantAskError as error:
            raise RuntimeError("tool failed") from error

    with AgentPool.start([Member("a", agent)]) as pool:
        with pytest.raises(RuntimeError, match="tool failed"):
            pool.ask(Request("outer"), timeout=WAIT_S)
        assert calls == ["outer"]


def test_a_done_callback_of_a_call_is_not_inside_of_it() -> None:
    """It asks when the slot is free again."""
    answers: list[Any] = []
    asked = threading.Event()

    async def agent(payload: str) -> str:
        await asyncio.sleep(0)
        return payload

    def again(_: Any) -> None:
        answers.append(pool.ask(Request("again"), block=False))
        asked.set()

    with AgentPool.start([Member("a", agent, max_concurrency=1)]) as pool:
        pool.ask(Request("once"), block=False).add_done_callback(again)
        assert asked.wait(WAIT_S)
        assert answers[0].get(timeout=WAIT_S).value == "again"


def test_one_that_waits_for_a_member_to_come_back_is_let_wait() -> None:
    """It waits for a time, not for its own slot."""
    config = PoolConfig(
        when_unavailable="wait", circuit_reset_timeout_s=3600.0, circuit_reset_max_s=3600.0
    )

    def agent(payload: str) -> Any:
        if payload == "inner":
            return payload
        inner = pool.ask(Request("inner"), block=False)
        assert pool.stats().pending == 1
        pool.reset_member("b")
        return inner.get(timeout=WAIT_S).value

    def broken(payload: str) -> Any:
        if payload == "break":
            error = RuntimeError("no key")
            error.status_code = 401  # type: ignore[attr-defined]
            raise error
        return payload

    members = [Member("a", agent, priority=1), Member("b", broken)]
    with AgentPool.start(members, strategy="priority", config=config) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.ask(Request("break", max_retries=0), timeout=WAIT_S)
        assert pool.execute("outer", timeout=WAIT_S) == "inner"


def test_it_is_told_as_an_event_once() -> None:
    """The inner request is exhausted at once; the outer one ends by the agent's own error."""
    agent = Asking(WAYS["ask"])
    with EventRecorder() as log:
        with AgentPool.start([Member("only", agent)]) as pool:
            agent.pool = pool
            with pytest.raises(ReentrantAskError):
                pool.ask(Request(1), timeout=WAIT_S)
        (exhausted,) = log.named(RequestExhausted)
        assert exhausted.request_id == "pool-2"
        assert "was asked from inside its own request" in exhausted.reason


def test_a_request_from_inside_that_nobody_waits_for_is_served_afterwards() -> None:
    """The agent asks, goes on and returns: its own slot serves what it has asked for."""
    handed_out: list[Any] = []

    def agent(payload: str) -> str:
        if payload == "outer":
            handed_out.append(pool.ask(Request("inner"), block=False))
            with pytest.raises(pykka.Timeout):  # a look is no wait
                handed_out[0].get(timeout=0)
            handed_out.append(pool.stream(Request("chunks")))
        return payload

    with AgentPool.start([Member("only", agent)]) as pool:
        assert pool.execute("outer", timeout=WAIT_S) == "outer"
        assert handed_out[0].get(timeout=WAIT_S).value == "inner"
        assert handed_out[1].collect() == ["chunks"]


def test_a_future_that_is_handed_out_of_a_call_may_be_awaited_elsewhere() -> None:
    """Whoever waits outside is not inside, whether before or after the call has returned."""
    handed_out: list[Any] = []
    asked, awaited = threading.Event(), threading.Event()

    async def agent(payload: str) -> str:
        if payload == "outer":
            handed_out.append(pool.ask(Request("inner"), block=False))
            asked.set()
            await asyncio.to_thread(awaited.wait, WAIT_S)
        return payload

    async def elsewhere() -> str:
        task = asyncio.ensure_future(handed_out[0])
        await asyncio.sleep(0)  # it waits from here on
        awaited.set()
        return str((await task).value)

    with AgentPool.start([Member("only", agent, max_concurrency=1)]) as pool:
        outer = pool.ask(Request("outer"), block=False)
        assert asked.wait(WAIT_S)
        assert asyncio.run(elsewhere()) == "inner"
        assert outer.get(timeout=WAIT_S).value == "outer"


@pytest.mark.parametrize("way", ["get", "first", "collect", "map"])
def test_a_request_from_inside_is_refused_when_the_wait_for_it_begins(way: str) -> None:
    """It has been in the queue until then, and could have been served."""
    pending: list[int] = []

    def agent(payload: str) -> Any:
        if payload == "inner":
            return payload
        if way in ("get", "map"):
            future = pool.ask(Request("inner"), block=False)
            pending.append(pool.stats().pending)
            return future.get() if way == "get" else future.map(str).get()
        stream = pool.stream(Request("inner"))
        pending.append(pool.stats().pending)
        return stream.first().get() if way == "first" else stream.collect()

    with AgentPool.start([Member("only", agent)]) as pool:
        with pytest.raises(ReentrantAskError):
            pool.ask(Request("outer"), timeout=WAIT_S)
        assert pending == [1]
        assert pool.execute("inner", timeout=WAIT_S) == "inner"


@pytest.mark.parametrize("slots", [1, 2])
def test_several_requests_from_inside_that_are_gathered(slots: int) -> None:
    """All are served one after the other where one slot is left, and all are told where none is."""

    async def agent(payload: Any) -> Any:
        if isinstance(payload, int):
            await asyncio.sleep(0)
            return payload
        inner = [pool.ask(Request(number), block=False) for number in range(5)]
        replies = await asyncio.gather(*inner, return_exceptions=True)
        return [getattr(reply, "value", type(reply)) for reply in replies]

    with AgentPool.start([Member("only", agent, max_concurrency=slots)]) as pool:
        answer = pool.execute("outer", timeout=WAIT_S)
        assert answer == ([ReentrantAskError] * 5 if slots == 1 else list(range(5)))
        assert pool.execute(7, timeout=WAIT_S) == 7


def test_two_members_whose_requests_queue_before_either_waits() -> None:
    """The second wait closes the circle: one is told, and its slot serves the other."""
    both_run, asked, waits = (threading.Barrier(2) for _ in range(3))

    def agent(payload: str) -> Any:
        if payload == "inner":
            return "served"
        both_run.wait(WAIT_S)  # else an inner one has the other's slot
        inner = pool.ask(Request("inner"), block=False)
        asked.wait(WAIT_S)
        assert pool.stats().pending == 2
        waits.wait(WAIT_S)
        return inner.get().value

    with AgentPool.start([Member("a", agent), Member("b", agent)]) as pool:
        futures = [pool.ask(Request("outer"), block=False) for _ in range(2)]
        answers: list[str] = []
        for future in futures:
            try:
                answers.append(future.get(timeout=WAIT_S).value)
            except ReentrantAskError:
                answers.append("told")
        assert sorted(answers) == ["served", "told"]


def test_a_wait_for_a_running_request_may_close_the_circle() -> None:
    """The first call waits, last of all, for the second one, which waits for the first one's slot:
    what is told is the request in the queue.
    """
    third_waits, told = threading.Event(), list[type[Exception]]()

    def agent(payload: str) -> Any:
        if payload == "first":
            second = pool.ask(Request("second"), block=False)
            assert third_waits.wait(WAIT_S)
            return second.get().value
        if payload == "second":
            third = pool.ask(Request("third"), block=False)
            third_waits.set()
            try:
                return third.get().value
            except ReentrantAskError as error:
                told.append(type(error))
                return "second"
        return payload

    with AgentPool.start([Member("only", agent, max_concurrency=2)]) as pool:
        assert pool.execute("first", timeout=WAIT_S) == "second"
        assert told == [ReentrantAskError]


def test_a_wait_that_was_given_up_blocks_nobody() -> None:
    """Who has lost patience goes on, and its slot will be free."""

    def agent(payload: str) -> Any:
        if payload == "outer":
            busy = pool.ask(Request("busy"), block=False)
            inner = pool.ask(Request("inner"), block=False)
            assert entered.wait(WAIT_S)
            with pytest.raises(pykka.Timeout):
                inner.get(timeout=0.001)
            handed_out.append(inner)
            release.set()
            return busy.get().value
        if payload == "busy":
            entered.set()
            assert release.wait(WAIT_S)
        return payload

    entered, release, handed_out = threading.Event(), threading.Event(), list[Any]()
    with AgentPool.start([Member("only", agent, max_concurrency=2)]) as pool:
        assert pool.execute("outer", timeout=WAIT_S) == "busy"
        assert handed_out[0].get(timeout=WAIT_S).value == "inner"
