"""A worker on another host: two network namespaces, and a link between them that is cut and mended.

Needs Linux, root and `ip`; elsewhere it is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_nats import free_port, nats_server, needs_nats
from helpers_processes import PROCESS_S
from helpers_remote_processes import NatsEngine, Worker, worker

from greenroom import AgentPool, Member, PoolConfig
from greenroom.events import MemberUnreachable
from greenroom.strategies import Failover
from greenroom.testing import EventRecorder

HERE, THERE = "10.213.77.1", "10.213.77.2"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """The namespace of the other one, and the link's name here; skips where there can be none."""
    needs_nats()
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("two hosts as network namespaces need root and ip: not tested here")
    space, link = f"grn{os.getpid()}", f"gr{os.getpid()}"
    try:
        _ip("netns", "add", space)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", f"{link}p", "netns", space)
        _ip("addr", "add", f"{HERE}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", space, "addr", "add", f"{THERE}/30", "dev", f"{link}p")
        _ip("-n", space, "link", "set", f"{link}p", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        yield space, link
    finally:
        _ip("netns", "del", space)  # and the link with it


def test_b464_a_worker_whose_link_is_cut_and_mended(
    takes_seconds: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its calls go elsewhere after two seconds, by its own fault: the broker is there. It is used
    again when it is connected again.
    """
    with two_hosts() as (space, link), tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with nats_server(Path(folder), port, host=HERE) as server:
            engine = NatsEngine(HERE, port, server)
            with worker(engine, "far", inside=("ip", "netns", "exec", space)) as far:
                with EventRecorder() as log:
                    lost_s, back_s = asyncio.run(_cut_and_mended(engine, far, link))
                assert not log.named(MemberUnreachable)
    with capsys.disabled():
        print(
            f"\nlink cut: lost after {lost_s:.2f} s, used again {back_s:.2f} s after it was mended"
        )


async def _cut_and_mended(engine: NatsEngine, far: Worker, link: str) -> tuple[float, float]:
    """After how many seconds the worker was given up, and used again once it was mended."""
    members = [
        Member("far", factory=lambda: engine.agent(far.url)),
        Member("here", lambda payload: "here"),
    ]
    config = PoolConfig(circuit_reset_timeout_s=1.0, circuit_success_threshold=1)
    # By itself `failover` stays for a minute with whoever has taken over.
    strategy = Failover(return_after_s=0.2)
    async with (
        asyncio.timeout(2 * PROCESS_S),
        AgentPool.start(members, strategy=strategy, config=config) as pool,
    ):
        assert await pool.aexecute({"do": "name"}) == "far"
        held = asyncio.ensure_future(pool.aexecute({"do": "sleep", "id": "held"}))
        await asyncio.to_thread(far.heard, begun="held")
        _ip("link", "set", link, "down")
        cut = time.monotonic()
        assert await held == "here"
        lost_s = time.monotonic() - cut
        assert await pool.aexecute({"do": "name"}) == "here"
        _ip("link", "set", link, "up")
        mended = time.monotonic()
        while await pool.aexecute({"do": "name"}) != "far":  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.05)
        back_s = time.monotonic() - mended
        # What it still did for a caller that had given it up is cancelled.
        await asyncio.to_thread(far.heard, cancelled="held")
    return lost_s, back_s
