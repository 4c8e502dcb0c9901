"""A world for a `RequestFlow` that is nothing but lists: no actor, no thread, no clock."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from greenroom import Event, FailureKind, PoolConfig, Request
from greenroom.actors.claims.claims import Claims
from greenroom.actors.request.flow_observer import FlowObserver, Observers
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import Job, JobPhase
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.actors.runtime.alarms import Alarms
from greenroom.actors.runtime.channel import Channel
from greenroom.actors.runtime.future import StreamFuture
from greenroom.actors.strategies import strategy_for
from greenroom.messages.execution import CancelExecution, Execute, Failed, StreamBegun, Succeeded
from greenroom.messages.screening import Heard
from greenroom.messages.supervision import (
    AttemptOutcome,
    FailuresSeen,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
)


class Box:
    """A mailbox as far as timers need one."""

    alarm: float | None = None


class Silence:
    """Nobody listens, and nothing is to be complained of."""

    def listening(self, level: str = "DEBUG") -> bool:
        return False

    def emit(self, event: Event) -> None:
        """Let it go by."""

    def complain_of(self, what: str, error: BaseException) -> None:
        raise AssertionError(what) from error

    def hint(self, what: str) -> None:
        """Let it go by."""


def ports(alarms: Alarms | None = None, **given: Any) -> FlowPorts:
    """Ports that lead nowhere, but for those that are given."""
    calls: dict[str, Any] = {
        "now": lambda: 0.0,
        "wall": lambda: 0.0,
        "paused_at": lambda: -math.inf,
        "at": (Alarms(Box()) if alarms is None else alarms).at,
        "send": lambda *_: True,
        "cancel": lambda *_: None,
        "report": lambda _: None,
        "note": lambda _: None,
        "answer": lambda *_: None,
        "fail": lambda *_: True,
        "events": Silence(),
    }
    return FlowPorts(**{**calls, **given})


@dataclass(frozen=True)
class Call:
    """What a member has been sent."""

    member: str
    message: Execute

    @property
    def about(self) -> dict[str, Any]:
        told = self.message
        return {
            "member": self.member,
            "incarnation": told.incarnation,
            "request_id": told.request_id,
            "attempt": told.attempt,
        }


class World:
    """Members, a supervisor that judges every failure and opens nothing, askers, and the time.

    Attributes:
        calls: what is being worked on.
        cancelled: what members were told to end.
        answers: what the askers have been given, by the id of their request.
        gone: members whose actors have ended; the flow has not heard of it.
        fault: what `send` raises, as no port should, for the members that are `broken`.
        mute: how often the port that gives an answer raises that, before it works again.
        claims: where a member claims the right to answer by itself.
        idle: how often the flow has said that it has nothing left to do.
    """

    def __init__(
        self,
        *members: str,
        strategy: str = "priority",
        observer: FlowObserver | None = None,
        **config: Any,
    ) -> None:
        self.now = 100.0
        self.paused_at = -math.inf
        self.calls: list[Call] = []
        self.cancelled: list[tuple[str, CancelExecution]] = []
        self.answers: dict[str, list[Any]] = {}
        self.noted: list[Any] = []
        self.outcomes: list[Any] = []
        self.complaints: list[str] = []
        self.events: list[Event] = []
        self.gone: set[str] = set()
        self.fault: Exception = KeyError("a fault of the world's")
        self.broken: set[str] = set()
        self.mute = 0
        self.claims = Claims()
        self.idle = 0
        self._to_come: list[Callable[[], object]] = []
        self._epoch = 0
        self._alarms = Alarms(Box())
        self.config = PoolConfig(**config)
        self.flow = RequestFlow(
            FlowPorts(
                now=lambda: self.now,
                wall=lambda: self.now,
                paused_at=lambda: self.paused_at,
                at=self._alarms.at,
                send=self._send,
                cancel=lambda route, message: self.cancelled.append((route.name, message)),
                report=self._report,
                note=self.noted.append,
                answer=self._answer,
                fail=lambda job, error: self._answered(job, error),
                events=self,
                observer=None if observer is None else Observers((observer,), self.complain_of),
            ),
            name="pool",
            urn="urn:pool",
            strategy=strategy_for(strategy),
            config=self.config,
            rng=random.Random(7),
            claims=self.claims,
            idle=self._on_idle,
        )
        self.routes = {name: _route(name, index) for index, name in enumerate(members)}
        self.snapshot()

    # -- what the flow calls

    def _send(self, route: MemberRoute, message: Execute) -> bool:
        if route.name in self.broken:
            raise self.fault
        if route.name in self.gone:
            return False
        self.calls.append(Call(route.name, message))
        return True

    def _report(self, outcomes: Outcomes) -> None:
        self.outcomes += outcomes.batch
        for each in outcomes.batch:
            if isinstance(each, AttemptOutcome) and each.number:
                seen = FailuresSeen(
                    member=each.member, incarnation=each.incarnation, count=each.number
                )
                self._to_come.append(functools.partial(self.flow.failures_judged, seen))

    def _answer(self, job: Job, value: Any, *_: Any) -> bool:
        if self.mute:
            self.mute -= 1
            raise self.fault
        return self._answered(job, value)

    def _answered(self, job: Job, value: Any) -> bool:
        self.answers.setdefault(job.id, []).append(value)
        return True

    def _on_idle(self) -> None:
        self.idle += 1

    def listening(self, level: str = "DEBUG") -> bool:
        return True

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def complain_of(self, what: str, error: BaseException) -> None:
        self.complaints.append(what)

    def hint(self, what: str) -> None:
        """Let it go by."""

    # -- what happens

    def ask(self, request_id: str, heard: Heard | None = None, **options: Any) -> None:
        self.flow.accept(Request(request_id, request_id=request_id, **options), heard=heard)
        self.settle()

    def stream(self, request_id: str) -> Channel:
        """Ask for chunks; where they come."""
        channel = Channel(capacity=64)
        self.flow.accept(Request("x", request_id=request_id), StreamFuture(channel, request_id))
        self.settle()
        return channel

    def chunk(self, call: Call) -> None:
        """The first chunk of a member's stream, at the place where its agent runs; and its report.

        The signs of life are what the member writes for every chunk.
        """
        ticket = (call.message.request_id, call.message.attempt)
        life_signs = self.claims.life_signs(ticket)
        assert life_signs is not None
        assert self.claims.begin(
            ticket, call.member, lambda _, channel: channel.put("chunk", ticket, True)
        )
        life_signs.since, life_signs.counts = self.now, True
        self.flow.stream_begun(StreamBegun(first_chunk_s=0.0, **call.about))
        self.settle()

    def call(self, member: str | None = None) -> Call:
        """The only call that runs, or that of a member."""
        (call,) = [each for each in self.calls if member in (None, each.member)]
        return call

    def succeed(self, call: Call, value: Any = "well", after_s: float = 0.0) -> None:
        self.calls.remove(call)
        self.flow.succeeded(Succeeded(value=value, elapsed_s=after_s, **call.about))
        self.settle()

    def fail(
        self, call: Call, kind: FailureKind = FailureKind.UNAVAILABLE, **more: Any
    ) -> ConnectionError:
        self.calls.remove(call)
        error = ConnectionError(f"{call.member} is down")
        self.flow.failed(Failed(kind=kind, error=error, elapsed_s=0.0, **call.about, **more))
        self.settle()
        return error

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self._alarms.run_due(self.now)
        self.settle()

    def restart(self, name: str) -> None:
        """A member's actor has ended, with what it had, and there is a new one."""
        self.calls = [each for each in self.calls if each.member != name]
        self.gone.discard(name)
        self.change(name, incarnation=self.routes[name].incarnation + 1)

    def change(self, name: str, **changes: Any) -> None:
        self.routes[name] = replace(self.routes[name], **changes)
        self.snapshot()

    def snapshot(self) -> None:
        """The supervisor says how things are."""
        self._epoch += 1
        self.flow.snapshot(RoutingSnapshot(self._epoch, tuple(self.routes.values())))
        self.settle()

    def settle(self) -> None:
        """What follows from a call comes as a call of its own."""
        while self._to_come:
            self._to_come.pop(0)()

    # -- what can be seen

    def phase(self, request_id: str) -> JobPhase:
        return self.flow.jobs[request_id].phase

    def answer(self, request_id: str) -> Any:
        """The one answer to a request; None before there is one."""
        answers = self.answers.get(request_id, [None])
        assert len(answers) == 1, answers
        return answers[0]

    def in_flight(self) -> dict[str, int]:
        return {slot.name: slot.in_flight for slot in self.flow.table}

    @property
    def timers(self) -> int:
        return len(self._alarms)


def _route(name: str, index: int) -> MemberRoute:
    return MemberRoute(name, index=index, incarnation=1, ref=cast(Any, object()), priority=index)


TOKENS = "tokens"
"""What requests cost, besides being one."""


def limited_world(strategy: str = "priority", config: Any = None, **limits: Any) -> World:
    """Members by their names with those rate limits, wide enough for whatever comes."""
    made = World(*limits, strategy=strategy, **{"request_timeout_s": None, **(config or {})})
    for name, each in limits.items():
        made.change(name, limits=tuple(each), max_concurrency=100)
    return made
