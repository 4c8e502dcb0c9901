"""Protocols of agents: mcp over HTTP, A2A, and Claude's agent by way of a fake command line."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import a2a.client
import claude_agent_sdk
import httpx
from a2a import types as a2a_types
from mcp.client import Client

from real_clients.case import PROMPT, Adapter, Case
from real_clients.situations import SITUATIONS, Situation

_STATUSES = ("401", "403", "404", "429s", "500", "503s", "closed", "refused", "hang")
_LOST = ("401", "403", "404", "429s", "500", "503s", "closed", "hang")
_RPC = {
    -32602: ("caller",),
    -32601: ("caller", "not_found"),
    -32001: ("timeout",),
    -32000: ("unavailable",),
    -32603: ("unavailable",),
}
_MCP = {
    **{name: SITUATIONS[name] for name in _STATUSES},
    **{f"late_{name}": SITUATIONS[name] for name in _LOST},
    # To mcp a 404 is a session that has ended.
    **{name: Situation(("not_found", "unavailable")) for name in ("404", "late_404")},
    **{f"rpc{code}": Situation(right) for code, right in _RPC.items()},
    "toolerr": Situation(("unknown", "caller")),
}


async def _mcp(case: Case) -> object:
    async with Client(
        f"{case.url}/mcp", mode="legacy", read_timeout_seconds=case.timeout_s
    ) as client:
        return await client.call_tool("compute", {"x": 1})


_A2A_RPC = {
    -32602: ("caller",),
    -32601: ("caller", "not_found"),
    -32603: ("unavailable",),
    -32001: ("caller",),
    -32004: ("caller", "not_found"),
}
_A2A = {
    **{name: SITUATIONS[name] for name in (*_STATUSES, "400ctx", "reset", "429date")},
    **{f"rpc{code}": Situation(right) for code, right in _A2A_RPC.items()},
}


async def _a2a(case: Case) -> object:
    card = a2a_types.AgentCard(name="nobody", version="1")
    card.supported_interfaces.add(
        url=f"{case.url}/", protocol_binding="JSONRPC", protocol_version="1.0"
    )
    async with httpx.AsyncClient(timeout=case.timeout_s) as http:
        config = a2a.client.ClientConfig(httpx_client=http, streaming=False)
        client = await a2a.client.create_client(card, config)
        message = a2a_types.Message(message_id="1", role=a2a_types.Role.ROLE_USER)
        message.parts.add(text=PROMPT)
        request = a2a_types.SendMessageRequest(message=message)
        return [event async for event in client.send_message(request)]


_CLAUDE = {
    "api 400": Situation(("caller",), stream=True),
    "api 401": Situation(("auth",), stream=True),
    "api 402": Situation(("quota",), stream=True),
    "api 429": Situation(("rate_limited",), stream=True),
    "api 529": Situation(("unavailable",), stream=True),
    "api 429 exit 0": Situation(("rate_limited",), stream=True),
    "killed": Situation(("unavailable", "crashed"), stream=True),
    "noresult": Situation(("unknown", "unavailable"), stream=True),
}
_CLI = Path(__file__).with_name("claude_cli.py")


async def _claude(case: Case) -> object:
    with tempfile.TemporaryDirectory() as folder:
        cli = Path(folder) / "claude"
        cli.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{_CLI}" "$@"\n')
        cli.chmod(0o755)
        options: Any = claude_agent_sdk.ClaudeAgentOptions(
            cli_path=cli, env={"SITUATION": case.situation, "PATH": os.environ["PATH"]}, cwd=folder
        )
        return [m async for m in claude_agent_sdk.query(prompt=PROMPT, options=options)]


ADAPTERS = [
    Adapter("mcp", "mcp", "mcp", None, _mcp, own=_MCP),
    Adapter("a2a", "a2a-sdk", "a2a", None, _a2a, own=_A2A),
    Adapter("claude_agent_sdk", "claude-agent-sdk", "cli", None, _claude, own=_CLAUDE),
]
