"""A rate limit that a process has together with others: what it holds of it, when it asks for more,
when it gives back. Pure: `now` is given, and what is asked goes to a function.

It has the form of a `SlidingWindow`, and stands where one would. What may begin is what is left of
its *lease*: so much of the limit, until a time. Who lends is somebody else's affair, and takes a
few milliseconds; nobody waits for that here. So the next lease is asked for before this one is used
up, or ends, as large as the demand of late; what is not needed is given back.

Three things may be known of what is not there: a lease is asked for (`unknown`: who wants
something waits for the answer, and nobody is sent elsewhere), there is none to be had for now, or
nobody lends. Then each process goes on with its part of the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from greenroom.actors.policy.sliding_window import Entry, SlidingWindow
from greenroom.messages.shared_limits import BucketKey, LeaseGranted, LeaseRefused, LeaseWanted

SHORTEST_S, LONGEST_S = 0.25, 3.0
"""A lease lasts a twentieth of its window, but so long at least, and at most."""
SOON_S = 0.02
"""What is asked for may be there by then."""
POLL_S = 0.2
"""Who waits asks so often at least, since others may give back before their time."""
TELL_S = 0.1
"""What has turned out to be less is told after so long."""
AGAIN_S = 1.0
"""Where nobody lends, it is asked again after so long; that there is nothing to be had holds for so
long where nobody waits for it.
"""
ANSWER_S = 3.0
"""Who does not answer for so long does not lend."""
_RATE_S = 1.0
_AHEAD = 1.5
_EARLY = 0.98
"""Of its time a lease is used for so long: clocks do not run alike."""
_BATCHES = 256


class Spent(NamedTuple):
    """What a call has taken.

    Attributes:
        batch: in which report it is told.
    """

    entry: Entry
    batch: int


class Budget:
    """A part of one limit, in one process.

    Args:
        tell: is given what is asked for; its answer comes by `granted` or `refused`.

    Attributes:
        left: what is left of the lease, which may be over.
        alone: whether nobody lends.
        is_out: whether who lends has said that there was too little for who waited.
    """

    __slots__ = (
        "_again_at", "_amount", "_asked", "_asked_at", "_batch", "_changes", "_expected_at",
        "_lacking", "_last_at", "_last_report", "_lent", "_log",
        "_per_s", "_processes", "_rate", "_serial", "_since", "_slices", "_spent", "_tell",
        "_typical", "_undecided", "_until", "alone", "is_out", "key", "left", "own",
    )  # fmt: skip

    def __init__(
        self, key: BucketKey, amount: int, per_s: float, tell: Callable[[LeaseWanted], object]
    ) -> None:
        self.key = key
        self._tell = tell
        self._log = SlidingWindow(amount, per_s)  # what this process has spent itself
        self._amount, self._per_s = amount, per_s
        self.left = self._lent = 0
        self._until = -math.inf
        self.alone = self.own = False
        self._processes = 1
        # What has ever been spent, when last, and what of it was spent since the last report.
        self._spent = self._since = 0
        self._last_at = self._last_report = -math.inf
        # Reports: the number of the next one, where those before are counted, and what is to be
        # taken off there; of one that is under way, that is not known yet.
        self._batch = 0
        self._slices: dict[int, int] = {}
        self._undecided: dict[int, int] = {}
        self._changes: dict[int, int] = {}
        self._serial = 0
        self._asked: LeaseWanted | None = None
        self._asked_at = -math.inf
        # What somebody waits for; what is known of when there may be so much.
        self._lacking = 0
        self.is_out = False
        self._expected_at = self._again_at = -math.inf
        self._rate, self._typical = 0.0, 1

    # -- as of a window

    @property
    def amount(self) -> int:
        """How much of the cost may begin in any `per_s` seconds, in all processes together."""
        return self._amount

    @amount.setter
    def amount(self, amount: int) -> None:
        self._amount = amount
        self._log.amount = self._share()

    @property
    def per_s(self) -> float:
        """The length of the window, in seconds."""
        return self._per_s

    @per_s.setter
    def per_s(self, per_s: float) -> None:
        self._per_s = self._log.per_s = per_s

    @property
    def used(self) -> int:
        """How much this process has of it in its window."""
        return self._log.used

    def __len__(self) -> int:
        return len(self._log)

    @property
    def lease_s(self) -> float:
        """How long it asks for."""
        return min(LONGEST_S, max(SHORTEST_S, self._per_s / 20))

    def headroom(self, now: float) -> int:
        """How much may begin now."""
        if self.own:
            return self._log.headroom(now)
        held = self.left if now < self._until else 0
        return max(held, self._log.headroom(now)) if self.alone else held

    def take(self, cost: int, now: float) -> Spent:
        """Something begins. To be asked before: `headroom`."""
        entry = self._log.take(cost, now)
        self.left -= cost
        self._spent += cost
        self._since += cost
        self._last_at = now
        if cost > self._typical:
            self._typical = cost
        spent = Spent(entry, self._batch)  # before it is told
        # The next lease is there before this one is used up.
        if (
            self._asked is None
            and self.left * 2 <= self._lent
            and now >= self._again_at
            and not self.own
        ):
            self._ask(now)
        return spent

    def change(self, spent: Spent, by: int) -> None:
        """What has begun then took so much more, or less."""
        self._log.change(spent.entry, by)
        if self.own or not by:
            return
        if by > 0 or spent.batch == self._batch:
            self._spent += by
            self._since += by
            self.left -= by
        elif not spent.entry.counts:
            return
        elif spent.batch in self._slices:
            index = self._slices[spent.batch]
            self._changes[index] = self._changes.get(index, 0) + by
        elif spent.batch in self._undecided:
            self._undecided[spent.batch] += by

    def free_at(self, cost: int, now: float) -> float | None:
        """When so much may begin, as far as that is known; None: never."""
        if cost > self._amount:
            return None
        if self.headroom(now) >= cost:
            return now
        if self.own:
            return self._log.free_at(cost, now)
        if self.alone:
            own_at = self._log.free_at(cost, now)
            return now + AGAIN_S if own_at is None else own_at
        return max(now + SOON_S, self._expected_at)

    # -- what it asks for

    def is_unknown(self, cost: int, now: float) -> bool:
        """Whether it lacks so much only since it has not asked, or not been answered yet."""
        if self.own or self.alone or self.is_out or cost > self._amount:
            return False
        return self.headroom(now) < cost

    def adopt(self, log: SlidingWindow, now: float) -> None:
        """What this process has spent before it had the limit together with others."""
        self._log = log
        log.amount, log.per_s = self._share(), self._per_s
        log.headroom(now)
        self._spent = self._since = max(0, log.used)
        self._last_at = now if len(log) else -math.inf

    def alone_from_now(self) -> SlidingWindow:
        """What it has spent itself, as a window of its own."""
        self._log.amount = self._amount
        return self._log

    def lacks(self, cost: int, now: float) -> None:
        """Somebody waits for so much."""
        if self.own or cost > self._amount or self.headroom(now) >= cost:
            return
        self._lacking = max(self._lacking, cost)
        if self._asked is None and now >= self._again_at:
            self._ask(now)

    def tick(self, now: float, awaited: float) -> None:
        """Let time pass.

        Args:
            awaited: the most that anybody who waits may want of it, 0 where nobody waits: who
                wanted more has gone elsewhere, and nothing is asked for in its name.
        """
        if self.own:
            return
        if self._asked is not None:
            if now >= self._asked_at + ANSWER_S:
                self._unanswered(now)
            return
        if awaited < self._lacking:
            self._lacking = int(awaited)
        if self.is_out and not self._lacking and now >= self._asked_at + AGAIN_S:
            self.is_out = False  # it is too long ago: who comes next asks
            self._expected_at = self._again_at = -math.inf
        if now >= self.next_at():
            self._ask(now)

    def end(self, now: float) -> None:
        """Give back what is left: the pool ends."""
        if self.own or (self._asked is None and self._until == -math.inf and not self._since):
            return
        self.left = self._lacking = 0
        self._ask(now, ends=True)

    def next_at(self) -> float:
        """When `tick` next has something to do; infinite: when something begins."""
        if self.own:
            return math.inf
        if self._asked is not None:
            return self._asked_at + ANSWER_S
        if self._lacking or (self.alone and self._last_at >= self._again_at - AGAIN_S):
            return self._again_at
        if self.alone:
            return math.inf
        at = self._asked_at + AGAIN_S if self.is_out else math.inf
        if self._changes:  # others may wait for it
            at = min(at, self._last_report + TELL_S)
        if self._until > -math.inf:
            early = self._until - self.lease_s / 3
            at = min(at, early if self._is_wanted(early) else self._until)
        return at

    def _is_wanted(self, now: float) -> bool:
        """Whether something has begun of late, so that more is likely to."""
        return self._last_at > now - 2 * self.lease_s

    def _ask(self, now: float, ends: bool = False) -> None:
        log = self._log
        log.headroom(now)  # what is out of the window leaves it
        since_s = now - self._last_report
        if since_s > 0:
            weight = 1.0 - math.exp(-since_s / _RATE_S)
            self._rate += weight * (self._since / since_s - self._rate)
        self._last_report = now
        holds = max(0, self.left) if now < self._until else 0
        if self._lacking and self.is_out:
            holds = 0  # two that wait, and hold what the other lacks, would wait for ever
        want = 0 if ends else self._wanted(now)
        holds = min(holds, want)
        self.left = holds if now < self._until else 0
        self._serial += 1
        wanted = LeaseWanted(
            key=self.key,
            serial=self._serial,
            amount=self._amount,
            per_s=self._per_s,
            want=want,
            least=self._lacking,
            holds=holds,
            spent=self._spent,
            used=max(0, log.used),
            ago_s=max(0.0, now - self._last_at) if self._since else 0.0,
            lease_s=self.lease_s,
            changes=self._changes,
        )
        self._since = 0
        self._changes = {}
        self._undecided = {self._batch: 0}
        self._batch += 1
        self._asked, self._asked_at = wanted, now
        self._tell(wanted)

    def _wanted(self, now: float) -> int:
        """How much it wants to hold, by what was needed of late."""
        if not self._lacking and not self._is_wanted(now):
            self._typical = 1
            return 0
        want = math.ceil(_AHEAD * self._rate * self.lease_s) + self._typical
        if self._lacking:
            # It was too little: twice as much.
            want = max(want, 2 * self._lent, self._lacking)
        elif self.left * 2 <= self._lent:
            want = max(want, self._lent)
        # All together they hold no more than half of it in reserve: others may need that.
        return max(min(want, self._amount // (2 * self._processes)), self._lacking)

    # -- the answer

    def granted(self, answer: LeaseGranted, now: float) -> bool:
        """Somebody lends; whether that was asked for."""
        asked = self._asked
        if asked is None or answer.serial != asked.serial:
            return False
        self._asked = None
        self.alone = False
        self._processes = max(1, answer.processes)
        self._log.amount = self._amount
        self._note_slice(answer.slice)
        holds = self._lent = answer.holds
        self.left = holds - self._since
        self._until = self._asked_at + _EARLY * asked.lease_s if holds else -math.inf
        self.is_out = bool(asked.least) and holds < asked.least
        if self.is_out:
            # Never sooner than a while: who has nothing to give is not asked all the time.
            self._expected_at = now + answer.wait_s
            self._again_at = now + min(max(answer.wait_s, SOON_S / 4), POLL_S)
        else:
            self._expected_at = self._again_at = -math.inf
            if self._lacking > self.left:
                self._ask(now)
            else:
                self._lacking = 0
        return True

    def _note_slice(self, index: int) -> None:
        for batch, by in self._undecided.items():
            self._slices[batch] = index
            if by:
                self._changes[index] = self._changes.get(index, 0) + by
        self._undecided = {}
        while len(self._slices) > _BATCHES:
            del self._slices[next(iter(self._slices))]

    def refused(self, answer: LeaseRefused, now: float) -> bool:
        """Nobody lends; whether that was asked for."""
        asked = self._asked
        if asked is None or answer.serial != asked.serial:
            return False
        if not answer.ever:
            self._asked, self.own, self._log.amount = None, True, self._amount
        else:
            self._unanswered(now)
        return True

    def _unanswered(self, now: float) -> None:
        # Whether what was said has come is not known: it stays counted as it was.
        self._asked = None
        self._undecided = {}
        self.alone, self.is_out = True, False
        self._lacking = 0
        self._again_at = now + AGAIN_S
        self._log.amount = self._share()

    def _share(self) -> int:
        return max(1, self._amount // self._processes) if self.alone else self._amount

    def __repr__(self) -> str:
        return f"<Budget {self.left} of {self._amount} per {self._per_s:g} s>"
