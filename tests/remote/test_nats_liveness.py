"""Who is silent: a worker, a caller, or the broker between."""

from __future__ import annotations

import pytest

from greenroom.remote.nats_liveness import ASK_BROKER_S, GAP_S, SILENT_S, Hearing, backoff_s


class World:
    """A broker that answers, or not; and what was last heard of somebody behind it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hearing = Hearing(self.now)
        self.heard_at = self.now

    def run(self, seconds: float, *, broker: bool = True, peer: bool = True) -> float | None:
        """After how many seconds the peer is said to be gone, if it is."""
        began = self.now
        while self.now < began + seconds - 1e-9:
            self.now += ASK_BROKER_S
            if broker:
                self.hearing.heard(self.now)
                if peer:
                    self.heard_at = self.now
            if self.hearing.is_gone(self.heard_at, self.now):
                return self.now - began
        return None


def test_b454_who_is_silent_while_the_broker_answers_is_gone() -> None:
    """After two seconds, and not much more."""
    world = World()
    assert world.run(60) is None
    gone_after = world.run(10, peer=False)
    assert gone_after is not None
    assert SILENT_S <= gone_after < SILENT_S + 2 * ASK_BROKER_S


@pytest.mark.parametrize("away_s", [1.0, 1.8, 2.2, 6.0, 600.0])
def test_b454_nobody_is_missed_while_the_broker_is_silent(away_s: float) -> None:
    """Nor at once when it is back; who stays silent then is gone two seconds later."""
    world = World()
    world.run(5)
    assert world.run(away_s, broker=False) is None
    assert world.run(SILENT_S - ASK_BROKER_S, peer=False) is None
    assert world.run(1, peer=False) is not None
    world = World()
    world.run(5)
    assert world.run(away_s, broker=False) is None
    assert world.run(60) is None


def test_b454_a_process_that_stood_still_misses_nobody_for_that() -> None:
    """It has heard nobody meanwhile, the broker included."""
    world = World()
    world.run(5)
    world.now += 30.0
    assert not world.hearing.is_gone(world.heard_at, world.now)
    assert world.run(1.5, peer=False) is None


def test_b454_a_short_gap_of_the_broker_is_none() -> None:
    """Answers that come a little late do not put off what is known of others."""
    world = World()
    world.run(1)
    world.now += GAP_S
    world.hearing.heard(world.now)
    gone_after = world.run(10, peer=False)
    assert gone_after is not None
    assert gone_after < SILENT_S


def test_b454_attempts_to_connect_come_at_once_and_then_ever_slower() -> None:
    """Up to one a second."""
    assert backoff_s(0, 0.5) == 0.0
    assert [backoff_s(each, 0.0) for each in (1, 2, 3, 4, 5, 50, 5000)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
        1.0,
    ]
    assert backoff_s(5, 1.0) == pytest.approx(0.8)
