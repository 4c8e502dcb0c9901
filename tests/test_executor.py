"""A pool executor: one member at work until a run of it fails, its agents made on demand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenroom import (
    AgentCreator,
    AgentPool,
    AgentRequest,
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CallContext,
    DeadlineExceededError,
    FailureKind,
    Member,
    MemberConfig,
    MemberExistsError,
    PoolConfig,
    PoolError,
    PoolExecutor,
    PoolStoppedError,
    SkipReason,
)

PATIENCE_S = 10.0
"""No test waits this long unless something is broken."""

MEMBERS = [MemberConfig("primary"), MemberConfig("secondary"), MemberConfig("tertiary")]


class Agent:
    """An agent that answers with its name, or raises what its lab says."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.name = name
        self.lab = lab
        self.closed = threading.Event()

    def run(self, payload: Any) -> str:
        self.lab.runs.append(self.name)
        error = self.lab.failing_runs.get(self.name)
        if error is not None:
            raise error
        return f"{self.name}: {payload}"

    def close(self) -> None:
        self.closed.set()


class AsyncAgent:
    """The same, async."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.name = name
        self.lab = lab
        self.closed = threading.Event()

    async def arun(self, payload: Any) -> str:
        self.lab.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        self.lab.runs.append(self.name)
        error = self.lab.failing_runs.get(self.name)
        if error is not None:
            raise error
        return f"{self.name}: {payload}"

    async def aclose(self) -> None:
        self.lab.loops.add(asyncio.get_running_loop())
        self.closed.set()


class Lab:
    """A creator that writes down what it made and what was run, and fails where it is told to."""

    def __init__(self, kind: Callable[[str, Lab], Any] = Agent) -> None:
        self.kind = kind
        self.failing_creations: dict[str, BaseException] = {}
        self.failing_runs: dict[str, BaseException] = {}
        self.asked: list[str] = []
        self.made: list[Any] = []
        self.runs: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    def create_agent(self, name: str, request: AgentRequest) -> Any:
        self.asked.append(name)
        if name in self.failing_creations:
            raise self.failing_creations[name]
        self.made.append(self.kind(name, self))
        return self.made[-1]


class AsyncLab(Lab):
    """The same, as a coroutine on the pool's loop."""

    async def create_agent(self, name: str, request: AgentRequest) -> Any:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return super().create_agent(name, request)


LABS: list[Callable[[], Lab]] = [
    lambda: Lab(Agent),
    lambda: Lab(AsyncAgent),
    lambda: AsyncLab(Agent),
    lambda: AsyncLab(AsyncAgent),
]


@pytest.fixture(params=LABS, ids=["sync", "async agent", "async creator", "async"])
def lab(request: pytest.FixtureRequest) -> Lab:
    made: Lab = request.param()
    return made


@pytest.fixture
def executor(lab: Lab) -> Iterator[PoolExecutor]:
    with PoolExecutor("writers", MEMBERS, lab) as executor:
        yield executor


