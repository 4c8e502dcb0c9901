"""Plays a script through the real pool, on a clock that goes from one event to the next."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import pykka
from helpers_drift import (
    Answered,
    Ending,
    Script,
    Trace,
    breakers_noted,
    how_it_failed,
    request_id,
)

from greenroom import (
    AgentPool,
    CallContext,
    FailureKind,
    LoadBalanceStrategy,
    Member,
    PoolFuture,
    PoolRef,
    Reply,
    Request,
)
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.actors.runtime.mailbox import Mailbox
from greenroom.testing import FakeClock, http_error

STATUS = {
    FailureKind.UNAVAILABLE: 503,
    FailureKind.RATE_LIMITED: 429,
    FailureKind.AUTH: 401,
    FailureKind.QUOTA: 402,
    FailureKind.NOT_FOUND: 404,
    FailureKind.TOO_LARGE: 413,
    FailureKind.CALLER: 400,
}
"""How clients say so."""
WAIT_S = 60.0
"""How long a pool may take to come to rest, in real time: only a failing test needs it."""
_TURNS = 3
"""Of a loop: what it is told in the first, a task has begun, gone on or ended in the third."""

_names = itertools.count(1)


class _Barrier:
    """A message that no actor takes: its refusal says that all before it has been handled."""


class SteppedClock(FakeClock):
    """A clock that knows when somebody wants to be woken, and goes there without a rounding error.

    It starts at 0, as that of a simulation: sums of times come out alike.
    """

    def __init__(self) -> None:
        self._mailboxes: list[Mailbox] = []
        super().__init__(start=0.0)

    def register(self, wake: Callable[[], None]) -> None:
        super().register(wake)
        self._mailboxes.append(cast(Any, wake).__self__)

    def next_alarm(self) -> float:
        """Of any actor, to be asked while nothing moves; inf if there is none."""
        alarms = [mailbox.alarm for mailbox in self._mailboxes]
        return min((each for each in alarms if each is not None), default=math.inf)

    def go_to(self, when: float) -> None:
        with self._changed:
            self._now = max(self._now, when)
        self.advance(0.0)


def played(script: Script) -> Trace:
    """What the pool makes of it."""
    player = _Player(script)
    with breakers_noted(player.trace):
        player.play()
    return player.trace


class _Player:
    """Lets one thing happen at a time, and the pool come to rest after each. A call that is
    cancelled ends when all else has come to rest, those that are cancelled together in order.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.trace = Trace(script.until_s)
        self._clock = SteppedClock()
        self._ends: dict[tuple[int, int], float] = {}  # when calls that run are to end
        self._leaving: deque[asyncio.Future[None]] = deque()  # cancelled calls that may not end yet
        self._over = False
        self._router: Any = None
        self._supervisor: Any = None
        self._host: Any = None

    def play(self) -> None:
        script, clock = self.script, self._clock
        # Neither heartbeats of the loop nor the real time that a call has to end are part of it.
        config = script.config.replace(loop_check_interval_s=1e9, cancel_grace_s=1e6)
        pool = AgentPool.start(
            [
                Member(
                    each.name,
                    self._agent(each.name),
                    max_concurrency=each.concurrency,
                    weight=each.weight,
                    priority=each.priority,
                )
                for each in script.members
            ],
            strategy=LoadBalanceStrategy(script.strategy),
            config=config,
            clock=clock,
            rng=random.Random(script.seed),
            name=f"drift-{next(_names)}",
        )
        try:
            self._look_into(pool)
            self._come_to_rest()
            coming = sorted(range(len(script.requests)), key=lambda i: script.requests[i].at)
            while True:
                arrival = script.requests[coming[0]].at if coming else math.inf
                when = min(arrival, clock.next_alarm(), *self._ends.values(), math.inf)
                if when > script.until_s:
                    break
                clock.go_to(when)
                if when == arrival:
                    self._ask(pool, coming.pop(0))
                self._come_to_rest()
        finally:
            self._over = True
            self.trace.close()  # what is still open is ended by the stop, not by the script
            pool.stop()

    def _look_into(self, pool: PoolRef) -> None:
        refs: list[Any] = pykka.ActorRegistry.get_by_class(AgentActor)
        member = next(ref._actor for ref in refs if ref._actor.around.pool == pool.name)
        self._router, self._supervisor = pool, member.around.supervisor
        self._host = member.host  # all members share its loop

    # -- the agents

    def _agent(self, member: str) -> Callable[..., Any]:
        async def run(request: int, context: CallContext) -> str:
            number, now = context.attempt, self._clock.now()
            ending = self.script.ending(member, request, number, now)
            self._ends[request, number] = now + ending.seconds
            self.trace.began(now, request, number, member)
            how = "cancelled"
            try:
                await self._last(ending)
                how = "ok" if ending.kind is None else str(ending.kind)
            except asyncio.CancelledError:
                await self._may_leave()
                raise
            finally:
                del self._ends[request, number]
                self.trace.ended(self._clock.now(), request, number, how)
            if ending.kind is not None:
                raise _error(ending)
            return member

        return run

    async def _last(self, ending: Ending) -> None:
        if math.isinf(ending.seconds):
            await asyncio.get_running_loop().create_future()
        await self._clock.sleep(ending.seconds)

    async def _may_leave(self) -> None:
        if not self._over:
            leave = asyncio.get_running_loop().create_future()
            self._leaving.append(leave)
            await leave

    # -- the requests

    def _ask(self, pool: PoolRef, request: int) -> None:
        scripted = self.script.requests[request]
        future = pool.ask(
            Request(
                request,
                key=scripted.key,
                priority=scripted.priority,
                timeout_s=scripted.timeout_s,
                idempotent=scripted.idempotent,
                max_retries=scripted.max_retries,
                request_id=request_id(request),
            ),
            block=False,
        )

        def answered(_: PoolFuture[Any]) -> None:
            what, failures = _how(future)
            self.trace.was_answered(Answered(request, self._clock.now(), what, failures))

        future.add_done_callback(answered)

    # -- coming to rest

    def _come_to_rest(self) -> None:
        """Wait until nothing moves any more but for the clock's doing."""
        self._settle()
        while self._leaving:
            leave = self._leaving.popleft()
            leave.get_loop().call_soon_threadsafe(leave.set_result, None)
            self._settle()

    def _settle(self) -> None:
        """The same but for calls that may not leave: until two rounds in a row have changed
        nothing. A round passes by the router, the supervisor, the router again, who pass on what
        they have before they come to what stands behind it, and by the loop. (`pool.stats()` would
        do, too, but has the router report at once what it would have kept for a while.)
        """
        until = time.monotonic() + WAIT_S
        quiet = 0
        while quiet < 2:
            before = self.trace.size
            self._go_round()
            due = any(end <= self._clock.now() for end in self._ends.copy().values())
            quiet = 0 if due or self.trace.size != before else quiet + 1
            assert time.monotonic() < until, "it does not come to rest"

    def _go_round(self) -> None:
        """Each is asked by the one before it: that takes half as many wake-ups of threads as to ask
        them all from here.
        """
        back = threading.Event()

        def turn(left: int) -> None:
            if left:
                asyncio.get_running_loop().call_soon(turn, left - 1)
            else:
                back.set()

        def pass_by(refs: Sequence[Any]) -> None:
            if refs:
                asked = refs[0].ask(_Barrier(), block=False)
                asked.add_done_callback(lambda _: pass_by(refs[1:]))
            else:
                self._host.loop.ping(lambda: turn(_TURNS - 1))

        pass_by((self._router, self._supervisor, self._router))
        assert back.wait(WAIT_S)


def _error(ending: Ending) -> Exception:
    """What a client would raise."""
    if ending.kind is FailureKind.TIMEOUT:
        return TimeoutError("scripted")
    if ending.kind is FailureKind.UNKNOWN:
        return ValueError("scripted")
    assert ending.kind is not None
    return http_error(STATUS[ending.kind], ending.retry_after_s)


def _how(future: PoolFuture[Reply[Any]]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a request was answered, in the words of `Answered`."""
    try:
        return f"answered by {future.get(timeout=0).member}", ()
    except Exception as error:
        return how_it_failed(error)
