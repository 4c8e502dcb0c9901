"""Picks among many members: what they look at, and that the choice stays good."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_strategies import FakeMember, Simulation

from greenroom import AgentPool, Member
from greenroom.actors.routing.routing_table import NoPick, RoutingTable
from greenroom.actors.routing.slot import FreeSlots, Slot
from greenroom.actors.strategies import (
    Candidate,
    ConsistentHash,
    Failover,
    FreeMembers,
    PickContext,
    Priority,
    RoundRobin,
    RoutingStrategy,
    Weighted,
    ranking,
    strategy_for,
)
from greenroom.actors.strategies.free_members import foremost
from greenroom.actors.strategies.order import after, at
from greenroom.actors.strategies.ranking import Ranking, highest
from greenroom.actors.strategies.sample import DRAWN, LOOKED_AT, Sample
from greenroom.messages import LoadBalanceStrategy
from greenroom.messages.errors import StrategyError
from greenroom.messages.status import SkipReason
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot
from greenroom.supervisors.member_record import MemberRecord
from greenroom.testing import FakeClock

NOW = 100.0
MANY = 1_000
SOMEBODY = object()


def crowd(count: int = MANY, **options: Any) -> list[FakeMember]:
    return [FakeMember(f"m{index}", index, **options) for index in range(count)]


def named(strategy: RoutingStrategy, members: Sequence[FakeMember]) -> RoutingStrategy:
    """The strategy, told of the members where it wants to be."""
    tell: Callable[[list[str]], None] = getattr(strategy, "members_changed", lambda names: None)
    tell([each.name for each in members])
    return strategy


def picks(
    strategy: RoutingStrategy, candidates: Sequence[Candidate], times: int
) -> list[Candidate | None]:
    rng = random.Random(0)
    return [strategy.pick(candidates, PickContext(now=NOW), rng) for _ in range(times)]


# -- the order


@given(st.sets(st.integers(0, 40)), st.integers(-1, 41))
def test_one_of_many_is_found_by_its_index(indices: set[int], index: int) -> None:
    """As a search through all would find it, whoever is missing."""
    members = [FakeMember(str(each), each) for each in sorted(indices)]
    expected = [each for each in members if each.index == index]
    assert at(members, index) is (expected[0] if expected else None)
    if members:
        assert after(members, index) is next((m for m in members if m.index > index), members[0])


# -- how many are looked at


class Counted(Sequence[FakeMember]):
    """Candidates that count how many of them are read."""

    def __init__(self, members: Sequence[FakeMember]) -> None:
        self.members = members
        self.read = 0

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, place: int) -> FakeMember: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[FakeMember]: ...

    def __getitem__(self, place: int | slice) -> FakeMember | Sequence[FakeMember]:
        self.read += 1
        return self.members[place]


@pytest.mark.parametrize("spec", ["round_robin", "random", "power_of_two", "failover"])
def test_some_look_at_a_handful_whatever_the_number(spec: str) -> None:
    """At most twelve of a thousand a pick, even when half of them are missing."""
    everybody = crowd()
    for members in (everybody, everybody[::2]):
        strategy, candidates = named(strategy_for(spec), everybody), Counted(members)
        picks(strategy, candidates, 1)
        candidates.read = 0
        picks(strategy, candidates, 100)
        assert candidates.read <= 100 * 12


@pytest.mark.parametrize("spec", ["least_latency", "least_errors", "least_outstanding", "adaptive"])
def test_the_others_look_at_twenty(spec: str) -> None:
    """The load of at most twenty is asked for, in a pool of a thousand; of all up to twenty."""

    class Asked(FakeMember):
        asked: set[str] = set()  # noqa: RUF012

        def error_rate(self, now: float) -> float:
            self.asked.add(self.name)
            return 0.0

    for count, expected in ((3, 3), (LOOKED_AT, LOOKED_AT), (MANY, LOOKED_AT)):
        strategy = strategy_for(spec)
        members = [Asked(f"m{index}", index) for index in range(count)]
        for each in members:
            each.estimate.succeeded(0.05, NOW)
        for _ in range(20):
            Asked.asked.clear()
            assert picks(strategy, members, 1) != [None]
            assert len(Asked.asked) <= expected
            assert count > LOOKED_AT or len(Asked.asked) == count


def test_a_schedule_looks_at_all_once_a_round() -> None:
    """Each turn of a weighted one is found by its place; a round of a thousand reads them twice."""
    candidates = Counted(crowd())
    picks(Weighted(), candidates, 10 * MANY)
    assert candidates.read <= 10 * 3 * (MANY + 1)


# -- that a sample is as good as a look at all


def in_flight_after(spec: str, requests: int) -> Counter[int]:
    """How many members hold how many of so many requests, none of which ends."""
    members, rng = crowd(), random.Random(5)
    strategy = strategy_for(spec)
    for _ in range(requests):
        chosen = strategy.pick(members, PickContext(now=NOW), rng)
        assert isinstance(chosen, FakeMember)
        chosen.in_flight += 1
    return Counter(each.in_flight for each in members)


@pytest.mark.parametrize("spec", ["least_outstanding", "priority", "least_errors", "adaptive"])
def test_load_spreads_as_evenly_as_if_all_were_looked_at(spec: str) -> None:
    """Five times as many requests as members: none holds more than six, and hardly any fewer than
    four; drawn blindly, one holds more than twelve.
    """
    held = in_flight_after(spec, 5 * MANY)
    assert max(held) <= 6
    assert sum(count for calls, count in held.items() if calls < 4) <= MANY // 100
    assert max(in_flight_after("random", 5 * MANY)) > 12


@pytest.mark.parametrize("spec", ["adaptive", "least_latency"])
@pytest.mark.parametrize("fast", [50, 200])
def test_the_few_fast_ones_are_found_and_kept(spec: str, fast: int) -> None:
    """50 or 200 of a thousand are ten times as fast. They soon have three quarters of the requests
    and more, although most samples of sixteen hold one of the fifty or none.
    """
    members = crowd(service_s=0.5, jitter=0.1)
    for each in random.Random(3).sample(members, fast):
        each.service_s = 0.05
    simulation = Simulation(spec, members)
    simulation.run(callers=40, requests=3 * MANY)
    counts = simulation.run(callers=40, requests=5 * MANY)
    served = sum(counts[each.name] for each in members if each.service_s < 0.1)
    assert served > 0.75 * 5 * MANY


def mean_s(spec: str, members: Sequence[FakeMember]) -> float:
    """What a request takes once the members are known."""
    simulation = Simulation(spec, members)
    simulation.run(callers=20, requests=600)
    counts = simulation.run(callers=20, requests=3_000)
    return sum(counts[each.name] * each.service_s for each in members) / 3_000


@pytest.mark.parametrize(("spec", "slack"), [("adaptive", 1.1), ("least_latency", 1.25)])
def test_requests_take_about_as_long_as_if_all_were_looked_at(
    spec: str, slack: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of ten is fast, as many are half as fast, the others a tenth."""

    def mixed() -> list[FakeMember]:
        members = crowd(150, jitter=0.1)
        for each in members:
            each.service_s = {0: 0.05, 1: 0.1}.get(each.index % 10, 0.5)
        return members

    sampled = mean_s(spec, mixed())
    monkeypatch.setattr("greenroom.actors.strategies.sample.LOOKED_AT", 150)
    assert sampled < slack * mean_s(spec, mixed())


