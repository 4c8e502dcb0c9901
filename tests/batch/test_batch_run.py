"""A batch while it runs, in this process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import Member, PoolRef, UnsuccessfulResultError
from greenroom.batch.batch import Batch
from greenroom.batch.batch_run import BatchRun, End
from greenroom.batch.prompts import BatchError, Format, Prompt

pytest.importorskip("fcntl")


async def upper(prompt: str) -> str:
    return prompt.upper()


class Bench:
    """An input of so many prompts, its output, and runs over them."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "p.txt"
        self.output = folder / "a.jsonl"

    def ask(self, count: int) -> None:
        self.input.write_text("".join(f"p{number}\n" for number in range(1, count + 1)))

    def run(
        self,
        pool: PoolRef,
        path: str = "",
        watch: Callable[[BatchRun], None] = lambda run: None,
        **how: Any,
    ) -> End:
        async def main(batch: Batch) -> End:
            run = self.last = BatchRun(pool, batch, **how)
            watch(run)
            return await asyncio.wait_for(run.run(), 2 * WAIT_S)

        with Batch(path or str(self.input), str(self.output), Format.TEXT) as batch:
            batch.begin()
            return asyncio.run(main(batch))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_bytes().splitlines()]

    def ids(self) -> list[int]:
        return sorted(line["id"] for line in self.lines())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_prompt_has_a_line(bench: Bench) -> None:
    """Of a member that answers though another one fails, or of all errors."""

    async def odd(prompt: str) -> str:
        if int(prompt[1:]) % 2:
            raise ConnectionError("down")
        return prompt.upper()

    bench.ask(50)
    members = [Member("odd", odd, priority=0), Member("upper", upper, priority=1)]
    with pool_of(*members) as pool:
        assert bench.run(pool) is End.DONE
    assert bench.ids() == list(range(1, 51))
    assert all(line["answer"] == f"P{line['id']}" for line in bench.lines())
    assert bench.last.tally.answered == sum(bench.last.tally.by_member.values()) == 50


def test_what_fails_has_its_error_and_the_rest_goes_on(bench: Bench) -> None:
    """An answer that is not JSON is an error, too."""

    async def agent(prompt: str) -> Any:
        if prompt == "p2":
            raise UnsuccessfulResultError("no")
        return object() if prompt == "p3" else prompt

    bench.ask(4)
    with pool_of(Member("m", agent)) as pool:
        assert bench.run(pool) is End.DONE
    by_id = {line["id"]: line for line in bench.lines()}
    assert sorted(by_id) == [1, 2, 3, 4]
    assert by_id[2]["error"]["members"][0]["message"] == "UnsuccessfulResultError: no"
    assert "must be what JSON can hold, got a object" in by_id[3]["error"]["message"]
    assert (bench.last.tally.answered, bench.last.tally.failed) == (2, 2)


def on_put_back(then: Callable[[], object]) -> Callable[[BatchRun], None]:
    """Has something done whenever a prompt is put back."""

    def watch(run: BatchRun) -> None:
        put_back = run._put_back

        def look(prompt: Prompt, error: Exception) -> None:
            put_back(prompt, error)
            then()

        run._put_back = look  # type: ignore[method-assign]

    return watch


def test_a_full_pool_is_no_failure(bench: Bench) -> None:
    """Who finds no place is asked again, however many may be under way."""
    turned_away = threading.Event()

    def agent(prompt: str) -> str:
        assert turned_away.wait(WAIT_S)
        return prompt

    bench.ask(12)
    with pool_of(Member("m", agent, max_concurrency=1), max_pending=1) as pool:
        assert bench.run(pool, watch=on_put_back(turned_away.set), max_in_flight=12) is End.DONE
    assert bench.ids() == list(range(1, 13))
    assert all("answer" in line for line in bench.lines())


def test_who_is_out_is_waited_for(bench: Bench) -> None:
    """Prompts are no failures while no member takes any."""
    bench.ask(6)
    with pool_of(Member("m", upper)) as pool:
        pool.force_open("m")
        assert bench.run(pool, watch=on_put_back(lambda: pool.reset_member("m"))) is End.DONE
    assert bench.ids() == list(range(1, 7))
    assert bench.last.tally.failed == 0


