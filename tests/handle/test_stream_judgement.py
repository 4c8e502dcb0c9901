"""The end of a stream: whether it came whole, and what is done when it did not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from helpers_answers import USAGE, chunk, dict_with_attributes, model, shaped
from helpers_pools import pool_of, ranked
from helpers_streams import PRODUCERS, READERS, Chunks, failures, rest, within

from greenroom import (
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PoolConfig,
    Request,
    StreamInterruptedError,
    UnsuccessfulResultError,
    answers,
)
from greenroom.actors.reading.stream_judge import StreamJudge
from greenroom.testing import AsyncScriptedAgent, ScriptedAgent

ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "a"})
STOP = chunk({}, "stop")

CHAT = [ROLE, TEXT, TEXT, STOP, USAGE]
ANTHROPIC: list[Any] = [
    {"type": "message_start", "message": {"content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
]
GEMINI: list[Any] = [
    {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": {}},
    {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]},
]
OLLAMA: list[Any] = [
    {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True},
]
COHERE: list[Any] = [
    {"type": "message-start", "id": "1"},
    {"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
]
COHERE_1: list[Any] = [
    {"event_type": "stream-start"},
    {"event_type": "text-generation", "text": "a"},
    {"event_type": "stream-end", "finish_reason": "COMPLETE"},
]
RESPONSES: list[Any] = [
    {"type": "response.created", "response": {}},
    {"type": "response.output_text.delta", "item_id": "1", "delta": "a"},
    {"type": "response.completed", "response": {}},
]
BEDROCK: list[Any] = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "a"}, "contentBlockIndex": 0}},
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
]
DASHSCOPE: list[Any] = [
    {
        "status_code": 200,
        "request_id": "1",
        "output": {"choices": [{"finish_reason": finish, "message": {"content": "a"}}]},
    }
    for finish in ("null", "stop")
]
PARENT = {"parent_tool_use_id": None, "session_id": "s"}
SESSION: list[Any] = [
    {"subtype": "init", "data": {"type": "system", "session_id": "s"}},
    {"content": [{"text": "a"}], "usage": None, "stop_reason": "end_turn", **PARENT},
    {"subtype": "success", "session_id": "s", "is_error": False, "result": "a"},
]


def state(word: str) -> dict[str, Any]:
    return {"task_id": "1", "context_id": "c", "status": {"state": word}}


TASK: list[Any] = [
    {"task": state("submitted")},
    {"status_update": state("working")},
    {"artifact_update": {"artifact": {"parts": [{"text": "a"}]}}},
    {"status_update": state("TASK_STATE_COMPLETED")},
]
WRAPPED: list[Any] = [{"data": each} for each in CHAT]
LANGCHAIN: list[Any] = [
    {"type": "AIMessageChunk", "content": "a", "response_metadata": {"model_provider": "openai"}},
    {
        "type": "AIMessageChunk",
        "content": "",
        "response_metadata": {"model_provider": "openai", "finish_reason": "stop"},
    },
]


def lines_of(chunks: list[Any], done: bool = True) -> list[str]:
    """The same as lines of server-sent events."""
    lines = [": keep-alive", ""]
    for each in chunks:
        lines += ["event: x", f"data: {json.dumps(each)}", ""]
    return [*lines, "data: [DONE]", ""] if done else lines


def blocks_of(chunks: list[Any]) -> list[bytes]:
    """The same as bytes that are cut wherever the network did."""
    whole = "\n".join(lines_of(chunks)).encode()
    return [whole[at : at + 37] for at in range(0, len(whole), 37)]


LANGCHAIN_RESPONSES: list[Any] = [
    LANGCHAIN[0],
    {
        "type": "AIMessageChunk",
        "content": [],
        "response_metadata": {"model_provider": "openai", "status": "completed"},
    },
]
MARKED = [
    CHAT,
    ANTHROPIC,
    GEMINI,
    OLLAMA,
    COHERE,
    COHERE_1,
    RESPONSES,
    BEDROCK,
    DASHSCOPE,
    LANGCHAIN,
    LANGCHAIN_RESPONSES,
    WRAPPED,
    SESSION,
    TASK,
    lines_of(CHAT),
    lines_of(ANTHROPIC, done=False),
    blocks_of(CHAT),
    [json.dumps(each) for each in OLLAMA],
    [json.dumps(each) + "\n" for each in OLLAMA],
]
ERRORS = [
    (CHAT, {"error": {"message": "m", "type": "server_error"}}),
    (CHAT, {**chunk({}, "error"), "error": {"message": "m", "code": 502}}),
    (ANTHROPIC, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
    (OLLAMA, {"error": "something broke"}),
    (RESPONSES, {"type": "response.failed", "response": {"error": {"message": "m"}}}),
    (RESPONSES, {"type": "error", "message": "m", "sequence_number": 3}),
    (COHERE, {"type": "message-end", "delta": {"finish_reason": "ERROR"}}),
    (SESSION, {"subtype": "success", "session_id": "s", "is_error": True}),
    (lines_of(CHAT), 'data: {"error": {"message": "m", "type": "server_error"}}'),
    ([json.dumps(each) for each in OLLAMA], '{"error": "something broke"}'),
]


def judged(chunks: list[Any], **settings: Any) -> StreamJudge:
    """The judge that has seen them all, and the end."""
    judge = StreamJudge(PoolConfig(**settings))
    for each in chunks:
        judge.add(each)
    judge.end()
    return judge


def before_the_end(chunks: list[Any]) -> list[Any]:
    """The chunks as far as they can go without being a whole stream."""
    return next(
        chunks[:count]
        for count in range(len(chunks) - 1, 0, -1)
        if judged(chunks[:count]).fault is not None
    )


class TestJudge:
    @pytest.mark.parametrize("chunks", MARKED)
    def test_a_whole_stream(self, chunks: list[Any]) -> None:
        """Text and the mark of its end, in the way of each client."""
        assert judged(chunks).fault is None

    @pytest.mark.parametrize(("stop", "tokens"), [("stop_sequence", 0), ("end_turn", 2)])
    def test_a_turn_of_claudes_that_is_empty_on_purpose(self, stop: str, tokens: int) -> None:
        """Its first word was a stop sequence, or it had nothing to add to what a tool returned."""

        def turn(stop: str, tokens: int) -> list[Any]:
            usage = {"output_tokens": tokens}
            return [
                {"type": "message_start", "message": {}},
                {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage},
                {"type": "message_stop"},
            ]

        assert judged(turn(stop, tokens)).fault is None
        assert judged(turn("end_turn", 0)).fault is not None

    @pytest.mark.parametrize("form", [shaped, dict_with_attributes, model])
    @pytest.mark.parametrize("chunks", MARKED[:14])
    def test_a_whole_stream_of_objects(self, chunks: list[Any], form: Any) -> None:
        """It is all the same what the client makes of a chunk."""
        assert judged([form(each) for each in chunks]).fault is None
        cut = judged([form(each) for each in before_the_end(chunks)]).fault
        assert cut is not None

    @pytest.mark.parametrize("chunks", MARKED)
    def test_a_cut_stream(self, chunks: list[Any]) -> None:
        """All but the mark of its end."""
        fault = judged(before_the_end(chunks)).fault
        assert fault is not None
        assert fault.kind is FailureKind.UNAVAILABLE
        assert "without the mark of its end" in fault.reason

    @pytest.mark.parametrize(("chunks", "error"), ERRORS)
    def test_an_error_in_a_stream(self, chunks: list[Any], error: Any) -> None:
        """It is one at once, and is not passed on."""
        judge = StreamJudge(PoolConfig())
        for each in chunks[:-1]:
            judge.add(each)
        assert not judge.fault
        judge.add(error)
        assert judge.fault
        assert "error" in str(judge.error("a", 0.0))

    def test_a_content_filter(self) -> None:
        """It is about the request."""
        fault = judged([ROLE, TEXT, chunk({}, "content_filter")]).fault
        assert fault is not None
        assert fault.kind is FailureKind.CALLER

    def test_a_stream_that_was_cut_off_at_its_length(self) -> None:
        """It has an end, and its consumer has had it."""
        assert judged([ROLE, TEXT, chunk({}, "length")]).fault is None

    def test_a_stream_that_was_cut_off_before_any_content(self) -> None:
        """Another member may have room for it."""
        fault = judged([ROLE, chunk({}, "length")]).fault
        assert fault is not None
        assert fault.kind is FailureKind.TOO_LARGE

    @pytest.mark.parametrize(
        "middle",
        [
            {"type": "response.output_item.added", "item": {"type": "function_call"}},
            {"type": "response.image_generation_call.partial_image", "partial_image_b64": "a"},
        ],
    )
    def test_a_response_without_a_text(self, middle: Any) -> None:
        """A tool call or an image is content; the realtime interface names its end otherwise."""
        for end in (RESPONSES[-1], {"type": "response.done", "response": {}}):
            middle = {"item_id": "1", **middle}
            assert judged([RESPONSES[0], middle, end]).fault is None
        whole = {"type": "response.completed", "response": {"output": [{"type": "message"}]}}
        assert judged([RESPONSES[0], whole]).fault is None
        assert judged([RESPONSES[0], RESPONSES[-1]]).fault is not None

    @pytest.mark.parametrize(
        "chunks",
        [[], [""], [None, ""], [ROLE, STOP], [ROLE, STOP, USAGE], lines_of([ROLE, STOP])],
    )
    def test_a_stream_without_content(self, chunks: list[Any]) -> None:
        """Nothing came but what is empty, and maybe the mark of an end."""
        fault = judged(chunks).fault
        assert fault is not None
        assert fault.reason == "a stream without content"
        assert judged(chunks, is_failure=None).fault is None

    @pytest.mark.parametrize(
        "chunks",
        [
            ["a", "b"],
            [b"a"],
            [1, 2],
            [{"text": "a"}],
            ["{", '"a": 1', "}"],
            ['{"a": 1}', '{"a": 2}'],
            ["data: the past\n", "was hard"],
            ["data: [1, 2]\n", "and so on"],
            ["event: token\n", 'data: {"token": "x"}\n', "\n"],
            ['event: token\ndata: {"token": "x"}\n\n', "event: end\ndata: {}\n\n"],
            [": ping\n\n", "id: 1\ndata: word\n\n"],
            ["retry: 100\n\n", "data: word\n\n", "data: word\n\n"],
            [": a colon first", "and then"],
            ["\n"],
            ["", " ", "\n", "a"],
            [object(), object()],
            [{"error": "no such city"}],
            [{"choices": [{"delta": {"content": "a"}}]}],
            [{"type": "AIMessageChunk", "content": "a", "response_metadata": {}}],
            [
                {
                    "type": "AIMessageChunk",
                    "content": "a",
                    "response_metadata": {"model_provider": 1},
                }
            ],
        ],
    )
    def test_a_stream_that_has_no_mark(self, chunks: list[Any]) -> None:
        """Nobody knows how it ends but its agent."""
        assert judged(chunks).fault is None

    def test_the_mark_is_for_the_app_to_say(self) -> None:
        """A function is asked of each chunk until it says yes."""
        asked: list[Any] = []

        def complete(each: Any) -> bool:
            asked.append(each)
            return bool(each == "END")

        assert judged(["a", "END", "b"], stream_complete=complete).fault is None
        assert asked == ["a", "END"]
        fault = judged(["a", "b"], stream_complete=complete).fault
        assert fault is not None
        assert fault.kind is FailureKind.UNAVAILABLE
        assert judged([ROLE, TEXT], stream_complete=lambda _: True).fault is None
        assert judged([ROLE, TEXT], stream_complete=None).fault is None

    def test_the_mark_of_the_end_is_no_keep_alive_after_content(self) -> None:
        """Before it, it does not begin the stream; after it, it is something to hear."""
        judge = StreamJudge(PoolConfig())
        assert [judge.add(each) for each in (ROLE, STOP, TEXT, ROLE, STOP)] == [
            True,
            True,
            False,
            True,
            False,
        ]

    def test_an_app_that_judges_by_itself(self) -> None:
        """Its `is_failure` is asked of a stream without content, with an empty list."""
        asked: list[Any] = []

        def refuse(value: Any) -> bool:
            asked.append(value)
            return not value

        assert judged(["a"], is_failure=refuse).fault is None
        assert judged(["", None], is_failure=refuse).fault is not None
        assert asked == [[]]
        both = answers.any_of(answers.auto, answers.cut_short)
        assert judged([], is_failure=both).fault is not None

    def test_what_is_remembered(self) -> None:
        """A few facts, however long the stream is."""
        for each in ("word ", b"x" * 100, TEXT, "data: " + json.dumps(TEXT), "data: {" + "x" * 99):
            judge = StreamJudge(PoolConfig())
            judge.add(each)
            tracemalloc.start()
            for _ in range(2_000):
                judge.add(each)
            size, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert size < 200_000


@pytest.mark.parametrize("producer", PRODUCERS)
class TestThroughAPool:
    @pytest.mark.parametrize("read", READERS)
    def test_a_role_does_not_end_failover(self, producer: Any, read: Any) -> None:
        """A first chunk without text is nothing yet: the next member takes over."""
        a, b = producer(ROLE, ConnectionError("gone")), producer(*CHAT)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == CHAT
            assert stream.member == "b"

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize(
        "chunks", [[], ["", None], [ROLE, STOP], [ANTHROPIC[0], *ANTHROPIC[-2:]]]
    )
    def test_an_empty_stream_goes_on_to_the_next(
        self, producer: Any, read: Any, chunks: list[Any]
    ) -> None:
        """It is a failure of the member, of which nobody has seen anything."""
        a = producer(*chunks) if chunks else producer(endless=())
        with pool_of(*ranked(a=a, b=producer("b"))) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == ["b"]
            assert failures(pool) == 1

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("chunks", [CHAT, ANTHROPIC, OLLAMA, RESPONSES, lines_of(CHAT)])
    def test_a_cut_stream_is_no_whole_one(
        self, producer: Any, read: Any, chunks: list[Any]
    ) -> None:
        """Its end comes in good order, without the mark of it."""
        sent = before_the_end(chunks)
        with pool_of(Member("a", producer(*sent))) as pool:
            stream = pool.stream(Request("x"))
            with pytest.raises(StreamInterruptedError) as raised:
                within(read, stream)
            assert list(raised.value.received) == sent
            assert isinstance(raised.value.__cause__, UnsuccessfulResultError)
            assert raised.value.errors[0].kind is FailureKind.UNAVAILABLE
            assert (failures(pool), pool.stats().failed) == (1, 1)

    def test_an_error_before_the_first_text(self, producer: Any) -> None:
        """The next member takes over, and nobody is shown it."""
        event = {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}}
        a, b = producer(ANTHROPIC[0], event), producer("b")
        with pool_of(*ranked(a=a, b=b)) as pool:
            assert rest(pool.stream(Request("x"))) == ["b"]

    def test_an_error_after_it(self, producer: Any) -> None:
        """The stream breaks off there, and the error is no chunk of it."""
        event = {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}}
        with pool_of(Member("a", producer(*ANTHROPIC[:4], event))) as pool:
            stream = pool.stream(Request("x"))
            with pytest.raises(StreamInterruptedError) as raised:
                rest(stream)
            assert list(raised.value.received) == ANTHROPIC[:4]
            assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("on_cut", ["restart", "hold"])
    def test_a_cut_that_is_survived(self, producer: Any, on_cut: Any) -> None:
        """Another member starts over, or nothing was shown: either way the answer is whole."""
        for sent in (CHAT[:3], [TEXT, {"error": {"message": "m", "code": 1}}], [ROLE, STOP]):
            with pool_of(*ranked(a=producer(*sent), b=producer(*CHAT)), on_cut=on_cut) as pool:
                assert pool.stream(Request("x")).collect() == CHAT

    def test_an_inner_pool_that_starts_over(self, producer: Any) -> None:
        """What was cut there is not taken for the outer one's."""
        members = ranked(a=producer(*lines_of(CHAT)[:6]), b=producer(*CHAT))
        with pool_of(*members, on_cut="restart") as inner, pool_of(Member("in", inner)) as outer:
            assert outer.stream(Request("x")).collect() == CHAT
            assert outer.execute("x") == CHAT

    def test_an_answer_that_does_not_stream(self, producer: Any) -> None:
        """It is judged as a value, and is whole, empty or not."""
        values: list[Any] = ["", None, [], "text", TEXT]
        for value in values:
            with pool_of(Member("a", ScriptedAgent([value]))) as pool:
                assert rest(pool.stream(Request("x"))) == [value]

    def test_settings_that_take_everything(self, producer: Any) -> None:
        """Then a stream is what its agent sends."""
        with pool_of(
            Member("a", producer(ROLE, STOP)), is_failure=None, stream_complete=None, is_empty=None
        ) as pool:
            assert rest(pool.stream(Request("x"))) == [ROLE, STOP]

    def test_what_ask_collects(self, producer: Any) -> None:
        """The list is judged by the same rules, and fails over as a whole."""
        good = producer(*CHAT)
        for chunks in (
            [ROLE, STOP],
            CHAT[:3],
            [TEXT, {"error": {"message": "m", "code": 1}}],
            [""],
        ):
            with pool_of(*ranked(a=producer(*chunks), b=good)) as pool:
                reply = pool.ask(Request("x"))
                assert (reply.value, reply.member) == (CHAT, "b")

    def test_what_ask_collects_is_for_the_app_to_judge(self, producer: Any) -> None:
        """Its `is_failure` is given the list."""
        with pool_of(
            *ranked(a=producer(1, 2), b=producer(3)), is_failure=lambda value: value == [1, 2]
        ) as pool:
            assert pool.execute("x") == [3]

    def test_a_pool_in_a_pool(self, producer: Any) -> None:
        """What the inner one has refused is refused once, and the outer one goes on."""
        with (
            pool_of(Member("a", producer(ROLE, STOP)), max_retries=0) as inner,
            pool_of(
                Member("in", inner, priority=0), Member("b", producer(*CHAT), priority=1)
            ) as outer,
        ):
            assert rest(outer.stream(Request("x"))) == CHAT
            assert outer.execute("x") == CHAT
            assert inner.stats()["a"].failures == 2


