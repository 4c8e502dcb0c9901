"""Every argument of the two ends, with values that do not hold. Behaviour 448."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_remote import in_a_loop
from helpers_tls import certificate

from greenroom import AgentPool, Member, RemoteAgent
from greenroom.kinds import PoolFileError
from greenroom.remote import serve_worker

HTTP, NATS = "http://127.0.0.1:1", "nats://127.0.0.1:1/w"
HTTPS, TLS = "https://127.0.0.1:1", "tls://127.0.0.1:1/w"
SECRET = "s3cret\x07"

PATHS: list[tuple[Any, type[Exception], str]] = [
    (5, TypeError, "{} must be the path of a file, got a int"),
    (b"-----BEGIN s3cret", TypeError, "{} must be the path of a file, got a bytes"),
    ("", ValueError, "{} must not be empty"),
    (
        "-----BEGIN PRIVATE KEY-----\ns3cret",
        ValueError,
        "{} must be the path of a file, got what is",
    ),
]
CALLERS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    (5, {}, TypeError, "url must be a string"),  # type: ignore[list-item]
    (" ", {}, ValueError, "url must not be empty"),
    ("127.0.0.1:1", {}, ValueError, "url must begin with http://, https://, nats:// or tls://"),
    ("http://127.0.0.1:0", {}, ValueError, "url must have a port from 1 to 65535, got 0"),
    ("nats://127.0.0.1:0/w", {}, ValueError, "url must have ports from 1 to 65535, got 0"),
    ("http://127.0.0.1:65536", {}, ValueError, "url must be like http://host:port"),
    ("nats://127.0.0.1:65536/w", {}, ValueError, "url must have ports from 1 to 65535"),
    ("nats://127.0.0.1:1", {}, ValueError, "url must name a subject"),
    (HTTP, {"key": 5}, TypeError, "key must be a string, got a int"),
    (HTTP, {"key": " "}, ValueError, "key must not be empty"),
    (HTTP, {"key": SECRET}, ValueError, "key must be printable ASCII"),
    (HTTP, {"key": "a", "key_env": "B"}, ValueError, "key and key_env must not be given together"),
    (NATS, {"key": "a"}, ValueError, "key must not be given with nats://"),
    (HTTP, {"key_env": 5}, TypeError, "key_env must be a string"),
    (HTTP, {"key_env": ""}, ValueError, "key_env must not be empty"),
    (HTTP, {"key_env": "GREENROOM_ODD"}, ValueError, "key_env must name a variable of printable"),
    (HTTP, {"key_env": "GREENROOM_NO_SUCH"}, ValueError, "key_env must name a variable that is"),
    (HTTP, {"format": "xml"}, ValueError, "format must be 'json' or 'msgpack', got 'xml'"),
    (HTTP, {"format": None}, ValueError, "format must be 'json' or 'msgpack', got None"),
    (HTTP, {"max_frame_bytes": 1023}, ValueError, "max_frame_bytes must be at least 1024"),
    (HTTP, {"max_frame_bytes": 1e6}, TypeError, "max_frame_bytes must be a whole number"),
    (HTTP, {"ca_file": "x.pem"}, ValueError, "ca_file must not be given with http://"),
    (NATS, {"ca_file": "x.pem"}, ValueError, "url must begin with tls:// for ca="),
    (HTTPS, {"ca_file": "/no/such"}, ValueError, "ca_file must be a file that can be read"),
    (
        HTTPS,
        {"ca_file": "a\0b"},
        ValueError,
        "ca_file must be a file that can be read (it is no path)",
    ),
    (HTTPS, {"ca_file": "/"}, ValueError, "ca_file must be a file that can be read ("),
    (TLS, {"ca_file": "/no/such"}, ValueError, "ca_file must be a file that can be read (No such"),
    (TLS, {"ca_file": __file__}, ValueError, "ca_file must be a file of certificates in PEM"),
    (TLS + "?ca=/no/such", {}, ValueError, "url must have ca= that is a file that can be read"),
    (TLS + f"?ca={__file__}", {}, ValueError, "url must have ca= that is a file of certificates"),
    (
        TLS + "?cert=/no/such&key=/no/such",
        {},
        ValueError,
        "url must have cert= that is a file that can be read (No such file or directory), got '/no",
    ),
    (
        TLS + f"?cert={__file__}&key=/s3cret",
        {},
        ValueError,
        "url must have key= that is a file that can be read (No such file or directory)",
    ),
    (HTTP, {"credentials": "x.creds"}, ValueError, "credentials must not be given with http://"),
    *((HTTPS, {"ca_file": value}, of, said.format("ca_file")) for value, of, said in PATHS),
    *((NATS, {"credentials": value}, of, said.format("credentials")) for value, of, said in PATHS),
]
WORKERS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    (5, {}, TypeError, "listen must be a string"),  # type: ignore[list-item]
    ("", {}, ValueError, "listen must not be empty"),
    ("127.0.0.1:1", {}, ValueError, "listen must begin with http://, https://, nats:// or tls://"),
    ("http://0.0.0.0:0", {}, ValueError, "listen must be an address of this machine alone"),
    ("nats://127.0.0.1:1", {}, ValueError, "listen must name a subject"),
    (HTTP, {"key": 5}, TypeError, "key must be a string, got a int"),
    (HTTP, {"key": ""}, ValueError, "key must not be empty"),
    (HTTP, {"key": SECRET}, ValueError, "key must be printable ASCII"),
    (NATS, {"key": "a"}, ValueError, "key must not be given with nats://"),
    (HTTP, {"without_key": 1}, TypeError, "without_key must be True or False"),
    (NATS, {"without_key": True}, ValueError, "without_key must not be given with nats://"),
    (HTTP, {"cert": "x.pem"}, ValueError, "cert and tls_key must be given with https://"),
    (NATS, {"cert": "x.pem"}, ValueError, "cert must not be given with nats://"),
    (HTTPS, {}, ValueError, "cert must be given with https://"),
    (HTTPS, {"cert": "/no/such"}, ValueError, "cert must be a file that can be read"),
    (
        HTTPS,
        {"cert": __file__, "tls_key": "/s3cret"},
        ValueError,
        "tls_key must be a file that can be read (No such file or directory)",
    ),
    (
        HTTPS,
        {"cert": __file__},
        ValueError,
        "cert must be a certificate in PEM whose key is given with it (",
    ),
    (HTTP, {"tls_key": "x.pem"}, ValueError, "cert and tls_key must be given with https://"),
    (NATS, {"tls_key": "x.pem"}, ValueError, "tls_key must not be given with nats://"),
    (HTTPS, {"ca_file": "x.pem"}, ValueError, "ca_file must not be given with http://"),
    (TLS, {"ca_file": "/no/such"}, ValueError, "ca_file must be a file that can be read (No such"),
    (TLS + "?ca=/no/such", {}, ValueError, "listen must have ca= that is a file that can be read"),
    (HTTP, {"credentials": "x.creds"}, ValueError, "credentials must not be given with http://"),
    (HTTP, {"queue": -1}, ValueError, "queue must be at least 0"),
    (HTTP, {"queue": 1.5}, TypeError, "queue must be a whole number"),
    (HTTP, {"max_frame_bytes": 1023}, ValueError, "max_frame_bytes must be at least 1024"),
    (HTTP, {"max_frame_bytes": None}, TypeError, "max_frame_bytes must be a whole number"),
    (HTTP, {"drain_s": -1}, ValueError, "drain_s must be at least 0"),
    (HTTP, {"drain_s": float("inf")}, ValueError, "drain_s must be finite"),
    (HTTP, {"drain_s": "30"}, TypeError, "drain_s must be a number"),
    (HTTP, {"stopping": True}, TypeError, "stopping must be an asyncio.Event"),
    (HTTP, {"on_listening": "x"}, TypeError, "on_listening must be callable"),
    *(
        (listen, {field: value}, of, said.format(field))
        for listen, field in ((HTTPS, "cert"), (HTTPS, "tls_key"), (TLS, "ca_file"))
        for value, of, said in PATHS
    ),
    *((NATS, {"credentials": value}, of, said.format("credentials")) for value, of, said in PATHS),
]


def refused(call: Callable[[], object], of: type[Exception], said: str) -> None:
    with pytest.raises(of, match=re.escape(said)) as raised:
        call()
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(("url", "given", "of", "said"), CALLERS)
def test_b448_what_a_remote_agent_is_made_of_is_looked_at_at_once(
    url: str,
    given: dict[str, Any],
    of: type[Exception],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the field, and shows no key."""
    monkeypatch.setenv("GREENROOM_ODD", SECRET)
    refused(lambda: RemoteAgent(url, **given), of, said)


