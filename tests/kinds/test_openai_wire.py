"""What else may come over the wire: other statuses, encodings, ends of a body, too much of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_completions import (
    CHUNKED,
    EVENTS,
    HTML,
    JSON,
    Wire,
    asked,
    body,
    chunked,
    events,
    part,
    response,
    streamed,
    whole,
)

from greenroom import AgentPool, FailureKind, Member, Request, UnsuccessfulResultError
from greenroom.actors.reading.classify import classify
from greenroom.kinds import OpenAIAgent
from greenroom.kinds.event_lines import EventLines

WHOLE = body(whole())
STREAM = events(part("h"), part("i"), part(finish="stop"))
FINISHED = events(part("h"), part("i", "stop"), done=False)
GZIP = "content-encoding: gzip"


def redirect(status: str, to: str) -> bytes:
    return response(b"", status, f"location: {to}")


ANSWERED: dict[str, tuple[bytes, ...]] = {
    "compressed": (response(gzip.compress(WHOLE), "200 OK", GZIP, content_type=JSON),),
    "in pieces": (response(chunked(WHOLE[:9], WHOLE[9:]), "200 OK", CHUNKED),),
    "without a length": (response(WHOLE).replace(b"content-length", b"x-length"),),
    "a text by its type": (response(WHOLE, content_type="text/plain"),),
    "a page by its type": (response(WHOLE, content_type=HTML),),
    "no type": (response(WHOLE),),
    "an encoding that nobody knows": (response(WHOLE, "200 OK", "content-encoding: zz"),),
    "a charset that nobody knows": (response(WHOLE, content_type=f"{JSON}; charset=zz"),),
    "moved": (redirect("307 Temporary Redirect", "URL/new"), response(WHOLE)),
    "created": (response(WHOLE, "201 Created"),),
}


@pytest.mark.parametrize("responses", ANSWERED.values(), ids=ANSWERED)
def test_an_answer_is_one_however_it_is_sent(responses: tuple[bytes, ...]) -> None:
    """Compressed, in pieces, with a wrong type or none, moved."""
    assert asyncio.run(asked(Wire(*responses))) == "hi"


STREAMED: dict[str, tuple[bytes, ...]] = {
    "compressed": (response(gzip.compress(STREAM), "200 OK", GZIP, content_type=EVENTS),),
    "byte by byte": (
        response(chunked(*(bytes([each]) for each in STREAM)), "200 OK", CHUNKED),
    ),
    "JSON by its type": (response(STREAM, content_type=JSON),),
    "a page by its type": (response(STREAM, content_type=HTML),),
    "another charset by its type": (response(STREAM, content_type=f"{EVENTS}; charset=latin-1"),),
    "moved": (redirect("308 Permanent Redirect", "URL/new"), response(STREAM)),
    "cut behind its end": (response(chunked(STREAM, cut=True), "200 OK", CHUNKED),),
    "cut behind its finish_reason": (
        response(chunked(FINISHED, cut=True), "200 OK", CHUNKED),
    ),
}  # fmt: skip


@pytest.mark.parametrize("responses", STREAMED.values(), ids=STREAMED)
def test_a_stream_is_one_however_it_is_sent(responses: tuple[bytes, ...]) -> None:
    """And broken off behind its end it is whole."""
    assert asyncio.run(streamed(Wire(*responses))) == (["h", "i"], None)


def test_a_stream_whose_server_leaves_it_open_has_its_end_all_the_same() -> None:
    """Once it has said so."""
    open_end = response(chunked(STREAM, cut=True), "200 OK", CHUNKED, content_type=EVENTS)
    assert asyncio.run(streamed(Wire(open_end, open_end=True))) == (["h", "i"], None)


def test_a_connection_serves_again_after_a_stream() -> None:
    """The end of the body is read."""
    kept = response(chunked(STREAM), "200 OK", CHUNKED).replace(b"connection: close\r\n", b"")
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                writer.write(kept)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def main() -> list[Any]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            agent = OpenAIAgent(
                "m", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            )
            heard = [[each async for each in agent.astream("hello")] for _ in range(3)]
            await agent.aclose()
            return heard

    assert asyncio.run(main()) == [["h", "i"]] * 3
    assert connections == 1


NO_ANSWER: dict[str, tuple[tuple[bytes, ...], FailureKind, str]] = {
    "no content": ((response(b"", "204 No Content"),), FailureKind.UNAVAILABLE, "an empty body"),
    "accepted": ((response(b'{"id": "job-1"}', "202 Accepted"),), FailureKind.UNAVAILABLE,
                 "no completion"),
    "moved to a page": ((redirect("302 Found", "URL/login"), response(b"<html>log in</html>")),
                        FailureKind.UNAVAILABLE, "HTML page"),
    "moved in a circle": ((redirect("307 Moved", "URL/again"),), FailureKind.UNAVAILABLE, ""),
    "moved nowhere": ((response(b"", "307 Moved"),), FailureKind.UNAVAILABLE, "307"),
    "moved to what is no address": ((redirect("307 Moved", "http://[bad"),),
                                    FailureKind.UNAVAILABLE, ""),
    "not modified": ((response(b"", "304 Not Modified"),), FailureKind.UNAVAILABLE, "304"),
    "said to be compressed": ((response(WHOLE, "200 OK", GZIP),), FailureKind.UNAVAILABLE, ""),
    "compressed and cut": ((response(gzip.compress(WHOLE)[:-30], "200 OK", GZIP),),
                           FailureKind.UNAVAILABLE, "cut off"),
    "in pieces and cut": ((response(chunked(WHOLE[:9], cut=True), "200 OK", CHUNKED),),
                          FailureKind.UNAVAILABLE, ""),
    "in pieces of another kind": ((response(b"zz\r\nhello", "200 OK", CHUNKED),),
                                  FailureKind.UNAVAILABLE, ""),
    "shorter than its body": ((response(WHOLE, "200 OK", "content-length: 20"),),
                              FailureKind.UNAVAILABLE, "cut off"),
    "nothing at all": ((b"",), FailureKind.UNAVAILABLE, ""),
    "no HTTP": ((b"hello\r\n\r\n",), FailureKind.UNAVAILABLE, ""),
    "no status": ((b"HTTP/1.1 abc OK\r\n\r\n",), FailureKind.UNAVAILABLE, ""),
    "a status of its own": ((response(WHOLE, "999 Odd"),), FailureKind.UNAVAILABLE, "999"),
    "an error that may be tried again": (
        (response(b"{}", "500 No", "x-should-retry: true", "retry-after: 0"),),
        FailureKind.UNAVAILABLE, "500"),
    "an error as a page": ((response(b"<html>502</html>", "502 Bad Gateway", content_type=HTML),),
                           FailureKind.UNAVAILABLE, "502"),
    "a key's error as a page": ((response(b"<html>no</html>", "401 No", content_type=HTML),),
                                FailureKind.AUTH, "401"),
    "an error of no text": ((response(b"\xff\xfe", "500 No", content_type=JSON),),
                            FailureKind.UNAVAILABLE, "500"),
    "an error that is too deep": ((response(b"[" * 5_000, "503 No", content_type=JSON),),
                                  FailureKind.UNAVAILABLE, "503"),
    "an error of null": ((response(b"null", "400 No", content_type=JSON),), FailureKind.CALLER,
                         "400"),
    "an empty account": ((response(body({"error": {"code": "insufficient_quota"}}), "429 No",
                                   content_type=JSON),), FailureKind.QUOTA, "429"),
    "too long a prompt": ((response(body({"error": {"code": "context_length_exceeded"}}), "400 No",
                                    content_type=JSON),), FailureKind.TOO_LARGE, "400"),
    "Azure's filter": ((response(body({"error": {"code": "content_filter"}}), "400 No",
                                 content_type=JSON),), FailureKind.CALLER, "400"),
}  # fmt: skip


@pytest.mark.parametrize(("responses", "kind", "words"), NO_ANSWER.values(), ids=NO_ANSWER)
@pytest.mark.parametrize("streams", [False, True], ids=["asked", "streamed"])
def test_what_is_no_answer_is_a_failure_by_kind_however_it_is_sent(
    responses: tuple[bytes, ...], kind: FailureKind, words: str, streams: bool
) -> None:
    """Of the client's own or by name, and never an error of our own; asked for once."""
    server = Wire(*responses)

    async def error() -> BaseException | None:
        if streams:
            chunks, error = await streamed(server)
            assert chunks == []
            return error
        with pytest.raises(Exception) as caught:
            await asked(server)
        return caught.value

    found = asyncio.run(error())
    assert isinstance(found, Exception)
    assert not isinstance(found, TypeError | LookupError | AttributeError | AssertionError)
    assert classify(found).kind is kind
    assert streams or words in str(found)
    if b"307 Moved\r\nlocation: URL" not in responses[0]:
        assert len(server.heads) == len(responses)


