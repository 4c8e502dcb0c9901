"""A stand-in for the command line that claude-agent-sdk starts; SITUATION says what it does."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def say(message: dict[str, Any]) -> None:
    """One line to the library."""
    print(json.dumps(message), flush=True)


def main() -> None:
    """Answer the handshake, then fail as told."""
    situation = os.environ["SITUATION"]
    if "-v" in sys.argv or "--version" in sys.argv:
        print("9.9.9 (Claude Code)")
        return
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "control_request":
            answer = {"subtype": "success", "request_id": message["request_id"], "response": {}}
            say({"type": "control_response", "response": answer})
        elif message["type"] == "user":
            end(situation)


def end(situation: str) -> None:
    """The answer to the prompt, and the end of the process."""
    say({"type": "system", "subtype": "init", "session_id": "s", "tools": [], "model": "none"})
    if situation == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if situation == "noresult":
        sys.exit(0)
    name, _, leaving = situation.partition(" exit ")
    status = int(name.removeprefix("api "))
    says = {429: "rate_limit_error: Too many requests", 529: "overloaded_error: Overloaded"}
    text = f"API Error: {status} {says.get(status, 'request failed')}"
    say({
        "type": "result", "subtype": "success", "is_error": True, "api_error_status": status,
        "result": text, "duration_ms": 1, "duration_api_ms": 1, "num_turns": 1, "session_id": "s",
        "total_cost_usd": 0.0, "usage": {},
    })  # fmt: skip
    sys.exit(int(leaving or 1))


main()
