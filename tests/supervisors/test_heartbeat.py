"""The schedule of an event loop's heartbeat: pure, no loop and no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.supervisors.policy.loop_heartbeat import LOOKS, Heartbeat, Step

GAP_S = 0.25


def heartbeat(replaced_after_s: float | None = 2.0) -> Heartbeat:
    """Asks every second; stalled after a second of silence, given up after two."""
    return Heartbeat(1.0, 1.0, replaced_after_s, 100.0)


def looks(beat: Heartbeat, count: int, gap_s: float = GAP_S) -> list[Step]:
    """So many looks, each that much after the last one was due."""
    steps = []
    for _ in range(count):
        late_s = gap_s - GAP_S
        steps.append(beat.look(beat.next_look_at + late_s))
    return steps


@pytest.mark.parametrize("gaps", [0, 1, 4, 6])
def test_a_loop_that_nobody_runs_is_not_silent(gaps: int) -> None:
    """Whatever was asked is forgotten; a stall that had been reported is over."""
    beat = heartbeat(None)
    beat.look(101.0)
    looks(beat, gaps)
    lasted_s = beat.rest(103.0)
    assert lasted_s == (2.0 if gaps >= 4 else None)
    assert not beat.stalled
    assert beat.next_look_at == 104.0
    assert beat.answered(beat.number, 103.5) is None
    assert beat.look(104.0) is Step.PING


def test_it_asks_an_interval_after_the_start_and_after_every_answer() -> None:
    """One question at a time, never before its time."""
    beat = heartbeat()
    assert beat.next_look_at == 101.0
    assert beat.look(100.999) is Step.WAIT
    assert beat.look(101.0) is Step.PING
    assert beat.number == 1
    assert beat.answered(1, 101.01) is None
    assert beat.next_look_at == 102.01
    assert beat.look(102.01) is Step.PING
    assert beat.number == 2


def test_silence_is_reported_once_and_given_up_once() -> None:
    """Stalled after a second, replaced after two, and nothing more however long it lasts."""
    beat = heartbeat()
    assert looks(beat, 1) == [Step.PING]
    assert looks(beat, LOOKS) == [Step.WAIT] * (LOOKS - 1) + [Step.STALLED]
    assert (beat.stalled, beat.silent_s(102.0), beat.replaced_in_s) == (True, 1.0, 1.0)
    assert looks(beat, LOOKS) == [Step.WAIT] * (LOOKS - 1) + [Step.REPLACE]
    assert set(looks(beat, 100)) == {Step.WAIT}
    assert beat.replaced_in_s == 0.0


def test_without_a_limit_it_is_never_given_up() -> None:
    """None: wait until it answers."""
    beat = heartbeat(None)
    steps = looks(beat, 1000)
    assert (steps.count(Step.STALLED), steps.count(Step.REPLACE)) == (1, 0)
    assert beat.replaced_in_s is None


def test_an_answer_ends_a_silence() -> None:
    """It says how long a reported silence has lasted; the next one is reported again."""
    beat = heartbeat()
    looks(beat, 1 + LOOKS)
    assert beat.answered(1, 102.5) == 1.5
    assert not beat.stalled
    assert beat.silent_s(102.5) == 0.0
    assert looks(beat, 1 + LOOKS)[-1] is Step.STALLED


@pytest.mark.parametrize("number", [0, 2])
def test_an_answer_to_another_question_changes_nothing(number: int) -> None:
    """A loop answers late: what it says of an earlier question proves nothing of this one."""
    beat = heartbeat()
    looks(beat, 1)
    assert beat.answered(number, 101.1) is None
    assert looks(beat, LOOKS)[-1] is Step.STALLED


def test_an_answer_counts_once() -> None:
    """The second one does not move the next question."""
    beat = heartbeat()
    looks(beat, 1)
    beat.answered(1, 101.1)
    beat.answered(1, 101.9)
    assert beat.next_look_at == 102.1


def test_a_look_that_is_late_says_nothing_of_the_loop() -> None:
    """Who looks had no time to, so the loop may have had none to answer: it gets that of four looks
    more. One that is as late as the next one would be is still in time.
    """
    beat = heartbeat()
    looks(beat, 1)
    assert beat.look(5000.0) is Step.WAIT
    assert looks(beat, LOOKS - 1) == [Step.WAIT] * (LOOKS - 1)
    assert looks(beat, 1) == [Step.STALLED]
    beat = heartbeat()
    looks(beat, 1)
    assert looks(beat, LOOKS, 2 * GAP_S)[-1] is Step.STALLED


def test_on_a_machine_that_is_always_late_a_loop_stalls_in_the_end() -> None:
    """The later the looks are the longer it takes, but it is found."""
    beat = heartbeat()
    looks(beat, 1)
    assert Step.STALLED not in looks(beat, 2 * LOOKS, 3 * GAP_S)[:-1]
    assert beat.stalled


def test_where_looks_are_late_they_become_rarer_and_nothing_is_asked_at_first() -> None:
    """Twice the time to the next one, up to eight times, from where it asks all the same; in half
    of it as soon as looks are in time.
    """
    beat = heartbeat()
    waits, asked = [], False
    while not asked:
        late = beat.next_look_at + 1.0
        asked = beat.look(late) is Step.PING
        waits.append(beat.next_look_at - late)
    assert waits == [2.0, 4.0, 8.0, 8.0 * GAP_S]
    beat.answered(1, beat.next_look_at - 1.9)
    spans = []
    for number in range(2, 6):
        now = beat.next_look_at
        assert beat.look(now) is Step.PING
        beat.answered(number, now)
        spans.append(beat.next_look_at - now)
    assert spans == [4.0, 2.0, 1.0, 1.0]


def test_loops_that_start_together_are_asked_apart() -> None:
    """The first question comes after a part of the interval; from then on each has a rhythm of its
    own. One that answers late may belong to a crowd: it draws again.
    """
    beat = Heartbeat(1.0, 1.0, None, 100.0, part=0.3)
    assert beat.next_look_at == 100.3
    assert beat.look(100.3) is Step.PING
    beat.answered(1, 100.35, part=0.5)
    assert beat.next_look_at == 101.35
    assert beat.look(101.35) is Step.PING
    beat.answered(2, 101.35 + GAP_S, part=0.5)
    assert beat.next_look_at == 101.35 + GAP_S + 0.5
    with pytest.raises(ValueError, match="part must be greater than 0"):
        Heartbeat(1.0, 1.0, None, 100.0, part=0.0)


@given(stalled=st.floats(0.01, 100), factor=st.floats(1, 50), late=st.lists(st.floats(0, 1000)))
def test_it_takes_as_many_looks_as_the_time_is_long(
    stalled: float, factor: float, late: list[float]
) -> None:
    """However late the looks are, none of those that are needed is left out; each that is too late
    takes another one.
    """
    beat = Heartbeat(1.0, stalled, stalled * factor, 0.0)
    beat.look(beat.next_look_at)
    too_late = sum(each > stalled / LOOKS for each in late)
    steps: list[Step] = []
    while Step.REPLACE not in steps:
        steps.append(beat.look(beat.next_look_at + (late.pop() if late else 0.0)))
    assert LOOKS - 1 <= steps.index(Step.STALLED) <= LOOKS - 1 + too_late
    assert len(steps) >= LOOKS * factor - 1e-6


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ((0.0, 1.0, None), "interval_s must be greater than 0, got 0.0"),
        ((1.0, 0.0, None), "stalled_after_s must be greater than 0, got 0.0"),
        ((1.0, 1.0, 0.5), "replaced_after_s must be at least 1, got 0.5"),
    ],
)
def test_a_bad_setting_is_refused(settings: tuple[float, float, float | None], error: str) -> None:
    """Each is named with its value and the rule."""
    with pytest.raises(ValueError) as refused:
        Heartbeat(*settings)
    assert str(refused.value) == error


def test_it_says_how_it_stands() -> None:
    """What a debugger shows."""
    beat = heartbeat()
    assert repr(beat) == "<Heartbeat idle, question 0, looks at 101.000>"
    looks(beat, 1)
    assert repr(beat) == "<Heartbeat waiting, question 1, looks at 101.250>"
    looks(beat, LOOKS)
    assert repr(beat) == "<Heartbeat stalled, question 1, looks at 102.250>"
