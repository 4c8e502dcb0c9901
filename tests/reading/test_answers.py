"""The ready-made judgement of values: what is a failure to each predicate, and what never is."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from helpers_answers import USAGE, Pydantic, chunk, dict_with_attributes, model, shaped

from greenroom import FailureKind, PoolConfig, UnsuccessfulResultError, answers
from greenroom.actors.reading.answer_judgement import found_by, nothing_in, refusal_of
from greenroom.actors.reading.classify import Verdict, classify
from greenroom.actors.reading.value_access import filled, number, record, word
from greenroom.answers import Fault

FORMS = [lambda value: value, shaped, dict_with_attributes, model]
IN_ANY_FORM = pytest.mark.parametrize("form", FORMS, ids=["dict", "object", "attributes", "model"])

CHAT: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}],
}
MESSAGE: dict[str, Any] = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {},
}
GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"parts": [{"text": "hi"}]}, "finish_reason": "STOP"}],
    "usage_metadata": None,
}
OLLAMA: dict[str, Any] = {
    "model": "m",
    "message": {"role": "assistant", "content": "hi"},
    "done": True,
    "done_reason": "stop",
}
COHERE: dict[str, Any] = {
    "id": "1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
}
DASHSCOPE: dict[str, Any] = {
    "status_code": 200,
    "request_id": "1",
    "code": "",
    "message": "",
    "output": {"text": None, "choices": [{"finish_reason": "stop", "message": {"content": "hi"}}]},
    "usage": {},
}
RESPONSES: dict[str, Any] = {
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
}
BEDROCK: dict[str, Any] = {
    "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}},
    "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
    "stopReason": "end_turn",
}
LANGCHAIN: dict[str, Any] = {
    "type": "ai",
    "content": "hi",
    "response_metadata": {"finish_reason": "stop"},
    "additional_kwargs": {},
    "tool_calls": [],
}
GOOD = [CHAT, MESSAGE, GEMINI, OLLAMA, COHERE, DASHSCOPE, RESPONSES, BEDROCK, LANGCHAIN]


def having(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A copy with another value at that path, as `choices.0.finish_reason`."""
    changed = copy.deepcopy(value)
    *way, last = path.split(".")
    at: Any = changed
    for step in way:
        at = at[int(step)] if step.isdecimal() else at[step]
    at[last] = new
    return changed


EMPTY = [
    having(CHAT, "choices", []),
    having(CHAT, "choices", None),
    having(CHAT, "choices.0.message.content", None),
    having(CHAT, "choices.0.message.content", ""),
    having(MESSAGE, "content", []),
    having(MESSAGE, "content", None),
    having(MESSAGE, "content.0.text", ""),
    having(GEMINI, "candidates", None),
    having(GEMINI, "candidates", []),
    having(GEMINI, "candidates.0.content", None),
    having(GEMINI, "candidates.0.content.parts", []),
    having(OLLAMA, "message.content", ""),
    having(COHERE, "message.content", []),
    having(DASHSCOPE, "output.choices", []),
    having(RESPONSES, "output", []),
    having(BEDROCK, "output.message.content", []),
    having(LANGCHAIN, "content", ""),
    having(LANGCHAIN, "content", []),
]
FILTERED = [
    having(CHAT, "choices.0.finish_reason", "content_filter"),
    having(MESSAGE, "stop_reason", "refusal"),
    having(GEMINI, "candidates.0.finish_reason", "SAFETY"),
    having(GEMINI, "candidates.0.finish_reason", "FinishReason.PROHIBITED_CONTENT"),
    {"candidates": None, "prompt_feedback": {"block_reason": "OTHER"}},
    {"promptFeedback": {"blockReason": "SAFETY"}},
    having(COHERE, "finish_reason", "ERROR_TOXIC"),
    having(DASHSCOPE, "output.choices.0.finish_reason", "content_filter"),
    having(having(RESPONSES, "incomplete_details", {"reason": "content_filter"}), "output", []),
    having(BEDROCK, "stopReason", "guardrail_intervened"),
    having(LANGCHAIN, "response_metadata.finish_reason", "content_filter"),
]
FAILED = [
    {"error": {"message": "m", "type": "server_error"}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
    {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "m"}},
    {**having(CHAT, "choices", None), "error": {"message": "m"}},
    having(CHAT, "choices.0.error", {"message": "m"}) | {"x": 1},
    having(RESPONSES, "status", "failed"),
    having(DASHSCOPE, "status_code", 429),
    {"object": "error", "message": "m", "type": "x", "code": "3051"},
    {"__type": "ServiceUnavailableException", "message": "m"},
    {"isError": True, "content": [{"type": "text", "text": "m"}]},
    {"is_error": True, "content": [], "structured_content": None},
    {"is_error": True, "subtype": "success", "session_id": "s", "result": "m"},
    {"id": "t", "context_id": "c", "status": {"state": "failed"}},
]
RESPONSES_OF_HTTP: list[dict[str, Any]] = [
    {"status_code": 502, "headers": {}},
    {"status": 502, "_headers": {}},
]


