"""A local command as an agent: its prompt on stdin or as an argument, its answer on stdout."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal

from greenroom.kinds.command_output import (
    CommandOutput,
    OutputFormat,
    OutputRules,
)
from greenroom.kinds.encodable import check_encodable
from greenroom.kinds.json_path import JsonPath
from greenroom.kinds.presets import PRESETS, Preset, PresetName
from greenroom.kinds.process_group import Ended, ProcessGroup
from greenroom.messages import _validate as check
from greenroom.messages.errors import PayloadError

MAX_OUTPUT_BYTES = 64 * 1024 * 1024

PROMPT = "{prompt}"
"""Stands in `argv` for the prompt, where that is given as an argument."""


class CommandAgent:
    """Runs a command for each call, as `Member("x", CommandAgent(["ollama", "run", "llama3"]))`.

    It never runs through a shell. It runs in a session of its own: when the call is cancelled or
    its time is over, SIGTERM and half a second later SIGKILL go to the command and to all that it
    has started. What it has started and left behind is ended with it.

    An async agent: the pool gives it 100 calls at a time, so say `Member(max_concurrency=)`.

    Args:
        argv: the command and its arguments; of a preset, arguments that are added to its own.
        preset: how to run "claude", "codex" or "gemini" and to read what it says; their own retries
            are switched off where they can be.
        prompt: where the payload, a str or bytes, goes: to stdin, or as an argument in the place of
            "{prompt}" in `argv`, else as the last one.
        output: what stands on stdout: "text"; "json", one piece of it; "jsonl", one in each line
            (lines that are no JSON are notes).
        answer: the `JsonPath` of the answer: "result", "choices[0].text", "[type=done].text"; of
            lines the last one that has it. None: the whole of it.
        chunks: where in a line what is streamed stands; None: where the answer does. (A text is
            streamed by line.)
        failed: the path, or several, at which something stands if it has failed: looked for
            whatever it exits with, since such tools fail with exit code 0 and an empty stderr.
        env: added to the environment.
        cwd: where it runs; None: where this process does.
        max_output_bytes: the most that it may write to stdout.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    def __init__(
        self,
        argv: Sequence[str] = (),
        *,
        preset: PresetName | None = None,
        prompt: Literal["stdin", "argument"] = "stdin",
        output: OutputFormat | None = None,
        answer: str | None = None,
        chunks: str | None = None,
        failed: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> None:
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        ready = Preset((), None, None, ()) if preset is None else PRESETS[preset]
        if output is None:
            output = "text" if preset is None else "jsonl"
        if output not in ("text", "json", "jsonl"):
            raise ValueError(f"output must be 'text', 'json' or 'jsonl', got {output!r}")
        if prompt not in ("stdin", "argument"):
            raise ValueError(f"prompt must be 'stdin' or 'argument', got {prompt!r}")
        check.whole("max_output_bytes", max_output_bytes, minimum=1)
        self._argv = [*ready.argv, *_strings("argv", argv)]
        if not self._argv:
            raise ValueError("argv must name a command, got an empty one and no preset")
        self._in_argument = prompt == "argument"
        if not self._in_argument and PROMPT in self._argv:
            raise ValueError(f"argv must not hold {PROMPT!r} unless prompt='argument'")
        self._env = {**ready.env, **_environment(env)}
        if cwd is not None and not isinstance(cwd, str | os.PathLike):
            raise TypeError(f"cwd must be a path, got {cwd!r} ({type(cwd).__name__})")
        self._cwd = cwd
        if failed is None:
            failed = ready.failed
        failed = _strings("failed", (failed,) if isinstance(failed, str) else failed)
        if output == "text" and (answer or chunks or failed):
            raise ValueError("answer, chunks and failed must be None with output='text'")
        self._rules = OutputRules(
            output,
            _path("answer", ready.answer if answer is None else answer),
            _path("chunks", ready.chunks if answer is None and chunks is None else chunks),
            tuple(JsonPath(each, "failed") for each in failed),
            ready.joined and answer is None,
            max_output_bytes,
        )
        self.name = PurePath(self._argv[0]).name

    async def arun(self, payload: str | bytes) -> Any:
        """The command's answer.

        Raises:
            CommandFailedError: it has none: its exit code, its own words, or output that is none.
            OSError: it could not be run: there is none of that name, say.
            TypeError: the payload is neither a str nor bytes.
            PayloadError: it cannot be said to a command: a lone surrogate, a null in an argument.
        """
        run = _Run(self, payload)
        try:
            while (data := await run.next()) is not None:
                for _ in run.output.feed(data):
                    pass
            for _ in run.output.end():
                pass
            return run.answer()
        finally:
            await run.close()

    async def astream(self, payload: str | bytes) -> AsyncIterator[Any]:
        """Its answer chunk by chunk; the errors are those of `arun`."""
        run = _Run(self, payload)
        try:
            while (data := await run.next()) is not None:
                for chunk in run.output.feed(data):
                    yield chunk
            for chunk in run.output.end():
                yield chunk
            run.answer()
        finally:
            await run.close()

    def __repr__(self) -> str:
        return f"<CommandAgent {self.name}>"

    def _begin(self, payload: str | bytes, tell: Any) -> ProcessGroup:
        if not isinstance(payload, str | bytes):
            raise TypeError(f"payload must be a str or bytes, got a {type(payload).__name__}")
        argv, stdin = self._argv, None
        check_encodable(payload)
        if not self._in_argument:
            stdin = payload.encode() if isinstance(payload, str) else payload
        else:
            text = payload if isinstance(payload, str) else os.fsdecode(payload)
            if "\0" in text:
                raise PayloadError("payload must not hold a null where it is an argument")
            places = argv if PROMPT in argv else [*argv, PROMPT]
            argv = [text if each == PROMPT else each for each in places]
        return ProcessGroup(argv, stdin=stdin, env=self._env, cwd=self._cwd, tell=tell)


class _Run:
    """One run, seen from the loop of the call."""

    def __init__(self, agent: CommandAgent, payload: str | bytes) -> None:
        self.output = CommandOutput(agent.name, agent._rules)
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended: Ended | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._group = agent._begin(payload, self._tell)
        self._group.start()

    async def next(self) -> bytes | None:
        """The next piece of stdout; None at the end."""
        while not self._pieces:
            if self._ended is not None:
                return None
            self._news.clear()
            await self._news.wait()
        data = self._pieces.popleft()
        self._group.took(len(data))
        return data

    def answer(self) -> Any:
        """After the end."""
        assert self._ended is not None
        if self._ended.error is not None:
            raise self._ended.error
        return self.output.answer(self._ended.exit_code or 0, self._ended.stderr)

    async def close(self) -> None:
        """Have nothing of it run any more."""
        self._group.end()
        # Shielded: a second cancellation ends this wait, and the group ends all the same.
        await asyncio.shield(self._over)

    def _tell(self, thing: bytes | Ended) -> None:
        """Called in the group's thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, thing)
        except RuntimeError:  # the loop has been closed: nobody wants it any more
            self._group.end()

    def _take(self, thing: bytes | Ended) -> None:
        if isinstance(thing, Ended):
            self._ended = thing
            if not self._over.done():
                self._over.set_result(None)
        else:
            self._pieces.append(thing)
        self._news.set()


def _strings(field: str, values: Any) -> list[str]:
    if isinstance(values, str | bytes) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"{field} must be a sequence of strings, got {type(values).__name__}")
    return list(values)


def _environment(env: Mapping[Any, Any] | None) -> dict[str, str]:
    """A copy; what is refused is named by its key alone, since a value may be secret."""
    if env is None:
        return {}
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"env must be of strings, got {key!r} with a value of type {type(value).__name__}"
            )
    return dict(env)


def _path(field: str, text: str | None) -> JsonPath | None:
    return None if text is None else JsonPath(text, field)
