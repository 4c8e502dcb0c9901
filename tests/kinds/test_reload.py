"""A pool that takes its file over anew while it runs: by a call, and by SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers_log import logged
from helpers_pools import WAIT_S, ask, echo, pool_of
from loguru import logger

from greenroom import (
    AgentLostError,
    AgentPool,
    CircuitState,
    Configure,
    Member,
    PoolError,
    PoolRef,
    RemoveMember,
)
from greenroom.actors.runtime.future import PoolFuture
from greenroom.events import MemberStarted, PoolConfigured
from greenroom.kinds import PoolFileError
from greenroom.pool.hangup import reload_on_hangup
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

Write = Callable[[str], Path]

GATE = ScriptedAgent.hanging(echo)


def slow(payload: Any) -> Any:
    return GATE(payload)


def upper(payload: str) -> str:
    return payload.upper()


class Ending:
    """One that a file's factory makes; `made` has all of them."""

    made: ClassVar[list[Ending]] = []

    def __init__(self) -> None:
        self.made.append(self)

    def run(self, payload: Any) -> int:
        if payload == "end" and self is self.made[0]:
            raise AgentLostError("gone")
        return self.made.index(self) + 1


LAZY = f"""
[[members]]
name = "lazy"
kind = "python"
factory = "{__name__}:Ending"
"""

A = f"""
[[members]]
name = "a"
kind = "python"
agent = "{__name__}:upper"
"""
B = A.replace('"a"', '"b"').replace("upper", "slow")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(sys.modules[__name__], "GATE", ScriptedAgent.hanging(echo))

    def write(text: str) -> Path:
        path = tmp_path / "pool.toml"
        path.write_text(text)
        return path

    return write


def test_a_pool_is_what_stands_in_its_file_now(write: Write, log: EventRecorder) -> None:
    """Settings and members at once; nothing in flight is lost, and who is the same keeps all."""
    path = write(A + B)
    clock = FakeClock()
    with AgentPool.from_toml(path, clock=clock) as pool:
        pool.force_open("a")
        running = [ask(pool, number) for number in range(3)]
        GATE.wait_for_calls()
        write(
            "[pool]\nrequest_timeout_s = 5\nmax_retries = 1\n"
            + A.replace("kind", "weight = 3\nkind")
            + B.replace("kind", "max_concurrency = 3\nkind")
            + A.replace('"a"', '"c"')
        )
        said = pool.reload()
        assert said == (
            "max_retries 3 -> 1",
            "request_timeout_s 30.0 -> 5",
            "a: weight 1.0 -> 3",
            "b: max_concurrency None -> 3",
            "c added",
        )
        assert log.wait_for(PoolConfigured).changes == said
        GATE.release()
        values = [future.get(timeout=WAIT_S).value for future in running]
        assert values == [0, 1, 2]
        stats = pool.stats()
        assert [each.name for each in stats.members] == ["a", "b", "c"]
        assert stats["a"].circuit is CircuitState.FORCED_OPEN
        assert [each.incarnation for each in stats.members] == [1, 1, 1]
        write(B)
        assert pool.reload(path) == (
            "max_retries 1 -> 3",
            "request_timeout_s 5 -> 30.0",
            "b: max_concurrency 3 -> None",
            "a removed",
            "c removed",
        )
        assert pool.reload() == ()


def test_a_member_whose_agent_is_another_is_replaced_once_it_has_finished(
    write: Write, log: EventRecorder
) -> None:
    with AgentPool.from_toml(write(B)) as pool:
        running, waiting = ask(pool, "x"), ask(pool, "y")
        GATE.wait_for_calls()
        write(B.replace("slow", "upper"))
        assert pool.reload() == ("b replaced",)
        assert not running.done()
        GATE.release()
        assert running.get(timeout=WAIT_S).value == "x"
        assert waiting.get(timeout=WAIT_S).value == "Y"
        log.wait_for(MemberStarted, "b", count=2)
        assert GATE.calls == ["x"]


def test_another_file_can_be_taken_over_and_is_the_pools_from_then_on(
    write: Write, tmp_path: Path
) -> None:
    with AgentPool.from_toml(write(A)) as pool:
        other = tmp_path / "other.toml"
        other.write_text(A.replace('"a"', '"z"'))
        assert pool.reload(other) == ("z added", "a removed")
        other.write_text(A.replace('"a"', '"y"'))
        assert pool.reload() == ("y added", "z removed")


