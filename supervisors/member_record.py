"""What the supervisor knows of one member."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import Enum

from greenroom.actors.member.agent_actor import MemberRef
from greenroom.actors.member.surroundings import default_concurrency, is_as_wide, needs_loop
from greenroom.actors.runtime.loop_thread import AgentLoop
from greenroom.messages.config import PoolConfig
from greenroom.messages.member import Member
from greenroom.messages.replies import MemberStats
from greenroom.messages.status import AgentStatus, CircuitState, FailureKind, SkipReason
from greenroom.messages.supervision import MemberRoute
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy
from greenroom.supervisors.policy.delays import restart_delay
from greenroom.supervisors.policy.health import HealthRecord
from greenroom.supervisors.policy.probe_schedule import ProbeSchedule
from greenroom.supervisors.policy.restart_window import RestartWindow

_OUT = (CircuitState.OPEN, CircuitState.FORCED_OPEN)
_BY_ITSELF = (CircuitState.OPEN, CircuitState.HALF_OPEN)


class Life(Enum):
    """What stands behind a member's name."""

    RUNNING = "an actor"
    DOWN = "nobody, until the restart"
    GIVEN_UP = "nobody, until a reset"
    LEAVING = "an actor that finishes what it has"


class MemberRecord:
    """One member's breaker, health, restarts, probes and incarnation.

    Attributes:
        on_loop: whether its agent lives on `loop`, or is just being made there.
        blocks_loop: whether it is this member's doing if `loop` does not answer.
        agents_lost: how many of its agents were gone for good.
        agent_wanted: whether the last one that was is still to be replaced.
        without_agent: whether it was, and nobody can make another one.
        opened_by: the kind of failure that has opened its breaker; None once it has closed.
        unreachable_until: until when the way to it is away, as somebody outside says; None while it
            is not. `unreachable_since`: since when.
        kept: whether it has been tried before its time, as nobody else was left, and not come back.
        spared: whether it has been told that its breaker stays closed as its peers fail alike.
    """

    def __init__(
        self, member: Member, index: int, config: PoolConfig, rng: random.Random, now: float
    ) -> None:
        self.member = member
        self.name = member.name
        self.index = index
        self.config = config
        self.ref: MemberRef | None = None
        self.incarnation = 0
        # The first one: what is told of an earlier one is of another member of that name.
        self.since = 1
        self.life = Life.DOWN
        self.restart_at: float | None = None
        # Since the last success: how long the next restart waits.
        # `restarts` says how many are too many.
        self.crashes_in_a_row = 0
        # Apart from crashes: a factory that fails leaves its actor alive, and takes no restart.
        self.creations_failed = 0
        self.creation_at: float | None = None
        self.agents_lost = 0
        self.agent_wanted = self.without_agent = False
        self.abandoned = 0
        self.loop: AgentLoop | None = None
        self.on_loop = False
        self.blocks_loop = False
        self.max_concurrency = default_concurrency(member)
        self.breaker = Breaker(BreakerPolicy.from_config(config), rng)
        self.kept = False
        self.spared = False
        self.opened_by: FailureKind | None = None
        self.unreachable_until: float | None = None
        self.unreachable_since = 0.0
        self.health = HealthRecord(
            config.degraded_error_rate_threshold, config.unhealthy_error_rate_threshold
        )
        # As last announced: `HealthChanged` tells of differences from this.
        self.status = AgentStatus.HEALTHY
        self.restarts = RestartWindow(config.restart_intensity, config.restart_period_s)
        self.probes: ProbeSchedule | None = None
        if member.probe is not None:
            self.probes = ProbeSchedule(
                config.health_check_interval_s, config.health_check_timeout_s, rng, now
            )
        # Tickets of the commands that wait for its end: several may ask for the same removal.
        self.removal: list[int] = []
        # Who takes its place when it has left.
        self.successor: Member | None = None

    def configure(self, config: PoolConfig, now: float) -> None:
        """Go by other settings; what has been counted stays."""
        before, self.config = self.config, config
        self.breaker.configure(BreakerPolicy.from_config(config))
        self.health.configure(
            config.degraded_error_rate_threshold, config.unhealthy_error_rate_threshold
        )
        self.restarts.configure(config.restart_intensity, config.restart_period_s)
        if self.probes is None:
            return
        self.probes.configure(config.health_check_interval_s, config.health_check_timeout_s)
        # It is obeyed from now on: what `OutcomeJudge` does at an opening is due.
        if before.circuit != config.circuit and self.circuit is CircuitState.OPEN:
            self.probes.hold_until(self.breaker.reopens_at or now)
        # In any other state the time of its next probe is no matter of the interval.
        if self.circuit is CircuitState.CLOSED:
            self.probes.hasten(now)

    def change(self, member: Member) -> None:
        """Be that member from now on, whose agent is the same."""
        before, self.member = self.member, member
        if not is_as_wide(before, member):
            # Of a factory that has made its agent already, the actor says if it is more.
            self.max_concurrency = default_concurrency(member)

    def started(self, ref: MemberRef, loop: AgentLoop | None) -> None:
        """A new actor stands behind the name, and has that loop, if there are any."""
        self.ref = ref
        self.moved(loop)
        # A guess until `AgentCreated` says where the agent runs: a
        # factory shows that only by what it makes.
        self.on_loop = needs_loop(self.member)
        self.incarnation += 1
        self.life = Life.RUNNING
        self.restart_at = None
        self.abandoned = 0

    def moved(self, loop: AgentLoop | None) -> None:
        """What the member does in coroutines runs on that loop from now on."""
        self.loop = loop
        self.blocks_loop = False

    @property
    def next_member(self) -> Member | None:
        """Who bears the name once those have left that are about to; None: nobody."""
        if self.successor is not None:
            return self.successor
        return None if self.life is Life.LEAVING else self.member

    @property
    def stalled(self) -> bool:
        """Whether its loop does not answer."""
        return self.loop is not None and self.loop.stalled

    @property
    def circuit(self) -> CircuitState:
        """The breaker's state, as far as it is obeyed: one that is only observed keeps nobody out
        by itself. By hand it does.
        """
        state = self.breaker.state
        if self.config.circuit == "observe" and state in _BY_ITSELF:
            return CircuitState.CLOSED
        return state

    @property
    def is_out(self) -> bool:
        """Whether it takes no requests, and nothing that passes in a moment is why."""
        if self.life is Life.GIVEN_UP or self.without_agent or self.unreachable_until is not None:
            return True
        return self.waits_for_probe or self.circuit in _OUT

    @property
    def is_away(self) -> bool:
        """Whether the way to it is, as somebody outside says."""
        return self.unreachable_until is not None

    @property
    def can_be_tried(self) -> bool:
        """Whether there is anybody to be given a request, were it not for its breaker."""
        stalled = self.on_loop and self.stalled
        here = self.life is Life.RUNNING and not self.without_agent
        return here and not stalled and not self.is_away

    @property
    def waits_for_probe(self) -> bool:
        """Whether it is tried, and by its probe alone: no request need be risked. But not of one
        that is tried early, because requests have nobody else.
        """
        half_open = self.circuit is CircuitState.HALF_OPEN
        return self.probes is not None and half_open and not self.breaker.is_early

    def gone(self) -> None:
        """The actor behind the name has ended."""
        self.ref = None
        self.abandoned = 0

    def next_restart_delay(self) -> float:
        """Seconds until the restart that follows one more crash in a row."""
        self.crashes_in_a_row += 1
        return restart_delay(self.crashes_in_a_row, self.config.restart_backoff_s)

    def next_creation_delay(self) -> float:
        """Seconds during which the factory is left alone after one more failure in a row."""
        self.creations_failed += 1
        return restart_delay(self.creations_failed, self.config.restart_backoff_s)

    def reset(self, now: float) -> None:
        """Forget everything that speaks against the member."""
        self.health.reset()
        self.restarts.clear()
        self.crashes_in_a_row = self.creations_failed = 0
        self.creation_at = None
        self.agents_lost = 0
        self.without_agent = False

    def route(self, now: float) -> MemberRoute:
        """The member as the router may see it now."""
        blocked, reopens_at = self._blocked(now)
        circuit = self.circuit
        rationed = circuit is CircuitState.HALF_OPEN and not self.waits_for_probe
        return MemberRoute(
            self.name,
            index=self.index,
            incarnation=self.incarnation,
            ref=self.ref,
            weight=self.member.weight,
            priority=self.member.priority,
            max_concurrency=self.max_concurrency,
            circuit=circuit,
            epoch=self.breaker.epoch,
            blocked=blocked,
            trial_permits=self.breaker.trial_credit if rationed else None,
            reopens_at=reopens_at,
            by_default=self.member.max_concurrency is None,
            replaced=self.successor is not None,
            tags=tuple(self.member.tags),
            accepts=self.member.accepts,
            cost=self.member.cost,
            group=self.member.group,
            eased_in=self.breaker.tried,
            limits=tuple(self.member.limits),
            learns=self.member.max_concurrency == "auto",
        )

    def serves(self, now: float) -> bool:
        """Whether it takes requests, and more than a trial of it."""
        blocked, _ = self._blocked(now)
        return blocked is None and self.circuit is not CircuitState.HALF_OPEN

    def _blocked(self, now: float) -> tuple[SkipReason | None, float | None]:
        if self.life is Life.LEAVING:
            return SkipReason.DRAINING, None
        if self.life is Life.GIVEN_UP or self.without_agent:
            return SkipReason.GAVE_UP, None
        if self.life is Life.DOWN:
            return SkipReason.STARTING, self.restart_at
        # Before the breaker: who cannot be reached cannot be tried
        # either. A sync agent does not care.
        if self.on_loop and self.stalled:
            return SkipReason.STALLED, None
        if self.unreachable_until is not None:
            return SkipReason.UNREACHABLE, self.unreachable_until
        if self.circuit in _OUT:
            return SkipReason.CIRCUIT_OPEN, self.breaker.reopens_at
        if self.waits_for_probe:
            return SkipReason.TRIAL_RUNNING, None
        # Last: only where all else would let a request through is the factory what keeps it out.
        if self.creation_at is not None and self.creation_at > now:
            return SkipReason.STARTING, self.creation_at
        return None, None

    def stats(self, now: float, wall_offset_s: float) -> MemberStats:
        """What a user may know; the router adds what only it knows."""
        blocked, reopens_at = self._blocked(now)
        health = self.health.snapshot(
            now, self.circuit, reopens_at=reopens_at, wall_offset_s=wall_offset_s
        )
        return MemberStats(
            self.name,
            health=health,
            available=blocked is None,
            max_concurrency=self.max_concurrency,
            abandoned=self.abandoned,
            incarnation=self.incarnation,
            weight=self.member.weight,
            priority=self.member.priority,
            metadata=self.member.metadata,
            tags=tuple(self.member.tags),
            cost=self.member.cost,
            agents_lost=self.agents_lost,
            group=self.member.group,
        )

    @property
    def can_be_probed(self) -> bool:
        """Whether there is anybody to be looked at."""
        return self.life is Life.RUNNING and not self.without_agent and not self.is_away

    def next_event_at(self, now: float) -> float | None:
        """When time alone next has something to say about the member."""
        times = [
            self.restart_at,
            self.creation_at,
            self.unreachable_until,
            self.breaker.next_event_at,
            self.breaker.early_from(now),
            self.health.next_change_at(now),
            # While it is down a probe that is due would have the
            # review come again and again at once.
            self.probes.next_event_at if self.probes and self.can_be_probed else None,
        ]
        return min((at for at in times if at is not None), default=None)


def current(
    records: Mapping[str, MemberRecord], name: str, incarnation: int
) -> MemberRecord | None:
    """The record that a word of that incarnation is for; None if it has been followed by another,
    or the member has gone.
    """
    record = records.get(name)
    return record if record is not None and record.incarnation == incarnation else None
