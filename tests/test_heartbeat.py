"""The schedule of an event loop's heartbeat: pure, no loop and no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.supervisors.heartbeat import LOOKS, Heartbeat, Step

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


def test_a_process_that_stood_still_has_no_stalled_loop() -> None:
    """A late look counts as one look, however late: the loop gets the time of the others."""
    beat = heartbeat()
    looks(beat, 1)
    assert beat.look(5000.0) is Step.WAIT
    assert looks(beat, LOOKS - 2) == [Step.WAIT] * (LOOKS - 2)
    assert looks(beat, 1) == [Step.STALLED]


@given(stalled=st.floats(0.01, 100), factor=st.floats(1, 50), late=st.lists(st.floats(0, 1000)))
def test_it_takes_as_many_looks_as_the_time_is_long(
    stalled: float, factor: float, late: list[float]
) -> None:
    """However late the looks are, none of those that are needed is left out."""
    beat = Heartbeat(1.0, stalled, stalled * factor, 0.0)
    beat.look(beat.next_look_at)
    steps: list[Step] = []
    while Step.REPLACE not in steps:
        steps.append(beat.look(beat.next_look_at + (late.pop() if late else 0.0)))
    assert steps.index(Step.STALLED) == LOOKS - 1
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
