"""Many requests by one call: in order or as they come, bounded, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar, assert_type

import anyio
import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, echo, echo_async, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Apply,
    AskTimeoutError,
    CallContext,
    FailureKind,
    MapResult,
    Member,
    PoolRef,
    PoolStoppedError,
    ReentrantAskError,
    Request,
)
from greenroom.testing import FakeClock

T = TypeVar("T")
Run = Callable[..., list[Any]]


def run(main: Coroutine[Any, Any, T]) -> T:
    """In debug mode, which refuses calls from the wrong thread; for a bounded time."""
    return asyncio.run(asyncio.wait_for(main, 3 * WAIT_S), debug=True)


def mapped(pool: PoolRef, payloads: Any, **how: Any) -> list[Any]:
    return list(pool.map(payloads, **how))


def amapped(pool: PoolRef, payloads: Any, **how: Any) -> list[Any]:
    async def main() -> list[Any]:
        return [each async for each in pool.amap(payloads, **how)]

    return run(main())


def amapped_async(pool: PoolRef, payloads: Any, **how: Any) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for each in payloads:
            yield each

    return amapped(pool, source(), **how)


@pytest.fixture(params=[mapped, amapped, amapped_async], ids=lambda run: run.__name__)
def run_map(request: pytest.FixtureRequest) -> Run:
    made: Run = request.param
    return made


class Input:
    """An endless input, sync and async, that knows what was pulled from it, and where it ended."""

    def __init__(self, error_at: int | None = None, told_at: int | None = None) -> None:
        self.pulled = 0
        self.told = threading.Event()
        self._told_at = told_at
        self.closed = threading.Event()
        self.tasks: set[Any] = set()
        self._error_at = error_at

    def _next(self) -> int:
        if self.pulled == self._error_at:
            raise OSError("the input broke off")
        self.pulled += 1
        if self.pulled == self._told_at:
            self.told.set()
        return self.pulled - 1

    def sync(self) -> Iterator[int]:
        try:
            while True:
                yield self._next()
        finally:
            self.closed.set()

    async def coroutine(self) -> AsyncIterator[int]:
        try:
            while True:
                self.tasks.add(asyncio.current_task())
                yield self._next()
        finally:
            self.tasks.add(asyncio.current_task())
            await asyncio.sleep(0)
            self.closed.set()


class Pairs:
    """An agent that answers each odd number before the even one that came before it."""

    def __init__(self) -> None:
        self._events: dict[int, asyncio.Event] = {}

    async def __call__(self, number: int) -> int:
        event = self._events.setdefault(number // 2, asyncio.Event())
        if number % 2:
            event.set()
        else:
            await event.wait()
        return number


def odd_one_fails(number: int) -> int:
    if number == 3:
        raise KeyError(number)
    return number * 10


# -- results


def test_results_come_in_the_order_of_the_payloads(run_map: Run) -> None:
    """However they were answered."""
    with pool_of(Member("a", Pairs())) as pool:
        assert run_map(pool, range(6), max_in_flight=2) == [0, 1, 2, 3, 4, 5]
        assert run_map(pool, range(6)) == [0, 1, 2, 3, 4, 5]


def test_or_as_they_come(run_map: Run) -> None:
    """With `ordered=False`: a slow one holds back no other."""
    last_has_begun = threading.Event()

    async def slow_first(number: int) -> int:
        if number == 5:
            last_has_begun.set()
        while number == 0 and not last_has_begun.is_set():  # noqa: ASYNC110 - of any loop
            await asyncio.sleep(0)
        return number

    with pool_of(Member("a", slow_first)) as pool:
        results = run_map(pool, range(6), max_in_flight=2, ordered=False)
    assert sorted(results[:4]) == [1, 2, 3, 4]  # before the last one there was room for them alone
    assert sorted(results[4:]) == [0, 5]


def test_nothing_is_mapped_to_nothing(run_map: Run) -> None:
    """No payload, no request; and a pool without members is no reason to hang."""
    with pool_of(Member("a", echo)) as pool:
        assert run_map(pool, []) == []
        assert pool.stats().accepted == 0
    with pool_of() as empty:
        assert run_map(empty, []) == []
        with pytest.raises(AllPoolMembersFailedError):
            run_map(empty, [1])


def test_errors_are_results_with_the_place_of_their_payload(run_map: Run) -> None:
    """In either order, and the map goes on."""
    with pool_of(Member("a", odd_one_fails), classify=lambda _: FailureKind.CALLER) as pool:
        for ordered in (True, False):
            results = run_map(pool, range(6), errors="return", ordered=ordered)
            assert [each.index for each in results] == list(range(6))
            assert [each.value for each in results if not each.error] == [0, 10, 20, 40, 50]
            assert results[0].reply.member == "a"
            with pytest.raises(KeyError):
                _ = results[3].value


def test_options_are_for_each_and_requests_go_as_they_are(run_map: Run) -> None:
    """A `Request` or an `Apply` among the payloads has its own."""

    def agent(payload: str, call: CallContext) -> str:
        return f"{payload} {call.key} {call.metadata}"

    payloads: list[Any] = ["x", Request("y", key="own"), Apply(lambda agent: agent.__name__)]
    with pool_of(Member("a", agent)) as pool:
        assert run_map(pool, payloads, key="all", metadata={"n": 1}) == [
            "x all {'n': 1}",
            "y own {}",
            "agent",
        ]


def test_each_has_the_timeout_for_itself(clock: FakeClock) -> None:
    """From when it is sent; it is an `AskTimeoutError`, and the work is cancelled."""
    held = AsyncHeld()

    async def main(pool: PoolRef) -> None:
        results = pool.amap([1, 2, 3], timeout=5.0, errors="return", max_in_flight=1)
        for each in range(3):
            waiting = asyncio.ensure_future(anext(results))
            await asyncio.to_thread(held.wait_entered)
            clock.advance(5.0)
            result = await waiting
            assert (result.index, type(result.error)) == (each, AskTimeoutError)
            await asyncio.to_thread(held.wait_cancelled)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    with pool_of(Member("a", held), clock=clock, request_timeout_s=None) as pool:
        run(main(pool))


# -- what is held


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_input_is_pulled_as_results_are_taken(ordered: bool) -> None:
    """Never more than may be in flight; and nothing before the first result is wanted."""
    source = Input()
    with pool_of(Member("a", echo)) as pool:
        results = pool.map(source.sync(), max_in_flight=3, ordered=ordered)
        assert source.pulled == 0
        for taken in range(1, 200):
            next(results)
            assert taken <= source.pulled < taken + 3
        results.close()
        assert source.closed.is_set()


@pytest.mark.parametrize("kind", ["sync", "coroutine"])
def test_a_slow_consumer_holds_an_endless_input_back(kind: str) -> None:
    """Of an async map, too, whose input runs beside it."""
    source = Input()

    async def main(pool: PoolRef) -> None:
        results = pool.amap(getattr(source, kind)(), max_in_flight=3)
        assert source.pulled == 0
        for taken in range(1, 20):
            await anext(results)
            for _ in range(20):  # turns in which it could pull more
                await asyncio.sleep(0)
            assert source.pulled <= taken + 3
        await results.aclose()
        assert source.closed.is_set()

    with pool_of(Member("a", echo_async)) as pool:
        run(main(pool))


def test_with_room_for_one_nothing_is_pulled_before_its_result_is_taken() -> None:
    """So an input may depend on the result before."""
    heard: list[int] = [0]

    def source() -> Iterator[int]:
        while heard[-1] < 100:
            yield heard[-1]

    with pool_of(Member("a", lambda number: number * 3 + 1)) as pool:
        for result in pool.map(source(), max_in_flight=1):
            heard.append(result)
    assert heard == [0, 1, 4, 13, 40, 121]


@pytest.mark.parametrize("kind", ["sync", "coroutine"])
def test_payloads_and_results_are_let_go(kind: str) -> None:
    """Of ten thousand no more are alive than are in flight."""

    class Thing:
        pass

    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    most = 0

    def made() -> Thing:
        nonlocal most
        thing = Thing()
        alive.add(thing)
        most = max(most, len(alive))
        return thing

    with pool_of(Member("a", echo_async)) as pool:
        if kind == "sync":
            count = sum(1 for _ in pool.map((made() for _ in range(2_000)), max_in_flight=4))
        else:

            async def main() -> int:
                things = (made() for _ in range(2_000))
                return len([None async for _ in pool.amap(things, max_in_flight=4)])

            count = run(main())
    assert count == 2_000
    assert most < 4 + 10


def test_by_default_twice_as_many_as_the_members_take_are_in_flight() -> None:
    """So that each has a next one. What may wait in the pool is a limit."""
    for max_pending, most in [(10_000, 4), (1, 3), (0, 2)]:
        source = Input(told_at=most)
        held = AsyncHeld()
        members = [Member(name, held, max_concurrency=1) for name in "ab"]
        with pool_of(*members, max_pending=max_pending) as pool:

            async def main(pool: PoolRef, source: Input, held: AsyncHeld, most: int) -> None:
                waiting = asyncio.ensure_future(anext(pool.amap(source.sync())))
                await asyncio.to_thread(source.told.wait, WAIT_S)
                stats = await pool.astats()
                assert (stats.in_flight, stats.pending, source.pulled) == (2, most - 2, most)
                waiting.cancel()
                await asyncio.wait([waiting])

            run(main(pool, source, held, most))


def test_it_follows_what_the_members_take() -> None:
    """A factory's agent takes one call before it is made, and a hundred then."""
    source = Input()

    async def factory() -> Any:
        return echo_async

    with pool_of(Member("lazy", factory=factory)) as pool:
        results = pool.map(source.sync())
        behind = [source.pulled - number for number in (next(results) for _ in range(300))]
        assert behind[0] <= 2
        assert max(behind) > 50
        results.close()


