"""One agent of a member: how it is called, and whether it is gone for good."""

from __future__ import annotations

from typing import Any

from greenroom.actors.member import agent_methods
from greenroom.messages.agent_shape import Method


class HostedAgent:
    """An agent, from its making to its close. A call belongs to the one that it was given to.

    Args:
        agent: the agent itself.
        method: which of its methods is called.
        of_loop: whether it is the one of a caller's event loop.

    Attributes:
        runner, streamer: the ways to run it; None where there is none.
        is_client: whether it is an async client that has none.
        lost: whether it is gone for good.
        disconnected: the class of its last failure that counts, if nobody had answered in that; an
            empty string otherwise. Set wherever a call ends.
    """

    __slots__ = (
        "_once", "agent", "disconnected", "is_client", "lost", "of_loop", "runner", "streamer",
    )  # fmt: skip

    def __init__(self, agent: Any, method: Method = None, *, of_loop: bool = False) -> None:
        self.agent = agent
        self.of_loop = of_loop
        self.runner = agent_methods.runner_of(agent, method)
        self.streamer = agent_methods.stream_runner_of(agent, method)
        self.is_client = agent_methods.is_async_client(agent, method)
        self.lost = False
        self.disconnected = ""
        self._once = [None]

    @property
    def is_async(self) -> bool:
        """Whether its calls run on the loop."""
        return self.is_client or (self.runner is not None and self.runner.is_async)

    def lose(self) -> bool:
        """It is gone. Whether this is the first to say so: several calls may, in many threads."""
        self.lost = True
        try:
            self._once.pop()  # a single operation: one of them has it
        except IndexError:
            return False
        return True


NOBODY = HostedAgent(None)
"""Whose call it is whose agent is still to be made."""
