"""The fault plan: what is sent and what goes wrong, in order. Pure: a function of seed and size."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chaos.moves import KINDS, POISON, QUIET, Move
from chaos.steps import BLOCKS, ONCE, STREAMS, Do, Manner, Reading, Send, Step, Way, names_of
from chaos.weather import CLEAR, STREAM_MOVES, Fault, Weather, weather_of
from greenroom import LoadBalanceStrategy

STRATEGIES = tuple(LoadBalanceStrategy)
MOST_ACTS = 12
"""Pools that one run goes through: enough for every strategy."""
ROUND = 1000
"""Requests between two rests, at most."""


POISONED = 0.02
"""The share of requests that fail in the same way on whoever is given them."""


class Ending(StrEnum):
    """How a pool is ended, in the middle of its traffic."""

    DRAIN = "drained"
    LATE_DRAIN = "drained, too slowly"
    STOP = "stopped"


@dataclass(frozen=True, slots=True)
class Round:
    """Some traffic under one weather, followed by a rest (the last of an act: by its ending)."""

    number: int
    weather: Weather
    observed: bool
    size: int
    seed: str

    def steps(self) -> Iterator[Step]:
        """What happens, in order."""
        rng = random.Random(self.seed)
        for _ in range(self.size):
            yield self._send(rng)
            yield from self._faults(rng)

    def _send(self, rng: random.Random) -> Send:
        way = rng.choices(list(_WAYS), list(_WAYS.values()))[0]
        short = rng.random() < self.weather.deadlines
        return Send(
            way,
            self._moves(way, rng),
            applied=rng.random() < 0.15 and way not in BLOCKS,
            delay_s=rng.choice((0.01, 0.1, 0.5, 2.0)),
            timeout_s=_timeout(way, short, rng),
            idempotent=rng.random() < 0.9 and way not in ONCE,
            max_retries=rng.choice((None, None, None, None, 0, 1)),
            key=rng.choice((None, "a", "b", "c")),
            cancel_after=rng.choice((0, 1, 5, 40)) if rng.random() < 0.08 else None,
            cancel_by_id=rng.random() < 0.5,
            shouts=rng.random() < 0.02,
            **(_reading(rng) if way in STREAMS else _manner(rng) if way in BLOCKS else {}),
        )

    def _moves(self, way: Way, rng: random.Random) -> tuple[Move, ...]:
        """What comes before the first move that a request does not survive, and that one."""
        if rng.random() < POISONED:
            hangs = (Move.HANG,) if Move.HANG in self.weather.moves else ()
            return (rng.choice(POISON + hangs),)
        weights = self.weather.moves | (STREAM_MOVES if way in STREAMS else {})
        moves = rng.choices(list(weights), list(weights.values()), k=4)
        fails = KINDS.keys() | QUIET.keys()
        ends = (i for i, move in enumerate(moves) if move not in fails or move is Move.CALLER)
        return tuple(moves[: next(ends, 3) + 1])

    def _faults(self, rng: random.Random) -> Iterator[Do]:
        if rng.random() < 0.3:
            yield Do(Fault.TICK, amount=rng.choice((0.01, 0.05, 0.2)))
        for fault, share in self.weather.faults.items():
            if rng.random() < share:
                yield Do(fault, rng.randrange(1000), _amount(fault, rng))


@dataclass(frozen=True, slots=True)
class Act:
    """The life of one pool.

    Attributes:
        strategy: how it routes.
        settings: of its `PoolConfig`.
        window: requests that are unanswered at a time, at most.
        seed: of the pool's own generator.
        nested: whether some of its members are pools.
        home: whether it is started in a coroutine, and its agents run on the app's own loop.
        app_ends: the round in which that loop ends, before the pool; None: it outlives the pool.
    """

    number: int
    strategy: LoadBalanceStrategy
    settings: dict[str, Any] = field(repr=False)
    window: int
    ending: Ending
    rounds: tuple[Round, ...] = field(repr=False)
    seed: int = 0
    nested: bool = False
    home: bool = False
    app_ends: int | None = None

    @property
    def requests(self) -> int:
        return sum(each.size for each in self.rounds)


_WAYS = {
    Way.FUTURE: 12,
    Way.BLOCKING: 2,
    Way.AWAITED: 4,
    Way.TELL: 2,
    Way.STREAM: 3,
    Way.ASYNC_STREAM: 3,
    Way.ATTEMPTS: 2,
    Way.ASYNC_ATTEMPTS: 3,
    Way.ACQUIRE: 1,
    Way.ASYNC_ACQUIRE: 1,
}
_MANNERS = {
    Manner.PLAIN: 8,
    Manner.TELLS: 4,
    Manner.MARKS: 4,
    Manner.PAUSES: 3,
    Manner.DROPPED: 1,
    Manner.LEFT: 1,
}
_READINGS = {Reading.ALL: 12, Reading.SLOW: 3, Reading.LEAVE: 4, Reading.DROP: 1}

SETTINGS: dict[str, Any] = {
    "circuit_reset_timeout_s": 5.0,
    "circuit_reset_max_s": 40.0,
    "health_check_interval_s": 15.0,
    "health_check_timeout_s": 4.0,
    "request_timeout_s": 10.0,
    "retry_delay_s": 0.2,
    "retry_max_delay_s": 5.0,
    "restart_period_s": 30.0,
    "restart_backoff_s": 0.2,
}
"""What every pool has in common; `acts` varies the rest."""
INNER_SETTINGS: dict[str, Any] = SETTINGS | {"max_retries": 1, "request_timeout_s": 5.0}
"""What a pool has that is a member of another."""


def acts(seed: int, requests: int) -> Iterator[Act]:
    """The plan of a run: the same for the same seed and size.

    Args:
        seed: any whole number.
        requests: how many are sent in all, checks of the slots not counted; at least 1.
    """
    count = max(1, min(MOST_ACTS, requests // 800))
    for number in range(count):
        share = requests * (number + 1) // count - requests * number // count
        yield _act(seed, number, share)


def tally(seed: int, requests: int) -> Counter[str]:
    """How often each thing is planned, by its name."""
    planned: Counter[str] = Counter()
    for act in acts(seed, requests):
        for each in act.rounds:
            for step in each.steps():
                planned.update(names_of(step))
    return planned


def _act(seed: int, number: int, requests: int) -> Act:
    rng = random.Random(f"{seed}/{number}")
    count = max(3, -(-requests // ROUND))
    sizes = (requests * (i + 1) // count - requests * i // count for i in range(count))
    offset = random.Random(f"{seed}").randrange(len(STRATEGIES))
    home = (seed + number) % 2 == 0
    act = Act(
        number,
        STRATEGIES[(offset + number) % len(STRATEGIES)],
        SETTINGS
        | {
            "when_unavailable": rng.choice(("fail", "wait")),
            "max_pending": rng.choice((20, 50, 1000)),
            "max_retries": rng.choice((0, 2, 3)),
            "half_open_permits": rng.choice((1, 3)),
            "circuit_failure_threshold": rng.choice((3, 5)),
            "retry_budget_floor": rng.choice((1.0, 10.0, 100.0)),
            "restart_intensity": rng.choice((1, 3, 10)),
            "stream_buffer": rng.choice((1, 4, 64)),
            "first_chunk_timeout_s": rng.choice((None, 4.0)),
            "chunk_timeout_s": rng.choice((None, 3.0)),
            "hedge_after_s": rng.choice((None, 0.3, "p95")),
            **_manners(random.Random(f"{seed}/{number}/manners")),
            "on_cut": random.Random(f"{seed}/{number}/cut").choice(("raise", "restart", "hold")),
        },
        window=rng.choice((30, 80, 160)),
        ending=rng.choice(list(Ending)),
        rounds=tuple(
            Round(i, _weather(rng, i, home), rng.random() < 0.3, size, f"{seed}/{number}/{i}")
            for i, size in enumerate(sizes)
        ),
        seed=rng.getrandbits(64),
        nested=(seed + number) % 4 == 3,
        home=home,
    )
    return replace(act, app_ends=_app_ends(act)) if (seed + number) % 4 == 2 else act


def _app_ends(act: Act) -> int | None:
    """The first round after which there are others, and in which calls may be cut off."""
    return next((each.number for each in act.rounds[:-1] if not each.weather.clear), None)


def _manners(rng: random.Random) -> dict[str, Any]:
    """Whether a member that has failed is asked again, or waited for."""
    return {
        "same_member_retries": rng.choice((None, 0, 1)),
        "stay_for_retry_after_s": rng.choice((0.0, 0.0, 3.0)),
    }


def _weather(rng: random.Random, number: int, home: bool) -> Weather:
    weather = CLEAR if number % 4 == 1 else weather_of(rng)
    # A Ctrl-C in an agent on the app's loop is the app's, whose program it ends.
    return replace(weather, moves=weather.moves | {Move.INTERRUPT: 0.0}) if home else weather


def _timeout(way: Way, short: bool, rng: random.Random) -> float | None:
    if way is Way.BLOCKING:  # its timeout runs on the real clock as well: too long for that to end
        return rng.choice((None, 60.0, 300.0))
    return rng.choice((0.3, 3.0, 12.0)) if short else None


def _reading(rng: random.Random) -> dict[str, Any]:
    return {
        "reading": rng.choices(list(_READINGS), list(_READINGS.values()))[0],
        "take": rng.choice((1, 1, 2, 5)),
        "before": rng.choice((0, 0, 0, 1, 1, 2, 5, 40)),
    }


def _manner(rng: random.Random) -> dict[str, Any]:
    return {
        "manner": rng.choices(list(_MANNERS), list(_MANNERS.values()))[0],
        "before": rng.choice((0, 1, 1, 3)),
    }


def _amount(fault: Fault, rng: random.Random) -> float:
    match fault:
        case Fault.JUMP:
            return rng.choice((5.0, 11.0, 60.0, 3600.0, 86400.0))
        case Fault.PAUSE:
            return rng.choice((0.5, 5.0, 60.0, 36000.0))
        case Fault.WALL:
            return rng.choice((-86400.0, -60.0, 60.0, 86400.0))
        case _:
            return 0.0
