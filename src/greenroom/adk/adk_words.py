"""Payloads in the words of ADK: a conversation, and what the user says last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.genai.types import Content, ModelContent, Part, UserContent

from greenroom.kinds.chat_prompt import ChatPrompt
from greenroom.kinds.encodable import check_encodable
from greenroom.messages.errors import PayloadError

_ROLES = {"user": UserContent, "assistant": ModelContent}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an agent is given.

    Attributes:
        message: what it is to answer.
        before: what was said until then, by the user and by itself.
    """

    message: Content
    before: Sequence[Content] = ()


def conversation_of(payload: Any) -> Conversation:
    """A payload as a conversation.

    Raises:
        PayloadError: nothing is said in it, or what cannot be encoded.
        TypeError: it is nothing of the kind.
    """
    if isinstance(payload, str):
        return _of_text(payload)
    if isinstance(payload, Content):
        return _of_contents([payload])
    if isinstance(payload, list | tuple) and payload:
        if all(isinstance(each, Content) for each in payload):
            return _of_contents(payload)
        if all(isinstance(each, Mapping) for each in payload):
            return _of_text(ChatPrompt(payload))
    raise TypeError(
        "payload must be a str, a Content, or a list of these or of messages, "
        f"got a {type(payload).__name__}"
    )


def _of_text(payload: str) -> Conversation:
    contents: list[Content] = []
    if isinstance(payload, ChatPrompt):
        check_encodable(payload.messages)
        contents = list(_contents_of(payload.messages))
    if contents and contents[-1].role == "user":
        return Conversation(contents[-1], contents[:-1])
    check_encodable(payload)
    return Conversation(UserContent(str(payload)))


def _of_contents(contents: Sequence[Content]) -> Conversation:
    last = contents[-1]
    if last.role not in (None, "user"):
        raise PayloadError(f"payload must end with what the user says, got role {last.role!r}")
    for each in contents:
        if not each.parts:
            raise PayloadError("payload must hold Contents with parts, got one without")
    *before, message = map(_own, contents)
    return Conversation(message, before)


def _own(content: Content) -> Content:
    """One whose list of parts a run may change: another attempt has the caller's again."""
    return content.model_copy(update={"parts": list(content.parts or ())})


def _contents_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[Content]:
    """Messages of user and assistant that hold texts; nothing where one is another."""
    found = [_content_of(each) for each in messages]
    if None not in found:
        yield from (each for each in found if each is not None)


def _content_of(message: Mapping[str, Any]) -> Content | None:
    made = _ROLES.get(message.get("role", ""))
    content = message.get("content")
    if made is None or message.get("tool_calls") or not content:
        return None
    if isinstance(content, str):
        return made(content)
    texts = [each.get("text") for each in content if _is_text(each)]
    if len(texts) < len(content):
        return None
    return made([Part(text=each) for each in texts])


def _is_text(part: object) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    )
