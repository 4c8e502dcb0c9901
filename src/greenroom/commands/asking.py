"""What `greenroom ask` does: one prompt through a pool, its answer to stdout."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.commands import error_tree
from greenroom.commands.ending import run
from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.opened_pool import opened_pool
from greenroom.commands.terminal import OutputError, complain, is_open, is_terminal, say
from greenroom.messages.replies import Reply, Restarted
from greenroom.messages.requests import Request

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command; what is None is found out."""

    prompt: str | None
    pool: Path
    json: bool = False
    stream: bool | None = None
    timeout_s: float | None = None
    verbose: int = 0
    status: str | None = None


def carry_out(options: Options) -> Exit:
    """Ask, and print the answer as it comes, or what became of every member.

    Raises:
        UsageError: the file cannot be used, or there is no prompt.
    """
    with opened_pool(options.pool, options.verbose, status=options.status) as pool:
        request = Request(_prompt(options.prompt), timeout=options.timeout_s)
        streams = is_terminal(sys.stdout) if options.stream is None else options.stream
        try:
            if options.json:
                say(json.dumps(_told(run(_ask(pool, request))), ensure_ascii=False, default=str))
            elif streams:
                run(_stream(pool, request))
            else:
                say(_text(run(_ask(pool, request)).value))
        except (BrokenPipeError, OutputError):  # of our own output: no failure of the pool's
            raise
        except Exception as error:  # what an agent raises for a request at fault is its own error
            if options.json:
                failed = {"error": error_tree.as_json(error)}
                say(json.dumps(failed, ensure_ascii=False, default=str))
            complain(error_tree.as_text(error))
            return Exit.FAILED
    return Exit.DONE


def _prompt(given: str | None) -> str:
    """The prompt that was given, or what comes from stdin.

    Raises:
        UsageError: there is none, or it is no text.
    """
    if given is None and (not is_open(sys.stdin) or sys.stdin.isatty()):
        raise UsageError('a prompt must be given, in quotes, or piped in: greenroom ask "hello"')
    prompt = _stdin() if given in (None, STDIN) else given
    if not prompt or not prompt.strip():
        raise UsageError("the prompt must not be empty")
    try:
        prompt.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        raise UsageError("the prompt must be text (utf-8)") from None
    return prompt


def _stdin() -> str:
    if not is_open(sys.stdin):
        raise UsageError("stdin is closed")
    if isinstance(sys.stdin, io.TextIOWrapper):  # by itself it may let through what is no text
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin must be text ({error.encoding}): {error.reason}") from None


async def _ask(pool: PoolRef, request: Request[Any]) -> Reply[Any]:
    reply: Reply[Any] = await pool.ask(request, block=False)
    return reply


async def _stream(pool: PoolRef, request: Request[Any]) -> None:
    begun = False
    try:
        async with pool.stream(request) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Restarted):
                    if begun:  # else what is void was never shown
                        say()
                    begun = False
                    complain(f"{chunk.member} broke off ({chunk.kind}): the answer starts over")
                else:
                    say(_text(chunk), end="")
                    begun = True
    finally:  # an error, or the shell's own line, begins at the left
        if begun:
            say()


def _text(value: Any) -> str:
    """An answer, or a chunk of one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(each, str) for each in value):
        return "".join(value)  # of an agent that answers in chunks
    return json.dumps(value, ensure_ascii=False, default=str)


def _told(reply: Reply[Any]) -> dict[str, Any]:
    """The whole reply as plain data."""
    return {
        "value": reply.value,
        "member": reply.member,
        "attempts": reply.attempts,
        "elapsed_s": reply.elapsed_s,
        "request_id": reply.request_id,
        "metadata": dict(reply.metadata),
        "errors": [error_tree.attempt_as_json(each) for each in reply.errors],
    }
