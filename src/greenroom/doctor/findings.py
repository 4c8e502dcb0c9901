"""What may be wrong in a set-up, and the rules that find it. Pure.

A rule is meant to be quiet: what an outage looks like is no fault of the set-up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from greenroom.actors.policy.client_retries import LEAST_S, TIMES_USUAL
from greenroom.doctor.pool_history import MemberHistory, PoolHistory
from greenroom.messages import advice
from greenroom.messages.status import FailureKind, LoadBalanceStrategy

FEW = 5
"""So many failures, or slow refusals, say little yet."""
ANSWERS = 10
"""So many answers are needed to say what a usual one takes."""
CUT_SHARE = 0.05
"""With more of the calls cut than that, the limit is below their 95th percentile."""
THROTTLED_SHARE = 0.05
"""A member that refuses more of its calls than that is asked too often."""
REQUESTS = 100
"""So many attempts of others, and none of a member: it is not used."""

_LASTING = (
    FailureKind.AUTH,
    FailureKind.QUOTA,
    FailureKind.NOT_FOUND,
    FailureKind.TOO_LARGE,
    FailureKind.CREATE_FAILED,
)
"""Kinds that are somebody's to mend: no outage brings them."""

_READS = {
    "weight": (LoadBalanceStrategy.WEIGHTED, LoadBalanceStrategy.CONSISTENT_HASH),
    "priority": (LoadBalanceStrategy.PRIORITY,),
    "cost": (LoadBalanceStrategy.CHEAPEST,),
}
"""What is declared of members, and the strategies that go by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        rule: which rule has found it.
        pool: the pool's name.
        members: whom it concerns.
        what: what is wrong, in a sentence.
        seen: the evidence, in figures.
        change: what to do about it.
        page: the page of the documentation that has more.
    """

    rule: str
    pool: str
    members: tuple[str, ...]
    what: str
    seen: str
    change: str
    page: str


Rule = Callable[[PoolHistory], Iterable[Finding]]


def findings(pool: PoolHistory) -> list[Finding]:
    """All that is wrong with a pool, the worst first."""
    return [found for rule in RULES for found in rule(pool)]


def not_checked(pool: PoolHistory) -> tuple[str, ...]:
    """What could not be looked at, since the log does not have it."""
    missing = []
    if not pool.seen_whole:
        missing.append("timeouts and members that are never used: the log has no DEBUG lines")
    if not pool.timed:
        missing.append(
            "timeouts and clients that retry: an endpoint does not say how long each call took, "
            "a log at DEBUG does"
        )
    if not pool.strategy:
        missing.append("the strategy: the log does not have the pool's start")
    return tuple(missing)


def _client_retries(pool: PoolHistory) -> Iterator[Finding]:
    """Refusals that take as long as several of them with pauses between."""
    for member in pool.members.values():
        seen = _slow_refusals(member) or member.suspected
        if seen:
            yield Finding(
                rule="client-retries",
                pool=pool.name,
                members=(member.name,),
                what=f"the client of {member.name} seems to retry by itself, inside of the pool's",
                seen=seen,
                change="turn its own retries off, as by max_retries=0 where its client is made",
                page="docs/clients.md",
            )


def _slow_refusals(member: MemberHistory) -> str:
    if len(member.answers_s) < ANSWERS:
        return ""
    usual_s = statistics.median(member.answers_s)
    refusals_s = [each for kind in member.refusals_s.values() for each in kind]
    slow_s = [each for each in refusals_s if each > max(LEAST_S, TIMES_USUAL * usual_s)]
    if len(slow_s) < FEW or 2 * len(slow_s) <= len(refusals_s):
        return ""
    return (
        f"{len(slow_s)} of {len(refusals_s)} refusals took {statistics.median(slow_s):.1f} s, "
        f"an answer takes {usual_s:.1f} s (medians)"
    )


def _short_timeouts(pool: PoolHistory) -> Iterator[Finding]:
    """A limit that cuts more than one call in twenty, though the calls around it go well."""
    for member in pool.members.values():
        cut, answers = len(member.cut_s), len(member.answers_s)
        if cut <= FEW or cut <= CUT_SHARE * (cut + answers):
            continue
        limit_s = pool.request_timeout_s or min(member.cut_s)
        share, usual_s = cut / (cut + answers), statistics.median(member.answers_s)
        yield Finding(
            rule="short-timeout",
            pool=pool.name,
            members=(member.name,),
            what=f"the limit of an attempt is shorter than the 95th percentile of {member.name}",
            seen=(
                f"{cut} of {cut + answers} calls ({share:.0%}) were cut after {limit_s:g} s, each "
                f"between two that went well; the median is {usual_s:.1f} s"
            ),
            change=f"raise request_timeout_s ({limit_s:g}) above what its slow answers take",
            page="docs/retries.md",
        )


