"""Pools in files: what they say, and what is said of a wrong one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S

from greenroom import AgentPool, AllPoolMembersFailedError, FailureKind, PoolConfig
from greenroom.kinds import CommandAgent, OpenAIAgent, PoolFileError, pool_file
from greenroom.kinds.pool_file import PoolFile, read_pool_file

Write = Callable[[str], Path]

MODULE = """
import asyncio

class Agent:
    closed = []
    async def ask(self, prompt):
        return prompt + "!"
    async def aclose(self):
        self.closed.append(asyncio.get_running_loop())

def upper(prompt):
    return prompt.upper()

def make():
    return Agent()

ready = Agent()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of a pool, beside a module that its members may name."""
    (tmp_path / "agents_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "agents_of_a_test", raising=False)

    def write(text: str) -> Path:
        path = tmp_path / "pool.toml"
        path.write_text(text)
        return path

    return write


WHOLE = f"""
[pool]
name = "answers"
strategy = "priority"
request_timeout_s = 20
max_retries = 2
when_unavailable = "wait"

[[members]]
name = "shout"
kind = "python"
agent = "agents_of_a_test:upper"
weight = 2.5
max_concurrency = 3
metadata = {{ team = "a" }}

[[members]]
name = "made"
kind = "python"
factory = "agents_of_a_test:make"
method = "ask"
priority = 1

[[members]]
name = "echo"
kind = "command"
argv = [{sys.executable!r}, "-I", "-S", "-c", "print(input())"]
priority = 2

[[members]]
name = "gpt"
kind = "openai"
model = "m"
base_url = "http://127.0.0.1:9/v1"
priority = 3
[members.params]
temperature = 0.5
"""


def test_a_file_says_what_code_would(write: Write) -> None:
    """The pool's settings, the members' fields, the settings of their kinds."""
    file = read_pool_file(write(WHOLE))
    assert (file.name, file.strategy) == ("answers", "priority")
    assert file.config == PoolConfig(request_timeout_s=20, max_retries=2, when_unavailable="wait")
    shout, made, echo, gpt = file.members
    assert (shout.weight, shout.max_concurrency, shout.metadata) == (2.5, 3, {"team": "a"})
    assert (shout.agent("a"), made.method, made.priority) == ("A", "ask", 1)
    assert isinstance(echo.agent, CommandAgent)
    assert echo.max_concurrency == 4
    assert isinstance(gpt.agent, OpenAIAgent)
    assert gpt.close is not None


BESIDE = """
[[members]]
name = "tool"
kind = "python"
agent = "agents_of_a_test:upper"
method = {method}

[[members]]
name = "tools"
kind = "python"
factory = "agents_of_a_test:Agent"
method = {method}
priority = 1
"""


def test_a_member_without_a_method_is_for_apply(write: Write) -> None:
    """`method = false` is that of Python: what is applied has the agent, a request says why not."""
    with AgentPool.from_toml(write(BESIDE.format(method="false"))) as pool:
        assert pool.apply(lambda agent: agent("a"), timeout=WAIT_S) == "A"
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("a", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [FailureKind.TOO_LARGE] * 2
        assert "with method=False (pool.apply can use it" in str(caught.value.errors[0].error)
        pool.force_open("tool")
        assert pool.apply(lambda agent: type(agent).__name__, timeout=WAIT_S) == "Agent"


@pytest.mark.parametrize("method", ["true", "1", '""', '["run"]'])
def test_a_method_is_a_name_or_false(method: str, write: Write) -> None:
    """What it is not is refused where the file is read, with its line."""
    with pytest.raises(PoolFileError, match=r"pool\.toml:6: .*method must "):
        read_pool_file(write(BESIDE.format(method=method)))


def test_a_pool_is_started_from_a_file(write: Write) -> None:
    """Each of its members answers, and is closed by the pool if it was made for it."""
    with AgentPool.from_toml(write(WHOLE)) as pool:
        assert pool.execute("hi", timeout=WAIT_S) == "HI"
        pool.force_open("shout")
        assert pool.execute("hi", timeout=WAIT_S) == "hi!"
        pool.force_open("made")
        assert pool.execute("hi", timeout=WAIT_S) == "hi"
        assert [each.name for each in pool.stats().members] == ["shout", "made", "echo", "gpt"]
    assert len(sys.modules["agents_of_a_test"].Agent.closed) == 1


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("status", "nowhere"),
        ("telemetry", "yes"),
        ("telemetry", 1),
        ("record", 3),
        ("clock", 3),
        ("rng", 3),
    ],
)
def test_what_is_wrong_with_an_argument_is_no_fault_of_the_file(
    field: str, wrong: Any, write: Write
) -> None:
    path = write('[[members]]\nname = "cat"\nkind = "command"\nargv = ["cat"]\n')
    arguments: dict[str, Any] = {field: wrong}
    with pytest.raises((TypeError, ValueError), match=f"^{field} must be") as caught:
        AgentPool.from_toml(path, **arguments)
    assert not isinstance(caught.value, PoolFileError)


def test_values_may_come_from_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numbers and truths where the field wants one; with another value where one is not set."""
    monkeypatch.setenv("LIMIT_S", "7.5")
    monkeypatch.setenv("TRIES", "4")
    monkeypatch.setenv("ALONE", "true")
    file = read_pool_file(
        write(
            """
            [pool]
            request_timeout_s = "${LIMIT_S}"
            max_retries = "${TRIES}"
            name = "${POOL:-spare}"
            [[members]]
            name = "a"
            kind = "python"
            agent = "agents_of_a_test:upper"
            isolated = "${ALONE}"
            weight = "${WEIGHT:-3}"
            """
        )
    )
    assert (file.config.request_timeout_s, file.config.max_retries, file.name) == (7.5, 4, "spare")
    assert (file.members[0].isolated, file.members[0].weight) == (True, 3.0)


