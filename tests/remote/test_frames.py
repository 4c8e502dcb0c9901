"""Frames as bytes, and what is none. Behaviour 440."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from greenroom import PayloadError
from greenroom.remote.codec import Codec, JsonCodec, MsgpackCodec, ProtocolError, codec_for
from greenroom.remote.frames import (
    Ack,
    Busy,
    Call,
    Cancel,
    Chunk,
    Credit,
    End,
    Error,
    Go,
    MayStart,
    Noted,
    Ping,
    Pong,
    Started,
    Value,
    pings,
)
from greenroom.remote.framing import Lengths, Lines, framing_of

FORMATS = ("json", "msgpack")


@pytest.fixture(params=FORMATS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codec_for(request.param)


TO_WORKER = (
    Call("a", {"x": [1, None, "é\u2028\n"]}),
    Call("a", None, True, 1.5, False, 160, "r-1", 2, "k", -3, {"m": 1}, {"traceparent": "00-1"}),
    Call('"\n', False, left_s=0.1, attempt=0, key="", metadata={"m": {"n": [None]}}),
    Go("a"),
    Cancel("a"),
    Credit("a", 80),
    Ping("c", ("a", "b")),
    Ping("c", ("a", "b"), "0", "b"),
)
TO_CALLER = (
    Ack("a"),
    MayStart("a"),
    Started("a"),
    Noted("a", True, {"model": "m"}, {"tokens": 3}, ({"cost": "tokens", "remaining": 1},)),
    Value("a", 1.5),
    Value("a", True),
    Chunk("a", 7, [False, None, {"": -1}]),
    Chunk("a", 0, ""),
    End("a", 3),
    Error("a", "auth", True, "T", "text", 1.0, True),
    Busy("a", 0.5, True),
    Pong("w", 4, 1, False, ("x",)),
)


def test_b447_frames_come_back_as_they_were(codec: Codec) -> None:
    """Each of them, in either format."""
    for to_worker in TO_WORKER:
        assert codec.to_worker(codec.encode(to_worker)) == to_worker
    for to_caller in TO_CALLER:
        assert codec.to_caller(codec.encode(to_caller)) == to_caller
    assert b"\n" not in JsonCodec().encode(TO_WORKER[0])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN, st.sampled_from(FORMATS))
def test_b447_whatever_is_plain_comes_back(value: Any, name: str) -> None:
    """Also what is empty, or odd."""
    codec = codec_for(name)
    assert codec.to_caller(codec.encode(Value("a", value))) == Value("a", value)


@given(ids=st.lists(st.text(min_size=1, max_size=3), unique=True), most=st.integers(1, 5))
def test_b457_pings_ask_about_all_calls_and_each_id_is_covered_by_one(
    ids: list[str], most: int
) -> None:
    """Of a call, and of one that is none of these."""
    asked = list(pings("c", ids, most))
    assert sorted(id for ping in asked for id in ping.ids) == sorted(ids)
    assert all(len(ping.ids) <= most and all(map(ping.covers, ping.ids)) for ping in asked)
    for id in (*ids, "b", "zzzz"):
        assert sum(ping.covers(id) for ping in asked) == 1


def test_b447_bytes_are_for_msgpack_alone() -> None:
    """JSON refuses them, and says what to do."""
    assert MsgpackCodec().to_caller(MsgpackCodec().encode(Value("a", b"x"))) == Value("a", b"x")
    with pytest.raises(PayloadError, match="bytes need format='msgpack'"):
        JsonCodec().encode(Value("a", b"x"))


def test_b447_what_cannot_be_carried_is_named(codec: Codec) -> None:
    """By its type, without its value."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value, said in (
        ([{"a": object()}], "a object in it"),
        ({"a": {1: 2}}, "a dict with a key that is a int"),
        ({1, 2}, "a set in it"),
        (deep, "nested too deep"),
    ):
        with pytest.raises(PayloadError, match=said):
            codec.encode(Call("a", value))
    with pytest.raises(PayloadError, match="at most 1024 bytes"):
        codec_for(codec.name, 1024).encode(Call("a", "x" * 2000))


def test_b447_what_is_no_frame_is_refused(codec: Codec) -> None:
    """Whatever it is: nothing else is raised, and the text shows nothing of what came."""
    good = {"frame": "call", "id": "a", "payload": "secret-secret"}
    wrong: list[Any] = [
        [],
        "call",
        {},
        {"frame": "shout", "id": "a"},
        {"frame": ["call"]},
        {"frame": "value", "id": "a", "value": 1},  # the other way
        {"frame": "call", "id": "a"},
        {**good, "id": ""},
        {**good, "id": 7},
        {**good, "left_s": -1},
        {**good, "left_s": True},
        {**good, "credit": 1.5},
        {**good, "idempotent": 0},
        {**good, "metadata": []},
        {**good, "carrier": {"a": 1}},
        {**good, "key": "k" * 20_000},
        {**good, "protocol": 2},
        {"frame": "ping", "caller": "c", "ids": ["a"] * 20_000},
    ]
    encode = json.dumps if codec.name == "json" else __import__("msgpack").packb
    for each in wrong:
        data = encode(each)
        with pytest.raises(ProtocolError) as raised:
            codec.to_worker(data.encode() if isinstance(data, str) else data)
        assert "secret-secret" not in str(raised.value)
    for data in (b"", b"\xff\xfe", b"{", b"[" * 200_000, b'{"frame":NaN}', b"\xc1" * 9):
        with pytest.raises(ProtocolError):
            codec.to_worker(data)
    with pytest.raises(ProtocolError, match="at most 1024 bytes"):
        codec_for(codec.name, 1024).to_worker(b" " * 2000)


def test_b447_what_is_not_known_is_passed_over(codec: Codec) -> None:
    """A later version may say more."""
    said = {"frame": "go", "id": "a", "mood": "fine"}
    data = json.dumps(said).encode() if codec.name == "json" else __import__("msgpack").packb(said)
    assert codec.to_worker(data) == Go("a")


@given(st.binary(max_size=60), st.sampled_from(FORMATS))
def test_b447_no_bytes_raise_anything_else(data: bytes, name: str) -> None:
    """Neither to the one end nor to the other."""
    codec = codec_for(name)
    for read in (codec.to_worker, codec.to_caller):
        with contextlib.suppress(ProtocolError):
            read(data)


@given(st.lists(st.binary(min_size=1, max_size=9)), st.integers(1, 7), st.booleans())
def test_b447_a_body_is_taken_apart_wherever_it_is_cut(
    frames: list[bytes], step: int, lines: bool
) -> None:
    """Beats between them are passed over."""
    framing = Lines() if lines else Lengths()
    frames = [each.replace(b"\n", b" ") for each in frames] if lines else frames
    body = b"".join(framing.framed(each) + framing.beat for each in frames)
    splitter = framing.splitter(100)
    found = [
        bytes(each)
        for at in range(0, len(body), step)
        for each in splitter.feed(body[at : at + step])
    ]
    assert found == frames


@pytest.mark.parametrize("name", FORMATS)
def test_b447_a_frame_without_an_end_is_refused(name: str) -> None:
    """However slowly it comes."""
    splitter = framing_of(name).splitter(1000)
    with pytest.raises(ProtocolError):
        for _ in range(100):
            list(splitter.feed(b"\x7f" * 20))
