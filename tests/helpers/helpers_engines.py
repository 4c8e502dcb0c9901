"""The engines that members elsewhere are tested with, and which tests take seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from helpers_remote_processes import Engine, http_engine, nats_engine

ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "http": http_engine,
    "nats": nats_engine,
}
"""By name what opens one: with a server of its own, if it needs any, or skips the test loudly."""

TAKES_SECONDS = "takes_seconds"
"""The fixture that tests ask for which wait for real silences: `make test-workers` runs them."""


@pytest.fixture(params=list(ENGINES), scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ENGINES[request.param]() as opened:
        yield opened


@pytest.fixture
def takes_seconds() -> None:
    """See `TAKES_SECONDS`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("WORKERS"):
        return
    slow = [each for each in items if TAKES_SECONDS in getattr(each, "fixturenames", ())]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [each for each in items if each not in slow]