def test_values_within_tables_and_arrays_come_from_the_environment_too(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As texts, where nobody knows their type."""
    monkeypatch.setenv("REGION", "7")
    monkeypatch.setenv("PYTHON", sys.executable)
    file = read_pool_file(
        write(
            """
            [[members]]
            name = "a"
            kind = "python"
            agent = "agents_of_a_test:upper"
            metadata = { region = "${REGION}", of = ["${REGION}", 7] }
            [[members]]
            name = "b"
            kind = "command"
            argv = ["${PYTHON}", "-I", "-S", "-c", "print(input())"]
            """
        )
    )
    assert file.members[0].metadata == {"region": "7", "of": ["7", 7]}
    assert file.members[1].agent._argv[0] == sys.executable


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("request_timeout_s", "must be a number, and what SECRET holds is not"),
        ("max_retries", "must be a whole number, and what SECRET holds is not"),
        ("propagate_context", "must be true or false, and what SECRET holds is not"),
        ("when_unavailable", "must be 'fail' or 'wait', and what SECRET holds is not"),
        ("hedge_after_s", "must be a number or 'p95', and what SECRET holds is not"),
    ],
)
def test_a_variable_that_holds_something_else_is_told_without_what_it_holds(
    write: Write, monkeypatch: pytest.MonkeyPatch, setting: str, words: str
) -> None:
    """It may be the wrong one."""
    monkeypatch.setenv("SECRET", "s3cret")
    with pytest.raises(PoolFileError) as caught:
        read_pool_file(write(f"[pool]\n{setting} = '${{SECRET}}'" + A))
    assert f"pool.toml:2: pool.{setting} {words}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


A = """
[[members]]
name = "a"
kind = "python"
agent = "agents_of_a_test:upper"
"""
GPT = """[[members]]
name = "gpt"
kind = "openai"
model = "m"
base_url = "http://127.0.0.1:9/v1"
"""

WRONG: list[tuple[str, str]] = [
    ("", "pool.toml: has no members"),
    ("members = 5", "pool.toml:1: members must be tables"),
    ("pool = 5" + A, "pool.toml:1: pool must be a table"),
    ("[pol]" + A, "pool.toml:1: pol is not a table of a pool's file; did you mean pool?"),
    ("x = [", "pool.toml: is no TOML"),
    ("x = '\udcff'", "pool.toml: is no TOML"),
    ("[pool]\n\nrequest_timout_s = 5" + A,
     ("pool.toml:3: pool.request_timout_s is not a setting of a pool; did you mean "
     "request_timeout_s?")),
    ("[pool]\nrequest_timeout_s = -1" + A, "pool.toml:2: pool.request_timeout_s must be"),
    ("[pool]\nmax_retries = '3'" + A, "pool.toml:2: pool.max_retries must be"),
    ("[pool]\nname = 5" + A, "pool.toml:1: pool name, strategy, shared and courier must be texts"),
    ("[pool]\nstrategy = 'best'" + A, "pool.toml: strategy"),
    ("[pool]\nname = '${NO_SUCH}'" + A,
     "pool.toml:2: pool.name must be in the environment, and NO_SUCH is not set"),
    ("[[members]]\nkind = 'python'", "pool.toml:1: members.0.name must be a text, got None"),
    ("[[members]]\nname = 'a'", "members.a.kind must be one of command, openai, python"),
    ("[[members]]\nname = 'a'\nkind = 'gpt'", "pool.toml:3: members.a.kind must be one of"),
    (GPT + "modle = 'x'",
     ("pool.toml:6: members.gpt.modle is not a setting of kind openai; did you mean model? those "
     "are name, kind, weight")),
    (GPT + "api_key = 's3cret'",
     ("pool.toml:6: members.gpt.api_key is not a setting: keys come from the environment "
     "(api_key_env)")),
    (GPT + "api_key_env = 'NO_SUCH'",
     "pool.toml:6: members.gpt.api_key_env must name a variable that is set, NO_SUCH is not"),
    (GPT + "on_length = 'retry'",
     "pool.toml:6: members.gpt.on_length must be 'fail' or 'accept', got 'retry'"),
    (GPT + "weight = -1", "pool.toml:6: members.gpt.weight must be"),
    (GPT.replace("m\"", "\""), "pool.toml:4: members.gpt.model must not be empty"),
    ("[[members]]\nname = 'a'\nkind = 'openai'", "pool.toml:1: members.a: OpenAIAgent"),
    (A + GPT + "[members.params]\nstream = true",
     "pool.toml:11: members.gpt.params must not hold 'stream'"),
    (A + A, "pool.toml: members must have different names, got 'a' more than once"),
    (A.replace("upper", "lower"), "pool.toml:5: members.a.agent must be something to import"),
    (A.replace("agents_of_a_test", "no_such_module"), "agent must be something to import"),
    (A.replace(":", "."), "pool.toml:5: members.a.agent must be 'module:attribute'"),
    (A + "factory = 'x:y'", "pool.toml:5: members.a.agent must be given, or factory"),
    ("[[members]]\nname = 'c'\nkind = 'command'\nargv = 'ls'",
     "pool.toml:4: members.c.argv must be a sequence of strings, got str"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_is_told_with_its_line_key_value_and_rule(
    write: Write, text: str, words: str
) -> None:
    """In one message; what may be secret is not repeated."""
    path = write("")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PoolFileError) as caught:
        AgentPool.from_toml(path).stop()
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there_or_too_large_is_told(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(PoolFileError, match=r"gone.toml: No such file"):
        read_pool_file(tmp_path / "gone.toml")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (pool_file.FILE_LIMIT + 1))
    with pytest.raises(PoolFileError, match="at most 1048576 bytes"):
        read_pool_file(large)
    with pytest.raises(PoolFileError):
        read_pool_file(tmp_path)


class Third:
    """A kind of another package."""

    def __init__(self, *, tone: str, times: int = 1) -> None:
        self.tone, self.times = tone, times
        self.closed: list[bool] = []

    async def arun(self, prompt: str) -> str:
        return f"{self.tone}: {prompt * self.times}"


def test_other_packages_have_kinds_of_their_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By entry points; they cannot take the name of one that is ours."""
    points = [
        EntryPoint("third", f"{__name__}:Third", pool_file.GROUP),
        EntryPoint("openai", f"{__name__}:Third", pool_file.GROUP),
        EntryPoint("broken", "no_such_module:X", pool_file.GROUP),
    ]
    monkeypatch.setattr(pool_file, "entry_points", lambda group: points)

    def member(kind: str, more: str = "") -> Any:
        return write(f"[[members]]\nname = 'x'\nkind = '{kind}'\n{more}")

    file: PoolFile = read_pool_file(member("third", "tone = 'calm'\ntimes = 2"))
    assert asyncio.run(file.members[0].agent.arun("a")) == "calm: aa"
    for kind, more, words in (
        ("third", "tone = 'calm'\ntimse = 2", r"timse is not a setting of kind third; .* times\?"),
        ("broken", "", "kind cannot be loaded from no_such_module:X"),
        ("openai", "tone = 'calm'", "tone is not a setting of kind openai"),
    ):
        with pytest.raises(PoolFileError, match=words):
            read_pool_file(member(kind, more))
