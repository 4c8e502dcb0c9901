"""Who holds how much of a rate limit that processes have together: the arithmetic of the ledger
that lies in a store. Pure: what lies there, what is asked, and the store's `now` in; what shall lie
there, and the answer, out.

A process spends what it was lent, a lease, without asking anybody. So what it holds counts as if it
had been spent at the last moment possible: until the lease's end, and for the length of the window
from then on. What it says that it has spent counts from the last time that it did so, and what it
has not spent is free again. So in no window, wherever it begins, more is spent than the amount: at
the last grant before its end all that is spent in it was counted. Who is killed says nothing, and
what it held counts to the end.

All that a process says can be said twice: what it has spent is a counter, what it holds a state.

Who waits for something is noted for as long as it comes back, which it does several times a second.
Nobody takes what others wait for beyond its own part; who has waited longest gets what it needs at
least before all others, so that what costs much comes to its turn among what costs little.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from greenroom.messages.limits import MOST
from greenroom.messages.shared_limits import LeaseGranted, LeaseWanted

SLICES = 64
"""What a process has spent in the same slice of time, so many of a window, is one entry: it counts
longer by one slice at most, never shorter.
"""
WAITS_S = 1.0
"""Who has not come back for so long waits no more."""
LONGEST_LEASE_S = 10.0
"""No lease is longer, whoever says so."""
MOST_PROCESSES = 1000
_VERSION = 1
_LATE_S = 60.0
"""By so much, at most, a store's clock that goes back is waited for; beyond that it was set."""
_PARTS = 1_000_000
_ABOUT_S = 1e-6
"""By so much, at most, two ways to reckon a time differ."""


@dataclass(slots=True)
class _Account:
    """What one process has of a limit.

    Attributes:
        told: how much it has ever spent, as it has said.
        slices: how much it has spent, and when it has spent the last of it, by the slice of time.
        lease, until: how much it holds, and to what time.
        want, least: what it asked for last, while it waits.
        since, seen_at: since when it waits, and when it came back last.
    """

    told: int = 0
    slices: dict[int, tuple[int, float]] = field(default_factory=dict)
    lease: int = 0
    until: float = -math.inf
    want: int = 0
    least: int = 0
    since: float = -math.inf
    seen_at: float = -math.inf

    def held(self) -> int:
        return self.lease + sum(amount for amount, _ in self.slices.values())

    def waits(self, now: float) -> bool:
        return self.least > self.lease and now <= self.seen_at + WAITS_S

    def expire(self, now: float, per_s: float) -> None:
        """What is out of the window counts no more."""
        gone = [index for index, (_, at) in self.slices.items() if at + per_s + _ABOUT_S <= now]
        for index in gone:
            del self.slices[index]
        if self.until + per_s + _ABOUT_S <= now:
            self.lease = 0

    def is_over(self, now: float) -> bool:
        return not self.slices and not self.lease and now > self.seen_at + WAITS_S

    def ends(self, per_s: float) -> Iterator[tuple[float, int]]:
        """What counts, and until when, if what is held is given back: then who waits for that knows
        more.
        """
        for amount, at in self.slices.values():
            yield at + per_s, amount
        if self.lease:
            yield self.until, self.lease


