"""Why a strategy has chosen a member and not another one, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from greenroom.flight.flight_lines import MemberFacts
from greenroom.flight.flight_log import FlightLog
from greenroom.flight.flight_steps import Given
from greenroom.flight.reasons import joined, seconds

Members = Sequence[MemberFacts]


class Seen:
    """What the strategy saw of the members in one decision.

    Args:
        tried: the indices of those that had the request before.
    """

    def __init__(self, given: Given, members: Members, tried: Collection[int] = ()) -> None:
        self.given = given
        self.members = {each.index: each for each in members}
        self.place = {each.index: place for place, each in enumerate(members)}
        self.chosen = given.member
        gone = {each[0] for each in (*given.out, *given.barred)} | set(tried)
        self.candidates = [each for each in members if each.index not in gone]

    def load(self, index: int) -> int:
        """Calls that ran on it, without the one that begins."""
        loads, place = self.given.loads, self.place.get(index)
        if place is None or place >= len(loads):
            return 0
        return loads[place] - (index == self.chosen)

    def latency(self, index: int) -> float | None:
        """What it was expected to take, in seconds; None if nobody knew."""
        known, place = self.given.latencies, self.place.get(index)
        return None if place is None or place >= len(known) else known[place]

    def error_rate(self, index: int) -> float:
        """From 0 to 1."""
        known, place = self.given.error_rates, self.place.get(index)
        return 0.0 if place is None or place >= len(known) else known[place]

    def share(self, index: int) -> str:
        """Of what it takes, in use."""
        member = self.members[index]
        return f"{self.load(index)} of {member.max_concurrency} calls"

    def speed(self, index: int) -> str:
        """What was expected of it."""
        latency, rate = self.latency(index), self.error_rate(index)
        words = "not measured yet" if latency is None else seconds(latency)
        return words + (f", {rate:.0%} failed of late" if rate else "")


Words = Callable[[Seen, int], str]


def _fact(name: str) -> Words:
    return lambda seen, index: f"{name} {getattr(seen.members[index], name):g}"


def _loaded(seen: Seen, index: int) -> str:
    return seen.share(index)


def _loaded_and_failing(seen: Seen, index: int) -> str:
    return f"{seen.error_rate(index):.0%} failed of late, {seen.share(index)}"


def _fast(seen: Seen, index: int) -> str:
    return f"expected {seen.speed(index)}, {seen.share(index)}"


def _place(seen: Seen, index: int) -> str:
    return f"number {seen.place[index] + 1} in the order"


_RULES: Mapping[str, tuple[str, Words]] = {
    "round_robin": ("members take turns, and it was its turn", _place),
    "random": ("it was drawn, each as likely as the others", _place),
    "weighted": ("members take turns by weight, and it was its turn", _fact("weight")),
    "priority": ("the lowest priority number that is free goes first", _fact("priority")),
    "least_latency": ("the lowest expected time, times the calls that run", _fast),
    "least_errors": (
        "the one that fails least of late, then the least loaded",
        _loaded_and_failing,
    ),
    "least_outstanding": ("the least loaded goes first", _loaded),
    "adaptive": (
        "the fastest goes first, and those about as fast (within a quarter) share by load",
        _fast,
    ),
    "power_of_two": ("the less loaded of two that are drawn", _loaded),
    "consistent_hash": ("its key ranks it first of those that could take it", _fact("weight")),
    "failover": ("the first in the order that can take it", _place),
    "cheapest": ("the lowest cost that has room goes first", _fact("cost")),
}


def chosen_since(
    log: FlightLog, given: Given, members: Members, tried: Collection[int] = ()
) -> str:
    """Why that member was chosen."""
    seen = Seen(given, members, tried)
    strategy = log.header.strategy
    if not given.loads:
        return f"{strategy} chose it"
    if [each.index for each in seen.candidates] == [given.member]:
        return "it was the only one that could take it"
    rule, words = _RULES.get(strategy, ("the app's own strategy chose it", _loaded))
    said = f"by {strategy}, {rule}" if strategy in _RULES else rule
    if given.member not in seen.members:
        return said
    others = joined([each.name for each in seen.candidates if each.index != given.member])
    among = f"; {others} could have taken it as well" if others else ""
    return f"{said} ({words(seen, given.member)}){among}"


def passed_by(log: FlightLog, given: Given, members: Members, index: int) -> str:
    """Why the strategy did not choose one that could have taken it."""
    seen = Seen(given, members)
    strategy = log.header.strategy
    if strategy not in _RULES or given.member not in seen.members:
        return f"it could have taken it, and {strategy} chose otherwise"
    _, words = _RULES[strategy]
    mine, other = words(seen, index), words(seen, given.member)
    if mine == other:
        return f"it was as good ({mine}), and chance or the turn decided"
    return f"{mine}, against {other}"


def would_have_taken(log: FlightLog, given: Given, members: Members, index: int) -> str | None:
    """What would have made a member the choice that was not; None if that is not worth a word."""
    seen = Seen(given, members)
    member, chosen = seen.members.get(index), seen.members.get(given.member)
    if member is None or chosen is None:
        return None
    strategy, name = log.header.strategy, member.name
    out = next((each for each in given.out if each[0] == index), None)
    barred = next((each for each in given.barred if each[0] == index), None)
    if barred is not None and barred[1] in ("not_named", "ruled_out"):
        return f"Without its only or exclude, {name} could have had it."
    if out is not None:
        reason, until = out[1], out[2]
        if reason == "saturated":
            return (
                f"With more room on {name} (max_concurrency above {out[3]}) it could have had it."
            )
        if until is not None and until > given.at:
            wait = seconds(until - given.at)
            return f"Had it come {wait} later, {name} might have been back."
        return None
    if member.cost < chosen.cost and strategy != "cheapest":
        return (
            f"{name} is cheaper ({member.cost:g} against {chosen.cost:g}) and was free, but "
            f"{strategy} does not look at costs: strategy='cheapest' would have chosen it."
        )
    return None
