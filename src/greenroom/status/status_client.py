"""Reading a status endpoint, of this process or of another one."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from greenroom.status.plain_status import Plain
from greenroom.status.status_address import StatusAddress

LIMIT_S = 5.0
MOST_BYTES = 16 << 20
"""Of an answer; what says more is no status."""


class StatusError(Exception):
    """There is no status to be had; the text says why."""


class StatusClient:
    """Asks an endpoint.

    Args:
        target: `http://127.0.0.1:9100`, `127.0.0.1:9100`, `unix:/run/x.sock`, or its path.

    Raises:
        ValueError: it is no such address.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        bare = target.removeprefix("http://").rstrip("/") if "://" in target else target
        self._address = StatusAddress.parsed(bare, "the endpoint")

    def status(self, last_events: int) -> Plain:
        """What `/status.json` says.

        Raises:
            StatusError: it cannot be had.
        """
        connection = _connection(self._address)
        try:
            connection.request("GET", f"/status.json?events={last_events}")
            answer = connection.getresponse()
            body = answer.read(MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StatusError(f"{self.target} cannot be reached: {why}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise StatusError(f"{self.target} answers {answer.status} {answer.reason}")
        try:
            said: Any = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("pools"), list):
            raise StatusError(f"{self.target} is no status endpoint of greenroom")
        return said


def _connection(address: StatusAddress) -> http.client.HTTPConnection:
    if address.path is None:
        return http.client.HTTPConnection(address.host, address.port, timeout=LIMIT_S)
    return _UnixConnection(address.path)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP by a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._path = path

    def connect(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no unix sockets")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(self._path)
