"""What a log says of a pool: how it is set up, and how its members have done. Pure."""

from __future__ import annotations

import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Line = Mapping[str, Any]
"""A line of `greenroom.log(format="json")`."""

_SUSPECTED = re.compile(
    r"pool '(?P<pool>[^']*)': member '(?P<member>[^']*)' took (?P<elapsed>[\d.]+) s to fail .*"
    r" usually takes (?P<usual>[\d.]+) s to answer: its client seems to retry by itself"
)
"""What a pool says itself, once for a member: `actors.policy.client_retries.HINT`."""

_LONGEST_HINT = 2_000
"""Characters: what is longer is none, and might take for ever to be looked through."""

_OF_NOBODY = ("cancelled", "interrupted")
"""Failures that say nothing of who has failed."""

_LARGEST = sys.float_info.max
_NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"


@dataclass(slots=True)
class MemberHistory:
    """What is known of a member.

    Attributes:
        weight, priority, cost: what is declared of it.
        declared: whether the log has its beginning.
        left: whether it has left the pool, or was kept out by hand.
        asked: how often it was given a request; attempts that have ended, if the log does not say.
        answers_s: how long each of its answers took, in seconds.
        untimed: answers of which it is not known how long they took.
        failures: how many of each kind.
        said: the first error of each kind.
        refusals_s: how long each refusal took, by its kind.
        cut_s: how long the calls took that were cut between two that went well.
        suspected: what the pool has said of its client.
        last_error: what an endpoint says that it has failed by.
    """

    name: str
    weight: float = 1.0
    priority: int = 0
    cost: float = 0.0
    declared: bool = False
    left: bool = False
    asked: int = 0
    untimed: int = 0
    answers_s: array[float] = field(default_factory=lambda: array("d"))
    failures: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)
    refusals_s: dict[str, array[float]] = field(default_factory=dict)
    cut_s: array[float] = field(default_factory=lambda: array("d"))
    suspected: str = ""
    last_error: str = ""
    _cut: float | None = None
    _well: bool = False

    def answered(self, elapsed_s: float) -> None:
        """It has answered after so long."""
        self.answers_s.append(elapsed_s)
        if self._cut is not None:
            self.cut_s.append(self._cut)
        self._cut, self._well = None, True

    def failed(self, kind: str, elapsed_s: float, error: str) -> None:
        """It has failed after so long."""
        if kind in _OF_NOBODY:
            return
        self.failures[kind] += 1
        self.said.setdefault(kind, error)
        # One that was cut counts where the call before it and the one after it went well: those of
        # an outage follow upon one another.
        self._cut = elapsed_s if kind == "timeout" and self._well else None
        self._well = False
        if kind in ("rate_limited", "unavailable"):
            self.refusals_s.setdefault(kind, array("d")).append(elapsed_s)

    @property
    def answers(self) -> int:
        """How often it has answered."""
        return len(self.answers_s) + self.untimed

    @property
    def ended(self) -> int:
        """How many of its attempts have ended, well or badly."""
        return self.answers + self.failures.total()


@dataclass(slots=True)
class PoolHistory:
    """What is known of a pool.

    Attributes:
        strategy: its name; empty where the log does not have its beginning.
        request_timeout_s: the limit of an attempt; None: unknown, or there is none.
        seen_whole: whether each attempt is known, as of a log at DEBUG.
        timed: whether it is known how long each took; an endpoint tells how many there were.
    """

    name: str
    strategy: str = ""
    request_timeout_s: float | None = None
    seen_whole: bool = False
    timed: bool = True
    members: dict[str, MemberHistory] = field(default_factory=dict)

    def member(self, name: str) -> MemberHistory:
        """That of a member, new or not."""
        found = self.members.get(name)
        if found is None:
            found = self.members[name] = MemberHistory(name)
        return found


