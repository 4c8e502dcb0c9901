"""Commands as agents: real ones, small programs of the interpreter's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import AllPoolMembersFailedError, FailureKind, Member, PayloadError, Request
from greenroom.kinds import CommandAgent, CommandFailedError


def program(code: str, *arguments: str, **settings: Any) -> CommandAgent:
    """An agent that runs this."""
    return CommandAgent([sys.executable, "-I", "-S", "-c", code, *arguments], **settings)


def run(agent: CommandAgent, payload: str | bytes = "") -> Any:
    return asyncio.run(asyncio.wait_for(agent.arun(payload), WAIT_S))


def is_gone(pid: int) -> bool:
    """Whether it has ended; who should wait for it may not have done so."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True
    return state in "ZX"


def assert_gone(pids: list[int]) -> None:
    """Killed is not yet gone: the system ends it in its own time."""
    for _ in range(int(WAIT_S * 100)):
        if all(map(is_gone, pids)):
            return
        os.sched_yield()
    assert [pid for pid in pids if not is_gone(pid)] == []


CHILDREN = """
import os, signal, subprocess, sys, time
{before}
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", {child!r}], start_new_session={apart})
print(os.getpid(), child.pid, flush=True)
{after}
"""
SLEEP = "import time; time.sleep(600)"


GRANDCHILD = f"""
import os, time
if os.fork():
    os._exit(0)
{SLEEP}
"""


def with_child(
    before: str = "", child: str = SLEEP, after: str = SLEEP, apart: bool = False
) -> str:
    return CHILDREN.format(before=before, child=child, after=after, apart=apart)


async def cancelled_after_first_line(agent: CommandAgent) -> list[int]:
    """Have a line of it, the pids, and leave."""
    stream: AsyncIterator[Any] = agent.astream("")
    line = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    return [int(each) for each in line.split()]


# -- what goes in, and comes out


def test_the_prompt_goes_to_stdin_and_the_answer_comes_from_stdout() -> None:
    """Text or bytes; a newline at the end is not the answer's."""
    agent = program("import sys; print(sys.stdin.read()[::-1])")
    assert run(agent, "abc") == "cba"
    assert run(agent, b"abc") == "cba"


def test_a_prompt_can_be_an_argument() -> None:
    """In its place or at the end; no shell reads it."""
    code = "import sys; print(sys.argv[1:])"
    prompt = "$(rm) 'x'; |"
    assert run(program(code, "-m", prompt="argument"), prompt) == str(["-m", prompt])
    marked = program(code, "{prompt}", "-m", prompt="argument")
    assert run(marked, prompt) == str([prompt, "-m"])


def test_a_command_that_does_not_read_its_prompt_answers_all_the_same() -> None:
    """However long that is."""
    assert run(program("print('done')"), "x" * 3_000_000) == "done"


def test_a_line_of_three_megabytes_comes_whole() -> None:
    """Asked for or streamed, and with as much on stderr beside it."""
    code = "import sys; sys.stderr.write('e' * 3_000_000); print('x' * 3_000_000)"
    assert run(program(code)) == "x" * 3_000_000

    async def stream() -> list[str]:
        return [chunk async for chunk in program(code).astream("")]

    assert asyncio.run(stream()) == ["x" * 3_000_000 + "\n"]


def test_lines_are_streamed_as_they_come() -> None:
    """The second is written when the first has been read."""
    code = "import sys\nfor line in sys.stdin: print('got', line, end='', flush=True)"

    async def first_lines() -> list[str]:
        return [chunk async for chunk in program(code).astream("a\nb\n")]

    assert asyncio.run(first_lines()) == ["got a\n", "got b\n"]


def test_the_environment_and_the_folder_are_those_that_were_said(tmp_path: Path) -> None:
    """On top of the process's own."""
    code = "import os; print(os.environ['NEW'], 'PATH' in os.environ, os.getcwd())"
    agent = program(code, env={"NEW": "1"}, cwd=tmp_path)
    assert run(agent) == f"1 True {tmp_path.resolve()}"


def test_output_that_is_held_back_by_a_slow_reader_is_not_lost() -> None:
    """The command waits meanwhile."""
    code = "for i in range(40): print(str(i) * 100_000)"

    async def slowly() -> int:
        total = 0
        async for chunk in program(code).astream(""):
            await asyncio.sleep(0)
            total += len(chunk)
        return total

    assert asyncio.run(slowly()) == sum(len(str(i)) * 100_000 + 1 for i in range(40))


def test_a_command_that_closes_its_stdin_is_not_held_against_it() -> None:
    """In the middle of its prompt, or at its very start."""
    code = "import os, sys; os.read(0, 10); os.close(0); print('done')"
    assert run(program(code), "x" * 3_000_000) == "done"
    assert run(program("import os; os.close(0); os.write(1, b'done')"), "x" * 3_000_000) == "done"


