"""A recording played again, by the same deciders: as it was, or with other settings."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenroom.actors.member.call_outcome import cut_off_by
from greenroom.actors.request.job import Job
from greenroom.flight.flight_lines import MemberFacts
from greenroom.messages.errors import MemberCrashedError, PoolSaturatedError, summary
from greenroom.messages.execution import CancelExecution, Execute, Failed, Refused, Succeeded
from greenroom.messages.limits import Limit
from greenroom.messages.member import Member
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason
from greenroom.messages.supervision import (
    AgentCreated,
    AgentCreateFailed,
    RoutingSnapshot,
)
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.recorded_flight import (
    Arrival,
    CallEnd,
    Likely,
    RecordedFlight,
    Transition,
    own_failure,
)
from greenroom.simulate.recorded_post import RecordedPost
from greenroom.simulate.replay_figures import Count, Figures, figures_of, span_of
from greenroom.simulate.replayed_draws import ReplayedDraws, tells_whose
from greenroom.simulate.replayed_requests import KEYED, ReplayedRequests
from greenroom.simulate.simulated_failures import error_of
from greenroom.simulate.simulated_pool import AgendaPool
from greenroom.simulate.tally import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be different.

    Attributes:
        strategy: the name of another one; None: as it was.
        settings: of `PoolConfig`.
        without: members that are not there.
    """

    strategy: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    without: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.strategy is not None or bool(self.settings) or bool(self.without)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What happened, and what would have.

    Attributes:
        strategy: the names of both.
        from_s: when the first request came, on the pool's clock.
        guessed: calls of which it is not recorded how they would have ended.
        same_picks: calls that went to the very member that they went to.
        picks: calls that were recorded.
        notes: what could not be played again as it was.
    """

    happened: Figures
    would_have: Figures
    strategy: tuple[str, str]
    from_s: float
    duration_s: float
    within_s: float | None
    guessed: int
    same_picks: int
    picks: int
    notes: Sequence[str] = ()


def replay(
    flight: RecordedFlight,
    changes: Changes | None = None,
    *,
    within_s: float | None = None,
    seed: int = 1,
) -> Replay:
    """Let the same requests come at the same times, to members that answer and fail as they did.

    Args:
        within_s: an answer that takes longer is no good; None: each is.
        seed: of what is drawn where nothing is recorded.

    Raises:
        FlightError: the recording cannot be played again.
        TypeError, ValueError: a change that no pool can have, named.
    """
    return _Player(flight, changes or Changes(), within_s, seed).play()


class _Player:
    """One run: the audience of its pool, and what stands behind its members."""

    def __init__(
        self, flight: RecordedFlight, changes: Changes, within_s: float | None, seed: int
    ) -> None:
        self._flight = flight
        self._within_s = within_s
        self._as_it_was = not changes
        self._count = Count(*span_of(flight), within_s)
        strategy = flight.header.strategy if changes.strategy is None else changes.strategy
        config = flight.config.replace(**changes.settings)
        members = [each for each in flight.members if each.name not in changes.without]
        _check(flight, changes, members, strategy)
        self._indices = {each.name: each.index for each in flight.members}
        self._agenda = agenda = Agenda()
        agenda.now = flight.header.at
        self._stand_ins = {each.name: _StandIn(each.name, self, agenda) for each in members}
        seeds = flight.header.supervision
        self._draws = ReplayedDraws(seed)
        self._pool = AgendaPool(
            config,
            strategy,
            agenda,
            [_member(each) for each in members],
            self._stand_ins,
            routing=self._draws,
            supervision=random.Random(seed if seeds is None else seeds),
            audience=self,
            post=None if changes else RecordedPost(flight, agenda),
        )
        self._flow, self._supervisor = self._pool.flow, self._pool.supervisor
        self._pool.on_snapshot = self._snapshot
        self._circuits: dict[str, str] = {}
        self._last_at = flight.last_at
        # Chance says the same only where it is asked the same.
        self._same_chance = strategy == flight.header.strategy
        if self._same_chance and any(each.draws for each in flight.arrivals):
            tells_whose(self._pool.strategy, self._about)
        self._likely = Likely(
            (call for each in flight.arrivals for call in each.calls), random.Random(seed)
        )
        self._config = config
        self._strategy = strategy
        self._members = members
        self._making = ReplayedRequests(flight, config, strategy)
        self._under_way: dict[str, _UnderWay] = {}
        self._next = 0
        self.guessed = self._picks = self._same_picks = 0
        self._unmade: set[str] = set()

    def play(self) -> Replay:
        flight, agenda = self._flight, self._agenda
        self._pool.begin()
        self._plan_next()
        agenda.run()
        # What hangs for ever has no end of its own.
        for each in self._under_way.values():
            self._count.ended(each.arrival.at, None, "unfinished")
        names = [each.name for each in self._members]
        first, last = span_of(flight)
        return Replay(
            happened=figures_of(flight, self._within_s),
            would_have=self._count.figures(names),
            strategy=(flight.header.strategy, self._strategy),
            from_s=first,
            duration_s=last - first,
            within_s=self._within_s,
            guessed=self.guessed,
            same_picks=self._same_picks,
            picks=sum(len(each.calls) for each in flight.arrivals),
            notes=tuple(_notes(flight, self._strategy)),
        )

    # -- who comes

    def _plan_next(self) -> None:
        if self._next < len(self._flight.arrivals):
            arrival = self._flight.arrivals[self._next]
            # In the order in which they were taken in: the time of each was read before that.
            self._agenda.at(max(arrival.at, self._agenda.now), self._arrive, arrival)

    def _arrive(self, arrival: Arrival) -> None:
        self._next += 1
        self._plan_next()
        # The flow numbers those that have no id of their own, in the order in which they come.
        request_id = f"simulated-t{self._next}"
        under_way = self._under_way[request_id] = _UnderWay(arrival, self._same_chance)
        self._draws.about(under_way.draws)
        request, heard = self._making.request(arrival)
        self._flow.accept(request, heard=heard)

    def _about(self, request_id: str) -> None:
        under_way = self._under_way.get(request_id)
        if under_way is not None:
            self._draws.about(under_way.draws)

    # -- the audience

    def called(self, job: Job, message: Execute, member: str) -> None:
        """An attempt begins: is it the one that there was?"""
        count, under_way = self._count, self._under_way[message.request_id]
        count.calls[member] += 1
        role = 0
        if job.hedge is not None and job.hedge.number == message.attempt:
            role = 1
            count.hedges += 1
        elif job.trial is not None and job.trial.number == message.attempt:
            role = 2
        else:
            under_way.main += 1
            count.failovers += under_way.main > 1
        calls = under_way.arrival.calls
        place = under_way.begun
        under_way.begun += 1
        if place < len(calls) and (calls[place].member, calls[place].role) == (
            self._indices[member],
            role,
        ):
            self._same_picks += 1

    def throttled(self, job: Job | None) -> None:
        """It is counted with the other ends."""

    def answered(self, job: Job, member: str) -> None:
        """A member has answered a request."""
        self._over(job, "answered")

    def failed(self, job: Job, error: BaseException) -> None:
        """A request has ended otherwise."""
        self._over(job, "rejected" if isinstance(error, PoolSaturatedError) else "failed")

    def _over(self, job: Job, how: str) -> None:
        self._count.ended(job.accepted_at, self._agenda.now - job.accepted_at, how)
        self._under_way[job.id].over = True
        self._forget(job.id)

    def _forget(self, request_id: str) -> None:
        under_way = self._under_way.get(request_id)
        if under_way is not None and under_way.over and not under_way.running:
            del self._under_way[request_id]

    def _snapshot(self, snapshot: RoutingSnapshot) -> None:
        if self._agenda.now > self._last_at:
            return  # the pool was stopped, or might have been
        for route in snapshot.members:
            circuit = str(route.circuit)
            if self._circuits.get(route.name, "closed") != circuit:
                self._count.transitions.append(Transition(self._agenda.now, route.name, circuit))
            self._circuits[route.name] = circuit

    # -- what members do

    def end_of(self, member: str, message: Execute) -> CallEnd:
        """How a call is to end that begins now."""
        under_way, index = self._under_way[message.request_id], self._indices[member]
        under_way.running += 1
        for place, call in enumerate(under_way.left):
            if call.member == index:
                del under_way.left[place]
                if call.end is not None:
                    end = call.end._replace(lag_s=call.lag_s) if call.lag_s else call.end
                    if not self._as_it_was:
                        return end
                    # It began a little earlier, after a wait: but it ends when it did.
                    return end._replace(late_s=end.late_s + call.at - self._agenda.now)
                # It was left behind: as long as that it ran, and nobody knows how much longer.
                return self._likely.longer_than(call)._replace(lag_s=call.lag_s)
        self.guessed += 1
        own = own_failure(under_way.arrival)
        if own is not None:
            return own
        return self._likely.end_of(index, self._agenda.now) or CallEnd(self._usual_s())

    def _usual_s(self) -> float:
        """Of a member that was never called nothing is known: as long as a call of any other."""
        if not hasattr(self, "_some_s"):
            times = sorted(
                call.end.seconds
                for each in self._flight.arrivals
                for call in each.calls
                if call.end is not None and call.end.kind is None
            )
            self._some_s = quantile(times, 0.5) or 1.0
        return self._some_s

    def ended(self, call: _Call) -> None:
        """What a member reports of a call that has come to its end."""
        request_id = call.message.request_id
        under_way = self._under_way.get(request_id)
        if under_way is not None:
            under_way.running -= 1
            self._draws.about(under_way.draws)
        try:
            self._report(call)
        finally:
            self._forget(request_id)

    def _report(self, call: _Call) -> None:
        end, elapsed_s = call.end, self._agenda.now - call.began_at
        if end.late_s and call.cancelled is None:
            elapsed_s = end.seconds
        if call.cancelled is not None:
            error, verdict = cut_off_by(call.member, call.cancelled)
            self._flow.failed(
                Failed(**call.names, kind=verdict.kind, error=error, elapsed_s=elapsed_s)
            )
        elif end.kind is None:
            self._made(call)
            succeeded = Succeeded(**call.names, value=None, elapsed_s=elapsed_s)
            self._flow.succeeded(succeeded)
        elif not end.started:
            self._refused(call, end.kind)
        else:
            self._made(call)
            error = error_of(end.kind, end.retry_after_s)
            self._flow.failed(
                Failed(
                    **call.names,
                    kind=end.kind,
                    error=error,
                    elapsed_s=elapsed_s,
                    retry_after_s=end.retry_after_s,
                    opens_at_once=end.opens_at_once,
                    same_member_may_mend=end.may_mend,
                    disconnected=end.disconnected,
                )
            )

    def _refused(self, call: _Call, kind: FailureKind) -> None:
        if kind is not FailureKind.CREATE_FAILED:
            error: Exception = MemberCrashedError(f"{call.member} has ended")
            self._flow.refused(Refused(**call.names, reason=RefusalReason.STOPPING, error=error))
            return
        error = error_of(kind)
        self._unmade.add(call.member)
        failed = AgentCreateFailed(
            member=call.member, incarnation=call.message.incarnation, error=summary(error)
        )
        self._agenda.soon(self._supervisor.roster.agent_create_failed, failed)
        self._flow.refused(Refused(**call.names, reason=RefusalReason.CREATE_FAILED, error=error))

    def _made(self, call: _Call) -> None:
        if call.member in self._unmade:
            self._unmade.remove(call.member)
            facts = next(each for each in self._members if each.name == call.member)
            made = AgentCreated(
                member=call.member,
                incarnation=call.message.incarnation,
                max_concurrency=facts.max_concurrency,
            )
            self._agenda.soon(self._supervisor.roster.agent_created, made)


class _UnderWay:
    """A request on its way, and what is left of what it had."""

    __slots__ = ("arrival", "begun", "draws", "left", "main", "over", "running")

    def __init__(self, arrival: Arrival, same_chance: bool) -> None:
        self.arrival = arrival
        self.left = list(arrival.calls)
        self.draws = list(reversed(arrival.draws)) if same_chance and arrival.draws else []
        self.begun = self.main = self.running = 0
        self.over = False


class _Call:
    """One call on one member."""

    __slots__ = ("began_at", "cancelled", "end", "member", "message")

    def __init__(self, message: Execute, member: str, began_at: float, end: CallEnd) -> None:
        self.message = message
        self.member = member
        self.began_at = began_at
        self.end = end
        self.cancelled: CancelReason | None = None

    @property
    def names(self) -> dict[str, Any]:
        """Of which call a message is."""
        message = self.message
        return {
            "member": self.member,
            "incarnation": message.incarnation,
            "request_id": message.request_id,
            "attempt": message.attempt,
        }


class _StandIn:
    """Ends calls as they ended."""

    def __init__(self, name: str, player: _Player, agenda: Agenda) -> None:
        self._name = name
        self._player = player
        self._agenda = agenda
        self._calls: dict[tuple[str, int], _Call] = {}

    def take(self, message: Execute) -> None:
        """It will end when it did."""
        now, end = self._agenda.now, self._player.end_of(self._name, message)
        call = _Call(message, self._name, now, end)
        self._calls[message.request_id, message.attempt] = call
        if end.seconds != math.inf:
            self._agenda.at(max(now, now + end.seconds + end.late_s), self._end, call)

    def cancel(self, message: CancelExecution) -> None:
        """It ends now, or as much later as it did."""
        call = self._calls.get((message.request_id, message.attempt))
        if call is not None and call.cancelled is None:
            call.cancelled = message.reason
            self._agenda.at(self._agenda.now + call.end.lag_s, self._end, call)

    def _end(self, call: _Call) -> None:
        message = call.message
        if self._calls.pop((message.request_id, message.attempt), None) is not None:
            self._player.ended(call)


def _check(
    flight: RecordedFlight, changes: Changes, members: Sequence[MemberFacts], strategy: str
) -> None:
    names = [each.name for each in flight.members]
    for name in changes.without:
        if name not in names:
            raise ValueError(f"members must be among {', '.join(names)}, got {name!r}")
    if not members:
        raise ValueError("somebody must be left of the members")


def _member(facts: MemberFacts) -> Member:
    return Member(
        facts.name,
        _nobody,
        weight=facts.weight,
        priority=facts.priority,
        group=facts.group,
        max_concurrency="auto" if facts.learns else facts.max_concurrency,
        max_concurrency_ceiling=facts.max_concurrency,
        cost=facts.cost,
        tags=tuple(facts.tags),
        limits=tuple(
            Limit(amount, per_s=per_s, cost=cost, group=group)
            for amount, per_s, cost, group in facts.limits
        ),
    )


def _nobody(_: object) -> None:
    """Where an agent would stand."""


def _notes(flight: RecordedFlight, strategy: str) -> list[str]:
    said = []
    if flight.lost:
        said.append(f"{flight.lost:,} lines are missing from the recording")
    if flight.changed:
        said.append("members or settings changed meanwhile: it was played with those of the start")
    if flight.header.left_out:
        said.append(f"without {', '.join(flight.header.left_out)}, which cannot be written down")
    if strategy == KEYED != flight.header.strategy:
        said.append("keys are recorded as hashes: they prefer other members than yours would")
    streams = sum(1 for each in flight.arrivals if each.facts and "stream" in each.facts)
    if streams:
        said.append(f"{streams:,} streams were played as answers that come at their end")
    return said
