#!/usr/bin/env bash
# llama-index-workflows 2.26.1 (the agents of llama-index 0.14 run on it): a cancelled `await` of a run does not
# end the run, and afterwards nothing ends it.
#
# Guess before running: a handler is awaited like a task, so a timeout or a cancellation around it cancels the
#   run; and where it should not, `handler.cancel_run()` in a `finally` does.
# Seen: the cancellation ends only the handler's own wait for the result. The run goes on to its end: models
#   are called, tools run. `cancel_run()` after it returns at once without an error, and the run still goes on.
# Only `asyncio.shield` around the handler, with `cancel_run()` in a `finally`, ends it. So behind a time limit
# (`asyncio.wait_for`, a web handler whose client has gone) an agent of llama-index works and pays on, unseen.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check llama-index-workflows==2.26.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import logging
from importlib.metadata import version

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

logging.disable(logging.CRITICAL)


class Work(Workflow):
    """One step that waits until it may go on, and says how it ended."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        ev.started.set()
        try:
            await ev.may_go_on.wait()
            ev.ended.set_result("went on to its end")
        except asyncio.CancelledError:
            ev.ended.set_result("cancelled")
            raise
        return StopEvent(result="done")


async def bare(handler):
    await handler


async def with_cancel_run(handler):
    try:
        await handler
    finally:
        await handler.cancel_run()


async def shielded(handler):
    try:
        await asyncio.shield(handler)
    finally:
        await handler.cancel_run()


async def seen(wait):
    started, may_go_on = asyncio.Event(), asyncio.Event()
    ended = asyncio.get_running_loop().create_future()
    handler = Work(timeout=None).run(started=started, may_go_on=may_go_on, ended=ended)
    task = asyncio.create_task(wait(handler))
    await started.wait()
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError), outcome
    await asyncio.sleep(1)  # a cancellation that is only late would show
    may_go_on.set()
    return await asyncio.wait_for(ended, 10)


async def main():
    print("llama-index-workflows", version("llama-index-workflows"))
    for wait, expected in (
        (bare, "went on to its end"),
        (with_cancel_run, "went on to its end"),
        (shielded, "cancelled"),
    ):
        how = await seen(wait)
        print(f"{wait.__name__}: the run {how}")
        assert how == expected, how


asyncio.run(main())
PY