@pytest.mark.parametrize(("listen", "given", "of", "said"), WORKERS)
def test_b448_what_a_worker_is_served_by_is_looked_at_before_it_listens(
    listen: str, given: dict[str, Any], of: type[Exception], said: str
) -> None:
    """So are its files, by either engine."""

    async def serve() -> None:
        await serve_worker(Member("w", str), listen, **given)

    refused(in_a_loop(serve), of, said)


@in_a_loop
async def test_b448_a_worker_has_one_member() -> None:
    """Or a pool of one."""
    with pytest.raises(TypeError, match="member must be a Member or a PoolRef, got 'w'"):
        await serve_worker("w", HTTP)  # type: ignore[arg-type]
    async with AgentPool.start([Member("a", str), Member("b", str)]) as pool:
        with pytest.raises(ValueError, match="member must be a pool of one member, got one of 2"):
            await serve_worker(pool, HTTP)


@in_a_loop
async def test_b448_how_long_a_worker_is_waited_for_is_more_than_no_time() -> None:
    """Of `RemoteAgent.ask`."""
    agent = RemoteAgent(HTTP)
    for value, of in ((0, ValueError), (-1.0, ValueError), (None, TypeError)):
        with pytest.raises(of, match="timeout_s must be"):
            await agent.ask(value)  # type: ignore[arg-type]
    await agent.aclose()