@IN_ANY_FORM
class TestAuto:
    @pytest.mark.parametrize("value", GOOD)
    def test_a_whole_answer_is_good(self, form: Any, value: Any) -> None:
        """Text in it and no word against it."""
        assert answers.auto(form(value)) is None

    @pytest.mark.parametrize("value", EMPTY)
    def test_an_answer_of_a_client_without_content(self, form: Any, value: Any) -> None:
        """No choices, no text, nothing else: of which kind, the value does not say."""
        fault = answers.auto(form(value))
        assert fault is not None
        assert fault.kind is None
        assert "without" in fault.reason

    @pytest.mark.parametrize("value", FILTERED)
    def test_a_content_filter(self, form: Any, value: Any) -> None:
        """It is about the request, whatever was let through."""
        fault = answers.auto(form(value))
        assert fault is not None
        assert fault.kind is FailureKind.CALLER

    @pytest.mark.parametrize("value", FAILED)
    def test_an_error_in_the_place_of_an_answer(self, form: Any, value: Any) -> None:
        """What a client makes of the body of an error."""
        assert answers.auto(form(value)) is not None

    @pytest.mark.parametrize("value", RESPONSES_OF_HTTP)
    def test_a_response_is_an_object(self, form: Any, value: Any) -> None:
        """Of which nobody has asked for its status. A plain dict only tells of one."""
        made = form(value)
        assert (answers.auto(made) is None) == (type(made) is dict)

    def test_content_that_is_no_text(self, form: Any) -> None:
        """A tool call, a thought, a refusal in words are answers."""
        for name in ("tool_calls", "function_call", "refusal", "reasoning_content", "audio"):
            message = {"content": None, name: ["x"]}
            assert answers.auto(form(having(CHAT, "choices.0.message", message))) is None
        block = [{"type": "tool_use", "name": "f", "input": {}}]
        assert answers.auto(form(having(MESSAGE, "content", block))) is None
        part = [{"function_call": {"name": "f"}}]
        assert answers.auto(form(having(GEMINI, "candidates.0.content.parts", part))) is None

    def test_an_answer_that_was_cut_off_at_its_length(self, form: Any) -> None:
        """It may be all that was asked for, so only `cut_short` refuses it."""
        for value in (
            having(CHAT, "choices.0.finish_reason", "length"),
            having(MESSAGE, "stop_reason", "max_tokens"),
            having(GEMINI, "candidates.0.finish_reason", "MAX_TOKENS"),
            having(OLLAMA, "done_reason", "length"),
            having(BEDROCK, "stopReason", "max_tokens"),
        ):
            assert answers.auto(form(value)) is None
            fault = answers.cut_short(form(value))
            assert fault is not None
            assert fault.kind is FailureKind.TOO_LARGE

    def test_what_was_cut_off_before_any_content(self, form: Any) -> None:
        """Its length went into thoughts: another member may have room, and this one is well."""
        for value in (
            having(
                having(CHAT, "choices.0.message.content", ""), "choices.0.finish_reason", "length"
            ),
            having(having(MESSAGE, "content", []), "stop_reason", "max_tokens"),
        ):
            fault = answers.auto(form(value))
            assert fault is not None
            assert fault.kind is FailureKind.TOO_LARGE

    def test_what_may_be_empty(self, form: Any) -> None:
        """Nothing to fill in where a text was to be completed; speech; a call that only does."""
        completed = {"text": "", "index": 0, "finish_reason": "stop"}
        for value in (
            {**CHAT, "object": "text_completion", "choices": [completed]},
            having(DASHSCOPE, "output", {"text": None, "choices": None, "audio": {"url": "x"}}),
            having(DASHSCOPE, "output", {"task_id": "1"}),
            having(DASHSCOPE, "output", None),
        ):
            assert answers.auto(form(value)) is None

    def test_what_is_empty_on_purpose(self, form: Any) -> None:
        """A stop sequence of the request's own came first, or Claude had nothing to add to what a
        tool returned; a message of LangChain's that says of no provider that it made it.
        """
        silent = {**MESSAGE, "content": []}
        said = {"stop_reason": "end_turn"}
        langchain = {"type": "ai", "content": "", "response_metadata": said}
        for value in (
            {**silent, "stop_reason": "stop_sequence"},
            {**silent, "content": [{"type": "text", "text": ""}], "stop_reason": "stop_sequence"},
            {**silent, "usage": {"output_tokens": 2}},
            {**COHERE, "message": {"content": []}, "finish_reason": "STOP_SEQUENCE"},
            {"output": {"message": {"content": []}}, "stopReason": "stop_sequence"},
            {**langchain, "usage_metadata": {"output_tokens": 3}},
            {**langchain, "response_metadata": {}},
        ):
            assert answers.auto(form(value)) is None
        for value in (
            {**silent, "usage": {"output_tokens": 0}},
            {**silent, "usage": {"output_tokens": 200}},
            langchain,
        ):
            assert answers.auto(form(value)) is not None
        assert answers.no_content(form({**silent, "stop_reason": "stop_sequence"})) is not None

    def test_answers_of_other_calls(self, form: Any) -> None:
        """A client's chats are told apart from what else it can do."""
        about: dict[str, Any] = {"sdk_http_response": {"headers": {}}}
        for value in (
            {**about, "embeddings": [{"values": [0.1]}], "usage_metadata": None},
            {**about, "embeddings": []},
            {**about, "generated_images": []},
            {"object": "list", "model": "m", "data": [], "usage": {"prompt_tokens": 1}},
            {"object": "batch", "model": "m", "status": "failed", "errors": None},
            having(having(RESPONSES, "output", []), "status", "cancelled"),
        ):
            assert answers.auto(form(value)) is None

    def test_what_only_looks_like_a_chat(self, form: Any) -> None:
        """A quiz that says of its model, a summary of one's own, a list of things to do."""
        values: tuple[dict[str, Any], ...] = (
            {"question": "which?", "choices": [], "model": "m", "usage": None},
            {"object": "table", "choices": [], "model": "m"},
            {"id": 1, "text": "", "calls": ["f"], "finish_reason": "tool_calls", "usage": {}},
            {"id": 1, "text": "", "finish_reason": "stop"},
            {"role": "critic", "content": "", "stop_reason": "none"},
            {"role": "assistant", "content": "", "tools": ["f"], "stop_reason": "tool_use"},
            {"id": 1, "status": "failed", "error": {"message": "no such row", "code": "row"}},
            {"model": "m", "message": "", "done": True},
            {"model": "m", "response": "", "done": True},
        )
        for value in values:
            assert answers.auto(form(value)) is None

    def test_what_is_not_finished_yet(self, form: Any) -> None:
        """A response that is still made in the background has no output."""
        assert (
            answers.auto(form(having(having(RESPONSES, "output", []), "status", "queued"))) is None
        )


