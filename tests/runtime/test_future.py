"""The future of an ask: Pykka's own, awaitable, cancellable, and answered once."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import traceback
import weakref
from collections.abc import Coroutine, Iterable
from typing import Any

import pykka
import pytest
from helpers_pools import WAIT_S

from greenroom import AgentPool, Member, PoolRef, Request, RequestCancelledError
from greenroom.actors.runtime.future import PENDING, PoolFuture
from greenroom.messages.errors import PoolStoppedError
from greenroom.testing import FakeClock


def future_with(on_cancel: Any = None) -> PoolFuture[Any]:
    return PoolFuture("r-1", None, on_cancel)


def raised() -> ValueError:
    """An error with a traceback of its own."""
    try:
        raise ValueError("where it happened")
    except ValueError as error:
        return error


def within(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it on an event loop of its own, for a bounded time."""
    return asyncio.run(asyncio.wait_for(coroutine, WAIT_S))


# -- Pykka's contract


def test_get_returns_the_value_as_often_as_it_is_asked() -> None:
    """Before and after, with a timeout and without."""
    future = PoolFuture[int]()
    future.set(7)
    assert [future.get(), future.get(timeout=0), future.get(timeout=1)] == [7, 7, 7]
    assert future.done()


def test_get_waits_for_another_thread() -> None:
    """The answer wakes every thread that waits for it."""
    future = PoolFuture[str]()
    got: list[str] = []
    readers = [
        threading.Thread(target=lambda: got.append(future.get(timeout=WAIT_S)), daemon=True)
        for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    future.set("x")
    for reader in readers:
        reader.join(WAIT_S)
    assert got == ["x"] * 4


@pytest.mark.parametrize("timeout", [0, -1.0, 0.001])
def test_get_gives_up_at_its_timeout_and_may_be_asked_again(timeout: float) -> None:
    """`pykka.Timeout`, and the answer is still to come."""
    future = PoolFuture[str]()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=timeout)
    future.set("late")
    assert future.get(timeout=timeout) == "late"


def test_a_timeout_longer_than_any_is_no_error() -> None:
    """What a lock cannot wait for is cut down to what it can."""
    future = PoolFuture[str]()
    threading.Thread(target=future.set, args=("x",)).start()
    assert future.get(timeout=1e12) == "x"


def test_asking_in_vain_leaves_nothing_behind() -> None:
    """A future that is polled for hours does not grow."""
    future = PoolFuture[str]()
    for _ in range(100):
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0)
    assert future._watcher is None


def test_a_second_set_raises_as_pykka_does() -> None:
    """`queue.Full`, and the first answer stands."""
    future = PoolFuture[int]()
    future.set(1)
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_exception((ValueError, ValueError("x"), None))
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda _: 3)
    assert future.get() == 1


def test_a_pending_promise_is_no_answer() -> None:
    """The router's return value from `on_receive` only says that the answer comes later."""
    future = PoolFuture[Any]()
    future.set(PENDING)
    assert not future.done()
    future.set(None)
    assert future.get() is None


def test_an_exception_is_raised_with_the_traceback_of_where_it_happened() -> None:
    """Every time, and the traceback does not grow from one time to the next."""
    future = PoolFuture[Any]()
    future.resolve(error=raised())
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="where it happened") as caught:
            future.get()
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == "raised"
        lengths.append(len(frames))
    assert len(set(lengths)) == 1


def test_set_exception_takes_the_current_one() -> None:
    """As in Pykka, without arguments in an except block."""
    future = PoolFuture[Any]()
    try:
        raise KeyError("k")
    except KeyError:
        future.set_exception()
    with pytest.raises(KeyError):
        future.get()


def test_the_end_of_the_actor_reads_as_the_end_of_the_pool() -> None:
    """Pykka's ActorDeadError becomes one that is greenroom's as well."""
    future = PoolFuture[Any]()
    dead = pykka.ActorDeadError("gone")
    future.set_exception((pykka.ActorDeadError, dead, None))
    with pytest.raises(PoolStoppedError) as caught:
        future.get()
    assert isinstance(caught.value, pykka.ActorDeadError)


def test_the_end_of_the_actor_does_not_replace_an_answer() -> None:
    """What the stop of a pool has answered already, its teardown does not complain of."""
    future = PoolFuture[Any]()
    future.set("answered")
    future.set_exception((pykka.ActorDeadError, pykka.ActorDeadError("gone"), None))
    assert future.get() == "answered"


def test_map_filter_join_and_reduce_are_pykkas() -> None:
    """They wait for the futures that they are made of."""
    number, others = PoolFuture[int](), PoolFuture[Iterable[int]]()
    doubled = number.map(lambda n: 2 * n)
    odd = others.filter(lambda n: n % 2 == 1)
    total = others.reduce(lambda a, b: a + b, 100)
    both = number.join(others)
    assert isinstance(doubled, PoolFuture)
    with pytest.raises(pykka.Timeout):
        doubled.get(timeout=0)
    number.set(21)
    others.set([1, 2, 3])
    assert doubled.get() == 42
    assert list(odd.get()) == [1, 3]
    assert total.get() == 106
    assert both.get() == [21, [1, 2, 3]]
    assert both.map(list).get() == [21, [1, 2, 3]]


