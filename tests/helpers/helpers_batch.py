"""Agents of `greenroom map` in a process of its own, as its pool's file names them.

Each looks at the environment: `OUTPUT` is the file that is written, `KILL_AT` the number of lines
in it at which the process kills itself, as SIGKILL would from outside at that moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

_OUTPUT = os.environ.get("OUTPUT", "")
_KILL_AT = int(os.environ.get("KILL_AT", "0"))


def _may_be_killed() -> None:
    if _KILL_AT and _lines() >= _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _lines() -> int:
    with open(_OUTPUT, "rb") as file:
        return file.read().count(b"\n")


async def good(prompt: str) -> str:
    """Answers at once."""
    _may_be_killed()
    return prompt.upper()


async def slow(prompt: str) -> str:
    """Answers after everybody else has had a turn."""
    for _ in range(20):
        await asyncio.sleep(0)
    _may_be_killed()
    return prompt.upper()


async def failing(prompt: str) -> str:
    """Is down."""
    _may_be_killed()
    raise ConnectionError("down")


async def wrong(prompt: str) -> str:
    """Cannot answer a prompt that ends in 3."""
    if prompt.endswith("3"):
        raise ValueError("a prompt that ends in 3")
    return prompt.upper()


def held(prompt: str) -> str:
    """Says on stdout that it has begun, and answers when there is a byte on stdin."""
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    os.read(0, 1)
    return prompt.upper()
