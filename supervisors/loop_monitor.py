"""The watch over the event loops: their heartbeats, who blocks them, and fresh ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from greenroom.actors.member.surroundings import LoopGone, LoopLost, LoopSilent
from greenroom.actors.runtime.alarms import Alarm
from greenroom.actors.runtime.clock import Timer
from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.loop_blocker import NOBODY, Blocker
from greenroom.actors.runtime.loop_thread import AgentLoop, LoopThread
from greenroom.messages.events import LoopEnded, LoopRecovered, LoopReplaced, LoopStalled
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.policy.loop_heartbeat import Heartbeat, Step
from greenroom.supervisors.policy.restart_window import RestartWindow
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts


@dataclass(frozen=True, slots=True)
class LoopStarted:
    """A loop has its first work: told from whichever thread brought it."""

    thread: AgentLoop
    owner: str | None
    at: float


@dataclass(frozen=True, slots=True)
class LoopHasEnded:
    """The app's loop has: told from whichever thread has found out."""

    thread: HomeLoop


@dataclass(frozen=True, slots=True)
class LoopAnswered:
    """A loop's answer to a heartbeat, told from that loop."""

    thread: AgentLoop
    number: int


@dataclass(slots=True)
class LookDue:
    """It is time to look at a loop: handed over by the clock's own thread.

    The loop is asked when the supervisor's turn is over, else its answer could not be handed over.
    So the clock's thread does it, or the supervisor if it has come to it later.

    Attributes:
        handed: whether the clock's thread is through with it, or was never in it.
        question: what the loop is to answer; None as long as there is nothing to ask.
    """

    thread: AgentLoop
    handed: bool = False
    question: LoopAnswered | None = None


@dataclass(slots=True)
class _Watched:
    """A loop that runs; `owner` is the member that it belongs to alone."""

    thread: AgentLoop
    owner: str | None
    heartbeat: Heartbeat
    alarm: Alarm | Timer | None = None
    blocker: Blocker = NOBODY


