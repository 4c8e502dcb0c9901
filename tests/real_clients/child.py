"""Runs in the environment of one group of clients: makes the calls and writes down what came back.

`python -m real_clients.child OUT.jsonl MODULE...`, one line a case. Each call is bounded in time; one
that does not come back is left in its daemon thread and reported as such.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

from greenroom.actors.classify import classify
from real_clients.capture import error_shape, value_shape
from real_clients.case import Adapter, Case
from real_clients.server import Server, wall_now
from real_clients.situations import SITUATIONS, Situation, applies

BOUND_S = 6.0
AT_ONCE = 4


def main(arguments: list[str]) -> None:
    """Run all cases of the modules named."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    out, modules, only = arguments[0], arguments[1].split(","), arguments[2:]
    now = wall_now()
    with Server(now) as server, open(out, "w") as lines:
        for name in modules:
            try:
                module = importlib.import_module(f"real_clients.adapters.{name}")
            except ImportError as e:
                _write(lines, {"skipped": name, "why": f"{type(e).__name__}: {e}"})
                continue
            adapters = [a for a in module.ADAPTERS if not only or a.name in only]
            for adapter in adapters:
                _run(adapter, server, now, lines)


def _run(adapter: Adapter, server: Server, now: float, lines: TextIO) -> None:
    cases = list(_cases(adapter))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for record in threads.map(lambda case: _one(adapter, *case, server, now), cases):
            _write(lines, record)


def _cases(adapter: Adapter) -> Iterator[tuple[str, str, Situation]]:
    known = adapter.own or SITUATIONS
    for mode, call in (("sync", adapter.sync), ("async", adapter.async_)):
        for name, situation in known.items():
            if call is None or (situation.stream and not adapter.streams):
                continue
            if adapter.situations and name not in adapter.situations:
                continue
            if adapter.own or applies(name, adapter.provider):
                yield mode, name, situation


def _one(
    adapter: Adapter, mode: str, name: str, situation: Situation, server: Server, now: float
) -> dict[str, Any]:
    url = server.url(name, adapter.provider)
    case = Case(url, name, situation.stream)
    record: dict[str, Any] = {
        "client": adapter.name,
        "version": version(adapter.package),
        "mode": mode,
        "situation": name,
        "right": situation.right,
        "retry_after_s": situation.retry_after_s,
        "quiet": situation.quiet,
        "wall_now": now,
    }
    outcome, it = bounded(lambda: call(adapter, mode, case))
    record["outcome"] = outcome
    if outcome == "raised":
        verdict = classify(it, wall_now=now)
        record["judged"] = verdict.kind.value
        record["judged_retry_after_s"] = verdict.retry_after_s
        record["error"] = error_shape(it)
    elif outcome == "value":
        record["value"] = value_shape(it)
    return record


def call(adapter: Adapter, mode: str, case: Case) -> object:
    """One call, in a loop of its own where it is async."""
    if mode == "sync":
        assert adapter.sync is not None
        return adapter.sync(case)
    assert adapter.async_ is not None
    return asyncio.run(asyncio.wait_for(adapter.async_(case), BOUND_S - 0.5))  # type: ignore[arg-type]


def bounded(work: Callable[[], object], bound_s: float = BOUND_S) -> tuple[str, Any]:
    """ "raised" or "value" and which; or "still running" after the bound."""
    done: list[tuple[str, Any]] = []

    def run() -> None:
        try:
            done.append(("value", work()))
        except BaseException as e:
            done.append(("raised", e))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(bound_s)
    return done[0] if done else ("still running", None)


def version(package: str) -> str:
    """That of a distribution; of Python for what comes with it."""
    return importlib.metadata.version(package) if package else platform.python_version()


def _write(lines: TextIO, record: dict[str, Any]) -> None:
    lines.write(json.dumps(record) + "\n")
    lines.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # calls that never came back must not hold the exit
