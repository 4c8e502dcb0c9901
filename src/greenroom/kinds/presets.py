"""How to run well-known command-line agents without a terminal, and how to read what they say.

Each runs once, writes one JSON event a line, takes its prompt on stdin, and does no retries of its
own where those can be switched off: they would outlast any limit of the pool's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PresetName = Literal["claude", "codex", "gemini"]


@dataclass(frozen=True, slots=True)
class Preset:
    """The settings of `CommandAgent` for one tool."""

    argv: tuple[str, ...]
    answer: str | None
    chunks: str | None
    failed: tuple[str, ...]
    joined: bool = False
    """Whether the answer is all of its chunks, one after the other."""
    env: Mapping[str, str] = field(default_factory=dict)


PRESETS: dict[PresetName, Preset] = {
    # Claude Code, `claude --help`: stream-json needs --verbose. A failed run ends with a result
    # line all the same, `is_error` in it and the reason where the answer would be.
    "claude": Preset(
        argv=("claude", "-p", "--output-format", "stream-json", "--verbose"),
        answer="[type=result].result",
        chunks="[type=assistant].message.content[type=text].text",
        failed=("[type=result].is_error",),
        env={"CLAUDE_CODE_MAX_RETRIES": "0"},
    ),
    # Codex, `codex exec --help`: "-" is stdin. Lines of the type `error` are notes of a
    # reconnection, too; what ends a turn is `turn.failed`. How often it tries again is a setting of
    # its model provider, in its own file.
    "codex": Preset(
        argv=("codex", "exec", "--json", "--skip-git-repo-check", "-"),
        answer="[type=item.completed].item[type=agent_message].text",
        chunks=None,
        failed=("[type=turn.failed].error",),
    ),
    # Gemini CLI, its page on headless mode: messages come in parts, the result has the outcome.
    "gemini": Preset(
        argv=("gemini", "--output-format", "stream-json"),
        answer="[type=message][role=assistant].content",
        chunks=None,
        failed=("[type=result].error",),
        joined=True,
    ),
}
