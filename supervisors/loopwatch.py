"""The watch over the event loops: their heartbeats, who blocks them, and fresh ones."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from greenroom.actors.alarms import Alarm
from greenroom.actors.base import tell
from greenroom.actors.clock import SystemClock, Timer
from greenroom.actors.culprit import NOBODY, Culprit, culprit_of
from greenroom.actors.eventloops import loop_factory
from greenroom.actors.lending import hand
from greenroom.actors.loopthread import LoopThread
from greenroom.actors.surroundings import LoopLost, LoopSilent
from greenroom.messages.events import LoopRecovered, LoopReplaced, LoopStalled
from greenroom.messages.status import FailureKind
from greenroom.supervisors.heartbeat import Heartbeat, Step
from greenroom.supervisors.probing import Probing
from greenroom.supervisors.record import MemberRecord
from greenroom.supervisors.restart import RestartWindow


@dataclass(frozen=True, slots=True)
class _LoopStarted:
    """A loop has its first work: told from whichever thread brought it."""

    thread: LoopThread
    owner: str | None
    at: float


@dataclass(frozen=True, slots=True)
class _LoopAnswered:
    """A loop's answer to a heartbeat, told from that loop."""

    thread: LoopThread
    number: int


@dataclass(slots=True)
class _LookDue:
    """It is time to look at a loop: handed over by the clock's own thread.

    The loop is asked when the supervisor's turn is over, else its answer could not be handed over.
    So the clock's thread does it, or the supervisor if it has come to it later.

    Attributes:
        handed: whether the clock's thread is through with it.
        question: what the loop is to do; None as long as there is nothing to ask.
    """

    thread: LoopThread
    handed: bool = False
    question: Callable[[], object] | None = None


@dataclass(slots=True)
class _Watched:
    """A loop that runs; `owner` is the member that it belongs to alone."""

    thread: LoopThread
    owner: str | None
    heartbeat: Heartbeat
    alarm: Alarm | Timer | None = None
    culprit: Culprit = NOBODY


def _hand_look(supervisor: Any, thread: LoopThread) -> None:
    """Called by the clock's thread."""
    message = _LookDue(thread)
    hand(supervisor, message)
    message.handed = True
    if message.question is not None:
        thread.post(message.question)