class LeaseBook:
    """The ledger of one limit.

    Attributes:
        now: the time in it, which never goes back.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._accounts: dict[str, _Account] = {}

    # -- what is asked

    def lend(self, asked: LeaseWanted, by: str) -> LeaseGranted:
        """Take down what a process has spent, and lend it what it may have."""
        now, per_s = self.now, asked.per_s
        account = self._accounts.get(by)
        if account is None:
            if len(self._accounts) >= MOST_PROCESSES:
                raise ValueError(f"more than {MOST_PROCESSES} processes share one limit")
            account = self._accounts[by] = _Account()
        for each in self._accounts.values():
            each.expire(now, per_s)
        for name, each in list(self._accounts.items()):
            if each is not account and each.is_over(now):
                del self._accounts[name]
        index = self._note_spent(account, asked)
        self._note_changes(account, asked)
        return self._lend(account, asked, index)

    def _note_spent(self, account: _Account, asked: LeaseWanted) -> int:
        # What a ledger that was lost knew of it is said once more: all that is in the window.
        spent = max(0, min(asked.spent - account.told, asked.used))
        account.told = asked.spent
        at = self.now - max(0.0, asked.ago_s)
        index = math.floor(at / (asked.per_s / SLICES))
        if spent:
            amount, last_at = account.slices.get(index, (0, at))
            account.slices[index] = (amount + spent, max(at, last_at))
        return index

    def _note_changes(self, account: _Account, asked: LeaseWanted) -> None:
        for index, by in asked.changes.items():
            entry = account.slices.get(index)
            if entry is None or by >= 0:
                continue
            amount = max(0, entry[0] + by)
            if amount:
                account.slices[index] = (amount, entry[1])
            else:
                del account.slices[index]

    def _lend(self, account: _Account, asked: LeaseWanted, index: int) -> LeaseGranted:
        now = self.now
        held = {id(each): each.held() for each in self._accounts.values()}
        free = asked.amount - sum(held.values()) + account.lease
        if asked.least <= asked.holds:
            account.since = -math.inf
        elif not account.waits(now):
            account.since = now
        waiting = [x for x in self._accounts.values() if x is not account and x.waits(now)]
        using = sum(1 for each in self._accounts.values() if held[id(each)] or each.waits(now))
        processes = max(1, using + (not held[id(account)] and not account.waits(now)))
        part = max(1, asked.amount // processes)
        kept = sum(self._kept_for(each, account, part, held[id(each)]) for each in waiting)
        more = max(0, min(asked.want - asked.holds, free - asked.holds - kept))
        if asked.holds + more < asked.least:
            # Not enough to be of use: others may use it meanwhile.
            first = all(account.since <= each.since for each in waiting)
            more = 0
            if first and asked.least <= free:
                more = asked.least - asked.holds
        account.lease = asked.holds + more
        account.until = now + min(asked.lease_s, LONGEST_LEASE_S)
        account.want, account.least, account.seen_at = asked.want, asked.least, now
        wait_s = 0.0
        if account.lease < asked.least:
            wait_s = self._wait_s(account, asked)
        else:
            account.since = -math.inf
        return LeaseGranted(
            key=asked.key,
            serial=asked.serial,
            holds=account.lease,
            wait_s=wait_s,
            slice=index,
            processes=processes,
        )

    def _kept_for(self, other: _Account, account: _Account, part: int, held: int) -> int:
        """How much of what is free is not for this one, since another waits for it."""
        kept = min(other.want - other.lease, part - held)
        if account.since == -math.inf or other.since < account.since:
            kept = max(kept, other.least - other.lease)
        return max(0, kept)

    def _wait_s(self, account: _Account, asked: LeaseWanted) -> float:
        """When there may be enough, at best."""
        lacking = asked.least - account.lease
        counted = sum(each.held() for each in self._accounts.values())
        lacking -= asked.amount - counted
        ends = (end for each in self._accounts.values() for end in each.ends(asked.per_s))
        for end, amount in sorted(ends):
            lacking -= amount
            if lacking <= 0:
                return max(0.0, end + _ABOUT_S - self.now)
        return asked.per_s

    # -- as it lies in a store

    def text(self) -> str:
        """As it lies in a store."""
        accounts = {
            by: [
                each.told,
                [[i, n, _plain(at)] for i, (n, at) in each.slices.items()],
                each.lease,
                _plain(each.until),
                each.want,
                each.least,
                _plain(each.since),
                _plain(each.seen_at),
            ]
            for by, each in self._accounts.items()
        }
        return json.dumps([_VERSION, _plain(self.now), accounts], separators=(",", ":"))

    @classmethod
    def read(cls, text: str | None, now: float) -> LeaseBook:
        """What such a text says. What is none, or cannot be, is passed over: a ledger that
        somebody has spoiled begins anew.
        """
        book = cls(now)
        try:
            version, at, accounts = json.loads(text or "null")
            if version != _VERSION or not isinstance(accounts, dict):
                return book
            written_at = _number(at)
            if now < written_at <= now + _LATE_S:  # a clock that was set back a little waits
                book.now = written_at
            for by, values in list(accounts.items())[:MOST_PROCESSES]:
                book._accounts[by] = _account(values, book.now)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls(now)
        return book


def _plain(at: float) -> float | None:
    # Rounded up: nothing ends too early by that.
    return math.ceil(at * _PARTS) / _PARTS if math.isfinite(at) else None


def _account(values: Any, now: float) -> _Account:
    told, slices, lease, until, want, least, since, seen_at = values
    account = _Account(_amount(told), lease=_amount(lease), want=_amount(want))
    account.least = _amount(least)
    # Nothing that is there has ended in the future: a clock that was set has it end now.
    account.until = min(_time(until), now + LONGEST_LEASE_S)
    account.since, account.seen_at = min(_time(since), now), min(_time(seen_at), now)
    for index, amount, at in slices[: 2 * SLICES]:
        account.slices[_whole(index)] = (_amount(amount), min(_number(at), now))
    return account


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _amount(value: Any) -> int:
    if not 0 <= _whole(value) <= 1000 * MOST:
        raise ValueError("out of range")
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("not a number")
    return float(value)


def _time(value: Any) -> float:
    return -math.inf if value is None else _number(value)
