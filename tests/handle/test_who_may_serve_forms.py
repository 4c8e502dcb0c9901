"""`only`, `exclude`, `prefer` and `Member.accepts` in every form of a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    Apply,
    Member,
    PoolRef,
    ReentrantAskError,
    Request,
    UnknownMemberError,
)
from greenroom.testing import FakeClock, ScriptedAgent


def named(name: str, *tags: str, **options: Any) -> Member:
    """A member that answers with its name."""
    return Member(name, lambda payload: name, tags=tags, **options)


@pytest.fixture(name="pool")
def three() -> Iterator[PoolRef]:
    with pool_of(
        named("a", "eu"), named("b", "eu"), named("c", "us"), clock=FakeClock()
    ) as started:
        yield started


def test_every_form_of_a_request_takes_them(pool: PoolRef) -> None:
    """As keywords where it has keywords, else in the `Request`."""
    assert pool.ask(Request("x", only="us")).value == "c"
    assert pool.execute("x", only="us") == "c"
    assert pool.execute("x", exclude="eu") == "c"
    assert pool.execute("x", prefer=["c"]) == "c"
    assert pool.apply(lambda agent: agent("x"), only="c") == "c"
    assert pool.stream(Request("x", only="us")).collect() == ["c"]
    assert list(pool.map("xy", only="us")) == ["c", "c"]
    for attempt in pool.attempts(only="us"):
        with attempt as agent:
            assert agent("x") == "c"
    with pool.acquire(exclude=["eu"]) as agent:
        assert agent("x") == "c"


def test_every_form_for_coroutines_takes_them(pool: PoolRef) -> None:
    """The same ones."""

    async def main() -> list[Any]:
        answers = [(await pool.aask(Request("x", only="us"))).value]
        answers.append(await pool.aexecute("x", prefer="us"))
        answers.append(await pool.aapply(lambda agent: agent("x"), only="c"))
        answers += [each async for each in pool.amap("x", exclude="eu")]
        answers += [each async for each in pool.stream(Apply(lambda a: a("x"), only="us"))]
        return answers

    assert asyncio.run(main()) == ["c"] * 5


def test_a_name_that_nobody_has_is_refused_in_every_form(pool: PoolRef) -> None:
    """With an `UnknownMemberError`, at once."""
    with pytest.raises(UnknownMemberError, match="got 'd': its members are a, b, c"):
        pool.execute("x", only="d")
    with pytest.raises(UnknownMemberError):
        pool.stream(Request("x", only="d")).collect()
    with pytest.raises(UnknownMemberError), pool.acquire(only="d"):
        pass
    with pytest.raises(UnknownMemberError):
        next(pool.map("x", only="d"))


def test_names_and_tags_are_those_of_the_moment(pool: PoolRef) -> None:
    """Of members that come, that go, that are changed while the pool runs."""
    pool.add_member(named("d", "jp"))
    assert pool.execute("x", only="jp") == "d"
    pool.configure(members={"c": {"tags": ["jp"], "cost": 2.0}})
    pool.remove_member("d")
    assert pool.execute("x", only="jp") == "c"
    stats = pool.stats()["c"]
    assert (stats.tags, stats.cost) == (("jp",), 2.0)
    with pytest.raises(UnknownMemberError):
        pool.execute("x", only="us")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": ()}, "only must name somebody, got nobody"),
        ({"only": 3}, r"only must be a name, or several, got 3 \(int\)"),
        ({"exclude": {"a": 1}}, "exclude must be a name, or several, got"),
        ({"prefer": ["a", 3]}, r"prefer must be a string, got 3 \(int\)"),
        ({"only": ""}, "only must not be empty, got ''"),
        ({"exclude": ["a\n"]}, "exclude must not contain line breaks"),
    ],
)
def test_wrong_names_are_refused_where_they_are_given(options: dict[str, Any], words: str) -> None:
    """With the field, the value and the rule."""
    with pytest.raises((TypeError, ValueError), match=words):
        Request("x", **options)


async def coroutine(payload: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tags": 3}, "tags must be a name, or several"),
        ({"accepts": 3}, "accepts must be callable"),
        ({"accepts": coroutine}, "accepts must be a plain function, since nobody awaits"),
        ({"cost": -1}, "cost must be at least 0"),
        ({"cost": "dear"}, "cost must be a number"),
    ],
)
def test_what_a_member_says_of_itself_is_checked(options: dict[str, Any], words: str) -> None:
    """Where it is made."""
    with pytest.raises((TypeError, ValueError), match=words):
        Member("a", str, **options)


# -- what members accept


def short(payload: str) -> bool:
    return len(payload) < 5


def test_a_member_has_only_what_it_accepts() -> None:
    """In every form that has a payload; what has none goes anywhere."""
    last = named("large", priority=1)
    with pool_of(named("small", accepts=short), last, clock=FakeClock()) as pool:
        assert [pool.execute(each) for each in ("abc", "abcdef")] == ["small", "large"]
        assert pool.stream(Request("abcdef")).collect() == ["large"]
        assert list(pool.map(["abc", "abcdef"])) == ["small", "large"]
        assert pool.apply(lambda agent: agent("abcdef")) == "small"
        with pool.acquire() as agent:
            assert agent("abcdef") == "small"
        pool.remove_member("large")
        with pytest.raises(AllPoolMembersFailedError) as info:
            pool.execute("abcdef")
    (skipped,) = info.value.errors
    assert (str(skipped.kind), skipped.detail) == ("not_accepted", "its accepts says no")


def test_a_tell_is_asked_about_too() -> None:
    """Whether it carries a context or not."""
    for carries in (True, False):
        small, large = ScriptedAgent(["a"]), ScriptedAgent(["b"])
        members = [Member("small", small, accepts=short), Member("large", large)]
        with pool_of(*members, clock=FakeClock(), propagate_context=carries) as pool:
            pool.tell(Request("abcdef"))
            large.wait_for_calls()
            assert small.calls == []


def test_a_member_is_asked_from_the_first_moment_on() -> None:
    """By those that it starts with, and by those that come."""
    asked: list[tuple[str, Any]] = []

    def said_by(name: str) -> Any:
        def accepts(payload: Any) -> bool:
            asked.append((name, payload))
            return True

        return accepts

    with pool_of(named("a", accepts=said_by("a")), clock=FakeClock()) as pool:
        pool.execute("x")
        pool.add_member(named("b", accepts=said_by("b")))
        pool.execute("y")
        pool.remove_member("a")
        pool.execute("z")
    assert asked == [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z")]


def test_accepts_runs_where_the_request_is_made() -> None:
    """In the caller's thread: however long it takes, the pool goes on with all others."""
    entered, leave, threads = threading.Event(), threading.Event(), list[str]()

    def slowly(payload: Any) -> bool:
        threads.append(threading.current_thread().name)
        if payload == "slow":
            entered.set()
            leave.wait(WAIT_S)
        return True

    with pool_of(named("a", accepts=slowly)) as pool:
        slow = threading.Thread(target=lambda: pool.execute("slow"), name="asker", daemon=True)
        slow.start()
        try:
            assert entered.wait(WAIT_S)
            assert pool.execute("quick", timeout=WAIT_S) == "a"
            assert pool.stats().in_flight == 0
        finally:
            leave.set()
            slow.join(WAIT_S)
    assert threads == ["asker", threading.current_thread().name]


