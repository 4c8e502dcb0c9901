"""`greenroom map`: see `docs/batches.md`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import typer

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.batch.batch import Batch
from greenroom.batch.batch_run import BatchRun, End
from greenroom.batch.prompts import BatchError, Format
from greenroom.batch.tally import duration
from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.map_screen import BarScreen, LinesScreen, Show, lines_of
from greenroom.commands.opened_pool import opened_pool
from greenroom.commands.options import POOL_PATH, PoolPath, Status, Verbose
from greenroom.commands.terminal import aside, is_terminal, say
from greenroom.kinds.secrets import without_secrets
from greenroom.messages.errors import PoolStoppedError, summary
from greenroom.messages.replies import MemberStats

_DRAINING = "asking nothing more; what is under way is waited for (Ctrl-C once more: not even that)"


def map(
    prompts: Annotated[
        str, typer.Argument(metavar="PROMPTS", help="A file with a prompt a line; - is stdin.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where answers go; those in it are kept."
        ),
    ],
    config: PoolPath = POOL_PATH,
    format: Annotated[
        Format, typer.Option(help="How prompts are written; auto: by name or first line.")
    ] = Format.AUTO,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what has an error in the output.")
    ] = False,
    max_in_flight: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Default: twice what the members take at a time."),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="SECONDS", help="Give up when nobody takes a prompt for so long."
        ),
    ] = 60.0,
    status: Status = None,
    verbose: Verbose = 0,
) -> None:
    """Ask a pool all prompts of a file.

    Each prompt gets one line in the output: its answer, or why there is none. Ended at any moment
    and started again, it goes on where it was.
    """
    try:
        with (
            Batch(prompts, output, format, retry_failed=retry_failed) as batch,
            opened_pool(config, verbose, reloads=True, status=status) as pool,
        ):
            batch.begin()
            _say_before(batch, output)
            command = _Map(pool, batch, max_in_flight, wait, verbose)
            code = asyncio.run(command.run())
    except BatchError as error:
        raise UsageError(str(error)) from None
    raise typer.Exit(code)


def _say_before(batch: Batch, output: str) -> None:
    before = batch.before
    if before.cut:
        _note(f"{output}: cut off {before.cut} bytes of a last line that was not whole")
    if before.dropped:
        _note(f"{output}: {before.dropped:,} errors are asked again")
    if before.answered or before.failed:
        _note(f"{output}: goes on behind {before.answered + before.failed:,} lines")


def _note(text: str) -> None:
    with aside():
        say(f"greenroom map: {text}", stream=sys.stderr)


@dataclass(slots=True)
class _Map:
    pool: PoolRef
    batch: Batch
    max_in_flight: int | None
    wait_s: float
    verbose: int

    async def run(self) -> Exit:
        """Run, show how far it is, and say what came out; the exit code.

        Raises:
            Terminated: by a signal.
        """
        run = BatchRun(self.pool, self.batch, max_in_flight=self.max_in_flight, wait_s=self.wait_s)
        # The log of -v goes to the same place, and a bar would be torn by it.
        bar = is_terminal(sys.stderr) and not self.verbose
        screen = BarScreen() if bar else LinesScreen()
        task = asyncio.ensure_future(run.run())
        signals = _Signals(run, task)
        with screen.shown() as show, signals.handled():
            looks = asyncio.ensure_future(self._look(run, show, screen.every_s))
            try:
                end = await task
            except asyncio.CancelledError:
                end = None
            finally:
                looks.cancel()
        if signals.ended is not None:
            raise signals.ended
        return await self._result(run, end)

    async def _look(self, run: BatchRun, show: Show, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            members = await self._members()
            with aside():
                show(run.tally, members, time.monotonic())

    async def _members(self) -> tuple[MemberStats, ...]:
        with suppress(PoolStoppedError):
            return (await self.pool.astats()).members
        return ()

    async def _result(self, run: BatchRun, end: End | None) -> Exit:
        tally = run.tally
        took = duration(tally.elapsed_s(time.monotonic()))
        say(f"{tally.answered:,} answered, {tally.failed:,} failed in {took}")
        for line in lines_of(tally, await self._members()):
            say(line)
        if end is End.NOBODY:
            why = without_secrets(summary(run.last_error))
            _note(f"nobody has answered for {self.wait_s:g} s ({why}); run it again to go on")
            return Exit.FAILED
        if end is not End.DONE:
            _note("interrupted; run it again to go on")
            return Exit.INTERRUPTED
        failed = tally.failed + self.batch.before.failed
        if failed:
            _note(f"{failed:,} lines of the output are errors; --retry-failed asks those again")
        return Exit.FAILED if failed else Exit.DONE


class _Signals:
    """What signals do to a run. What a handler raises within a callback, asyncio swallows: so they
    are handled between two of them.

    Attributes:
        ended: what the handler that was there before has raised, to end the process.
    """

    def __init__(self, run: BatchRun, task: asyncio.Task[End]) -> None:
        self.ended: BaseException | None = None
        self._run = run
        self._task = task
        self._pressed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Within it, the first Ctrl-C drains and the second cancels; so does a signal to end. A
        SIGHUP does what it did before: the pool reads its file again.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        for number, handler in before.items():
            if callable(handler):
                loop.add_signal_handler(number, self._as_before, handler, number)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for number, handler in before.items():
                if callable(handler):
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)

    def _interrupt(self) -> None:
        if self._pressed:
            self._task.cancel()
            return
        self._pressed = True
        self._run.drain()  # first: what a callback raises, asyncio swallows
        _note(_DRAINING)

    def _as_before(self, handler: Callable[[int, FrameType | None], Any], number: int) -> None:
        try:
            handler(number, None)
        except BaseException as error:
            self.ended = error
            self._task.cancel()
