"""Ready-made agents: `CommandAgent` runs a local command for each call, `OpenAIAgent` asks a model
of any OpenAI-compatible server.
"""

from greenroom.kinds.command_agent import CommandAgent
from greenroom.kinds.command_output import CommandFailedError
from greenroom.kinds.openai_agent import OpenAIAgent

__all__ = ["CommandAgent", "CommandFailedError", "OpenAIAgent"]