@pytest.mark.parametrize(
    ("first", "piece", "words"),
    [
        (b"data: ", b"x", "more than 8 MiB"),
        (b"", b"x\n", "no events"),
        (b"", b"data: " + b"x" * 99 + b"\n", "more than 8 MiB"),
    ],
    ids=["line", "lines", "event"],
)
def test_what_has_no_end_is_left_at_a_limit(first: bytes, piece: bytes, words: str) -> None:
    """A line, lines that are no events, an event."""
    much = response(first + piece * (10_000_000 // len(piece)), content_type=EVENTS)
    chunks, error = asyncio.run(streamed(Wire(much)))
    assert isinstance(error, UnsuccessfulResultError)
    assert words in str(error)
    assert chunks == []


def test_a_whole_answer_has_a_limit_too() -> None:
    """Compressed it may be a small one."""
    much = gzip.compress(b" " * (65 * 1024 * 1024))
    with pytest.raises(UnsuccessfulResultError, match="a body of more than 64 MiB"):
        asyncio.run(asked(Wire(response(much, "200 OK", GZIP))))


def test_a_pool_has_the_answer_of_a_stream_that_was_cut_behind_its_end() -> None:
    """No member is asked again for it."""
    cut = response(chunked(STREAM, cut=True), "200 OK", CHUNKED, content_type=EVENTS)

    async def main() -> tuple[list[Any], int]:
        server = Wire(cut)
        async with server.running():
            member = Member("a", factory=lambda: OpenAIAgent("m", base_url=server.url))
            async with AgentPool.start([member]) as pool:
                return await pool.stream(Request("x")).acollect(), len(server.heads)

    assert asyncio.run(main()) == (["h", "i"], 1)


# -- lines of events


def lines_of(*pieces: bytes) -> list[str]:
    lines = EventLines()

    def all_of_them() -> Iterator[str]:
        for piece in pieces:
            yield from lines.feed(piece)
        yield from lines.end()

    return list(all_of_them())


@pytest.mark.parametrize("text", ["a\nb\n\nc", "a\rb\r\rc", "a\r\nb\r\n\r\nc", "a\r\nb\r\n\nc\n"])
def test_lines_end_as_those_of_events_do_wherever_they_are_cut(text: str) -> None:
    """With either character or both; in each of all ways in two pieces, and byte by byte."""
    data = text.encode()
    wanted = ["a", "b", "", "c"]
    assert lines_of(data) == wanted
    assert lines_of(*(data[i : i + 1] for i in range(len(data)))) == wanted
    for at in range(len(data) + 1):
        assert lines_of(data[:at], b"", data[at:]) == wanted


def test_lines_are_utf8_wherever_their_characters_are_cut() -> None:
    """Other ends of lines than those of events are part of them; a mark at the start is not."""
    text = "\ufeffé€\u2028\x85\n\ufeff"
    data = text.encode()
    assert lines_of(*(data[i : i + 1] for i in range(len(data)))) == ["é€\u2028\x85", "\ufeff"]
    assert lines_of(b"\xff\n") == ["\ufffd\n".strip()]
