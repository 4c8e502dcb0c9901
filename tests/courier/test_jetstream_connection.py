"""How a JetStream is connected to: what is said to whom, and how long that takes."""

from __future__ import annotations

import contextlib
import gc
import socket
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers_courier import free_port, need, server
from helpers_messages import refused
from helpers_nats import nats_server
from helpers_processes import PROCESS_S, stopped
from helpers_tls import certificate

from greenroom import JetStream
from greenroom.courier import jetstream
from greenroom.courier.courier_store import CourierStore, Done, Record

CREDS = """-----BEGIN NATS USER JWT-----
a.jwt
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUSEED
------END USER NKEY SEED------
"""


class Listener:
    """A server of which one only knows that it is there.

    Args:
        info: what it says first; None: nothing, ever.
    """

    def __init__(self, info: bytes | None) -> None:
        self._info = info
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.heard = bytearray()
        self._held: list[socket.socket] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                other, _ = self._socket.accept()
                self._held.append(other)
                if self._info is not None:
                    other.sendall(b"INFO " + self._info + b"\r\n")
                    while data := other.recv(4096):
                        self.heard += data
                        if b"PING\r\n" in data:
                            other.sendall(b"PONG\r\n")

    def close(self) -> None:
        for each in (self._socket, *self._held):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def listener(info: bytes | None) -> Iterator[Listener]:
    found = Listener(info)
    found.thread.start()
    try:
        yield found
    finally:
        found.close()
        found.thread.join()


def worked_off(store: CourierStore, name: str) -> None:
    store.put(name, b"x")
    assert [each.request_id for each in store.receive(1, 5.0)] == [name]


def certified(folder: Path) -> tuple[Path, str]:
    """The file of a certificate, and what a server's configuration says of it."""
    cert, key = certificate(folder)
    return cert, f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'


@pytest.mark.parametrize("who", ["me:s3cret@", "s3cret@", "creds"])
def test_b501_by_tls_no_secret_is_told_to_a_server_without_tls(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a password, a token nor a signature, to any of several; without `tls://` it is."""
    need("nats")

    class Keys:
        def sign(self, _: bytes) -> bytes:
            return b"s3cret"

        def wipe(self) -> None:
            """Forget it."""

    nkeys = types.ModuleType("nkeys")
    nkeys.from_seed = lambda _: Keys()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nkeys", nkeys)
    file = tmp_path / "me.creds"
    file.write_text(CREDS)
    creds, user = (file, "") if who == "creds" else (None, who)

    def said(scheme: str) -> tuple[str, bytes]:
        info = b'{"server_id": "x", "max_payload": 1000, "headers": true, "nonce": "n0nce"}'
        with listener(info) as one, listener(info) as two:
            url = ",".join(f"{scheme}://{user}127.0.0.1:{each.port}" for each in (one, two))
            with pytest.raises(Exception, match=r"TLS|in time") as error:
                JetStream(url, credentials=creds, timeout_s=1.0).open("web")
            return str(error.value), bytes(one.heard + two.heard)

    why, heard = said("tls")
    assert why == "it has no TLS, and the address demands it"
    assert heard == b""
    _, heard = said("nats")
    assert b'"sig"' in heard if who == "creds" else b"s3cret" in heard


@pytest.mark.parametrize("scheme", ["tls", "wss"])
@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py's own
def test_b501_by_tls_to_a_server_whose_certificate_is_known(scheme: str, tmp_path: Path) -> None:
    """Durable tells go there; to one whose is not, nothing is said."""
    need("nats")
    cert, tls = certified(tmp_path)
    port, by_web = free_port(), free_port()
    config = f'{tls}\nwebsocket {{ listen: "127.0.0.1:{by_web}", {tls} }}'
    if scheme == "wss":
        pytest.importorskip("aiohttp", reason="nats-py needs aiohttp for wss://: it is not tested")
        at = f"127.0.0.1:{by_web}"
    else:
        at = f"127.0.0.1:{port}"
    with nats_server(tmp_path, port, "--user", "me", "--pass", "s3cret", config=config):
        store = JetStream(f"{scheme}://me:s3cret@{at}?ca={cert}").open("web")
        worked_off(store, "a")
        store.close()
        with pytest.raises(Exception, match=r"(?i)certificate"):
            JetStream(f"{scheme}://me:s3cret@{at}").open("web")
        with pytest.raises(Exception, match=r"(?i)authorization violation") as error:
            JetStream(f"{scheme}://me:wr0ng@{at}?ca={cert}").open("web")
        assert "wr0ng" not in str(error.value)


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py's own
def test_b501_by_a_websocket(tmp_path: Path) -> None:
    """With a token and a path, as by any other address."""
    need("nats")
    pytest.importorskip("aiohttp", reason="nats-py needs aiohttp for ws://: it is not tested")
    port, by_web = free_port(), free_port()
    config = f'websocket {{ listen: "127.0.0.1:{by_web}", no_tls: true }}'
    with nats_server(tmp_path, port, "--auth", "t0ken", config=config):
        store = JetStream(f"ws://t0ken@127.0.0.1:{by_web}/").open("web")
        worked_off(store, "a")
        store.close()


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py's own
@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_b500_a_websocket_whose_server_is_gone_leaves_nothing(
    scheme: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be told by aiohttp, or asyncio, at each outage. By TLS whoever closes waits for the
    other end's word.
    """
    need("nats")
    pytest.importorskip("aiohttp", reason="nats-py needs aiohttp for ws://: it is not tested")
    port, by_web = free_port(), free_port()
    tls, ca = "no_tls: true", ""
    if scheme == "wss":
        cert, tls = certified(tmp_path)
        ca = f"?ca={cert}"
    config = f'websocket {{ listen: "127.0.0.1:{by_web}", {tls} }}'
    with nats_server(tmp_path, port, config=config) as process:
        store = JetStream(f"{scheme}://127.0.0.1:{by_web}{ca}", timeout_s=2.0).open("web")
        with contextlib.ExitStack() as stack:
            if how == "killed":
                process.kill()
                process.wait()
            else:
                stack.enter_context(stopped(process))
            with pytest.raises(Exception):  # noqa: B017
                store.put("a", b"x")
            store.close()
    del store
    gc.collect()
    assert not caplog.records


def test_b501_addresses_of_several_servers() -> None:
    """Each with what is said to that one; a scheme may stand before the first alone."""
    need("nats")
    found = jetstream._addresses("nats://me:s3cret@a , tls://t0ken@b:1,c,ws://d,wss://e:5/x", None)
    assert [each.servers for each in found] == [
        *(("nats://a:4222",), ("tls://b:1",), ("tls://c:4222",)),
        *(("ws://d:80",), ("wss://e:5/x",)),
    ]
    assert [each.tls for each in found] == [False, True, True, False, True]
    assert [each.password for each in found] == ["s3cret", None, None, None, None]
    assert [each.token for each in found] == [None, "t0ken", "t0ken", None, None]
    (found,) = [jetstream._addresses("nats://a,nats://b", "me.creds")]
    assert [each.creds for each in found] == ["me.creds", "me.creds"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "url must not be empty"),
        ("s3cret@a", "url must begin with nats://, tls://, ws:// or wss://"),
        ("nats://a,http://s3cret@b", "url must begin with nats://, tls://, ws:// or wss://"),
        ("nats://s3cret@", "url must name hosts"),
        ("nats://s3cret@a/b", "url must name no subject"),
        ("nats://b,ws://me:s3/cret@a", "what a user or password has of '@'"),
        ("nats://s3cret@a:0", "url must have ports from 1 to 65535"),
        ("nats://s3cret@a?creds=x", "url must have either a user or creds="),
        ("nats://a?ca=s3cret", "url must begin with tls:// for ca="),
        ("tls://a?cert=s3cret", "url must have both of cert= and key="),
    ],
)
def test_b501_what_is_no_address_of_a_jetstream_is_refused(url: str, rule: str) -> None:
    """At once, by its field, without what may be a secret."""
    need("nats")
    said = refused(lambda: JetStream(url))
    assert rule in said
    assert "s3cret" not in said