class Message:
    """The part of a protobuf message that counts."""

    __module__ = "a2a_pb2"

    def __init__(self, **fields: tuple[Any, Any]) -> None:
        self._fields = [
            (SimpleNamespace(name=name, enum_type=kind), value)
            for name, (kind, value) in fields.items()
        ]

    def ListFields(self) -> list[Any]:
        return self._fields


class Shade(enum.IntEnum):
    BAD = 502


@dataclasses.dataclass
class Crawled:
    status_code: int = 404
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class LogLine:
    status: int = 500
    code: int = 500
    error: str = "disk full"
    is_error: bool = True


@dataclasses.dataclass(slots=True)
class Slotted:
    error: str = "text"
    choices: tuple[str, ...] = ()


class Raising:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit(name)

    def __bool__(self) -> NoReturn:
        raise ValueError("ambiguous")

    def __eq__(self, other: object) -> NoReturn:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Lazy:
    """Its attributes are read from somewhere when they are asked for."""

    def __init__(self) -> None:
        self.read: list[str] = []

    @property
    def choices(self) -> list[Any]:
        self.read.append("choices")
        return []

    @property
    def status_code(self) -> int:
        self.read.append("status_code")
        return 500

    def __getattr__(self, name: str) -> Any:
        self.__dict__["read"].append(name)
        return 500


