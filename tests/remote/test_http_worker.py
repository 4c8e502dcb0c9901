"""A worker's front over HTTP: who may reach it, and what it says to what is no call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from helpers_remote import echo, in_a_loop, served
from helpers_tls import certificate

from greenroom import Member, PayloadError, RemoteAgent, RemoteError
from greenroom.remote import serve_worker

CALL = {"frame": "call", "protocol": 1, "id": "a", "payload": "x"}
JSON = {"Content-Type": "application/json"}


@in_a_loop
async def test_b448_what_is_no_call_is_refused_by_its_status() -> None:
    """The connection serves on, where the rest of the request need not be read."""
    async with served(max_frame_bytes=2048) as url, aiohttp.ClientSession() as client:
        for path, body, headers, status in (
            ("/call", json.dumps(CALL), JSON, 200),
            ("/call", json.dumps(CALL), {"Content-Type": "text/plain"}, 415),
            ("/call", "{", JSON, 400),
            ("/call", '{"frame":"go","id":"a"}', JSON, 400),
            ("/call", json.dumps({**CALL, "payload": "x" * 100_000}), JSON, 413),
            ("/call", json.dumps({**CALL, "payload": "x" * 2048}), JSON, 413),
            ("/say", '{"frame":"go","id":"a"}', JSON, 404),
            ("/other", "{}", JSON, 404),
        ):
            async with client.post(url + path, data=body, headers=headers) as response:
                assert response.status == status, (path, body[:50])
                if status == 200:
                    said = {"frame": "value", "id": "a", "value": "x"}
                    assert json.loads(await response.text()) == said
        async with client.get(url) as response:
            assert response.status == 200
            pong = json.loads(await response.text())
            assert (pong["member"], pong["capacity"], pong["protocol"]) == ("w", 100, 1)
        async with client.get(url, headers={"Host": "evil.example"}) as response:
            assert response.status == 403


@in_a_loop
async def test_b448_a_key_is_wanted_of_whoever_asks() -> None:
    """Also of who asks how it is; no other name of the host is asked for then."""
    async with served(key="right") as url, aiohttp.ClientSession() as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic right"}, 401),
            ({"Authorization": "Bearer right", "Host": "worker.example"}, 200),
        ):
            async with client.get(url, headers=headers) as response:
                assert response.status == status


@in_a_loop
async def test_b448_beyond_this_machine_there_must_be_a_key() -> None:
    """Or it is said; what does not hold is named."""
    for listen, given, said in (
        ("http://0.0.0.0:0", {}, "listen must be an address of this machine alone"),
        ("http://worker.example:0", {}, "listen must be an address of this machine alone"),
        ("https://127.0.0.1:0", {}, "cert must be given"),
        ("http://127.0.0.1:0", {"cert": "cert.pem"}, "must be given with https"),
        ("http://127.0.0.1:0/path", {}, "listen must have no path"),
        ("ftp://127.0.0.1:0", {}, "listen must begin with"),
        ("http://127.0.0.1:0", {"queue": -1}, "queue must be at least 0"),
        ("http://127.0.0.1:0", {"credentials": "x.creds"}, "credentials must not be given"),
    ):
        with pytest.raises(ValueError, match=said):
            await serve_worker(Member("w", echo), listen, **given)


@pytest.mark.parametrize(
    ("url", "given", "said"),
    [
        ("127.0.0.1:8700", {}, "url must begin with"),
        ("http://user:password@host:1", {}, "url must have no user"),
        ("http://host:1/path", {}, "url must have no path"),
        ("http://host:99999", {}, "url must be like"),
        ("http://host:1", {"key": " "}, "key must not be empty"),
        ("http://host:1", {"key": "a", "key_env": "B"}, "must not be given together"),
        ("http://host:1", {"key_env": "GREENROOM_NO_SUCH"}, "GREENROOM_NO_SUCH is not"),
        ("http://host:1", {"format": "pickle"}, "format must be"),
        ("http://host:1", {"ca_file": "x.pem"}, "ca_file must not be given"),
    ],
)
def test_b448_an_address_that_is_none_is_refused_at_once(
    url: str, given: dict[str, Any], said: str
) -> None:
    """With its field, and without what may be a password."""
    with pytest.raises(ValueError, match=said) as raised:
        RemoteAgent(url, **given)
    assert "password" not in str(raised.value)


@in_a_loop
async def test_b448_msgpack_carries_bytes() -> None:
    """By the content type that the caller asks for."""
    async with served() as url:
        agent = RemoteAgent(url, format="msgpack")
        assert await agent.arun({"a": b"\x00\xff"}) == {"a": b"\x00\xff"}
        assert (await agent.ask()).capacity == 100
        await agent.aclose()
        agent = RemoteAgent(url)
        with pytest.raises(PayloadError):
            await agent.arun(b"x")
        await agent.aclose()


@in_a_loop
async def test_b448_nobody_listens() -> None:
    """That is the worker's fault, and nothing has begun."""
    async with served() as url:
        pass
    agent = RemoteAgent(url)
    with pytest.raises(RemoteError, match="nobody listens") as raised:
        await agent.arun("x")
    assert (raised.value.kind, raised.value.started) == ("unavailable", False)
    with pytest.raises(RemoteError):
        await agent.can_serve()
    await agent.aclose()


@in_a_loop
async def test_b448_a_worker_has_a_certificate_that_its_callers_look_at(tmp_path: Path) -> None:
    """Of whom they do not know it, they ask nothing."""
    cert, key = certificate(tmp_path)
    came: list[Any] = []

    async def noted(payload: Any) -> Any:
        came.append(payload)
        return payload

    worker = Member("w", noted)
    async with served(worker, "https://127.0.0.1:0", cert=cert, tls_key=key) as url:
        assert url.startswith("https://127.0.0.1:")
        known, unknown = RemoteAgent(url, ca_file=cert), RemoteAgent(url)
        assert await known.arun("x") == "x"
        assert [chunk async for chunk in known.astream("y")] == ["y"]
        with pytest.raises(RemoteError) as refused:
            await unknown.arun("z")
        assert not refused.value.started
        assert came == ["x", "y"]
        for agent in (known, unknown):
            await agent.aclose()
