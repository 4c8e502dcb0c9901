"""The command line by typer: the list of the commands, and how one of them is run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from greenroom.commands.ask_command import ask
from greenroom.commands.check_command import check
from greenroom.commands.dead_command import dead
from greenroom.commands.demo_command import demo
from greenroom.commands.doctor_command import doctor
from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.explain_command import explain
from greenroom.commands.logs_command import logs
from greenroom.commands.map_command import map
from greenroom.commands.naming import DESCRIPTION, version
from greenroom.commands.replay_command import replay
from greenroom.commands.serve_command import serve
from greenroom.commands.simulate_command import simulate
from greenroom.commands.terminal import say
from greenroom.commands.top_command import top
from greenroom.commands.worker_command import worker
from greenroom.demo.demo import Start

COMMANDS: tuple[Callable[..., None], ...] = (
    ask,
    check,
    dead,
    demo,
    doctor,
    explain,
    logs,
    map,
    replay,
    serve,
    simulate,
    top,
    worker,
)
"""Each is named as its function is; what its docstring says is its help."""


def run(argv: Sequence[str] | None, start: Start) -> int:
    """Carry out what the arguments say; the exit code.

    Args:
        argv: the arguments; None for those of the process.
        start: what starts the demo's pool.

    Raises:
        UsageError: the arguments are wrong.
    """
    try:
        code = app(argv, prog_name="greenroom", standalone_mode=False, obj=start)
    except _Raised as raised:
        raise raised.error from raised.error.__cause__
    except typer.TyperException as error:
        raise UsageError(error.format_message()) from None
    return code if isinstance(code, int) else Exit.DONE


class _Raised(Exception):
    """What typer would make something else of on its way up."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def _as_it_is(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose Ctrl-C and broken pipe are ours to tell."""

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except (KeyboardInterrupt, EOFError, OSError) as error:
            raise _Raised(error) from error

    return guarded


def _show_version(wanted: bool) -> None:
    if wanted:
        say(version())
        raise typer.Exit


def _greenroom(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


# Plain help and errors: rich's have colours in a pipe where an environment variable says so.
app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(help=DESCRIPTION, invoke_without_command=True)(_greenroom)
for _command in COMMANDS:
    app.command()(_as_it_is(_command))
