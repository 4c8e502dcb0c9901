"""What the answers and chunks of clients say, by their shapes: no client is imported.

Each reader knows the shape of one family of them and says of a value: whether there is anything in
it, why it ends, and what is wrong with it. It recognises a shape by several names together, so that
an object of an app that happens to have one of them is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from greenroom.actors.reading import error_words as words
from greenroom.actors.reading.streamable import is_stream
from greenroom.actors.reading.value_access import (
    Record,
    filled,
    get,
    has,
    items,
    number,
    record,
    word,
)
from greenroom.messages.status import FailureKind


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value that was returned is a failure; true wherever a bool is wanted.

    Attributes:
        reason: in words that may stand in a log: never the value, nor a part of it.
        kind: what kind of failure it is; None: as the value's own status and error say.
        otherwise: what kind it is if they say nothing.
    """

    reason: str
    kind: FailureKind | None = None
    otherwise: FailureKind = FailureKind.UNKNOWN


@dataclass(slots=True)
class Reading:
    """What a value of a known shape says.

    Attributes:
        content: whether it carries a text, a tool call or anything else that was asked for.
        finish: why the answer ends, in the client's own word; "" when it does not say.
        fault: what is wrong with it, whoever asked.
        listed: False when it is to have a list of choices, and there is none in it.
        marks: whether streams of its kind end with a mark.
        ended: whether it is that mark.
        refused: whether the model says in so many words that it will not answer.
        about: in what the fault was found, where that is not the value itself.
        may_be_empty: whether it is a whole answer also without content.
    """

    content: bool = False
    finish: str = ""
    fault: Fault | None = None
    listed: bool = True
    marks: bool = False
    ended: bool = False
    refused: bool = False
    about: object = None
    may_be_empty: bool = False


FILTERED = frozenset({
    "blocklist", "content-filter", "content_filter", "content_filtered", "error_toxic",
    "guardrail_intervened", "image_safety", "prohibited_content", "recitation", "refusal", "safety",
    "sensitive", "spii",
})  # fmt: skip
"""The words by which clients say that a content filter has ended the answer."""
CUT_SHORT = frozenset({
    "length", "max_output_tokens", "max_tokens", "model_context_window_exceeded", "model_length",
})  # fmt: skip
"""Those that say that the answer did not fit."""
BROKEN = frozenset({"error", "error_limit", "failed", "network_error"})
"""Those that say that something broke while it was made."""

_FILTER = Fault("an answer that a content filter has stopped", FailureKind.CALLER)
_ERROR = Fault("an answer with an error in it", otherwise=FailureKind.UNAVAILABLE)
NO_ROOM = Fault("an answer that was cut off before any content", FailureKind.TOO_LARGE)
"""Its length went into thoughts, or into the prompt; another member may have room for it."""
_NOTHING = Fault("an answer with nothing in it", FailureKind.UNAVAILABLE)
_TOOL = Fault("a tool's result that says it is an error")
_UNREAD = Fault("a response whose body nobody has read", FailureKind.TOO_LARGE)
_BROKE = Fault("an answer that ends with an error", FailureKind.UNAVAILABLE)

_BESIDE_CONTENT = (
    "tool_calls", "tool_call_chunks", "function_call", "reasoning_content", "reasoning", "thinking",
    "audio", "images", "tool_plan", "refusal",
)  # fmt: skip
_ABOUT_PARTS = frozenset(
    {"type", "text", "thought", "thought_signature", "thoughtSignature", "citations", "annotations"}
)


def read(value: object) -> Reading | None:
    """What a value says; None for one of no known shape. Never raises."""
    held = record(value)
    if not held:
        return None
    try:
        if type(held) is dict and len(held) < len(_READERS) and _NAMES.isdisjoint(held):
            return None
        for name, reader in _READERS:
            if has(held, name):
                if reader is _response and _is_data(value):
                    continue
                reading = reader(held)
                if reading is not None:
                    return reading
    except BaseException:  # keys whose comparison raises, a list that changes meanwhile
        return None
    return None


def _is_data(value: object) -> bool:
    """Whether it only tells of an HTTP response, as a dict or a dataclass of an app's does."""
    kind = type(value)
    return kind is dict or "__dataclass_fields__" in kind.__dict__


