"""The member actor: owns one agent, from its creation to its close; probes it; runs its calls."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from greenroom.actors.executors.call import Call, CallPhase
from greenroom.actors.executors.entered_agent import Stay
from greenroom.actors.member.agent_host import AgentHost, ProbeCall
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.executions import AbandonedBy, Executions, LostAgent, WidthHeard
from greenroom.actors.member.hosted_agent import HostedAgent
from greenroom.actors.member.surroundings import (
    LoopGone,
    LoopLost,
    LoopSilent,
    Surroundings,
    default_concurrency,
    is_as_wide,
)
from greenroom.actors.reading.classify import classify, is_lost
from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.lease import Lease
from greenroom.actors.runtime.pool_actor import JoinableRef, PoolActor, tell
from greenroom.actors.runtime.thread_duties import Duty, ThreadRole
from greenroom.messages.errors import ResourceError, not_begun, summary
from greenroom.messages.execution import CancelExecution, Execute
from greenroom.messages.member import Member
from greenroom.messages.pickling import fit_to_look_at
from greenroom.messages.status import CancelReason, RefusalReason
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    AgentLost,
    AgentRemade,
    CancelProbe,
    Leave,
    Probe,
    ProbeResult,
    Reconfigured,
    TrialDue,
    WidthSaid,
)

LONGEST_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class _Made:
    """The factory's answer, told by the executor to the actor."""

    number: int
    agent: Any
    error: BaseException | None
    lost: bool = False  # the loop has ended under it: that says nothing of the factory


@dataclass(frozen=True, slots=True)
class _Enter:
    """The factory has made a context manager."""

    number: int
    stay: Stay


@dataclass(frozen=True, slots=True)
class _Left:
    """What the agent lives in, a context manager, has ended though nobody asked for it."""

    number: int
    error: BaseException | None
    lost: bool  # with its loop: another one is made when it is asked for


class _CallEnded:
    """A call has ended while a lost agent waits for the last one that it has."""

    __slots__ = ()


class _Remade:
    """A lost agent of a caller's loop has been followed by another one there."""

    __slots__ = ()


