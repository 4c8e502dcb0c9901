"""Ready-made agents: `CommandAgent` runs a local command for each call."""

from greenroom.kinds.command_agent import CommandAgent
from greenroom.kinds.command_output import CommandFailedError

__all__ = ["CommandAgent", "CommandFailedError"]
