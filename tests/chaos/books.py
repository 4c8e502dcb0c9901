"""The model of a pool's statistics: what they must say when it is at rest. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.chunks import failed_quietly
from chaos.entry import Call, CallEnd, End, Entry
from chaos.model import Terms, is_race, is_undisturbed
from chaos.moves import COUNTED, KINDS, Move
from chaos.steps import MADE_ON_LOOPS, ON_LOOPS
from greenroom import FailureKind, PoolStats, Reply


@dataclass(slots=True)
class Tally:
    """What a pool's statistics must say, from its start on.

    Attributes:
        ends: asks, by how they ended.
        tells: requests that nobody hears of.
        tells_cancelled: those of which the pool said that it had cancelled them.
        tells_answered: those that an agent has answered with a value, at least and at most.
    """

    ends: Counter[End] = field(default_factory=Counter)
    tells: int = 0
    tells_cancelled: int = 0
    tells_answered: tuple[int, int] = (0, 0)

    def add(self, entry: Entry, terms: Terms) -> None:
        """Count a request that is over."""
        if not entry.is_tell:
            self.ends[entry.end or End.OTHER] += 1
            return
        self.tells += 1
        self.tells_cancelled += entry.cancel_said is True
        valued = any(call.end is CallEnd.VALUE for call in entry.calls)
        sure = valued and is_undisturbed(entry, terms) and _is_told_all(entry, terms)
        least, most = self.tells_answered
        self.tells_answered = (least + sure, most + valued)


def judge_hedges(stats: PoolStats, hedging: bool) -> Iterator[str]:
    """Whether there were no more second attempts than are allowed."""
    if stats.hedges and not hedging:
        yield f"{stats.hedges} hedges, hedging is off"
    if stats.accepted >= 20 and stats.hedges * 20 > stats.accepted:
        yield f"{stats.hedges} hedges for {stats.accepted} requests"


def judge_rest(stats: PoolStats, tally: Tally) -> Iterator[str]:
    """What cannot be so of a pool's statistics, when it is at rest."""
    asks = tally.ends.total()
    if (stats.pending, stats.in_flight) != (0, 0):
        yield f"{stats.pending} pending and {stats.in_flight} in flight at rest"
    for member in stats.members:
        if member.in_flight:
            yield f"{member.name} has lost {member.in_flight} of its slots"
        if member.abandoned:
            yield f"{member.name} still counts {member.abandoned} abandoned calls, all have ended"
    if stats.accepted != asks + tally.tells:
        yield f"accepted is {stats.accepted}, sent were {asks} asks and {tally.tells} tells"
    if stats.accepted != stats.completed + stats.failed + stats.cancelled:
        yield f"what was accepted is not what has ended: {stats}"
    cancelled = tally.ends[End.CANCELLED] + tally.tells_cancelled
    if stats.cancelled != cancelled:
        yield f"cancelled is {stats.cancelled}, seen were {cancelled}"
    told = stats.completed - tally.ends[End.VALUE]
    least, most = tally.tells_answered
    if not least <= told <= most:
        yield (
            f"completed is {stats.completed}, seen were {tally.ends[End.VALUE]} values and "
            f"{least} to {most} tells answered"
        )


@dataclass(slots=True)
class _Outcomes:
    """What agents saw, by member.

    Attributes:
        successes, failures: what must have been counted.
        perhaps: calls of which only the pool knows whether they were counted.
        unseen: attempts that may have timed out at any member before its agent was called.
    """

    successes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    perhaps: Counter[str] = field(default_factory=Counter)
    unseen: int = 0

    def add(self, entry: Entry, terms: Terms) -> None:
        """Count the calls of a request that is over."""
        sure = is_undisturbed(entry, terms) and (not entry.is_tell or _is_told_all(entry, terms))
        raced = any(is_race(*pair, terms) for pair in pairwise(entry.calls))
        for call in entry.calls:
            if not sure:
                self.perhaps[call.member] += 1
            elif raced:
                self._add_rival(entry, call)
            elif call.end is CallEnd.VALUE:
                self.successes[call.member] += 1
            elif terms.hedging and call is not entry.calls[-1]:
                self.perhaps[call.member] += 1  # it may have lost to one that was on its way
            elif _counts(call) and (entry.is_tell or _may_be_taken_back(entry)):
                self.perhaps[call.member] += 1
            elif _counts(call):
                self.failures[call.member] += 1
        if entry.send.is_block and entry.send.way in ON_LOOPS:
            for name in MADE_ON_LOOPS:
                self.perhaps[name] += terms.max_retries + 1
        if entry.elapsed_s >= terms.limit_s(entry) or (entry.is_tell and not sure):
            self.unseen += terms.max_retries + 1
        elif entry.end is End.DEADLINE:
            self.unseen += 1

    def _add_rival(self, entry: Entry, call: Call) -> None:
        """The winner counts, and who failed before there was one; the loser does not."""
        if call.end is CallEnd.VALUE:
            self.successes[call.member] += entry.end is End.VALUE and _has_won(entry, call)
        elif call.end is CallEnd.RAISED and _counts(call):
            self.perhaps[call.member] += 1


def _counts(call: Call) -> bool:
    return call.move in COUNTED or failed_quietly(call)


def _may_be_taken_back(entry: Entry) -> bool:
    """Whether its failures may turn out to be its own fault: it had no answer, however it ended (an
    interrupted stream has had none, nor has one that a 400 ended after a failure that counts), and
    they are of one kind. Whether they are is known by what else its members could not answer.
    """
    kinds = {KINDS.get(each.move, FailureKind.UNKNOWN) for each in entry.calls if _counts(each)}
    return entry.end is not End.VALUE and len(kinds) == 1


def _has_won(entry: Entry, call: Call) -> bool:
    if entry.send.is_stream:
        return entry.member == call.member
    reply = entry.value
    # By its member as well: two calls of a race may both have returned None.
    return isinstance(reply, Reply) and reply.member == call.member and reply.value is call.result


def judge_members(
    before: PoolStats, after: PoolStats, entries: Iterable[Entry], terms: Terms
) -> Iterator[str]:
    """What cannot be so of the members' counts after a clear round."""
    seen = _Outcomes()
    for entry in entries:
        seen.add(entry, terms)
    for member in after.members:
        name = member.name
        least, gained = seen.successes[name], member.successes - before[name].successes
        if not least <= gained <= least + seen.perhaps[name]:
            yield f"{name} gained {gained} successes, its agent saw {least}"
        least, gained = seen.failures[name], member.failures - before[name].failures
        if not least <= gained <= least + seen.perhaps[name] + seen.unseen:
            yield f"{name} gained {gained} failures, its agent saw {least}"


def _is_told_all(entry: Entry, terms: Terms) -> bool:
    """Whether the calls of a tell, whose end nobody sees, say by themselves what came of it."""
    last = entry.calls[-1] if entry.calls else None
    raced = any(is_race(*pair, terms) for pair in pairwise(entry.calls))
    decided = (
        not raced and last is not None and (last.end is CallEnd.VALUE or last.move is Move.CALLER)
    )
    took_s = entry.trail[-1][0] - entry.sent_at if entry.trail else 0.0
    return decided and took_s < min(terms.timeout_s, entry.send.timeout_s or terms.timeout_s)
