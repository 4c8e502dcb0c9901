"""From the text of a scenario file to scenarios, one for each of its variants."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from typing import Any

from greenroom.messages.config import PoolConfig
from greenroom.simulate.fields import ScenarioError, Table
from greenroom.simulate.scenario import Load, Scenario
from greenroom.simulate.scenario_members import members_of

__all__ = ["ScenarioError", "scenarios_of"]

RUN = ("duration_s", "warmup_s", "within_s", "seed")
TOP = (*RUN, "strategies", "load", "members", "faults", "pool", "variants")
LOAD = tuple(each.name for each in dataclasses.fields(Load))
POOL = (
    "circuit_failure_threshold",
    "circuit_reset_timeout_s",
    "circuit_reset_max_s",
    "circuit_success_threshold",
    "circuit_window",
    "circuit_min_calls",
    "circuit_failure_rate",
    "circuit_slow_rate",
    "circuit_slow_call_s",
    "half_open_permits",
    "max_retries",
    "retry_delay_s",
    "retry_backoff_multiplier",
    "retry_max_delay_s",
    "retry_budget_ratio",
    "retry_budget_floor",
    "same_member_retries",
    "stay_for_retry_after_s",
    "hedge_after_s",
    "request_timeout_s",
    "deadline_s",
    "max_pending",
    "when_unavailable",
)
"""The settings of `PoolConfig` that mean something in a simulation."""
OPTIONAL = (
    "circuit_slow_rate",
    "circuit_slow_call_s",
    "hedge_after_s",
    "request_timeout_s",
    "deadline_s",
)


def scenarios_of(text: str, source: str, name: str) -> tuple[Scenario, ...]:
    """The scenarios of a file: one for each of its variants, or the only one.

    Args:
        text: TOML.
        source: what to call the file in errors.
        name: what to call the scenario; a variant's own name follows.

    Raises:
        ScenarioError: it is not TOML, or a value in it cannot be used.
    """
    try:
        return _read(text, source, name)
    except RecursionError:
        raise ScenarioError(f"{source}: not usable: nested too deeply") from None


def _read(text: str, source: str, name: str) -> tuple[Scenario, ...]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: not TOML: {error}") from None
    # For its check only: the variants are taken out below, and each table must be known by then.
    Table(source, "", values, TOP)
    known = tuple(each for each in TOP if each != "variants")
    variants = values.pop("variants", {})
    if not variants:
        return (_scenario(Table(source, "", values, known), name),)
    table = Table(source, "variants.", variants, variants)
    for each in table:
        table.table(each, known)
    return tuple(
        _scenario(
            Table(f"{source} ({each})", "", _merged(values, changes), known), f"{name}, {each}"
        )
        for each, changes in variants.items()
    )


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes in them: tables are merged, all else is replaced."""
    merged = dict(values)
    for name, change in changes.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(change, Mapping)
        merged[name] = _merged(before, change) if both else change  # type: ignore[arg-type]
    return merged


def _scenario(table: Table, name: str) -> Scenario:
    table.needed("duration_s")
    load = table.table("load", LOAD)
    return table.make(
        Scenario,
        name=name,
        members=members_of(table),
        load=load.make(Load, **load.some(*LOAD)),
        config=_config(table),
        **table.some(*RUN),
        **_strategies(table),
    )


def _strategies(table: Table) -> dict[str, tuple[str, ...]]:
    given = table.some("strategies")
    with table.blamed():
        for value in given.values():
            if not isinstance(value, list):
                raise TypeError(f"strategies must be an array of names, got {value!r}")
    return {name: tuple(value) for name, value in given.items()}


# -- the pool


def _config(table: Table) -> PoolConfig:
    # Known are all of them: one that is not simulated is refused
    # in other words than a misspelt one.
    pool = table.table("pool", [each.name for each in dataclasses.fields(PoolConfig)])
    for name in pool:
        if name not in POOL:
            raise ScenarioError(f"{pool.source}: pool.{name} is not simulated; leave it out")
    values = {
        # TOML has no null.
        name: None if name in OPTIONAL and value == "off" else value
        for name, value in pool.some(*POOL).items()
    }
    return pool.make(PoolConfig, **values)
