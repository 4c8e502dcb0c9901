"""A pool executor: one member at work until a run of it fails, its agents made on demand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_executor import MEMBERS, Agent, AsyncAgent, Lab
from helpers_pools import WAIT_S

from greenroom import (
    AgentRequest,
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    DeadlineExceededError,
    FailureKind,
    MemberConfig,
    MemberExistsError,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    SkipReason,
)
from greenroom.fallback import pool_executor
from greenroom.testing import FakeClock, ScriptedHTTPError, http_error

# -- behaviour 18


def test_b18_the_example_of_the_seed(lab: Lab) -> None:
    """The primary cannot be created, the secondary can: its agent is selected."""
    lab.failing_creations["primary"] = RuntimeError("backend unavailable")
    with PoolExecutor("writers", MEMBERS[:2], lab, AgentRequest()) as executor:
        assert executor.agent().name == "secondary"


def test_b18_sticks_to_the_first_that_works(executor: PoolExecutor, lab: Lab) -> None:
    """One agent for all runs, the same object as `agent` gives."""
    lab.failing_creations["primary"] = OSError("down")
    agent = executor.agent()
    for number in range(20):
        assert executor.execute(number) == f"secondary: {number}"
    assert executor.agent() is agent
    assert lab.asked == ["primary", "secondary"]


def test_b18_creates_nothing_it_does_not_need(executor: PoolExecutor, lab: Lab) -> None:
    """Nothing before the first use; then one agent, though three are configured."""
    assert lab.asked == []
    for number in range(20):
        executor.execute(number)
    assert lab.asked == ["primary"]


def test_b18_after_a_failed_run_it_moves_on_and_sticks_there(
    executor: PoolExecutor, lab: Lab
) -> None:
    """The same request goes to the next member, which stays in charge when the first recovers."""
    assert executor.execute(1) == "primary: 1"
    lab.failing_runs["primary"] = RuntimeError("broken")
    assert executor.execute(2) == "secondary: 2"
    lab.failing_runs.clear()
    assert executor.execute(3) == "secondary: 3"
    assert lab.asked == ["primary", "secondary"]
    assert lab.runs == ["primary", "primary", "secondary", "secondary"]


def test_b18_a_member_that_fails_every_run_ends_in_an_error_and_not_in_a_loop(
    lab: Lab,
) -> None:
    """Created fine, fails every run: one creation and one run a member and request."""
    errors = {name: RuntimeError(name) for name in ("primary", "secondary")}
    lab.failing_runs.update(errors)
    with PoolExecutor("writers", MEMBERS[:2], lab) as executor:
        for number in range(1, 4):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                executor.execute("x")
            assert lab.asked == ["primary", "secondary"] * number
            assert lab.runs == ["primary", "secondary"] * number
    error = caught.value
    assert error.pool_name == "writers"
    assert error.member_names == ("primary", "secondary")
    assert [(each.member, each.index, each.kind, each.error) for each in error.errors] == [
        ("primary", 0, FailureKind.UNKNOWN, errors["primary"]),
        ("secondary", 1, FailureKind.UNKNOWN, errors["secondary"]),
    ]
    assert error.__cause__ is errors["primary"]


def test_b18_when_nobody_can_be_created_the_error_says_why(
    executor: PoolExecutor, lab: Lab
) -> None:
    """The creator's own errors, by place; the next call tries again at once."""
    errors = {each.name: RuntimeError(f"no {each.name}") for each in MEMBERS}
    lab.failing_creations.update(errors)
    for number in range(1, 4):
        with pytest.raises(AllPoolMembersFailedError) as caught:
            executor.agent()
        assert lab.asked == ["primary", "secondary", "tertiary"] * number
    assert [(each.member, each.index, each.kind, each.error) for each in caught.value.errors] == [
        (member.name, place, FailureKind.CREATE_FAILED, errors[member.name])
        for place, member in enumerate(MEMBERS)
    ]
    assert "no secondary" in str(caught.value)
    lab.failing_creations.clear()
    assert executor.execute(1) == "primary: 1"


def test_b18_evaluation_goes_round_from_the_member_in_charge(
    executor: PoolExecutor, lab: Lab
) -> None:
    """Evaluation order is not the configured one then; the index is the configured place."""
    lab.failing_creations["primary"] = OSError("p")
    assert executor.execute(1) == "secondary: 1"
    lab.failing_runs["secondary"] = OSError("s")
    lab.failing_creations["tertiary"] = OSError("t")
    with pytest.raises(AllPoolMembersFailedError) as caught:
        executor.execute(2)
    assert [(each.member, each.index, each.kind) for each in caught.value.errors] == [
        ("secondary", 1, FailureKind.UNKNOWN),
        ("tertiary", 2, FailureKind.CREATE_FAILED),
        ("primary", 0, FailureKind.CREATE_FAILED),
    ]


