"""What the tests of the executor share: a creator that notes what it made, or fails when told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from greenroom import AgentRequest, MemberConfig

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