def _finished(reading: Reading, finish: str) -> Reading:
    """Note why it ends, where that is said."""
    if finish:
        reading.finish = finish.rsplit(".", 1)[-1]
        reading.ended = True
        reading.refused = reading.refused or reading.finish == "refusal"
        if reading.finish in FILTERED:
            reading.fault = reading.fault or _FILTER
        elif reading.finish in BROKEN:
            reading.fault = reading.fault or _BROKE
    return reading


def _message_says(message: object) -> bool:
    """Whether a message, or the delta of one, carries anything."""
    held = record(message)
    if _says(get(held, "content")):
        return True
    return any(filled(get(held, name)) for name in _BESIDE_CONTENT)


def _says(content: object) -> bool:
    """Whether a text, or a list of parts, or one part, carries anything."""
    parts = items(content)
    if not parts:
        return _part_says(content)
    return any(_part_says(part) for part in parts)


def _part_says(part: object) -> bool:
    held = record(part)
    if not held:
        return filled(part)
    if filled(get(held, "text")):
        return True
    kind = word(get(held, "type"))
    if kind and kind not in ("text", "output_text"):
        return True
    return any(filled(value) for name, value in list(held.items()) if name not in _ABOUT_PARTS)


def _any_of(held: Record, *names: str) -> bool:
    return any(has(held, name) for name in names)


def _first(held: Record, *names: str) -> object:
    """The first of these that is something."""
    return next((get(held, name) for name in names if filled(get(held, name))), None)


# -- answers and chunks


def _chat(held: Record) -> Reading | None:
    """OpenAI's chat completions, whole or in chunks, and those of everybody who speaks like it."""
    choices = get(held, "choices")
    looks = [record(choice) for choice in items(choices)]
    kind = word(get(held, "object"))
    # A question of a quiz may well have choices, and say of which model it is.
    beside = ("created", "usage", "object", "system_fingerprint")
    known = kind.startswith(("chat.completion", "text_completion")) or (
        has(held, "model") and sum(has(held, name) for name in beside) > 1
    )
    if not known and not any(
        has(each, "delta") or (has(each, "message") and has(each, "finish_reason"))
        for each in looks
    ):
        return None
    reading = Reading(listed=bool(looks))
    if filled(get(held, "error")) or kind == "error":
        reading.fault = _ERROR
    for choice, each in zip(items(choices), looks, strict=True):
        chunk = type(choice) is not dict and has(each, "delta") and has(each, "index")
        reading.marks = reading.marks or chunk or has(each, "finish_reason")
        if filled(get(each, "error")):
            reading.fault = _ERROR
        for body in ("message", "delta"):
            reading.content = reading.content or _message_says(get(each, body))
            reading.refused = reading.refused or filled(get(record(get(each, body)), "refusal"))
        finish = word(get(each, "finish_reason"))
        # There may be nothing to fill in where a text was to be completed.
        filled_in = bool(finish) and kind.startswith("text_completion")
        reading.content = reading.content or filled_in or filled(get(each, "text"))
        _finished(reading, finish)
    return reading


_OF_GEMINI_CHATS = (
    "candidates", "prompt_feedback", "promptFeedback", "automatic_function_calling_history",
)  # fmt: skip


def _gemini(held: Record) -> Reading | None:
    """Google's generateContent, whole or in chunks, in both spellings."""
    candidates = [record(each) for each in items(get(held, "candidates"))]
    known = _any_of(
        held,
        "usage_metadata",
        "usageMetadata",
        "prompt_feedback",
        "promptFeedback",
        "model_version",
        "modelVersion",
    ) or any(_any_of(each, "finishReason", "finish_reason") for each in candidates)
    known = known or any(has(record(get(each, "content")), "parts") for each in candidates)
    if not known and not has(held, "automatic_function_calling_history"):
        return None
    if not _any_of(held, *_OF_GEMINI_CHATS):
        return None  # embeddings, images, files come with the same metadata
    reading = Reading(listed=bool(candidates), marks=True)
    told = ("candidates", "usage_metadata", "prompt_feedback", "model_version")
    if has(held, "sdk_http_response") and _first(held, *told) is None:
        reading.fault = _NOTHING
    feedback = record(_first(held, "prompt_feedback", "promptFeedback"))
    if filled(_first(feedback, "block_reason", "blockReason")):
        reading.fault, reading.ended = _FILTER, True
    for each in candidates:
        content = record(get(each, "content"))
        reading.content = reading.content or _says(get(content, "parts"))
        finish = word(_first(each, "finish_reason", "finishReason"))
        _finished(reading, "" if finish == "finish_reason_unspecified" else finish)
    return reading


