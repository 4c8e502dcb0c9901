"""How long a member takes: the distributions that a scenario can name."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from greenroom.messages import _validate as check

Draw = Callable[[], float]


class Latency(Protocol):
    """A distribution of seconds, none of them negative."""

    @property
    def mean_s(self) -> float:
        """What the draws come to on average."""
        ...

    def drawn_with(self, rng: random.Random) -> Draw:
        """What draws one value each time it is called."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    mean_s: float

    def __post_init__(self) -> None:
        check.number("mean_s", self.mean_s)

    def drawn_with(self, rng: random.Random) -> Draw:
        return lambda: self.mean_s


@dataclass(frozen=True, slots=True)
class Normal:
    """The bell curve; what would be negative is 0. Its mean is stated without that cut."""

    mean_s: float
    sigma_s: float

    def __post_init__(self) -> None:
        check.number("mean_s", self.mean_s, above=True)
        check.number("sigma_s", self.sigma_s)

    def drawn_with(self, rng: random.Random) -> Draw:
        return lambda: max(0.0, rng.normalvariate(self.mean_s, self.sigma_s))


@dataclass(frozen=True, slots=True)
class Exponential:
    """Without memory: what queueing theory calls M."""

    mean_s: float

    def __post_init__(self) -> None:
        check.number("mean_s", self.mean_s, above=True)

    def drawn_with(self, rng: random.Random) -> Draw:
        uniform, mean_s = rng.random, self.mean_s
        # 1 - u: u may be 0, and never is 1.
        return lambda: -math.log(1.0 - uniform()) * mean_s


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The exponential of a bell curve: most answers soon, a few very late, as of language models.

    Its median is exp(mu), its mean exp(mu + sigma**2 / 2).
    """

    median_s: float
    sigma: float

    def __post_init__(self) -> None:
        check.number("median_s", self.median_s, above=True)
        _check_sigma(self.sigma)

    @classmethod
    def of_mean(cls, mean_s: float, sigma: float) -> LogNormal:
        """The one with that mean."""
        check.number("mean_s", mean_s, above=True)
        _check_sigma(sigma)
        return cls(mean_s / math.exp(sigma**2 / 2), sigma)

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)

    def drawn_with(self, rng: random.Random) -> Draw:
        mu = math.log(self.median_s)
        return lambda: math.exp(rng.normalvariate(mu, self.sigma))


def _check_sigma(sigma: float) -> None:
    check.number("sigma", sigma, maximum=10.0)  # beyond it, means leave the range of a float


# By the values that are given: they say which of two ways to describe it is meant.
_MAKERS: Mapping[str, Mapping[frozenset[str], Callable[..., Latency]]] = {
    "constant": {frozenset({"mean_s"}): Constant},
    "normal": {frozenset({"mean_s", "sigma_s"}): Normal},
    "exponential": {frozenset({"mean_s"}): Exponential},
    "lognormal": {
        frozenset({"mean_s", "sigma"}): LogNormal.of_mean,
        frozenset({"median_s", "sigma"}): LogNormal,
    },
}


def latency_of(kind: Any, values: Mapping[str, Any]) -> Latency:
    """The distribution of that kind.

    Raises:
        TypeError, ValueError: no such kind, other values than the kind has, or one out of range.
    """
    if not isinstance(kind, str) or kind not in _MAKERS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _MAKERS))}, got {kind!r}")
    maker = _MAKERS[kind].get(frozenset(values))
    if maker is None:
        wanted = " or ".join(", ".join(sorted(each)) for each in _MAKERS[kind])
        got = ", ".join(sorted(values)) or "nothing"
        raise ValueError(f"kind {kind!r} must come with {wanted}, got {got}")
    return maker(**values)