# -- leaving


@pytest.mark.parametrize("how", ["close", "let go", "error in the loop"])
def test_who_leaves_a_map_cancels_what_is_in_flight(how: str) -> None:
    """And closes the input, there and then."""
    source = Input()

    def leave(results: Any) -> None:
        if how == "close":
            next(results)
            results.close()
        elif how == "let go":
            for _ in results:
                break
        else:
            for _ in results:
                raise KeyError("the loop's own")

    with pool_of(Member("a", first_alone)) as pool:
        with contextlib.suppress(KeyError):
            leave(pool.map(source.sync(), max_in_flight=5))
        gc.collect()
        assert source.closed.is_set()
        stats = pool.stats()
        assert (stats.completed, stats.cancelled) == (1, source.pulled - 1)


async def first_alone(number: int) -> int:
    """An agent that answers 0, and no other."""
    if number:
        await asyncio.Event().wait()
    return number


@pytest.mark.parametrize("kind", ["sync", "coroutine"])
@pytest.mark.parametrize("how", ["aclose", "let go", "cancelled", "error in the loop"])
def test_who_leaves_an_async_map_cancels_what_is_in_flight(how: str, kind: str) -> None:
    """And closes the input, in the task that has read it; no task is left."""
    source = Input()

    async def leave(pool: PoolRef) -> None:
        results = pool.amap(getattr(source, kind)(), max_in_flight=5)
        if how == "cancelled":
            begun = asyncio.Event()
            reader = asyncio.create_task(read(results, begun))
            await begun.wait()
            await asyncio.sleep(0)  # it waits for the next one now
            reader.cancel()
            await asyncio.wait([reader])
        elif how == "aclose":
            async with contextlib.aclosing(results):
                await anext(results)
        elif how == "let go":
            async for _ in results:
                break
        else:
            with contextlib.suppress(KeyError):
                async with contextlib.aclosing(results):
                    async for _ in results:
                        raise KeyError("the loop's own")

    async def read(results: AsyncIterator[Any], begun: asyncio.Event) -> None:
        async for _ in results:
            begun.set()

    async def main(pool: PoolRef) -> None:
        tasks = asyncio.all_tasks()
        await leave(pool)
        if how == "let go":
            gc.collect()
            await asyncio.to_thread(source.closed.wait, WAIT_S)
        assert source.closed.is_set()
        assert len(source.tasks) == (kind == "coroutine")
        stats = await pool.astats()
        assert (stats.completed, stats.cancelled) == (1, source.pulled - 1)
        others = asyncio.all_tasks() - {asyncio.current_task()} - {*tasks}
        await asyncio.gather(*others)  # none that would not end

    with pool_of(Member("a", first_alone)) as pool:
        run(main(pool))


