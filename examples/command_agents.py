"""Local commands as agents: each gets the prompt on its stdin and answers on its stdout.

    python examples/command_agents.py

A command that fails or hangs is replaced by the next one; what is cancelled is ended with all that
it has started.
"""

from __future__ import annotations

import sys

from greenroom import AgentPool, Member, PoolConfig, Request
from greenroom.kinds import CommandAgent


def python(code: str) -> CommandAgent:
    """Stands for a command of yours: `CommandAgent(["ollama", "run", "llama3"])`."""
    return CommandAgent([sys.executable, "-I", "-S", "-c", code])


MEMBERS = [
    Member("broken", python("raise SystemExit(3)"), max_concurrency=2),
    Member("hanging", python("import time; time.sleep(3600)"), max_concurrency=2),
    Member("working", python("print(input()[::-1])"), max_concurrency=2),
]


def main() -> None:
    config = PoolConfig(request_timeout_s=1)  # more for an agent that thinks
    with AgentPool.start(MEMBERS, strategy="failover", config=config, name="commands") as pool:
        for prompt in ("desserts", "stressed"):
            reply = pool.ask(Request(prompt))
            print(f"{prompt} -> {reply.value} by {reply.member}")
            for error in reply.errors:
                print(f"  {error.member}: {error.kind}")


if __name__ == "__main__":
    main()