def test_a_relative_path_means_what_it_meant_when_it_was_given(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    write(A)
    (tmp_path / "other.toml").write_text(A.replace('"a"', '"z"'))
    monkeypatch.chdir(tmp_path)
    with AgentPool.from_toml("pool.toml") as pool:
        monkeypatch.chdir("sub")
        assert pool.reload() == ()
        assert pool.reload("../other.toml") == ("z added", "a removed")
        monkeypatch.chdir("/")
        assert pool.reload() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pool", ": is no TOML"),
        ("[pool]\nmax_retry = 3\n" + A, ":2: pool.max_retry is not a setting of a pool"),
        ('[pool]\nevent_loop = "own"\n' + A, ":2: pool.event_loop cannot change while"),
        (
            "[pool]\nmax_retries = 0\n" + A.replace("kind", "weight = 0\nkind"),
            ": weight must be greater than 0 for at least one member",
        ),
        (
            "[pool]\nmax_retries = 0\n" + A.replace("upper", "no_such"),
            ":7: members.a.agent must be something to import",
        ),
        ("[pool]\nmax_retries = 0\n", ": has no members"),
    ],
)
def test_a_wrong_file_changes_nothing_and_is_told_as_when_it_is_read_first(
    write: Write, text: str, said: str
) -> None:
    with AgentPool.from_toml(write(A)) as pool:
        before = repr(pool.stats())
        path = write(text)
        with pytest.raises(PoolFileError) as caught:
            pool.reload()
        assert str(caught.value).startswith(f"{path}{said}")
        assert repr(pool.stats()) == before
        write(A)
        assert pool.reload() == ()


def test_members_of_code_stay_beside_those_of_the_file(write: Write) -> None:
    with AgentPool.from_toml(write(A)) as pool:
        pool.add_member(Member("by code", echo))
        pool.remove_member("a")
        assert pool.reload() == ("a added",)
        write(A + A.replace('"a"', '"by code"'))
        with pytest.raises(PoolFileError, match="is that of a member that the pool has already"):
            pool.reload()
        assert [each.name for each in pool.stats().members] == ["by code", "a"]


@pytest.mark.parametrize("by_code", [True, False])
def test_a_member_that_is_about_to_leave_counts_as_gone(
    write: Write, log: EventRecorder, by_code: bool
) -> None:
    """Whether code has had it go or a reload: the next of its name is in when that one has left."""
    with AgentPool.from_toml(write(B)) as pool:
        running = ask(pool, "x")
        GATE.wait_for_calls()
        if by_code:
            removed = pool.ask(RemoveMember("b"), block=False)
        else:
            write(A)
            assert pool.reload() == ("a added", "b removed")
        write(B)
        assert "b replaced" in pool.reload()
        assert pool.reload() == ()
        GATE.release()
        assert running.get(timeout=WAIT_S).value == "x"
        if by_code:
            removed.get(timeout=WAIT_S)
        log.wait_for(MemberStarted, "b", count=2)
        assert [each.name for each in pool.stats().members] == ["b"]
        assert pool.execute("y") == "y"


def test_an_agent_that_code_has_put_under_a_files_name_is_replaced(write: Write) -> None:
    with AgentPool.from_toml(write(A)) as pool:
        pool.ask(Configure(replace=[Member("a", echo)]))
        assert pool.execute("x") == "x"
        assert pool.reload() == ("a replaced",)
        assert pool.execute("x") == "X"
        pool.configure(members={"a": {"weight": 3.0}})
        assert pool.reload() == ("a: weight 3.0 -> 1.0",)
        assert pool.reload() == ()


