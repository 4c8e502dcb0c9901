"""What goes wrong with a member for a while: it is slower, fails, hangs, or limits the rate."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from greenroom.messages import _validate as check
from greenroom.messages.status import FailureKind
from greenroom.simulate.latency import Latency


class Ending(NamedTuple):
    """How a call will end: after so many seconds (inf: never), and with what failure, if any."""

    seconds: float
    kind: FailureKind | None = None
    retry_after_s: float | None = None


Effect = Callable[[Ending, float], Ending]
"""Makes of the ending a call would have, and of the moment at which it begins, the one it has."""


class Trouble(Protocol):
    """A kind of fault. It befalls the calls that a member begins while it lasts."""

    def effect(self, rng: random.Random) -> Effect:
        """What it does, in one run of the simulation."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """A trouble and its time, in seconds since the start: from `from_s` until before `until_s`."""

    trouble: Trouble
    from_s: float
    until_s: float

    def __post_init__(self) -> None:
        check.number("from_s", self.from_s)
        check.number("until_s", self.until_s)
        if self.until_s <= self.from_s:
            raise ValueError(
                f"until_s must be greater than from_s ({self.from_s!r}), got {self.until_s!r}"
            )


@dataclass(frozen=True, slots=True)
class Slow:
    """Takes `factor` times as long, or as long as another distribution says."""

    factor: float | None = None
    latency: Latency | None = None

    def __post_init__(self) -> None:
        check.number("factor", self.factor, above=True, optional=True)
        if (self.factor is None) == (self.latency is None):
            given = "neither" if self.factor is None else "both"
            raise ValueError(f"exactly one of factor and latency must be given, got {given}")

    def effect(self, rng: random.Random) -> Effect:
        if self.latency is not None:
            draw = self.latency.drawn_with(rng)
            return lambda ending, now: ending._replace(seconds=draw())
        factor = self.factor or 1.0
        return lambda ending, now: ending._replace(seconds=ending.seconds * factor)


@dataclass(frozen=True, slots=True)
class Failing:
    """Fails with the probability `rate`, after `after_s` seconds; `kind` says how."""

    rate: float = 1.0
    after_s: float = 0.0
    kind: FailureKind = FailureKind.UNAVAILABLE

    def __post_init__(self) -> None:
        check.number("rate", self.rate, maximum=1.0, above=True)
        check.number("after_s", self.after_s)

    def effect(self, rng: random.Random) -> Effect:
        failure = Ending(self.after_s, self.kind)
        return lambda ending, now: failure if rng.random() < self.rate else ending


@dataclass(frozen=True, slots=True)
class Hanging:
    """Never answers, with the probability `rate`: only a timeout or a deadline ends the call."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        check.number("rate", self.rate, maximum=1.0, above=True)

    def effect(self, rng: random.Random) -> Effect:
        never = Ending(math.inf)
        return lambda ending, now: never if rng.random() < self.rate else ending


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Refuses what exceeds `per_s` calls a second, with a Retry-After, after `after_s` seconds.

    A token bucket: it holds `burst` calls when full, and is full when the fault begins.
    """

    per_s: float
    burst: int = 1
    retry_after_s: float | None = None
    after_s: float = 0.0

    def __post_init__(self) -> None:
        check.number("per_s", self.per_s, above=True)
        check.whole("burst", self.burst, minimum=1)
        check.number("retry_after_s", self.retry_after_s, above=True, optional=True)
        check.number("after_s", self.after_s)

    def effect(self, rng: random.Random) -> Effect:
        refusal = Ending(self.after_s, FailureKind.RATE_LIMITED, self.retry_after_s)
        # Full from the start of the run, so full when the fault begins: it cannot hold more.
        tokens, stamp = float(self.burst), 0.0

        def limited(ending: Ending, now: float) -> Ending:
            nonlocal tokens, stamp
            tokens, stamp = min(self.burst, tokens + (now - stamp) * self.per_s), now
            if tokens < 1.0:
                return refusal
            tokens -= 1.0
            return ending

        return limited
