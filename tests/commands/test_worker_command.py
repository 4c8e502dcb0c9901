"""`greenroom worker`. Behaviour 442."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers_commands import MODULE
from helpers_processes import PROCESS_S, bounded

from greenroom import AgentPool, Member, RemoteAgent
from greenroom.cli import main

FILE = """
[[members]]
name = "upper"
kind = "python"
agent = "agents_of_a_test:upper"
max_concurrency = 3

[[members]]
name = "other"
kind = "openai"
model = "m"
api_key_env = "GREENROOM_NO_SUCH_KEY"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "agents_of_a_test.py").write_text(MODULE)
    path = tmp_path / "pool.toml"
    path.write_text(FILE)
    return path


@contextmanager
def command(
    file: Path, *more: str, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL, and the process, which has a Ctrl-C of its own."""
    arguments = ["-c", str(file), "--listen", "http://127.0.0.1:0", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "greenroom", "worker", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=file.parent,
        env={**os.environ, **environment},
    )
    with bounded(process):
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("upper is served at http://127.0.0.1:"), said
        yield said.split()[-1], process
        process.kill()


def test_b449_a_member_of_a_file_is_served(file: Path) -> None:
    """Whatever is wrong with another one; with its key, and its width; SIGTERM ends it with 0."""
    key = {"WORKER_KEY": "a-key-of-the-worker"}
    with command(file, "--member", "upper", "--key-env", "WORKER_KEY", **key) as (url, process):
        member = Member("far", factory=lambda: RemoteAgent(url, key=key["WORKER_KEY"]))
        with AgentPool.start([member]) as pool:
            assert pool.execute("hi") == "HI"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PROCESS_S) == 0


def test_b449_files_have_members_elsewhere(file: Path) -> None:
    """As members of the kind `remote`."""
    with command(file, "--member", "upper") as (url, _):
        callers = file.with_name("callers.toml")
        callers.write_text(f'[[members]]\nname = "far"\nkind = "remote"\nurl = "{url}"\n')
        with AgentPool.from_toml(callers) as pool:
            assert pool.execute("hi") == "HI"


def test_b449_ctrl_c_ends_it_as_the_others(file: Path) -> None:
    """With the code of an interrupt."""
    with command(file, "--member", "upper") as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(PROCESS_S) == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--member must be one of upper, other, got none"),
        (["--member", "nobody"], "--member must be one of upper, other, got 'nobody'"),
        (["--member", "other"], "GREENROOM_NO_SUCH_KEY"),
        (["--member", "upper", "--listen", "http://0.0.0.0:1"], "there is a key"),
        (["--member", "upper", "--listen", "ftp://x"], "listen must begin with"),
        (["--member", "upper", "--key-env", "GREENROOM_NO_SUCH_KEY"], "--key-env must name"),
        (["--member", "upper", "--key-env", "GREENROOM_ODD"], "key must be printable ASCII"),
        (["--member", "upper", "--listen", "https://127.0.0.1:0"], "cert must be given"),
        (
            ["--member", "upper", "--listen", "https://127.0.0.1:0", "--cert", "/no/such"],
            "cert must be a file that can be read",
        ),
        (
            ["--member", "upper", "--listen", "tls://127.0.0.1:1/w", "--ca-file", "pool.toml"],
            "ca_file must be a file of certificates in PEM",
        ),
        (
            ["--member", "upper", "--listen", "nats://127.0.0.1:1/w", "--without-key"],
            "without_key must not be given with nats://",
        ),
        (["--member", "upper", "--drain", "nan"], "drain_s must be finite"),
    ],
)
def test_b449_what_does_not_hold_is_a_line_on_stderr(
    file: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the exit code 2."""
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("GREENROOM_ODD", "s3cret\x07")
    assert main(["worker", "-c", str(file), *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert "s3cret" not in err
