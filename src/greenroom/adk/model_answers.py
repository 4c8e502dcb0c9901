"""What the responses of a model say: whether one is an answer, and what of it may be passed on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from google.adk.models.llm_response import LlmResponse
from google.genai.types import FinishReason, Part

from greenroom.actors.reading.answer_judgement import found_by, includes_auto, refusal_of
from greenroom.actors.reading.answer_shapes import CUT_SHORT, FILTERED, NO_ROOM, Fault
from greenroom.actors.reading.classify import classify_value
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import FailureKind

_BLOCKED_BY = FILTERED | {
    "image_prohibited_content",
    "image_recitation",
    "jailbreak",
    "model_armor",
}
_BROKEN = frozenset({"malformed_function_call", "too_many_tool_calls", "unexpected_tool_call"})
_ABOUT_PARTS = frozenset(
    {"text", "thought", "thought_signature", "video_metadata", "media_resolution", "part_metadata"}
)
_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,80}")

BLOCKED = Fault("an answer that a content filter has stopped", FailureKind.CALLER)
_NO_ANSWER = Fault("no answer at all")
_EMPTY = Fault("an answer without content")
_NO_END = Fault("a stream without its last, whole response", FailureKind.UNAVAILABLE)


def word_of(code: object) -> str:
    """A code or a finish reason as a word in lower case; "" for none."""
    return str(getattr(code, "value", code) or "").lower()


def is_blocked(response: LlmResponse) -> bool:
    """Whether a content filter has stopped it, or the prompt."""
    return (
        word_of(response.error_code) in _BLOCKED_BY
        or word_of(response.finish_reason) in _BLOCKED_BY
    )


def is_cut_short(response: LlmResponse) -> bool:
    """Whether it ends at its length."""
    said = (word_of(response.error_code), word_of(response.finish_reason))
    return not CUT_SHORT.isdisjoint(said)


def error_in(response: LlmResponse) -> Fault | None:
    """The failure of which its error code tells; None where that is about the request, or there is
    none.
    """
    if is_blocked(response) or is_cut_short(response):
        return None
    fault = fault_of_code(response)
    return None if fault is None or fault.kind is FailureKind.CALLER else fault


def fault_of_code(response: LlmResponse) -> Fault | None:
    """An error by its code. That is told where it is a word: no more of it is fit for a log.

    A code that says why an answer ends is none beside the answer: a stream has it where a whole
    response has not. It is one where the answer has broken.
    """
    word = word_of(response.error_code)
    repeats = word == word_of(response.finish_reason) and word not in _BROKEN
    if not word or (repeats and answers(response)):
        return None
    code = str(getattr(response.error_code, "value", response.error_code))
    named = f" {code}" if _CODE.fullmatch(code) else ""
    return Fault(f"an answer with the error code{named}", classify_value(response).kind)


def shows(response: LlmResponse) -> bool:
    """Whether there is anything in it for a reader: a text or a thought, a call, a file."""
    return any(map(_says, _parts(response)))


def answers(response: LlmResponse) -> bool:
    """Whether it holds more than thoughts."""
    if response.grounding_metadata is not None:
        return True
    return any(_says(each) for each in _parts(response) if not each.thought)


def text_of(response: LlmResponse) -> str:
    """Its text, without thoughts."""
    return "".join(each.text for each in _parts(response) if each.text and not each.thought)


def _parts(response: LlmResponse) -> Sequence[Part]:
    content = response.content
    return () if content is None else content.parts or ()


def _says(part: Part) -> bool:
    if part.text:
        return bool(part.text.strip())
    return any(value is not None for name, value in part if name not in _ABOUT_PARTS)


class AnswerRules:
    """How a pool's settings judge the answers of models.

    Args:
        config: its `is_failure`, `is_empty` and `stream_complete` are given `LlmResponse`s.
    """

    def __init__(self, config: PoolConfig) -> None:
        given = config.is_failure
        self.custom: Callable[[Any], object] | None = given if callable(given) else None
        self.auto = includes_auto(given)
        self.is_empty = config.is_empty if callable(config.is_empty) else _shows_nothing
        self.complete = config.stream_complete

    def fault_of(self, response: LlmResponse) -> Fault | None:
        """What is wrong with a response by itself."""
        found = error_in(response) if self.auto else None
        if found is None and self.custom is not None and not response.partial:
            return found_by(self.custom, response)
        return found

    def is_end(self, response: LlmResponse) -> bool:
        """Whether a stream that had this one is whole."""
        if callable(self.complete):
            return bool(self.complete(response))
        return self.complete is None or not response.partial


def _shows_nothing(response: LlmResponse) -> bool:
    return not shows(response)


class Turn:
    """One model's answer as it comes: what may be passed on, and whether it is an answer.

    Of a stream everything is passed on from the first response on that shows something, but for the
    last whole one: that is for the time when the model is no longer needed, since an agent runs its
    tools when it has it. Of an answer that is not streamed all is kept until then.

    Args:
        rules: how it is judged.
        member: whose answer it is.
        streams: whether it is passed on as it comes.
        may_be_empty: whether there may be nothing to add, behind what a tool has returned.
    """

    def __init__(self, rules: AnswerRules, member: str, streams: bool, may_be_empty: bool) -> None:
        self._rules = rules
        self._member = member
        self._streams = streams
        self._may_be_empty = may_be_empty
        self._kept: list[LlmResponse] = []
        self._begun = self._answered = self._ended = False
        self._fault: tuple[Fault, LlmResponse] | None = None
        self._last: LlmResponse | None = None

    def take(self, response: LlmResponse) -> list[LlmResponse]:
        """What may be passed on, now that there is this one."""
        self._last = response
        self._note(response)
        self._kept.append(response)
        if not self._streams or not self._begun or self._fault is not None:
            return []
        at = len(self._kept) if response.partial else len(self._kept) - 1
        ready, self._kept = self._kept[:at], self._kept[at:]
        return ready

    def counts(self, response: LlmResponse) -> bool:
        """Whether it is more than a sign of life."""
        return not self._rules.is_empty(response)

    def end(self) -> list[LlmResponse]:
        """The model has ended: what has been kept.

        Raises:
            UnsuccessfulResultError: what it has said is no answer.
        """
        fault, about = self._fault or (self._fault_of_all(), self._last)
        if fault is not None:
            raise refusal_of(fault, about, self._member, 0.0)
        return self._kept

    def _note(self, response: LlmResponse) -> None:
        fault = self._rules.fault_of(response)
        # Of an error that a whole response follows that one knows more: a stream's end repeats it.
        if fault is not None or not response.partial:
            self._fault = None if fault is None else (fault, response)
        self._begun = self._begun or self.counts(response)
        self._answered = self._answered or answers(response) or is_blocked(response)
        self._ended = self._ended or self._rules.is_end(response)

    def _fault_of_all(self) -> Fault | None:
        last = self._last
        if last is None:
            return _NO_ANSWER if self._rules.auto else None
        if self._streams and not self._ended:
            return _NO_END
        if self._answered or not self._rules.auto:
            return None
        if is_cut_short(last):
            return NO_ROOM
        silent = self._may_be_empty and last.finish_reason is not FinishReason.STOP
        return None if silent or last.error_code else _EMPTY
