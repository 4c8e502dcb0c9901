"""What processes have learned of limits, and tell each other: the words, and four routers beside
one real token bucket.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.policy.learned_limit import LearnedLimit
from greenroom.actors.policy.learned_pace import LearnedPace
from greenroom.actors.routing.headroom import Headroom
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.strategies import RoundRobin
from greenroom.messages.limits import REQUESTS
from greenroom.messages.shared_limits import LimitHeard, LimitTold
from greenroom.messages.status import FailureKind
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot
from greenroom.shared.learned_words import LearnedWords
from greenroom.shared.state_store import Lying


class Board:
    """A store, and its time."""

    def __init__(self) -> None:
        self.now = 100.0
        self._lies: dict[str, tuple[str, float]] = {}

    def put(self, words: LearnedWords, **told: object) -> None:
        self.lay(words, LimitTold(member="a", cost=REQUESTS, **told))  # type: ignore[arg-type]

    def lay(self, words: LearnedWords, told: LimitTold) -> None:
        said = words.told(told)
        self._lies[said.key] = (said.text, self.now + said.ttl_s)

    def get(self) -> Mapping[str, Lying]:
        return {
            key: Lying(text, until - self.now)
            for key, (text, until) in self._lies.items()
            if until > self.now
        }


# -- the words


def test_b482_the_last_word_of_a_provider_is_heard_once_with_its_age() -> None:
    """And how many use the limit; one's own word is no news."""
    board, one, two, three = Board(), LearnedWords("1"), LearnedWords("2"), LearnedWords("3")
    board.put(one, remaining=40, whole=60, resets_in_s=20.0)
    assert one.looked(board.get()) == []
    board.now += 2.0
    (heard,) = two.looked(board.get())
    assert (heard.member, heard.cost, heard.remaining, heard.whole) == ("a", REQUESTS, 40, 60)
    assert heard.resets_in_s == pytest.approx(18.0)
    assert heard.age_s == pytest.approx(2.0)
    assert heard.processes == 2
    assert two.looked(board.get()) == []
    board.put(two, remaining=39, whole=60, resets_in_s=21.0)
    (heard,) = three.looked(board.get())
    assert (heard.remaining, heard.processes) == (39, 3)
    (heard,) = one.looked(board.get())
    assert (heard.remaining, heard.processes) == (39, 2)


def test_b482_who_has_said_nothing_for_long_does_not_use_it() -> None:
    """What was said to it holds all the same, until its reset."""
    board, one, two = Board(), LearnedWords("1"), LearnedWords("2")
    board.put(one, remaining=0, whole=None, resets_in_s=50.0)
    board.now += 11.0
    (heard,) = two.looked(board.get())
    assert (heard.remaining, heard.processes) == (0, 1)
    assert heard.resets_in_s == pytest.approx(39.0)


def test_b482_paces_are_heard_as_a_sum_with_who_has_come() -> None:
    """And who has gone."""
    board, one, two, three = Board(), LearnedWords("1"), LearnedWords("2"), LearnedWords("3")
    board.put(one, pace_per_s=4.0)
    board.put(two, pace_per_s=6.0)
    (heard,) = three.looked(board.get())
    assert (heard.pace_per_s, heard.paces, heard.joined) == (10.0, 2, 2)
    (heard,) = one.looked(board.get())
    assert (heard.pace_per_s, heard.paces, heard.joined) == (6.0, 1, 1)
    board.put(three, pace_per_s=3.0)
    (heard,) = one.looked(board.get())
    assert (heard.paces, heard.joined) == (2, 1)
    board.now += 61.0
    (heard,) = one.looked(board.get())
    assert (heard.paces, heard.joined, heard.remaining) == (0, 0, None)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@given(_JSON, _JSON, st.sampled_from(["left", "pace"]), st.floats(0.0, 1e5))
def test_b482_what_is_no_such_word_is_passed_over(
    key: object, value: object, kind: str, left_s: float
) -> None:
    """Whatever it is: what is heard is always such that it can be gone by."""
    good = json.dumps([kind, "a", REQUESTS, "x"])
    lying = {
        "breaker/a": Lying("x", 1.0),
        "learned/" + json.dumps(key): Lying(json.dumps(value), left_s),
        "learned/" + "[" * 100_000: Lying("[" * 100_000, left_s),
        "learned/" + good: Lying(json.dumps(value), left_s),
        "learned/" + json.dumps([kind, "a", REQUESTS, "y"]): Lying(
            json.dumps([1, 1, 10.0, value, value, value][: 6 if kind == "left" else 4]), left_s
        ),
    }
    for heard in LearnedWords("me").looked(lying):
        assert heard.processes >= 1
        assert heard.remaining is None or heard.remaining >= 0
        assert 0.0 <= heard.resets_in_s <= 86_400.0
        assert 0.0 <= heard.pace_per_s <= 2e6


