"""`PoolAgent` as an object: its fields, its copies, and how long its pool lives."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from helpers_adk import Chat, Lab, pool_agent, texts
from helpers_attempts import run
from helpers_pools import WAIT_S
from helpers_processes import PROCESS_S
from pydantic import ValidationError

import greenroom.adk
from greenroom import (
    AgentRequest,
    MemberConfig,
    MemberExistsError,
    PoolConfig,
    PoolStoppedError,
)
from greenroom.adk import PoolAgent, new_pool_agent
from greenroom.testing import EventRecorder


def test_b220_nothing_is_started_before_the_first_run(log: EventRecorder) -> None:
    """Neither the pool nor a member; it may be made where no loop runs."""
    lab = Lab()
    with pool_agent(lab) as agent:
        assert "pool.started" not in log.names()
        assert texts(run(Chat(agent).say)) == ["a"]
        assert "pool.started" in log.names()
    assert lab.made == ["a"]


def test_b220_a_closed_one_does_not_run() -> None:
    """Nor does a second close do anything."""
    agent = pool_agent(Lab())
    agent.close()
    agent.close()
    with pytest.raises(PoolStoppedError, match="'writers'"):
        run(Chat(agent).say)


def test_b220_the_last_one_that_is_dropped_stops_the_pool() -> None:
    """A copy keeps it."""
    agent = pool_agent(Lab())
    pool = agent.pool
    kept = agent.clone()
    del agent
    gc.collect()
    assert pool.is_alive()
    del kept
    gc.collect()
    assert pool.stop(block=False).get(timeout=WAIT_S) in (True, False)
    assert not pool.is_alive()


def test_b220_copies_share_the_pool() -> None:
    """ADK copies an agent for each run of a workflow; whoever is in charge stays so."""

    class Locked(Lab):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()  # cannot be copied

    with pool_agent(Locked().create_agent) as agent:
        root = LlmAgent(name="root", model="none", sub_agents=[agent])
        copies = [
            agent.clone(),
            agent.clone(update={"name": "writers", "before_agent_callback": print}),
            agent.model_copy(),
            copy.copy(agent),
            copy.deepcopy(agent),
            agent.model_copy(deep=True),
            root.clone().sub_agents[0],
        ]
        for each in copies:
            assert isinstance(each, PoolAgent)
            assert each is not agent
            assert each.pool is agent.pool


@pytest.mark.parametrize(
    "update",
    [
        {"name": "readers"},
        {"description": "reads"},
        {"members": (MemberConfig("z"),)},
        {"config": PoolConfig()},
        {"max_concurrency": 1},
    ],
    ids=lambda update: next(iter(update)),
)
def test_b220_a_copy_of_other_fields_has_a_pool_of_its_own(update: dict[str, Any]) -> None:
    """Its members would have another name, or are others."""
    with pool_agent(Lab()) as agent, agent.clone(update=update) as other:
        assert other.pool is not agent.pool
        assert len(texts(run(Chat(other).say))) == 1


def test_b220_a_copy_is_checked_as_what_is_new() -> None:
    """ADK itself takes the changes of a copy as they come."""
    agent = pool_agent(Lab())
    with pytest.raises(TypeError, match="members must be an iterable of MemberConfig"):
        agent.clone(update={"members": "ab"})
    with pytest.raises(TypeError, match="config must be a PoolConfig"):
        agent.model_copy(update={"config": {}})


def test_b220_the_fields_of_the_pool_are_fixed() -> None:
    """They are those of a pool that may run already."""
    agent = pool_agent(Lab())
    for field in ("name", "members", "agent_creator", "config"):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(agent, field, "another")


def test_b220_no_configuration_of_a_member_is_shown() -> None:
    """It may have keys in it."""
    secret = "sk-proj-abcdef0123456789"
    members = [MemberConfig("a", {"key": secret})]
    agent = PoolAgent(name="writers", members=members, agent_creator=Lab())
    assert repr(agent) == str(agent) == "<PoolAgent writers: a>"
    assert secret not in str(agent.model_dump())
    with pytest.raises(ValidationError) as raised:
        PoolAgent(name="not a name", members=members, agent_creator=Lab())
    assert secret not in str(raised.value)


def test_b220_it_is_not_pickled() -> None:
    """Its pool lives in the process that started it."""
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(pool_agent(Lab()))


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"members": []}, ValueError, "members must hold at least one"),
        ({"members": "ab"}, TypeError, "members must be an iterable of MemberConfig"),
        ({"members": [MemberConfig("a")] * 2}, ValueError, "more than once"),
        ({"agent_creator": None}, TypeError, "agent_creator must have a method create_agent"),
        ({"request": "x"}, TypeError, "request must be an AgentRequest"),
        ({"config": 3}, TypeError, "config must be a PoolConfig"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1"),
        ({"pool_name": ""}, ValueError, "pool_name must"),
        ({"name": "user"}, ValueError, "name"),
        ({"sub_agents": [LlmAgent(name="x", model="none")]}, ValueError, "sub_agents must be"),
        ({"member": []}, ValueError, "member"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_b220_bad_values_are_refused(
    fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    """When it is made, with field and rule."""
    given: dict[str, Any] = {
        "name": "writers",
        "members": [MemberConfig("a")],
        "agent_creator": Lab(),
    }
    with pytest.raises(error, match=words):
        PoolAgent(**{**given, **fields})


def test_b220_the_request_may_name_the_agent() -> None:
    """Then the pool's name, which the log has, may be what ADK takes for none."""
    request = AgentRequest(name="writer", description="writes")
    agent = new_pool_agent("eu-writers", [MemberConfig("a")], request, Lab())
    assert (agent.name, agent.description, agent.pool_name) == ("writer", "writes", "eu-writers")
    with agent:
        assert agent.pool.name == "eu-writers"
    with pytest.raises(ValueError, match="pool_name must be a Python identifier"):
        new_pool_agent("eu-writers", [MemberConfig("a")], None, Lab())
    with pytest.raises(MemberExistsError):
        new_pool_agent("writers", [MemberConfig("a")] * 2, None, Lab())


def test_b220_adk_is_imported_by_those_who_use_it_alone() -> None:
    """It takes seconds."""
    code = "import sys, greenroom, greenroom.adk; assert 'google.adk' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PROCESS_S)


def test_b220_what_is_missing_is_told() -> None:
    """By the extra that brings it, where a name is first wanted."""
    code = """
import sys
sys.modules["google.adk"] = None
import greenroom.adk
for name in ("PoolAgent", "new_pool_agent"):
    try:
        getattr(greenroom.adk, name)
    except ModuleNotFoundError as error:
        print(error, error.name)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROCESS_S)
    told = "greenroom.adk needs google-adk: pip install 'greenroom[adk]' google.adk"
    assert done.stdout.splitlines() == [told, told]
    with pytest.raises(AttributeError, match="Nothing"):
        _ = greenroom.adk.Nothing


def test_b220_the_names_are_listed() -> None:
    """Before any of them has been imported, too."""
    assert set(greenroom.adk.__all__) <= set(dir(greenroom.adk))
    assert asyncio.iscoroutinefunction(PoolAgent.aclose)
