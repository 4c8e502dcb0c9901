"""Probes open and close the breakers of their members: behaviour 38."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import crash, member_ref
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import CircuitState, Member, Request
from greenroom.messages import (
    AttemptSucceeded,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    MemberFailed,
    MemberRestarted,
    ProbeFailed,
    ProbeSucceeded,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("agents_loop")


def sync_probe(result: Callable[[], Any]) -> Any:
    return lambda agent: result()


def sync_probe_without_argument(result: Callable[[], Any]) -> Any:
    return lambda: result()


def async_probe(result: Callable[[], Any]) -> Any:
    async def probe(agent: Any) -> Any:
        return result()

    return probe


def async_probe_without_argument(result: Callable[[], Any]) -> Any:
    async def probe() -> Any:
        return result()

    return probe


def probe_that_returns_a_coroutine(result: Callable[[], Any]) -> Any:
    async def probe() -> Any:
        return result()

    return lambda agent: probe()


PROBES = [
    sync_probe,
    sync_probe_without_argument,
    async_probe,
    async_probe_without_argument,
    probe_that_returns_a_coroutine,
]


def refuse() -> Any:
    raise ConnectionError("no answer")


@pytest.mark.parametrize("make", PROBES)
@pytest.mark.parametrize("refusal", [refuse, lambda: False], ids=["raises", "returns False"])
def test_b38_a_probe_opens_and_closes_its_members_breaker(
    make: Callable[[Any], Any], refusal: Callable[[], Any], greenroom_events: EventRecorder
) -> None:
    """Probe opens and closes: an open member comes back through its probe with no user request
    lost to it.
    """
    clock = FakeClock()
    result = refusal
    agent = ScriptedAgent(["probed"])
    members = [
        Member("probed", agent, probe=make(lambda: result())),
        Member("other", lambda payload: "other", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        pool.stats()
        for count in range(1, 6):
            clock.advance(33)  # an interval and its jitter
            greenroom_events.wait_for(ProbeFailed, count=count)
            pool.stats()
        opened = greenroom_events.wait_for(BreakerOpened)
        assert "probe" in opened.reason
        assert pool.execute("x", timeout=WAIT_S) == "other"

        assert opened.reopens_in_s is not None
        clock.advance(opened.reopens_in_s)  # the trial is a probe, and it fails
        greenroom_events.wait_for(ProbeFailed, count=6)
        reopened = greenroom_events.wait_for(BreakerOpened, count=2)
        pool.stats()

        result = lambda: "fine"  # noqa: E731
        assert reopened.reopens_in_s is not None
        clock.advance(reopened.reopens_in_s)
        greenroom_events.wait_for(BreakerHalfOpened, count=2)
        greenroom_events.wait_for(BreakerClosed)
        assert len(greenroom_events.named(ProbeSucceeded)) == 2
        pool.stats()
        assert agent.calls == []
        assert pool.execute("x", timeout=WAIT_S) == "probed"


def test_b38_users_never_are_the_trial_of_a_member_with_a_probe(
    greenroom_events: EventRecorder,
) -> None:
    """Failures of users open it, its probe alone closes it: not one request is lost meanwhile."""
    clock = FakeClock()
    probe = ScriptedAgent.hanging("fine")
    agent = ScriptedAgent.failing(5, then="back")
    members = [
        Member("a", agent, probe=probe),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock, health_check_interval_s=1000.0) as pool:
        for _ in range(5):
            assert pool.execute("x", timeout=WAIT_S) == "b"
            pool.stats()
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(30)
        probe.wait_for_calls()
        replies = [pool.ask(Request(i), timeout=WAIT_S) for i in range(20)]
        assert {reply.member for reply in replies} == {"b"}
        assert not any(reply.errors for reply in replies)
        assert len(agent.calls) == 5
        probe.release()
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "back"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b38_a_probe_that_hangs_times_out(kind: str, greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    probe: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging()
    with pool_of(
        Member("a", lambda payload: payload, probe=probe),
        clock=clock,
        health_check_timeout_s=4.0,
        circuit_failure_threshold=1,
    ) as pool:
        pool.stats()
        clock.advance(30)
        probe.wait_for_calls()
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "x"  # it does not take a call's place
        clock.advance(4)
        failed = greenroom_events.wait_for(ProbeFailed)
        assert "health_check_timeout_s=4" in failed.error
        assert failed.elapsed_s == 4.0
        greenroom_events.wait_for(BreakerOpened)
        if kind == "async":
            probe.wait_for_cancelled()
        probe.release()
        clock.advance(30)
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stats()["a"].incarnation == 1


def test_b38_probes_that_hang_do_not_pile_up(greenroom_events: EventRecorder) -> None:
    """One at a time, whatever the interval: the next one waits until this one has had its time."""
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    with pool_of(
        Member("a", lambda payload: payload, probe=gate),
        clock=clock,
        health_check_interval_s=1.0,
        health_check_timeout_s=50.0,
    ) as pool:
        pool.stats()
        clock.advance(1.5)
        gate.wait_for_calls()
        for _ in range(20):
            clock.advance(2)
            pool.stats()
        assert not greenroom_events.named(ProbeFailed)
        gate.release()
        greenroom_events.wait_for(ProbeSucceeded)


def test_b38_a_lazy_member_is_not_made_for_a_probe_but_for_its_trial(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    made: list[str] = []
    probed: list[Any] = []

    class Lazy:
        def run(self, payload: Any) -> str:
            return "lazy"

    def factory() -> Any:
        made.append("made")
        return Lazy()

    members = [
        Member("lazy", factory=factory, probe=probed.append),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        for _ in range(4):
            clock.advance(33)
            pool.stats()
        assert (made, probed) == ([], [])
        assert not greenroom_events.named(ProbeFailed)

        pool.force_open("lazy")
        pool.reset_member("lazy")
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        clock.advance(33)
        greenroom_events.wait_for(ProbeSucceeded)
        assert [type(agent) for agent in probed] == [Lazy]
        assert made == ["made"]


def test_b38_an_open_lazy_member_is_made_by_its_trial(greenroom_events: EventRecorder) -> None:
    """After a crash there is no agent: the trial makes one, and no user waits for that."""
    clock = FakeClock()
    first = ScriptedAgent.hanging()
    agents = iter([first, ScriptedAgent(["second"])])
    probed = ScriptedAgent.hanging(echo)
    probed.release()
    members = [
        Member("lazy", factory=lambda: next(agents), probe=probed),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock, circuit_failure_threshold=1) as pool:
        future = pool.ask(Request("x"), block=False)
        first.wait_for_calls()
        crash(member_ref(pool, "lazy"))
        assert future.get(timeout=WAIT_S).member == "b"
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(30)
        probed.wait_for_calls()
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "second"
        first.release()


def test_b38_force_open_holds_its_probe_back(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    probe = ScriptedAgent(["fine"])
    with pool_of(Member("a", lambda payload: payload, probe=probe), clock=clock) as pool:
        pool.force_open("a")
        for _ in range(10):
            clock.advance(100)
            pool.stats()
        assert probe.calls == []
        assert pool.stats()["a"].circuit is CircuitState.FORCED_OPEN
        pool.reset_member("a")
        clock.advance(33)
        greenroom_events.wait_for(ProbeSucceeded)


def test_b38_a_member_that_crashes_while_half_open_still_comes_back(
    greenroom_events: EventRecorder,
) -> None:
    """Its breaker, its restart and its probe: whatever the order, there is a way back."""
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    agent = ScriptedAgent.failing(1, then="back")
    members = [
        Member("a", agent, probe=gate),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(
        *members, clock=clock, circuit_failure_threshold=1, health_check_interval_s=1000.0
    ) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "b"
        greenroom_events.wait_for(BreakerOpened)
        clock.advance(30)
        gate.wait_for_calls()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        gate.release()
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(1100)
        greenroom_events.wait_for(BreakerClosed)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "back"


def test_b38_without_a_probe_a_request_is_the_trial(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    agent = ScriptedAgent.failing(5, then="back")
    with pool_of(
        Member("a", agent), Member("b", lambda payload: "b", priority=1), clock=clock
    ) as pool:
        for _ in range(5):
            assert pool.execute("x", timeout=WAIT_S) == "b"
            pool.stats()
        greenroom_events.wait_for(BreakerOpened)
        assert pool.execute("x", timeout=WAIT_S) == "b"
        clock.advance(30)
        greenroom_events.wait_for(BreakerHalfOpened)
        pool.stats()
        for trials in (1, 2):
            assert pool.execute("x", timeout=WAIT_S) in ("b", "back")  # who is the first to answer
            greenroom_events.wait_for(AttemptSucceeded, member="a", count=trials)
            pool.stats()
        greenroom_events.wait_for(BreakerClosed)


@pytest.mark.parametrize("probe", [sync_probe, async_probe])
def test_a_probe_that_has_ended_is_forgotten(
    probe: Callable[[Callable[[], Any]], Any], greenroom_events: EventRecorder
) -> None:
    """However soon it ends: else the end of its member would wait for it."""
    clock = FakeClock()
    member = Member("a", echo, probe=probe(lambda: True))
    with pool_of(member, clock=clock, health_check_interval_s=1.0) as pool:
        for times in range(1, 6):
            clock.advance(1.2)  # an interval has a jitter
            greenroom_events.wait_for(ProbeSucceeded, count=times)
        pool.stats()
        assert member_ref(pool, "a")._actor._probes == {}
