"""The watch over the members: their records, their breakers' changes, the routing table."""

from __future__ import annotations

import random
from typing import Any

from greenroom.actors.alarms import Alarm
from greenroom.actors.base import tell
from greenroom.actors.clock import Clock, pauses_of
from greenroom.actors.duties import Duty, Role
from greenroom.actors.eventbus import EventBus, complain
from greenroom.actors.lending import LendingActor
from greenroom.actors.mailbox import Tick
from greenroom.messages.config import PoolConfig
from greenroom.messages.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    HealthChanged,
    PoolPaused,
)
from greenroom.messages.status import CircuitState
from greenroom.messages.supervision import RoutingSnapshot, TableWanted
from greenroom.supervisors.breaker import Transition
from greenroom.supervisors.record import MemberRecord

AGAIN_S = 1.0
"""How long until what could not be done is tried again."""


class _HasNews:
    """The supervisor's word to itself that there is something to announce."""

    __slots__ = ()


class Watch(LendingActor):
    """What the supervisor knows, what it tells the router, what it announces.

    The first of five floors: `Watch`, `Probing`, `LoopWatch`, `Judging`, and on top
    `PoolSupervisor`, the actor.
    """

    def __init__(
        self,
        *,
        pool: str,
        router: Any,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
    ) -> None:
        super().__init__(clock)
        self.duty = Duty(router.actor_urn, Role.SUPERVISOR)
        self.pool = pool
        self.router = router
        self.config = config
        self.bus = bus
        self._rng = rng
        self._records: dict[str, MemberRecord] = {}
        self._epoch = 0
        self._review_alarm: Alarm | None = None
        self._news: list[Event] = []
        self._pauses = pauses_of(clock)
        self.handlers[_HasNews] = lambda _: None
        self.handlers[TableWanted] = lambda _: self._publish()
        if self._pauses is not None:
            self._pauses.tell_pauses(self._announce_pause)

    def _handle_receive(self, message: Any) -> Any:
        """Handle a message; what there is to announce is announced when the router knows it."""
        try:
            return super()._handle_receive(message)
        finally:
            try:
                self._announce_news()
            except BaseException as error:  # nobody waits for them
                complain("the news could not be told", error)

    def on_handed(self, message: Any) -> None:
        """Handle a message in its sender's thread. News are still announced in this actor's own:
        who hears them may be slow.
        """
        super().on_handed(message)
        if self._news:
            tell(self.actor_ref, _HasNews())

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """Whatever a message was about: how things stand is found out and told anew, at once."""
        complain(f"the supervisor of pool {self.pool!r} failed at a message", error)
        if type(message) is not Tick:  # else `_review` has seen to it, if it was that
            self._review_soon(0.0)
        return False

    def _review_soon(self, delay_s: float) -> None:
        if self._review_alarm is not None:
            self._review_alarm.cancel()
        self._review_alarm = self.alarms.at(self.clock.now() + delay_s, self._review)

    def never_started(self) -> None:
        super().never_started()
        self._hear_no_pauses()

    def on_stop(self) -> None:
        super().on_stop()
        self._hear_no_pauses()
        self._emit(self._take_news())  # the word of it would come too late

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._hear_no_pauses()

    def _hear_no_pauses(self) -> None:
        if self._pauses is not None:
            self._pauses.tell_no_more(self._announce_pause)

    def _announce_pause(self, lasted_s: float) -> None:
        """Called by the clock, in its own thread: a thousand pools need not all be woken for it, on
        a machine that has just had too much to do perhaps.
        """
        self.bus.emit(PoolPaused(pool=self.pool, lasted_s=lasted_s))

    def _announce_news(self) -> None:
        with self._turn:
            news = self._take_news()
        self._emit(news)

    def _take_news(self) -> list[Event]:
        news, self._news = self._news, []
        return news

    def _emit(self, news: list[Event]) -> None:
        for event in news:
            try:
                self.bus.emit(event)
            except BaseException as error:  # the others are news, too
                complain("an event could not be told", error)

    def _publish(self, *changed: MemberRecord) -> None:
        """Tell the router how things stand, with all members or only with those that have changed:
        among thousands that is the difference between a millisecond and a tenth of a second.
        """
        now = self.clock.now()
        self._epoch += 1
        if changed:
            here = [each for each in changed if self._records.get(each.name) is each]
            routes = tuple(record.route(now) for record in here)
            gone = tuple(each.name for each in changed if each.name not in self._records)
            since = self._epoch - 1
            tell(self.router, RoutingSnapshot(self._epoch, routes, since=since, gone=gone))
        else:
            routes = tuple(record.route(now) for record in self._records.values())
            tell(self.router, RoutingSnapshot(self._epoch, routes))
        self._plan_review(*changed)

    def _plan_review(self, *changed: MemberRecord) -> None:
        """Have a look when time alone has something to say, of all or of those that have changed.
        In that case the look that was planned may come too early, which does no harm.
        """
        now = self.clock.now()
        times = (record.next_event_at(now) for record in changed or self._records.values())
        when = min((at for at in times if at is not None), default=None)
        if self._review_alarm is not None:
            if changed and (when is None or when >= self._review_alarm.when):
                return
            if self._review_alarm.when == when:
                return
            self._review_alarm.cancel()
        self._review_alarm = None if when is None else self.alarms.at(when, self._review)

    def _current(self, name: str, incarnation: int) -> MemberRecord | None:
        record = self._records.get(name)
        return record if record is not None and record.incarnation == incarnation else None

    def _announce(self, record: MemberRecord, transition: Transition | None, why: str = "") -> None:
        """Log a breaker's change of state, and have the probes follow it."""
        if transition is None:
            return
        now = self.clock.now()
        reopens_at = transition.reopens_at
        match transition.after:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                self._news.append(
                    BreakerOpened(
                        pool=self.pool,
                        member=record.name,
                        reason=transition.reason + why,
                        reopens_in_s=None if reopens_at is None else max(0.0, reopens_at - now),
                    )
                )
            case CircuitState.HALF_OPEN:
                trial = "its probe" if record.probes is not None else "one request"
                self._news.append(
                    BreakerHalfOpened(pool=self.pool, member=record.name, trial=trial)
                )
            case CircuitState.CLOSED | CircuitState.DISABLED:
                self._news.append(
                    BreakerClosed(pool=self.pool, member=record.name, reason=transition.reason)
                )
        self._steer_probes(record, transition, now)
        self._review_health(record)

    def _steer_probes(self, record: MemberRecord, transition: Transition, now: float) -> None:
        if record.probes is None:
            return
        match transition.after:
            case CircuitState.OPEN if transition.reopens_at is not None:
                record.probes.hold_until(transition.reopens_at)
            case CircuitState.HALF_OPEN:
                record.probes.hurry(now)
            case CircuitState.FORCED_OPEN | CircuitState.DISABLED:
                record.probes.hold_until(float("inf"))
            case _:
                record.probes.resume(now)

    def _review_health(self, record: MemberRecord) -> None:
        now = self.clock.now()
        after = record.health.status(now, record.breaker.state)
        before, record.status = record.status, after
        if before is not after:
            self._news.append(
                HealthChanged(
                    pool=self.pool,
                    member=record.name,
                    before=before,
                    after=after,
                    error_rate=record.health.error_rate(now),
                )
            )
            self._plan_review(record)

    def _review(self) -> None:
        """Do for every member what time alone asks for. If that raises, it is done again: nothing
        else would end an opening or a rest.
        """
        self._review_alarm = None
        try:
            now = self.clock.now()
            for record in list(self._records.values()):
                self._review_member(record, now)
            self._publish()
        except BaseException:
            self._review_soon(AGAIN_S)
            raise

    def _review_member(self, record: MemberRecord, now: float) -> None:
        """Let time pass for one member: its breaker first, then whatever else a floor adds."""
        self._announce(record, record.breaker.tick(now))
