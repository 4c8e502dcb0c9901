"""examples/celery_app.py by real workers, over a broker of files. Behaviour 263."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_gate import LIMIT_S, Gate, gate
from helpers_programs import Program, running

celery = pytest.importorskip("celery")

APP = """
    import os
    import pathlib
    import celery_app
    from celery_app import POOL, app
    from helpers_gate import ahold, tell
    from greenroom import Member
    from greenroom.testing import http_error

    class Agent:
        def __init__(self):
            tell(f"made in {os.getpid()}")

        async def run(self, prompt):
            if prompt == "wrong":
                raise http_error(400)
            if prompt == "down" and not pathlib.Path("up").exists():
                raise ConnectionError("sk-secret refused")
            if prompt.startswith("held"):
                return await ahold(prompt)
            return f"{prompt} by {os.getpid()}"

        def close(self):
            tell(f"closed in {os.getpid()}")

    celery_app.MEMBERS[:] = [Member("only", factory=Agent, max_concurrency=4)]
    app.conf.update(
        broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue"},
        worker_hijack_root_logger=False,
    )
    if os.environ.get("EARLY"):
        POOL()  # in the process that forks the others
"""


@pytest.fixture
def held() -> Iterator[Gate]:
    with gate() as opened:
        yield opened


class Worker:
    """A worker of Celery's, and a client of its."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self._client = celery.Celery(
            "client", broker="filesystem://", backend=f"file://{folder / 'results'}"
        )
        queue = str(folder / "queue")
        self._client.conf.broker_transport_options = {
            "data_folder_in": queue,
            "data_folder_out": queue,
            "control_folder": str(folder / "control"),  # else where the tests are run from
        }

    def send(self, text: str, **options: Any) -> Any:
        """Put a task into the queue; its result to be."""
        return self._client.send_task("celery_app.answer", (text,), **options)


@pytest.fixture
def worker(tmp_path: Path, held: Gate, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One with these options."""
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "served.py").write_text(textwrap.dedent(APP))
    options: list[str] = getattr(request, "param", ["-c", "1"])
    own = {
        **held.environment,
        "BROKER": "filesystem://",
        "BACKEND": f"file://{tmp_path / 'results'}",
        "EARLY": "yes" if "--early" in options else "",
    }
    command = ["-m", "celery", "-A", "served", "worker", "-l", "INFO", "--without-mingle"]
    command += ["--without-gossip", "--without-heartbeat"]
    command += [each for each in options if each != "--early"]
    with running(command, tmp_path, own) as program:
        program.said(r"ready\.")
        yield Worker(program, tmp_path)


def value(result: Any) -> str:
    return str(result.get(timeout=LIMIT_S, interval=0.05))


@pytest.mark.parametrize("worker", [["-c", "1"], ["-c", "1", "--early"]], indirect=True)
def test_each_child_of_a_prefork_has_its_own_pool(worker: Worker, held: Gate) -> None:
    """Started in the child, whether or not its parent has one; at the end its agents are closed."""
    result = worker.send("hi")
    child = held.next().prompt.removeprefix("made in ")
    assert int(child) != worker.program.process.pid
    assert value(result) == f"hi by {child}"
    worker.program.signal(signal.SIGTERM)
    assert held.next().prompt == f"closed in {child}"
    assert worker.program.ended() == 0


def test_what_is_at_hand_is_finished(worker: Worker, held: Gate) -> None:
    """SIGTERM lets the worker wait for its tasks, and the pool with it."""
    result = worker.send("held")
    assert held.next().prompt.startswith("made")
    call = held.next()
    worker.program.signal(signal.SIGTERM)
    worker.program.said("Warm shutdown")
    call.go("done")
    assert value(result) == "done"
    assert held.next().prompt.startswith("closed")
    assert worker.program.ended() == 0


@pytest.mark.parametrize("worker", [["-P", "threads", "-c", "2"]], indirect=True)
def test_threads_have_one_pool(worker: Worker, held: Gate) -> None:
    """Two tasks are with it at the same time; it is stopped with the worker."""
    results = [worker.send("held 1"), worker.send("held 2")]
    first = held.next().prompt
    assert first == f"made in {worker.program.process.pid}"
    for call in (held.next(), held.next()):
        call.go("done")
    assert [value(each) for each in results] == ["done", "done"]
    worker.program.signal(signal.SIGTERM)
    assert held.next().prompt == f"closed in {worker.program.process.pid}"
    assert worker.program.ended() == 0


def test_an_outage_of_all_is_for_celery_to_try_again(
    worker: Worker, held: Gate, tmp_path: Path
) -> None:
    """When the pool says that one may answer; until then the task holds nobody."""
    result = worker.send("down")
    held.next()
    worker.program.said(r"retry: Retry in \d")
    (tmp_path / "up").touch()
    assert value(result).startswith("down by ")


def test_a_request_at_fault_is_not_tried_again(worker: Worker, held: Gate) -> None:
    """Its error says why, and comes whole through a backend that keeps only JSON."""
    result = worker.send("wrong")
    with pytest.raises(Exception, match="400 Bad Request") as caught:
        value(result)
    assert type(caught.value).__name__ == "RefusedError"
    assert "retry: Retry in" not in worker.program.text


def test_the_soft_time_limit_cancels_the_call(worker: Worker, held: Gate) -> None:
    """It breaks in by a signal while the task waits: the agent's call ends with it."""
    result = worker.send("held", soft_time_limit=1)
    held.next()
    assert held.next().end() == "cancelled"
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        value(result)
