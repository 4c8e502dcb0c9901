"""The ground floor: what a message or a setting refuses, what errors and statistics read like."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import json
import pickle
import types
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Any

import pytest

import greenroom.messages
from greenroom.messages import (
    CATALOGUE,
    AddMember,
    AgentHealth,
    AgentStatus,
    AllPoolMembersFailedError,
    Apply,
    AttemptError,
    AttemptFailed,
    AttemptTimeoutError,
    BreakerOpened,
    CallContext,
    Cancel,
    CircuitState,
    DeadlineExceededError,
    DisableBreaker,
    Drain,
    Event,
    FailureKind,
    ForceOpen,
    HealthChanged,
    LoadBalanceStrategy,
    Member,
    MemberCrashedError,
    MemberExistsError,
    MemberFailed,
    MemberStats,
    PoolConfig,
    PoolError,
    PoolSaturatedError,
    PoolStarted,
    PoolStats,
    PoolStopped,
    PoolStoppedError,
    ReentrantAskError,
    RemoveMember,
    Reply,
    Request,
    RequestCancelledError,
    RequestOptions,
    ResetMember,
    ResourceError,
    Restarted,
    SkipReason,
    StrategyError,
    StreamInterruptedError,
    Subscribe,
    UnknownMemberError,
    UnsuccessfulResultError,
    events,
)
from greenroom.messages.errors import summary
from greenroom.messages.pickling import RemoteCause

NAN, INFINITY = float("nan"), float("inf")


def agent(payload: object) -> object:
    return payload


def refused(make: Callable[[], object]) -> str:
    """What a message says when it refuses a value."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    return f"{type(caught.value).__name__}: {caught.value}"


def settings(**changes: Any) -> PoolConfig:
    """Settings that may be of a wrong type."""
    return PoolConfig(**changes)


def refused_setting(**changes: Any) -> str:
    return refused(lambda: settings(**changes))


# settings

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
    "classify",
    "is_failure",
    "is_empty",
    "stream_complete",
    "on_cut",
    "same_member_retries",
    "hedge_after_s",
)

OPTIONAL = POSITIVE_OR_NONE + RATES_OR_NONE
NUMBERS = POSITIVE + NOT_NEGATIVE + RATES + OPTIONAL + ("retry_backoff_multiplier",)
COUNTS = COUNTS_FROM_ONE + COUNTS_FROM_ZERO

MARKS = "marks of text direction or halves of surrogate pairs"
TOGETHER = "circuit_slow_rate and circuit_slow_call_s must be given together"


def test_the_tables_below_name_every_setting() -> None:
    """A new setting is refused here until somebody says what its bad values are."""
    names = [field.name for field in dataclasses.fields(PoolConfig)]
    assert sorted(NUMBERS + COUNTS + OTHERS[1:]) == sorted(names)


