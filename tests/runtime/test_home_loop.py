"""The app's own loop as a place where agents run: what is posted there, and what is left to it."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from helpers_pools import WAIT_S

from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.loop_thread import Actions, LoopThread
from greenroom.actors.runtime.task_cut import TaskCut

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; in debug mode, which refuses calls from the wrong thread."""
    return asyncio.run(asyncio.wait_for(main, WAIT_S), debug=True)


def home_of_this_loop(**settings: Any) -> HomeLoop:
    return HomeLoop("home", asyncio.get_running_loop(), LoopThread("successor"), **settings)


def note(came: list[Any], number: int, home: HomeLoop) -> None:
    came.append((number, home.here()))


def in_thread(work: Any) -> Any:
    """What `work` returns in a thread of its own."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(work()))
    thread.start()
    thread.join(WAIT_S)
    return outcome[0]


def test_what_is_posted_runs_on_the_loop_in_order_from_whatever_thread() -> None:
    """And never within the call that posts it."""

    async def main() -> None:
        came: list[Any] = []
        home, done = home_of_this_loop(), asyncio.Event()
        for number in (1, 2):
            assert home.post(functools.partial(note, came, number, home))
        assert came == []
        assert in_thread(lambda: home.post(done.set))
        await done.wait()
        assert came == [(1, True), (2, True)]

    run(main())


def test_it_is_here_only_where_its_loop_runs() -> None:
    """Neither in another thread, nor on another loop, nor where it runs no more."""

    async def main() -> HomeLoop:
        home = home_of_this_loop()
        assert home.here()
        assert not in_thread(home.here)

        async def elsewhere() -> bool:
            return home.here()

        assert not in_thread(lambda: asyncio.run(elsewhere()))
        return home

    assert not run(main()).here()


def test_its_start_is_told_with_the_first_work() -> None:
    """Once; whoever is told that may post something himself."""

    async def main() -> None:
        started: list[int] = []
        home = home_of_this_loop(on_start=lambda: started.append(1))
        assert not started
        home.post(lambda: None)
        home.post(lambda: None)
        assert started == [1]

    run(main())


def test_a_closed_pool_leaves_the_loop_as_it_was() -> None:
    """Its tasks, its handlers and its factory are the app's; so is its end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        others = asyncio.create_task(asyncio.Event().wait())
        before = loop.get_exception_handler(), loop.get_task_factory(), asyncio.all_tasks()
        home = home_of_this_loop()
        home.post(lambda: None)
        home.close()
        assert not home.post(lambda: None)
        assert (home.ended, home.gone) == (True, False)
        await asyncio.sleep(0)
        assert loop.is_running()
        assert not others.cancelling()
        assert before == (
            loop.get_exception_handler(),
            loop.get_task_factory(),
            asyncio.all_tasks(),
        )
        others.cancel()

    run(main())


@pytest.mark.parametrize("closed", [True, False])
def test_a_loop_that_nobody_runs_any_more_takes_nothing(closed: bool) -> None:
    """Who posts there finds out, and its end is told once."""
    ended: list[int] = []

    async def main() -> HomeLoop:
        return home_of_this_loop(on_end=lambda: ended.append(1))

    loop = asyncio.new_event_loop()
    try:
        home = loop.run_until_complete(main())
        if closed:
            loop.close()
        assert not ended
        assert not home.post(lambda: None)
        assert not home.post(lambda: None)
        assert (home.ended, home.gone, ended) == (True, True, [1])
    finally:
        loop.close()


def out_of_threads(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("own", [True, False])
def test_what_raises_as_a_closed_loop_does_is_not_taken_for_one(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that was refused without a word would be lost, and its slot with it."""

    async def main() -> None:
        home = LoopThread("own") if own else home_of_this_loop()
        done = threading.Event()
        home.post(done.set)  # it has begun
        with monkeypatch.context() as patch:
            patch.setattr(Actions, "put", out_of_threads)
            with pytest.raises(RuntimeError, match="new thread"):
                home.post(done.clear)
        assert not home.ended
        done.clear()
        assert home.post(done.set)
        await asyncio.to_thread(done.wait, WAIT_S)
        home.close(wait=False)

    run(main())


def test_a_cut_that_raises_as_on_a_closed_loop_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else whoever cuts would think that its loop has ended."""

    async def main() -> None:
        cut, loop = TaskCut(), asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", out_of_threads)
            with pytest.raises(RuntimeError, match="new thread"):
                cut.cut(lambda: None)

    run(main())
