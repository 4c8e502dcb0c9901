"""A member's calls without its actor: no thread, no loop, and an agent that nobody runs."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any, cast

import pytest

from greenroom.actors.claims.claims import Claims
from greenroom.actors.executors.call import Call
from greenroom.actors.member.agent_host import AgentHost
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.executions import (
    ABANDONED_LIMIT,
    AbandonedBy,
    Executions,
    LostAgent,
    WidthHeard,
)
from greenroom.actors.member.hosted_agent import HostedAgent
from greenroom.actors.member.surroundings import Surroundings
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.messages import FailureKind, Member, PoolConfig, Request
from greenroom.messages.execution import (
    Abandoned,
    CancelExecution,
    Execute,
    Failed,
    Refused,
    Succeeded,
)
from greenroom.messages.status import CancelReason, RefusalReason
from greenroom.testing import FakeClock


class Inbox:
    """An actor's ref, as far as it is told something."""

    def __init__(self) -> None:
        self.actor_stopped = threading.Event()
        self.actor_inbox = self
        self.told: list[Any] = []

    def put(self, letter: Any) -> None:
        self.told.append(letter.message)

    def hand(self, message: Any) -> None:
        self.told.append(message)


class Nowhere:
    """A place in which a call runs when the test ends it."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.cancelled: list[CancelReason] = []
        self.fault: BaseException | None = None

    def run(self, call: Call) -> None:
        if self.fault is not None:
            raise self.fault
        call.begin(0.0)

    def cancel(self, call: Call, reason: CancelReason) -> None:
        call.cancelled = reason
        self.cancelled.append(reason)


class Host:
    """An agent that is there or is not."""

    name = "greenroom-p-a"

    def __init__(self) -> None:
        self.hosted: HostedAgent | None = HostedAgent(str)
        self.executor = self.usual = Nowhere()
        self.callers = Nowhere()

    def executor_for(self, message: Execute) -> Nowhere:
        return self.executor

    def run(self, call: AttemptCall) -> None:
        """Nothing runs here."""


class Bench:
    """Executions of a member with two slots, and lists in the place of all that it reaches."""

    def __init__(self) -> None:
        self.router, self.supervisor, self.host = Inbox(), Inbox(), Host()
        self.created = 0
        self.told_back: list[AbandonedBy | LostAgent | WidthHeard] = []
        self.given_up: list[str] = []
        around = Surroundings(
            pool="p",
            config=PoolConfig(),
            clock=FakeClock(0.0),
            router=cast(Any, self.router),
            supervisor=cast(Any, self.supervisor),
            bus=EventBus("p"),
            loop=LoopThread("loop"),
            claims=Claims(),
        )
        self.calls = Executions(
            Member("a", len, max_concurrency=2),
            1,
            around,
            cast(AgentHost, self.host),
            create=self._create,
            tell_back=self._tell_back,
            give_up=self.given_up.append,
        )

    def _create(self) -> None:
        self.created += 1

    def _tell_back(self, message: AbandonedBy | LostAgent | WidthHeard) -> bool:
        self.told_back.append(message)
        return True

    def take(self, *request_ids: str, incarnation: int = 1) -> None:
        for request_id in request_ids:
            self.calls.take(Execute(request_id, 1, incarnation, Request("payload")))

    def call(self, request_id: str) -> AttemptCall:
        return next(each for each in self.calls.running() if each.ticket == (request_id, 1))

    def end(self, request_id: str, value: Any = None, error: BaseException | None = None) -> None:
        call = self.call(request_id)
        assert call.end()
        call.finish(value, error)

    def cancel(self, request_id: str, reason: CancelReason) -> bool:
        return self.calls.cancel(CancelExecution(request_id=request_id, attempt=1, reason=reason))

    def refusals(self) -> list[tuple[str, RefusalReason]]:
        return [(m.request_id, m.reason) for m in self.router.told if isinstance(m, Refused)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call_that_is_put_back_keeps_its_askers_context(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not begin where it was to: the one in its place runs in that context, too."""
    context = copy_context()
    begun: list[Call] = []
    monkeypatch.setattr(Nowhere, "run", lambda _, call: begun.append(call))
    bench.calls.take(Execute("r", 1, 1, Request("payload"), context=context))
    bench.calls.put_back(bench.call("r"))
    first, second = begun
    assert first is not second
    assert second.context is context
    assert bench.calls.running() == [second]


