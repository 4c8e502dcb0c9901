"""`make test`: all tests, in two processes side by side: a little more than half as long.

With arguments it is pytest, and nothing else. The output of the second half comes behind that of
the first, from there on as it is written. The half that is not named here is all the rest, so that
no test can be forgotten.

What takes longer than `GREENROOM_TESTS_S` seconds (1,800 unless it is set) is ended, and says where
each thread stood: a test that waits forever is a failure with a place, not a run without an end.
(pytest's own `faulthandler_timeout` does so for one test, where it can still count.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

FIRST = [
    "tests/whole",
    "tests/runtime",
    "tests/request",
    "tests/simulate",
    "tests/remote",
    "tests/courier",
]
"""Takes about as long as the others together."""
PYTEST = [sys.executable, "-m", "pytest"]
LIMIT_S = float(os.environ.get("GREENROOM_TESTS_S", "1800"))
LOOK_S = 0.2
TO_TELL_S = 10.0
"""For the stacks of all threads, which faulthandler writes at SIGABRT."""


def main(arguments: list[str]) -> int:
    if arguments or (os.cpu_count() or 1) < 2 or not hasattr(os, "killpg"):
        return subprocess.call([*PYTEST, *arguments])
    until = time.monotonic() + LIMIT_S
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        # Unbuffered: what is ended by a signal has written all it had to say.
        rest = [PYTEST[0], "-u", *PYTEST[1:], *(f"--ignore={each}" for each in FIRST)]
        # Each leads a group, so that what its tests have started goes with it.
        halves = [
            subprocess.Popen([*PYTEST, *FIRST], start_new_session=True),
            subprocess.Popen(rest, stdout=log, stderr=log, start_new_session=True),
        ]
        try:
            first = _end_of(halves[0], until)
            print("the rest of the tests, side by side with these:", flush=True)
            second = _end_of(halves[1], until, log)
        except KeyboardInterrupt:
            # The terminal's Ctrl-C reaches this process alone: they have sessions of their own.
            for half in halves:
                _tell(half, signal.SIGINT)
            for half in halves:
                half.wait()
            raise
        finally:
            for half in halves:
                _tell(half, signal.SIGKILL)
    return first or second


def _end_of(half: subprocess.Popen[bytes], until: float, log: IO[str] | None = None) -> int:
    """The code of a half that has ended, or was ended; its output is passed on as it comes."""
    at = 0
    late = False
    while True:
        ended = half.poll() is not None
        if log is not None:
            at = _pass_on(log, at)
        if ended:
            return half.returncode or int(late)
        if time.monotonic() > until:
            if late:
                _tell(half, signal.SIGKILL)
            else:
                late = True
                until = time.monotonic() + TO_TELL_S
                print(f"not done within {LIMIT_S:g} s: {half.args!r} is ended", flush=True)
                half.send_signal(signal.SIGABRT)
        time.sleep(LOOK_S)


def _pass_on(log: IO[str], at: int) -> int:
    # Read beside the writer's own position: the two share one open file.
    more = os.pread(log.fileno(), 1 << 20, at)
    while more:
        sys.stdout.buffer.write(more)
        at += len(more)
        more = os.pread(log.fileno(), 1 << 20, at)
    sys.stdout.flush()
    return at


def _tell(half: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(half.pid, number)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