def test_what_is_no_error_of_the_inputs_ends_the_map_at_once() -> None:
    """Ctrl-C, say: nobody waits for what is in flight, which is cancelled."""

    def three() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    with pool_of(Member("a", first_alone)) as pool:
        results = pool.map(three(), max_in_flight=3)
        assert next(results) == 0
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert list(results) == []
        stats = pool.stats()
        assert (stats.completed, stats.cancelled) == (1, 2)


def test_the_first_error_ends_a_map_that_raises() -> None:
    """Its turn comes in order; what is in flight is cancelled, and the input closed."""

    async def failing(number: int) -> int:
        if number == 1:
            raise KeyError("the agent's own")
        return await first_alone(number)

    for how in ("sync", "async"):
        source = Input()
        results: list[int] = []
        with pool_of(Member("a", failing), classify=lambda _: FailureKind.CALLER) as pool:

            async def main(pool: PoolRef, source: Input, results: list[int]) -> None:
                async for each in pool.amap(source.coroutine(), max_in_flight=4):
                    results.append(each)

            with pytest.raises(KeyError):
                if how == "async":
                    run(main(pool, source, results))
                for each in pool.map(source.sync(), max_in_flight=4):
                    results.append(each)
            assert results == [0]
            assert source.closed.is_set()
            assert pool.stats().cancelled == source.pulled - 2


