"""The ground floor: what a message refuses, and what all messages have in common."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from typing import Any, NamedTuple

import pytest
from helpers_messages import INFINITY, MARKS, NAN, agent, refused
from helpers_pools import WAIT_S, async_chunks, chunks, pool_of

import greenroom.messages
from greenroom.messages import (
    AddMember,
    AgentStatus,
    Apply,
    CallContext,
    Cancel,
    CircuitState,
    DisableBreaker,
    Drain,
    FailureKind,
    ForceOpen,
    LoadBalanceStrategy,
    Member,
    RemoveMember,
    Request,
    RequestOptions,
    ResetMember,
    Restarted,
    SkipReason,
    Subscribe,
)

# members


@pytest.mark.parametrize(
    ("given", "which"), [({}, "neither"), ({"agent": agent, "factory": object}, "both")]
)
def test_a_member_has_an_agent_or_a_factory(given: dict[str, Any], which: str) -> None:
    """Exactly one of the two."""
    assert refused(lambda: Member("a", **given)) == (
        f"ValueError: member 'a': exactly one of agent and factory must be given, got {which}"
    )


@pytest.mark.parametrize("lost", [None, OSError, (KeyError, OSError), lambda error: True, print])
def test_b255_a_member_says_what_means_that_its_agent_is_gone(lost: Any) -> None:
    """An exception class, several, or a function."""
    assert Member("a", agent, lost=lost).lost is lost


@pytest.mark.parametrize(
    "lost", [(), (OSError, "KeyError"), "OSError", OSError("x"), [OSError], 1, bool], ids=repr
)
def test_b255_what_is_no_error_is_refused(lost: Any) -> None:
    words = "TypeError: lost must be an exception class, several, or a function, got"
    assert refused(lambda: Member("a", agent, lost=lost)).startswith(words)


def test_b255_a_coroutine_function_is_refused() -> None:
    """Its answer would be true, whatever it is."""

    async def lost(error: BaseException) -> bool:
        return False

    words = "TypeError: lost must be a plain function, since nobody awaits its answer, got"
    given: Any = lost
    assert refused(lambda: Member("a", agent, lost=given)).startswith(words)


class Settings(NamedTuple):
    key: str = "sk-secret"


class Tier(StrEnum):
    FAST = "fast"


@pytest.mark.parametrize(
    "value",
    [
        *("claude", b"x", 0, 3, True, 2.5, [], [agent], (), {}, {"run": agent}, set()),
        *(Settings(), Tier.FAST, collections.Counter(a=1), collections.defaultdict(list)),
    ],
    ids=repr,
)
def test_plain_data_is_no_agent(value: object) -> None:
    """The name of a model, or a list of agents, is a mistake that is said at once; the value is
    not: it may be a key.
    """
    assert refused(lambda: Member("a", value)) == (
        "TypeError: agent must be a callable or an object with a run method, "
        f"got a {type(value).__name__}"
    )


class RunsTuple(NamedTuple):
    answer: str = "tuple"

    def run(self, payload: Any) -> str:
        return self.answer


class RunsDict(dict[str, str]):
    def run(self, payload: Any) -> str:
        return "dict"


class CalledList(list[str]):
    def __call__(self, payload: Any) -> str:
        return "list"


class AsksSet(set[str]):
    async def arun(self, payload: Any) -> str:
        return "set"


class CalledText(str):
    def __call__(self, payload: Any) -> str:
        return "text"


class RunsNumber(int):
    def invoke(self, payload: Any) -> str:
        return "number"


class Streams(tuple[str]):
    def stream(self, payload: Any) -> Iterator[str]:
        yield "chunks"


class Asks(NamedTuple):
    answer: str = "method"

    def ask(self, payload: Any) -> str:
        return self.answer


@pytest.mark.parametrize(
    ("agent", "method", "answer"),
    [
        (RunsTuple(), None, "tuple"),
        (RunsDict(), None, "dict"),
        (CalledList(), None, "list"),
        (AsksSet(), None, "set"),
        (CalledText(), None, "text"),
        (RunsNumber(), None, "number"),
        (Streams(), None, ["chunks"]),
        (Asks(), "ask", "method"),
    ],
)
def test_data_with_a_method_to_call_is_an_agent(
    agent: Any, method: str | None, answer: object
) -> None:
    """A record, a collection or a text that an app has given one; empty ones, too."""
    with pool_of(Member("a", agent, method=method)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == answer


def test_a_method_that_data_does_not_have_is_named() -> None:
    """As of any other agent."""
    assert refused(lambda: Member("a", Asks(), method="run")) == (
        "AgentTypeError: method must name a method of the agent of member 'a', got 'run' "
        "(Asks has none)"
    )


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
            "TypeError: factory must be callable, got a str",
        ),
        ({"isolated": 1}, "TypeError: isolated must be True or False, got 1 (int)"),
        ({"isolated": None}, "TypeError: isolated must be True or False, got None (NoneType)"),
        ({"method": ""}, "ValueError: method must not be empty, got ''"),
        ({"method": 3}, "TypeError: method must be a string, got 3 (int)"),
        (
            {"method": "answer"},
            (
                "AgentTypeError: method must name a method of the agent of member 'a', "
                "got 'answer' (function has none)"
            ),
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
        (lambda: Drain(-1), "ValueError: timeout must be at least 0, got -1"),
        (lambda: Drain(NAN), "ValueError: timeout must be finite, got nan"),
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
    assert Drain(0).timeout == 0
    assert Drain().timeout is None
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
    found = [getattr(greenroom.messages, name) for name in vars(greenroom.messages)["__all__"]]
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
    names = vars(greenroom.messages)["__all__"]
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
