"""A status endpoint as its clients have it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from helpers_pools import WAIT_S

from greenroom import PoolRef
from greenroom.status.status_address import StatusAddress

ANY = "127.0.0.1:0"
"""A free port of loopback."""


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    text: str
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.text)


def address_of(pool: PoolRef) -> StatusAddress:
    """Where a pool is to be seen."""
    assert pool.status_url is not None
    return StatusAddress.parsed(pool.status_url.removeprefix("http://"))


def connected(address: StatusAddress) -> socket.socket:
    """A connection, which says nothing yet."""
    if address.path is None:
        return socket.create_connection((address.host, address.port), timeout=WAIT_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(WAIT_S)
    connection.connect(address.path)
    return connection


def get(
    address: StatusAddress,
    path: str,
    method: str = "GET",
    host: str | None = "localhost",
    **headers: str,
) -> Got:
    """Ask for a path; `host=None` says no `Host`."""
    connection = http.client.HTTPConnection("localhost", timeout=WAIT_S)
    connection.sock = connected(address)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in ({} if host is None else {"Host": host} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return Got(answer.status, answer.read().decode(), dict(answer.getheaders()))
    finally:
        connection.close()


@contextmanager
def events_of(address: StatusAddress, path: str = "/events") -> Iterator[Iterator[Any]]:
    """Within it, the events as they come: dicts, `lost` among them as `{"lost": n}`. When it is
    entered the endpoint reads them already.
    """
    # The stream as well: a socket is open for as long as what was made of it.
    with connected(address) as connection, connection.makefile("rb") as stream:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert stream.readline().split()[1] == b"200"
        while stream.readline().strip():
            pass
        yield (
            json.loads(line.removeprefix(b"data: "))
            for line in stream
            if line.startswith(b"data: ")
        )