class Histories:
    """Those of all pools of a log; those of one name are taken for one pool."""

    def __init__(self) -> None:
        self._pools: dict[str, PoolHistory] = {}

    def __iter__(self) -> Iterator[PoolHistory]:
        return iter(self._pools.values())

    def take(self, line: Line) -> None:
        """One line of the log."""
        event, pool = line.get("event"), line.get("pool")
        if event == "log":
            self._hint(str(line.get("message", "")))
        elif isinstance(pool, str):
            history = self._pool(pool)
            if event == "pool.started":
                history.strategy = str(line.get("strategy", ""))
                history.request_timeout_s = _number(line.get("request_timeout_s"), None)
            elif event == "pool.configured":
                _changed(history, str(line.get("changes", "")))
            elif isinstance(line.get("member"), str):
                _of_member(history, history.member(line["member"]), str(event), line)

    def take_status(self, status: Mapping[str, Any]) -> int:
        """What an endpoint says of its pools at `/status.json`. Returns of how many."""
        said = 0
        for pool in _dicts(status.get("pools")):
            name, members = pool.get("name"), _dicts(pool.get("members"))
            if not isinstance(name, str) or pool.get("answers") is not True:
                continue
            said += 1
            history = self._pool(name)
            history.strategy = str(pool.get("strategy", ""))
            history.seen_whole, history.timed = True, False
            for each in members:
                _declared(history.member(str(each.get("name"))), each)
            for each in _dicts(pool.get("attempts")):
                member = history.member(str(each.get("member")))
                _counted(member, each, int(_number(each.get("count"), 0.0) or 0))
        return said

    def _pool(self, name: str) -> PoolHistory:
        found = self._pools.get(name)
        if found is None:
            found = self._pools[name] = PoolHistory(name)
        return found

    def _hint(self, message: str) -> None:
        found = _SUSPECTED.search(message[:_LONGEST_HINT])
        if found is not None:
            said = f"a refusal took {found['elapsed']} s, an answer {found['usual']} s"
            self._pool(found["pool"]).member(found["member"]).suspected = said


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _declared(member: MemberHistory, said: Mapping[str, Any]) -> None:
    """What an endpoint says of a member."""
    member.declared = True
    # By hand, or it has given up: nobody says when it is back.
    member.left = said.get("available") is False and said.get("reopens_in_s") is None
    member.weight = _number(said.get("weight"), 1.0) or 0.0
    member.priority = int(_number(said.get("priority"), 0.0) or 0)
    member.cost = _number(said.get("cost"), 0.0) or 0.0
    member.last_error = str(said.get("last_error") or "")


def _counted(member: MemberHistory, said: Mapping[str, Any], count: int) -> None:
    """So many of its attempts have ended like that."""
    outcome, kind = said.get("outcome"), str(said.get("kind"))
    member.asked += count
    if outcome == "succeeded":
        member.untimed += count
    elif outcome == "failed" and kind not in _OF_NOBODY:
        member.failures[kind] += count
        member.said.setdefault(kind, member.last_error)


def _of_member(pool: PoolHistory, member: MemberHistory, event: str, line: Line) -> None:
    elapsed_s = _number(line.get("elapsed_s"), 0.0) or 0.0
    match event:
        case "member.started":
            member.declared, member.left = True, False
            member.weight = _number(line.get("weight"), member.weight) or 0.0
            member.priority = int(_number(line.get("priority"), member.priority) or 0)
            member.cost = _number(line.get("cost"), member.cost) or 0.0
        case "member.stopped" | "member.draining" | "member.gave_up":
            member.left = True
        case "breaker.opened" if line.get("reopens_in_s") is None:
            member.left = True  # by hand
        case "attempt.started":
            member.asked += 1
            pool.seen_whole = True
        case "attempt.succeeded":
            member.answered(elapsed_s)
            pool.seen_whole = True
        case "attempt.failed":
            member.failed(str(line.get("kind")), elapsed_s, str(line.get("error", "")))
        case "member.create_failed":
            member.failed("create_failed", 0.0, str(line.get("error", "")))


def _changed(pool: PoolHistory, changes: str) -> None:
    """What a `pool.configured` says of what is looked at here."""
    limit = re.search(rf"\brequest_timeout_s \S+ -> (?:{_NUMBER}|None)", changes)
    if limit is not None:
        pool.request_timeout_s = None if limit[1] is None else float(limit[1])
    for name, member in pool.members.items():
        for which in ("weight", "priority", "cost"):
            found = re.search(rf"(?:^|, ){re.escape(name)}: {which} \S+ -> {_NUMBER}", changes)
            if found is not None:
                value = _number(float(found[1]), getattr(member, which)) or 0.0
                setattr(member, which, int(value) if which == "priority" else value)


def _number(value: object, otherwise: float | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    # Python reads Infinity, NaN and numbers of any length, and other programs write them.
    return float(value) if -_LARGEST <= value <= _LARGEST else otherwise
