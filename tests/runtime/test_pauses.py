"""What is a pause of the process, and what is only a slow machine: pure, no clock and no thread."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.runtime.pauses import EXCUSED_S, LOOK_S, Looked, excuses, look, pause_s

GAPS = st.lists(st.floats(min_value=0.0, max_value=100.0), min_size=1, max_size=50)


def test_a_wait_that_ends_late_by_more_than_its_own_length_tells_of_a_pause() -> None:
    """As long as it was late; what is only slow, late by as much as its length at most, is none."""
    assert pause_s(10.0, 10.25, 10.25) == 0.0
    assert pause_s(10.0, 10.25, 10.45) == 0.0
    assert pause_s(10.0, 10.25, 10.5) == 0.0
    assert pause_s(10.0, 10.25, 15.25) == 5.0
    assert pause_s(10.0, 13.0, 15.5) == 0.0  # a longer wait says nothing of what is shorter


def test_where_nobody_looks_nothing_is_late() -> None:
    """An hour in which nothing was timed is no pause; the look after it begins anew."""
    idle = look(Looked(), 3600.0)
    assert idle == Looked(3600.0 + LOOK_S)
    assert look(idle, 3600.1, goes_on=False) == Looked(math.inf)


def test_an_early_look_moves_the_next_one() -> None:
    """Whoever looks shows that the process runs, before its time and after."""
    seen = look(Looked(), 100.0)
    seen = look(seen, 100.1)
    assert seen.due == 100.1 + LOOK_S
    seen = look(seen, 100.1 + 1.9 * LOOK_S)
    assert (seen.due, seen.lost_s) == (100.1 + 2.9 * LOOK_S, 0.0)


def test_pauses_add_up_and_the_last_one_is_known() -> None:
    """Each is as long as its look was late; its end is told on the clock that leaves it out."""
    seen = look(look(Looked(), 100.0), 105.25)
    assert (seen.lost_s, seen.paused_at) == (5.0, 100.25)
    seen = look(look(seen, 105.5), 107.75)
    assert (seen.lost_s, seen.paused_at) == (7.0, 100.75)


@given(GAPS)
def test_what_is_left_never_goes_back_and_always_goes_on(gaps: list[float]) -> None:
    """From look to look it passes as on the machine's clock, unless that was a pause; then by the
    length of a look. So whatever pauses come, a limit of any length is reached.
    """
    now = 100.0
    seen = look(Looked(), now)
    for gap in gaps:
        before = now - seen.lost_s
        now += gap
        seen = look(seen, now)
        passed = now - seen.lost_s - before
        expected = gap if gap <= 2 * LOOK_S else LOOK_S
        if abs(gap - 2 * LOOK_S) > 1e-6:
            assert math.isclose(passed, expected, abs_tol=1e-6)
        assert passed >= min(gap, LOOK_S) - 1e-6


def test_what_began_before_a_pause_and_fails_right_after_it_is_excused() -> None:
    """A second is enough for what was overdue; what began later has no excuse, nor has what goes on
    for longer.
    """
    assert excuses(100.0, 99.9, 100.0)
    assert excuses(100.0, 10.0, 100.0 + EXCUSED_S)
    assert not excuses(100.0, 99.9, 100.1 + EXCUSED_S)
    assert not excuses(100.0, 100.0, 100.0)
    assert not excuses(-math.inf, 0.0, 1.0)
