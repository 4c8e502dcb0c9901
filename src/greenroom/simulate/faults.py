"""What goes wrong with a member for a while: it is slower, fails, hangs, or limits the rate."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

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


EXACT: Final = "exact"
_SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Refuses what exceeds `per_s` calls a second, with a Retry-After, after `after_s` seconds.

    A token bucket: it holds `burst` calls when full, and is full when the fault begins. With
    `window_s` a sliding window: in no stretch of that length does it let more in.

    Attributes:
        retry_after_s: what it says; "exact": when it lets the next one in, in whole milliseconds.
    """

    per_s: float
    burst: int = 1
    retry_after_s: float | Literal["exact"] | None = None
    after_s: float = 0.0
    window_s: float | None = None

    def __post_init__(self) -> None:
        check.number("per_s", self.per_s, above=True)
        check.whole("burst", self.burst, minimum=1)
        if self.retry_after_s != EXACT:
            check.number("retry_after_s", self.retry_after_s, above=True, optional=True)
        check.number("after_s", self.after_s)
        check.number("window_s", self.window_s, above=True, optional=True)
        if self.window_s is not None and self.per_s * self.window_s < 1.0:
            raise ValueError(
                f"window_s must be such that one call fits in it at per_s ({self.per_s!r}), "
                f"got {self.window_s!r}"
            )

    def effect(self, rng: random.Random) -> Effect:
        lets_in = self._bucket() if self.window_s is None else self._window(self.window_s)

        def limited(ending: Ending, now: float) -> Ending:
            wait_s = lets_in(now)
            if not wait_s:
                return ending
            said = self.retry_after_s
            # Not a moment too early: it would be refused again.
            exact_s = max(_SHORTEST_S, math.ceil(wait_s / _SHORTEST_S) * _SHORTEST_S)
            after_s = exact_s if said == EXACT else said
            return Ending(self.after_s, FailureKind.RATE_LIMITED, after_s)

        return limited

    def _bucket(self) -> Callable[[float], float]:
        """Says in how many seconds it lets a call in; 0.0: now, and it is."""
        # Full from the start of the run, so full when the fault begins: it cannot hold more.
        tokens, stamp = float(self.burst), 0.0

        def lets_in(now: float) -> float:
            nonlocal tokens, stamp
            tokens, stamp = min(self.burst, tokens + (now - stamp) * self.per_s), now
            if tokens < 1.0 - _ABOUT:
                return (1.0 - tokens) / self.per_s
            tokens -= 1.0
            return 0.0

        return lets_in

    def _window(self, length_s: float) -> Callable[[float], float]:
        log, amount = deque[float](), math.floor(self.per_s * length_s + _ABOUT)

        def lets_in(now: float) -> float:
            while log and log[0] + length_s <= now + _ABOUT:
                log.popleft()
            if len(log) >= amount:
                return log[0] + length_s - now
            log.append(now)
            return 0.0

        return lets_in


_ABOUT = 1e-9
