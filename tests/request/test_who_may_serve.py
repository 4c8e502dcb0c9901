"""`only`, `exclude`, `prefer`, `accepts` and the time that is left, in the life of a request."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from helpers_flow import World

from greenroom import AllPoolMembersFailedError, FailureKind, UnknownMemberError
from greenroom.actors.routing.recent_times import FEWEST
from greenroom.messages.status import CircuitState, SkipReason


def tagged(world: World, **tags: str) -> None:
    """Give members tags, one word for each."""
    for name, words in tags.items():
        world.change(name, tags=tuple(words.split()))


def members_of(world: World) -> list[str]:
    """Who works, in the order in which they have begun."""
    return [call.member for call in world.calls]


def reasons(error: Any) -> dict[str, str]:
    return {each.member: str(each.kind) for each in error.errors}


def test_only_those_named_have_it() -> None:
    """Whatever the strategy would rather do, and for a retry, too: the others are skipped, with the
    reason.
    """
    world = World("a", "b", "c", max_retries=5)
    tagged(world, b="eu", c="eu")
    world.ask("r", only="eu")
    world.fail(world.call("b"))
    world.fail(world.call("c"))
    for _ in range(4):  # a is not asked, however often it is tried again
        world.pass_(100.0)
        world.fail(world.call())
    error = world.answer("r")
    assert isinstance(error, AllPoolMembersFailedError)
    assert reasons(error)["a"] == SkipReason.NOT_NAMED
    assert "only eu may have it" in str(error)


def test_the_excluded_do_not_have_it() -> None:
    """Not even when all the others have failed."""
    world = World("a", "b", max_retries=1)
    world.ask("r", exclude=["a"])
    world.fail(world.call("b"), FailureKind.AUTH)
    assert reasons(world.answer("r")) == {"a": "ruled_out", "b": "auth"}


def test_who_is_named_and_busy_is_waited_for() -> None:
    """Though others are free; and those who wait for others are not held up by that."""
    world = World("a", "b")
    world.ask("one", only="a")
    world.ask("two", only="a")
    world.ask("three", only="b")
    world.ask("four")
    assert members_of(world) == ["a", "b"]
    world.succeed(world.call("b"))
    assert [each.message.request_id for each in world.calls] == ["one", "four"]
    world.succeed(world.call("a"))
    assert world.call("a").message.request_id == "two"


def test_only_that_names_nobody_is_refused_at_once() -> None:
    """With who there is; not when a member of the name is merely out, and not before the pool knows
    its members.
    """
    world = World("a", "b")
    tagged(world, a="eu")
    world.ask("r", only=["us", "c"])
    error = world.answer("r")
    assert isinstance(error, UnknownMemberError)
    assert str(error) == (
        "only must name a member of pool 'pool' or a tag of one, got 'us', 'c': "
        "its members are a, b; its tags are eu"
    )
    world.change("b", blocked=SkipReason.CIRCUIT_OPEN, circuit=CircuitState.OPEN)
    world.ask("out", only="b")
    assert reasons(world.answer("out")) == {"a": "not_named", "b": "circuit_open"}


def test_who_is_named_may_leave_while_it_is_waited_for() -> None:
    """Then nobody is left to wait for, and the request fails, whatever others could do."""
    world = World("a", "b", when_unavailable="wait")
    world.ask("first", only="a")
    world.ask("r", only="a")
    del world.routes["a"]
    world.calls.clear()
    world.snapshot()
    assert isinstance(world.answer("r"), UnknownMemberError)


def test_a_member_that_comes_is_seen_by_those_who_wait() -> None:
    """Names and tags are those of the moment."""
    world = World("a", "b")
    world.ask("busy", only="a")
    world.ask("r", only=["a", "eu"])
    tagged(world, b="eu")
    assert members_of(world) == ["a", "b"]


def test_nobody_may_have_it_when_all_are_filtered_out() -> None:
    """It fails at once with a reason for each, though the pool was told to wait."""
    world = World("a", "b", when_unavailable="wait")
    world.ask("r", only="a", exclude="a")
    error = world.answer("r")
    assert reasons(error) == {"a": "ruled_out", "b": "not_named"}
    assert "no member may have it" in str(error)


def test_the_preferred_have_it_while_one_is_free() -> None:
    """Then the others do, at once: nobody waits for a preference."""
    world = World("a", "b", "c")
    tagged(world, b="local", c="local")
    for request in "wxyz":
        world.ask(request, prefer="local")
    assert members_of(world) == ["b", "c", "a"]
    world.fail(world.call("b"))
    assert world.call("b").message.request_id == "z"  # w has had that one, and waits for another
    world.succeed(world.call("a"))
    assert world.call("a").message.request_id == "w"


def test_a_preference_for_nobody_is_none() -> None:
    """Who may come later; and what is preferred among those excluded does not come back by that."""
    world = World("a", "b")
    world.ask("r", prefer="later")
    world.ask("s", prefer="a", exclude="a")
    assert members_of(world) == ["a", "b"]


@pytest.mark.parametrize("strategy", ["round_robin", "weighted"])
@pytest.mark.parametrize("members", [4, 48])
def test_turns_among_some_leave_nobody_out(strategy: str, members: int) -> None:
    """Requests for different members that come by turns: each still has its share of those."""
    names = [f"m{i}" for i in range(members)]
    world = World(*names, strategy=strategy)
    half = members // 2
    tagged(world, **{name: "low" if i < half else "high" for i, name in enumerate(names)})
    chosen: Counter[str] = Counter()
    for number in range(10 * members):
        world.ask(f"r{number}", only=("low", "high")[number % 2])
        chosen[world.call().member] += 1
        world.succeed(world.call())
    assert set(chosen.values()) == {10}


def test_a_hedge_goes_to_those_who_may_have_it() -> None:
    """To nobody, if there is no other of them."""
    world = World("a", "b", "c", "d", hedge_after_s=1.0)
    tagged(world, a="eu", c="eu")
    for request in range(100):  # which pay for hedges
        world.ask(f"paid {request}")
        world.succeed(world.call())
    world.ask("r", only="eu")
    world.pass_(1.0)
    assert members_of(world) == ["a", "c"]
    world.ask("s", only="b")
    world.ask("t", exclude=["a", "b", "c"], prefer="d")
    world.pass_(1.0)
    assert members_of(world) == ["a", "c", "b", "d"]


def test_a_trial_is_not_for_those_who_may_not_have_it() -> None:
    """A half-open member has no trial by a request that must not go there; of those who may, it is
    tried beside as ever.
    """
    world = World("a", "b", "c")
    world.change("a", circuit=CircuitState.HALF_OPEN, trial_permits=1, epoch=2)
    world.ask("r", exclude="a")
    assert members_of(world) == ["b"]
    world.ask("s", only=["a", "c"])
    assert members_of(world) == ["b", "c", "a"]


def test_the_blame_for_a_failure_stays_with_the_only_member_that_may_have_it() -> None:
    """It has not failed everywhere: others were not asked. So its breaker hears of it."""
    world = World("a", "b", max_retries=0)
    world.ask("r", only="a")
    world.fail(world.call("a"), FailureKind.UNKNOWN)
    settled = [each for each in world.outcomes if hasattr(each, "everywhere")]
    assert [each.everywhere for each in settled] == [False]


# -- members that say which payloads they take


def test_a_member_that_asks_about_payloads_has_nothing_of_which_it_was_not_asked() -> None:
    """A request that waits when such a member comes is for the others."""
    world = World("a")
    world.ask("one")
    world.ask("two")
    world.change("a", accepts=None)
    world.routes["b"] = world.routes["a"].__class__(
        "b", index=1, incarnation=1, ref=world.routes["a"].ref, accepts=lambda payload: True
    )
    world.snapshot()
    assert members_of(world) == ["a"]
    world.ask("three", exclude="a")
    assert world.answer("three").errors[1].kind is SkipReason.NOT_ACCEPTED
    world.succeed(world.call("a"))
    assert world.call("a").message.request_id == "two"


# -- the time that is left


def slow(world: World, name: str, seconds: float, times: int = FEWEST) -> None:
    """It has taken so long of late, as its successes have said."""
    for number in range(times):
        world.ask(f"slow {name} {number}", only=name)
        world.succeed(world.call(name), after_s=seconds)
    world.flow.outcome_reporter.flush()


def test_who_is_too_slow_for_the_deadline_is_passed_by() -> None:
    """While another one is free; when none is, it gets the request all the same."""
    world = World("a", "b")
    slow(world, "a", 5.0)
    world.ask("patient", timeout=5.5)
    assert members_of(world) == ["a"]
    world.succeed(world.call("a"), after_s=5.0)
    world.ask("hurried", timeout=4.5)
    world.ask("too", timeout=4.5)
    assert members_of(world) == ["b", "a"]


def test_too_slow_comes_before_not_preferred() -> None:
    """A preference is of no use to a request that is answered too late."""
    world = World("a", "b", "c")
    slow(world, "a", 5.0)
    world.ask("r", prefer="a", timeout=1.0)
    world.ask("s", prefer=["a", "c"], timeout=1.0)
    world.ask("t", prefer="b", timeout=1.0)
    assert members_of(world) == ["b", "c", "a"]


def test_who_was_too_slow_is_told_from_who_was_not_chosen() -> None:
    """When its retries are used up before that one was asked."""
    world = World("a", "b", max_retries=0)
    slow(world, "a", 5.0)
    world.ask("r", timeout=1.0)
    world.fail(world.call("b"))
    error = world.answer("r")
    assert reasons(error) == {"a": "too_slow", "b": "unavailable"}
    assert error.errors[0].detail == "p90 5.0 s, 1.0 s left"


def test_a_slow_member_comes_back_with_time() -> None:
    """After a minute nothing is known of it any more."""
    world = World("a", "b")
    slow(world, "a", 5.0)
    world.pass_(60.0)
    world.ask("r", timeout=1.0)
    assert members_of(world) == ["a"]


def test_who_has_no_deadline_has_time() -> None:
    """However long anybody takes."""
    world = World("a", "b")
    slow(world, "a", 500.0)
    world.ask("r")
    assert members_of(world) == ["a"]


# -- many that wait


def test_many_that_wait_for_others_hold_nobody_up() -> None:
    """Whoever comes free serves the first that it may have, without a look at each of those that
    wait for others.
    """
    world = World("a", "b", max_pending=100_000)
    looks = 0
    world.ask("at a", only="a")
    world.ask("at b", only="b")
    for number in range(2_000):
        world.ask(f"a {number}", only="a")
    for number in range(20):
        world.ask(f"b {number}", only="b")
    place = world.flow._choice.place

    def counting(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return place(*arguments)

    world.flow._choice = _Counting(counting)  # type: ignore[assignment]
    served = []
    for _ in range(20):
        world.succeed(world.call("b"))
        served.append(world.call("b").message.request_id)
    assert served == [f"b {number}" for number in range(20)]
    assert looks <= 3 * 20


class _Counting:
    def __init__(self, place: Any) -> None:
        self.place = place


def test_nobody_is_lost_or_served_twice_whatever_they_ask_for() -> None:
    """Any mix of terms, cancels and members that come free: everybody who can be served is, and in
    order among those of equal terms.
    """
    rng = random.Random(3)
    world = World("a", "b", "c", max_pending=100_000)
    tagged(world, a="x", b="x y", c="y")
    terms: list[dict[str, Any]] = [
        {}, {"only": "x"}, {"only": "y"}, {"only": "a"}, {"exclude": "b"}, {"prefer": "c"},
    ]  # fmt: skip
    may = ["abc", "ab", "bc", "a", "ac", "abc"]
    kind_of: dict[str, int] = {}
    waiting: list[str] = []
    begun: list[str] = []
    for number in range(3_000):
        roll = rng.random()
        if roll < 0.5:
            kind_of[f"r{number}"] = rng.randrange(len(terms))
            waiting.append(f"r{number}")
            world.ask(f"r{number}", **terms[kind_of[f"r{number}"]])
        elif roll < 0.55 and waiting:
            gone = rng.choice(waiting)
            if world.flow.jobs[gone].phase.name == "QUEUED":
                waiting.remove(gone)
                world.flow.cancel(gone)
        elif world.calls:
            world.succeed(rng.choice(world.calls))
        for call in world.calls:
            name = call.message.request_id
            if name in waiting:
                begun.append(name)
                mine = [each for each in waiting if kind_of[each] == kind_of[name]]
                assert mine[0] == name
                assert call.member in may[kind_of[name]]
                waiting.remove(name)
        busy = set(members_of(world))
        for name in waiting:
            assert not set(may[kind_of[name]]) - busy
    while world.calls:
        world.succeed(world.calls[0])
    assert not world.flow.jobs
    assert world.complaints == []