def test_b448_a_file_that_holds_no_certificates_is_none(tmp_path: Path) -> None:
    """Nor is the key of another one its key."""
    refused(
        lambda: RemoteAgent(HTTPS, ca_file=__file__), ValueError, "ca_file must be a file of cert"
    )
    (cert, _), _ = certificate(tmp_path, "a"), certificate(tmp_path, "b")
    command = "openssl rsa -aes256 -passout pass:word -in a.key -out locked.key"
    subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)

    async def serve(tls_key: str) -> None:
        await serve_worker(Member("w", str), HTTPS, cert=cert, tls_key=tmp_path / tls_key)

    refused(lambda: in_a_loop(serve)("b.key"), ValueError, "KEY_VALUES_MISMATCH")
    said = "tls_key must be a file whose key is not encrypted"
    refused(lambda: in_a_loop(serve)("locked.key"), ValueError, said)
    pytest.importorskip("nats", reason="the extra nats is not installed")
    RemoteAgent(f"{TLS}?ca={cert}&cert={cert}&key={tmp_path / 'a.key'}")
    said = "url must have key= that is a file whose key is not encrypted"
    url = f"{TLS}?ca={cert}&cert={cert}&key={tmp_path / 'locked.key'}"
    refused(lambda: RemoteAgent(url), ValueError, said)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "http://127.0.0.1:0"', "far.url must have a port from 1 to 65535, got 0"),
        (f'url = "{HTTPS}"\nca_file = "/no/such"', "far.ca_file must be a file that can be read"),
        (f'url = "{TLS}"\nca_file = "/no/such"', "far.ca_file must be a file that can be read"),
        (f'url = "{TLS}?ca=/no/such"', "far.url must have ca= that is a file that can be read"),
        (f'url = "{HTTP}"\nkey_env = "GREENROOM_NO_SUCH"', "far.key_env must name a variable"),
        (f'url = "{NATS}"\ncredentials = ""', "far.credentials must not be empty"),
        (f'url = "{HTTP}"\nmax_frame_bytes = 1', "far.max_frame_bytes must be at least 1024"),
        (f'url = "{HTTP}"\nformat = "xml"', "far.format must be 'json' or 'msgpack'"),
    ],
)
def test_b448_what_does_not_hold_in_a_file_is_told_with_its_place(
    lines: str, said: str, tmp_path: Path
) -> None:
    """Of a member of the kind `remote`: the same words."""
    pool = tmp_path / "pool.toml"
    pool.write_text(f'[[members]]\nname = "far"\nkind = "remote"\n{lines}\n')
    refused(lambda: AgentPool.from_toml(pool), PoolFileError, said)
