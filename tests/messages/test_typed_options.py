"""Options that a type checker knows by name, and `timeout`, which has an older name.

What is wrong here is so for `mypy`, too, which complains of a `type: ignore` that it does not need:
`mypy` on this file is half of the test.
"""

from __future__ import annotations

import dataclasses
import pickle
import random
import typing
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
from helpers_messages import refused
from helpers_pools import WAIT_S, echo, echo_async, pool_of

from greenroom import (
    AgentPool,
    Apply,
    Candidate,
    DeadlineExceededError,
    Drain,
    LoadBalanceStrategy,
    Member,
    PickContext,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    Request,
)
from greenroom.fallback.agent_spec import MemberConfig
from greenroom.messages.config import PoolSettings
from greenroom.messages.requests import (
    Acquire,
    AcquireSettings,
    EachSettings,
    RequestOptions,
    RequestSettings,
)
from greenroom.messages.status import StrategyName
from greenroom.testing import FakeClock, ScriptedAgent

UNKNOWN = "unexpected keyword argument"
BOTH = (
    "TypeError: timeout and timeout_s must not be given together: they are one, "
    "got timeout=1, timeout_s=2"
)


def test_the_options_of_a_request_are_its_fields() -> None:
    """By name and by type; `timeout` is an argument of every call, and has an older name."""
    hints = get_type_hints(RequestOptions)
    hints = {each.name: hints[each.name] for each in dataclasses.fields(RequestOptions)}
    hints["timeout_s"] = hints.pop("timeout")
    assert get_type_hints(RequestSettings) == hints
    of_each = {name: hint for name, hint in hints.items() if name != "request_id"}
    assert get_type_hints(EachSettings) == of_each
    of_one = {name: hint for name, hint in hints.items() if name != "idempotent"}
    assert get_type_hints(AcquireSettings) == of_one


def test_the_settings_of_a_pool_are_the_fields_of_its_config() -> None:
    """By name and by type; any of them may be left out."""
    assert get_type_hints(PoolSettings) == get_type_hints(PoolConfig)
    assert PoolSettings.__required_keys__ == frozenset()


def test_the_names_of_strategies_are_the_values_of_the_enum() -> None:
    """In the same order."""
    assert get_args(StrategyName) == tuple(each.value for each in LoadBalanceStrategy)


class First:
    """A strategy of one's own: nothing but a `pick`."""

    def pick(
        self, candidates: typing.Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        return candidates[0]


def test_a_strategy_is_a_name_a_value_or_an_object() -> None:
    """As a type checker sees it, and as it is."""
    for pool in (
        AgentPool.start([Member("a", echo)], strategy="failover"),
        AgentPool.start([Member("a", echo)], strategy=LoadBalanceStrategy.FAILOVER),
        AgentPool.start([Member("a", echo)], strategy=First()),
    ):
        with pool:
            assert pool.execute("x", timeout=WAIT_S) == "x"
    with pytest.raises(ValueError, match="strategy must be one of"):
        AgentPool.start([Member("a", echo)], strategy="fail_over")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="strategy must be a name or an object"):
        AgentPool.start([Member("a", echo)], strategy=echo)  # type: ignore[arg-type]


def test_a_misspelt_option_is_seen_before_it_is_refused() -> None:
    """Of each call that has options of a request."""
    with pool_of(Member("a", echo)) as pool:
        with pytest.raises(TypeError, match=UNKNOWN):
            pool.execute("x", priorty=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=UNKNOWN):
            pool.apply(echo, metdata={})  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=UNKNOWN):
            pool.attempts(max_retrys=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=UNKNOWN):
            pool.acquire(keys="x")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=UNKNOWN):
            pool.map(["x"], idempotnet=True)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="priority must be a whole number"):
            pool.execute("x", priority="high")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=UNKNOWN):
        PoolConfig().replace(max_retry=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="on_cut must be"):
        PoolConfig().replace(on_cut="restrat")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Request, lambda _, **limit: Drain(**limit), Apply, Acquire])
