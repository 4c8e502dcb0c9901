#!/usr/bin/env bash
# stamina 26.1.0, @stamina.retry on a generator function (sync or async), beside tenacity 9.2.1.
#
# Guess before running: as with tenacity, the decorator sees only the call that makes the generator; what
#   is raised while it is read goes to the reader, without a retry. Or it retries up to the first item.
# Seen: stamina retries while it is read, after items have been delivered as well: it makes a new generator
#   and goes on with its first item. The reader gets one unbroken stream in which the beginning comes once
#   for each attempt, and no sign of it. tenacity does not retry at all.
# So a decorated function that streams a model's answer shows "The answer is The answer is 42" after one
# cut connection. Such a function has to be retried inside, up to its first item.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check stamina==26.1.0 tenacity==9.2.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Iterator

import stamina
import tenacity

logging.disable(logging.CRITICAL)
cuts = 0


def cut_twice() -> None:
    """The connection is cut in the middle of the first two streams."""
    global cuts
    cuts += 1
    if cuts <= 2:
        raise ConnectionError("cut")


def words() -> Iterator[str]:
    yield "The answer"
    yield "is"
    cut_twice()
    yield "42"


async def awords() -> AsyncIterator[str]:
    for word in ("The answer", "is"):
        yield word
    cut_twice()
    yield "42"


def read(stream: Iterator[str]) -> list[str]:
    global cuts
    cuts, got = 0, []
    try:
        for word in stream:
            got.append(word)
    except ConnectionError as error:
        got.append(repr(error))
    return got


async def aread(stream: AsyncIterator[str]) -> list[str]:
    global cuts
    cuts, got = 0, []
    try:
        async for word in stream:
            got.append(word)
    except ConnectionError as error:
        got.append(repr(error))
    return got


print("stamina", importlib.metadata.version("stamina"))
print("tenacity", importlib.metadata.version("tenacity"))
by_stamina = stamina.retry(on=ConnectionError, attempts=3, wait_initial=0, wait_jitter=0)
by_tenacity = tenacity.retry(stop=tenacity.stop_after_attempt(3))

thrice = ["The answer", "is", "The answer", "is", "The answer", "is", "42"]
got = read(by_stamina(words)())
print("stamina, sync:", got)
assert got == thrice, got
got = asyncio.run(aread(by_stamina(awords)()))
print("stamina, async:", got)
assert got == thrice, got

once = ["The answer", "is", "ConnectionError('cut')"]
got = read(by_tenacity(words)())
print("tenacity, sync:", got)
assert got == once, got
got = asyncio.run(aread(by_tenacity(awords)()))
print("tenacity, async:", got)
assert got == once, got
print("as described: stamina starts a stream anew while it is read")
PY
