"""One timer for the time limits of all attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_flow import Box

from greenroom import PoolConfig, Request
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.job import Attempt, Job
from greenroom.actors.request.timeouts import Timeouts
from greenroom.actors.runtime.alarms import Alarms

LIMIT_S = 30.0
POLICY = RetryPolicy.from_config(PoolConfig())


class Timed:
    """Timeouts on a clock that the test moves, and the numbers of those that have expired."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alarms = Alarms(Box())
        self.expired: list[int] = []
        self.then: Callable[[int], object] = lambda _: None
        self.timeouts = Timeouts(self.alarms.at, lambda: self.now, LIMIT_S, self._expired)

    def _expired(self, attempt: Attempt) -> None:
        self.expired.append(attempt.index)
        self.then(attempt.index)

    def start(self, number: int) -> Attempt:
        job = Job(str(number), Request(number), None, self.now, None, POLICY)
        attempt = Attempt(job, "m", number, 1, 1, False, self.now)
        self.timeouts.start(attempt)
        return attempt

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.alarms.run_due(self.now)


@pytest.fixture
def timed() -> Timed:
    return Timed()


def test_each_attempt_has_its_whole_time_and_no_more(timed: Timed) -> None:
    """In the order in which they began, whatever the timer was set for."""
    for number in range(3):
        timed.start(number)
        timed.pass_(10.0)
    assert timed.expired == [0]  # it began thirty seconds ago
    timed.pass_(9.999)
    assert timed.expired == [0]
    timed.pass_(0.001)
    assert timed.expired == [0, 1]
    timed.pass_(60.0)
    assert timed.expired == [0, 1, 2]
    assert not timed.timeouts.running


def test_who_has_ended_does_not_expire(timed: Timed) -> None:
    """And may be stopped twice, as an attempt that has expired is."""
    first, second = timed.start(1), timed.start(2)
    timed.timeouts.running.pop(first, None)
    timed.timeouts.running.pop(first, None)
    timed.pass_(LIMIT_S)
    timed.timeouts.running.pop(second, None)
    assert timed.expired == [2]


def test_there_is_one_timer_however_many_attempts(timed: Timed) -> None:
    """A thousand that come and go set it once in the whole time that one may take."""
    for number in range(1_000):
        timed.timeouts.running.pop(timed.start(number), None)
    assert len(timed.alarms) == 1
    timed.pass_(LIMIT_S)
    assert (len(timed.alarms), timed.expired) == (0, [])
    timed.start(0)
    timed.pass_(LIMIT_S)
    assert timed.expired == [0]


def test_one_that_begins_while_others_expire_has_its_time_too(timed: Timed) -> None:
    """A request whose attempt has had its time goes to another member at once."""
    timed.start(1)
    timed.then = lambda number: timed.start(2) if number == 1 else None
    timed.pass_(LIMIT_S)
    assert timed.expired == [1]
    timed.pass_(LIMIT_S)
    assert timed.expired == [1, 2]


def test_one_that_begins_while_others_expire_does_not_put_their_end_off(timed: Timed) -> None:
    """The timer is set for who began first of those that still run, not for the newcomer."""
    timed.then = lambda number: timed.start(9) if number == 1 else None
    timed.start(1)
    timed.pass_(1.0)
    timed.start(2)
    timed.pass_(LIMIT_S - 1.0)
    assert timed.expired == [1]
    timed.pass_(1.0)
    assert timed.expired == [1, 2]


def test_one_that_cannot_be_ended_does_not_keep_the_others_from_it(timed: Timed) -> None:
    """It is tried twice; the error is passed on to the actor, which logs it; the timer is set for
    the next one.
    """

    def then(number: int) -> Any:
        if number == 1:
            raise RuntimeError("of no use")

    timed.then = then
    timed.start(1)
    timed.start(2)
    with pytest.raises(RuntimeError, match="of no use"):
        timed.pass_(LIMIT_S)
    timed.pass_(0.0)
    assert timed.expired == [1, 1, 2]
