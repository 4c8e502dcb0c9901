"""A run that ends where its invocation is aborted, be it that its agent hangs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from google.adk.agents.invocation_context import InvocationContext

from greenroom.actors.runtime.task_cut import TaskCut, is_cancellation


class Aborted(BaseException):
    """Leaves the block of an attempt in which an abort was seen: that says nothing of the agent."""


class AbortWatch:
    """What the block of `ended_by_abort` tells of itself."""

    def __init__(self, ctx: InvocationContext, cut: TaskCut) -> None:
        self._ctx = ctx
        self._cut = cut

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is the consumer's own time: nothing is cut short in there.

        Raises:
            Aborted: at its end, if the invocation has been aborted by then.
        """
        self._cut.paused = True
        try:
            yield
        finally:
            self._cut.resume(told=self._ctx.is_aborted)
        if self._ctx.is_aborted:
            raise Aborted


@contextlib.contextmanager
def ended_by_abort(ctx: InvocationContext) -> Iterator[AbortWatch]:
    """A block that an abort ends, by a cancellation which goes no further than this."""
    cut = TaskCut()
    watcher = _watcher(ctx, cut)
    try:
        yield AbortWatch(ctx, cut)
    except BaseException as error:
        others = cut.close(error)
        if not isinstance(error, Aborted) and (
            others or not cut.has_cut or not is_cancellation(error)
        ):
            raise
    else:
        cut.close(None)
    finally:
        if watcher is not None:
            with contextlib.suppress(RuntimeError):  # a generator is closed after its loop
                watcher.cancel()


def _watcher(ctx: InvocationContext, cut: TaskCut) -> asyncio.Task[bool] | None:
    # There is no public way to wait for it, and ADK looks at it between two events only.
    signal = getattr(ctx, "_abort_signal", None)
    if not isinstance(signal, asyncio.Event):
        return None

    def ended(watcher: asyncio.Task[bool]) -> None:
        # An event of another loop's cannot be waited for here: that raises.
        if not watcher.cancelled() and watcher.exception() is None:
            cut.cut(lambda: None)

    watcher = asyncio.get_running_loop().create_task(signal.wait())
    watcher.add_done_callback(ended)
    return watcher
