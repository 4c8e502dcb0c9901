"""What a request that nobody could answer says of every member, and why. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from greenroom.actors.request.job import Job
from greenroom.actors.request.refills import costs_of
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.routing.selection import Barred
from greenroom.actors.runtime.call_ancestry import tickets_of
from greenroom.actors.runtime.future import AskTimeoutError
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    ReentrantAskError,
    StreamInterruptedError,
    UnknownMemberError,
)
from greenroom.messages.status import SkipReason

_MAY_LACK_HEADROOM = (SkipReason.EXCLUDED, SkipReason.SATURATED, SkipReason.HEADROOM)


def all_failed(
    pool: str, job: Job, table: RoutingTable, reason: str, now: float
) -> AllPoolMembersFailedError:
    """The error that lists every member, tried or skipped."""
    reopening = _first_back(job, table, now)
    return AllPoolMembersFailedError(
        pool,
        table.names,
        _account_of(job, table, now),
        reason,
        None if reopening is None else max(0.0, reopening - now),
        job.failed_alike,
    )


def expired(pool: str, job: Job, table: RoutingTable, now: float) -> DeadlineExceededError:
    """The error of a request that has run out of time: the asker's own, or that of the pool."""
    # The asker's own time limit is over: it gets a subclass that is an ask's timeout as well.
    own = job.future is not None and job.future.deadline == job.deadline
    kind = AskTimeoutError if own else DeadlineExceededError
    errors = _account_of(job, table, now)
    # Let go before it is over, since nobody can answer in time.
    left_s = 0.0 if job.deadline is None else max(0.0, job.deadline - now)
    return kind(pool, now - job.accepted_at, errors, job.failed_alike, left_s)


def interrupted(pool: str, job: Job, error: BaseException) -> StreamInterruptedError:
    """The error of a stream that breaks off. What was received, and how many chunks altogether, is
    known to its consumer alone, who adds it; the count so far is for the log.
    """
    channel = job.channel
    member, taken = (channel.member, channel.taken) if channel is not None else (None, 0)
    broken = StreamInterruptedError(pool, member, job.failures.values(), received_count=taken)
    broken.__cause__ = error
    return broken


def reentrant(pool: str, urn: str, job: Job) -> ReentrantAskError:
    """The error of a request that waits for the slots of the calls that wait for it.

    Args:
        urn: of the pool's router.
    """
    inside = job.future.inside if job.future is not None else ()
    asking = ", ".join(ticket[0] for ticket in tickets_of(urn, inside))
    return ReentrantAskError(
        f"pool {pool!r} was asked from inside its own request {asking}, which holds the "
        f"slot that {job.id} would wait for: give the member more max_concurrency, ask another "
        f"pool, or tell instead of ask"
    )


def why_unroutable(job: Job, table: RoutingTable, waits: bool, now: float) -> str:
    """Why a request that found nobody fails at once; `waits`: whether it was allowed to wait."""
    if len(table) == 0:
        return "the pool has no members"
    barred = table.eligible(job.terms).barred
    headroom, costs = table.headroom, costs_of(job)
    if headroom.limited:
        slots = [slot for slot in table if slot.name not in barred]
        if slots and all(headroom.free_at(slot, costs, now) is None for slot in slots):
            return "it costs more than the rate limits of any member can hold"
        # Headroom is waited for whatever the settings say, if it comes in time.
        waits = waits or any(True for _ in headroom.refills(slots, costs, now, job))
    # Where somebody has failed it, the failures say why; no reason is put in front of them.
    if len(barred) == len(table):
        return "" if job.failures else "no member may have it"
    if not waits:
        return "" if job.failures else "no member is available"
    reopening = _first_back(job, table, now)
    if reopening is None or job.deadline is None:
        return "no member is available, and none says when it will be"
    return (
        f"no member is available before the deadline: the first in {reopening - now:.1f} s, "
        f"{job.deadline - now:.1f} s left"
    )


def nobody_named(pool: str, job: Job, table: RoutingTable) -> UnknownMemberError:
    """The error of a request that only those may have who are not in the pool."""
    tags = sorted({tag for slot in table for tag in slot.route.tags})
    only = ", ".join(map(repr, job.work.only or ()))
    tagged = f"; its tags are {', '.join(tags)}" if tags else ""
    return UnknownMemberError(
        f"only must name a member of pool {pool!r} or a tag of one, got {only}: "
        f"its members are {', '.join(table.names)}{tagged}"
    )