def test_a_reload_finds_its_way_among_members_that_go_meanwhile(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks: Any = PoolRef.ask
    with AgentPool.from_toml(write(A + A.replace('"a"', '"c"'))) as pool:

        def meanwhile(pool: PoolRef, message: Any, **options: Any) -> Any:
            if isinstance(message, Configure):
                monkeypatch.undo()
                pool.remove_member("c")
            return asks(pool, message, **options)

        monkeypatch.setattr(PoolRef, "ask", meanwhile)
        assert pool.reload() == ("c added",)


def test_an_agent_with_a_close_hook_is_the_files_after_any_number_of_reloads(write: Write) -> None:
    text = '[[members]]\nname = "cat"\nkind = "command"\nargv = ["cat"]\n'
    with AgentPool.from_toml(write(text)) as pool:
        assert [pool.reload() for _ in range(3)] == [(), (), ()]


def test_a_pool_that_was_started_by_code_has_nothing_to_compare_with(write: Write) -> None:
    with (
        pool_of(Member("a", echo)) as pool,
        pytest.raises(PoolError, match="was not started from a file"),
    ):
        pool.reload(write(A))


def test_one_reload_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is told, and may try again."""
    told: list[str] = []
    with AgentPool.from_toml(write(A)) as pool:
        asks: Any = PoolRef.ask

        def meanwhile(pool: PoolRef, message: Any) -> Any:
            monkeypatch.undo()
            with pytest.raises(PoolError) as caught:
                pool.reload()
            told.append(str(caught.value))
            return asks(pool, message)

        monkeypatch.setattr(PoolRef, "ask", meanwhile)
        assert pool.reload() == ()
        assert told == ["pool 'pool' is being reloaded already: try again after that"]
        assert pool.reload() == ()


class Late(PoolFuture[Any]):
    """The answer to a `Configure`, which is held back; who waits for it is cancelled, or hit by a
    signal.
    """

    def __init__(self, said: Any) -> None:
        super().__init__()
        self._said = said

    def come(self) -> None:
        self.resolve(self._said)

    def get(self, *, timeout: float | None = None) -> Any:
        if not self.done():
            raise KeyboardInterrupt
        return super().get(timeout=timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return super().__await__()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Late]:
    """The answers that are held back: the first one only."""
    held: list[Late] = []
    ask: Any = PoolRef.ask

    def hold(pool: PoolRef, message: Any, **options: Any) -> Any:
        answer = ask(pool, message, **options)
        if not isinstance(message, Configure) or held:
            return answer
        held.append(Late(answer.get(timeout=WAIT_S)))
        return held[0]

    monkeypatch.setattr(PoolRef, "ask", hold)
    return held


def test_who_stops_waiting_for_a_reload_has_the_file_taken_over(
    write: Write, held: list[Late]
) -> None:
    """The turn is over when the pool has answered, and what it has taken over is its file."""
    with AgentPool.from_toml(write(A)) as pool:
        write(A + A.replace('"a"', '"c"'))
        with pytest.raises(KeyboardInterrupt):
            pool.reload()
        with pytest.raises(PoolError, match="is being reloaded already"):
            pool.reload()
        held[0].come()
        assert pool.reload() == ()
        write(A)
        assert pool.reload() == ("c removed",)


def test_a_reload_that_is_cancelled_has_the_file_taken_over(write: Write, held: list[Late]) -> None:
    async def main() -> None:
        async with AgentPool.from_toml(write(A)) as pool:
            write(A + A.replace('"a"', '"c"'))
            with pytest.raises(asyncio.CancelledError):
                await asyncio.ensure_future(pool.areload())
            with pytest.raises(PoolError, match="is being reloaded already"):
                await pool.areload()
            held[0].come()
            assert await pool.areload() == ()

    asyncio.run(main())


def test_a_reload_that_is_cancelled_before_it_changes_anything_changes_nothing(
    write: Write,
) -> None:
    async def main() -> None:
        async with AgentPool.from_toml(write(A)) as pool:
            write(A + A.replace('"a"', '"c"'))
            task = asyncio.ensure_future(pool.areload())
            await asyncio.sleep(0)  # it has asked what there is
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await pool.areload() == ("c added",)

    asyncio.run(main())


def test_a_coroutine_can_reload_and_its_loop_goes_on(write: Write) -> None:
    """In the app's loop, where the agents run as well."""

    async def main() -> tuple[str, ...]:
        async with AgentPool.from_toml(write(A)) as pool:
            write("[pool]\nmax_retries = 1\n" + A + A.replace('"a"', '"c"'))
            async with asyncio.timeout(WAIT_S):
                said = await pool.areload()
                write("[pool")
                with pytest.raises(PoolFileError):
                    await pool.areload()
                assert await pool.aexecute("x") == "X"
            return said

    assert asyncio.run(main()) == ("max_retries 3 -> 1", "c added")


needs_hangup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="has no SIGHUP")