@pytest.mark.parametrize("spec", ["adaptive", "least_latency", "least_outstanding", "least_errors"])
def test_equals_have_equal_shares(spec: str) -> None:
    """Twenty requests a member, one at a time: nobody has more than three times its share."""
    counts = Simulation(spec, crowd(jitter=0.1)).run(callers=1, requests=20 * MANY)
    assert max(counts.values()) <= 60
    assert len(counts) == MANY


@pytest.mark.parametrize("spec", ["adaptive", "least_latency"])
def test_the_unmeasured_are_found(spec: str) -> None:
    """One newcomer among a thousand: by the chance of a draw, that is in some sixty picks."""
    members = crowd()
    for each in members[:-1]:
        each.estimate.succeeded(0.05, NOW)
    needed = []
    for seed in range(20):
        strategy, rng = strategy_for(spec), random.Random(seed)
        found = (strategy.pick(members, PickContext(now=NOW), rng) for _ in range(10 * MANY))
        needed.append(next(n for n, each in enumerate(found, 1) if each is members[-1]))
    assert sum(needed) / len(needed) == pytest.approx(MANY / DRAWN, rel=0.5)


def test_the_cheapest_of_the_last_look_are_looked_at_again() -> None:
    """As long as they are candidates."""
    members, sample, rng = crowd(), Sample(), random.Random(2)

    def costs(candidates: Sequence[Candidate], now: float) -> list[float]:
        return [float(each.index) for each in candidates]

    looked_at, _ = sample.priced(members, costs, NOW, rng)
    best = sorted({each.index for each in looked_at})[: LOOKED_AT - DRAWN]
    again, _ = sample.priced(members, costs, NOW, rng)
    assert [each.index for each in again[DRAWN:]] == best
    gone = [each for each in members if each.index not in best]
    without, _ = sample.priced(gone, costs, NOW, rng)
    assert not {each.index for each in without} & set(best)


