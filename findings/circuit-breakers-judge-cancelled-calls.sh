#!/usr/bin/env bash
# circuitbreaker 2.1.3, aiobreaker 1.2.0, purgatory-circuitbreaker 0.7.2: a call that is cancelled, as `asyncio.timeout` and a user
# who hangs up do it, is a success to the first, nothing to the second and a failure to the third.
#
# Guess before running: a cancelled call says nothing of the backend, so it counts for nothing: it opens no breaker, and
#   closes none. (With an `asyncio.timeout` around the call, calls that hang would never open one, which is known.)
# Seen: circuitbreaker takes it for a success: it sets the count of failures to 0, and a cancelled call that began before the
#   breaker opened closes it. Behind a time limit, a backend that fails four times and hangs once, again and again, never
#   opens a breaker of five. purgatory takes it for a failure: five users who hang up open the breaker for all others,
#   with a backend that is well. With aiobreaker it counts for nothing.
# So what cancels must be told apart before it reaches the breaker: put the time limit inside, where it raises an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
  circuitbreaker==2.1.3 aiobreaker==1.2.0 purgatory-circuitbreaker==0.7.2 typing_extensions==4.15.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
import warnings
from datetime import timedelta
from importlib.metadata import version

import aiobreaker
import circuitbreaker
import purgatory

warnings.simplefilter("ignore", DeprecationWarning)  # of aiobreaker's datetimes
FAILURES = 5


def of_circuitbreaker():
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=FAILURES, recovery_timeout=60)
    return lambda call: breaker(call)


def of_aiobreaker():
    breaker = aiobreaker.CircuitBreaker(fail_max=FAILURES, timeout_duration=timedelta(seconds=60))
    return lambda call: lambda *args: breaker.call_async(call, *args)


def of_purgatory():
    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=60)
    return lambda call: factory("backend")(call)


class Backend:
    def __init__(self, make):
        self.calls = 0
        self.ask = make()(self.answer)

    async def answer(self, how):
        self.calls += 1
        if how == "fails":
            raise ConnectionError
        if how == "hangs":
            await asyncio.Event().wait()

    async def try_to(self, how):
        await asyncio.gather(self.ask(how), return_exceptions=True)

    async def cancelled(self):
        task = asyncio.ensure_future(self.ask("hangs"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    async def is_open(self):
        before = self.calls
        await self.try_to("answers")
        return self.calls == before


async def cancelled_alone(make):
    """A breaker of five, after ten calls that were cancelled."""
    backend = Backend(make)
    for _ in range(2 * FAILURES):
        await backend.cancelled()
    return await backend.is_open()


async def cancelled_between(make):
    """After four that failed and one that was cancelled, four times over."""
    backend = Backend(make)
    for _ in range(4):
        for _ in range(FAILURES - 1):
            await backend.try_to("fails")
        await backend.cancelled()
    return await backend.is_open()


async def cancelled_late(make):
    """After a call that began, five that failed, and the first one was cancelled."""
    backend = Backend(make)
    task = asyncio.ensure_future(backend.ask("hangs"))
    await asyncio.sleep(0.01)
    for _ in range(FAILURES):
        await backend.try_to("fails")
    task.cancel()
    await asyncio.wait([task])
    return await backend.is_open()


EXPECTED = {
    "circuitbreaker": (of_circuitbreaker, (False, False, False)),
    "aiobreaker": (of_aiobreaker, (False, True, True)),
    "purgatory-circuitbreaker": (of_purgatory, (True, True, True)),
}
for name, (make, expected) in EXPECTED.items():
    seen = tuple(asyncio.run(each(make)) for each in (cancelled_alone, cancelled_between, cancelled_late))
    words = ["open" if each else "closed" for each in seen]
    print(f"{name} {version(name)}: ten cancelled calls: {words[0]}; four failed and one cancelled, four times:", end=" ")
    print(f"{words[1]}; one cancelled that began before five failed: {words[2]}")
    assert seen == expected, (name, seen)
PY
"$work/venv/bin/python" "$work/seen.py"
