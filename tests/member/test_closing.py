"""The close of a lost agent, on its own: it ends by itself, or is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers_pools import WAIT_S

from greenroom.actors.executors import closing
from greenroom.actors.executors.closing import Closing, together


def test_b256_who_waits_for_a_close_is_told_once_whenever_it_asks() -> None:
    """Before its end, and after it."""
    log: list[str] = []
    ends: list[Callable[[], None]] = []

    def close(ended: Callable[[], None]) -> Callable[[], object]:
        ends.append(ended)
        return lambda: log.append("cut")

    one = Closing("a", on_loop=False)
    one.then(lambda: log.append("first"))
    one.begin(close)
    assert log == []
    ends[0]()
    ends[0]()
    one.then(lambda: log.append("second"))
    assert log == ["first", "second"]


def test_b256_a_close_that_takes_too_long_is_cut_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it hears of that."""
    monkeypatch.setattr(closing, "CLOSE_LIMIT_S", 0.0)
    told: list[str] = []
    monkeypatch.setattr(closing, "complain", lambda what, error: told.append(what))
    cut, over = threading.Event(), threading.Event()
    one = Closing("a", on_loop=False)
    one.then(over.set)
    one.begin(lambda ended: cut.set)
    assert over.wait(WAIT_S)
    assert cut.is_set()
    assert told == ["closing the lost agent of a is given up"]


def test_b256_without_a_thread_to_wait_in_a_close_has_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It begins all the same."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    ends: list[Callable[[], None]] = []
    over: list[bool] = []

    def close(ended: Callable[[], None]) -> Callable[[], object]:
        ends.append(ended)
        return lambda: None

    one = Closing("a", on_loop=False)
    one.then(lambda: over.append(True))
    one.begin(close)
    ends[0]()
    assert over == [True]


def test_the_last_of_several_goes_on() -> None:
    over: list[bool] = []
    one = together(3, lambda: over.append(True))
    one()
    one()
    assert over == []
    one()
    assert over == [True]