@pytest.mark.parametrize("spec", list(LoadBalanceStrategy))
def test_equal_seeds_give_equal_picks_among_many(spec: LoadBalanceStrategy) -> None:
    """What is drawn comes from the generator that is handed over."""

    def once() -> list[str]:
        simulation = Simulation(spec.value, crowd(60, jitter=0.1), seed=4)
        return list(simulation.run(callers=9, requests=300).elements())

    assert once() == once()


# -- weighted turns


def shares(members: Sequence[FakeMember], names: Sequence[str]) -> dict[str, float]:
    total = sum(each.weight for each in members)
    return {each.name: each.weight / total * len(names) for each in members}


def turns(strategy: Weighted, members: Sequence[FakeMember], times: int) -> list[str]:
    return [each.name if each else "-" for each in picks(strategy, members, times)]


@pytest.mark.parametrize("count", [21, 500])
def test_weights_are_met_exactly_among_many(count: int) -> None:
    """As many turns as all weigh together, twice: everyone has twice its weight; 0 has none."""
    members = crowd(count)
    for each in members:
        each.weight = float(each.index % 6)
    names = turns(Weighted(), members, 2 * sum(each.index % 6 for each in members))
    assert Counter(names) == {each.name: 2 * each.index % 12 for each in members if each.weight}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 50.0), min_size=21, max_size=60), st.integers(1, 500))
def test_turns_are_spread_evenly_among_many(weights: list[float], times: int) -> None:
    """At no time has anybody had two turns more or fewer than its share."""
    members = crowd(len(weights))
    for each, weight in zip(members, weights, strict=True):
        each.weight = weight
    names = turns(Weighted(), members, times)
    counts = Counter(names)
    for name, share in shares(members, names).items():
        assert counts[name] == pytest.approx(share, abs=2.0)


def test_who_is_absent_misses_its_turns_and_the_others_keep_their_shares() -> None:
    """Half of them are busy for a while: 3:1 among the others, and 3:1 among all afterwards."""
    members, strategy = crowd(100), Weighted()
    for each in members[::2]:
        each.weight = 3.0
    turns(strategy, members, 200)
    for some in (members[:50], members, members[50:], members):
        counts = Counter(turns(strategy, some, 4 * len(some)))
        heavy = sum(counts[each.name] for each in some if each.weight == 3.0)
        assert heavy == pytest.approx(3 * len(some), rel=0.05)
        assert set(counts) == {each.name for each in some}


def test_who_joins_or_gets_a_weight_is_found() -> None:
    """When the round is over, and then in the middle of the next one."""
    members, strategy = crowd(50), Weighted()
    members[7].weight = 0.0
    assert "m7" not in turns(strategy, members[:-1], 500)
    members[7].weight = 1.0
    assert {"m7", "m49"} <= set(turns(strategy, members, 2 * 50 + 2))
    assert Counter(turns(strategy, members, 500)) == {
        each.name: pytest.approx(10, abs=1) for each in members
    }