REFUSED = [
    ({"error": {"message": "secret", "type": "server_error"}}, FailureKind.UNAVAILABLE),
    (
        {"status_code": 429, "request_id": "1", "output": None, "code": "x"},
        FailureKind.RATE_LIMITED,
    ),
    ({"status_code": 401, "request_id": "1", "output": None, "code": "x"}, FailureKind.AUTH),
    ({"object": "chat.completion", "choices": []}, FailureKind.UNKNOWN),
    ("<html><head><title>502 Bad Gateway</title></head>secret", FailureKind.UNAVAILABLE),
]


@pytest.mark.parametrize("kind_of_agent", [ScriptedAgent, AsyncScriptedAgent])
class TestValues:
    @pytest.mark.parametrize(("value", "kind"), REFUSED)
    def test_a_failure_that_raises_nothing(
        self, kind_of_agent: Callable[..., Any], value: Any, kind: FailureKind
    ) -> None:
        """The next member answers; the error is of the value's kind, and has nothing of it."""
        with pool_of(*ranked(a=kind_of_agent([value]), b=kind_of_agent(["good"]))) as pool:
            reply = pool.ask(Request("x"))
            assert (reply.value, reply.member) == ("good", "b")
            (error,) = reply.errors
            assert error.kind is kind
            assert isinstance(error.error, UnsuccessfulResultError)
            assert "secret" not in str(error)
            assert str(error.error).startswith("a returned ")

    def test_a_content_filter_is_the_requests_own(self, kind_of_agent: Callable[..., Any]) -> None:
        """Nobody else is asked, and it says nothing of the member."""
        value = chunk({"content": "a"}, "content_filter")
        b = kind_of_agent(["good"])
        with pool_of(*ranked(a=kind_of_agent([value]), b=b)) as pool:
            with pytest.raises(UnsuccessfulResultError, match="content filter"):
                pool.ask(Request("x"))
            assert (len(b.calls), failures(pool)) == (0, 0)

    @pytest.mark.parametrize("value", [None, "", [], {}, 0, {"error": "x"}, "<html>mine</html>"])
    def test_an_own_value(self, kind_of_agent: Callable[..., Any], value: Any) -> None:
        """It is the answer."""
        with pool_of(Member("a", kind_of_agent([value]))) as pool:
            assert pool.execute("x") == value

    def test_a_function_that_says_of_which_kind(self, kind_of_agent: Callable[..., Any]) -> None:
        """A kind or a fault instead of a bool; `classify` has the last word as for any error."""
        a, b = kind_of_agent(["bad"]), kind_of_agent(["good"])
        for said, kind in (
            (FailureKind.QUOTA, FailureKind.QUOTA),
            (answers.Fault("a poor answer", FailureKind.TOO_LARGE), FailureKind.TOO_LARGE),
            (True, FailureKind.UNKNOWN),
            ("secret", FailureKind.UNKNOWN),
        ):
            with pool_of(
                *ranked(a=a, b=b), is_failure=lambda value, said=said: value == "bad" and said
            ) as pool:
                (error,) = pool.ask(Request("x")).errors
                assert error.kind is kind
                assert "secret" not in str(error)
        with pool_of(
            *ranked(a=a, b=b),
            is_failure=lambda value: value == "bad" and FailureKind.CALLER,
            classify=lambda error: FailureKind.UNAVAILABLE,
        ) as pool:
            assert pool.ask(Request("x")).errors[0].kind is FailureKind.UNAVAILABLE

    def test_none_takes_every_value(self, kind_of_agent: Callable[..., Any]) -> None:
        """Off is off."""
        value = {"error": {"message": "m", "type": "server_error"}}
        with pool_of(Member("a", kind_of_agent([value])), is_failure=None) as pool:
            assert pool.execute("x") == value


def test_every_member_without_content() -> None:
    """The error of the request names each, and why."""
    with (
        pool_of(Member("a", Chunks("")), max_retries=0) as pool,
        pytest.raises(AllPoolMembersFailedError, match="a returned a stream without content"),
    ):
        rest(pool.stream(Request("x")))
