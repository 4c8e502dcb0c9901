"""The rate limits of members: what of them is used, who lacks headroom, when there is some. Pure.

The router keeps them, as it does the rests of members, since the very next request must know.
Whatever begins is taken from the limits before its member hears of it, in one step with the look
whether it fits: so no limit is ever over, whatever else is under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from greenroom.actors.policy.budget import Budget, Spent
from greenroom.actors.policy.learned_limit import LearnedLimit
from greenroom.actors.policy.learned_pace import FORGOTTEN_S, ODD_CALLS, LearnedPace, first_guess
from greenroom.actors.policy.sliding_window import Entry, SlidingWindow
from greenroom.messages.limits import REQUESTS, Limit, LimitStats
from greenroom.messages.shared_limits import (
    BucketKey,
    LeaseGranted,
    LeaseRefused,
    LeaseWanted,
    LimitHeard,
    LimitTold,
)
from greenroom.messages.status import SkipReason
from greenroom.messages.supervision import MemberRoute

if TYPE_CHECKING:
    from greenroom.actors.routing.slot import Slot

Costs = Mapping[str, int]
NOTHING: Costs = {}

NOBODY: frozenset[str] = frozenset()

TELL_S = 0.5
"""How often others are told, at most, what a provider says is left; that nothing is, at once."""

_WAITABLE = (None, SkipReason.HEADROOM, SkipReason.SATURATED)
"""What keeps a member from a request that it lacks headroom for, and passes."""


class Taken(NamedTuple):
    """What a call has taken from one bucket.

    Attributes:
        mark: the bucket's counter right after it.
    """

    bucket: Bucket
    entry: Entry | Spent | None
    cost: int
    mark: int


Charge = tuple[Taken, ...]
"""What a call has taken from all limits of its member: to be settled, or given back, once."""


class Bucket:
    """One limit of a member, or of several together: what is declared, and what is learned of it.

    Attributes:
        cost: the name of what it limits.
        group: of the members that have it together; None where it is one's own.
        window: what is declared; None where all is learned.
        budget: the window, where processes have the limit together; else None.
        learned: what the provider has said last; None before that.
        pace: what its refusals have taught; None before the first of them.
        slots: the members that have it.
        mark: how much has ever been taken from it: a counter.
        refills_at: when there is something left again; 0.0 while there is.
        alarm_at: the time of the alarm that is set for that; None without one.
        lease_at: the time of the alarm that is set for the budget; None without one.
        learned_at: when a provider has said what is left, be it to another process.
        among: how many processes use it, as far as is known.
        told_at: when others were told last what is left.
        others: the paces of other processes, and how many they are; None where none has one.
    """

    __slots__ = (
        "alarm_at",
        "among",
        "budget",
        "cost",
        "group",
        "learned",
        "learned_at",
        "lease_at",
        "mark",
        "others",
        "pace",
        "refills_at",
        "slots",
        "told_at",
        "window",
    )

    def __init__(self, cost: str, group: str | None, window: SlidingWindow | None) -> None:
        self.cost = cost
        self.group = group
        self.window: SlidingWindow | Budget | None = window
        self.budget: Budget | None = None
        self.learned: LearnedLimit | None = None
        self.pace: LearnedPace | None = None
        self.slots: list[Slot] = []
        self.mark = 0
        self.refills_at = 0.0
        self.alarm_at: float | None = None
        self.lease_at: float | None = None
        self.learned_at = self.told_at = -math.inf
        self.among = 1
        self.others: tuple[float, int] | None = None

    def limited_by(self, window: SlidingWindow | Budget) -> None:
        """Have another window, of this process alone or together with others."""
        self.window = window
        self.budget = window if isinstance(window, Budget) else None

    def price(self, costs: Costs) -> int:
        """What a request takes from it."""
        return 1 if self.cost == REQUESTS else costs.get(self.cost, 0)

    def allows(self, cost: int, now: float) -> bool:
        """Whether so much may begin now. Not even what costs nothing does while nothing is left."""
        window, learned = self.window, self.learned
        cost = cost or 1
        if window is not None and window.headroom(now) < cost:
            return False
        if self.pace is not None and not self.pace.allows(now):
            return False
        return learned is None or learned.allows(cost, now)

    def is_unknown(self, cost: int, now: float) -> bool:
        """Whether so much may not begin just now, and nobody knows yet that it may not: who lends
        is being asked. Who wants it waits for that, and goes to nobody else.
        """
        budget, cost = self.budget, cost or 1
        if budget is None or not budget.is_unknown(cost, now):
            return False
        if self.pace is not None and not self.pace.allows(now):
            return False
        return self.learned is None or self.learned.allows(cost, now)

    def take(self, cost: int, now: float) -> Taken:
        """It begins."""
        entry = None if self.window is None else self.window.take(cost, now)
        if self.learned is not None:
            self.learned.take(cost, now)
        if self.pace is not None:
            self.pace.take(now)
        self.mark += cost
        return Taken(self, entry, cost, self.mark)

    def change(self, taken: Taken, by: int) -> None:
        """What has begun took so much more, or less."""
        window, entry = self.window, taken.entry
        if isinstance(entry, Spent):  # of another kind: the limit was shared then, or is now
            if self.budget is not None:
                self.budget.change(entry, by)
        elif entry is not None and isinstance(window, SlidingWindow):
            window.change(entry, by)
        # Else the provider has counted it already when it said what is left.
        if self.learned is not None and taken.mark > self.learned.mark:
            self.learned.change(by)

    def free_at(self, cost: int, now: float) -> float | None:
        """When so much may begin, if nothing else does before; None: never."""
        cost, at = cost or 1, now
        if self.window is not None:
            free_at = self.window.free_at(cost, now)
            if free_at is None:
                return None
            at = free_at
        if self.learned is not None:
            at = max(at, self.learned.free_at(cost, now))
        if self.pace is not None:
            at = max(at, self.pace.free_at(now))
        return at

    def headroom(self, now: float) -> float:
        """How much may begin now."""
        left = math.inf if self.window is None else self.window.headroom(now)
        if self.pace is not None:
            left = min(left, self.pace.headroom(now))
        return left if self.learned is None else min(left, self.learned.headroom(now))

    def stats(self, now: float) -> LimitStats | None:
        """What a user may know; None of one of which nothing is known any more."""
        left, window = self.headroom(now), self.window
        if left == math.inf:
            return None
        whole = None if self.learned is None else self.learned.whole
        pace = self.pace if self.pace is not None and not self.pace.is_forgotten(now) else None
        whole = whole if window is None else window.amount
        return LimitStats(
            cost=self.cost,
            limit=whole,
            per_s=None if window is None else window.per_s,
            used=None if window is None else window.used,
            headroom=math.floor(left),
            refills_in_s=max(0.0, self.refills_at - now),
            group=self.group,
            pace_per_s=None if pace is None else pace.per_s,
            shared=self.budget is not None and not self.budget.own,
        )


Key = BucketKey


class Asker(Protocol):
    """A request; `cell` is None while it does not wait."""

    @property
    def cell(self) -> object: ...


class _Hold(NamedTuple):
    """What the first that waits shall have of a member's limits, as soon as they hold so much."""

    asker: Asker
    name: str
    costs: Costs


