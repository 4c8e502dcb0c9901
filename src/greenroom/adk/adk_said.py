"""What the events of a run say: its text, what was wrong with it, and what it took."""

from __future__ import annotations

from collections import Counter
from typing import Any

from google.adk.events import Event
from google.genai.types import GenerateContentResponseUsageMetadata

from greenroom.actors.reading.answer_judgement import refusal_of
from greenroom.actors.reading.answer_shapes import NO_ROOM, Fault
from greenroom.adk.model_answers import BLOCKED, fault_of_code, is_blocked, is_cut_short, text_of

_NO_TEXT = Fault("no final text")
_WAITS = Fault("no final text: it waits for a tool")


class Said:
    """What a run has said so far.

    Args:
        name: of the agent, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._final: Event | None = None
        self._fault: tuple[Fault, Event | None] = (_NO_TEXT, None)
        self._shown: dict[tuple[str, str | None], str] = {}
        self._usage: Counter[str] = Counter()
        self._model: str | None = None

    def take(self, event: Event) -> str:
        """The piece of text that this event adds to a stream; "" where there is none."""
        text = text_of(event)
        speaker = (event.author, event.branch)
        if event.partial:
            self._shown[speaker] = self._shown.get(speaker, "") + text
            return text
        self._count(event.usage_metadata)
        self._model = event.model_version or self._model
        if event.is_final_response():
            return self._rest(speaker, text) if self._conclude(event, text) else ""
        return self._rest(speaker, text) if speaker in self._shown else ""

    def end(self) -> str:
        """The final text.

        Raises:
            UnsuccessfulResultError: there is none, or an error came behind it.
        """
        if self._final is None:
            fault, event = self._fault
            raise refusal_of(fault, event, self._name, 0.0)
        return text_of(self._final)

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the answer, for `Reply.metadata`."""
        found: dict[str, Any] = {}
        if self._final is not None:
            found["agent"] = self._final.author
            if is_cut_short(self._final):
                found["finish_reason"] = "length"
        if self._model is not None:
            found["model"] = self._model
        if self._usage:
            found["usage"] = dict(self._usage)
        return found

    def _conclude(self, event: Event, text: str) -> bool:
        """Whether it is an answer. The last word counts: another agent may go on after an error."""
        fault = _fault_in(event, text)
        if fault is not None:
            self._final, self._fault = None, (fault, event)
        elif text.strip():
            self._final = event
        elif event.long_running_tool_ids:
            self._final, self._fault = None, (_WAITS, None)
        return fault is None

    def _rest(self, speaker: tuple[str, str | None], text: str) -> str:
        """What of a whole text has not been shown piece by piece."""
        shown = self._shown.pop(speaker, "")
        return text[len(shown) :] if text.startswith(shown) else ""

    def _count(self, usage: GenerateContentResponseUsageMetadata | None) -> None:
        if usage is None:
            return
        made = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        self._usage["prompt_tokens"] += usage.prompt_token_count or 0
        self._usage["completion_tokens"] += made
        self._usage["total_tokens"] += usage.total_token_count or 0


def _fault_in(event: Event, text: str) -> Fault | None:
    """What is wrong with a final response."""
    if is_blocked(event):
        return BLOCKED
    if is_cut_short(event):
        return None if text.strip() else NO_ROOM
    return fault_of_code(event)