def _message(held: Record) -> Reading | None:
    """A message of Anthropic's."""
    if not has(held, "content") or not _any_of(held, "role", "usage"):
        return None
    if word(get(held, "role")) not in ("", "assistant"):
        return None
    finish = word(get(held, "stop_reason"))
    reading = Reading(content=_says(get(held, "content")))
    reading.may_be_empty = _silent_on_purpose(finish, get(held, "usage"))
    if filled(get(held, "error")):
        reading.fault = _ERROR
    return _finished(reading, finish)


_TOKENS_OF_SILENCE = range(1, 4)


def _whole_message(held: Record) -> Reading | None:
    """The same, told apart from an app's own message with such names."""
    own = word(get(held, "type")) != "message" and not (has(held, "usage") and has(held, "model"))
    return None if own else _message(held)


def _silent_on_purpose(finish: str, usage: object) -> bool:
    """Whether an answer is empty as it should be: its first word was the request's own stop
    sequence, or Claude had nothing to add to the results of a tool. It ends its turn in "exactly
    2-3 tokens" then, and would do so again (Anthropic, "Handling stop reasons").
    """
    if finish == "stop_sequence":
        return True
    tokens = number(get(record(usage), "output_tokens"))
    return finish == "end_turn" and tokens in _TOKENS_OF_SILENCE


_LANGCHAIN_ENDS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_LANGCHAIN_MARKS = frozenset({"anthropic", "openai"})
_LANGCHAIN_STATES = frozenset({"completed", "failed", "incomplete"})


def _langchain(held: Record) -> Reading | None:
    """A message of LangChain's, whole or a chunk; or what a tool of its has to say."""
    kind = word(get(held, "type"))
    if kind == "tool" and has(held, "tool_call_id"):
        return Reading(content=True, fault=_TOOL if word(get(held, "status")) == "error" else None)
    if kind not in ("ai", "aimessage", "aimessagechunk"):
        return None
    about = record(get(held, "response_metadata"))
    reading = Reading(content=_message_says(held) or filled(get(held, "invalid_tool_calls")))
    reading.content = reading.content or bool(record(get(held, "additional_kwargs")))
    finish = word(get(about, "stop_reason"))
    silent = _silent_on_purpose(finish, get(held, "usage_metadata"))
    reading.may_be_empty = silent or not about  # an app makes such messages by itself as well
    reading.marks = word(get(about, "model_provider")) in _LANGCHAIN_MARKS
    if filled(get(record(get(about, "prompt_feedback")), "block_reason")):
        finish = word(get(record(get(about, "prompt_feedback")), "block_reason"))
        reading.fault = None if finish in ("0", "blocked_reason_unspecified") else _FILTER
    _finished(reading, word(_first(about, *_LANGCHAIN_ENDS)))
    status = word(get(about, "status"))
    if status in _LANGCHAIN_STATES:
        _finished(reading, status)
    return reading


def _output(held: Record) -> Reading | None:
    """What comes under `output`: from OpenAI's Responses, DashScope or Bedrock."""
    if has(held, "ResponseMetadata") or has(held, "stopReason"):
        return _bedrock(held)
    if has(held, "request_id"):
        return _dashscope(held)
    kind = word(get(held, "object"))
    if kind != "response" and not _any_of(held, "incomplete_details", "parallel_tool_calls"):
        return None
    output, status = items(get(held, "output")), word(get(held, "status"))
    reading = Reading(content=status in ("cancelled", "in_progress", "queued"), listed=bool(output))
    for item in map(record, output):
        parts = items(get(item, "content"))
        other = word(get(item, "type")) != "message"
        reading.content = reading.content or other or _says(get(item, "content"))
        refusals = (word(get(record(part), "type")) == "refusal" for part in parts)
        reading.refused = reading.refused or any(refusals)
    reading.listed = reading.listed or reading.content
    if filled(get(held, "error")) or status == "failed":
        reading.fault = _ERROR
    return _finished(reading, word(get(record(get(held, "incomplete_details")), "reason")))


