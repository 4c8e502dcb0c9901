"""Two providers of 5 calls a second each, a load of 13: what is answered in time, what is refused.

All peers are measured at the same time, each with keys of its own at one server on loopback, by the
same arrivals (a seeded Poisson stream). A request that has no answer after `DEADLINE_S` is given
up, whatever the peer says. A load takes as long as it takes, so there is one round of each.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import load, provider
from benchmarks.model import Case, Comparison, Group, Measure, NotMeasured, Scale, Sheet, versus
from benchmarks.peers.base import LimitedCall, Peer, Providers

SEED = 1
DEADLINE_S = 3.0
PROVIDERS = ("a", "b")
REST_S = 0.5
"""After a load, until what a peer still does is over and counted."""
OTHERS = tuple(f"t-{number}" for number in range(1, 10))
BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, and what a peer is told of the providers' limits.

    Attributes:
        rates: requests a second, by tenant.
        told: the limit of each provider as the peer is told it, in calls a second; None: nothing.
        fair: the peer is to share out the providers to the tenants.
        out: the part of the load in which the providers answer nobody: begin and end, 0 to 1.
    """

    name: str
    title: str
    rates: dict[str, float]
    told: float | None = None
    fair: bool = False
    out: tuple[float, float] | None = None

    def out_s(self, seconds: float) -> tuple[float, float] | None:
        """The same in seconds after the beginning."""
        return None if self.out is None else (self.out[0] * seconds, self.out[1] * seconds)


ALL = {BUSY: 13.0}
SCENARIOS = (
    Scenario("unknown", "limits that nobody is told", ALL),
    Scenario("right", "limits as they are", ALL, told=5.0),
    Scenario("half", "limits told as half of what they are", ALL, told=2.5),
    Scenario("double", "limits told as double of what they are", ALL, told=10.0),
    Scenario(
        "tenants",
        "one tenant at 100x of nine others",
        {BUSY: 25.0, **dict.fromkeys(OTHERS, 0.25)},
        told=5.0,
        fair=True,
    ),
    Scenario(
        "blip",
        "a network that is away for 2 s, 6 requests a second",
        {BUSY: 6.0},
        out=(0.375, 0.5),
    ),
)


async def played(
    call: LimitedCall, scenario: Scenario, url: str, owner: str, scale: Scale
) -> load.Result:
    """The whole load through one peer, its times divided by the pace."""
    asked = load.arrivals(scenario.rates, scale.load_s, SEED)
    await call(BUSY)  # pays for what is bought once
    await asyncio.sleep((provider.PER_S + REST_S) * scale.pace)
    before = await asyncio.to_thread(provider.account, url, owner)
    out_s = scenario.out_s(scale.load_s)
    gc.collect()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(each: load.Asked) -> load.Told:
        due = began + each.at_s * scale.pace
        await asyncio.sleep(due - loop.time())
        # A late start is the peer's own: its process has the loop.
        try:
            async with asyncio.timeout_at(due + DEADLINE_S * scale.pace):
                await call(each.tenant)
        except Exception as error:
            return load.Told(each, None, type(error).__name__)
        return load.Told(each, (loop.time() - due) / scale.pace)

    async def away() -> float | None:
        if out_s is None:
            return None
        for_s = out_s[1] - out_s[0]
        await asyncio.sleep(began + out_s[0] * scale.pace - loop.time())
        await asyncio.to_thread(provider.out, url, owner, for_s * scale.pace)
        return (loop.time() - began) / scale.pace + for_s

    outage = asyncio.create_task(away())
    told = await asyncio.gather(*(one(each) for each in asked))
    back_s = await outage
    await asyncio.sleep(REST_S * scale.pace)
    seen = await asyncio.to_thread(provider.account, url, owner)
    whole = load.Providers(
        len(PROVIDERS) * provider.AMOUNT, provider.PER_S, provider.TAKES_S, out_s
    )
    return load.Result(told, seen - before, load.possible(asked, whole, DEADLINE_S), back_s)


def _result(peer: Peer, scenario: Scenario, scale: Scale) -> load.Result:
    """Plays a scenario once in a process: the figures of one load are several cases."""
    results: dict[str, load.Result] = vars(peer).setdefault("limits_results", {})
    if scenario.name not in results:
        url, owner = os.environ[provider.URL], f"{scenario.name}-{os.getpid()}"
        told = None if scenario.told is None else scenario.told / scale.pace
        deadline_s = DEADLINE_S * scale.pace
        providers = Providers(url, owner, PROVIDERS, told, scenario.fair, deadline_s, scale.pace)

        async def whole() -> load.Result:
            async with peer.limited(providers) as call:
                return await played(call, scenario, url, owner, scale)

        results[scenario.name] = asyncio.run(whole())
    return results[scenario.name]


Figure = Callable[[load.Result], float | None]


def _some(figure: float | None) -> float:
    if figure is None:
        raise NotMeasured("nothing was answered")
    return figure


def _case(scenario: Scenario, column: str, title: str, unit: Any, figure: Figure) -> Case:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        yield lambda: _some(figure(_result(peer, scenario, scale)))

    return Case(
        f"limits.{scenario.name}.{column}", f"{scenario.title}: {title}", unit, PEERS, prepare
    )


NINE = frozenset(OTHERS)
PEERS = (
    "greenroom",
    "greenroom-auto",
    "litellm",
    "litellm-usage",
    "nopanic",
    "tokentaxi",
    "loop",
    "loop-waiting",
)
COLUMNS = (
    ("answered", "answered of what was possible"),
    ("refused", "429s and cut calls of all calls"),
    ("p50", "p50"),
    ("p99", "p99"),
    ("nine", "answered of the nine"),
    ("nine_p99", "p99 of the nine"),
    ("first", "first answer after its end"),
)
TITLES = dict(COLUMNS)


def _cases(scenario: Scenario) -> Iterator[Case]:
    yield _case(scenario, "answered", TITLES["answered"], "%", lambda result: result.answered)
    yield _case(scenario, "refused", TITLES["refused"], "%", lambda result: result.refused)
    yield _case(scenario, "p50", TITLES["p50"], "s", lambda result: result.quantile_s(0.50))
    yield _case(scenario, "p99", TITLES["p99"], "s", lambda result: result.quantile_s(0.99))
    if scenario.fair:
        yield _case(scenario, "nine", TITLES["nine"], "%", lambda result: result.part(NINE))
        yield _case(
            scenario,
            "nine_p99",
            TITLES["nine_p99"],
            "s",
            lambda result: result.quantile_s(0.99, NINE),
        )
    if scenario.out is not None:
        yield _case(scenario, "first", TITLES["first"], "s", lambda result: result.first_after_s)


CASES = tuple(case for scenario in SCENARIOS for case in _cases(scenario))
BESIDE = PEERS[1:]


def _comparisons() -> Iterator[Comparison]:
    """Ahead is who answers more, and the nine sooner; who answers little may be quick."""
    for scenario in SCENARIOS:
        yield from versus(f"limits.{scenario.name}.answered", BESIDE, at_least=1.0)
        if scenario.fair:
            yield from versus(f"limits.{scenario.name}.nine", BESIDE, at_least=1.0)
        if scenario.out is not None:
            yield from versus(f"limits.{scenario.name}.first", BESIDE, at_most=1.0)


GROUP = Group(
    "limits",
    "Rate limits",
    CASES,
    tuple(_comparisons()),
    together=True,
    beside=provider.running,
    sheet=Sheet(tuple((each.name, each.title) for each in SCENARIOS), COLUMNS),
)
