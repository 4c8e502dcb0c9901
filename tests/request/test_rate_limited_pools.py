"""Pools whose members have rate limits: every way to ask, every kind of agent, while they run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Apply,
    CallContext,
    FailureKind,
    Limit,
    LimitStats,
    Member,
    MemberStats,
    PoolRef,
    Request,
    SkipReason,
)
from greenroom.kinds import PoolFileError
from greenroom.testing import FakeClock, http_error

TOKENS = "tokens"


def per_minute(amount: int, cost: str = "requests", group: str | None = None) -> Limit:
    return Limit(amount, per_s=60, cost=cost, group=group)


BOTH = (per_minute(100), per_minute(1000, TOKENS))


def says(payload: Any, context: CallContext) -> Any:
    context.spent(tokens=10)
    return payload


async def asays(payload: Any, context: CallContext) -> Any:
    context.spent(tokens=5)
    await asyncio.sleep(0)
    context.spent(tokens=10)
    return payload


def streams(payload: Any, context: CallContext) -> Iterator[Any]:
    yield payload
    context.spent(tokens=10)


async def astreams(payload: Any, context: CallContext) -> AsyncIterator[Any]:
    yield payload
    context.spent(tokens=10)


def left(pool: PoolRef, name: str = "a") -> list[int]:
    return [each.headroom for each in pool.stats()[name].limits]


def by_ask(pool: PoolRef) -> None:
    pool.ask(Request("x"), timeout=WAIT_S)


def by_future(pool: PoolRef) -> None:
    pool.ask(Request("x"), block=False).get(timeout=WAIT_S)


def by_coroutine(pool: PoolRef) -> None:
    asyncio.run(pool.aexecute("x", timeout=WAIT_S))


def by_stream(pool: PoolRef) -> None:
    assert pool.stream(Request("x"), timeout=WAIT_S).collect() == ["x"]


def by_map(pool: PoolRef) -> None:
    list(pool.map(["x"], timeout=WAIT_S))


@pytest.mark.parametrize("agent", [says, asays, streams, astreams], ids=lambda each: each.__name__)
@pytest.mark.parametrize("ask", [by_ask, by_future, by_coroutine, by_stream, by_map])
def test_every_agent_is_settled_in_every_way_of_asking(
    agent: Callable[..., Any], ask: Callable[[PoolRef], None]
) -> None:
    """Behaviour 301: reserved by the estimate of the pool, settled by what the agent says."""
    costs: dict[str, Any] = {"cost": lambda payload: {TOKENS: 99.5}}
    with pool_of(Member("a", agent, limits=BOTH), clock=FakeClock(), **costs) as pool:
        ask(pool)
        assert left(pool) == [99, 990]
        pool.ask(Request("x", cost={TOKENS: 1000, "usd": 3}), block=False)  # its own goes before
        assert pool.stats().pending == 1


def test_a_pool_on_the_apps_loop_keeps_to_its_limits() -> None:
    """Behaviour 301: where the agents run in the caller's own loop, or in its very task."""

    async def app() -> None:
        clock = FakeClock()
        one = [per_minute(1)]
        members = [Member("a", asays, limits=BOTH), Member("b", asays, limits=one, priority=1)]
        async with AgentPool.start(members, strategy="priority", clock=clock) as pool:
            replies = [
                await pool.aask(Request("x", cost={TOKENS: 980}), timeout=WAIT_S) for _ in range(3)
            ]
            assert [each.member for each in replies] == ["a", "a", "a"]
            assert (await pool.aask(Request("x", cost={TOKENS: 990}), timeout=WAIT_S)).member == "b"
            with pytest.raises(AllPoolMembersFailedError):
                await pool.aask(Request("x", cost={TOKENS: 990}), timeout=WAIT_S)

    asyncio.run(app())


def test_a_block_of_the_callers_own_is_settled_by_what_it_says() -> None:
    """Behaviour 301: `attempts` and `acquire` cost what their caller says; what has never begun
    costs nothing.
    """

    async def app() -> None:
        clock = FakeClock()
        async with AgentPool.start([Member("a", asays, limits=BOTH)], clock=clock) as pool:
            async for attempt in pool.attempts(cost={TOKENS: 300}):
                async with attempt:
                    attempt.context.spent(tokens=7)
            assert [each.headroom for each in (await pool.astats())["a"].limits] == [99, 993]
            with pytest.raises(ConnectionError):
                async with pool.acquire(cost={TOKENS: 300}) as _:
                    raise ConnectionError
            assert [each.headroom for each in (await pool.astats())["a"].limits] == [98, 693]
            context = pool.acquire(cost={TOKENS: 694}, timeout=WAIT_S)
            with pytest.raises(AllPoolMembersFailedError):
                async with context:
                    pass

    asyncio.run(app())


