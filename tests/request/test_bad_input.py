"""What a pool is given and cannot use: a clear error names the field, the value and the rule."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pykka
import pytest
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import (
    AddMember,
    AgentPool,
    AllPoolMembersFailedError,
    Cancel,
    CircuitBreaker,
    Drain,
    Event,
    ForceOpen,
    Member,
    MemberExistsError,
    PoolConfig,
    PoolError,
    PoolRef,
    PoolStoppedError,
    RemoveMember,
    Request,
    RequestCancelledError,
    StrategyError,
    Subscribe,
    SystemClock,
    UnknownMemberError,
)
from greenroom.actors.runtime.future import PENDING, PoolFuture
from greenroom.testing import FakeClock, ScriptedAgent


@pytest.fixture
def pool() -> Iterator[PoolRef]:
    """A pool of one, which must still work at the end."""
    with pool_of(Member("a", echo)) as ref:
        yield ref
        assert ref.execute("still works", timeout=WAIT_S) == "still works"


class Whatever:
    def __repr__(self) -> str:
        return "<whatever>"


class NoPick:
    name = "mine"


class AlwaysWrong:
    """A strategy whose choice is the test's."""

    def __init__(self, choice: Any) -> None:
        self.choice = choice

    def pick(self, candidates: Any, context: Any, rng: random.Random) -> Any:
        return self.choice(candidates) if callable(self.choice) else self.choice


# -- starting

STARTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "members a number": ({"members": 5}, TypeError, r"members .* iterable of Member, got 5 \(int"),
    "members None": ({"members": None}, TypeError, r"members .* iterable of Member, got None"),
    "members a Member": ({"members": Member("a", echo)}, TypeError, r"members .* iterable"),
    "members a string": ({"members": "ab"}, TypeError, r"members must be a Member, got 'a'"),
    "members functions": (
        {"members": [echo]},
        TypeError,
        r"members must be a Member, got <function",
    ),
    "a class among them": ({"members": [Member]}, TypeError, r"members must be a Member"),
    "the same name twice": (
        {"members": [Member("a", echo), Member("b", echo), Member("a", echo)]},
        MemberExistsError,
        r"members must have different names, got 'a' more than once",
    ),
    "no weight at all": (
        {"members": [Member("a", echo, weight=0), Member("b", echo, weight=0.0)]},
        ValueError,
        r"weight must be greater than 0 for at least one member",
    ),
    "unknown strategy": (
        {"strategy": "fastest"},
        ValueError,
        r"strategy must be one of .*'round_robin'.* got 'fastest'",
    ),
    "strategy in capitals": ({"strategy": "RANDOM"}, ValueError, r"strategy must be one of"),
    "strategy None": ({"strategy": None}, TypeError, r"strategy must .* got None"),
    "strategy a number": ({"strategy": 3}, TypeError, r"strategy must .* got 3 \(int\)"),
    "strategy a class": ({"strategy": AlwaysWrong}, TypeError, r"got the class AlwaysWrong"),
    "strategy without pick": ({"strategy": NoPick()}, TypeError, r"method pick\("),
    "config a dict": ({"config": {"max_retries": 3}}, TypeError, r"config must be a PoolConfig"),
    "config the class": ({"config": PoolConfig}, TypeError, r"config must be a PoolConfig"),
    "name None": ({"name": None}, TypeError, r"name must be a string, got None"),
    "name empty": ({"name": ""}, ValueError, r"name must not be empty"),
    "name blank": ({"name": " \n"}, ValueError, r"name must not be empty"),
    "clock a number": ({"clock": 1.0}, TypeError, r"clock must be a Clock, got 1.0"),
    "clock the module": ({"clock": __import__("time")}, TypeError, r"clock must be a Clock"),
    "clock a class": ({"clock": SystemClock}, TypeError, r"clock must be a Clock, got <class"),
    "clock incomplete": (
        {"clock": SimpleNamespace(now=lambda: 1.0)},
        TypeError,
        r"clock must be a Clock",
    ),
    "rng a seed": ({"rng": 42}, TypeError, r"rng must be a Random, got 42 \(int\)"),
    "rng the module": ({"rng": random}, TypeError, r"rng must be a Random"),
    "rng a class": ({"rng": random.Random}, TypeError, r"rng must be a Random"),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), STARTS.values(), ids=STARTS)