def test_who_left_is_forgotten_among_many() -> None:
    """Under the same name it comes back as somebody else, at the end of the order."""
    members, strategy = crowd(30), Weighted()
    turns(strategy, members, 10)
    named(strategy, members[1:])
    again = FakeMember("m0", 30)
    assert Counter(turns(strategy, [*members[1:], again], 300)) == {
        each.name: pytest.approx(10, abs=2) for each in members
    }


def test_strangers_need_not_wait_for_the_end_of_a_round() -> None:
    """Nobody of those known is there: whoever is has the turn. With no weight, nobody."""
    members, strategy = crowd(90), Weighted()
    turns(strategy, members[:30], 3)
    assert turns(strategy, members[30:60], 2) == ["m30", "m31"]
    for each in members:
        each.weight = 0.0
    assert turns(strategy, members[60:], 2) == ["-", "-"]
    assert turns(strategy, members, 2) == ["-", "-"]


# -- failover, and the lowest priority


def test_failover_sticks_among_many() -> None:
    """The current one while it is free, nobody while it is busy, the next one where it is out."""
    members, rng = crowd(), random.Random(0)
    strategy = Failover()
    named(strategy, members)
    for place in range(5):
        current, after_it = members[place : place + 2]
        rest = [each for each in members if each is not current]
        for _ in range(2):
            assert strategy.pick(members, PickContext(NOW), rng) is current
            assert strategy.pick(rest, PickContext(NOW, busy=[current.name]), rng) is None
            assert strategy.pick(rest, PickContext(NOW), rng) is after_it
        strategy.record(current.name, False)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_the_lowest_priority_is_found_whoever_comes_and_goes(
    priorities: list[int], data: st.DataObject
) -> None:
    """Kept or not, the group is that of a look at all."""
    members = [FakeMember(str(i), i, priority=each) for i, each in enumerate(priorities)]
    free = FreeMembers(members, tuple(members))
    for _ in range(10):
        if free:
            lowest = min(each.priority for each in free)
            expected = [each for each in free if each.priority == lowest]
            assert list(foremost(free)) == list(foremost(list(free))) == expected
        flipped = data.draw(st.sampled_from(members))
        (free.drop if flipped in free else free.add)(flipped)
        assert [each.index for each in free] == sorted({each.index for each in free})


# -- consistent hashing

