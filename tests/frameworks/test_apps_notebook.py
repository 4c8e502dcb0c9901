"""examples/notebook.ipynb in a real kernel. Behaviour 263."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers_gate import LIMIT_S, Gate, gate
from helpers_programs import EXAMPLES

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gate]:
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    with gate() as opened:
        for name, value in opened.environment.items():
            monkeypatch.setenv(name, value)
        yield opened


class Notebook:
    """The example in a kernel that runs."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, name: str) -> str:
        """One of its cells; what it shows."""
        cells = self._client.nb.cells
        at = next(at for at, cell in enumerate(cells) if cell.id == name)
        return shown(self._client.execute_cell(cells[at], at))

    def say(self, code: str) -> str:
        """A cell that is not in it; what that shows."""
        self._client.nb.cells.append(nbformat.v4.new_code_cell(code, id="said"))
        try:
            return self.run("said")
        finally:
            self._client.nb.cells.pop()

    def interrupt(self) -> None:
        """What the button of that name does."""
        asyncio.run(self._client.km.interrupt_kernel())


@pytest.fixture
def notebook(held: Gate, tmp_path: Path) -> Iterator[Notebook]:
    example = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        example, timeout=LIMIT_S, kernel_name="python3", resources=place
    )
    with client.setup_kernel():
        yield Notebook(client)


def shown(cell: Any) -> str:
    """A cell's outputs, as far as they are text."""
    return "".join(
        each["text"] if each["output_type"] == "stream" else each["data"]["text/plain"]
        for each in cell.outputs
    )


def test_it_shows_what_stands_in_it(notebook: Notebook) -> None:
    """Each cell, from the first to the last."""
    kept = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    for cell in kept.cells:
        if cell.cell_type == "code":
            assert notebook.run(cell.id) == shown(cell), cell.id


def test_a_cell_that_is_run_again_leaves_one_pool(notebook: Notebook) -> None:
    """The old one has ended, and its name is free."""
    for name in ("members", "start", "ask"):
        notebook.run(name)
    notebook.say("old = pool")
    assert notebook.run("start") == "<PoolRef notebook>\n"
    assert notebook.say("print(old.is_alive(), pool.is_alive())") == "False True\n"
    assert notebook.run("ask").startswith("local: rain")
    # What it would be without that.
    said = notebook.say("AgentPool.start(MEMBERS, name='notebook')")
    assert said == "<PoolRef notebook-2>"


@pytest.mark.parametrize("call", ["await pool.aexecute('held')", "blocking.execute('held')"])
def test_an_interrupted_cell_cancels_its_call(call: str, notebook: Notebook, held: Gate) -> None:
    """And nothing else: the pool answers the next one. One that blocks as well, where it may."""
    notebook.run("members")
    notebook.say("import helpers_gate\nMEMBERS = [Member('only', helpers_gate.ahold)]")
    notebook.run("start")
    notebook.say("from greenroom import PoolConfig\nconfig = PoolConfig(event_loop='own')")
    notebook.say("blocking = AgentPool.start(MEMBERS, name='blocking', config=config)")
    with ThreadPoolExecutor(1) as threads:
        failed = threads.submit(notebook.say, call)
        begun = held.next()
        notebook.interrupt()
        assert begun.end() == "cancelled"
        with pytest.raises(nbclient.exceptions.CellExecutionError):
            failed.result(LIMIT_S)
        answered = threads.submit(notebook.say, f"print({call})")
        held.next().go("done")
        assert answered.result(LIMIT_S) == "done\n"
