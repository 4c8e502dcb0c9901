"""What an agent says of its answer comes back with it, and nowhere else."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_log import SECRET, logged
from helpers_pools import WAIT_S, echo, pool_of, ranked

from greenroom import CallContext, Member, PoolRef, Reply, Request
from greenroom.messages.replies import NO_METADATA, Metadata
from greenroom.testing import FakeClock, ScriptedAgent


def sync(payload: Any, context: CallContext) -> Any:
    context.describe(model="early", usage={"tokens": 3})
    context.describe(model=f"model of {context.member}")
    return payload


async def on_loop(payload: Any, context: CallContext) -> Any:
    return sync(payload, context)


def generator(payload: Any, context: CallContext) -> Iterator[Any]:
    yield payload
    sync(payload, context)


async def async_generator(payload: Any, context: CallContext) -> AsyncIterator[Any]:
    yield payload
    sync(payload, context)


AGENTS = [sync, on_loop, generator, async_generator]
SAID = {"model": "model of a", "usage": {"tokens": 3}}


def reply_of(pool: PoolRef, payload: Any = "x", **options: Any) -> Reply[Any]:
    reply: Reply[Any] = pool.ask(Request(payload, **options), timeout=WAIT_S)
    return reply


def test_what_is_said_of_a_stream_comes_at_its_end() -> None:
    """Not before: more may be said until then."""
    go_on = threading.Event()

    def agent(payload: Any, context: CallContext) -> Iterator[Any]:
        sync(payload, context)
        yield payload
        go_on.wait(WAIT_S)

    with pool_of(Member("a", agent)) as pool, pool.stream(Request("x")) as stream:
        assert next(stream) == "x"
        assert stream.metadata == {}
        go_on.set()
        assert list(stream) == []
        assert stream.metadata == SAID


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_said_of_an_answer_comes_with_it(agent: Any) -> None:
    """What is said once more replaces what was said of that name before; streams at their end."""
    with pool_of(Member("a", agent)) as pool:
        assert reply_of(pool).metadata == SAID
        with pool.stream(Request("x")) as stream:
            assert stream.collect() == ["x"]
            assert stream.metadata == SAID
        assert [each.reply.metadata for each in pool.map(["x"], errors="return") if each.reply] == [
            SAID
        ]


def test_an_answer_of_which_nothing_is_said_has_none() -> None:
    """The same one for all: it costs nothing."""
    with pool_of(Member("a", echo)) as pool:
        assert reply_of(pool).metadata is NO_METADATA
        with pool.stream(Request("x")) as stream:
            stream.collect()
            assert stream.metadata is NO_METADATA
    assert NO_METADATA == {}


def test_after_a_failover_it_is_what_the_one_that_answers_has_said() -> None:
    def fails(payload: Any, context: CallContext) -> Any:
        context.describe(model="of the one that fails", cost=9)
        raise ConnectionError("down")

    def breaks_off(payload: Any, context: CallContext) -> Iterator[Any]:
        context.describe(model="of the one that breaks off", cost=9)
        yield "void"
        raise ConnectionError("down")

    with pool_of(*ranked(b=fails, a=sync)) as pool:
        reply = reply_of(pool)
        assert (reply.member, reply.metadata) == ("a", SAID)
    with pool_of(*ranked(b=breaks_off, a=generator), on_cut="restart") as pool:
        stream = pool.stream(Request("x"))
        assert stream.collect() == ["x"]
        assert stream.metadata == SAID


def test_of_two_that_race_it_is_what_the_winner_has_said() -> None:
    """Whatever the other one has said by then."""
    clock, gate = FakeClock(), ScriptedAgent.hanging(echo)

    def slow(payload: Any, context: CallContext) -> Any:
        context.describe(model="of the loser", cost=9)
        return gate(payload)

    with pool_of(*ranked(b=slow, a=sync), clock=clock, hedge_after_s=1.0) as pool:
        pool.force_open("b")
        for _ in range(40):  # hedges have to be paid for
            reply_of(pool)
        pool.reset_member("b")
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        clock.advance(1.0)
        reply = future.get(timeout=WAIT_S)
        assert (reply.member, reply.metadata) == ("a", SAID)
        gate.release()


def test_an_answer_that_the_router_gives_has_it_as_well() -> None:
    """As where somebody listens to each step, or calls are watched for their speed."""
    with pool_of(Member("a", sync), circuit_slow_call_s=9.0, circuit_slow_rate=1.0) as pool:
        end = pool.on_event(lambda _: None)
        assert reply_of(pool).metadata == SAID
        end()


@pytest.mark.parametrize("agent", AGENTS)
def test_a_pool_in_a_pool_passes_it_on(agent: Any) -> None:
    with pool_of(Member("a", agent)) as inner, pool_of(Member("inner", inner)) as outer:
        assert reply_of(outer).metadata == SAID
        stream = outer.stream(Request("x"))
        assert stream.collect() == ["x"]
        assert stream.metadata == SAID


def test_it_can_be_read_copied_and_pickled_and_not_changed() -> None:
    with pool_of(Member("a", sync)) as pool:
        reply = reply_of(pool)
    metadata: Any = reply.metadata
    with pytest.raises(TypeError):
        metadata["model"] = "mine"
    for same in (copy.deepcopy(reply), pickle.loads(pickle.dumps(reply))):
        assert (same, same.metadata) == (reply, SAID)
    assert hash(reply) == hash(copy.copy(reply))
    assert Metadata(SAID) == SAID
    assert hash(Metadata(SAID)) == hash(Metadata(dict(SAID)))


def test_it_stands_in_no_log_and_no_repr() -> None:
    def agent(payload: Any, context: CallContext) -> Any:
        context.describe(model=SECRET)
        return "x"

    with logged("TRACE") as lines, pool_of(Member("a", agent)) as pool:
        reply = reply_of(pool)
        assert SECRET not in repr(reply) + repr(reply.metadata) + repr(pool.stats())
    assert lines()
    assert SECRET not in "\n".join(lines())
