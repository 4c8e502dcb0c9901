"""What is stored of a durable tell: it comes back as it was, or is refused by name."""

from __future__ import annotations

import datetime
import random
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Request
from greenroom.courier.parcel import ParcelError, packed, unpacked

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_b485_what_json_can_carry_comes_back_as_it_was(payload: Any) -> None:
    """Whatever it is made of, with its id, which is that of every delivery."""
    found = unpacked(packed(Request(payload, durable=True), "web-1"))
    assert found.payload == payload
    assert type(found.payload) is type(payload)
    assert found.request_id == "web-1"
    assert not found.durable


def test_b485_options_come_back_as_they_were() -> None:
    """Also those that are mappings, or names; a timeout is that of each delivery."""
    request = Request(
        ["x"],
        key="ann",
        timeout=3.5,
        priority=2,
        idempotent=False,
        max_retries=0,
        metadata={"tenant": "a", "n": [1, None]},
        only=("gpu", "cpu"),
        exclude="slow",
        prefer=("near",),
        cost={"tokens": 1200},
        durable=True,
    )
    found = unpacked(packed(request, "i"))
    for name in ("key", "timeout", "priority", "idempotent", "max_retries", "metadata"):
        assert getattr(found, name) == getattr(request, name), name
    assert (found.only, found.exclude, found.prefer) == (("gpu", "cpu"), ("slow",), ("near",))
    assert dict(found.cost or {}) == {"tokens": 1200}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (datetime.datetime(2026, 1, 1), "datetime"),
        ([1, {"a": {2}}], "set"),
        ({"a": (1, 2)}, "tuple: make it a list"),
        (object(), "object"),
        ({"a": lambda: None}, "function"),
        (type("Secret", (str,), {})("x"), "Secret"),
    ],
)
def test_b486_what_cannot_be_carried_is_refused_by_its_type(payload: Any, kind: str) -> None:
    """At the tell, not at the delivery; nothing of what it holds is shown."""
    with pytest.raises(TypeError) as found:
        packed(Request(payload, durable=True), "i")
    assert str(found.value).startswith("payload of a durable tell must be made of str, int")
    assert str(found.value).endswith(f"got a {kind}")


def test_b486_keys_that_would_change_are_refused() -> None:
    """JSON would make texts of them."""
    with pytest.raises(TypeError, match="payload of a durable tell must have string keys only"):
        packed(Request({1: "x"}), "i")
    with pytest.raises(TypeError, match="metadata of a durable tell must be made of"):
        packed(Request("x", metadata={"at": datetime.date(2026, 1, 1)}), "i")


def test_b486_what_holds_itself_is_refused() -> None:
    """And what is nested too deeply; neither is endless."""
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for payload in (circle, deep):
        with pytest.raises(TypeError, match="payload of a durable tell cannot be carried"):
            packed(Request(payload), "i")


def test_b487_bytes_are_carried_by_msgpack() -> None:
    """Where it is installed; all else is JSON, which anybody can read."""
    pytest.importorskip("msgpack")
    payload = {"image": b"\x00\xff", "name": "x"}
    assert unpacked(packed(Request(payload, metadata={"raw": b"m"}), "i")).payload == payload
    assert packed(Request({"name": "x"}), "i").startswith(b"{")


def test_b487_without_msgpack_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install; never a pickle."""
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(TypeError, match="holds bytes, which takes msgpack: pip install msgpack"):
        packed(Request(b"x"), "i")


def test_b488_what_is_no_parcel_is_told_without_what_it_holds() -> None:
    """Whatever lies there: of another version, of another program, or noise."""
    rng = random.Random(7)
    whole = packed(Request({"name": "secret"}), "i")
    noise = [bytes(rng.randrange(256) for _ in range(rng.randrange(40))) for _ in range(200)]
    cut = [whole[:at] for at in range(len(whole))]
    odd = [
        b'{"v":2}',
        b'{"v":"secret"}',
        b'{"v":1e9}',
        b'{"v":1}',
        b"[" * 100_000,
        b"[]",
        b"null",
        b"m\xc1",
        whole.replace(b"payload", b"else"),
    ]
    odd.append(whole.replace(b'"options":{}', b'"options":{"colour":1}'))
    for body in (*noise, *cut, *odd):
        with pytest.raises(ParcelError) as found:
            unpacked(body)
        assert "secret" not in str(found.value)
        assert set(str(found.value)) <= set(string.printable)
