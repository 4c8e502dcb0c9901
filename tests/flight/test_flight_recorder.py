"""A pool that records: asked itself, and by its file; what a recording has not in it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S, ask, echo, echo_async
from helpers_processes import PROCESS_S

from greenroom import (
    AgentPool,
    Limit,
    Member,
    PoolConfig,
    PoolFuture,
    Reply,
    Request,
    ResourceError,
)
from greenroom.cli import main
from greenroom.flight.flight_reading import log_with, logs_of
from greenroom.flight.settings_said import config_of
from greenroom.testing import FakeClock, ScriptedAgent, http_error

SECRET = "sk-secret-payload"


def down(payload: Any) -> Any:
    raise ConnectionError(f"no route for {payload}")


def flaky_and_well() -> list[Member]:
    return [Member("flaky", down), Member("well", echo, priority=1)]


def test_b368_a_pool_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the running pool, and by the command with its file: the same words."""
    path = tmp_path / "flight.jsonl.zst"
    with AgentPool.start(
        flaky_and_well(), strategy="priority", clock=FakeClock(), record=path, name="r"
    ) as pool:
        pool.execute("hello", request_id="mine")
        said = pool.explain("mine")
    assert "mine came at 00:16:40.000Z and was answered by well" in said
    assert "flaky failed attempt 1: unavailable (ConnectionError)" in said
    assert "So it went on to well: attempt 2." in said
    assert pool.explain("mine") == said  # also when the pool has ended
    assert main(["explain", "mine", "--flight", str(path)]) == 0
    assert capsys.readouterr().out.rstrip("\n") == said
    assert main(["explain", "#mine", "--flight", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["headline"] == said.splitlines()[0]


def test_b368_an_answer_that_has_just_come_is_known(tmp_path: Path) -> None:
    """Its report may lie aside in the router: it is read first; awaited as well."""

    async def main() -> str:
        async with AgentPool.start([Member("a", echo_async)], record=True) as pool:
            await pool.ask(Request("x", request_id="r"), block=False)
            return await pool.aexplain("r")

    assert "and was answered by a" in asyncio.run(main())


def test_b369_who_is_out_is_asked_without_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the pool, and of the newest recording that lies here."""
    monkeypatch.chdir(tmp_path)
    config = PoolConfig(circuit_failure_threshold=1)
    clock = FakeClock()
    with AgentPool.start(
        flaky_and_well(),
        strategy="priority",
        config=config,
        clock=clock,
        record="flight.jsonl.gz",
    ) as pool:
        pool.execute("hello")
        assert "flaky is out: its breaker is open since 00:16:40.000Z until" in pool.explain()
    assert main(["explain"]) == 0
    assert "flaky is out: its breaker is open" in capsys.readouterr().out


def test_b370_neither_payloads_nor_keys_nor_error_texts_are_recorded(tmp_path: Path) -> None:
    """Nor what a member's `accepts` raises, nor metadata."""
    path = tmp_path / "flight.jsonl"

    def accepts(payload: Any) -> bool:
        raise ValueError(f"not {payload}")

    members = [
        *flaky_and_well(),
        Member("choosy", echo, accepts=accepts),
    ]
    config = PoolConfig(fair_by="key")
    with AgentPool.start(members, strategy="priority", config=config, record=path) as pool:
        for number in range(20):
            pool.execute(SECRET, key=f"{SECRET}-{number}", metadata={"note": SECRET})
        said = pool.explain(f"{pool.name}-1")
    text = path.read_text()
    assert SECRET not in text + said
    assert "Not to choosy: it does not accept its payload (its accepts raised ValueError)" in said
    (log,) = logs_of(path)
    assert len(log.requests) == 20
    assert len({each.facts["key"] for each in log.requests.values()}) == 20


def test_b371_a_request_takes_a_few_hundred_bytes(tmp_path: Path) -> None:
    """As text; compressed a fraction of that."""
    sizes = {}
    for suffix in ("", ".zst"):
        path = tmp_path / f"flight.jsonl{suffix}"
        with AgentPool.start([Member(each, echo) for each in "abc"], record=path) as pool:
            for number in range(1_000):
                pool.execute(number)
        sizes[suffix] = path.stat().st_size / 1_000
    assert 100 < sizes[""] < 400
    assert sizes[".zst"] < sizes[""] / 2


def test_b372_a_recorder_that_is_slow_holds_up_nobody() -> None:
    """Requests go on while it writes not at all."""
    held, go = threading.Event(), threading.Event()

    def slow(line: str) -> None:
        held.set()
        assert go.wait(WAIT_S)

    with AgentPool.start([Member("a", echo)], record=slow) as pool:
        assert pool.execute(1) == 1
        assert held.wait(WAIT_S)
        assert [pool.execute(number) for number in range(100)] == list(range(100))
        go.set()


def test_b373_memory_alone_has_no_thread() -> None:
    """And a pool that records nothing says how it would."""
    before = set(threading.enumerate())
    with AgentPool.start([Member("a", echo)], record=True) as pool:
        pool.execute(1)
        assert "was answered by a" in pool.explain(f"{pool.name}-1")
        started = set(threading.enumerate()) - before
        assert not [thread for thread in started if thread.name == "greenroom-flight"]
        with pytest.raises(LookupError, match="nothing is recorded of a request 'other'"):
            pool.explain("other")
    with (
        AgentPool.start([Member("a", echo)]) as pool,
        pytest.raises(RuntimeError, match="does not record: start it with record=True"),
    ):
        pool.explain("r")


@pytest.mark.parametrize("record", [7, object(), ["flight.jsonl"]])
def test_b373_what_is_no_place_is_refused(record: Any) -> None:
    """Before anything is started."""
    with pytest.raises(TypeError, match="record must be a path, a function"):
        AgentPool.start([Member("a", echo)], record=record)


def test_b373_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """And nothing is left of the pool: its name is free."""
    with pytest.raises(OSError, match="No such file or directory"):
        AgentPool.start([Member("a", echo)], name="lost", record=tmp_path / "no" / "flight.jsonl")
    with AgentPool.start([Member("a", echo)], name="lost") as pool:
        assert pool.name == "lost"


def test_b415_a_file_is_one_running_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever path: a second one is refused before it starts, and one that comes after it is
    not.
    """
    monkeypatch.chdir(tmp_path)
    path, other = tmp_path / "flight.jsonl", tmp_path / "linked.jsonl"
    with AgentPool.start([Member("a", echo)], name="first", record=path) as pool:
        pool.execute("x", request_id="r")
        other.hardlink_to(path)
        for same in (path, "flight.jsonl", other):
            with pytest.raises(ValueError, match="record must be a file of the pool's own, got "):
                AgentPool.start([Member("b", echo)], name="second", record=same)
        with AgentPool.start([Member("b", echo)], name="second", record=tmp_path / "b.jsonl") as b:
            assert b.name == "second"
            b.execute("x", request_id="r")
    with AgentPool.start([Member("c", echo)], name="second", record=path) as pool:
        with pytest.raises(LookupError, match="nothing is recorded of a request 'r'"):
            pool.explain("r")  # that was the first one's
        pool.execute("x", request_id="r")
        assert "was answered by c" in pool.explain("r")
    first, second = logs_of(path)
    assert (first.header.pool, second.header.pool) == ("first", "second")
    ends = [(log, log.requests["r"].end) for log in (first, second)]
    assert [end and log.name(end.member) for log, end in ends] == ["a", "c"]


def test_b415_what_is_no_file_is_anybodys() -> None:
    """Nothing is read from there."""
    with (
        AgentPool.start([Member("a", echo)], record=os.devnull) as one,
        AgentPool.start([Member("a", echo)], record=os.devnull) as other,
    ):
        assert (one.execute(1), other.execute(2)) == (1, 2)


def test_b415_a_pool_that_could_not_start_has_no_file(tmp_path: Path) -> None:
    """It can be started again."""
    path = tmp_path / "flight.jsonl"

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ResourceError, match="pool 'lost'"):
        patch.setattr(threading.Thread, "start", refused)
        AgentPool.start([Member("a", echo)], name="lost", record=path)
    AgentPool.start([Member("a", echo)], name="lost", record=path).stop()
    assert [log.header.pool for log in logs_of(path)] == ["lost", "lost"]


def test_b374_what_is_under_way_at_the_end_is_written_as_it_is(tmp_path: Path) -> None:
    """A thread that is stuck in its agent never reports."""
    path = tmp_path / "flight.jsonl"
    go, begun = threading.Event(), threading.Event()

    def stuck(payload: Any) -> Any:
        begun.set()
        assert go.wait(WAIT_S)

    with AgentPool.start([Member("a", stuck)], record=path) as pool:
        future: PoolFuture[Reply[Any]] = ask(pool, request_id="r")
        assert begun.wait(WAIT_S)
        pool.stop(timeout=WAIT_S)
    go.set()
    assert future.done()
    line = log_with(path, "r").requests["r"]
    assert line.end is not None
    assert (line.end.how, line.end.error) == ("failed", "PoolStoppedError")


def test_b368_the_command_says_what_it_cannot_find(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and why."""
    path = tmp_path / "flight.jsonl"
    with AgentPool.start([Member("a", echo)], record=path) as pool:
        pool.execute(1)
    assert main(["explain", "other", "--flight", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"greenroom: {path}: nothing is recorded of a request 'other'\n"
    )
    assert main(["explain", "--flight", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_b374_a_program_that_never_stops_its_pool_loses_nothing(tmp_path: Path) -> None:
    """What is left is written when it ends."""
    script = (
        "from greenroom import AgentPool, Member\n"
        "pool = AgentPool.start([Member('a', str)], record='flight.jsonl')\n"
        "for number in range(50):\n"
        "    pool.execute(number)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=PROCESS_S)
    (log,) = logs_of(tmp_path / "flight.jsonl")
    assert len(log.requests) >= 49  # the report of the last answer may lie aside


def test_b368_of_many_requests_those_of_one_key_are_known() -> None:
    """Under way or ended; of an id that was used again, the later one."""
    config = PoolConfig(fair_by=None)
    with AgentPool.start([Member("a", echo)], config=config, record=True) as pool:
        for number in range(100):
            pool.execute(number, key=f"{number % 10}")
        for _ in range(2):
            pool.execute("x", key="3", request_id="mine")
        assert "Its key stayed with a, which had it at" in pool.explain("mine")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"ended":', '"ended":null,"x":'),
        ('"ended":', '"ended":1e30,"x":'),
        ('"n":', '"n":[],"x":'),
        ('"blocked":null', '"blocked":[]'),
        ('"index":0', '"index":{}'),
        ('"end":[', '"end":[true,'),
    ],
)
def test_b374_a_value_that_no_recording_has_is_an_error_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    """No command ends with a traceback, or not at all."""
    path = tmp_path / "flight.jsonl"
    with AgentPool.start([Member("a", echo)], clock=FakeClock(), record=path) as pool:
        pool.execute("x", request_id="r")
        pool.execute("x", request_id="s")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    commands = (["explain"], ["explain", "r"], ["replay"], ["simulate", "--print"])
    flags = ("--flight", "--flight", None, "--from")
    for command, flag in zip(commands, flags, strict=True):
        code = main([*command, *([flag] if flag else []), str(path)])
        assert code in (0, 2)
        told = capsys.readouterr().err
        assert (code == 0) == (told == "")
        assert code == 0 or str(path) in told


def test_b377_settings_that_are_names_are_recorded(tmp_path: Path) -> None:
    """A replay does not say that it goes without them."""
    path = tmp_path / "flight.jsonl"
    config = PoolConfig(log_metadata=("tenant",))
    AgentPool.start([Member("a", echo)], config=config, record=path).stop()
    (log,) = logs_of(path)
    assert log.header.left_out == ()
    assert config_of(log.header.settings) == config


def test_b419_who_lacks_headroom_is_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until there is some; in the file as far as the last request has seen it."""
    clock, path = FakeClock(), tmp_path / "flight.jsonl"
    members = [
        Member("small", echo, limits=[Limit(1, per_s=60.0)]),
        Member("large", echo, priority=1),
    ]
    with AgentPool.start(members, strategy="priority", clock=clock, record=path) as pool:
        assert pool.explain().splitlines()[-1].strip() == "Nobody."
        pool.execute("x")
        out = "small is out: nothing is left of its rate limits until 00:17:40.000Z (60 s more)."
        assert pool.explain().splitlines()[-1].strip() == out
        pool.execute("x")
        clock.advance(30.0)
        assert "(30 s more)" in pool.explain()
    assert main(["explain", "--flight", str(path)]) == 0
    assert "small is out: nothing is left of its rate limits" in capsys.readouterr().out
    with AgentPool.start(members, strategy="priority", clock=clock, record=True) as pool:
        pool.execute("x")
        clock.advance(60.0)
        assert pool.explain().splitlines()[-1].strip() == "Nobody."


def test_b369_a_member_that_was_reset_does_not_rest_any_more() -> None:
    """It takes requests at once, whatever it had asked for."""
    members = [Member("busy", ScriptedAgent([http_error(429, retry_after_s=60)]))]
    members.append(Member("well", echo, priority=1))
    with AgentPool.start(members, strategy="priority", clock=FakeClock(), record=True) as pool:
        pool.execute("x")
        assert "busy is out: it rests (rate_limited)" in pool.explain()
        pool.reset_member("busy")
        assert pool.explain().splitlines()[-1].strip() == "Nobody."
