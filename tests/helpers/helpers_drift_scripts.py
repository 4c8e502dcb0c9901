"""Random scripts, small enough to be read when they fail."""

from __future__ import annotations

import math
from typing import Any

from helpers_drift import Ending, Script, ScriptedMember, ScriptedRequest, Spell
from hypothesis import strategies as st

from greenroom import FailureKind, PoolConfig

# In milliseconds, and primes: the sums of a few of them are hardly ever the same.
LATENCIES = (53, 131, 257, 509, 1021)
GAPS = (3, 17, 61, 149, 331, 727, 1511)
BEGINNINGS = (0, 0, 0, 211, 619, 1213)
LENGTHS = (307, 911, 1801, 60_000)
RETRY_AFTERS = (None, 0.401, 1.499)

KINDS = (
    FailureKind.UNAVAILABLE,
    FailureKind.UNAVAILABLE,
    FailureKind.TIMEOUT,
    FailureKind.UNKNOWN,
    FailureKind.RATE_LIMITED,
    FailureKind.RATE_LIMITED,
    FailureKind.AUTH,
    FailureKind.QUOTA,
    FailureKind.NOT_FOUND,
    FailureKind.TOO_LARGE,
    FailureKind.CALLER,
)

SPREAD_S = 1.3e-5
"""What makes the ends of all attempts differ; a script has a few hundred of them at most."""


def _seconds(milliseconds: st.SearchStrategy[int]) -> st.SearchStrategy[float]:
    return milliseconds.map(lambda each: each / 1000)


@st.composite
def endings(draw: Any) -> Ending:
    """Of calls in a bad spell: they fail, hang, or take much longer."""
    how = draw(st.sampled_from(("fails", "fails", "fails", "hangs", "is slow")))
    if how == "hangs":
        return Ending(math.inf)
    if how == "is slow":
        return Ending(draw(_seconds(st.sampled_from((2003, 4001)))))
    kind = draw(st.sampled_from(KINDS))
    retry_after_s = None
    if kind is FailureKind.RATE_LIMITED:
        retry_after_s = draw(st.sampled_from(RETRY_AFTERS))
    return Ending(draw(_seconds(st.sampled_from((2, 7, 43)))), kind, retry_after_s)


@st.composite
def spells(draw: Any) -> Spell:
    begins = draw(_seconds(st.sampled_from(BEGINNINGS)))
    return Spell(draw(endings()), begins, begins + draw(_seconds(st.sampled_from(LENGTHS))))


@st.composite
def _member(draw: Any, name: str, troubled: bool) -> ScriptedMember:
    return ScriptedMember(
        name=name,
        latency_s=draw(_seconds(st.sampled_from(LATENCIES))),
        concurrency=draw(st.sampled_from((1, 1, 2, 3))),
        weight=draw(st.sampled_from((1.0, 1.0, 2.0, 3.0))),
        priority=draw(st.sampled_from((0, 0, 1))),
        spells=tuple(draw(st.lists(spells(), max_size=2))) if troubled else (),
    )


@st.composite
def _request(draw: Any, at: float, plain: bool) -> ScriptedRequest:
    key = draw(st.sampled_from((None, "k", "l")))
    timeout_s = draw(st.sampled_from((None, None, None, 0.797, 2.503)))
    if plain:
        return ScriptedRequest(at=at, key=key, timeout_s=timeout_s)
    return ScriptedRequest(
        at=at,
        key=key,
        timeout_s=timeout_s,
        priority=draw(st.sampled_from((0, 0, 0, 1, -1))),
        idempotent=draw(st.sampled_from((True, True, True, False))),
        max_retries=draw(st.sampled_from((None, None, None, 0, 2))),
    )


@st.composite
def _requests(draw: Any, plain: bool) -> tuple[ScriptedRequest, ...]:
    requests, at = [], 0.0
    for number in range(draw(st.integers(2, 12))):
        at += draw(_seconds(st.sampled_from(GAPS)))
        requests.append(draw(_request(at + number * 1e-5, plain)))
    return tuple(requests)


@st.composite
def _config(draw: Any, plain: bool) -> PoolConfig:
    hedged = () if plain else (0.067, 0.307)
    slow_s = None if plain else draw(st.sampled_from((None, None, None, 0.601)))
    return PoolConfig(
        circuit_failure_threshold=100 if plain else draw(st.integers(1, 3)),
        circuit_reset_timeout_s=draw(st.sampled_from((0.503, 2.011))),
        circuit_success_threshold=draw(st.integers(1, 2)),
        circuit_window=100 if plain else 6,
        circuit_min_calls=100 if plain else draw(st.sampled_from((3, 6))),
        circuit_slow_rate=None if slow_s is None else 0.5,
        circuit_slow_call_s=slow_s,
        half_open_permits=draw(st.integers(1, 2)),
        max_retries=draw(st.integers(0, 3)),
        retry_delay_s=0.1,
        retry_max_delay_s=draw(st.sampled_from((1.009, 30.0))),
        retry_budget_floor=draw(st.sampled_from((0.2, 10.0))),
        same_member_retries=draw(st.sampled_from((None, None, 1))),
        stay_for_retry_after_s=draw(st.sampled_from((0.0, 0.0, 1.0))),
        request_timeout_s=draw(st.sampled_from((None, 1.201, 1.201, 3.001))),
        deadline_s=draw(st.sampled_from((None, None, 5.003))),
        max_pending=draw(st.sampled_from((0, 2, 100, 100))),
        hedge_after_s=draw(st.sampled_from((None, None, *hedged))),
    )


@st.composite
def scripts(draw: Any, *, plain: bool = False) -> Script:
    """Scripts with up to four members and twelve requests.

    Args:
        plain: whether no member has bad spells, no breaker opens, all requests have the same rights
            and none is hedged.
    """
    members = [draw(_member(name, not plain)) for name in "abcd"[: draw(st.integers(1, 4))]]
    return Script(
        members=tuple(members),
        requests=draw(_requests(plain)),
        config=draw(_config(plain)),
        seed=draw(st.integers(0, 1000)),
        until_s=40.0,
        spread_s=SPREAD_S,
    )
