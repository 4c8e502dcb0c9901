"""What the table has no column for: an end before the end, and what each framework's errors mean.
Behaviours 251 to 254.

`make test-frameworks` has them all; elsewhere those are skipped whose framework is not installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers_pools import WAIT_S, ask, pool_of

from frameworks.case import Case, Make
from frameworks.page import case_names
from frameworks.provider import ANSWER, Backend, Provider
from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PoolConfig,
    Request,
    UnsuccessfulResultError,
    answers,
)
from greenroom.messages.events import AttemptFailed
from greenroom.testing import EventRecorder

STATUS_IS_LOST = ("a2a", "mcp")
"""There a failure is a value, without its status."""
GO_ON = ("crewai", "smolagents")
"""What has begun there runs to its end in a thread, whoever has gone away."""
STATEFUL = ("autogen", "strands")
NO_ANSWER: dict[str, Callable[[Any], object]] = {
    "ag2": lambda reply: not reply.body,
    "agno": lambda output: not output.content,
    "autogen": answers.any_of(answers.auto, answers.no_content),
    "dspy": answers.auto,
    "langchain_core": lambda message: not message.text,
    "llama_index": lambda output: not output.response.content,
    "openai_agents": lambda result: not result.final_output,
    "pydantic_ai": answers.auto,
    "semantic_kernel": lambda item: not str(item),
    "strands": answers.any_of(answers.auto, answers.no_content),
}
"""What the page says for `is_failure`: but for two, each of them hands on an empty answer."""
KINDS = {
    "400": FailureKind.CALLER,
    "401": FailureKind.AUTH,
    "404": FailureKind.NOT_FOUND,
    "413": FailureKind.TOO_LARGE,
    "429": FailureKind.RATE_LIMITED,
    "500": FailureKind.UNAVAILABLE,
}
NAMES = case_names()


def case_of(name: str) -> Case:
    try:
        module = importlib.import_module(f"frameworks.cases.{name}")
    except ImportError as error:
        pytest.skip(f"{error}: make test-frameworks has it")
    found: Case = module.CASE
    return found


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider().running() as running:
        yield running


@pytest.fixture
def silent(provider: Provider) -> Iterator[Backend]:
    """A backend that never comes to an end."""
    backend = provider.backend("hang")
    yield backend
    backend.over.set()


@pytest.mark.parametrize("name", [each for each in NAMES if each not in (*GO_ON, "a2a")])
def test_a_cancelled_request_ends_its_call_of_the_model(name: str, silent: Backend) -> None:
    """Its framework lets go of the connection. (A2A's client must know a task to cancel it.)"""
    case = case_of(name)
    silent.script = case.script
    with pool_of(case.member("a", silent.url)) as pool:
        asked = ask(pool, "hello")
        assert silent.reached.wait(WAIT_S)
        asked.cancel()
        assert silent.left.wait(WAIT_S)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_is_left_ends_its_call_of_the_model(name: str, silent: Backend) -> None:
    """As soon as its reader has gone, though the pool lives on."""
    case = case_of(name)
    if case.streaming is None:
        pytest.skip(f"{name} has no stream")
    silent.script = case.script
    with pool_of(case.streaming("a", silent.url)) as pool:
        with pool.stream(Request("hello"), timeout=WAIT_S) as stream:
            assert case.piece(next(iter(stream))) is not None
        assert silent.left.wait(WAIT_S)


@pytest.mark.parametrize("status", KINDS)
@pytest.mark.parametrize("name", [each for each in NAMES if each not in STATUS_IS_LOST])
def test_an_error_of_the_model_is_of_the_kind_of_its_status(
    name: str, status: str, provider: Provider
) -> None:
    """Whatever the framework has wrapped it in."""
    case = case_of(name)
    backend = provider.backend(status, case.script)
    with (
        EventRecorder() as events,
        pool_of(case.member("a", backend.url), max_retries=0) as pool,
    ):
        asked = ask(pool, "hello")
        with contextlib.suppress(Exception):
            asked.get(timeout=WAIT_S)
        failed = [each.kind for each in events.all if isinstance(each, AttemptFailed)]
    assert failed == [KINDS[status]]


@pytest.mark.parametrize("name", ["a2a", "mcp"])
def test_a_task_or_a_tool_that_says_it_has_failed_is_a_failure(
    name: str, provider: Provider
) -> None:
    """Nothing was raised: the state of A2A's task says so, or `is_error` of a tool's result."""
    case = case_of(name)
    with (
        pool_of(case.member("a", provider.backend("503").url), max_retries=0) as pool,
        pytest.raises(AllPoolMembersFailedError) as caught,
    ):
        ask(pool, "hello").get(timeout=WAIT_S)
    assert isinstance(caught.value.errors[0].error, UnsuccessfulResultError)


@pytest.mark.parametrize("name", NO_ANSWER)
def test_an_empty_answer_is_a_failure_where_that_is_asked_for(
    name: str, provider: Provider
) -> None:
    """The next member answers."""
    case = case_of(name)
    empty = provider.backend(script=lambda _: {"content": ""})
    good = provider.backend(script=case.script)
    first = case.member("a", empty.url)
    second = replace(case.member("b", good.url), priority=1)
    with pool_of(first, second, is_failure=NO_ANSWER[name]) as pool:
        reply = ask(pool, "hello").get(timeout=WAIT_S)
    assert (reply.member, case.said(reply.value)) == ("b", ANSWER)


@pytest.mark.parametrize("name", NAMES)
def test_no_caller_finds_another_in_its_conversation(name: str, provider: Provider) -> None:
    """Not by the recipe. By the framework's own object, where it keeps what was said."""
    case = case_of(name)
    assert "I am Ann." not in str(_second_of_two(case, case.member, provider))
    if name in STATEFUL:
        own = case.unswitched or case.plain
        assert "I am Ann." in str(_second_of_two(case, own, provider))


def _second_of_two(case: Case, make: Make, provider: Provider) -> object:
    """What the model is told of the second of two callers of one member."""
    backend = provider.backend(script=case.script)
    with pool_of(make("a", backend.url)) as pool:
        for said in ("I am Ann.", "I am Bob."):
            ask(pool, said).get(timeout=WAIT_S)
    assert "I am Bob." in str(backend.asked[-1])
    return backend.asked[-1]


@pytest.mark.parametrize("name", [each for each in NAMES if each not in GO_ON])
def test_nothing_goes_on_when_the_pool_has_ended(name: str, provider: Provider) -> None:
    """No task of the framework's or of its client's is left on the app's loop."""
    case = case_of(name)
    backend = provider.backend("answer", case.script)

    async def main(member: Member) -> set[asyncio.Task[object]]:
        async with AgentPool.start([member], config=PoolConfig()) as pool:
            reply = await pool.aask(Request("hello"), timeout=WAIT_S)
            assert case.said(reply.value)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # what closes what was let go of ends by itself
            await asyncio.wait(left, timeout=WAIT_S)
        return {each for each in left if not each.done()}

    assert not asyncio.run(main(case.member("a", backend.url)))
