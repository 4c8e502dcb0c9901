"""What a user installs: one top-level name, typed; a floor imports only what lies below it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_pages import ROOT

import greenroom

FOLDERS = {
    "greenroom": "src/greenroom",
    "greenroom.actors": "actors",
    "greenroom.messages": "messages",
    "greenroom.supervisors": "supervisors",
}
BELOW = {
    "messages": {"messages"},
    "actors": {"messages", "actors"},
    "supervisors": {"messages", "actors", "supervisors"},
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy, so that the build leaves nothing in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def sources() -> Iterator[tuple[str, Path]]:
    """Every module of the tree: its path inside the package, and its file."""
    for package, folder in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside = Path(*package.split(".")) / file.relative_to(ROOT / folder)
            yield inside.as_posix(), file


def imported(file: Path) -> set[str]:
    """The absolute names a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "greenroom":
            names.update(f"greenroom.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(f"{'.' * node.level}{node.module or ''}")
    return names


def test_the_wheel_has_one_top_level_name(wheel_names: list[str]) -> None:
    """Generic names such as `messages` would collide with other people's modules."""
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {"greenroom"}


def test_the_package_says_its_version(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the installed package; a copy of the code within an app says that it knows none."""
    assert greenroom.__version__ == project["project"]["version"]
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        greenroom.no_such_name  # type: ignore[attr-defined]  # noqa: B018

    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert greenroom.__version__ == "0+unknown"


def test_the_wheel_is_typed(wheel_names: list[str]) -> None:
    """Without py.typed, type checkers ignore every annotation."""
    assert "greenroom/py.typed" in wheel_names


def test_the_wheel_holds_every_module_of_the_tree(wheel_names: list[str]) -> None:
    """A new folder that is not listed in pyproject.toml would be left out without a word."""
    assert [inside for inside, _ in sources() if inside not in wheel_names] == []


def test_the_runtime_needs_only_pykka_and_loguru(project: dict[str, Any]) -> None:
    """Everything else is an optional extra."""
    assert project["project"]["dependencies"] == ["loguru>=0.7.3", "pykka>=4.5,<5"]


@pytest.mark.parametrize("floor", BELOW)
def test_a_floor_imports_only_what_lies_below(floor: str) -> None:
    """Never the face, never a floor above, and never greenroom as a whole."""
    allowed = BELOW[floor]
    wrong = [
        (file.name, name)
        for file in sorted((ROOT / floor).rglob("*.py"))
        for name in imported(file)
        if name.split(".")[0] in {"greenroom", ""}
        and (name == "greenroom" or name.split(".")[1] not in allowed)
    ]
    assert wrong == []


def test_messages_import_only_the_standard_library() -> None:
    """The ground floor can be unpickled where nothing else is installed."""
    wrong = [
        (file.name, name)
        for file in sorted((ROOT / "messages").rglob("*.py"))
        for name in imported(file)
        if name.split(".")[0] not in sys.stdlib_module_names | {"greenroom"}
    ]
    assert wrong == []


def test_the_wheel_holds_the_scenarios(wheel_names: list[str]) -> None:
    """They are data, not modules: without a line in pyproject.toml they would be left out."""
    shipped = [name for name in wheel_names if name.startswith("greenroom/simulate/scenarios/")]
    files = (ROOT / "src/greenroom/simulate/scenarios").iterdir()
    assert sorted(Path(name).name for name in shipped) == sorted(file.name for file in files)


def test_the_wheel_holds_the_page(wheel_names: list[str]) -> None:
    """That of the status endpoint is no module either."""
    assert "greenroom/status/status_page.html" in wheel_names


def test_the_simulation_is_pure(project: dict[str, Any]) -> None:
    """The whole room is under the contract `pure`: no clock, no threads, no actors."""
    contracts = project["tool"]["importlinter"]["contracts"]
    (pure,) = (each for each in contracts if each["id"] == "pure")
    assert "greenroom.simulate" in pure["source_modules"]
    assert not [each for each in pure["ignore_imports"] if "simulate" in each]


def test_a_python_that_is_not_here_is_skipped_and_said_so() -> None:
    """`make test-all` names it; a run that has tested nothing has failed."""
    ran = subprocess.run(
        [ROOT / ".ci" / "test-all", "nothing"],
        env={**os.environ, "PYTHONS": "3.99"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3.99  skipped  no python3.99" in ran.stdout
    assert (ran.returncode, ran.stderr) == (1, "no test ran\n")