def test_a_pool_refuses_to_start_with_what_it_cannot_use(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """The error comes from `start` itself, and no thread and no actor is left behind."""
    threads, actors = set(threading.enumerate()), set(pykka.ActorRegistry.get_all())
    with pytest.raises(kind, match=message):
        AgentPool.start(**{"members": [Member("m", echo)], **arguments})
    # Those of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= threads
    assert set(pykka.ActorRegistry.get_all()) <= actors


def test_a_pool_takes_no_settings_by_position() -> None:
    start: Any = AgentPool.start
    with pytest.raises(TypeError):
        start([Member("a", echo)], "random")
    with pytest.raises(TypeError, match="retries"):
        start([Member("a", echo)], retries=3)


def test_members_that_cannot_be_listed_raise_what_they_raise() -> None:
    def members() -> Iterator[Member]:
        yield Member("a", echo)
        raise ZeroDivisionError

    actors = pykka.ActorRegistry.get_all()
    with pytest.raises(ZeroDivisionError):
        AgentPool.start(members())
    assert pykka.ActorRegistry.get_all() == actors


MEMBERS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "neither agent nor factory": ({"agent": None}, ValueError, "exactly one of agent and factory"),
    "both": ({"factory": echo}, ValueError, "exactly one of agent and factory.*both"),
    "name None": ({"name": None}, TypeError, "name must be a string"),
    "name empty": ({"name": ""}, ValueError, "name must not be empty"),
    "agent a string": ({"agent": "gpt"}, TypeError, "agent must be .* got a str"),
    "factory a string": ({"agent": None, "factory": "f"}, TypeError, "factory must be callable"),
    "weight negative": ({"weight": -1.0}, ValueError, "weight must be at least 0, got -1.0"),
    "weight NaN": ({"weight": math.nan}, ValueError, "weight must be finite, got nan"),
    "weight infinite": ({"weight": math.inf}, ValueError, "weight must be finite, got inf"),
    "weight a string": ({"weight": "1"}, TypeError, "weight must be a number, got '1'"),
    "priority a float": ({"priority": 1.5}, TypeError, "priority must be a whole number"),
    "concurrency zero": ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1"),
    "concurrency True": ({"max_concurrency": True}, TypeError, "max_concurrency must be a whole"),
    "probe a number": ({"probe": 30}, TypeError, "probe must be callable, got 30"),
    "close a number": ({"close": 30}, TypeError, "close must be callable, got 30"),
    "isolated a word": ({"isolated": "yes"}, TypeError, "isolated must be True or False"),
    "no such method": ({"method": "chat"}, TypeError, "method must name a method .* got 'chat'"),
    "metadata a list": ({"metadata": [1]}, TypeError, "metadata must be a mapping"),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), MEMBERS.values(), ids=MEMBERS)