def test_the_default_settings_are_the_documented_ones() -> None:
    """The numbers that a user reads in the documentation."""
    config = dataclasses.asdict(PoolConfig())
    assert config == {
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
        "event_loop": "asyncio",
        "classify": None,
        "is_failure": "auto",
        "is_empty": "auto",
        "on_cut": "raise",
        "stream_complete": "auto",
        "same_member_retries": None,
        "stay_for_retry_after_s": 0.0,
        "cancel_grace_s": 1.0,
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
        ({"event_loop": "trio"}, "event_loop must be 'asyncio' or 'uvloop', got 'trio'"),
        ({"event_loop": None}, "event_loop must be 'asyncio' or 'uvloop', got None"),
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
        PoolConfig(5)  # type: ignore[call-arg]


# members


@pytest.mark.parametrize(
    ("given", "which"), [({}, "neither"), ({"agent": agent, "factory": object}, "both")]
)
def test_a_member_has_an_agent_or_a_factory(given: dict[str, Any], which: str) -> None:
    """Exactly one of the two."""
    assert refused(lambda: Member("a", **given)) == (
        f"ValueError: member 'a': exactly one of agent and factory must be given, got {which}"
    )


@pytest.mark.parametrize(
    "value", ["claude", b"x", 0, 3, True, 2.5, [], [agent], (), {}, {"run": agent}, set()], ids=repr
)
def test_plain_data_is_no_agent(value: object) -> None:
    """The name of a model, or a list of agents, is a mistake that is said at once."""
    assert refused(lambda: Member("a", value)) == (
        "TypeError: agent must be a callable or an object with a run method, "
        f"got {value!r} ({type(value).__name__})"
    )


def chunks(payload: object) -> Iterator[object]:
    yield payload


async def async_chunks(payload: object) -> AsyncIterator[object]:
    yield payload


@pytest.mark.parametrize("streaming", [chunks, async_chunks, functools.partial(chunks)])
def test_a_generator_function_is_an_agent(streaming: Any) -> None:
    """Its answer comes in chunks."""
    assert Member("a", streaming).agent is streaming


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "ValueError: name must not be empty, got ''"),
        ({"name": " "}, "ValueError: name must not be empty, got ' '"),
        ({"name": None}, "TypeError: name must be a string, got None (NoneType)"),
        ({"name": 3}, "TypeError: name must be a string, got 3 (int)"),
        (
            {"name": "a\nb"},
            "ValueError: name must not contain line breaks or control characters, got 'a\\nb'",
        ),
        (
            {"name": "a\x1b[2J"},
            "ValueError: name must not contain line breaks or control characters, got 'a\\x1b[2J'",
        ),
        (
            {"name": "a" * 201},
            "ValueError: name must have at most 200 characters, got 201: 'aaaaaaaaaaaaaaaaaaaa'...",
        ),
        (
            {"name": "a\u202eb"},
            f"ValueError: name must not contain {MARKS}, got 'a\\u202eb'",
        ),
        (
            {"name": "a\ud800"},
            f"ValueError: name must not contain {MARKS}, got 'a\\ud800'",
        ),
        ({"weight": -1}, "ValueError: weight must be at least 0, got -1"),
        ({"weight": NAN}, "ValueError: weight must be finite, got nan"),
        ({"weight": INFINITY}, "ValueError: weight must be finite, got inf"),
        ({"weight": "2"}, "TypeError: weight must be a number, got '2' (str)"),
        ({"weight": None}, "TypeError: weight must be a number, got None (NoneType)"),
        ({"priority": 1.5}, "TypeError: priority must be a whole number, got 1.5 (float)"),
        ({"priority": True}, "TypeError: priority must be a whole number, got True (bool)"),
        ({"max_concurrency": 0}, "ValueError: max_concurrency must be at least 1, got 0"),
        (
            {"max_concurrency": 2.0},
            "TypeError: max_concurrency must be a whole number, got 2.0 (float)",
        ),
        ({"probe": "ping"}, "TypeError: probe must be callable, got 'ping' (str)"),
        ({"close": 3}, "TypeError: close must be callable, got 3 (int)"),
        (
            {"agent": None, "factory": "make"},
            "TypeError: factory must be callable, got 'make' (str)",
        ),
        ({"isolated": 1}, "TypeError: isolated must be True or False, got 1 (int)"),
        ({"isolated": None}, "TypeError: isolated must be True or False, got None (NoneType)"),
        ({"method": ""}, "ValueError: method must not be empty, got ''"),
        ({"method": 3}, "TypeError: method must be a string, got 3 (int)"),
        (
            {"method": "answer"},
            "TypeError: method must name a method of the agent, got 'answer' (function has none)",
        ),
        ({"metadata": None}, "TypeError: metadata must be a mapping, got None (NoneType)"),
        ({"metadata": "eu"}, "TypeError: metadata must be a mapping, got 'eu' (str)"),
        ({"metadata": {1: 2}}, "TypeError: metadata must have string keys, got the key 1"),
    ],
)
def test_a_member_refuses_bad_values(changes: dict[str, Any], message: str) -> None:
    """The message names the field, the rule and the value."""
    values: dict[str, Any] = {"name": "a", "agent": agent, **changes}
    assert refused(lambda: Member(**values)) == message


