"""Who can be in time, and what a member usually takes."""

from __future__ import annotations

import random

import pytest

from greenroom.actors.policy.in_time import SHARE, is_too_late, usual_s


@pytest.mark.parametrize(
    ("left_s", "members", "late"),
    [
        (1.0, [], False),  # nobody is there to be measured by
        (1.0, [None], False),
        (1.0, [2.0, None], False),  # of one of them nothing is known
        (1.0, [2.0, 1.5], True),
        (1.0, [2.0, 1.0], False),
        (0.0, [0.1], True),
    ],
)
def test_b328_it_is_too_late_where_each_member_is_known_to_take_longer(
    left_s: float, members: list[float | None], late: bool
) -> None:
    """The quickest one says it, and one of which nothing is known may be quick."""
    assert is_too_late(left_s, members) is late


def test_b328_calls_that_were_cut_short_count_as_what_they_are() -> None:
    """Else the quick ones alone would be seen: with less time, a member would look quicker."""
    rng = random.Random(3)
    whole = [rng.lognormvariate(0.0, 0.5) for _ in range(2000)]
    true_s = sorted(whole)[int(SHARE * len(whole)) - 1]
    for cut_s in (0.9, 1.2, 5.0):
        took = [each for each in whole if each <= cut_s]
        cut = [cut_s] * (len(whole) - len(took))
        naive_s = sorted(took)[int(SHARE * len(took)) - 1]
        found_s = usual_s(took, cut)
        if cut_s >= true_s:
            assert found_s == pytest.approx(true_s)
        else:  # it is the longest that is known
            assert naive_s < found_s == pytest.approx(cut_s, rel=0.01)


def test_b328_without_any_cut_short_it_is_a_quantile() -> None:
    """As that of the other statistics."""
    rng = random.Random(5)
    for number in (1, 2, 10, 99, 100):
        took = [rng.random() for _ in range(number)]
        assert usual_s(took, []) == sorted(took)[-(-number * 3 // 4) - 1]
