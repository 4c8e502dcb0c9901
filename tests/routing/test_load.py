"""The load estimate and the throughput, with made-up times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.routing.load_estimate import MAX_PENALTY, LoadEstimate

START = 1000.0


def measured(*samples_s: float) -> LoadEstimate:
    estimate = LoadEstimate()
    for sample_s in samples_s:
        estimate.succeeded(sample_s, START)
    return estimate


def latency(estimate: LoadEstimate, now: float, in_flight: int = 0) -> float:
    value = estimate.latency_s(now, in_flight)
    assert value is not None
    return value


class TestPardon:
    def test_a_member_is_as_fast_as_usual_again(self) -> None:
        """What followed a request, and not the member, leaves nothing in its estimates."""
        estimate = measured(0.1, 0.1)
        for _ in range(3):
            estimate.failed(30.0, START)
        assert latency(estimate, START) == 30.0 * MAX_PENALTY
        estimate.pardon(3)
        assert latency(estimate, START) == pytest.approx(0.1)
        assert estimate.error_rate(START) == 0.0

    def test_one_that_has_never_answered_is_unmeasured_again(self) -> None:
        """As if it had not been asked."""
        estimate = LoadEstimate()
        estimate.failed(30.0, START)
        estimate.pardon(1)
        assert estimate.latency_s(START) is None

    def test_other_failures_stay(self) -> None:
        """Only so many are pardoned."""
        estimate = measured(0.1)
        for _ in range(3):
            estimate.failed(0.1, START)
        estimate.pardon(1)
        assert latency(estimate, START) == pytest.approx(0.4)
        assert 0.0 < estimate.error_rate(START) < 0.5


class TestLatency:
    def test_is_unknown_before_the_first_sample(self) -> None:
        """Nothing is made up about a member that has not answered yet."""
        assert LoadEstimate().latency_s(START) is None

    def test_a_slower_sample_counts_at_once(self) -> None:
        """A peak replaces the estimate."""
        assert latency(measured(0.1, 0.5), START) == 0.5

    def test_faster_samples_pull_it_down_with_time(self) -> None:
        """Recovery is cautious: the weight of a lower sample is 1 - exp(-dt / 10 s)."""
        estimate = measured(0.5)
        estimate.succeeded(0.1, START)
        assert latency(estimate, START) == 0.5
        estimate.succeeded(0.1, START + 10)
        assert latency(estimate, START + 10) == pytest.approx(0.1 + 0.4 / math.e)

    def test_decays_while_idle(self) -> None:
        """Without calls it falls towards 0, so that the member is sampled again."""
        estimate = measured(0.5)
        assert latency(estimate, START + 10) == pytest.approx(0.5 / math.e)
        assert latency(estimate, START + 3600) < 1e-6

    def test_does_not_decay_with_calls_in_flight(self) -> None:
        """A member that hangs does not look faster with every second."""
        assert latency(measured(0.5), START + 60, in_flight=1) == 0.5

    def test_a_member_that_usually_takes_long_is_remembered_longer(self) -> None:
        """Ten answers of 20 s: half a minute says little about it."""
        assert latency(measured(20.0), START + 20) == pytest.approx(20.0 * math.exp(-0.1))

    def test_one_timeout_is_not_remembered_longer(self) -> None:
        """How long is remembered follows what the member usually takes, not its worst."""
        estimate = measured(0.05)
        estimate.failed(30.0, START)
        assert latency(estimate, START + 90) < 0.05

    def test_failing_fast_is_not_being_fast(self) -> None:
        """Each failure in a row doubles the estimate, whatever time it took, up to eight times."""
        estimate = measured(0.1)
        seen = []
        for _ in range(5):
            estimate.failed(0.001, START)
            seen.append(latency(estimate, START))
        assert seen == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8])

    def test_a_success_ends_the_penalty(self) -> None:
        """Only failures in a row count."""
        estimate = measured(0.1)
        estimate.failed(0.001, START)
        estimate.succeeded(0.1, START)
        assert latency(estimate, START) == pytest.approx(0.1)

    def test_the_first_success_replaces_the_guess(self) -> None:
        """A member that has only failed counts as slow (1 s), until it says how fast it is."""
        estimate = LoadEstimate()
        estimate.failed(0.001, START)
        assert latency(estimate, START) == 2.0
        estimate.succeeded(0.05, START + 1)
        assert latency(estimate, START + 1) == 0.05

    def test_overdue_is_twice_the_usual(self) -> None:
        """A call is overdue at twice the estimate; of an unmeasured member any call is."""
        assert LoadEstimate().overdue(0.0, START)
        assert not measured(0.5).overdue(0.99, START + 30)
        assert measured(0.5).overdue(1.0, START + 30)

    def test_repr_reads_well(self) -> None:
        """For a person with a debugger."""
        assert repr(LoadEstimate()) == "LoadEstimate(unmeasured, 0.0/0.0 failed)"
        assert repr(measured(0.25)) == "LoadEstimate(0.250 s, 0.0/1.0 failed)"


class TestErrorRate:
    def test_is_zero_without_outcomes(self) -> None:
        """Nobody is guilty before the first call."""
        assert LoadEstimate().error_rate(START) == 0.0

    def test_is_recent_and_not_of_a_lifetime(self) -> None:
        """Twenty failures outweigh a thousand successes before them, and the other way round."""
        estimate = measured(*[0.1] * 1000)
        for _ in range(40):
            estimate.failed(0.1, START)
        assert estimate.error_rate(START) > 0.8
        for _ in range(60):
            estimate.succeeded(0.1, START)
        assert estimate.error_rate(START) < 0.05

    def test_follows_the_share_of_failures(self) -> None:
        """A steady quarter of failures reads as about a quarter."""
        estimate, rates = LoadEstimate(), []
        for turn in range(400):
            now = START + turn * 0.01
            if turn % 4:
                estimate.succeeded(0.1, now)
            else:
                estimate.failed(0.1, now)
            rates.append(estimate.error_rate(now))
        assert sum(rates[100:]) / 300 == pytest.approx(0.25, abs=0.03)

    @pytest.mark.parametrize(("failures", "after_s"), [(1, 47), (4, 60), (1000, 460)])
    def test_falls_back_to_zero_without_outcomes(self, failures: int, after_s: float) -> None:
        """Who has failed is trusted again as time passes, later after many failures in a row."""
        estimate = LoadEstimate()
        for _ in range(failures):
            estimate.failed(0.001, START)
        rates = [estimate.error_rate(START + after_s * part / 10) for part in range(11)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] >= failures / (failures + 1) - 0.05
        assert rates[-1] < 0.01


times = st.floats(min_value=0.0, max_value=1e5)
any_elapsed = st.floats(allow_nan=True, allow_infinity=True)


class TestEstimateProperties:
    @given(st.lists(st.tuples(st.booleans(), times, times), min_size=1, max_size=40), times)
    def test_is_bounded(self, calls: list[tuple[bool, float, float]], later: float) -> None:
        """Never negative, never NaN, never above the largest sample (or 1 s) times the penalty."""
        estimate, now = LoadEstimate(), START
        for succeeded, elapsed_s, pause_s in calls:
            now += pause_s
            (estimate.succeeded if succeeded else estimate.failed)(elapsed_s, now)
        bound = max(1.0, *(elapsed_s for _, elapsed_s, _ in calls)) * MAX_PENALTY
        assert 0.0 <= latency(estimate, now + later) <= bound
        assert latency(estimate, now + later) <= latency(estimate, now + later, in_flight=1)
        assert 0.0 <= estimate.error_rate(now + later) <= estimate.error_rate(now) < 1.0

    @given(st.lists(st.tuples(st.booleans(), any_elapsed, st.floats(-1e6, 1e6)), max_size=20))
    def test_absurd_samples_do_not_poison_it(self, calls: list[tuple[bool, float, float]]) -> None:
        """A negative, infinite or NaN time, or a clock that steps back, does no lasting harm."""
        estimate = LoadEstimate()
        for succeeded, elapsed_s, now in calls:
            (estimate.succeeded if succeeded else estimate.failed)(elapsed_s, now)
            assert math.isfinite(latency(estimate, now))
            assert 0.0 <= estimate.error_rate(now) < 1.0

    @given(times, st.floats(0.0, 100.0), st.floats(0.0, 100.0))
    def test_a_failure_never_makes_it_look_faster(
        self, usual_s: float, elapsed_s: float, pause_s: float
    ) -> None:
        """After a failure the estimate is above what it was."""
        estimate = measured(usual_s)
        before = latency(estimate, START + pause_s)
        estimate.failed(elapsed_s, START + pause_s)
        assert latency(estimate, START + pause_s) >= before