def test_calls_are_admitted_up_to_the_concurrency(bench: Bench) -> None:
    """What is more than that goes back, and what was meant for another incarnation."""
    bench.take("r1", "r2", "r3")
    bench.take("r4", incarnation=7)
    assert [call.ticket for call in bench.calls.running()] == [("r1", 1), ("r2", 1)]
    assert bench.refusals() == [
        ("r3", RefusalReason.SATURATED),
        ("r4", RefusalReason.STALE_INCARNATION),
    ]


def test_the_end_of_a_call_frees_its_slot_and_is_reported(bench: Bench) -> None:
    """A value as it is, an error with its kind."""
    bench.take("r1", "r2")
    bench.end("r1", "answer")
    bench.end("r2", error=ConnectionError("down"))
    good, bad = bench.router.told
    assert isinstance(good, Succeeded)
    assert isinstance(bad, Failed)
    assert (good.request_id, good.value) == ("r1", "answer")
    assert (bad.request_id, bad.kind) == ("r2", FailureKind.UNAVAILABLE)
    assert bench.calls.running() == []


def test_attempts_wait_for_an_agent_that_is_still_to_be_made(bench: Bench) -> None:
    """They count for the concurrency, and go back if they are cancelled meanwhile."""
    bench.host.hosted = None
    bench.take("r1", "r2", "r3")
    assert (bench.created, len(bench.calls.waiting), bench.calls.running()) == (2, 2, [])
    assert not bench.cancel("r1", CancelReason.ATTEMPT_TIMEOUT)
    assert bench.refusals() == [("r3", RefusalReason.SATURATED), ("r1", RefusalReason.STOPPING)]
    assert [message.request_id for message in bench.calls.waiting] == ["r2"]


def test_a_call_that_runs_is_cancelled_in_its_place(bench: Bench) -> None:
    """It keeps its slot until it has ended there; nobody else's is touched."""
    bench.take("r1", "r2")
    assert bench.cancel("r1", CancelReason.LOST_RACE)
    assert not bench.cancel("r9", CancelReason.LOST_RACE)
    assert bench.host.executor.cancelled == [CancelReason.LOST_RACE]
    assert len(bench.calls.running()) == 2


def test_what_its_place_cannot_run_goes_back(bench: Bench) -> None:
    """For want of what the machine should give; its slot is free again."""
    bench.host.executor.fault = RuntimeError("can't start new thread")
    bench.take("r1")
    assert bench.refusals() == [("r1", RefusalReason.NO_RESOURCES)]
    assert bench.calls.running() == []


def test_with_too_many_abandoned_calls_an_incarnation_is_given_up(bench: Bench) -> None:
    """The supervisor is told how many there are; one that has ended after all is none any more."""
    for change in (1, 1, -1):
        bench.calls.abandoned_by(AbandonedBy(change))
    assert [message.count for message in bench.supervisor.told] == [1, 2, 1]
    for _ in range(ABANDONED_LIMIT - 2):
        bench.calls.abandoned_by(AbandonedBy(1))
    assert bench.given_up == []
    bench.calls.abandoned_by(AbandonedBy(1))
    assert bench.given_up == [f"{ABANDONED_LIMIT} calls were given up on and have not ended"]
    assert bench.supervisor.told[-1] == Abandoned(member="a", incarnation=1, count=ABANDONED_LIMIT)


def test_an_abandoned_call_is_told_of_from_where_it_is_abandoned(bench: Bench) -> None:
    """And once more when it ends after all."""
    bench.take("r1")
    call = bench.call("r1")
    bench.cancel("r1", CancelReason.ATTEMPT_TIMEOUT)
    assert call.abandon()
    call.finish(None, None)
    assert [report.kind for report in bench.router.told] == [FailureKind.TIMEOUT]
    call.late()
    assert bench.told_back == [AbandonedBy(1), AbandonedBy(-1)]


def test_whoever_waits_for_rest_is_called_at_every_end(bench: Bench) -> None:
    """However the call has ended; it finds the slot free."""
    bench.take("r1", "r2")
    left: list[int] = []
    bench.calls.at_rest = lambda: left.append(len(bench.calls.running()))
    bench.end("r1", "answer")
    bench.end("r2", error=ValueError("no"))
    assert left == [1, 0]