def test_what_a_mapped_function_raises_is_raised() -> None:
    """And so is what the first future failed with."""
    good, bad = PoolFuture[int](), PoolFuture[int]()
    good.set(0)
    bad.resolve(error=raised())
    with pytest.raises(ZeroDivisionError):
        good.map(lambda n: 1 // n).get()
    with pytest.raises(ValueError, match="where it happened"):
        bad.map(lambda n: n).get()


def test_get_all_takes_them_too() -> None:
    """In the order given, together with Pykka's own."""
    ours, theirs = PoolFuture[str](), pykka.ThreadingFuture[str]()
    theirs.set("theirs")
    ours.set("ours")
    assert list(pykka.get_all([ours, theirs], timeout=1)) == ["ours", "theirs"]


# -- answered once


def test_the_first_answer_wins_under_a_race() -> None:
    """Of many threads that answer at once exactly one succeeds, and its answer is the one read."""
    for _ in range(200):
        future = PoolFuture[int]()
        start = threading.Barrier(4)
        won: list[int] = []

        def answer(
            number: int,
            future: PoolFuture[int] = future,
            start: threading.Barrier = start,
            won: list[int] = won,
        ) -> None:
            start.wait(WAIT_S)
            if future.resolve(number):
                won.append(number)

        threads = [threading.Thread(target=answer, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert won == [future.get(timeout=0)]


def test_a_watcher_that_comes_while_the_answer_does_is_called_once() -> None:
    """Neither forgotten nor called twice."""
    for _ in range(500):
        future = PoolFuture[int]()
        called: list[int] = []
        answerer = threading.Thread(target=future.set, args=(1,))
        answerer.start()
        future.add_done_callback(lambda done, called=called: called.append(done.get()))  # type: ignore[misc]
        answerer.join(WAIT_S)
        assert called == [1]


# -- callbacks


def test_a_callback_is_given_the_future_once_it_is_done() -> None:
    """At once when there is an answer already; each in the order of being added."""
    future = PoolFuture[int]()
    called: list[Any] = []
    future.add_done_callback(lambda done: called.append(("before", done.get())))
    future.add_done_callback(lambda done: called.append(("second", done is future)))
    assert called == []
    future.set(1)
    future.add_done_callback(lambda done: called.append(("after", done.done())))
    assert called == [("before", 1), ("second", True), ("after", True)]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_a_callback_that_raises_harms_nobody(error: BaseException) -> None:
    """Not the thread that answers, not the other callbacks, not those who wait."""
    future = PoolFuture[int]()
    called: list[int] = []

    def fail(_: PoolFuture[int]) -> None:
        raise error

    future.add_done_callback(fail)
    future.add_done_callback(lambda done: called.append(done.get()))
    assert future.resolve(1)
    future.add_done_callback(fail)
    assert called == [1]


def test_a_callback_may_ask_the_future_again() -> None:
    """It runs outside the future's lock."""
    future = PoolFuture[int]()
    seen: list[Any] = []
    future.add_done_callback(
        lambda done: done.add_done_callback(lambda again: seen.append(again.get(timeout=0)))
    )
    future.set(5)
    assert seen == [5]


# -- await


def test_a_future_is_awaited_without_blocking_the_loop() -> None:
    """The loop runs other tasks meanwhile; the answer comes from another thread."""

    async def main() -> tuple[str, bool]:
        future = PoolFuture[str]()
        ran = asyncio.Event()

        async def other() -> None:
            ran.set()
            threading.Thread(target=future.set, args=("x",)).start()

        task = asyncio.create_task(other())
        answer = await future
        await task
        return answer, ran.is_set()

    assert within(main()) == ("x", True)


def test_an_answered_future_is_awaited_at_once() -> None:
    """With a value and with an error."""

    async def main() -> Any:
        good, bad = PoolFuture[str](), PoolFuture[str]()
        good.set("x")
        bad.resolve(error=raised())
        with pytest.raises(ValueError, match="where it happened"):
            await bad
        return await good

    assert within(main()) == "x"


def test_several_tasks_and_loops_may_await_the_same_future() -> None:
    """Each of them gets the answer."""
    future = PoolFuture[str]()
    waiting = threading.Semaphore(0)
    got: list[list[str]] = []

    async def await_it() -> str:
        waiting.release()
        return await future

    async def two_tasks() -> None:
        got.append(list(await asyncio.gather(await_it(), await_it())))

    loops = [threading.Thread(target=lambda: within(two_tasks()), daemon=True) for _ in range(2)]
    for thread in loops:
        thread.start()
    for _ in range(4):
        assert waiting.acquire(timeout=WAIT_S)
    future.set("x")
    for thread in loops:
        thread.join(WAIT_S)
    assert got == [["x", "x"], ["x", "x"]]


def test_an_await_that_is_cancelled_cancels_the_request() -> None:
    """The task sees its CancelledError, the pool is told."""
    told: list[PoolFuture[Any]] = []

    async def main() -> None:
        future = future_with(told.append)
        task = asyncio.ensure_future(_awaiting(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(main())
    assert [future.request_id for future in told] == ["r-1"]


def test_an_await_that_times_out_cancels_the_request() -> None:
    """`asyncio.timeout` does it by cancelling."""
    told: list[PoolFuture[Any]] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await future_with(told.append)

    within(main())
    assert [future.request_id for future in told] == ["r-1"]


def test_an_answer_for_a_loop_that_has_closed_is_no_error() -> None:
    """Nobody is left to hear it, and the thread that answers must not suffer."""
    future = future_with(lambda _: None)

    async def leave() -> None:
        task = asyncio.ensure_future(_awaiting(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(leave())
    assert future.resolve("late")
    assert future.get() == "late"


def test_a_mapped_future_is_awaited_too() -> None:
    """By way of a thread, since only its `get` can tell."""

    async def main() -> Any:
        future = PoolFuture[int]()
        threading.Thread(target=future.set, args=(20,)).start()
        return await future.map(lambda n: n + 1)

    assert within(main()) == 21


def test_an_answered_future_keeps_none_of_its_watchers() -> None:
    """What waited for it can be collected while the future is still held."""

    class Watching:
        def __call__(self, _: PoolFuture[int]) -> None:
            pass

    future = PoolFuture[int]()
    watching = Watching()
    gone = weakref.ref(watching)
    future.add_done_callback(watching)
    future.set(1)
    del watching
    gc.collect()
    assert gone() is None


async def _awaiting(future: PoolFuture[Any]) -> Any:
    return await future


# -- cancel


def test_cancel_gives_the_request_up() -> None:
    """The pool is told its id; the answer is the pool's."""
    told: list[PoolFuture[Any]] = []
    future = future_with(told.append)
    assert future.cancel()
    assert [future.request_id for future in told] == ["r-1"]
    assert not future.done()


def test_what_has_been_answered_cannot_be_cancelled() -> None:
    """Nobody is told, and the answer stands."""
    told: list[PoolFuture[Any]] = []
    future = future_with(told.append)
    future.set(1)
    assert not future.cancel()
    assert (told, future.get()) == ([], 1)


def test_what_is_no_request_cannot_be_cancelled() -> None:
    """The answer to a command, and what `map` made."""
    assert not PoolFuture[int]().cancel()
    assert not future_with(lambda _: None).map(lambda n: n).cancel()


def test_cancelling_after_the_pools_end_answers_on_the_spot() -> None:
    """The pool cannot be told any more."""

    def dead(_: str) -> None:
        raise pykka.ActorDeadError("gone")

    future = future_with(dead)
    assert future.cancel()
    with pytest.raises(RequestCancelledError):
        future.get(timeout=0)


def test_repr_says_how_things_stand() -> None:
    """Its request, and whether there is an answer."""
    future, failed = future_with(), future_with()
    assert repr(future) == "<PoolFuture r-1 pending>"
    future.set(1)
    assert repr(future) == "<PoolFuture r-1 answered>"
    failed.resolve(error=raised())
    assert repr(failed) == "<PoolFuture r-1 failed>"


# -- with a pool behind it


def held_pool(release: threading.Event, clock: FakeClock | None = None) -> PoolRef:
    def hold(payload: Any) -> Any:
        release.wait(WAIT_S)
        return payload

    return AgentPool.start([Member("a", hold)], clock=clock)


def test_cancelling_a_pools_future_answers_it() -> None:
    """Once; the value that comes later is nobody's."""
    release = threading.Event()
    with held_pool(release) as pool:
        future = pool.ask(Request("x"), block=False)
        assert future.cancel()
        with pytest.raises(RequestCancelledError):
            future.get(timeout=WAIT_S)
        assert not future.cancel()
        release.set()
        assert pool.stats().cancelled == 1


def test_futures_of_two_pools_and_pykkas_own_join() -> None:
    """They are Pykka futures in every respect."""
    release = threading.Event()
    release.set()
    theirs = pykka.ThreadingFuture[str]()
    theirs.set("z")
    with held_pool(release) as one, held_pool(release) as two:
        first = one.ask(Request("x"), block=False)
        second = two.ask(Request("y"), block=False)
        texts = first.map(lambda reply: reply.value).join(second.map(lambda reply: reply.value))
        assert texts.get(timeout=WAIT_S) == ["x", "y"]
        every: list[pykka.Future[Any]] = [first, second, theirs]
        answers = pykka.get_all(every, timeout=WAIT_S)
        assert [getattr(each, "value", each) for each in answers] == ["x", "y", "z"]


def test_a_future_outlives_its_pool() -> None:
    """What the stop has answered can be read afterwards, and asking on is an error at once."""
    release = threading.Event()
    pool = held_pool(release)
    pool.stats()
    future = pool.ask(Request("x"), block=False)
    release.set()
    pool.stop()
    assert future.done()
    late = pool.ask(Request("y"), block=False)
    assert late.done()
    with pytest.raises(PoolStoppedError) as caught:
        late.get()
    assert isinstance(caught.value, pykka.ActorDeadError)
    assert not late.cancel()
