"""`make test`: all tests, in two processes side by side: a little more than half as long.

With arguments it is pytest, and nothing else. The output of the second half comes behind that of
the first. The half that is not named here is all the rest, so that no test can be forgotten.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

FIRST = ["tests/whole", "tests/runtime", "tests/request"]
"""Takes about as long as the others together."""
PYTEST = [sys.executable, "-m", "pytest"]


def main(arguments: list[str]) -> int:
    if arguments or (os.cpu_count() or 1) < 2:
        return subprocess.call([*PYTEST, *arguments])
    with tempfile.TemporaryFile("w+") as log:
        rest = [*PYTEST, *(f"--ignore={each}" for each in FIRST)]
        # No Ctrl-C is passed on: in a terminal both have had it.
        with subprocess.Popen(rest, stdout=log, stderr=subprocess.STDOUT) as second:
            codes = [subprocess.call([*PYTEST, *FIRST]), second.wait()]
        log.seek(0)
        print(f"the rest of the tests, side by side with these:\n{log.read()}")
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