@pytest.mark.parametrize("errors", ["raise", "return"])
@pytest.mark.parametrize("kind", ["map", "sync", "coroutine"])
def test_an_input_that_raises_ends_the_map_when_all_it_sent_is_answered(
    kind: str, errors: Any
) -> None:
    """No answer is lost by it, and it is no result: it is raised, after them."""
    source = Input(error_at=5)
    results: list[Any] = []

    async def main(pool: PoolRef) -> None:
        async for each in pool.amap(getattr(source, kind)(), max_in_flight=3, errors=errors):
            results.append(each)

    with pool_of(Member("a", echo)) as pool, pytest.raises(OSError, match="the input broke off"):
        if kind == "map":
            for each in pool.map(source.sync(), max_in_flight=3, errors=errors):
                results.append(each)
        else:
            run(main(pool))
    assert [each.value if errors == "return" else each for each in results] == [0, 1, 2, 3, 4]
    assert source.closed.is_set()


def test_results_come_while_an_async_input_waits() -> None:
    """Its next payload may hang on the result before."""

    async def main(pool: PoolRef) -> None:
        answered = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            for number in range(4):
                yield number
                await answered.wait()
                answered.clear()

        heard = []
        async for each in pool.amap(source()):
            heard.append(each)
            answered.set()
        assert heard == [0, 1, 2, 3]

    with pool_of(Member("a", echo_async)) as pool:
        run(main(pool))


def test_cancel_scopes_around_a_map_and_in_its_input_are_not_torn() -> None:
    """anyio wants each left in the task that has entered it, and cancels more than once."""

    async def source() -> AsyncIterator[int]:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                number = 0
                while True:
                    yield number
                    number += 1
        except BaseException as error:  # its task group calls the end of a generator by a group
            ended.append(error)
            raise

    async def main(pool: PoolRef) -> None:
        before = asyncio.all_tasks()
        async with contextlib.aclosing(pool.amap(source(), max_in_flight=3)) as results:
            async for each in results:
                if each == 5:
                    break
        with anyio.CancelScope() as scope:
            async for each in pool.amap(source(), max_in_flight=3):
                if each == 5:
                    scope.cancel()
        assert scope.cancelled_caught
        if reading := asyncio.all_tasks() - before:
            await asyncio.wait(reading)
        assert (await pool.astats()).failed == 0

    ended: list[BaseException] = []
    with pool_of(Member("a", echo_async)) as pool:
        run(main(pool))
    assert len(ended) == 2
    assert "different task" not in str(ended)


def test_one_that_is_left_to_the_end_of_the_loop_is_closed_there() -> None:
    """The loop closes all async generators that are still open, at once, and none fails."""
    complaints: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        async with AgentPool.start([Member("a", echo_async)]) as pool:
            results = pool.amap(range(9))
            assert await anext(results) == 0
            return results

    kept = asyncio.run(asyncio.wait_for(main(), WAIT_S))
    assert not complaints
    with pytest.raises(StopAsyncIteration):
        asyncio.run(anext(kept))