def test_a_member_that_makes_no_sense_never_reaches_a_pool(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Member(**{"name": "m", "agent": echo, **arguments})


# -- asking and telling


@pytest.mark.parametrize(
    "message",
    ["hello", None, 5, b"x", {"payload": 1}, Request, Whatever(), Event(pool="p"), object],
    ids=lambda message: repr(message)[:20],
)
def test_a_message_that_the_pool_does_not_know(pool: PoolRef, message: Any) -> None:
    """An ask of it is answered with an error, a tell is only logged; the pool goes on."""
    with pytest.raises(TypeError, match=r"takes the messages of greenroom\.messages"):
        pool.ask(message, timeout=WAIT_S)
    future = pool.ask(message, block=False)
    with pytest.raises(TypeError):
        future.get(timeout=WAIT_S)
    pool.tell(message)
    stats = pool.stats()
    assert (stats.accepted, stats.failed) == (0, 0)


TIMEOUTS: dict[str, tuple[Any, type[Exception], str]] = {
    "negative": (-1, ValueError, "must be at least 0, got -1"),
    "NaN": (math.nan, ValueError, "must be finite, got nan"),
    "infinite": (math.inf, ValueError, "must be finite, got inf"),
    "a string": ("5", TypeError, "must be a number, got '5'"),
    "True": (True, TypeError, "must be a number, got True"),
    "a whole number no float can hold": (10**400, ValueError, "must be finite"),
}


@pytest.mark.parametrize(("timeout", "kind", "message"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_a_timeout_that_makes_no_sense(
    pool: PoolRef, timeout: Any, kind: type[Exception], message: str
) -> None:
    """Whatever takes a timeout refuses it before anything happens."""
    takers: list[Callable[[], Any]] = [
        lambda: pool.ask(Request("x"), timeout=timeout),
        lambda: pool.ask(Request("x"), block=False, timeout=timeout),
        lambda: pool.execute("x", timeout=timeout),
        lambda: pool.apply(echo, timeout=timeout),
        lambda: pool.add_member(Member("b", echo), timeout=timeout),
        lambda: pool.remove_member("a", timeout=timeout),
        lambda: pool.drain(timeout=timeout),
        lambda: pool.stop(timeout=timeout),
        lambda: pool.stop(block=False, timeout=timeout),
    ]
    for take in takers:
        with pytest.raises(kind, match=f"timeout.*{message}"):
            take()
    stats = pool.stats()
    assert (stats.accepted, stats.draining, len(stats.members)) == (0, False, 1)


def test_a_timeout_of_zero_is_one(pool: PoolRef) -> None:
    """Nobody waits, and what was begun is cancelled: no slot is lost to it."""
    gate = ScriptedAgent.hanging(echo)
    pool.add_member(Member("slow", gate, priority=-1), timeout=WAIT_S)
    with pytest.raises(TimeoutError):
        pool.ask(Request("x"), timeout=0)
    gate.release()
    pool.remove_member("slow", timeout=WAIT_S)
    assert pool.stats().in_flight == 0


REQUESTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "timeout_s zero": ({"timeout_s": 0}, ValueError, "timeout_s must be greater than 0"),
    "timeout_s negative": ({"timeout_s": -3.0}, ValueError, "timeout_s must be greater than 0"),
    "timeout_s NaN": ({"timeout_s": math.nan}, ValueError, "timeout_s must be finite"),
    "key a number": ({"key": 7}, TypeError, "key must be a string, got 7"),
    "max_retries negative": ({"max_retries": -1}, ValueError, "max_retries must be at least 0"),
    "max_retries a float": ({"max_retries": 1.0}, TypeError, "max_retries must be a whole number"),
    "priority a word": ({"priority": "high"}, TypeError, "priority must be a whole number"),
    "idempotent a number": ({"idempotent": 1}, TypeError, "idempotent must be True or False"),
    "metadata a string": ({"metadata": "x"}, TypeError, "metadata must be a mapping"),
    "request_id empty": ({"request_id": ""}, ValueError, "request_id must not be empty"),
    "an unknown option": ({"retries": 2}, TypeError, "retries"),
}


@pytest.mark.parametrize(("options", "kind", "message"), REQUESTS.values(), ids=REQUESTS)
def test_options_that_make_no_sense(
    pool: PoolRef, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        pool.execute("x", **options)
    with pytest.raises(kind, match=message):
        pool.apply(echo, **options)
    assert pool.stats().accepted == 0


def test_apply_wants_a_function(pool: PoolRef) -> None:
    function: Any = "run"
    with pytest.raises(TypeError, match="function must be callable, got a str"):
        pool.apply(function, timeout=WAIT_S)


def test_two_requests_of_one_id_in_flight() -> None:
    """The second is refused; the first is none the worse for it, and the id is free afterwards."""
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate, max_concurrency=3)) as pool:
        first = pool.ask(Request("first", request_id="same"), block=False)
        gate.wait_for_calls()
        second = pool.ask(Request("second", request_id="same"), block=False)
        with pytest.raises(ValueError, match=r"request_id must be unique.*'same'"):
            second.get(timeout=WAIT_S)
        assert second.cancel() is False
        pool.tell(Request("third", request_id="same"))
        assert pool.stats().in_flight == 1
        gate.release()
        assert first.get(timeout=WAIT_S).value == "first"
        assert pool.execute("again", request_id="same", timeout=WAIT_S) == "again"


def test_a_refused_duplicate_that_is_cancelled_too_late_cancels_nobody() -> None:
    """Its cancellation and its refusal cross: the request that has the id goes on."""
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate, max_concurrency=3)) as pool:
        first = pool.ask(Request("first", request_id="same"), block=False)
        gate.wait_for_calls()
        for _ in range(50):
            pool.ask(Request("second", request_id="same"), block=False).cancel()
        pool.stats()
        gate.release()
        assert first.get(timeout=WAIT_S).value == "first"


