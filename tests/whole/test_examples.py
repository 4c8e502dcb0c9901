"""The programs in examples/ run as they are, without keys or a network, and do what they say."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from types import ModuleType

import httpx
import psutil
import pytest
from helpers_apps import module_of
from helpers_pages import DOCS, README, ROOT, text_of
from helpers_pools import WAIT_S
from helpers_programs import EXAMPLES

from greenroom import AgentPool, AllPoolMembersFailedError, Member, PoolConfig
from greenroom.testing import http_error

SHOWN = {
    "fastapi_app": r"""
        /ask\ Sun\ 200\ \{"answer":"cloud:\ SUN","by":"cloud"\}\n
        /ask\ rain\ 200\ \{"answer":"local:\ rain","by":"local"\}\n
        /stream\ Sun\ 200\ data:\ "cloud:\ "\ \|\ data:\ "SUN"\n
        /stream\ rain\ 200\ data:\ "local:\ "\ \|\ data:\ "rain"\n
        /health\ 200\ .*\n
    """,
    "flask_app": r"""
        /ask\ Sun\ 200\ \{"answer":"cloud:\ SUN","by":"cloud"\}\n
        /ask\ rain\ 200\ \{"answer":"local:\ rain","by":"local"\}\n
        /stream\ Sun\ 200\ data:\ "cloud:\ "\ \|\ data:\ "SUN"\n
        /stream\ rain\ 200\ data:\ "local:\ "\ \|\ data:\ "rain"\n
        /health\ 200\ .*\n
    """,
    "django_app": r"""
        /ask\ Sun\ 200\ \{"answer":\ "cloud:\ SUN",\ "by":\ "cloud"\}\n
        /ask\ rain\ 200\ \{"answer":\ "local:\ rain",\ "by":\ "local"\}\n
        /aask\ Sun\ 200\ \{"answer":\ "cloud:\ SUN",\ "by":\ "cloud"\}\n
        /aask\ rain\ 200\ \{"answer":\ "local:\ rain",\ "by":\ "local"\}\n
        /health\ 200\ .*\n
    """,
    "mcp_tools": r"""
        europe:\ sunny\ in\ Paris\n
        world:\ sunny\ in\ Quito\n
        \['weather'\]\n
    """,
    "worker": r"(\d+)\ taken,\ \d+\ done,\ \d+\ given\ back,\ 0\ lost\n",
    "streaming_chat": r"""
        >\ hello\n
        You\ said\ 'hello'\.\n
        >\ tell\ me\ a\ story\n
        (You\ said\ )?\ \[cloud\ broke\ off,\ starting\ over\]\n
        Once\ upon\ a\ time\.\n
    """,
    "command_agents": r"""
        desserts\ ->\ stressed\ by\ working\n
        \ \ broken:\ unknown\n
        \ \ hanging:\ timeout\n
        stressed\ ->\ desserts\ by\ working\n
    """,
    "test_outage": r"\.{4}\s+\[100%\]\n4\ passed\ in\ .*\n",
    "simulate_first": r"""
        ((adaptive|round_robin|least_outstanding|priority|failover)\s+[\d.]+%\ within\ .*\n){5}
        DEPLOYED\ with\ \w+\n
    """,
}
"""What each prints, as a pattern with blanks left out. How much is shown of a stream
that breaks off depends on who is quicker."""


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_runs_and_shows_what_it_is_about(name: str) -> None:
    """It ends by itself, well, within a warning's reach, and prints what it is meant to show."""
    file = f"examples/{name}.py"
    command = [sys.executable, "-W", "error", file]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(SHOWN[name], done.stdout, re.VERBOSE), done.stdout
    assert not done.stderr


ELSEWHERE = {
    "gunicorn.conf.py": "tests/web/test_web_apps.py",
    "celery_app.py": "tests/frameworks/test_apps_celery.py",
    "notebook.ipynb": "tests/frameworks/test_apps_notebook.py",
}
"""What needs a server of its own, and who runs it."""