class LoopWatch(Probing):
    """Has every loop that was started answer from time to time; replaces one that does not.

    A loop is watched from its first work on: none is started for the sake of its heartbeat.

    The looks are handed over by the clock's thread, and the answers by the loops': as a rule no
    supervisor wakes up for either. A thousand would be in the way of all else, every second.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._watched: dict[LoopThread, _Watched] = {}
        self._spread = random.Random()  # of its own: nothing is drawn from a seeded one for it
        self._unexplained = RestartWindow(
            self.config.restart_intensity, self.config.restart_period_s
        )
        self._shared = self._new_loop(None)
        self.handlers[_LoopStarted] = self._on_loop_started
        self.handlers[_LookDue] = self._on_look_due
        self.handlers[_LoopAnswered] = self._on_loop_answered

    def _new_loop(self, owner: str | None) -> LoopThread:
        """The pool's loop, or that of an isolated member alone; its thread starts on first use."""
        name = "loop" if owner is None else f"{owner}-loop"

        def told() -> None:
            hand(self.actor_ref, _LoopStarted(thread, owner, self.clock.now()))

        new_loop = loop_factory(self.config.event_loop)
        thread = LoopThread(
            f"greenroom-{self.pool}-{name}",
            told,
            new_loop,
            self.config.cancel_grace_s,
            self.router.actor_urn,
        )
        return thread

    def _on_loop_started(self, message: _LoopStarted) -> None:
        heartbeat = Heartbeat(
            self.config.loop_check_interval_s,
            self.config.loop_stalled_after_s,
            self.config.loop_replaced_after_s,
            message.at,
            self._part(),
        )
        watched = _Watched(message.thread, message.owner, heartbeat)
        self._watched[message.thread] = watched
        self._plan_look(watched)

    def _part(self) -> float:
        """How much of an interval passes where a heartbeat begins anew: by chance, so that those
        of many pools draw apart. By a clock that is moved by hand it is all of it: there is no
        crowd, and whoever moves it counts on that.
        """
        if self.clock.wait_s(self.clock.now()) is None:
            return 1.0
        return 1.0 - self._spread.random()

    def _plan_look(self, watched: _Watched) -> None:
        if watched.alarm is not None:
            watched.alarm.cancel()
        when = watched.heartbeat.next_look_at
        if isinstance(self.clock, SystemClock):
            watched.alarm = self.clock.at(
                when, functools.partial(_hand_look, self.actor_ref, watched.thread)
            )
        else:
            watched.alarm = self.alarms.at(when, lambda: self._look_and_ask(watched))

    def _on_look_due(self, message: _LookDue) -> None:
        watched = self._watched.get(message.thread)
        if watched is None:
            return
        message.question = self._look(watched)
        if message.handed and message.question is not None:
            watched.thread.post(message.question)

    def _look_and_ask(self, watched: _Watched) -> None:
        question = self._look(watched)
        if question is not None:
            watched.thread.post(question)

    def _look(self, watched: _Watched) -> Callable[[], object] | None:
        """What the loop is to be asked, if anything."""
        thread, now, question = watched.thread, self.clock.now(), None
        step = watched.heartbeat.look(now, self._part())
        if step is Step.PING:
            answer = _LoopAnswered(thread, watched.heartbeat.number)
            question = functools.partial(hand, self.actor_ref, answer)
        elif step is Step.STALLED:
            self._stalled(watched, now)
        elif step is Step.REPLACE:
            self._replace_loop(watched, now)
        if thread.ended or thread.lost:
            self._forget(watched)
        else:
            self._plan_look(watched)
        return question

    def _forget(self, watched: _Watched) -> None:
        if watched.alarm is not None:
            watched.alarm.cancel()
        self._watched.pop(watched.thread, None)

    def _residents(self, thread: LoopThread) -> list[MemberRecord]:
        """Those whose coroutines run there: the agent itself, or a probe or a hook alone."""
        records = self._records.values()
        return [each for each in records if each.loop is thread and each.ref is not None]

    # -- it does not answer

    def _stalled(self, watched: _Watched, now: float) -> None:
        watched.culprit = self._find_culprit(watched)
        watched.thread.stalled = True
        for record in self._residents(watched.thread):
            record.stalled = True
            record.blocks_loop = record.name == watched.culprit.member
            tell(record.ref, LoopSilent())
        self._news.append(
            LoopStalled(
                pool=self.pool,
                member=watched.culprit.member,
                request_id=watched.culprit.request_id,
                loop=watched.thread.name,
                stalled_s=watched.heartbeat.silent_s(now),
                where=watched.culprit.where,
                replaced_in_s=watched.heartbeat.replaced_in_s,
            )
        )
        self._publish()

    def _find_culprit(self, watched: _Watched) -> Culprit:
        """Who blocks it now; who did at first, if nobody can be seen any more."""
        found = culprit_of(watched.thread)
        if watched.owner is not None:
            return replace(found, member=watched.owner)
        return watched.culprit if found.member is None and watched.culprit.member else found

    def _on_loop_answered(self, message: _LoopAnswered) -> None:
        watched = self._watched.get(message.thread)
        if watched is None:
            return
        lasted_s = watched.heartbeat.answered(message.number, self.clock.now(), self._part())
        self._plan_look(watched)
        if lasted_s is not None:
            self._recovered(watched, lasted_s)

    def _recovered(self, watched: _Watched, lasted_s: float) -> None:
        culprit, watched.culprit = watched.culprit, NOBODY
        watched.thread.stalled = False
        for record in self._residents(watched.thread):
            record.moved(watched.thread)
        self._news.append(
            LoopRecovered(
                pool=self.pool,
                member=culprit.member,
                request_id=culprit.request_id,
                loop=watched.thread.name,
                stalled_s=lasted_s,
            )
        )
        self._publish()

    def _pardoned(self, record: MemberRecord, kind: FailureKind | None) -> FailureKind | None:
        """Who had no time because another member blocked the loop has not timed out."""
        waits = record.stalled and record.on_loop and not record.blocks_loop
        return FailureKind.INTERRUPTED if waits and kind is FailureKind.TIMEOUT else kind

    # -- it is given up

    def _replace_loop(self, watched: _Watched, now: float) -> None:
        """Give everybody there a fresh loop. The one who blocked it has crashed, nobody else has.

        Where nobody can be blamed, nobody can be given up: then the pool's loop is replaced as
        often as a member may be restarted, and is left as it is after that.
        """
        thread, culprit = watched.thread, self._find_culprit(watched)
        if culprit.member is None and not self._unexplained.add(now):
            error = TimeoutError(f"restart_intensity={self.config.restart_intensity} is exceeded")
            self.bus.complain_of(
                f"{thread.name} stalls again and again and is left as it is", error
            )
            return
        if thread is self._shared:
            self._shared = self._new_loop(None)
        thread.abandon()
        moved = []
        for record in self._residents(thread):
            if record.on_loop and record.name != culprit.member:
                moved.append(record.name)
            self._cut_off(record, culprit, watched.heartbeat.silent_s(now), now)
        self._news.append(
            LoopReplaced(
                pool=self.pool,
                member=culprit.member,
                request_id=culprit.request_id,
                loop=thread.name,
                stalled_s=watched.heartbeat.silent_s(now),
                moved=tuple(moved),
            )
        )
        self._publish()

    def _cut_off(self, record: MemberRecord, culprit: Culprit, silent_s: float, now: float) -> None:
        """An agent that lives there ends with its loop and is restarted; the others just move."""
        if record.probes is not None:
            record.probes.abandon(now)
        if record.name == culprit.member:
            where = f" at {culprit.where}" if culprit.where else ""
            reason = f"it blocked its event loop for {silent_s:.1f} s{where}"
            tell(record.ref, LoopLost(reason=reason, guilty=True))
        elif record.on_loop:
            tell(record.ref, LoopLost(reason="another one blocked its event loop"))
        else:
            tell(record.ref, LoopLost(fresh=self._shared))
            record.moved(self._shared)

    def _let_stalled_go(self) -> None:
        """At the end of the pool nobody waits for a loop that does not answer."""
        for watched in list(self._watched.values()):
            if watched.alarm is not None:
                watched.alarm.cancel()
            if watched.heartbeat.stalled:
                watched.thread.abandon()
                for record in self._residents(watched.thread):
                    tell(record.ref, LoopLost())
