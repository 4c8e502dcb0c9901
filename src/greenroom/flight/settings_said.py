"""Settings as a recording has them: what can be written down, and the names of the rest. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from greenroom.messages.config import PoolConfig


def settings_of(config: PoolConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What can be written down of the settings, and which cannot: functions, and whose weights
    there are, which are keys.
    """
    said: dict[str, Any] = {}
    left_out = []
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if value is None or isinstance(value, str | int | float):
            said[each.name] = value
        elif isinstance(value, tuple) and all(isinstance(name, str) for name in value):
            said[each.name] = list(value)
        else:
            left_out.append(each.name)
    return said, tuple(left_out)


def config_of(settings: Mapping[str, Any]) -> PoolConfig:
    """The settings of a recording; one that this version does not know is left out.

    Raises:
        TypeError, ValueError: a value that no pool can have, named with its field.
    """
    known = {each.name for each in dataclasses.fields(PoolConfig)}
    return PoolConfig(**{name: value for name, value in settings.items() if name in known})
