"""Runs in the environment of one group of clients: makes the calls and writes down what came back.

`python -m real_clients.child calls|retries OUT.jsonl MODULE,... [CLIENT...]`, one line a case. Each
call is bounded in time; one that does not come back is left in its thread and reported as such.
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
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TextIO

from greenroom import PoolConfig
from greenroom.actors.reading.answer_judgement import any_of, auto, cut_short, refusal_of
from greenroom.actors.reading.classify import classify
from greenroom.actors.reading.stream_judge import StreamJudge
from real_clients.capture import error_shape, value_shape
from real_clients.case import Adapter, Case
from real_clients.server import Server
from real_clients.situations import SITUATIONS, Situation, applies

BOUND_S = 6.0
WARM_UP_S = 30.0
RETRIES_S = 20.0
AT_ONCE = 4


def main(arguments: list[str]) -> None:
    """Run all cases of the modules named, or count requests."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    mode, out, modules, only = arguments[0], arguments[1], arguments[2].split(","), arguments[3:]
    with Server() as server, open(out, "w") as lines:
        for name in modules:
            try:
                module = importlib.import_module(f"real_clients.adapters.{name}")
            except ImportError as e:
                _write(lines, {"skipped": name, "why": f"{type(e).__name__}: {e}"})
                continue
            for adapter in module.ADAPTERS:
                if only and adapter.name not in only:
                    continue
                if mode == "retries":
                    _count_retries(adapter, server, lines)
                else:
                    _run(adapter, server, lines)


def _count_retries(adapter: Adapter, server: Server, lines: TextIO) -> None:
    """How many HTTP requests one call makes with the client's defaults."""
    if adapter.own:
        return
    with ThreadPoolExecutor(2) as threads:
        modes = [m for m, c in (("sync", adapter.sync), ("async", adapter.async_)) if c]
        for record in threads.map(lambda mode: _retries(adapter, mode, server), modes):
            _write(lines, record)


def _retries(adapter: Adapter, mode: str, server: Server) -> dict[str, Any]:
    record: dict[str, Any] = {"client": adapter.name, "mode": mode}
    record["version"] = version(adapter.package)
    for status in ("429", "500"):
        name = f"{status}-{adapter.name}-{mode}"
        case = Case(server.url(name, adapter.provider), status, False, defaults=True)
        began = time.monotonic()
        outcome, _ = bounded(lambda case=case: call(adapter, mode, case, RETRIES_S), RETRIES_S)  # type: ignore[misc]
        record[status] = {
            "requests": server.requests[f"{name}~{adapter.provider}"],
            "took_s": time.monotonic() - began,
            "ended": outcome != "still running",
        }
    return record


def _run(adapter: Adapter, server: Server, lines: TextIO) -> None:
    cases = list(_cases(adapter))
    for mode, name, situation in {case[0]: case for case in cases}.values():  # imports, models
        warm = Case(server.url(name, adapter.provider), name, situation.stream)
        bounded(lambda mode=mode, warm=warm: call(adapter, mode, warm), WARM_UP_S)  # type: ignore[misc]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for record in threads.map(partial(_with, adapter, server), cases):
            _write(lines, record)


def _with(adapter: Adapter, server: Server, case: tuple[str, str, Situation]) -> dict[str, Any]:
    return _one(adapter, *case, server=server)


def _cases(adapter: Adapter) -> Iterator[tuple[str, str, Situation]]:
    known = adapter.own or SITUATIONS
    for mode, call in (("sync", adapter.sync), ("async", adapter.async_)):
        for name, situation in known.items():
            if call is None or (situation.stream and not adapter.streams):
                continue
            if adapter.own or applies(name, adapter.provider):
                yield mode, name, situation


def _one(
    adapter: Adapter, mode: str, name: str, situation: Situation, *, server: Server
) -> dict[str, Any]:
    url = server.url(name, adapter.provider)
    case = Case(url, name, situation.stream)
    now = time.time()
    record: dict[str, Any] = {
        "client": adapter.name,
        "version": version(adapter.package),
        "mode": mode,
        "situation": name,
        "right": situation.right,
        "retry_after_s": situation.retry_after_s,
        "stream": situation.stream,
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
        _judge_value(record, it, situation.stream, now)
    return record


def _judge_value(record: dict[str, Any], value: Any, stream: bool, now: float) -> None:
    """What `is_failure="auto"`, with answers cut short, and the settings of streams say of it."""
    error: Any = None
    if stream and isinstance(value, list):
        judge = StreamJudge(PoolConfig())
        for chunk in value:
            judge.add(chunk)
        judge.end()
        error = None if judge.fault is None else judge.error("a", now)
    else:
        fault: Any = any_of(auto, cut_short)(value)
        error = None if fault is None else refusal_of(fault, value, "a", now)
    kind = None if error is None else error.kind.value
    record["value_judged"] = kind or "good"
    record["value_right"] = kind in record["right"] if record["right"] else kind is None


def call(adapter: Adapter, mode: str, case: Case, bound_s: float = BOUND_S) -> object:
    """One call, in a loop of its own where it is async."""
    if mode == "sync":
        assert adapter.sync is not None
        return adapter.sync(case)
    assert adapter.async_ is not None
    return asyncio.run(_within(bound_s - 1, adapter.async_(case)))


async def _within(bound_s: float, work: Awaitable[object]) -> object:
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=bound_s)
    if not task.done():
        task.cancel()
        raise StillRunning
    return task.result()


class StillRunning(BaseException):
    """A call that its client's own timeout has not ended."""


def bounded(work: Callable[[], object], bound_s: float = BOUND_S) -> tuple[str, Any]:
    """ "raised" or "value" and which; or "still running" after the bound."""
    done: list[tuple[str, Any]] = []

    def run() -> None:
        try:
            done.append(("value", work()))
        except StillRunning:
            pass
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