_OF_TEXTS = frozenset({"choices", "finish_reason", "search_info", "text"})


def _dashscope(held: Record) -> Reading | None:
    if not _any_of(held, "status_code", "code", "usage"):
        return None
    status = number(get(held, "status_code"))
    if status is not None and 400 <= status <= 599:
        # In a stream the client says 400 of every error.
        internal = word(get(held, "code")).startswith("internal")
        kind = FailureKind.UNAVAILABLE if internal else None
        return Reading(fault=Fault(f"a response with HTTP status {status}", kind), ended=True)
    output = get(held, "output")
    if not filled(output):
        return Reading(fault=_ERROR, ended=True) if filled(get(held, "code")) else None
    inner = record(output)
    others = (filled(what) for name, what in list(inner.items()) if name not in _OF_TEXTS)
    if any(others) or not _any_of(inner, "choices", "text"):
        return Reading(content=True)  # an image, speech, embeddings, a task
    looks = [record(choice) for choice in items(get(inner, "choices"))]
    text = filled(get(inner, "text"))
    reading = Reading(content=text, listed=text or bool(looks), marks=True)
    _finished(reading, word(get(inner, "finish_reason")))
    for each in looks:
        reading.content = reading.content or _message_says(get(each, "message"))
        _finished(reading, word(get(each, "finish_reason")))
    return reading


def _bedrock(held: Record) -> Reading | None:
    """A response of boto3's; what a call that only does something returns is left alone."""
    about = record(get(held, "ResponseMetadata"))
    headers = record(get(about, "HTTPHeaders"))
    if word(get(headers, "content-type")).startswith("text/html"):
        return Reading(fault=Fault("an HTML page", FailureKind.UNAVAILABLE))
    if about and any(_is_unread(value) for value in list(held.values())):
        return Reading(fault=_UNREAD)
    if not _any_of(held, "stopReason", "output"):
        return None
    message = get(record(get(held, "output")), "message")
    finish = word(get(held, "stopReason"))
    reading = Reading(content=_message_says(message), may_be_empty=finish == "stop_sequence")
    return _finished(reading, finish)


def _is_unread(value: object) -> bool:
    """Whether it is a body of botocore's: `EventStream`, `StreamingBody`."""
    package = type(value).__module__.partition(".")[0]
    return package in ("botocore", "aiobotocore") and is_stream(value)


def _ollama(held: Record) -> Reading | None:
    """Ollama's chat and generate, whole or in chunks."""
    if not has(held, "model") or not _any_of(held, "message", "response"):
        return None
    if not record(get(held, "message")) and not _any_of(held, "created_at", "done_reason"):
        return None
    ended = get(held, "done") is True
    finish = word(get(held, "done_reason"))
    reading = Reading(content=finish in ("load", "unload"), marks=True)
    reading.content = reading.content or _message_says(get(held, "message"))
    reading.content = reading.content or any(
        filled(get(held, name)) for name in ("response", "thinking", "image")
    )
    if ended:
        _finished(reading, finish or "stop")
    return reading


_COHERE_ENDS = frozenset({"complete", "stop_sequence", "timeout", "tool_call", "user_cancel"})


def _cohere(held: Record) -> Reading | None:
    """A whole answer of Cohere's, which is told apart by why it ends."""
    if not _any_of(held, "message", "text") or not _any_of(held, "id", "generation_id", "usage"):
        return None
    finish = word(get(held, "finish_reason"))
    if finish not in _COHERE_ENDS | FILTERED | CUT_SHORT | BROKEN:
        return None
    says = _message_says(get(held, "message")) or filled(get(held, "text"))
    reading = Reading(content=says or filled(get(held, "tool_calls")))
    reading.may_be_empty = finish == "stop_sequence"
    return _finished(reading, finish)


def _tool(held: Record) -> Reading | None:
    """The result of an MCP tool."""
    if not has(held, "content"):
        return None
    says_so = get(held, "isError") is True or get(held, "is_error") is True
    named = has(held, "isError") or _any_of(held, "structuredContent", "structured_content")
    if not named:
        return None
    return Reading(content=True, fault=_TOOL if says_so else None)


