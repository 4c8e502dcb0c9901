"""Where the status endpoint listens, as an app says it. Pure."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any

from greenroom.messages import _validate as check

UNIX = "unix:"
LONGEST_PATH = 100
"""Bytes that every system's `sun_path` has room for (104 on macOS, 108 on Linux)."""
_RULE = (
    "must be a host and a port, as 127.0.0.1:9100, "
    "or the path of a socket, as unix:/run/greenroom.sock"
)


@dataclass(frozen=True, slots=True)
class StatusAddress:
    """One of the two kinds.

    Attributes:
        host, port: of TCP; port 0 is a free one.
        path: of a unix socket, absolute; None of TCP.
    """

    host: str = ""
    port: int = 0
    path: str | None = None

    @classmethod
    def parsed(cls, value: Any, field: str = "status") -> StatusAddress:
        """That of a text, or of a path.

        Args:
            value: `"127.0.0.1:9100"`, `"[::1]:9100"`, `"unix:/run/x.sock"`; whatever has a slash
                in it, and each `os.PathLike`, is the path of a socket.
            field: what the errors call it.

        Raises:
            TypeError: it is neither.
            ValueError: it says no address.
        """
        if isinstance(value, os.PathLike):
            value = UNIX + os.fsdecode(os.fspath(value))
        if not isinstance(value, str):
            raise check.misfit(f"{field} {_RULE}", value)
        if value.startswith(UNIX) or "/" in value:
            return cls(path=_path(field, value))
        host, separator, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535
        if not separator or not is_port or not bare or (":" in bare) is not bracketed:
            raise ValueError(f"{field} {_RULE}, got {value!r}")
        check.name(field, bare)
        return cls(bare, int(port))

    @property
    def url(self) -> str:
        """As a client is given it: `http://127.0.0.1:9100`, or `unix:/run/x.sock`."""
        return f"{UNIX}{self.path}" if self.path is not None else f"http://{self}"

    @property
    def is_loopback(self) -> bool:
        """Whether browsers of this machine alone reach it by TCP: a page of elsewhere may try to by
        a name of its own (DNS rebinding).
        """
        return self.path is None and is_loopback(self.host)

    def __str__(self) -> str:
        if self.path is not None:
            return f"{UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _path(field: str, value: str) -> str:
    path = value.removeprefix(UNIX)
    if not path or path.endswith("/") or "\0" in path or "://" in value:
        raise ValueError(f"{field} {_RULE}, got {value!r}")
    whole = os.path.abspath(path)
    if len(os.fsencode(whole)) > LONGEST_PATH:
        raise ValueError(
            f"{field} must be the path of a socket of at most {LONGEST_PATH} bytes, got {whole!r}"
        )
    return whole


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name, which may stand for anything
        return False


def is_ours(header: str | None, bound: str) -> bool:
    """Whether the `Host` that a client of an address of loopback names is one that it has.

    Args:
        bound: the host that the endpoint was given.
    """
    if header is None:
        return False
    host = header.strip().lower()
    name, _, port = host.rpartition(":")
    # Without a port the last colon is within brackets, or there is none.
    host = name if name and port.isdigit() and not name.endswith(":") else host
    host = host.removeprefix("[").removesuffix("]")
    return host == bound.lower() or is_loopback(host)
