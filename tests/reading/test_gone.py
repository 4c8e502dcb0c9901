"""Which errors say that an agent is gone, and which that nobody has answered: pure."""

from __future__ import annotations

import asyncio
import concurrent.futures.process
from typing import Any

import pytest
from helpers_agents import raising

from greenroom import (
    AgentLostError,
    AllPoolMembersFailedError,
    AttemptError,
    FailureKind,
    PoolStoppedError,
    UnsuccessfulResultError,
)
from greenroom.actors.reading.classify import classify, is_lost
from greenroom.testing import http_error


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


LOST = AgentLostError("its process has ended")


@pytest.mark.parametrize(
    "error",
    [
        LOST,
        type("Ended", (AgentLostError,), {})("ended"),
        caused(RuntimeError("the run failed"), caused(ValueError("no answer"), LOST)),
        ExceptionGroup("of a task group", [ValueError("x"), LOST]),
        UnsuccessfulResultError("said by a block", lost=True),
    ],
    ids=repr,
)
def test_b255_an_agent_says_so_wherever_that_is(error: BaseException) -> None:
    """However deep a framework has wrapped it."""
    assert is_lost(error, None)
    assert is_lost(error, OSError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        http_error(500),
        SystemExit(3),
        UnsuccessfulResultError("empty"),
        AllPoolMembersFailedError("p", ["a"], [AttemptError("a", 0, FailureKind.CRASHED, LOST)]),
    ],
    ids=repr,
)
def test_b255_nothing_else_does(error: BaseException) -> None:
    """An inner pool makes its own agents anew: it has not ended with one of them."""
    assert not is_lost(error, None)


def test_b255_a_members_own_errors() -> None:
    """Classes besides, in the causes too; a function in place of all."""
    wrapped = caused(RuntimeError("x"), BrokenPipeError("pipe"))
    assert is_lost(wrapped, BrokenPipeError)
    assert is_lost(wrapped, (KeyError, OSError))
    assert not is_lost(wrapped, KeyError)
    assert is_lost(wrapped, lambda error: error is wrapped)
    assert not is_lost(LOST, lambda error: False)
    assert not is_lost(LOST, raising(KeyboardInterrupt))


class Unlooked(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


def test_b255_what_cannot_be_looked_at_is_not_lost() -> None:
    assert not is_lost(Unlooked(), OSError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        ConnectionRefusedError("refused"),
        BrokenPipeError("pipe"),
        EOFError("of the pipe"),
        asyncio.IncompleteReadError(b"", 1),
        ProcessLookupError("no such process"),
        concurrent.futures.process.BrokenProcessPool("a worker has ended"),
        RuntimeError("Event loop is closed"),
        RuntimeError("Cannot send a request, as the client has been closed."),
        PoolStoppedError("an inner pool has ended"),
        asyncio.CancelledError(),
        caused(RuntimeError("the run failed"), EOFError("of the pipe")),
        ExceptionGroup("of a task group", [ConnectionResetError("reset")]),
    ],
    ids=repr,
)
def test_b257_nobody_has_answered(error: BaseException) -> None:
    """A kind that an app gives it takes nothing from that, as long as it counts."""
    assert classify(error).disconnected
    assert classify(error, lambda e: FailureKind.TIMEOUT).disconnected
    assert not classify(error, lambda e: FailureKind.CALLER).disconnected


@pytest.mark.parametrize(
    "error",
    [
        *map(http_error, (400, 401, 429, 500, 503)),
        TimeoutError("slow"),
        ValueError("a bug"),
        RuntimeError("no event loop"),
        SystemExit(3),
        LOST,
        caused(http_error(503), ConnectionResetError("of its upstream")),
    ],
    ids=repr,
)
def test_b257_somebody_may_have(error: BaseException) -> None:
    """A status is an answer, and so may be what is not known."""
    assert not classify(error).disconnected