def test_a_function_of_an_agent_counts_as_a_call() -> None:
    """Behaviour 301: it has no payload that could be estimated."""
    costs: dict[str, Any] = {"cost": lambda payload: {TOKENS: len(payload)}}
    with pool_of(Member("a", says, limits=BOTH), clock=FakeClock(), **costs) as pool:
        assert pool.ask(Apply(lambda agent: 7, cost={TOKENS: 50}), timeout=WAIT_S).value == 7
        assert pool.apply(lambda agent: 8, timeout=WAIT_S) == 8
        assert left(pool) == [98, 950]


def test_what_is_told_counts_too() -> None:
    """Behaviour 301: nobody waits for its answer."""
    costs: dict[str, Any] = {"cost": lambda payload: {TOKENS: 40}}
    with pool_of(Member("a", len, limits=BOTH), clock=FakeClock(), **costs) as pool:
        pool.tell(Request("x"))
        pool.ask(Request("x"), timeout=WAIT_S)
        assert left(pool) == [98, 920]


def test_a_failure_keeps_its_estimate_unless_the_agent_says_better() -> None:
    """Behaviour 295, in a pool: a failed call counts as one; another member has it then."""

    def fails(payload: Any, context: CallContext) -> Any:
        if payload == "says":
            context.spent(tokens=3)
        raise http_error(503)

    members = [Member("a", fails, limits=BOTH), Member("b", says, limits=BOTH, priority=1)]
    options: dict[str, Any] = {"strategy": "priority", "cost": lambda payload: {TOKENS: 100}}
    with pool_of(*members, clock=FakeClock(), **options) as pool:
        assert pool.ask(Request("says"), timeout=WAIT_S).member == "b"
        assert (left(pool), left(pool, "b")) == ([99, 997], [99, 990])
        assert pool.ask(Request("silent"), timeout=WAIT_S).member == "b"
        assert (left(pool), left(pool, "b")) == ([98, 897], [98, 980])


def test_a_call_whose_agent_cannot_be_made_has_used_nothing() -> None:
    """Behaviour 295, in a pool: it has never begun."""

    def factory() -> Any:
        raise OSError("no route to it")

    lazy = Member("a", factory=factory, limits=BOTH)
    with pool_of(lazy, Member("b", says, priority=1), clock=FakeClock()) as pool:
        assert pool.ask(Request("x", cost={TOKENS: 100}), timeout=WAIT_S).member == "b"
        assert left(pool) == [100, 1000]


def test_an_estimate_that_raises_is_its_askers_error() -> None:
    """Behaviour 302: it runs where the request is asked for, so nobody else is harmed; what it
    returns is named where it is none.
    """

    def cost(payload: Any) -> Any:
        if payload == "raise":
            raise LookupError("no tokenizer")
        return {"none": None, "text": "many", "negative": {TOKENS: -1}, "odd": {TOKENS: "3"}}[
            payload
        ]

    with pool_of(Member("a", says, limits=BOTH), clock=FakeClock(), cost=cost) as pool:
        with pytest.raises(LookupError, match="no tokenizer"):
            pool.ask(Request("raise"), timeout=WAIT_S)
        with pytest.raises(TypeError, match="what cost returns must be a mapping, got a str"):
            pool.stream(Request("text"))
        with pytest.raises(ValueError, match=r"what cost returns\['tokens'\] must be at least 0"):
            pool.tell(Request("negative"))
        with pytest.raises(TypeError, match=r"what cost returns\['tokens'\] must be a number"):
            pool.execute("odd")
        assert pool.execute("none", timeout=WAIT_S) == "none"
        assert left(pool) == [99, 990]


