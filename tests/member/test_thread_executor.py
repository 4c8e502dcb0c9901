"""The threads in which sync agents run: whoever is given to them is run."""

from __future__ import annotations

import threading
from typing import Any

from helpers_pools import WAIT_S

from greenroom.actors.executors.call import PlainCall
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.runtime.clock import SYSTEM_CLOCK


def run(executor: ThreadExecutor) -> Any:
    over = threading.Event()
    found: list[Any] = []

    def finish(_: Any, value: Any, error: BaseException | None) -> None:
        found.append(value)
        over.set()

    PlainCall("call", executor, lambda _: "done", finish).launch()
    assert over.wait(WAIT_S)
    return found[0]


def test_a_call_that_comes_after_the_end_is_run_all_the_same() -> None:
    """What a late factory has made is closed in there; the threads that were idle have gone."""
    executor = ThreadExecutor("late", SYSTEM_CLOCK)
    assert run(executor) == "done"
    executor.close()
    executor.join(WAIT_S)
    assert run(executor) == "done"