def test_callers_run_at_the_same_time() -> None:
    """Ten runs meet inside the one agent."""
    meeting = threading.Barrier(10)

    class Meeting(Agent):
        def run(self, payload: Any) -> str:
            meeting.wait(WAIT_S)
            return self.name

    answers: list[str] = []
    with PoolExecutor("writers", MEMBERS, Lab(Meeting)) as executor:
        callers = [
            threading.Thread(target=lambda: answers.append(executor.execute(1))) for _ in range(10)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(WAIT_S)
    assert answers == ["primary"] * 10


def test_a_full_member_is_waited_for() -> None:
    """Nobody is created just because many come at once."""
    opened = threading.Event()

    class Slow(Agent):
        def run(self, payload: Any) -> str:
            assert opened.wait(WAIT_S)
            return self.name

    lab = Lab(Slow)
    answers: list[str] = []
    with PoolExecutor("writers", MEMBERS, lab, max_concurrency=1) as executor:
        callers = [
            threading.Thread(target=lambda: answers.append(executor.execute(1))) for _ in range(5)
        ]
        for caller in callers:
            caller.start()
        while executor.pool.stats().pending < 4:
            assert all(caller.is_alive() for caller in callers)
        opened.set()
        for caller in callers:
            caller.join(WAIT_S)
    assert answers == ["primary"] * 5
    assert lab.asked == ["primary"]


# -- which failures count


def test_an_error_of_the_callers_own_is_raised_and_changes_nothing(
    executor: PoolExecutor, lab: Lab
) -> None:
    """HTTP 400: one run, the agent stays, and so does the member, a hundred times over."""
    error = http_error(400)
    for number in range(100):
        lab.failing_runs["primary"] = error
        with pytest.raises(ScriptedHTTPError) as caught:
            executor.execute("bad")
        assert caught.value is error
        lab.failing_runs.clear()
        assert executor.execute(number) == f"primary: {number}"
    assert lab.asked == ["primary"]
    assert not lab.made[0].closed.is_set()


def test_a_request_too_large_for_the_member_goes_on_alone(executor: PoolExecutor, lab: Lab) -> None:
    """HTTP 413: the next member gets this request, the next request finds the first in charge."""
    lab.failing_runs["primary"] = http_error(413)
    assert executor.execute("long") == "secondary: long"
    lab.failing_runs.clear()
    assert executor.execute("short") == "primary: short"
    assert lab.asked == ["primary", "secondary"]


def test_a_value_that_is_failure_refuses_is_a_failed_run(lab: Lab) -> None:
    """The agent is closed and the next one asked; the agent itself is never judged."""
    config = PoolConfig(is_failure=lambda value: not isinstance(value, str) or "primary" in value)
    with PoolExecutor("writers", MEMBERS, lab, config=config) as executor:
        assert executor.agent().name == "primary"
        assert executor.execute(1) == "secondary: 1"
        assert lab.made[0].closed.wait(WAIT_S)


@pytest.mark.parametrize(
    "failure", [{"error": {"message": "m", "type": "server_error"}}, (chunk for chunk in [""])]
)
def test_what_is_plainly_a_failure_is_a_failed_run(lab: Lab, failure: Any) -> None:
    """An error in the place of an answer, and a stream without content."""
    with PoolExecutor("writers", MEMBERS, lab) as executor:
        answered = executor.apply(lambda agent: failure if agent.name == "primary" else agent.name)
        assert answered == "secondary"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_is_raised_only_that_run_fails(lab: Lab, error: BaseException) -> None:
    """By a creator or by an agent: the next member takes over, and the pool lives."""
    with PoolExecutor("writers", MEMBERS, lab) as executor:
        lab.failing_creations["primary"] = error
        assert executor.execute(1) == "secondary: 1"
        lab.failing_runs["secondary"] = error
        assert executor.execute(2) == "tertiary: 2"
        assert executor.execute(3) == "tertiary: 3"


def test_with_a_config_the_breakers_are_on(lab: Lab) -> None:
    """A member whose breaker is open is passed over, and the error says so."""
    config = PoolConfig(circuit_failure_threshold=1)
    lab.failing_runs["primary"] = OSError()
    with PoolExecutor("writers", MEMBERS[:2], lab, config=config) as executor:
        assert executor.execute(1) == "secondary: 1"
        lab.failing_runs["secondary"] = OSError()
        with pytest.raises(AllPoolMembersFailedError) as caught:
            executor.execute(2)
        kinds = {each.member: each.kind for each in caught.value.errors}
        assert kinds == {
            "primary": SkipReason.CIRCUIT_OPEN,
            "secondary": FailureKind.UNKNOWN,
        }


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_that_takes_too_long_has_failed(kind: str) -> None:
    """It is cut off, its agent is closed, and the next member answers."""
    released = threading.Event()

    class Stuck(Agent):
        def run(self, payload: Any) -> str:
            if self.name == "primary":
                released.wait(WAIT_S)
            return super().run(payload)

    class AsyncStuck(AsyncAgent):
        async def arun(self, payload: Any) -> str:
            if self.name == "primary":
                await asyncio.Event().wait()
            return await super().arun(payload)

    lab = Lab(Stuck if kind == "sync" else AsyncStuck)
    config = PoolConfig(request_timeout_s=0.3)
    try:
        with PoolExecutor("writers", MEMBERS[:2], lab, config=config) as executor:
            assert executor.execute(1) == "secondary: 1"
            assert lab.made[0].closed.wait(WAIT_S)
            lab.failing_runs["secondary"] = OSError()
            with pytest.raises(AllPoolMembersFailedError) as caught:
                executor.execute(2)
            errors = {each.member: each.error for each in caught.value.errors}
            assert isinstance(errors["primary"], AttemptTimeoutError)
    finally:
        released.set()


def test_an_agent_that_was_made_too_late_is_there_when_its_turn_comes() -> None:
    """The request went on to the next member meanwhile; the creation was not for nothing."""
    opened = threading.Event()
    lab = Lab()

    def create(name: str, request: AgentRequest) -> Any:
        assert name == "secondary" or opened.wait(WAIT_S)
        return lab.create_agent(name, request)

    config = PoolConfig(request_timeout_s=0.3)
    with PoolExecutor("writers", MEMBERS[:2], create, config=config) as executor:
        assert executor.execute(1) == "secondary: 1"
        opened.set()
        lab.failing_runs["secondary"] = OSError()
        assert executor.execute(2) == "primary: 2"
        assert sorted(lab.asked) == ["primary", "secondary"]


def test_a_callers_own_timeout_does_not_cost_the_agent(lab: Lab) -> None:
    """It ends the run, but the agent has not had the time that the executor allows: it stays."""
    released = threading.Event()

    async def hang(agent: Any) -> None:
        await asyncio.Event().wait()

    def block(agent: Any) -> None:
        released.wait(WAIT_S)

    config = PoolConfig(request_timeout_s=60.0)
    functions: list[Callable[[Any], Any]] = [hang] if lab.kind is AsyncAgent else [hang, block]
    try:
        with PoolExecutor("writers", MEMBERS[:1], lab, config=config) as executor:
            agent = executor.agent()
            for function in functions:
                with pytest.raises(DeadlineExceededError):
                    executor.apply(function, timeout=0.05)
                assert executor.agent() is agent
            assert not agent.closed.is_set()
    finally:
        released.set()


def test_not_idempotent_a_run_is_not_repeated_but_a_creation_is(
    executor: PoolExecutor, lab: Lab
) -> None:
    """Nothing has happened yet when an agent cannot be created."""
    lab.failing_creations["primary"] = OSError()
    lab.failing_runs["secondary"] = OSError()
    with pytest.raises(AllPoolMembersFailedError, match="not idempotent"):
        executor.execute(1, idempotent=False)
    assert lab.runs == ["secondary"]


# -- ways to call it


def test_apply_runs_a_function_of_the_agent(executor: PoolExecutor, lab: Lab) -> None:
    """Sync, async, or sync with an awaitable for an answer; a failure moves on like a run."""

    async def name_of(agent: Any) -> str:
        await asyncio.sleep(0)
        return str(agent.name)

    def fail_on_primary(agent: Any) -> str:
        if agent.name == "primary":
            raise OSError
        return str(agent.name)

    assert executor.apply(lambda agent: agent.name) == "primary"
    assert executor.apply(name_of) == "primary"
    assert executor.apply(lambda agent: name_of(agent)) == "primary"
    assert executor.apply(fail_on_primary) == "secondary"
    assert executor.agent().name == "secondary"
    assert lab.made[0].closed.wait(WAIT_S)


def test_run_is_execute(executor: PoolExecutor) -> None:
    """Two names of the same."""
    assert executor.run("x") == executor.execute("x") == "primary: x"


def test_the_async_ways_leave_the_callers_loop_free(lab: Lab) -> None:
    """aagent, aexecute, arun, aapply, and leaving the async context closes the agent."""

    async def main() -> list[Any]:
        async with PoolExecutor("writers", MEMBERS, lab) as executor:
            lab.failing_creations["primary"] = OSError()
            return [
                (await executor.aagent()).name,
                await executor.aexecute(1),
                await executor.aexecute(2, idempotent=False),
                await executor.arun(3),
                await executor.aapply(lambda agent: agent.name),
            ]

    assert asyncio.run(main()) == [
        "secondary",
        "secondary: 1",
        "secondary: 2",
        "secondary: 3",
        "secondary",
    ]
    assert lab.made[0].closed.is_set()


def test_a_cancelled_await_cancels_the_run_and_keeps_the_agent() -> None:
    """The caller has gone; the agent has done nothing wrong."""
    cancelled = threading.Event()

    class Waiting(AsyncAgent):
        async def arun(self, payload: Any) -> str:
            if payload != "wait":
                return await super().arun(payload)
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return ""

    begun = threading.Event()
    lab = Lab(Waiting)

    async def main() -> None:
        async with PoolExecutor(
            "writers", MEMBERS, lab, config=PoolConfig(request_timeout_s=60.0)
        ) as executor:
            task = asyncio.create_task(executor.aexecute("wait"))
            assert await asyncio.to_thread(begun.wait, WAIT_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, WAIT_S)
            assert await executor.aexecute("x") == "primary: x"

    asyncio.run(main())
    assert lab.asked == ["primary"]


# -- what it refuses


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"pool_name": ""}, ValueError, "pool_name must not be empty, got ''"),
        ({"members": []}, ValueError, "members must hold at least one MemberConfig, got []"),
        ({"members": ["a"]}, TypeError, "members must hold MemberConfig, got 'a'"),
        ({"members": "a"}, TypeError, "members must be an iterable of MemberConfig, got 'a'"),
        ({"members": 3}, TypeError, "members must be an iterable of MemberConfig, got 3"),
        (
            {"members": [MemberConfig("a"), MemberConfig("a")]},
            MemberExistsError,
            "members must have different names, got 'a' more than once",
        ),
        ({"creator": 3}, TypeError, "creator must have a method create_agent or be callable"),
        ({"request": "hello"}, TypeError, "request must be an AgentRequest, got a str"),
        ({"config": 3}, TypeError, "config must be a PoolConfig, got 3"),
        ({"max_concurrency": 1.5}, TypeError, "max_concurrency must be a whole number"),
    ],
)
def test_a_wrong_setting_is_refused(
    wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    """With its name, its value and the rule."""
    right: dict[str, Any] = {"pool_name": "writers", "members": MEMBERS, "creator": Lab()}
    with pytest.raises(error) as caught:
        PoolExecutor(**{**right, **wrong})
    assert message in str(caught.value)


def test_names_and_requests_are_checked() -> None:
    """Where they are made."""
    with pytest.raises(ValueError, match="name must not be empty"):
        MemberConfig(" ")
    with pytest.raises(TypeError, match="system_instructions must be a string, got None"):
        AgentRequest(system_instructions=None)  # type: ignore[arg-type]


def test_a_wrong_call_is_refused(executor: PoolExecutor, lab: Lab) -> None:
    """Before anything is created."""
    with pytest.raises(TypeError, match="function must be callable, got a str"):
        executor.apply("hello")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="idempotent must be True or False"):
        executor.execute("x", idempotent="no")  # type: ignore[arg-type]
    assert lab.asked == []


