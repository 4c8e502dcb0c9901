"""A real NATS server that lets in whoever has a `.creds` file. Behaviour 452."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_nats import free_port, nats_server, needs_nats
from helpers_remote import in_a_loop, served
from helpers_tls import certificate

from greenroom import Member, RemoteAgent, RemoteError

OPERATOR, ACCOUNT, USER = (kind << 3 for kind in (14, 0, 20))
"""What keys of each kind begin with: O, A, U."""


class Keys:
    """A pair of keys, and what it signs."""

    def __init__(self, kind: int) -> None:
        nkeys = pytest.importorskip("nkeys", reason="nkeys is not installed: creds= is not tested")
        self.seed: bytes = bytes(nkeys.encode_seed(os.urandom(32), kind))
        self._pair: Any = nkeys.from_seed(bytearray(self.seed))
        self.public: str = self._pair.public_key.decode()

    def jwt(self, of: Keys, name: str, kind: str, **more: Any) -> str:
        """What says of other keys what they may, as servers read it."""
        claims = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": of.public,
            "nats": {"type": kind, "version": 2, **more},
        }
        claims["jti"] = hashlib.sha256(json.dumps(claims).encode()).hexdigest()
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, claims]
        said = ".".join(_base64(json.dumps(each).encode()) for each in parts)
        return f"{said}.{_base64(self._pair.sign(said.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _creds(jwt: str, user: Keys) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


@contextmanager
def guarded(folder: Path, tls: Path | None = None) -> Iterator[tuple[str, Path, Path]]:
    """The address of a worker there, by TLS if there is a file with a certificate and its key;
    the credentials of a user, and of one nobody there knows.
    """
    needs_nats()
    operator, account, system, user = (Keys(k) for k in (OPERATOR, ACCOUNT, ACCOUNT, USER))
    free = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "exports": -1}
    limits = {**free, "imports": -1, "wildcards": True}
    lines = [f"operator: {operator.jwt(operator, 'o', 'operator')}"]
    lines += [f"system_account: {system.public}", "resolver: MEMORY", "resolver_preload: {"]
    for each, name in ((account, "a"), (system, "sys")):
        lines.append(f"{each.public}: {operator.jwt(each, name, 'account', limits=limits)}")
    lines.append("}")
    files = folder / "user.creds", folder / "stranger.creds"
    for file, by in zip(files, (account, Keys(ACCOUNT)), strict=True):
        jwt = by.jwt(user, "u", "user", subs=-1, data=-1, payload=-1)
        file.write_text(_creds(jwt, user))
    if tls is not None:
        lines.append(f'tls {{ cert_file: "{tls}", key_file: "{tls}" }}')
    port = free_port()
    with nats_server(folder, port, config="\n".join(lines)):
        if tls is None:
            yield f"nats://127.0.0.1:{port}/w", *files
        else:
            yield f"tls://127.0.0.1:{port}/w?ca={tls}", *files


async def _upper(text: str) -> str:
    return text.upper()


@in_a_loop
async def test_b452_credentials_let_both_ends_in(tmp_path: Path) -> None:
    """Beside the address, or in it; without them, or with a stranger's, nobody is."""
    with guarded(tmp_path) as (url, known, stranger):
        async with served(Member("w", _upper), url, credentials=known) as at:
            for agent in (
                RemoteAgent(at, credentials=known),
                RemoteAgent(f"{at}?creds={known}"),
            ):
                assert await agent.arun("x") == "X"
                assert str(known) not in repr(agent)
                await agent.aclose()
            for agent in (RemoteAgent(at), RemoteAgent(at, credentials=stranger)):
                with pytest.raises(RemoteError, match="Authorization Violation"):
                    await agent.arun("x")
                await agent.aclose()


@in_a_loop
async def test_b452_credentials_let_in_by_tls(tmp_path: Path) -> None:
    """No more is told to a server than what it asks for."""
    pem, key = certificate(tmp_path)
    pem.write_text(pem.read_text() + key.read_text())
    with guarded(tmp_path, pem) as (url, known, stranger):
        async with served(Member("w", _upper), url, credentials=known):
            agent = RemoteAgent(url, credentials=known)
            assert await agent.arun("x") == "X"
            await agent.aclose()
            agent = RemoteAgent(url, credentials=stranger)
            with pytest.raises(RemoteError, match="Authorization Violation"):
                await agent.arun("x")
            await agent.aclose()


@in_a_loop
async def test_b452_credentials_that_are_gone_for_a_while_are_read_again(tmp_path: Path) -> None:
    """A connection without them is none, and says why; the next one has them."""
    with guarded(tmp_path) as (url, known, _):
        async with served(Member("w", _upper), url, credentials=known) as at:
            agent = RemoteAgent(at, credentials=known)
            text = known.read_text()
            known.write_text(text.partition("\n\n")[0])
            with pytest.raises(RemoteError, match=r"creds= must be a \.creds file"):
                await agent.arun("x")
            known.write_text(text)
            assert await _soon(agent) == "X"
            await agent.aclose()


async def _soon(agent: RemoteAgent) -> Any:
    """The answer once it is connected."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await agent.arun("x")
            except RemoteError:
                await asyncio.sleep(0.01)  # it fails without giving the loop a turn