def test_an_accepts_that_raises_costs_its_member_the_request() -> None:
    """And nothing else; the payload is in no error."""

    def broken(payload: Any) -> bool:
        raise KeyError(payload)

    with pool_of(named("a", accepts=broken), named("b"), clock=FakeClock()) as pool:
        assert pool.execute("secret") == "b"
        pool.remove_member("b")
        with pytest.raises(AllPoolMembersFailedError, match="accepts raised KeyError") as info:
            pool.execute("secret")
    assert "secret" not in str(info.value)


def test_the_pool_in_a_pool_asks_its_own_members() -> None:
    """Where its outer member runs, and by the payload alone: names are those of one pool."""
    small, large = named("small", accepts=short), named("large")
    with (
        pool_of(small, large, clock=FakeClock()) as inner,
        pool_of(Member("inner", inner, tags="eu"), clock=FakeClock()) as outer,
    ):
        assert outer.execute("abc", only="eu", timeout=WAIT_S) == "small"
        assert outer.execute("abcdef", only="eu", timeout=WAIT_S) == "large"


def test_who_waits_for_its_own_slot_is_told_though_others_are_free() -> None:
    """An agent asks its own pool for what only its own member may have: that is no wait that ends,
    and free members are of no use. One for the other members is answered.
    """
    asked: list[Any] = []

    def asks(payload: Any) -> Any:
        if payload == "others":
            return pool.execute("x", exclude="a")
        try:
            return pool.execute("x", only="a")
        except ReentrantAskError as error:
            asked.append(error)
            return "refused"

    with pool_of(Member("a", asks), named("b")) as pool:
        assert pool.execute("own", timeout=WAIT_S, only="a") == "refused"
        assert pool.execute("others", timeout=WAIT_S, only="a") == "b"
    assert len(asked) == 1


def test_who_waits_for_a_busy_member_that_comes_free_is_no_deadlock() -> None:
    """Two agents ask for each other's members: the one that waits is answered once the other one's
    call, which waits for nobody, has ended.
    """
    held, entered = threading.Event(), threading.Event()

    def holding(payload: Any) -> Any:
        entered.set()
        assert held.wait(WAIT_S)
        return "b"

    def asks(payload: Any) -> Any:
        inner = pool.ask(Request("x", only="b"), block=False)
        held.set()
        return inner.get(timeout=WAIT_S).value

    with pool_of(Member("a", asks), Member("b", holding)) as pool:
        first = pool.ask(Request("x", only="b"), block=False)
        assert entered.wait(WAIT_S)
        assert pool.execute("x", only="a", timeout=WAIT_S) == "b"
        assert first.get(timeout=WAIT_S).value == "b"
