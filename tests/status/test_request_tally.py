"""What `/metrics` counts: each request and each attempt once, by how it ended."""

from __future__ import annotations

import pytest

from greenroom.status.request_tally import BOUNDS_S, Histogram


def test_a_histogram_has_each_value_in_one_bucket() -> None:
    """A bound is in its own bucket, as Prometheus has it: less or equal."""
    histogram = Histogram()
    for seconds in (0.0, BOUNDS_S[0], 0.011, 1000.0):
        histogram.note(seconds)
    sums = histogram.cumulative()
    assert sums[:2] == [2, 3]
    assert sums[-2:] == [3, 4]
    assert len(sums) == len(BOUNDS_S) + 1
    assert histogram.total_s == pytest.approx(1000.021)
