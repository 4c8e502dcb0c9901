"""A pool by HTTP, asked by plain sockets: answers, streams, refusals. Behaviours 197 to 200."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import httpx
import pytest
from helpers_agents import raising_async
from helpers_pools import WAIT_S, echo, echo_async, pool_of, ranked
from helpers_processes import PROCESS_S
from helpers_serving import KEY, event_of, said, served

import greenroom
from greenroom import CallContext, FailureKind, Member, UnsuccessfulResultError
from greenroom.kinds import ChatPrompt, CommandAgent
from greenroom.serve import create_app
from greenroom.testing import http_error

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


async def by_word(prompt: str) -> AsyncIterator[str]:
    for word in prompt.split():
        yield word


def test_a_whole_answer() -> None:
    """In the form of the protocol; the headers say who has answered, and the id in the log."""
    with served(*ranked(bad=raising_async(http_error(503)), good=echo_async)) as server:
        answer = server.chat("hello")
    choice = answer.said["choices"][0]
    assert (answer.status, answer.said["object"], answer.said["model"]) == (
        200,
        "chat.completion",
        "pool",
    )
    assert choice["message"] == {"role": "assistant", "content": "hello"}
    assert choice["finish_reason"] == "stop"
    assert answer.headers["x-greenroom-member"] == "good"
    assert answer.headers["x-greenroom-attempts"] == "2"
    assert answer.headers["x-request-id"] == answer.said["id"]


def test_a_stream() -> None:
    """Chunks as events, the role with the first, a finish_reason and `[DONE]` at the end."""
    with served(Member("m", by_word)) as server:
        answer = server.chat("one two", stream=True)
    first, second, last, done = answer.events
    assert (answer.status, done) == (200, "[DONE]")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "one"}
    assert second["choices"][0]["delta"] == {"content": "two"}
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert {each["id"] for each in (first, second, last)} == {answer.headers["x-request-id"]}


def test_a_plain_answer_streams_as_one_chunk() -> None:
    """Whatever the member is."""
    with served(Member("m", echo)) as server:
        assert server.chat("all of it", stream=True).text == "all of it"


def test_tool_calls_are_passed_on() -> None:
    """As a message, or as parts of one, with the reason that says so."""
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    with served(Member("m", lambda _: message)) as server:
        whole, stream = server.chat(), server.chat(stream=True)
    assert whole.said["choices"][0]["message"] == message
    assert whole.said["choices"][0]["finish_reason"] == "tool_calls"
    part, last, _ = stream.events
    assert part["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **CALL}]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_what_members_get() -> None:
    """A text, which is all that a plain agent needs; the messages and parameters stand in it."""
    seen: list[Any] = []

    def agent(prompt: str) -> str:
        seen.append(prompt)
        return "seen"

    with served(Member("m", agent)) as server:
        server.chat("hi", temperature=0.2, seed=7)
        server.post(
            {"messages": [{"role": "system", "content": "Be short."}, *said("hi")["messages"]]}
        )
    assert seen[0] == "hi"
    assert isinstance(seen[0], ChatPrompt)
    assert dict(seen[0].params) == {"temperature": 0.2, "seed": 7}
    assert seen[1] == "system: Be short.\n\nuser: hi"


def test_models_are_the_names_of_the_pool() -> None:
    """Its own, one that every pool has, and those that it was given; others are unknown."""
    with served(Member("m", echo), models=["gpt-5"]) as server:
        listed = [each["id"] for each in server.get("/v1/models").said["data"]]
        assert listed == ["pool", "greenroom", "gpt-5"]
        assert server.get("/v1/models/gpt-5").said["id"] == "gpt-5"
        assert server.get("/v1/models/gpt-6").status == 404
        assert server.chat(model="gpt-5").said["model"] == "gpt-5"
        unknown = server.chat(model="m")  # a member cannot be asked for
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")


def test_any_model() -> None:
    """A client whose model is fixed changes its URL alone."""
    with served(Member("m", echo), models=["*"]) as server:
        assert server.chat(model="gpt-17-nano").said["model"] == "gpt-17-nano"
        assert [e["id"] for e in server.get("/v1/models").said["data"]] == ["pool", "greenroom"]


BAD: list[tuple[str, Any, str | None]] = [
    ("no JSON", b"{", None),
    ("not UTF-8", b'{"messages": "\xff"}', None),
    ("no object", b"[]", None),
    ("deep", b"[" * 100_000, None),
    ("a number that is none", b'{"messages": [], "temperature": NaN}', None),
    ("an infinite number", b'{"messages": [], "temperature": 1e999}', "temperature"),
    ("half a character", b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "messages"),
    ("half a character in a name", b'{"messages": [], "\\udfff": 1}', None),
    ("half a character, raw", b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', None),
    ("UTF-16", json.dumps(said()).encode("utf-16"), None),
    ("UTF-32", json.dumps(said("\ud800")).encode("utf-32"), None),
    ("lists in lists", b'{"tools": ' + b"[" * 200 + b"]" * 200 + b"}", "tools"),
    ("no messages", {"model": "pool"}, "messages"),
    ("empty messages", {"messages": []}, "messages"),
    ("messages of texts", {"messages": ["hi"]}, "messages[0]"),
    ("no role", {"messages": [{"content": "hi"}]}, "messages[0].role"),
    ("no such role", {"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
    ("a role that is none", {"messages": [{"role": [], "content": "hi"}]}, "messages[0].role"),
    ("no content", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("a number as content", {"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    (
        "a number as tool_calls",
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
        "messages[0].tool_calls",
    ),
    (
        "an object as tool_calls",
        {"messages": [{"role": "assistant", "tool_calls": {}}]},
        "messages[0].tool_calls",
    ),
    ("model of the wrong type", said(model=7), "model"),
    ("stream of the wrong type", said(stream="yes"), "stream"),
    ("options without a stream", said(stream_options={}), "stream_options"),
    ("options of the wrong type", said(stream=True, stream_options=1), "stream_options"),
    ("two answers", said(n=2), "n"),
    ("logprobs", said(logprobs=True), "logprobs"),
    ("functions of old", said(functions=[{"name": "f"}]), "functions"),
    ("sound", said(modalities=["text", "audio"]), "modalities"),
]


@pytest.fixture(scope="module")
def plain() -> Any:
    # Others are there at the time, whose name is "pool".
    with served(Member("m", echo), name="plain", models=("pool",)) as server:
        yield server


@pytest.mark.parametrize(("body", "param"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_does_not_hold_is_refused_by_its_field(
    plain: Any, body: Any, param: str | None
) -> None:
    """With status 400, in OpenAI's form, and without what was sent."""
    answer = plain.post(body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert answer.error["param"] == param
    assert param is None or answer.error["message"].startswith(param)


def test_values_that_ask_for_nothing_are_no_offence(plain: Any) -> None:
    """Clients send the defaults along."""
    answer = plain.chat("hi", n=1, logprobs=False, modalities=["text"], stream=None, functions=None)
    assert answer.content == "hi"


def test_pages_methods_and_types_that_are_not_served(plain: Any) -> None:
    """In OpenAI's form, too."""
    assert plain.get("/v1/embeddings").error["code"] == "not_found"
    assert plain.get("/v1/chat/completions").status == 405
    form = plain.post(said(), {"content-type": "text/plain"})
    assert (form.status, form.error["code"]) == (415, "unsupported_media_type")


def test_a_page_of_a_browser_is_kept_out(plain: Any) -> None:
    """One whose own name leads to this machine cannot ask by it."""
    assert plain.get("/v1/models", host="evil.example:80").status == 403
    assert plain.get("/v1/models", host="localhost:80").status == 200


HOSTS: list[tuple[list[str], int]] = [
    (["localhost"], 200),
    (["LOCALHOST:80"], 200),
    (["127.0.0.1:8000"], 200),
    (["[::1]"], 200),
    (["[::1]:80"], 200),
    (["localhost:"], 200),
    ([], 403),
    ([""], 403),
    (["localhost", "localhost"], 403),
    (["localhost", "page.example"], 403),
    (["page.example"], 403),
    (["{x}.page.example"], 403),
    (["a`b.page.example:80"], 403),
    (["page.example:99999"], 403),
    (["page.example|x"], 403),
    (["page.example\xa0"], 403),
    (["localhost.page.example"], 403),
    (["localhost@page.example"], 403),
    (["page.example@localhost"], 403),
    (["page.example?@localhost"], 403),
    (["localhost/page.example"], 403),
    (["localhost:page"], 403),
    (["localhost:80:80"], 403),
    (["localhost:123456"], 403),
    (["[::1"], 403),
    (["::1"], 403),
    (["[localhost]page.example"], 403),
    (["localhost\n"], 403),
]


@pytest.mark.parametrize(("hosts", "status"), HOSTS, ids=[repr(h[0]) for h in HOSTS])
def test_a_host_is_one_of_those_or_refused(hosts: list[str], status: int) -> None:
    """By the header itself: what is odd in it is not taken for where the server listens."""
    heads = [(b"host", each.encode("latin-1")) for each in hosts]
    assert asked_of_app("/v1/models", heads) == status


def test_a_path_with_a_slash_too_many_is_not_there() -> None:
    """No redirect goes out, to a client whose host and key nobody has looked at."""
    assert asked_of_app("/v1/models/", [(b"host", b"page.example")]) == 403
    assert asked_of_app("/v1/chat/completions/", [(b"host", b"page.example")]) == 404
    assert asked_of_app("/nowhere", [(b"host", b"[::1")]) == 404


def asked_of_app(path: str, heads: list[tuple[bytes, bytes]]) -> int:
    """The status of an app that takes the names of this machine, which it listens at."""
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def main() -> None:
        with pool_of(Member("m", echo), event_loop="own") as pool:
            app = create_app(pool, hosts=("Localhost", "127.0.0.1", "::1"))
            where = {"path": path, "query_string": b"", "headers": heads}
            listens = {"scheme": "http", "server": ("127.0.0.1", 8000)}
            await app({"type": "http", "method": "GET", **where, **listens}, receive, send)

    asyncio.run(main())
    return statuses[0]


def test_a_body_that_is_too_long_is_not_read() -> None:
    """It is refused when so much of it has come."""

    async def main() -> httpx.Response:
        with pool_of(Member("m", echo), event_loop="own") as pool:
            app = create_app(pool, max_body_bytes=100)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                return await client.post("/v1/chat/completions", json=said("x" * 100))

    answer = asyncio.run(main())
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


# -- the key


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Basic {KEY}", KEY, "Bearer ", "Bearer ü"])
def test_a_wrong_key_is_refused(sent: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    """On every path but that of the health; neither key is shown anywhere."""
    heads = {} if sent is None else {"authorization": sent}
    with served(Member("m", echo), key=KEY) as server:
        refused = [server.post(said(), heads), server.get("/v1/models", **heads)]
        assert server.get("/healthz").status == 200
    for answer in refused:
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.body.decode()
    assert KEY not in "".join(capfd.readouterr())


def test_the_right_key_opens() -> None:
    """However its scheme is written."""
    with served(Member("m", echo), key=KEY) as server:
        assert server.post(said(), {"authorization": f"bearer  {KEY}"}).status == 200


def test_nothing_listens_beyond_this_machine_without_a_key() -> None:
    """Unless it is told to, in so many words."""
    with pytest.raises(ValueError, match="unless there is a key"), served(host="0.0.0.0"):
        pass
    with served(Member("m", echo), host="0.0.0.0", without_key=True) as server:
        assert server.get("/v1/models", host="any.example").status == 200


# -- failures


def failing(error: Any) -> Callable[..., Any]:
    return raising_async(error)


class BadRequest(Exception):
    """As the openai client raises it."""

    status_code = 400

    def __init__(self, **body: Any) -> None:
        super().__init__("Error code: 400")
        self.body = body


FAILURES: list[tuple[str, Any, int, str | None]] = [
    ("throttled", http_error(429, retry_after_s=7), 429, "rate_limit_exceeded"),
    ("too large", http_error(413), 400, "context_length_exceeded"),
    ("bad key of ours", http_error(401), 502, "members_set_up_wrong"),
    ("no such model of ours", http_error(404), 502, "members_set_up_wrong"),
    ("out", http_error(503), 503, "no_member_available"),
    ("late", TimeoutError(), 504, "timeout"),
    ("filtered", UnsuccessfulResultError("it was flagged", kind=FailureKind.CALLER), 400,
     "content_filter"),
    ("filtered by a status", BadRequest(code="content_filter", message="no"), 400,
     "content_filter"),
    ("at fault", BadRequest(code="bad_seed", message="seed is odd", param="seed"), 400, "bad_seed"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "code"), [f[1:] for f in FAILURES],
                         ids=[f[0] for f in FAILURES])  # fmt: skip
def test_a_failure_has_the_status_of_its_kind(
    error: Any, status: int, code: str, stream: bool
) -> None:
    """Also where a stream was asked for: nothing has been sent yet."""
    members = ranked(one=failing(error), two=failing(error))
    with served(*members, config={"max_retries": 1}) as server:
        answer = server.chat(stream=stream)
    assert (answer.status, answer.error["code"]) == (status, code)
    waits = status in (429, 503)
    assert ("retry-after" in answer.headers) is waits
    assert not waits or int(answer.headers["retry-after"]) >= (7 if status == 429 else 1)


def test_the_words_of_who_is_at_fault_are_passed_on() -> None:
    """What a server says of the request is for who has made it, with the field."""
    error = BadRequest(code="bad_seed", message="seed is odd", param="seed")
    with served(Member("m", failing(error))) as server:
        said = server.chat().error
    assert said == {
        "message": "seed is odd",
        "type": "invalid_request_error",
        "param": "seed",
        "code": "bad_seed",
    }


def test_what_servers_say_of_themselves_is_not_passed_on() -> None:
    """A refusal of a backend's may quote its key: a client reads the members and the kinds."""
    error = BadRequest(message="Incorrect API key provided: sk-backend-1")
    error.status_code = 401
    with served(Member("gpt", failing(error))) as server:
        message = server.chat().error["message"]
    assert message.startswith("pool 'pool': no member could answer")
    assert message.endswith("; gpt: auth")
    assert "sk-backend-1" not in message


def test_a_member_that_may_yet_take_it_makes_too_large_a_matter_of_waiting() -> None:
    """Only what fits nobody is the client's to shorten."""
    members = ranked(small=failing(http_error(413)), large=failing(http_error(503)))
    with served(*members) as server:
        assert server.chat().status == 503


@pytest.mark.parametrize("stream", [False, True])
def test_a_keep_alive_is_no_part_of_an_answer(stream: bool) -> None:
    """Of a whole one neither."""

    async def slow(prompt: str) -> AsyncIterator[str | None]:
        for chunk in (None, "kept ", None, "alive"):
            yield chunk

    with served(Member("m", slow)) as server:
        answer = server.chat(stream=stream)
    assert (answer.text if stream else answer.content) == "kept alive"


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_said_to_a_member_harms_nobody_else(stream: bool) -> None:
    """It is refused to its client, however often, and the others are answered."""
    command = CommandAgent([sys.executable, "-c", "print('said')"], prompt="argument")
    with served(Member("tool", command)) as server:
        for _ in range(10):
            refused = server.chat("\0", stream=stream)
            assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
            assert "null" in refused.error["message"]
        assert server.chat().content == "said"


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    """What has come is sent, then an event in the form on which clients raise, and no `[DONE]`."""

    async def cut(prompt: str) -> AsyncIterator[str]:
        yield "Once "
        raise ConnectionError("sk-backend-1")

    with served(Member("m", cut)) as server:
        answer = server.chat(stream=True)
    first, last = answer.events
    assert first["choices"][0]["delta"]["content"] == "Once "
    assert last["error"]["code"] == "stream_interrupted"
    assert last["error"]["message"].endswith("broke off: unavailable")
    assert b"sk-backend-1" not in answer.body


@pytest.mark.parametrize(
    "tokens",
    [float("nan"), object(), {("a", 1): 2}, 10**5000],
    ids=["nan", "no JSON", "key", "long"],
)
def test_a_usage_that_cannot_be_written_costs_no_answer(tokens: Any) -> None:
    """It is left out, of a stream and of a whole answer; what else was said of it stays."""

    async def counting(prompt: str, context: CallContext) -> AsyncIterator[str]:
        yield "all of it"
        context.describe(model="m-1", usage={"total_tokens": tokens})

    with served(Member("m", counting)) as server:
        whole = server.chat()
        stream = server.chat(stream=True, stream_options={"include_usage": True})
    assert (whole.content, whole.said["model"], "usage" in whole.said) == (
        "all of it",
        "m-1",
        False,
    )
    assert (stream.text, stream.events[-1]) == ("all of it", "[DONE]")
    assert all(each.get("usage") is None for each in stream.events[:-1])


def test_a_stream_whose_end_cannot_be_written_ends_with_an_error() -> None:
    """As one does that breaks off: its client is told, and the connection is not just cut."""

    class Odd(str):
        def __bool__(self) -> bool:
            raise RuntimeError("a secret")

    async def odd(prompt: str, context: CallContext) -> AsyncIterator[str]:
        yield "most of it"
        context.describe(finish_reason=Odd())

    with served(Member("m", odd)) as server:
        answer = server.chat(stream=True)
    assert answer.text == "most of it"
    assert "error" in answer.events[-1]


def test_what_a_restarted_stream_voids_cannot_be_said() -> None:
    """So it ends with an error, and not with two beginnings in one text."""
    sent = threading.Event()

    async def cut(prompt: str) -> AsyncIterator[str]:
        yield "Once "
        await asyncio.to_thread(sent.wait, WAIT_S)
        raise ConnectionError

    members = ranked(a=cut, b=by_word)
    with (
        served(*members, config={"on_cut": "restart"}) as server,
        server.open(stream=True) as lines,
    ):
        assert event_of(lines)["choices"][0]["delta"]["content"] == "Once "
        sent.set()
        assert event_of(lines)["error"]["code"] == "stream_interrupted"
        assert lines.read() == b"\n"


ANSWERS: list[tuple[Any, str]] = [
    ("text", "text"),
    (["in ", "parts"], "in parts"),
    ([None, "kept ", None, "alive"], "kept alive"),
    (["a", 1, None], '["a", 1, null]'),
    ({"role": "assistant", "content": "message"}, "message"),
    ({"answer": [1, True]}, '{"answer": [1, true]}'),
    (42, "42"),
    (None, ""),
    ("half \ud800", "half ?"),
]


@pytest.mark.parametrize(("value", "content"), ANSWERS, ids=[a[1] or "none" for a in ANSWERS])
def test_an_answer_is_a_text(value: Any, content: str) -> None:
    """A text is one, so are chunks that were collected and messages; other JSON is written."""
    with served(Member("m", lambda _: value), config={"is_failure": None}) as server:
        assert server.chat().content == content


def test_an_event_is_one_line_by_whatever_rules() -> None:
    """Some clients cut lines where Python does: what they would cut at is escaped."""
    with served(Member("m", lambda _: "a\u2028b\u2029c\x85d")) as server:
        answer = server.chat(stream=True)
    assert answer.text == "a\u2028b\u2029c\x85d"
    assert all(line.startswith("data: ") for line in answer.body.decode().splitlines() if line)


def test_an_answer_that_is_no_text_is_said_to_be_none() -> None:
    """And not shown as whatever its repr is."""
    with served(Member("m", lambda _: object())) as server:
        whole, stream = server.chat(), server.chat(stream=True)
    assert (whole.status, whole.error["code"]) == (502, "answer_not_text")
    assert stream.events[-1]["error"]["code"] == "answer_not_text"


def test_an_error_of_the_servers_own_is_told_without_its_words() -> None:
    """To the client by its class, to the log with its place."""
    sent: list[Any] = []
    lines: list[str] = []

    async def receive() -> NoReturn:
        raise RuntimeError("a secret")

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        with pool_of(Member("m", echo), event_loop="own") as pool:
            heads = [(b"content-type", b"application/json")]
            where = {"path": "/v1/chat/completions", "query_string": b"", "headers": heads}
            await create_app(pool)({"type": "http", "method": "POST", **where}, receive, send)

    end = greenroom.log("ERROR", sink=lines.append)
    try:
        asyncio.run(main())
    finally:
        end()
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal_error"
    assert b"a secret" not in sent[1]["body"]
    (line,) = lines
    assert "RuntimeError at " in line
    assert "a secret" not in line


def test_health_follows_the_members() -> None:
    """For a load balancer: 503 once nobody may be asked."""
    with served(Member("m", failing(http_error(401)))) as server:
        assert server.get("/healthz").said == {"status": "ok"}
        server.chat()
        answer = server.get("/healthz")
    assert (answer.status, answer.said) == (503, {"status": "unavailable"})


def test_an_app_to_mount() -> None:
    """In another app, under a path of that one's; the pool is the app's."""
    from fastapi import FastAPI

    async def main() -> tuple[int, Any]:
        with pool_of(Member("m", echo), event_loop="own") as pool:
            outer = FastAPI()
            outer.mount("/llm", create_app(pool))
            transport = httpx.ASGITransport(outer)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                got = await client.post("/llm/v1/chat/completions", json=said("hi"))
                return got.status_code, got.json()["choices"][0]["message"]["content"]

    assert asyncio.run(main()) == (200, "hi")


HIDDEN = """
import sys

class Hidden:
    def find_spec(self, fullname, path, target=None):
        if fullname.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(name={package!r})

sys.meta_path.insert(0, Hidden())
from greenroom.cli import main
sys.exit(main(["serve"]))
"""


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    """The command in one line, with exit code 2."""
    code = HIDDEN.format(package=package)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROCESS_S)
    words = f"greenroom: greenroom.serve needs {package}: pip install 'greenroom[serve]'\n"
    assert (done.returncode, done.stderr) == (2, words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"key": " "}, "key must not be empty"),
        ({"models": "gpt"}, "models must be several names"),
        ({"models": [""]}, "models must not be empty"),
        ({"hosts": "localhost"}, "hosts must be several names"),
        ({"max_body_bytes": 0}, "max_body_bytes must be at least 1"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: Any, words: str) -> None:
    """When they are given."""
    with (
        pool_of(Member("m", echo), event_loop="own") as pool,
        pytest.raises((TypeError, ValueError), match=words),
    ):
        create_app(pool, **settings)
    with pytest.raises(TypeError, match="pool must be a PoolRef"):
        create_app("pool")  # type: ignore[arg-type]
