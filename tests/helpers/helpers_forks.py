"""A child of a fork, for a bounded time: in a process of its own, since pytest has threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

TIMEOUT_S = 60.0
"""A process that has not ended by then hangs: the tests are about calls that return at once."""

_PROLOGUE = """
import asyncio, contextlib, gc, json, os, pickle, signal, sys, threading, traceback, warnings
# From Python 3.12 on a fork of a process with threads is warned of: that is what is tested here.
warnings.filterwarnings("ignore", category=DeprecationWarning)
import pykka
from greenroom import *

said = {}

def note(name, call):
    "What a call returned, or the name of what it raised and its text."
    try:
        said[name] = ["returned", repr(call())]
    except BaseException as error:
        said[name] = [type(error).__name__, str(error)]

def forked(child):
    "Run `child` in a fork; what it noted, and its exit status."
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs is ended by it: its status is the signal then
        try:
            child()
            os.write(theirs, json.dumps(said).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        words = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with status {status}"
    return json.loads(words), pid

def tell(value):
    "The last thing a script does: what it has to say, and no end of its own that might hang."
    sys.stdout.write(json.dumps(value))
    sys.stdout.flush()
    os._exit(0)
"""


def script(source: str) -> Any:
    """Run a script, which has `note`, `forked` and `tell`; returns what it told."""
    code = _PROLOGUE + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