def test_what_an_agent_says_wrongly_is_its_own_error() -> None:
    """Behaviour 302: named where it says so."""

    def agent(payload: Any, context: CallContext) -> Any:
        said = []
        wrongs: list[Callable[[], object]] = [
            lambda: context.spent(tokens=-1),
            lambda: context.spent(tokens="many"),  # type: ignore[arg-type]
            lambda: context.limits(remaining=-1, resets_in_s=1),
            lambda: context.limits(remaining=1, resets_in_s=float("nan")),
            lambda: context.limits(remaining=1, resets_in_s=1, cost=""),
            lambda: context.limits(remaining=1, resets_in_s=1, limit=0),
        ]
        for wrong in wrongs:
            try:
                wrong()
            except (TypeError, ValueError) as error:
                said.append(str(error))
        return said

    with pool_of(Member("a", agent)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == [
            "spent['tokens'] must be at least 0, got -1",
            "spent['tokens'] must be a number, got 'many' (str)",
            "remaining must be at least 0, got -1",
            "resets_in_s must be finite, got nan",
            "cost must not be empty, got ''",
            "limit must be at least 1, got 0",
        ]


def test_stats_say_what_is_left_and_until_when() -> None:
    """Behaviour 303: a limit a row; a pool that only waits for headroom can serve."""
    clock = FakeClock()
    limits = [Limit(1, per_s=10, group="org"), per_minute(50, TOKENS)]
    with pool_of(Member("a", len, limits=limits), clock=clock) as pool:
        pool.ask(Request("x", cost={TOKENS: 20}), timeout=WAIT_S)
        clock.advance(4.0)
        stats = pool.stats()
        assert stats["a"].limits == (
            LimitStats(
                cost="requests", limit=1, per_s=10, used=1, headroom=0, refills_in_s=6.0,
                group="org",
            ),
            LimitStats(cost=TOKENS, limit=50, per_s=60, used=20, headroom=30),
        )  # fmt: skip
        assert (stats.available, stats.can_serve) == ((), True)
        failed = pool.ask(Request("x", timeout=5.0), block=False)
        with pytest.raises(AllPoolMembersFailedError, match="headroom") as caught:
            failed.get(timeout=WAIT_S)
        assert caught.value.errors[0].kind is SkipReason.HEADROOM
        assert caught.value.retry_after_s == 6.0
        clock.advance(6.0)
        assert pool.stats().available == ("a",)
    assert MemberStats("b").has_headroom


def test_other_limits_hold_at_once_and_keep_what_was_spent() -> None:
    """Behaviour 304: `configure` changes limits; who waits is let in by it."""
    with pool_of(Member("a", len, limits=[per_minute(1)]), clock=FakeClock()) as pool:
        pool.ask(Request("x"), timeout=WAIT_S)
        waits = pool.ask(Request("x"), block=False)
        assert pool.stats().pending == 1
        changed = pool.configure(members={"a": {"limits": [per_minute(3)]}})
        before, after = (
            f"(Limit(amount={n}, per_s=60, cost='requests', group=None, per_process=False),)"
            for n in (1, 3)
        )
        assert changed == (f"a: limits {before} -> {after}",)
        assert waits.get(timeout=WAIT_S).value == 1
        assert left(pool) == [1]
        with pytest.raises(
            TypeError, match=r"members\.a\.limits must be limits, each a Limit, got 3"
        ):
            pool.configure(members={"a": {"limits": [3]}})  # type: ignore[list-item]
        pool.configure(members={"a": {"limits": ()}})
        assert pool.stats()["a"].limits == ()
        with pytest.raises(ValueError, match="cost cannot change while the pool runs"):
            pool.configure(cost=len)  # type: ignore[call-arg]


FILE = """
[pool]
strategy = "priority"
[[members]]
name = "a"
kind = "python"
agent = "builtins:len"
limits = [{ amount = 2, per_s = 60 }, { amount = 90_000, per_s = 60, cost = "tokens", group = "k" }]
"""


def test_limits_stand_in_files_and_are_taken_over_anew(tmp_path: Path) -> None:
    """Behaviour 304: what was spent stays over a reload."""
    path = tmp_path / "pool.toml"
    path.write_text(FILE)
    with AgentPool.from_toml(path) as pool:
        pool.ask(Request("x"), timeout=WAIT_S)
        assert left(pool) == [1, 90_000]
        path.write_text(FILE.replace("amount = 2", "amount = 5"))
        assert len(pool.reload()) == 1
        assert left(pool) == [4, 90_000]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("3", "must be an array of tables"),
        ("[3]", "must be an array of tables"),
        ("[{ amount = 2 }]", "limits.per_s must be given"),
        ("[{ amount = 0, per_s = 60 }]", "limits.amount must be at least 1, got 0"),
        ("[{ amount = 1, per_s = 60, costs = 'x' }]", "did you mean cost"),
    ],
)
def test_wrong_limits_in_a_file_are_told_by_line(tmp_path: Path, limits: str, said: str) -> None:
    """Behaviour 304: as everything else that stands there."""
    path = tmp_path / "pool.toml"
    path.write_text(
        f"[[members]]\nname = 'a'\nkind = 'python'\nagent = 'builtins:len'\nlimits = {limits}\n"
    )
    with pytest.raises(PoolFileError, match=rf"pool.toml:5: members.a.limits.*{said}|{said}"):
        AgentPool.from_toml(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limit(0, per_s=1), "amount must be at least 1, got 0"),
        (lambda: Limit(1.5, per_s=1), "amount must be a whole number, got 1.5"),  # type: ignore[arg-type]
        (lambda: Limit(1, per_s=0), "per_s must be greater than 0, got 0"),
        (lambda: Limit(1, per_s=1, cost=" "), "cost must not be empty"),
        (lambda: Limit(1, per_s=1, group=""), "group must not be empty"),
        (lambda: Member("a", len, limits=Limit(1, per_s=1)), "limits must be limits"),  # type: ignore[arg-type]
        (lambda: Member("a", len, limits=[1]), "limits must be limits, each a Limit"),  # type: ignore[list-item]
        (lambda: Member("a", len, limits=[per_minute(1), per_minute(2)]), "limits must differ"),
        (lambda: Request("x", cost=7), "cost must be a mapping"),  # type: ignore[arg-type]
        (lambda: Request("x", cost={TOKENS: -1}), r"cost\['tokens'\] must be at least 0"),
        (lambda: Request("x", cost={TOKENS: 1e16}), r"cost\['tokens'\] must be at most 1e\+15"),
    ],
)
def test_wrong_limits_and_costs_are_refused_where_they_are_given(
    make: Callable[[], Any], said: str
) -> None:
    """Behaviour 302: with field, value and rule."""
    with pytest.raises((TypeError, ValueError), match=said):
        make()