def test_b500_a_silent_server_leaves_time_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes connections and says nothing, whichever is tried first."""
    need("nats")
    port = free_port()
    with listener(None) as silent, server("nats", tmp_path, port):
        for order in (1, -1):
            monkeypatch.setattr(jetstream, "sample", lambda all, _, order=order: all[::order])
            url = f"nats://127.0.0.1:{silent.port},nats://127.0.0.1:{port}"
            store = JetStream(url, timeout_s=6.0).open("web")
            worked_off(store, f"a{order}")
            store.close()


def test_b500_an_answer_that_comes_late_deafens_no_connection(tmp_path: Path) -> None:
    """It goes on, where it was asked for something; where for a sign of life, it is over, at once:
    nobody is to find that out by waiting.
    """
    need("nats")
    port = free_port()
    with server("nats", tmp_path, port) as process:
        store = JetStream(f"nats://127.0.0.1:{port}", timeout_s=2.0).open("web")
        store.put("a", b"x")
        (held,) = store.receive(1, 5.0)
        with stopped(process), pytest.raises(TimeoutError):
            store.put("b", b"x")
        store.put("c", b"x")
        assert held.record == Record(1)
        with stopped(process), pytest.raises((TimeoutError, ConnectionError)):
            store.extend([held])
        with pytest.raises(ConnectionError, match="the connection is over: it has not answered"):
            store.put("d", b"x")
        store.close()


def test_b500_whoever_waits_is_told_at_once_that_the_connection_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread, in the middle of something; and so is whoever comes afterwards."""
    need("nats")
    port, waits, said = free_port(), threading.Event(), list[str]()
    with server("nats", tmp_path, port):
        store = JetStream(f"nats://127.0.0.1:{port}").open("web")
        publish = store._connection.publish

        async def noted(subject: str, data: bytes, reply: str = "") -> None:
            await publish(subject, data, reply)
            if b"expires" in data:
                waits.set()

        def receive() -> None:
            with pytest.raises(ConnectionError) as error:
                store.receive(1, 10 * PROCESS_S)
            said.append(str(error.value))

        monkeypatch.setattr(store._connection, "publish", noted)
        thread = threading.Thread(target=receive)
        thread.start()
        assert waits.wait(PROCESS_S)
        store.close()
        thread.join(PROCESS_S)
        assert said == ["the connection is over: it was closed"]
        with pytest.raises(ConnectionError, match="the connection is over: it was closed"):
            store.put("a", b"x")
        store.close()


def test_b500_a_stream_that_is_gone_is_told_at_once(tmp_path: Path) -> None:
    """Nobody waits for an answer of what is not there: another connection makes it anew."""
    need("nats")
    port = free_port()
    with server("nats", tmp_path, port):
        courier = JetStream(f"nats://127.0.0.1:{port}", timeout_s=PROCESS_S)
        store = courier.open("web")
        store.put("a", b"x")
        (held,) = store.receive(1, 5.0)
        store._do(store._js.delete_stream(store._queue))
        with pytest.raises(ConnectionError, match="no such stream"):
            store.settle([Done(held)])
        with pytest.raises(ConnectionError, match="503"):
            store.receive(1, 5.0)
        again = courier.open("web")
        worked_off(again, "b")
        for each in (store, again):
            each.close()
