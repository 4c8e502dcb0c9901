"""README and pages keep their word: code prints what it says, tables say what the code does.

A python block stands on its own. `expression  # -> value` shows the value's repr, or for a `print`
what it prints; the arrow may stand on the next line, and lines that go on with `#` and four spaces
belong to it. `...` stands for anything, and any run of blanks for one.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pykka
import pytest
from aiohttp.test_utils import TestClient, TestServer
from helpers_pages import DOCS, FENCE, PAGES, README, ROOT, names, rows, text_of

import greenroom
import greenroom.adk
from greenroom import (
    AgentCreator,
    AgentPool,
    CircuitBreaker,
    FailureKind,
    FallbackChain,
    LoadBalanceStrategy,
    MemberStats,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    PoolStats,
)
from greenroom.events import CATALOGUE

ARROW = re.compile(r"#\s*->\s*(.*)")
CONTINUED = re.compile(r"#    \s*(\S.*)")
CHECK = doctest.OutputChecker()
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OWNERS: tuple[Any, ...] = (
    greenroom,
    AgentCreator,
    AgentPool,
    CircuitBreaker,
    FallbackChain,
    MemberStats,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    PoolStats,
    greenroom.adk,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    page: Path
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks(language: str) -> list[Block]:
    return [block for block in _blocks() if block.language == language]


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = text_of(page)
        for found in FENCE.finditer(text):
            yield Block(found[1], found[2], page, text[: found.start(2)].count("\n"))


# -- code


def promises(source: str) -> dict[int, str]:
    """What the comments of a block say comes out, by the last line of the statement meant."""
    said: dict[int, str] = {}
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        row = token.start[0]
        if arrow := ARROW.match(token.string):
            alone = token.line.strip() == token.string
            first, last = row - alone, row
            said[first] = arrow[1]
        elif row == last + 1 and (more := CONTINUED.match(token.string)):
            said[first] += f"\n{more[1]}"
            last = row
    return said


class Promised(ast.NodeTransformer):
    """Turns `expression  # -> value` into a comparison."""

    def __init__(self, said: dict[int, str]) -> None:
        self.said = said

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if node.end_lineno not in self.said:
            return node
        call = node.value
        row = ast.Constant(node.end_lineno)
        prints = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print"
        if prints:
            assert isinstance(call, ast.Call)
            checked = ast.Call(ast.Name("_printed", ast.Load()), [row, *call.args], call.keywords)
        else:
            checked = ast.Call(ast.Name("_shown", ast.Load()), [row, node.value], [])
        return ast.copy_location(ast.Expr(checked), node)


def run(block: Block, request: pytest.FixtureRequest | None = None) -> dict[str, Any]:
    """Run a block and its tests, if it holds some; what it defines."""
    said = promises(block.text)
    kept: set[int] = set()
    broken: list[str] = []  # not raised on the spot: it may be a subscriber's thread

    def compare(row: int, got: str) -> None:
        kept.add(row)
        if not CHECK.check_output(f"{said[row]}\n", f"{got}\n", LENIENT):
            where = f"{block.page.relative_to(ROOT)}, line {block.line + row}"
            broken.append(f"{where} promises\n{said[row]}\nbut it is\n{got}")

    def printed(row: int, *values: object, sep: str = " ") -> None:
        compare(row, sep.join(str(value) for value in values))

    def shown(row: int, value: object) -> None:
        compare(row, repr(value))

    tree = ast.fix_missing_locations(Promised(said).visit(ast.parse(block.text)))
    ast.increment_lineno(tree, block.line)
    defined: dict[str, Any] = {
        "__name__": "page",
        "_printed": printed,
        "_shown": shown,
    }
    exec(compile(tree, str(block.page), "exec"), defined)
    for name, function in list(defined.items()):
        if name.startswith("test_"):
            assert request is not None
            function(*(request.getfixturevalue(each) for each in _parameters(function)))
    assert not broken, "\n".join(broken)
    assert kept == set(said), "a comment with an arrow belongs behind an expression that is run"
    return defined


def _parameters(function: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = function.__code__.co_varnames[: function.__code__.co_argcount]
    return names


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_code_runs_and_prints_what_it_says(
    block: Block,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every python block runs on its own, keeps its comments' word, and leaves no pool behind."""
    monkeypatch.chdir(tmp_path)  # some write files
    before = {ref.actor_urn for ref in pykka.ActorRegistry.get_all()}
    try:
        run(block, request)
    finally:
        greenroom.log(None)
    left = [ref for ref in pykka.ActorRegistry.get_all() if ref.actor_urn not in before]
    assert not left