def test_what_an_agent_learns_of_its_provider_keeps_others_away() -> None:
    """Behaviour 299, in a pool: without any limit declared."""
    clock = FakeClock()

    def agent(payload: Any, context: CallContext) -> Any:
        context.limits(remaining=0, resets_in_s=20)
        return payload

    with pool_of(*ranked(a=agent, b=len), clock=clock) as pool:
        assert [pool.ask(Request("x"), timeout=WAIT_S).member for _ in range(2)] == ["a", "b"]
        (stats,) = pool.stats()["a"].limits
        assert (stats.cost, stats.limit, stats.headroom) == ("requests", None, 0)
        assert stats.refills_in_s == 20.0
        pool.reset_member("a")
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "a"
        assert not pool.stats()["a"].has_headroom
        clock.advance(20.0)
        assert pool.stats()["a"].limits == ()
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "a"


def test_who_asks_from_inside_waits_for_headroom_not_for_itself() -> None:
    """Behaviour 291: time brings headroom, whoever waits for whom: no circle is closed by that."""
    clock, outer, asked = FakeClock(), threading.Event(), threading.Event()

    def asks(payload: Any) -> Any:
        outer.set()
        assert asked.wait(WAIT_S)
        return pool.ask(Request("in", cost={TOKENS: 50})).member

    b = Member("b", len, limits=[per_minute(100, TOKENS)], priority=1)
    with pool_of(Member("a", asks), b, clock=clock, request_timeout_s=None) as pool:
        answer = pool.ask(Request("out"), block=False)
        assert outer.wait(WAIT_S)
        assert pool.ask(Request("fill", cost={TOKENS: 60}), timeout=WAIT_S).member == "b"
        asked.set()
        give_up_at = time.monotonic() + WAIT_S
        while pool.stats().pending == 0 and time.monotonic() < give_up_at:
            assert not answer.done()
        clock.advance(60.0)
        assert answer.get(timeout=WAIT_S).value == "b"


def test_a_pool_in_a_pool_without_headroom_is_rate_limited() -> None:
    """Behaviour 305: the outer pool lets it rest for as long as that lasts, and asks another one;
    what can never be held there is too large for it.
    """
    clock = FakeClock()
    inner = AgentPool.start([Member("in", len, limits=[per_minute(1), BOTH[1]])], clock=clock)
    members = ranked(pool=inner, b=len)
    with pool_of(*members, clock=clock, request_timeout_s=5.0) as pool:
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "pool"
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert (reply.member, reply.errors[0].kind) == ("b", FailureKind.RATE_LIMITED)
        assert 50.0 < (pool.stats()["pool"].reopens_in_s or 0.0) <= 60.0
    inner.stop()
