"""Local commands as agents: each gets the prompt on its stdin and answers on its stdout.

    python examples/command_agents.py

A command that fails or hangs is replaced by the next one; what is cancelled is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

from greenroom import AgentPool, Member, PoolConfig, Request


def command(*argv: str, limit_s: float = 25.0) -> Callable[[str], Awaitable[str]]:
    """An agent that runs a command for each call, for so long at most.

    Its exit code says how it went: `subprocess.CalledProcessError` is read like any client's error.
    """

    async def run(prompt: str) -> str:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate(prompt.encode())
        finally:
            if process.returncode is None:  # its limit, the pool's, a cancellation, the end
                process.kill()
                await process.wait()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv[0], stderr=err)
        return out.decode().strip()

    return run


def python(code: str, limit_s: float = 25.0) -> Callable[[str], Awaitable[str]]:
    """Stands for a command of yours: `command("ollama", "run", "llama3")`."""
    return command(sys.executable, "-I", "-S", "-c", code, limit_s=limit_s)


MEMBERS = [
    Member("broken", python("raise SystemExit(3)"), max_concurrency=2),
    Member("hanging", python("import time; time.sleep(3600)", limit_s=0.2), max_concurrency=2),
    Member("working", python("print(input()[::-1])"), max_concurrency=2),
]


def main() -> None:
    config = PoolConfig(request_timeout_s=30)  # a little more than the limit of a command
    with AgentPool.start(MEMBERS, strategy="failover", config=config, name="commands") as pool:
        for prompt in ("desserts", "stressed"):
            reply = pool.ask(Request(prompt))
            print(f"{prompt} -> {reply.value} by {reply.member}")
            for error in reply.errors:
                print(f"  {error.member}: {error.kind}")


if __name__ == "__main__":
    main()