class Status(Exception):
    """An HTTP error, as clients raise it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


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


# -- agents come and go


def test_a_failed_agent_is_closed_and_made_anew_when_its_turn_comes(
    executor: PoolExecutor, lab: Lab
) -> None:
    """Each in its turn: primary, secondary, tertiary, and a new primary."""
    names = ["primary", "secondary", "tertiary"]
    executor.execute(0)
    for name in names:
        lab.failing_runs = {name: OSError(name)}
        executor.execute(1)
    assert lab.asked == [*names, "primary"]
    failed, current = lab.made[:3], lab.made[3]
    for agent in failed:
        assert agent.closed.wait(PATIENCE_S)
    assert not current.closed.is_set()
    assert executor.agent() is current


def test_close_closes_what_was_made_and_may_be_repeated(executor: PoolExecutor, lab: Lab) -> None:
    """Whether it failed before or not; afterwards nothing is taken in."""
    lab.failing_runs["primary"] = OSError()
    executor.execute(1)
    executor.close()
    executor.close()
    assert [agent.name for agent in lab.made] == ["primary", "secondary"]
    assert all(agent.closed.is_set() for agent in lab.made)
    for use in (executor.agent, lambda: executor.execute(1), lambda: executor.apply(str)):
        with pytest.raises(PoolStoppedError):
            use()
    assert len(lab.loops) <= 1, "all that is async happens on one loop"


def test_close_before_any_use_makes_nothing(lab: Lab) -> None:
    """Not even the pool."""
    with PoolExecutor("writers", MEMBERS, lab) as executor:
        pass
    assert lab.asked == []
    with pytest.raises(PoolStoppedError):
        executor.agent()


def test_a_close_hook_that_fails_or_is_missing_harms_nobody() -> None:
    """It is logged; the request goes on."""

    class Stubborn(Agent):
        def close(self) -> None:
            super().close()
            raise RuntimeError("will not go")

    class Plain:
        def __init__(self, name: str, lab: Lab) -> None:
            self.name = name

        def run(self, payload: Any) -> Any:
            raise OSError

    for kind in (Stubborn, Plain):
        lab = Lab(kind)
        lab.failing_runs["primary"] = OSError()
        executor = PoolExecutor("writers", MEMBERS[:2], lab)
        if kind is Stubborn:
            assert executor.execute(1) == "secondary: 1"
            executor.close()
            assert all(agent.closed.is_set() for agent in lab.made)
        else:
            with pytest.raises(AllPoolMembersFailedError):
                executor.execute(1)
            executor.close()


def test_an_agent_is_not_closed_while_another_run_uses_it() -> None:
    """Two runs share it, one fails: the other one finishes on it, then it is closed."""
    begun, opened = threading.Event(), threading.Event()
    closed_too_early: list[bool] = []

    class Shared(Agent):
        def run(self, payload: Any) -> str:
            if self.name == "primary" and payload == "slow":
                begun.set()
                assert opened.wait(PATIENCE_S)
                closed_too_early.append(self.closed.is_set())
                return "slow and fine"
            if self.name == "primary":
                raise OSError
            return super().run(payload)

    lab = Lab(Shared)
    answers: list[str] = []
    with PoolExecutor("writers", MEMBERS[:2], lab) as executor:
        caller = threading.Thread(target=lambda: answers.append(executor.execute("slow")))
        caller.start()
        assert begun.wait(PATIENCE_S)
        assert executor.execute("quick") == "secondary: quick"
        opened.set()
        caller.join(PATIENCE_S)
        assert answers == ["slow and fine"]
        assert closed_too_early == [False]
        assert lab.made[0].closed.wait(PATIENCE_S)
        assert not lab.made[1].closed.is_set()


def test_an_agent_is_not_closed_before_a_run_that_waited_for_its_creation() -> None:
    """Two runs wait for it, the first one fails at once: the second one finds it open."""
    opened = threading.Event()
    closed_too_early: list[bool] = []

    class FirstFails(AsyncAgent):
        async def arun(self, payload: Any) -> str:
            closed_too_early.append(self.closed.is_set())
            if len(closed_too_early) == 1:
                raise OSError
            await asyncio.sleep(0)
            closed_too_early.append(self.closed.is_set())
            return self.name

    lab = Lab(FirstFails)

    def create(name: str, request: AgentRequest) -> Any:
        assert opened.wait(PATIENCE_S)
        return lab.create_agent(name, request)

    with PoolExecutor("writers", MEMBERS[:1], create) as executor:

        def call() -> None:
            with contextlib.suppress(PoolError):
                executor.execute(1)

        callers = [threading.Thread(target=call) for _ in range(2)]
        for caller in callers:
            caller.start()
        while executor.pool.stats().in_flight < 2:
            assert all(caller.is_alive() for caller in callers)
        opened.set()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert lab.made[0].closed.wait(PATIENCE_S)
    assert closed_too_early == [False] * 3


def test_concurrent_callers_share_one_agent(lab: Lab) -> None:
    """Twenty first calls at once: one creation."""
    start = threading.Barrier(20)
    agents: list[Any] = []
    executor = PoolExecutor("writers", MEMBERS, lab)

    def call() -> None:
        start.wait(PATIENCE_S)
        executor.execute("x")
        agents.append(executor.agent())

    with executor:
        callers = [threading.Thread(target=call) for _ in range(20)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert lab.asked == ["primary"]
    assert agents == lab.made * 20


def test_callers_run_at_the_same_time() -> None:
    """Ten runs meet inside the one agent."""
    meeting = threading.Barrier(10)

    class Meeting(Agent):
        def run(self, payload: Any) -> str:
            meeting.wait(PATIENCE_S)
            return self.name

    answers: list[str] = []
    with PoolExecutor("writers", MEMBERS, Lab(Meeting)) as executor:
        callers = [
            threading.Thread(target=lambda: answers.append(executor.execute(1))) for _ in range(10)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert answers == ["primary"] * 10


def test_a_full_member_is_waited_for() -> None:
    """Nobody is created just because many come at once."""
    opened = threading.Event()

    class Slow(Agent):
        def run(self, payload: Any) -> str:
            assert opened.wait(PATIENCE_S)
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
            caller.join(PATIENCE_S)
    assert answers == ["primary"] * 5
    assert lab.asked == ["primary"]


# -- which failures count


def test_an_error_of_the_callers_own_is_raised_and_changes_nothing(
    executor: PoolExecutor, lab: Lab
) -> None:
    """HTTP 400: one run, the agent stays, and so does the member, a hundred times over."""
    error = Status(400)
    for number in range(100):
        lab.failing_runs["primary"] = error
        with pytest.raises(Status) as caught:
            executor.execute("bad")
        assert caught.value is error
        lab.failing_runs.clear()
        assert executor.execute(number) == f"primary: {number}"
    assert lab.asked == ["primary"]
    assert not lab.made[0].closed.is_set()


def test_a_request_too_large_for_the_member_goes_on_alone(executor: PoolExecutor, lab: Lab) -> None:
    """HTTP 413: the next member gets this request, the next request finds the first in charge."""
    lab.failing_runs["primary"] = Status(413)
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
        assert lab.made[0].closed.wait(PATIENCE_S)


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
                released.wait(PATIENCE_S)
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
            assert lab.made[0].closed.wait(PATIENCE_S)
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
        assert name == "secondary" or opened.wait(PATIENCE_S)
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
        released.wait(PATIENCE_S)

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
    assert lab.made[0].closed.wait(PATIENCE_S)


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
            assert await asyncio.to_thread(begun.wait, PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(cancelled.wait, PATIENCE_S)
            assert await executor.aexecute("x") == "primary: x"

    asyncio.run(main())
    assert lab.asked == ["primary"]


def test_a_caller_that_gives_up_does_not_stop_a_creation() -> None:
    """The agent is there for the next one, and made once."""
    begun, opened = threading.Event(), threading.Event()
    lab = Lab()

    def create(name: str, request: AgentRequest) -> Any:
        begun.set()
        assert opened.wait(PATIENCE_S)
        return lab.create_agent(name, request)

    async def main() -> str:
        async with PoolExecutor("writers", MEMBERS, create) as executor:
            task = asyncio.create_task(executor.aagent())
            assert await asyncio.to_thread(begun.wait, PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            opened.set()
            answer: str = await executor.aexecute("x")
            return answer

    assert asyncio.run(main()) == "primary: x"
    assert lab.asked == ["primary"]


def test_close_waits_for_a_creation_and_closes_its_agent() -> None:
    """What is being made when the end comes is not left behind."""
    begun, opened = threading.Event(), threading.Event()
    lab = Lab()

    def create(name: str, request: AgentRequest) -> Any:
        begun.set()
        assert opened.wait(PATIENCE_S)
        return lab.create_agent(name, request)

    errors: list[BaseException] = []
    executor = PoolExecutor("writers", MEMBERS, create)

    def call() -> None:
        try:
            executor.agent()
        except PoolStoppedError as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(PATIENCE_S)
    closer = threading.Thread(target=executor.close)
    closer.start()
    caller.join(PATIENCE_S)
    assert len(errors) == 1
    opened.set()
    closer.join(PATIENCE_S)
    assert lab.made[0].closed.is_set()


def test_request_options_and_the_context_reach_the_agent() -> None:
    """An agent that wants a CallContext is given one."""
    seen: list[tuple[str | None, str, int]] = []

    class Curious:
        def run(self, payload: str, context: CallContext) -> str:
            seen.append((context.key, context.member, context.priority))
            return payload

    with PoolExecutor("writers", MEMBERS, lambda name, request: Curious()) as executor:
        assert executor.execute("x", key="k", priority=7) == "x"
    assert seen == [("k", "primary", 7)]


def test_an_agent_without_a_run_method_can_be_had_and_applied_to() -> None:
    """Only a run of it fails, and says why."""
    with PoolExecutor("writers", MEMBERS[:1], lambda name, request: [name]) as executor:
        assert executor.agent() == ["primary"]
        assert executor.apply(len) == 1
        with pytest.raises(AllPoolMembersFailedError, match="agent must be callable or have"):
            executor.execute("x")


def test_an_executor_is_an_agent_itself(lab: Lab) -> None:
    """A member of a pool: failover inside, whatever strategy outside."""
    lab.failing_runs["primary"] = OSError()
    with (
        PoolExecutor("writers", MEMBERS, lab) as executor,
        AgentPool.start([Member("inner", executor)]) as pool,
    ):
        assert pool.execute("x") == "secondary: x"


# -- the creator


def test_the_creator_is_given_the_name_and_the_request(lab: Lab) -> None:
    """The very request of the executor, or an empty one."""
    given: list[tuple[str, AgentRequest]] = []

    def create(name: str, request: AgentRequest) -> Any:
        given.append((name, request))
        return lab.kind(name, lab)

    request = AgentRequest(
        name="scribe", description="d", system_instructions="s", working_directory="drafts"
    )
    for each in (request, None):
        with PoolExecutor("writers", MEMBERS, create, each) as executor:
            executor.agent()
    assert given == [("primary", request), ("primary", AgentRequest())]


def test_a_creator_with_a_parameter_cfg_is_given_the_members() -> None:
    """By its name, for objects and functions alike; nobody else is bothered with it."""

    class WithCfg:
        def create_agent(self, name: str, request: AgentRequest, cfg: Any) -> Any:
            return (name, cfg)

    def keyword(name: str, request: AgentRequest, *, cfg: Any = None) -> Any:
        return (name, cfg)

    async def awaited(name: str, request: AgentRequest, cfg: Any) -> Any:
        return (name, cfg)

    members = [MemberConfig("one", {"type": "openai"})]
    creators: list[Any] = [WithCfg(), keyword, awaited]
    for creator in creators:
        with PoolExecutor("writers", members, creator) as executor:
            assert executor.agent() == ("one", {"type": "openai"})
    with PoolExecutor("writers", members, lambda name, request: (name,)) as executor:
        assert executor.agent() == ("one",)


def test_a_creator_that_returns_none_has_failed() -> None:
    """It is told so, by name."""
    with PoolExecutor("writers", MEMBERS[:1], lambda name, request: None) as executor:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            executor.agent()
        assert caught.value.errors[0].kind is FailureKind.CREATE_FAILED
        assert "creator must return an agent for 'primary', got None" in str(caught.value)


def test_what_has_create_agent_is_an_agent_creator() -> None:
    """The protocol can be checked at run time, and statically."""
    creator: AgentCreator = Lab()
    assert isinstance(creator, AgentCreator)
    assert not isinstance(lambda: None, AgentCreator)


# -- its life


def test_an_executor_that_is_dropped_lets_its_pool_stop_and_closes_its_agent() -> None:
    """Nothing is left behind by a user who forgot to close it."""
    lab = Lab()
    executor = PoolExecutor("writers", MEMBERS, lab)
    executor.execute(1)
    pool, gone = executor.pool, weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert lab.made[0].closed.wait(PATIENCE_S)
    pool.join(PATIENCE_S)
    assert not pool.is_alive()


def test_its_repr_shows_the_order(executor: PoolExecutor) -> None:
    """And its pool is called by the executor's name, with the strategy failover."""
    assert repr(executor) == "<PoolExecutor writers: primary -> secondary -> tertiary>"
    stats = executor.pool.stats()
    assert (stats.name, stats.strategy) == (executor.pool_name, "failover")


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
        executor.execute("x", idempotent="no")
    assert lab.asked == []