def test_cancelling_what_is_not_there(pool: PoolRef) -> None:
    assert pool.cancel("nobody") is False
    done = pool.ask(Request("x"), block=False)
    done.get(timeout=WAIT_S)
    assert done.cancel() is False
    with pytest.raises(ValueError, match="request_id must not be empty"):
        pool.cancel("")
    unknown: Any = 5
    with pytest.raises(TypeError, match="request_id must be a string, got 5"):
        pool.cancel(unknown)
    assert pool.ask(Drain, block=False).cancel() is False


def test_an_agent_that_nothing_can_call() -> None:
    with pool_of(Member("a", Whatever()), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert "agent must be callable or have one of arun" in str(caught.value)
        assert pool.apply(repr, timeout=WAIT_S) == "<whatever>"


# -- members


@pytest.mark.parametrize("call", ["remove_member", "reset_member", "force_open", "disable_breaker"])
def test_a_member_that_is_not_there(pool: PoolRef, call: str) -> None:
    method = getattr(pool, call)
    with pytest.raises(UnknownMemberError, match=r"'pool' \(a\), got 'nobody'") as caught:
        method("nobody")
    assert isinstance(caught.value, PoolError)
    assert isinstance(caught.value, KeyError)
    with pytest.raises(ValueError, match="name must not be empty"):
        method("")
    for name in (None, 5, Member("a", echo), b"a"):
        with pytest.raises(TypeError, match="name must be a string"):
            method(name)


@pytest.mark.parametrize("member", [None, "b", echo, Member, 5], ids=repr)
def test_what_is_added_must_be_a_member(pool: PoolRef, member: Any) -> None:
    with pytest.raises(TypeError, match="member must be a Member"):
        pool.add_member(member, timeout=WAIT_S)
    with pytest.raises(TypeError, match="member must be a Member"):
        pool.ask(AddMember(member), timeout=WAIT_S)


def test_a_member_may_not_be_added_twice(pool: PoolRef) -> None:
    with pytest.raises(MemberExistsError, match="got 'a' again"):
        pool.add_member(Member("a", echo), timeout=WAIT_S)
    pool.tell(AddMember(Member("a", echo)))
    pool.tell(RemoveMember("nobody"))
    pool.tell(ForceOpen("nobody"))
    assert [each.name for each in pool.stats().members] == ["a"]


def test_members_without_weight_get_nothing_and_say_so() -> None:
    """All weights may become 0 at run time: a request is told so, and does not wait."""
    with pool_of(Member("a", echo), strategy="weighted") as pool:
        pool.add_member(Member("b", echo, weight=0.0), timeout=WAIT_S)
        pool.remove_member("a", timeout=WAIT_S)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.skipped for each in caught.value.errors] == [True]


# -- strategies