def test_b482_a_word_of_another_version_is_no_news() -> None:
    """Nor is it one each time that the store is looked at."""
    key = "learned/" + json.dumps(["left", "a", REQUESTS, "x"])
    words = LearnedWords("me")
    assert words.looked({key: Lying("[2, 1, 10.0]", 9.0)}) == []
    assert words.looked({key: Lying("[2, 1, 10.0]", 9.0)}) == []


def test_b482_words_that_vanish_and_come_back_are_news_once_each_time() -> None:
    """Also where they are of another version meanwhile; a pace that is back has joined anew."""
    board, one, two = Board(), LearnedWords("1"), LearnedWords("2")
    board.put(one, pace_per_s=4.0)
    there = board.get()
    (key,) = there
    for gone in ({}, {key: Lying("[2, 1, 60.0, 4.0]", 50.0)}, {}):
        (heard,) = two.looked(there)
        assert (heard.pace_per_s, heard.paces, heard.joined) == (4.0, 1, 1)
        assert two.looked(there) == []
        (heard,) = two.looked(gone)
        assert (heard.pace_per_s, heard.paces, heard.joined) == (0.0, 0, 0)
        assert two.looked(gone) == []


# -- who goes by them


def test_b483_each_process_has_its_part_of_what_is_left() -> None:
    """And of what comes back."""
    limit = LearnedLimit(30, 10.0, 60, since=0, mark=0, now=0.0, among=3)
    assert limit.headroom(0.0) == 10
    assert limit.headroom(2.0) == pytest.approx(12.0)
    assert limit.headroom(1e6) == 20
    assert limit.allows(500, 1e6)  # more than the whole begins with a full one
    alone = LearnedLimit(5, 10.0, None, since=0, mark=0, now=0.0, among=2)
    assert alone.headroom(0.0) == 2
    assert alone.headroom(10.0) == float("inf")


def route() -> MemberRoute:
    return MemberRoute("a", index=0, incarnation=1, ref=None, max_concurrency=1000)


def router() -> tuple[RoutingTable, Slot]:
    table = RoutingTable(RoundRobin(), random.Random(1))
    table.apply(RoutingSnapshot(1, (route(),)))
    slot = table.get("a")
    assert slot is not None
    return table, slot


def test_b483_what_was_learned_later_oneself_holds() -> None:
    """What others have heard after that counts instead."""
    table, slot = router()
    headroom = table.headroom
    headroom.learn(slot, REQUESTS, 8, 10.0, None, None, 100.0)
    old = LimitHeard(member="a", cost=REQUESTS, remaining=0, resets_in_s=9.0, age_s=2.0)
    headroom.hear(slot, old, 101.0)
    assert headroom.reserve(slot, {}, 101.0) is not None
    new = LimitHeard(member="a", cost=REQUESTS, remaining=0, resets_in_s=9.0, age_s=0.5)
    headroom.hear(slot, new, 101.0)
    assert headroom.reserve(slot, {}, 101.0) is None
    assert headroom.reserve(slot, {}, 110.1) is not None


def test_b483_who_has_no_pace_takes_its_part_and_the_others_leave_it_that() -> None:
    """With its first call, and not before."""
    table, slot = router()
    told: list[LimitTold] = []
    table.headroom.tell = told.append
    heard = LimitHeard(member="a", cost=REQUESTS, pace_per_s=10.0, paces=1, joined=1)
    table.headroom.hear(slot, heard, 100.0)
    assert not told
    assert table.headroom.reserve(slot, {}, 100.0) is None
    assert [each.pace_per_s for each in told] == [5.0]
    assert table.headroom.reserve(slot, {}, 100.25) is not None
    other, there = router()
    bucket = other.headroom._bucket_of(there, REQUESTS)
    bucket.pace = LearnedPace(10.0, 100.0, 0.0)
    joined = LimitHeard(member="a", cost=REQUESTS, pace_per_s=5.0, paces=1, joined=1)
    other.headroom.hear(there, joined, 100.1)
    assert bucket.pace.per_s == pytest.approx(5.0)


class Bucket:
    """A provider's: so many calls a second, as many at once; it says what is left."""

    def __init__(self, whole: int, per_s: float) -> None:
        self.whole, self.per_s = whole, per_s
        self._level, self._at = float(whole), 0.0

    def call(self, now: float) -> tuple[bool, int, float]:
        """Whether it is let in, what is left, and in how many seconds it is whole."""
        self._level = min(self.whole, self._level + (now - self._at) * self.per_s)
        self._at = now
        let_in = self._level >= 1.0
        self._level -= let_in
        return let_in, int(self._level), (self.whole - self._level) / self.per_s