@needs_hangup
def test_a_hangup_has_the_file_read_again(write: Write, log: EventRecorder) -> None:
    """A wrong file is told of by one warning; the next one is taken over."""
    before, warned = signal.getsignal(signal.SIGHUP), threading.Event()
    with logged() as lines, AgentPool.from_toml(write(A)) as pool:
        end = reload_on_hangup(pool)
        sink = logger.add(lambda _: warned.set(), level="WARNING", filter="greenroom")
        logger.enable("greenroom")
        try:
            write("[pool]\nmax_retries = 1\n" + A)
            os.kill(os.getpid(), signal.SIGHUP)
            assert log.wait_for(PoolConfigured).changes == ("max_retries 3 -> 1",)
            write("[pool]\nmax_retrys = 1\n" + A)
            os.kill(os.getpid(), signal.SIGHUP)
            assert warned.wait(WAIT_S)
            write("[pool]\nmax_retries = 2\n" + A)
            os.kill(os.getpid(), signal.SIGHUP)
            assert log.wait_for(PoolConfigured, count=2).changes == ("max_retries 1 -> 2",)
        finally:
            end()
            logger.disable("greenroom")
            logger.remove(sink)
    assert signal.getsignal(signal.SIGHUP) is before
    (warning,) = [line for line in lines() if "WARNING" in line]
    assert "the pool goes on as it is: " in warning
    assert "pool.toml:2: pool.max_retrys is not a setting of a pool" in warning
    assert not [each for each in threading.enumerate() if each.name.endswith("-reload")]


@needs_hangup
@pytest.mark.parametrize("first", [0, 1])
def test_a_hangup_is_heard_by_every_pool_until_the_last_one_listens_no_more(
    write: Write, log: EventRecorder, first: int
) -> None:
    before = signal.getsignal(signal.SIGHUP)
    path = write(A)
    with AgentPool.from_toml(path) as one, AgentPool.from_toml(path) as two:
        ends = [reload_on_hangup(one), reload_on_hangup(two)]
        try:
            write("[pool]\nmax_retries = 1\n" + A)
            os.kill(os.getpid(), signal.SIGHUP)
            for pool in (one, two):
                log.wait_for(PoolConfigured, pool=pool.name)
            ends.pop(first)()
            write("[pool]\nmax_retries = 2\n" + A)
            os.kill(os.getpid(), signal.SIGHUP)
            left = (two, one)[first]
            changes = log.wait_for(PoolConfigured, pool=left.name, count=2).changes
            assert changes == ("max_retries 1 -> 2",)
        finally:
            for end in ends:
                end()
        assert len(log.named(PoolConfigured)) == 3
    assert signal.getsignal(signal.SIGHUP) is before


@needs_hangup
def test_a_handler_that_is_set_later_is_left_alone(write: Write) -> None:
    def other(*_: Any) -> None:
        """The app's."""

    before = signal.getsignal(signal.SIGHUP)
    with AgentPool.from_toml(write(A)) as pool:
        end = reload_on_hangup(pool)
        try:
            signal.signal(signal.SIGHUP, other)
            end()
            assert signal.getsignal(signal.SIGHUP) is other
        finally:
            signal.signal(signal.SIGHUP, before)


@needs_hangup
def test_a_hangup_after_the_pools_end_does_nothing(write: Write) -> None:
    with logged() as lines:
        with AgentPool.from_toml(write(A)) as pool:
            end = reload_on_hangup(pool, write(A))
        os.kill(os.getpid(), signal.SIGHUP)
        end()
    assert [line for line in lines() if "WARNING" in line] == []


@needs_hangup
def test_a_hangup_can_be_heard_from_the_main_thread_only(write: Write) -> None:
    caught: list[BaseException] = []

    def elsewhere(pool: PoolRef) -> None:
        try:
            reload_on_hangup(pool)
        except ValueError as error:
            caught.append(error)

    with AgentPool.from_toml(write(A)) as pool:
        thread = threading.Thread(target=elsewhere, args=(pool,))
        thread.start()
        thread.join(WAIT_S)
    assert "main thread" in str(caught[0])


def test_b255_a_files_factory_makes_a_lost_agent_anew_before_and_after_a_reload(
    write: Write,
) -> None:
    """The file says the same of the member: it keeps the agent that it has by then."""
    Ending.made.clear()
    path = write(LAZY)
    with AgentPool.from_toml(path) as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1
        assert pool.execute("end", timeout=WAIT_S) == 2
        write("[pool]\nmax_retries = 1\n" + LAZY)
        assert pool.reload()
        assert pool.execute("x", timeout=WAIT_S) == 2
        assert len(Ending.made) == 2


def test_b255_a_member_that_code_has_put_in_with_another_rule_is_not_the_files(
    write: Write,
) -> None:
    """What its agent ends by is the app's, as its probe is."""
    path = write(LAZY)
    with AgentPool.from_toml(path) as pool:
        other = Member("lazy", factory=Ending, lost=OSError)
        pool.ask(Configure(replace=[other]))
        assert "lazy" in " ".join(pool.reload())
