"""What the pages show of the command line is what it does, and their tables name what there is."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_pages import DOCS, FENCE, PAGES, names, rows, text_of
from helpers_processes import PROCESS_S

from greenroom.commands.app import COMMANDS
from greenroom.commands.exits import Exit

PAGE = DOCS / "command-line.md"
CHECK = doctest.OutputChecker()
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SHOWING = [
    page
    for page in PAGES
    if any(language == "console" for language, _ in FENCE.findall(text_of(page)))
]


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a block, with what it prints there."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
def test_the_commands_of_a_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    """Run by a shell beside the file that stands before them."""
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for language, text in FENCE.findall(text_of(page)):
        if language == "toml":
            name = text.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(text)
        for command, expected in commands(text) if language == "console" else []:
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROCESS_S,
                check=False,
            )
            assert CHECK.check_output(expected, done.stdout, LENIENT), (command, done)
            assert done.stderr == ""
            # As the README says of a check with a member that is not well.
            assert done.returncode == (1 if "greenroom check" in command else 0)


def test_both_pages_show_commands() -> None:
    """The README and that of the command line."""
    assert [page.name for page in SHOWING] == ["README.md", "command-line.md"]


def test_every_command_has_its_row() -> None:
    """And no row is of one that there is not."""
    said = {names(row[0])[0].split()[1] for row in rows(PAGE, "command")}
    assert said == {command.__name__ for command in COMMANDS}


def test_every_exit_code_has_its_row() -> None:
    """With those of the signals that a shell makes of them."""
    said = {int(code) for row in rows(PAGE, "exit code") for code in row[0].split(",")}
    assert said == {*map(int, Exit), 143, 129}
