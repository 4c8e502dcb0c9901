"""What a command's output means: its answer, its chunks, or why there is none. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from greenroom.kinds.json_path import JsonPath

TEXT_SHOWN = 500
"""Characters of a command's own words that an error repeats."""

OutputFormat = Literal["text", "json", "jsonl"]


class CommandFailedError(Exception):
    """A command has not answered: it ended badly, says that it has failed, or its output is none.

    Attributes:
        exit_code: what it ended with, negative for a signal; None if it was not that.
        stderr: the end of what it wrote there.
        body: the object by which it says on stdout that it has failed; None where that is none.
    """

    # Their names are those by which `classify` reads any client's error.
    def __init__(
        self, message: str, exit_code: int | None = None, stderr: str = "", body: Any = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stderr = stderr
        self.body = body if isinstance(body, dict) else None


@dataclass(frozen=True, slots=True)
class OutputRules:
    """How to read a command's output.

    Args:
        form: what stands on stdout: a text, one piece of JSON, or one in each line.
        answer: where in it the answer stands; None: it is the whole of it.
        chunks: where in a line what is to be streamed stands; None: where the answer does.
        failed: where something stands (not null, false, 0 or empty) if it has failed.
        joined: whether the answer is what stands there in all lines, one after the other.
        longest: bytes of stdout that are too many.
    """

    form: OutputFormat
    answer: JsonPath | None
    chunks: JsonPath | None
    failed: tuple[JsonPath, ...]
    joined: bool
    longest: int


class CommandOutput:
    """Takes in what a command writes to stdout, as it comes.

    Args:
        name: how the errors call the command.
    """

    def __init__(self, name: str, rules: OutputRules) -> None:
        self._name = name
        self._rules = rules
        self._rest = bytearray()
        self._looked = 0
        self._size = 0
        self._answer: Any = None
        self._failure: Any = None
        self._texts: list[str] = []

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take in a piece; what of it is to be streamed.

        Raises:
            CommandFailedError: it is too much, or not what it is said to be.
        """
        self._size += len(data)
        if self._size > self._rules.longest:
            raise self._failed(f"wrote more than max_output_bytes={self._rules.longest}")
        self._rest += data
        if self._rules.form == "json":
            return
        while (end := self._rest.find(b"\n", self._looked)) >= 0:
            line = bytes(self._rest[: end + 1])
            del self._rest[: end + 1]
            self._looked = 0
            yield from self._take_line(line)
        self._looked = len(self._rest)

    def end(self) -> Iterator[Any]:
        """There is no more; what of the rest is to be streamed."""
        if self._rules.form == "json":
            text = self._text(bytes(self._rest)).strip()
            if text:
                self._take_json(self._parsed(text))
        elif self._rest:
            yield from self._take_line(bytes(self._rest))
        self._rest.clear()

    def answer(self, exit_code: int, stderr: bytes) -> Any:
        """Its answer, after the end.

        Raises:
            CommandFailedError: there is none.
        """
        tail = stderr.decode("utf-8", "replace").strip()
        # First: a tool that says so itself says why, whatever it ends with.
        if self._failure is not None:
            said = f"failed: {_words_of(self._failure)}"
            raise self._failed(said, exit_code, tail, self._failure)
        if exit_code:
            how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"exited {exit_code}"
            last = tail.splitlines()[-1:] or self._last_words()
            raise self._failed(": ".join((how, *map(_short, last))), exit_code, tail)
        if self._rules.form == "text":
            return "".join(self._texts).removesuffix("\n")
        if self._answer is None:
            where = "" if self._rules.answer is None else f" at {self._rules.answer.text!r}"
            raise self._failed(f"ended without an answer{where}", exit_code, tail)
        return self._answer

    def _take_line(self, line: bytes) -> Iterator[Any]:
        text = self._text(line)
        if self._rules.form == "text":
            self._texts.append(text)
            yield text
            return
        text = text.strip()
        # A tool's notes to its user may stand between the lines of its output.
        if not text.startswith(("{", "[")):
            if text:
                self._texts[:] = [text]
            return
        value = self._parsed(text)
        self._take_json(value)
        chunks = self._rules.chunks or self._rules.answer
        chunk = value if chunks is None else chunks.of(value)
        if chunk is not None and self._failure is None:
            yield chunk

    def _take_json(self, value: Any) -> None:
        answer = value if self._rules.answer is None else self._rules.answer.of(value)
        for path in self._rules.failed:
            failure = path.of(value)
            if failure:
                # A bare `true` says nothing: where the answer would be stands why.
                self._failure = answer if failure is True and answer is not None else failure
                return
        if answer is None:
            return
        joins = self._rules.joined and isinstance(answer, str) and self._answer is not None
        self._answer = self._answer + answer if joins else answer

    def _text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self._failed("wrote what is not UTF-8 text") from None

    def _parsed(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):  # without the error: it holds the text
            raise self._failed("wrote JSON that is malformed or was cut off") from None

    def _last_words(self) -> list[str]:
        return [each.strip() for each in self._texts if each.strip()][-1:]

    def _failed(
        self, what: str, exit_code: int | None = None, stderr: str = "", body: Any = None
    ) -> CommandFailedError:
        return CommandFailedError(f"command {self._name} {what}", exit_code, stderr, body)


def _words_of(failure: Any) -> str:
    """What an error on stdout says, however it is wrapped."""
    for _ in range(4):
        if not isinstance(failure, dict):
            break
        inner = next((failure[key] for key in ("message", "error", "detail") if key in failure), "")
        if not inner:
            break
        failure = inner
    return _short(failure if isinstance(failure, str) else json.dumps(failure, default=str))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 3] + "..."