def test_a_command_that_closes_its_stdout_has_answered_once_it_ends() -> None:
    """And not before: its exit code counts."""
    code = "import os, sys; os.write(1, b'done'); os.close(1); os.read(0, 1); os._exit({})"
    assert run(program(code.format(0)), "x") == "done"
    with pytest.raises(CommandFailedError, match="exited 3"):
        run(program(code.format(3)), "x")


# -- how it fails


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such model')", "exited 1: no such model"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "not UTF-8"),
        ("print('x' * 2000)", "more than max_output_bytes=1000"),
    ],
)
def test_a_command_that_ends_badly_is_a_failure_by_name(code: str, words: str) -> None:
    """Its exit code, a signal, binary output, too much of it."""
    with pytest.raises(CommandFailedError, match=words):
        run(program(code, max_output_bytes=1000))


def test_a_failure_in_json_counts_though_the_exit_code_is_zero() -> None:
    """And stderr is empty."""
    code = 'print(\'{"is_error": true, "result": "Invalid API key"}\')'
    agent = program(code, output="json", answer="result", failed="is_error")
    with pytest.raises(CommandFailedError, match="Invalid API key"):
        run(agent)
    with (
        pool_of(Member("a", agent), max_retries=0) as pool,
        pytest.raises(AllPoolMembersFailedError) as caught,
    ):
        pool.execute("", timeout=WAIT_S)
    assert [each.kind for each in caught.value.errors] == [FailureKind.AUTH]


@pytest.mark.parametrize("output", ["json", "jsonl"])
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_failure_on_stdout_is_read_whatever_the_exit_code(output: Any, exit_code: int) -> None:
    """With an empty stderr, in the tool's own words; the next member answers."""
    said = {"error": {"message": "HTTP 429: try again later", "code": "busy"}}
    code = f"import sys; print({json.dumps(said)!r}); sys.exit({exit_code})"
    members = [
        Member("fails", program(code, output=output, answer="result", failed="error"), priority=0),
        Member("works", program("print('ok')"), priority=1),
    ]
    with pool_of(*members, strategy="priority") as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
    (error,) = reply.errors
    assert (reply.value, error.kind) == ("ok", FailureKind.RATE_LIMITED)
    assert isinstance(error.error, CommandFailedError)
    assert (error.error.exit_code, error.error.stderr) == (exit_code, "")


def test_a_prompt_that_does_not_fit_among_the_arguments_is_too_large() -> None:
    """A member that takes it on stdin may answer, and this one is none the worse for it."""
    members = [
        Member("argument", program("", prompt="argument"), priority=0),
        Member("stdin", program("import sys; print(len(sys.stdin.read()))"), priority=1),
    ]
    with pool_of(*members, strategy="priority") as pool:
        reply = pool.ask(Request("x" * 3_000_000), timeout=WAIT_S)
    assert (reply.value, [each.kind for each in reply.errors]) == (
        "3000000",
        [FailureKind.TOO_LARGE],
    )


def test_a_prompt_that_cannot_be_said_is_refused_without_repeating_it() -> None:
    """Half a character, a null in an argument."""
    for agent in (program(""), program("", prompt="argument")):
        with pytest.raises(ValueError, match="a lone surrogate") as caught:
            run(agent, "s3cret \ud800")
        assert not hasattr(caught.value, "object")
    with pytest.raises(ValueError, match="must not hold a null"):
        run(program("", prompt="argument"), "s3cret \0")
    assert run(program("import sys; print(len(sys.stdin.read()))"), "a\0b") == "3"


@pytest.mark.parametrize("payload", ["half \ud800", "null \0"])
def test_a_prompt_that_cannot_be_said_is_the_askers_fault(payload: str) -> None:
    """However often: it is raised as it is, by one attempt, and no breaker hears of it."""
    with pool_of(Member("tool", program("print('said')", prompt="argument"))) as pool:
        for _ in range(10):
            with pytest.raises(PayloadError, match="payload must"):
                pool.execute(payload, timeout=WAIT_S)
        assert pool.execute("hi", timeout=WAIT_S) == "said"
        assert pool.stats().retries == 0