def _one_kind(pool: PoolHistory) -> Iterator[Finding]:
    """Every failure of a member of one kind, which does not pass by itself."""
    for member in pool.members.values():
        if len(member.failures) != 1:
            continue
        (kind, count), *_ = member.failures.items()
        if count < FEW or not _is_of_the_set_up(pool, member, kind, count):
            continue
        answers = member.answers if pool.seen_whole else None
        beside = "" if answers is None else f", beside {answers} answers"
        which = "first" if pool.timed else "last"
        yield Finding(
            rule="one-kind",
            pool=pool.name,
            members=(member.name,),
            what=f"every failure of {member.name} is of one kind: {kind}",
            seen=f"{count} of {count} failures{beside}; the {which} said: {member.said[kind]}",
            change=advice.of_kind(FailureKind(kind)),
            page="docs/failures.md",
        )


def _is_of_the_set_up(pool: PoolHistory, member: MemberHistory, kind: str, count: int) -> bool:
    if kind in _LASTING:
        return True
    if kind == FailureKind.RATE_LIMITED:
        return pool.seen_whole and count > THROTTLED_SHARE * member.ended and count > 2 * FEW
    # It has never answered, and others have: an address, say.
    if kind not in (FailureKind.UNAVAILABLE, FailureKind.TIMEOUT, FailureKind.UNKNOWN):
        return False
    if not pool.seen_whole or member.answers:
        return False
    return any(each.answers for each in pool.members.values())


def _never_used(pool: PoolHistory) -> Iterator[Finding]:
    """Somebody who gets nothing, though others get much and nothing keeps him out."""
    if not pool.seen_whole:
        return
    asked = sum(max(each.asked, each.ended) for each in pool.members.values())
    if asked < REQUESTS or pool.strategy == LoadBalanceStrategy.FAILOVER:
        return
    for member in pool.members.values():
        if not member.declared or member.left or member.asked or member.ended:
            continue
        if _stands_by(pool, member):
            continue
        reads_weight = pool.strategy in _READS["weight"]
        why = "its weight is 0" if reads_weight and member.weight == 0 else "nobody kept it out"
        yield Finding(
            rule="never-used",
            pool=pool.name,
            members=(member.name,),
            what=f"{member.name} is never used",
            seen=f"0 of {asked} attempts ({pool.strategy}); {why}",
            change="give it a weight, or tags that requests ask for; else take it out of the pool",
            page="docs/routing.md",
        )


def _stands_by(pool: PoolHistory, member: MemberHistory) -> bool:
    """Whether it is meant for when others are out."""
    for what in ("priority", "cost"):
        if pool.strategy in _READS[what]:
            least = min(getattr(each, what) for each in pool.members.values() if each.declared)
            return bool(getattr(member, what) > least)
    return False


def _unread(pool: PoolHistory) -> Iterator[Finding]:
    """Weights, priorities, costs that the strategy does not go by."""
    if pool.strategy not in list(LoadBalanceStrategy):
        return  # one of the app's own: who knows what it reads
    declared = [each for each in pool.members.values() if each.declared]
    for what, strategies in _READS.items():
        values = {each.name: getattr(each, what) for each in declared}
        if len(set(values.values())) < 2 or pool.strategy in strategies:
            continue
        plural = {"weight": "weights", "priority": "priorities", "cost": "costs"}[what]
        yield Finding(
            rule="unread-values",
            pool=pool.name,
            members=tuple(values),
            what=f"the strategy {pool.strategy} does not go by the {plural} of members",
            seen=", ".join(f"{name} {value:g}" for name, value in values.items()),
            change=f"strategy={_quoted(strategies)}, or leave the {plural} out",
            page="docs/strategies.md",
        )


def _quoted(strategies: Sequence[LoadBalanceStrategy]) -> str:
    return " or ".join(f'"{each.value}"' for each in strategies)


RULES: tuple[Rule, ...] = (_one_kind, _client_retries, _short_timeouts, _never_used, _unread)
"""In the order in which what they find is told."""
