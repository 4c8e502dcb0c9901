"""The web apps of examples/ under real servers: outages, clients that leave, SIGTERM.

Behaviours 260 to 262.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_apps import URL, Client, asked, client, events
from helpers_gate import LIMIT_S, Gate, gate
from helpers_programs import EXAMPLES, Program, running

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")

FASTAPI = """
    import fastapi_app
    from fastapi_app import app
    from helpers_gate import ahold
    from greenroom import Member

    async def held(prompt):
        if prompt == "bad":
            raise ConnectionError("sk-secret refused")
        yield await ahold(prompt)
        if prompt == "long":
            yield await ahold("and then")

    fastapi_app.GRACE_S = 300.0  # a server that hardly gets to run is no reason to end it
    fastapi_app.MEMBERS = [Member("only", held, max_concurrency=4)]
"""


@pytest.fixture
def held() -> Iterator[Gate]:
    with gate() as opened:
        yield opened


@contextlib.contextmanager
def uvicorn(folder: Path, source: str, held: Gate, *options: str) -> Iterator[tuple[Program, str]]:
    """An app under uvicorn, with its URL."""
    (folder / "served.py").write_text(textwrap.dedent(source))
    command = ["-m", "uvicorn", "served:app", "--port", "0", "--no-access-log", *options]
    with running(command, folder, held.environment) as program:
        yield program, program.said(URL)[1]


def until_refused(url: str) -> None:
    """Until the signal has come, which the load balancer sees."""
    late = time.monotonic() + LIMIT_S
    while (status := asked(url, "/health").status) == 200:
        assert time.monotonic() < late
    assert status == 503


UVICORN = ["-m", "uvicorn", "served:app", "--port", "0", "--loop"]
SERVERS = {
    "asyncio": ([*UVICORN, "asyncio"], -signal.SIGTERM),  # as uvicorn ends by it
    "uvloop": ([*UVICORN, "uvloop"], -signal.SIGTERM),
    "gunicorn": (
        [
            "-m",
            "gunicorn",
            "-b",
            "127.0.0.1:0",
            "-k",
            "uvicorn.workers.UvicornWorker",
            "served:app",
        ],
        0,
    ),
}


@posix
@pytest.mark.parametrize("name", SERVERS)
def test_on_sigterm_what_is_at_hand_is_answered_and_what_comes_is_refused(
    name: str, tmp_path: Path, held: Gate
) -> None:
    """An answer and a stream are finished; new ones are told when to come back, by a server that
    still listens; the load balancer is told as well. Then the process ends.
    """
    needs = {"asyncio": "uvicorn", "uvloop": "uvloop", "gunicorn": "uvicorn.workers"}[name]
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"there is no {needs} here")
    (tmp_path / "served.py").write_text(textwrap.dedent(FASTAPI))
    command, status = SERVERS[name]
    with running(command, tmp_path, held.environment) as server:
        url = server.said(URL)[1]
        assert asked(url, "/health").status == 200
        with client(url) as one, client(url) as two:
            one.send("/ask", "short")
            short = held.next()
            two.send("/stream", "long")
            held.next().go("Once")
            stream = two.begun()
            assert stream.readline() == b'data: "Once"\n'
            rest = held.next()

            server.signal(signal.SIGTERM)
            until_refused(url)
            refused = [asked(url, path, "new") for path in ("/ask", "/stream")]
            assert [each.status for each in refused] == [503, 503]
            assert [each.headers["retry-after"] for each in refused] == ["1", "1"]

            short.go("done")
            assert one.answer().said == {"answer": "done", "by": "only"}
            rest.go("upon a time")
            assert b'data: "upon a time"\n' in stream.read()
        assert server.ended() == status
    assert "Traceback" not in server.text


@posix
def test_a_second_sigterm_ends_the_drain(tmp_path: Path, held: Gate) -> None:
    """Whoever sends it has no time; the server ends as it does without a pool."""
    with uvicorn(tmp_path, FASTAPI, held, "--timeout-graceful-shutdown", "0") as (server, url):
        with client(url) as one:
            one.send("/ask", "short")
            call = held.next()
            server.signal(signal.SIGTERM)
            until_refused(url)
            server.signal(signal.SIGTERM)
            assert call.end() == "cancelled"
        assert server.ended() == -signal.SIGTERM


MIDDLEWARE = """
    @app.middleware("http")
    async def passing(web, call_next):
        return await call_next(web)
