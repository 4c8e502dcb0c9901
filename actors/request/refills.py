"""Requests and the rate limits of members: what they take, and the alarms of what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import QUEUED, Attempt, Job
from greenroom.actors.request.waiting_room import WaitingRoom
from greenroom.actors.routing.headroom import NOTHING, Bucket, Charge, Costs
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.routing.selection import TermsKey
from greenroom.actors.runtime.alarms import AGAIN_S, Alarm
from greenroom.messages.execution import LimitsSeen
from greenroom.messages.limits import REQUESTS
from greenroom.messages.shared_limits import (
    LeaseGranted,
    LeaseRefused,
    LeaseWanted,
    LimitHeard,
    LimitTold,
)
from greenroom.messages.supervision import RoutingSnapshot

LOOK_AHEAD = 256
"""So many of those that wait are looked at for one that costs less than who waits before it, and
for the one that costs most.
"""


@dataclass(slots=True, eq=False, repr=False)
class Refills:
    """Takes from the limits of members what begins there, settles it, and has those that wait for
    headroom looked at when there is some.

    Args:
        over: called when members may have headroom again.
    """

    _ports: FlowPorts
    _table: RoutingTable
    _room: WaitingRoom
    _over: Callable[[], None]
    # For what is not only calls: when the first one of those that wait fits.
    _alarm: Alarm | None = field(init=False, default=None)
    # Those that it is set for, by their terms.
    _least: dict[TermsKey | None, list[Costs]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._table.headroom.dry = self._dry
        self._table.headroom.watch = self._watch

    def share_by(self, lend: Callable[[LeaseWanted | LimitTold], object]) -> None:
        """Have the limits together with other processes. To be called before there are members.

        Args:
            lend: is asked for parts of them, and told what is learned of them, and must not wait;
                its answers come by `lent`, what others have learned by `heard`.
        """
        self._table.headroom.lend = self._table.headroom.tell = lend

    def members_changed(self, snapshot: RoutingSnapshot) -> None:
        """The table has taken a snapshot over."""
        headroom = self._table.headroom
        if headroom.concerns(snapshot.members):
            self._least.clear()  # some may fit earlier than the alarm is set for
            headroom.sync(self._table, self._ports.now())

    # -- an attempt begins, and ends

    def reserve(self, job: Job, slot: Slot, now: float) -> Charge | None:
        """Take what a request costs; None where the member has no headroom for it after all."""
        return self._table.headroom.reserve(slot, costs_of(job), now)

    def ended(self, attempt: Attempt, spent: Costs | None, began: bool = True) -> None:
        """An attempt is over: of what it has not used, its member has headroom again.

        Args:
            spent: what its agent has said that it took; None if it has said nothing.
            began: whether its agent may have begun; if not, it has used nothing.
        """
        charge, attempt.charge = attempt.charge, None
        if not charge:
            return
        self._least.clear()
        if not began and spent is None:
            self._table.headroom.give_back(charge, self._ports.now())
        elif spent is not None:
            self._table.headroom.settle(charge, spent, self._ports.now())

    def undone(self, attempt: Attempt) -> None:
        """An attempt has never been sent: who waits may have its headroom."""
        if attempt.charge:
            self.ended(attempt, None, began=False)
            if self._room.queue.size:
                self._ports.at(self._ports.now(), self._over)

    def seen(self, message: LimitsSeen, attempt: Attempt | None) -> None:
        """A provider has said what is left."""
        slot, now = self._table.get(message.member), self._ports.now()
        self._least.clear()
        if slot is not None:
            self._table.headroom.learn(
                slot,
                message.cost,
                message.remaining,
                max(0.0, message.resets_in_s - (now - message.at)),
                message.whole,
                None if attempt is None else attempt.charge,
                now,
            )

    def forget(self, name: str | None) -> None:
        """What providers have said of a member's limits counts no more; None means all of them."""
        self._least.clear()
        self._table.headroom.forget_learned(name, self._ports.now())

    # -- limits that processes have together

    def lent(self, answer: LeaseGranted | LeaseRefused) -> None:
        """Who lends has answered."""
        if self._table.headroom.answered(answer, self._ports.now()):
            self._least.clear()
            self._over()

    def give_back_leases(self) -> None:
        """The pool ends: what it holds of limits is for others."""
        self._table.headroom.end(self._ports.now())

    def heard(self, message: LimitHeard) -> None:
        """Other processes have learned something of a member's limit."""
        slot = self._table.get(message.member)
        if slot is not None:
            self._table.headroom.hear(slot, message, self._ports.now())
            self._least.clear()
            self._over()

    def _watch(self, bucket: Bucket) -> None:
        """A budget has something to do at a time: an alarm for it."""
        at = math.inf if bucket.budget is None else bucket.budget.next_at()
        if at < (math.inf if bucket.lease_at is None else bucket.lease_at):
            bucket.lease_at = at
            self._ports.at(at, lambda: self._lease_due(bucket, at))

    def _lease_due(self, bucket: Bucket, at: float) -> None:
        if bucket.lease_at != at:  # there was an earlier one, which has seen to it
            return
        bucket.lease_at = None
        try:
            if self._table.headroom.tick(bucket, self._ports.now(), self._awaited(bucket)):
                self._least.clear()
                self._over()
        except BaseException:
            self._ports.at(self._ports.now() + AGAIN_S, lambda: self._watch(bucket))
            raise

    def _awaited(self, bucket: Bucket) -> float:
        """The most that one of those that wait would take from it; 0 where nobody does."""
        queue = self._room.queue
        if bucket.cost == REQUESTS:
            return min(queue.size, 1)
        if queue.size > LOOK_AHEAD:
            return math.inf
        return max((bucket.price(costs_of(job)) or 1 for job in queue), default=0)

    # -- requests wait for headroom

    def awaits(self, job: Job, now: float) -> None:
        """A request waits, and costs more than a call: see when the first member fits it. For the
        first that waits, that member's headroom is held.
        """
        headroom, costs = self._table.headroom, costs_of(job)
        first, lane = self._room.queue.first() is job, _terms_of(job)
        covered = _is_alike(job) and self._is_covered(self._least, job)
        if not first and covered:
            return
        if first and headroom.holds_for_another(job):
            # It has come in before the one that was first, for which may be held what it needs.
            headroom.hold(job, "", costs)
            self._ports.at(now, self._over)
        barred = self._table.eligible(job.terms).barred
        refills = [
            (at, slot)
            for at, slot in headroom.refills(self._table, costs, now, job)
            if slot.name not in barred
        ]
        # A tried one will do where nobody else comes.
        times = [each for each in refills if each[1].name not in job.failures] or refills
        if not times:
            return
        at, slot = min(times, key=lambda each: each[0])
        if first:
            headroom.hold(job, slot.name, costs)
        if _is_alike(job) and not covered:
            self._least.setdefault(lane, []).append(costs)
        if self._alarm is None or at < self._alarm.when:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self._ports.at(max(at, now), self._ring)

    def lighter(self, first: Job) -> Iterator[Job]:
        """Those behind the first that waits which cost less than all before them that have found
        nobody, or may go to others than these: they may find somebody. To be offered to the members
        one by one, while these have room; where it is turns that say who is served, by turns.
        """
        stuck: dict[TermsKey | None, list[Costs]] = {}
        self._note_stuck(stuck, first)
        looks = 0

        def may(job: Job) -> bool:
            nonlocal looks
            looks += 1
            if looks > LOOK_AHEAD or job is first or not _is_alike(job):
                return False
            return not self._is_covered(stuck, job)

        fair = self._room.fair
        # One by one of a fair queue, since whoever is served may have had the turn of its key.
        in_turn = None if fair is None else iter(partial(fair.first_that, may), None)
        for job in filter(may, self._room.queue) if in_turn is None else in_turn:
            yield job
            self._note_stuck(stuck, job)
            if looks > LOOK_AHEAD or not self._table.has_room():
                return

    def _note_stuck(self, stuck: dict[TermsKey | None, list[Costs]], job: Job) -> None:
        if job.phase is QUEUED and _is_alike(job):
            stuck.setdefault(_terms_of(job), []).append(costs_of(job))

    def _is_covered(self, those: dict[TermsKey | None, list[Costs]], job: Job) -> bool:
        """Whether one of those costs no more, and may go to whomever this one may go to."""
        costs, lane = costs_of(job), _terms_of(job)
        if lane is not None and _any_below(those.get(None, ()), costs):
            return True
        return _any_below(those.get(lane, ()), costs)

    def _ring(self) -> None:
        self._alarm = None
        self._least.clear()
        self._over()

    # -- a member that has nothing left

    def _dry(self, bucket: Bucket) -> None:
        """Nothing is left of a limit: an alarm for the time at which something is again."""
        at = bucket.refills_at
        if bucket.alarm_at is None or at < bucket.alarm_at:
            bucket.alarm_at = at
            self._ports.at(at, lambda: self._due(bucket))

    def _due(self, bucket: Bucket) -> None:
        """It may be; if seeing to that raises, it comes again: nobody else would let the members
        in.
        """
        bucket.alarm_at = None
        try:
            # Where it is not yet, since more was taken than had been reserved, that sets the next.
            self._table.headroom.review(bucket, self._ports.now())
            self._over()
        except BaseException:
            self._ports.at(self._ports.now() + AGAIN_S, lambda: self._due(bucket))
            raise


def costs_of(job: Job) -> Costs:
    """What a request costs beside the call; whole numbers, as it was checked when it was made."""
    return job.work.cost or NOTHING  # type: ignore[return-value]


def _terms_of(job: Job) -> TermsKey | None:
    return None if job.terms is None else job.terms.key


def _is_alike(job: Job) -> bool:
    """Whether all that tells it from others is its terms and its costs."""
    return not job.failures and job.trial is None


def _any_below(those: Sequence[Costs], costs: Costs) -> bool:
    """Whether one of those costs no more of anything: where that finds nobody, nor does this."""
    for each in those:  # not by any() and all(), which take three times as long
        for name, amount in each.items():
            if costs.get(name, 0) < amount:
                break
        else:
            return True
    return False