@pytest.mark.parametrize(
    "choice",
    [
        "a",
        0,
        True,
        Whatever(),
        lambda candidates: candidates,
        lambda candidates: candidates[0].name,
    ],
    ids=["name", "index", "True", "object", "all of them", "its name"],
)
def test_a_strategy_that_picks_what_is_no_candidate(choice: Any) -> None:
    strategy = AlwaysWrong(choice)
    with pool_of(Member("a", echo), strategy=strategy) as pool:
        with pytest.raises(StrategyError, match="must return one of its candidates or None"):
            pool.execute("x", timeout=WAIT_S)
        pool.tell(Request("x"))
        strategy.choice = lambda candidates: candidates[0]
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stats().pending == 0


def test_a_strategy_that_picks_nobody() -> None:
    with (
        pool_of(Member("a", echo), strategy=AlwaysWrong(None)) as pool,
        pytest.raises(AllPoolMembersFailedError),
    ):
        pool.execute("x", timeout=WAIT_S)


def test_a_strategy_that_remembers_a_candidate_of_another_time() -> None:
    """A slot kept from before the member was removed is no candidate any more."""
    kept: list[Any] = []

    def stale(candidates: Any) -> Any:
        kept.append(candidates[0])
        return kept[0]

    with pool_of(Member("a", echo), strategy=AlwaysWrong(stale)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        pool.remove_member("a", timeout=WAIT_S)
        pool.add_member(Member("a", echo), timeout=WAIT_S)
        with pytest.raises(StrategyError):
            pool.execute("x", timeout=WAIT_S)


def test_a_strategy_may_not_change_what_it_is_given() -> None:
    """It is given its own list: whatever it does to that changes nothing."""

    class Greedy(AlwaysWrong):
        def pick(self, candidates: Any, context: Any, rng: random.Random) -> Any:
            chosen = candidates[-1]
            with contextlib.suppress(AttributeError):
                candidates.clear()
            return chosen

    with pool_of(Member("a", echo), Member("b", echo), strategy=Greedy(None)) as pool:
        for i in range(5):
            with contextlib.suppress(StrategyError):
                assert pool.execute(i, timeout=WAIT_S) == i
        assert pool.stats().available == ("a", "b")


# -- subscribers


@pytest.mark.parametrize("subscriber", [None, 5, "print", [], SimpleNamespace(tell=3)], ids=repr)
def test_a_subscriber_that_nothing_can_be_told(pool: PoolRef, subscriber: Any) -> None:
    with pytest.raises(TypeError, match="subscriber must be an actor ref or a callable"):
        pool.on_event(subscriber)
    with pytest.raises(TypeError, match="subscriber must be an actor ref or a callable"):
        pool.ask(Subscribe(subscriber), timeout=WAIT_S)


def test_a_subscription_ends_once_and_for_all(pool: PoolRef) -> None:
    got: list[Event] = []
    end = pool.on_event(got.append)
    end()
    end()
    pool.execute("x", timeout=WAIT_S)
    pool.stats()
    assert got == []


def test_a_pool_that_subscribes_to_itself(pool: PoolRef) -> None:
    """It is told what it cannot use, and goes on; its events do not go round in circles."""
    pool.on_event(pool)
    assert pool.execute("x", timeout=WAIT_S) == "x"
    pool.stats()


def test_a_subscriber_that_is_told_and_called() -> None:
    """What has a `tell` but is no Pykka ref is told, too."""
    got: list[Any] = []
    told: Any = SimpleNamespace(tell=got.append)
    with pool_of(Member("a", echo)) as pool:
        pool.on_event(told)
        pool.execute("x", timeout=WAIT_S)
    assert "request.completed" in {event.name for event in got}


# -- futures


def test_a_future_is_not_the_askers_to_answer(pool: PoolRef) -> None:
    """Setting it by hand does not hurt the pool, whose answer is then the second."""
    gate = ScriptedAgent.hanging(echo)
    pool.add_member(Member("slow", gate, priority=-1), timeout=WAIT_S)
    future: PoolFuture[Any] = pool.ask(Request("x"), block=False)
    gate.wait_for_calls()
    future.set("mine")
    gate.release()
    assert future.get(timeout=WAIT_S) == "mine"
    pool.remove_member("slow", timeout=WAIT_S)
    stats = pool.stats()
    assert (stats.in_flight, stats.pending) == (0, 0)


def test_a_future_awaited_outside_of_a_loop() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        with pytest.raises(RuntimeError, match="no running event loop"):
            future.__await__().send(None)
        with pytest.raises(RequestCancelledError):  # as by any await that is broken off
            future.get(timeout=WAIT_S)
        gate.release()


def test_a_payload_may_be_anything(pool: PoolRef) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise SystemExit

        def __hash__(self) -> int:
            raise SystemExit

        def __repr__(self) -> str:
            raise SystemExit

    odd = Odd()
    assert pool.execute(odd, timeout=WAIT_S) is odd
    assert pool.execute(None, timeout=WAIT_S) is None
    lock = threading.Lock()
    assert pool.execute(lock, timeout=WAIT_S) is lock
    error = ValueError("a value, not an error")
    assert pool.execute(error, timeout=WAIT_S) is error


def test_an_answer_may_be_a_pool_message(pool: PoolRef) -> None:
    """A value that looks like a message, or like a future, is a value."""
    for value in (Request("x"), Cancel("x"), pool, PENDING, NotImplemented):
        assert pool.execute(value, timeout=WAIT_S) is value


def test_an_agent_may_answer_with_a_future() -> None:
    """Pykka's own would block the loop of all async agents if it were awaited there."""
    futures: dict[str, pykka.Future[str]] = {
        "pykka": pykka.ThreadingFuture(),
        "greenroom": PoolFuture(),
    }
    asked = threading.Semaphore(0)

    def agent(name: str) -> Any:
        asked.release()
        return futures[name]

    async def neighbour(payload: Any) -> Any:
        await asyncio.sleep(0)
        return payload

    with pool_of(
        Member("a", agent, max_concurrency=2), Member("neighbour", neighbour, priority=1)
    ) as pool:
        answers = [pool.ask(Request(name), block=False) for name in futures]
        for _ in answers:
            assert asked.acquire(timeout=WAIT_S)
        assert pool.execute("meanwhile", timeout=WAIT_S) == "meanwhile"
        for name, future in futures.items():
            future.set(f"from {name}")
        values = [answer.get(timeout=WAIT_S).value for answer in answers]
        assert values == ["from pykka", "from greenroom"]


# -- a stopped pool


def test_a_stopped_pool_refuses_bad_input_as_well() -> None:
    """Which of the two errors comes first does not matter; that one comes does."""
    with pool_of(Member("a", echo)) as pool:
        pass
    bad: Any = "hello"
    for ask in (lambda: pool.ask(bad), lambda: pool.tell(bad), lambda: pool.ask(bad, timeout=1)):
        with pytest.raises((PoolStoppedError, TypeError)):
            ask()


def test_a_request_to_a_stopped_pool_from_a_loop() -> None:
    with pool_of(Member("a", echo)) as pool:
        pass

    async def main() -> None:
        with pytest.raises(PoolStoppedError):
            await pool.ask(Request("x"), block=False)

    asyncio.run(main())


def test_a_clock_that_goes_backwards_hurts_nobody() -> None:
    """Time that goes back ends no deadline early and keeps no request for ever."""
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), clock=clock, request_timeout_s=5.0, max_retries=0) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        clock._now -= 100
        clock.advance(0)
        pool.stats()
        assert not future.done()
        clock.advance(105)
        with pytest.raises(AllPoolMembersFailedError):
            future.get(timeout=WAIT_S)
        gate.release()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"failure_threshold": 0}, "failure_threshold"),
        ({"reset_timeout_s": math.nan}, "reset_timeout_s"),
        ({"success_threshold": "2"}, "success_threshold"),
    ],
)
def test_a_breaker_of_ones_own(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises((TypeError, ValueError), match=field):
        CircuitBreaker(**arguments)