def test_every_example_is_run_and_in_the_pages() -> None:
    """None is left to rot, none is hidden."""
    files = {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".ipynb")}
    assert files == {f"{name}.py" for name in SHOWN} | set(ELSEWHERE)
    for name, test in ELSEWHERE.items():
        assert name in text_of(ROOT / test)
    readme, pages = text_of(README), text_of(DOCS / "web.md")
    shown = re.findall(r"\(examples/([\w.]+)\)", readme) + re.findall(r"`examples/([\w.]+)`", pages)
    assert files <= set(shown)


# -- the web service, where it goes wrong


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return module_of("fastapi_app", monkeypatch)


async def _post(service: ModuleType, path: str) -> tuple[httpx.Response, httpx.Response]:
    """A prompt's answer, and that of the health check after it."""
    transport = httpx.ASGITransport(service.app)
    async with (
        service.app.router.lifespan_context(service.app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        answer = await client.post(path, json={"text": "hi"})
        return answer, await client.get("/health")


@pytest.mark.parametrize("path", ["/ask", "/stream"])
def test_the_service_has_a_status_for_nobody_can_answer(
    service: ModuleType, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Also where a stream was asked for: nothing has been sent yet. A wrong key is no bad hour."""

    async def refused(prompt: str) -> str:
        raise http_error(401)

    monkeypatch.setattr(service, "MEMBERS", [Member("only", refused)])
    answer, health = asyncio.run(_post(service, path))
    assert answer.status_code == 502
    assert "Retry-After" not in answer.headers
    assert answer.json()["detail"]["code"] == "members_set_up_wrong"
    assert answer.json()["detail"]["message"].startswith("pool 'web'")
    assert (health.status_code, health.json()) == (503, {"only": "circuit_open"})


def test_the_service_says_so_when_a_stream_breaks_off(
    service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come is delivered, then an event tells of the error."""

    async def cut(prompt: str) -> AsyncIterator[str]:
        yield "Once "
        raise ConnectionError("connection reset")

    monkeypatch.setattr(service, "MEMBERS", [Member("only", cut)])
    answer, _ = asyncio.run(_post(service, "/stream"))
    events = answer.text.strip().split("\n\n")
    assert answer.status_code == 200
    assert events[0] == 'data: "Once "'
    name, data = events[1].split("\n")
    assert name == "event: error"
    assert (
        "the stream of 'only' broke off"
        in json.loads(data.removeprefix("data: "))["error"]["message"]
    )


# -- the worker, when its grace is over


def test_the_worker_gives_back_what_it_cannot_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that hangs is cancelled at the end of the grace, and somebody else can have it."""
    worker = module_of("worker", monkeypatch)
    cancelled: list[str] = []

    async def hang(text: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(text)
            raise
        return text

    monkeypatch.setattr(worker, "MEMBERS", [Member("only", hang)])
    monkeypatch.setattr(worker, "GRACE_S", 0)
    queue = worker.Queue()
    queue.taken = 20 - worker.CONSUMERS  # what the last consumer takes brings the signal
    asyncio.run(worker.work(queue))
    assert (queue.done, queue.given_back) == (0, worker.CONSUMERS)
    assert set(cancelled) <= {f"job {n}" for n in range(17, 21)}


# -- the tools


def test_a_tools_failure_is_one_and_its_server_ends_with_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A result that says it is an error is no answer; no process is left behind."""
    example = module_of("mcp_tools", monkeypatch)
    seen: list[psutil.Process] = []
    others = psutil.Process().children()  # of tests before: a tracker of shared memory, say

    async def main() -> None:
        config = PoolConfig(max_retries=0)
        async with AgentPool.start(example.MEMBERS[:1], config=config) as tools:
            assert await example.weather(tools, "Paris") == "europe: sunny in Paris"
            seen.extend(each for each in psutil.Process().children() if each not in others)
            with pytest.raises(AllPoolMembersFailedError, match="says it is an error"):
                await example.weather(tools, "Quito")

    asyncio.run(main())
    assert seen
    # A server ends when its input does, in its own time.
    assert psutil.wait_procs(seen, timeout=WAIT_S)[1] == []
