"""Plays a script through the engine of `greenroom simulate`."""

from __future__ import annotations

import random
from typing import Any

from helpers_drift import Answered, Script, Trace, breakers_noted, how_it_failed, request_id

from greenroom import Request
from greenroom.actors.request.job import Job
from greenroom.messages.execution import Execute
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Effect, Ending, Fault
from greenroom.simulate.latency import Constant
from greenroom.simulate.scenario import Load, MemberSpec, Scenario
from greenroom.simulate.simulated_member import Call
from greenroom.simulate.simulated_pool import SimPool

_FOR_EVER = 1e9


def simulated(script: Script) -> Trace:
    """What the simulator makes of it."""
    player = _Player(script)
    with breakers_noted(player.trace):
        player.play()
    return player.trace


class _Player:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.trace = Trace(script.until_s)
        self.agenda = Agenda()
        self._call = (0, 0)  # whose ending is asked for: the request and the number of the attempt
        # What `AgentPool.start` makes of its generator: one for the router, one for the supervisor.
        rng = random.Random(script.seed)
        self._chances = {"supervision": random.Random(rng.getrandbits(64)), "routing": rng}

    def play(self) -> None:
        pool = _Pool(self._scenario(), self)
        for request, scripted in enumerate(self.script.requests):
            self.agenda.at(
                scripted.at,
                pool.take,
                Request(
                    request,
                    key=scripted.key,
                    priority=scripted.priority,
                    timeout_s=scripted.timeout_s,
                    idempotent=scripted.idempotent,
                    max_retries=scripted.max_retries,
                    request_id=request_id(request),
                ),
            )
        self.agenda.run(self.script.until_s)

    def _scenario(self) -> Scenario:
        return Scenario(
            name="script",
            members=tuple(
                MemberSpec(
                    name=each.name,
                    latency=Constant(each.latency_s),
                    concurrency=each.concurrency,
                    weight=each.weight,
                    priority=each.priority,
                    faults=(Fault(_Scripted(self, each.name), 0.0, _FOR_EVER),),
                )
                for each in self.script.members
            ),
            load=Load(callers=1),
            duration_s=self.script.until_s,
            config=self.script.config,
        )

    def chance(self, what: str) -> random.Random:
        return self._chances.get(what) or random.Random(0)

    def ending(self, member: str, now: float) -> Ending:
        return Ending(*self.script.ending(member, *self._call, now))

    # -- what happens

    def called(self, job: Job, message: Execute, member: str) -> None:
        self._call = job.work.payload, message.attempt  # type: ignore[union-attr, assignment]
        self.trace.began(self.agenda.now, *self._call, member)

    def over(self, call: Call) -> None:
        ending = call.ending
        how = "cancelled"
        if call.cancelled is None:
            how = "ok" if ending.kind is None else str(ending.kind)
        request: Any = call.message.payload
        self.trace.ended(self.agenda.now, request, call.message.attempt, how)

    def throttled(self, job: Job | None) -> None:
        """Of no interest: it is told by the calls."""

    def answered(self, job: Job, member: str) -> None:
        self._was_answered(job, f"answered by {member}")

    def failed(self, job: Job, error: BaseException) -> None:
        self._was_answered(job, *how_it_failed(error))

    def _was_answered(
        self, job: Job, what: str, failures: tuple[tuple[str, str], ...] = ()
    ) -> None:
        request: Any = job.work.payload  # type: ignore[union-attr]
        self.trace.was_answered(Answered(request, self.agenda.now, what, failures))


class _Pool(SimPool):
    """Tells of the end of every call, too."""

    def __init__(self, scenario: Scenario, player: _Player) -> None:
        super().__init__(scenario, player.script.strategy, player.agenda, player.chance, player)
        self._player = player

    def _ended(self, call: Call) -> None:
        self._player.over(call)
        super()._ended(call)


class _Scripted:
    """The trouble that befalls every call of a member: it ends as the script says."""

    def __init__(self, player: _Player, member: str) -> None:
        self._player = player
        self._member = member

    def effect(self, rng: random.Random) -> Effect:
        return lambda ending, now: self._player.ending(self._member, now)
