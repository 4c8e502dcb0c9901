"""Looking at what is somebody else's: attributes, texts and bodies that may do anything. Pure.

Errors and answers come from user code and from clients that greenroom never imports. A look at one
may raise whatever it likes, hang on to a connection, be huge or go round in circles: so every look
is guarded and bounded, nothing is called, and nothing is read that has not been read already.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

TEXT_LIMIT = 20_000
"""So many characters of what an error says are looked at altogether."""

WORD_LIMIT = 100
"""A code, a type or a Retry-After is no longer than this."""

_STEPS_LIMIT = 400
"""So many entries and parts of bodies are looked at for one error."""

_ENTRIES_LIMIT = 100

# Where a body names the failure, where it describes it, and where either may be further down. What
# is not listed is not looked at: a refusal may quote the whole prompt (`input`, `flagged_input`).
_WORD_KEYS = frozenset({
    "__type", "code", "error", "errorcode", "errortype", "httpcode", "httpstatuscode", "name",
    "quotaid", "reason", "reasons", "status", "statuscode", "subtype", "title", "type",
})  # fmt: skip
_TEXT_KEYS = frozenset({
    "body", "description", "detail", "details", "error", "errordescription", "errormessage",
    "errors", "message", "msg", "quotaid", "raw", "reason", "result", "title",
})  # fmt: skip
_DEEPER_KEYS = frozenset({
    "body", "data", "detail", "details", "error", "errors", "fault", "innererror", "metadata",
    "parameters", "raw", "response", "responsemetadata", "result", "status", "violations",
})  # fmt: skip
_WAIT_KEYS = {
    **dict.fromkeys(("retryafter", "retryafters", "retryafterseconds", "retrydelay"), 1.0),
    "retryafterms": 0.001,
}
# A model object (of pydantic, say) in the place of a dict.
_FIELDS = ("code", "type", "status", "message", "reason", "error", "detail", "data")
_DELETED = str.maketrans("", "", "_- ")


def look(owner: Any, name: str) -> Any:
    """An attribute; None when there is none, or when looking at it raises whatever it may."""
    try:
        return getattr(owner, name, None)
    except BaseException:
        return None


def is_a(value: object, cls: type | tuple[type, ...]) -> bool:
    """`isinstance` by the real type: a `__class__` that lies or raises is not asked."""
    return issubclass(type(value), cls)


def text_of(value: Any, limit: int = WORD_LIMIT) -> str:
    """A string, also of a subclass or from bytes; an empty one for what is longer or no text."""
    if is_a(value, str):
        return str.__str__(value).strip() if str.__len__(value) <= limit else ""
    if is_a(value, (bytes, bytearray)) and len(value) <= limit:
        return bytes(value).decode("utf-8", "replace").strip()
    return ""


def names_of(error: object) -> list[str]:
    """The names of its class and of the classes above, the nearest first."""
    return [cls.__name__ for cls in type(error).__mro__]


def token_of(word: str) -> str:
    """A code or type in the one form that the tables know.

    `RATE_LIMIT_ERROR`, `RateLimitError` and `rate-limit` are the same word; AWS puts a namespace
    before some (`com.amazonaws#`) and an address behind (`:http://`).
    """
    name = word.rpartition("#")[2].partition(":")[0].translate(_DELETED).lower()
    name = name.removesuffix("exception").removesuffix("error")
    return "throttling" if name.startswith("throttling.") else name  # dashscope says which


def is_bare(error: object) -> bool:
    """Whether it is one of Python's own errors with nothing attached: most of them are."""
    cls = type(error)
    if cls.__module__ != "builtins" or not issubclass(cls, BaseException):
        return False
    return not look(error, "__dict__")


def whole_number(value: Any) -> int | None:
    """An int (also of an enum, also as three digits of text); None for all else, and for a bool."""
    if value is None or value is True or value is False:
        return None
    if is_a(value, int):
        return int.__int__(value)
    if is_a(value, str):
        text = str.__str__(value)
        return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else None
    return whole_number(look(value, "value")) if is_a(value, Enum) else None


