"""The agents of a pool executor: made on demand, shared, and closed when nobody uses them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_executor import MEMBERS, Agent, AsyncAgent, Lab
from helpers_pools import WAIT_S

from greenroom import (
    AgentCreator,
    AgentPool,
    AgentRequest,
    AllPoolMembersFailedError,
    CallContext,
    FailureKind,
    Member,
    MemberConfig,
    PoolError,
    PoolExecutor,
    PoolStoppedError,
)

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
        assert agent.closed.wait(WAIT_S)
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
                assert opened.wait(WAIT_S)
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
        assert begun.wait(WAIT_S)
        assert executor.execute("quick") == "secondary: quick"
        opened.set()
        caller.join(WAIT_S)
        assert answers == ["slow and fine"]
        assert closed_too_early == [False]
        assert lab.made[0].closed.wait(WAIT_S)
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
        assert opened.wait(WAIT_S)
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
            caller.join(WAIT_S)
        assert lab.made[0].closed.wait(WAIT_S)
    assert closed_too_early == [False] * 3


def test_concurrent_callers_share_one_agent(lab: Lab) -> None:
    """Twenty first calls at once: one creation."""
    start = threading.Barrier(20)
    agents: list[Any] = []
    executor = PoolExecutor("writers", MEMBERS, lab)

    def call() -> None:
        start.wait(WAIT_S)
        executor.execute("x")
        agents.append(executor.agent())

    with executor:
        callers = [threading.Thread(target=call) for _ in range(20)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(WAIT_S)
    assert lab.asked == ["primary"]
    assert agents == lab.made * 20


def test_a_caller_that_gives_up_does_not_stop_a_creation() -> None:
    """The agent is there for the next one, and made once."""
    begun, opened = threading.Event(), threading.Event()
    lab = Lab()

    def create(name: str, request: AgentRequest) -> Any:
        begun.set()
        assert opened.wait(WAIT_S)
        return lab.create_agent(name, request)

    async def main() -> str:
        async with PoolExecutor("writers", MEMBERS, create) as executor:
            task = asyncio.create_task(executor.aagent())
            assert await asyncio.to_thread(begun.wait, WAIT_S)
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
        assert opened.wait(WAIT_S)
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
    assert begun.wait(WAIT_S)
    closer = threading.Thread(target=executor.close)
    closer.start()
    caller.join(WAIT_S)
    assert len(errors) == 1
    opened.set()
    closer.join(WAIT_S)
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
    assert lab.made[0].closed.wait(WAIT_S)
    pool.join(WAIT_S)
    assert not pool.is_alive()


def test_its_repr_shows_the_order(executor: PoolExecutor) -> None:
    """And its pool is called by the executor's name, with the strategy failover."""
    assert repr(executor) == "<PoolExecutor writers: primary -> secondary -> tertiary>"
    stats = executor.pool.stats()
    assert (stats.name, stats.strategy) == (executor.pool_name, "failover")


# -- agents that are entered


def _generated(log: list[tuple[str, str, object]], kind: str) -> Any:
    """A creator by contextlib, whose agents fail when they are told to."""

    def note(what: str, name: str) -> None:
        log.append(
            (what, name, asyncio.current_task() if kind == "async" else threading.get_ident())
        )

    def agent(payload: Any) -> Any:
        if payload == "fail":
            raise ConnectionError(payload)
        return payload

    @contextlib.contextmanager
    def create(name: str, request: AgentRequest) -> Iterator[Any]:
        note("enter", name)
        yield agent
        note("leave", name)

    @contextlib.asynccontextmanager
    async def create_async(name: str, request: AgentRequest) -> AsyncIterator[Any]:
        note("enter", name)
        yield agent
        note("leave", name)

    return create_async if kind == "async" else create


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b158_what_a_creator_makes_is_entered_and_left_in_one_place(kind: str) -> None:
    """Left when its run has failed and nobody uses it any more, or at the executor's end."""
    log: list[tuple[str, str, object]] = []
    with PoolExecutor("writers", MEMBERS[:2], _generated(log, kind)) as executor:
        assert [executor.execute(i) for i in range(3)] == [0, 1, 2]
        with pytest.raises(AllPoolMembersFailedError):
            executor.execute("fail")
        assert executor.execute("again") == "again"
    visits: dict[str, list[str]] = {}
    for what, name, _ in log:
        visits.setdefault(name, []).append(what)
    assert visits == {"primary": ["enter", "leave"] * 2, "secondary": ["enter", "leave"]}
    places = [place for _, name, place in log if name == "secondary"]
    assert places[0] == places[1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b159_a_creator_whose_entering_raises_has_failed(kind: str) -> None:
    """The next member is asked."""
    log: list[tuple[str, str, object]] = []
    create = _generated(log, kind)

    def first_fails(name: str, request: AgentRequest) -> Any:
        if name != "primary":
            return create(name, request)
        return _Failing() if kind == "async" else _SyncFailing()

    with PoolExecutor("writers", MEMBERS[:2], first_fails) as executor:
        assert executor.execute("x") == "x"
    assert [what for what, name, _ in log if name == "secondary"] == ["enter", "leave"]


class _SyncFailing:
    def __enter__(self) -> None:
        raise ConnectionError

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it was never entered")


class _Failing:
    async def __aenter__(self) -> None:
        raise ConnectionError

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("it was never entered")
