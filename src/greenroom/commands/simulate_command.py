"""`greenroom simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from greenroom.commands import simulation
from greenroom.commands.exits import UsageError
from greenroom.messages.status import LoadBalanceStrategy
from greenroom.simulate.scenario_file import NAMES


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(metavar="SCENARIO", help=f"A TOML file, or one of {', '.join(NAMES)}."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Like what was recorded there instead."),
    ] = None,
    strategy: Annotated[
        list[LoadBalanceStrategy] | None,
        typer.Option(
            metavar="NAME",
            help="Only this one; may be given several times (default: those of the scenario).",
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this variant of the scenario.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of all chance (default: the scenario's).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="The scenario's own TOML, as a start for yours.")
    ] = False,
) -> None:
    if (scenario is None) == (from_ is None):
        given = "both" if scenario else "neither"
        raise UsageError(f"exactly one of SCENARIO and --from must be given, got {given}")
    simulation.carry_out(
        simulation.Options(
            scenario=scenario or "",
            recording=from_,
            strategies=strategy,
            variant=variant,
            seed=seed,
            json=json,
            print=print_,
        )
    )


simulate.__doc__ = f"{simulation.SUMMARY}\n\n{simulation.DESCRIPTION}"