class LoopMonitor:
    """Has every loop that was started answer from time to time; replaces one that does not.

    A loop is watched from its first work on: none is started for the sake of its heartbeat.

    The looks are handed over by the clock's thread, and the answers by the loops': as a rule no
    supervisor wakes up for either. A thousand would be in the way of all else, every second.

    Args:
        by_hand: whether the clock is moved by hand.
        new_loop: makes a member's own loop, or the shared one for None. It starts on first use, and
            has `started` called then.
        plan: has `look_due` called at a time, with a loop's `LookDue`.
        ask: has a loop answer: calls `answered` then.
        find_blocker: who blocks a loop.
        home: the app's own loop, if that is the shared one; it is never replaced.

    Attributes:
        shared: the loop of all who have none of their own.
    """

    def __init__(
        self,
        ports: SupervisorPorts,
        routes: RoutePublisher,
        *,
        by_hand: Callable[[], bool],
        new_loop: Callable[[str | None], LoopThread],
        plan: Callable[[float, AgentLoop], Alarm | Timer],
        ask: Callable[[LoopAnswered], object],
        find_blocker: Callable[[AgentLoop], Blocker],
        home: HomeLoop | None = None,
    ) -> None:
        self._records = routes.records
        self._ports = ports
        self._routes = routes
        self._by_hand = by_hand
        self._new_loop = new_loop
        self._plan = plan
        self._ask = ask
        self._blocker_of = find_blocker
        self._watched: dict[AgentLoop, _Watched] = {}
        self._spread = random.Random()  # of its own: nothing is drawn from a seeded one for it
        config = ports.config
        self._unexplained = RestartWindow(config.restart_intensity, config.restart_period_s)
        self.shared: AgentLoop = new_loop(None) if home is None else home

    def configure(self) -> None:
        """The settings have changed."""
        config = self._ports.config
        self._unexplained.configure(config.restart_intensity, config.restart_period_s)

    def started(self, message: LoopStarted) -> None:
        """Watch a loop from now on."""
        config = self._ports.config
        heartbeat = Heartbeat(
            config.loop_check_interval_s,
            config.loop_stalled_after_s,
            None if isinstance(message.thread, HomeLoop) else config.loop_replaced_after_s,
            message.at,
            self._part(),
        )
        # `LoopThread.stalled` reads it, from whichever thread asks.
        message.thread.heartbeat = heartbeat
        watched = _Watched(message.thread, message.owner, heartbeat)
        self._watched[message.thread] = watched
        self._plan_look(watched)

    def _part(self) -> float:
        """How much of an interval passes where a heartbeat begins anew: by chance, so that those
        of many pools draw apart. By a clock that is moved by hand it is all of it: there is no
        crowd, and whoever moves it counts on that.
        """
        if self._by_hand():
            return 1.0
        return 1.0 - self._spread.random()

    def _plan_look(self, watched: _Watched) -> None:
        if watched.alarm is not None:
            watched.alarm.cancel()
        watched.alarm = self._plan(watched.heartbeat.next_look_at, watched.thread)

    def look_due(self, message: LookDue) -> None:
        """It is time to look at a loop."""
        watched = self._watched.get(message.thread)
        if watched is None:
            return
        # Left in the message for the clock's thread, which asks when its hand-over is through.
        message.question = self._look(watched)
        if message.handed and message.question is not None:
            self._ask(message.question)

    def _look(self, watched: _Watched) -> LoopAnswered | None:
        """What the loop is to be asked for, if anything."""
        thread, now, question = watched.thread, self._ports.now(), None
        if not thread.can_answer():
            self._nobody_runs(watched, now)
            return None
        step = watched.heartbeat.look(now, self._part())
        if step is Step.PING:
            question = LoopAnswered(thread, watched.heartbeat.number)
        elif step is Step.STALLED:
            self._stalled(watched, now)
        elif step is Step.REPLACE:
            self._replace_loop(watched, now)
        # After the step: a loop that is replaced has been lost by this look.
        if thread.ended or thread.lost:
            self._forget(watched)
        else:
            self._plan_look(watched)
        return question

    def _nobody_runs(self, watched: _Watched, now: float) -> None:
        """An app's loop that stands still, or has ended."""
        lasted_s = watched.heartbeat.rest(now, self._part())
        if watched.thread.gone:
            self._forget(watched)
            self._move(watched.thread)  # what had still to hear of it there never will
        else:
            self._plan_look(watched)
        if lasted_s is not None:
            self._recovered(watched, lasted_s)

    def has_ended(self, message: LoopHasEnded) -> None:
        """The app's loop has, before the pool: who lives there goes on with one of the pool's."""
        thread = message.thread
        if self.shared is not thread:
            return
        self.shared = thread.successor
        moved = tuple(each.name for each in self._residents(thread) if each.on_loop)
        self._move(thread)
        self._ports.emit(LoopEnded(pool=self._ports.pool, loop=thread.name, moved=moved))
        self._routes.publish()

    def _move(self, thread: AgentLoop) -> None:
        """Tell all who are there, or have been: they end what they still have on it."""
        for record in self._records.values():
            if record.loop in (thread, thread.successor) and record.ref is not None:
                self._ports.tell(record, LoopGone(self.shared))
                record.moved(self.shared)

    def _forget(self, watched: _Watched) -> None:
        if watched.alarm is not None:
            watched.alarm.cancel()
        self._watched.pop(watched.thread, None)

    def _residents(self, thread: AgentLoop) -> list[MemberRecord]:
        """Those whose coroutines run there: the agent itself, or a probe or a hook alone."""
        records = self._records.values()
        return [each for each in records if each.loop is thread and each.ref is not None]

    # -- it does not answer

    def _stalled(self, watched: _Watched, now: float) -> None:
        # Now, while it can still be seen: at its replacement the thread may stand somewhere else.
        watched.blocker = self._find_blocker(watched)
        for record in self._residents(watched.thread):
            record.blocks_loop = record.name == watched.blocker.member
            self._ports.tell(record, LoopSilent())
        self._ports.emit(
            LoopStalled(
                pool=self._ports.pool,
                member=watched.blocker.member,
                request_id=watched.blocker.request_id,
                loop=watched.thread.name,
                stalled_s=watched.heartbeat.silent_s(now),
                where=watched.blocker.where,
                replaced_in_s=watched.heartbeat.replaced_in_s,
            )
        )
        self._routes.publish()

    def _find_blocker(self, watched: _Watched) -> Blocker:
        """Who blocks it now; who did at first, if nobody can be seen any more."""
        found = self._blocker_of(watched.thread)
        # On a loop of its own there is nobody else to blame, wherever it is stuck.
        if watched.owner is not None:
            return replace(found, member=watched.owner)
        return watched.blocker if found.member is None and watched.blocker.member else found

    def answered(self, message: LoopAnswered) -> None:
        """Take an answer in; it may end a silence."""
        watched = self._watched.get(message.thread)
        if watched is None:
            return
        lasted_s = watched.heartbeat.answered(message.number, self._ports.now(), self._part())
        self._plan_look(watched)
        if lasted_s is not None:
            self._recovered(watched, lasted_s)

    def _recovered(self, watched: _Watched, lasted_s: float) -> None:
        blocker, watched.blocker = watched.blocker, NOBODY
        for record in self._residents(watched.thread):
            record.blocks_loop = False
        self._ports.emit(
            LoopRecovered(
                pool=self._ports.pool,
                member=blocker.member,
                request_id=blocker.request_id,
                loop=watched.thread.name,
                stalled_s=lasted_s,
            )
        )
        self._routes.publish()

    # -- it is given up

    def _replace_loop(self, watched: _Watched, now: float) -> None:
        """Give everybody there a fresh loop. The one who blocked it has crashed, nobody else has.

        Where nobody can be blamed, nobody can be given up: then the pool's loop is replaced as
        often as a member may be restarted, and is left as it is after that.
        """
        thread, blocker = watched.thread, self._find_blocker(watched)
        if blocker.member is None and not self._unexplained.add(now):
            limit = self._ports.config.restart_intensity
            error = TimeoutError(f"restart_intensity={limit} is exceeded")
            what = f"{thread.name} stalls again and again and is left as it is"
            self._ports.complain_of(what, error)
            return
        if thread is self.shared:
            # Before anybody is cut off: those that just move are given this one.
            self.shared = self._new_loop(None)
        thread.abandon()
        moved = []
        for record in self._residents(thread):
            # Who only has a probe or a hook there (a sync agent) goes on without a restart.
            if record.on_loop and record.name != blocker.member:
                moved.append(record.name)
            self._cut_off(record, blocker, watched.heartbeat.silent_s(now), now)
        self._ports.emit(
            LoopReplaced(
                pool=self._ports.pool,
                member=blocker.member,
                request_id=blocker.request_id,
                loop=thread.name,
                stalled_s=watched.heartbeat.silent_s(now),
                moved=tuple(moved),
            )
        )
        self._routes.publish()

    def _cut_off(self, record: MemberRecord, blocker: Blocker, silent_s: float, now: float) -> None:
        """An agent that lives there ends with its loop and is restarted; the others just move."""
        # Its probe ran on that loop, or may have: no answer will come.
        if record.probes is not None:
            record.probes.abandon(now)
        if record.name == blocker.member:
            where = f" at {blocker.where}" if blocker.where else ""
            reason = f"it blocked its event loop for {silent_s:.1f} s{where}"
            self._ports.tell(record, LoopLost(reason=reason, guilty=True))
        elif record.on_loop:
            self._ports.tell(record, LoopLost(reason="another one blocked its event loop"))
        else:
            self._ports.tell(record, LoopLost(fresh=self.shared))
            record.moved(self.shared)

    def let_stalled_go(self) -> None:
        """At the end of the pool nobody waits for a loop that does not answer."""
        for watched in list(self._watched.values()):
            if watched.alarm is not None:
                watched.alarm.cancel()
            if watched.heartbeat.stalled or not watched.thread.can_answer():
                watched.thread.abandon()
                for record in self._residents(watched.thread):
                    self._ports.tell(record, LoopLost())
