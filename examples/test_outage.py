"""Test what your app does in an outage: no network, no waiting, the same every time.

python examples/test_outage.py       or: pytest examples/test_outage.py
"""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from greenroom import AgentPool, Clock, Member, PoolConfig, PoolError, PoolRef, Request
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    http_error,
)

# -- the app: import yours instead. It takes its agents and its clock as arguments.

CONFIG = PoolConfig(request_timeout_s=30, circuit_reset_timeout_s=5, circuit_success_threshold=1)


def start_pool(cloud: object, local: object, clock: Clock | None = None) -> PoolRef:
    members = [Member("cloud", cloud), Member("local", local, priority=1)]
    seeded = random.Random(7)
    return AgentPool.start(members, strategy="priority", config=CONFIG, clock=clock, rng=seeded)


def reply_to(pool: PoolRef, text: str) -> str:
    try:
        return str(pool.execute(text))
    except PoolError:
        return "Sorry, nobody can answer now."


# -- its tests


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def local() -> ScriptedAgent:
    return ScriptedAgent(["from local"])


def test_an_outage_is_bridged_and_over_when_it_is(
    clock: FakeClock, local: ScriptedAgent, greenroom_events: EventRecorder
) -> None:
    """Five failures open the breaker; after its timeout the first one that works closes it."""
    cloud = AsyncScriptedAgent.failing(5, http_error(503), then="from cloud")
    with start_pool(cloud, local, clock) as pool:
        assert {reply_to(pool, "hi") for _ in range(6)} == {"from local"}
        greenroom_events.wait_for("breaker.opened", member="cloud")
        assert len(cloud.calls) == 5  # the sixth request did not pay for the outage

        clock.advance(10)
        greenroom_events.wait_for("breaker.half_open", member="cloud")
        reply_to(pool, "hi")  # the trial: local has the same request, nobody waits for it
        greenroom_events.wait_for("breaker.closed", member="cloud")
        assert reply_to(pool, "hi") == "from cloud"


def test_a_throttled_member_rests_for_as_long_as_it_says(
    clock: FakeClock, local: ScriptedAgent, greenroom_events: EventRecorder
) -> None:
    """A 429 opens nothing, and its Retry-After is kept."""
    cloud = AsyncScriptedAgent.rate_limited(retry_after_s=20, then="from cloud")
    with start_pool(cloud, local, clock) as pool:
        assert reply_to(pool, "one") == reply_to(pool, "two") == "from local"
        assert pool.stats()["cloud"].circuit == "closed"
        clock.advance(20)
        greenroom_events.wait_for("member.rested", member="cloud")
        assert reply_to(pool, "three") == "from cloud"


def test_a_hanging_member_costs_one_time_limit(clock: FakeClock, local: ScriptedAgent) -> None:
    """After `request_timeout_s` the call is cancelled and another member answers."""
    cloud = AsyncScriptedAgent.hanging()
    with start_pool(cloud, local, clock) as pool:
        answer = pool.ask(Request("hi"), block=False)
        cloud.wait_for_calls(1)
        clock.advance(30)
        assert answer.get(timeout=30).value == "from local"
        assert cloud.wait_for_cancelled(1) == ["hi"]


def test_with_everybody_down_the_user_is_told(clock: FakeClock) -> None:
    """No error of a client, and no silence."""
    down = ScriptedAgent([ConnectionError("connection refused")])
    config = PoolConfig(max_retries=1)
    with AgentPool.start(
        [Member("a", down), Member("b", down)], config=config, clock=clock
    ) as pool:
        assert reply_to(pool, "hi") == "Sorry, nobody can answer now."


if __name__ == "__main__":
    # In a process of its own: pytest loads greenroom's plugin before the tests import greenroom.
    raise SystemExit(subprocess.call([sys.executable, "-m", "pytest", "-q", __file__]))
