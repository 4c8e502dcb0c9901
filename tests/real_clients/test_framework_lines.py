"""The line that the refusal of a framework's agent says to write, run with the real package: each
in a process of its own, since they set what is global. Behaviour 242.

`make test` runs those of the dev extra, `make test-frameworks` the others, where they are.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from real_clients.framework_lines import CASES, is_installed

SCRIPT = Path(__file__).with_name("framework_lines.py")
WAIT_S = 120.0


@pytest.mark.parametrize("name", CASES)
def test_what_the_refusal_says_to_write_answers(name: str) -> None:
    """Four callers, two of them at once: each has its answer, and nobody's model is shown what
    another one has asked. The agent itself, given to all, would have shown it.
    """
    if not is_installed(name):
        pytest.skip(f"{CASES[name][0]} is not installed")
    run = subprocess.run(
        [sys.executable, SCRIPT, name], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert run.returncode == 0, run.stderr
