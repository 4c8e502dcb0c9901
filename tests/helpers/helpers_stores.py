"""Servers that hold what processes share: real ones, on loopback, each in a folder of its own."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers_nats import nats_server
from helpers_processes import PROCESS_S, bounded

REDIS = shutil.which("redis-server")
NOBODY = "nobody"
PASSWORD = "open sesame"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real one, on loopback, that keeps nothing; it takes connections when this begins."""
    assert REDIS is not None
    argv = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*argv, "--dir", str(folder)], stdout=quiet, stderr=quiet)
    with _until_killed(process, port):
        yield process


@contextmanager
def _until_killed(process: subprocess.Popen[bytes], port: int) -> Iterator[None]:
    with bounded(process):
        until = time.monotonic() + PROCESS_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert process.poll() is None, "the server has ended"
        try:
            yield
        finally:
            process.kill()


def needs_redis() -> None:
    pytest.importorskip("redis", reason="the extra redis is not installed")
    if REDIS is None:
        pytest.skip("there is no redis-server here: RedisState is not tested")


# -- PostgreSQL


def _binary(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    )


def needs_postgres() -> None:
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    if _binary("postgres") is None or _binary("initdb") is None:
        pytest.skip("there is no postgres here: PostgresState is not tested")
    if os.name == "nt":
        pytest.skip("a postgres is started as another user: not here")


@functools.cache
def _somebody() -> tuple[int, int] | None:
    """As whom it runs: root it refuses to be."""
    if os.getuid() != 0:
        return None
    import pwd

    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        found = pwd.getpwnam(NOBODY)
    return found.pw_uid, found.pw_gid


@contextmanager
def postgres_data() -> Iterator[Path]:
    """A new database cluster, in a folder that is its user's; that of the database is `greenroom`,
    with a password.
    """
    initdb = _binary("initdb")
    assert initdb is not None
    user, group = _somebody() or (None, None)
    with tempfile.TemporaryDirectory(prefix="greenroom-postgres-") as folder:
        data, secret = Path(folder, "data"), Path(folder, "secret")
        data.mkdir()
        secret.write_text(PASSWORD)
        if user is not None and group is not None:
            for each in (Path(folder), data, secret):
                os.chown(each, user, group)
        argv = [initdb, "-D", str(data), "-U", "greenroom", "-A", "scram-sha-256", "-N"]
        argv += ["-E", "UTF8", "--locale=C", f"--pwfile={secret}"]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=3 * PROCESS_S,
            cwd="/",
            user=user,
            group=group,
        )
        assert done.returncode == 0, done.stderr
        yield data


@contextmanager
def postgres_server(data: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real one, on loopback alone; it takes connections when this begins."""
    postgres = _binary("postgres")
    assert postgres is not None
    argv = [postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-F"]
    argv += ["-c", "unix_socket_directories=", "-c", "max_connections=100"]
    argv += ["-c", "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap"]
    quiet = subprocess.DEVNULL
    user, group = _somebody() or (None, None)
    process = subprocess.Popen(argv, stdout=quiet, stderr=quiet, cwd="/", user=user, group=group)
    with _until_killed(process, port):
        _until_ready(port)
        yield process


def dsn(port: int) -> str:
    return f"postgresql://greenroom:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/postgres"


def _until_ready(port: int) -> None:
    import psycopg

    until = time.monotonic() + PROCESS_S
    while True:
        try:
            psycopg.connect(dsn(port), connect_timeout=10).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < until


@contextmanager
def any_store(kind: str, folder: Path) -> Iterator[str]:
    """The text of a store of that kind which is there."""
    if kind == "sqlite":
        yield f"sqlite:{folder / 'state.db'}"
    elif kind == "redis":
        needs_redis()
        port = free_port()
        with redis_server(folder, port):
            yield f"redis://127.0.0.1:{port}/0"
    elif kind == "nats":
        port = free_port()
        with nats_server(folder, port):
            yield f"nats://127.0.0.1:{port}"
    else:
        needs_postgres()
        port = free_port()
        with postgres_data() as data, postgres_server(data, port):
            yield dsn(port)
