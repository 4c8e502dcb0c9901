"""Workers that greenroom has not written: by the pages alone, and with Ray. Behaviour 444."""

from __future__ import annotations

import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers_pages import DOCS, FENCE, text_of


def test_b444_a_worker_in_plain_python_serves_a_pool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of the protocol's page: its part without greenroom has no import of it."""
    blocks = [code for kind, code in FENCE.findall(text_of(DOCS / "worker-protocol.md"))]
    (block,) = [each for each in blocks if "BaseHTTPRequestHandler" in each]
    of_worker = block[block.index("class Worker") : block.index("server = ")]
    assert not re.search("greenroom|Member|RemoteAgent", of_worker)
    file = tmp_path / "plain_worker.py"
    file.write_text(block)
    runpy.run_path(str(file))
    assert capsys.readouterr().out == "HELLO\n['a', 'b', 'c']\n"


def test_b444_a_ray_actor_behind_a_worker(tmp_path: Path) -> None:
    """The recipe of the page, with a head of its own, in the worker's process."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed here: the recipe of docs/workers.md is not run")
    pytest.skip("ray listens on all interfaces: run it in a network namespace")


def test_b444_the_ray_recipe_is_python() -> None:
    """It compiles, if it cannot be run."""
    blocks = [code for _, code in FENCE.findall(text_of(DOCS / "workers.md"))]
    (block,) = [each for each in blocks if "import ray" in each]
    compile(block, "ray_agent.py", "exec")
    assert "ray" not in sys.modules
