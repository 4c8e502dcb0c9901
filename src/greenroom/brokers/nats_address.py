"""Addresses of NATS servers, checked at once and shown without their secrets. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypedDict
from urllib.parse import parse_qsl, unquote

from greenroom.messages import _validate as check

FORM = "nats://[user:password@]host[:port][,host...]"
"""How an address is written; `tls://` demands TLS."""
PORT = 4222
LONGEST_SUBJECT = 200
"""Characters: some are put behind it, and a line of the protocol has at most 4,096 bytes."""

_WEBSOCKETS = {"ws": 80, "wss": 443}
"""Their schemes, and the port that is meant by each."""
# Else a password with a slash would be taken for a host and a path, and shown.
_PATH = re.compile(r"[^\s@\x00-\x1f\x7f]*")
_IN_PERCENT = "what a user or password has of '@', '/', ',' or '?' must be written in percent"
_FILES = ("creds", "ca", "cert", "key")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
# No wildcards, no empty parts; what begins with a dollar is the server's own.
_SUBJECT = re.compile(r"(?!\$)[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where servers of one NATS system are, and how one gets in.

    Attributes:
        servers: `nats://host:port`, without any secret; `ws://host:port/path` where that goes.
        subject: what is there to be asked; empty if none was wanted.
        tls: whether a connection without TLS is refused.
        user, password, token: what was said in the address.
        creds: path of a file with a JWT and its seed, as `nsc` makes them.
        ca, cert, key: paths, for TLS: whom to believe instead of the system's, and who one is.
        inbox: what names of inboxes begin with: a user may be confined to some.
    """

    servers: tuple[str, ...]
    subject: str = ""
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    inbox: str = "_INBOX"

    @property
    def shown(self) -> str:
        """It without its secrets."""
        scheme, _, first = self.servers[0].partition("://")
        others = (each.partition("://")[2] for each in self.servers[1:])
        hosts = ",".join([first, *others])
        return f"{scheme}://{hosts}/{self.subject}" if self.subject else f"{scheme}://{hosts}"


def nats_address(
    field: str,
    value: object,
    *,
    subject: bool,
    ca_file: str | None = None,
    credentials: str | None = None,
    websocket: bool = False,
) -> NatsAddress:
    """The address that is written so.

    Args:
        field: what it is called in errors, which show nothing of what may be a secret.
        subject: whether it must name one, or must name none.
        ca_file, credentials: what may stand in it as `ca=` and `creds=` as well.
        websocket: whether it may be one of a WebSocket, `ws://` or `wss://`, with a path behind it.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, str):
        raise check.misfit(f"{field} must be a str", value)
    scheme, _, rest = value.partition("://")
    known = ("nats", "tls", *_WEBSOCKETS) if websocket else ("nats", "tls")
    if scheme not in known or not rest:
        raise ValueError(f"{field} must be {FORM}{'/subject' if subject else ''}")
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    options = _options(field, query)
    for name, argument, given in (
        ("ca", "ca_file", ca_file),
        ("creds", "credentials", credentials),
    ):
        if given is not None:
            if name in options:
                raise ValueError(f"{argument} must not be given beside {name}= in {field}")
            options[name] = given
    port, behind = PORT, ""
    if scheme in _WEBSOCKETS:
        if not _PATH.fullmatch(path):
            raise ValueError(f"{field} must have a path without blanks and '@'; {_IN_PERCENT}")
        port, behind, path = _WEBSOCKETS[scheme], slash + path, ""
    address = NatsAddress(
        servers=tuple(
            f"{scheme}://{_host(field, each, port)}{behind}" for each in hosts.split(",")
        ),
        subject=_subject(field, path, subject),
        tls=scheme in ("tls", "wss"),
        creds=options.get("creds"),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        inbox=options.get("inbox", "_INBOX"),
        **_who(field, userinfo, bool(at)),
    )
    if address.creds is not None and at:
        raise ValueError(f"{field} must have either a user or creds=, got both")
    if (address.cert is None) != (address.key is None):
        raise ValueError(f"{field} must have both of cert= and key=, or neither")
    if (address.ca or address.cert) and not address.tls:
        raise ValueError(f"{field} must begin with tls:// for ca=, cert= and key=")
    return address


def _host(field: str, text: str, usual: int) -> str:
    found = _HOST.fullmatch(text)
    # What is no host may be a part of a password with an @ or a comma in it.
    if found is None:
        raise ValueError(
            f"{field} must name hosts as host or host:port, with commas between; {_IN_PERCENT}"
        )
    port = int(found[2] or usual)
    if not 0 < port < 65_536:
        raise ValueError(f"{field} must have ports from 1 to 65535, got {port}")
    return f"{found[1]}:{port}"


def _subject(field: str, path: str, wanted: bool) -> str:
    if not wanted:
        if path:
            raise ValueError(f"{field} must name no subject, got one")
        return ""
    if not path:
        raise ValueError(f"{field} must name a subject: {FORM}/subject")
    if len(path) > LONGEST_SUBJECT or not path.isprintable() or not _SUBJECT.fullmatch(path):
        raise ValueError(
            f"{field} must name a subject of at most {LONGEST_SUBJECT} characters: parts with dots "
            f"between, no blanks, no * or >, and no $ at its beginning, got {check.shown(path)}"
        )
    return path


class _Who(TypedDict, total=False):
    user: str
    password: str
    token: str


def _who(field: str, userinfo: str, given: bool) -> _Who:
    if not given:
        return {}
    user, colon, password = userinfo.partition(":")
    if not user or (colon and not password):
        raise ValueError(f"{field} must have user:password or a token before its '@'")
    if not colon:
        return {"token": unquote(user)}
    return {"user": unquote(user), "password": unquote(password)}


def _options(field: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    known = ", ".join((*_FILES, "inbox"))
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in (*_FILES, "inbox") or name in options:
            # Its name may be a part of a secret that was not written in percent.
            raise ValueError(f"{field} must have of {known} each at most once behind its '?'")
        if not value:
            raise ValueError(f"{field} must have a value for {name}=")
        options[name] = value
    inbox = options.get("inbox")
    if inbox is not None and not _SUBJECT.fullmatch(inbox):
        raise ValueError(f"{field} must have an inbox= that is a subject, got {check.shown(inbox)}")
    return options
