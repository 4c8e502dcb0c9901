"""What an OpenAI-compatible server answers, by the real client from a server on loopback."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

import pytest
from helpers_completions import (
    CALLS,
    EVENTS,
    HTML,
    JSON,
    Server,
    asked,
    body,
    events,
    other,
    part,
    streamed,
    whole,
)
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PayloadError,
    Request,
    StreamInterruptedError,
    UnsuccessfulResultError,
)
from greenroom.kinds import ChatPrompt, OpenAIAgent
from greenroom.testing import FakeClock

ANSWERS: list[tuple[str, bytes, Any]] = [
    ("plain", body(whole()), "hi"),
    ("with a byte order mark", b"\xef\xbb\xbf" + body(whole()), "hi"),
    ("in parts", body(whole([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}])), "hi"),
    ("no finish_reason", body(whole(finish=None)), "hi"),
    ("no usage", body({"choices": whole()["choices"]}), "hi"),
    ("several choices", body({"choices": [{"index": 1, "message": {"content": "no"}},
                                          *whole()["choices"]]}), "hi"),
    ("what is wrong with another choice",
     body({"choices": [{"index": 1, "message": {"content": "no"}, "finish_reason": "length"},
                       *whole()["choices"]]}), "hi"),
    ("an error of null", body({**whole(), "error": None}), "hi"),
    ("tool calls", body(whole(None, "tool_calls", tool_calls=CALLS)),
     {"role": "assistant", "content": None, "tool_calls": CALLS}),
    ("several tool calls, one without arguments",
     body(whole("hm", "tool_calls", tool_calls=[*CALLS, {"id": "2", "function": None}])),
     {"role": "assistant", "content": "hm", "tool_calls": [*CALLS, {"id": "2", "function": None}]}),
    ("a call of old", body(whole(None, "function_call", function_call={"name": "f"})),
     {"role": "assistant", "content": None, "function_call": {"name": "f"}}),
    ("an empty refusal", body(whole(refusal="")), "hi"),
    ("Azure's filter, which lets it pass",
     body({**whole(), "prompt_filter_results": [{"content_filter_results": {}}]}), "hi"),
    ("what is not a number", body(whole())[:-1] + b', "logprobs": NaN}', "hi"),
    ("a usage of another kind", body({**whole(), "usage": "none", "model": 7}), "hi"),
]  # fmt: skip

NO_ANSWERS: list[tuple[str, bytes, str, FailureKind, str]] = [
    ("empty", b"", JSON, FailureKind.UNAVAILABLE, "an empty body"),
    ("blank", b" \n", JSON, FailureKind.UNAVAILABLE, "an empty body"),
    ("page", b"<!doctype html><h1>502</h1>", HTML, FailureKind.UNAVAILABLE, "an HTML page"),
    ("page said to be JSON", b"<html><body>x</body></html>", JSON, FailureKind.UNAVAILABLE, "HTML"),
    ("torn", body(whole())[:-9], JSON, FailureKind.UNAVAILABLE, "no JSON, or was cut off"),
    ("text", b"upstream error", "text/plain", FailureKind.UNAVAILABLE, "no JSON"),
    ("null", b"null", JSON, FailureKind.UNAVAILABLE, "no completion"),
    ("list", b"[]", JSON, FailureKind.UNAVAILABLE, "no completion"),
    ("number", b"7", JSON, FailureKind.UNAVAILABLE, "no completion"),
    ("deep", b"[" * 5_000, JSON, FailureKind.UNAVAILABLE, "no JSON"),
    ("object", b"{}", JSON, FailureKind.UNAVAILABLE, "no completion"),
    ("choices null", body({"choices": None}), JSON, FailureKind.UNKNOWN, "without a choice"),
    ("choices empty", body({"choices": []}), JSON, FailureKind.UNKNOWN, "without a choice"),
    ("choices of numbers", body({"choices": [5]}), JSON, FailureKind.UNAVAILABLE,
     "no completion"),
    ("choices an object", body({"choices": {"a": 1}}), JSON, FailureKind.UNAVAILABLE,
     "no completion"),
    ("message null", body({"choices": [{"message": None}]}), JSON, FailureKind.UNAVAILABLE,
     "no completion"),
    ("message a text", body({"choices": [{"message": "hi"}]}), JSON, FailureKind.UNAVAILABLE,
     "no completion"),
    ("content null", body(whole(None)), JSON, FailureKind.UNKNOWN, "without content"),
    ("content empty", body(whole("")), JSON, FailureKind.UNKNOWN, "without content"),
    ("content a number", body(whole(5)), JSON, FailureKind.UNAVAILABLE, "no completion"),
    ("error", body({"error": {"message": "slow down", "code": 429}}), JSON,
     FailureKind.RATE_LIMITED, "error"),
    ("error of a key", body({"error": {"code": "invalid_api_key", "message": "no"}}), JSON,
     FailureKind.AUTH, "error"),
    ("error as a text", body({"error": "overloaded"}), JSON, FailureKind.UNAVAILABLE, "error"),
    ("error beside choices", body({"error": {"code": 503}, "choices": []}), JSON,
     FailureKind.UNAVAILABLE, "returned"),
    ("vllm's error", body({"object": "error", "message": "no", "type": "NotFoundError",
                           "code": 404}), JSON, FailureKind.NOT_FOUND, "returned"),
    ("length", body(whole("half", "length")), JSON, FailureKind.TOO_LARGE, "cut off at its length"),
    ("length, nothing", body(whole("", "length")), JSON, FailureKind.TOO_LARGE, "cut off"),
    ("filter", body(whole("", "content_filter")), JSON, FailureKind.CALLER, "content filter"),
    ("refusal", body(whole(None, refusal="I can't")), JSON, FailureKind.CALLER, "refuses"),
    ("a filter that lets nothing through",
     body({"choices": [{"index": 0, "finish_reason": "content_filter"}]}), JSON,
     FailureKind.CALLER, "content filter"),
    ("thoughts alone", body(whole(None, reasoning_content="hm")), JSON, FailureKind.UNKNOWN,
     "without content"),
    ("thoughts until the end", body(whole("", "length", reasoning_content="hm")), JSON,
     FailureKind.TOO_LARGE, "cut off"),
    ("no tool calls after all", body(whole(None, "tool_calls", tool_calls=[])), JSON,
     FailureKind.UNKNOWN, "without content"),
    ("an error in a choice",
     body({"choices": [{**whole("")["choices"][0], "error": {"code": 502}}]}), JSON,
     FailureKind.UNAVAILABLE, "error"),
    ("JSON of another API", body({"result": whole(), "success": True}), JSON,
     FailureKind.UNAVAILABLE, "no completion"),
    ("a text completion", body({"object": "text_completion", "choices": [{"text": "hi"}]}), JSON,
     FailureKind.UNAVAILABLE, "no completion"),
    ("two answers", body(whole()) * 2, JSON, FailureKind.UNAVAILABLE, "no JSON"),
    ("a number of 5,000 digits", b'{"a": ' + b"1" * 5_000 + b"}", JSON, FailureKind.UNAVAILABLE,
     "no JSON"),
    ("another encoding", str(whole()).encode("utf-16"), JSON, FailureKind.UNAVAILABLE, "no JSON"),
    ("finish error", body(whole("half", "error")), JSON, FailureKind.UNAVAILABLE, "error"),
    ("events", events(part("hi"), part(finish="stop")), EVENTS, FailureKind.UNAVAILABLE, "no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "raw", "value"), ANSWERS, ids=[each[0] for each in ANSWERS])
def test_an_answer_is_its_text_or_the_message_that_calls_tools(
    name: str, raw: bytes, value: Any
) -> None:
    """Whatever a server leaves out or adds."""
    assert asyncio.run(asked(Server(raw, JSON))) == value


@pytest.mark.parametrize(
    ("name", "raw", "content_type", "kind", "words"),
    NO_ANSWERS,
    ids=[each[0] for each in NO_ANSWERS],
)
def test_what_is_no_answer_is_a_failure_by_name_and_kind(
    name: str, raw: bytes, content_type: str, kind: FailureKind, words: str
) -> None:
    """In a response with status 200; never an error of our own."""
    with pytest.raises(UnsuccessfulResultError, match=words) as caught:
        asyncio.run(asked(Server(raw, content_type)))
    assert caught.value.kind is kind


STREAMS: list[tuple[str, bytes, list[Any]]] = [
    ("plain", events(part(role="assistant"), part("h"), part("i"), part(finish="stop")),
     ["h", "i"]),
    ("no [DONE]", events(part("hi"), part(finish="stop"), done=False), ["hi"]),
    ("no finish_reason", events(part("hi")), ["hi"]),
    ("no empty lines", events(part("h"), part("i", "stop")).replace(b"\n\n", b"\n"), ["h", "i"]),
    ("carriage returns", events(part("hi"), part(finish="stop")).replace(b"\n", b"\r\n"), ["hi"]),
    ("no blank behind data:", events(part("hi", "stop")).replace(b"data: ", b"data:"), ["hi"]),
    ("in several lines",
     b'data: {"choices": [{"delta":\ndata: {"content": "hi"}}]}\n\ndata: [DONE]\n', ["hi"]),
    ("usage at the end", events(part("hi", "stop"), {"choices": [], "usage": {"total_tokens": 2}}),
     ["hi"]),
    ("Azure's first", events({"choices": [], "prompt_filter_results": [{}], "model": ""},
                             part("hi", "stop")), ["hi"]),
    ("keep-alives", events(": ping", part("h"), ": ping", part("i", "stop")), ["h", "i"]),
    ("named events", events("event: message\nid: 1", part("hi", "stop")), ["hi"]),
    ("thoughts", events(part(reasoning_content="hm"), part("hi", "stop")), ["hi"]),
    ("more behind [DONE]", events(part("hi", "stop")) + b"data: {broken\n\n", ["hi"]),
    ("delta null", events({"choices": [{"delta": None}]}, part("hi", "stop")), ["hi"]),
    ("odd events between",
     events({}, {"choices": None}, {"choices": "x"}, {"choices": [None]}, {"choices": [{}]},
            {"choices": [{"delta": "x"}]}, part(5), part("hi", "stop")), ["hi"]),
    ("a text in parts", events(part([{"type": "text", "text": "hi"}], "stop")), ["hi"]),
    ("empty data", events("data:", "data: ", part("hi", "stop")), ["hi"]),
    ("a ping with an object", events("event: ping\ndata: {}", part("hi", "stop")), ["hi"]),
    ("an error of null", events({**part("hi", "stop"), "error": None}), ["hi"]),
    ("a byte order mark", b"\xef\xbb\xbf" + events(part("h"), part("i", "stop")), ["h", "i"]),
    ("only returns", events(part("h"), part("i", "stop")).replace(b"\n", b"\r"), ["h", "i"]),
    ("ends of lines that are none of events'",
     'data: {"choices": [{"delta": {"content": "h\u2028i\u2029\x85\x7f"}}]}\n\n'.encode()
     + b"data: [DONE]\n",
     ["h\u2028i\u2029\x85\x7f"]),
    ("bytes that are no text", events(part("hi?", "stop")).replace(b"?", b"\xff"), ["hi\ufffd"]),
    ("three megabytes in an event", events(part("x" * 3_000_000, "stop")), ["x" * 3_000_000]),
    ("more behind the finish", events(part("h", "stop"), part("i"), part(finish="stop")),
     ["h", "i"]),
    ("two choices in turn",
     events(part("h"), other("no"), part("i"), other("!", "length"), part(finish="stop")),
     ["h", "i"]),
    ("the second choice first", events(other("h"), part("no", "length"), other("i", "stop")),
     ["h", "i"]),
    ("a call of old", events(part(function_call={"name": "f"}), part(finish="function_call")),
     [{"function_call": {"name": "f"}}]),
    ("a text and tool calls", events(part("hm", tool_calls=CALLS), part(finish="tool_calls")),
     ["hm", {"tool_calls": CALLS}]),
    ("tool calls", events(part(tool_calls=CALLS), part(finish="tool_calls")),
     [{"tool_calls": CALLS}]),
]  # fmt: skip

NO_STREAMS: list[tuple[str, bytes, str, FailureKind, str, list[Any]]] = [
    ("empty", b"", EVENTS, FailureKind.UNAVAILABLE, "without content", []),
    ("only [DONE]", events(), EVENTS, FailureKind.UNAVAILABLE, "without content", []),
    ("only keep-alives", b": ping\n\n" * 9, EVENTS, FailureKind.UNAVAILABLE, "without content", []),
    ("only a role", events(part(role="assistant"), part(finish="stop")), EVENTS,
     FailureKind.UNAVAILABLE, "without content", []),
    ("no end", events(part("h"), part("i"), done=False), EVENTS, FailureKind.UNAVAILABLE,
     "neither a finish_reason nor", ["h", "i"]),
    ("malformed", b"data: {broken\n\n", EVENTS, FailureKind.UNAVAILABLE, "malformed event", []),
    ("malformed later", events(part("h"), done=False) + b"data: {br\n\n", EVENTS,
     FailureKind.UNAVAILABLE, "malformed event", ["h"]),
    ("no object", b"data: 5\n\n", EVENTS, FailureKind.UNAVAILABLE, "malformed event", []),
    ("page", b"<html><body>hello</body></html>", HTML, FailureKind.UNAVAILABLE, "HTML page", []),
    ("JSON", body(whole()), JSON, FailureKind.UNAVAILABLE, "JSON instead of events", []),
    ("error as JSON", body({"error": {"code": 429, "message": "no"}}), JSON,
     FailureKind.RATE_LIMITED, "error", []),
    ("text", b"busy", "text/plain", FailureKind.UNAVAILABLE, "no events", []),
    ("error event", events({"error": {"code": 503, "message": "no"}}), EVENTS,
     FailureKind.UNAVAILABLE, "error", []),
    ("named error", events("event: error", {"error": {"type": "rate_limit_error"}}), EVENTS,
     FailureKind.RATE_LIMITED, "error", []),
    ("named error, bare", events(part("h"), "event: error\ndata: {\"type\": \"rate_limit_error\"}"),
     EVENTS, FailureKind.RATE_LIMITED, "an event that is an error", ["h"]),
    ("named error, a text", events(part("h", "stop"), "event: error\ndata: it broke"), EVENTS,
     FailureKind.UNAVAILABLE, "an event that is an error", ["h"]),
    ("a field named error", events('error: {"code": 503, "message": "no"}'), EVENTS,
     FailureKind.UNAVAILABLE, "an event that is an error", []),
    ("error without a field", events(part("h"), '{"error": {"code": 429}}', done=False), EVENTS,
     FailureKind.RATE_LIMITED, "error", ["h"]),
    ("page in the middle", events(part("h"), "<html>502</html>", done=False), EVENTS,
     FailureKind.UNAVAILABLE, "neither a finish_reason nor", ["h"]),
    ("tool calls without an end", events(part(tool_calls=CALLS), done=False), EVENTS,
     FailureKind.UNAVAILABLE, "neither a finish_reason nor", [{"tool_calls": CALLS}]),
    ("no tool calls after all", events(part(tool_calls=[]), part(finish="tool_calls")), EVENTS,
     FailureKind.UNAVAILABLE, "without content", []),
    ("thoughts until the end", events(part(reasoning_content="hm"), part(finish="length")), EVENTS,
     FailureKind.TOO_LARGE, "cut off", []),
    ("a whole answer in an event", events(whole()), EVENTS, FailureKind.UNAVAILABLE,
     "without content", []),
    ("null", events("data: null"), EVENTS, FailureKind.UNAVAILABLE, "malformed event", []),
    ("a number of 5,000 digits", b'data: {"a": ' + b"1" * 5_000 + b"}\n\n", EVENTS,
     FailureKind.UNAVAILABLE, "malformed event", []),
    ("lines of JSON", b'{"message": {"content": "h"}, "done": false}\n{"done": true}\n', JSON,
     FailureKind.UNAVAILABLE, "no events", []),
    ("events of another API",
     events('event: content_block_delta\ndata: {"delta": {"text": "hi"}}',
            'event: message_stop\ndata: {"type": "message_stop"}', done=False), EVENTS,
     FailureKind.UNAVAILABLE, "neither a finish_reason nor", []),
    ("error later", events(part("h"), {"error": {"code": 500}}), EVENTS,
     FailureKind.UNAVAILABLE, "error", ["h"]),
    ("finish error", events(part("h"), part(finish="error")), EVENTS, FailureKind.UNAVAILABLE,
     "ended with an error", ["h"]),
    ("length", events(part("h"), part(finish="length")), EVENTS, FailureKind.TOO_LARGE,
     "cut off at its length", ["h"]),
    ("filter", events(part(finish="content_filter")), EVENTS, FailureKind.CALLER, "filter", []),
    ("refusal", events(part(refusal="I can't"), part(finish="stop")), EVENTS,
     FailureKind.CALLER, "refuses", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "raw", "chunks"), STREAMS, ids=[each[0] for each in STREAMS])
def test_a_stream_is_its_text_piece_by_piece(name: str, raw: bytes, chunks: list[Any]) -> None:
    """However its server writes events, and whatever stands between them."""
    assert asyncio.run(streamed(Server(raw, EVENTS))) == (chunks, None)


@pytest.mark.parametrize(
    ("name", "raw", "content_type", "kind", "words", "chunks"),
    NO_STREAMS,
    ids=[each[0] for each in NO_STREAMS],
)
def test_a_stream_that_is_no_answer_is_a_failure_by_name_and_kind(
    name: str, raw: bytes, content_type: str, kind: FailureKind, words: str, chunks: list[Any]
) -> None:
    """What has come until then was passed on."""
    found, error = asyncio.run(streamed(Server(raw, content_type)))
    assert isinstance(error, UnsuccessfulResultError)
    assert words in str(error)
    assert (error.kind, found) == (kind, chunks)


def test_what_is_accepted_or_left_to_the_next_member_is_a_setting() -> None:
    """An answer that was cut off at its length; one that a filter has stopped."""
    cut = Server(body(whole("half", "length")), JSON)
    assert asyncio.run(asked(cut, on_length="accept")) == "half"
    cut = Server(events(part("half"), part(finish="length")), EVENTS)
    assert asyncio.run(streamed(cut, on_length="accept")) == (["half"], None)
    for said in (whole("", "content_filter"), whole(None, refusal="no")):
        with pytest.raises(UnsuccessfulResultError) as caught:
            asyncio.run(asked(Server(body(said), JSON), on_filter="next"))
        assert caught.value.kind.tries_another_member
        assert not caught.value.kind.counts_for_breaker


def test_a_body_that_breaks_off_fails_over() -> None:
    """By the client's own error; of a stream after its first chunk its consumer is told."""

    async def both() -> tuple[Any, list[Any]]:
        cut = Server(body(whole())[:-5], JSON, cut=True)
        cut_stream = Server(events(part("h"), done=False), EVENTS, cut=True)
        good = Server(body(whole("ok")), JSON)
        async with cut.running(), cut_stream.running(), good.running():

            def member(name: str, server: Server, rank: int) -> Member:
                make = lambda: OpenAIAgent("m", base_url=server.url)  # noqa: E731
                return Member(name, factory=make, priority=rank)

            # On a clock that stands still: the first import of the client may hold the interpreter
            # for so long that a broken connection is put down to a pause of the process.
            start = functools.partial(AgentPool.start, strategy="priority", clock=FakeClock())
            members = [member("cut", cut, 0), member("good", good, 1)]
            async with start(members) as pool:
                reply = await pool.ask(Request("x"), block=False)
            members[0] = member("cut", cut_stream, 0)
            async with start(members) as pool:
                chunks: list[Any] = []
                with pytest.raises(StreamInterruptedError):
                    async for chunk in pool.stream(Request("x")):
                        chunks.append(chunk)
        return reply, chunks

    reply, chunks = asyncio.run(asyncio.wait_for(both(), WAIT_S))
    assert (reply.value, [each.kind for each in reply.errors]) == ("ok", [FailureKind.UNAVAILABLE])
    assert chunks == ["h"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401 Unauthorized", FailureKind.AUTH),
        ("429 Too Many Requests", FailureKind.RATE_LIMITED),
        ("500 Internal Server Error", FailureKind.UNAVAILABLE),
        ("404 Not Found", FailureKind.NOT_FOUND),
    ],
)
def test_a_status_is_asked_for_once(status: str, kind: FailureKind) -> None:
    """The client tries nothing again by itself."""
    server = Server(body({"error": {"message": "no"}}), JSON, status)

    async def ask() -> AllPoolMembersFailedError:
        async with server.running():
            agent = OpenAIAgent("m", base_url=server.url)
            async with AgentPool.start([Member("a", agent)]) as pool:
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    await pool.ask(Request("x", max_retries=0), block=False, timeout=WAIT_S)
                return caught.value

    assert [each.kind for each in asyncio.run(ask()).errors] == [kind]
    assert len(server.asked) == 1


