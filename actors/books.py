"""The router's books: the requests in flight, and how they end."""

from __future__ import annotations

import itertools
import random
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from greenroom.actors.answers import Answers
from greenroom.actors.base import AGAIN_S
from greenroom.actors.blame import Blame
from greenroom.actors.chronicle import Chronicle
from greenroom.actors.clock import Clock
from greenroom.actors.desk import Desk
from greenroom.actors.drain_rate import DrainRate
from greenroom.actors.drains import Drains
from greenroom.actors.duties import Duty, Role
from greenroom.actors.ending import Ending
from greenroom.actors.eventbus import EventBus
from greenroom.actors.jobs import Attempt, Job
from greenroom.actors.lending import LendingActor
from greenroom.actors.outbox import Outbox
from greenroom.actors.report import all_failed, interrupted, why_unroutable
from greenroom.actors.retry import RetryBudget, RetryPolicy
from greenroom.actors.strategies import RoutingStrategy
from greenroom.actors.table import RoutingTable, Slot
from greenroom.actors.waiting import WaitingQueue
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import Ticket
from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import RequestSettled


class Books(LendingActor):
    """What the router knows, and a request's last step: it leaves the books, and is answered.

    The first of nine floors: `Books`, `Admission`, `Routing`, `Failures`, `Trials`, `Attempts`,
    `Races`, `Streams`, and on top `PoolRouter`, the actor.
    """

    def __init__(
        self,
        *,
        name: str,
        strategy: RoutingStrategy,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
        desk: Desk,
    ) -> None:
        super().__init__(clock)
        self.duty = Duty(self.actor_urn, Role.ROUTER)
        self.name = name
        self.config = config
        self.bus = bus
        bus.pool_urn = self.actor_urn
        self.desk = desk
        self.ended = Ending()
        self._rng = rng
        self._supervisor: Any = None
        self._table = RoutingTable(strategy, rng)
        self._exhaustive = bool(getattr(strategy, "exhaustive", False))
        self._policy = RetryPolicy.from_config(config, exhaustive=self._exhaustive)
        self._budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
        self._outbox = Outbox(config, self.alarms)
        self._answers = Answers(name, bus)
        self._chronicle = Chronicle(name, bus)
        self._drain_rate = DrainRate()
        self._jobs: dict[str, Job] = {}
        self._queue = WaitingQueue(config.priority_ageing_s)
        self._attempts: dict[Ticket, Attempt] = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self._drains = Drains()

    def on_start(self) -> None:
        if self._table.treats_alike:  # a strategy of the app's own runs in this thread alone
            super().on_start()

    def _end(self, job: Job, answered: bool = False) -> None:
        """The request is done with; its answer follows."""
        if job.attempts:
            self._drain_rate.ended()
        if job.blame is not None:
            self._settle(job, job.blame, answered)
        self._forget(job)

    def _settle(self, job: Job, blame: Blame, answered: bool) -> None:
        """It is known now whose fault its failures were. The supervisor hears of it before the
        asker does, whose next request shall find the members as they are.
        """
        now = self.clock.now()
        if answered:
            for missing in blame.missing:
                slot = self._table.get(missing.member)
                if slot is not None:
                    kind, asked_s = FailureKind.NOT_FOUND, missing.retry_after_s
                    self._rest(slot, kind, missing.began, asked_s, now)
        elif blame.alike:
            for member, failures in blame.members.items():
                slot = self._table.get(member)
                if slot is not None:
                    slot.load.pardon(failures)
        if blame.counts:
            fault = None if answered else blame.kind
            everywhere = fault is None or not self._table.could_take(job.failures)
            settled = RequestSettled(request_id=job.id, kind=fault, everywhere=everywhere)
            self._outbox.settled(settled, answered, now)

    def _rest(
        self, slot: Slot, kind: FailureKind, began: float, retry_after_s: float | None, now: float
    ) -> bool:
        """Leave a member alone for a while, if its failure asks for it; whether that is new."""
        rests = bool(slot.rest.until)
        if not slot.rest_for(kind, now, began, retry_after_s, self._rng):
            return False
        until = slot.rest.until
        if slot.rest.is_news():
            wall = self.clock.wall() + until - now
            self._chronicle.resting(slot.name, kind, until - now, wall)
        if not rests:
            self.alarms.at(until, lambda: self._wake_up(slot))
        return not rests

    def _wake_up(self, slot: Slot) -> None:
        """The time has come at which a rest was to be over; if seeing to that raises, it comes
        again: nobody else would end it.
        """
        try:
            self._rest_over(slot)
        except BaseException:
            self.alarms.at(self.clock.now() + AGAIN_S, lambda: self._wake_up(slot))
            raise

    def _rest_over(self, slot: Slot) -> None:
        if self._table.get(slot.name) is not slot or not slot.rest.until:
            return
        announced = slot.rest.announced
        if not slot.rested(self.clock.now()):  # it has been prolonged meanwhile
            self.alarms.at(slot.rest.until, lambda: self._wake_up(slot))
            return
        if announced and slot.route.blocked is None:  # else it is its breaker that tells
            self._chronicle.rested(slot.name)
        self._pump()

    @abstractmethod
    def _pump(self) -> None:
        """Give waiting requests to whoever has become free."""

    def _forget(self, job: Job) -> None:
        """The request leaves the router's books."""
        self._jobs.pop(job.id, None)
        if job.cell is not None:
            self._queue.discard(job)
        job.cancel_alarms()

    def _check_idle(self) -> None:
        """Once the last request has been answered, whoever drains the pool is told."""
        if self._closed and not self._jobs:
            self._drains.done()

    def _fail(self, job: Job, error: BaseException) -> None:
        now = self.clock.now()
        try:
            self._end(job)
            if job.shown:
                error = interrupted(self.name, job, error)
        finally:  # whatever comes of its end, whoever asks is told
            self._tell_asker(job, error, self._answers.failure, now - job.accepted_at)
        self._check_idle()

    def _tell_asker(
        self,
        job: Job,
        error: BaseException,
        tell: Callable[[Job, BaseException, float], None],
        elapsed_s: float,
    ) -> None:
        """Answer with an error; in short, if what goes with it raises. The request is in no book
        any more, so nobody else would.
        """
        try:
            tell(job, error, elapsed_s)
        except BaseException:
            if job.future is not None:
                job.future.resolve(error=error)
            raise

    def _fail_unroutable(self, job: Job, now: float) -> None:
        waits = self.config.when_unavailable == "wait"
        reason = why_unroutable(job, self._table, waits, now)
        self._fail(job, all_failed(self.name, job, self._table, reason, now))
