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
from greenroom.messages.errors import UnsuccessfulResultError
from greenroom.messages.status import FailureKind

LINE_LIMIT = 8 * 1024 * 1024
"""Characters of an event that are too many."""

_UNFIT = (
    FailureKind.TOO_LARGE
)  # another member may do better, and this one is none the worse for it


def _away(reason: str) -> Fault:
    return Fault(reason, FailureKind.UNAVAILABLE)


_EMPTY_BODY = _away("an empty body")
_NO_JSON = _away("what is no JSON, or was cut off")
_NO_COMPLETION = _away("JSON that is no completion")
_PAGE = _away("an HTML page instead of a completion")
_JSON = _away("JSON instead of events")
_NO_EVENTS = _away("what are no events")
_BAD_EVENT = _away("a malformed event")
_CUT = _away("a stream that ended with neither a finish_reason nor [DONE]")
_NOTHING = _away("a stream without content")
_BROKE = _away("a stream that ended with an error")
_TOO_LONG = _away("an event of more than 8 million characters")


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
    said = _parsed(body, content_type, rules, wall_now)
    fault = rules.fault_of(said) or _error_in(said)
    fault = fault or answers.auto(said) or answers.no_choices(said)
    if fault is not None:
        raise rules.error(fault, said, wall_now)
    choice = _choice_of(said)
    message = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        raise rules.error(_NO_COMPLETION, said, wall_now)
    text = _text_of(message.get("content"))
    calls = message.get("tool_calls")
    if text is None and not calls:
        raise rules.error(_NO_COMPLETION, said, wall_now)
    found = Completion(message if calls else text, finish=_word(choice.get("finish_reason")))
    found.note(said)
    return found


@dataclass(slots=True)
class CompletionStream:
    """Reads an answer that comes in events, a line at a time.

    What it gives of each event: its text; of tool calls `{"tool_calls": [...]}`, as they come.

    Args:
        alive: called for an event that carries something, but nothing to be passed on: a thought.
    """

    rules: CompletionRules
    content_type: str
    alive: Callable[[], object] = lambda: None
    whole: Completion = field(default_factory=Completion)
    _data: list[str] = field(default_factory=list)
    _size: int = 0
    _stray: list[str] = field(default_factory=list)
    _done: bool = False
    _finished: bool = False
    _content: bool = False
    _seen: bool = False
    _late: Fault | None = None

    def feed(self, line: str, wall_now: float) -> Iterator[Any]:
        """Take in a line, without its end.

        Raises:
            UnsuccessfulResultError: it shows that this is no answer.
        """
        if self._done:
            return
        if not line:
            yield from self._event(wall_now)
            return
        name, colon, value = line.partition(":")
        if name == "data" and colon:
            self._seen = True
            self._size += len(value)
            if self._size > LINE_LIMIT:
                raise self.rules.error(_TOO_LONG, None, wall_now)
            self._data.append(value.removeprefix(" "))
            # Servers that leave out the empty line behind an event are not rare.
            if value.strip() == "[DONE]" or self._is_whole():
                yield from self._event(wall_now)
        elif name in ("", "event", "id", "retry"):  # a comment, a keep-alive; what is no data
            self._seen = self._seen or name != ""
        else:
            self._stray.append(line)
            self._size += len(line)
            if self._size > LINE_LIMIT:
                raise self.rules.error(_TOO_LONG, None, wall_now)

    def end(self, wall_now: float) -> Iterator[Any]:
        """There is no more.

        Raises:
            UnsuccessfulResultError: what has come is no whole answer.
        """
        if not self._done:
            yield from self._event(wall_now)
        if self._stray and not self._seen:
            self._refuse_stray(wall_now)
        if self._late is not None:
            raise self.rules.error(self._late, None, wall_now)
        if not self._done and not self._finished:
            raise self.rules.error(_CUT if self._seen else _NOTHING, None, wall_now)
        if not self._content:
            raise self.rules.error(_NOTHING, None, wall_now)

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
            self._done = True
            return
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            raise self.rules.error(_BAD_EVENT, None, wall_now) from None
        if not isinstance(said, dict):
            raise self.rules.error(_BAD_EVENT, None, wall_now)
        yield from self._take(said, wall_now)

    def _take(self, said: dict[str, Any], wall_now: float) -> Iterator[Any]:
        self.whole.note(said)
        fault = _error_in(said)
        if fault is not None:
            raise self.rules.error(fault, said, wall_now)
        choice = _choice_of(said)
        if choice is None:
            return  # a usage, Azure's word on the prompt, a ping
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text, calls = _text_of(delta.get("content")), delta.get("tool_calls")
            self._content = self._content or bool(text or calls)
            if text:
                yield text
            if calls:
                yield {"tool_calls": calls}
            elif not text:
                self.alive()
        finish = _word(choice.get("finish_reason"))
        if finish is not None:
            self._finished = True
            self.whole.finish = finish
        # Raised at the end: what has come until then is the consumer's.
        if self._late is None:
            self._late = _BROKE if finish in BROKEN else self.rules.fault_of(said)

    def _refuse_stray(self, wall_now: float) -> None:
        """It is none of events: say what it is."""
        text = "\n".join(self._stray)
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
    if "html" in content_type.lower() or answers.html_page(text) is not None:
        raise rules.error(_PAGE, None, wall_now)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):  # without the error: it holds the text
        raise rules.error(otherwise, None, wall_now) from None
    if not isinstance(said, dict):
        raise rules.error(_NO_COMPLETION, None, wall_now)
    return said


def _choice_of(said: dict[str, Any]) -> dict[str, Any] | None:
    """The first choice, whatever else there is."""
    choices = said.get("choices")
    if not isinstance(choices, list):
        return None
    found = [each for each in choices if isinstance(each, dict)]
    return next((each for each in found if each.get("index", 0) == 0), found[0] if found else None)


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
