"""Answers of members in the form of the chat completions protocol. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from greenroom.messages.replies import Restarted
from greenroom.web.problems import Problem, ProblemError, Row

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer says of itself besides.

    Attributes:
        id: of the request, and so of the answer.
        created: seconds since the epoch.
        model: the one that has answered, or the name that the client has asked for.
        usage: the tokens that it took; None where nobody has counted.
        finish: why the answer ends; None where nobody says.
    """

    id: str
    created: int
    model: str
    usage: Mapping[str, Any] | None = None
    finish: str | None = None


def completion(served: Served, value: Any) -> bytes:
    """The body of a whole answer.

    Raises:
        ProblemError: the value is neither a text, nor a message, nor JSON.
    """
    message = _message_of(value)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": served.finish or _finish_of(bool(message.get("tool_calls"))),
    }
    body = _head(served, "chat.completion", [choice])
    return written(body if served.usage is None else {**body, "usage": dict(served.usage)})


@dataclass(slots=True)
class CompletionEvents:
    """Writes an answer that comes in chunks as events."""

    include_usage: bool
    _begun: bool = False
    _called: bool = False

    def chunk(self, served: Served, value: Any) -> bytes:
        """The event of a chunk; nothing for a keep-alive, or if another member starts over before
        anything was written.

        Raises:
            ProblemError: it is neither a text, nor a part of a message, nor JSON; or it is the mark
                that all before it is void, which the protocol cannot say.
        """
        if value is None or (isinstance(value, Restarted) and not self._begun):
            return b""
        if isinstance(value, Restarted):
            words = "another member has started over, and what has come is void"
            raise ProblemError(Problem.of(Row.BROKE_OFF, words))
        delta = self._delta_of(value)
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        return self._event(served, delta, None)

    def end(self, served: Served) -> Iterator[bytes]:
        """The last events."""
        if not self._begun:
            yield self.chunk(served, "")
        yield self._event(served, {}, served.finish or _finish_of(self._called))
        if self.include_usage and served.usage is not None:
            usage = {**_head(served, "chat.completion.chunk", []), "usage": dict(served.usage)}
            yield event(usage)
        yield DONE

    def _event(self, served: Served, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        said = _head(served, "chat.completion.chunk", [choice])
        return event({**said, "usage": None} if self.include_usage else said)

    def _delta_of(self, value: Any) -> dict[str, Any]:
        if not _is_message(value):
            return {"content": _text_of(value)}
        delta = dict(value)
        delta.pop("role", None)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            self._called = self._called or bool(calls)
            # A whole message has no index, which clients of streams want.
            delta["tool_calls"] = [
                {"index": at, **call} if isinstance(call, Mapping) else call
                for at, call in enumerate(calls)
            ]
        return delta


def usage_of(said: Any) -> dict[str, Any] | None:
    """A usage; None for one that cannot be written, by which no answer is the worse."""
    if not isinstance(said, Mapping):
        return None
    try:
        written(usage := dict(said))
    except Exception:  # whatever a mapping of somebody's own raises
        return None
    return usage


def event(said: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + written(said) + b"\n\n"


_BREAKS = str.maketrans({0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"})
"""Where clients that cut lines by Python's rules would cut an event in two."""


def written(said: Any) -> bytes:
    """A body of JSON. Halves of surrogate pairs, which no client could read, become "?".

    Raises:
        ProblemError: it holds what is no JSON.
    """
    try:
        text = json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise _no_text("something that is no JSON") from None
    if not text.isascii():
        text = text.translate(_BREAKS)
    return text.encode(errors="replace")


def _head(served: Served, object: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": served.id,
        "object": object,
        "created": served.created,
        "model": served.model,
        "choices": choices,
    }


def _finish_of(called: bool) -> str:
    return "tool_calls" if called else "stop"


def _message_of(value: Any) -> dict[str, Any]:
    if _is_message(value):
        return {"content": None, **value, "role": "assistant"}
    return {"role": "assistant", "content": _text_of(value)}


def _is_message(value: Any) -> bool:
    """Whether it is an assistant's message, or a part of one."""
    if not isinstance(value, Mapping):
        return False
    content, calls = value.get("content"), value.get("tool_calls")
    return isinstance(calls, list) or (isinstance(content, str) and value.get("role") is not None)


def _text_of(value: Any) -> str:
    """A text; chunks that were collected are joined, without the keep-alives among them; what else
    is JSON is written as such.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(each, str | None) for each in value):
        return "".join(each for each in value if each is not None)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise _no_text(f"a {type(value).__name__}") from None


def _no_text(what: str) -> ProblemError:
    words = f"the member's answer must be a text, a message or JSON, and is {what}"
    return ProblemError(Problem.of(Row.NO_TEXT, words))
