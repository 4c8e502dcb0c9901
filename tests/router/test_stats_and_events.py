"""What statistics, replies and events read like."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from greenroom.messages import (
    CATALOGUE,
    AgentHealth,
    AgentStatus,
    AttemptFailed,
    BreakerOpened,
    CircuitState,
    Event,
    FailureKind,
    HealthChanged,
    MemberFailed,
    MemberStats,
    PoolStarted,
    PoolStats,
    PoolStopped,
    Reply,
    events,
)

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
