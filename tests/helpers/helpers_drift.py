"""One script for the real pool and for the simulator, and what came of it, so that the two can be
compared: who got which attempt when, what every breaker did, what every request was answered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import pytest

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    PoolConfig,
    PoolSaturatedError,
)
from greenroom.actors.reading.classify import classify
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.policy.breaker import Breaker, Transition


class Ending(NamedTuple):
    """How a call ends: after so many seconds (inf: never), and with what failure, if any."""

    seconds: float
    kind: FailureKind | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Spell:
    """How the calls of a member end that begin while it lasts."""

    ending: Ending
    from_s: float = 0.0
    until_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedMember:
    """A member: what the pool is told of it, and how its calls end.

    Attributes:
        latency_s: how long a call takes that no spell befalls.
        spells: the first of them that lasts when a call begins says how it ends.
    """

    name: str
    latency_s: float = 0.1
    concurrency: int = 1
    weight: float = 1.0
    priority: int = 0
    spells: tuple[Spell, ...] = ()

    def ending(self, now: float) -> Ending:
        """How a call ends that begins now."""
        for spell in self.spells:
            if spell.from_s <= now < spell.until_s:
                return spell.ending
        return Ending(self.latency_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedRequest:
    """A request, and when it comes. What is None is left to the pool's settings."""

    at: float
    key: str | None = None
    priority: int = 0
    timeout_s: float | None = None
    idempotent: bool = True
    max_retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A run of a pool. Times are in seconds from its start.

    Attributes:
        seed: of all chance.
        until_s: what happens later is left out.
        spread_s: the attempts of all requests take longer by so much, by twice as much and so on,
            each by an amount of its own: two that began together do not end together, for what is
            decided first then is a matter of threads.
    """

    members: tuple[ScriptedMember, ...]
    requests: tuple[ScriptedRequest, ...]
    strategy: str = "priority"
    config: PoolConfig = field(default_factory=PoolConfig)
    seed: int = 1
    until_s: float = 60.0
    spread_s: float = 0.0

    def under(self, strategy: str, when_unavailable: str) -> Script:
        """The same with another strategy and another way with requests that nobody can take."""
        config = dataclasses.replace(self.config, when_unavailable=cast(Any, when_unavailable))
        return dataclasses.replace(self, strategy=strategy, config=config)

    def member(self, name: str) -> ScriptedMember:
        return next(each for each in self.members if each.name == name)

    def ending(self, member: str, request: int, number: int, now: float) -> Ending:
        """How an attempt ends that begins now."""
        ending = self.member(member).ending(now)
        more = self.spread_s * (1 + request + number * len(self.requests))
        return ending._replace(seconds=ending.seconds + more)


def request_id(request: int) -> str:
    return f"r{request}"


def _at(when: float) -> str:
    """Sums of the same times come out alike to about 1e-12."""
    return "never" if math.isinf(when) else f"{when:.6f}"


class Attempted(NamedTuple):
    """An attempt, and how it ended: "ok", its failure, or "cancelled"; "" while it runs."""

    started: float
    request: int
    number: int
    member: str
    ended: float = math.inf
    how: str = ""

    def __str__(self) -> str:
        run = f"{_at(self.started)} to {_at(self.ended)}"
        return f"{run} {request_id(self.request)} attempt {self.number} on {self.member} {self.how}"


class Turned(NamedTuple):
    """A breaker has changed its state."""

    at: float
    member: str
    before: CircuitState
    after: CircuitState

    def __str__(self) -> str:
        return f"{_at(self.at)} breaker of {self.member} from {self.before} to {self.after}"


class Answered(NamedTuple):
    """A request has been answered: what with, and how members had failed it if it was in vain."""

    request: int
    at: float
    what: str
    failures: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        why = ", ".join(f"{member} {kind}" for member, kind in self.failures)
        return f"{request_id(self.request)} {self.what} at {_at(self.at)} {why}".strip()


def how_it_failed(error: BaseException) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a request was answered by an error, in the words of `Answered`."""
    match error:
        case PoolSaturatedError():
            return "refused", ()
        case DeadlineExceededError():
            return "out of time", ()
        case AllPoolMembersFailedError():
            tried = {each.member: str(each.kind) for each in error.errors if each.attempts}
            return "failed", tuple(sorted(tried.items()))
        case _:
            return "failed as it is", (("", str(classify(error).kind)),)


class Trace:
    """What happened, as it happens. The pool writes from several threads: each entry is one step.

    Attributes:
        running: attempts that have not ended, by request and number.
    """

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._closed = False
        self.running: dict[tuple[int, int], Attempted] = {}
        self.over: list[Attempted] = []
        self.turned: list[Turned] = []
        self.answered: list[Answered] = []

    def began(self, now: float, request: int, number: int, member: str) -> None:
        self.running[request, number] = Attempted(now, request, number, member)

    def ended(self, now: float, request: int, number: int, how: str) -> None:
        if not self._closed:
            begun = self.running.pop((request, number))
            self.over.append(begun._replace(ended=now, how=how))

    def was_answered(self, answer: Answered) -> None:
        if not self._closed:
            self.answered.append(answer)

    def close(self) -> None:
        """Take nothing in any more."""
        self._closed = True

    @property
    def size(self) -> tuple[int, ...]:
        return len(self.running), len(self.over), len(self.turned), len(self.answered)

    def lines(self) -> list[str]:
        """All of it up to the script's end, in an order that is no matter of threads."""
        attempts = sorted([*self.over, *self.running.values()])
        until = self._until_s
        return [
            *(str(each) for each in attempts if each.started <= until),
            *(str(each) for each in sorted(self.turned) if each.at <= until),
            *(str(each) for each in sorted(self.answered) if each.at <= until),
        ]

    def has_ties(self) -> bool:
        """Whether attempts of two requests ended together: what came first is a matter of threads.
        (Two of one request do when the answer of one ends the other.)
        """
        ends = sorted((each.ended, each.request) for each in self.over)
        return any(
            later - sooner < 1e-9 and one != other
            for (sooner, one), (later, other) in itertools.pairwise(ends)
        )


@contextlib.contextmanager
def breakers_noted(trace: Trace) -> Iterator[None]:
    """Note what the breakers of pools and simulations do that are made inside of the block."""
    names: dict[int, tuple[str, Breaker]] = {}  # the breaker is kept: its id must not come twice
    make, enter = MemberRecord.__init__, Breaker._enter

    def made(record: MemberRecord, *args: Any, **kwargs: Any) -> None:
        make(record, *args, **kwargs)
        names[id(record.breaker)] = record.name, record.breaker

    def entered(breaker: Breaker, *args: Any, **kwargs: Any) -> Transition | None:
        turn = enter(breaker, *args, **kwargs)
        if turn is not None and id(breaker) in names:
            name, _ = names[id(breaker)]
            trace.turned.append(Turned(turn.at, name, turn.before, turn.after))
        return turn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemberRecord, "__init__", made)
        patch.setattr(Breaker, "_enter", entered)
        yield