def _of_session(held: Record) -> Reading | None:
    """What comes before the last message of a Claude agent's session."""
    event = get(held, "event")
    if filled(event):
        reading = _event(record(event)) if has(held, "session_id") else None
    elif has(held, "content"):
        reading = _message(held)
    else:
        about = record(get(held, "data"))
        system = has(about, "session_id") and has(held, "subtype") and len(held) == 2
        reading = Reading() if system else None
    if reading is not None:  # a session goes on after a message has ended
        reading.marks, reading.ended = True, False
    return reading


def _session(held: Record) -> Reading | None:
    """The last message of a Claude agent's session, or an MCP tool's result."""
    if not has(held, "session_id") or not has(held, "subtype"):
        return _tool(held)
    reading = Reading(content=True, marks=True, ended=True)
    if get(held, "is_error") is True:
        reading.fault = Fault("the result of a session that says it is an error")
    return reading


_STATES_AT_THE_END = frozenset(
    {"auth_required", "canceled", "completed", "failed", "input_required", "rejected"}
)


def _task(held: Record) -> Reading | None:
    """A task of A2A's, or the news of one."""
    status = record(get(held, "status"))
    state = word(get(status, "state")).removeprefix("task_state_").replace("-", "_")
    if not state or not _any_of(held, "context_id", "contextId"):
        return None
    said = filled(get(status, "message"))
    ended = state in _STATES_AT_THE_END
    content = said or ended or filled(get(held, "artifacts"))
    reading = Reading(content=content, marks=True, ended=ended)
    if state in ("failed", "rejected"):
        reading.fault = Fault(f"a task that is {state}")
    return reading


def _of_task(held: Record) -> Reading | None:
    """An event of A2A's."""
    update = _first(held, "status_update", "statusUpdate")
    if update is not None:
        return _task(record(update))
    if has(held, "task"):
        return _task(record(get(held, "task")))
    artifact = record(_first(held, "artifact_update", "artifactUpdate"))
    return Reading(content=True, marks=True) if has(artifact, "artifact") else None


_BODY = frozenset({
    "choices", "created", "error", "id", "jsonrpc", "model", "object", "provider", "request_id",
    "status", "success", "system_fingerprint", "type", "usage", "user_id",
})  # fmt: skip
_OF_JOBS = frozenset({"canceled", "cancelled", "expired", "failed", "invalid"})
"""States in which a job is told of, which one may well ask for."""
_OF_ERRORS = ("code", "metadata", "param", "status", "type")


def _error(held: Record) -> Reading | None:
    """The body of an error: an error with a message and its kind, and no answer beside it."""
    error = record(get(held, "error"))
    if len(held) > len(_BODY) or not _BODY.issuperset(held):
        return None
    if type(get(error, "message")) is not str or not _any_of(error, *_OF_ERRORS):
        return None
    if word(get(held, "status")) in _OF_JOBS:
        return None
    return Reading(fault=_ERROR, ended=True)


def _error_object(held: Record) -> Reading | None:
    """The body of an error that has its message at the top: of vLLM and Mistral, of AWS."""
    said = word(get(held, "object")) == "error" or filled(get(held, "__type"))
    return Reading(fault=_ERROR, ended=True) if said and filled(get(held, "message")) else None


def bare_error(value: object) -> Reading | None:
    """An error and nothing else, in a stream of a known kind."""
    held = record(value)
    alone = len(held) == 1 and filled(get(held, "error"))
    return Reading(fault=_ERROR, ended=True) if alone else None


def _response(held: Record) -> Reading | None:
    """A client's HTTP response that nobody has asked to raise for its status."""
    if not _any_of(held, "headers", "_headers"):
        return None
    status = number(get(held, "status_code")) or number(get(held, "status"))
    if status is None or not 400 <= status <= 599:
        return None
    return Reading(content=True, fault=Fault(f"a response with HTTP status {status}"))


# -- runs of agents


def _agno(held: Record) -> Reading | None:
    """A run of agno's, or the event of one: it raises nothing, whatever has happened."""
    if not _any_of(held, "agent_id", "team_id", "workflow_id") or not has(held, "created_at"):
        return None
    event, status = word(get(held, "event")), word(get(held, "status"))
    if event in _AGNO_ERRORS or (status == "error" and _any_of(held, *_OF_AGNO_RUNS)):
        return Reading(
            content=True, fault=_failed_run(get(held, "error_type"), get(held, "content"))
        )
    silent = event.endswith("started") and not filled(_first(held, "content", "tool"))
    return Reading(content=not silent)