def test_a_member_takes_the_values_at_the_edge() -> None:
    """Weight 0, a negative priority, a single slot, a read-only mapping."""
    metadata = types.MappingProxyType({"region": "eu"})
    member = Member("a", agent, weight=0, priority=-1, max_concurrency=1, metadata=metadata)
    assert (member.weight, member.priority, member.metadata["region"]) == (0, -1, "eu")
    assert Member("a", factory=object, method="answer").agent is None
    assert Member("a", "x".join, method=None).method is None


# requests


def payload_request(**options: Any) -> object:
    return Request("payload", **options)


def function_request(**options: Any) -> object:
    return Apply(agent, **options)


@pytest.mark.parametrize("make", [payload_request, function_request])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": 3}, "TypeError: key must be a string, got 3 (int)"),
        ({"timeout_s": 0}, "ValueError: timeout_s must be greater than 0, got 0"),
        ({"timeout_s": -1.0}, "ValueError: timeout_s must be greater than 0, got -1.0"),
        ({"timeout_s": NAN}, "ValueError: timeout_s must be finite, got nan"),
        ({"timeout_s": INFINITY}, "ValueError: timeout_s must be finite, got inf"),
        ({"timeout_s": "3"}, "TypeError: timeout_s must be a number, got '3' (str)"),
        ({"priority": 1.0}, "TypeError: priority must be a whole number, got 1.0 (float)"),
        ({"priority": None}, "TypeError: priority must be a whole number, got None (NoneType)"),
        ({"idempotent": 0}, "TypeError: idempotent must be True or False, got 0 (int)"),
        ({"idempotent": None}, "TypeError: idempotent must be True or False, got None (NoneType)"),
        ({"max_retries": -1}, "ValueError: max_retries must be at least 0, got -1"),
        ({"max_retries": 1.0}, "TypeError: max_retries must be a whole number, got 1.0 (float)"),
        ({"metadata": None}, "TypeError: metadata must be a mapping, got a NoneType"),
        ({"metadata": []}, "TypeError: metadata must be a mapping, got a list"),
        ({"metadata": "eu"}, "TypeError: metadata must be a mapping, got a str"),
        ({"metadata": {1: 2}}, "TypeError: metadata must have string keys, got the key 1"),
        ({"request_id": ""}, "ValueError: request_id must not be empty, got ''"),
        ({"request_id": 7}, "TypeError: request_id must be a string, got 7 (int)"),
        (
            {"request_id": "r\u2028"},
            (
                "ValueError: request_id must not contain line breaks or control characters, "
                "got 'r\\u2028'"
            ),
        ),
    ],
)
def test_a_request_refuses_bad_options(
    make: Callable[..., object], options: dict[str, Any], message: str
) -> None:
    """Alike for a payload and for a function; the message names field, rule and value."""
    assert refused(lambda: make(**options)) == message


def test_a_request_takes_any_payload() -> None:
    """None and nothing at all are payloads too; an empty key is a key; 0 retries are none."""
    assert Request(None).payload is None
    assert Request(payload={}).payload == {}
    request = Request("x", key="", timeout_s=0.001, priority=-5, max_retries=0)
    assert (request.key, request.priority, request.max_retries) == ("", -5, 0)
    assert request.idempotent
    assert isinstance(request, RequestOptions)


