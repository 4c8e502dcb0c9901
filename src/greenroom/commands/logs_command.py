"""`greenroom logs`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from greenroom.commands import reading_logs
from greenroom.commands.options import Level
from greenroom.logs.log_filter import LogFilter, event_pattern, moment

_V = TypeVar("_V")


def _parsed(parse: Callable[[str], _V]) -> Callable[[str], _V]:
    def parser(text: str) -> _V:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def _moment(text: str) -> datetime:
    return moment(text, datetime.now().astimezone())


_EVENT = _parsed(event_pattern)
_MOMENT = _parsed(_moment)


def logs(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="What the log has written; - is stdin, .gz will do."),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    member: Annotated[
        list[str] | None,
        typer.Option("--member", "-m", metavar="NAME", help="Of this member; several times: any."),
    ] = None,
    request: Annotated[
        list[str] | None, typer.Option("--request", "-r", metavar="ID", help="Of this request.")
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", parser=_EVENT, metavar="NAME", help="As 'breaker.*'."),
    ] = None,
    pool: Annotated[
        list[str] | None, typer.Option("--pool", metavar="NAME", help="Of this pool.")
    ] = None,
    level: Annotated[
        Level | None, typer.Option(case_sensitive=False, help="The least level.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_MOMENT, metavar="TIME", help="As 10m, 2h, 2026-01-31T12:00."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=_MOMENT, metavar="TIME", help="The same.")
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, metavar="N", help="The last ones of these only."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The lines as they stand there.")] = False,
) -> None:
    """Read a log that was written as JSON.

    What greenroom.log(format="json", sink="app.jsonl") has written, as columns, and only what is
    asked for: of a member, a request, an event, a time. Lines of other programs are left out.
    """
    wanted = LogFilter(
        pools=pool or (),
        members=member or (),
        requests=[each.removeprefix("#") for each in request or ()],
        events=event or (),
        level=None if level is None else level.value,
        since=since,
        until=until,
    )
    options = reading_logs.Options(file=file, wanted=wanted, last=lines, follow=follow, json=json)
    raise typer.Exit(reading_logs.carry_out(options))