class Beside:
    """Four processes beside a provider of twenty a second. An answer takes 0.1 s, a word 50 ms.

    Args:
        shares: whether they tell each other what they learn.
    """

    def __init__(self, shares: bool, seed: int) -> None:
        self.rng, self.provider = random.Random(seed), Bucket(20, 20.0)
        self.now = 0.0
        self._board = Board()
        self._shares = shares
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self.processes = [self._process(LearnedWords(str(number))) for number in range(4)]

    def _process(self, words: LearnedWords) -> tuple[Headroom, Slot, LearnedWords]:
        table, slot = router()
        if self._shares:
            table.headroom.tell = lambda told: self._board.lay(words, told)
        return table.headroom, slot, words

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._numbers), act))

    def turns(self, seconds: float) -> Iterator[tuple[int, int]]:
        """Time passes by 10 ms: in which step it is whose turn, once it has heard what is new."""
        for step in itertools.count(1):
            if self.now >= seconds:
                return
            next_at = step * 0.01
            while self._later and self._later[0][0] <= next_at:
                self.now, _, act = heapq.heappop(self._later)
                act()
            self.now = self._board.now = next_at
            for number in self.rng.sample(range(4), 4):
                headroom, slot, words = self.processes[number]
                if slot.rest.until:
                    slot.rested(self.now)
                if self._shares and step % 5 == 0:
                    for heard in words.looked(self._board.get()):
                        headroom.hear(slot, heard, self.now)
                yield step, number


def four_beside(shares: bool, busy: int = 4, seconds: float = 20.0) -> tuple[int, int]:
    """How many calls of four processes were let in, and how many were refused, of a provider that
    says what is left.
    """
    beside, counts = Beside(shares, 1), [0, 0]

    def begin(number: int) -> None:
        headroom, slot, _ = beside.processes[number]
        charge = headroom.reserve(slot, {}, beside.now)
        if charge is None:
            return

        def arrives() -> None:
            let_in, left, whole_in_s = beside.provider.call(beside.now)
            counts[not let_in] += 1
            beside.after(
                0.07,
                lambda: headroom.learn(slot, REQUESTS, left, whole_in_s, 20, charge, beside.now),
            )

        beside.after(0.03, arrives)

    for step, number in beside.turns(seconds):
        if number < busy or step % 100 == 0:
            begin(number)
    return counts[0], counts[1]


@pytest.mark.parametrize("busy", [4, 2, 1])
def test_b484_four_processes_beside_one_limit_are_refused_less_by_what_they_tell(busy: int) -> None:
    """Half as often at most, where several are busy, and they use as much of it."""
    let_in, refused = four_beside(False, busy)
    with_words, refused_then = four_beside(True, busy)
    print(busy, let_in, refused, with_words, refused_then)
    assert with_words >= 0.9 * let_in
    assert refused_then <= (0.5 * refused if busy > 1 else refused + 4)


def paced_beside(
    shares: bool, busy: int = 4, seconds: float = 60.0, seed: int = 1
) -> tuple[int, int, int]:
    """How many calls of four processes were let in, and how many were refused, of a provider that
    says nothing but 429; and how many of these by who has come after ten seconds. Rests are told as
    well.
    """
    beside, counts = Beside(shares, seed), [0, 0, 0]

    def begin(number: int) -> None:
        headroom, slot, _ = beside.processes[number]
        if slot.rest.until or slot.in_flight >= slot.limit:
            return
        if headroom.reserve(slot, {}, beside.now) is None:
            return
        slot.take()
        began = beside.now

        def answered(let_in: bool) -> None:
            now = beside.now
            slot.give_back()
            if let_in:
                slot.times.extend([now], [now - began])
                if slot.recovers:
                    slot.answered(began, now - began)
                return
            too_many = slot.is_too_many(began, now)
            if slot.is_paced(now) or not too_many:
                headroom.refused(slot, began, now, None)
            kind, rng = FailureKind.RATE_LIMITED, beside.rng
            if slot.rest_for(kind, now, began, None, rng, too_many) and shares:
                for_s = slot.rest.until - now
                for _, other, _ in beside.processes:
                    if other is not slot and not other.rest.until:
                        beside.after(0.05, partial(rest, other, for_s - 0.05))

        def arrives() -> None:
            let_in, _, _ = beside.provider.call(beside.now)
            counts[not let_in] += 1
            counts[2] += not let_in and number == 3
            beside.after(0.07, lambda: answered(let_in))

        beside.after(0.03, arrives)

    def rest(slot: Slot, for_s: float) -> None:
        if for_s > 0:
            slot.rest_as_told(FailureKind.RATE_LIMITED, beside.now, for_s, beside.rng)

    for _, number in beside.turns(seconds):
        if number < busy and (number < 3 or beside.now >= 10.0):
            begin(number)
    return counts[0], counts[1], counts[2]


@pytest.mark.parametrize("busy", [4, 3])
def test_b484_beside_one_that_says_429_alone_they_are_refused_less_as_well(busy: int) -> None:
    """By the rests and paces of each other, over twelve seeds; they use nearly all of it. A pace
    that comes to a quarter of what each had found for itself is one that four have, and no sign
    that the refusals are none of it.
    """
    alone = [paced_beside(False, busy, seed=seed) for seed in range(12)]
    together = [paced_beside(True, busy, seed=seed) for seed in range(12)]
    assert min(let_in for let_in, _, _ in together) >= 0.85 * 1220
    assert sum(refused for _, refused, _ in together) <= 0.6 * sum(each[1] for each in alone)
