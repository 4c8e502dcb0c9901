"""Workers that greenroom has not written: by the pages alone, and with Ray. Behaviour 444."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers_pages import DOCS, FENCE, text_of
from helpers_processes import bounded


def test_b451_a_worker_in_plain_python_serves_a_pool(
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


_ASKS = """
import subprocess, sys
from greenroom import AgentPool, Member, RemoteAgent

command = [sys.executable, "-m", "greenroom", "worker", "-c", "pool.toml"]
with subprocess.Popen(
    [*command, "--listen", "http://127.0.0.1:0"], stderr=subprocess.PIPE, text=True
) as worker:
    try:
        lines = iter(worker.stderr)
        url = next(line for line in lines if "is served at" in line).split()[-1]
        with AgentPool.start([Member("far", factory=lambda: RemoteAgent(url))]) as pool:
            print(pool.execute("hello", timeout=60.0))
    finally:
        worker.terminate()
"""


def test_b451_a_ray_actor_behind_a_worker(tmp_path: Path) -> None:
    """The recipe of the page, with a head of its own, in the worker's process. Ray listens on all
    interfaces, so all of it has a network of its own.
    """
    if find_spec("ray") is None:
        pytest.skip("ray is not installed here: the recipe of docs/workers.md is not run")
    apart = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    try:
        subprocess.run([*apart, "ip link set lo up"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace here ({error}): the recipe with ray is not run")
    (tmp_path / "ray_agent.py").write_text(
        _ray_recipe()
        .replace('address="auto"', "num_cpus=2, include_dashboard=False")
        .replace("num_gpus=1, ", "")
    )
    (tmp_path / "pool.toml").write_text(
        '[[members]]\nname = "ray"\nkind = "python"\nagent = "ray_agent:agent"\n'
    )
    (tmp_path / "asks.py").write_text(_ASKS)
    process = subprocess.Popen(
        [*apart, f"ip link set lo up && exec {sys.executable} asks.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    with bounded(process):
        assert process.communicate()[0] == "HELLO\n"


def _ray_recipe() -> str:
    blocks = [code for _, code in FENCE.findall(text_of(DOCS / "workers.md"))]
    (block,) = [each for each in blocks if "import ray" in each]
    return str(block)


def test_b451_the_ray_recipe_is_python() -> None:
    """It compiles, if it cannot be run."""
    compile(_ray_recipe(), "ray_agent.py", "exec")
    assert "ray" not in sys.modules