def test_a_pool_that_has_stopped_ends_the_map(run_map: Run) -> None:
    """Though errors are results: an endless input would have no end."""

    def source() -> Iterator[int]:
        for number in range(1_000_000):
            if number == 5:
                pool.stop(block=False)
            yield number

    with pool_of(Member("a", echo)) as pool:
        with pytest.raises(PoolStoppedError):
            run_map(pool, source(), errors="return", max_in_flight=2)
        with pytest.raises(PoolStoppedError):
            run_map(pool, [1])


def test_a_generator_that_is_no_generator_is_left_open() -> None:
    """A file, say, is its owner's: only what runs for the map is closed by it."""

    class Lines:
        closed = False

        def __iter__(self) -> Lines:
            return self

        def __next__(self) -> str:
            return "line"

        def close(self) -> None:
            self.closed = True

    lines = Lines()
    with pool_of(Member("a", echo)) as pool:
        for _ in pool.map(lines):
            break
        gc.collect()
    assert not lines.closed


# -- where it must not wait


@pytest.mark.parametrize("form", ["map", "amap"])
def test_an_agent_that_maps_over_its_own_pool_is_told(form: str) -> None:
    """Where only its own slot could help; with another one free it is answered."""

    def sync(payload: Any) -> Any:
        return payload if payload != "outer" else list(pool.map(range(4)))

    async def coroutine(payload: Any) -> Any:
        return payload if payload != "outer" else [each async for each in pool.amap(range(4))]

    agent: Any = sync if form == "map" else coroutine
    with pool_of(Member("a", agent, max_concurrency=1), max_retries=0) as pool:
        with pytest.raises((ReentrantAskError, AllPoolMembersFailedError)) as raised:
            pool.execute("outer")
        assert "slot" in str(raised.value)
    with pool_of(*[Member(name, agent, max_concurrency=1) for name in "ab"]) as pool:
        assert pool.execute("outer") == [0, 1, 2, 3]


def test_the_routers_own_thread_cannot_map() -> None:
    """It would wait for itself: it is told, and goes on."""
    errors: list[BaseException] = []

    class Curious:
        def pick(self, candidates: Sequence[Any], context: object, rng: object) -> Any:
            if not errors:
                for form in (mapped, amapped):
                    try:
                        form(pool, [1])
                    except ReentrantAskError as error:
                        errors.append(error)
            return candidates[0]

    with pool_of(Member("a", echo), strategy=Curious()) as pool:
        assert pool.execute("x") == "x"
        assert len(errors) == 2
        assert pool.execute("y") == "y"


BAD: list[tuple[type[Exception], dict[str, Any], str]] = [
    (TypeError, {"payloads": 7}, "payloads must be an iterable"),
    (TypeError, {"ordered": 1}, "ordered"),
    (ValueError, {"max_in_flight": 0}, "max_in_flight"),
    (TypeError, {"max_in_flight": 1.5}, "max_in_flight"),
    (ValueError, {"timeout": -1}, "timeout"),
    (ValueError, {"errors": "ignore"}, "errors must be 'raise' or 'return'"),
    (ValueError, {"request_id": "r"}, "request_id must be left out"),
    (ValueError, {"timeout_s": 0}, "timeout_s"),
    (TypeError, {"no_option": 1}, "no_option"),
]


@pytest.mark.parametrize(("error", "given", "words"), BAD)
@pytest.mark.parametrize("form", ["map", "amap"])
def test_bad_arguments_are_refused_at_once(
    form: str, error: type[Exception], given: dict[str, Any], words: str
) -> None:
    """Not with the first `next`."""
    with pool_of(Member("a", echo)) as pool, pytest.raises(error, match=words):
        getattr(pool, form)(**{"payloads": [1], **given})


def test_an_async_input_wants_the_async_form() -> None:
    """It is said."""
    with pool_of(Member("a", echo)) as pool, pytest.raises(TypeError, match="amap takes it"):
        pool.map(Input().coroutine())  # type: ignore[call-overload]


async def _types(pool: PoolRef) -> None:
    """What a type checker infers; never run."""
    assert_type(next(pool.map([1])), Any)
    assert_type(next(pool.map([1], errors="return")), MapResult[Any])
    assert_type(await anext(pool.amap([1])), Any)
    assert_type(await anext(pool.amap(Input().coroutine(), errors="return")), MapResult[Any])