OWN_PAGE = (
    "<!doctype html><html><head><title>Log in</title></head><body><form>%s</form></body></html>"
)

LEGIT = [
    None,
    "",
    "text",
    b"",
    0,
    False,
    1.5,
    [],
    {},
    (),
    set(),
    {"error": None},
    {"error": "no such city"},
    {"error": {"message": "no such city"}},
    {"error": {"message": "m", "code": 1}, "answer": 42},
    {"status": 404, "url": "https://example.com"},
    {"status_code": 500, "url": "https://example.com"},
    {"choices": []},
    {"choices": [], "question": "which?", "id": 7},
    {"candidates": []},
    {"content": ""},
    {"content": "", "role": "assistant"},
    {"is_error": True, "line": "disk full"},
    {"isError": True},
    {"url": "https://example.com", "status_code": 404, "headers": {"a": "b"}, "html": ""},
    Crawled(),
    {"type": "error", "message": "a line of a log"},
    {"type": "ping", "host": "example.com"},
    {"finish_reason": "content_filter"},
    {"code": 0, "message": "ok", "request_id": "1"},
    {"object": "error", "name": "a typo"},
    {"output": []},
    {"output": "", "request_id": 7},
    {"done": True, "model": "m"},
    {"status": {"state": "failed"}},
    {"ResponseMetadata": {"HTTPStatusCode": 200}},
    {"stop_reason": "refusal", "content": ""},
    LogLine(),
    Slotted(),
    Shade.BAD,
    OrderedDict(error="text"),
    OWN_PAGE % "<input type=password>",
    "<html><head><title>My page</title></head><body>502 Bad Gateway</body></html>",
    "How to read a page: <html><title>502 Bad Gateway</title>",
    "```html\n<html><title>502 Bad Gateway</title></html>\n```",
    ValueError("an exception as a value"),
    object(),
    object,
]


class TestWhatIsNoFailure:
    @pytest.mark.parametrize("value", LEGIT, ids=lambda value: type(value).__name__)
    def test_an_own_value_is_good(self, value: Any) -> None:
        """What an app's agents return is theirs, whatever it is called."""
        assert answers.auto(value) is None

    @pytest.mark.parametrize("mock", [MagicMock(), Mock(choices=[]), AsyncMock(status_code=500)])
    def test_a_mock_is_good(self, mock: Any) -> None:
        """It has every attribute there is."""
        for judge in (answers.auto, answers.error_flag, answers.http_status, answers.no_choices):
            assert judge(mock) is None
        assert not answers.is_empty_chunk(mock)

    def test_nothing_of_the_value_runs(self) -> None:
        """A property may read from a socket."""
        lazy = Lazy()
        for name in answers.__all__:
            judge = getattr(answers, name)
            if name not in ("Fault", "any_of"):
                judge(lazy)
        assert lazy.read == []

    def test_an_array_whose_truth_is_not_defined(self) -> None:
        """A frame of pandas raises when it is asked whether it is true; nobody does."""
        for value in (Raising(), {"error": Raising(), "choices": Raising()}, [Raising()]):
            assert answers.auto(value) is None
            assert answers.no_content(value) is None
            assert not answers.is_empty_chunk(value)


GATEWAY = [
    ("<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>", FailureKind.UNAVAILABLE),
    ("<html><body><h1>503 Service Unavailable</h1>\nNo server", FailureKind.UNAVAILABLE),
    ("<!DOCTYPE HTML><html><head><title>504 Gateway Time-out</title>", FailureKind.TIMEOUT),
    ("\n <html><head><title>429 Too Many Requests</title>", FailureKind.RATE_LIMITED),
    (
        "<!DOCTYPE html><!--[if lt IE 7]> <html> <![endif]--><html><head>"
        "<title>api.example.com | 502: Bad gateway</title>cloudflare" + "x" * 9000,
        FailureKind.UNAVAILABLE,
    ),
    ("<html><head><title>Just a moment...</title>", FailureKind.UNAVAILABLE),
    ('<html><form action="https://team.cloudflareaccess.com/cdn">', FailureKind.UNAVAILABLE),
]