def test_only_the_subject_is_positional() -> None:
    """`Request(payload, *, ...)`, `Apply(function, *, ...)`, `Member(name, agent, *, ...)`."""
    with pytest.raises(TypeError):
        Request("x", "key")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Apply(agent, "key")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Member("a", agent, None)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Apply("x.y"), "TypeError: function must be callable, got a str"),  # type: ignore[arg-type]
        (lambda: Cancel(""), "ValueError: request_id must not be empty, got ''"),
        (lambda: AddMember(agent), "TypeError: member must be a Member, got <function agent"),  # type: ignore[arg-type]
        (lambda: RemoveMember(" "), "ValueError: name must not be empty, got ' '"),
        (lambda: ResetMember(""), "ValueError: name must not be empty, got ''"),
        (lambda: ForceOpen(3), "TypeError: name must be a string, got 3 (int)"),  # type: ignore[arg-type]
        (lambda: DisableBreaker(""), "ValueError: name must not be empty, got ''"),
        (lambda: Drain(-1), "ValueError: timeout_s must be at least 0, got -1"),
        (lambda: Drain(NAN), "ValueError: timeout_s must be finite, got nan"),
        (
            lambda: Subscribe("me"),
            "TypeError: subscriber must be an actor ref or a callable, got 'me' (str)",
        ),
    ],
)
def test_a_command_refuses_bad_values(make: Callable[[], object], message: str) -> None:
    """The message names the field, the rule and the value."""
    assert refused(make).startswith(message)


def test_commands_take_the_values_at_the_edge() -> None:
    """A drain may have no time at all, or all of it; a subscriber may be a ref."""
    assert Drain(0).timeout_s == 0
    assert Drain().timeout_s is None
    told = types.SimpleNamespace(tell=print)
    assert Subscribe(told).subscriber is told


def test_a_call_context_says_what_time_is_left() -> None:
    """Never less than nothing; None without a limit."""
    started: list[bool] = []
    make = functools.partial(
        CallContext,
        request_id="r1",
        member="a",
        now=lambda: 10.0,
        on_side_effects=lambda: started.append(True),
    )
    assert make(deadline=12.5).remaining_s == 2.5
    assert make(deadline=9.0).remaining_s == 0.0
    context = make()
    assert context.remaining_s is None
    assert context.metadata == {}
    assert repr(context) == "CallContext('r1', member='a', attempt=1)"
    context.started_side_effects()
    assert started == [True]


# all messages


def message_classes() -> list[type]:
    found = [getattr(greenroom.messages, name) for name in greenroom.messages.__all__]
    return [each for each in found if inspect.isclass(each) and dataclasses.is_dataclass(each)]


@pytest.mark.parametrize("message", message_classes(), ids=lambda each: each.__name__)
def test_messages_are_frozen_and_slotted(message: type) -> None:
    """What has been sent does not change, and a misspelt field is no field."""
    parameters = message.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen
    if message is not Restarted:  # with slots, no type checker lets a chunk be one
        assert message.__dictoffset__ == 0  # no room for a field that is not one
    assert message.__doc__
    assert not message.__doc__.startswith(f"{message.__name__}(")


