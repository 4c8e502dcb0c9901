"""What a factory makes is entered and left in one task, or in one thread: behaviours 158 to 161."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import raising
from helpers_log import logged
from helpers_loops import QUIET, REPORTED_S, Blocker, pass_time
from helpers_pools import WAIT_S, ask, echo, echo_async, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Apply,
    FailureKind,
    Member,
    PoolRef,
    ReentrantAskError,
    RemoveMember,
    Request,
)
from greenroom.actors.member.agent_actor import MemberRef
from greenroom.messages import LoopReplaced, MemberCreateFailed, MemberFailed, MemberRestarted
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


class Place:
    """Notes what happens, and in which task or thread."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.places: list[Any] = []
        self.given: list[Any] = []

    def note(self, what: str) -> None:
        self.log.append(what)
        try:
            self.places.append(asyncio.current_task())
        except RuntimeError:
            self.places.append(threading.current_thread())


class Scope(Place):
    """As a cancel scope of anyio's: it can be left in no other task."""

    async def __aenter__(self) -> Scope:
        self.note("enter")
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0)
        self.note("exit")
        self.given.append(error)

    async def arun(self, payload: Any) -> Any:
        return payload

    async def aclose(self) -> None:
        self.note("aclose")


class SyncScope(Place):
    """The same for a thread."""

    def __enter__(self) -> SyncScope:
        self.note("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self.note("exit")
        self.given.append(error)

    def run(self, payload: Any) -> Any:
        return payload


def generated(place: Place, agent: Any = echo_async) -> Callable[[], Any]:
    """A factory by `asynccontextmanager`, with a task group, which can be left in one task only."""

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(asyncio.Event().wait())
            place.note("enter")
            try:
                yield agent
            finally:
                reader.cancel()
                place.note("exit")

    return factory


def sync_generated(place: Place, agent: Any = echo) -> Callable[[], Any]:
    @contextlib.contextmanager
    def factory() -> Iterator[Any]:
        place.note("enter")
        try:
            yield agent
        finally:
            place.note("exit")

    return factory


def by_async_factory(made: Any) -> Callable[[], Any]:
    async def factory() -> Any:
        return made

    return factory


WAYS: dict[str, Callable[[], tuple[Place, Callable[[], Any]]]] = {
    "asynccontextmanager": lambda: (place := Place(), generated(place)),
    "asynccontextmanager of a sync agent": lambda: (place := Place(), generated(place, echo)),
    "contextmanager": lambda: (place := Place(), sync_generated(place)),
    "contextmanager of an async agent": lambda: (
        place := Place(),
        sync_generated(place, echo_async),
    ),
    "an object with __aenter__": lambda: (place := Scope(), lambda: place),
    "that of an async factory": lambda: (place := Scope(), by_async_factory(place)),
    "an object with __enter__": lambda: (place := SyncScope(), lambda: place),
    "that of an async factory, too": lambda: (place := SyncScope(), by_async_factory(place)),
}


@pytest.mark.parametrize("loop", ["shared", "isolated", "uvloop"])
@pytest.mark.parametrize("end", ["stop", "remove"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_b158_what_a_factory_makes_is_entered_and_left_in_one_place(
    way: Callable[[], tuple[Place, Callable[[], Any]]], end: str, loop: str
) -> None:
    """Once each, in the same task or thread, however many calls there are in between."""
    place, factory = way()
    lazy = Member("lazy", factory=factory, isolated=loop == "isolated")
    kind = "uvloop" if loop == "uvloop" else "own"
    with pool_of(lazy, Member("b", echo, priority=1), event_loop=kind) as pool:
        assert place.log == []
        assert [pool.execute(i, timeout=WAIT_S) for i in range(3)] == [0, 1, 2]
        assert place.log == ["enter"]
        if end == "remove":
            pool.remove_member("lazy", timeout=WAIT_S)
            assert place.log == ["enter", "exit"]
    assert place.log == ["enter", "exit"]
    assert place.places[0] is place.places[1]
    assert place.given in ([], [(None, None, None)])


def test_b158_one_call_at_a_time_runs_in_the_thread_that_has_entered() -> None:
    """What is bound to its thread can be used there: sqlite3's connection as it is by default."""

    @contextlib.contextmanager
    def factory() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("create table words (word)")
            yield connection

    def add(connection: sqlite3.Connection) -> int:
        connection.execute("insert into words values ('x')")
        return int(connection.execute("select count(*) from words").fetchone()[0])

    closed: list[int] = []
    words = Member("words", factory=factory, close=lambda each: closed.append(add(each)))
    with pool_of(words) as pool:
        futures = [pool.ask(Apply(add), block=False) for _ in range(20)]
        assert [each.get(timeout=WAIT_S).value for each in futures] == list(range(1, 21))
    assert closed == [21]


def test_b158_a_call_that_hangs_does_not_hold_up_the_next_one() -> None:
    """Where the thread that has entered is busy beyond a limit, another one runs what comes."""
    clock, gate = FakeClock(), ScriptedAgent.hanging(echo)
    seen: list[str] = []

    def agent(payload: Any) -> Any:
        if payload == "hang":
            gate(payload)
        seen.append(threading.current_thread().name)
        return payload

    member = Member("lazy", factory=sync_generated(place := Place(), agent))
    with pool_of(member, clock=clock, request_timeout_s=1.0, max_retries=0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        hanging = ask(pool, "hang")
        gate.wait_for_calls()
        clock.advance(1)
        with pytest.raises(AllPoolMembersFailedError):
            hanging.get(timeout=WAIT_S)
        assert pool.execute("y", timeout=WAIT_S) == "y"
        gate.release()
    home = place.places[0].name
    assert place.log == ["enter", "exit"]
    assert place.places[0] is place.places[1]
    assert seen[0] == home != seen[1]


def test_b158_a_done_callback_that_waits_does_not_hold_up_what_it_waits_for() -> None:
    """It runs in the thread that has entered, which would have had the next call."""
    values: list[Any] = []
    told = threading.Event()
    with pool_of(Member("lazy", factory=sync_generated(Place()))) as pool:

        def then(_: Any) -> None:
            values.append(pool.execute("inner", timeout=WAIT_S))
            told.set()

        future = ask(pool, "outer")
        future.add_done_callback(then)
        assert told.wait(WAIT_S)
        assert pool.execute("after", timeout=WAIT_S) == "after"
    assert values == ["inner"]


class Unreturned(Scope):
    async def __aenter__(self) -> None:  # type: ignore[override]
        self.note("enter")


def test_b158_an_object_that_gives_nothing_when_it_is_entered_is_the_agent_itself() -> None:
    place = Unreturned()
    with pool_of(Member("lazy", factory=lambda: place)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert place.log == ["enter", "exit"]


@pytest.mark.parametrize("made", [generated, sync_generated], ids=["async", "sync"])
def test_b158_a_generator_that_yields_nothing_has_failed(made: Any) -> None:
    """As a factory that returns nothing has; what it has entered is left."""
    place = Place()
    members = [Member("lazy", factory=made(place, None)), Member("ready", echo, priority=1)]
    with pool_of(*members) as pool:
        reply = ask(pool).get(timeout=WAIT_S)
        assert reply.errors[0].kind is FailureKind.CREATE_FAILED
        assert isinstance(reply.errors[0].error, TypeError)
        assert place.log == ["enter", "exit"]


class Connected(Scope):
    """As httpx's client: usable unentered, but not entered once it has been used."""

    async def __aenter__(self) -> Connected:
        raise RuntimeError("Cannot open a client instance more than once.")


def test_b158_what_is_open_already_is_taken_as_it_is() -> None:
    """A factory may have used its client, or entered it; so it is closed as before."""
    place = Connected()
    with pool_of(Member("lazy", factory=lambda: place)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert place.log == ["aclose"]


class Lost(Scope):
    async def __aenter__(self) -> Lost:
        await asyncio.sleep(0)
        raise RuntimeError("Client failed to connect")


@pytest.mark.parametrize("error", [ConnectionError("no"), RuntimeError("no"), SystemExit(3)])
@pytest.mark.parametrize("kind", ["sync", "async", "object"])
def test_b159_an_enter_that_raises_is_a_factory_that_raises(
    kind: str, error: BaseException, greenroom_events: EventRecorder
) -> None:
    """The request goes elsewhere, and the member rests for a while."""

    fail = raising(error)

    @contextlib.contextmanager
    def sync_factory() -> Iterator[Any]:
        fail()
        yield echo

    @contextlib.asynccontextmanager
    async def async_factory() -> AsyncIterator[Any]:
        fail()
        yield echo

    factories = {"sync": sync_factory, "async": async_factory, "object": Lost}
    clock = FakeClock()
    members = [Member("lazy", factory=factories[kind]), Member("ready", echo, priority=1)]
    with pool_of(*members, clock=clock, restart_backoff_s=8.0) as pool:
        reply = ask(pool).get(timeout=WAIT_S)
        assert [each.kind for each in reply.errors] == [FailureKind.CREATE_FAILED]
        assert greenroom_events.wait_for(MemberCreateFailed).retry_in_s == 8.0
        pool.stats()
        assert ask(pool).get(timeout=WAIT_S).errors == ()
        clock.advance(8)
        pool.stats()
        assert len(ask(pool).get(timeout=WAIT_S).errors) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b159_an_enter_that_hangs_costs_a_request_its_attempt_timeout(kind: str) -> None:
    """What is entered after all, when nobody waits for it any more, is left."""
    clock, left = FakeClock(), threading.Event()
    gate: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging(echo)

    @contextlib.contextmanager
    def sync_factory() -> Iterator[Any]:
        gate("enter")
        yield lambda payload: "lazy"
        left.set()

    @contextlib.asynccontextmanager
    async def async_factory() -> AsyncIterator[Any]:
        await gate("enter")
        yield lambda payload: "lazy"
        left.set()

    factory: Any = sync_factory if kind == "sync" else async_factory
    members = [Member("lazy", factory=factory), Member("ready", lambda _: "ready", priority=1)]
    with pool_of(*members, clock=clock, request_timeout_s=1.0) as pool:
        future = ask(pool)
        gate.wait_for_calls()
        clock.advance(1)
        reply = future.get(timeout=WAIT_S)
        assert (reply.member, reply.errors[0].kind) == ("ready", FailureKind.TIMEOUT)
        gate.release()
        assert left.wait(WAIT_S)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"  # entered anew


def test_b159_a_pool_that_stops_cancels_what_is_being_entered() -> None:
    entered, cancelled = threading.Event(), threading.Event()

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        yield echo

    with pool_of(Member("lazy", factory=factory)) as pool:
        future = ask(pool)
        assert entered.wait(WAIT_S)
    assert cancelled.is_set()
    assert future.done()


@pytest.mark.parametrize("way", [generated, sync_generated], ids=["async", "sync"])
def test_b160_a_close_hook_of_the_apps_comes_before_the_leaving(way: Any) -> None:
    place = Place()
    hooked = Member("lazy", factory=way(place, echo), close=lambda agent: place.log.append("hook"))
    with pool_of(hooked) as pool:
        pool.execute("x", timeout=WAIT_S)
    assert place.log == ["enter", "hook", "exit"]


@pytest.mark.parametrize("way", [generated, sync_generated], ids=["async", "sync"])
def test_b160_a_close_hook_that_raises_does_not_keep_it_from_being_left(
    way: Any, greenroom_events: EventRecorder
) -> None:
    place = Place()

    def hook(agent: Any) -> None:
        raise ValueError("hook")

    with pool_of(Member("lazy", factory=way(place, echo), close=hook)) as pool:
        pool.execute("x", timeout=WAIT_S)
    assert place.log == ["enter", "exit"]


@contextlib.contextmanager
def leaving_sync(what: Callable[[], object]) -> Iterator[Any]:
    yield echo
    what()


@contextlib.asynccontextmanager
async def leaving_async(what: Callable[[], object]) -> AsyncIterator[Any]:
    yield echo
    await asyncio.sleep(0)
    what()


LEAVING = pytest.mark.parametrize("leaving", [leaving_sync, leaving_async], ids=["sync", "async"])


@LEAVING
def test_b160_what_leaving_raises_is_complained_of(leaving: Any) -> None:
    """As what a close hook raises is; the member ends all the same."""

    def fail() -> None:
        raise ValueError("it does not close")

    members = [Member("lazy", factory=lambda: leaving(fail)), Member("b", echo, priority=1)]
    with logged() as lines, pool_of(*members) as pool:
        pool.execute("x", timeout=WAIT_S)
        pool.remove_member("lazy", timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["b"]
    assert "closing the agent of greenroom-pool-lazy failed" in "".join(lines())


@LEAVING
def test_b160_a_removal_does_not_wait_for_a_leaving_that_hangs(leaving: Any) -> None:
    """It has as long as a close hook has; `stop` waits no longer either."""
    clock, gate = FakeClock(), ScriptedAgent.hanging(echo)
    lazy = Member("lazy", factory=lambda: leaving(lambda: gate("leave")), isolated=True)
    with pool_of(lazy, Member("b", echo, priority=1), clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        removed = pool.ask(RemoveMember("lazy"), block=False)
        gate.wait_for_calls()
        assert [each.name for each in pool.stats().members] == ["lazy", "b"]
        clock.advance(5)
        removed.get(timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["b"]
        gate.release()


def test_b160_a_leaving_that_hangs_is_cancelled_with_its_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`stop` waits for it a bounded time only, and cancels it then."""
    monkeypatch.setattr("greenroom.supervisors.pool_supervisor.MEMBER_STOP_TIMEOUT_S", 0.05)
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        yield echo
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pool_of(Member("lazy", factory=factory)) as pool:
        pool.execute("x", timeout=WAIT_S)
    assert seen == ["cancelled"]


def test_b160_who_is_left_behind_is_not_waited_for_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One limit for all whose close hangs, not one each on top; it cancels them."""
    monkeypatch.setattr("greenroom.supervisors.pool_supervisor.MEMBER_STOP_TIMEOUT_S", 0.05)
    seen: list[str] = []
    join = MemberRef.join

    def joined(ref: MemberRef, timeout_s: float | None = None) -> None:
        seen.append(f"joined, ended: {ref.ended.is_set()}")
        join(ref, timeout_s)

    monkeypatch.setattr(MemberRef, "join", joined)

    class Hanging:
        async def run(self, payload: str) -> str:
            return payload

        async def aclose(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

    members = [Member(name, factory=Hanging, priority=at) for at, name in enumerate("abc")]
    with pool_of(*members, Member("d", echo, priority=3)) as pool:
        for name in "abc":
            assert pool.ask(Request("x"), timeout=WAIT_S).member == name
            pool.force_open(name)
    assert seen.count("cancelled") == 3
    assert "joined, ended: False" not in seen


def test_b160_leaving_in_a_thread_may_not_wait_for_its_own_pool() -> None:
    """It is told so, as a close hook is."""
    pools: list[PoolRef] = []
    told: list[BaseException] = []

    def stop() -> None:
        try:
            pools[0].stop()
        except ReentrantAskError as error:
            told.append(error)

    with pool_of(Member("lazy", factory=lambda: leaving_sync(stop))) as pool:
        pools.append(pool)
        pool.execute("x", timeout=WAIT_S)
    assert len(told) == 1


def test_b158_a_pool_that_a_factory_makes_is_stopped_when_it_is_left() -> None:
    """A `PoolRef` is a context manager like any other."""
    made: list[PoolRef] = []

    def factory() -> PoolRef:
        made.append(AgentPool.start([Member("inner", echo_async)], name="inner"))
        return made[-1]

    with pool_of(Member("lazy", factory=factory)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert made[0].is_alive()
    assert not made[0].is_alive()


class Counted(SyncScope):
    """As requests' session or sqlite3's connection: open from the start, closed by `close`."""

    def close(self) -> None:
        self.note("close")


def test_b158_what_is_open_from_the_start_is_closed_by_its_close() -> None:
    """An object with `__enter__` and a `close` is not entered; its block may be a transaction."""
    place = Counted()
    with pool_of(Member("lazy", factory=lambda: place)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert place.log == ["close"]


def test_b158_an_agent_that_was_handed_over_ready_is_not_entered() -> None:
    """It is the app's."""
    place = Scope()
    with pool_of(Member("a", place)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert place.log == []


# Ends that nobody asked for


def test_b161_what_ends_by_itself_is_entered_anew(greenroom_events: EventRecorder) -> None:
    """A task of the agent's own crashes, and the group that it lives in with it."""
    crash: list[Callable[[], object]] = []
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        async def read() -> None:
            over = asyncio.Event()
            crash.append(
                functools.partial(asyncio.get_running_loop().call_soon_threadsafe, over.set)
            )
            await over.wait()
            raise ConnectionError("the server has gone")

        log.append("enter")
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(read())
                await asyncio.sleep(0)
                yield echo
                reader.cancel()
        finally:
            log.append("exit")

    with pool_of(Member("lazy", factory=factory), restart_backoff_s=0.0) as pool:
        pool.execute("x", timeout=WAIT_S)
        crash[0]()
        failed = greenroom_events.wait_for(MemberFailed)
        assert "what its agent lives in has ended" in failed.error
        greenroom_events.wait_for(MemberRestarted)
        assert log == ["enter", "exit"]
        assert pool.execute("y", timeout=WAIT_S) == "y"
        assert pool.stats()["lazy"].incarnation == 2
    assert log == ["enter", "exit"] * 2


def test_b161_a_restart_leaves_the_old_one_and_enters_a_new_one(
    greenroom_events: EventRecorder,
) -> None:
    """Which one an actor's end belongs to is never mixed up."""
    places: list[Scope] = []

    def factory() -> Scope:
        places.append(Scope())
        return places[-1]

    with pool_of(Member("lazy", factory=factory), restart_backoff_s=0.0) as pool:
        pool.execute("x", timeout=WAIT_S)
        stop_member(pool, "lazy")
        greenroom_events.wait_for(MemberRestarted)
        pool.execute("x", timeout=WAIT_S)
        assert places[1].log == ["enter"]
    assert [place.log for place in places] == [["enter", "exit"]] * 2


def test_b161_a_lost_loop_takes_what_was_entered_there_with_it(
    clock: FakeClock, greenroom_events: EventRecorder
) -> None:
    """The member enters it anew on the fresh loop, be its agent async or not; nobody waits for the
    lost one, which leaves should it ever answer.
    """
    blocker, places = Blocker(), [Place(), Place()]
    left = iter(places)
    members = [
        Member("a", blocker),
        Member("lazy", factory=lambda: generated(next(left), echo)(), priority=1),
    ]
    with pool_of(*members, clock=clock, **{**QUIET, "loop_replaced_after_s": 2.0}) as pool:
        pool.force_open("a")
        assert pool.execute("x", timeout=WAIT_S) == "x"
        pool.reset_member("a")
        ask(pool, "block")
        blocker.wait_entered()
        pass_time(pool, clock, 2 * REPORTED_S)
        greenroom_events.wait_for(LoopReplaced)
        greenroom_events.wait_for(MemberRestarted, count=2)
        pool.force_open("a")
        assert pool.execute("y", timeout=WAIT_S) == "y"
        assert places[1].log == ["enter"]
    assert places[1].log == ["enter", "exit"]
    blocker.release()
    blocker.join()
    assert places[0].log == ["enter", "exit"]


def test_b161_a_cancellation_by_somebody_else_is_no_fault_of_the_members(
    greenroom_events: EventRecorder,
) -> None:
    """Code of the app's cancels a task that is not its own: what was entered is left, and entered
    anew.
    """
    places: list[Scope] = []

    def factory() -> Scope:
        places.append(Scope())
        return places[-1]

    with pool_of(Member("lazy", factory=factory), restart_backoff_s=0.0) as pool:
        pool.execute("x", timeout=WAIT_S)
        host = places[0].places[0]
        host.get_loop().call_soon_threadsafe(host.cancel)
        assert "it was cancelled" in greenroom_events.wait_for(MemberRestarted).reason
        assert pool.execute("y", timeout=WAIT_S) == "y"
    assert [place.log for place in places] == [["enter", "exit"]] * 2


_LEFT_RUNNING = """
import contextlib
from greenroom import AgentPool, Member

@contextlib.asynccontextmanager
async def on_loop():
    yield lambda payload: payload

@contextlib.contextmanager
def in_thread():
    yield lambda payload: payload

members = [Member("a", factory=on_loop), Member("b", factory=in_thread)]
pool = AgentPool.start(members, strategy="round_robin")
print([pool.execute(i) for i in range(4)])
"""


def test_b161_a_program_that_ends_without_stopping_its_pool_ends_in_silence() -> None:
    """What is entered neither holds the interpreter up, nor does it leave a word."""
    command = [sys.executable, "-X", "dev", "-c", _LEFT_RUNNING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * WAIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 2, 3]\n", "")
