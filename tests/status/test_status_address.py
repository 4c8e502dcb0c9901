"""Where the status endpoint listens: what is an address, and whose a host is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.status.status_address import LONGEST_PATH, StatusAddress, is_ours


@pytest.mark.parametrize(
    ("said", "host", "port", "url"),
    [
        ("127.0.0.1:9100", "127.0.0.1", 9100, "http://127.0.0.1:9100"),
        ("localhost:0", "localhost", 0, "http://localhost:0"),
        ("[::1]:9100", "::1", 9100, "http://[::1]:9100"),
        ("0.0.0.0:65535", "0.0.0.0", 65535, "http://0.0.0.0:65535"),
    ],
)
def test_a_host_and_a_port(said: str, host: str, port: int, url: str) -> None:
    """Of either family, or by a name; its text says the same again."""
    address = StatusAddress.parsed(said)
    assert (address.host, address.port, address.path) == (host, port, None)
    assert address.url == url
    assert StatusAddress.parsed(str(address)) == address


@pytest.mark.parametrize("said", ["unix:/run/x.sock", "/run/x.sock", Path("/run/x.sock")])
def test_a_path_is_a_socket(said: Any) -> None:
    """However it is said."""
    address = StatusAddress.parsed(said)
    assert address.path == "/run/x.sock"
    assert address.url == str(address) == "unix:/run/x.sock"


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be somewhere else later."""
    monkeypatch.chdir(tmp_path)
    assert StatusAddress.parsed("unix:x.sock").path == str(Path.cwd() / "x.sock")


@pytest.mark.parametrize(
    "said",
    [
        *("", "9100", ":9100", "localhost", "localhost:", "localhost:x", "localhost:65536"),
        *("::1:9100", "[localhost]:9100", "unix:", "unix:/run/", "http://localhost:9100"),
        *("localhost:٩١٠٠", "[]:9100"),
    ],
)
def test_what_is_no_address_is_refused(said: str) -> None:
    """With the field, the rule and the value."""
    with pytest.raises(ValueError, match=r"^status must be a host and a port") as caught:
        StatusAddress.parsed(said)
    assert repr(said) in str(caught.value)


def test_what_is_no_text_is_refused() -> None:
    """A number is no address, though a port is one."""
    with pytest.raises(TypeError, match=r"^status must be .* got 9100 \(int\)$"):
        StatusAddress.parsed(9100)


def test_a_path_that_no_socket_can_have_is_refused() -> None:
    """The system would say something that nobody understands."""
    with pytest.raises(ValueError, match=f"at most {LONGEST_PATH} bytes"):
        StatusAddress.parsed("/" + "x" * LONGEST_PATH)


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1:9100",
        "127.0.0.1",
        "localhost:80",
        "LOCALHOST",
        "[::1]:9100",
        "[::1]",
        "127.9.9.9",
    ],
)
def test_a_host_of_loopback_is_ours(header: str) -> None:
    """With a port or without one."""
    assert is_ours(header, "127.0.0.1")


@pytest.mark.parametrize(
    "header", [None, "", "evil.example:9100", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_a_host_of_elsewhere_is_not(header: str | None) -> None:
    """It is a page that has its own name stand for this machine."""
    assert not is_ours(header, "127.0.0.1")
