"""See the package."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from helpers_sharing_processes import Worker, workers
from helpers_stores import any_store

STORES = ("sqlite", "redis", "postgres", "nats")
SOON_S = 0.1
RESET_S = 1.0
PAUSE_S = 0.01
"""Between two requests of each process."""


def main() -> None:
    """A table: from the finder's opening to that of each of the others, and the calls that these
    have made of the member from 100 ms on, until the finder tries it.
    """
    parser = argparse.ArgumentParser(prog="python -m sharing_live")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("stores", nargs="*", metavar="STORE", help=" ".join(STORES))
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; milliseconds")
    print("store    opening heard: median, most  closing: median, most  calls from 100 ms on")
    for kind in options.stores or STORES:
        with tempfile.TemporaryDirectory() as name, any_store(kind, Path(name)) as store:
            _measure(kind, store, Path(name), options.runs)


def _measure(kind: str, store: str, folder: Path, runs: int) -> None:
    opened: list[float] = []
    closed: list[float] = []
    calls: list[float] = []
    with workers(store, folder, reset_s=RESET_S) as (finder, *others):
        finder.ask(f"traffic {PAUSE_S}")
        for run in range(runs):
            (folder / "dead").touch()
            at = _at(finder, "breaker.opened", run)
            time.sleep(max(0.0, at + SOON_S - time.monotonic()))
            for each in others:  # from then on: sooner, one of them might be the finder
                each.ask(f"traffic {PAUSE_S}")
            opened += [_at(each, "breaker.opened", run) - at for each in others]
            time.sleep(RESET_S / 2)
            (folder / "dead").unlink()
            half_at = _at(finder, "breaker.half_open", run)
            back_at = _at(finder, "breaker.closed", run)
            closed += [_at(each, "breaker.closed", run) - back_at for each in others]
            for each in others:
                each.ask("traffic 0")
                since = each.ask(f"calls since {at}")
                calls += [when - at for when in since if when < half_at]
    print(f"{kind:9}{_ms(opened)}{_ms(closed)}{len(calls):8}", flush=True)


def _at(worker: Worker, name: str, run: int) -> float:
    return float(worker.heard_of(name, count=run + 1, member="a")["at"])


def _ms(times: list[float]) -> str:
    times = sorted(times)
    return f"{1000 * times[len(times) // 2]:12.1f}, {1000 * times[-1]:8.1f}"


if __name__ == "__main__":
    main()
