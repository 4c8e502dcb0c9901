"""Messages without an answer: how many a second are sent and handled."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus
from benchmarks.peers.base import Peer

PEERS = ("pykka", "threads")


@contextmanager
def _tells(peer: Peer, scale: Scale) -> Iterator[Measure]:
    times = scale.pipelined
    with peer.tells() as send:

        def one_round() -> float:
            gc.collect()
            start = time.perf_counter()
            send(times)
            return times / (time.perf_counter() - start)

        yield one_round


CASES = (Case("tells.sync", "{scale.pipelined:,} tells", "/s", ("greenroom", *PEERS), _tells),)
COMPARISONS: tuple[Comparison, ...] = versus("tells.sync", PEERS)
GROUP = Group("tells", "Tells", CASES, COMPARISONS)
