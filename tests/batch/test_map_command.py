"""`greenroom map` as a process: killed, interrupted, and started again."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, cast

import pytest
from helpers_pages import ROOT
from helpers_pools import WAIT_S
from helpers_processes import PROCESS_S, bounded

from greenroom.batch.batch_run import BatchRun

pytest.importorskip("fcntl")
pytest.importorskip("typer")
from greenroom.commands.map_command import _Signals

KILLS = 4


class Shell:
    """A folder with a pool, prompts and answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "a.jsonl"

    def pool(self, *agents: str, at_a_time: int = 8, **settings: str) -> None:
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        text = f"[pool]\n{text}"
        for name in agents:
            text += (
                f'[[members]]\nname = "{name}"\nkind = "python"\n'
                f'agent = "helpers_batch:{name}"\nmax_concurrency = {at_a_time}\n'
            )
        (self.folder / "pool.toml").write_text(text)

    def prompts(self, text: str, name: str = "p.txt") -> None:
        (self.folder / name).write_text(text)

    def start(
        self, *arguments: str, kill_at: int = 0
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        paths = (str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", ""))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OUTPUT": str(self.output),
            "KILL_AT": str(kill_at),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "greenroom", "map", *arguments, "-o", "a.jsonl"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return bounded(process)

    def run(self, *arguments: str, stdin: str = "", kill_at: int = 0) -> tuple[int, str, str]:
        with self.start(*arguments, kill_at=kill_at) as process:
            out, err = process.communicate(stdin, timeout=3 * WAIT_S)
        assert "Traceback" not in err
        return process.returncode, out, err

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_bytes().splitlines()]

    def ids(self) -> list[Any]:
        return sorted(line["id"] for line in self.lines())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_killed_at_any_point_it_goes_on_where_it_was(shell: Shell) -> None:
    """Of three members one is down and one is slow: each id once, each answer the right one."""
    count = 200
    shell.pool("good", "slow", "failing")
    shell.prompts("".join(f"prompt {number}\n" for number in range(1, count + 1)))
    rng = random.Random(12)
    under_way = 8  # a process that is to kill itself must have something left to ask
    for kill_at in sorted(rng.sample(range(10, count - 2 * under_way), KILLS)):
        code, _, _ = shell.run("p.txt", "--max-in-flight", str(under_way), kill_at=kill_at)
        assert code == -signal.SIGKILL
        written = shell.output.read_bytes()
        assert kill_at <= written.count(b"\n") < count
        torn = written.splitlines(keepends=True)[-1]
        # As if it had come in the middle of a write.
        shell.output.write_bytes(written + torn[: rng.randrange(len(torn))])
    code, out, _ = shell.run("p.txt")
    assert code == 0
    assert shell.ids() == list(range(1, count + 1))
    assert all(line["answer"] == f"PROMPT {line['id']}" for line in shell.lines())
    assert "0 failed" in out
    assert {line["member"] for line in shell.lines()} == {"good", "slow"}


def test_ids_of_ones_own_are_kept_over_a_kill(shell: Shell) -> None:
    """From stdin as well, which is given whole once more."""
    said = "".join(
        json.dumps({"id": f"id-{number}", "prompt": f"p{number}"}) + "\n" for number in range(60)
    )
    shell.pool("good")
    assert shell.run("-", stdin=said, kill_at=20)[0] == -signal.SIGKILL
    code, _, err = shell.run("-", stdin=said)
    assert code == 0
    assert "goes on behind" in err
    assert Counter(shell.ids()) == Counter(f"id-{number}" for number in range(60))


def test_some_that_fail_are_told_and_asked_again(shell: Shell) -> None:
    """Exit code 1 as long as the output has an error; each id has one line all the time."""
    shell.pool("wrong", max_retries="0")
    shell.prompts("p1\np2\np3\n")
    code, out, err = shell.run("p.txt")
    assert (code, shell.ids()) == (1, [1, 2, 3])
    assert out.startswith("2 answered, 1 failed in ")
    assert "wrong: 2 answered, 1 attempts failed" in out
    assert "1 lines of the output are errors; --retry-failed asks those again" in err
    assert shell.run("p.txt")[0] == 1
    shell.pool("good")
    code, _, err = shell.run("p.txt", "--retry-failed")
    assert (code, shell.ids()) == (0, [1, 2, 3])
    assert "1 errors are asked again" in err
    assert all("answer" in line for line in shell.lines())


def test_a_file_that_cannot_be_used_loses_no_error(shell: Shell) -> None:
    """Nor does it a torn line: the output is touched when there is a pool."""
    shell.pool("wrong", max_retries="0")
    shell.prompts("p3\n")
    assert shell.run("p.txt")[0] == 1
    written = shell.output.read_bytes()
    torn = written + written[:9]
    shell.output.write_bytes(torn)
    shell.pool("good", no_such_setting="1")
    code, out, err = shell.run("p.txt", "--retry-failed")
    assert (code, out) == (2, "")
    assert "no_such_setting" in err
    assert "asked again" not in err
    assert shell.output.read_bytes() == torn


def test_ctrl_c_drains(shell: Shell) -> None:
    """What is under way is written, the rest is left; started again, it goes on."""
    shell.pool("held", at_a_time=1)
    shell.prompts("p1\np2\np3\n")
    with shell.start("p.txt", "--max-in-flight", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert "what is under way is waited for" in process.stderr.readline()
        process.stdin.write("x")
        process.stdin.flush()
        assert process.wait(WAIT_S) == 130
        assert "interrupted; run it again to go on" in process.stderr.read()
    assert shell.ids() == [1]
    shell.pool("good")
    assert shell.run("p.txt")[0] == 0
    assert shell.ids() == [1, 2, 3]


class Gone(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_ctrl_c_drains_though_nobody_reads_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The note of it is lost, the drain is not; a second one cancels."""
    monkeypatch.setattr(sys, "stderr", Gone())

    class Run:
        def __init__(self) -> None:
            self.drained = asyncio.Event()

        def drain(self) -> None:
            self.drained.set()

    async def main() -> None:
        run = Run()
        task: asyncio.Task[Any] = asyncio.ensure_future(asyncio.Event().wait())
        loud: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: loud.append(what))
        with _Signals(cast(BatchRun, run), task).handled():
            signal.raise_signal(signal.SIGINT)
            await asyncio.wait_for(run.drained.wait(), WAIT_S)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, WAIT_S)
        assert loud == []

    asyncio.run(main())


ASIDE = """
import os, sys
from greenroom.commands.terminal import aside, say
read, write = os.pipe()
os.close(read)
os.dup2(write, 2)
for text in ("lost", "lost too"):
    with aside():
        say(text, stream=sys.stderr)
print("said")
"""


def test_what_is_said_aside_ends_nothing() -> None:
    """Nor does what is left of it in a buffer: the exit code is that of what was done."""
    command = [sys.executable, "-c", ASIDE]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PROCESS_S)
    assert (done.returncode, done.stdout) == (0, "said\n")


def test_a_second_ctrl_c_waits_for_nothing(shell: Shell) -> None:
    """What was under way has no line, and is asked again."""
    shell.pool("held")
    shell.prompts("p1\np2\n")
    with shell.start("p.txt") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert "what is under way is waited for" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert "Traceback" not in process.stderr.read()
    assert shell.ids() == []


def test_a_signal_to_end_ends_it(shell: Shell) -> None:
    """At once, by its exit code; what was under way is asked again."""
    shell.pool("held")
    shell.prompts("p1\n")
    with shell.start("p.txt") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()
    assert shell.ids() == []
    shell.pool("good")
    assert shell.run("p.txt")[0] == 0
    assert shell.ids() == [1]


def test_a_hangup_has_the_file_read_again(shell: Shell) -> None:
    """What is under way is finished; what follows goes to who stands there now. A wrong file
    changes nothing.
    """
    shell.pool("held", at_a_time=1)
    shell.prompts("p1\np2\np3\n")
    with shell.start("p.txt", "--max-in-flight", "1", "-v") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        (shell.folder / "pool.toml").write_text("[pool\n")
        process.send_signal(signal.SIGHUP)
        assert "pool.toml" in _line_with("the pool goes on as it is", process.stderr)
        shell.pool("good")
        process.send_signal(signal.SIGHUP)
        assert "good added" in _line_with("pool.configured", process.stderr)
        _, err = process.communicate("x", WAIT_S)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert [line["member"] for line in shell.lines()] == ["held", "good", "good"]


def _line_with(text: str, stream: IO[str]) -> str:
    return next(line for line in stream if text in line)


def test_two_do_not_write_one_output(shell: Shell) -> None:
    """The second is told so, and nothing else happens."""
    shell.pool("held")
    shell.prompts("p1\n")
    with shell.start("p.txt") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        code, _, err = shell.run("p.txt")
        assert (code, err) == (
            2,
            "greenroom: a.jsonl: another batch is writing it (its lock is taken)\n",
        )
        first.communicate("x", WAIT_S)
        assert first.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.txt"], "none.txt: No such file or directory"),
        (["p.jsonl"], "p.jsonl:2: must have prompt or messages, got neither"),
        (["p.txt", "-c", "none.toml"], "none.toml: No such file or directory"),
        (["p.txt", "--max-in-flight", "0"], "--max-in-flight"),
        (["p.txt", "--format", "yaml"], "--format"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    shell: Shell, arguments: list[str], said: str
) -> None:
    """Exit code 2, and nothing is asked."""
    shell.pool("good")
    shell.prompts("p1\n")
    shell.prompts('{"prompt": "x"}\n{"id": 1}\n', "p.jsonl")
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not shell.output.exists() or shell.lines() == []