class TestPages:
    @pytest.mark.parametrize(("page", "kind"), GATEWAY)
    def test_the_page_of_a_gateway(self, page: str, kind: FailureKind) -> None:
        """A text that no agent has written, though its client took it for an answer."""
        fault = answers.auto(page)
        assert fault is not None
        assert fault.kind is kind

    def test_any_page(self) -> None:
        """For agents that never write one."""
        page = OWN_PAGE % ""
        for value in (
            page,
            page.encode(),
            "\ufeff\n" + page.upper(),
            '<?xml version="1.0"?><html>',
        ):
            assert answers.html_page(value) is not None
        no_pages: list[Any] = ["", "<htmlx>", "see <html>", b"\xff\x00", None, 7, {"page": page}]
        assert not any(map(answers.html_page, no_pages))


class TestOneByOne:
    @pytest.mark.parametrize(
        "value",
        [
            {"status_code": 400},
            {"status": 599},
            {"code": "502"},
            {"statusCode": Shade.BAD},
            {"ResponseMetadata": {"HTTPStatusCode": 429}},
            {"api_error_status": 529},
        ],
    )
    def test_http_status(self, value: dict[str, Any]) -> None:
        """A number under any name that clients have for it, on a dict or an object."""
        assert answers.http_status(value) is not None
        assert answers.http_status(shaped(value)) is not None

    @pytest.mark.parametrize("status", [200, 399, 600, True, None, "OK", "5xx", 404.0, "40", -500])
    def test_no_http_status(self, status: Any) -> None:
        """Whatever is none, or none of a failure."""
        assert answers.http_status({"status_code": status}) is None

    def test_error_flag(self) -> None:
        """It is said, or an error is set; None, False and an empty one are none."""
        for value in ({"is_error": True}, {"isError": True}, {"error": "x"}, {"error": {"a": 1}}):
            assert answers.error_flag(value) is not None
            assert answers.error_flag(shaped(value)) is not None
        good: list[Any] = [{"is_error": False}, {"isError": "yes"}, {"error": None}, {"error": {}}]
        assert not any(map(answers.error_flag, good))

    def test_no_choices(self) -> None:
        """The list is there, and there is nothing in it."""
        bad: list[Any] = [{"choices": []}, {"choices": None}, {"candidates": []}]
        assert all(map(answers.no_choices, bad))
        good: list[Any] = [{}, {"choices": [1]}, CHAT, having(MESSAGE, "content", [])]
        assert not any(map(answers.no_choices, good))

    def test_no_content(self) -> None:
        """Nothing at all, in whatever form."""
        bad: list[Any] = [None, "", " \n", b"", [], {}, {"content": ""}, {"text": None}, *EMPTY]
        assert all(map(answers.no_content, bad))
        good: list[Any] = [False, 0, "a", [None], {"content": "a"}, {"a": None}, object(), *GOOD]
        assert not any(map(answers.no_content, good))

    @pytest.mark.parametrize("value", FILTERED)
    def test_content_filter(self, value: Any) -> None:
        """The same as for `auto`, and nothing else."""
        fault = answers.content_filter(value)
        assert fault is not None
        assert fault.kind is FailureKind.CALLER
        assert all(answers.content_filter(each) is None for each in GOOD)
        assert answers.content_filter({"finish_reason": "content_filter"}) is not None

    def test_refusal(self) -> None:
        """A model that says in its own field that it will not."""
        message = {"content": None, "refusal": "I can't help with that."}
        said = [
            having(CHAT, "choices.0.message", message),
            having(MESSAGE, "stop_reason", "refusal"),
            having(RESPONSES, "output.0.content", [{"type": "refusal", "refusal": "no"}]),
        ]
        for value in said:
            fault = answers.refusal(value)
            assert fault is not None
            assert fault.kind is FailureKind.CALLER
        assert all(answers.refusal(each) is None for each in GOOD)

    def test_any_of(self) -> None:
        """The first that says something is right, whatever it says it with."""
        both = answers.any_of(answers.auto, lambda value: value == "no", answers.cut_short)
        assert both("yes") is None
        assert both("no") is True
        assert both(having(CHAT, "choices.0.finish_reason", "length")) == answers.cut_short(
            having(CHAT, "choices.0.finish_reason", "length")
        )
        with pytest.raises(TypeError, match="any_of takes functions, got 'auto'"):
            answers.any_of("auto")  # type: ignore[arg-type]

    def test_what_a_function_may_say(self) -> None:
        """A bool, a kind, a fault; a text is only true: it may be the value's own."""
        assert found_by(lambda _: False, "x") is None
        assert found_by(lambda _: 0, "x") is None
        assert found_by(lambda _: Fault("why", FailureKind.AUTH), "x") == Fault(
            "why", FailureKind.AUTH
        )
        assert found_by(lambda _: FailureKind.QUOTA, "x") == Fault(
            "a str that is_failure refused", FailureKind.QUOTA
        )
        assert found_by(lambda value: value, "secret") == Fault("a str that is_failure refused")

    def test_it_is_public(self) -> None:
        """As a module, and as the setting's value."""
        assert PoolConfig().is_failure == "auto"
        assert PoolConfig(is_failure=answers.no_content).is_failure is answers.no_content


