"""From an address to what carries calls there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from greenroom.brokers.given_files import path_of
from greenroom.remote.codec import Codec
from greenroom.remote.links import Front, Link


def scheme_of(field: str, url: str) -> str:
    """Which engine it is of: "http" or "nats".

    Raises:
        ValueError: of none.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return "http"
    if scheme in ("nats", "tls"):
        return "nats"
    raise ValueError(f"{field} must begin with http://, https://, nats:// or tls://")


def key_of(key: object) -> str | None:
    """A key without what is around it; None of none. Errors show nothing of it.

    Raises:
        TypeError, ValueError: it is none.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"key must be a string, got a {type(key).__name__}")
    key = key.strip()
    if not key:
        raise ValueError("key must not be empty")
    if not is_sendable(key):
        raise ValueError("key must be printable ASCII, as a header has it")
    return key


def is_sendable(key: str) -> bool:
    """Whether a header may have it."""
    return key.isascii() and key.isprintable()


def link_of(url: str, codec: Codec, *, key: object, ca_file: object, credentials: object) -> Link:
    """The way to the worker of that address.

    Args:
        key, ca_file, credentials: not looked at yet; those of files are paths.

    Raises:
        TypeError, ValueError: it is none, or something else is given than its engine takes.
        ModuleNotFoundError: its engine is not installed.
    """
    ca_file, credentials = path_of("ca_file", ca_file), path_of("credentials", credentials)
    if scheme_of("url", url) == "http":
        _refuse("http", credentials=credentials)
        from greenroom.remote.http_link import HttpLink

        return HttpLink(url, codec, key=key_of(key), ca_file=ca_file)
    _refuse("nats", key=key)
    made: Link = _engine("nats_link").NatsLink(url, codec, ca_file=ca_file, credentials=credentials)
    return made


def front_of(
    listen: str,
    *,
    key: object,
    without_key: bool,
    cert: object,
    tls_key: object,
    ca_file: object,
    credentials: object,
    max_frame_bytes: int,
) -> Front:
    """Where a worker listens.

    Args:
        key, cert, tls_key, ca_file, credentials: not looked at yet; those of files are paths.

    Raises:
        TypeError, ValueError: the address is none, or something else is given than its engine
            takes.
        ModuleNotFoundError: its engine is not installed.
    """
    cert, tls_key = path_of("cert", cert), path_of("tls_key", tls_key)
    ca_file, credentials = path_of("ca_file", ca_file), path_of("credentials", credentials)
    if scheme_of("listen", listen) == "http":
        _refuse("http", credentials=credentials, ca_file=ca_file)
        from greenroom.remote.http_front import HttpFront

        return HttpFront(
            listen,
            key=key_of(key),
            without_key=without_key,
            cert=cert,
            tls_key=tls_key,
            max_frame_bytes=max_frame_bytes,
        )
    _refuse("nats", key=key, without_key=without_key or None, cert=cert, tls_key=tls_key)
    made: Front = _engine("nats_front").NatsFront(
        listen, ca_file=ca_file, credentials=credentials, max_frame_bytes=max_frame_bytes
    )
    return made


def _engine(module: str) -> Any:
    """A module of an engine; what it needs may not be installed."""
    return import_module(f"greenroom.remote.{module}")


def _refuse(engine: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            other = "nats" if engine == "http" else "http"
            raise ValueError(f"{name} must not be given with {engine}://, it is for {other}://")
