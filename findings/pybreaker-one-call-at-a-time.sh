#!/usr/bin/env bash
# pybreaker 1.4.1: a breaker is a lock around its calls as well. Through one breaker goes one call at a time, whatever its
# state, and who would be refused at once waits until the call before has ended.
#
# Guess before running: the lock of a breaker guards its counter and state. Ten threads whose calls take 0.2 s each are done
#   after 0.2 s. While a trial call of half a second is on its way, ten others are refused within milliseconds, as the
#   state half-open is there to see that they are.
# Seen: the ten calls take 2 s, one after the other: the lock is held while the guarded function runs. The ten callers next to
#   a trial that fails are refused after half a second, when it has failed: no slow backend is kept from anybody.
# So a breaker of it in front of a slow backend makes a queue of all threads, with the breaker closed and all well. (A
#   breaker for each thread has no lock to wait for, and no count in common: `state_storage` shares it.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pybreaker==1.4.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pybreaker

CALLS, CALL_S, TRIAL_S = 10, 0.2, 0.5

print("pybreaker", version("pybreaker"))
breaker = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=1)
lock, running, most = threading.Lock(), 0, 0


def ask():
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    time.sleep(CALL_S)
    with lock:
        running -= 1


def fail(after_s=0.0):
    time.sleep(after_s)
    raise ConnectionError


begin = time.monotonic()
with ThreadPoolExecutor(CALLS) as threads:
    for each in [threads.submit(breaker.call, ask) for _ in range(CALLS)]:
        each.result()
took_s = time.monotonic() - begin
print(f"{CALLS} threads, a call of {CALL_S} s each, breaker closed: {took_s:.1f} s, at most {most} at a time")
assert most == 1, most
assert took_s >= CALLS * CALL_S, took_s

try:
    breaker.call(fail)
except pybreaker.CircuitBreakerError:
    pass
time.sleep(1.2)  # it would let a trial through now
in_trial = threading.Event()
ended_at = 0.0


def trial():
    global ended_at
    in_trial.set()
    try:
        fail(TRIAL_S)
    finally:
        ended_at = time.monotonic()


def refused_at():
    try:
        breaker.call(ask)
    except pybreaker.CircuitBreakerError:
        return time.monotonic()
    raise AssertionError("it was called")


with ThreadPoolExecutor(CALLS + 1) as threads:
    first = threads.submit(breaker.call, trial)
    in_trial.wait()
    state = breaker.current_state
    others = [threads.submit(refused_at) for _ in range(CALLS)]
early = sum(each.result() < ended_at for each in others)
print(f"{CALLS} calls next to a trial of {TRIAL_S} s ({state}): {early} refused before it has ended")
assert state == "half-open", state
assert isinstance(first.exception(), pybreaker.CircuitBreakerError)
assert early == 0, early
PY
"$work/venv/bin/python" "$work/seen.py"
