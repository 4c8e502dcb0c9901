"""What an OpenAI-compatible server has answered, from its bytes: an answer, or why it is none.

Pure. A client takes much for an answer that is none: a stream that was cut, a page of a gateway, an
error in a 200, no choices. What is said in the words of the protocol is judged by
`greenroom.answers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from greenroom.actors.reading import answer_judgement as answers
from greenroom.actors.reading.answer_judgement import refusal_of
from greenroom.actors.reading.answer_shapes import BROKEN, Fault, read
from greenroom.kinds.event_lines import EventLines
from greenroom.messages.errors import UnsuccessfulResultError
from greenroom.messages.status import FailureKind

EVENT_LIMIT = 8 * 1024 * 1024
"""Bytes of an event that are too many."""

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of a whole answer that are too many."""

STRAY_LIMIT = 1024 * 1024
"""The same of what comes instead of events."""

_UNFIT = (
    FailureKind.TOO_LARGE
)  # another member may do better, and this one is none the worse for it


_CALLS = ("tool_calls", "function_call")


def _away(reason: str) -> Fault:
    return Fault(reason, FailureKind.UNAVAILABLE)


_EMPTY_BODY = _away("an empty body")
_NO_CONTENT = Fault("an answer without content")
_NO_JSON = _away("what is no JSON, or was cut off")
_NO_COMPLETION = _away("JSON that is no completion")
_PAGE = _away("an HTML page instead of a completion")
_JSON = _away("JSON instead of events")
_NO_EVENTS = _away("what are no events")
_BAD_EVENT = _away("a malformed event")
_CUT = _away("a stream that ended with neither a finish_reason nor [DONE]")
_NOTHING = _away("a stream without content")
_BROKE = _away("a stream that ended with an error")
_TOO_MUCH = _away("a body of more than 64 MiB")
_TOO_LONG = _away("an event of more than 8 MiB")
_EVENT_ERROR = Fault("an event that is an error", otherwise=FailureKind.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class CompletionRules:
    """What of a whole answer is a failure all the same.

    Args:
        member: how the errors call who answers.
        on_length: an answer that was cut off at its length: "fail" lets another member answer.
        on_filter: one that a content filter has stopped, or in which the model refuses: "caller"
            tells whoever asks, "next" lets another member answer.
    """

    member: str
    on_length: Literal["fail", "accept"] = "fail"
    on_filter: Literal["caller", "next"] = "caller"

    def fault_of(self, answer: Any) -> Fault | None:
        """Why an answer, or an event of a stream, is a failure; None if it is none."""
        fault = answers.content_filter(answer) or answers.refusal(answer)
        if fault is not None:
            return fault if self.on_filter == "caller" else replace(fault, kind=_UNFIT)
        return answers.cut_short(answer) if self.on_length == "fail" else None

    def error(self, fault: Fault, answer: Any, wall_now: float) -> UnsuccessfulResultError:
        """The error that tells of a failure, with the kind and the Retry-After that it names."""
        return refusal_of(fault, answer, self.member, wall_now)


@dataclass(slots=True)
class Completion:
    """A whole answer.

    Attributes:
        value: its text; with tool calls the assistant's message, as one hands it back.
        model: which model has answered, by its server's word; None if that does not say.
        usage: the tokens that it took, as the server counts them; None likewise.
        finish: why it ends.
    """

    value: Any = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    finish: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What its server has said of it: `model` and `usage`, each if it has; `finish_reason`
        where that is not the usual one.
        """
        finish = None if self.finish == "stop" else self.finish
        said = {"model": self.model, "usage": self.usage, "finish_reason": finish}
        return {key: value for key, value in said.items() if value is not None}

    def note(self, said: dict[str, Any]) -> None:
        """Take the model and the usage from a completion, or from an event of one."""
        if isinstance(said.get("model"), str) and said["model"]:
            self.model = said["model"]
        if isinstance(said.get("usage"), dict):
            self.usage = said["usage"]


def completion_of(
    body: bytes, content_type: str, rules: CompletionRules, wall_now: float
) -> Completion:
    """The answer in a response's body.

    Raises:
        UnsuccessfulResultError: there is none.
    """
    if len(body) > BODY_LIMIT:
        raise rules.error(_TOO_MUCH, None, wall_now)
    said = _parsed(body, content_type, rules, wall_now)
    choice = _choice_of(said)
    # What is wrong with another choice is wrong with none that is passed on.
    judged = said if choice is None else {**said, "choices": [choice]}
    # Named as what it is: a filter that lets nothing through leaves out the message.
    fault = rules.fault_of({**judged, "object": "chat.completion"}) or _error_in(said)
    fault = fault or answers.auto(judged) or answers.no_choices(said)
    if fault is not None:
        raise rules.error(fault, said, wall_now)
    message = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        raise rules.error(_NO_COMPLETION, said, wall_now)
    text = _text_of(message.get("content"))
    calls = any(message.get(name) for name in _CALLS)
    if text is None and not calls:
        nothing = message.get("content") is None
        raise rules.error(_NO_CONTENT if nothing else _NO_COMPLETION, said, wall_now)
    found = Completion(message if calls else text, finish=_word(choice.get("finish_reason")))
    found.note(said)
    return found


@dataclass(slots=True)
class CompletionStream:
    """Reads an answer that comes in events, as its bytes come.

    What it gives of each event: its text; of tool calls `{"tool_calls": [...]}`, as they come.

    Args:
        alive: called for an event that carries something, but nothing to be passed on: a thought.

    Attributes:
        over: whether its end mark has come: what follows is not read.
        finished: whether why it ends has been said, or that it does: it is whole, save for a usage.
    """

    rules: CompletionRules
    content_type: str
    alive: Callable[[], object] = lambda: None
    whole: Completion = field(default_factory=Completion)
    over: bool = False
    finished: bool = False
    _lines: EventLines = field(default_factory=EventLines)
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0
    _stray: list[str] = field(default_factory=list)
    _stray_size: int = 0
    _content: bool = False
    _seen: bool = False
    _index: Any = None
    _late: Fault | None = None

    def feed(self, data: bytes, wall_now: float) -> Iterator[Any]:
        """Take in a piece of the body; what of it is to be passed on.

        Raises:
            UnsuccessfulResultError: it shows that this is no answer.
        """
        for line in self._lines.feed(data):
            yield from self._take_line(line, wall_now)
        if self._size + self._lines.unfinished > EVENT_LIMIT:
            raise self.rules.error(_TOO_LONG, None, wall_now)

    def end(self, wall_now: float) -> Iterator[Any]:
        """There is no more.

        Raises:
            UnsuccessfulResultError: what has come is no whole answer.
        """
        for line in self._lines.end():
            yield from self._take_line(line, wall_now)
        if not self.over:
            yield from self._event(wall_now)
        if self._stray and not self.finished:
            self._refuse_stray(wall_now)
        if self._late is not None:
            raise self.rules.error(self._late, None, wall_now)
        if not self.finished:
            raise self.rules.error(_CUT if self._seen else _NOTHING, None, wall_now)
        if not self._content:
            raise self.rules.error(_NOTHING, None, wall_now)

    def _take_line(self, line: str, wall_now: float) -> Iterator[Any]:
        if self.over:
            return
        if not line:
            yield from self._event(wall_now)
            self._name = ""
            return
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and colon:
            yield from self._take_data(value, wall_now)
        elif name == "error" and colon:  # of a field of that name, as llama.cpp had
            self._name = name
            yield from self._take_data(value, wall_now)
        elif name in ("", "event", "id", "retry"):  # a comment, a keep-alive; what is no data
            self._seen = self._seen or name != ""
            self._name = value.strip() if name == "event" else self._name
        else:
            self._stray.append(line)
            self._stray_size += len(line) + 1
            if self._stray_size > STRAY_LIMIT:
                raise self.rules.error(_NO_EVENTS, None, wall_now)

    def _take_data(self, value: str, wall_now: float) -> Iterator[Any]:
        self._seen = True
        self._size += len(value)
        if self._size > EVENT_LIMIT:
            raise self.rules.error(_TOO_LONG, None, wall_now)
        self._data.append(value)
        # Servers that leave out the empty line behind an event are not rare.
        if value.strip() == "[DONE]" or self._is_whole():
            yield from self._event(wall_now)

    def _is_whole(self) -> bool:
        """Whether the one line of an event is all of it, as it nearly always is."""
        return len(self._data) == 1 and self._data[0].startswith("{") and self._data[0][-1:] == "}"

    def _event(self, wall_now: float) -> Iterator[Any]:
        data = "\n".join(self._data).strip()
        self._data.clear()
        self._size = 0
        if not data:
            return
        if data == "[DONE]":
            self.over = self.finished = True
            return
        said = _object_in(data)
        if self._name == "error":
            if said is None or "error" not in said:
                said = {"error": data if said is None else said}
            raise self.rules.error(_EVENT_ERROR, said, wall_now)
        if said is None:
            raise self.rules.error(_BAD_EVENT, None, wall_now)
        yield from self._take(said, wall_now)

    def _take(self, said: dict[str, Any], wall_now: float) -> Iterator[Any]:
        self.whole.note(said)
        fault = _error_in(said)
        if fault is not None:
            raise self.rules.error(fault, said, wall_now)
        choice = self._choice_in(said)
        if choice is None:
            return  # a usage, Azure's word on the prompt, a ping; another of several choices
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text = _text_of(delta.get("content"))
            calls = {name: delta[name] for name in _CALLS if delta.get(name)}
            self._content = self._content or bool(text or calls)
            if text:
                yield text
            if calls:
                yield calls
            elif not text:
                self.alive()
        finish = _word(choice.get("finish_reason"))
        if finish is not None:
            self.finished = True
            self.whole.finish = finish
        # Raised at the end: what has come until then is the consumer's.
        if self._late is None:
            judged = {**said, "choices": [choice], "object": "chat.completion.chunk"}
            self._late = _BROKE if finish in BROKEN else self.rules.fault_of(judged)

    def _choice_in(self, said: dict[str, Any]) -> dict[str, Any] | None:
        """What an event says of the answer: of several choices, whose events come in turn, the one
        that has begun first.
        """
        first = _choice_of(said)
        if first is None:
            return None
        if self._index is None:
            self._index = first.get("index", 0)
        mine = [each for each in _choices_of(said) if each.get("index", 0) == self._index]
        return mine[0] if mine else None

    def _refuse_stray(self, wall_now: float) -> None:
        """There is something else, or only that: say what it is."""
        text = "\n".join(self._stray)
        if self._seen:  # what broke the events off may say why
            said = _object_in(text)
            fault = None if said is None else _error_in(said)
            if fault is not None:
                raise self.rules.error(fault, said, wall_now)
            return
        said = _parsed(text.encode(), self.content_type, self.rules, wall_now, _NO_EVENTS)
        raise self.rules.error(_error_in(said) or _JSON, said, wall_now)


def _parsed(
    body: bytes,
    content_type: str,
    rules: CompletionRules,
    wall_now: float,
    otherwise: Fault = _NO_JSON,
) -> dict[str, Any]:
    """The JSON object that a body is."""
    text = body.decode("utf-8-sig", "replace").strip()
    if not text:
        raise rules.error(_EMPTY_BODY, None, wall_now)
    if answers.html_page(text) is not None:
        raise rules.error(_PAGE, None, wall_now)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):  # without the error: it holds the text
        fault = _PAGE if "html" in content_type.lower() else otherwise
        raise rules.error(fault, None, wall_now) from None
    if not isinstance(said, dict):
        raise rules.error(_NO_COMPLETION, None, wall_now)
    return said


def _object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None if it is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _choice_of(said: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice, whatever else there is."""
    found = _choices_of(said)
    return next((each for each in found if each.get("index", 0) == 0), found[0] if found else None)


def _choices_of(said: dict[str, Any]) -> list[dict[str, Any]]:
    choices = said.get("choices")
    return [each for each in choices if isinstance(each, dict)] if type(choices) is list else []


def _text_of(content: Any) -> str | None:
    """A text, or those of its parts; None where there is none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [each.get("text") for each in content if isinstance(each, dict)]
    texts = [each for each in parts if isinstance(each, str)]
    return "".join(texts) if texts else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _error_in(said: dict[str, Any]) -> Fault | None:
    """An error that stands where an answer should."""
    fault = answers.error_flag(said)
    if fault is None and not isinstance(said.get("choices"), list):
        reading = read(said)
        fault = None if reading is None else reading.fault
    return fault