_OF_AGNO_RUNS = ("session_state", "step_results")
_AGNO_ERRORS = frozenset({"runerror", "teamrunerror", "workflowerror"})


def _failed_run(name: object, said: object = None) -> Fault:
    """That of a run which says so: with the name of the exception, or its words for the answer."""
    status = words.by_name([name]) if type(name) is str else None
    if status is None and type(said) is str:
        status = words.status_in_words(said.lower()) or words.by_phrase(said.lower())
    kind = FailureKind.UNAVAILABLE if status is None else words.kind_of_status(status)
    return Fault("a run that says it has failed", otherwise=kind)


def _strands(held: Record) -> Reading | None:
    """The result of an agent of strands'."""
    if not has(held, "metrics") or not has(held, "message"):
        return None
    reading = Reading(content=_message_says(get(held, "message")))
    reading.content = reading.content or filled(get(held, "structured_output"))
    reading.may_be_empty = True
    return _finished(reading, word(get(held, "stop_reason")))


def _adk(held: Record) -> Reading | None:
    """An event of ADK's: its code is a status, the name of an exception, or why the model ended."""
    if not _any_of(held, "invocation_id", "turn_complete") or not has(held, "error_message"):
        return None
    says = _says(get(record(get(held, "content")), "parts"))
    actions = record(get(held, "actions"))
    says = says or filled(get(held, "output"))
    says = says or any(filled(get(actions, name)) for name in ("transfer_to_agent", "escalate"))
    code = get(held, "error_code")
    if says or not (filled(code) or filled(get(held, "error_message"))):
        return Reading(content=says)
    name = word(code)
    if name in FILTERED:
        return Reading(fault=_FILTER)
    if name in CUT_SHORT:
        return Reading(fault=NO_ROOM)
    return Reading(fault=_failed_run(code))


# -- events of streams


def _event(held: Record) -> Reading | None:
    """An event with a type: Anthropic's, OpenAI's Responses, Cohere's."""
    kind = word(get(held, "type"))
    reader = _EVENTS.get(kind)
    if reader is not None:
        return reader(held)
    if kind.startswith("response.") and _any_of(
        held, "response", "item", "item_id", "delta", "sequence_number"
    ):
        return _responses_event(held, kind)
    return None


def _wrapped(held: Record) -> Reading | None:
    """An event that hands on a chunk of a model's, as Mistral's and those of OpenAI's agents."""
    inner = record(get(held, "data"))
    if has(inner, "choices"):
        return _chat(inner)
    return _event(inner) if word(get(inner, "type")).startswith("response.") else None


def _silent(held: Record) -> Reading | None:
    return Reading(marks=True)


def _ping(held: Record) -> Reading | None:
    said = sum(value is not None for value in list(held.values()))
    return Reading() if said == 1 else None


def _block_start(held: Record) -> Reading | None:
    block = record(get(held, "content_block"))
    return Reading(marks=True, content=_part_says(block)) if block else None


def _block_delta(held: Record) -> Reading | None:
    delta = record(get(held, "delta"))
    texts = ("text", "partial_json", "thinking", "signature", "citation")
    return Reading(marks=True, content=any(filled(get(delta, name)) for name in texts))


def _message_delta(held: Record) -> Reading | None:
    finish = word(get(record(get(held, "delta")), "stop_reason"))
    reading = Reading(marks=True, content=_silent_on_purpose(finish, get(held, "usage")))
    return _finished(reading, finish)


def _error_event(held: Record) -> Reading | None:
    error = record(get(held, "error"))
    if not has(error, "message") and not (has(held, "sequence_number") and has(held, "message")):
        return None
    return Reading(fault=_ERROR, marks=True, ended=True)


def _cohere_delta(held: Record) -> Reading | None:
    message = record(get(record(get(held, "delta")), "message"))
    return Reading(marks=True, content=_message_says(message))


def _cohere_end(held: Record) -> Reading | None:
    reading = Reading(marks=True, ended=True)
    delta = record(get(held, "delta"))
    if filled(get(delta, "error")):
        reading.fault = _ERROR
    return _finished(reading, word(get(delta, "finish_reason")))


