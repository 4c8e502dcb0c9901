"""Rate limits together with who may serve, turns, groups and trials: nobody is kept waiting by what
is none of his business.
"""

from __future__ import annotations

from dataclasses import replace

from helpers_flow import TOKENS, World, limited_world

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    Limit,
    SkipReason,
)
from greenroom.actors.request.job import JobPhase
from greenroom.messages.execution import Succeeded
from greenroom.messages.screening import Heard


def tokens(amount: int, per_s: float = 60) -> Limit:
    return Limit(amount, per_s=per_s, cost=TOKENS)


def cost(amount: int) -> dict[str, int]:
    return {TOKENS: amount}


def spend(world: World, name: str, amount: int) -> None:
    call = world.call(name)
    world.calls.remove(call)
    world.flow.succeeded(Succeeded(value="well", elapsed_s=0.0, spent=cost(amount), **call.about))
    world.settle()


def given_to(world: World) -> list[tuple[str, str]]:
    return [(each.message.request_id, each.member) for each in world.calls]


def test_who_may_go_elsewhere_is_looked_at_though_less_has_found_nobody() -> None:
    """Behaviour 310: that five tokens find no headroom where they may go says nothing of ten that
    may go to another member.
    """
    pool = limited_world(a=[tokens(1000)], b=[tokens(1000)])
    pool.ask("1", only=("a",), cost=cost(1000))
    pool.ask("2", only=("b",), cost=cost(995))
    pool.ask("little", only=("a",), cost=cost(5))
    pool.ask("much", cost=cost(100))
    pool.ask("some", cost=cost(10))
    spend(pool, "b", 950)
    assert given_to(pool) == [("1", "a"), ("some", "b")]


def test_each_is_woken_for_the_members_that_may_have_it() -> None:
    """Behaviour 310: whatever else waits for others, and costs less."""
    pool = limited_world(a=[tokens(100)], b=[tokens(100, per_s=30)])
    pool.ask("1", only=("a",), cost=cost(95))
    pool.ask("2", only=("b",), cost=cost(95))
    pool.ask("3", only=("a",), cost=cost(10))
    pool.ask("4", only=("b",), cost=cost(20))
    pool.pass_(30.0)
    assert given_to(pool)[2:] == [("4", "b")]
    pool.pass_(30.0)
    assert given_to(pool)[3:] == [("3", "a")]


def test_headroom_is_held_only_at_a_member_that_may_have_the_first() -> None:
    """Behaviour 311: another one's is for whoever it suffices for."""
    pool = limited_world(a=[tokens(100)], b=[tokens(100, per_s=30)])
    pool.ask("1", only=("a",), cost=cost(95))
    pool.ask("2", only=("b",), cost=cost(60))
    pool.ask("first", only=("a",), cost=cost(50))  # b would have that much sooner
    pool.ask("3", only=("b",), cost=cost(20))
    assert given_to(pool)[2:] == [("3", "b")]


def test_who_finds_all_headroom_held_for_the_first_waits() -> None:
    """Behaviour 311: it does not fail as if nobody could take it."""
    pool = limited_world(a=[tokens(1000)])
    pool.ask("1", cost=cost(600))
    pool.ask("first", cost=cost(900))
    pool.ask("2", cost=cost(200))
    assert pool.phase("2") is JobPhase.QUEUED
    pool.pass_(60.0)
    assert given_to(pool)[1:] == [("first", "a")]
    pool.pass_(60.0)
    assert given_to(pool)[2:] == [("2", "a")]


def test_who_may_not_have_it_is_not_waited_for() -> None:
    """Behaviour 312: its headroom will be of no use; so the request fails at once, and each member
    has its reason, whatever the strategy.
    """
    for strategy in ("priority", "failover"):
        pool = limited_world(strategy, a=[], b=[Limit(1, per_s=60)])
        pool.ask("1", only=("b",))
        pool.change("a", blocked=SkipReason.CIRCUIT_OPEN, circuit=CircuitState.OPEN)
        pool.ask("2", only=("a",))
        failed = pool.answer("2")
        assert isinstance(failed, AllPoolMembersFailedError)
        reasons = [(each.member, each.kind) for each in failed.errors]
        assert reasons == [("a", SkipReason.CIRCUIT_OPEN), ("b", SkipReason.NOT_NAMED)]
        assert failed.retry_after_s is None