def test_a_request_is_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages as they are, the system's before them, more of the body, the key by its name."""
    monkeypatch.setenv("LOCAL_KEY", "s3cret")
    server = Server(body(whole()), JSON)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    settings: dict[str, Any] = {
        "system": "be brief",
        "params": {"temperature": 0.2, "of_this_server": [1]},
        "api_key_env": "LOCAL_KEY",
    }
    asyncio.run(asked(server, messages, **settings))
    (sent,) = server.asked
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, *messages]
    assert (sent["model"], sent["temperature"], sent["of_this_server"]) == ("m", 0.2, [1])
    assert "authorization: bearer s3cret" in server.heads[0].lower()
    assert "s3cret" not in repr(OpenAIAgent("m", base_url=server.url, api_key_env="LOCAL_KEY"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": ""}, "model"),
        ({"base_url": "localhost:1"}, "base_url must begin with http"),
        ({"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not"),
        ({"base_url": None}, "OPENAI_API_KEY is not"),
        ({"on_length": "retry"}, "on_length must be 'fail' or 'accept', got 'retry'"),
        ({"on_filter": "fail"}, "on_filter must be 'caller' or 'next', got 'fail'"),
        ({"params": {"stream": True}}, "params must not hold 'stream'"),
        ({"params": [1]}, "params must be a mapping"),
        ({"params": {"temperature": float("inf")}}, "params must be what can be encoded"),
        ({"system": 5}, "system"),
        ({"system": "half \ud800"}, "system must be what can be encoded, got a lone surrogate"),
    ],
)
def test_bad_settings_are_refused_by_name(
    settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When they are given; a key that is missing by the name of its variable."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = {"model": "m", "base_url": "http://127.0.0.1:1/v1", **settings}
    with pytest.raises((TypeError, ValueError), match=words):
        OpenAIAgent(**given)


@pytest.mark.parametrize("payload", [5, None, b"hi", ["hi"], {"role": "user"}])
def test_a_payload_that_is_no_prompt_is_refused(payload: Any) -> None:
    """By its type."""
    agent = OpenAIAgent("m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(TypeError, match="payload must be a str or a list of messages"):
        asyncio.run(agent.arun(payload))


def nested(depth: int) -> Any:
    """So many lists in lists."""
    return [nested(depth - 1)] if depth > 1 else []


USER = {"role": "user", "content": "s3cret"}


@pytest.mark.parametrize(
    "payload",
    [
        "s3cret \ud800",
        [{"role": "user", "content": [{"text": "s3cret \udfff"}]}],
        [{**USER, "weight": float("inf")}],
        [{**USER, "s3cret \ud800": 1}],
        [{**USER, "parts": nested(200)}],
        ChatPrompt([USER], {"temperature": float("nan")}),
        ChatPrompt([USER], {"stop": ["s3cret \ud800"]}),
        ChatPrompt([USER], {"tools": nested(200)}),
    ],
)
def test_a_payload_that_cannot_be_encoded_is_refused_without_repeating_it(payload: Any) -> None:
    """The client's own error would hold it whole, and count against the member."""
    agent = OpenAIAgent("m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(PayloadError, match="payload must be what can be encoded") as caught:
        asyncio.run(agent.arun(payload))
    assert "s3cret" not in str(caught.value)
    with pool_of(Member("gpt", agent), Member("twin", agent)) as pool:
        for _ in range(10):
            with pytest.raises(PayloadError):
                pool.execute(payload, timeout=WAIT_S)
        assert pool.stats().available == ("gpt", "twin")
        assert pool.stats().retries == 0


def test_a_list_that_holds_itself_is_refused() -> None:
    """By its depth, however often it does."""
    ring: list[Any] = []
    ring += [ring, ring]
    agent = OpenAIAgent("m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(PayloadError, match="lists in lists"):
        asyncio.run(agent.arun([{"role": "user", "content": ring}]))


def test_without_the_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra by its name."""
    for loaded in [each for each in sys.modules if each.split(".")[0] == "openai"]:
        monkeypatch.delitem(sys.modules, loaded)

    class Hidden:
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname.split(".")[0] == "openai":
                raise ModuleNotFoundError("No module named 'openai'", name="openai")

    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'greenroom\[openai\]'"):
        OpenAIAgent("m", base_url="http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("said", "metadata"),
    [
        ({}, {"model": "m-1", "usage": whole()["usage"]}),
        ({"usage": None}, {"model": "m-1"}),
        ({"model": None, "usage": "many"}, {}),
    ],
)
def test_a_reply_names_the_model_that_has_answered_and_its_usage(
    said: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """By the word of its server; of a stream at its end, from whichever event says so."""
    usage = {"choices": [], "model": "m-1", "usage": whole()["usage"], **said}
    parts = [{**part("hi"), **said}, {**part(finish="stop"), **said}, usage]

    async def main() -> None:
        answer = Server(body({**whole(), **said}), JSON)
        stream = Server(events(*parts), EVENTS)
        async with asyncio.timeout(WAIT_S), answer.running(), stream.running():
            async with AgentPool.start([member(answer)]) as pool:
                reply = await pool.aask(Request("hello"))
                assert (reply.value, reply.metadata) == ("hi", metadata)
            async with AgentPool.start([member(stream)]) as pool:
                chunks = pool.stream(Request("hello"))
                assert await chunks.acollect() == ["hi"]
                assert chunks.metadata == metadata

    def member(server: Server) -> Member:
        return Member("a", factory=lambda: OpenAIAgent("m", base_url=server.url))

    asyncio.run(main())