def test_a_command_that_is_not_there_or_may_not_be_run_is_an_oserror(tmp_path: Path) -> None:
    """As from the system."""
    with pytest.raises(FileNotFoundError):
        run(CommandAgent(["greenroom-no-such-command"]))
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(PermissionError):
        run(CommandAgent([str(plain)]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "argv must name a command"),
        ({"argv": "ls"}, "argv must be a sequence of strings, got str"),
        ({"argv": ["ls", 1]}, "argv must be a sequence of strings"),
        ({"preset": "gpt"}, "preset must be one of claude, codex, gemini, got 'gpt'"),
        ({"argv": ["ls"], "output": "xml"}, "output must be"),
        ({"argv": ["ls"], "prompt": "file"}, "prompt must be"),
        ({"argv": ["ls", "{prompt}"]}, "argv must not hold"),
        ({"argv": ["ls"], "answer": "a"}, "must be None with output='text'"),
        ({"argv": ["ls"], "output": "json", "answer": "a..b"}, "answer must be names"),
        ({"argv": ["ls"], "output": "json", "failed": ["a", ".b"]}, "failed must be names"),
        ({"argv": ["ls"], "env": {"KEY": 1}}, "env must be of strings, got 'KEY' with a value of"),
        ({"argv": ["ls"], "cwd": 7}, "cwd must be a path"),
        ({"argv": ["ls"], "max_output_bytes": 0}, "max_output_bytes"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any], words: str) -> None:
    """When they are given."""
    with pytest.raises((TypeError, ValueError), match=words):
        CommandAgent(**settings)


def test_a_payload_that_is_no_text_is_refused() -> None:
    """By its type; its content is not repeated."""
    with pytest.raises(TypeError, match="payload must be a str or bytes, got a dict"):
        run(program(""), {"secret": 1})  # type: ignore[arg-type]


def test_neither_prompt_nor_environment_stand_in_a_repr() -> None:
    """Both may be secret."""
    assert repr(CommandAgent(["/usr/bin/tool", "s3cret"], env={"KEY": "s3cret"})) == (
        "<CommandAgent tool>"
    )


# -- nothing of it is left