def test_a_request_with_a_trial_beside_is_not_forgotten_behind_one_of_other_terms() -> None:
    """Behaviour 313: it waits for its own members, and has them as soon as one is free."""
    pool = limited_world(a=[], b=[], half=[])
    pool.change("a", max_concurrency=1)
    pool.change("b", max_concurrency=1)
    pool.ask("1", only=("a",))
    pool.ask("2", only=("b",))
    pool.ask("3", only=("a",))
    pool.change("half", circuit=CircuitState.HALF_OPEN, trial_permits=1, epoch=2)
    pool.ask("4", only=("b", "half"))
    assert given_to(pool)[2:] == [("4", "half")]  # the trial
    pool.succeed(pool.call("b"))
    assert given_to(pool)[2:] == [("4", "b")]


def test_what_costs_little_takes_turns_too_where_what_costs_much_waits() -> None:
    """Behaviour 314: who passes by the first one does so by turns, not by age."""
    pool = limited_world(a=[tokens(1000)], b=[tokens(100)], config={"fair_by": "key"})
    pool.ask("1", only=("b",), cost=cost(95), heard=Heard(fair_key="zoe"))
    pool.ask("2", cost=cost(500), heard=Heard(fair_key="zoe"))
    pool.ask("first", cost=cost(900), heard=Heard(fair_key="zoe"))
    for n in range(4):
        pool.ask(f"ann {n}", cost=cost(50), heard=Heard(fair_key="ann"))
    pool.ask("bob", cost=cost(50), heard=Heard(fair_key="bob"))
    spend(pool, "b", 0)
    assert given_to(pool)[1:] == [("ann 0", "b"), ("bob", "b")]


def test_a_name_that_comes_back_without_its_group_is_on_its_own() -> None:
    """Behaviour 315: what fails its former mates says nothing of it."""
    pool = limited_world(a=[], b=[], c=[])
    pool.change("a", group="one")
    pool.change("b", group="one")
    route = pool.routes.pop("b")
    pool.snapshot()
    pool.routes["b"] = replace(route, group=None)
    pool.snapshot()
    pool.ask("1")
    pool.fail(pool.call())
    assert given_to(pool) == [("1", "b")]


def test_a_member_whose_limits_are_too_small_is_not_waited_for_when_it_is_out() -> None:
    """Behaviour 316: what it can never hold it will not hold when its breaker closes, either."""
    pool = limited_world(
        a=[tokens(100)],
        b=[tokens(300)],
        config={"when_unavailable": "wait"},
    )
    out = {"blocked": SkipReason.CIRCUIT_OPEN, "circuit": CircuitState.OPEN}
    pool.change("a", reopens_at=pool.now + 5.0, **out)
    pool.ask("1", only=("a",), cost=cost(200))
    failed = pool.answer("1")
    assert isinstance(failed, AllPoolMembersFailedError)
    assert failed.reason == "it costs more than the rate limits of any member can hold"
    pool.ask("2", only=("a",), cost=cost(50))
    assert pool.phase("2") is JobPhase.QUEUED


def test_what_a_call_took_counts_though_its_limit_was_away_meanwhile() -> None:
    """Behaviour 317: it had been let in without an estimate, and has said later what it took."""
    pool = limited_world(a=[tokens(100)])
    pool.ask("1")
    pool.change("a", limits=())
    spend(pool, "a", 90)
    pool.change("a", limits=(tokens(100),))
    pool.ask("2", cost=cost(20))
    assert pool.phase("2") is JobPhase.QUEUED
    pool.pass_(60.0)
    assert given_to(pool) == [("2", "a")]


def test_a_rest_that_nobodys_call_has_brought_is_heard_by_who_waits() -> None:
    """Behaviour 318: one that must not wait for a member that rests does not, whosever call was
    throttled.
    """
    pool = limited_world(a=[])
    pool.change("a", max_concurrency=1)
    pool.ask("1")
    pool.ask("2")
    pool.flow.cancel("1")
    pool.fail(pool.call(), FailureKind.RATE_LIMITED, retry_after_s=30.0)
    failed = pool.answer("2")
    assert isinstance(failed, AllPoolMembersFailedError)
    assert [each.kind for each in failed.errors] == [SkipReason.COOLING_DOWN]
    assert failed.retry_after_s == 30.0
