#!/usr/bin/env bash
# circuitbreaker 2.1.3, aiobreaker 1.2.0, purgatory-circuitbreaker 0.7.2: a breaker whose time of rest is over is half-open for
# everybody. There is no one trial call: all that come before the first answer go to the backend.
#
# Guess before running: half-open means that one call goes through, or a few, and that the others are refused until it has
#   ended (the documentation of aiobreaker says "the next call"). Of a hundred calls at once one reaches the backend.
# Seen: all hundred do, with each of the three. A backend that has just come up again, or has not, gets all at once what has
#   piled up meanwhile; when each call takes a timeout to fail, a hundred callers pay for it and not one.
# So where many wait for a backend the first to try it must be picked elsewhere.
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
CALLS, REST_S = 100, 1


def of_circuitbreaker():
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=REST_S)
    return lambda call: breaker(call)


def of_aiobreaker():
    breaker = aiobreaker.CircuitBreaker(fail_max=1, timeout_duration=timedelta(seconds=REST_S))
    return lambda call: lambda: breaker.call_async(call)


def of_purgatory():
    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=1, default_ttl=REST_S)
    return lambda call: factory("backend")(call)


async def seen(guarded):
    calls = 0

    async def backend():
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        raise ConnectionError

    ask = guarded(backend)
    await asyncio.gather(ask(), return_exceptions=True)
    calls = 0
    await asyncio.gather(*(ask() for _ in range(CALLS)), return_exceptions=True)
    while_open, calls = calls, 0
    await asyncio.sleep(1.5 * REST_S)
    await asyncio.gather(*(ask() for _ in range(CALLS)), return_exceptions=True)
    return while_open, calls


for name, make in (
    ("circuitbreaker", of_circuitbreaker),
    ("aiobreaker", of_aiobreaker),
    ("purgatory-circuitbreaker", of_purgatory),
):
    while_open, half_open = asyncio.run(seen(make()))
    print(f"{name} {version(name)}: of {CALLS} calls at once {while_open} reach the backend while it is open,", end=" ")
    print(f"{half_open} when its rest is over")
    assert (while_open, half_open) == (0, CALLS), (name, while_open, half_open)
PY
"$work/venv/bin/python" "$work/seen.py"