@pytest.mark.parametrize(
    "code",
    [
        with_child(),
        with_child(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
        with_child(child="import signal, time\nsignal.signal(15, signal.SIG_IGN)\n" + SLEEP),
        with_child(after="os.kill(os.getpid(), signal.SIGSTOP)\n" + SLEEP),
        with_child(child=GRANDCHILD),
    ],
    ids=[
        "both hang",
        "it ignores SIGTERM",
        "its child ignores SIGTERM",
        "it is stopped",
        "it is a grandchild",
    ],
)
def test_a_command_that_is_left_is_ended_with_its_children(code: str) -> None:
    """They are asked first, and killed where that does not help."""
    assert_gone(asyncio.run(cancelled_after_first_line(program(code))))


def test_what_a_command_leaves_behind_holds_nothing_up_and_is_ended() -> None:
    """It has the pipe, so its end would never come."""
    pids = [int(each) for each in run(program(with_child(after=""))).split()]
    assert_gone(pids)


def test_what_has_gone_into_a_session_of_its_own_holds_nothing_up() -> None:
    """It has the pipe, too; it is none of the command's group any more, and goes on."""
    pid, apart = map(int, run(program(with_child(after="", apart=True))).split())
    assert_gone([pid])
    assert not is_gone(apart)
    os.kill(apart, 9)


def test_a_pool_ends_a_command_at_its_limit_and_asks_the_next_member() -> None:
    """By the limit of an attempt; nothing is left after the stop."""
    members = [
        Member("hangs", program(SLEEP), priority=0),
        Member("works", program("print('ok')"), priority=1),
    ]
    with pool_of(*members, strategy="priority", request_timeout_s=0.5) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
    assert (reply.value, reply.member, [each.kind for each in reply.errors]) == (
        "ok",
        "works",
        [FailureKind.TIMEOUT],
    )


def test_a_stop_ends_what_runs() -> None:
    """The pool's end is the commands' end."""
    with pool_of(Member("a", program(with_child()), max_concurrency=2)) as pool:
        stream = pool.stream(Request("x"))
        pids = [int(each) for each in next(stream).split()]
    stream.close()
    assert_gone(pids)


HANGS = (
    SLEEP,
    with_child(),
    with_child(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    with_child(child=GRANDCHILD),
    "import sys, time\nwhile True: sys.stdout.write('x' * 4096)",
    "import sys, time\nwhile True: sys.stderr.write('x' * 4096)",
    "import os, time; os.close(0); os.close(1); os.close(2); time.sleep(600)",
)


def test_after_a_stop_no_process_no_thread_and_no_pipe_is_left() -> None:
    """Of commands that hang in all ways, left at their limit or by the stop, streamed or not."""
    me = psutil.Process()
    members = [Member(f"m{at}", program(code), max_concurrency=4) for at, code in enumerate(HANGS)]
    asyncio.run(program("").arun(""))  # what is made once is there by now
    before = me.num_fds(), me.children()
    with pool_of(*members, strategy="round_robin", request_timeout_s=1.0, max_retries=0) as pool:
        asked = [pool.ask(Request("x"), block=False) for _ in HANGS]
        streams = [pool.stream(Request("x")) for _ in HANGS]
        for each in asked:
            with pytest.raises(AllPoolMembersFailedError):
                each.get(timeout=WAIT_S)
    for stream in streams:
        stream.close()
    # The stop waits until all has ended, not until the threads have left their last line.
    threads = [each for each in threading.enumerate() if each.name == "greenroom-command"]
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert (me.num_fds(), me.children(recursive=True)) == before


# -- presets, by programs that write what those tools do


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def install(folder: Path, name: str, *lines: str, exit_code: int = 0) -> None:
    tool = folder / name
    body = "\n".join(f"print({line!r})" for line in lines)
    tool.write_text(
        f"#!{sys.executable} -IS\nimport sys, os\nprompt = sys.stdin.read()\n{body}\n"
        f"sys.exit({exit_code})\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


CLAUDE = (
    '{"type": "system", "subtype": "init"}',
    '{"type": "assistant", "message": {"content": [{"type": "text", "text": "four"}]}}',
)
CODEX = (
    '{"type": "thread.started", "thread_id": "t"}',
    '{"type": "error", "message": "Reconnecting... 1/5"}',
    '{"type": "item.completed", "item": {"type": "reasoning", "text": "hm"}}',
)
GEMINI = (
    '{"type": "init", "model": "m"}',
    '{"type": "message", "role": "user", "content": "2+2"}',
    '{"type": "message", "role": "assistant", "content": "fo", "delta": true}',
)


@pytest.mark.parametrize(
    ("preset", "lines", "chunks"),
    [
        (
            "claude",
            (*CLAUDE, '{"type": "result", "is_error": false, "result": "four"}'),
            ["four"],
        ),
        (
            "codex",
            (
                *CODEX,
                '{"type": "item.completed", "item": {"type": "agent_message", "text": "four"}}',
                '{"type": "turn.completed", "usage": {}}',
            ),
            ["four"],
        ),
        (
            "gemini",
            (
                *GEMINI,
                '{"type": "message", "role": "assistant", "content": "ur", "delta": true}',
                '{"type": "result", "status": "success"}',
            ),
            ["fo", "ur"],
        ),
    ],
)
def test_a_preset_answers_and_streams(
    on_path: Path, preset: Any, lines: tuple[str, ...], chunks: list[str]
) -> None:
    """Of what such a tool writes, the answer."""
    install(on_path, preset, *lines)
    agent = CommandAgent(preset=preset)
    assert run(agent, "2+2") == "four"

    async def stream() -> list[Any]:
        return [chunk async for chunk in agent.astream("2+2")]

    assert asyncio.run(stream()) == chunks


@pytest.mark.parametrize(
    ("preset", "lines", "exit_code", "kind"),
    [
        (
            "claude",
            (*CLAUDE, '{"type": "result", "is_error": true, "result": "API Error: 429 busy"}'),
            1,
            FailureKind.RATE_LIMITED,
        ),
        (
            "codex",
            (*CODEX, '{"type": "turn.failed", "error": {"message": "401 Unauthorized"}}'),
            1,
            FailureKind.AUTH,
        ),
        (
            "gemini",
            (
                *GEMINI,
                '{"type": "result", "status": "error", "error": {"code": 429, "message": "no"}}',
            ),
            0,
            FailureKind.RATE_LIMITED,
        ),
        ("claude", CLAUDE, 0, FailureKind.UNKNOWN),
    ],
)
def test_a_preset_fails_by_what_the_tool_says(
    on_path: Path, preset: Any, lines: tuple[str, ...], exit_code: int, kind: FailureKind
) -> None:
    """Whatever its exit code; without its last word there is no answer."""
    install(on_path, preset, *lines, exit_code=exit_code)
    agent = CommandAgent(preset=preset)
    with (
        pool_of(Member("a", agent), max_retries=0) as pool,
        pytest.raises(AllPoolMembersFailedError) as caught,
    ):
        pool.execute("2+2", timeout=WAIT_S)
    assert [each.kind for each in caught.value.errors] == [kind]


def test_a_preset_takes_more_arguments_and_switches_retries_off(on_path: Path) -> None:
    """They would outlast any limit of the pool's."""
    tool = on_path / "claude"
    tool.write_text(
        f"#!{sys.executable} -IS\nimport json, os, sys\n"
        "print(json.dumps({'type': 'result', 'result':"
        " [sys.argv[1:], os.environ['CLAUDE_CODE_MAX_RETRIES']]}))\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    argv, retries = run(CommandAgent(["--model", "haiku"], preset="claude"))
    assert argv[-2:] == ["--model", "haiku"]
    assert retries == "0"
