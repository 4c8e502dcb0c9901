"""What the public modules hand on by name: `__all__`, a star import, and what the pages say."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import greenroom
from greenroom import LoadBalanceStrategy, actors, answers, events, messages, strategies
from greenroom import supervisors as of_supervisors
from greenroom.events import CATALOGUE

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
HANDED_ON = (greenroom, actors, answers, events, messages, strategies, of_supervisors)


def names_of(module: ModuleType) -> list[str]:
    return list(vars(module)["__all__"])


def rows_of(heading: str) -> list[list[str]]:
    """The names in backticks, row by row, of the table below a heading of the design."""
    section = DESIGN.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [re.findall(r"`(\w+)`", row) for row in rows[2:]]


@pytest.mark.parametrize("module", HANDED_ON, ids=lambda each: each.__name__)
def test_a_star_import_brings_what_all_names(module: ModuleType) -> None:
    """Each name once, and there."""
    names, brought = names_of(module), dict[str, Any]()
    exec(f"from {module.__name__} import *", brought)
    brought.pop("__builtins__")
    assert sorted(brought) == sorted(names)
    assert len(set(names)) == len(names)
    assert all(brought[name] is getattr(module, name) for name in names)


def test_every_event_is_handed_on() -> None:
    """The catalogue, what all of them are, and each of them."""
    kinds = {each.__name__ for each in CATALOGUE}
    assert set(names_of(events)) == kinds | {"CATALOGUE", "Event"}


def test_every_strategy_is_handed_on() -> None:
    """One for each name that `strategy=` takes, and what one of your own is made with."""
    made = {getattr(strategies, each) for each in names_of(strategies)}
    found = {each.name for each in made if isinstance(vars(each).get("name"), str)}
    assert found >= {str(each) for each in LoadBalanceStrategy}
    assert {"Candidate", "PickContext", "RoutingStrategy"} <= set(names_of(strategies))


def test_every_actor_and_message_of_the_design_is_handed_on() -> None:
    """By the folder in which the page says it is, under the name that it has there."""
    owners = {"AgentPool": "greenroom", "PoolSupervisor": "greenroom.supervisors"}
    table = [row[0] for row in rows_of("The actors")]
    assert table == ["AgentPool", "PoolSupervisor", "AgentActor"]
    for name in table:
        module = importlib.import_module(owners.get(name, "greenroom.actors"))
        assert name in names_of(module)
    said = [name for row in rows_of("Messages") for name in row]
    assert len(said) > 30
    assert [name for name in said if name not in names_of(messages)] == []
