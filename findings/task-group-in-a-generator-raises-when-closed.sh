#!/usr/bin/env bash
# anyio 4.16.0 and asyncio: an async generator that yields inside of a task group cannot be closed quietly.
#
# Guess before running: `aclose()` returns: GeneratorExit goes through the `async with` as it goes through
#   any other, the group cancels its tasks, and the generator is over.
# Seen: `aclose()` raises BaseExceptionGroup with the GeneratorExit in it, for anyio's group and for
#   asyncio.TaskGroup: both take it for an error of their body. It is no Exception, so `except Exception`
#   around the reader lets it pass.
# So a stream that fetches or beats a heart in a group of its own turns a reader's early leave (`aclosing`, a
# disconnected client) into a crash. Such a generator catches GeneratorExit inside of the group, around
# its yields, and returns.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check anyio==4.16.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from importlib.metadata import version

import anyio

Group = Callable[[], AbstractAsyncContextManager[object]]


async def numbers(group: Group) -> AsyncIterator[int]:
    async with group():
        yield 1
        yield 2


async def mended(group: Group) -> AsyncIterator[int]:
    async with group():
        try:
            yield 1
            yield 2
        except GeneratorExit:
            return


async def leaves_early(stream: AsyncIterator[int]) -> BaseException | None:
    try:
        async with aclosing(stream):
            async for _ in stream:
                break
    except BaseException as error:
        return error
    return None


async def main() -> None:
    print("python", sys.version.split()[0], "anyio", version("anyio"))
    groups: dict[str, Group] = {"anyio": anyio.create_task_group, "asyncio": asyncio.TaskGroup}
    for name, group in groups.items():
        error = await leaves_early(numbers(group))
        print(f"{name}: {error!r}")
        assert type(error) is BaseExceptionGroup
        assert [type(each) for each in error.exceptions] == [GeneratorExit]
        assert await leaves_early(mended(group)) is None


asyncio.run(asyncio.wait_for(main(), 30))
PY