def test_a_frozen_message_refuses_changes() -> None:
    """Neither a new value nor a new name."""
    request = Request("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.payload = "y"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        request.color = "red"  # type: ignore[attr-defined]


def test_every_name_is_exported_once() -> None:
    """`__all__` is sorted, complete and without doubles."""
    names = greenroom.messages.__all__
    assert sorted(set(names)) == sorted(names)
    assert all(hasattr(greenroom.messages, name) for name in names)


@pytest.mark.parametrize(
    "vocabulary", [LoadBalanceStrategy, AgentStatus, CircuitState, FailureKind, SkipReason]
)
def test_a_word_of_a_vocabulary_is_a_string(vocabulary: type[Enum]) -> None:
    """It prints and formats as its value, and is found by it."""
    for word in vocabulary:
        assert f"{word}" == str(word) == word.value == word.name.lower()
        assert vocabulary(word.value) is word


def test_what_each_kind_of_failure_means() -> None:
    """The table of the documentation."""
    kinds = set(FailureKind)
    caller = {FailureKind.CALLER, FailureKind.CANCELLED}
    assert {kind for kind in kinds if not kind.tries_another_member} == caller
    assert {kind for kind in kinds if not kind.counts_for_breaker} == caller | {
        FailureKind.RATE_LIMITED,
        FailureKind.TOO_LARGE,
        FailureKind.NOT_FOUND,
        FailureKind.CREATE_FAILED,
        FailureKind.INTERRUPTED,
    }
    assert {kind for kind in kinds if kind.opens_at_once} == {FailureKind.AUTH, FailureKind.QUOTA}


# errors

SLOW = AttemptError("claude", 0, FailureKind.TIMEOUT, TimeoutError("too slow"), 1.5, 2)
SKIPPED = AttemptError(
    "local", 1, SkipReason.CIRCUIT_OPEN, elapsed_s=0.0, attempts=0, detail="reopens in 12.0 s"
)
ERRORS = [
    PoolError("x"),
    SLOW,
    SKIPPED,
    AllPoolMembersFailedError("writers", ["claude", "local"], [SLOW, SKIPPED], "why", 12.0),
    AllPoolMembersFailedError("writers", [], []),
    PoolSaturatedError("writers", 9, 2.5),
    DeadlineExceededError("writers", 3.0, [SLOW]),
    DeadlineExceededError("writers", 3.0),
    RequestCancelledError("x"),
    PoolStoppedError("x"),
    PoolStoppedError("x", refused=True),
    ResourceError("x"),
    ReentrantAskError("x"),
    AttemptError(
        "inner",
        0,
        FailureKind.RATE_LIMITED,
        AllPoolMembersFailedError("inner", ["local"], [SKIPPED]),
        started=False,
        retry_after_s=4.0,
    ),
    MemberCrashedError("x"),
    AttemptTimeoutError("x"),
    UnsuccessfulResultError("x"),
    StrategyError("x"),
    StreamInterruptedError("writers", "claude", [SLOW], ["a", "b"], 2),
    MemberExistsError("x"),
    UnknownMemberError("x"),
]


def test_the_list_of_errors_is_complete() -> None:
    """Every error of the ground floor is in the tests below."""
    found = [getattr(greenroom.messages, name) for name in greenroom.messages.__all__]
    classes = {each for each in found if inspect.isclass(each) and issubclass(each, Exception)}
    assert {type(error) for error in ERRORS} == classes


def test_every_error_is_a_pool_error() -> None:
    """One tree; the errors that have a builtin meaning have that base as well."""
    assert all(isinstance(error, PoolError) for error in ERRORS)
    assert issubclass(DeadlineExceededError, TimeoutError)
    assert issubclass(AttemptTimeoutError, TimeoutError)
    assert issubclass(MemberExistsError, ValueError)
    assert issubclass(UnknownMemberError, KeyError)
    assert not issubclass(PoolSaturatedError, TimeoutError)


def plain(value: object) -> object:
    """An error as its type, text and attributes, all the way down."""
    if isinstance(value, BaseException):
        names = sorted(vars(value))
        return (type(value), str(value), [(name, plain(vars(value)[name])) for name in names])
    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)
    return value


def abroad(value: object) -> object:
    """The same as it is elsewhere: an agent's error is its class and first line, chunks stay."""
    if isinstance(value, BaseException) and not isinstance(value, PoolError):
        return plain(RemoteCause.of(value))
    if isinstance(value, PoolError):
        kept = dict(vars(value), **({"received": ()} if hasattr(value, "received") else {}))
        return (type(value), str(value), [(name, abroad(kept[name])) for name in sorted(kept)])
    return tuple(abroad(each) for each in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: PoolError) -> None:
    """With type, text, attributes, arguments and cause, so that they can cross a process."""
    twin = copy.copy(error)
    assert plain(twin) == plain(error)
    assert twin.args == error.args
    assert twin.__cause__ is error.__cause__
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert plain(twin) == abroad(error)
        assert plain(twin.args) == abroad(error.args)
        assert plain(twin.__cause__) == abroad(error.__cause__)


