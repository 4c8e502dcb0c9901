"""Outages of all and of one, at load: the same in the simulation and in a pool."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers_drift import Ending, Script, ScriptedMember, ScriptedRequest, Spell, Trace
from helpers_drift_pool import played
from helpers_drift_sim import simulated

from greenroom import CircuitState, FailureKind, PoolConfig

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FROM_S, UNTIL_S = 3.0, 5.0
BOTH = pytest.mark.parametrize("play", [simulated, played], ids=["simulated", "pool"])
STRATEGIES = pytest.mark.parametrize("strategy", ["priority", "adaptive", "round_robin"])
Play = Callable[[Script], Trace]


def down(from_s: float, until_s: float) -> Spell:
    return Spell(Ending(0.05, FailureKind.UNAVAILABLE), from_s, until_s)


def script(strategy: str, per_s: float, until_s: float, *members: ScriptedMember) -> Script:
    count = int(per_s * (until_s - 2.0))
    requests = tuple(ScriptedRequest(at=0.013 + i / per_s) for i in range(count))
    return Script(
        members=members,
        requests=requests,
        strategy=strategy,
        config=PoolConfig(),
        until_s=until_s,
        spread_s=1e-6,
    )


def member(name: str, priority: int, *spells: Spell, latency_s: float = 0.1) -> ScriptedMember:
    return ScriptedMember(
        name=name, priority=priority, latency_s=latency_s, concurrency=4, spells=spells
    )


@BOTH
@STRATEGIES
def test_b281_after_a_blip_of_all_the_first_answer_comes_within_a_second(
    play: Play, strategy: str
) -> None:
    """And what was asked a second after its end, or later, is answered, all of it."""
    blip = down(FROM_S, UNTIL_S)
    members = [member(name, i, blip) for i, name in enumerate("abc")]
    trace = play(script(strategy, 10.0, 10.0, *members))
    good = [each.at for each in trace.answered if each.what.startswith("answered")]
    assert min(at for at in good if at >= UNTIL_S) <= UNTIL_S + 1.0
    asked = [0.013 + each.request / 10.0 for each in trace.answered if each.what == "failed"]
    assert max(asked) < UNTIL_S + 1.0
    assert OPEN in {each.after for each in trace.turned}


@BOTH
@STRATEGIES
def test_b284_one_of_three_that_comes_back_at_full_load_is_not_overrun(
    play: Play, strategy: str
) -> None:
    """Its breaker opens once; from its closing on it never has more than twice the calls that it
    has answered, and one.
    """
    members = [
        member("a", 0, latency_s=0.4),
        member("b", 0, down(2.0, 9.0), latency_s=0.4),
        member("c", 0, latency_s=0.4),
    ]
    trace = play(script(strategy, 28.0, 20.0, *members))
    turns = [each for each in trace.turned if each.member == "b"]
    assert [each.before for each in turns if each.after is OPEN].count(CLOSED) == 1
    closed = [each.at for each in turns if each.after is CLOSED]
    assert len(closed) == 1
    calls = [each for each in trace.over if each.member == "b" and each.started >= closed[0]]
    assert len(calls) > 40
    for each in calls:
        begun = sum(other.started <= each.started for other in calls)
        answered = sum(other.ended <= each.started for other in calls)
        assert begun <= 2 * answered + 1