class TestTheError:
    def test_what_it_tells(self) -> None:
        """Who returned what, in words; of the value's kind, with its wait, and nothing of it."""
        value = having(DASHSCOPE, "status_code", 429)
        fault = answers.auto(value)
        assert fault is not None
        error = refusal_of(fault, value, "a", 0.0)
        assert str(error) == "a returned a response with HTTP status 429"
        assert classify(error).kind is error.kind is FailureKind.RATE_LIMITED

    def test_a_response_is_judged_like_the_error_it_would_have_raised(self) -> None:
        """Its body and its headers are read if they have been read already."""
        body = {"error": {"code": "insufficient_quota", "message": "m"}}
        response = SimpleNamespace(
            status_code=429, headers={"retry-after": "7"}, _content=json.dumps(body).encode()
        )
        fault = answers.auto(response)
        assert fault is not None
        error = refusal_of(fault, response, "a", 0.0)
        assert (error.kind, error.retry_after_s) == (FailureKind.QUOTA, 7.0)
        assert error.opens_at_once

    def test_a_403_is_not_certain(self) -> None:
        """A 401 is about the key, whoever asked; a 403 may be about the request."""
        for status, certain in ((401, True), (403, False)):
            value = having(DASHSCOPE, "status_code", status)
            error = refusal_of(Fault("why"), value, "a", 0.0)
            assert (error.kind, error.opens_at_once) == (FailureKind.AUTH, certain)
            assert classify(error).opens_at_once is certain

    def test_a_fault_knows_better(self) -> None:
        """Its own kind goes before what the value looks like."""
        fault = Fault("why", FailureKind.CALLER)
        assert refusal_of(fault, {"status_code": 500}, "a", 0.0).kind is FailureKind.CALLER

    def test_an_error_that_says_nothing_of_itself(self) -> None:
        """The service has failed, as far as one can see; a tool's error may be anything."""
        for value, kind in (
            ({"error": {"message": "m", "type": "x"}}, FailureKind.UNAVAILABLE),
            ({"isError": True, "content": []}, FailureKind.UNKNOWN),
        ):
            fault = answers.auto(value)
            assert fault is not None
            assert refusal_of(fault, value, "a", 0.0).kind is kind

    def test_the_wait_is_kept(self) -> None:
        """When to come back stands in the error, for whoever judges it later."""
        error = UnsuccessfulResultError("x", kind=FailureKind.RATE_LIMITED, retry_after_s=7.0)
        assert classify(error) == Verdict(FailureKind.RATE_LIMITED, 7.0)

    def test_it_pickles(self) -> None:
        """With all that it says."""
        error = UnsuccessfulResultError("x", kind=FailureKind.QUOTA, retry_after_s=7.0)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.kind, again.retry_after_s) == ("x", FailureKind.QUOTA, 7.0)