def test_a_deadline_is_no_error_of_the_system() -> None:
    """Its base TimeoutError is an OSError, but its arguments are no errno and no file name."""
    error = DeadlineExceededError("writers", 3.0, [SLOW])
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert error.args == ("writers", 3.0, (SLOW,), False)


def test_the_first_cause_is_chained() -> None:
    """A traceback shows what the first failed member raised."""
    assert SLOW.__cause__ is SLOW.error
    assert AllPoolMembersFailedError("p", ["a"], [SKIPPED, SLOW]).__cause__ is SLOW.error
    assert AllPoolMembersFailedError("p", ["a"], [SKIPPED]).__cause__ is None
    assert DeadlineExceededError("p", 1.0, [SLOW]).__cause__ is SLOW.error


def test_an_error_knows_whether_an_agent_may_have_begun() -> None:
    """Only where none has is it False: then even what is not idempotent may be sent again."""
    refused = AttemptError("a", 0, FailureKind.CREATE_FAILED, ValueError("x"), started=False)
    started = {
        str(error): error.started
        for error in (
            PoolSaturatedError("full", 9, 2.5),
            PoolStoppedError("refused", refused=True),
            AllPoolMembersFailedError("none", ["a", "b"], [refused, SKIPPED]),
            AllPoolMembersFailedError("empty", [], []),
            refused,
            SKIPPED,
        )
    }
    assert not any(started.values()), started
    assert all(
        error.started
        for error in (
            PoolStoppedError("x"),
            SLOW,
            AllPoolMembersFailedError("p", ["a", "b"], [SKIPPED, SLOW]),
            DeadlineExceededError("p", 1.0),
            RequestCancelledError("x"),
        )
    )


def test_a_member_that_is_a_pool_shows_what_became_of_its_own() -> None:
    """`errors` is the next level of the tree; whatever a deadline or a failure holds is printed."""
    deadline = DeadlineExceededError("mid", 3.0, [SLOW])
    error = AttemptError("mid", 0, FailureKind.TIMEOUT, deadline, 3.0)
    assert (error.errors, SLOW.errors, SKIPPED.errors) == ((SLOW,), (), ())
    assert str(error) == (
        "mid: timeout after 3.000 s: DeadlineExceededError: "
        "pool 'mid': deadline exceeded after 3.000 s"
    )
    assert str(DeadlineExceededError("top", 4.0, [error, SKIPPED])) == (
        f"pool 'top': deadline exceeded after 4.000 s\n  {error}\n    {SLOW}\n  {SKIPPED}"
    )
    assert summary(AllPoolMembersFailedError("top", ["mid"], [error])).count("\n") == 0


def test_an_error_takes_any_iterable() -> None:
    """And keeps a tuple, so that a reader may go over it twice."""
    error = AllPoolMembersFailedError("p", iter(["a"]), iter([SLOW]))
    assert (error.member_names, error.errors) == (("a",), (SLOW,))


