"""Ready-made agents: `CommandAgent` runs a local command for each call, `OpenAIAgent` asks a model
of any OpenAI-compatible server; and pools in files, see `AgentPool.from_toml`. A `ChatPrompt` is a
payload that fits them all.
"""

from greenroom.kinds.chat_prompt import ChatPrompt
from greenroom.kinds.command_agent import CommandAgent
from greenroom.kinds.command_output import CommandFailedError
from greenroom.kinds.openai_agent import OpenAIAgent
from greenroom.kinds.pool_file import PoolFileError

__all__ = ["ChatPrompt", "CommandAgent", "CommandFailedError", "OpenAIAgent", "PoolFileError"]
