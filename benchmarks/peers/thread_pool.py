"""concurrent.futures' ThreadPoolExecutor with three workers: what the standard library offers.

Three workers stand for three members; failover is a loop in the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Ask
from benchmarks.model import Scale
from benchmarks.peers import agents
from benchmarks.peers.base import Peer, counted

WORKERS = 3


class ThreadPool(Peer):
    """`submit` and `result`."""

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        chosen = [agents.down if failing else agents.echo, agents.echo, agents.echo][:members]
        with ThreadPoolExecutor(members) as pool:
            if failing:
                yield lambda i: counted(
                    iter(range(members)), lambda n: pool.submit(chosen[n], i).result()
                )
            else:
                yield lambda i: pool.submit(agents.echo, i).result()

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        with ThreadPoolExecutor(WORKERS) as pool:
            yield lambda i: pool.submit(agents.echo, i), lambda future: future.result()

    @contextmanager
    def tells(self) -> Iterator[Callable[[int], None]]:
        with ThreadPoolExecutor(WORKERS) as pool:

            def send(times: int) -> None:
                wait([pool.submit(agents.echo, i) for i in range(times)])

            yield send

    def start_and_stop(self) -> Callable[[], None]:
        """Workers start with their first work, so each gets some."""

        def once() -> None:
            with ThreadPoolExecutor(WORKERS) as pool:
                for i in range(WORKERS):
                    pool.submit(agents.echo, i)

        return once
