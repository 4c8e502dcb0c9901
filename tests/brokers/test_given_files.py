"""Files that a connection is given. Behaviour 452."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom import JetStream
from greenroom.brokers.given_files import credentials_of, see_files_of
from greenroom.brokers.nats_address import nats_address
from greenroom.brokers.nats_client import BrokerError, NatsConnection
from greenroom.shared.nats_state import NatsState

JWT = "-----BEGIN NATS USER JWT-----\njwt-s3cret\n------END NATS USER JWT------\n"
SEED = "-----BEGIN USER NKEY SEED-----\nseed-s3cret\n------END USER NKEY SEED------\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "creds= must be a file that can be read (No such file or directory)"),
        (JWT, "creds= must be a .creds file, with 'BEGIN USER NKEY SEED'"),
        (JWT + "-----BEGIN USER NKEY SEED-----\n", "with 'BEGIN USER NKEY SEED'"),
    ],
)
def test_b452_credentials_are_looked_at_before_a_server_is_asked(
    text: str | None, said: str, tmp_path: Path
) -> None:
    """Nothing of what is in the file is shown."""
    path = tmp_path / "s3cret.creds"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError) as raised:
        credentials_of("creds= must be", str(path))
    assert said in str(raised.value)
    assert "s3cret" not in str(raised.value)
    pytest.importorskip("nats", reason="the extra nats is not installed")
    address = nats_address("url", f"nats://127.0.0.1:1?creds={path}", subject=False)
    with pytest.raises(BrokerError) as lost:
        asyncio.run(NatsConnection.open(address, name="x"))
    assert said in str(lost.value)


def test_b452_what_credentials_hold_is_in_no_repr(tmp_path: Path) -> None:
    """It is the text for nats-py."""
    path = tmp_path / "user.creds"
    path.write_text(JWT + SEED)
    held = credentials_of("creds= must be", str(path))
    assert held.data == JWT + SEED
    assert repr(held) == "<credentials>"


@pytest.mark.parametrize("option", ["ca", "cert", "key"])
def test_b452_a_file_that_is_gone_later_is_named(option: str, tmp_path: Path) -> None:
    """By the setting: its connection is none, and says why."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    gone = tmp_path / "gone.pem"
    others = {"ca": "", "cert": f"&key={__file__}", "key": f"&cert={__file__}"}[option]
    address = nats_address("url", f"tls://127.0.0.1:1?{option}={gone}{others}", subject=False)
    with pytest.raises(BrokerError, match=f"{option}= must be a file that can be read"):
        asyncio.run(NatsConnection.open(address, name="x"))


@pytest.mark.parametrize("to", [NatsState, JetStream])
def test_b452_shared_state_and_couriers_are_refused_their_files_as_well(
    to: Callable[[str], object],
) -> None:
    """By their option."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    with pytest.raises(ValueError, match="url must have ca= that is a file that can be read"):
        to("tls://127.0.0.1:1?ca=/no/such")


def test_b452_the_credentials_of_a_courier_are_named_as_they_were_given() -> None:
    """Without what was given, which may be a secret."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    pytest.importorskip("nkeys", reason="nkeys is not installed")
    with pytest.raises(ValueError, match=r"^credentials must be a file that can be read \(No such"):
        JetStream("nats://127.0.0.1:1", credentials="/no/such")
    for secret, of in ((SEED, ValueError), (SEED.encode(), TypeError)):
        with pytest.raises(of, match=r"^credentials must be the path of a file") as raised:
            JetStream("nats://127.0.0.1:1", credentials=secret)  # type: ignore[arg-type]
        assert "s3cret" not in str(raised.value)


def test_b452_no_file_is_read_where_none_is_given() -> None:
    """Nor is there anything to be installed."""
    see_files_of("url", nats_address("url", "tls://127.0.0.1:1", subject=False))
