"""What a client of the endpoint asks for, from the body of its request. Pure.

Only what would hurt here is looked at; what a model's server can take is its own affair.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from greenroom.kinds.chat_prompt import ChatPrompt
from greenroom.kinds.encodable import unencodable
from greenroom.web.problems import Problem, ProblemError, Row

ANY_MODEL = "*"
"""Among the models: whatever a client asks for is taken."""

_OURS = ("messages", "model", "stream", "stream_options")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")

_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "functions": (None, []),
    "function_call": (None,),
    "audio": (None,),
    "modalities": (None, ["text"]),
}
"""What changes the form of the answer into one that the pool's members do not give, and the values
with which it does not."""


@dataclass(frozen=True, slots=True, repr=False)
class ChatRequest:
    """A request that holds.

    Attributes:
        model: as the client calls it, which the answer repeats.
        key: what keeps a client with one member, where the pool's strategy does that.
        include_usage: whether a stream shall end with a chunk of the usage.
    """

    prompt: ChatPrompt
    model: str
    stream: bool = False
    include_usage: bool = False
    key: str | None = None


def chat_request(body: bytes, models: Collection[str]) -> ChatRequest:
    """Read a body.

    Args:
        models: the names that a client may ask for, the pool's first; `ANY_MODEL` among them
            stands for all.

    Raises:
        ProblemError: it does not hold; nothing of it is shown but the name of the field.
    """
    said = _parsed(body)
    model = said.get("model")
    if model is not None and not isinstance(model, str):
        _refuse("model", "must be a string")
    if model and model not in models and ANY_MODEL not in models:
        raise ProblemError(
            Problem.of(
                Row.UNKNOWN_MODEL, f"the model {model[:100]!r} does not exist", param="model"
            )
        )
    for name, allowed in _REFUSED.items():
        if not any(said.get(name) is each or said.get(name) == each for each in allowed):
            _refuse(name, "is not supported here with this value", "unsupported_value")
    messages = _messages(said.get("messages"))
    params = {k: v for k, v in said.items() if k not in _OURS and k not in _REFUSED}
    stream, usage = _stream(said)
    if usage:  # a server counts only for who asks
        params["stream_options"] = {"include_usage": True}
    return ChatRequest(
        prompt=ChatPrompt(messages, params),
        model=model or next(iter(models)),
        stream=stream,
        include_usage=usage,
        key=next((said[k] for k in ("prompt_cache_key", "user") if _is_text(said.get(k))), None),
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Decoded here: `json.loads` lets halves of characters pass in bytes, and other encodings.
        said = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # without the error: it holds the body
        _refuse(None, "the body must be JSON, in UTF-8")
    if not isinstance(said, dict):
        _refuse(None, "the body must be a JSON object")
    if fault := unencodable(said):  # which no member could send on, and each would fail by
        param, rule = _field_of(said), f"must be what can be sent on, got {fault} in it"
        _refuse(param, rule if param else f"the body {rule}")
    return said


def _field_of(said: dict[str, Any]) -> str | None:
    """The one that holds what is unfit; None where it is a name itself."""
    if any(map(unencodable, said)):
        return None
    return next((name for name, value in said.items() if unencodable(value)), None)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "must be a list of at least one message")
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if not isinstance(message, dict):
            _refuse(where, "must be an object")
        if message.get("role") not in _ROLES:
            _refuse(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            _refuse(f"{where}.content", "must be a string or a list of parts")
        if not isinstance(message.get("tool_calls"), list | None):
            _refuse(f"{where}.tool_calls", "must be a list")
        if content is None and message["role"] != "assistant":
            _refuse(f"{where}.content", "must be given")
    return messages


def _stream(said: Mapping[str, Any]) -> tuple[bool, bool]:
    stream, options = said.get("stream"), said.get("stream_options")
    if not isinstance(stream, bool | None):
        _refuse("stream", "must be true or false")
    if not isinstance(options, dict | None):
        _refuse("stream_options", "must be an object")
    if options is not None and not stream:
        _refuse("stream_options", "is for streams only")
    return bool(stream), bool(options and options.get("include_usage") is True)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _refuse(param: str | None, rule: str, code: str | None = None) -> NoReturn:
    message = rule if param is None else f"{param} {rule}"
    raise ProblemError(Problem.of(Row.INVALID, message, param=param, code=code))
