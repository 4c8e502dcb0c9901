"""What the events of a run say: its text, what was wrong with it, and what it took."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from google.adk.events import Event
from google.genai.types import GenerateContentResponseUsageMetadata
from pydantic_core import to_json

from greenroom.actors.reading.answer_judgement import refusal_of
from greenroom.actors.reading.answer_shapes import NO_ROOM, Fault
from greenroom.adk.model_answers import BLOCKED, fault_of_code, is_blocked, is_cut_short, text_of

_NO_TEXT = Fault("no final text")
_WAITS = Fault("no final text: it waits for a tool")


class _Final(NamedTuple):
    """The last word of a run.

    Attributes:
        said: whether it was said as a text; else it is the output of a node, or of a tool.
    """

    text: str
    event: Event
    said: bool = True


class Said:
    """What a run has said so far.

    Args:
        name: of the agent, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._final: _Final | None = None
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
        if self._concludes(event, text) or speaker in self._shown:
            return self._rest(speaker, text)
        return ""

    def unsaid(self) -> str:
        """What a stream wants at its end: a last word that was not said as a text."""
        return "" if self._final is None or self._final.said else self._final.text

    def end(self) -> str:
        """The final text.

        Raises:
            UnsuccessfulResultError: there is none, or an error came behind it.
        """
        if self._final is None:
            fault, event = self._fault
            raise refusal_of(fault, event, self._name, 0.0)
        return self._final.text

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the answer, for `Reply.metadata`."""
        found: dict[str, Any] = {}
        if self._final is not None:
            found["agent"] = self._final.event.author
            if is_cut_short(self._final.event):
                found["finish_reason"] = "length"
        if self._model is not None:
            found["model"] = self._model
        if self._usage:
            found["usage"] = dict(self._usage)
        return found

    def _concludes(self, event: Event, text: str) -> bool:
        """Whether its text is an answer. The last word counts: another agent may go on after an
        error, and a node after an agent.
        """
        fault = _fault_in(event, text) if event.is_final_response() else None
        if fault is not None:
            self._final, self._fault = None, (fault, event)
        elif event.is_final_response() and text.strip():
            self._final = _Final(text, event)
            return True
        elif (result := _result_of(event)) is not None:
            self._final = _Final(_words_of(result), event, said=False)
        elif event.long_running_tool_ids:
            self._final, self._fault = None, (_WAITS, None)
        return False

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


def _result_of(event: Event) -> object:
    """What a node has put out, or a tool that answers in the agent's place; None where none has."""
    responses = event.get_function_responses()
    if event.output is not None or not (event.actions.skip_summarization and responses):
        return event.output
    response = responses[-1].response or {}
    return response.get("result", response)


def _words_of(result: object) -> str:
    """A text as it is, anything else as JSON."""
    return result if isinstance(result, str) else to_json(result, fallback=str).decode()