@dataclass(slots=True, eq=False, repr=False)  # what it holds is payload
class Said:
    """What was said in one error or answer, taken apart.

    Attributes:
        tokens: codes and types, in the form of `token_of`.
        numbers: those among the codes, in the order of finding.
        waits: whatever stands where a Retry-After would, with its unit in seconds.
        headers: mappings of headers that a body holds.
    """

    tokens: set[str] = field(default_factory=set)
    numbers: list[int] = field(default_factory=list)
    waits: list[tuple[Any, float]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _left: int = TEXT_LIMIT
    _steps: int = 0

    @property
    def text(self) -> str:
        """All that is said in sentences, in lower case."""
        return "\n".join(self._parts).lower()

    def word(self, value: Any) -> None:
        """Something that may be a code or a type."""
        if is_a(value, str):
            text = text_of(value)
            if text:
                self.tokens.add(token_of(text))
        elif is_a(value, Enum):
            self.word(look(value, "name"))
            return
        number = whole_number(value)
        if number is not None:
            self.numbers.append(number)

    def sentence(self, value: Any) -> None:
        """Something that says it in words; of a very long one the beginning."""
        if self._left <= 0:
            return
        if is_a(value, (bytes, bytearray)):
            value = bytes(value[: self._left]).decode("utf-8", "replace")
        if is_a(value, str):
            text = str.__getitem__(value, slice(self._left))
            self._left -= len(text)
            self._parts.append(text)

    def body(self, value: Any) -> None:
        """A body, as text or taken apart already, or an object in its place."""
        if value is None:
            return
        waiting = deque([value])
        while waiting and self._steps < _STEPS_LIMIT:
            self._steps += 1
            node = _parsed(waiting.popleft())
            if is_a(node, (str, bytes, bytearray)):
                self.sentence(node)
            elif is_a(node, (list, tuple)):
                waiting.extend(islice(node, _ENTRIES_LIMIT))
            else:
                for key, entry in _entries(node):
                    self._steps += 1
                    if self._entry(key, entry):
                        waiting.append(entry)

    def _entry(self, key: str, value: Any) -> bool:
        """Take one entry in; tells whether there is more to look for in it."""
        if value is None:
            return False
        if key in _WAIT_KEYS:
            self.waits.append((value, _WAIT_KEYS[key]))
            return False
        if key in ("headers", "httpheaders"):
            self.headers.append(value)
            return False
        if is_a(value, (str, bytes, int, Enum)):
            if key in _WORD_KEYS:
                self.word(value)
            # A text may be a body of its own.
            return key in _TEXT_KEYS and not is_a(value, (int, Enum))
        if key == "reasons" and value:
            self.tokens.add("moderation")  # OpenRouter's: why the input was flagged
        return key in _DEEPER_KEYS


def loaded_body(response: Any) -> Any:
    """The body of a response as far as it has been read already; None where it has not.

    `.text`, `.content` and `.json()` of a response may read from the network, or raise because
    nobody has. What has been read lies in the object itself (httpx and requests, aiohttp).
    """
    if is_a(response, Mapping):
        return response
    own = look(response, "__dict__")
    if type(own) is not dict:
        return None
    bodies = (own.get(name) for name in ("_content", "_body", "content", "text", "body"))
    return next((body for body in bodies if is_a(body, (bytes, str))), None)


def _parsed(node: Any) -> Any:
    """What JSON text says; any other node as it is."""
    if not is_a(node, (str, bytes, bytearray)) or not 2 <= len(node) <= TEXT_LIMIT:
        return node
    text = text_of(node, TEXT_LIMIT)
    if text[:1] not in ("{", "["):
        return node
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return node


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """The entries of a mapping, or the telling fields of an object; guarded."""
    try:
        items: Iterable[Any]
        if is_a(node, Mapping):
            items = islice(node.items(), _ENTRIES_LIMIT)
        else:
            items = ((name, look(node, name)) for name in _FIELDS)
        for key, value in items:
            name = text_of(key)
            yield (name if name == "__type" else name.translate(_DELETED).lower()), value
    except BaseException:  # not a mapping after all: what was found until then
        return
