"""Measures cases in another environment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers_pages import ROOT

import greenroom
from frameworks.child import QUIET

_TESTS = ROOT / "tests"
_GREENROOM = Path(greenroom.__file__).parents[1]
"""Where this environment has it from: those of the frameworks need only what it stands on."""
_TESTED = Path(__file__).with_name("test_each_recipe.py")
_LINES = _TESTS / "real_clients" / "test_framework_lines.py"
_LIMIT_S = 900.0

Record = dict[str, Any]
"""A line of `frameworks.child`: `case`, and one of `row`, `skipped`, `broken`."""


def measured(python: Path, cases: list[str], out: Path) -> list[Record]:
    """The records of these cases, from another environment."""
    command = [str(python), "-m", "frameworks.child", str(out), *cases]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=_environment(), cwd=ROOT, timeout=_LIMIT_S, check=False)
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    records: list[Record] = [json.loads(line) for line in lines]
    told = {each["case"] for each in records}
    missing = [each for each in cases if each not in told]
    return records + [{"case": each, "broken": "its process has ended"} for each in missing]


def passes(python: Path, cases: list[str]) -> bool:
    """Whether the tests do that the table has no column for."""
    command = [str(python), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-W", "ignore", "--tb", "short", "-k", " or ".join(cases), str(_TESTED)]
    return not subprocess.run(
        command, env=_environment() | QUIET, cwd=ROOT, timeout=_LIMIT_S, check=False
    ).returncode


def lines_pass(python: Path) -> bool:
    """Whether what a refusal says to write does, of all frameworks that are in an environment."""
    return _files_pass(python, [_LINES], _environment() | QUIET)


def files_pass(python: Path, files: Sequence[str]) -> bool:
    """Whether these files of tests do in another environment."""
    return _files_pass(python, [_TESTS / "frameworks" / each for each in files], _environment())


def _files_pass(python: Path, files: Sequence[Path], environment: dict[str, str]) -> bool:
    command = [str(python), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-W", "default", *map(str, files)]
    return not subprocess.run(
        command, env=environment, cwd=ROOT, timeout=_LIMIT_S, check=False
    ).returncode


def _environment() -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    paths = (_TESTS, _TESTS / "helpers", _GREENROOM)
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return environment