class MemberRef(JoinableRef):
    """The ref of one incarnation of a member.

    Attributes:
        ended: set when the actor has stopped and let go of everything it held.
    """

    def __init__(self, actor: AgentActor) -> None:
        super().__init__(actor)
        self.ended = actor.ended
        self._actor = actor  # there is no thread that would keep it alive

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until what the actor held has come to rest."""
        self._actor.host.join(LONGEST_JOIN_S if timeout_s is None else timeout_s)


class AgentActor(PoolActor):
    """One incarnation of a member: the shell around its agent's host and its calls.

    It never retries, never picks, and runs no user code itself. So it needs no thread.
    """

    has_thread = False

    def __init__(self, member: Member, incarnation: int, around: Surroundings) -> None:
        super().__init__(around.clock)
        # Before the ref, which takes it over.
        self.ended = threading.Event()
        self.ref: MemberRef = MemberRef(self)
        self.known_by(self.ref)
        self.member = member
        self.incarnation = incarnation
        self.around = around
        label = f"greenroom-{around.pool}-{member.name}"
        urn = around.router.actor_urn
        self.duty = Duty(urn, ThreadRole.MEMBERS_TURN)
        self.host = AgentHost(
            member,
            label,
            around.clock,
            around.loop,
            urn,
            context=around.context,
            moved=self._moved,
            put_back=lambda call: self.calls.put_back(call),
            remade=self._remade,
        )
        self._home = around.loop if isinstance(around.loop, HomeLoop) else None
        self._lodge()
        self.calls = Executions(
            member,
            incarnation,
            around,
            self.host,
            create=self._create,
            tell_back=functools.partial(tell, self.actor_ref),
            give_up=self._give_up,
        )
        # Which call of the factory counts: one that was given up on may still return, beside the
        # next one.
        self._creations = 0
        self._creating: int | None = None
        self._creation: Call | None = None
        self._hosted: int | None = None
        self._waiting_probes: list[Probe] = []
        # Put in by the actor's turn, taken out where the probe ends: single dict operations.
        self._probes: dict[int, ProbeCall] = {}
        self._reason: str | None = None
        self._leaving = False
        self._blameless = False
        self.handlers.update(
            {
                Execute: self.calls.take,
                CancelExecution: self._on_cancel,
                AbandonedBy: self.calls.abandoned_by,
                LostAgent: self._on_lost,
                WidthHeard: self._on_width_heard,
                _CallEnded: self._close_lost,
                _Remade: self._on_remade,
                TrialDue: self._on_trial_due,
                Probe: self._on_probe,
                CancelProbe: self._on_cancel_probe,
                Reconfigured: self._on_reconfigured,
                LoopSilent: self._on_loop_silent,
                LoopLost: self._on_loop_lost,
                LoopGone: self._on_loop_gone,
                Leave: self._on_leave,
                _Made: self._on_made,
                _Enter: self._on_enter,
                _Left: self._on_left,
            }
        )

    def on_fault(self, message: Any, error: BaseException) -> bool:
        if isinstance(message, CancelExecution):  # else what hangs would keep its slot for ever
            self._on_cancel(message)
            return False
        if not isinstance(message, Execute):
            return False
        self.calls.not_taken(message, error)
        return True

    # -- the agent

    def _create(self) -> None:
        if self._creating is None:
            self._creations += 1
            number = self._creating = self._creations
            try:
                finish = functools.partial(self._created, number)
                enter = functools.partial(self._entering, number)
                self._creation = self.host.create(finish, self.calls.begin_creation(), enter)
            except BaseException as error:  # nobody may wait for a factory that was not even asked
                tell(self.actor_ref, _Made(number, None, not_begun(self.host.name, error)))

    def _created(self, number: int, call: Call, agent: Any, error: BaseException | None) -> None:
        """Runs where the agent runs."""
        made = _Made(number, agent, error, call.cancelled is CancelReason.LOOP_ENDED)
        # The actor has ended meanwhile: nobody else knows of this agent, so it is closed from here.
        if not tell(self.actor_ref, made) and error is None:
            self.host.close_agent(agent)

    def _entering(self, number: int, stay: Stay) -> None:
        """Runs where the factory ran."""
        if not tell(self.actor_ref, _Enter(number, stay)):
            self.host.close_agent(stay.manager)

    def _on_enter(self, message: _Enter) -> None:
        number, stay = message.number, message.stay
        if number != self._creating:  # nobody waits for it
            self.host.close_agent(stay.manager)
            return
        finish = functools.partial(self._created, number)
        left = functools.partial(self._left, number)
        try:
            self._creation = self.host.enter(stay, finish, self.calls.begin_creation(), left)
        except BaseException as error:
            tell(self.actor_ref, _Made(number, None, not_begun(self.host.name, error)))

    def _left(self, number: int, error: BaseException | None, lost: bool) -> None:
        """Runs where the agent lived."""
        tell(self.actor_ref, _Left(number, error, lost))

    def _on_left(self, left: _Left) -> None:
        if left.number != self._hosted or not self.host.made:
            return
        if left.lost:
            self.host.let_go()
            return
        why = "it was cancelled" if left.error is None else summary(left.error)
        blameless = left.error is None
        self._give_up(f"what its agent lives in has ended: {why}", blameless=blameless)

    def _on_made(self, made: _Made) -> None:
        # A factory that was given up on has answered after all: nobody waits for what it made.
        if made.number != self._creating:
            if made.error is None:
                self.host.close_agent(made.agent)
            return
        self._creating = self._creation = None
        if made.lost:
            if made.error is None:  # it has made one all the same, that belongs to that loop
                self.host.close_agent(made.agent)
            if self.calls.waiting or self._waiting_probes:
                self._create()
            return
        waiting, self.calls.waiting = self.calls.waiting, deque()
        probes, self._waiting_probes = self._waiting_probes, []
        error = made.error
        if error is None:
            error = self._adopt(made.agent)
        if error is None:
            self._hosted = made.number
            for message in waiting:
                self.calls.take(message)
            for probe in probes:
                self._on_probe(probe)
        else:
            self._not_made(error, waiting, probes)

    def _not_made(
        self, error: BaseException, waiting: Iterable[Execute], probes: Iterable[Probe]
    ) -> None:
        """There is no agent: for want of what the machine should give, which is no fault of the
        factory's, and may be over the next time; or the factory has failed.
        """
        error, why = fit_to_look_at(error), summary(error)
        lacking = isinstance(error, ResourceError)
        reason = RefusalReason.NO_RESOURCES if lacking else RefusalReason.CREATE_FAILED
        if not lacking:
            self._tell_supervisor(
                AgentCreateFailed(member=self.member.name, incarnation=self.incarnation, error=why)
            )
        for message in waiting:
            self.calls.refuse(message, reason, error)
        for probe in probes:
            what = f"creating the agent failed: {why}"
            self._probe_ended(probe, 0.0, None if lacking else what, skipped=lacking)

    def _on_cancel(self, message: CancelExecution) -> None:
        """If that was the last one who waits for the factory, and whose time is over, what it makes
        is closed.
        """
        running = self.calls.cancel(message)
        if running or message.reason is not CancelReason.ATTEMPT_TIMEOUT:
            return
        if not self.calls.waiting and not self._waiting_probes:
            self._creating = None

    def _adopt(self, agent: Any) -> BaseException | None:
        """Host what the factory has made; why not, if a look at it raises."""
        try:
            self.host.adopt(agent)
        except BaseException as error:
            self.host.close_agent(agent)
            return error
        self._lodge()
        self._say_created()
        return None

    def _say_created(self) -> None:
        at_a_time = default_concurrency(self.member, self.host.is_async)
        self.calls.widen(at_a_time)
        self._tell_supervisor(
            AgentCreated(
                member=self.member.name,
                incarnation=self.incarnation,
                max_concurrency=at_a_time,
                is_async=self.host.is_async or self.host.bound_to_loop,
            )
        )

    def _on_width_heard(self, message: WidthHeard) -> None:
        if self.member.max_concurrency is not None:
            return
        self.calls.widen(message.calls)
        self._tell_supervisor(
            WidthSaid(
                member=self.member.name,
                incarnation=self.incarnation,
                max_concurrency=message.calls,
            )
        )

    def _on_reconfigured(self, message: Reconfigured) -> None:
        before, member = self.member, message.member
        self.member = self.host.member = member
        self.around = replace(self.around, config=message.config)
        self.calls.configure(self.around)
        if is_as_wide(before, member):
            return
        if member.factory is not None and self.host.made:
            self._say_created()
        else:
            self.calls.widen(default_concurrency(member))

    # -- it is gone for good

    def _on_lost(self, message: LostAgent) -> None:
        """The next call has another one made. One that was handed over ready there is only once:
        whoever resets the member has mended it.
        """
        hosted, remade = message.hosted, self.member.factory is not None
        if hosted is self.host.hosted:
            self._hosted = None
            if remade:
                self.host.lose()
            else:
                self.host.adopt(hosted.agent)
        elif not hosted.of_loop:  # it has been let go of since, with its loop
            return
        self._tell_supervisor(
            AgentLost(
                member=self.member.name,
                incarnation=self.incarnation,
                error=message.why,
                remade=remade,
                of_loop=hosted.of_loop,
            )
        )
        self._close_lost()

    def _on_trial_due(self, _: TrialDue) -> None:
        """Whom nobody answered the last time is not asked again: its connection may have ended."""
        lost = self.member.lost
        if self.member.factory is None or (callable(lost) and not isinstance(lost, type)):
            return
        for hosted in self.host.agents:
            if hosted.disconnected and hosted.lose():
                why = f"its connection has failed ({hosted.disconnected}), and it is to be tried"
                self._on_lost(LostAgent(hosted, why))

    def _close_lost(self, _: object = None) -> None:
        # First: a call that ends from here on looks if it was the last.
        self.calls.at_rest = self._call_ended
        if not self.host.close_lost(self._is_used):
            self.calls.at_rest = None

    def _call_ended(self) -> None:
        """Runs wherever a call ends."""
        tell(self.actor_ref, _CallEnded())

    def _remade(self) -> None:
        """Runs on a caller's loop, whose lost agent has been made anew."""
        tell(self.actor_ref, _Remade())

    def _on_remade(self, _: _Remade) -> None:
        self._tell_supervisor(AgentRemade(member=self.member.name, incarnation=self.incarnation))

    def _is_used(self, hosted: HostedAgent) -> bool:
        probes = list(self._probes.values())
        return self.calls.uses(hosted) or any(each.hosted is hosted for each in probes)

    # -- probes

    def _on_probe(self, message: Probe) -> None:
        if self.host.made:
            finish = functools.partial(self._probe_finished, message)
            call = self.host.probe(finish, self._probe_ended_late)
            self._probes[message.probe_id] = call
            if call.phase not in (CallPhase.WAITING, CallPhase.RUNNING):
                # It may have ended before it was noted here, or the machine has no thread for it.
                self._probes.pop(message.probe_id, None)
        elif message.create:
            self._waiting_probes.append(message)
            self._create()
        else:
            self._probe_ended(message, 0.0, None, skipped=True)

    def _probe_finished(
        self, message: Probe, call: ProbeCall, value: Any, error: BaseException | None
    ) -> None:
        """Runs wherever the probe ended."""
        if call.phase is CallPhase.ABANDONED:
            tell(self.actor_ref, AbandonedBy(1))
        if call.cancelled is CancelReason.LOOP_ENDED:  # that says nothing of the agent
            self._probe_ended(message, 0.0, None, skipped=True)
            return
        # Who cancels a probe knows that it is over: no result is told.
        if call.cancelled is not None:
            self._probes.pop(message.probe_id, None)
            if self.calls.at_rest is not None:
                self.calls.at_rest()
            return
        if isinstance(error, ResourceError):  # it says nothing of the agent
            self._probe_ended(message, 0.0, None, skipped=True)
            return
        why = summary(error) if error is not None else None
        if error is not None:
            self._heed(call.hosted, error, why or "")
        if error is None and value is False:
            why = "the probe returned False"
        self._probe_ended(message, self.clock.now() - call.started_at, why)

    def _heed(self, hosted: HostedAgent, error: BaseException, why: str) -> None:
        """What a failed probe says of its agent, before the supervisor hears of it."""
        if is_lost(error, self.member.lost):
            if hosted.lose():
                tell(self.actor_ref, LostAgent(hosted, why))
        else:
            verdict = classify(fit_to_look_at(error), self.around.config.classify)
            hosted.disconnected = type(error).__name__ if verdict.disconnected else ""

    def _probe_ended_late(self, _: Call) -> None:
        tell(self.actor_ref, AbandonedBy(-1))

    def _probe_ended(
        self, message: Probe, elapsed_s: float, error: str | None, skipped: bool = False
    ) -> None:
        self._tell_supervisor(
            ProbeResult(
                member=self.member.name,
                incarnation=self.incarnation,
                probe_id=message.probe_id,
                ok=error is None,
                elapsed_s=elapsed_s,
                skipped=skipped,
                error=error,
            )
        )
        self._probes.pop(message.probe_id, None)
        if self.calls.at_rest is not None:
            self.calls.at_rest()

    def _on_cancel_probe(self, message: CancelProbe) -> None:
        self._waiting_probes = [p for p in self._waiting_probes if p.probe_id != message.probe_id]
        call = self._probes.pop(message.probe_id, None)
        if call is not None:
            call.cancel(CancelReason.ATTEMPT_TIMEOUT)

    # -- a loop that does not answer

    def _on_loop_silent(self, _: LoopSilent) -> None:
        """What was cancelled there, and cannot be, must not keep its slot for as long."""
        for call in self.calls.running():
            waits_there = call.executor is self.host.loop or call.canceller is not None
            if waits_there and call.cancelled is not None:
                # Once more: its executor knows of the silence by now, and waits for no clean-up.
                call.cancel(call.cancelled)

    def _on_loop_lost(self, message: LoopLost) -> None:
        why = CancelReason.STOPPING if message.guilty else CancelReason.LOOP_LOST
        self.host.leave_loop([*self.calls.running(), *self._probes.values()], why)
        if message.fresh is not None:
            self.host.move_to(message.fresh)
            # After it: an agent that is just being entered has been seen, or goes to the fresh one.
            if self.host.bound_to_loop:
                self._give_up("the event loop that it was entered on is lost", blameless=True)
        elif message.reason is not None:
            self._give_up(message.reason, blameless=not message.guilty)

    # -- the app's loop

    @property
    def busy(self) -> bool:
        """Whether anything of it runs on a loop, or is to."""
        running = [*self.calls.running(), *self._probes.values()]
        return self._creating is not None or any(map(self._is_on_loop, running))

    def _is_on_loop(self, call: Call) -> bool:
        if call.executor is self.host.callers:  # a block on another loop, or in a thread, is not
            return self._home is not None and self.host.lent_on(call, self._home.loop)
        return call.executor is not self.host.threads or call.canceller is not None

    @property
    def lives_there(self) -> bool:
        return self.host.lives_on_loop

    @property
    def closes_there(self) -> bool:
        return self.host.closes_on_loop

    def works_for(self, request: tuple[str, str]) -> bool:
        on_loop = [call.message for call in self.calls.running() if self._is_on_loop(call)]
        return any(
            (urn, ticket[0]) == request
            for message in (*on_loop, *list(self.calls.waiting))
            for urn, ticket in message.inside
        )

    def _lodge(self) -> None:
        """Who waits in the loop's own thread is told if that is for this member."""
        home = self._home
        if home is not None and (self.host.lives_on_loop or self.host.closes_on_loop):
            home.lodge(self)

    def _on_loop_gone(self, message: LoopGone) -> None:
        self.host.go_on_at(message.fresh)
        self._moved()

    def _moved(self) -> None:
        """What was on the loop that has ended is over; a factory is asked again."""
        if self._home is not None:
            self._home.forget(self)
        calls: list[Call] = [*self.calls.running(), *self._probes.values()]
        if self._creation is not None:
            calls.append(self._creation)
        for call in calls:
            on_old = call.executor not in (self.host.threads, self.host.loop)
            if call.executor is self.host.callers:
                on_old = self._is_on_loop(call)
            if on_old and call.phase in (CallPhase.WAITING, CallPhase.RUNNING):
                call.cancel(CancelReason.LOOP_ENDED)

    # -- the end

    def _tell_supervisor(
        self,
        message: ActorEnded
        | AgentCreated
        | AgentCreateFailed
        | AgentLost
        | AgentRemade
        | ProbeResult
        | WidthSaid,
    ) -> None:
        tell(self.around.supervisor, message)

    def _give_up(self, reason: str, blameless: bool = False) -> None:
        """End by itself, for the first reason that there is; the supervisor restarts it."""
        if self._reason is None:
            self._reason = reason
            self._blameless = blameless
            self.stop()

    def _on_leave(self, _: Leave) -> None:
        self._leaving = True
        self.stop()

    def on_stop(self) -> None:
        super().on_stop()
        self._end(self._reason)

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._end(summary(exc_info[1]))

    def _end(self, error: str | None) -> None:
        """Give back what never started, cancel what runs, close the agent, say goodbye.

        Nothing waits here. The agent is closed when its calls have cleaned up, or have had their
        time for it. A crash is reported at once; an end that was asked for is reported when the
        agent has been closed.
        """
        for message in self.calls.waiting:
            self.calls.refuse(message, RefusalReason.STOPPING)
        goodbye = ActorEnded(
            member=self.member.name,
            incarnation=self.incarnation,
            expected=self._leaving,
            error=error,
            blameless=self._blameless,
        )
        if not self._leaving:
            self._tell_supervisor(goodbye)

        def closed() -> None:
            self.host.release()
            if self._home is not None:
                self._home.forget(self)
            if self._leaving:
                self._tell_supervisor(goodbye)
            # Last: who waits for it may count on all having been let go of.
            self.ended.set()

        def close() -> None:
            if self._leaving or self.member.factory is not None:
                self.host.close_agents(closed)
            else:
                closed()  # an agent that was handed over ready is the next incarnation's, too

        self._when_at_rest(close)

    def _cleans_up(self, call: Call) -> bool:
        """Whether it hears that it is to end: other code in a thread cannot be told, and is not
        waited for.
        """
        if call.executor is self.host.callers:
            lease: Lease | None = call.handle
            return lease is not None and lease.can_be_cut
        if call.executor is not self.host.threads or call.canceller is not None:
            return True
        return isinstance(call, AttemptCall) and call.writer is not None

    def _when_at_rest(self, close: Callable[[], None]) -> None:
        """Cancel what runs; `close` once that has ended, or its time is over."""
        # Never given back: the last call and the timer may come at once, and one of them closes.
        once = threading.Lock()
        calls: list[Call] = [*self.calls.running(), *self._probes.values()]
        # A thread of its own, since the actor has none that could keep an alarm.
        grace = threading.Timer(self.around.config.cancel_grace_s, lambda: act())
        grace.daemon = True

        def act() -> None:
            if once.acquire(blocking=False):
                grace.cancel()
                close()

        def look() -> None:  # runs wherever a call ends
            running: list[Call] = [*self.calls.running(), *self._probes.values()]
            if not any(map(self._cleans_up, running)):
                act()

        # Before anything is cancelled: each call that ends from here on looks if it was the last.
        self.calls.at_rest = look
        for call in calls:
            call.cancel(CancelReason.STOPPING)
        look()
        if not once.locked():
            try:
                # The last call may have ended since, and cancelled it: it ends at once then.
                grace.start()
            except RuntimeError:  # no thread to wait in: whoever still cleans up is not waited for
                act()

    def on_undelivered(self, message: Any) -> None:
        """An attempt that comes after the end has provably not started; an agent that comes then is
        known to nobody else. (Before it, something has raised, and what is to be cancelled is.)
        """
        if isinstance(message, Execute) and not self.calls.runs(message):
            self.calls.refuse(message, RefusalReason.STOPPING)
        elif isinstance(message, CancelExecution) and not self.actor_stopped.is_set():
            self._on_cancel(message)
        elif isinstance(message, _Made) and message.error is None and self.actor_stopped.is_set():
            self.host.close_agent(message.agent)
        elif isinstance(message, _Enter) and self.actor_stopped.is_set():
            self.host.close_agent(message.stay.manager)