def test_the_web_handler_answers() -> None:
    """The handler of docs/asyncio.md answers a request, and turns a full pool into a 503."""
    (block,) = (each for each in blocks("python") if "aiohttp" in each.text)
    defined = run(block)

    async def talk() -> None:
        app = defined["make_app"]()
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/", data="hello")
            assert (answer.status, await answer.text()) == (200, "HELLO")
            app[defined["POOL"]].force_open("only")
            answer = await client.post("/", data="hello")
            assert answer.status == 503

    asyncio.run(talk())


def test_code_is_of_languages_that_are_tested() -> None:
    """No block escapes the tests under a language that they do not know; for `toml` and `console`
    they are those of `test_command_line_pages`, for the `py` of one page `test_frameworks_page`.
    """
    known = {"console", "python", "sh", "text", "toml"}
    assert {block.language for block in _blocks()} <= {*known, "py"}
    assert {block.page.name for block in blocks("py")} == {"frameworks.md"}


def test_commands_exist() -> None:
    """Every `make` names a target, every extra of a `pip install` is in pyproject.toml."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = [
        line.split("#")[0].split() for block in blocks("sh") for line in block.text.split("\n")
    ]
    for command in filter(None, commands):
        assert command[0] in ("make", "pip", "python", ".venv-bench/bin/python"), command
        if command[0] == "make":
            assert command[1] in targets
        extras = re.findall(r"\[(\w+)\]", " ".join(command))
        assert set(extras) <= set(project["optional-dependencies"])
    assert f"Python {project['requires-python'].replace('>=', '>= ')}" in text_of(README)


# -- tables


def test_every_strategy_has_a_row() -> None:
    """The table of strategies is the enum, in its order or not."""
    assert sorted(names(row[0])[0] for row in rows(DOCS / "strategies.md", "strategy")) == sorted(
        LoadBalanceStrategy
    )


def test_every_kind_of_failure_has_a_row_that_is_right() -> None:
    """The table of kinds says of each what the enum says."""
    seen = []
    for cell, _, another, counts in rows(DOCS / "failures.md", "kind"):
        for name in names(cell):
            kind = FailureKind(name)
            seen.append(name)
            assert another.startswith("yes") == kind.tries_another_member, name
            assert ("at once" in counts) == kind.opens_at_once, name
            assert (counts != "no") == kind.counts_for_breaker, name
    assert sorted(seen) == sorted(FailureKind)


def test_every_event_has_a_row_with_its_level() -> None:
    """The table of events is the catalogue, each with its level."""
    told = {name: row[1] for row in rows(DOCS / "observing.md", "event") for name in names(row[0])}
    assert set(told) == {event.name for event in CATALOGUE}
    for event in CATALOGUE:
        assert told[event.name].startswith(event.level), event.name


def test_every_setting_is_told_with_its_default() -> None:
    """The tables of settings name every field of `PoolConfig` once, with its default."""
    default = PoolConfig()
    told = [
        (name, row[1]) for row in rows(DOCS / "settings.md", "setting") for name in names(row[0])
    ]
    assert sorted(name for name, _ in told) == sorted(each.name for each in fields(PoolConfig))
    for name, value in told:
        assert ast.literal_eval(names(value)[0]) == getattr(default, name), name


@pytest.mark.parametrize("head", ["codomyrmex", "norma"])
def test_names_of_the_other_libraries_map_to_names_that_exist(head: str) -> None:
    """The right column of the tables for newcomers names what there is."""
    values = {member.value for member in LoadBalanceStrategy} | {"False"}
    for row in rows(DOCS / "comparison.md", head):
        for name in names(row[1]):
            word = re.match(r"(?:\w+\.)*(\w+)", name)
            assert word is not None, name
            assert any(hasattr(owner, word[1]) for owner in OWNERS) or word[1] in values, name


def test_every_behaviour_from_54_on_names_the_tests_that_show_it() -> None:
    """The list in docs/behaviours.md is numbered without a gap, and its files exist."""
    text = text_of(DOCS / "behaviours.md")
    items = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in items] == list(range(1, len(items) + 1))
    for number, said in items:
        tests = re.findall(r"`(test_\w+\.py)`", said)
        assert tests or int(number) < 54, number
        assert all([*(ROOT / "tests").rglob(name)] for name in tests), number