def test_what_a_failed_request_reads_like() -> None:
    """One line on the request, one a member, in order, with kind, time and reason."""
    error = AllPoolMembersFailedError(
        "writers", ["claude", "local"], [SLOW, SKIPPED], "max_retries=3 reached", 12.0
    )
    assert str(error) == (
        "pool 'writers': no member could answer (max_retries=3 reached); retry after 12.0 s\n"
        "  claude: timeout after 1.500 s, 2 attempts: TimeoutError: too slow\n"
        "  local: skipped, circuit_open (reopens in 12.0 s)"
    )
    assert repr(error).startswith("AllPoolMembersFailedError('writers', ('claude', 'local'), (")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            AttemptError("a", 0, FailureKind.UNKNOWN, ValueError("bad\nworse"), 0.25),
            "a: unknown after 0.250 s: ValueError: bad",
        ),
        (AttemptError("a", 0, SkipReason.SATURATED, attempts=0), "a: skipped, saturated"),
        (AllPoolMembersFailedError("p", [], []), "pool 'p': no member could answer"),
        (
            PoolSaturatedError("p", 9, 2.5),
            "pool 'p' is saturated: 9 requests are waiting; retry after 2.50 s",
        ),
        (
            DeadlineExceededError("p", 3.0, [SLOW]),
            f"pool 'p': deadline exceeded after 3.000 s\n  {SLOW}",
        ),
        (UnknownMemberError("no member 'x' in pool 'p'"), "no member 'x' in pool 'p'"),
    ],
)
def test_what_errors_read_like(error: PoolError, text: str) -> None:
    """Short, with numbers and units; a member's error by its first line."""
    assert str(error) == text


def test_an_error_in_one_line() -> None:
    """Type and first line, at most 200 characters of it; a mute error is named."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert summary(ValueError("bad\nworse")) == "ValueError: bad"
    assert summary(ValueError()) == "ValueError"
    assert summary(ValueError("x" * 999)) == "ValueError: " + "x" * 200
    assert summary(Mute()) == "Mute"
    assert summary(None) == ""


# statistics and replies

HEALTH = AgentHealth(
    status=AgentStatus.CIRCUIT_OPEN,
    circuit=CircuitState.OPEN,
    successes=90,
    failures=10,
    error_rate=0.6,
    latency_p50_s=0.25,
    latency_p95_s=0.9,
    consecutive_failures=5,
    last_error="TimeoutError: too slow",
    last_success_at=1.0,
    last_failure_at=2.0,
    reopens_in_s=12.04,
)


def test_what_a_members_statistics_read_like() -> None:
    """One line: state, load, outcomes, latency."""
    down = MemberStats("claude", health=HEALTH, in_flight=2, max_concurrency=50)
    assert repr(down) == (
        "<MemberStats claude: circuit_open, open, reopens in 12.0 s, "
        "2/50 in flight, 90 ok, 10 failed, p50 250 ms>"
    )
    assert repr(MemberStats("new")) == (
        "<MemberStats new: healthy, closed, 0/1 in flight, 0 ok, 0 failed>"
    )


def test_what_a_pools_statistics_read_like() -> None:
    """One line for the pool, one a member."""
    stats = PoolStats(
        "writers",
        strategy="adaptive",
        members=(MemberStats("claude", health=HEALTH), MemberStats("local")),
        available=("local",),
        pending=3,
        in_flight=2,
        completed=90,
        failed=1,
        draining=True,
    )
    assert repr(stats) == (
        "<PoolStats writers (adaptive): 1 of 2 available, 3 pending, 2 in flight, "
        "90 completed, 1 failed, draining>\n"
        "  <MemberStats claude: circuit_open, open, reopens in 12.0 s, "
        "0/1 in flight, 90 ok, 10 failed, p50 250 ms>\n"
        "  <MemberStats local: healthy, closed, 0/1 in flight, 0 ok, 0 failed>"
    )


def test_a_members_statistics_are_found_by_name() -> None:
    """`stats["claude"]`, and a KeyError for who is not there."""
    claude = MemberStats("claude")
    stats = PoolStats("writers", strategy="adaptive", members=(claude,))
    assert stats["claude"] is claude
    with pytest.raises(KeyError, match="local"):
        stats["local"]


def test_a_members_statistics_show_its_health() -> None:
    """Every field of AgentHealth can be read on MemberStats itself."""
    stats = MemberStats("claude", health=HEALTH)
    for field in dataclasses.fields(AgentHealth):
        assert getattr(stats, field.name) == getattr(HEALTH, field.name)
    assert not HEALTH.is_available
    assert AgentHealth(status=AgentStatus.UNHEALTHY).is_available


def test_what_a_reply_reads_like() -> None:
    """The value, who answered, and what it took."""
    assert repr(Reply("hi", member="claude", attempts=2, elapsed_s=0.5, request_id="r1")) == (
        "Reply(value='hi', member='claude', attempts=2, elapsed_s=0.5, request_id='r1', errors=())"
    )


# events


def test_the_catalogue_is_complete() -> None:
    """Every event class is in it once, under a name of its own and a level of loguru's."""
    found = [each for each in vars(events).values() if inspect.isclass(each)]
    assert set(CATALOGUE) == {each for each in found if issubclass(each, Event)} - {Event}
    names = [event.name for event in CATALOGUE]
    assert len(set(names)) == len(names) == len(CATALOGUE)
    levels = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
    assert {event.level for event in CATALOGUE} <= levels


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_event_describes_itself(event: type[Event]) -> None:
    """In one line, even with nothing but the pool's name."""
    happened = event(pool="writers", member="claude", request_id="r1")
    text = happened.describe()
    assert text
    assert "\n" not in text
    assert str(happened) == f"{event.name} writers/claude: {text}"
    assert str(event(pool="writers")).startswith(f"{event.name} writers: ")
    assert happened.severity() in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_event_is_flat_plain_data(event: type[Event]) -> None:
    """Ready for JSON: the event's name, then its fields, none of them nested."""
    data = event(pool="writers", member="claude").as_dict()
    assert json.loads(json.dumps(data)) == data
    assert list(data)[:4] == ["event", "pool", "member", "request_id"]
    assert len(data) == 1 + len(dataclasses.fields(event))
    assert data["event"] == event.name
    # Exactly these types: an enum would be written out differently by other encoders.
    assert {type(value) for value in data.values()} <= {str, int, float, bool, type(None)}


