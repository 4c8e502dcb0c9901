"""The command line: see `docs/command-line.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from greenroom.commands import plain
from greenroom.commands.exits import Exit, Terminated, UsageError
from greenroom.commands.terminal import (
    OutputError,
    complain,
    drop_what_is_held,
    drop_what_stderr_holds,
    open_outputs,
    say,
)
from greenroom.demo.demo import Start
from greenroom.messages.errors import PoolError
from greenroom.pool.agent_pool import AgentPool
from greenroom.simulate.scenario_file import ScenarioError


def main(argv: Sequence[str] | None = None, *, start: Start = AgentPool.start) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None for those of the process.
        start: what starts the demo's pool (for tests).

    Returns:
        0: done, and every answer that was asked for is there. 1: one is missing or wrong, or the
        output takes no more. 2: bad arguments, or a file that cannot be used. 130: interrupted.
        141: nobody reads the output. 143, 129: ended by SIGTERM, SIGHUP.
    """
    with open_outputs():
        try:
            return _written(sys.argv[1:] if argv is None else argv, start)
        except BrokenPipeError:
            drop_what_is_held(sys.stdout, sys.stderr)
            return Exit.NOBODY_READS


def _written(argv: Sequence[str], start: Start) -> int:
    """Run it, and have all it says written: here, and not at the exit, where nobody could tell."""
    try:
        code = _run(argv, start)
        say(end="")
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.strerror is None:  # not of the system: a bug
            raise
        complain(error.strerror if isinstance(error, OutputError) else f"cannot go on: {error}")
        drop_what_is_held(sys.stdout)
        code = Exit.FAILED
    drop_what_stderr_holds()
    return code


def _run(argv: Sequence[str], start: Start) -> int:
    try:
        return _carry_out(argv, start)
    except (UsageError, ScenarioError) as error:
        complain(error)
        return Exit.USAGE
    except PoolError as error:
        complain(error)
        return Exit.FAILED
    except Terminated as signal:
        return signal.code
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED


def _carry_out(argv: Sequence[str], start: Start) -> int:
    if find_spec("typer") is None:
        return plain.run(argv, start)
    from greenroom.commands import app

    return app.run(argv, start)
