"""`greenroom top`: pools at work, from their endpoint or from their log."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers_commands import python_members
from helpers_status import ANY
from rich.console import Console

import greenroom
from greenroom import AgentPool, Member, PoolRef
from greenroom.cli import main
from greenroom.commands import watching
from greenroom.commands.exits import Exit
from greenroom.commands.top_screen import TopScreen


@pytest.fixture
def pool() -> Iterator[PoolRef]:
    with AgentPool.start([Member("a", str.upper)], status=ANY, name="writers") as pool:
        pool.execute("x")
        yield pool


def top(*arguments: str) -> int:
    return main(["top", *arguments])


def test_one_frame_of_an_endpoint(pool: PoolRef, capsys: pytest.CaptureFixture[str]) -> None:
    """As plain text, where no terminal is; by its URL, or by host and port alone."""
    assert pool.status_url is not None
    for source in (pool.status_url, f"{pool.status_url}/", pool.status_url.removeprefix("http://")):
        assert top(source, "--once") == Exit.DONE
        out = capsys.readouterr().out
        assert "writers: ready (adaptive)" in out
        assert "1 answered, 0 failed" in out
        assert "\x1b" not in out


def test_one_frame_of_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its path, or as the pool's own `status` has it."""
    path = tmp_path / "x.sock"
    with AgentPool.start([Member("a", str.upper)], status=path, name="writers"):
        for source in (str(path), f"unix:{path}"):
            assert top(source, "--once") == Exit.DONE
            assert "writers: ready" in capsys.readouterr().out


def test_one_frame_of_a_log_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log_off_after: None
) -> None:
    """When the process has long ended, as things stood last; of a terminal's own needs nothing."""
    path = tmp_path / "app.jsonl"
    greenroom.log("DEBUG", format="json", sink=path)
    with AgentPool.start([Member("a", str.upper)], name="writers") as pool:
        pool.execute("x")
        pool.force_open("a")
    greenroom.log(None)
    path.write_text("not of the log\n" + path.read_text())
    assert top(str(path)) == Exit.DONE
    out = capsys.readouterr().out
    assert f"{path}, as of " in out
    assert "writers: stopped (adaptive)" in out
    assert "1 answered" in out
    assert "breaker.opened" in out


def test_what_is_no_log_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; so is a file that there is not."""
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    assert top(str(path)) == Exit.USAGE
    assert "no line of it is one of a log in JSON" in capsys.readouterr().err
    assert top(str(tmp_path / "gone.jsonl")) == Exit.USAGE
    assert "gone.jsonl: No such file" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, in one line."""
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        url = pool.status_url
        assert url is not None
        pool.stop()
    # Its port may be somebody else's by now, who is no endpoint of ours.
    assert top(url, "--once") == Exit.FAILED
    assert capsys.readouterr().err.startswith(f"greenroom: {url} ")


@pytest.mark.parametrize("source", ["https://localhost:1", "http://localhost", "unix:"])
def test_what_is_no_endpoint_is_refused(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what there can be."""
    assert top(source) == Exit.USAGE
    assert source.partition("://")[2] in capsys.readouterr().err


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that is looked at afterwards."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=150, height=40, color_system=None)
    monkeypatch.setattr(watching, "TopScreen", lambda: TopScreen(console))
    monkeypatch.setattr(watching, "is_terminal", lambda _: True)
    return shown


def test_it_renews_itself_in_a_terminal(pool: PoolRef, screen: io.StringIO) -> None:
    """Until Ctrl-C: what has happened meanwhile is in the next frame, with the rate of answers."""
    assert pool.status_url is not None
    steps: list[Callable[[], object]] = [
        lambda: pool.force_open("a"),
        lambda: pool.execute("x"),
    ]

    def wait(_: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop()()

    with pytest.raises(KeyboardInterrupt):
        watching.carry_out(watching.Options(source=pool.status_url), wait)
    first, last = screen.getvalue().index("1 answered"), screen.getvalue().rindex("forced_open")
    assert first < screen.getvalue().index("2 answered") < last
    assert "answered/s" in screen.getvalue()


def test_it_waits_for_an_endpoint_that_comes_back(pool: PoolRef, screen: io.StringIO) -> None:
    """What was known last stays, with why there is nothing newer."""
    url = pool.status_url
    assert url is not None
    ended: list[bool] = []

    def wait(_: float) -> None:
        if ended:
            raise KeyboardInterrupt
        pool.stop()
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        watching.carry_out(watching.Options(source=url), wait)
    shown = screen.getvalue()
    assert "as it was last" in shown or "answers" in shown


def test_it_follows_a_log(tmp_path: Path, screen: io.StringIO) -> None:
    """What is written meanwhile is in the next frame."""
    path = tmp_path / "app.jsonl"
    line = {"ts": "2026-01-31T12:00:00Z", "level": "INFO", "pool": "writers"}
    begun = line | {"event": "pool.started", "members": "a, b", "strategy": "adaptive"}
    path.write_text(json.dumps(begun) + "\n")
    opened = line | {"event": "breaker.opened", "member": "b", "message": "breaker opened: x"}
    steps = [opened]

    def wait(_: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        with path.open("a") as file:
            file.write(json.dumps(steps.pop()) + "\n")

    with pytest.raises(KeyboardInterrupt):
        watching.carry_out(watching.Options(source=str(path)), wait)
    shown = screen.getvalue()
    assert shown.index("writers: ready") < shown.index("breaker opened: x")


def test_what_comes_from_elsewhere_moves_no_cursor(screen: io.StringIO) -> None:
    """Control characters of an error's text are left out."""
    hostile = {"name": "a", "last_error": "\x1b[2Jred\x07", "status": "\x1b]0;x\x07"}
    pool = {"name": "p\x1b[1m", "answers": True, "can_serve": True, "members": [hostile]}
    TopScreen(Console(file=screen, width=150)).print({"at": 1.0, "pools": [pool]}, "x\x1b[2J")
    assert "\x1b" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()


# -- --status of the other commands

Write = Callable[[str], Path]


def test_commands_that_open_a_pool_show_it(
    write_pool: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they are told to, and they say where that is."""
    write_pool(python_members("upper"))
    assert main(["ask", "x", "--status", ANY]) == Exit.DONE
    said = capsys.readouterr()
    assert said.out == "X\n"
    assert said.err.startswith("the status of pool is at http://127.0.0.1:")


@pytest.mark.parametrize("command", [["ask", "x"], ["demo", "--quick"], ["serve"]])
def test_a_wrong_address_is_told_before_anything_begins(
    command: list[str], write_pool: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; so it is of one that is in use."""
    write_pool(python_members("upper"))
    assert main([*command, "--status", "9100"]) == Exit.USAGE
    assert "must be a host and a port" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main([*command, "--status", address]) == Exit.USAGE
    assert f"got '{address}'" in capsys.readouterr().err