class Headroom:
    """All limits of a pool's members.

    Args:
        dry: told of each bucket of which nothing is left; its `refills_at` says until when.
        lend: asked for parts of limits that processes have together; None where nobody shares.
        tell: told what is learned of limits; None where nobody shares.
        watch: told of each bucket whose budget has something to do at a time: its `next_at`.

    Attributes:
        limited: whether there is any limit at all.
        weighs: whether one limits anything but calls: then requests are not alike.
        largest: the largest cost of a request so far that a member can hold, by the name of the
            cost. Read only.
        tight: the members that have less than that left. Read only.
        giants: whether there was a request that costs more than any limit holds. Read only.
    """

    def __init__(self) -> None:
        self.limited = self.weighs = False
        self.dry: Callable[[Bucket], object] = lambda bucket: None
        self.lend: Callable[[LeaseWanted], object] | None = None
        self.tell: Callable[[LimitTold], object] | None = None
        self.watch: Callable[[Bucket], object] = lambda bucket: None
        self._buckets: dict[Key, Bucket] = {}
        self._known: list[tuple[Slot, tuple[Limit, ...]]] = []
        self._learned: dict[tuple[str, str], Bucket] = {}
        # So that a request is held against those members alone that may lack headroom for one like
        # it: the largest cost seen, and who has less than that left.
        self.largest: dict[str, int] = {}
        self.giants = False
        self._seen: dict[str, int] = {}
        self._weighed: list[Slot] = []
        self.tight: set[Slot] = set()
        self._hold: _Hold | None = None
        # When a member was last refused without teaching anything.
        self._odd_at: dict[str, float] = {}

    # -- who has which

    def concerns(self, routes: Iterable[MemberRoute]) -> bool:
        """Whether a change of the members is to be told by `sync`."""
        return self.limited or any(route.limits for route in routes)

    def sync(self, slots: Iterable[Slot], now: float) -> None:
        """The members have changed, or their limits. What has been taken stays: under another
        amount or another window, and for whoever comes back under the name of one that has left.
        """
        present = list(slots)
        known = [(slot, slot.route.limits) for slot in present]
        if known == self._known:  # a breaker's state, say: as nearly always
            return
        names = {slot.name for slot in present}
        self._odd_at = {name: at for name, at in self._odd_at.items() if name in names}
        wanted = _wanted(present)
        before = self._buckets
        unused = [key for key in before if key not in wanted]
        buckets: dict[Key, Bucket] = {}
        for key, limit in wanted.items():
            bucket = before.get(key) or self._successor(key, limit, unused)
            self._limit(bucket, key, limit, now)
            buckets[key] = bucket
        self._learned = {key: each for key, each in self._learned.items() if key[0] in names}
        for key in unused:  # kept as long as what has begun there counts
            bucket = before[key]
            bucket.slots = []
            if bucket.window is None:
                continue
            bucket.window.headroom(now)  # what counts no more leaves it
            # Not by what is used: what has begun for nothing may still say what it took.
            if len(bucket.window):
                buckets[key] = bucket
        self._buckets = buckets
        self._hand_out(present, now)
        self._known = known  # last: what raises half way is done anew

    def _successor(self, key: Key, limit: Limit, unused: list[Key]) -> Bucket:
        """The bucket of a limit that is new: that of one of the same owner and cost which is not
        wanted any more, else a new one.
        """
        for old in unused:
            if old[:3] == key[:3]:
                unused.remove(old)
                return self._buckets[old]
        bucket = None if limit.group is not None else self._learned.pop((key[1], key[2]), None)
        if bucket is None:
            bucket = Bucket(limit.cost, limit.group, None)
        bucket.window = SlidingWindow(limit.amount, limit.per_s)
        return bucket

    def _limit(self, bucket: Bucket, key: Key, limit: Limit, now: float) -> None:
        """Have a bucket go by what is declared; what has been spent stays."""
        window, budget = bucket.window, bucket.budget
        assert window is not None
        if self.lend is None or limit.per_process:
            if isinstance(window, Budget):
                bucket.limited_by(window.alone_from_now())
        elif budget is None or budget.key != key:
            log = window.alone_from_now() if isinstance(window, Budget) else window
            budget = Budget(key, limit.amount, limit.per_s, lambda asked: self._ask(bucket, asked))
            budget.adopt(log, now)
            bucket.limited_by(budget)
        window = bucket.window
        assert window is not None
        window.amount, window.per_s = limit.amount, limit.per_s

    def _hand_out(self, slots: Iterable[Slot], now: float) -> None:
        for bucket in (*self._buckets.values(), *self._learned.values()):
            bucket.slots = []
        for slot in slots:
            own = [self._buckets[_key(slot.name, limit)] for limit in slot.route.limits]
            costs = {bucket.cost for bucket in own}
            for (name, cost), bucket in list(self._learned.items()):
                if name == slot.name and cost not in costs:
                    own.append(bucket)
            # The shortest window first: what providers say is of that one.
            own.sort(key=lambda bucket: bucket.window.per_s if bucket.window else math.inf)
            slot.buckets = tuple(own)
            for bucket in own:
                bucket.slots.append(slot)
        self._note_kinds(slots)
        for bucket in (*self._buckets.values(), *self._learned.values()):
            if bucket.slots:
                self.review(bucket, now)
        for slot in slots:
            slot.refilled()  # of one that has lost its limits, too

    def _note_kinds(self, slots: Iterable[Slot]) -> None:
        self.limited = bool(self._buckets or self._learned)
        self._weighed = [
            slot for slot in slots if any(each.cost != REQUESTS for each in slot.buckets)
        ]
        self.weighs = bool(self._weighed)
        self.tight = set(self._weighed)
        self._size_up()

    # -- something begins, and ends

    def reserve(self, slot: Slot, costs: Costs, now: float) -> Charge | None:
        """Take what a request costs from all limits of a member; None, and nothing is taken, where
        one of them does not hold it.
        """
        buckets, largest = slot.buckets, self.largest
        for bucket in buckets:
            if bucket.others is not None and bucket.pace is None:
                self._take_pace_over(bucket, slot, now)
            if not bucket.allows(bucket.price(costs), now):
                if bucket.budget is not None:
                    bucket.budget.lacks(bucket.price(costs) or 1, now)
                self.review(bucket, now)
                return None
        charge = []
        for bucket in buckets:
            charge.append(bucket.take(bucket.price(costs), now))
            window = bucket.window
            # As `_less`, without the call: most leave enough for another one.
            if (
                window is None
                or bucket.learned is not None
                or bucket.pace is not None
                or (window.amount - window.used if bucket.budget is None else bucket.budget.left)
                < largest.get(bucket.cost, 1)
            ):
                self._less(bucket, now)
        return tuple(charge)

    def settle(self, charge: Charge, spent: Costs, now: float) -> None:
        """What a call has really taken is known: of what is not named, what was reserved."""
        for taken in charge:
            bucket = taken.bucket
            cost = spent.get(bucket.cost)
            if cost is not None and cost != taken.cost:
                bucket.change(taken, cost - taken.cost)
                self._less(bucket, now)
                if bucket.budget is not None:
                    self.watch(bucket)

    def give_back(self, charge: Charge, now: float) -> None:
        """A call has never begun."""
        for taken in charge:
            taken.bucket.change(taken, -taken.cost)
            if taken.bucket.pace is not None:
                taken.bucket.pace.undo()
            self._less(taken.bucket, now)
            if taken.bucket.budget is not None:
                self.watch(taken.bucket)

    def _less(self, bucket: Bucket, now: float) -> None:
        """There is less in a bucket, or more."""
        if bucket.cost != REQUESTS and bucket.headroom(now) < self.largest.get(bucket.cost, 1):
            self.tight.update(bucket.slots)
        self.review(bucket, now)

    def review(self, bucket: Bucket, now: float) -> None:
        """Find out whether anything is left in it, and tell its members if that is new."""
        refills_at = 0.0
        if not bucket.allows(1, now) and not bucket.is_unknown(1, now):
            refills_at = bucket.free_at(1, now) or 0.0
        if refills_at != bucket.refills_at:
            bucket.refills_at = refills_at
            for slot in bucket.slots:
                slot.refilled()
        if refills_at:
            self.dry(bucket)

    # -- parts of limits that processes have together

    def _ask(self, bucket: Bucket, asked: LeaseWanted) -> None:
        if self.lend is not None:
            self.lend(asked)
        self.watch(bucket)

    def answered(self, answer: LeaseGranted | LeaseRefused, now: float) -> bool:
        """Who lends has answered; whether that was waited for."""
        bucket = self._buckets.get(answer.key)
        if bucket is None or bucket.budget is None:
            return False
        if isinstance(answer, LeaseGranted):
            asked = bucket.budget.granted(answer, now)
        else:
            asked = bucket.budget.refused(answer, now)
        if asked:
            self._less(bucket, now)
            self.watch(bucket)
        return asked

    def tick(self, bucket: Bucket, now: float, awaited: float) -> bool:
        """It is time for a budget to look after itself; whether its members may have headroom by
        that.

        Args:
            awaited: the most that a request that waits would take from it; 0 where none waits.
        """
        budget = bucket.budget
        if budget is None:
            return False
        before = budget.alone, budget.is_out
        budget.tick(now, awaited)
        self.watch(bucket)
        if before == (budget.alone, budget.is_out):
            return False
        self._less(bucket, now)
        return True

    def end(self, now: float) -> None:
        """Give back what this process holds of limits."""
        for bucket in self._buckets.values():
            if bucket.budget is not None:
                bucket.budget.end(now)

    # -- a provider says what is left

    def learn(
        self,
        slot: Slot,
        cost: str,
        remaining: int,
        resets_in_s: float,
        whole: int | None,
        charge: Charge | None,
        now: float,
    ) -> None:
        """A call of a member has been told what is left. What has begun after it is not in that.

        Args:
            charge: what the call has taken; None of one that has been settled.
        """
        bucket = self._bucket_of(slot, cost)
        mine = next((each for each in charge or () if each.bucket is bucket), None)
        if mine is not None:
            since = bucket.mark - mine.mark
        else:  # of those that run, nobody knows which the provider has seen
            since = max(0, slot.in_flight - 1) if cost == REQUESTS else 0
        self._note_left(bucket, remaining, resets_in_s, whole, since, now)
        bucket.learned_at = now
        if self.tell is not None and (remaining <= 0 or now >= bucket.told_at + TELL_S):
            bucket.told_at = now
            self.tell(
                LimitTold(
                    member=slot.name,
                    cost=cost,
                    remaining=max(0, remaining),
                    whole=whole,
                    resets_in_s=resets_in_s,
                )
            )

    def _note_left(
        self,
        bucket: Bucket,
        remaining: int,
        resets_in_s: float,
        whole: int | None,
        since: int,
        now: float,
    ) -> None:
        bucket.learned = LearnedLimit(
            remaining,
            resets_in_s,
            whole,
            since=since,
            mark=bucket.mark - since,
            now=now,
            among=bucket.among,
        )
        self.tight.update(bucket.slots if bucket.cost != REQUESTS else ())
        self.review(bucket, now)

    def hear(self, slot: Slot, heard: LimitHeard, now: float) -> None:
        """Other processes have learned something of a member's limit. What this one has been told
        since holds all the same; but each has only its part of what is left.
        """
        known = any(each.cost == heard.cost for each in slot.buckets)
        if not known and heard.remaining is None and not heard.paces:
            return  # what there was of it is over
        bucket = self._bucket_of(slot, heard.cost)
        bucket.among = max(1, heard.processes)
        if heard.remaining is not None and bucket.learned_at < now - heard.age_s:
            since = slot.in_flight if heard.cost == REQUESTS else 0
            bucket.learned_at = now - heard.age_s
            self._note_left(bucket, heard.remaining, heard.resets_in_s, heard.whole, since, now)
        bucket.others = (heard.pace_per_s, heard.paces) if heard.paces else None
        pace = bucket.pace
        if heard.joined and pace is not None and not pace.is_forgotten(now):
            # Who has come takes an equal part of what there was.
            pace.leave((heard.paces + 1 - heard.joined) / (heard.paces + 1))
        self.review(bucket, now)

    def _take_pace_over(self, bucket: Bucket, slot: Slot, now: float) -> None:
        """Others have found out what a member bears: an equal part of that is this process's."""
        assert bucket.others is not None
        total, number = bucket.others
        bucket.pace = LearnedPace(total / (number + 1), now, 0.0)
        self._tell_pace(bucket, slot)

    def _tell_pace(self, bucket: Bucket, slot: Slot) -> None:
        pace = bucket.pace
        if self.tell is not None and pace is not None and not pace.is_no_cure:
            self.tell(LimitTold(member=slot.name, cost=bucket.cost, pace_per_s=pace.per_s))

    def _bucket_of(self, slot: Slot, cost: str) -> Bucket:
        """What is learned of a member's limit goes there: its own of the shortest window, or one
        of which nothing is declared.
        """
        bucket = next((each for each in slot.buckets if each.cost == cost), None)
        if bucket is None:
            bucket = self._learned[slot.name, cost] = Bucket(cost, None, None)
            slot.buckets = (*slot.buckets, bucket)
            bucket.slots.append(slot)
            self.limited = True
            if cost != REQUESTS and slot not in self._weighed:
                self._weighed.append(slot)
                self.weighs = True
        return bucket

    def refused(self, slot: Slot, began: float, now: float, retry_after_s: float | None) -> None:
        """A call of a member that began then was refused with a 429: it bears no more than what it
        has let in until now.
        """
        after_s = retry_after_s or 0.0
        bucket = next((each for each in slot.buckets if each.cost == REQUESTS), None)
        pace = None if bucket is None else bucket.pace
        if pace is not None and pace.ignores(now):
            return
        if bucket is not None and pace is not None and not pace.is_forgotten(now):
            pace.among = 1 if bucket.others is None else 1 + bucket.others[1]
            pace.refused(began, now, after_s)
        else:
            together = [slot] if bucket is None else bucket.slots
            if self._is_odd(together, slot.name, began, now):
                return
            let_in = [at for each in together for at in each.let_in(now)]
            guess = first_guess(let_in, now, after_s)
            if guess is None:
                return
            bucket = self._bucket_of(slot, REQUESTS)
            bucket.pace = LearnedPace(guess, now, after_s, len(let_in))
        self._tell_pace(bucket, slot)
        self.review(bucket, now)

    def _is_odd(self, together: Iterable[Slot], name: str, began: float, now: float) -> bool:
        """Whether a refusal came after so many answers that it says nothing by itself; so do those
        of the same burst.
        """
        last_at = self._odd_at.get(name, -math.inf)
        if began <= last_at:
            return True
        if last_at + FORGOTTEN_S > now:  # the second one in a minute
            return False
        answered = (at > last_at for each in together for at in each.times.began(now))
        if sum(answered) < ODD_CALLS:
            return False
        self._odd_at[name] = now
        return True

    def forget_learned(self, name: str | None, now: float) -> None:
        """Go by what is declared alone; None means that of all members."""
        if name is None:
            self._odd_at.clear()
        else:
            self._odd_at.pop(name, None)
        for bucket in (*self._buckets.values(), *self._learned.values()):
            if (bucket.learned is not None or bucket.pace is not None) and (
                name is None or any(slot.name == name for slot in bucket.slots)
            ):
                bucket.learned = bucket.pace = bucket.others = None
                self.review(bucket, now)

    # -- who lacks headroom for a request

    def unfit(self, costs: Costs, now: float, asker: Asker) -> Collection[str]:
        """The members that could not take a request of these costs now, whatever else they could:
        by their limits, or since the first that waits shall have what is left.
        """
        weighed: Iterable[Slot] = list(self.tight)
        if self.giants and any(costs.get(cost, 0) > most for cost, most in self.largest.items()):
            weighed = self._weighed
        if not weighed:
            return NOBODY
        unfit, hold = set[str](), self._hold
        if hold is not None and (hold.asker is asker or hold.asker.cell is None):
            hold = None
        for slot in weighed:
            held = hold.costs if hold is not None and hold.name == slot.name else NOTHING
            tight = False
            for bucket in slot.buckets:
                left = bucket.headroom(now)
                needed = bucket.price(costs) + (bucket.price(held) if held else 0)
                if (
                    left < needed
                    and (held or not bucket.allows(needed, now))
                    and not bucket.is_unknown(needed, now)
                ):
                    unfit.add(slot.name)
                    tight = True
                    break
                tight = tight or left < self.largest.get(bucket.cost, 1)
            if not tight and not held:
                self.tight.discard(slot)
        return unfit

    def too_small(self, costs: Costs) -> Collection[str]:
        """The members whose limits can never hold a request of these costs."""
        return [
            slot.name
            for slot in self._weighed
            if any(
                bucket.window is not None and bucket.window.amount < bucket.price(costs)
                for bucket in slot.buckets
            )
        ]

    def note(self, costs: Costs) -> None:
        """A request comes in."""
        for cost, amount in costs.items():
            if amount > self._seen.get(cost, 0):
                self._seen[cost] = amount
                self._size_up()

    def _size_up(self) -> None:
        """A request costs more than any before, or limits have changed."""
        self.giants = False
        for cost, amount in self._seen.items():
            windows = [
                bucket.window.amount
                for slot in self._weighed
                for bucket in slot.buckets
                if bucket.cost == cost and bucket.window is not None
            ]
            # What nobody can ever hold is held against all of them, but makes nobody tight for the
            # others.
            most = max(windows, default=amount)
            self.giants = self.giants or amount > most
            self.largest[cost] = min(amount, most)
        self.tight.update(self._weighed)

    def fits(self, slot: Slot, costs: Costs, now: float) -> bool:
        """Whether a member's limits hold a request now."""
        return all(bucket.allows(bucket.price(costs), now) for bucket in slot.buckets)

    def free_at(self, slot: Slot, costs: Costs, now: float) -> float | None:
        """When they do, if nothing else begins before; None: never."""
        for bucket in slot.buckets:
            if bucket.budget is not None:
                bucket.budget.lacks(bucket.price(costs) or 1, now)
        times = [bucket.free_at(bucket.price(costs), now) for bucket in slot.buckets]
        known = [at for at in times if at is not None]
        return max(known, default=now) if len(known) == len(times) else None

    def refills(
        self, slots: Iterable[Slot], costs: Costs, now: float, asker: Asker
    ) -> Iterator[tuple[float, Slot]]:
        """When each of the members that lack nothing but headroom for a request has some. Where all
        that there is is held for another one: when that one can have it.
        """
        hold = self._hold
        if hold is not None and (hold.asker is asker or hold.asker.cell is None):
            hold = None
        for slot in slots:
            if not slot.buckets:
                continue
            rests = slot.rests_for_its_pace(now)
            if not rests and slot.skip_reason() not in _WAITABLE:
                continue
            at = self.free_at(slot, costs, now)
            if at is None:
                continue
            if rests:
                at = max(at, slot.rest.until)
            if at <= now and hold is not None and hold.name == slot.name:
                at = self.free_at(slot, hold.costs, now) or now
            if at > now or slot.refills_at:
                yield at, slot

    def hold(self, asker: Asker, name: str, costs: Costs) -> None:
        """Let nobody else have what a member's limits will hold for the first that waits: else what
        costs little would take it away, time and again, from one that costs much.
        """
        self._hold = _Hold(asker, name, costs)
        self.tight.update(slot for slot in self._weighed if slot.name == name)

    def holds_for_another(self, asker: Asker) -> bool:
        """Whether somebody else that waits has something held."""
        hold = self._hold
        return hold is not None and hold.asker is not asker and hold.asker.cell is not None

    def why(self, slot: Slot, costs: Costs, now: float) -> str | None:
        """Why a member cannot take a request by its limits, in words; None if it can."""
        for bucket in slot.buckets:
            price, window = bucket.price(costs), bucket.window
            if window is not None and price > window.amount:
                return (
                    f"{price:,} {bucket.cost} are more than its limit of {window.amount:,} "
                    f"per {window.per_s:g} s"
                )
        at = None if self.fits(slot, costs, now) else self.free_at(slot, costs, now)
        return None if at is None else f"back in {max(0.0, at - now):.1f} s"

    def stats(self, slot: Slot, now: float) -> tuple[LimitStats, ...]:
        """What is known of a member's limits."""
        for bucket in slot.buckets:
            self.review(bucket, now)
        return tuple(filter(None, (bucket.stats(now) for bucket in slot.buckets)))


def _key(name: str, limit: Limit) -> Key:
    if limit.group is not None:
        return "group", limit.group, limit.cost, limit.per_s
    return "member", name, limit.cost, limit.per_s


def _wanted(slots: Iterable[Slot]) -> dict[Key, Limit]:
    """Which buckets there are to be; where members say different amounts, the smallest holds."""
    wanted: dict[Key, Limit] = {}
    for slot in slots:
        for limit in slot.route.limits:
            key = _key(slot.name, limit)
            known = wanted.get(key, limit)
            wanted[key] = replace(
                limit,
                amount=min(limit.amount, known.amount),
                per_process=limit.per_process and known.per_process,
            )
    return wanted
