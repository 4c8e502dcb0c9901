"""Deficit round robin: shares by weight and cost, nobody idle, nobody lost."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.policy.deficit_round import QUANTUM, DeficitRound


def served(turns: DeficitRound[str], times: int, **costs: float) -> str:
    """Who is served one after the other, each always having something waiting."""
    order = []
    for _ in range(times):
        key = turns.turn(costs.get)
        assert key is not None
        turns.served(key, costs[key])
        order.append(key)
    return "".join(order)


def round_of(**weights: float) -> DeficitRound[str]:
    turns: DeficitRound[str] = DeficitRound()
    for key, weight in weights.items():
        turns.enter(key, weight)
    return turns


def test_equal_keys_take_turns() -> None:
    """One after the other, in the order in which they have come."""
    assert served(round_of(a=1, b=1, c=1), 7, a=1, b=1, c=1) == "abcabca"


def test_a_weight_is_a_share() -> None:
    """By the turn, so a key of weight 3 is served three times in its own."""
    assert served(round_of(a=3, b=1), 8, a=1, b=1) == "aaabaaab"


def test_a_low_weight_is_a_small_share_and_no_long_search() -> None:
    """Of 1001 services it has one; and if it is alone it is served as any other."""
    order = served(round_of(a=1, b=0.001), 2_002, a=1, b=1)
    assert Counter(order) == {"a": 2_000, "b": 2}
    assert served(round_of(b=1e-9), 3, b=1) == "bbb"


def test_what_costs_more_is_served_less_often() -> None:
    """What each is served for is the same."""
    assert Counter(served(round_of(a=1, b=1), 400, a=1, b=3)) == {"a": 300, "b": 100}


def test_a_newcomer_waits_for_one_turn_of_each_of_the_others() -> None:
    """However long these have been there, and however much they have waiting."""
    turns = round_of(a=1, b=1)
    served(turns, 5, a=1, b=1)
    turns.enter("c")
    assert "c" in served(turns, 3, a=1, b=1, c=1)


def test_who_cannot_be_served_keeps_its_turn() -> None:
    """It is passed over, and comes first when it can be, with that one turn."""
    turns = round_of(a=1, b=1, c=1)
    assert served(turns, 4, b=1, c=1) == "bcbc"
    assert served(turns, 6, a=1, b=1, c=1) == "abcabc"


def test_asked_again_it_is_the_same_one() -> None:
    """As long as nothing has been served."""
    turns = round_of(a=0.5, b=1)
    assert {turns.turn({"a": 1.0, "b": 1.0}.get) for _ in range(5)} == {"b"}


def test_nobody_has_a_turn_where_nobody_can_be_served() -> None:
    """Nor where nobody waits."""
    assert DeficitRound[str]().turn(lambda _: 1.0) is None
    assert round_of(a=1).turn(lambda _: None) is None


def test_what_a_turn_has_left_is_lost_with_the_last_that_waits() -> None:
    """Who comes back is as any newcomer."""
    turns = round_of(a=100, b=1)
    assert turns.turn({"a": 1.0, "b": 1.0}.get) == "a"
    turns.leave("a")
    turns.enter("a", 1)
    assert served(turns, 4, a=1, b=1) == "baba"


@given(
    weights=st.lists(st.floats(0.1, 10.0), min_size=2, max_size=6),
    costs=st.lists(st.floats(0.1, 20.0), min_size=2, max_size=6),
    seed=st.integers(),
)
@settings(deadline=None, max_examples=60)
def test_unfairness_is_bounded(weights: list[float], costs: list[float], seed: int) -> None:
    """At any moment, between any two that always have something waiting, whatever it costs: what
    they have been served for, over their weights, differs by a turn and the largest cost at most.
    """
    rng, turns = random.Random(seed), DeficitRound[int]()
    total = [0.0] * len(weights)
    for key, weight in enumerate(weights):
        turns.enter(key, weight)
    heads = [rng.choice(costs) for _ in weights]
    for _ in range(300):
        first = turns.turn(heads.__getitem__)
        assert first is not None
        turns.served(first, heads[first])
        total[first] += heads[first]
        heads[first] = rng.choice(costs)
        shares = [each / weight for each, weight in zip(total, weights, strict=True)]
        for i, one in enumerate(shares):
            for j, other in enumerate(shares):
                lower = min(weights[i], weights[j])
                assert abs(one - other) <= QUANTUM + max(costs) / lower + 1e-6


class Books(RuleBasedStateMachine):
    """Queues of costs by key, beside a round that is told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: DeficitRound[int] = DeficitRound()
        self.queues: dict[int, deque[float]] = {}
        self.blocked: set[int] = set()
        self.put = self.got = 0

    @rule(key=st.integers(0, 5), cost=st.floats(0.0, 8.0), weight=st.floats(0.01, 9.0))
    def arrive(self, key: int, cost: float, weight: float) -> None:
        self.queues.setdefault(key, deque()).append(cost)
        self.turns.enter(key, weight)
        self.put += 1

    @rule(key=st.integers(0, 5))
    def block(self, key: int) -> None:
        self.blocked ^= {key}

    def cost_of(self, key: int) -> float | None:
        return None if key in self.blocked else self.queues[key][0]

    @rule()
    def serve(self) -> None:
        key = self.turns.turn(self.cost_of)
        if key is not None:
            assert key not in self.blocked
            assert self.turns.turn(self.cost_of) == key
            self.turns.served(key, self.queues[key].popleft())
            self.gone(key)

    @precondition(lambda self: self.queues)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.queues)))
        self.queues[key].pop()
        self.gone(key)

    def gone(self, key: int) -> None:
        self.got += 1
        if not self.queues[key]:
            del self.queues[key]
            self.turns.leave(key)

    @invariant()
    def serves_whenever_it_can(self) -> None:
        """Work conserving: nobody waits whom somebody could serve."""
        could = self.queues.keys() - self.blocked
        assert (self.turns.turn(self.cost_of) is not None) == bool(could)

    @invariant()
    def loses_nobody(self) -> None:
        assert {key for key in range(6) if key in self.turns} == self.queues.keys()
        assert self.put - self.got == sum(map(len, self.queues.values()))


TestBooks = Books.TestCase
TestBooks.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
