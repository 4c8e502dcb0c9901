"""A folder with a pool's file in it, where the commands are run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_commands import MODULE

_numbers = itertools.count(1)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the file, and beside it a module with agents; both are in the current directory."""
    module = f"agents_of_test_{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")

    def write(text: str) -> Path:
        path = tmp_path / "pool.toml"
        path.write_text(text.replace("{module}", module))
        return path

    return write