def test_who_stays_out_ends_the_run(bench: Bench) -> None:
    """Nothing is written of what nobody has taken: a later run asks it."""
    bench.ask(6)
    with pool_of(Member("m", upper)) as pool:
        pool.force_open("m")
        assert bench.run(pool, wait_s=0.0) is End.NOBODY
        assert bench.lines() == []
        assert "circuit_open" in str(bench.last.last_error)
        pool.reset_member("m")
        assert bench.run(pool) is End.DONE
    assert bench.ids() == list(range(1, 7))


def test_a_drain_finishes_what_is_under_way(bench: Bench) -> None:
    """And asks nothing more, whatever the input has."""
    begun, go_on = list[str](), threading.Event()

    def agent(prompt: str) -> str:
        begun.append(prompt)
        if len(begun) == 3:
            loop.call_soon_threadsafe(drain)
        go_on.wait(WAIT_S)
        return prompt

    def drain() -> None:
        bench.last.drain()
        go_on.set()

    loop: asyncio.AbstractEventLoop

    def watch(run: BatchRun) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()

    bench.ask(1_000)
    with pool_of(Member("m", agent, max_concurrency=3)) as pool:
        assert bench.run(pool, watch=watch, max_in_flight=3) is End.DRAINED
    assert bench.ids() == sorted(int(each[1:]) for each in begun) == [1, 2, 3]


def test_answers_do_not_wait_for_a_slow_pipe(bench: Bench) -> None:
    """Each is written while the input says nothing; the run ends with the pipe, or by a drain."""
    read, write = os.pipe()
    os.write(write, b"p1\n")
    try:
        with pool_of(Member("m", upper)) as pool:

            def watch(run: BatchRun) -> None:
                take = run._take

                def look(result: Any) -> None:
                    take(result)
                    if bench.ids() == [1]:
                        os.write(write, b"p2\n")  # only now: the first has its line
                    else:
                        run.drain()

                run._take = look  # type: ignore[method-assign]

            assert bench.run(pool, f"/dev/fd/{read}", watch) is End.DRAINED
    finally:
        os.close(write)
        os.close(read)
    assert bench.ids() == [1, 2]


def test_what_comes_before_a_wrong_line_of_a_pipe_is_written(bench: Bench) -> None:
    """Then it is told."""
    read, write = os.pipe()
    os.write(write, b"p1\np2\n\xff\np3\n")
    os.close(write)
    with pool_of(Member("m", upper)) as pool, pytest.raises(BatchError, match="must be UTF-8"):
        bench.run(pool, f"/dev/fd/{read}")
    os.close(read)
    assert bench.ids() == [1, 2]


def test_no_more_is_read_than_is_under_way(bench: Bench) -> None:
    """But for one block: memory does not grow with the input."""
    bench.ask(20_000)
    most = 0

    def watch(run: BatchRun) -> None:
        take = run._take

        def look(result: Any) -> None:
            nonlocal most
            most = max(most, len(run._sent))
            take(result)

        run._take = look  # type: ignore[method-assign]

    with pool_of(Member("m", upper, max_concurrency=8)) as pool:
        assert bench.run(pool, watch=watch) is End.DONE
    assert len(bench.ids()) == 20_000
    assert most <= 16


def test_an_output_that_is_full_ends_the_run(bench: Bench) -> None:
    """With its message; nothing is left half written, and what is under way is cancelled."""
    bench.ask(5)

    def watch(run: BatchRun) -> None:
        append = run._batch.answers.append

        def full(line: bytes) -> None:
            append(line)
            raise BatchError("a.jsonl: No space left on device")

        run._batch.answers.append = full  # type: ignore[method-assign]

    with pool_of(Member("m", upper)) as pool, pytest.raises(BatchError, match="No space left"):
        bench.run(pool, watch=watch)
    assert len(bench.lines()) == 1