def test_enums_and_tuples_become_strings() -> None:
    """The values of an enum, the items of a tuple."""
    failed = AttemptFailed(pool="p", member="a", kind=FailureKind.RATE_LIMITED)
    assert failed.as_dict()["kind"] == "rate_limited"
    assert PoolStarted(pool="p", members=("a", "b")).as_dict()["members"] == "a, b"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            BreakerOpened(pool="p", member="a", reason="5 failures in a row", reopens_in_s=30),
            "breaker.opened p/a: breaker opened: 5 failures in a row; next trial in 30.0 s",
        ),
        (
            BreakerOpened(pool="p", member="a", reason="forced"),
            "breaker.opened p/a: breaker opened: forced; stays open until it is reset",
        ),
        (
            AttemptFailed(
                pool="p",
                member="a",
                elapsed_s=1.5,
                kind=FailureKind.TIMEOUT,
                error="TimeoutError: too slow",
            ),
            "attempt.failed p/a: attempt 1 failed after 1.500 s: timeout, TimeoutError: too slow",
        ),
        (
            MemberFailed(pool="p", member="a", error="boom", restart_in_s=0.1),
            "member.terminated p/a: member terminated: boom; restart in 0.1 s",
        ),
        (
            PoolStopped(pool="p", unfinished=2),
            "pool.stopped p: pool stopped; 2 unfinished requests were failed",
        ),
    ],
)
def test_what_events_read_like(event: Event, text: str) -> None:
    """What happened, why, and what comes next."""
    assert str(event) == text


def test_a_change_for_the_worse_is_a_warning() -> None:
    """Health that gets better is news, health that gets worse a warning."""
    worse = HealthChanged(
        pool="p",
        member="a",
        before=AgentStatus.HEALTHY,
        after=AgentStatus.UNHEALTHY,
        error_rate=0.75,
    )
    assert worse.severity() == "WARNING"
    assert worse.describe() == "healthy -> unhealthy (75% of recent calls failed)"
    better = dataclasses.replace(worse, before=AgentStatus.UNHEALTHY, after=AgentStatus.DEGRADED)
    assert better.severity() == "INFO"
