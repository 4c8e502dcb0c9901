"""A strategy of an app's own: what it is asked, and what it may do wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from helpers_pools import WAIT_S, ask, echo
from helpers_routing import Failing, members_of, start

from greenroom import (
    AllPoolMembersFailedError,
    Candidate,
    Member,
    PickContext,
    Request,
    SkipReason,
    StrategyError,
)
from greenroom.testing import ScriptedAgent


class Own:
    """A strategy that does what the test says."""

    def __init__(self, pick: Callable[[Sequence[Candidate], PickContext], Any]) -> None:
        self._pick = pick

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Any:
        return self._pick(candidates, context)


def test_an_own_strategy_picks_by_what_it_sees_of_a_candidate() -> None:
    """Any object with a `pick` is one; its class names it."""

    def last(candidates: Sequence[Candidate], context: PickContext) -> Candidate:
        assert [each.name for each in candidates] == ["a", "b"]
        assert [each.index for each in candidates] == [0, 1]
        assert all(each.in_flight < each.max_concurrency for each in candidates)
        assert context.now == 1000.0
        assert context.request_id
        return candidates[-1] if context.key is None else candidates[0]

    with start([Member("a", echo), Member("b", echo)], Own(last)) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        assert members_of(pool, 2, key="k") == ["a"] * 2
        assert pool.stats().strategy == "Own"


@pytest.mark.parametrize(
    "answer",
    [ZeroDivisionError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), "a", 7, object()],
)
def test_an_own_strategy_that_goes_wrong_fails_the_request_and_nothing_else(answer: Any) -> None:
    """Raising or naming a stranger: the asker hears of it at once, the pool goes on."""
    wrong = [True]

    def pick(candidates: Sequence[Candidate], context: PickContext) -> Any:
        if not wrong[0]:
            return candidates[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with start([Member("a", echo)], Own(pick)) as pool:
        with pytest.raises(StrategyError):
            pool.ask(Request("x"), timeout=WAIT_S)
        wrong[0] = False
        assert members_of(pool, 2) == ["a", "a"]
        stats = pool.stats()
        assert (stats.accepted, stats.completed, stats.failed, stats.in_flight) == (3, 2, 1, 0)


def test_an_own_strategy_that_cannot_even_be_printed() -> None:
    """Its name in errors is that of its class."""

    class Unprintable(Own):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with start([Member("a", echo)], Unprintable(lambda *_: "stranger")) as pool:
        with pytest.raises(StrategyError):
            pool.ask(Request("x"), timeout=WAIT_S)
        assert pool.stats().failed == 1


def test_an_own_strategy_may_want_nobody() -> None:
    """None: the request fails and says that the member was left out."""
    with start([Member("a", echo)], Own(lambda *_: None)) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.ask(Request("x"), timeout=WAIT_S)
        assert [error.kind for error in caught.value.errors] == [SkipReason.EXCLUDED]


def test_an_own_strategy_that_keeps_one_request_waiting_holds_back_no_other() -> None:
    """What it wants to wait for a busy member does not stand in the way of what it can place."""
    agents = {name: ScriptedAgent.hanging(echo) for name in "ab"}

    def by_key(candidates: Sequence[Candidate], context: PickContext) -> Candidate | None:
        return next((each for each in candidates if each.name == context.key), None)

    members = [Member(name, agent) for name, agent in agents.items()]
    with start(members, Own(by_key)) as pool:
        running = [ask(pool, name, key=name) for name in "ab"]
        for agent in agents.values():
            agent.wait_for_calls(1)
        waits_for_a, waits_for_b = ask(pool, 1, key="a"), ask(pool, 2, key="b")
        assert pool.stats().pending == 2
        agents["b"].release()
        assert waits_for_b.get(timeout=WAIT_S).member == "b"
        assert not waits_for_a.done()
        agents["a"].release()
        assert waits_for_a.get(timeout=WAIT_S).member == "a"
        assert [each.get(timeout=WAIT_S).member for each in running] == ["a", "b"]


def test_a_strategy_learns_how_attempts_ended_and_who_is_there() -> None:
    """`record` after every attempt, `members_changed` whenever somebody comes or goes."""

    class Learning(Own):
        def __init__(self) -> None:
            super().__init__(lambda candidates, _: candidates[0])
            self.seen: list[Any] = []

        def record(self, name: str, succeeded: bool) -> None:
            self.seen.append((name, succeeded))

        def members_changed(self, names: Sequence[str]) -> None:
            self.seen.append(tuple(names))

    strategy = Learning()
    with start([Member("a", Failing()), Member("b", echo)], strategy) as pool:
        assert members_of(pool, 1) == ["b"]
        pool.add_member(Member("c", echo))
        pool.remove_member("a")
        assert members_of(pool, 1) == ["b"]
    assert strategy.seen == [
        ("a", "b"),
        ("a", False),
        ("b", True),
        ("a", "b", "c"),
        ("b", "c"),
        ("b", True),
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SystemExit(1)])
def test_hooks_that_raise_cost_no_request(error: BaseException) -> None:
    """Not the answer, not the retry, not the wait for a member that comes."""

    class Broken(Own):
        def __init__(self) -> None:
            super().__init__(lambda candidates, _: candidates[0])

        def record(self, name: str, succeeded: bool) -> None:
            raise error

        def members_changed(self, names: Sequence[str]) -> None:
            raise error

    with start([Member("a", Failing()), Member("b", echo)], Broken()) as pool:
        assert members_of(pool, 3) == ["b"] * 3
        pool.add_member(Member("c", echo))
        pool.remove_member("b")
        assert members_of(pool, 2) == ["c"] * 2