def test_a_time_limit_has_one_name_and_an_older_one(make: Any) -> None:
    """What is given by either is the same; by both it is refused."""
    arguments = () if make is Acquire else (echo,)
    message = make(*arguments, timeout_s=3)
    assert message == make(*arguments, timeout=3)
    assert (message.timeout, message.timeout_s) == (3, 3)
    assert (make(*arguments).timeout, make(*arguments, timeout_s=None).timeout_s) == (None, None)
    assert refused(lambda: make(*arguments, timeout=1, timeout_s=2)) == BOTH


def test_each_name_is_the_one_that_an_error_says() -> None:
    """The field is named as it was given."""
    assert refused(lambda: Request("x", timeout=0)) == (
        "ValueError: timeout must be greater than 0, got 0"
    )
    assert refused(lambda: Request("x", timeout_s="5")) == (  # type: ignore[arg-type]
        "TypeError: timeout_s must be a number, got '5' (str)"
    )
    assert refused(lambda: Drain(timeout_s=-1)) == (
        "ValueError: timeout_s must be at least 0, got -1"
    )


def test_a_copy_of_a_request_has_its_time_limit() -> None:
    """By `replace`, with another limit or none; in a pickle; and from what was read by the older
    name.
    """
    request = Request("x", timeout_s=3)
    assert dataclasses.replace(request, key="k") == Request("x", key="k", timeout=3)
    assert dataclasses.replace(request, timeout=5) == Request("x", timeout=5)
    assert dataclasses.replace(request, timeout=None) == Request("x")
    assert dataclasses.replace(Request("x"), timeout_s=5) == Request("x", timeout=5)
    older: Any = request
    assert Request("x", timeout_s=older.timeout_s) == request
    assert pickle.loads(pickle.dumps(request)) == request
    assert repr(request) == "Request(<str>, timeout=3)"


CALLS: dict[str, Callable[[PoolRef], Any]] = {
    "execute": lambda pool: pool.execute("x", timeout=1, timeout_s=2),
    "apply": lambda pool: pool.apply(echo, timeout=1, timeout_s=2),
    "map": lambda pool: pool.map(["x"], timeout=1, timeout_s=2),
    "amap": lambda pool: pool.amap(["x"], timeout=1, timeout_s=2),
    "attempts": lambda pool: pool.attempts(timeout=1, timeout_s=2),
    "acquire": lambda pool: pool.acquire(timeout=1, timeout_s=2),
    "aexecute": lambda pool: pool.aexecute("x", timeout=1, timeout_s=2).send(None),
    "aapply": lambda pool: pool.aapply(echo, timeout=1, timeout_s=2).send(None),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_takes_either_name_and_not_both(call: Callable[[PoolRef], Any]) -> None:
    """Nothing is sent before that is said."""
    with pool_of(Member("a", echo)) as pool:
        assert refused(lambda: call(pool)) == BOTH
        assert pool.stats().accepted == 0


@pytest.mark.parametrize("name", ["timeout", "timeout_s"])
def test_either_name_ends_a_request(name: Any) -> None:
    """Of a call, and of the request itself."""
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    limit: Any = {name: 3.0}
    with pool_of(Member("a", gate), clock=clock) as pool:
        future = pool.ask(Request("x", **limit), block=False)
        gate.wait_for_calls()
        clock.advance(4.0)
        with pytest.raises(DeadlineExceededError):
            future.get(timeout=WAIT_S)
        gate.release()


def test_blocks_and_maps_take_either_name() -> None:
    """And so does an executor."""
    with pool_of(Member("a", echo)) as pool:
        for attempt in pool.attempts(timeout=WAIT_S):
            with attempt as agent:
                assert agent("x") == "x"
        for attempt in pool.attempts(timeout_s=WAIT_S):
            with attempt as agent:
                assert agent("x") == "x"
        assert list(pool.map("ab", timeout_s=WAIT_S)) == ["a", "b"]
        assert pool.execute("x", timeout_s=WAIT_S) == "x"

    def create(name: str, request: Any) -> Any:
        return echo_async

    with PoolExecutor("writers", [MemberConfig("a")], create) as executor:
        assert executor.execute("x", timeout_s=WAIT_S) == "x"
        assert refused(lambda: executor.execute("x", timeout=1, timeout_s=2)) == BOTH