# -- one limit for both steps of a request that must not be repeated


@pytest.mark.parametrize("timeout", ["20", -1.0, float("nan"), True])
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_bad_timeout_is_named(executor: PoolExecutor, timeout: Any, idempotent: bool) -> None:
    """Whatever the request is: before anything is made or run."""
    with pytest.raises((TypeError, ValueError), match="timeout"):
        executor.execute(1, timeout=timeout, idempotent=idempotent)
    with pytest.raises((TypeError, ValueError), match="timeout"):
        asyncio.run(executor.aexecute(1, timeout=timeout, idempotent=idempotent))


@pytest.mark.parametrize("how", ["execute", "aexecute"])
def test_the_making_of_an_agent_is_taken_off_the_time_of_its_run(
    executor: PoolExecutor, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """`timeout` is for the whole of it, not for each of the two steps."""
    clock = FakeClock()
    given: list[float] = []
    original = PoolRef.ask

    def ask(pool: PoolRef, message: Any, **options: Any) -> Any:
        given.append(options["timeout"])
        clock.advance(8.0)
        return original(pool, message, **{**options, "timeout": WAIT_S})

    monkeypatch.setattr(pool_executor, "SYSTEM_CLOCK", clock)
    monkeypatch.setattr(PoolRef, "ask", ask)
    if how == "execute":
        executor.execute(1, timeout=10.0, idempotent=False)
    else:
        asyncio.run(executor.aexecute(1, timeout=10.0, idempotent=False))
    assert given == [10.0, 2.0]
