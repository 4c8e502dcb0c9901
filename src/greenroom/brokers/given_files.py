"""Files that a connection is given: seen at once to be there, and to be what they are said to be.

An error names a file of certificates; of one that holds a secret it names the setting alone: what
was given may be that secret itself.
"""

from __future__ import annotations

import os
import ssl
from collections import UserString
from importlib import import_module

from greenroom.brokers.nats_address import NatsAddress

_LONGEST_SHOWN = 255


class Credentials(UserString):
    """What a `.creds` file holds; not in a repr."""

    def __repr__(self) -> str:
        return "<credentials>"


def path_of(field: str, value: object) -> str | None:
    """A path as text; None of none.

    Raises:
        TypeError, ValueError: it is none.
    """
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    # It is not shown: it may be what is in the file.
    if not isinstance(path, str):
        raise TypeError(f"{field} must be the path of a file, got a {type(value).__name__}")
    if not path:
        raise ValueError(f"{field} must not be empty")
    if "-----BEGIN" in path:
        raise ValueError(f"{field} must be the path of a file, got what is in one")
    return path


def see_files_of(
    field: str, address: NatsAddress, *, ca_file: str | None = None, credentials: str | None = None
) -> None:
    """See that the files of an address are there, and are what they are to be. They are read with
    each connection: at that time one that is not there would look like servers that are away.

    Args:
        field: what the address is called.
        ca_file, credentials: which of the files were given beside it.

    Raises:
        ValueError: one is none of its kind, or cannot be read.
        ModuleNotFoundError: what credentials need is not installed.
    """

    def named(option: str, argument: str, beside: str | None) -> str:
        return f"{field} must have {option}= that is" if beside is None else f"{argument} must be"

    if address.creds is not None:
        try:
            import_module("nkeys")
        except ModuleNotFoundError as error:
            text = "creds= needs nkeys: pip install nkeys"
            raise ModuleNotFoundError(text, name=error.name) from error
        credentials_of(named("creds", "credentials", credentials), address.creds)
    if address.ca is not None:
        believing(named("ca", "ca_file", ca_file), address.ca)
    if address.cert is not None:
        whose = (named("cert", "", None), named("key", "", None))
        show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), whose, address.cert, address.key)


def credentials_of(rule: str, path: str) -> Credentials:
    """What is in a `.creds` file.

    Args:
        rule: what an error begins with: `credentials must be`.

    Raises:
        ValueError: it cannot be read, or is none.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"{rule} a file that can be read ({_why(error)})") from None
    # What nats-py is given has both: what is none is told here, by what is missing.
    for part in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
        _, found, rest = text.partition(part)
        if not found or not rest.partition("\n")[2].strip():
            raise ValueError(f"{rule} a .creds file, with {part!r} and what belongs to it")
    return Credentials(text)


def believing(rule: str, ca_file: str | None) -> ssl.SSLContext:
    """What looks at the certificates of servers.

    Args:
        rule: what an error begins with: `ca_file must be`.
        ca_file: what they are to be of (PEM); None: those of the system.

    Raises:
        ValueError: it cannot be read, or there is no certificate in it.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        _see(rule, ca_file)
        raise ValueError(f"{rule} a file of certificates in PEM ({_why(error)})") from None


def showing(cert: str, tls_key: str | None) -> ssl.SSLContext:
    """What shows the certificate of a server.

    Args:
        tls_key: the key of it; None: it is in the same file.

    Raises:
        ValueError: a file cannot be read, or they are no certificate and its key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    show(context, ("cert must be", "tls_key must be"), cert, tls_key)
    return context


def show(context: ssl.SSLContext, rules: tuple[str, str], cert: str, key: str | None) -> None:
    """Have it show a certificate to the other end.

    Args:
        rules: what an error of the certificate begins with, and one of the key.

    Raises:
        ValueError: a file cannot be read, or they are no certificate and its key.
    """
    is_asked = False

    def nobody_to_ask() -> str:  # without it OpenSSL asks at the terminal
        nonlocal is_asked
        is_asked = True
        return ""

    try:
        context.load_cert_chain(cert, key, nobody_to_ask)
    except (OSError, ValueError) as error:
        of_cert, of_key = rules
        _see(of_cert, cert)
        _see(of_key, key, secret=True)
        if is_asked:
            rule = of_cert if key is None else of_key
            raise ValueError(f"{rule} a file whose key is not encrypted") from None
        said = f"{of_cert} a certificate in PEM whose key is given with it"
        raise ValueError(f"{said} ({_why(error)})") from None


def _see(rule: str, path: str | None, *, secret: bool = False) -> None:
    """See that a file can be read, if there is to be one."""
    if path is None:
        return
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        shown = "" if secret or not _is_plain(path) else f", got {path!r}"
        raise ValueError(f"{rule} a file that can be read ({_why(error)}){shown}") from None


def _is_plain(path: str) -> bool:
    return len(path) <= _LONGEST_SHOWN and path.isprintable() and "-----" not in path


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is something else"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is no path"
