"""Plays a script through the engine of `greenroom simulate`."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from helpers_drift import Answered, Script, Trace, breakers_noted

from greenroom import FailureKind
from greenroom.simulate import routing as fates
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Effect, Ending, Fault
from greenroom.simulate.latency import Constant
from greenroom.simulate.pool import SimPool
from greenroom.simulate.scenario import Load, MemberSpec, Scenario
from greenroom.simulate.work import Call, Job

_FOR_EVER = 1e9


class _Agenda(Agenda):
    """One that ends where the script does."""

    __slots__ = ()

    def run_until(self, when: float) -> None:
        while self._heap and self._heap[0][0] <= when:
            self.now, _, action, subject = heapq.heappop(self._heap)
            action(subject)


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
        self._agenda = _Agenda()
        self._requests: dict[Job, int] = {}
        self._last_member: dict[Job, str] = {}
        self._call = (0, 0)  # whose ending is asked for: the request and the number of the attempt
        # What `AgentPool.start` makes of its generator: one for the router, one for the supervisor.
        self._rng = random.Random(script.seed)
        self._supervisors_rng = random.Random(self._rng.getrandbits(64))

    def play(self) -> None:
        script = self.script
        pool = _Pool(self._scenario(), script.strategy, self._agenda, self._chance, self)
        for record in pool._watch._records.values():
            record.breaker._rng = self._supervisors_rng
        for request, scripted in enumerate(script.requests):
            self._agenda.at(scripted.at, self._arrive(pool), request)
        self._agenda.run_until(script.until_s)

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

    def _chance(self, what: str) -> random.Random:
        return self._rng if what == "routing" else random.Random(0)

    def ending(self, member: str, now: float) -> Ending:
        return Ending(*self.script.ending(member, *self._call, now))

    # -- what happens

    def _arrive(self, pool: SimPool) -> Callable[[int], None]:
        def arrive(request: int) -> None:
            now, scripted = self._agenda.now, self.script.requests[request]
            limits = (scripted.timeout_s, self.script.config.deadline_s)
            deadline = min((now + limit for limit in limits if limit is not None), default=None)
            job = Job(now, deadline, scripted.key, True)
            self._requests[job] = request
            pool.take(job)

        return arrive

    def began(self, job: Job, member: str) -> None:
        self._call = self._requests[job], job.attempts
        self.trace.began(self._agenda.now, *self._call, member)

    def released(self, call: Call, how: str) -> None:
        request = self._requests[call.job]
        self._last_member[call.job] = call.slot.name
        self.trace.ended(self._agenda.now, request, call.job.attempts, how)

    def over(self, job: Job) -> None:
        what, failures = _how(job, self._last_member.get(job, ""))
        self.trace.was_answered(Answered(self._requests[job], self._agenda.now, what, failures))


class _Pool(SimPool):
    """Tells of the end of every call."""

    def __init__(
        self,
        scenario: Scenario,
        strategy: str,
        agenda: Agenda,
        chance: Callable[[str], random.Random],
        player: _Player,
    ) -> None:
        super().__init__(scenario, strategy, agenda, chance, player.began, player.over)
        self._player = player

    def _ended(self, call: Call) -> None:
        self._player.released(call, "ok" if call.kind is None else str(call.kind))
        super()._ended(call)

    def _give_up(self, call: Call) -> None:
        self._player.released(call, "cancelled")
        super()._give_up(call)


class _Scripted:
    """The trouble that befalls every call of a member: it ends as the script says."""

    def __init__(self, player: _Player, member: str) -> None:
        self._player = player
        self._member = member

    def effect(self, rng: random.Random) -> Effect:
        return lambda ending, now: self._player.ending(self._member, now)


def _how(job: Job, last_member: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What has become of a request, in the words of `Answered`."""
    match job.fate:
        case fates.ANSWERED:
            return f"answered by {last_member}", ()
        case fates.REFUSED:
            return "refused", ()
        case fates.DEADLINE:
            return "out of time", ()
        case FailureKind() as kind if not kind.tries_another_member:
            return "failed as it is", (("", str(kind)),)
        case _:
            failures = {member: str(kind) for member, kind in job.failures.items()}
            return "failed", tuple(sorted(failures.items()))
