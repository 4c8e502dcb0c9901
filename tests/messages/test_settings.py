"""What a setting of a pool refuses, and what its default is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers_messages import INFINITY, NAN, refused

from greenroom.messages import PoolConfig


def settings(**changes: Any) -> PoolConfig:
    """Settings that may be of a wrong type."""
    return PoolConfig(**changes)


def refused_setting(**changes: Any) -> str:
    return refused(lambda: settings(**changes))


POSITIVE = (
    "circuit_reset_timeout_s",
    "health_check_interval_s",
    "health_check_timeout_s",
    "restart_period_s",
    "priority_ageing_s",
    "loop_check_interval_s",
    "loop_stalled_after_s",
)
POSITIVE_OR_NONE = (
    "circuit_reset_max_s",
    "request_timeout_s",
    "deadline_s",
    "circuit_slow_call_s",
    "first_chunk_timeout_s",
    "chunk_timeout_s",
    "loop_replaced_after_s",
)
NOT_NEGATIVE = (
    "retry_delay_s",
    "retry_max_delay_s",
    "retry_budget_ratio",
    "retry_budget_floor",
    "restart_backoff_s",
    "stay_for_retry_after_s",
    "cancel_grace_s",
)
RATES = (
    "circuit_failure_rate",
    "degraded_error_rate_threshold",
    "unhealthy_error_rate_threshold",
)
RATES_OR_NONE = ("circuit_slow_rate",)
COUNTS_FROM_ONE = (
    "circuit_failure_threshold",
    "circuit_success_threshold",
    "circuit_window",
    "circuit_min_calls",
    "half_open_permits",
    "stream_buffer",
)
COUNTS_FROM_ZERO = ("max_retries", "max_pending", "restart_intensity")
OTHERS = (
    "retry_backoff_multiplier",
    "when_unavailable",
    "event_loop",
    "propagate_context",
    "classify",
    "is_failure",
    "is_empty",
    "stream_complete",
    "on_cut",
    "same_member_retries",
    "hedge_after_s",
    "cost",
    "fair_by",
    "fair_weights",
    "max_pending_per_key",
    "circuit",
    "circuit_max_open_share",
    "log_metadata",
)

OPTIONAL = POSITIVE_OR_NONE + RATES_OR_NONE
NUMBERS = POSITIVE + NOT_NEGATIVE + RATES + OPTIONAL + ("retry_backoff_multiplier",)
COUNTS = COUNTS_FROM_ONE + COUNTS_FROM_ZERO
TOGETHER = "circuit_slow_rate and circuit_slow_call_s must be given together"


def test_the_tables_below_name_every_setting() -> None:
    """A new setting is refused here until somebody says what its bad values are."""
    names = [field.name for field in dataclasses.fields(PoolConfig)]
    assert sorted(NUMBERS + COUNTS + OTHERS[1:]) == sorted(names)


def test_the_default_settings_are_the_documented_ones() -> None:
    """The numbers that a user reads in the documentation."""
    config = dataclasses.asdict(PoolConfig())
    assert config == {
        "log_metadata": (),
        "fair_by": None,
        "fair_weights": None,
        "max_pending_per_key": None,
        "circuit": "on",
        "circuit_max_open_share": None,
        "circuit_failure_threshold": 5,
        "circuit_reset_timeout_s": 5.0,
        "circuit_reset_max_s": None,
        "circuit_success_threshold": 2,
        "circuit_window": 20,
        "circuit_min_calls": 10,
        "circuit_failure_rate": 0.5,
        "circuit_slow_rate": None,
        "circuit_slow_call_s": None,
        "half_open_permits": 1,
        "health_check_interval_s": 30.0,
        "health_check_timeout_s": 5.0,
        "degraded_error_rate_threshold": 0.3,
        "unhealthy_error_rate_threshold": 0.7,
        "max_retries": 3,
        "retry_delay_s": 0.1,
        "retry_backoff_multiplier": 2.0,
        "retry_max_delay_s": 30.0,
        "retry_budget_ratio": 0.2,
        "retry_budget_floor": 10.0,
        "request_timeout_s": 30.0,
        "deadline_s": None,
        "first_chunk_timeout_s": None,
        "chunk_timeout_s": None,
        "stream_buffer": 64,
        "hedge_after_s": None,
        "max_pending": 10_000,
        "priority_ageing_s": 10.0,
        "when_unavailable": "fail",
        "restart_intensity": 3,
        "restart_period_s": 60.0,
        "restart_backoff_s": 0.1,
        "loop_check_interval_s": 1.0,
        "loop_stalled_after_s": 1.0,
        "loop_replaced_after_s": 10.0,
        "event_loop": "auto",
        "propagate_context": True,
        "classify": None,
        "is_failure": "auto",
        "is_empty": "auto",
        "on_cut": "raise",
        "stream_complete": "auto",
        "same_member_retries": None,
        "stay_for_retry_after_s": 0.0,
        "cancel_grace_s": 1.0,
        "cost": None,
    }


@pytest.mark.parametrize("value", ["5", True, [5], 5j], ids=str)
@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_must_be_one(field: str, value: object) -> None:
    """No strings, no booleans: the message names the field, the value and its type."""
    assert refused_setting(**{field: value}) == (
        f"TypeError: {field} must be a number, got {value!r} ({type(value).__name__})"
    )


@pytest.mark.parametrize(
    "value", [NAN, INFINITY, -INFINITY, 10**400], ids=["nan", "inf", "-inf", "huge"]
)
@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_must_be_finite(field: str, value: float) -> None:
    """Neither NaN, nor infinite, nor beyond what a float can hold."""
    assert refused_setting(**{field: value}) == (
        f"ValueError: {field} must be finite, got {value!r}"
    )


@pytest.mark.parametrize("field", sorted(set(NUMBERS) - set(OPTIONAL)) + list(COUNTS))
def test_only_optional_settings_may_be_none(field: str) -> None:
    """None is a value of its own (no limit, off), not a way to ask for the default."""
    assert refused_setting(**{field: None}).startswith(f"TypeError: {field} must be a ")


@pytest.mark.parametrize("field", OPTIONAL[:2])
def test_optional_settings_may_be_none(field: str) -> None:
    """None switches them off."""
    assert getattr(settings(**{field: None}), field) is None


@pytest.mark.parametrize("value", [0, -0.5])
@pytest.mark.parametrize("field", POSITIVE + POSITIVE_OR_NONE + RATES + RATES_OR_NONE)
def test_what_must_be_above_zero(field: str, value: float) -> None:
    """A period, a timeout or a rate of zero or less makes no sense."""
    assert refused_setting(**{field: value}) == (
        f"ValueError: {field} must be greater than 0, got {value!r}"
    )


@pytest.mark.parametrize("field", NOT_NEGATIVE)
def test_what_may_be_zero_but_not_less(field: str) -> None:
    """No delay, no budget: allowed. Less than none: not."""
    assert refused_setting(**{field: -0.1}) == f"ValueError: {field} must be at least 0, got -0.1"
    assert getattr(settings(**{"retry_delay_s": 0, field: 0}), field) == 0


@pytest.mark.parametrize("field", RATES + RATES_OR_NONE)
def test_a_rate_is_at_most_one(field: str) -> None:
    """Rates are fractions, not percentages."""
    assert refused_setting(**{field: 50}) == f"ValueError: {field} must be at most 1, got 50"


@pytest.mark.parametrize("value", [2.0, "2", True], ids=repr)
@pytest.mark.parametrize("field", COUNTS)
def test_a_count_must_be_whole(field: str, value: object) -> None:
    """A float is no count, even a round one."""
    assert refused_setting(**{field: value}) == (
        f"TypeError: {field} must be a whole number, got {value!r} ({type(value).__name__})"
    )


@pytest.mark.parametrize(
    ("field", "least"),
    [(field, 1) for field in COUNTS_FROM_ONE] + [(field, 0) for field in COUNTS_FROM_ZERO],
)
def test_a_count_has_a_least_value(field: str, least: int) -> None:
    """The least value is accepted, one less is refused."""
    assert refused_setting(**{field: least - 1}) == (
        f"ValueError: {field} must be at least {least}, got {least - 1}"
    )
    assert getattr(settings(**{"circuit_min_calls": 1, field: least}), field) == least


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"circuit_reset_timeout_s": 60.0, "circuit_reset_max_s": 30.0},
            "circuit_reset_max_s must be at least circuit_reset_timeout_s (60.0), got 30.0",
        ),
        (
            {"circuit_min_calls": 21},
            "circuit_min_calls must be at most circuit_window (20), got 21",
        ),
        (
            {"circuit_slow_rate": 0.5},
            f"{TOGETHER}, got circuit_slow_rate=0.5, circuit_slow_call_s=None",
        ),
        (
            {"circuit_slow_call_s": 2.0},
            f"{TOGETHER}, got circuit_slow_rate=None, circuit_slow_call_s=2.0",
        ),
        (
            {"retry_delay_s": 2.0, "retry_max_delay_s": 1.0},
            "retry_max_delay_s must be at least retry_delay_s (2.0), got 1.0",
        ),
        (
            {"loop_stalled_after_s": 2.0, "loop_replaced_after_s": 1.5},
            "loop_replaced_after_s must be at least loop_stalled_after_s (2.0), got 1.5",
        ),
        (
            {"degraded_error_rate_threshold": 0.8},
            (
                "unhealthy_error_rate_threshold must be at least degraded_error_rate_threshold "
                "(0.8), got 0.7"
            ),
        ),
        (
            {"retry_backoff_multiplier": 0.5},
            "retry_backoff_multiplier must be at least 1, got 0.5",
        ),
        ({"when_unavailable": "panic"}, "when_unavailable must be 'fail' or 'wait', got 'panic'"),
        ({"when_unavailable": None}, "when_unavailable must be 'fail' or 'wait', got None"),
        (
            {"event_loop": "trio"},
            "event_loop must be 'auto', 'running', 'own', 'asyncio' or 'uvloop', got 'trio'",
        ),
        (
            {"event_loop": None},
            "event_loop must be 'auto', 'running', 'own', 'asyncio' or 'uvloop', got None",
        ),
        ({"hedge_after_s": 0}, "hedge_after_s must be greater than 0, got 0"),
        ({"hedge_after_s": "p99"}, "hedge_after_s must be a number or 'p95', got 'p99'"),
        ({"circuit_window": 10**30}, f"circuit_window must be at most 1000000, got {10**30}"),
        (
            {"stream_buffer": 10**5000},
            "stream_buffer must be at most 1000000, got a number of 16610 bits",
        ),
        ({"on_cut": "panic"}, "on_cut must be 'raise', 'restart' or 'hold', got 'panic'"),
        ({"on_cut": None}, "on_cut must be 'raise', 'restart' or 'hold', got None"),
        ({"is_empty": "off"}, "is_empty must be 'auto', a function or None, got 'off'"),
        ({"is_failure": "on"}, "is_failure must be 'auto', a function or None, got 'on'"),
        ({"stream_complete": ""}, "stream_complete must be 'auto', a function or None, got ''"),
        ({"same_member_retries": -1}, "same_member_retries must be at least 0, got -1"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    """The message names both fields and both values."""
    assert refused_setting(**changes) == f"ValueError: {message}"


def test_whether_contexts_are_carried_is_a_flag() -> None:
    """Anything but True and False is refused."""
    refusal = refused_setting(propagate_context=1)
    assert refusal == "TypeError: propagate_context must be True or False, got 1 (int)"


@pytest.mark.parametrize("field", ["classify", "is_failure", "is_empty", "stream_complete"])
def test_a_hook_must_be_callable(field: str) -> None:
    """What cannot be called is no function."""
    assert refused_setting(**{field: 5}) == f"TypeError: {field} must be callable, got 5 (int)"


def test_the_name_of_a_function_is_not_a_function() -> None:
    """`classify` has no ready-made value."""
    assert refused_setting(classify="f") == "TypeError: classify must be callable, got 'f' (str)"


def test_a_changed_copy_is_checked_too() -> None:
    """`replace` leaves the original alone and refuses what the constructor refuses."""
    config = PoolConfig()
    assert config.replace(max_retries=9).max_retries == 9
    assert config.max_retries == 3
    assert refused(lambda: config.replace(max_retries=-1)) == (
        "ValueError: max_retries must be at least 0, got -1"
    )


def test_settings_are_given_by_name() -> None:
    """Nobody has to know their order."""
    with pytest.raises(TypeError):
        PoolConfig(5)  # type: ignore[call-arg, arg-type]
