"""What the events of an agent's run say of it: whether it has begun to answer, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from google.adk.events.event import Event
from google.genai.types import Part

from greenroom.actors.reading import error_words as words
from greenroom.actors.reading.answer_shapes import CUT_SHORT, FILTERED
from greenroom.actors.reading.classify import Verdict, classify_value
from greenroom.messages.errors import UnsuccessfulResultError
from greenroom.messages.pickling import masked
from greenroom.messages.status import FailureKind

_LONGEST_REASON = 300
_OF_A_TEXT = ("text", "thought", "thought_signature")


class EventJudge:
    """Takes the events of one run, and says which of them are to be passed on, and when.

    An error event is held back as long as nothing has been answered: ADK yields one and then
    raises, and what it raises says more. It is passed on where the run goes on to an answer, and
    dropped where another member is going to answer.

    Attributes:
        begun: whether an event with content has come.
        told: whether what the run has failed by was passed on as its answer.
    """

    def __init__(self) -> None:
        self.begun = False
        self.told = False
        self._any = False
        self._error: Event | None = None
        self._held: list[Event] = []

    def take(self, event: Event) -> Sequence[Event]:
        """What is to be passed on now, in order."""
        self._any = True
        if is_error(event):
            self._error = event
            if self.begun:
                return (event,)
            self._held.append(event)
            return ()
        if not has_content(event):
            return (event,)
        self.begun, self._error = True, None
        return (*self.held(), event)

    def held(self) -> Sequence[Event]:
        """What has been held back, to be passed on after all."""
        held, self._held = self._held, []
        return held

    def failure(self, member: str) -> UnsuccessfulResultError | None:
        """What a run has failed by that has come to its end without raising; None if it has not."""
        if not self._any:
            return UnsuccessfulResultError(f"{member} failed: it has brought no event")
        if self._error is None:
            return None
        verdict = verdict_on(self._error)
        return UnsuccessfulResultError(
            f"{member} failed: {_reason(self._error)}",
            kind=verdict.kind,
            retry_after_s=verdict.retry_after_s,
            opens_at_once=verdict.opens_at_once,
        )


def is_error(event: Event) -> bool:
    """Whether it has an error in place of an answer: one that was cut off at its length has both. A
    thought or a blank text is none, as ADK has it.
    """
    fault = event.error_code or event.error_message
    return bool(fault) and not any(_answers(part) for part in _parts(event))


def has_content(event: Event) -> bool:
    """Whether it brings something that cannot be taken back: a part of an answer, a call of a tool,
    the output of a node, or that another agent goes on.
    """
    actions = event.actions
    if event.output is not None or actions.transfer_to_agent or actions.escalate:
        return True
    return any(_says_something(part) for part in _parts(event))


def verdict_on(event: Event) -> Verdict:
    """Of which kind an error event is, by its code: an HTTP status, a status of Google's, the name
    of an exception's class, or a finish reason.
    """
    code = str(getattr(event.error_code, "value", event.error_code) or "")
    if code.lower() in FILTERED:
        return Verdict(FailureKind.CALLER)
    if code.lower() in CUT_SHORT:
        return Verdict(FailureKind.TOO_LARGE)
    verdict = classify_value(event)
    if verdict.kind is FailureKind.UNKNOWN:
        status = words.by_name([code])
        if status is not None:
            return Verdict(words.kind_of_status(status))
    return verdict


def _parts(event: Event) -> Sequence[Part]:
    content = event.content
    return () if content is None else content.parts or ()


def _says_something(part: Part) -> bool:
    """Not so the empty text that begins or ends many a stream."""
    return bool(part.text) or _has_more_than_text(part)


def _answers(part: Part) -> bool:
    text = "" if part.thought else part.text or ""
    return bool(text.strip()) or _has_more_than_text(part)


def _has_more_than_text(part: Part) -> bool:
    return any(value is not None for name, value in part if name not in _OF_A_TEXT)


def _reason(event: Event) -> str:
    code = getattr(event.error_code, "value", event.error_code)
    said = ": ".join(str(each) for each in (code, event.error_message) if each)
    return masked(" ".join(said.split()))[:_LONGEST_REASON]