"""


@pytest.mark.parametrize("source", [FASTAPI, FASTAPI + MIDDLEWARE], ids=["plain", "middleware"])
@pytest.mark.parametrize("path", ["/ask", "/stream"])
def test_a_client_that_leaves_has_its_call_cancelled(
    path: str, source: str, tmp_path: Path, held: Gate
) -> None:
    """While nothing has been sent yet, and in the middle of a silence of its stream."""
    with uvicorn(tmp_path, source, held) as (server, url):
        with client(url) as one:
            one.send(path, "short")
            call = held.next()
        assert call.end() == "cancelled"
        if path == "/stream":
            with client(url) as one:
                one.send(path, "long")
                held.next().go("Once")
                stream = one.begun()
                stream.readline()
                call = held.next()
                stream.close()
            assert call.end() == "cancelled"
        assert asked(url, "/health").status == 200
    assert "Traceback" not in server.text


def test_a_failure_has_its_status_and_no_secret(tmp_path: Path, held: Gate) -> None:
    """Before anything is sent the status says it; later an event does."""
    with uvicorn(tmp_path, FASTAPI, held) as (_, url):
        for path in ("/ask", "/stream"):
            answer = asked(url, path, "bad")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert b"only: unavailable" in answer.body
            assert b"secret" not in answer.body
        with client(url) as one:
            one.send("/stream", "long")
            held.next().go("Once")
            held.next().fail()
            said = events(one.answer())
        assert said[0] == "Once"
        assert said[1]["error"]["code"] == "stream_interrupted"


# -- gunicorn

FLASK = """
    import os
    import flask_app
    from flask_app import app
    from helpers_gate import hold, tell
    from greenroom import AgentPool, ForkedPoolError, Member, PoolError

    class Agent:
        def __init__(self):
            tell(f"made in {os.getpid()}")

        def run(self, prompt):
            return [hold(prompt), f" by {os.getpid()}"]

        def close(self):
            tell(f"closed in {os.getpid()}")

    flask_app.MEMBERS[:] = [Member("only", factory=Agent, max_concurrency=4)]
    early = AgentPool.start([Member("early", str.upper)], name="early")

    @app.get("/early")
    def use_early():
        with flask_app.told():
            return early.execute("x")
"""


@posix
def test_gunicorn_has_a_pool_for_each_worker(tmp_path: Path, held: Gate) -> None:
    """Of an app that is preloaded: a pool of the master's is a mistake that the log names. At the
    end what is at hand is answered, and the worker closes its agents.
    """
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(textwrap.dedent(FLASK))
    command = ["-m", "gunicorn", "-c", str(EXAMPLES / "gunicorn.conf.py")]
    command += ["-b", "127.0.0.1:0", "--chdir", str(tmp_path), "-w", "1", "served:app"]
    with running(command, tmp_path, held.environment) as server, client_of(server) as one:
        worker = server.said(r"Booting worker with pid: (\d+)")[1]
        assert asked(server.said(URL)[1], "/early").status == 500
        server.said(f"ForkedPoolError: pool 'early' was started in process {server.process.pid}")
        one.send("/ask", "hi")
        assert held.next().prompt == f"made in {worker}"
        call = held.next()
        server.signal(signal.SIGTERM)
        server.said("Handling signal: term")
        call.go("done")
        assert one.answer().said == {"answer": f"done by {worker}", "by": "only"}
        assert held.next().prompt == f"closed in {worker}"
        assert server.ended() == 0


@contextlib.contextmanager
def client_of(server: Program) -> Iterator[Client]:
    with client(server.said(URL)[1]) as connected:
        yield connected


# -- Django

DJANGO = """
    import django_app
    from django_app import application, asgi as app
    from helpers_gate import ahold, hold
    from greenroom import Member

    class Agent:
        async def run(self, prompt):
            return [await ahold(prompt)]

        async def stream(self, prompt):
            yield await ahold(prompt)
            yield await ahold("and then")

    django_app.MEMBERS[:] = [Member("only", Agent(), max_concurrency=4)]
"""


def test_django_under_asgi(tmp_path: Path, held: Gate) -> None:
    """Sync and async views have one pool; who leaves has the call of an async view cancelled."""
    with uvicorn(tmp_path, DJANGO, held) as (server, url):
        with client(url) as one, client(url) as two:
            for each, path in ((one, "/ask"), (two, "/aask")):
                each.send(path, "hi")
                held.next().go(f"from {path}")
                assert each.answer().said == {"answer": f"from {path}", "by": "only"}
        for path in ("/aask", "/stream"):
            with client(url) as one:
                one.send(path, "hi")
                call = held.next()
            assert call.end() == "cancelled"
        with client(url) as one:
            one.send("/stream", "hi")
            held.next().go("Once")
            stream = one.begun()
            assert stream.readline() == b'data: "Once"\n'
            call = held.next()
            stream.close()
        assert call.end() == "cancelled"
        assert asked(url, "/health").said == {"only": "healthy"}
    assert "Traceback" not in server.text


@posix
def test_django_under_wsgi(tmp_path: Path, held: Gate) -> None:
    """The same app and the same pool, in threads."""
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(textwrap.dedent(DJANGO))
    command = ["-m", "gunicorn", "-b", "127.0.0.1:0", "--threads", "4", "served:application"]
    with running(command, tmp_path, held.environment) as server:
        url = server.said(URL)[1]
        with client(url) as one, client(url) as two:
            for each in (one, two):
                each.send("/ask", "hi")
            calls = [held.next(), held.next()]  # at the same time
            for call in calls:
                call.go("done")
            assert [each.answer().said["answer"] for each in (one, two)] == ["done", "done"]
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