weighed = st.lists(st.sampled_from([0.0, 1.0, 1.0, 1.0, 2.5]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(weighed, st.lists(st.text(max_size=4), min_size=1, max_size=8), st.randoms())
def test_what_is_remembered_is_what_a_look_at_all_finds(
    weights: list[float], keys: list[str], chance: random.Random
) -> None:
    """For every key, whoever is free, the first time and again."""
    members = crowd(len(weights))
    for each, weight in zip(members, weights, strict=True):
        each.weight = weight
    everybody = tuple(members)
    strategy, rng = ConsistentHash(), random.Random(0)
    for key in keys * 3:
        free = [each for each in members if chance.random() < 0.5] or members
        plain = ConsistentHash().pick(free, PickContext(NOW, key), rng)
        assert strategy.pick(FreeMembers(free, everybody), PickContext(NOW, key), rng) is plain


def test_another_weight_or_member_is_noticed_at_once() -> None:
    """The table says so by another tuple of everybody."""
    strategy, rng = ConsistentHash(), random.Random(0)
    members = crowd(40)
    for changed in range(3):
        members[changed].weight = 1e6
        free = FreeMembers(members, tuple(members))
        for key in map(str, range(50)):
            expected = highest(members, key)
            assert strategy.pick(free, PickContext(NOW, key), rng) is expected


def test_a_known_key_costs_no_hash_of_any_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranking of a key is made once, however long ago its last request is."""
    ranked = Counter[bytes]()
    original = Ranking._ranked

    def counting(self: Ranking, key: bytes) -> list[int]:
        ranked[key] += 1
        return original(self, key)

    monkeypatch.setattr(Ranking, "_ranked", counting)
    strategy, rng = ConsistentHash(), random.Random(0)
    members = crowd(30)
    free = FreeMembers(members, tuple(members))
    for key in [*map(str, range(50))] * 3:
        strategy.pick(free, PickContext(NOW, key), rng)
    assert (len(ranked), set(ranked.values())) == (50, {1})


def test_the_keys_remembered_are_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many, and of a long key no more than of a short one."""
    monkeypatch.setattr(ranking, "REMEMBERED_KEYS", 3)
    remembering = Ranking(crowd(5))
    for key in ("a", "b", "c", "a", "d" * 1_000):
        remembering.best(key)
    digests = [ranking.digest(ranking.to_bytes(key)) for key in ("c", "a", "d" * 1_000)]
    assert list(remembering._best) == digests


def test_without_a_key_two_are_drawn_and_a_weight_of_zero_is_left_out() -> None:
    """Whether there is one is known; only then are all looked at."""
    members = crowd(30)
    free = FreeMembers(members, tuple(members))
    strategy = ConsistentHash()
    assert {each.name for each in picks(strategy, free, 500) if each} == {m.name for m in members}
    members[3].weight = 0.0
    assert members[3] not in picks(strategy, FreeMembers(members, tuple(members)), 500)


# -- the table


def route(index: int, **changes: Any) -> MemberRoute:
    fields: dict[str, Any] = {"incarnation": 1, "ref": SOMEBODY, "max_concurrency": 2, **changes}
    return MemberRoute(f"m{index}", index=index, **fields)


def table_of(count: int, strategy: RoutingStrategy, **changes: Any) -> RoutingTable:
    table = RoutingTable(strategy, random.Random(7))
    table.apply(RoutingSnapshot(1, tuple(route(index, **changes) for index in range(count))))
    return table


class Shown:
    """A strategy of a user's that notes what it is shown, and takes the first."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        self.shown = [each.name for each in candidates]
        return candidates[0]


routes = st.builds(
    route,
    st.integers(0, 6),
    epoch=st.integers(0, 2),
    incarnation=st.integers(1, 2),
    max_concurrency=st.integers(1, 3),
    priority=st.integers(0, 1),
    trial_permits=st.sampled_from([None, None, 1]),
    blocked=st.sampled_from([None, None, None, SkipReason.CIRCUIT_OPEN, SkipReason.DRAINING]),
)
changes = st.one_of(
    st.lists(routes, max_size=6, unique_by=lambda each: each.name),
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["take", "give_back", "trial_started", "failure_sent", "judged"]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, max_size=30), st.sets(st.integers(0, 6)))
def test_who_is_free_is_known_at_any_time(steps: list[Any], tried: set[int]) -> None:
    """After any change it is what asking every slot would give; for a pick, a retry, a hedge."""
    strategy, names = Shown(), [f"m{each}" for each in tried]
    table = RoutingTable(strategy, random.Random(1))
    for number, step in enumerate(steps, 1):
        if isinstance(step, list):
            table.apply(RoutingSnapshot(number, tuple(step)))
        else:
            change(table.get(f"m{step[0]}"), step[1])
        free = [slot for slot in table if slot.skip_reason() is None]
        untried = [slot.name for slot in free if slot.name not in names]
        assert table.has_room() == bool(free)
        assert table.room_to_come() == sum(slot.room_to_come() for slot in table)
        assert shown(strategy, lambda: table.pick((), PickContext(NOW))) == [s.name for s in free]
        assert shown(strategy, lambda: table.pick(names, PickContext(NOW), True)) == untried
        certain = [s.name for s in free if s.name in untried and not s.is_trial]
        assert shown(strategy, lambda: table.pick_second(names, PickContext(NOW))) == certain


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, max_size=30), st.sets(st.integers(0, 6)))
def test_changes_one_by_one_make_the_same_table_as_whole_snapshots(
    steps: list[Any], tried: set[int]
) -> None:
    """Whoever comes, goes or changes: two tables that are told in the two ways stay alike."""
    whole, by_change = (RoutingTable(strategy_for("priority"), random.Random(1)) for _ in range(2))
    before: dict[str, MemberRoute] = {}
    for number, step in enumerate(steps, 1):
        if isinstance(step, list):
            after = {each.name: each for each in step}
            changed = tuple(each for each in step if before.get(each.name) != each)
            gone = tuple(name for name in before if name not in after)
            assert whole.apply(RoutingSnapshot(number, tuple(step)))
            since = by_change.epoch
            told = RoutingSnapshot(number, changed, since=since, gone=gone)
            assert by_change.apply(told)
            assert not by_change.apply(told)
            before = after
        else:
            for table in (whole, by_change):
                change(table.get(f"m{step[0]}"), step[1])
        assert seen_in(whole, tried) == seen_in(by_change, tried)


def seen_in(table: RoutingTable, tried: set[int]) -> Any:
    names = [f"m{each}" for each in tried]
    picks = [table.pick((), PickContext(NOW)), table.pick(names, PickContext(NOW), True)]
    return (
        [repr(slot) for slot in table],
        [(slot.index, slot.weight, slot.priority, slot.trials_started) for slot in table],
        [each.name if isinstance(each, Slot) else each for each in picks],
        (sorted(table.half_open), table.draining, table.has_room(), table.room_to_come()),
    )


def test_a_change_of_another_epoch_is_not_taken() -> None:
    """It would leave something out: only a whole table may skip epochs."""
    table = table_of(3, strategy_for("random"))
    assert not table.apply(RoutingSnapshot(4, (route(9),), since=3))
    assert not table.apply(RoutingSnapshot(1, (route(9),), since=1))
    assert table.apply(RoutingSnapshot(2, (route(9),), since=1, gone=("m0", "nobody")))
    assert table.names == ("m1", "m2", "m9")


def test_a_single_change_among_many_looks_at_that_member_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that comes, goes, opens or is reset: the others are neither described nor applied."""
    looks: Counter[str] = Counter()

    def counted(cls: Any, name: str) -> None:
        original = getattr(cls, name)

        def method(self: Any, *arguments: Any) -> Any:
            looks[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(cls, name, method)

    members = [Member(f"m{index}", lambda payload: payload) for index in range(300)]
    with AgentPool.start(members, clock=FakeClock()) as pool:
        pool.execute("x")
        pool.stats()
        for cls, name in ((MemberRecord, "route"), (MemberRecord, "next_event_at")):
            counted(cls, name)
        counted(Slot, "update")
        pool.remove_member("m7")
        pool.add_member(members[7])
        pool.force_open("m8")
        pool.reset_member("m8")
        pool.disable_breaker("m9")
        assert 0 < max(looks.values()) <= 30
        pool.force_open("m7")
        assert len(pool.stats().available) == 299


def change(slot: Slot | None, what: str) -> None:
    if slot is None:
        return
    if what == "judged":
        slot.failures_judged(slot.failures_sent)
    else:
        getattr(slot, what)()


def shown(strategy: Shown, ask: Callable[[], object]) -> list[str]:
    strategy.shown = []
    ask()
    return strategy.shown


def test_nobody_is_asked_for_a_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for room, not for who is free, and for who is busy only where failover asks."""
    asked = Counter[str]()
    original = Slot.skip_reason

    def counting(self: Slot) -> SkipReason | None:
        asked[self.name] += 1
        return original(self)

    for each in LoadBalanceStrategy:
        strategy = strategy_for(each)
        exhaustive = bool(getattr(strategy, "exhaustive", False))
        table = table_of(MANY, strategy)
        monkeypatch.setattr(Slot, "skip_reason", counting)
        asked.clear()
        for tried in ((), ("m5", "m7")):
            assert isinstance(table.pick(tried, PickContext(NOW, "key"), exhaustive), Slot)
        assert table.has_room()
        assert sum(asked.values()) == 0, each
        monkeypatch.setattr(Slot, "skip_reason", original)


def test_who_has_left_comes_back_to_no_list() -> None:
    """A call that ends on a member that was removed makes no room in the pool."""
    room = FreeSlots()
    slot = Slot(route(0), room)
    slot.failure_sent()
    slot.take()
    slot.leave()
    slot.give_back()
    slot.failures_judged(1)
    assert (list(room.free), room.unjudged) == ([], set())
    assert slot.is_free


class Vandal:
    """Does to its candidates what it can."""

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        assert isinstance(candidates, list)
        last: Candidate = candidates.pop()
        candidates.clear()
        candidates.append(object())
        return last


class Heir(RoundRobin, Vandal):
    """A strategy of greenroom's no more: whoever inherits may do anything."""

    pick = Vandal.pick  # type: ignore[assignment]


@pytest.mark.parametrize("strategy", [Vandal(), Heir()])
def test_a_strategy_of_a_users_own_cannot_harm_the_table(strategy: RoutingStrategy) -> None:
    """It is given a copy, and what it chooses is held against what was free."""
    table = table_of(3, strategy)
    for _ in range(3):
        chosen = table.pick((), PickContext(NOW))
        assert isinstance(chosen, Slot)
        assert chosen.name == "m2"
    assert not table.treats_alike


def test_a_free_slot_that_was_not_offered_is_a_stranger() -> None:
    """One that the request has tried, one of another table, one that has left."""

    class Stubborn:
        chosen: Slot

        def pick(
            self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
        ) -> Candidate | None:
            return self.chosen

    strategy = Stubborn()
    table, other = table_of(3, strategy), table_of(3, RoundRobin())
    tried, stranger = table.get("m0"), other.get("m1")
    for chosen, names in ((tried, ["m0"]), (stranger, [])):
        assert chosen is not None
        strategy.chosen = chosen
        with pytest.raises(StrategyError, match="one of its candidates"):
            table.pick(names, PickContext(NOW))


def test_the_busy_are_told_to_an_exhaustive_strategy() -> None:
    """A user's own is told by a list, failover by whom it asks for: untried and saturated only."""

    class Told(Shown):
        exhaustive = True
        busy: Any = ()

        def pick(
            self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
        ) -> Candidate | None:
            self.busy = context.busy
            return super().pick(candidates, context, rng)

    strategy = Told()
    table = table_of(4, strategy, max_concurrency=1)
    for name in ("m0", "m1"):
        slot = table.get(name)
        assert slot is not None
        slot.take()
    table.pick(["m0"], PickContext(NOW), exhaustive=True)
    assert strategy.busy == ["m1"]
    lasting = table_of(2, Failover(), max_concurrency=1)
    first = lasting.get("m0")
    assert first is not None
    first.take()
    assert lasting.pick((), PickContext(NOW), exhaustive=True) is NoPick.BUSY
    chosen = lasting.pick(["m0"], PickContext(NOW), exhaustive=True)
    assert isinstance(chosen, Slot)
    assert chosen.name == "m1"


def test_a_pick_of_the_lowest_priority_among_many_of_a_table() -> None:
    """Full ones leave their group, and a snapshot may move a member to another."""
    table = RoutingTable(Priority(), random.Random(7))
    members = [route(index, priority=1 + index % 3, max_concurrency=1) for index in range(90)]
    table.apply(RoutingSnapshot(1, tuple(members)))
    seen = list(taken(table, 31))
    assert [slot.priority for slot in seen] == [1] * 30 + [2]
    members[89] = route(89, priority=0, max_concurrency=1)
    table.apply(RoutingSnapshot(2, tuple(members)))
    assert [slot.name for slot in taken(table, 1)] == ["m89"]


def taken(table: RoutingTable, times: int) -> Iterator[Slot]:
    for _ in range(times):
        chosen = table.pick((), PickContext(NOW))
        assert isinstance(chosen, Slot)
        chosen.take()
        yield chosen


def test_many_members_with_one_place_each_are_filled_and_emptied() -> None:
    """Every strategy finds the last free one, and nobody when there is none."""
    for each in LoadBalanceStrategy:
        table = table_of(60, strategy_for(each), max_concurrency=1)
        names = {slot.name for slot in filled(table, each)}
        assert len(names) == (1 if each is LoadBalanceStrategy.FAILOVER else 60)


def filled(table: RoutingTable, spec: LoadBalanceStrategy) -> Iterator[Slot]:
    exhaustive = spec is LoadBalanceStrategy.FAILOVER
    while isinstance(chosen := table.pick((), PickContext(NOW, "k"), exhaustive), Slot):
        chosen.take()
        yield chosen
