"""Coroutines of one loop that are woken from other threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from helpers_pools import WAIT_S

from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.actors.runtime.waker import Waker, wait_here


def from_another_thread(*actions: Any) -> None:
    """Do all of that in a thread, and wait for its end."""

    def act() -> None:
        for action in actions:
            action()

    thread = threading.Thread(target=act)
    thread.start()
    thread.join(WAIT_S)


def test_many_share_one_wake_up_of_their_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop, which has no time at the moment, is told once that somebody is to be woken."""

    async def main() -> None:
        loop, told = asyncio.get_running_loop(), list[Any]()
        call_soon = loop.call_soon_threadsafe

        def counting(*arguments: Any, **options: Any) -> Any:
            told.append(arguments)
            return call_soon(*arguments, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        for _ in range(2):
            told.clear()
            waits = [wait_here() for _ in range(10)]
            from_another_thread(*(wake for _, wake in waits))
            await asyncio.wait_for(asyncio.gather(*(waiting for waiting, _ in waits)), WAIT_S)
            assert len(told) == 1

    asyncio.run(main())


def test_who_waits_no_longer_is_not_woken() -> None:
    """A wait that was cancelled, and one that is ended twice, hurt nobody."""

    async def main() -> None:
        (gone, wake_gone), (waiting, wake) = wait_here(), wait_here()
        gone.cancel()
        from_another_thread(wake_gone, wake, wake)
        await asyncio.wait_for(waiting, WAIT_S)
        assert gone.cancelled()

    asyncio.run(main())


class Broken(Exception):
    """What a signal handler raises."""


def test_who_wakes_and_is_broken_off_leaves_no_loop_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next wake, of somebody else, is a wake-up of the loop; it ends that wait, too."""

    async def main() -> None:
        (first, wake_first), (second, wake_second) = wait_here(), wait_here()

        def breaks_off(*_: Any, **__: Any) -> None:
            raise Broken

        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", breaks_off)

            def is_broken_off() -> None:
                with pytest.raises(Broken):
                    wake_first()

            from_another_thread(is_broken_off)
        from_another_thread(wake_second)
        await asyncio.wait_for(asyncio.gather(first, second), WAIT_S)

    asyncio.run(main())


def test_a_turn_that_the_loop_has_lost_is_had_when_somebody_else_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error in the loop's own code may cost it what it was to run next: it is not deaf."""

    async def main() -> None:
        lost, wake_lost = wait_here()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", lambda *_, **__: None)
            from_another_thread(wake_lost)
        waiting, wake = wait_here()
        from_another_thread(wake)
        await asyncio.wait_for(asyncio.gather(lost, waiting), WAIT_S)

    asyncio.run(main())


def test_what_raises_on_a_loop_of_the_pools_takes_nothing_else_with_it() -> None:
    """Each of the things to be done there is done, whatever the one before has raised."""
    thread, done = LoopThread("raises"), threading.Event()

    def raises() -> None:
        raise SystemExit

    def first() -> None:  # the others lie there by the time this has ended
        for action in (raises, done.set):
            thread.post(action)

    thread.post(first)
    assert done.wait(WAIT_S)
    thread.close()


def test_a_loop_that_has_closed_is_let_be() -> None:
    """Nobody is left to hear."""
    loop = asyncio.new_event_loop()
    waiting = loop.create_future()
    loop.close()
    Waker(loop).wake(waiting)
    assert not waiting.done()


def test_each_loop_of_a_thread_is_woken_by_itself() -> None:
    """One after the other, as with one `asyncio.run` after the other."""

    async def main() -> asyncio.AbstractEventLoop:
        waiting, wake = wait_here()
        from_another_thread(wake)
        await asyncio.wait_for(waiting, WAIT_S)
        return waiting.get_loop()

    assert asyncio.run(main()) is not asyncio.run(main())