def _first_back(job: Job, table: RoutingTable, now: float) -> float | None:
    """When the first member may take it that is kept out, rests or lacks headroom; None if nobody
    says.
    """
    barred = table.eligible(job.terms).barred
    headroom, costs = table.headroom, costs_of(job)
    if not headroom.weighs or job.work.cost is None:
        return table.earliest_reopening(barred)
    slots = [slot for slot in table if slot.name not in barred]
    never = [slot.name for slot in slots if headroom.free_at(slot, costs, now) is None]
    refills = (at for at, _ in headroom.refills(slots, costs, now, job))
    reopening = table.earliest_reopening({*barred, *never})
    return min(filter(None, (reopening, *refills)), default=None)


def broken_by(job: Job, error: BaseException) -> BaseException:
    """What broke the last stream off that the consumer has had chunks of.

    Args:
        error: of the last attempt, which may have had none. (It is not asked whether it is true:
            that runs code of its own.)
    """
    member = None if job.channel is None else job.channel.member
    broken = job.failures.get(member or "")
    return error if broken is None or broken.error is None else broken.error


def own(error: BaseException) -> BaseException:
    """The agent's own error. An inner pool's stream may have broken off by it, of which the outer
    pool's consumer has not been shown anything: to it nothing has.
    """
    while isinstance(error, StreamInterruptedError) and error.__cause__ is not None:
        error = error.__cause__
    return error


class Asked(NamedTuple):
    """What a request has asked of its members, and why some must not have it.

    Attributes:
        deadline: until when it is to be answered; None without a limit.
    """

    barred: Mapping[str, Barred]
    deadline: float | None

    @classmethod
    def of(cls, job: Job, table: RoutingTable) -> Asked:
        return cls(table.eligible(job.terms).barred, job.deadline)


NOTHING = Asked({}, None)


def _account_of(job: Job, table: RoutingTable, now: float) -> list[AttemptError]:
    return account(
        job.failures.values(),
        table,
        now,
        Asked.of(job, table),
        lambda slot: table.headroom.why(slot, costs_of(job), now),
    )


def skipped_by(job: Job, table: RoutingTable, now: float, most: int) -> list[AttemptError]:
    """One entry for every member that cannot take a request just now, or for so many of them."""
    asked, costs = Asked.of(job, table), costs_of(job)
    few = itertools.islice((slot for slot in table if slot.name not in job.failures), most)
    return [
        _skipped(slot, now, asked, lambda slot: table.headroom.why(slot, costs, now))
        for slot in few
    ]


def account(
    tried: Iterable[AttemptError],
    slots: Iterable[Slot],
    now: float,
    asked: Asked = NOTHING,
    lacks: Callable[[Slot], str | None] = lambda _: None,
) -> list[AttemptError]:
    """One entry for every member tried and every one skipped, in evaluation order.

    The tried ones stand in the order of their first try; a skipped one stands before the first
    tried one that follows it in the configured order, else at the end.

    Args:
        lacks: what a member lacks headroom for, in words; None if it does not.
    """
    entries = list(tried)
    names = {entry.member for entry in entries}
    for slot in slots:
        if slot.name not in names:
            entries.insert(_place_of(slot.index, entries), _skipped(slot, now, asked, lacks))
    return entries


def _skipped(
    slot: Slot, now: float, asked: Asked, lacks: Callable[[Slot], str | None]
) -> AttemptError:
    barred = asked.barred.get(slot.name)
    if barred is not None:
        return AttemptError(slot.name, slot.index, barred.reason, None, 0.0, 0, barred.detail)
    reason = slot.skip_reason()
    if reason is None and asked.deadline is not None:
        left_s = max(0.0, asked.deadline - now)
        if slot.is_too_slow(left_s, now):
            words = f"p90 {slot.times.p90_s(now):.1f} s, {left_s:.1f} s left"
            return AttemptError(slot.name, slot.index, SkipReason.TOO_SLOW, None, 0.0, 0, words)
    # Free, and yet not asked: the strategy did not choose it, or the retries were used up before.
    reason = reason or SkipReason.EXCLUDED
    reopens_at = slot.back_at()
    detail = "" if reopens_at is None else f"back in {max(0.0, reopens_at - now):.1f} s"
    if slot.buckets and reason in _MAY_LACK_HEADROOM:
        lacking = lacks(slot)
        if lacking is not None:
            reason, detail = SkipReason.HEADROOM, lacking
    return AttemptError(slot.name, slot.index, reason, None, 0.0, 0, detail)


def _place_of(index: int, entries: list[AttemptError]) -> int:
    following = (i for i, entry in enumerate(entries) if entry.index > index)
    return next(following, len(entries))
