"""A conversation as a payload: its text for whatever takes a prompt, its messages for a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from greenroom.messages import _validate as check

_OURS = ("messages", "model", "stream")
_LENGTHS = ("max_tokens", "max_completion_tokens")


class ChatPrompt(str):
    """What `greenroom serve` gives to the members, whichever of them is picked.

    It *is* the text of the conversation: of a single message of a user's its text, else each
    message under its role. So a command gets it as its prompt, and a function as its argument. An
    `OpenAIAgent` gives the messages and the parameters on as they are; a function may, too.

    Attributes:
        messages: the conversation, as the chat completions protocol has it.
        params: more of the request's body: `{"temperature": 0.2, "tools": [...]}`.

    Raises:
        TypeError, ValueError: messages or params are none; what they hold is not shown.
    """

    __slots__ = ("messages", "params")

    messages: tuple[Mapping[str, Any], ...]
    params: Mapping[str, Any]

    def __new__(
        cls, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None
    ) -> Self:
        _check(messages, params)
        made = super().__new__(cls, conversation(messages))
        made.messages = tuple(messages)
        made.params = {} if params is None else dict(params)
        return made

    @property
    def limits_length(self) -> bool:
        """Whether it says itself how long its answer may be: one that ends there is whole."""
        return any(self.params.get(name) is not None for name in _LENGTHS)

    def params_over(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Its parameters on top of others; of the two names of a length only its own."""
        others = {k: v for k, v in params.items() if not (self.limits_length and k in _LENGTHS)}
        return {**others, **self.params}

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.messages, self.params


def _check(messages: Any, params: Any) -> None:
    is_list = isinstance(messages, list | tuple)
    if not is_list or not all(isinstance(each, Mapping) for each in messages):
        raise TypeError(f"messages must be a list of mappings, got a {type(messages).__name__}")
    if not messages:
        raise ValueError("messages must not be empty, got none")
    if params is None:
        return
    check.mapping("params", params, secret=True)
    for name in _OURS:
        if name in params:
            raise ValueError(f"params must not hold {name!r}: that is not a parameter")


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of one message of a user's, or of several, each under its role."""
    if len(messages) == 1 and messages[0].get("role") == "user":
        return _text_of(messages[0])
    return "\n\n".join(f"{each.get('role')}: {_text_of(each)}" for each in messages)


def _text_of(message: Mapping[str, Any]) -> str:
    parts = list(_parts(message.get("content")))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            parts.append(f"[calls {function.get('name')} with {function.get('arguments')}]")
    return "\n".join(parts)


def _parts(content: Any) -> Iterator[str]:
    """Its texts; what is none is named by its type, so that a reader knows of it."""
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list | tuple) else ():
        text = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str):
            yield text
        elif isinstance(part, Mapping):
            yield f"[{part.get('type')}]"