_ENDS_OF_RESPONSES = frozenset({"response.cancelled", "response.completed", "response.done"})
_SILENT_ITEMS = ("", "message", "reasoning")


def _responses_event(held: Record, kind: str) -> Reading | None:
    """One of OpenAI's Responses or of its realtime interface."""
    item = word(get(record(get(held, "item")), "type"))
    says = kind.endswith("delta") and filled(get(held, "delta"))
    says = says or item not in _SILENT_ITEMS or filled(get(held, "partial_image_b64"))
    whole = record(get(held, "response"))
    reading = Reading(marks=True, content=says)
    if kind in _ENDS_OF_RESPONSES:
        reading.ended = True
        reading.content = filled(get(whole, "output"))
    elif kind == "response.incomplete":
        reason = word(get(record(get(whole, "incomplete_details")), "reason"))
        _finished(reading, reason or "incomplete")
    elif kind in ("response.failed", "response.error"):
        reading.fault, reading.ended = _ERROR, True
    return reading


_Reader = Callable[[Record], Reading | None]


def _rows(*rows: tuple[str, _Reader]) -> tuple[tuple[str, _Reader], ...]:
    """One for each of the names that go to a reader."""
    return tuple((name, reader) for names, reader in rows for name in names.split())


_EVENTS = dict(
    _rows(
        ("message_start", lambda held: Reading(marks=True) if has(held, "message") else None),
        ("ping", _ping),
        ("content_block_start", _block_start),
        ("content_block_delta", _block_delta),
        ("message_delta", _message_delta),
        ("message_stop", lambda _: Reading(marks=True, ended=True)),
        ("error", _error_event),
        ("content-delta tool-plan-delta tool-call-start tool-call-delta", _cohere_delta),
        ("message-end", _cohere_end),
        ("content_block_stop message-start content-start content-end", _silent),
        ("tool-call-end citation-start citation-end", _silent),
    )
)


def _old_event(held: Record) -> Reading | None:
    """An event of Cohere's first interface."""
    kind = word(get(held, "event_type"))
    if kind == "stream-end":
        return _finished(Reading(marks=True, ended=True), word(get(held, "finish_reason")))
    if kind not in ("stream-start", "text-generation", "tool-calls-generation"):
        return None
    return Reading(marks=True, content=any(filled(get(held, n)) for n in ("text", "tool_calls")))


def _bedrock_start(held: Record) -> Reading | None:
    return Reading(marks=True) if len(held) == 1 else None


def _bedrock_block(held: Record) -> Reading | None:
    if len(held) != 1:
        return None
    block = record(_first(held, "contentBlockDelta", "contentBlockStart"))
    return Reading(marks=True, content=_part_says(_first(block, "delta", "start")))


def _bedrock_stop(held: Record) -> Reading | None:
    if len(held) != 1:
        return None
    reading = Reading(marks=True, ended=True)
    return _finished(reading, word(get(record(get(held, "messageStop")), "stopReason")))


_READERS = _rows(
    ("choices", _chat),
    ("candidates promptFeedback prompt_feedback sdk_http_response", _gemini),
    ("parent_tool_use_id", _of_session),
    ("stop_reason", _whole_message),
    ("stop_reason", _strands),
    ("response_metadata", _langchain),
    ("error_code", _adk),
    ("run_id", _agno),
    ("output", _output),
    ("done", _ollama),
    ("finish_reason", _cohere),
    ("isError", _tool),
    ("is_error", _session),
    ("data", _wrapped),
    ("subtype", _of_session),
    ("type", _event),
    ("event_type", _old_event),
    ("error", _error),
    ("object __type", _error_object),
    ("status_code status", _response),
    ("status", _task),
    ("status_update statusUpdate task artifact_update artifactUpdate", _of_task),
    ("ResponseMetadata", _bedrock),
    ("messageStart", _bedrock_start),
    ("contentBlockDelta contentBlockStart", _bedrock_block),
    ("contentBlockStop", _bedrock_start),
    ("messageStop", _bedrock_stop),
)
"""By which name a value is given to which reader, in this order: the first that knows it counts."""

_NAMES = frozenset(name for name, _ in _READERS)