class TestLooking:
    def test_what_is_held(self) -> None:
        """Entries, attributes, slots, what a pydantic model has besides; and nothing of a mock."""
        assert record({"a": 1}) == record(SimpleNamespace(a=1)) == {"a": 1}
        assert record(Slotted("x")) == {"error": "x", "choices": ()}
        assert record(Pydantic({"a": 1}, {"b": 2})) == {"a": 1, "b": 2}
        assert record(Pydantic({"a": 1})) == {"a": 1}
        for value in (MagicMock(a=1), "a", 7, None, [1], object()):
            assert record(value) == {}

    def test_what_a_protobuf_message_holds(self) -> None:
        """The fields that are set, enums by their names."""
        states = SimpleNamespace(values_by_number={4: SimpleNamespace(name="TASK_STATE_FAILED")})
        status = Message(state=(states, 4))
        task = Message(context_id=(None, "c"), status=(None, status))
        assert record(status) == {"state": "TASK_STATE_FAILED"}
        assert answers.auto(task) == Fault("a task that is failed")

    def test_words_and_numbers(self) -> None:
        """A text, an enum; what is too long or something else is none."""
        kind = enum.Enum("kind", {"STOP": "STOP", "SEVEN": "7"})
        assert [word(each) for each in ("Stop", kind.STOP, "null", None, 7, "x" * 101)] == [
            "stop",
            "stop",
            "",
            "",
            "",
            "",
        ]
        assert [number(each) for each in (7, Shade.BAD, "502", "50", True, None, 7.0)] == [
            7,
            502,
            502,
            None,
            None,
            None,
            None,
        ]
        nothing: list[Any] = [None, False, "", [], {}]
        assert not any(map(filled, nothing))
        assert all(map(filled, [0, "x", [0], Raising()]))
        assert not filled(type("Unset", (), {})())


SILENT: list[Any] = [
    chunk({"role": "assistant"}),
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": None}),
    chunk({}, "stop"),
    USAGE,
    {"object": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{}]},
    {"type": "message_start", "message": {"content": []}},
    {"type": "ping"},
    {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
    {"type": "response.created", "response": {}},
    {"type": "response.completed", "response": {}},
    {"type": "message-start", "id": "1"},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    {"event_type": "stream-start"},
    {"candidates": [{"content": {"parts": [{"text": ""}]}}]},
    {"candidates": [{"content": None, "finish_reason": "STOP"}]},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": False},
    {"type": "AIMessageChunk", "content": "", "response_metadata": {}},
    {"messageStart": {"role": "assistant"}},
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
]
SAYING: list[Any] = [
    chunk({"content": "a"}),
    chunk({"content": " "}),
    chunk({"tool_calls": [{"index": 0}]}),
    chunk({"reasoning_content": "a"}),
    chunk({"content": "a"}, "stop"),
    {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}},
    {"type": "response.output_text.delta", "delta": "a", "item_id": "1"},
    {"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}},
    {"event_type": "text-generation", "text": "a"},
    {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
    {"model": "m", "message": {"content": "a"}, "done": False},
    {"model": "m", "response": "a", "done": False},
    {"type": "AIMessageChunk", "content": "a", "response_metadata": {}},
    {"contentBlockDelta": {"delta": {"text": "a"}}},
]


class TestEmptyChunks:
    @IN_ANY_FORM
    @pytest.mark.parametrize("value", SILENT, ids=lambda value: json.dumps(value)[:40])
    def test_a_chunk_that_carries_nothing(self, form: Any, value: Any) -> None:
        """A role, a usage, a ping, the mark of an end."""
        assert answers.is_empty_chunk(form(value))

    @IN_ANY_FORM
    @pytest.mark.parametrize("value", SAYING, ids=lambda value: json.dumps(value)[:40])
    def test_a_chunk_that_carries_something(self, form: Any, value: Any) -> None:
        """Text, a tool call, a thought."""
        assert not answers.is_empty_chunk(form(value))

    def test_a_mock_of_something_empty(self) -> None:
        """It has a length of nothing and is something."""
        for mock in (create_autospec(dict), create_autospec(list, instance=True)):
            assert not nothing_in(mock)
            assert not answers.is_empty_chunk(mock)

    @pytest.mark.parametrize("value", [None, "", b"", bytearray(), [], (), {}])
    def test_nothing(self, value: Any) -> None:
        """None, and what has no content."""
        assert answers.is_empty_chunk(value)

    @pytest.mark.parametrize(
        "value", [" ", "\n", 0, False, object(), set(), {"type": "x"}, SimpleNamespace()]
    )
    def test_what_is_not_known(self, value: Any) -> None:
        """It is somebody's chunk."""
        assert not answers.is_empty_chunk(value)
