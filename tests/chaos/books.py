"""The model of a pool's statistics: what they must say when it is at rest. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chaos.entry import CallEnd, End, Entry
from chaos.model import Terms, is_undisturbed
from chaos.moves import COUNTED
from greenroom import PoolStats


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
        sure = valued and terms.clear and not entry.cancel_asked and entry.send.timeout_s is None
        least, most = self.tells_answered
        self.tells_answered = (least + (sure and not _may_time_out(entry)), most + valued)


def _may_time_out(entry: Entry) -> bool:
    """Whether a tell took so long that its attempt may have been cut off: it has no end to ask."""
    return entry.trail[-1][0] - entry.trail[0][0] >= 1.0 if entry.trail else False


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


def judge_members(
    before: PoolStats, after: PoolStats, entries: Iterable[Entry], terms: Terms
) -> Iterator[str]:
    """What cannot be so of the members' counts after a clear round."""
    successes, failures, perhaps = _outcomes(entries, terms)
    for member in after.members:
        name = member.name
        gained = member.successes - before[name].successes
        if not successes[name] <= gained <= successes[name] + perhaps[name]:
            yield f"{name} gained {gained} successes, its agent saw {successes[name]}"
        gained = member.failures - before[name].failures
        if not failures[name] <= gained <= failures[name] + perhaps[name]:
            yield f"{name} gained {gained} failures, its agent saw {failures[name]}"


def _outcomes(
    entries: Iterable[Entry], terms: Terms
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By member: the successes and failures that must have been counted, and what may have been."""
    successes: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    perhaps: Counter[str] = Counter()
    for entry in entries:
        sure = is_undisturbed(entry, terms) and not entry.is_tell
        for call in entry.calls:
            if not sure:
                perhaps[call.member] += 1
            elif call.end is CallEnd.VALUE:
                successes[call.member] += 1
            elif call.move in COUNTED:
                failures[call.member] += 1
    return successes, failures, perhaps
